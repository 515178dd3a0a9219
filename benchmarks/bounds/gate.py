"""A gate for CI: on six cheap tasks, cyclr's default range test and cycle must not be worse than the stored results.

    python benchmarks/bounds/gate.py

The shortfall is computed as in `compare.py`, with the same four seeds. The exit status is 1 if the shortfall of a task
is more than `TASK_MARGIN` above the stored shortfall, or the mean more than `MEAN_MARGIN`. An intended change of the
bounds needs new stored results: delete benchmarks/bounds/compared/ and run `compare.py`.
"""

import sys
from collections.abc import Sequence

import numpy as np
from compare import CYCLR, Way, mark, run, stored
from ground_truth import SEEDS
from tasks import TASKS

GATED = ("linear 4", "dense 10", "dense 11", "deep 1", "regression 6", "autoencoder 1")
"""Quick tasks that need no file, and whose scores are much worse with tops that are too low or too high."""

TASK_MARGIN, MEAN_MARGIN = 0.03, 0.01
"""Largest amount by which a shortfall may exceed the stored shortfall.

The margins are at least three times the measured variation. In twelve runs with learning rates that differ by 1e-5, the
shortfall of a task rose by at most 0.010, and the mean by 0.001. With instructions of other CPUs
(`XLA_FLAGS=--xla_cpu_max_isa=SSE4_2`, `AVX2` and `AVX512`) a task rose by 0.006, and the mean did not rise. Tops that
are 2.5 times too high cost 0.08 in the mean, and tops that are five times too low cost 0.04.
"""


def worse(names: Sequence[str], way: Way) -> str | None:
    """Return by how much `way` is worse than the stored results of cyclr on the named tasks; None if within margins."""
    found, known = [], []
    print("| task | shortfall | stored |\n|---|---|---|")
    for task in (task for task in TASKS if task.name.split(":")[0] in names):
        found.append(mark(task) - np.mean(run(task, SEEDS, {"cyclr": way})["cyclr"]["scores"]))
        known.append(mark(task) - np.mean(stored(task, SEEDS, {"cyclr": way})["cyclr"].scores))
        print(f"| {task.name} | {found[-1]:+.4f} | {known[-1]:+.4f} |", flush=True)
    print(f"| mean | {np.mean(found):+.4f} | {np.mean(known):+.4f} |")
    by = np.subtract(found, known)
    if by.max() <= TASK_MARGIN and by.mean() <= MEAN_MARGIN:
        return None
    return f"worse than stored by {by.mean():.4f} in the mean and by {by.max():.4f} on one task"


if __name__ == "__main__":
    sys.exit(worse(GATED, CYCLR["cyclr"]))
