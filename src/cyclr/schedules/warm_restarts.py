"""Rates that fall, and jump up again."""

from dataclasses import KW_ONLY, dataclass, field
from fractions import Fraction
from typing import Any

from cyclr import _checks
from cyclr.schedules import layout
from cyclr.schedules._namespace import Namespace
from cyclr.schedules.base import set_fields
from cyclr.schedules.decay import Decay
from cyclr.schedules.shape import SHAPES, Shape
from cyclr.schedules.wave import Place, Wave

SLOWEST_GROWTH = 1.005
"""Cycles that grow more slowly would be too many to lay out."""


@dataclass(frozen=True, repr=False)
class WarmRestarts(Wave):
    """A rate that falls from max_lr towards base_lr, then jumps up and falls again: SGDR.

    In cycle i, of L_i = floor(cycle_length · growth^i + 1/2) steps, and p steps after its start, the value is
    low + (high − low) · w(1 − p / L_i): w is the shape, low and high are base_lr and max_lr after the decay. A cycle
    starts at max_lr. The step at which it would reach base_lr is the first step of the next cycle.

    Args:
        base_lr: lower bound, ≥ 0.
        max_lr: upper bound, > base_lr.
        cycle_length: steps (optimizer updates) in the first cycle, ≥ 1.
        growth: how many times as long every cycle is as the one before; 1, or at least 1.005. (T_mult in the paper.)
        shape: `"sinusoidal"` (cosine), `"triangular"` (linear) or `"parabolic"`.
        decay: how the bounds shrink; `Exponential(0.8, per="cycle")` makes every peak 0.8 times as high above base_lr.

    Raises:
        TypeError, ValueError: the bounds are illegal, a length is below 1, cycles shrink, or the shape is unknown.

    Example:
        >>> import cyclr
        >>> schedule = cyclr.WarmRestarts(0.0, 0.1, cycle_length=10, growth=2)
        >>> [round(schedule(step), 6) for step in (0, 5, 9, 10, 20, 30)]
        [0.1, 0.05, 0.002447, 0.1, 0.05, 0.1]

    Source: Loshchilov & Hutter 2017, *SGDR: Stochastic Gradient Descent with Warm Restarts*, arXiv:1608.03983.
    """

    base_lr: float
    max_lr: float
    cycle_length: int
    _: KW_ONLY
    growth: float = 1
    shape: Shape = "sinusoidal"
    decay: Decay | None = None
    _layout: layout.Restarts = field(init=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        length = _checks.integer("cycle_length", self.cycle_length, at_least=1, fix="It counts optimizer updates.")
        factor = _checks.number("growth", self.growth, at_least=1, fix="Cycles may stay as they are or grow.")
        if 1 < factor < SLOWEST_GROWTH:
            raise ValueError(f"growth must be 1 or at least {SLOWEST_GROWTH}; got growth={self.growth!r}.")
        growth = self.growth if type(self.growth) is int else factor
        _checks.choice("shape", self.shape, SHAPES)
        cycles = layout.restarts(length, Fraction(repr(growth)))
        set_fields(self, cycle_length=length, growth=growth, _layout=cycles)

    def place(self, xp: Namespace, step: Any) -> Place:
        cycle, offset = self._layout.locate(xp, step)
        left, x = self._layout.left(xp, cycle, offset)
        return self.base_lr, self.max_lr, SHAPES[self.shape](xp, x), 1.0, cycle, left == 1
