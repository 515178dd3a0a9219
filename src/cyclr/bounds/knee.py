"""The default rule: from where the loss starts to fall to where it stops, a little below where it turns unstable."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from cyclr import _checks
from cyclr.bounds.base import ADVICE, Bounds, Status
from cyclr.bounds.curve import MIN_POINTS, Curve, smooth
from cyclr.drawing.picture import Mark, verdict

BEGUN = 0.1
"""Share of the fall after which the loss counts as falling: base_lr."""

FLATTENED = 0.9
"""Share of the fall after which the improvement counts as flattened."""

SETTLED = 0.98
"""Share of the fall after which the loss has settled: the lowest point may be anywhere on a level stretch."""

READINGS = ((0.4, 1.0), (0.4, 1.5), (0.2, 14.0))
"""Weight and divisor of each reading of max_lr: the rates at which the loss flattened, at which it settled, and at
which it was back at its start or the test ended. `benchmarks/bounds/leave_one_out.py` chooses the weights 0.2, 0.6
and 0.2, which are better by 0.0005 on its tasks and depend more on one reading.
"""

USUAL, POWER, MOST = 9.75, 0.4, 4.0
"""`Curve.updates` of the default sweep, 150 points over seven decades. A longer sweep has made more updates before it
reaches a rate, so its loss has fallen further, and the rates at which the loss flattens and settles are lower by about
this power of the ratio. The power was measured up to a ratio of 2.3 and is used up to 4.
"""

FALLEN, READINGS_FROM_START, USUAL_FROM_START = 0.7, ((0.8, 0.65), (0.2, 10.0)), 5
"""The same numbers for a test that restores the weights of the start before every rate. Its few updates at a rate show
where the loss falls, but hardly where it settles. So max_lr is read at 70 % of the fall, and where the loss is back at
its start. Updates at lower rates count for nothing: `USUAL_FROM_START` is a number of updates at one rate. Chosen on 20
models by the max_lr of their default sweeps, and compared with those of ten others: `benchmarks/lr_finder.py`.
"""

RATIO = (10.0, 100.0)
"""Smallest and largest max_lr / base_lr."""

NEGLIGIBLE = 1e-3
"""A fall below this share of the starting level does not count if the loss then rises by more."""

UNHARMED, MARGIN, BEFORE_END = 0.1, 1.5, 20.0
"""A loss at most this share above its start did no harm. The max_lr for fine-tuning is the last rate of such a loss
over the second number, and at most the last rate of the test over the third, because noise may hide a rise.
"""

HIDDEN = 3.0
"""A loss that did no harm up to the last rate over this number shows no rise, unless the test became unstable there."""

LEVEL = 30.0
"""A loss that keeps its level while the rate rises by this factor, and then rises, may come from a trained model."""

HINT, FLAT, NOISY = 1.5, 3.1, 4.5
"""A fall below the second number of standard errors is no fall; below the third it may be noise. From the first number
on, noise may hide a fall, and bounds for fine-tuning would often be too high: with them, training after 20 such tests
lost 0.38 of the best score on average, and 0.13 after 21 tests below it (`benchmarks/bounds/small_batches.py`).

