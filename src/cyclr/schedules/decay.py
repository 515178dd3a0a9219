"""How the bounds of a cycle shrink over time.

A decay gives a factor s in [0, 1] for a step t in cycle c (both from 0). A decay of the amplitude lowers max_lr to
`base_lr + (max_lr − base_lr) · s`. A decay of both bounds lowers base_lr to `base_lr · s` and max_lr to `max_lr · s`.
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

    To write a decay of your own, define a frozen dataclass below `Decay` with the method `factor`.

    Example:
        >>> import cyclr
        >>> isinstance(cyclr.Halving(), cyclr.Decay)
        True
    """

    bounds: Shrinks = "max"
    """Which bounds shrink: `"max"` (the amplitude) or `"both"`."""

    @abstractmethod
    def factor(self, xp: Namespace, step: Any, cycle: Any) -> Any:
        """Return the factor s in [0, 1] for a step and its cycle, computed with the operations of `xp`."""


@dataclass(frozen=True, repr=False)
class Halving(Decay):
    """Halve the amplitude after every cycle: its factor in cycle c is 2^(−c), with c from 0. Smith's `triangular2`.

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
    """Shrink the bounds at every step (Smith's `exp_range`) or after every cycle.

    The factor is s = gamma^t at step t, or s = gamma^c in cycle c, with c from 0.

    Args:
        gamma: factor per step or cycle, in (0, 1]. To shrink to a share q over n steps, use `q ** (1 / n)`.
        bounds: `"max"` multiplies the amplitude by s, so the learning rate approaches base_lr. `"both"` multiplies
            base_lr and max_lr by s, so both approach 0 and their ratio stays the same.
        per: `"step"` or `"cycle"`.

    Raises:
        TypeError, ValueError: gamma is not a number in (0, 1], or `bounds` or `per` has another value.

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
        # log2 is computed in float64. With gamma rounded to float32, s would be wrong by 0.3 % after 10⁵ steps.
        return xp.exp2(xp.to_float(step if self.per == "step" else cycle) * math.log2(self.gamma))


@dataclass(frozen=True, repr=False)
class _Function(Decay):
    """Base of decays whose factor is a user's function of one integer."""

    fn: Callable[[Any], Any]
    in_json = False
    _argument: ClassVar[str]

    def __post_init__(self) -> None:
        _checks.function("fn", self.fn, f"of the {self._argument}")
        for index in (0, 1, 2, 10):
            self._call(SCALAR, index)

    def _call(self, xp: Namespace, index: Any) -> Any:
        return call(xp, self.fn, index, 0.0, 1.0, "a factor between 0 and 1", self._argument)


@dataclass(frozen=True, repr=False)
class PerCycle(_Function):
    """Shrink the amplitude by your own function of the cycle: its factor in cycle c is fn(c), with c from 0.

    Args:
        fn: function that takes the 0-based index of the cycle and returns a factor in [0, 1]. If the step is an int or
            a NumPy array, fn is called with one int at a time. If the step is a tensor, as in a compiled training step,
            fn is called with a tensor of floats. It may then only use operations that tensors support, such as
            `lambda c: 1 / (1 + c)`, and `keras.ops.where` instead of `if`; factors outside [0, 1] are clipped.

    Raises:
        TypeError: fn is not a function, or fn returns something that is not a number.
        ValueError: fn returns a factor outside [0, 1]. Cycles 0, 1, 2 and 10 are checked at construction, all others
            when the schedule is called.
        ScheduleError: the schedule was called with a tensor, and fn failed for it.

    Example:
        >>> import cyclr
        >>> schedule = cyclr.Cyclical(0.0, 1.0, step_size=2, decay=cyclr.PerCycle(lambda cycle: 1 / (1 + cycle)))
        >>> [schedule(peak) for peak in (2, 6)]
        [1.0, 0.5]
    """

    _argument = "cycle"

    def factor(self, xp: Namespace, step: Any, cycle: Any) -> Any:
        return self._call(xp, cycle)


@dataclass(frozen=True, repr=False)
class PerStep(_Function):
    """Shrink the amplitude by your own function of the step: its factor at step t is fn(t).

    Args:
        fn: function that takes the step, from 0, and returns a factor in [0, 1]. It is called as for `PerCycle`.

    Raises:
        TypeError: fn is not a function, or fn returns something that is not a number.
        ValueError: fn returns a factor outside [0, 1]. Steps 0, 1, 2 and 10 are checked at construction, all others
            when the schedule is called.
        ScheduleError: the schedule was called with a tensor, and fn failed for it.

    Example:
        >>> import cyclr
        >>> schedule = cyclr.Cyclical(0.0, 1.0, step_size=2, decay=cyclr.PerStep(lambda step: 1 / (1 + step)))
        >>> round(schedule(2), 6)
        0.333333
    """

    _argument = "step"

    def factor(self, xp: Namespace, step: Any, cycle: Any) -> Any:
        return self._call(xp, step)
