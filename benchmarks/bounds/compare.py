"""Every tool's suggestion against the best of 25 fixed rates: one table, in all and by family of tasks.

    python benchmarks/bounds/compare.py [FIRST [LAST]]

A score is the accuracy, or R² of a regression, on validation data; a diverged run scores 0. The shortfall of a run is
the score of the best fixed rate, which `ground_truth.py` found by training at all of them, minus the run's. Every tool
runs its own sweep from the weights that training begins with; its suggestion is used as a fixed rate, and as the top of
one triangular cycle from a tenth of it. A tool without a suggestion leaves its user at the optimizer's default rate.
The last rows are what one may do instead of looking for a rate. Four seeds each.

The results are stored in benchmarks/bounds/compared/, a file a task; what is there already is not run again.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import peers
from ground_truth import SEEDS, load, path_of
from tasks import DEFAULT_RATE, TASKS, Task
from training import sweep, train

from cyclr import RangeTestResult
from cyclr.range_test.repeats import Sweep

FOLDER = Path(__file__).with_name("compared")


def range_test(task: Task, seed: int, **arguments: Any) -> RangeTestResult:
    """cyclr's range test of a task, as `cyclr.torch.range_test` and the others make it."""

    sweep_of_task = Sweep(**arguments)

    def run(repeat: int | None) -> RangeTestResult:
        test = sweep_of_task.test()
        losses = sweep(task, test.learning_rates, seed, repeat or 0)
        for _ in test:
            test.record(losses[test.recorded])
        return test.result()

    return sweep_of_task.run(run)


def _cyclr(task: Task, seed: int) -> tuple[Any, int, bool]:
    """The rates of training on cyclr's bounds, the steps that the test took, and whether there were bounds."""
    result = range_test(task, seed)
    steps = result.runs.size
    if not result.bounds.usable:
        return np.full(task.steps, DEFAULT_RATE[task.optimizer]), steps, False
    return result.bounds.schedule(total_steps=task.steps)(np.arange(task.steps)), steps, True


def _cycled(rate: float, steps: int) -> Any:
    position = np.arange(steps) / (steps - 1)
    return rate * (0.1 + 0.9 * (1 - np.abs(2 * position - 1)))


def _values(schedule: Any, steps: Any) -> Any:
    return np.asarray(jax.vmap(schedule)(steps))


def _unchosen(task: Task) -> dict[str, tuple[Any, str | None]]:
    """What one may do instead of choosing a rate: rates, and the optimizer if it is another one."""
    steps, default = np.arange(task.steps), DEFAULT_RATE[task.optimizer]
    ones = np.ones(task.steps)
    return {
        "default rate": (default * ones, None),
        "default rate, Optax' cosine": (_values(optax.cosine_decay_schedule(default, task.steps), steps), None),
        "default rate, Optax' one-cycle": (_values(optax.cosine_onecycle_schedule(task.steps, default), steps), None),
        "Adam at 1e-3": (1e-3 * ones, "adam"),
        "schedule-free AdamW": (ones, "schedule-free"),
        "Prodigy": (ones, "prodigy"),
        "D-Adaptation": (ones, "D-Adaptation"),
    }


def run(task: Task, tools: dict[str, peers.Peer]) -> dict[str, dict[str, Any]]:
    """By the name of a way to choose: the scores and the extra steps of every seed, and the seeds without a rate."""
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
    found = {
        name: {"scores": together[:, i].tolist(), "steps": extra[name], "without": missing[name]}
        for i, name in enumerate(names)
    }
    for name, (curve, optimizer) in _unchosen(task).items():
        scores = train(task, curve[None], SEEDS, optimizer)[:, 0]
        found[name] = {"scores": scores.tolist(), "steps": [0] * len(SEEDS), "without": 0}
    return found


def _stored(task: Task) -> dict[str, dict[str, Any]]:
    path = FOLDER / path_of(task).with_suffix(".json").name
    if not path.exists():
        FOLDER.mkdir(exist_ok=True)
        path.write_text(json.dumps(run(task, peers.installed()), indent=1) + "\n", encoding="utf-8")
    found: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return found


def main() -> None:
    first, last = [*map(int, sys.argv[1:]), *(0, len(TASKS))[len(sys.argv) - 1 :]]
    tasks = TASKS[first:last]
    oracles = [load(task)["fixed"].mean(0).max() for task in tasks]
    found = []
    for task, oracle in zip(tasks, oracles, strict=True):
        found.append(_stored(task))
        print(
            f"{task.name}: best fixed {oracle:.3f}, cyclr {np.mean(found[-1]['cyclr']['scores']):.3f}", file=sys.stderr
        )
    print(f"{len(tasks)} tasks, {len(SEEDS)} seeds\n")
    print("| way to choose | mean shortfall | worst task | worst run | extra steps | without a rate | scores of 0 |")
    print("|---|---|---|---|---|---|---|")
    by_family: dict[str, dict[str, list[float]]] = {}
    for name in found[0]:
        scores = np.array([of_task[name]["scores"] for of_task in found])
        table = np.array(oracles)[:, None] - scores
        steps = np.mean([of_task[name]["steps"] for of_task in found])
        without = sum(of_task[name]["without"] for of_task in found)
        print(
            f"| {name} | {table.mean():+.4f} | {table.mean(1).max():+.3f} | {table.max():+.3f} | {steps:.0f} | "
            f"{without} | {(scores <= 0).sum()} |"
        )
        by_family[name] = defaultdict(list)
        for task, row in zip(tasks, table, strict=True):
            by_family[name][task.family].append(row.mean())
    families = list(dict.fromkeys(task.family for task in tasks))
    print("\n| way to choose | " + " | ".join(families) + " |\n|---|" + "---|" * len(families))
    for name, means in by_family.items():
        print(f"| {name} | " + " | ".join(f"{np.mean(means[family]):+.3f}" for family in families) + " |")


if __name__ == "__main__":
    main()
