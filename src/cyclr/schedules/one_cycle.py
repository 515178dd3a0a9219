"""One cycle for a whole run."""

import math
from fractions import Fraction
from numbers import Integral
from typing import Any

from cyclr import _checks
from cyclr.schedules._namespace import Namespace
from cyclr.schedules.layout import check_range
from cyclr.schedules.shape import SHAPES, Shape
from cyclr.schedules.wave import Wave, between


class OneCycle(Wave):
    """A rate that goes up once and down once, to far below where it began: Smith's 1cycle policy.

    With n = total_steps − 1, u steps up and d steps down, w the shape and x the share of a phase that is done:

    - up, steps 0 to u: base_lr → max_lr, by w(x),
    - two phases (`fall=None`), steps u to n: max_lr → final_lr, by w(1 − x),
    - three phases, steps u to u + d: max_lr → base_lr, then to n: base_lr → final_lr, both by w(1 − x).

    The value is max_lr at step u and final_lr at the last step and ever after, exactly.

    Args:
        base_lr: rate at step 0, ≥ 0.
        max_lr: the peak, > base_lr.
        total_steps: steps (optimizer updates) of the run, at least one more than there are phases.
        rise: the way up: a fraction of the run in (0, 1), rounded down to whole steps, or a number of steps ≥ 1.
        fall: the way down to base_lr, as `rise`, which makes three phases; None makes two. `fall=rise` is symmetric.
        final_lr: rate at the last step, ≥ 0 and < max_lr; base_lr / 10,000 by default.
        shape: `"sinusoidal"` (cosine), `"triangular"` (linear) or `"parabolic"`.

    Raises:
        TypeError, ValueError: bounds that are no bounds, or phases that do not fit into the run.

    Example:
        >>> import cyclr
        >>> schedule = cyclr.OneCycle(0.01, 0.1, total_steps=101, shape="triangular", final_lr=0.0)
        >>> schedule(0), schedule(30), schedule(65), schedule(100), schedule(1000)
        (0.01, 0.1, 0.05, 0.0, 0.0)

    Source: Smith & Topin 2018, *Super-Convergence*, arXiv:1708.07120; two phases as in fastai. torch's `OneCycleLR` and
    Optax' one-cycle schedules give the same values where they reach their peak.
    """

    base_lr: float
    max_lr: float
    total_steps: int
    rise: float | int
    fall: float | int | None
    final_lr: float
    shape: Shape
    _up: int
    _down: int

    def __init__(
        self,
        base_lr: float,
        max_lr: float,
        total_steps: int,
        *,
        rise: float | int = 0.3,
        fall: float | int | None = None,
        final_lr: float | None = None,
        shape: Shape = "sinusoidal",
    ) -> None:
        low, high = _checks.bounds(base_lr, max_lr)
        final = low / 10_000 if final_lr is None else _checks.number("final_lr", final_lr, at_least=0, below=high)
        _checks.choice("shape", shape, SHAPES)
        phases = 2 if fall is None else 3
        total = _checks.integer("total_steps", total_steps, at_least=phases + 1, fix="It counts optimizer updates.")
        rise, up = _phase("rise", rise, total - 1, left_over=phases - 1)
        down = total - 1 - up
        if fall is not None:
            fall, down = _phase("fall", fall, total - 1, left_over=up + 1)
        self._set(base_lr=low, max_lr=high, total_steps=total, rise=rise, fall=fall, final_lr=final, shape=shape)
        self._set(_up=up, _down=down)

    def arguments(self) -> dict[str, Any]:
        names = ("base_lr", "max_lr", "total_steps", "rise", "fall", "final_lr", "shape")
        return {name: getattr(self, name) for name in names}

    def _phases(self, xp: Namespace, step: Any) -> tuple[Any, Any, Any]:
        """The bounds of the phase that a step lies in, and the height between them."""
        check_range(self.total_steps, xp, "the phases")
        step = xp.minimum(step, self.total_steps - 1)
        top = self._up + self._down
        first = xp.to_float(step) / self._up
        second = xp.to_float(top - step) / self._down
        low = self.final_lr if self.fall is None else self.base_lr
        x = xp.where(step <= self._up, first, second)
        low, high = xp.where(step <= self._up, self.base_lr, low), self.max_lr
        if self.fall is not None:
            lower, upper = min(self.final_lr, self.base_lr), max(self.final_lr, self.base_lr)
            last = xp.to_float(self.total_steps - 1 - step) / (self.total_steps - 1 - top)
            x, low = xp.where(step <= top, x, last), xp.where(step <= top, low, lower)
            high = xp.where(step <= top, high, upper)
        # The branches that are not taken lie outside [0, 1].
        height = SHAPES[self.shape](xp, xp.minimum(xp.maximum(x, 0.0), 1.0))
        if self.fall is not None and self.final_lr > self.base_lr:
            height = xp.where(step <= top, height, 1.0 - height)
        return low, high, height

    def _value(self, xp: Namespace, step: Any) -> Any:
        return between(xp, *self._phases(xp, step))

    def _bounds_at(self, xp: Namespace, step: Any) -> tuple[Any, Any]:
        low, high, _ = self._phases(xp, step)
        return low, high

    def _height(self, xp: Namespace, step: Any) -> Any:
        height = self._phases(xp, step)[2]
        return height if self.fall is None else xp.where(step <= self._up + self._down, height, 0.0 * height)

    def _cycle(self, xp: Namespace, step: Any) -> Any:
        return step * 0

    def _is_cycle_end(self, xp: Namespace, step: Any) -> Any:
        check_range(self.total_steps, xp, "the phases")
        return step == self.total_steps - 1


def _phase(name: str, length: Any, span: int, left_over: int) -> tuple[float | int, int]:
    """A phase as given and in whole steps, which leave at least `left_over` of `span` for the other phases."""
    fix = "A float is a fraction of the run, an int its steps."
    given: float | int
    if isinstance(length, Integral):
        given = steps = _checks.integer(name, length, at_least=1, fix=fix)
    else:
        given = _checks.number(name, length, above=0, below=1, fix=fix)
        steps = max(1, math.floor(Fraction(repr(given)) * span))
    if steps > span - left_over:
        raise ValueError(
            f"{name} must leave at least a step for every other phase of the {span + 1} steps; got {name}={length!r}, "
            f"which is {steps} steps. Make it shorter, or the run longer."
        )
    return given, steps
