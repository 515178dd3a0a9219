"""Apparent fall of curves of pure noise, in standard errors. `FLAT` and `NOISY` of the rule were chosen by it.

    python benchmarks/bounds/noise.py

A curve is a constant loss of 2.3 with independent normal noise of 0.1. There are 300 curves with the learning rates of
the default sweep, and 300 with equally spaced learning rates, each without and with a rise at the end, as in unstable
training. Nothing is learned in any of them, so every fall is noise. The last number says how many of 3,000 such curves
are mistaken for a rising reward.
"""

import numpy as np

from cyclr.bounds import smooth
from cyclr.bounds.knee import FLAT, NOISY, knee
from cyclr.range_test.driver import learning_rates

CURVES = 300
SHARES = (0.5, 0.9, 0.95, 0.99, 1.0)


def falls(points: int, spacing: str, *, rise: bool) -> np.ndarray:
    """Return the fall of each curve in standard errors, shape (CURVES,)."""
    lr = learning_rates(1e-6, 10, points, spacing)
    unstable = 5 * np.maximum(np.log10(lr / 0.3), 0) if rise else 0.0
    found = []
    for seed in range(CURVES):
        curve = smooth(lr, 2.3 + 0.1 * np.random.default_rng(seed).standard_normal(points) + unstable)
        found.append(curve.fall / curve.error)
    return np.array(found)


def main() -> None:
    print(
        f"| spacing | points | end | {' | '.join(f'{share:.0%}' for share in SHARES)} | above {FLAT} | above {NOISY} |"
    )
    print(f"|{'---|' * (len(SHARES) + 5)}")
    for spacing in ("exponential", "linear"):
        for rise in (False, True):
            for points in (60, 100, 150, 300):
                found = falls(points, spacing, rise=rise)
                cells = " | ".join(f"{value:.1f}" for value in np.quantile(found, SHARES))
                end = "rises" if rise else "level"
                above = f"{(found > FLAT).mean():.0%} | {(found > NOISY).mean():.0%}"
                print(f"| {spacing} | {points} | {end} | {cells} | {above} |")
    lr = learning_rates(1e-6, 10, 150)
    losses = (2.3 + 0.1 * np.random.default_rng(10_000 + seed).standard_normal(150) for seed in range(3000))
    print(f"taken for a reward: {sum('like a reward' in knee(lr, loss).reason for loss in losses)} of 3,000")


if __name__ == "__main__":
    main()
