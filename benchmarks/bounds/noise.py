"""How far curves of pure noise seem to fall, in standard errors: what `FLAT` and `NOISY` of the rule are chosen by.

    python benchmarks/bounds/noise.py

A loss of level 2.3 with independent normal noise of 0.1, 300 times, over the rates of the default sweep; once as it
is, and once with a rise at the end as of training that turns unstable. Nothing is learned in any of them, so that
every fall is noise.
"""

import numpy as np

from cyclr.bounds import smooth
from cyclr.bounds.knee import FLAT, NOISY

CURVES = 300
SHARES = (0.5, 0.9, 0.95, 0.99, 1.0)


def falls(points: int, *, rise: bool) -> np.ndarray:
    """How many standard errors each curve falls by, shape (CURVES,)."""
    lr = np.geomspace(1e-6, 10, points)
    unstable = 5 * np.maximum(np.log10(lr / 0.3), 0) if rise else 0.0
    found = []
    for seed in range(CURVES):
        curve = smooth(lr, 2.3 + 0.1 * np.random.default_rng(seed).standard_normal(points) + unstable)
        found.append(curve.fall / curve.error)
    return np.array(found)


def main() -> None:
    print(f"| points | end | {' | '.join(f'{share:.0%}' for share in SHARES)} | above {FLAT} | above {NOISY} |")
    print(f"|{'---|' * (len(SHARES) + 4)}")
    for rise in (False, True):
        for points in (60, 100, 150, 300):
            found = falls(points, rise=rise)
            cells = " | ".join(f"{value:.1f}" for value in np.quantile(found, SHARES))
            end = "rises" if rise else "level"
            print(f"| {points} | {end} | {cells} | {(found > FLAT).mean():.0%} | {(found > NOISY).mean():.0%} |")


if __name__ == "__main__":
    main()
