"""Evaluation of the losses of a run, by pure functions of a small record.

All measures are relative to gain and noise. So no result changes if all losses are multiplied by a number, and only
`raise_factor` changes if a number is added to all losses.
"""

import functools
import math
from collections.abc import Sequence
from typing import Annotated, NamedTuple

from cyclr import _checks

WINDOW = 8
"""Number of updates in the running mean of the loss, mean ← mean + (loss − mean) / 8."""

FIRST = 5
"""Number of losses whose median is the starting level. Before them, only extreme outliers are detected."""

NOISE_UNITS = 3.0
"""Noise scales that the yardstick adds to the gain. With 1, the mean of a calm run would often count as risen."""

LEAST_GAIN = 3.0
"""Least gain in noise scales. If less was gained, the mean rises and falls by chance."""

LOST = 0.35
"""Rise of the mean above its lowest, in yardsticks, from which the loss counts as risen. Calm runs stay below 0.34."""

GOOD = 0.1
"""Rise of the mean above its lowest, in yardsticks, up to which a state is worth keeping."""

CLIP = 2.0
"""Single losses are clipped at this many yardsticks above the lowest mean, so one outlier does not count as a rise."""

OUTLIER = 10.0
"""A single loss more than this many yardsticks above the lowest mean is an outlier. Hard batches of 8 reach 3."""

EARLY_OUTLIER = 3.0
"""One of the first five losses may be an outlier if it exceeds the starting level by this many times the level."""

SLOW_NOISE = 0.95
"""Fraction of the noise at the lowest mean that is kept at each new lowest mean, because noise can be low by chance."""

ROUNDING = 1e-6
"""Least yardstick, as a fraction of the starting level. Smaller differences are rounding errors of float32."""

LARGEST = 1e306
"""Larger losses are clipped to this value, so that no difference of two losses overflows."""

SURE = 2.0
"""Number of standard errors from which a difference counts."""

RAISES = ((0.9, 10.0), (0.6, 3.0))
"""Pairs of a ratio and a factor. If the loss falls in the second half of the pieces, per unit of summed rate, by more
than `ratio` times its fall in all pieces, the rate is raised by the factor."""

STALLED = 0.3
"""Fraction of the loss in the second eighth of the pieces up to which a fall counts as small."""

_KEPT = 1.0 - 1.0 / WINDOW
_GAUSS = 0.886
"""Standard deviation of a normal distribution, divided by the mean absolute difference of two draws."""
_NOISE_WEIGHT, _NOISE_SHARE = 0.1, 4.0
"""Largest weight of a difference in the noise; in a long run, the weight times the number of differences."""

Finite = Annotated[float, _checks.number]
Count = Annotated[int, functools.partial(_checks.integer, at_least=0)]
"""Types of fields that are checked when a saved state is read."""


class LossReading(NamedTuple):
    """Summary of the losses so far.

    Attributes:
        seen: number of losses.
        total: running sum of the losses, from 0; `mean` divides it by the sum of its weights.
        noise: running mean of 0.886 · |difference of neighbours|, over an increasing number of differences.
        last: the last loss, clipped.
        first: the first five losses.
        level: starting level, the median of `first`.
        best: lowest running mean.
        best_noise: noise at the lowest mean.
        best_lr: learning rate at the lowest mean.
        yardstick: gain and noise, max(level − best, 3 · best_noise) + 3 · best_noise.
        risen: number of updates in a row whose running mean was too far above the lowest.
    """

    seen: Count = 0
    total: float = 0.0
    noise: float = 0.0
    last: float = math.nan
    first: tuple[float, ...] = ()
    level: float = math.nan
    best: float = math.inf
    best_noise: float = 0.0
    best_lr: float = math.inf
    yardstick: Finite = 0.0
    risen: Count = 0


