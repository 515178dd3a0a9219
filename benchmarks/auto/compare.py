"""AutoCycle with bounds that are wrong by a factor of up to 30, beside the plain cycle and other methods.

    python benchmarks/auto/compare.py [FIRST [LAST]]

The tasks, the seeds 0 to 3, the scores and the shortfalls are the same as in `benchmarks/bounds/compare.py`. cyclr's
bounds of a task and a seed come from its range test with `refine=0`. Both bounds are multiplied by 1/30, 1/10, 1/3, 1,
3, 10 or 30, and a run of the task's usual length is trained with them.

- plain: one cycle, `bounds.schedule(total_steps)`.
- AutoCycle: `cyclr.AutoCycle(total_steps, bounds, state=...)`, which may restore the weights, the optimizer's state and
  the random key, but not the data. Without bounds: `AutoCycle(total_steps, state=..., usual_lr=...)` with the default
  learning rate of the optimizer. Updates of its range test, if there is one, are updates of the run.
- torch's ReduceLROnPlateau (after each epoch, patience 1) and transformers' GreedyLR (defaults, but without limits of
  the learning rate): both start from max_lr times the factor. They set the learning rate of every update, like the
  others.
- Adam at 1e-3, Prodigy, schedule-free AdamW and D-Adaptation: as stored by `benchmarks/bounds/compare.py`.

All runs of a task are trained side by side in one compiled step. Runs with learning rates that are much too high are
chaotic: the order of additions decides their score, so differences between single runs mean nothing.

A run is dead if its score is below a tenth of the mark. "calm lowered" is the number of runs with factors from 1/30 to
1 whose learning rate was lowered. Scores and events are stored in benchmarks/auto/compared/, a file for each task.
Stored rows are not run again. A run of AutoCycle without events must have the score of the plain run beside it, to the
last bit.
"""

import json
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import torch
from transformers.optimization import GreedyLR

sys.path.insert(0, str(Path(__file__).parents[1] / "bounds"))
from compare import FOLDER as FOLDER_OF_BOUNDS
from compare import mark, range_test
from ground_truth import SEEDS, path_of
from new_tasks import ALL, NEW_TASKS
from tasks import DEFAULT_RATE, OPTIMIZERS, TASKS, Task, score_of
from training import batches, initial, update_of

from cyclr import AutoCycle, Bounds

FOLDER = Path(__file__).with_name("compared")

FACTORS = {"1/30": 1 / 30, "1/10": 1 / 10, "1/3": 1 / 3, "1": 1.0, "3": 3.0, "10": 10.0, "30": 30.0}
CALM = ("1/30", "1/10", "1/3", "1")
WITHOUT = "without a number"
REFERENCES = ("Adam at 1e-3", "Prodigy", "schedule-free AdamW", "D-Adaptation")


class Driver(Protocol):
    """The object that sets the learning rate of every update of a run."""

    @property
    def lr(self) -> float:
        """Return the learning rate of the next update."""

    def step(self, loss: float) -> None:
        """Record the loss of the update."""


class Stack:
    """The parameters, their state, the optimizer's state and the random key of all runs, side by side."""

    def __init__(self, task: Task, rows: Sequence[int]) -> None:
        transform = OPTIMIZERS[task.optimizer]()
        starts = []
        for seed in rows:
            parameters, state = initial(task, seed)
            starts.append((parameters, state, transform.init(parameters), jax.random.key(100 + seed)))
        self.values = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts)
        self._update = jax.jit(jax.vmap(update_of(task, transform)))
        self._put = jax.jit(lambda to, of, row: jax.tree.map(lambda a, b: a.at[row].set(b[row]), to, of))
        model, score, data = task.model(task.dataset), score_of(task), task.dataset

        def score_at(parameters: Any, state: Any, _: Any, key: Any) -> Any:
            return score(
                model.apply(parameters, state, jnp.asarray(data.x_val), key, False)[0], jnp.asarray(data.y_val)
            )

        self._scores = jax.jit(jax.vmap(score_at))

    def update(self, samples: Any, rates: Any) -> list[float]:
        """Update all runs, and return their losses."""
        self.values, losses = self._update(self.values, (samples, rates))
        return np.asarray(losses, np.float64).tolist()

    def restore(self, values: Any, row: int) -> None:
        """Restore the state of a run from an earlier stack."""
        self.values = self._put(self.values, values, row)

    def scores(self) -> Any:
        """Return the scores on the validation data."""
        return np.asarray(self._scores(*self.values), np.float64)


