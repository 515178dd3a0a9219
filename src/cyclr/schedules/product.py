"""Products of schedules."""

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
    """The product of schedules at the same step: `schedules[0](t) · schedules[1](t) · …`

    Write `a * b` or `0.1 * a`. A number becomes a `Constant`. A product inside a product is replaced by its factors, so
    that brackets make no difference. A cycle ends at every step at which a cycle of any factor ends. The product has
    `total_steps` if at least one factor has `total_steps` and all others stop changing: the number of steps after which
    no factor changes any more.

    Args:
        schedules: at least one factor, each a schedule or a number ≥ 0, in the order of multiplication.

    Raises:
        TypeError, ValueError: there is no factor, or a factor is neither a schedule nor a finite number ≥ 0.

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
