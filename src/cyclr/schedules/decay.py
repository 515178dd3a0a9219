"""How the bounds of a cycle shrink over time.

A decay gives a factor s in [0, 1] for a step t in cycle c (both from 0). Of the amplitude it leaves
`base_lr + (max_lr − base_lr) · s`, of both bounds `base_lr · s` and `max_lr · s`.
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar, Literal, cast

import numpy as np

from cyclr import _checks
from cyclr.errors import ScheduleError
from cyclr.schedules._namespace import NUMPY, SCALAR, Namespace
from cyclr.schedules.base import Described

Shrinks = Literal["max", "both"]


class Decay(Described):
    """Base of all decays; `Halving`, `Exponential`, `PerCycle` and `PerStep` are the ones there are.

    Example:
        >>> import cyclr
        >>> isinstance(cyclr.Halving(), cyclr.Decay)
        True
    """

    bounds: Shrinks = "max"
    """Which bounds shrink: `"max"` (the amplitude) or `"both"`."""

    @abstractmethod
    def factor(self, xp: Namespace, step: Any, cycle: Any) -> Any:
        """The factor s in [0, 1] for a step and the cycle that it lies in."""

    def to_dict(self) -> dict[str, Any]:
        """A description for JSON; see `Schedule.to_dict`."""
        return {"decay": type(self).__name__, **self.arguments()}

    @staticmethod
    def from_description(description: Any) -> Any:
        """The decay that a schedule's description holds; what is no description stays what it is."""
        return Decay.from_dict(description) if isinstance(description, dict) else description

    @staticmethod
    def from_dict(description: dict[str, Any]) -> "Decay":
        """The decay that `to_dict` described."""
        arguments = dict(description)
        kinds = {kind.__name__: kind for kind in (Halving, Exponential)}
        return kinds[_checks.choice("decay", arguments.pop("decay", None), kinds)](**arguments)


def checked_decay(decay: Any) -> Decay | None:
    """Return a decay or None, or raise."""
    if decay is not None and not isinstance(decay, Decay):
        raise TypeError(f"decay must be a Decay or None; got decay={decay!r}. Try decay=cyclr.Halving().")
    return decay


def decayed(xp: Namespace, low: float, high: float, decay: Decay | None, step: Any, cycle: Any) -> tuple[Any, Any]:
    """The bounds that a decay leaves of two at a step in a cycle."""
    if decay is None:
        return low, high
    factor = decay.factor(xp, step, cycle)
    if decay.bounds == "both":
        return low * factor, high * factor
    return low, xp.minimum(xp.maximum(low * (1.0 - factor) + high * factor, low), high)


class Halving(Decay):
    """Halve the amplitude after every cycle: s = 2^(−c). Smith's `triangular2`.

    Example:
        >>> import cyclr
        >>> schedule = cyclr.Cyclical(0.0, 1.0, step_size=2, decay=cyclr.Halving())
        >>> [schedule(peak) for peak in (2, 6, 10)]
        [1.0, 0.5, 0.25]

    Source: Smith 2017, arXiv:1506.01186, section 3.1.
    """

    def arguments(self) -> dict[str, Any]:
        return {}

    def factor(self, xp: Namespace, step: Any, cycle: Any) -> Any:
        return xp.exp2(-xp.to_float(cycle))


class Exponential(Decay):
    """Shrink with every step, s = gamma^t (Smith's `exp_range`), or with every cycle, s = gamma^c.

    Args:
        gamma: factor per step or cycle, in (0, 1]. To shrink to a share q over n steps, use `q ** (1 / n)`.
        bounds: `"max"` shrinks the amplitude, so that the rate settles at base_lr; `"both"` shrinks base_lr and max_lr
            alike, so that it goes to 0 and their ratio stays.
        per: `"step"` or `"cycle"`.

    Raises:
        TypeError, ValueError: gamma is no number in (0, 1], or `bounds` or `per` is neither name.

    Example:
        >>> import cyclr
        >>> schedule = cyclr.Cyclical(0.1, 1.1, step_size=1, decay=cyclr.Exponential(0.5))
        >>> [round(schedule(step), 6) for step in range(4)]
        [0.1, 0.6, 0.1, 0.225]

    Source: Smith 2017, arXiv:1506.01186, section 3.1.
    """

    gamma: float
    per: Literal["step", "cycle"]

    def __init__(self, gamma: float, bounds: Shrinks = "max", per: Literal["step", "cycle"] = "step") -> None:
        self._set(
            gamma=_checks.number(
                "gamma", gamma, above=0, at_most=1, fix="It is a factor per step or cycle, such as 0.9999."
            ),
            bounds=cast(Shrinks, _checks.choice("bounds", bounds, ("max", "both"))),
            per=_checks.choice("per", per, ("step", "cycle")),
        )

    def arguments(self) -> dict[str, Any]:
        return {"gamma": self.gamma, "bounds": self.bounds, "per": self.per}

    def factor(self, xp: Namespace, step: Any, cycle: Any) -> Any:
        # The logarithm is taken in float64: gamma itself, rounded to float32, would be off by 0.3 % after 10⁵ steps.
        return xp.exp2(xp.to_float(step if self.per == "step" else cycle) * math.log2(self.gamma))


