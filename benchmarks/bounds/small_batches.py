"""Worth of bounds if noise hides the fall of the loss, by the remaining fall of the smoothed loss.

    python benchmarks/bounds/small_batches.py

Tasks of the benchmark run with batch sizes 1 to 8, and fine-tuning tasks with 8 and 32, with three seeds each. For
range tests that are `"flat"` and diverged, the command prints the fall of the loss in standard errors, and the share of
the best score that is lost with max_lr at a twentieth of the last learning rate of the test. It takes about half an
hour on two cores.
"""

from dataclasses import replace

import numpy as np
from ground_truth import cycle
from tasks import TASKS
from training import sweep, train

from cyclr import RangeTest
from cyclr.bounds.knee import BEFORE_END, FLAT, HINT, errors_of_fall

FAMILIES = ("linear", "dense", "normalized", "regression", "convolutional", "attention", "fine-tuning")
STEPS = 600


def main() -> None:
    falls, lost = [], []
    for task in TASKS:
        fine = task.family == "fine-tuning"
        # Two tasks of every family.
        if task.family not in FAMILIES or not (fine or task.name.split(":")[0][-2:] in (" 1", " 2")):
            continue
        for batch in (8, 32) if fine else (1, 2, 4, 8):
            small = replace(task, batch=batch, steps=STEPS)
            for seed in range(3):
                test = RangeTest()
                for _, loss in zip(test, sweep(small, test.learning_rates, seed), strict=False):
                    test.record(float(loss))
                result = test.result()
                fall = errors_of_fall(result.curve)
                if fall < FLAT and result.stop_reason in ("diverged", "non_finite"):
                    peaks = result.lr[-1] / np.array([BEFORE_END, 7, 60, 200, 600, 2000])
                    scores = train(small, [cycle(small, peak, 0.3, "parabolic") for peak in peaks], [seed])[0]
                    falls.append(fall)
                    lost.append(1 - scores[0] / scores.max())
                    print(f"{small.name}, now {batch}, seed {seed}: {fall:.2f}, {lost[-1]:.2f}", flush=True)
    hint, shares = np.array(falls) >= HINT, np.array(lost)
    for name, of in ((f"below {HINT}", shares[~hint]), (f"from {HINT} to {FLAT}", shares[hint])):
        print(f"{name}: {len(of)} curves, mean {of.mean():.2f}, worst {of.max():.2f}")


if __name__ == "__main__":
    main()
