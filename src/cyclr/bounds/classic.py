"""The three suggestions of a single learning rate that today's finders make, on the smoothed curve."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from cyclr import _checks
from cyclr.bounds.curve import Curve, smooth


def _minimum(curve: Curve) -> float:
    """A tenth of the rate with the lowest loss."""
    return float(curve.lr[curve.lowest]) / 10


def _steepest(curve: Curve) -> float:
    """The rate at which the loss falls fastest per decade, before its minimum."""
    if curve.lowest < 1:
        return float(curve.lr[0])
    slope = np.gradient(curve.loss, np.log10(curve.lr))
    return float(curve.lr[int(np.argmin(slope[: curve.lowest + 1]))])


def _valley(curve: Curve) -> float:
    """The point two thirds down the longest valley: the longest falling subsequence of the losses."""
    longest = np.ones(len(curve.loss), dtype=np.int64)
    for i in range(1, len(curve.loss)):
        higher = curve.loss[:i] > curve.loss[i]
        if higher.any():
            longest[i] = longest[:i][higher].max() + 1
    end = int(np.argmax(longest))
    begin = end - int(longest[end]) + 1
    return float(curve.lr[begin + (end - begin) * 2 // 3])


METHODS: dict[str, Callable[[Curve], float]] = {"steepest": _steepest, "valley": _valley, "minimum": _minimum}


def suggest(lr: ArrayLike, loss: ArrayLike, method: str) -> float:
    """One learning rate, read off a range test by a classic method.

    Args:
        lr: learning rates, rising, > 0, shape (n,) with n ≥ 1.
        loss: finite losses of the batches, shape (n,).
        method: `"steepest"` (steepest slope against the logarithm of the rate, before the minimum), `"valley"` (two
            thirds down the longest valley) or `"minimum"` (a tenth of the rate with the lowest loss).

    Raises:
        ValueError: another method.
    """
    return METHODS[_checks.choice("method", method, METHODS)](smooth(lr, loss))
