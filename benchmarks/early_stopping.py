"""Test error and epochs of ten rules that stop a cyclical run when the validation loss no longer falls.

    python benchmarks/early_stopping.py [seeds]

The data is scikit-learn's digits with a fifth of the training labels wrong, so that long training overfits. A dense
network is trained with SGD with momentum 0.9, batch size 32 and the bounds of a range test, for at most 40 epochs, in
one cycle or in eight. The validation loss is read after every epoch. The rules never see the test data.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy

import cyclr
from cyclr.torch import Scheduler, range_test

EPOCHS, CYCLES, BATCH_SIZE = 40, 8, 32


@dataclass
class Task:
    """Data, a network and its bounds, all from one seed."""

    seed: int

    def __post_init__(self) -> None:
        x, y = load_digits(return_X_y=True)
        rng = np.random.default_rng(self.seed)
        order = rng.permutation(len(x))
        parts = np.split(order, [900, 1300])
        wrong = rng.choice(parts[0], len(parts[0]) // 5, replace=False)
        y = y.copy()
        y[wrong] = rng.integers(0, 10, len(wrong))
        self.train, self.validation, self.test = (
            (torch.tensor(x[part] / 16, dtype=torch.float32), torch.tensor(y[part])) for part in parts
        )
        torch.manual_seed(self.seed)
        self.model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        dataset = torch.utils.data.TensorDataset(*self.train)
        self.loader = torch.utils.data.DataLoader(dataset, batch_size=BATCH_SIZE, shuffle=True)
        self.bounds = range_test(self.model, self.optimizer, cross_entropy, self.loader).bounds

    def loss(self) -> float:
        with torch.no_grad():
            return float(cross_entropy(self.model(self.validation[0]), self.validation[1]))

    def error(self) -> float:
        with torch.no_grad():
            return 100 * float((self.model(self.test[0]).argmax(1) != self.test[1]).float().mean())

    def epochs(self, schedule: cyclr.Schedule, epochs: int) -> Any:
        """Train, and yield (epoch, validation loss, test error) after each epoch."""
        scheduler = Scheduler(self.optimizer, schedule)
        for epoch in range(1, epochs + 1):
            for inputs, targets in self.loader:
                self.optimizer.zero_grad()
                cross_entropy(self.model(inputs), targets).backward()
                self.optimizer.step()
                scheduler.step()
            yield epoch, self.loss(), self.error()


def run(seed: int, cycles: int, patience: int | None, every: int = 1, best: bool = True, anneal: int = 0) -> Any:
    """Return the test error and the epochs of a run that stops after `patience` checks without a lower loss.

    The loss is checked after every `every` epochs. With `best` the weights of the lowest loss are tested, else the last
    weights. With `anneal` the learning rate then falls linearly to base_lr over this number of epochs.
    """
    task = Task(seed)
    steps = len(task.loader)
    schedule = task.bounds.schedule(epochs=EPOCHS, steps_per_epoch=steps, cycles=cycles)
    lowest, error_of_lowest, waited = np.inf, np.nan, 0
    for epoch, loss, error in task.epochs(schedule, EPOCHS):
        if epoch % every:
            continue
        waited = 0 if loss < lowest else waited + 1
        if loss < lowest:
            lowest, error_of_lowest = loss, error
        if patience is not None and waited >= patience:
            break
    if anneal and epoch < EPOCHS:
        fall = cyclr.Anneal(schedule(epoch * steps - 1), schedule.base_lr, anneal * steps - 1)
        for _, loss, error in task.epochs(fall, anneal):
            if loss < lowest:
                lowest, error_of_lowest = loss, error
        epoch += anneal
    return (error_of_lowest if best else error), epoch


RULES: dict[str, Callable[[int], Any]] = {
    "one cycle to its end, last weights": lambda seed: run(seed, 1, None, best=False),
    "one cycle to its end, best weights": lambda seed: run(seed, 1, None),
    "one cycle, patience of 1 epoch, last weights": lambda seed: run(seed, 1, 1, best=False),
    "one cycle, patience of 1 epoch, best weights": lambda seed: run(seed, 1, 1),
    "one cycle, patience of 1 epoch, then 4 epochs down, best weights": lambda seed: run(seed, 1, 1, anneal=4),
    "8 cycles, patience of 1 epoch, last weights": lambda seed: run(seed, CYCLES, 1, best=False),
    "8 cycles, patience of 1 epoch, best weights": lambda seed: run(seed, CYCLES, 1),
    "8 cycles, patience of 5 epochs (one cycle), best weights": lambda seed: run(seed, CYCLES, 5),
    "8 cycles, patience of 1 cycle end, best weights": lambda seed: run(seed, CYCLES, 1, every=EPOCHS // CYCLES),
    "8 cycles to the end, best weights": lambda seed: run(seed, CYCLES, None),
}


def main() -> None:
    torch.set_num_threads(1)
    seeds = range(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
    print(f"| rule ({len(seeds)} seeds) | test error, % | epochs |\n|---|---|---|")
    for name, rule in RULES.items():
        errors, epochs = np.array([rule(seed) for seed in seeds]).T
        spread = errors.std(ddof=1) / len(errors) ** 0.5
        print(f"| {name} | {errors.mean():.2f} ± {spread:.2f} | {epochs.mean():.0f} |")


if __name__ == "__main__":
    main()
