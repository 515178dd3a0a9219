"""Position of a step in its cycle: the cycle, the steps since its start, and the steps on its ways up and down.

All numbers are integers and are first reduced modulo a period, so that step 10¹² is as exact as step 0. Only `//`, `%`,
`*`, `+` and `-` are used, which ints, NumPy arrays, tracers and tensors all support.
"""

import bisect
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from cyclr import _checks
from cyclr.schedules._namespace import NUMPY, SCALAR, Namespace

if TYPE_CHECKING:
    from fractions import Fraction


def decimal(number: float) -> "Fraction":
    """Return the decimal number that Python prints for a float, as an exact fraction: 3/10 for 0.3."""
    # Imported late, because this import would take a tenth of the time of `import cyclr`.
    from fractions import Fraction

    return Fraction(repr(number))


@dataclass(frozen=True)
class Even:
    """`count` cycles that fill `span` steps. Their lengths are whole steps and differ by at most one step.

    Cycle i starts at step floor(i · span / count), so that every cycle starts, peaks and ends at a whole step. After
    the span, the cycles repeat.
    """

    span: int
    count: int
    rise: float = 0.5
    _ups: tuple[int, int] = field(init=False)
    """Steps on the way up in the shorter cycles, and in the longer cycles."""

    def __post_init__(self) -> None:
        check_range(self.span * self.count)
        shortest, rise = self.span // self.count, decimal(self.rise)
        ups = (min(max(math.floor(length * rise), 1), length - 1) for length in (shortest, shortest + 1))
        object.__setattr__(self, "_ups", tuple(ups))

    def locate(self, xp: Namespace, step: Any) -> tuple[Any, Any]:
        """Return the cycle of a step, and the steps since the cycle started."""
        span, count = self.span, self.count
        check_range(span * count, xp)
        place = step % span
        index = ((place + 1) * count - 1) // span
        return (step // span) * count + index, place - index * span // count

    def length(self, cycle: Any) -> Any:
        """Return the steps of a cycle."""
        index = cycle % self.count
        return (index + 1) * self.span // self.count - index * self.span // self.count

    def ways(self, cycle: Any) -> tuple[Any, Any]:
        """Return the steps on the way up and on the way down of a cycle."""
        length, (short, long) = self.length(cycle), self._ups
        up = short + (length - self.span // self.count) * (long - short)
        return up, length - up

    def left(self, xp: Namespace, cycle: Any, offset: Any) -> tuple[Any, Any]:
        """Return the steps that remain in a cycle, and their share of the cycle."""
        length = self.length(cycle)
        return length - offset, xp.ratio(length - offset, length)


@dataclass(frozen=True)
class Restarts:
    """Consecutive cycles of whole steps, either all equal or with listed lengths. See `restarts` and `filling`."""

    lengths: tuple[int, ...]
    starts: tuple[int, ...]
    period: int | None = None
    """Steps of every cycle including its pause if all cycles are equal, or None."""

    def locate(self, xp: Namespace, step: Any) -> tuple[Any, Any]:
        """Return the cycle of a step, and the steps since the start of the cycle, which starts with its pause."""
        if self.period is not None:
            check_range(self.period, xp)
            return step // self.period, step % self.period
        if xp is SCALAR and step > LARGEST_STEP:
            raise ValueError(f"step must be at most {LARGEST_STEP} if cycles grow; got step={step}.")
        starts = self.starts[: self._reached(xp)]
        cycle = xp.index_in(starts, step)
        return cycle, step - xp.take(starts, cycle)

    def left(self, xp: Namespace, cycle: Any, offset: Any) -> tuple[Any, Any]:
        """Return the steps that remain in a cycle without a pause, and their share of the cycle."""
        if self.period is not None:
            left = self.lengths[0] - offset
            return left, xp.ratio(left, self.lengths[0])
        lengths, limit = self.lengths[: self._reached(xp)], xp.int_limit
        beyond: Any = 0.0
        if lengths[-1] > limit:
            # The last cycle that steps of this type reach is longer than the type can hold. The excess is added as a
            # float.
            beyond = xp.where(cycle == len(lengths) - 1, float(lengths[-1] - int(limit)), 0.0)
            lengths = (*lengths[:-1], int(limit))
        length = xp.take(lengths, cycle)
        left = xp.to_float(length - offset) + beyond
        return left, left / (xp.to_float(length) + beyond)

    def _reached(self, xp: Namespace) -> int:
        """Return the number of cycles that steps of this kind can reach."""
        return bisect.bisect_right(self.starts, xp.int_limit)


@lru_cache(maxsize=128)
def restarts(first: int, growth: float, pause: int = 0) -> Restarts:
    """List cycles that grow: cycle i starts with `pause` steps, followed by floor(first · growth^i + 1/2) steps."""
    check_range(first + pause)
    lengths, starts = [first], [0]
    # The exact length is above / below. Reducing this fraction would take most of the time if there are many cycles.
    above, below = first, 1
    factor = decimal(growth)
    while growth != 1 and starts[-1] + lengths[-1] + pause <= LARGEST_STEP:
        starts.append(starts[-1] + lengths[-1] + pause)
        above, below = above * factor.numerator, below * factor.denominator
        lengths.append(min((2 * above + below) // (2 * below), LONGEST))
    return Restarts(tuple(lengths), tuple(starts), first + pause if growth == 1 else None)


def filling(steps: int, cycles: int, growth: float) -> Restarts:
    """List cycles that fill `steps`: cycle i starts at floor(steps · (growth^i − 1) / (growth^cycles − 1))."""
    factor = decimal(growth)

    def lengths() -> Iterator[int]:
        # growth^i times a common factor that makes all lengths integers.
        length = factor.denominator ** (cycles - 1)
        for _ in range(cycles):
            yield length
            length = length * factor.numerator // factor.denominator

    whole = sum(lengths())
    starts = [steps * passed // whole for passed in accumulate(lengths(), initial=0)]
    return Restarts(tuple(end - start for start, end in pairwise(starts)), tuple(starts[:-1]))


LARGEST_STEP = _checks.LARGEST_INTEGER
"""Last step for which growing cycles are listed."""

LONGEST = 2**120
"""Upper limit for the length of a cycle. It is too large to change any value, and a float32 can hold it."""


def check_range(largest: float, xp: Namespace = NUMPY, what: str = "the cycles") -> None:
    """Raise if steps of this kind cannot hold an integer that a formula needs. All schedules must support NumPy."""
    if largest > xp.int_limit:
        shorten = "Choose a length that is a whole number of cycles" if what == "the cycles" else "Choose shorter ones"
        raise ValueError(
            f"{what} need integers up to {_checks.quoted(largest)}, but the type of the step holds at most "
            f"{int(xp.int_limit)}. {shorten}, or enable 64-bit integers."
        )
