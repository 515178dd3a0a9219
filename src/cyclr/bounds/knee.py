"""The default rule: from where the loss begins to fall to where it stops falling, a little before it turns unstable."""

import numpy as np
from numpy.typing import ArrayLike

from cyclr.bounds.base import ADVICE, Bounds, Status
from cyclr.bounds.curve import MIN_POINTS, Curve, check_curve, smooth

BEGUN = 0.1
"""Share of the fall after which the loss counts as falling: base_lr."""

FLATTENED = 0.9
"""Share of the fall after which the improvement counts as flattened."""

MARGIN = 1.5
"""max_lr is this much below the rate at which the improvement flattens, as the test shows damage late."""

RATIO = (4.0, 100.0)
"""Smallest and largest max_lr / base_lr."""

NEGLIGIBLE = 1e-3
"""A fall below this share of the level it starts from is none, if the loss then rises by more."""

FLAT, NOISY = 4.0, 7.0
"""A fall below this many standard errors of the smoothed loss is none at all, or cannot be told from noise.

On 200 curves of pure noise, 95 in 100 fell by less than 4 standard errors and 99 in 100 by less than 7.
"""


def knee(lr: ArrayLike, loss: ArrayLike, *, unstable_end: bool = False) -> Bounds:
    """Read bounds off a range test.

    With L0 the level of the loss at the start and F how far its smoothed curve falls:

    - base_lr: the rate at which the loss has fallen by 0.1 F, kept between max_lr / 100 and max_lr / 4,
    - max_lr: the rate at which it has fallen by 0.9 F, divided by 1.5.

    Args:
        lr: learning rates, rising, > 0, shape (n,).
        loss: finite losses of the batches, shape (n,).
        unstable_end: whether the test ended because training turned unstable, even if no recorded loss shows it.

    Raises:
        ValueError: rates that do not rise, losses that are not finite, or not as many of both.

    Returns:
        Bounds with a status; they hold numbers if it is `"ok"` or `"no_divergence"`.

    Example:
        >>> import numpy as np
        >>> from cyclr.bounds import knee
        >>> lr = np.geomspace(1e-6, 10, 150)
        >>> loss = 2.3 - 2 / (1 + (0.01 / lr) ** 2) + (lr / 0.5) ** 2
        >>> bounds = knee(lr, loss)
        >>> bounds.status, f"{bounds.base_lr:.1g}", f"{bounds.max_lr:.1g}"
        ('ok', '0.003', '0.02')
    """
    n = np.size(lr)
    if n:
        check_curve(np.asarray(lr, dtype=np.float64), np.asarray(loss, dtype=np.float64))
    if n < MIN_POINTS:
        return _without(
            "too_few_points", f"The test recorded {n} losses before it ended; {MIN_POINTS} are needed to see a curve."
        )
    curve = smooth(lr, loss)
    nothing = _nothing_to_read(curve)
    if nothing is not None:
        return nothing
    flattened = float(curve.lr[curve.reached(FLATTENED)])
    top = flattened / MARGIN
    begun = float(curve.lr[curve.reached(BEGUN)])
    low = min(max(begun, top / RATIO[1]), top / RATIO[0])
    fell = f"The loss fell from {curve.start:.3g} to {curve.loss[curve.lowest]:.3g}, beginning near {begun:.2g}"
    lowest = float(curve.lr[curve.lowest])
    rise = float(curve.loss[curve.lowest :].max() - curve.loss[curve.lowest])
    if not unstable_end and rise < BEGUN * curve.fall:
        return Bounds(
            low,
            top,
            "no_divergence",
            f"{fell}, and never turned up to the end of the test at {curve.lr[-1]:.2g}, so that higher rates may do "
            f"better still. {ADVICE['no_divergence']}",
        )
    turned = f"turned unstable beyond {lowest:.2g}"
    return Bounds(low, top, "ok", f"{fell}; it flattened near {flattened:.2g} and {turned}.")


def _nothing_to_read(curve: Curve) -> Bounds | None:
    """Bounds without numbers for a curve that shows no fall, and None for one that does."""
    # A noise far below what the loss itself can resolve is none.
    errors = max(curve.error, 1e-9 * max(abs(curve.start), curve.fall))
    fall_in_errors = curve.fall / errors if errors > 0 else 0.0
    rise = curve.highest - curve.start
    if fall_in_errors < FLAT or curve.fall < NEGLIGIBLE * min(rise, abs(curve.start)):
        if rise > max(NOISY * curve.noise, NEGLIGIBLE * abs(curve.start)):
            return _without(
                "flat",
                f"The loss never fell below its starting level of {curve.start:.3g} before it rose: every rate from "
                f"{curve.lr[0]:.2g} on that moved it was too high, or the model cannot learn from this data.",
                "Lower min_lr of the range test.",
            )
        return _without(
            "flat",
            f"The loss stayed at {curve.start:.3g} from {curve.lr[0]:.2g} to {curve.lr[-1]:.2g}: nothing was learned.",
        )
    if fall_in_errors < NOISY:
        return _without(
            "noisy",
            f"The loss fell by {curve.fall:.2g}, which is too little to tell where against its noise of "
            f"{curve.noise:.2g} from batch to batch.",
        )
    return None


def _without(status: Status, seen: str, advice: str = "") -> Bounds:
    return Bounds(None, None, status, f"{seen} {advice or ADVICE[status]}")
