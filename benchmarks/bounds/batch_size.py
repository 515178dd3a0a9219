"""Dependence of the best top of a cycle, and of the max_lr of a range test, on the batch size.

    python benchmarks/bounds/batch_size.py [FIRST [LAST]]

The tasks of the benchmark run with a quarter of their batch size, with their own batch size, and with four times their
batch size. All runs see the same number of samples, so four times the batch size means a quarter of the updates. For
each batch size there are 13 tops of the default cycle, powers of two around the best stored top, and a range test of
150 updates, with two seeds.

- Powers: the power of the batch size by which the best top and the max_lr of a range test change. The best top is the
  middle of the tops whose mean score is within 0.005 of the best mean score.
- Shortfalls: the best mean score of all tops at the new batch size, minus the score of a cycle whose top comes from the
  old batch size, times a power of the ratio of the batch sizes. Scores between tops are interpolated. The top is the
  best top of the old batch size, or the max_lr of a range test with the old batch size. The last row is a range test
  with the new batch size.

The results are stored in benchmarks/bounds/batch_sizes/, a file for each task; stored results are not run again. A task
takes up to ten minutes on one core. Tables show all stored tasks.
"""

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ground_truth import MOMENTUM_FREE_SCALE, cycle, load, path_of
from stability import bounds_of
from tasks import TASKS, Task
from training import sweep, train

from cyclr import RangeTest

FOLDER = Path(__file__).with_name("batch_sizes")
SEEDS = range(2)
FACTORS = (0.25, 1.0, 4.0)
TOPS = 2.0 ** np.arange(-6, 7)
POWERS = (0.0, 0.25, 0.5, 2 / 3, 0.75, 1.0)
NEAR = 0.005
"""Scores this far below the best count as the best."""


def at(task: Task, factor: float) -> Task:
    """Return the task with another batch size and the same number of samples in all."""
    return replace(task, batch=round(task.batch * factor), steps=round(task.steps / factor))


def suitable(task: Task) -> bool:
    """Return True if a quarter of the batch size is at least 4, and four times the batch size at most an epoch."""
    return task.batch >= 16 and 4 * task.batch <= len(task.dataset.x)


def run(task: Task) -> dict[str, Any]:
    """Return scores of shape (factors, seeds, tops), and losses of range tests of shape (factors, seeds, 150)."""
    truth = load(task)
    tops = truth["peaks"][truth["cycles"][:, 1].mean(0).argmax()] * TOPS
    scores, sweeps = [], []
    for other in (at(task, factor) for factor in FACTORS):
        scores.append(train(other, [cycle(other, top, 0.3, "parabolic") for top in tops], SEEDS))
        sweeps.append([sweep(other, RangeTest().learning_rates, seed) for seed in SEEDS])
    return {"tops": tops, "scores": np.array(scores), "sweeps": np.array(sweeps, np.float32)}


class Measured(NamedTuple):
    """A task at three batch sizes: logarithms (base 2) of rates, and mean scores of shape (batch sizes, tops)."""

    tops: Any
    scores: Any
    best: Any
    found: Any

    def shortfall(self, new: int, tops: Any) -> float:
        """Return the mean shortfall of cycles up to tops at a batch size."""
        return float(self.scores[new].max() - np.interp(tops, self.tops, self.scores[new]).mean())


def middle_of_best(tops: Any, scores: Any) -> float:
    """Return the middle of the range of tops around the best top whose scores are within 0.005 of the best."""
    low = high = int(scores.argmax())
    near = scores >= scores.max() - NEAR
    while low > 0 and near[low - 1]:
        low -= 1
    while high < len(scores) - 1 and near[high + 1]:
        high += 1
    return float(tops[low] + tops[high]) / 2


def measured(task: Task) -> Measured:
    """Return the stored results of a task. Range tests without bounds are left out."""
    with np.load(FOLDER / path_of(task).name) as stored:
        tops, scores, sweeps = np.log2(stored["tops"]), stored["scores"].mean(1), stored["sweeps"].astype(float)
    found = [[bounds_of("default", losses).max_lr for losses in of_batch] for of_batch in sweeps]
    found = [np.log2([top for top in row if top is not None]) for row in found]
    return Measured(tops, scores, [middle_of_best(tops, row) for row in scores], found)


def print_tables(name: str, tasks: list[Measured]) -> None:
    tested = [task for task in tasks if all(map(len, task.found))]
    print(f"\n{name}: {len(tasks)} tasks, {len(tested)} of them with bounds at all batch sizes")
    print("\n| batch size | best top moves by the power: quartiles | max_lr of a range test |\n|---|---|---|")
    for old, new in ((0, 1), (1, 2), (0, 2)):
        ratio = np.log2(FACTORS[new] / FACTORS[old])
        best = [(task.best[new] - task.best[old]) / ratio for task in tasks]
        found = [(task.found[new].mean() - task.found[old].mean()) / ratio for task in tested]
        cells = (" ".join(f"{q:.2f}" for q in np.quantile(powers, (0.25, 0.5, 0.75))) for powers in (best, found))
        print(f"| from {FACTORS[old]:g} to {FACTORS[new]:g} of the task's | {' | '.join(cells)} |")
    print("\n| mean shortfall (worst) at | a 16th | a quarter | four times | 16 times |\n|---|---|---|---|---|")
    changes = [[(2, 0)], [(1, 0), (2, 1)], [(0, 1), (1, 2)], [(0, 2)]]

    def print_row(name: str, of: list[Measured], rates: str, power: float | None) -> None:
        def shortfall(task: Measured, old: int, new: int) -> float:
            known = getattr(task, rates)
            if power is None:
                return task.shortfall(new, known[new])
            return task.shortfall(new, known[old] + power * np.log2(FACTORS[new] / FACTORS[old]))

        rows = [[shortfall(task, *pair) for task in of for pair in pairs] for pairs in changes]
        print(f"| {name} | {' | '.join(f'{np.mean(row):+.4f} ({np.max(row):.2f})' for row in rows)} |")

    for power in POWERS:
        print_row(f"best top, power {power:.2g}", tasks, "best", power)
    for power in POWERS:
        print_row(f"max_lr, power {power:.2g}", tested, "found", power)
    print_row("max_lr of a new test", tested, "found", None)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    first, last = [*map(int, sys.argv[1:]), *(0, len(TASKS))[len(sys.argv) - 1 :]]
    for task in filter(suitable, TASKS[first:last]):
        path = FOLDER / path_of(task).name
        if not path.exists():
            began = time.perf_counter()
            np.savez_compressed(path, **run(task))
            jax.clear_caches()
            print(f"{task.name} ({time.perf_counter() - began:.0f} s)", flush=True)
    stored = [task for task in TASKS if (FOLDER / path_of(task).name).exists()]
    plain = [measured(task) for task in stored if task.optimizer in MOMENTUM_FREE_SCALE]
    others = [measured(task) for task in stored if task.optimizer not in MOMENTUM_FREE_SCALE]
    print_tables("SGD, with and without momentum", plain)
    print_tables("other optimizers", others)
    print_tables("all", plain + others)


if __name__ == "__main__":
    main()
