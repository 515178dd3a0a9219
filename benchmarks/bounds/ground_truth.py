"""The best scores of every task, found by training with 25 fixed learning rates, and with cycles of many heights.

    python benchmarks/bounds/ground_truth.py [FIRST [LAST]]

Every run is made with four seeds. The results are stored in benchmarks/bounds/ground_truth/, a file for each task, with
the losses of range tests of four seeds. A task whose file exists is not run again. All tasks take little more than an
hour on two cores. `compare.py` and `leave_one_out.py` read the results. Each file holds

- `grid`, `fixed`: the fixed learning rates, and their scores, shape (seeds, rates);
- `sweep …`: the losses of range tests, shape (seeds, steps);
- for the tasks that constants were fitted to, `peaks` and `cycles`: 14 heights, and the scores of cycles of several
  shapes up to these heights, shape (seeds, shapes, heights);
- for the other tasks, `tops` and `heights`: 26 heights, and the scores of default cycles up to these heights, shape
  (seeds, heights).
"""

import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from new_tasks import ALL, NEW_TASKS
from tasks import Task
from training import sweep, train

from cyclr import Cyclical

FOLDER = Path(__file__).with_name("ground_truth")
SEEDS = range(4)
NEW_SEEDS = range(4, 8)
MOMENTUM_FREE_SCALE = ("sgd", "momentum", "nesterov")
"""Optimizers whose best rate is inversely proportional to the scale of the loss."""

CYCLES: dict[str, dict[str, Any]] = {
    "triangular": {"rise": 0.3},
    "parabolic": {"rise": 0.3, "shape": "parabolic"},
    "parabolic, short rise": {"rise": 0.15, "shape": "parabolic"},
    "parabolic, long rise": {"rise": 0.5, "shape": "parabolic"},
    "parabolic, from a thousandth": {"rise": 0.3, "shape": "parabolic", "ratio": 1000},
    "parabolic, from a twentieth": {"rise": 0.3, "shape": "parabolic", "ratio": 20},
}
"""One cycle over the whole run, each from a hundredth of its height unless it says otherwise."""

SWEEPS = {
    "default": (1e-6, 10.0, 150),
    "fewer steps": (1e-6, 10.0, 100),
    "100 steps over eight decades": (1e-7, 10.0, 100),
    "400 steps over eight decades": (1e-7, 10.0, 400),
    "100 steps over five decades": (1e-5, 1.0, 100),
}


def grid_of(task: Task) -> Any:
    """25 fixed rates over six decades, shape (25,)."""
    return np.geomspace(1e-5, 10, 25) / (task.scale if task.optimizer in MOMENTUM_FREE_SCALE else 1.0)


def cycle(task: Task, peak: float, rise: float, shape: Any = "triangular", ratio: float = 100) -> Any:
    """Return the learning rate of every update of one cycle up to `peak`, shape (steps,)."""
    schedule = Cyclical.over(task.steps, 1, peak / ratio, peak, rise=rise, shape=shape)
    return schedule(np.arange(task.steps))


def path_of(task: Task) -> Path:
    """Return the file of the results of a task."""
    return FOLDER / (re.sub(r"[^a-z0-9]+", "-", task.name) + ".npz")


def load(task: Task) -> dict[str, Any]:
    """Return the stored results of a task."""
    with np.load(path_of(task), allow_pickle=False) as stored:
        return dict(stored)


def run(task: Task) -> dict[str, Any]:
    """Train a task with all fixed learning rates and cycles, and store the results."""
    grid = grid_of(task)
    fixed = train(task, np.repeat(grid[:, None], task.steps, axis=1), SEEDS)
    best = grid[fixed.mean(0).argmax()]
    found = {"grid": grid, "fixed": fixed}
    if task in NEW_TASKS:
        found["tops"] = tops = best * 10 ** (np.arange(-9, 17) / 6)
        found["heights"] = train(task, [cycle(task, top, **CYCLES["parabolic"]) for top in tops], SEEDS)
    else:
        found["peaks"] = peaks = best * 10 ** (np.arange(-5, 9) / 6)
        rates = [cycle(task, peak, **arguments) for arguments in CYCLES.values() for peak in peaks]
        found["cycles"] = train(task, rates, SEEDS).reshape(len(SEEDS), len(CYCLES), len(peaks))
    for name, spec in SWEEPS.items():
        losses = [sweep(task, np.geomspace(*spec), seed) for seed in SEEDS]
        found[f"sweep {name}"] = np.array(losses, np.float32)
    return found


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    first, last = [*map(int, sys.argv[1:]), *(0, len(ALL))[len(sys.argv) - 1 :]]
    for task in ALL[first:last]:
        if not path_of(task).exists():
            began = time.perf_counter()
            found = run(task)
            np.savez_compressed(path_of(task), **found)
            best, seconds = found["fixed"].mean(0).max(), time.perf_counter() - began
            print(f"{task.name}: best fixed {best:.3f}  ({seconds:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