def checked(name: str, reading: LossReading) -> LossReading:
    """Return a saved reading. Raise a ValueError if its numbers are larger than in any run."""
    seen, total, noise, last, first, level, best, best_noise, *_ = reading
    numbers = [total, noise, *first, best_noise, *([last, level] if seen else []), *([best] if seen >= FIRST else [])]
    if seen > 2**62 or not all(abs(number) <= 10 * LARGEST for number in numbers):
        raise ValueError(f"{name} must hold finite numbers of up to {10 * LARGEST:g}; got {_checks.quoted(reading)}.")
    if seen < FIRST and best != math.inf:
        raise ValueError(f"{name}.best must be infinite before the fifth loss; got {_checks.quoted(best)}.")
    return reading


Saved = Annotated[LossReading, checked]
"""Type of a field that holds a reading, which is checked when a saved state is read."""


def mean(reading: LossReading) -> float:
    """Return the running mean of the losses, corrected for its start from 0."""
    return reading.total / (1.0 - _KEPT**reading.seen)


def rise(reading: LossReading) -> float:
    """Return how far the running mean is above its lowest, in yardsticks. 0 before there is a yardstick."""
    if reading.seen < FIRST or not reading.yardstick:
        return 0.0
    return (mean(reading) - reading.best) / reading.yardstick


def observe(reading: LossReading, loss: float, lr: float) -> LossReading:
    """Return the reading after another finite loss, whose update used the learning rate `lr`."""
    seen, total, noise, last, first, level, best, best_noise, best_lr, yardstick, risen = reading
    seen += 1
    loss = min(max(loss, -LARGEST), LARGEST)
    if len(first) < FIRST:
        first += (loss,)
        level = _median(first)
    if yardstick:
        loss = min(loss, best + CLIP * yardstick)
    total = _KEPT * total + (1.0 - _KEPT) * loss
    if seen > 1:
        differences = seen - 1
        weight = max(1.0 / differences, min(_NOISE_WEIGHT, _NOISE_SHARE / differences))
        noise += weight * (_GAUSS * abs(loss - last) - noise)
    if seen < FIRST:
        return LossReading(seen, total, noise, loss, first, level, best, best_noise, best_lr, yardstick)
    now = total / (1.0 - _KEPT**seen)
    if now < best:
        best, best_noise, best_lr = now, max(noise, SLOW_NOISE * best_noise), lr
    elif seen < 2 * WINDOW:
        # The noise is still estimated from few differences.
        best_noise = max(best_noise, noise)
    yardstick = _yardstick(level, best, best_noise)
    risen = risen + 1 if now - best > LOST * yardstick > 0.0 else 0
    return LossReading(seen, total, noise, loss, first, level, best, best_noise, best_lr, yardstick, risen)


def restart(kept: LossReading, seen: LossReading) -> LossReading:
    """Return the reading of a kept state to which training goes back, with the best known starting level."""
    first = kept.first if len(kept.first) >= FIRST else seen.first
    return kept._replace(first=first, level=_median(first), risen=0) if first else kept


def accept(reading: LossReading, lr: float) -> LossReading:
    """Return the reading with the current mean as its lowest, reached at the learning rate `lr`."""
    best = mean(reading)
    yardstick = _yardstick(reading.level, best, reading.best_noise)
    return reading._replace(best=best, best_lr=lr, yardstick=yardstick, risen=0)


def judge(reading: LossReading, loss: float) -> str:
    """Return the verdict on the next loss: `"not finite"`, `"outlier"`, or `""` for a normal loss."""
    if not math.isfinite(loss):
        return "not finite"
    if reading.seen >= FIRST:
        return "outlier" if loss > reading.best + OUTLIER * reading.yardstick and reading.yardstick else ""
    first = reading.first
    if len(first) < 2:
        return ""
    limit = max(first) + OUTLIER * (max(first) - min(first))
    if len(first) < FIRST:
        # A few losses may be close to each other by chance.
        limit = max(limit, reading.level + EARLY_OUTLIER * abs(reading.level))
    return "outlier" if loss > limit else ""


