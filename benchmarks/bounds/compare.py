"""Every tool's suggestion against the best of 25 fixed rates: one table, in all and by family of tasks.

    python benchmarks/bounds/compare.py [FIRST [LAST]]

A score is the accuracy, or R² of a regression, on validation data; a diverged run scores 0. The shortfall of a run is
the score of the best fixed rate, which `ground_truth.py` found by training at all of them, minus the run's. Every tool
runs its own sweep from the weights that training begins with; its suggestion is used as a fixed rate, and as the top of
one triangular cycle from a tenth of it. A tool without a suggestion leaves its user at the optimizer's default rate.
The last rows are what one may do instead of looking for a rate. Four seeds each.
"""

import sys
from collections import defaultdict
from typing import Any

import numpy as np
import optax
import peers
from ground_truth import SEEDS, load
from tasks import DEFAULT_RATE, TASKS, Task
from training import sweep, train

from cyclr import RangeTest, RangeTestResult
from cyclr.range_test.repeats import repeated


def range_test(task: Task, seed: int, **arguments: Any) -> RangeTestResult:
    """cyclr's range test of a task, as `cyclr.torch.range_test` and the others make it."""

    def run(repeat: int | None) -> RangeTestResult:
        test = RangeTest(**arguments)
        losses = sweep(task, test.learning_rates, seed, repeat or 0)
        for _ in test:
            test.record(losses[test.recorded])
        return test.result()

    return repeated(run, 0, None)


def _cyclr(task: Task, seed: int) -> tuple[Any, int, bool]:
    """The rates of training on cyclr's bounds, the steps that the test took, and whether there were bounds."""
    result = range_test(task, seed)
    steps = result.runs.size
    if not result.bounds.usable:
        return np.full(task.steps, DEFAULT_RATE[task.optimizer]), steps, False
    return result.bounds.schedule(task.steps)(np.arange(task.steps)), steps, True


def _cycled(rate: float, steps: int) -> Any:
    position = np.arange(steps) / (steps - 1)
    return rate * (0.1 + 0.9 * (1 - np.abs(2 * position - 1)))


def _unchosen(task: Task) -> dict[str, tuple[Any, str | None]]:
    """What one may do instead of choosing a rate: rates, and the optimizer if it is another one."""
    steps, default = np.arange(task.steps), DEFAULT_RATE[task.optimizer]
    ones = np.ones(task.steps)
    return {
        "default rate": (default * ones, None),
        "default rate, Optax' cosine": (optax.cosine_decay_schedule(default, task.steps)(steps), None),
        "default rate, Optax' one-cycle": (optax.cosine_onecycle_schedule(task.steps, default)(steps), None),
        "Adam at 1e-3": (1e-3 * ones, "adam"),
        "schedule-free AdamW": (ones, "schedule-free"),
        "Prodigy": (ones, "prodigy"),
        "D-Adaptation": (ones, "D-Adaptation"),
    }


def scores_of(task: Task, tools: dict[str, peers.Peer]) -> dict[str, tuple[Any, Any, int]]:
    """By the name of a way to choose: scores, shape (seeds,), extra steps, shape (seeds,), and seeds without a rate."""
    rates: dict[str, list[Any]] = defaultdict(list)
    extra: dict[str, list[int]] = defaultdict(list)
    missing: dict[str, int] = defaultdict(int)
    for seed in SEEDS:
        chosen, steps, found = _cyclr(task, seed)
        rates["cyclr"].append(chosen)
        extra["cyclr"].append(steps)
        missing["cyclr"] += not found
        losses = {}
        for name, peer in tools.items():
            key = (peer.first, peer.last, peer.steps)
            if key not in losses:
                losses[key] = sweep(task, np.geomspace(*key), seed)
            rate = peers.suggestion(peer, np.geomspace(*key), losses[key])
            used = DEFAULT_RATE[task.optimizer] if rate is None else rate
            for way, curve in ((name, np.full(task.steps, used)), (f"{name}, cycled", _cycled(used, task.steps))):
                rates[way].append(curve)
                extra[way].append(peer.steps)
                missing[way] += rate is None
    names = list(rates)
    together = train(task, np.stack([rates[name] for name in names], axis=1), SEEDS)
    found = {name: (together[:, i], np.array(extra[name]), missing[name]) for i, name in enumerate(names)}
    for name, (curve, optimizer) in _unchosen(task).items():
        score = train(task, curve[None], SEEDS, optimizer)[:, 0]
        found[name] = (score, np.zeros(len(SEEDS)), 0)
    return found


def main() -> None:
    tasks = TASKS[slice(*map(int, sys.argv[1:]))] if len(sys.argv) > 2 else TASKS[int([*sys.argv, 0][1]) :]
    tools = peers.installed()
    shortfalls: dict[str, list[Any]] = defaultdict(list)
    extra: dict[str, list[Any]] = defaultdict(list)
    failures: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for task in tasks:
        oracle = load(task)["fixed"].mean(0).max()
        for name, (scores, steps, missing) in scores_of(task, tools).items():
            shortfalls[name].append(oracle - scores)
            extra[name].append(steps)
            failures[name][0] += missing
            failures[name][1] += int((scores <= 0).sum())
        print(
            f"{task.name}: best fixed {oracle:.3f}, cyclr {oracle - shortfalls['cyclr'][-1].mean():.3f}",
            file=sys.stderr,
        )
    print(f"{len(tasks)} tasks, {len(SEEDS)} seeds\n")
    print("| way to choose | mean shortfall | worst task | worst run | extra steps | without a rate | diverged |")
    print("|---|---|---|---|---|---|---|")
    for name, rows in shortfalls.items():
        table = np.array(rows)
        none, diverged = failures[name]
        print(
            f"| {name} | {table.mean():+.4f} | {table.mean(1).max():+.3f} | {table.max():+.3f} | "
            f"{np.mean(extra[name]):.0f} | {none} | {diverged} |"
        )
    families = sorted({task.family for task in tasks})
    print("\n| way to choose | " + " | ".join(families) + " |\n|---|" + "---|" * len(families))
    for name, rows in shortfalls.items():
        means = [np.mean([row for task, row in zip(tasks, rows, strict=True) if task.family == f]) for f in families]
        print(f"| {name} | " + " | ".join(f"{mean:+.3f}" for mean in means) + " |")


if __name__ == "__main__":
    main()
