"""How often the interval of max_lr holds the max_lr of a range test with another seed.

    python benchmarks/bounds/interval.py

Single range tests of eight seeds: 0 to 3, on which the constants of `cyclr.bounds.interval` were measured, and 4 to 7.
Another seed means other initial weights and another order of the data. Every test of a task is compared with every
other; tests without bounds are left out. The first table has a row for old and new seeds, for the tasks that nothing
was fitted to, for other sweeps, and for constants that are measured with one family of tasks left out and judged on
that family. The second table has the share held by thirds of the scatter, for 80 %: from quiet curves to noisy ones.

Sweeps that `ground_truth.py` does not make are stored in benchmarks/bounds/interval.npz. Missing ones are made, in
about twenty minutes on one core.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ground_truth import NEW_SEEDS, SEEDS, SWEEPS, load
from new_tasks import ALL, NEW_TASKS
from stability import result_of
from tasks import TASKS, Task
from training import sweep

from cyclr import RangeTest
from cyclr.bounds.interval import LENGTH, scatter

PATH = Path(__file__).with_name("interval.npz")
SHARES = np.array([0.5, 0.8, 0.9, 0.95])


class Pair(NamedTuple):
    """Two tests of one task: |ln max_lr - ln max_lr'|, the scatter that the first one shows, and both seeds."""

    distance: float
    scatter: float
    seeds: tuple[int, int]
    family: str
    status: str


def sweeps() -> dict[str, Any]:
    """Losses of the default sweep by the task's name, shape (seeds, 150)."""
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


def pairs_of(task: Task, losses: Any, name: str = "default") -> list[Pair]:
    """Every test of a task with every other one, if both have bounds; `name` is that of their sweep."""
    results = [result_of(name, row.astype(float)) for row in losses]
    tops = [np.log(result.bounds.max_lr) if result.bounds.usable else np.nan for result in results]
    found = []
    for first, result in enumerate(results):
        unstable = result.stop_reason in ("diverged", "non_finite")
        s = scatter(result.bounds, result.curve, result.loss, unstable_end=unstable, updates_per_rate=1)
        for second in range(len(results)):
            distance = float(abs(tops[first] - tops[second]))
            if first != second and np.isfinite(distance):
                found.append(Pair(distance, s, (first, second), task.family, result.bounds.status))
    return found


def distances(pairs: Iterable[Pair]) -> Any:
    """Distances over scatter, shape (pairs,)."""
    return np.array([pair.distance / pair.scatter for pair in pairs])


def length_of(pairs: Iterable[Pair]) -> float:
    """The constant that these pairs give: the mean over shares of the quantile over -ln(1 - share)."""
    return float(np.mean(np.quantile(distances(pairs), SHARES) / -np.log1p(-SHARES)))


def print_row(name: str, pairs: list[Pair], held: Any) -> None:
    factor = np.exp(-LENGTH * np.log(0.2) * np.median([pair.scatter for pair in pairs]))
    print(f"| {name} | {len(pairs)} | {' | '.join(f'{share:.0%}' for share in held.mean(0))} | {factor:.2f} |")


def main() -> None:
    losses = sweeps()
    pairs = [pair for task in TASKS for pair in pairs_of(task, losses[task.name])]
    unseen = [pair for task in NEW_TASKS for pair in pairs_of(task, losses[task.name])]
    limits = -LENGTH * np.log1p(-SHARES)
    old = [pair for pair in pairs if max(pair.seeds) < 4]
    rows = {
        "54 tasks, old seeds": old,
        "54 tasks, new seeds": [pair for pair in pairs if min(pair.seeds) >= 4],
        "54 tasks, old against new seeds": [pair for pair in pairs if min(pair.seeds) < 4 <= max(pair.seeds)],
        "tasks that nothing was fitted to": unseen,
    }
    for name in (name for name in SWEEPS if "over" in name):
        rows[f"54 tasks, old seeds, {name}"] = [
            pair for task in TASKS for pair in pairs_of(task, load(task)[f"sweep {name}"], name)
        ]
    print(f"| tests | pairs | {' | '.join(f'{share:.0%}' for share in SHARES)} | median factor at 80% |")
    print("|---|---|---|---|---|---|---|")
    for name, of in rows.items():
        print_row(name, of, distances(of)[:, None] <= limits)
    left_out = []
    for family in dict.fromkeys(pair.family for pair in pairs):
        length = length_of(pair for pair in pairs if pair.family != family)
        inside = [pair for pair in pairs if pair.family == family]
        left_out.append(distances(inside)[:, None] <= -length * np.log1p(-SHARES))
    print_row("54 tasks, each family left out", pairs, np.concatenate(left_out))
    print("\n| tests | quiet third | middle third | noisy third |\n|---|---|---|---|")
    for name, of in rows.items():
        order = np.array_split(np.argsort([pair.scatter for pair in of], kind="stable"), 3)
        held = distances(of) <= limits[1]
        print(f"| {name} | {' | '.join(f'{held[third].mean():.0%}' for third in order)} |")
    print("\n| family | pairs | 80% |\n|---|---|---|")
    for family in dict.fromkeys(pair.family for pair in pairs + unseen):
        held = distances(pair for pair in pairs + unseen if pair.family == family) <= limits[1]
        print(f"| {family} | {len(held)} | {held.mean():.0%} |")
    quantiles = np.quantile(distances(old), SHARES)
    print("\nquantiles, old seeds:", " ".join(f"{q:.2f}" for q in quantiles))
    print("over -ln(1 - share):", " ".join(f"{q:.2f}" for q in quantiles / -np.log1p(-SHARES)))
    flat = [pair.distance for pair in pairs if pair.status == "flat"]
    print(f"scatter of {len(flat)} pairs of flat tests: {np.mean(flat) / LENGTH:.2f}")


if __name__ == "__main__":
    main()
