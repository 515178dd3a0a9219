"""What all schedules have in common that move between two bounds."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Self

from cyclr import _checks
from cyclr.schedules._namespace import Namespace
from cyclr.schedules.base import Schedule


class Wave(Schedule):
    """Base of the schedules that move between a lower and an upper bound, in one cycle or in many.

    Example:
        >>> import cyclr
        >>> [isinstance(schedule, cyclr.Wave) for schedule in (cyclr.Cyclical(0.1, 0.9, 5), cyclr.Constant(0.1))]
        [True, False]
    """

    def cycle(self, step: Any) -> Any:
        """The 0-based index of the cycle that a step lies in.

        Example:
            >>> import cyclr
            >>> cyclr.Cyclical(0.0, 1.0, step_size=5).cycle(10)
            1
        """
        return self._at(step, self._cycle)

    def envelope(self, step: Any) -> tuple[Any, Any]:
        """The lower and the upper bound at a step, after the decay; the value is never outside them.

        Example:
            >>> import cyclr
            >>> schedule = cyclr.Cyclical(0.1, 0.9, step_size=5, decay=cyclr.Halving())
            >>> schedule.envelope(10)
            (0.1, 0.5)
        """

        def bounds(xp: Namespace, step: Any) -> tuple[Any, Any]:
            low, high = self._bounds_at(xp, step)
            nought = 0.0 * xp.to_float(step)
            return xp.to_float(low + nought), xp.to_float(high + nought)

        low, high = self._at(step, bounds)
        return low, high

    def height(self, step: Any) -> Any:
        """How far a step is up between the bounds, from 0 to 1, an amplitude's decay included.

        Example:
            >>> import cyclr
            >>> cyclr.Cyclical(0.1, 0.9, step_size=4).height(1)
            0.25
        """
        return self._at(step, self._height)

    def mirrored(self, low: float, high: float) -> "Mirrored":
        """The schedule that moves the other way: `high` where this one is lowest, `low` where it is highest.

        Made for momentum, which is lowered while the learning rate is raised (Smith 2018, arXiv:1803.09820). Where the
        amplitude of this schedule decays, the mirrored one stays as much nearer to `high`.

        Args:
            low, high: bounds of the mirrored value, 0 ≤ low < high.

        Example:
            >>> import cyclr
            >>> momentum = cyclr.Cyclical(0.001, 0.006, step_size=2000).mirrored(0.85, 0.95)
            >>> momentum(0), momentum(2000), momentum(4000)
            (0.95, 0.85, 0.95)
        """
        return Mirrored(self, low, high)

    @abstractmethod
    def _cycle(self, xp: Namespace, step: Any) -> Any:
        """The index of the cycle."""

    @abstractmethod
    def _bounds_at(self, xp: Namespace, step: Any) -> tuple[Any, Any]:
        """The bounds at a step; numbers where they are the same at all steps."""

    @abstractmethod
    def _height(self, xp: Namespace, step: Any) -> Any:
        """How far up between the bounds, an amplitude's decay included."""

    def _height_formula(self, xp: Namespace) -> Callable[[Any], Any]:
        """The same for one kind of step."""
        return lambda step: self._height(xp, step)


class Mirrored(Schedule):
    """high − (high − low) · height of a schedule between bounds; made by its `mirrored`, whose docstring says more.

    Args:
        of: the schedule to mirror: `Cyclical`, `OneCycle` or `WarmRestarts`.
        low, high: bounds of the mirrored value, 0 ≤ low < high.

    Raises:
        TypeError, ValueError: `of` is no such schedule, or the bounds are no bounds.

    Example:
        >>> import cyclr
        >>> momentum = cyclr.Mirrored(cyclr.Cyclical(0.001, 0.006, step_size=2000), low=0.85, high=0.95)
        >>> momentum(0), momentum(2000)
        (0.95, 0.85)
    """

    of: Wave
    low: float
    high: float

    def __init__(self, of: Wave, low: float, high: float) -> None:
        if not isinstance(of, Wave):
            raise TypeError(f"of must be a Cyclical, OneCycle or WarmRestarts; got of={of!r}.")
        low, high = _checks.bounds(low, high, base="low", top="high")
        self._set(of=of, low=low, high=high)

    def arguments(self) -> dict[str, Any]:
        return {"of": self.of, "low": self.low, "high": self.high}

    @classmethod
    def _from_arguments(cls, arguments: dict[str, Any]) -> Self:
        return cls(**{**arguments, "of": Schedule.from_dict(arguments.get("of", {}))})

    def _formula(self, xp: Namespace) -> Callable[[Any], Any]:
        low, high, height = self.low, self.high, self.of._height_formula(xp)
        return lambda step: between(xp, low, high, 1.0 - height(step))

    def _value(self, xp: Namespace, step: Any) -> Any:
        return self._formula(xp)(step)

    def _is_cycle_end(self, xp: Namespace, step: Any) -> Any:
        return self.of._is_cycle_end(xp, step)


def between(xp: Namespace, low: Any, high: Any, height: Any) -> Any:
    """The weighted mean low · (1 − height) + high · height: both bounds exactly, and never outside them by rounding."""
    return xp.clip(low * (1.0 - height) + high * height, low, high)
