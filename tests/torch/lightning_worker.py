"""A fit with a range test in one of several processes."""

import os

import lightning
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from cyclr.torch import range_test
from cyclr.torch.lightning import RangeTestCallback

WORLD, BATCH = 2, 4
SWEEP = {"min_lr": 1e-3, "max_lr": 0.05, "steps": 14, "stop_factor": None, "repeats": 1}
WAYS = {"plain": {}, "accumulation": {"accumulate_grad_batches": 2}}


class Linear(lightning.LightningModule):
    def __init__(self, nan_on=None):
        super().__init__()
        torch.manual_seed(3)
        self.linear, self.nan_on = torch.nn.Linear(3, 1).double(), nan_on

    def training_step(self, batch, index):
        loss = mse_loss(self.linear(batch[0]), batch[1])
        broken = self.nan_on == self.global_rank and index == 4
        self.log("loss", loss, sync_dist=True)
        return loss * (float("nan") if broken else 1)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01, momentum=0.9)


def data(size, rank=None):
    """Batches in order; with a rank, those of one of the processes."""
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(48, 3, generator=generator, dtype=torch.float64)
    rows = TensorDataset(x, x @ torch.tensor([[1.0], [-2.0], [0.5]], dtype=torch.float64))
    # Lightning's own would shuffle.
    sampler = None if rank is None else DistributedSampler(rows, WORLD, rank, shuffle=False)
    return DataLoader(rows, size, sampler=sampler)


def alone(accumulate):
    """The range test of one process with the global batches."""
    model = Linear()
    optimizer = model.configure_optimizers()
    return range_test(model.linear, optimizer, mse_loss, data(WORLD * BATCH), **SWEEP, accumulate=accumulate)


def fit(callbacks, model, **changes):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = lightning.Trainer(
        **{"accelerator": "cpu", "strategy": "ddp", "devices": WORLD, "max_epochs": 1, "logger": False},
        use_distributed_sampler=False,
        **{"callbacks": callbacks, **quiet, **changes},
    )
    trainer.fit(model, data(BATCH, int(os.environ["RANK"])))
    return trainer


def found_by(finder):
    result = finder.result
    return {"lr": result.lr.tolist(), "loss": result.loss.tolist(), "reason": result.stop_reason}


def run(changes):
    """A fit with a range test, and whether it is the fit without."""
    finder, model, other = RangeTestCallback(**SWEEP), Linear(), Linear()
    trainer = fit([finder], model, **changes)
    fit([], other, **changes)
    same = all(map(torch.equal, model.parameters(), other.parameters()))
    return {**found_by(finder), "updates": trainer.global_step, "same training": same}


def results():
    """What this process gets, by the name of the case."""
    found = {name: run(changes) for name, changes in WAYS.items()}
    for name in ("NaN on one", "NaN on one, with a scaler"):
        finder = RangeTestCallback(**SWEEP, then_train=False)
        scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
        plugins = [MixedPrecision("16-mixed", "cpu", scaler)] if "scaler" in name else None
        fit([finder], Linear(nan_on=1), plugins=plugins)
        found[name] = found_by(finder)
    return found
