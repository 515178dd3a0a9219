"""The smoothed curve from which bounds are read, with its starting level and noise."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cyclr import _checks
from cyclr.bounds.smoothing import Floats, kernel, kernel_weights, running_median, unimodal

BANDWIDTH = 0.35
"""Standard deviation of the smoothing kernel, in decades of the learning rate."""

FINE = 0.1
"""Standard deviation of a narrower kernel, whose curve follows the losses so closely that the residuals are noise."""

MIN_POINTS = 12
"""Fewest points of a curve that gives bounds."""


LARGEST = 1e306
"""Losses are clipped to this magnitude, so that a difference of two losses cannot overflow."""


@dataclass(frozen=True, eq=False)
class Curve:
    """A smoothed range-test curve. Two curves compare equal only if they are the same object.

    Attributes:
        lr: learning rates, rising, shape (n,).
        loss: smoothed losses, from which bounds are read, shape (n,).
        fine: losses smoothed with a narrower kernel, shape (n,). The recorded losses differ from these only by noise.
        median: recorded losses without single outliers, shape (n,).
        cut: upper limit to which the losses were clipped before smoothing.
        start: level of the loss before it changes.
        lowest: index of the smallest smoothed loss.
        highest: largest recorded loss.
        noise: standard deviation of one recorded loss around the smoothed curve.
        error: standard error of the fall, the difference of the starting level and the lowest smoothed loss.
    """

    lr: Floats
    loss: Floats
    fine: Floats
    median: Floats
    cut: float
    start: float
    lowest: int
    highest: float
    noise: float
    error: float

    @property
    def fall(self) -> float:
        """Fall of the smoothed loss from its starting level to its minimum, ≥ 0."""
        return max(self.start - float(self.loss[self.lowest]), 0.0)

    @property
    def back(self) -> int:
        """Index of the first point after the minimum with a smoothed loss ≥ `start`, or of the last point."""
        above = np.flatnonzero(self.loss[self.lowest :] >= self.start)
        return self.lowest + int(above[0]) if len(above) else len(self.loss) - 1

    def updates(self, index: int) -> float:
        """Number of updates at this point's learning rate that equal all updates so far.

        `lr[: index + 1].sum() / lr[index]`: about n / 2.3 in a sweep with n points per decade, except at its start.
        """
        return float(self.lr[: index + 1].sum() / self.lr[index])

    def reached(self, share: float) -> int:
        """Index of the first point from which the loss stays below `start - share * fall` until the minimum."""
        above = np.flatnonzero(self.loss[: self.lowest + 1] > self.start - share * self.fall)
        return int(min(above[-1] + 1, self.lowest)) if len(above) else 0


def smooth(lr: ArrayLike, loss: ArrayLike) -> Curve:
    """Smooth the recorded losses over log10(lr), in five steps.

    1. Clip: losses above `2 * start - minimum` are set to it, because the height of a diverging loss carries no
       information and would raise the smoothed curve before it diverges.
    2. Running median of 3, which removes single outliers.
    3. Unimodal regression (`unimodal`): the closest sequence that first falls and then rises, as a range test does.
    4. Gaussian kernel with a standard deviation of `BANDWIDTH` decades, at least 1.5 points.
    5. `start`: the median loss of the first quarter of the decades, at least 5 points.

    Args:
        lr: learning rates, rising, > 0, shape (n,) with n ≥ 1.
        loss: finite losses, shape (n,).

    Raises:
        ValueError: the learning rates do not rise, a loss is not finite, or the lengths of `lr` and `loss` differ.
    """
    rates, losses = checked_curve(lr, loss)
    n = len(rates)
    position = np.log10(rates)
    # With linear spacing, the first quarter of the points would reach far beyond the fall.
    quarter = int(np.searchsorted(position, position[0] + (position[-1] - position[0]) / 4))
    first = losses[: max(min(n, 5), min(quarter, n // 4))]
    start = float(np.median(first))
    values = running_median(losses, 3)
    # At the ends, the running median has only two values and does not remove outliers.
    values[0], values[-1] = np.median(losses[:3]), np.median(losses[-3:])
    median = values.copy()
    cut = max(2 * start - float(values.min()), start)
    values = np.minimum(values, cut)
    spacing = (position[-1] - position[0]) / max(n - 1, 1)
    width = max(BANDWIDTH, 1.5 * spacing)
    smoothed = kernel(position, unimodal(values), width)
    fine = kernel(position, values, max(FINE, 1.5 * spacing))
    # If the loss rises from its first point on, the median of the first quarter would show a fall that does not exist.
    start = min(start, float(smoothed[0]))
    lowest = int(np.argmin(smoothed))
    noise = _noise(losses[: max(lowest, n // 4) + 1])
    # Variances of the kernel mean at the minimum and of the median of the first losses, if one loss has variance 1.
    variance = (kernel_weights(position[[lowest]], position, width) ** 2).sum() + np.pi / 2 / len(first)
    for array in (rates, smoothed, fine, median):
        array.setflags(write=False)
    error = noise * float(np.sqrt(variance))
    return Curve(rates, smoothed, fine, median, cut, start, lowest, float(losses.max()), noise, error)


def _noise(losses: Floats) -> float:
    """Estimate the standard deviation of one loss from the differences of neighbours."""
    steps = np.abs(np.diff(losses))
    if not len(steps):
        return 0.0
    noise = float(np.median(steps)) / (0.6745 * np.sqrt(2))
    # The median is 0 if most neighbours are equal, such as accuracies. The steps are divided by a power of two, which
    # changes no digit, so that their squares do not overflow.
    scale = 2.0 ** int(np.frexp(steps.max())[1])
    return noise or scale * float(np.sqrt(np.mean((steps / scale) ** 2) / 2))


def checked_curve(rates: ArrayLike, losses: ArrayLike) -> tuple[Floats, Floats]:
    """Return the curve as new arrays, with clipped losses. Raise `ValueError` for the same reasons as `smooth`."""
    lr, loss = np.array(rates, dtype=np.float64), np.array(losses, dtype=np.float64)
    if lr.ndim != 1 or lr.shape != loss.shape or lr.size == 0:
        raise ValueError(
            f"lr and loss must be vectors of the same length of at least 1; got shapes {lr.shape} and {loss.shape}."
        )
    with np.errstate(invalid="ignore"):
        legal = np.isfinite(lr) & (lr > 0) & (np.diff(lr, prepend=-np.inf) > 0)
    if not np.all(legal):
        at = int(legal.argmin())
        raise ValueError(f"lr must be finite, greater than 0 and rising; got lr={lr[at]} at index {at}.")
    if not np.all(np.isfinite(loss)):
        at = int(np.isfinite(loss).argmin())
        raise ValueError(f"loss must be finite; got loss={loss[at]} at index {at}. Remove points that are not finite.")
    return lr, np.clip(loss, -LARGEST, LARGEST)


def without_ends(n: int, skip_begin: int, skip_end: int) -> slice:
    """Return the slice of n points without the first `skip_begin` and the last `skip_end`."""
    begin = _checks.integer("skip_begin", skip_begin, at_least=0)
    end = _checks.integer("skip_end", skip_end, at_least=0)
    if begin + end >= n:
        raise ValueError(
            f"skip_begin and skip_end must leave at least one of {n} points; got skip_begin={begin}, skip_end={end}. "
            "Skip fewer points."
        )
    return slice(begin, n - end)
