"""Changes of the bounds if only unimportant settings change: the seed, the steps, the range, a factor of the loss.

    python benchmarks/bounds/stability.py

For each task: the largest max_lr divided by the smallest, over four seeds with the default sweep, and over sweeps (the
geometric mean of the seeds). These are single range tests, without the repeats that `range_test` makes for noisy
curves. The sweep over five decades counts only if it reaches the max_lr of the other sweeps. The last row is for a loss
multiplied by 100, for which SGD needs a hundredth of the bounds; a factor of 1 means that the bounds are a hundredth.

Below the table: the power of the number of steps by which each reading of the curve changes, from 100 to 400 steps over
eight decades, as the median over tasks and seeds. `cyclr.bounds.knee` corrects for the power `POWER`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from ground_truth import SWEEPS, load
from tasks import TASKS
from training import sweep

from cyclr import Bounds, RangeTest, RangeTestResult
from cyclr.bounds.knee import FLATTENED, SETTLED

SEEDS = range(4)


def result_of(name: str, losses: Any) -> RangeTestResult:
    """A sweep that stops where a range test stops."""
    test = RangeTest(*SWEEPS[name])
    for _ in test:
        test.record(losses[test.recorded])
    return test.result()


def bounds_of(name: str, losses: Any) -> Bounds:
    """Return the bounds of such a sweep."""
    return result_of(name, losses).bounds


def powers(truths: Sequence[dict[str, Any]]) -> Any:
    """Return the powers of the number of steps for the rates where the loss flattens, settles and is back."""

    def logs(steps: int, truth: dict[str, Any], seed: int) -> Any:
        name = f"{steps} steps over eight decades"
        curve = result_of(name, truth[f"sweep {name}"][seed].astype(float)).curve
        return np.log([curve.lr[index] for index in (curve.reached(FLATTENED), curve.reached(SETTLED), curve.back)])

    moved = [logs(400, truth, seed) - logs(100, truth, seed) for truth in truths for seed in SEEDS]
    return np.median(moved, axis=0) / np.log(4)


def spread(values: Sequence[float | None]) -> float:
    """Return the largest value divided by the smallest; infinity if a value is missing."""
    return np.inf if None in values else float(max(values) / min(values))  # type: ignore[type-var]


def main() -> None:
    truths = [load(task) for task in TASKS]
    tops = {
        name: [
            [bounds_of(name, truth[f"sweep {name}"][seed].astype(float)).max_lr for seed in SEEDS] for truth in truths
        ]
        for name in SWEEPS
    }

    def mean(row: Sequence[float | None]) -> float | None:
        known = [top for top in row if top is not None]
        return float(np.exp(np.mean(np.log(known)))) if known else None

    rows = {"four seeds, default sweep": [spread(row) for row in tops["default"]]}
    few, many, usual = tops["100 steps over eight decades"], tops["400 steps over eight decades"], tops["default"]
    rows["100 against 400 steps"] = [spread([mean(a), mean(b)]) for a, b in zip(few, many, strict=True)]
    rows["150 steps over 7 decades against 400 over 8"] = [
        spread([mean(a), mean(b)]) for a, b in zip(usual, many, strict=True)
    ]
    short = tops["100 steps over five decades"]
    rows["1e-5 … 1 against 1e-7 … 10, 100 steps"] = [
        spread([mean(a), mean(b)]) for a, b in zip(few, short, strict=True) if (mean(a) or 0) < 0.1
    ]
    print("| what changes | tasks | median factor | below 2 | largest |\n|---|---|---|---|---|")
    for name, factors in rows.items():
        below = np.mean(np.array(factors) < 2)
        print(f"| {name} | {len(factors)} | {np.median(factors):.2f} | {below:.0%} | {max(factors):.2f} |")
    factors = []
    for task in (task for task in TASKS if task.optimizer == "sgd" and task.scale == 1 and not task.pretrained):
        larger = dataclasses.replace(task, scale=100.0)
        for seed in SEEDS:
            rates = RangeTest().learning_rates
            one = bounds_of("default", sweep(task, rates, seed)).max_lr
            other = bounds_of("default", sweep(larger, rates, seed)).max_lr
            factors.append(spread([one, None if other is None else other * 100]))
    below = np.mean(np.array(factors) < 2)
    print(
        f"| loss times 100, SGD | {len(factors) // 4} | {np.median(factors):.2f} | {below:.0%} | {max(factors):.2f} |"
    )
    flattened, settled, back = powers(truths)
    print(f"\nreadings move by the power: flattened {flattened:.2f}, settled {settled:.2f}, back {back:.2f}")


if __name__ == "__main__":
    main()
