"""Schedules multiplied with one another."""

import math
from dataclasses import dataclass
from functools import reduce
from operator import mul, or_
from typing import Any

from cyclr import _checks
from cyclr.schedules._namespace import Namespace
from cyclr.schedules.base import Schedule, set_fields
from cyclr.schedules.compose import Constant


@dataclass(frozen=True, init=False, repr=False)
class Product(Schedule):
    """The product of schedules, all of them at the same step: `schedules[0](t) · schedules[1](t) · …`

    Written `a * b` and `0.1 * a`: a number is a `Constant`, and a product in a product is taken apart, so that brackets
    make no difference. Its bounds are the products of the bounds, and a cycle ends where one ends in any of them. It
    fills a run if one of them does and none of the others moves for ever: `total_steps` is then that of the longest.

    Args:
        schedules: schedules and numbers ≥ 0, in the order of multiplication; at least one.

    Raises:
        TypeError, ValueError: there is none, or one is neither a schedule nor a finite number ≥ 0.

    Example:
        >>> import cyclr
        >>> schedule = 0.5 * cyclr.Anneal(0.0, 1.0, steps=2) * cyclr.Cyclical(0.2, 1.0, step_size=4)
        >>> [round(schedule(step), 6) for step in (0, 1, 4, 8)]
        [0.0, 0.1, 0.5, 0.1]
    """

    schedules: tuple[Schedule, ...]

    def __init__(self, *schedules: Schedule | float) -> None:
        parts: list[Schedule] = []
        for part in schedules:
            if not isinstance(part, Schedule):
                _checks.number("a factor of a schedule", part, at_least=0, fix="Multiply by a schedule or a number.")
                part = Constant(part)
            parts += part.schedules if isinstance(part, Product) else [part]
        if not parts:
            raise ValueError("a Product must have at least one schedule; got none.")
        ends = [part.total_steps or part.settled for part in parts]
        filled = any(part.total_steps for part in parts) and None not in ends
        total = max(end for end in ends if end) if filled else None
        set_fields(self, schedules=tuple(parts), total_steps=total)
        self.__post_init__()

    def __repr__(self) -> str:
        return f"Product({', '.join(map(repr, self.schedules))})"

    @classmethod
    def _constructor(cls, given: dict[str, Any]) -> Any:
        return lambda schedules: cls(*schedules)

    def evaluate(self, xp: Namespace, step: Any) -> Any:
        return reduce(mul, [part.evaluate(xp, step) for part in self.schedules])

    @property
    def largest(self) -> float:
        return math.prod(part.largest for part in self.schedules)

    def is_cycle_end(self, step: Any) -> Any:
        return reduce(or_, [part.is_cycle_end(step) for part in self.schedules])
