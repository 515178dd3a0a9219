"""The numbers of a picture of a range test, the same for Matplotlib, SVG and the page."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class RangePicture:
    """A range test as it is drawn: numbers and sentences, without a plotting library.

    Attributes:
        lr: learning rates, rising, shape (n,).
        loss: recorded losses, shape (n,).
        runs: losses of every repeat, shape (repeats, n); one row without repeats.
        curve: smoothed losses, shape (n,).
        noise: standard deviation of one loss around the smoothed curve.
        scale: scale of the learning-rate axis.
        bounds: (base_lr, max_lr), or None if the test gives none.
        interval: interval of max_lr, or None if it was not computed.
        status: status of the bounds, such as `"ok"`.
        verdict: the bounds as a sentence.
        reason: the shape of the curve in words, and the remedy.
        ended: how many learning rates were tried, and why the test ended.
    """

    lr: Floats
    loss: Floats
    runs: Floats
    curve: Floats
    noise: float
    scale: Literal["log", "linear"]
    bounds: tuple[float, float] | None
    status: str
    verdict: str
    reason: str
    ended: str
    interval: tuple[float, float] | None = None

    @property
    def title(self) -> str:
        """`"Range test"`, with the status if that is not `"ok"`."""
        return "Range test" if self.status == "ok" else f"Range test: {self.status.replace('_', ' ')}"

    @cached_property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest loss of the picture: the fall, the turn and most dots, but no outliers."""
        low, high = float(self.curve.min()), float(self.curve.max())
        high = max(high, float(np.quantile(self.loss, 0.75)))
        room = 3 * self.noise + (0.08 * (high - low) or 0.05 * abs(high) or 1.0)
        return low - room - 0.12 * (high - low), high + room

    @cached_property
    def dots(self) -> Floats:
        """The recorded losses, NaN if they are far outside the limits: no graphics library can draw those."""
        low, high = self._drawable
        return np.where((low < self.loss) & (self.loss < high), self.loss, np.nan)

    @cached_property
    def band(self) -> tuple[Floats, Floats] | None:
        """Lowest and highest loss of the repeats at every rate, kept near the limits; None without repeats."""
        if len(self.runs) < 2:
            return None
        runs = np.clip(self.runs, *self._drawable)
        return runs.min(0), runs.max(0)

    @property
    def _drawable(self) -> tuple[float, float]:
        """The limits, with as much room again on both sides."""
        low, high = self.limits
        return 2 * low - high, 2 * high - low
