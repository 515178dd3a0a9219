"""What part of a curve to show: shared by all pictures of a range test."""

import numpy as np

from cyclr.bounds.smoothing import Floats
from cyclr.range_test import RangeTestResult


def loss_limits(result: RangeTestResult) -> tuple[float, float]:
    """Limits that show the fall, the turn and most dots, but no lone outliers, nor how high a diverging loss flew."""
    low, high = float(result.smoothed_loss.min()), float(result.smoothed_loss.max())
    high = max(high, float(np.quantile(result.loss, 0.75)))
    room = 3 * result.curve.noise + (0.08 * (high - low) or 0.05 * abs(high) or 1.0)
    return low - room - 0.12 * (high - low), high + room


def spread(result: RangeTestResult) -> tuple[Floats, Floats] | None:
    """The lowest and the highest loss of the repeats at every rate, kept near to the picture; None without repeats."""
    if len(result.runs) < 2:
        return None
    low, high = loss_limits(result)
    runs = np.clip(result.runs, 2 * low - high, 2 * high - low)
    return runs.min(0), runs.max(0)
