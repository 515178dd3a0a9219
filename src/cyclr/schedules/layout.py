"""Where a step lies in its cycle, in integers alone: which cycle, how far into it, how long the ways up and down are.

Every number here is an integer and is reduced by a period first, so step 10¹² is as exact as step 0. Only `//`, `%`,
`*`, `+` and `-` are used, which ints, NumPy arrays, tracers and tensors all have.
"""

import bisect
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

from cyclr.schedules._namespace import SCALAR, Namespace
from cyclr.schedules.base import Described


class Place(NamedTuple):
    """A step's place: `offset` ticks into cycle `cycle`, which goes up for `up` ticks, then down for `down` ticks."""

    cycle: Any
    offset: Any
    up: Any
    down: Any


class Uniform(Described):
    """Cycles that all have the same length: `up + down` ticks, with `ticks` ticks to a step (1 but for fractions)."""

    up: int
    down: int
    ticks: int

    def __init__(self, up: Fraction | int, down: Fraction | int) -> None:
        ticks = math.lcm(Fraction(up).denominator, Fraction(down).denominator)
        self._set(up=int(up * ticks), down=int(down * ticks), ticks=ticks)

    def arguments(self) -> dict[str, Any]:
        return {"up": self.up, "down": self.down, "ticks": self.ticks}

    @property
    def length(self) -> Fraction:
        """Length of a cycle in steps."""
        return Fraction(self.up + self.down, self.ticks)

    def locator(self, xp: Namespace) -> Callable[[Any], tuple[Any, Any, Any, Any]]:
        """The function from a step to its `Place`, as a plain tuple."""
        up, down, ticks = self.up, self.down, self.ticks
        period = up + down
        check_range(period * ticks, xp)

        def whole(step: Any) -> tuple[Any, Any, Any, Any]:
            return step // period, step % period, up, down

        def fractional(step: Any) -> tuple[Any, Any, Any, Any]:
            within = (step % period) * ticks
            return (step // period) * ticks + within // period, within % period, up, down

        return whole if ticks == 1 else fractional


class Even(Described):
    """`count` cycles in `span` steps, each a whole number of steps long, their lengths differing by one step at most.

    Cycle i of a span starts at step floor(i · span / count), so every cycle begins, peaks and ends on a step, and the
    last one ends with the span.
    """

    span: int
    count: int
    rise: Fraction

    def __init__(self, span: int, count: int, rise: Fraction) -> None:
        self._set(span=span, count=count, rise=rise)

    def arguments(self) -> dict[str, Any]:
        return {"span": self.span, "count": self.count, "rise": self.rise}

    @property
    def length(self) -> Fraction:
        """Mean length of a cycle in steps."""
        return Fraction(self.span, self.count)

    def up(self, length: int) -> int:
        """Steps on the way up in a cycle of `length` steps."""
        return min(max(length * self.rise.numerator // self.rise.denominator, 1), length - 1)

    def locator(self, xp: Namespace) -> Callable[[Any], tuple[Any, Any, Any, Any]]:
        """The function from a step to its `Place`, as a plain tuple."""
        span, count = self.span, self.count
        check_range(span * count, xp)
        short = span // count
        up_short, up_long = self.up(short), self.up(short + 1)

        def locate(step: Any) -> tuple[Any, Any, Any, Any]:
            place = step % span
            index = ((place + 1) * count - 1) // span
            start = index * span // count
            length = (index + 1) * span // count - start
            up = up_short + (length - short) * (up_long - up_short)
            return (step // span) * count + index, place - start, up, length - up

        return locate


class Restarts(Described):
    """Cycles one after another, each `growth` times as long as the one before, in whole steps.

    Cycle i takes `pause` steps and then floor(first · growth^i + 1/2) steps, its length.
    """

    first: int
    growth: Fraction
    pause: int
    _lengths: tuple[int, ...]
    _starts: tuple[int, ...]

    def __init__(self, first: int, growth: Fraction, pause: int = 0) -> None:
        lengths, starts = [min(first, LONGEST)], [0]
        # The exact length as a fraction that is not reduced, which takes most of the time where there are many cycles.
        above, below = first, 1
        while growth != 1 and starts[-1] + lengths[-1] + pause <= LARGEST_STEP:
            starts.append(starts[-1] + lengths[-1] + pause)
            above, below = above * growth.numerator, below * growth.denominator
            lengths.append(min((2 * above + below) // (2 * below), LONGEST))
        self._set(first=first, growth=growth, pause=pause, _lengths=tuple(lengths), _starts=tuple(starts))

    def arguments(self) -> dict[str, Any]:
        return {"first": self.first, "growth": self.growth, "pause": self.pause}

    def locate(self, xp: Namespace, step: Any) -> tuple[Any, Any]:
        """The cycle's index, and the steps since it began, its pause included."""
        if self.growth == 1:
            period = self.first + self.pause
            check_range(period, xp)
            return step // period, step % period
        if xp is SCALAR and step > LARGEST_STEP:
            raise ValueError(f"step must be at most {LARGEST_STEP} where cycles grow; got step={step}.")
        starts = self._starts[: self._count(xp)]
        cycle = xp.index_in(starts, step)
        return cycle, step - xp.take(starts, cycle)

    def left(self, xp: Namespace, cycle: Any, offset: Any) -> tuple[Any, Any]:
        """The steps left of a cycle that has no pause, and its length, both as floats."""
        if self.growth == 1:
            return xp.to_float(self.first - offset), xp.to_float(self.first)
        lengths = self._lengths[: self._count(xp)]
        if lengths[-1] <= xp.int_limit:
            length = xp.take(lengths, cycle)
            return xp.to_float(length - offset), xp.to_float(length)
        # The last cycle that such steps reach does not end for them: what is beyond them is added as a float.
        limit = int(xp.int_limit)
        length = xp.take((*lengths[:-1], limit), cycle)
        beyond = xp.where(cycle == len(lengths) - 1, float(lengths[-1] - limit), 0.0)
        return xp.to_float(length - offset) + beyond, xp.to_float(length) + beyond

    def _count(self, xp: Namespace) -> int:
        """How many of the cycles steps of this kind reach."""
        return bisect.bisect_right(self._starts, xp.int_limit)


LARGEST_STEP = 2**63 - 1
"""Growing cycles are laid out up to here."""

LONGEST = 2**120
"""Longer cycles are cut to this: no step gets far enough for that to show, and a float32 can hold it."""


def check_range(largest: int, xp: Namespace, what: str = "the cycles") -> None:
    """Raise if steps of this kind cannot hold an integer that is needed."""
    if largest > xp.int_limit:
        shorten = "Choose a length that is a whole number of cycles" if what == "the cycles" else "Choose shorter ones"
        raise ValueError(
            f"{what} need integers up to {largest}, but this step has a type that holds {int(xp.int_limit)}. "
            f"{shorten}, or enable 64-bit integers."
        )
