"""Modules, callbacks and loggers of Lightning for the tests: imported by the first test that runs, not to collect."""

import random

import lightning
import numpy as np
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.utilities import CombinedLoader
from torch.nn.functional import mse_loss
from torchmetrics import MeanMetric, Metric

from cyclr import Cyclical
from cyclr.torch import Scheduler
from cyclr.torch.lightning import RangeTestCallback, _mute

__all__ = ["CombinedLoader", "MixedPrecision", "RangeTestCallback", "_mute"]


class Recorder(Logger):
    """A logger and what it was told."""

    name = version = "recorder"

    def __init__(self):
        super().__init__()
        self.told = []

    def log_metrics(self, metrics, step=None):
        self.told.append((step, dict(metrics)))

    def log_hyperparams(self, *arguments, **keywords):
        pass


class Listener(lightning.Callback):
    """Writes down what the trainer tells its callbacks, with the counters that they see."""

    def __init__(self):
        self.heard = []

    def on_train_batch_start(self, trainer, pl_module, batch, index):
        self.heard.append(("batch", index, trainer.global_step, batch[0].sum().item() if len(batch) == 2 else None))

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.heard.append(("update", trainer.global_step, float(optimizer.param_groups[0]["lr"])))

    def on_after_backward(self, trainer, pl_module):
        self.heard.append(("backward", trainer.global_step))

    def on_train_epoch_end(self, trainer, pl_module):
        self.heard.append(("epoch", trainer.current_epoch, {k: v.item() for k, v in trainer.callback_metrics.items()}))


class InPlace(Metric):
    """A metric that adds up in place."""

    def __init__(self):
        super().__init__()
        self.add_state("total", torch.zeros(()), "sum")

    def update(self, value):
        self.total.add_(value.detach())

    def compute(self):
        return self.total


class Module(lightning.LightningModule):
    """Everything that a step may change: statistics, metrics, lists, counters, and it draws and logs."""

    def __init__(self, make=None):
        super().__init__()
        torch.manual_seed(3)
        parts = [torch.nn.Linear(3, 6), torch.nn.BatchNorm1d(6), torch.nn.Dropout(0.3), torch.nn.Linear(6, 1)]
        self.layers = torch.nn.Sequential(*parts)
        self.make = make or (lambda p: torch.optim.Adam(p, 0.01))
        self.total = InPlace()
        self.mean, self.outputs, self.by_index, self.count = MeanMetric(nan_strategy="ignore"), [], {"sizes": [0]}, 0

    def training_step(self, batch, number):
        x, y = batch
        loss = mse_loss(self.layers(x), y) + 0.01 * random.random() + 0.01 * np.random.random()
        self.mean(loss)
        self.total.update(loss)
        self.logger.log_metrics({"at once": loss.item()})
        self.log("mean", self.mean, on_step=False, on_epoch=True)
        self.log_dict({"loss": loss}, on_step=True, on_epoch=True)
        self.outputs.append(loss.detach())
        self.by_index["sizes"].append(len(x))
        self.by_index[number] = self.count
        self.count += 1
        if self.count > 60:
            self.trainer.should_stop = True
        return {"loss": loss, "more": 1}

    def configure_optimizers(self):
        optimizer = self.make(self.parameters())
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=40, cycle_momentum=False)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def trainer_of(callbacks=(), **changes):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    arguments = {"max_epochs": 2, "accelerator": "cpu", "devices": 1, "logger": False, **quiet, **changes}
    return lightning.Trainer(callbacks=list(callbacks), **arguments)


class Blind(Module):
    def training_step(self, batch, number):
        super().training_step(batch, number)


class Linear(lightning.LightningModule):
    """Linear regression with known weights."""

    def __init__(self, make=None):
        super().__init__()
        self.linear = torch.nn.Linear(3, 1)
        with torch.no_grad():
            self.linear.weight.copy_(torch.tensor([[0.5, 0.25, -0.5]]))
            self.linear.bias.fill_(0.125)
        self.make = make or (lambda p: torch.optim.SGD(p, 0.01, momentum=0.9))

    def training_step(self, batch):
        return mse_loss(self.linear(batch[0]), batch[1])

    def configure_optimizers(self):
        return self.make(self.parameters())


class Selective(Linear):
    """Leaves out batches whose first input is above a limit."""

    def training_step(self, batch):
        return super().training_step(batch) if batch[0][0, 0] < 0.5 else None


class Gan(lightning.LightningModule):
    """Two optimizers, a training step that updates by itself, and their schedulers."""

    def __init__(self, used):
        super().__init__()
        torch.manual_seed(0)
        self.automatic_optimization = False
        # What the range test puts back is all that the module itself holds.
        self.note = lambda number: lambda optimizer, *_: used[number].append(optimizer.param_groups[0]["lr"])
        self.generator, self.discriminator = torch.nn.Linear(3, 1), torch.nn.Linear(1, 1)

    def training_step(self, batch):
        g, d = self.optimizers()
        g.zero_grad()
        fake = self.discriminator(self.generator(batch[0])).sub(1).square().mean()
        self.manual_backward(fake)
        g.step()
        d.zero_grad()
        real = self.discriminator(batch[1]).sub(1).square().mean()
        self.manual_backward(real + self.discriminator(self.generator(batch[0]).detach()).square().mean())
        d.step()
        for scheduler in self.lr_schedulers():
            scheduler.step()
        self.log("fake", fake)
        return fake

    def configure_optimizers(self):
        optimizers = [torch.optim.Adam(part.parameters(), 0.01) for part in (self.generator, self.discriminator)]
        for number, optimizer in enumerate(optimizers):
            optimizer.register_step_pre_hook(self.note(number))
        ours = Scheduler(optimizers[0], Cyclical(0.01, 0.05, 3))
        return optimizers, [ours, torch.optim.lr_scheduler.StepLR(optimizers[1], 2)]
