"""Comparison of the kinds of `bounds.schedule`, with the same bounds and runs of the same length.

    python benchmarks/bounds/kinds.py [FAMILY ...]

Each of four seeds has a separate range test. A shortfall is the score of the best of 25 fixed learning rates (mean of
four seeds) minus the score of the run, as in `compare.py`; a diverged run has score 0. By default all families of tasks
are run.
"""

import sys
from typing import Any

import numpy as np
from compare import range_test
from ground_truth import SEEDS, load
from tasks import TASKS, Task
from training import train

KINDS: dict[str, dict[str, Any]] = {
    "cycle": {},
    "cycle, four triangles": {"cycles": 4, "rise": 0.5, "shape": "triangular"},
    "one_cycle": {"kind": "one_cycle"},
    "wsd": {"kind": "wsd"},
    "warm_restarts, one cycle": {"kind": "warm_restarts"},
    "warm_restarts, four cycles": {"kind": "warm_restarts", "cycles": 4},
}


def shortfalls(task: Task) -> Any:
    """Return the mean shortfalls of a task over the seeds whose range test gives bounds, shape (kinds,)."""
    steps, mark = np.arange(task.steps), load(task)["fixed"].mean(0).max()
    found = {seed: range_test(task, seed).bounds for seed in SEEDS}
    rates = [
        [one.schedule(total_steps=task.steps, **kind)(steps) for kind in KINDS.values()]
        for one in found.values()
        if one.usable
    ]
    mean = (mark - train(task, np.array(rates), [seed for seed in SEEDS if found[seed].usable])).mean(0)
    print(task.name, *(f"{value:+.4f}" for value in mean), flush=True)
    return mean


def main() -> None:
    """Print a row for each task, and then for each kind."""
    families = sys.argv[1:] or sorted({task.family for task in TASKS})
    tasks = [task for task in TASKS if task.family in families]
    found = np.array([shortfalls(task) for task in tasks])
    print(f"\n{len(tasks)} tasks of {', '.join(families)}; {len(SEEDS)} seeds\n")
    print("| kind | mean | to `cycle` | median | worst task |\n|---|---|---|---|---|")
    for kind, values in zip(KINDS, found.T, strict=True):
        more = values - found[:, 0]
        error = more.std(ddof=1) / len(tasks) ** 0.5
        numbers = f"{values.mean():+.4f} | {more.mean():+.4f} ± {error:.4f} | {np.median(values):+.4f}"
        print(f"| {kind} | {numbers} | {values.max():+.4f} |")


if __name__ == "__main__":
    main()
