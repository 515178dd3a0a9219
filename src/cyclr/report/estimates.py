"""Means of few values: their intervals, and whether a difference is more than noise."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyclr.errors import MissingExtraError

_RESAMPLES = 9999
_ROUNDING = 1e-6
"""Values of the metric that differ by less of it are the same, in single precision."""
_TOGETHER = 1_000_000
"""Numbers that are resampled at once: more would take much memory."""


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with its confidence interval; `low` and `high` are None for one seed, all for none."""

    mean: float | None = None
    low: float | None = None
    high: float | None = None


def interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """The mean and its bootstrap percentile interval; the same values give the same interval.

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
    """The bootstrap percentile intervals of the means of many columns at once.

    Args:
        values: finite, shape (seeds, n) with at least two seeds.
        confidence: of the intervals, in (0, 1).

    Returns:
        Their lower and their upper ends, shape (n,) each.

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    try:
        from scipy.stats import bootstrap
    except ImportError as error:
        raise MissingExtraError('statistics need SciPy. Run: pip install "cyclr[compare]".') from error
    array = np.asarray(values, dtype=np.float64)
    found = bootstrap(
        (array,),
        np.mean,
        axis=0,
        confidence_level=confidence,
        n_resamples=_RESAMPLES,
        batch=max(1, _TOGETHER // array.size),
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return found.low, found.high


def is_beyond_noise(differences: Sequence[float], found: Interval, resolution: float, confidence: float = 0.95) -> bool:
    """Whether the mean of two differences or more is not 0: both by the bootstrap and by Student's t.

    Args:
        differences: paired, one for every seed.
        found: their `interval`.
        resolution: that of the values, as `resolution_of` finds it, ≥ 0; Student's standard deviation is at least
            resolution / √12, which is that of rounding.
        confidence: of both intervals, in (0, 1).

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    if found.low is None or found.high is None or found.low <= 0 <= found.high:
        return False
    from scipy.stats import t

    spread = max(float(np.std(differences, ddof=1)), resolution / math.sqrt(12))
    error = spread / math.sqrt(len(differences))
    return abs(float(np.mean(differences))) > error * float(t.ppf((1 + confidence) / 2, len(differences) - 1))


def resolution_of(values: Sequence[float]) -> float:
    """The smallest distance between values that differ by more than the rounding of single precision, else 0."""
    different = np.unique(values)
    distances = np.diff(different)
    distances = distances[distances > _ROUNDING * np.abs(different).max(initial=0.0)]
    return float(distances.min()) if distances.size else 0.0
