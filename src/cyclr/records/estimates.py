"""Confidence intervals of means of few values, and of their differences."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyclr import _extras

_RESAMPLES = 9999
_ROUNDING = 1e-6
"""Relative difference below which two values of a metric are equal, because metrics have single precision."""
_AT_ONCE = 1_000_000
"""Numbers that are resampled in one batch, to limit memory."""


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with its confidence interval. One seed has no `low` and `high`; without seeds all are None."""

    mean: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def excludes_zero(self) -> bool:
        """True if there is an interval and 0 is not in it."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Return the mean and its bootstrap percentile interval; the same values give the same interval.

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    if not values:
        return Interval()
    mean = float(np.mean(values))
    if len(values) == 1:
        return Interval(mean)
    if min(values) == max(values):
        return Interval(mean, mean, mean)
    low, high = band(np.asarray(values)[:, None], confidence)
    return Interval(mean, float(low[0]), float(high[0]))


def band(values: ArrayLike, confidence: float = 0.95) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the bootstrap percentile intervals of the means of many columns at once.

    Args:
        values: finite values of shape (seeds, n), with at least two seeds.
        confidence: confidence level of the intervals, in (0, 1).

    Returns:
        The lower ends and the upper ends, each of shape (n,).

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    with _extras.needed("statistics need", "scipy", extra="compare"):
        from scipy.stats import bootstrap
    array = np.asarray(values, dtype=np.float64)
    found = bootstrap(
        (array,),
        np.mean,
        axis=0,
        confidence_level=confidence,
        n_resamples=_RESAMPLES,
        batch=max(1, _AT_ONCE // array.size),
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return found.low, found.high


def difference(gaps: Sequence[float], resolution: float, confidence: float = 0.95) -> Interval:
    """Return the mean of paired differences with an interval that covers the bootstrap interval and Student's.

    Args:
        gaps: one difference for every seed, at least two.
        resolution: resolution of the values, ≥ 0. Student's interval uses a standard deviation of at least
            resolution / √12, the standard deviation of rounding.
        confidence: confidence level of both intervals, in (0, 1).

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    found = interval(gaps, confidence)
    if found.mean is None or found.low is None or found.high is None:
        return found
    half = _half_width(_spread(gaps, resolution), len(gaps), confidence)
    return Interval(found.mean, min(found.low, found.mean - half), max(found.high, found.mean + half))


def seeds_to_decide(gaps: Sequence[float], resolution: float, confidence: float, at_most: int) -> int | None:
    """Return the smallest number of seeds with which Student's interval excludes 0.

    The mean and the spread of the differences are assumed to stay the same.

    Args:
        gaps, resolution, confidence: as for `difference`.
        at_most: the largest number of seeds to consider.

    Returns:
        A number above `len(gaps)`, or None if `at_most` seeds are too few.

    Example:
        >>> seeds_to_decide([0.01, 0.03], 0.0, 0.95, at_most=12)
        5
    """
    mean, spread = abs(float(np.mean(gaps))), _spread(gaps, resolution)
    enough = (n for n in range(len(gaps) + 1, at_most + 1) if _half_width(spread, n, confidence) < mean)
    return next(enough, None)


def _spread(gaps: Sequence[float], resolution: float) -> float:
    return max(float(np.std(gaps, ddof=1)), resolution / math.sqrt(12))


def _half_width(spread: float, count: int, confidence: float) -> float:
    """Return half the width of Student's interval of the mean of `count` values."""
    from scipy.stats import t

    return spread / math.sqrt(count) * float(t.ppf((1 + confidence) / 2, count - 1))


def resolution(values: Sequence[float]) -> float:
    """Return the smallest distance between values that differ by more than rounding, or 0."""
    different = np.unique(values)
    distances = np.diff(different)
    distances = distances[distances > _ROUNDING * np.abs(different).max(initial=0.0)]
    return float(distances.min()) if distances.size else 0.0
