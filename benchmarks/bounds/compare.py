"""Methods to choose a learning rate against the best of 25 fixed learning rates, for all tasks and by family of tasks.

    python benchmarks/bounds/compare.py [FIRST [LAST]]

A score is the accuracy, or R² of a regression, on validation data; a diverged run has score 0. `ground_truth.py` found
the best fixed learning rate by training with all 25 of them with seeds 0 to 3. The shortfall of a run is the score of
this best learning rate minus the score of the run. There is a table for the tasks that constants of cyclr were fitted
to, with these seeds and with new seeds, and a table for the tasks of `new_tasks.py`, to which nothing was fitted. With
new seeds the best fixed learning rate has a row: its score with the new seeds, against its score with the seeds that it
was chosen by.

- cyclr trains one cycle with its bounds. The row names the extra updates of `refine`. Extra steps are all updates of
  the range test, including repeats, the second sweep and trial cycles, and the batches that trials measure at their
  ends.
- Every other tool runs its own sweep from the initial weights of the training. Its suggestion is used as a fixed
  learning rate, and as the top of one triangular cycle that starts at a tenth of it. If a tool has no suggestion, the
  default learning rate of the optimizer is used.
- A grid search trains with some of the 25 learning rates and some of the seeds, takes the learning rate with the best
  mean, and is judged by the other seeds. All choices of the seeds are averaged. Extra steps are the updates of the
  whole search.
- Other rows are alternatives to a search for a learning rate.

Scores are stored in benchmarks/bounds/compared/, a file for each task and set of seeds. Stored rows are not run again.
"""

import functools
import itertools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import peers
from ground_truth import NEW_SEEDS, SEEDS, load, path_of
from new_tasks import ALL, NEW_TASKS
from tasks import DEFAULT_RATE, TASKS, Task
from training import batches, sweep, train

from cyclr import RangeTest, RangeTestResult
from cyclr.range_test.refine import TrialTest
from cyclr.range_test.repeats import Sweep

FOLDER = Path(__file__).with_name("compared")

BUDGETS = {"cyclr": 0, **{f"cyclr, refine={updates}": updates for updates in (150, 250, 300, 600, 1200)}}
"""Rows of cyclr, by the extra updates that `refine` may spend."""

GRIDS = {
    "grid search, 7 rates, 1 seed": (4, 1),
    "grid search, 7 rates, 2 seeds": (4, 2),
    "grid search, 25 rates, 1 seed": (1, 1),
    "grid search, 25 rates, 2 seeds": (1, 2),
}
"""Grid searches: which of the 25 rates they try (every fourth, or every one), and with how many seeds."""


class Choice(NamedTuple):
    """Rates of a whole run, the extra steps that finding them took, and False if the default rate had to do."""

    rates: Any
    steps: int = 0
    found: bool = True


class Way(NamedTuple):
    """A way to choose rates for a task and a seed, and the optimizer if it is another one than the task's."""

    choose: Callable[[Task, int], Choice]
    optimizer: str | None = None


class Row(NamedTuple):
    """Runs of a task: scores, mean extra steps, and number of runs that used the default learning rate."""

    scores: Sequence[float]
    steps: float
    without: int


def range_test(
    task: Task, seed: int, count: Callable[[int], object] = lambda updates: None, **arguments: Any
) -> RangeTestResult:
    """Return cyclr's range test of a task, as `cyclr.torch.range_test` and the other adapters make it.

    `count` is called with the updates of every sweep and every trial.
    """

    def drive(repeat: int | None, test: RangeTest, careful: bool) -> None:
        order = order_of(task, test, seed) if isinstance(test, TrialTest) else None
        rates = test.learning_rates if order is None else test.learning_rates[: len(order)]
        for loss, _ in zip(sweep(task, rates, seed, repeat or 0, order), test, strict=False):
            test.record(loss)
        test.stop("data_exhausted")
        count(test.recorded)

    return Sweep(**arguments).run(drive)


