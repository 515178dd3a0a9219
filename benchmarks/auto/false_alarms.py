"""Share of calm runs in which the loss seems to rise, by length, noise and gain.

    python benchmarks/auto/false_alarms.py [RUNS] [PATIENCE] [NOISE_UNITS]

Losses are 10 + gain · exp(−8 t / T) + noise of standard deviation 1, so the loss only falls. A cell is the share of
runs with a rise, for a gain of 0.3, 1, 4 and 10 standard deviations. The noise is Gaussian, or skewed like the losses
of tiny batches: gamma of shape 1, and lognormal. `PATIENCE` is the number of consecutive updates that a rise needs, and
`NOISE_UNITS` the noise in the yardstick; the defaults are cyclr's constants.
"""

import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cyclr.auto import decision, reading

LENGTHS, GAINS = (400, 4000), (0.3, 1.0, 4.0, 10.0)
NOISES: dict[str, Callable[[np.random.Generator, int], NDArray[np.float64]]] = {
    "Gauss": lambda rng, n: rng.normal(size=n),
    "gamma": lambda rng, n: rng.gamma(1.0, 1.0, n) - 1.0,
    "lognormal": lambda rng, n: (np.exp(rng.normal(size=n)) - np.exp(0.5)) / np.sqrt(np.exp(2.0) - np.exp(1.0)),
}


def rises(losses: list[float], patience: int) -> bool:
    """Return True if a rise of the loss is detected. Outliers are left out."""
    seen = reading.LossReading()
    for loss in losses:
        if not reading.judge(seen, loss):
            seen = reading.observe(seen, loss, 1.0)
            if seen.risen >= patience:
                return True
    return False


def main(runs: int = 60, patience: int = decision.PATIENCE, units: float = reading.NOISE_UNITS) -> None:
    reading.NOISE_UNITS = units
    print(f"patience {patience}, noise units {units:g}, {runs} runs; gains of {GAINS} standard deviations")
    for total in LENGTHS:
        for name, noise in NOISES.items():
            rng = np.random.default_rng(0)
            fall = np.exp(-8.0 * np.arange(total) / total)
            shares = [
                sum(rises((10 + gain * fall + noise(rng, total)).tolist(), patience) for _ in range(runs)) / runs
                for gain in GAINS
            ]
            print(f"{total:6} {name:10}", *(f"{share:5.2f}" for share in shares), flush=True)


if __name__ == "__main__":
    main(*(kind(text) for kind, text in zip((int, int, float), sys.argv[1:], strict=False)))
