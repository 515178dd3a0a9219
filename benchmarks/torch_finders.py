"""Learning-rate finders for PyTorch on the same work: their results, the traces that they leave, and their cost.

    pip install torch-lr-finder                 # the other finders come with the extra dev
    python benchmarks/torch_finders.py [SEEDS]

The work is scikit-learn's digits, a network with batch normalization and dropout, SGD with momentum, and batches of 32,
on one thread. Every finder runs as its documentation shows, with its default number of updates, and then restores the
model as its documentation shows. Columns:

    calls      number of calls, with an existing trainer or model, until the result is shown and the model is restored
    found      the result for each seed
    changed    the parts of the training state that differ before and after the finder
    cost       processor time of the finder / processor time of a plain loop of as many updates, median over the seeds
"""

import contextlib
import copy
import io
import logging
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import lightning
import torch
from ignite.engine import create_supervised_trainer
from ignite.handlers import FastaiLRFinder
from lightning.pytorch.tuner import Tuner
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset
from torch_lr_finder import LRFinder

import cyclr.torch

Found = tuple[list[float], int]
"""The learning rates that were found, and the number of updates of the finder."""


class Module(lightning.LightningModule):
    def __init__(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        super().__init__()
        self.network, self.optimizer, self.lr = network, optimizer, 0.01

    def training_step(self, batch: Any, index: int) -> Any:
        return cross_entropy(self.network(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr
        return self.optimizer


class Work:
    """A network, its optimizer and its data."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        x, y = load_digits(return_X_y=True)
        data = TensorDataset(torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y))
        self.loader = DataLoader(data, batch_size=32, shuffle=True, generator=torch.Generator().manual_seed(seed))
        self.model = nn.Sequential(
            nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 10)
        )
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)

    def state(self) -> dict[str, Any]:
        optimizer = self.optimizer.state_dict()
        return {
            "weights": copy.deepcopy(self.model.state_dict()),
            "mode": [part.training for part in self.model.modules()],
            "optimizer's state": copy.deepcopy(optimizer["state"]),
            "rate": [group["lr"] for group in optimizer["param_groups"]],
            "random numbers": (torch.get_rng_state(), self.loader.generator.get_state()),
        }


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


def with_cyclr(work: Work) -> Found:
    result = cyclr.torch.range_test(work.model, work.optimizer, cross_entropy, work.loader)
    return [*result.bounds], len(result.loss)


def with_torch_lr_finder(work: Work) -> Found:
    finder = LRFinder(work.model, work.optimizer, nn.CrossEntropyLoss(), device="cpu")
    finder.range_test(work.loader, end_lr=10, num_iter=100)
    _, suggested = finder.plot()
    finder.reset()
    return [suggested], len(finder.history["lr"])


def with_lightning(work: Work) -> Found:
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, max_epochs=1
    )
    finder = Tuner(trainer).lr_find(Module(work.model, work.optimizer), work.loader)
    return [finder.suggestion()], len(finder.results["lr"])


def with_ignite(work: Work) -> Found:
    trainer, finder = create_supervised_trainer(work.model, work.optimizer, cross_entropy), FastaiLRFinder()
    with finder.attach(trainer, {"model": work.model, "optimizer": work.optimizer}, num_iter=100) as testing:
        testing.run(work.loader)
    return [finder.lr_suggestion()], len(finder.get_results()["lr"])


FINDERS: dict[str, tuple[int, Callable[[Work], Found]]] = {
    "cyclr": (1, with_cyclr),
    "torch-lr-finder": (4, with_torch_lr_finder),
    "Lightning": (2, with_lightning),
    "Ignite": (4, with_ignite),
}


def plain_loop(seed: int, updates: int) -> float:
    """Return the processor time of a plain loop."""
    work, done, start = Work(seed), 0, time.process_time()
    while done < updates:
        for x, y in work.loader:
            work.optimizer.zero_grad()
            loss = cross_entropy(work.model(x), y)
            loss.backward()
            work.optimizer.step()
            loss.item()
            done += 1
    return (time.process_time() - start) * updates / done


def main(seeds: int) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    plain_loop(0, 100)  # The first loop of a process is slower.
    print(f"{'finder':16} {'calls':>5} {'cost':>5}  found; changed")
    for name, (calls, find) in FINDERS.items():
        ratios, found, changed = [], [], dict[str, None]()
        for seed in range(seeds):
            work = Work(seed)
            before, start = work.state(), time.process_time()
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                rates, updates = find(work)
            seconds, after = time.process_time() - start, work.state()
            ratios.append(seconds / plain_loop(seed, updates))
            found.append("…".join(f"{rate:.2g}" for rate in rates))
            changed |= dict.fromkeys(part for part in before if not equal(before[part], after[part]))
        seen = f"{', '.join(found)}; {', '.join(changed) or 'nothing'}"
        print(f"{name:16} {calls:5} {statistics.median(ratios):5.2f}  {seen}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
