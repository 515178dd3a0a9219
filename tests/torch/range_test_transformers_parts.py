"""Models and Trainers for the range test of a Trainer: imported by the first test that runs."""

import types

import torch
from torch.nn.functional import cross_entropy
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

import cyclr
from cyclr.torch import Scheduler
from cyclr.torch.transformers import AutoCycleCallback, range_test, set_schedule

__all__ = ["AutoCycleCallback", "cyclr", "range_test", "set_schedule"]

ROWS, WORDS, LENGTH = 50, 20, 8


def rows(count=ROWS):
    """Texts of which some tokens count for no loss, so that the batches of an update have different numbers of them."""
    tokens = torch.randint(0, WORDS, (count, LENGTH), generator=torch.Generator().manual_seed(1))
    return [
        {"input_ids": row, "labels": torch.where(torch.arange(LENGTH) < 3 + i % 5, row, -100)}
        for i, row in enumerate(tokens)
    ]


class Endless(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(rows())


def gpt():
    set_seed(0)
    sizes = {"vocab_size": WORDS, "n_positions": LENGTH, "n_embd": 8, "n_layer": 1, "n_head": 2}
    rates = {"resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1}
    return GPT2LMHeadModel(GPT2Config(**sizes, **rates, bos_token_id=0, eos_token_id=0))


class Normed(torch.nn.Module):
    """A model with a buffer that training changes, which is not of Transformers."""

    def __init__(self):
        super().__init__()
        set_seed(0)
        self.embedding, self.norm = torch.nn.Embedding(WORDS, 8), torch.nn.BatchNorm1d(8)
        self.layer, self.drop = torch.nn.Linear(8, WORDS), torch.nn.Dropout(0.1)
        self.config = types.SimpleNamespace(problem_type=None)

    def forward(self, input_ids, labels=None):
        logits = self.layer(self.drop(self.norm(self.embedding(input_ids).mean(1))))
        return {"loss": cross_entropy(logits, input_ids[:, 0]), "logits": logits}


def frozen():
    model = gpt()
    for parameter in model.transformer.h.parameters():
        parameter.requires_grad = False
    return model


class Noted(TrainerCallback):
    """Counts the events that it is called for, besides the trainer's creation."""

    def __init__(self):
        self.events = []

    def on_train_begin(self, args, state, control, **others):
        self.events.append("train")

    def on_step_end(self, args, state, control, **others):
        self.events.append("step")

    def on_log(self, args, state, control, **others):
        self.events.append("log")


class Own(Trainer):
    """Has a loss with a teacher and a counter, an update and a loader of its own."""

    def __init__(self, *given, **named):
        super().__init__(*given, **named)
        self.teacher = gpt()
        self.seen, self.steps = [], 0

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        self.seen.append(float(loss))
        with torch.no_grad():
            goal = self.teacher(inputs["input_ids"]).logits
            self.teacher.lm_head.weight.mul_(0.999)
        loss = loss + 0.1 * (outputs.logits - goal).square().mean()
        return (loss, outputs) if return_outputs else loss

    def training_step(self, model, inputs, num_items_in_batch=None):
        self.steps += 1
        return super().training_step(model, inputs, num_items_in_batch)

    def get_train_dataloader(self):
        return torch.utils.data.DataLoader(self.train_dataset, 4, shuffle=True, collate_fn=self.data_collator)


def summed(outputs, labels, num_items_in_batch=None):
    loss = cross_entropy(outputs["logits"].flatten(0, 1), labels.flatten(), reduction="sum")
    return loss / num_items_in_batch


class Scaled(Trainer):
    """Scales its losses, also on a CPU; the first scale is too large for a test at high rates."""

    def create_optimizer(self, *given):
        self.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
        return super().create_optimizer(*given)


def given_optimizer(model):
    return torch.optim.SGD(
        [{"params": [*model.parameters()][:2]}, {"params": [*model.parameters()][2:], "lr": 0.02}], lr=0.1, momentum=0.9
    )


def with_scheduler(model):
    optimizer = given_optimizer(model)
    return optimizer, Scheduler(optimizer, cyclr.Cyclical(0.01, 0.1, step_size=4))


def with_warmup(model):
    optimizer = given_optimizer(model)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 10)


KINDS = {
    "plain": {},
    "accumulation": {"gradient_accumulation_steps": 3},
    "bfloat16": {"bf16": True},
    "scaled": {"kind": Scaled},
    "label smoothing": {"label_smoothing_factor": 0.1, "gradient_accumulation_steps": 2},
    "items": {"gradient_accumulation_steps": 2, "parts": {"compute_loss_func": summed}},
    "no clipping": {"max_grad_norm": 0},
    "strong clipping": {"max_grad_norm": 0.01},
    "not of Transformers": {"model": Normed, "gradient_accumulation_steps": 2},
    "frozen": {"model": frozen},
    "own trainer": {"kind": Own, "gradient_accumulation_steps": 2},
    "model_init": {"model": None, "parts": {"model_init": gpt}},
    "sequence to sequence": {"kind": Seq2SeqTrainer, "arguments": Seq2SeqTrainingArguments},
    "iterable": {"data": Endless, "max_steps": 20},
    "lengths": {"train_sampling_strategy": "group_by_length", "gradient_accumulation_steps": 2},
    "checkpointing": {"gradient_checkpointing": True},
    "noisy embeddings": {"neftune_noise_alpha": 5.0},
    "compiled": {"torch_compile": True, "torch_compile_backend": "eager"},
    "workers": {"dataloader_num_workers": 1, "dataloader_persistent_workers": True},
    "memory": {"skip_memory_metrics": False},
    "batch size": {"auto_find_batch_size": True},
    "data seed": {"data_seed": 3},
    "optimizer": {"optimizers": lambda model: (given_optimizer(model), None)},
    "scheduler": {"optimizers": with_scheduler},
    "warmup": {"optimizers": with_warmup},
    "adafactor": {"optim": "adafactor"},
    "sgd": {"optim": "sgd", "learning_rate": 0.1},
}


def trainer(
    folder, model=gpt, *, kind=Trainer, arguments=TrainingArguments, data=rows, optimizers=None, parts=None, **options
):
    given = {
        "num_train_epochs": 2,
        "per_device_train_batch_size": 4,
        "use_cpu": True,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "logging_steps": 1,
        **options,
    }
    made = arguments(folder, **given)
    module = None if model is None else model()
    more = {} if optimizers is None else {"optimizers": optimizers(module)}
    trainer = kind(module, made, train_dataset=data(), callbacks=[Noted()], **more, **(parts or {}))
    # What training prints.
    trainer.pop_callback(type(trainer.callback_handler.callbacks[-1]))
    return trainer
