"""How the bounds of a cycle shrink over time.

A decay gives a factor s in [0, 1] for a step t in cycle c (both from 0). Of the amplitude it leaves
`base_lr + (max_lr − base_lr) · s`, of both bounds `base_lr · s` and `max_lr · s`.
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from cyclr import _checks
from cyclr.schedules._namespace import SCALAR, Namespace
from cyclr.schedules.base import Described, set_fields
from cyclr.schedules.function import call

Shrinks = Literal["max", "both"]


class Decay(Described, family="decay"):
    """Base of all decays: `Halving`, `Exponential`, `PerCycle`, `PerStep`, and your own.

    A decay of your own is a frozen dataclass with the method `factor`.

    Example:
        >>> import cyclr
        >>> isinstance(cyclr.Halving(), cyclr.Decay)
        True
    """

    bounds: Shrinks = "max"
    """Which bounds shrink: `"max"` (the amplitude) or `"both"`."""

    @abstractmethod
    def factor(self, xp: Namespace, step: Any, cycle: Any) -> Any:
        """Return the factor s in [0, 1] for a step and its cycle; `xp` has the operations on steps of their kind."""


@dataclass(frozen=True, repr=False)
class Halving(Decay):
    """Halve the amplitude after every cycle: s = 2^(−c). Smith's `triangular2`.

    Example:
        >>> import cyclr
        >>> schedule = cyclr.Cyclical(0.0, 1.0, step_size=2, decay=cyclr.Halving())
        >>> [schedule(peak) for peak in (2, 6, 10)]
        [1.0, 0.5, 0.25]

    Source: Smith 2017, arXiv:1506.01186, section 3.1.
    """

    def factor(self, xp: Namespace, step: Any, cycle: Any) -> Any:
        return xp.exp2(-xp.to_float(cycle))


@dataclass(frozen=True, repr=False)
class Exponential(Decay):
    """Shrink with every step, s = gamma^t (Smith's `exp_range`), or with every cycle, s = gamma^c.

    Args:
        gamma: factor per step or cycle, in (0, 1]. To shrink to a share q over n steps, use `q ** (1 / n)`.
        bounds: `"max"` shrinks the amplitude, so that the rate settles at base_lr; `"both"` shrinks base_lr and max_lr
            alike, so that it goes to 0 and their ratio stays.
        per: `"step"` or `"cycle"`.

    Raises:
        TypeError, ValueError: gamma is not a number in (0, 1], or `bounds` or `per` is not one of its names.

    Example:
        >>> import cyclr
        >>> schedule = cyclr.Cyclical(0.1, 1.1, step_size=1, decay=cyclr.Exponential(0.5))
        >>> [round(schedule(step), 6) for step in range(4)]
        [0.1, 0.6, 0.1, 0.225]

    Source: Smith 2017, arXiv:1506.01186, section 3.1.
    """

    gamma: float
    bounds: Shrinks = "max"
    per: Literal["step", "cycle"] = "step"

    def __post_init__(self) -> None:
        fix = "It is a factor per step or cycle, such as 0.9999."
        gamma = _checks.number("gamma", self.gamma, above=0, at_most=1, fix=fix)
        _checks.choice("bounds", self.bounds, ("max", "both"))
        _checks.choice("per", self.per, ("step", "cycle"))
        set_fields(self, gamma=gamma)

    def factor(self, xp: Namespace, step: Any, cycle: Any) -> Any:
        # The logarithm is taken in float64: gamma itself, rounded to float32, would be off by 0.3 % after 10⁵ steps.
        return xp.exp2(xp.to_float(step if self.per == "step" else cycle) * math.log2(self.gamma))


@dataclass(frozen=True, repr=False)
class _Function(Decay):
    """A decay by a user's function of one integer."""

    fn: Callable[[Any], Any]
    in_json = False
    _argument: ClassVar[str]

    def __post_init__(self) -> None:
        _checks.function("fn", self.fn, f"of the {self._argument}")
        for index in (0, 1, 2, 10):
            self._ask(SCALAR, index)

    def _ask(self, xp: Namespace, index: Any) -> Any:
        return call(xp, self.fn, index, 0.0, 1.0, "a factor between 0 and 1", self._argument)


@dataclass(frozen=True, repr=False)
class PerCycle(_Function):
    """Shrink the amplitude by a function of your own of the cycle: s = fn(c).

    Args:
        fn: function of the 0-based index of the cycle that returns a factor in [0, 1]. It is called with an int for
            every int and every NumPy element, and with a tensor of floats inside a compiled graph. There it may only
            use operations that tensors have (such as `lambda c: 1 / (1 + c)`; `keras.ops.where` in place of `if`), and
            factors outside [0, 1] are clipped.

    Raises:
        TypeError: fn is not a function, or returns something that is not a number.
        ValueError: fn leaves [0, 1] (tried at once for cycles 0, 1, 2 and 10, then at every call).
        ScheduleError: at a call inside a compiled graph, fn cannot be computed for a tensor.

    Example:
        >>> import cyclr
        >>> schedule = cyclr.Cyclical(0.0, 1.0, step_size=2, decay=cyclr.PerCycle(lambda cycle: 1 / (1 + cycle)))
        >>> [schedule(peak) for peak in (2, 6)]
        [1.0, 0.5]
    """

    _argument = "cycle"

    def factor(self, xp: Namespace, step: Any, cycle: Any) -> Any:
        return self._ask(xp, cycle)


@dataclass(frozen=True, repr=False)
class PerStep(_Function):
    """Shrink the amplitude by a function of your own of the step: s = fn(t).

    Args:
        fn: function of the step, from 0, that returns a factor in [0, 1]; as for `PerCycle`.

    Raises:
        TypeError: fn is not a function, or returns something that is not a number.
        ValueError: fn leaves [0, 1] (tried at once for steps 0, 1, 2 and 10, then at every call).
        ScheduleError: at a call inside a compiled graph, fn cannot be computed for a tensor.

    Example:
        >>> import cyclr
        >>> schedule = cyclr.Cyclical(0.0, 1.0, step_size=2, decay=cyclr.PerStep(lambda step: 1 / (1 + step)))
        >>> round(schedule(2), 6)
        0.333333
    """

    _argument = "step"

    def factor(self, xp: Namespace, step: Any, cycle: Any) -> Any:
        return self._ask(xp, step)
