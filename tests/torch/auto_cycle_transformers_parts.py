"""A model and a Trainer for the tests of AutoCycle: imported by the first test that runs."""

import math
import types

import torch
from tests.torch.auto_cycle_run import batch, network
from torch.nn.functional import mse_loss
from transformers import Trainer, TrainerCallback, TrainingArguments

import cyclr
from cyclr.torch import Scheduler
from cyclr.torch.transformers import AutoCycleCallback

__all__ = ["AutoCycleCallback", "Labels", "Scaled", "Unseen", "labelled"]

STEPS = 60


def cycle(max_lr=3e-3, steps=STEPS):
    return cyclr.Cyclical.over(steps, 2, 1e-4, max_lr)


CYCLE = cycle()


class Rows(torch.utils.data.Dataset):
    """Rows for batches of 16, of which one batch may be NaN."""

    def __init__(self, batches, broken=None):
        parts = [batch(index) for index in range(batches)]
        self.x = torch.cat([x * (math.nan if index == broken else 1) for index, (x, _) in enumerate(parts)])
        self.y = torch.cat([y for _, y in parts])

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return {"x": self.x[index], "labels": self.y[index]}


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.network = network()

    def forward(self, x, labels=None):
        y = self.network(x)
        return {"loss": None if labels is None else mse_loss(y, labels), "logits": y}


class Labels(torch.nn.Module):
    """A classifier whose loss is smoothed by the Trainer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(4, 3)
        self.config = types.SimpleNamespace(problem_type=None)

    def forward(self, x, labels=None):
        logits = self.layer(x)
        return {"loss": None if labels is None else torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


def labelled(rows):
    """A batch for `Labels`."""
    x = torch.stack([row["x"] for row in rows])
    return {"x": x, "labels": (x[:, 0] > 0).long()}


class Scaled(Trainer):
    """Scales its losses, also on a CPU. The second update overflows."""

    def create_optimizer(self, *given):
        self.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
        return super().create_optimizer(*given)

    def compute_loss(self, model, inputs, *given, **named):
        loss = super().compute_loss(model, inputs, *given, **named)
        return loss if self.state.global_step != 1 else Overflowing.apply(loss)


class Overflowing(torch.autograd.Function):
    """Leaves a loss as it is, and makes its gradient infinite."""

    @staticmethod
    def forward(context, loss):
        return loss.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * torch.inf


class Unseen(Trainer):
    """Its optimizer updates without hooks."""

    def create_optimizer(self, *given):
        optimizer = super().create_optimizer(*given)
        optimizer.step = lambda closure=None: None
        return optimizer


class Rates(TrainerCallback):
    """The rate of every update, as the optimizer has it."""

    def __init__(self, stop=None):
        self.used, self.stop = [], stop

    def on_pre_optimizer_step(self, args, state, control, optimizer, **others):
        self.used.append(optimizer.param_groups[0]["lr"])

    def on_step_end(self, args, state, control, **others):
        control.should_training_stop |= state.global_step == self.stop
        control.should_save |= state.global_step == self.stop


def trainer(
    folder, model=None, *, kind=Trainer, broken=None, stop=None, optimizers=(None, None), parts=None, **options
):
    """Return a Trainer of `STEPS` updates, and the callback with its rates."""
    accumulate = options.get("gradient_accumulation_steps", 1)
    arguments = {
        "max_steps": STEPS,
        "per_device_train_batch_size": 16,
        "train_sampling_strategy": "sequential",
        "use_cpu": True,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "logging_steps": 1,
        **options,
    }
    rates = Rates(stop)
    data = Rows(STEPS * accumulate, broken)
    made = kind(
        model or Model(),
        TrainingArguments(folder, **arguments),
        train_dataset=data,
        optimizers=optimizers,
        callbacks=[rates],
        **(parts or {}),
    )
    return made, rates


def with_auto(folder, schedule=CYCLE, resume="same", **arguments):
    made, rates = trainer(folder, **arguments)
    callback = AutoCycleCallback(made, schedule, resume=resume)
    made.add_callback(callback)
    return made, callback, rates


def with_scheduler(folder, schedule, **arguments):
    """The same run with a Scheduler, for an optimizer that the trainer creates."""

    class Made(arguments.pop("kind", Trainer)):
        def create_scheduler(self, num_training_steps, optimizer=None):
            self.lr_scheduler = Scheduler(self.optimizer, schedule)
            return self.lr_scheduler

    return trainer(folder, kind=Made, **arguments)
