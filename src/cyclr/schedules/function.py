"""A schedule by a function of one's own, and how such functions are called."""

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from numbers import Real
from typing import Any

from cyclr import _checks
from cyclr.errors import ScheduleError
from cyclr.schedules._namespace import NUMPY, SCALAR, Namespace
from cyclr.schedules.base import Schedule, set_fields


@dataclass(frozen=True, repr=False)
class Function(Schedule):
    """A function of your own of the step: fn(t).

    It is called for the step that is asked for and for no other. It cannot be written to JSON.

    Args:
        fn: function of the step, from 0, that returns a number. It is called with an int for every int and every NumPy
            element, and with a tensor of floats inside a compiled graph. There it may only use operations that tensors
            have (`keras.ops.where` in place of `if`), and what it returns is clipped to the bounds.
        low: lower bound of what it returns, ≥ 0.
        high: upper bound, ≥ low, or None. A momentum needs one below 1.

    Raises:
        TypeError, ValueError: fn is not a function, or the bounds are illegal; at a call, fn returns something that is
            not a finite number between the bounds.
        ScheduleError: at a call inside a compiled graph, fn cannot be computed for a tensor.

    Example:
        >>> import cyclr
        >>> schedule = 0.1 * cyclr.Function(lambda step: 1 / (1 + step))
        >>> schedule(0), schedule(3)
        (0.1, 0.025)
    """

    fn: Callable[[Any], Any]
    _: KW_ONLY
    low: float = 0.0
    high: float | None = None
    in_json = False

    def __post_init__(self) -> None:
        _checks.function("fn", self.fn, "of the step")
        low = _checks.number("low", self.low, at_least=0)
        high = None if self.high is None else _checks.number("high", self.high, at_least=low)
        set_fields(self, low=low, high=high)

    def evaluate(self, xp: Namespace, step: Any) -> Any:
        high = math.inf if self.high is None else self.high
        legal = f"a finite number from {self.low:g} to {high:g}".removesuffix(" to inf")
        return call(xp, self.fn, step, self.low, high, legal, "step")

    @property
    def largest(self) -> float:
        if self.high is None:
            raise ScheduleError(f"the largest value of {self!r} is not known. Write Function(fn, high=...).")
        return self.high


def call(xp: Namespace, fn: Callable[[Any], Any], at: Any, low: float, high: float, legal: str, argument: str) -> Any:
    """Call a user's function at an int, at every element of an array, or at a tensor.

    Of ints and arrays what it returns is checked, and said to be no `legal` value of its argument if it is outside the
    bounds; of tensors it is clipped.
    """

    def checked(index: int) -> float:
        returned = fn(index)
        value = returned
        if getattr(returned, "shape", None) == ():
            # TensorFlow's tensors have no method `item`.
            value = returned.item() if hasattr(returned, "item") else float(returned)
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"fn must return {legal}; got {returned!r} at {argument} {index}.")
        number = float(value)
        if not (math.isfinite(number) and low <= number <= high * (1 + 1e-9)):
            fix = " Divide it by its largest value?" if number > high else ""
            raise ValueError(f"fn must return {legal}; got {number} at {argument} {index}.{fix}")
        return number

    if xp is SCALAR or xp is NUMPY:
        return xp.clip(xp.elementwise(checked, at), low, high)
    # TensorFlow multiplies no integers by floats.
    return xp.clip(xp.to_float(fn(xp.to_float(at))), low, high)