class RunState(NamedTuple):
    """One run of a stack, for AutoCycle. Arrays never change, so a copy is a reference to the whole stack."""

    stack: Stack
    row: int

    def copy(self) -> Any:
        return self.stack.values

    def restore(self, copy: Any) -> None:
        self.stack.restore(copy, self.row)


class Plain:
    """A driver with given learning rates."""

    def __init__(self, rates: Any) -> None:
        self._rates = iter([*rates, 0.0])
        self.lr = next(self._rates)

    def step(self, loss: float) -> None:
        self.lr = next(self._rates)


class Peer:
    """A driver with a torch scheduler that gets the mean loss after each fixed number of updates."""

    def __init__(self, lr: float, make: Callable[[Any], Any], every: int) -> None:
        self._optimizer = torch.optim.SGD([torch.zeros(1)], lr)
        self._scheduler, self._every, self._losses = make(self._optimizer), every, list[float]()

    @property
    def lr(self) -> float:
        return float(self._optimizer.param_groups[0]["lr"])

    def step(self, loss: float) -> None:
        self._losses.append(loss)
        if len(self._losses) == self._every:
            self._scheduler.step(float(np.mean(self._losses)))
            self._losses.clear()


def usual(task: Task) -> float:
    """Return the default learning rate of the optimizer."""
    return DEFAULT_RATE[task.optimizer]


def _plain(task: Task, bounds: Bounds, state: RunState) -> Driver:
    return Plain(bounds.schedule(total_steps=task.steps)(np.arange(task.steps)))


def _auto(task: Task, bounds: Bounds, state: RunState) -> Driver:
    return AutoCycle(task.steps, bounds, state=state)


def _auto_without(task: Task, bounds: Bounds, state: RunState) -> Driver:
    return AutoCycle(task.steps, state=state, usual_lr=usual(task))


