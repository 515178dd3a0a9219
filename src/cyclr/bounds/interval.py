"""An interval for the max_lr of range tests with other seeds, from one curve and constants measured on many curves."""

import math

import numpy as np
from numpy.typing import ArrayLike

from cyclr.bounds.base import Bounds
from cyclr.bounds.curve import Curve, smooth
from cyclr.bounds.knee import read_bounds

READINGS = 32
"""Number of curves that the wild bootstrap draws."""

FLOOR = 0.05
"""Scatter of ln max_lr if the losses have no noise, because other initial weights change the curve itself."""

FLAT = 0.18
"""Scatter of ln max_lr for the bounds of a `"flat"` curve. These bounds depend on the end of the test, which the
bootstrap does not change. Measured on the two tasks of the benchmark with such bounds.
"""

TRIALS = 0.17
"""Additional scatter of ln max_lr if trial cycles changed max_lr, because two seeds may choose values that differ by a
factor of two. Measured with refine=600 (`benchmarks/bounds/interval.py trials`). Without this scatter, only 57 % of the
80 % intervals contain the max_lr of another seed.
"""

LENGTH = 2.1
"""Mean of |ln max_lr - ln max_lr'| / scatter for two seeds. These distances have an exponential distribution: their
quantiles at 50, 80, 90 and 95 %, divided by -ln(1 - share), are 2.2, 2.0, 2.0, 2.1 (`benchmarks/bounds/interval.py`).
"""

MOST = 400
"""Largest number of points. In longer curves, groups of neighbouring points are averaged first."""


def scatter(
    bounds: Bounds,
    curve: Curve,
    loss: ArrayLike,
    *,
    unstable_end: bool,
    updates_per_rate: int = 1,
    from_start: bool = False,
) -> float:
    """Return the scatter of ln max_lr between tests with different seeds: s = sqrt(0.05² + b²).

    b is the standard deviation of ln max_lr over 32 curves of the wild bootstrap. Each of these curves is the sum of
    the smoothed losses and their residuals with random signs. b measures the effect of noise, which explains less than
    half of the differences between seeds. For `"flat"` bounds the result is a constant.

    Args:
        bounds: the bounds that were read from the curve.
        curve, loss: the smoothed curve, and the recorded losses, shape (n,).
        unstable_end, updates_per_rate, from_start: as for `knee`.

    Source: Wu 1986, *Jackknife, bootstrap and other resampling methods in regression analysis*, Ann. Statist. 14.
    """
    if bounds.status == "flat":
        return FLAT
    # A diverged loss has a huge residual, which a negative sign would turn into a fall.
    losses = np.minimum(loss, curve.cut)
    every = -(-len(losses) // MOST)
    blocks = np.arange(0, len(losses), every)
    sizes = np.diff(blocks, append=len(losses))
    lr, fine, residual = (
        np.add.reduceat(values, blocks) / sizes for values in (curve.lr, curve.fine, losses - curve.fine)
    )
    tops = []
    for signs in np.random.default_rng(0).choice([-1.0, 1.0], (READINGS, len(blocks))):
        drawn = smooth(lr, fine + signs * residual)
        read = read_bounds(
            drawn,
            unstable_end=unstable_end,
            cut_short="",
            updates_per_rate=updates_per_rate * every,
            from_start=from_start,
        )
        if read.max_lr is not None:
            tops.append(math.log(read.max_lr))
    return math.hypot(FLOOR, float(np.std(tops, ddof=1)) if len(tops) > 1 else 0.0)


def interval(max_lr: float, scatter: float, share: float, within: tuple[float, float]) -> tuple[float, float]:
    """Return max_lr · exp(±q s) for the scatter s, with q = -2.1 ln(1 - share).

    Both ends are clipped to `within`, the learning rates of the test, because no other test finds bounds outside.
    """
    factor = math.exp(min(-LENGTH * math.log1p(-share) * scatter, 700.0))
    low, high = within
    return min(max(max_lr / factor, low), max_lr), max(min(max_lr * factor, high), max_lr)
