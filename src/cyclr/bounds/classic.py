"""The three classic suggestions of a single learning rate, computed as other finders compute them."""

import bisect
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from cyclr import _checks
from cyclr.bounds.curve import checked_curve
from cyclr.bounds.smoothing import Floats, exponential

MOMENTUM = 0.98
"""Momentum of the running mean that the finders record."""

LEFT_OUT_AT_END = 5
"""Points left out at the end, because the loss has diverged there; a tenth of all steps is left out at the start."""


def _steepest(lr: Floats, loss: Floats) -> float:
    """Return the rate from which the loss falls fastest against the logarithm of the rate, before its minimum."""
    lowest = int(np.argmin(loss))
    if lowest == 0:
        return float(lr[0])
    slope = np.diff(loss[: lowest + 1]) / np.diff(np.log(lr[: lowest + 1]))
    return float(lr[np.argmin(slope)])


def _valley(lr: Floats, loss: Floats) -> float:
    """Return a rate in the middle of the longest falling subsequence of the losses."""
    # Patience sorting: the k-th entry is the smallest −loss that ends a falling subsequence of k + 1 losses.
    ends: list[float] = []
    longest = np.empty(len(loss), dtype=np.int64)
    for i, value in enumerate((-loss).tolist()):
        place = bisect.bisect_left(ends, value)
        ends[place : place + 1] = [value]
        longest[i] = place + 1
    end = int(np.argmax(longest))
    begin = end - int(longest[end])
    third = (end - begin) / 3
    # −1, the last rate, if nothing falls.
    return float(lr[max(begin + int(third) + int(third / 2), 0)])


METHODS: dict[str, Callable[[Floats, Floats], float]] = {
    "steepest": _steepest,
    "valley": _valley,
    "minimum": lambda lr, loss: float(lr[np.argmin(loss)]) / 10,
}


def suggest(lr: ArrayLike, loss: ArrayLike, method: str, *, steps: int | None = None) -> float:
    """Return one learning rate, read from a range test by a classic method.

    The losses are smoothed by a running mean (`smoothing.exponential` with momentum 0.98), and a tenth of the steps at
    the start and five points at the end are left out if enough are left.

    Args:
        lr: learning rates, rising, > 0, shape (n,) with n ≥ 1.
        loss: finite losses of the batches, shape (n,).
        method: `"steepest"` (steepest slope against the logarithm of the rate, before the minimum), `"valley"` (half
            way down the longest falling subsequence) or `"minimum"` (a tenth of the rate with the lowest loss).
        steps: rates that the test was to try, ≥ n; n by default.

    Raises:
        ValueError: another method; rates that do not rise, losses that are not finite.

    Example:
        >>> import numpy as np
        >>> from cyclr.bounds import suggest
        >>> lr = np.geomspace(1e-7, 10, 100)
        >>> loss = 2.3 - 2 / (1 + (0.01 / lr) ** 2) + (lr / 0.5) ** 2
        >>> [f"{suggest(lr, loss, method):.1g}" for method in ("steepest", "valley", "minimum")]
        ['0.03', '0.0004', '0.05']

    Source: fastai's `Learner.lr_find` (valley, minimum, and steep before the minimum).
    """
    rule = METHODS[_checks.choice("method", method, METHODS)]
    rates, losses = checked_curve(lr, loss)
    first = _checks.integer("steps", len(rates) if steps is None else steps, at_least=len(rates)) // 10
    kept = slice(first, len(rates) - LEFT_OUT_AT_END) if len(rates) - LEFT_OUT_AT_END - first >= 2 else slice(None)
    return rule(rates[kept], exponential(losses, MOMENTUM)[kept])