def _plateau(task: Task, bounds: Bounds, state: RunState) -> Driver:
    def make(optimizer: Any) -> Any:
        return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)

    return Peer(bounds.numbers[1], make, max(len(task.dataset.x) // task.batch, 1))


def _greedy(task: Task, bounds: Bounds, state: RunState) -> Driver:
    return Peer(bounds.numbers[1], lambda optimizer: GreedyLR(optimizer, min_lr=0.0, max_lr=float("inf")), 1)


WAYS: dict[str, Callable[[Task, Bounds, RunState], Driver]] = {
    "plain": _plain,
    "AutoCycle": _auto,
    "ReduceLROnPlateau": _plateau,
    "GreedyLR": _greedy,
}

ROWS = {
    **{f"{name}, × {factor}": (make, times) for name, make in WAYS.items() for factor, times in FACTORS.items()},
    f"AutoCycle, {WITHOUT}": (_auto_without, 1.0),
}
"""By the name of a row: the function that creates the driver of a run, and the factor of the run's bounds."""


def bounds_of(task: Task, seed: int) -> tuple[float, float]:
    """Return base_lr and max_lr of a range test, or bounds from the usual learning rate if the test gives none."""
    bounds = range_test(task, seed, total_steps=task.steps, refine=0).bounds
    return bounds.numbers if bounds.usable else (usual(task) / 100, usual(task))


def run(task: Task, bounds: Sequence[tuple[float, float]], names: Sequence[str]) -> dict[str, Any]:
    """Return scores and events of every seed, by the name of the row. All runs are trained side by side."""
    stack = Stack(task, [seed for _ in names for seed in SEEDS])
    order = np.stack([batches(task, seed, task.steps) for _ in names for seed in SEEDS])
    drivers: list[Driver] = []
    for name in names:
        make, times = ROWS[name]
        for base_lr, max_lr in bounds:
            own = Bounds(base_lr * times, max_lr * times, "no_divergence", "")
            drivers.append(make(task, own, RunState(stack, len(drivers))))
    for step in range(task.steps):
        losses = stack.update(order[:, step], np.array([driver.lr for driver in drivers], np.float32))
        for driver, loss in zip(drivers, losses, strict=True):
            driver.step(loss)
    scores = stack.scores().reshape(len(names), len(SEEDS)).tolist()
    found: dict[str, Any] = {}
    for i, name in enumerate(names):
        own_drivers = drivers[i * len(SEEDS) : (i + 1) * len(SEEDS)]
        events = [[[e.step, e.what] for e in getattr(driver, "events", ())] for driver in own_drivers]
        found[name] = {"scores": scores[i], "events": events}
    return found


def stored(task: Task) -> dict[str, Any]:
    """Return the rows of a task. Missing rows are run and stored."""
    path = FOLDER / path_of(task).with_suffix(".json").name
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"bounds": None, "rows": {}}
    if missing := [name for name in ROWS if name not in found["rows"]]:
        found["bounds"] = found["bounds"] or [bounds_of(task, seed) for seed in SEEDS]
        found["rows"] |= run(task, found["bounds"], missing)
        found["rows"] = {name: found["rows"][name] for name in ROWS}
        path.write_text(json.dumps(found) + "\n", encoding="utf-8")
        jax.clear_caches()
    rows: dict[str, Any] = found["rows"]
    others = json.loads((FOLDER_OF_BOUNDS / path.name).read_text(encoding="utf-8"))
    return rows | {name: {"scores": others[name]["scores"], "events": [[]] * len(SEEDS)} for name in REFERENCES}


def report(tasks: Sequence[Task]) -> None:
    """Print the table of all tasks, and the table by family."""
    rows = []
    for task in tasks:
        rows.append(stored(task))
        print(task.name, file=sys.stderr, flush=True)
    marks = np.array([mark(task) for task in tasks])
    families = list(dict.fromkeys(task.family for task in tasks))
    print("| from | mean | median | worst task | worst run | dead | lowered | raised | other events |")
    print("|---|---|---|---|---|---|---|---|---|")
    by_family, calm = [], 0
    for name in rows[0]:
        scores = np.array([of_task[name]["scores"] for of_task in rows])
        shortfalls = marks[:, None] - scores
        means = shortfalls.mean(1)
        dead = (scores < 0.1 * marks[:, None]).sum()
        kinds = [{what for _, what in events} for of_task in rows for events in of_task[name]["events"]]
        lowered, raised = (sum(what in of_run for of_run in kinds) for what in ("lowered", "raised"))
        other = sum(bool(of_run - {"lowered", "raised"}) for of_run in kinds)
        calm += lowered if name.rpartition("× ")[2] in CALM else 0
        print(
            f"| {name} | {means.mean():+.4f} | {np.median(means):+.4f} | {means.max():+.3f} | "
            f"{shortfalls.max():+.3f} | {dead} | {lowered} | {raised} | {other} |"
        )
        of_family = [means[[task.family == family for task in tasks]].mean() for family in families]
        by_family.append(f"| {name} | {' | '.join(f'{mean:+.3f}' for mean in of_family)} |")
    differing = sum(
        not events and a != b
        for of_task in rows
        for factor in FACTORS
        for a, b, events in zip(
            of_task[f"plain, × {factor}"]["scores"],
            of_task[f"AutoCycle, × {factor}"]["scores"],
            of_task[f"AutoCycle, × {factor}"]["events"],
            strict=True,
        )
    )
    print(f"\nruns without events that differ from the plain run: {differing}")
    print(f"calm lowered: {calm} of {len(tasks) * len(SEEDS) * len(CALM)}")
    print(f"\n| from | {' | '.join(families)} |\n|---|{'---|' * len(families)}")
    print("\n".join(by_family))


def main() -> None:
    first, last = [*map(int, sys.argv[1:]), *(0, len(ALL))[len(sys.argv) - 1 :]]
    FOLDER.mkdir(exist_ok=True)
    warnings.filterwarnings("ignore", "AutoCycle: ")
    for title, tasks in (
        ("tasks that the constants of bounds were chosen on", TASKS),
        ("tasks that nothing was fitted to", NEW_TASKS),
    ):
        if chosen := [task for task in ALL[first:last] if task in tasks]:
            print(f"\n{title}: {len(chosen)}, seeds {SEEDS[0]} to {SEEDS[-1]}\n")
            report(chosen)


if __name__ == "__main__":
    main()
