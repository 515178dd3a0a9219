"""What the losses of a run say: pure functions of a small record.

Everything is measured in gains and noise, so nothing changes if all losses are multiplied by a number, and only
`too_low` if a number is added to them.
"""

import functools
import math
from collections.abc import Sequence
from typing import Annotated, NamedTuple

from cyclr import _checks

WINDOW = 8
"""Updates of the running mean of the loss, mean ← mean + (loss − mean) / 8."""

FIRST = 5
"""Losses whose median is the level that the run started from. No verdict is made before."""

NOISE_UNITS = 3.0
"""Noise scales that are added to the gain, in the yardstick. With 1, calm runs look like runs that lost what they had
gained."""

LEAST_GAIN = 3.0
"""Noise scales that the gain counts as at least: where little was gained, the mean rises and falls by luck."""

LOST = 0.35
"""Share of the yardstick by which the mean must be above its lowest, for the loss to have risen. Calm runs stay below
0.34."""

GOOD = 0.1
"""Share of the yardstick up to which a state is worth keeping."""

CLIP = 2.0
"""Yardsticks above the lowest mean at which a single loss is clipped, so that one outlier is not a rise."""

OUTLIER = 10.0
"""Yardsticks above the lowest mean beyond which a single loss is an outlier. Single hard batches of 8 reach 3."""

EARLY_OUTLIER = 3.0
"""Starting levels above itself beyond which one of the first five losses may be an outlier."""

SLOW_NOISE = 0.95
"""Share of the noise at the lowest mean that stays with every new lowest mean: in a lull the noise is small too."""

ROUNDING = 1e-6
"""Share of the starting level that the yardstick has at least. Smaller differences are rounding errors of float32."""

LARGEST = 1e306
"""Losses beyond this are clipped to it, so that no difference of two overflows."""

SURE = 2.0
"""Standard errors beyond which a difference counts."""

RAISES = ((0.9, 10.0), (0.6, 3.0))
"""Fall per unit of rate in the second half of the pieces, over that in all, and the factor of a raise above it."""

STALLED = 0.3
"""Share of the loss in the second eighth of the pieces, up to which a fall is small."""

_KEPT = 1.0 - 1.0 / WINDOW
_GAUSS = 0.886
"""Standard deviation of a Gauss distribution over the mean difference of two draws."""
_NOISE_WEIGHT, _NOISE_SHARE = 0.1, 4.0
"""Weight of a difference in the noise at most, and with it times the number of differences in a long run."""

Finite = Annotated[float, _checks.number]
Count = Annotated[int, functools.partial(_checks.integer, at_least=0)]
"""Types of fields, as they are checked if they come from a saved state."""


