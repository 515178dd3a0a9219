"""An interval for the max_lr of range tests with other seeds, from one curve and constants measured on many."""

import math

import numpy as np
from numpy.typing import ArrayLike

from cyclr.bounds.base import Bounds
from cyclr.bounds.curve import Curve, smooth
from cyclr.bounds.knee import read_bounds

READINGS = 32
"""Number of curves that the wild bootstrap draws."""

FLOOR = 0.05
"""Scatter of ln max_lr if the losses have no noise: other initial weights move the curve itself."""

FLAT = 0.18
"""Scatter of ln max_lr for the bounds of a `"flat"` curve. They are read from the end of the test, which the bootstrap
does not move. Measured on the two tasks of the benchmark with such bounds.
"""

TRIALS = 0.17
"""Further scatter of ln max_lr if trial cycles moved it: two seeds may choose tops that are a factor of two apart.
Measured with refine=600 (`benchmarks/bounds/interval.py trials`): without it 57 % of the intervals for 80 % hold.
"""

LENGTH = 2.1
"""Mean of |ln max_lr - ln max_lr'| / scatter for two seeds. These distances have an exponential distribution: at 50,
80, 90 and 95 % their quantiles over -ln(1 - share) are 2.2, 2.0, 2.0 and 2.1 (`benchmarks/bounds/interval.py`).
"""

MOST = 400
"""Longer curves are averaged over neighbouring points first."""


def scatter(
    bounds: Bounds,
    curve: Curve,
    loss: ArrayLike,
    *,
    unstable_end: bool,
    updates_per_rate: int = 1,
    from_start: bool = False,
) -> float:
    """Return how far apart ln max_lr is in tests with other seeds: s = sqrt(0.05² + b²).

    b is the standard deviation of ln max_lr over 32 readings of the wild bootstrap: of curves that are the smoothed
    losses plus their residuals with random signs. This is the share of the noise. Alone it explains less than half of
    the differences between seeds.

    Args:
        bounds: the bounds that were read from the curve.
        curve, loss: the smoothed curve, and the losses that were recorded, shape (n,).
        unstable_end, updates_per_rate, from_start: as for `knee`.

    Source: Wu 1986, *Jackknife, bootstrap and other resampling methods in regression analysis*, Ann. Statist. 14.
    """
    if bounds.status == "flat":
        return FLAT
    # A loss that diverged has a huge residual, which a sign would turn into a fall.
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

    Both ends are kept `within` the rates of the test, because other tests find nothing outside of them.
    """
    factor = math.exp(min(-LENGTH * math.log1p(-share) * scatter, 700.0))
    low, high = within
    return min(max(max_lr / factor, low), max_lr), max(min(max_lr * factor, high), max_lr)
