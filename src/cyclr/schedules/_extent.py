"""The number of steps to draw in a plot of a schedule."""

import bisect
from typing import Any

from cyclr.schedules.anneal import Anneal
from cyclr.schedules.clock import Clock
from cyclr.schedules.compose import Constant, Sequence, Warmup
from cyclr.schedules.layout import LARGEST_STEP
from cyclr.schedules.product import Product
from cyclr.schedules.wave import Mirrored, Wave

_WITHOUT_SHAPE = 1000


def steps_to_draw(schedule: Any) -> int:
    """Return the number of steps to draw.

    These are all steps of a schedule with an end, four cycles of a schedule that repeats, 95 % of the way of an
    `Anneal` to its limit, or 1,000 steps of any other schedule.
    """
    return min(max(2, _steps(schedule)), LARGEST_STEP)


def _steps(schedule: Any) -> int:
    if schedule.total_steps is not None:
        return int(schedule.total_steps)
    match schedule:
        case Wave():
            return bisect.bisect_left(range(2**40), 4, key=schedule.cycle) + 1
        case Mirrored():
            return _steps(schedule.of)
        case Warmup():
            return (0 if schedule.over else schedule.steps) + _steps(schedule.of)
        case Sequence():
            return sum(schedule.lengths) + _steps(schedule.schedules[-1])
        case Product():
            moving = [part for part in schedule.schedules if not isinstance(part, Constant)]
            return max(map(_steps, moving), default=_WITHOUT_SHAPE)
        case Clock():
            return schedule.every * (4 * schedule.repeat if schedule.repeat else _steps(schedule.of))
        case Anneal(limit=None):
            return schedule.steps + 1
        case Anneal(start=start, limit=float(limit)):
            near = abs(start - limit) / 20
            return bisect.bisect_left(range(2**40), True, key=lambda step: abs(schedule(step) - limit) <= near) + 1
    return _WITHOUT_SHAPE