Of 300 curves of pure noise, 95 in 100 fell by less than 3.1 standard errors, 99 in 100 by less than 3.6, and none by
4.5: `benchmarks/bounds/noise.py`.
"""

ROSE = 6.5
"""A loss that was never more than this many standard deviations of its noise above its start has not risen."""

CUT_SHORT = "The test ended before it reached its max_lr: let it run to the end, with more data or fewer steps."
"""Advice if a higher max_lr would change nothing."""

UNPROVEN = (
    "Training ended at NaN or infinity, by a broken batch or a rate that is too high. Check the data for values that "
    "are not finite. To tell them apart, restore the weights while RangeTest.in_doubt is True, and create it with "
    "restores=True."
)
"""Advice if a loop that restores no weights met NaN or infinity before the loss had risen."""

UNSTABLE = (
    "Training turned unstable at once: check the data for values that are not finite, scale the inputs, or lower "
    "min_lr."
)
"""Advice if the test became unstable before a curve could be seen."""


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

    With L0 the level of the loss at the start and F how far its smoothed curve falls:

    - max_lr: the weighted geometric mean of three readings, r_1^0.4 · r_2^0.4 · r_3^0.2. r_1 is the rate at which the
      loss has fallen by 0.9 F (it flattens). r_2 is the rate at which it has fallen by 0.98 F (it settles), over 1.5.
      r_3 is the rate at which it is back at L0 (it is unstable), or the last rate, over 14. If noise, a long tail or a
      loss that cannot rise much moves one of them, the others limit the error.
    - base_lr: the rate at which the loss has fallen by 0.1 F, kept between max_lr / 100 and max_lr / 10.

    The rates of flattening and settling are first multiplied by (u / 9.75)^0.4, so that bounds of short and long sweeps
    are comparable: u is the number of updates at this rate that equal all updates so far (`Curve.updates`), 9.75 in a
    default sweep, and u / 9.75 is kept between 1/4 and 4. With `from_start` the updates at lower rates count for
    nothing, and the ratio is updates_per_rate / 5. max_lr is never above the rate of the lowest loss.

    Args:
        lr: learning rates, rising, > 0, shape (n,).
        loss: finite losses of the batches, shape (n,).
        unstable_end: True if the test ended because training turned unstable, even if no recorded loss shows it.
        cut_short: True if it ended before its last rate for another reason, such as the end of the data; the advice is
            then to let it run to the end.
        updates_per_rate: updates made with every rate, ≥ 1.
        from_start: True if the weights of the start were restored before every rate, and each loss is the mean over the
            updates of its rate without the first.

    Raises:
        TypeError, ValueError: rates that do not rise, losses that are not finite, or not as many of both; an
            updates_per_rate that is not an integer of at least 1.

    Returns:
        Bounds with a status. They hold numbers if it is `"ok"`, `"no_divergence"` or `"noisy"`, and also if it is
        `"flat"` because the loss kept its level for long and then rose, as the loss of a trained model does, and did
        not fall by more than 1.5 standard errors, which noise may hide in a model that learns.

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
    """Read bounds from a smoothed curve; `knee` says how. `cut_short` is the advice if the test ended early."""
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
    kept = "" if top == mean else " max_lr is kept at the rate of the lowest loss."
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
        words = f"{fell}, but its noise from update to update hides where: the bounds are a guess.{kept}"
        return _bounds("noisy", (low, top), words, marks, ADVICE["noisy"])
    if not unstable_end and rise < BEGUN * curve.fall:
        words = (
            f"{fell}, and never turned up to the end of the test at {curve.lr[-1]:.2g}, so that higher rates may do "
            f"better still.{kept}"
        )
        marks.append(_point(curve, "end of the test:", -1))
        return _bounds("no_divergence", (low, top), words, marks, cut_short or ADVICE["no_divergence"])
    words = f"{fell}; it flattened near {curve.lr[flattened]:.2g} and turned unstable beyond {lowest:.2g}.{kept}"
    marks.insert(2, _point(curve, "flattens:", flattened))
    return _bounds("ok", (low, top), words, marks)


def unless_ascent(bounds: Bounds, curve: Curve, loss: ArrayLike) -> tuple[Bounds, Curve | None]:
    """Return the bounds, or none if the loss rises as it learns, because it is a reward that the training maximizes.

    Then the curve upside down is one to read bounds from: it falls, while the curve itself does not move, or falls only
    after it rose, when training turns unstable. Of 1,080 sweeps of the benchmark none is taken for one, and of
    3,000 curves of noise 2 (`benchmarks/bounds/noise.py`), which have no bounds either way.

    Returns:
        The bounds, and the curve of the negative loss if that was read.
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
    """Return the rates that max_lr is read from: those of shares of the fall, and that at which the loss was back.

    The shares are `FLATTENED` and `SETTLED`, or `FALLEN` with `from_start`. Their rates are those at which a usual test
    would have reached them.
    """

    def usual(share: float) -> float:
        index = curve.reached(share)
        more = updates_per_rate * (1 / USUAL_FROM_START if from_start else curve.updates(index) / USUAL)
        return float(curve.lr[index] * min(max(more, 1 / MOST), MOST) ** POWER)

    return (*map(usual, (FALLEN,) if from_start else (FLATTENED, SETTLED)), float(curve.lr[curve.back]))


def errors_of_fall(curve: Curve) -> float:
    """Return the fall of the loss in standard errors."""
    # Rounding limits how small an error can be.
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
            words += ", where training turned unstable: nothing was learned before."
            advice = "Check the data for values that are not finite, and that the model learns at all."
        else:
            words += ": nothing was learned."
        return _bounds("flat", None, words, [start, first, end], advice)
    # By the median of neighbours, as the smoothed loss does not follow a rise to its full height.
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
            kept = f" max_lr is kept at a twentieth of {curve.lr[-1]:.2g}, where the test ended."
            marks.append(end)
        words = (
            f"{never}, and rose beyond {last:.2g}.{kept} base_lr is kept at max_lr / {RATIO[1]:.0f}. A trained model "
            "does so, whose loss starts near its floor: for fine-tuning, these bounds keep below the rise. A new one "
            "did not learn: the data may hold nothing to learn, the step may add gradients instead of subtracting "
            "them, or the noise of small batches may hide the fall, and then updates_per_rate=8 shows it."
        )
        return _bounds("flat", (top / RATIO[1], top), words, marks)
    words = (
        f"{never} before it rose: every rate from {curve.lr[0]:.2g} on that moved it was too high, the step adds "
        "gradients instead of subtracting them, or the model cannot learn from this data."
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
    """Mark a point of the curve, with its rate after its name."""
    rate = float(curve.lr[index])
    return Mark(f"{name} {rate:.2g}", float(curve.loss[index]), rate)


def _bounds(
    status: Status, numbers: tuple[float, float] | None, words: str, marks: Sequence[Mark], advice: str = ""
) -> Bounds:
    """Return bounds whose reason is the verdict, what the curve shows, and advice."""
    reason = " ".join(filter(None, (verdict(numbers), words, advice)))
    low, top = numbers or (None, None)
    return Bounds(low, top, status, reason, tuple(marks))
