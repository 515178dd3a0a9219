"""A schedule by a user's function, and the call of such functions."""

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
    """A schedule by your own function of the step: fn(t).

    fn is called only for the requested steps. The schedule cannot be written to JSON.

    Args:
        fn: function that takes the step, from 0, and returns a number. If the step is an int or a NumPy array, fn is
            called with one int at a time. If the step is a tensor, as in a compiled training step, fn is called with a
            tensor of floats. It may then only use operations that tensors support (`keras.ops.where` instead of `if`),
            and the returned values are clipped to the bounds.
        low: lower bound of the returned values, ≥ 0.
        high: upper bound of the returned values, ≥ low, or None. A momentum needs an upper bound below 1.

    Raises:
        TypeError, ValueError: fn is not a function, or the bounds are illegal. When the schedule is called: fn returned
            something other than a finite number between the bounds.
        ScheduleError: the schedule was called with a tensor, and fn failed for it.

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
    """Call a user's function with an int, with every element of an array, or with a tensor.

    For ints and arrays, raise if a returned value is not a finite number between the bounds, which the message calls
    `legal`. For tensors, clip the returned values to the bounds.
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
            fix = " Divide it by its largest value." if number > high else ""
            raise ValueError(f"fn must return {legal}; got {number} at {argument} {index}.{fix}")
        return number

    if xp is SCALAR or xp is NUMPY:
        return xp.clip(xp.elementwise(checked, at), low, high)
    # TensorFlow cannot multiply integers by floats.
    return xp.clip(xp.to_float(fn(xp.to_float(at))), low, high)
