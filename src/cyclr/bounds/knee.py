"""The default rule: base_lr is where the loss starts to fall, and max_lr is a little below the onset of instability."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from cyclr import _checks
from cyclr.bounds.base import ADVICE, Bounds, Status
from cyclr.bounds.curve import MIN_POINTS, Curve, smooth
from cyclr.drawing.picture import Mark, verdict

BEGUN = 0.1
"""Share of the fall after which the loss counts as falling. It gives base_lr."""

FLATTENED = 0.9
"""Share of the fall after which the curve counts as flattened."""

SETTLED = 0.98
"""Share of the fall after which the loss counts as settled. The minimum itself may lie anywhere on a level stretch."""

READINGS = ((0.4, 1.0), (0.4, 1.5), (0.2, 14.0))
"""Weight and divisor of each of the three readings of max_lr: the learning rate at which the loss flattened, at which
it settled, and at which it was back at its starting level or the test ended. `benchmarks/bounds/leave_one_out.py`
chooses the weights 0.2, 0.6 and 0.2. These are better by only 0.0005 on its tasks and depend more on a single reading.
"""

USUAL, POWER, MOST = 9.75, 0.4, 4.0
"""`USUAL` is `Curve.updates` of the default sweep, 150 points over seven decades. A longer sweep makes more updates
before it reaches a given learning rate, so its loss has fallen further there. The learning rates at which the loss
flattens and settles are then lower by a factor of about (`Curve.updates` / `USUAL`)^`POWER`. The power was measured for
ratios up to 2.3 and is used up to `MOST`.
"""

FALLEN, READINGS_FROM_START, USUAL_FROM_START = 0.7, ((0.8, 0.65), (0.2, 10.0)), 5
"""The same constants for a test that restores the initial weights before every learning rate. Few updates at a learning
rate show where the loss falls, but hardly where it settles. So max_lr is read at 70 % of the fall, and at the point at
which the loss is back at its starting level. Updates at lower learning rates have no effect, so `USUAL_FROM_START`
counts the updates at one learning rate. The constants were chosen to give the max_lr of the default sweeps of 20 models
and were checked with ten other models (`benchmarks/lr_finder.py`).
"""

RATIO = (10.0, 100.0)
"""Smallest and largest max_lr / base_lr."""

NEGLIGIBLE = 1e-3
"""A fall is ignored if it is smaller than this share of the starting level, and than this share of the rise."""

UNHARMED, MARGIN, BEFORE_END = 0.1, 1.5, 20.0
"""A loss is unharmed if it is at most the share `UNHARMED` above its starting level. The max_lr for fine-tuning is the
last learning rate with an unharmed loss, divided by `MARGIN`. Because noise may hide a rise, it is at most the last
learning rate of the test, divided by `BEFORE_END`.
"""

HIDDEN = 3.0
"""A loss shows no rise if it is unharmed up to the last learning rate divided by this number, and training stays
stable."""

LEVEL = 30.0
"""A loss may come from a trained model if it rises only after the learning rate has risen by this factor."""

HINT, FLAT, NOISY = 1.5, 3.1, 4.5
"""Limits for the fall of the loss, in standard errors of the fall. A fall below `FLAT` is ignored, and a fall between
`FLAT` and `NOISY` may be noise. Between `HINT` and `FLAT`, noise may hide a fall, and bounds for fine-tuning would
often be too high: training with such bounds lost 0.38 of the best score on average in 20 tests between `HINT` and
`FLAT`, but 0.13 in 21 tests below `HINT` (`benchmarks/bounds/small_batches.py`).

