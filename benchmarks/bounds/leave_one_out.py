"""Choice of the constants of the rule for bounds, and the worth of such a choice on tasks that were left out.

    python benchmarks/bounds/leave_one_out.py

The rule reads max_lr from the curve of a range test: a weighted geometric mean of three learning rates, divided by a
constant (`cyclr.bounds.knee`). Weights and constant are chosen from a grid by the mean shortfall of a cycle up to this
max_lr, over all tasks, seeds and stored sweeps. Scores between the stored heights of cycles are interpolated. First
table: the best choice for every shape of the cycle, on all tasks. Second table: for every family of tasks, the best
choice on all other families, and its shortfall on the family that was left out. This is the shortfall for a user with a
task of a new kind. Nothing is trained; the command takes a few minutes.
"""

import itertools
from typing import Any

import numpy as np
from ground_truth import CYCLES, SWEEPS, load
from tasks import TASKS

from cyclr import RangeTest
from cyclr.bounds import smooth
from cyclr.bounds.knee import READINGS
from cyclr.bounds.knee import readings as rates_of

WEIGHTS = [w for w in itertools.product(np.arange(0, 1.01, 0.2), repeat=3) if abs(sum(w) - 1) < 1e-9]
CONSTANTS = np.arange(-0.2, 1.21, 0.1)
"""Of the division, in decades."""

WORST = 0.1
"""Largest shortfall in the choice, because one failed run must not decide the choice."""


def readings(lr: Any, loss: Any) -> list[float]:
    """Return the logarithms of the three learning rates of a sweep that stops like a range test."""
    test = RangeTest(float(lr[0]), float(lr[-1]), len(lr))
    for _ in test:
        test.record(loss[test.recorded])
    result = test.result()
    return [float(np.log10(rate)) for rate in rates_of(smooth(result.lr, result.loss))]


def shortfalls(truth: dict[str, Any], cycle: int, rates: Any) -> Any:
    """Return shortfalls of cycles up to log rates, by interpolation; outside the stored heights, of fixed rates."""
    fixed, scores = truth["fixed"].mean(0), truth["cycles"][:, cycle].mean(0)
    grid, peaks = np.log10(truth["grid"]), np.log10(truth["peaks"])
    outside = np.interp(rates, grid, fixed)
    inside = np.interp(rates, peaks, scores)
    above = np.minimum(scores[-1], outside)
    return fixed.max() - np.where(rates < peaks[0], outside, np.where(rates > peaks[-1], above, inside))


def main() -> None:
    truths = [load(task) for task in TASKS]
    names = list(SWEEPS)
    logs = np.array(
        [
            [
                [readings(np.geomspace(*SWEEPS[name]), loss) for loss in truth[f"sweep {name}"].astype(np.float64)]
                for name in names
            ]
            for truth in truths
        ]
    )  # tasks × sweeps × seeds × readings
    rules = [(np.array(w), c) for w in WEIGHTS for c in CONSTANTS]
    families = np.array([task.family for task in TASKS])
    print("| cycle | weights | over 10^ | mean shortfall | with the default sweep | worst task |")
    print("|---|---|---|---|---|---|")
    costs = {}
    for number, name in enumerate(CYCLES):
        rates = np.stack([logs @ w - c for w, c in rules])
        costs[name] = np.stack([shortfalls(truth, number, rates[:, i]) for i, truth in enumerate(truths)], axis=1)
        w, c = rules[best := int(np.minimum(costs[name], WORST).mean((1, 2, 3)).argmin())]
        found = costs[name][best]
        default = found[:, names.index("default")]
        print(
            f"| {name} | {' '.join(f'{x:.1f}' for x in w)} | {c:.1f} | {found.mean():+.4f} | {default.mean():+.4f} | "
            f"{default.mean(1).max():+.3f} |"
        )
    shipped = logs @ [w for w, _ in READINGS] - sum(w * np.log10(by) for w, by in READINGS)
    found = np.stack([shortfalls(truth, 1, rates) for truth, rates in zip(truths, shipped, strict=True)])
    default = found[:, names.index("default")]
    print(
        f"| parabolic, as cyclr has it | {' '.join(f'{w:.1f}' for w, _ in READINGS)} | "
        f"{sum(w * np.log10(by) for w, by in READINGS):.1f} | {found.mean():+.4f} | {default.mean():+.4f} | "
        f"{default.mean(1).max():+.3f} |"
    )
    cost = costs["parabolic"]  # rules × tasks × sweeps × seeds
    print("\n| family left out | weights | over 10^ | mean shortfall | with the default sweep |\n|---|---|---|---|---|")
    left_out = []
    for family in dict.fromkeys(families):
        out = families == family
        w, c = rules[best := int(np.minimum(cost[:, ~out], WORST).mean((1, 2, 3)).argmin())]
        found = cost[best][out]
        left_out.append(found[:, names.index("default")].mean(1))
        print(
            f"| {family} | {' '.join(f'{x:.1f}' for x in w)} | {c:.1f} | {found.mean():+.4f} | "
            f"{found[:, names.index('default')].mean():+.4f} |"
        )
    together = np.concatenate(left_out)
    print(f"| all, each left out | | | | {together.mean():+.4f} (median task {np.median(together):+.4f}) |")


if __name__ == "__main__":
    main()
