"""A module and a trainer of Lightning for the tests of AutoCycle: imported by the first test that runs."""

import math

import lightning
import torch
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers.logger import DummyLogger
from tests.torch.auto_cycle_run import OPTIMIZERS, batch, network
from torch.nn.functional import mse_loss

from cyclr.torch import Scheduler
from cyclr.torch.lightning import AutoCycleCallback

__all__ = ["AutoCycleCallback"]


class Module(lightning.LightningModule):
    def __init__(self, name="momentum", scheduler=None, broken=None):
        super().__init__()
        self.network, self.name_, self.scheduler, self.broken, self.rates = network(), name, scheduler, broken, []

    def training_step(self, part, index):
        x, y = part
        self.rates.append(self.optimizers().param_groups[0]["lr"])
        return mse_loss(self.network(x * (math.nan if self.global_step == self.broken else 1)), y)

    def configure_optimizers(self):
        optimizer = OPTIMIZERS[self.name_](self.network)
        if self.scheduler is None:
            return optimizer
        scheduler = Scheduler(optimizer, self.scheduler)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def fitted(module, *callbacks, epochs=3, ckpt_path=None, **arguments):
    loader = torch.utils.data.DataLoader([batch(index) for index in range(20)], batch_size=None)
    trainer = lightning.Trainer(
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        max_epochs=epochs,
        callbacks=[*callbacks],
        **{"logger": False, **arguments},
    )
    trainer.fit(module, loader, ckpt_path=ckpt_path)
    return trainer


class Stop(lightning.Callback):
    """Ends `fit` after the second epoch, though it is made for more."""

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.should_stop = trainer.current_epoch == 1


class Logger(DummyLogger):
    """Keeps the learning rates that it gets."""

    def __init__(self):
        super().__init__()
        self.rates = []

    def log_metrics(self, metrics, step=None):
        self.rates += [value for name, value in metrics.items() if name.startswith("lr-")]


def monitor():
    return LearningRateMonitor("step")