Of 300 curves of pure noise, 95 % fell by less than 3.1 standard errors, 99 % by less than 3.6, and all by less than 4.5
(`benchmarks/bounds/noise.py`).
"""

ROSE = 6.5
"""The loss counts as risen if a recorded loss is more than this many standard deviations of the noise above `start`."""

CUT_SHORT = "The test ended before it reached its max_lr: let it run to the end, with more data or fewer steps."
"""Advice if the test ended early, so that a higher max_lr would change nothing."""

UNPROVEN = (
    "Training ended at NaN or infinity, because of a broken batch or because the learning rate is too high. Check the "
    "data for values that are not finite. To find the cause, create RangeTest with restores=True, and restore the "
    "weights while RangeTest.in_doubt is True."
)
"""Advice if the loss became NaN or infinite before it had risen, in a training loop that does not restore weights."""

UNSTABLE = (
    "Training turned unstable at once: check the data for values that are not finite, scale the inputs, or lower "
    "min_lr."
)
"""Advice if the test became unstable before it had enough points for a curve."""


def knee(
    lr: ArrayLike,
    loss: ArrayLike,
    *,
    unstable_end: bool = False,
    cut_short: bool = False,
    updates_per_rate: int = 1,
    from_start: bool = False,
) -> Bounds:
    """Read bounds from a range test.

    With the level L0 of the loss at the start, and the fall F of its smoothed curve:

    - max_lr: the weighted geometric mean of three readings, r_1^0.4 · r_2^0.4 · r_3^0.2. r_1 is the learning rate at
      which the loss has fallen by 0.9 F (the curve flattens). r_2 is the learning rate at which the loss has fallen by
      0.98 F (the loss settles), divided by 1.5. r_3 is the learning rate at which the loss is back at L0 (training is
      unstable), or the last learning rate, divided by 14. If one reading is wrong because of noise, a long tail or a
      loss that cannot rise much, the other two limit the error.
    - base_lr: the learning rate at which the loss has fallen by 0.1 F, but at least max_lr / 100 and at most
      max_lr / 10.

    r_1 and r_2 are first multiplied by (u / 9.75)^0.4, so that the bounds of short and long sweeps are comparable.
    u is the number of updates at this learning rate that equal all updates so far (`updates_per_rate` times
    `Curve.updates`). In a default sweep u is 9.75. The ratio u / 9.75 is at least 1/4 and at most 4. max_lr is at most
    the learning rate of the lowest loss.

    With `from_start`, max_lr is r_1^0.8 · r_3^0.2. Here r_1 is the learning rate at which the loss has fallen by 0.7 F,
    divided by 0.65, and r_3 is divided by 10. Updates at lower learning rates have no effect, so u / 9.75 is replaced
    by updates_per_rate / 5.

    Args:
        lr: learning rates, rising, > 0, shape (n,).
        loss: finite losses of the batches, shape (n,).
        unstable_end: True if the test ended because training turned unstable, even if no recorded loss shows it.
        cut_short: True if the test ended before its last learning rate for another reason, such as the end of the data.
            The advice is then to let the test run to the end.
        updates_per_rate: updates made at every learning rate, ≥ 1.
        from_start: True if the initial weights were restored before every learning rate. Each loss is then the mean
            over the updates at its learning rate, without the first update.

    Raises:
        TypeError, ValueError: the learning rates do not rise, a loss is not finite, the lengths of `lr` and `loss`
            differ, or updates_per_rate is not an integer of at least 1.

    Returns:
        Bounds with a status. The bounds are numbers if the status is `"ok"`, `"no_divergence"` or `"noisy"`. If the
        status is `"flat"`, the bounds are numbers only if the loss kept its level for long and then rose, like the loss
        of a trained model, and fell by less than 1.5 standard errors. A larger fall may belong to a model that learns,
        hidden by noise.

    Example:
        >>> import numpy as np
        >>> from cyclr.bounds import knee
        >>> lr = np.geomspace(1e-6, 10, 150)
        >>> loss = 2.3 - 2 / (1 + (0.01 / lr) ** 2) + (lr / 0.5) ** 2
        >>> bounds = knee(lr, loss)
        >>> bounds.status, f"{bounds.base_lr:.1g}", f"{bounds.max_lr:.1g}"
        ('ok', '0.002', '0.04')
    """
    _checks.integer("updates_per_rate", updates_per_rate, at_least=1)
    if np.size(lr) == np.size(loss) == 0:
        return _too_few(0, CUT_SHORT if cut_short else "")
    curve = smooth(lr, loss)
    short = CUT_SHORT if cut_short else ""
    bounds = read_bounds(
        curve,
        unstable_end=unstable_end,
        cut_short=short,
        updates_per_rate=updates_per_rate,
        from_start=from_start,
    )
    return unless_ascent(bounds, curve, loss)[0]


def read_bounds(
    curve: Curve, *, unstable_end: bool, cut_short: str, updates_per_rate: int = 1, from_start: bool = False
) -> Bounds:
    """Read bounds from a smoothed curve by the rule of `knee`. `cut_short` is the advice if the test ended early."""
    if len(curve.lr) < MIN_POINTS:
        return _too_few(len(curve.lr), cut_short, unstable_end)
    level = _bounds_if_flat(curve, unstable_end, cut_short)
    if level is not None:
        return level
    begun, flattened = curve.reached(BEGUN), curve.reached(FLATTENED)
    begins, lowest = float(curve.lr[begun]), float(curve.lr[curve.lowest])
    rates, weights = readings(curve, updates_per_rate, from_start), READINGS_FROM_START if from_start else READINGS
    mean = math.exp(sum(w * math.log(rate / by) for (w, by), rate in zip(weights, rates, strict=True)))
    top = min(mean, lowest)
    low = min(max(begins, top / RATIO[1]), top / RATIO[0])
    kept = "" if top == mean else " max_lr is kept at the learning rate of the lowest loss."
    kept += "" if low == begins else f" base_lr is kept at max_lr / {top / low:.0f}."
    bottom = float(curve.loss[curve.lowest])
    fell = f"The loss fell from {curve.start:.3g} to {bottom:.3g}, beginning near {begins:.2g}"
    marks = [
        _start(curve),
        _point(curve, "begins to fall:", begun),
        _point(curve, f"lowest: {bottom:.3g} at", curve.lowest),
    ]
    rise = float(curve.loss[curve.lowest :].max() - bottom)
    if errors_of_fall(curve) < NOISY:
        words = f"{fell}, but noise from update to update hides the shape of the curve: the bounds are a guess.{kept}"
        return _bounds("noisy", (low, top), words, marks, ADVICE["noisy"])
    if not unstable_end and rise < BEGUN * curve.fall:
        words = (
            f"{fell}, and did not rise again before the end of the test at {curve.lr[-1]:.2g}, so higher learning "
            f"rates may be even better.{kept}"
        )
        marks.append(_point(curve, "end of the test:", -1))
        return _bounds("no_divergence", (low, top), words, marks, cut_short or ADVICE["no_divergence"])
    words = f"{fell}; it flattened near {curve.lr[flattened]:.2g} and turned unstable beyond {lowest:.2g}.{kept}"
    marks.insert(2, _point(curve, "flattens:", flattened))
    return _bounds("ok", (low, top), words, marks)


def unless_ascent(bounds: Bounds, curve: Curve, loss: ArrayLike) -> tuple[Bounds, Curve | None]:
    """Return the bounds, or bounds that are None if the loss is a reward, which rises while the model learns.

    The loss counts as a reward if bounds can be read from the negative loss, and the loss itself does not change, or
    falls only after it rose, because training turned unstable. None of 1,080 sweeps of the benchmark counts as a
    reward. Of 3,000 curves of noise, 2 count as a reward; these give no bounds in either case
    (`benchmarks/bounds/noise.py`).

    Returns:
        The bounds, and the curve of the negative loss if the loss counts as a reward, or None.
    """
    if bounds.status == "too_few_points":
        return bounds, None
    reward = smooth(curve.lr, -np.asarray(loss, dtype=np.float64))
    found = read_bounds(reward, unstable_end=False, cut_short="")
    stayed = not bounds.usable and curve.highest - curve.start <= ROSE * curve.noise
    if found.status == "ok":
        ascent = reward.lowest < curve.lowest or stayed
    else:
        ascent = found.status == "no_divergence" and stayed
    if not ascent:
        return bounds, None
    start, highest, rate = -reward.start, -float(reward.loss[reward.lowest]), float(reward.lr[reward.lowest])
    marks = [Mark(f"start: {start:.3g}", start), Mark(f"highest: {highest:.3g} at {rate:.2g}", highest, rate)]
    words = f"The loss rose from {start:.3g} to {highest:.3g} as it learned, like a reward."
    advice = (
        "If the training step maximizes a reward, return the reward's negative as the loss. Otherwise check the sign "
        "of the gradient."
    )
    return _bounds("flat", None, words, marks, advice), reward


def readings(curve: Curve, updates_per_rate: int = 1, from_start: bool = False) -> tuple[float, ...]:
    """Return the learning rates from which max_lr is computed.

    The first are those at which the loss has fallen by the shares `FLATTENED` and `SETTLED`, or `FALLEN` with
    `from_start`, corrected to the values of a default sweep. The last is the learning rate at which the loss is back at
    its starting level.
    """

    def usual(share: float) -> float:
        index = curve.reached(share)
        more = updates_per_rate * (1 / USUAL_FROM_START if from_start else curve.updates(index) / USUAL)
        return float(curve.lr[index] * min(max(more, 1 / MOST), MOST) ** POWER)

    return (*map(usual, (FALLEN,) if from_start else (FLATTENED, SETTLED)), float(curve.lr[curve.back]))


def errors_of_fall(curve: Curve) -> float:
    """Return the fall of the loss in standard errors."""
    # The error is at least the rounding error.
    errors = max(curve.error, 1e-9 * max(abs(curve.start), curve.fall))
    return curve.fall / errors if errors > 0 else 0.0


def _bounds_if_flat(curve: Curve, unstable_end: bool, cut_short: str) -> Bounds | None:
    """Return bounds for a curve without a fall, or None if the curve falls."""
    rise, errors = curve.highest - curve.start, errors_of_fall(curve)
    if errors >= FLAT and curve.fall >= NEGLIGIBLE * min(rise, abs(curve.start)):
        return None
    start, first, end = _start(curve), _point(curve, "first rate:", 0), _point(curve, "end of the test:", -1)
    if rise <= max(ROSE * curve.noise, NEGLIGIBLE * abs(curve.start)):
        words = f"The loss stayed at {curve.start:.3g} from {curve.lr[0]:.2g} to {curve.lr[-1]:.2g}"
        advice = cut_short or ADVICE["flat"]
        if unstable_end:
            words += ", until training turned unstable: nothing was learned before."
            advice = "Check the data for values that are not finite, and that the model learns at all."
        else:
            words += ": nothing was learned."
        return _bounds("flat", None, words, [start, first, end], advice)
    # The running median is used, because the smoothed loss does not follow a rise to its full height.
    unharmed = np.flatnonzero(curve.median <= curve.start + max(3 * curve.noise, UNHARMED * abs(curve.start)))
    last = float(curve.lr[unharmed[-1]]) if len(unharmed) else 0.0
    if HINT <= errors < FLAT or (not unstable_end and last > curve.lr[-1] / HIDDEN):
        return _bounds(
            "flat",
            None,
            f"The loss never clearly fell below its starting level of {curve.start:.3g}, but its noise from update to "
            "update may hide a fall.",
            [start],
            cut_short
            or "Run the range test with larger batches, or with updates_per_rate=8. If the loss stays level then, "
            "check the data and that the model learns at all.",
        )
    never = f"The loss never fell below its starting level of {curve.start:.3g}"
    top = min(last / MARGIN, float(curve.lr[-1]) / BEFORE_END)
    if top >= LEVEL * curve.lr[0]:
        marks, kept = [start, _point(curve, "rises beyond", unharmed[-1])], ""
        if top < last / MARGIN:
            kept = f" max_lr is kept at a twentieth of {curve.lr[-1]:.2g}, the end of the test."
            marks.append(end)
        words = (
            f"{never}, and rose beyond {last:.2g}.{kept} base_lr is kept at max_lr / {RATIO[1]:.0f}. This is normal "
            "for a trained model, whose loss starts near its floor: for fine-tuning, these bounds keep below the rise. "
            "A new model did not learn: the data may hold nothing to learn, the step may add gradients instead of "
            "subtracting them, or the noise of small batches may hide the fall (updates_per_rate=8 would show it)."
        )
        return _bounds("flat", (top / RATIO[1], top), words, marks)
    words = (
        f"{never} before it rose: every learning rate from {curve.lr[0]:.2g} on that changed the loss was too high, "
        "the step adds gradients instead of subtracting them, or the model cannot learn from this data."
    )
    return _bounds("flat", None, words, [start, first], "Lower min_lr of the range test.")


def _too_few(n: int, cut_short: str, unstable_end: bool = False) -> Bounds:
    recorded = f"The test recorded {n} {'loss' if n == 1 else 'losses'} before it ended"
    words = f"{recorded}; {MIN_POINTS} are needed to see a curve."
    advice = cut_short or (UNSTABLE if unstable_end else ADVICE["too_few_points"])
    return _bounds("too_few_points", None, words, [], advice)


def _start(curve: Curve) -> Mark:
    return Mark(f"start: {curve.start:.3g}", curve.start)


def _point(curve: Curve, name: str, index: int) -> Mark:
    """Return a mark for a point of the curve: a name and the point's learning rate."""
    rate = float(curve.lr[index])
    return Mark(f"{name} {rate:.2g}", float(curve.loss[index]), rate)


def _bounds(
    status: Status, numbers: tuple[float, float] | None, words: str, marks: Sequence[Mark], advice: str = ""
) -> Bounds:
    """Return bounds whose reason consists of the verdict, a description of the curve, and advice."""
    reason = " ".join(filter(None, (verdict(numbers), words, advice)))
    low, top = numbers or (None, None)
    return Bounds(low, top, status, reason, tuple(marks))