class _Function(Decay):
    """A decay by a user's function of one integer."""

    fn: Callable[[Any], Any]
    _argument: ClassVar[str]

    def __init__(self, fn: Callable[[Any], Any]) -> None:
        if not callable(fn):
            raise TypeError(f"fn must be a function of the {self._argument}; got fn={fn!r}.")
        self._set(fn=fn)
        for index in (0, 1, 2, 10):
            self._checked(SCALAR, index)

    def arguments(self) -> dict[str, Any]:
        return {"fn": self.fn}

    def to_dict(self) -> dict[str, Any]:
        raise ScheduleError(
            f"{self!r} holds a Python function, which JSON cannot hold. "
            "Use Halving() or Exponential(gamma), or build the schedule anew in code after loading."
        )

    def _number(self, index: int) -> float:
        factor = self.fn(index)
        value = factor.item() if getattr(factor, "shape", None) == () else factor
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"fn must return a factor between 0 and 1; got {factor!r} at {self._argument} {index}.")
        return float(value)

    def _checked(self, xp: Namespace, index: Any) -> Any:
        factor = xp.elementwise(self._number if xp is SCALAR or xp is NUMPY else self.fn, index)
        if xp is SCALAR or xp is NUMPY:
            lowest, highest = (factor, factor) if xp is SCALAR else (factor.min(initial=0.0), factor.max(initial=0.0))
            if not (lowest >= 0.0 and highest <= 1.0 + 1e-9):
                factors, indices = np.atleast_1d(factor), np.atleast_1d(index)
                first = int(np.flatnonzero(~((factors >= 0.0) & (factors <= 1.0 + 1e-9)).ravel())[0])
                raise ValueError(
                    f"fn must return a factor between 0 and 1; got {factors.ravel()[first]} "
                    f"at {self._argument} {indices.ravel()[first]}. Divide it by its largest value?"
                )
        return xp.minimum(xp.maximum(xp.to_float(factor), 0.0), 1.0)


class PerCycle(_Function):
    """Shrink the amplitude by a function of your own of the cycle: s = fn(c).

    Args:
        fn: function of the 0-based index of the cycle that returns a factor in [0, 1]. It is called with an int for
            every int and every NumPy element, and with a tensor inside a compiled graph, where only operations that
            tensors have (such as `lambda c: 1 / (1 + c)`) work and a factor outside [0, 1] is cut off.

    Raises:
        TypeError: fn is no function, or returns what is no number.
        ValueError: fn leaves [0, 1] (tried at once for cycles 0, 1, 2 and 10, then at every call).

    Example:
        >>> import cyclr
        >>> schedule = cyclr.Cyclical(0.0, 1.0, step_size=2, decay=cyclr.PerCycle(lambda cycle: 1 / (1 + cycle)))
        >>> [schedule(peak) for peak in (2, 6)]
        [1.0, 0.5]
    """

    _argument = "cycle"

    def factor(self, xp: Namespace, step: Any, cycle: Any) -> Any:
        return self._checked(xp, cycle)


class PerStep(_Function):
    """Shrink the amplitude by a function of your own of the step: s = fn(t).

    Args:
        fn: function of the step, from 0, that returns a factor in [0, 1]; as for `PerCycle`.

    Raises:
        TypeError: fn is no function, or returns what is no number.
        ValueError: fn leaves [0, 1] (tried at once for steps 0, 1, 2 and 10, then at every call).

    Example:
        >>> import cyclr
        >>> schedule = cyclr.Cyclical(0.0, 1.0, step_size=2, decay=cyclr.PerStep(lambda step: 1 / (1 + step)))
        >>> round(schedule(2), 6)
        0.333333
    """

    _argument = "step"

    def factor(self, xp: Namespace, step: Any, cycle: Any) -> Any:
        return self._checked(xp, step)
