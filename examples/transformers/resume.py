"""Transformers: resume a stopped run. The final weights equal those of a run without a stop, bit for bit.

    python examples/transformers/resume.py --stop-after 3    # stops after 3 epochs, as in a crash
    python examples/transformers/resume.py                   # continues with epoch 4

Needs: pip install "cyclr[torch]" transformers accelerate.
"""

import argparse

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint

import cyclr
from cyclr.torch.transformers import set_schedule

BATCH, EPOCHS, WORDS, FOLDER = 32, 6, 40, "checkpoints"

parser = argparse.ArgumentParser()
parser.add_argument("--stop-after", type=int, default=EPOCHS, help="epochs")
options = parser.parse_args()


class StopAfter(TrainerCallback):
    def on_epoch_end(self, args, state, control, **others):
        control.should_training_stop = state.epoch >= options.stop_after


set_seed(0)
tokens = torch.randint(0, WORDS, (512, 8))
labels = (tokens[:, 0] < WORDS // 2).long()
train = [{"input_ids": row, "labels": label} for row, label in zip(tokens, labels, strict=True)]
shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
model = BertForSequenceClassification(BertConfig(vocab_size=WORDS, max_position_embeddings=8, **shape))
run = cyclr.Run.of(samples=len(train), batch_size=BATCH, epochs=EPOCHS)
arguments = TrainingArguments(
    FOLDER,
    num_train_epochs=EPOCHS,
    per_device_train_batch_size=BATCH,
    use_cpu=True,
    report_to=[],
    save_strategy="epoch",
    save_total_limit=1,
    disable_tqdm=True,
    logging_strategy="no",
)
# The Trainer also saves the scheduler, and the random number generators of dropout and shuffling.
trainer = Trainer(model, arguments, train_dataset=train, callbacks=[StopAfter()])
set_schedule(trainer, cyclr.Cyclical.over(run.total_steps, cycles=2, base_lr=1e-4, max_lr=2e-3))
trainer.train(resume_from_checkpoint=get_last_checkpoint(arguments.output_dir))

weights = torch.nn.utils.parameters_to_vector(model.parameters())
updates = trainer.lr_scheduler.last_epoch
print(f"updates {updates}, of {run.total_steps}; mean weight {weights.double().mean().item()!r}")
