"""What part of a curve to show: shared by all pictures of a range test."""

from cyclr.range_test import RangeTestResult


def loss_limits(result: RangeTestResult) -> tuple[float, float]:
    """Limits that show the fall and the turn, and neither lone outliers nor how high a diverging loss flew."""
    low, high = float(result.smoothed_loss.min()), float(result.smoothed_loss.max())
    room = 3 * result.curve.noise + (0.08 * (high - low) or 0.05 * abs(high) or 1.0)
    return low - room - 0.12 * (high - low), high + room
