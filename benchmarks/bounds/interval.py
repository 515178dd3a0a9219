"""How often the interval of max_lr contains the max_lr of a range test with another seed.

    python benchmarks/bounds/interval.py [trials]

Single range tests of eight seeds: 0 to 3, on which the constants of `cyclr.bounds.interval` were measured, and 4 to 7.
Another seed means other initial weights and another order of the data. Every test of a task is compared with every
other test of the task; tests without bounds are left out. The first table has rows for old and new seeds, for the tasks
that nothing was fitted to, for other sweeps, and for constants that are measured without one family of tasks and judged
on this family. The second table has the share of pairs inside the 80 % interval, for the lowest, the middle and the
highest third of the scatter, from smooth to noisy curves.

With `trials`, only range tests with refine=600 are judged, which change max_lr by trial cycles. They use the first two
tasks of every family of dense networks and seeds 0 to 3, and take about ten minutes on one core.

Sweeps that `ground_truth.py` does not make are stored in benchmarks/bounds/interval.npz. Missing sweeps are made, in
about twenty minutes on one core.
"""

import itertools
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from compare import range_test
from ground_truth import NEW_SEEDS, SEEDS, SWEEPS, load
from new_tasks import ALL, NEW_TASKS
from stability import result_of
from tasks import TASKS, Task
from training import sweep

from cyclr import RangeTest, RangeTestResult
from cyclr.bounds.interval import LENGTH

PATH = Path(__file__).with_name("interval.npz")
SHARES = np.array([0.5, 0.8, 0.9, 0.95])


class Pair(NamedTuple):
    """Two tests of one task: |ln max_lr - ln max_lr'|, the scatter of the first test, and both seeds."""

    distance: float
    scatter: float
    seeds: tuple[int, int]
    family: str
    status: str


def sweeps() -> dict[str, Any]:
    """Return the losses of the default sweep by the name of the task, shape (seeds, 150)."""
    found = dict(np.load(PATH)) if PATH.exists() else {}
    for task in ALL:
        if task.name not in found:
            seeds = NEW_SEEDS if task in TASKS else (*SEEDS, *NEW_SEEDS)
            losses = [sweep(task, RangeTest().learning_rates, seed) for seed in seeds]
            found[task.name] = np.array(losses, np.float32)
            np.savez_compressed(PATH, **found)
            jax.clear_caches()
    known = {task.name: load(task)["sweep default"] for task in TASKS}
    return {name: np.concatenate([known[name], new]) if name in known else new for name, new in found.items()}


def pairs_of(task: Task, results: Sequence[RangeTestResult]) -> list[Pair]:
    """Return every test of a task with every other test, if both have bounds."""
    found = []
    for first, second in itertools.permutations(range(len(results)), 2):
        one, other = results[first].bounds, results[second].bounds
        if one.usable and other.usable:
            low, high = np.log(results[first].interval(1 - np.exp(-1)))
            # One of the ends may be the last rate of the test.
            scatter = max(high - np.log(one.max_lr), np.log(one.max_lr) - low) / LENGTH
            distance = abs(float(np.log(one.max_lr / other.max_lr)))
            found.append(Pair(distance, scatter, (first, second), task.family, one.status))
    return found


def results_of(losses: Any, name: str = "default") -> list[RangeTestResult]:
    """Return the results of the recorded losses of a sweep, shape (seeds, steps)."""
    return [result_of(name, row.astype(float)) for row in losses]


def trial_pairs() -> list[Pair]:
    """Pairs of range tests with trial cycles."""
    count, found = Counter(), []
    for task in TASKS:
        count[task.family] += 1
        if count[task.family] <= 2 and task.family not in ("convolutional", "recurrent", "attention"):
            results = [range_test(task, seed, total_steps=task.steps, refine=600) for seed in SEEDS]
            found += pairs_of(task, results)
            jax.clear_caches()
    return found


