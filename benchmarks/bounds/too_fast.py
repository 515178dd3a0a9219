"""Gain of `refine=600` by the number of updates in which the loss fell, to see if range tests with few were too fast.

    python benchmarks/bounds/too_fast.py

It reads the sweeps and scores that `ground_truth.py` and `compare.py` stored for the 54 tasks, with seeds 0 to 3. The
updates of a fall are counted from a tenth of the fall to the lowest point. A gain is the mean score of the task's runs
with `refine=600` minus the mean score without. The factor is the best of the 25 fixed learning rates divided by max_lr.
"""

import itertools
import json

import numpy as np
from compare import FOLDER
from ground_truth import load, path_of
from interval import results_of
from tasks import TASKS

from cyclr.range_test.reading import TOO_FAST, updates_of_fall


def main() -> None:
    """Print the table."""
    found = []
    for task in TASKS:
        rows = json.loads((FOLDER / path_of(task).with_suffix(".json").name).read_text(encoding="utf-8"))
        gain = np.subtract(rows["cyclr, refine=600"]["scores"], rows["cyclr"]["scores"]).mean()
        truth = load(task)
        best = truth["grid"][truth["fixed"].mean(0).argmax()]
        for result in results_of(truth["sweep default"]):
            if result.bounds.status in ("ok", "no_divergence"):
                found.append((updates_of_fall(result), gain, best / result.bounds.max_lr))
    updates, gain, factor = np.array(found).T
    print("| updates of the fall | tests | mean gain | best rate / max_lr, median | above 3 |")
    print("|---|---|---|---|---|")
    edges = (0, 24, TOO_FAST, 45, 55, 70, np.inf)
    for low, high in itertools.pairwise(edges):
        of = (updates > low) & (updates <= high)
        if of.any():
            print(
                f"| {low:g} to {high:g} | {of.sum()} | {gain[of].mean():+.4f} | {np.median(factor[of]):.2f} | "
                f"{(factor[of] > 3).mean():.0%} |"
            )


if __name__ == "__main__":
    main()
