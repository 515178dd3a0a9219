"""Why a range test ended, and when it has diverged."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from cyclr.bounds.curve import LARGEST, MIN_POINTS
from cyclr.bounds.smoothing import RunningMean

StopReason = Literal["completed", "diverged", "non_finite", "data_exhausted", "interrupted"]

IN_WORDS: dict[str, str] = {
    "completed": "every learning rate was tried",
    "diverged": "the loss left its lowest value far behind",
    "non_finite": "the loss became infinite or NaN",
    "data_exhausted": "the data ended",
    "interrupted": "the test was stopped before its end",
}

SKIPPED_AT_MOST = 100
"""Updates in a row that loss scaling may skip. Each halves the scale, which starts at 2^15 (Keras) or 2^16 (torch)."""


def divergence_threshold(initial: float, best: float, factor: float, noise: float = 0.0) -> float:
    """Return the smoothed loss above which a test has diverged.

    It is best + (factor − 1) · max(|best|, initial − best, noise).

    For a loss that has not fallen much this is the usual `factor · best`. A loss that has fallen to near 0 or below is
    compared with how far it fell, so that noise around a tiny minimum is not divergence. A loss that starts near 0,
    such as a critic's, is compared with its noise. The test stops at the same point if all losses are scaled.

    Args:
        initial: smoothed loss of the first point.
        best: lowest smoothed loss so far.
        factor: > 1.
        noise: typical difference of neighbouring losses, ≥ 0.
    """
    return best + (factor - 1.0) * max(abs(best), initial - best, noise)


class Divergence:
    """Follows the losses of a test, to find out when it has diverged.

    Attributes:
        smoothed: running mean of the losses so far, NaN before the first.
    """

    def __init__(self, factor: float | None, smoothing: float) -> None:
        self._factor = factor
        self._mean = RunningMean(smoothing)
        self._noise = self._initial = self.smoothed = math.nan
        self._best = math.inf

    def update(self, losses: Sequence[float]) -> bool:
        """Add the last of the losses so far, and return True if the test has diverged: after `MIN_POINTS` at least."""
        self.smoothed = self._mean.update(min(max(losses[-1], -LARGEST), LARGEST))
        self._best = min(self._best, self.smoothed)
        if len(losses) == 1:
            self._initial = self.smoothed
        if len(losses) == MIN_POINTS:
            self._noise = float(np.median(np.abs(np.diff(np.clip(losses, -LARGEST, LARGEST)))))
        if self._factor is None or len(losses) < MIN_POINTS:
            return False
        return self.smoothed > divergence_threshold(self._initial, self._best, self._factor, self._noise)


def is_unstable(reason: StopReason) -> bool:
    """Return True if the training became unstable, which ended the test."""
    return reason in ("diverged", "non_finite")
