"""How high to train if the noise of small batches hides the fall of the loss.

`max_lr` is a share of the learning rate that the test ended at.

    python benchmarks/bounds/small_batches.py

Tasks of the benchmark at batch sizes 1 to 8, three seeds each. Of the range tests whose loss never fell and then
diverged, prints the share of the best score that is lost if max_lr is the last rate of the test over a number. It takes
about half an hour on two cores.
"""

from dataclasses import replace

import numpy as np
from ground_truth import cycle
from tasks import TASKS
from training import sweep, train

from cyclr import RangeTest

FAMILIES = ("linear", "dense", "normalized", "regression", "convolutional", "attention")
DIVISORS = np.array([7, 20, 40, 60, 80, 200, 600, 2000])
STEPS = 600


def main() -> None:
    lost = []
    for task in TASKS:
        # Two of every family.
        if task.family not in FAMILIES or task.name.split(":")[0][-2:] not in (" 1", " 2"):
            continue
        for batch in (1, 2, 4, 8):
            small = replace(task, batch=batch, steps=STEPS)
            for seed in range(3):
                test = RangeTest()
                for _, loss in zip(test, sweep(small, test.learning_rates, seed), strict=False):
                    test.record(float(loss))
                result = test.result()
                if result.bounds.status == "flat" and result.stop_reason in ("diverged", "non_finite"):
                    peaks = result.lr[-1] / DIVISORS
                    scores = train(small, [cycle(small, peak, 0.3, "parabolic") for peak in peaks], [seed])[0]
                    lost.append(1 - scores / scores.max())
                    print(f"{small.name}, batch {batch}, seed {seed}:", *scores.round(2), flush=True)
    print(f"{len(lost)} curves; divisor, mean and largest share of the score that is lost:")
    for divisor, mean, worst in zip(DIVISORS, np.mean(lost, 0), np.max(lost, 0), strict=True):
        print(f"{divisor:5}  {mean:.2f}  {worst:.2f}")


if __name__ == "__main__":
    main()
