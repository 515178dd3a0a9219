"""The three classic suggestions of a single learning rate, computed as in other learning-rate finders."""

import bisect
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from cyclr import _checks
from cyclr.bounds.curve import checked_curve, without_ends
from cyclr.bounds.smoothing import Floats, exponential

MOMENTUM = 0.98
"""Momentum of the running mean in these finders."""

LEFT_OUT_AT_END = 5
"""Points left out at the end, because the loss has diverged there. At the start, a tenth of all steps is left out."""


def _steepest(lr: Floats, loss: Floats) -> float:
    """Return the learning rate with the steepest fall of the loss over log(lr), before the minimum of the loss."""
    lowest = int(np.argmin(loss))
    if lowest == 0:
        return float(lr[0])
    slope = np.diff(loss[: lowest + 1]) / np.diff(np.log(lr[: lowest + 1]))
    return float(lr[np.argmin(slope)])


def _valley(lr: Floats, loss: Floats) -> float:
    """Return a learning rate in the middle of the longest falling subsequence of the losses."""
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
    # If no loss falls, begin is −1, which would be the index of the last learning rate.
    return float(lr[max(begin + int(third) + int(third / 2), 0)])


METHODS: dict[str, Callable[[Floats, Floats], float]] = {
    "steepest": _steepest,
    "valley": _valley,
    "minimum": lambda lr, loss: float(lr[np.argmin(loss)]) / 10,
}


def suggest(
    lr: ArrayLike,
    loss: ArrayLike,
    method: str,
    *,
    steps: int | None = None,
    skip_begin: int | None = None,
    skip_end: int | None = None,
) -> float:
    """Return one learning rate, read from a range test by a classic method.

    A running mean first smooths the losses of all points (`smoothing.exponential` with momentum 0.98). Then points are
    left out at the start and at the end.

    Args:
        lr: learning rates, rising, > 0, shape (n,) with n ≥ 1.
        loss: finite losses of the batches, shape (n,).
        method: `"steepest"` (the steepest fall over the logarithm of the learning rate, before the minimum), `"valley"`
            (half way down the longest falling subsequence) or `"minimum"` (a tenth of the learning rate with the lowest
            loss).
        steps: number of learning rates planned for the test, ≥ n. The default is n.
        skip_begin: points left out at the start, ≥ 0. The default is a tenth of `steps`.
        skip_end: points left out at the end, ≥ 0. The default is 5. If neither `skip_begin` nor `skip_end` is given and
            fewer than two points would remain, no point is left out.

    Raises:
        TypeError: a number of points is not an integer.
        ValueError: the method is unknown, the learning rates do not rise, a loss is not finite, or no point remains.

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
    n = len(rates)
    begin, end = _checks.integer("steps", n if steps is None else steps, at_least=n) // 10, LEFT_OUT_AT_END
    if skip_begin is None and skip_end is None and n - begin - end < 2:
        begin = end = 0
    kept = without_ends(n, begin if skip_begin is None else skip_begin, end if skip_end is None else skip_end)
    return rule(rates[kept], exponential(losses, MOMENTUM)[kept])