class LossReading(NamedTuple):
    """What was seen in the losses so far.

    Attributes:
        seen: number of losses.
        total: running sum of the losses, from 0: `mean` divides it by the weights in it.
        noise: running mean of 0.886 · |difference of neighbours|, over more and more of them.
        last: the last loss, clipped.
        first: the first five losses.
        level: their median, the level that the run started from.
        best: lowest running mean.
        best_noise: noise at the lowest mean.
        best_lr: learning rate at the lowest mean.
        yardstick: gain and noise, max(level − best, 3 · best_noise) + 3 · best_noise.
        risen: updates in a row whose running mean was too far above the lowest.
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
    """Return a saved reading, or raise a ValueError unless its numbers are as large as those of a run."""
    seen, total, noise, last, _, level, best, best_noise, *_ = reading
    numbers = [total, noise, best_noise, *([last, level] if seen else []), *([best] if seen >= FIRST else [])]
    if seen > 2**62 or not all(abs(number) <= 10 * LARGEST for number in numbers):
        raise ValueError(f"{name} must hold finite numbers of up to {10 * LARGEST:g}; got {_checks.quoted(reading)}.")
    return reading


Saved = Annotated[LossReading, checked]
"""The type of a field with a reading, as it is checked if it comes from a saved state."""


def mean(reading: LossReading) -> float:
    """Return the running mean of the losses, corrected for its start from 0."""
    return reading.total / (1.0 - _KEPT**reading.seen)


def lost(reading: LossReading) -> float:
    """Return how far the running mean is above its lowest, in yardsticks; 0 before there is a yardstick."""
    if reading.seen < FIRST or not reading.yardstick:
        return 0.0
    return (mean(reading) - reading.best) / reading.yardstick


def observe(reading: LossReading, loss: float, lr: float) -> LossReading:
    """Return the reading after one more finite loss, of an update at this learning rate."""
    seen, total, noise, last, first, level, best, best_noise, best_lr, yardstick, risen = reading
    seen += 1
    loss = min(max(loss, -LARGEST), LARGEST)
    moved = False
    if len(first) < FIRST:
        first += (loss,)
        level, moved = _median(first), True
    if yardstick and seen > FIRST:
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
        best, best_noise, best_lr, moved = now, max(noise, SLOW_NOISE * best_noise), lr, True
    elif seen < 2 * WINDOW:
        # The noise is still being learnt from few differences.
        best_noise, moved = max(best_noise, noise), True
    if moved:
        yardstick = max(level - best, LEAST_GAIN * best_noise) + NOISE_UNITS * best_noise + ROUNDING * abs(level)
    risen = risen + 1 if now - best > LOST * yardstick > 0.0 else 0
    return LossReading(seen, total, noise, loss, first, level, best, best_noise, best_lr, yardstick, risen)


def restart(kept: LossReading, seen: LossReading) -> LossReading:
    """Return the reading of a kept state to which training goes back, with the starting level that is known by now."""
    first = kept.first if len(kept.first) >= FIRST else seen.first
    return kept._replace(first=first, level=_median(first), risen=0) if first else kept


def accept(reading: LossReading, lr: float) -> LossReading:
    """Return the reading with the present mean as its lowest, reached at this learning rate."""
    best = mean(reading)
    yardstick = (
        max(reading.level - best, LEAST_GAIN * reading.best_noise)
        + NOISE_UNITS * reading.best_noise
        + ROUNDING * abs(reading.level)
    )
    return reading._replace(best=best, best_lr=lr, yardstick=yardstick, risen=0)


def judge(reading: LossReading, loss: float) -> str:
    """Return `"not finite"`, `"outlier"` or `""` for the next loss."""
    if not math.isfinite(loss):
        return "not finite"
    if reading.seen >= FIRST:
        return "outlier" if loss > reading.best + OUTLIER * reading.yardstick and reading.yardstick else ""
    first = reading.first
    if len(first) < 2:
        return ""
    limit = max(first) + OUTLIER * (max(first) - min(first))
    if len(first) < FIRST:
        # Few losses may be alike by chance.
        limit = max(limit, reading.level + EARLY_OUTLIER * abs(reading.level))
    return "outlier" if loss > limit else ""


class Pieces(NamedTuple):
    """Pieces of equal length that training is divided into, to see how the loss falls with the rates summed up.

    Attributes:
        begin: update at which the first piece begins.
        from_start: True if training had the state of the start then.
        done: for each finished piece the mean loss, and the mean in it of the learning rates summed up to an update.
        size: updates in the piece that is not finished.
        losses: sum of their losses.
        sums: sum over them of the learning rates summed up to each.
        summed: all learning rates summed up.
    """

    begin: Count = 0
    from_start: bool = True
    done: tuple[tuple[float, float], ...] = ()
    size: Count = 0
    losses: float = 0.0
    sums: float = 0.0
    summed: float = 0.0


def add(pieces: Pieces, loss: float, lr: float, length: int) -> Pieces:
    """Return the pieces after one more update; `length` is the updates in a piece."""
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
        mean: mean loss, which the line has there.
        mean_error: its standard error.
        slope: loss per unit of summed rate.
        slope_error: its standard error.
    """

    middle: float
    mean: float
    mean_error: float
    slope: float
    slope_error: float


def line(points: Sequence[tuple[float, float]]) -> Line | None:
    """Return the line through at least three pieces, or None if there are fewer or all at one summed rate."""
    n = len(points)
    if n < 3:
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


def later(pieces: Pieces) -> Line | None:
    """Return the line through the second half of the pieces."""
    return line(pieces.done[len(pieces.done) // 2 :])


def too_low(pieces: Pieces, half: Line) -> float:
    """Return the factor by which the learning rate is too low, or 1.

    The rate is too low if the loss falls about as fast per unit of summed rate in the second half as in all pieces.
    """
    whole = line(pieces.done)
    if whole is None or not whole.slope < -SURE * whole.slope_error:
        return 1.0
    return next((times for least, times in RAISES if half.slope / whole.slope > least), 1.0)


def stalls(pieces: Pieces, half: Line) -> bool:
    """Return True if the loss no longer falls, and is not far below where it was in the second eighth of the pieces."""
    if half.slope < -SURE * half.slope_error:
        return False
    done = pieces.done
    early = done[len(done) // 8 : max(len(done) // 4, 1)]
    before = sum(loss for loss, _ in early) / len(early)
    return before - half.mean < STALLED * abs(before)


def is_lower(line: Line, than: Line) -> bool:
    """Return True if the mean of a line is lower than that of another one, by more than their errors."""
    return line.mean < than.mean - SURE * math.hypot(line.mean_error, than.mean_error)


def _median(losses: tuple[float, ...]) -> float:
    return sorted(losses)[len(losses) // 2]