class Pieces(NamedTuple):
    """Pieces of equal length that training is divided into, to measure how the loss falls per unit of summed rate.

    The summed rate at an update is the sum of the learning rates up to that update.

    Attributes:
        begin: first update of the first piece.
        from_start: True if training was in the start state at `begin`.
        done: mean loss and mean summed rate of each finished piece.
        size: number of updates in the unfinished piece.
        losses: sum of the losses in the unfinished piece.
        sums: sum of the summed rates at the updates of the unfinished piece.
        summed: summed rate now.
    """

    begin: Count = 0
    from_start: bool = True
    done: tuple[tuple[float, float], ...] = ()
    size: Count = 0
    losses: float = 0.0
    sums: float = 0.0
    summed: float = 0.0


def add(pieces: Pieces, loss: float, lr: float, length: int) -> Pieces:
    """Return the pieces after one more update. A piece has `length` updates."""
    begin, from_start, done, size, losses, sums, summed = pieces
    summed += lr
    size, losses, sums = size + 1, losses + loss, sums + summed
    if size < length:
        return Pieces(begin, from_start, done, size, losses, sums, summed)
    return Pieces(begin, from_start, (*done, (losses / length, sums / length)), summed=summed)


class Line(NamedTuple):
    """A line through pieces, by least squares: loss = mean + slope · (summed rate − its mean).

    Attributes:
        middle: mean summed rate.
        mean: mean loss, the value of the line at `middle`.
        mean_error: standard error of `mean`.
        slope: loss per unit of summed rate.
        slope_error: standard error of `slope`.
    """

    middle: float
    mean: float
    mean_error: float
    slope: float
    slope_error: float


def line(points: Sequence[tuple[float, float]]) -> Line | None:
    """Return the line through the pieces. None for fewer than three, or if all have the same summed rate."""
    n = len(points)
    # The summed rate never falls, so equal ends mean equal sums. Their mean is rounded, and can differ from them.
    if n < 3 or points[0][1] == points[-1][1]:
        return None
    middle, mean = sum(summed for _, summed in points) / n, sum(loss for loss, _ in points) / n
    away = [(loss - mean, summed - middle) for loss, summed in points]
    square = sum(x * x for _, x in away)
    if not square:
        return None
    slope = sum(x * y for y, x in away) / square
    errors = [y - slope * x for y, x in away]
    rest = sum(error * error for error in errors) / (n - 2)
    return Line(middle, mean, math.sqrt(rest / n), slope, math.sqrt(rest / square))


def second_half(pieces: Pieces) -> Line | None:
    """Return the line through the second half of the pieces."""
    return line(pieces.done[len(pieces.done) // 2 :])


def raise_factor(pieces: Pieces, half: Line) -> float:
    """Return the factor by which the learning rate is too low, or 1.

    The rate is too low if the loss falls about as fast per unit of summed rate in the second half as in all pieces.
    """
    whole = line(pieces.done)
    if whole is None or not whole.slope < -SURE * whole.slope_error:
        return 1.0
    return next((times for least, times in RAISES if half.slope / whole.slope > least), 1.0)


def is_stalled(pieces: Pieces, half: Line) -> bool:
    """Return True if the loss no longer falls, and is not far below its mean in the second eighth of the pieces."""
    if half.slope < -SURE * half.slope_error:
        return False
    done = pieces.done
    early = done[len(done) // 8 : max(len(done) // 4, 1)]
    before = sum(loss for loss, _ in early) / len(early)
    return before - half.mean < STALLED * abs(before)


def is_lower(line: Line, than: Line) -> bool:
    """Return True if the mean of `line` is below the mean of `than`, by more than their errors."""
    return line.mean < than.mean - SURE * math.hypot(line.mean_error, than.mean_error)


def _yardstick(level: float, best: float, best_noise: float) -> float:
    return max(level - best, LEAST_GAIN * best_noise) + NOISE_UNITS * best_noise + ROUNDING * abs(level)


def _median(losses: tuple[float, ...]) -> float:
    return sorted(losses)[len(losses) // 2]