def order_of(task: Task, test: TrialTest, seed: int) -> Any:
    """Return the samples of every update of a trial, the held-out samples last, shape (updates, batch)."""
    one_pass = batches(task, 50 + seed, max(len(task.dataset.x) // task.batch, 1))
    twin, order = TrialTest(test.top, test.length), []
    for rows, _ in zip(twin.batches(lambda: one_pass), twin, strict=False):
        order.append(rows)
        twin.record(1.0)
    return np.array(order)


def default_rates(task: Task) -> Any:
    """Return the optimizer's default learning rate for every update."""
    return np.full(task.steps, DEFAULT_RATE[task.optimizer])


def with_cyclr(task: Task, seed: int, refine: int = 0) -> Choice:
    """Return one cycle with cyclr's bounds, which are found with the given number of extra updates."""
    updates: list[int] = []
    result = range_test(task, seed, updates.append, total_steps=task.steps, refine=refine)
    if not result.bounds.usable:
        return Choice(default_rates(task), sum(updates), found=False)
    return Choice(result.bounds.schedule(total_steps=task.steps)(np.arange(task.steps)), sum(updates))


def _with_known_rate(task: Task, seed: int) -> Choice:
    truth = load(task)
    rate = truth["grid"][truth["fixed"].mean(0).argmax()]
    return Choice(np.full(task.steps, rate), truth["fixed"].size * task.steps)


@functools.lru_cache(maxsize=8)
def _losses(task: Task, seed: int, first: float, last: float, steps: int) -> Any:
    return sweep(task, np.geomspace(first, last, steps), seed)


def _with_peer(peer: peers.Peer, shape: Callable[[int], Any], task: Task, seed: int) -> Choice:
    key = (peer.first, peer.last, peer.steps)
    rate = peers.suggestion(peer, np.geomspace(*key), _losses(task, seed, *key))
    rates = (DEFAULT_RATE[task.optimizer] if rate is None else rate) * shape(task.steps)
    return Choice(rates, peer.steps, rate is not None)


def _cycled(steps: int) -> Any:
    position = np.arange(steps) / (steps - 1)
    return 0.1 + 0.9 * (1 - np.abs(2 * position - 1))


def _with_optax(make: Callable[[float, int], Any], task: Task, seed: int) -> Choice:
    schedule = make(DEFAULT_RATE[task.optimizer], task.steps)
    return Choice(np.asarray(jax.vmap(schedule)(np.arange(task.steps))))


def _at(rate: float, optimizer: str) -> Way:
    return Way(lambda task, seed: Choice(np.full(task.steps, rate)), optimizer)


CYCLR = {name: Way(functools.partial(with_cyclr, refine=updates)) for name, updates in BUDGETS.items()}

KNOWN = {"best of 25 fixed rates, by seeds 0 to 3": Way(_with_known_rate)}
"""The best fixed learning rate, trained with new seeds."""


def others() -> dict[str, Way]:
    """Return the methods to choose a learning rate without cyclr."""
    found = {}
    for name, peer in peers.installed().items():
        found[name] = Way(functools.partial(_with_peer, peer, np.ones))
        found[f"{name}, cycled"] = Way(functools.partial(_with_peer, peer, _cycled))
    cosine, one_cycle = optax.cosine_decay_schedule, optax.cosine_onecycle_schedule
    return {
        **found,
        "default rate": Way(lambda task, seed: Choice(default_rates(task))),
        "default rate, Optax' cosine": Way(functools.partial(_with_optax, cosine)),
        "default rate, Optax' one-cycle": Way(
            functools.partial(_with_optax, lambda rate, steps: one_cycle(steps, rate))
        ),
        "Adam at 1e-3": _at(1e-3, "adam"),
        "schedule-free AdamW": _at(1.0, "schedule-free"),
        "Prodigy": _at(1.0, "prodigy"),
        "D-Adaptation": _at(1.0, "D-Adaptation"),
    }


def run(task: Task, seeds: range, ways: dict[str, Way]) -> dict[str, dict[str, Any]]:
    """Return scores and extra steps of every seed, and the number of seeds without a suggestion, by method."""
    found = {}
    for optimizer in dict.fromkeys(way.optimizer for way in ways.values()):
        chosen = {
            name: [way.choose(task, seed) for seed in seeds] for name, way in ways.items() if way.optimizer == optimizer
        }
        rates = np.stack([[choice.rates for choice in row] for row in chosen.values()], axis=1)
        scores = train(task, rates, seeds, optimizer)
        for i, (name, row) in enumerate(chosen.items()):
            steps, without = [choice.steps for choice in row], sum(not choice.found for choice in row)
            found[name] = {"scores": scores[:, i].tolist(), "steps": steps, "without": without}
    return found


def stored(task: Task, seeds: range, ways: dict[str, Way]) -> dict[str, Row]:
    """Return the rows of a task by name. Missing rows are run and stored."""
    suffix = ".json" if seeds == SEEDS else f".seeds-{seeds[0]}-to-{seeds[-1]}.json"
    path = FOLDER / path_of(task).with_suffix(suffix).name
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    missing = {name: way for name, way in ways.items() if name not in found}
    if missing:
        found |= run(task, seeds, missing)
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return {
        name: Row(found[name]["scores"], float(np.mean(found[name]["steps"])), found[name]["without"]) for name in ways
    }


def mark(task: Task) -> float:
    """Return the mean score of the best fixed learning rate."""
    return float(load(task)["fixed"].mean(0).max())


def grid_search(task: Task, every: int, known: int) -> Row:
    """Choose a fixed rate by the mean over `known` seeds, and judge by the others. Of equal rates take the middle."""
    fixed, scores = load(task)["fixed"][:, ::every], []
    for chosen in itertools.combinations(SEEDS, known):
        means = fixed[list(chosen)].mean(0)
        best = np.flatnonzero(means == means.max())
        scores += np.delete(fixed[:, best[len(best) // 2]], chosen).tolist()
    return Row(scores, fixed.shape[1] * known * task.steps, 0)


def report(tasks: Sequence[Task], seeds: range, ways: dict[str, Way]) -> None:
    """Print the table of all tasks, and the table by family."""
    rows: list[dict[str, Row]] = []
    for task in tasks:
        rows.append(stored(task, seeds, ways))
        if seeds == SEEDS:
            rows[-1] |= {name: grid_search(task, *grid) for name, grid in GRIDS.items()}
        cyclr = np.mean(rows[-1]["cyclr"].scores)
        print(f"{task.name}: best fixed {mark(task):.3f}, cyclr {cyclr:.3f}", file=sys.stderr)
    marks = np.array([mark(task) for task in tasks])
    print("| way to choose | mean | median | worst task | worst run | extra steps | without a rate | scores of 0 |")
    print("|---|---|---|---|---|---|---|---|")
    families = list(dict.fromkeys(task.family for task in tasks))
    by_family = []
    for name in rows[0]:
        scores = np.array([of_task[name].scores for of_task in rows])
        shortfalls = marks[:, None] - scores
        means = shortfalls.mean(1)
        steps = np.mean([of_task[name].steps for of_task in rows])
        without = sum(of_task[name].without for of_task in rows)
        print(
            f"| {name} | {means.mean():+.4f} | {np.median(means):+.4f} | {means.max():+.3f} | "
            f"{shortfalls.max():+.3f} | {steps:,.0f} | {without} | {(scores <= 0).mean():.0%} |"
        )
        of_family = [means[[task.family == family for task in tasks]].mean() for family in families]
        by_family.append(f"| {name} | {' | '.join(f'{mean:+.3f}' for mean in of_family)} |")
    print(f"\n| way to choose | {' | '.join(families)} |\n|---|{'---|' * len(families)}")
    print("\n".join(by_family))


def main() -> None:
    first, last = [*map(int, sys.argv[1:]), *(0, len(ALL))[len(sys.argv) - 1 :]]
    FOLDER.mkdir(exist_ok=True)
    for title, tasks, seeds, ways in (
        ("tasks that constants were chosen on", TASKS, SEEDS, {**CYCLR, **others()}),
        ("the same tasks with new seeds", TASKS, NEW_SEEDS, {**CYCLR, **KNOWN}),
        ("tasks that nothing was fitted to", NEW_TASKS, SEEDS, {**CYCLR, **others()}),
    ):
        if chosen := [task for task in ALL[first:last] if task in tasks]:
            print(f"\n{title}: {len(chosen)}, seeds {seeds[0]} to {seeds[-1]}\n")
            report(chosen, seeds, ways)


if __name__ == "__main__":
    main()