def distances(pairs: Iterable[Pair]) -> Any:
    """Distances over scatter, shape (pairs,)."""
    return np.array([pair.distance / pair.scatter for pair in pairs])


def length_of(pairs: Iterable[Pair]) -> float:
    """Return the constant for these pairs: the mean over shares of quantile / -ln(1 - share)."""
    return float(np.mean(np.quantile(distances(pairs), SHARES) / -np.log1p(-SHARES)))


def print_tables(rows: dict[str, list[Pair]], left_out: Any = None) -> None:
    """Print the share of pairs inside the interval, in all and by thirds of the scatter. `left_out` is one more row."""
    limits = -LENGTH * np.log1p(-SHARES)
    held = {name: distances(pairs)[:, None] <= limits for name, pairs in rows.items()}
    print(f"| tests | pairs | {' | '.join(f'{share:.0%}' for share in SHARES)} | median factor at 80% |")
    print("|---|---|---|---|---|---|---|")
    for name, pairs in rows.items():
        factor = np.exp(limits[1] * np.median([pair.scatter for pair in pairs]))
        print(
            f"| {name} | {len(pairs)} | {' | '.join(f'{share:.0%}' for share in held[name].mean(0))} | {factor:.2f} |"
        )
    if left_out is not None:
        shares = " | ".join(f"{share:.0%}" for share in left_out.mean(0))
        print(f"| 54 tasks, each family left out | {len(left_out)} | {shares} | |")
    print("\n| tests | quiet third | middle third | noisy third |\n|---|---|---|---|")
    for name, pairs in rows.items():
        order = np.array_split(np.argsort([pair.scatter for pair in pairs], kind="stable"), 3)
        print(f"| {name} | {' | '.join(f'{held[name][third, 1].mean():.0%}' for third in order)} |")


def main() -> None:
    if sys.argv[1:] == ["trials"]:
        print_tables({"refine=600": trial_pairs()})
        return
    losses = sweeps()
    pairs = [pair for task in TASKS for pair in pairs_of(task, results_of(losses[task.name]))]
    unseen = [pair for task in NEW_TASKS for pair in pairs_of(task, results_of(losses[task.name]))]
    old = [pair for pair in pairs if max(pair.seeds) < 4]
    rows = {
        "54 tasks, old seeds": old,
        "54 tasks, new seeds": [pair for pair in pairs if min(pair.seeds) >= 4],
        "54 tasks, old against new seeds": [pair for pair in pairs if min(pair.seeds) < 4 <= max(pair.seeds)],
        "tasks that nothing was fitted to": unseen,
    }
    for name in (name for name in SWEEPS if "over" in name):
        rows[f"54 tasks, old seeds, {name}"] = [
            pair for task in TASKS for pair in pairs_of(task, results_of(load(task)[f"sweep {name}"], name))
        ]
    left_out = []
    for family in dict.fromkeys(pair.family for pair in pairs):
        length = length_of(pair for pair in pairs if pair.family != family)
        inside = [pair for pair in pairs if pair.family == family]
        left_out.append(distances(inside)[:, None] <= -length * np.log1p(-SHARES))
    print_tables(rows, np.concatenate(left_out))
    print("\n| family | pairs | 80% |\n|---|---|---|")
    for family in dict.fromkeys(pair.family for pair in pairs + unseen):
        held = distances(pair for pair in pairs + unseen if pair.family == family) <= -LENGTH * np.log(0.2)
        print(f"| {family} | {len(held)} | {held.mean():.0%} |")
    quantiles = np.quantile(distances(old), SHARES)
    print("\nquantiles, old seeds:", " ".join(f"{q:.2f}" for q in quantiles))
    print("over -ln(1 - share):", " ".join(f"{q:.2f}" for q in quantiles / -np.log1p(-SHARES)))
    flat = [pair.distance for pair in pairs if pair.status == "flat"]
    print(f"scatter of {len(flat)} pairs of flat tests: {np.mean(flat) / LENGTH:.2f}")


if __name__ == "__main__":
    main()
