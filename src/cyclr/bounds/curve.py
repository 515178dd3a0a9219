"""What every rule looks at: a range test's losses, freed of outliers and noise, with the level they start from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cyclr.bounds.smoothing import Floats, kernel, kernel_weights, running_median, unimodal

BANDWIDTH = 0.35
"""Standard deviation of the smoothing kernel, in decades of the learning rate."""

SHOWN = 0.1
"""The same, of the curve that is shown: what a reader sees in the dots."""

MIN_POINTS = 12
"""With fewer points than this nothing is read off a curve."""


@dataclass(frozen=True, eq=False)
class Curve:
    """A smoothed range-test curve; equal to itself alone.

    Attributes:
        lr: learning rates, rising, shape (n,).
        loss: smoothed losses that bounds are read off, shape (n,).
        shown: losses smoothed less, for the eye, shape (n,).
        median: recorded losses without lone outliers, shape (n,).
        start: level of the loss before it moves.
        lowest: index of the smallest smoothed loss.
        highest: largest recorded loss.
        noise: standard deviation of one recorded loss around the smoothed curve.
        error: standard error of the fall: that of the starting level and that of the lowest smoothed loss together.
    """

    lr: Floats
    loss: Floats
    shown: Floats
    median: Floats
    start: float
    lowest: int
    highest: float
    noise: float
    error: float

    @property
    def fall(self) -> float:
        """How far the smoothed loss falls from its starting level, ≥ 0."""
        return max(self.start - float(self.loss[self.lowest]), 0.0)

    @property
    def back(self) -> int:
        """Index of the first point after the lowest at which the loss is back where it started, else of the last."""
        above = np.flatnonzero(self.loss[self.lowest :] >= self.start)
        return self.lowest + int(above[0]) if len(above) else len(self.loss) - 1

    def updates(self, index: int) -> float:
        """How many updates at the rate of this point would have gone as far as all up to it: the sum of rates over it.

        In a sweep of n points a decade, about n / 2.3 anywhere but at its beginning.
        """
        return float(self.lr[: index + 1].sum() / self.lr[index])

    def reached(self, share: float) -> int:
        """Index of the first point from which on, up to the lowest, at least `share` of the fall is kept."""
        above = np.flatnonzero(self.loss[: self.lowest + 1] > self.start - share * self.fall)
        return int(min(above[-1] + 1, self.lowest)) if len(above) else 0


def smooth(lr: ArrayLike, loss: ArrayLike) -> Curve:
    """Smooth recorded losses over the logarithm of the learning rate.

    Losses that are higher above the starting level than the lowest is below it are cut there: how high a diverging loss
    flies says nothing, and would drag the curve up before the point of divergence. A running median of 3 takes lone
    outliers away. Of what is left, the nearest sequence that falls first and rises then is taken (`unimodal`), as a
    range test does: dips of noise are no minimum. A kernel of `BANDWIDTH` decades (but of 1.5 points at least) rounds
    its steps. The starting level is the median over the first quarter of the range (in decades), of 5 points at least.

    Args:
        lr: learning rates, rising, > 0, shape (n,) with n ≥ 1.
        loss: finite losses, shape (n,).

    Raises:
        ValueError: anything else.
    """
    rates, losses = np.array(lr, dtype=np.float64), np.array(loss, dtype=np.float64)
    check_curve(rates, losses)
    n = len(rates)
    position = np.log10(rates)
    # In a sweep with equal differences the first quarter of the points would reach far beyond the fall.
    quarter = int(np.searchsorted(position, position[0] + (position[-1] - position[0]) / 4))
    first = losses[: max(min(n, 5), min(quarter, n // 4))]
    start = float(np.median(first))
    values = running_median(losses, 3)
    # At the ends too, an outlier has to be outvoted.
    values[0], values[-1] = np.median(losses[:3]), np.median(losses[-3:])
    median = values.copy()
    values = np.minimum(values, max(2 * start - float(values.min()), start))
    spacing = (position[-1] - position[0]) / max(n - 1, 1)
    width = max(BANDWIDTH, 1.5 * spacing)
    smoothed = kernel(position, unimodal(values), width)
    shown = kernel(position, values, max(SHOWN, 1.5 * spacing))
    # A loss that rises from its first point on has no fall to be read off the level of its first quarter.
    start = min(start, float(smoothed[0]))
    lowest = int(np.argmin(smoothed))
    noise = _noise(losses[: max(lowest, n // 4) + 1])
    # Variances in units of one loss: of the kernel's mean there, and of the median of the first losses.
    variance = (kernel_weights(position[[lowest]], position, width) ** 2).sum() + np.pi / 2 / len(first)
    for array in (rates, smoothed, shown, median):
        array.setflags(write=False)
    return Curve(
        rates, smoothed, shown, median, start, lowest, float(losses.max()), noise, noise * float(np.sqrt(variance))
    )


def _noise(losses: Floats) -> float:
    """The standard deviation of one loss, from the differences of neighbours."""
    steps = np.diff(losses)
    if not len(steps):
        return 0.0
    noise = float(np.median(np.abs(steps))) / (0.6745 * np.sqrt(2))
    # Values of few levels, such as an accuracy, repeat themselves more often than not.
    return noise or float(np.sqrt(np.mean(steps**2) / 2))


def check_curve(lr: Floats, loss: Floats) -> None:
    """Raise `ValueError` unless these are rising rates > 0 and as many finite losses."""
    if lr.ndim != 1 or lr.shape != loss.shape or lr.size == 0:
        raise ValueError(
            f"lr and loss must be vectors of one length, of at least 1; got shapes {lr.shape} and {loss.shape}."
        )
    with np.errstate(invalid="ignore"):
        legal = np.isfinite(lr) & (lr > 0) & (np.diff(lr, prepend=-np.inf) > 0)
    if not np.all(legal):
        at = int(legal.argmin())
        raise ValueError(f"lr must be finite, greater than 0 and rising; got lr={lr[at]} at index {at}.")
    if not np.all(np.isfinite(loss)):
        at = int(np.isfinite(loss).argmin())
        raise ValueError(f"loss must be finite; got loss={loss[at]} at index {at}. Leave out what is not.")
