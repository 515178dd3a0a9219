"""Rates that fall, and jump up again."""

from fractions import Fraction
from typing import Any, Self

from cyclr import _checks
from cyclr.schedules import layout
from cyclr.schedules._namespace import Namespace
from cyclr.schedules.decay import Decay, checked_decay, decayed
from cyclr.schedules.shape import SHAPES, Shape
from cyclr.schedules.wave import Wave, between

SLOWEST_GROWTH = 1.005
"""Cycles that grow more slowly would be too many to lay out."""


class WarmRestarts(Wave):
    """A rate that falls from max_lr towards base_lr, then jumps up and falls again: SGDR.

    In cycle i, of L_i = floor(cycle_length · growth^i + 1/2) steps, and p steps after it began, the value is
    low + (high − low) · w(1 − p / L_i), where w is the shape and low and high are base_lr and max_lr after the decay.
    So it is max_lr when a cycle begins, and base_lr would be reached just where the next one does.

    Args:
        base_lr: lower bound, ≥ 0.
        max_lr: upper bound, > base_lr.
        cycle_length: steps (optimizer updates) in the first cycle, ≥ 1.
        growth: how many times as long every cycle is as the one before; 1, or at least 1.005. (T_mult in the paper.)
        shape: `"sinusoidal"` (cosine), `"triangular"` (linear) or `"parabolic"`.
        decay: how the bounds shrink; `Exponential(0.8, per="cycle")` makes every peak 0.8 times as high above base_lr.

    Raises:
        TypeError, ValueError: bounds that are no bounds, a length below 1, a growth that shrinks, an unknown shape.

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
    growth: float
    shape: Shape
    decay: Decay | None
    _layout: layout.Restarts

    def __init__(
        self,
        base_lr: float,
        max_lr: float,
        cycle_length: int,
        *,
        growth: float = 1,
        shape: Shape = "sinusoidal",
        decay: Decay | None = None,
    ) -> None:
        low, high = _checks.bounds(base_lr, max_lr)
        length = _checks.integer("cycle_length", cycle_length, at_least=1, fix="It counts optimizer updates.")
        factor = _checks.number("growth", growth, at_least=1, fix="Cycles may stay as they are or grow.")
        if 1 < factor < SLOWEST_GROWTH:
            raise ValueError(f"growth must be 1 or at least {SLOWEST_GROWTH}; got growth={growth!r}.")
        growth = growth if type(growth) is int else factor
        _checks.choice("shape", shape, SHAPES)
        self._set(base_lr=low, max_lr=high, cycle_length=length, growth=growth, shape=shape)
        self._set(decay=checked_decay(decay), _layout=layout.Restarts(length, Fraction(repr(growth))))

    def arguments(self) -> dict[str, Any]:
        names = ("base_lr", "max_lr", "cycle_length", "growth", "shape", "decay")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def _from_arguments(cls, arguments: dict[str, Any]) -> Self:
        return cls(**{**arguments, "decay": Decay.from_description(arguments.get("decay"))})

    def _wave(self, xp: Namespace, step: Any) -> tuple[Any, Any]:
        """The height of the undecayed wave, and the cycle."""
        cycle, offset = self._layout.locate(xp, step)
        left, length = self._layout.left(xp, cycle, offset)
        return SHAPES[self.shape](xp, left / length), cycle

    def _value(self, xp: Namespace, step: Any) -> Any:
        height, cycle = self._wave(xp, step)
        return between(xp, *decayed(xp, self.base_lr, self.max_lr, self.decay, step, cycle), height)

    def _bounds_at(self, xp: Namespace, step: Any) -> tuple[Any, Any]:
        return decayed(xp, self.base_lr, self.max_lr, self.decay, step, self._cycle(xp, step))

    def _height(self, xp: Namespace, step: Any) -> Any:
        height, cycle = self._wave(xp, step)
        if self.decay is None or self.decay.bounds == "both":
            return height
        return height * self.decay.factor(xp, step, cycle)

    def _cycle(self, xp: Namespace, step: Any) -> Any:
        return self._layout.locate(xp, step)[0]

    def _is_cycle_end(self, xp: Namespace, step: Any) -> Any:
        return self._layout.left(xp, *self._layout.locate(xp, step))[0] == 1
