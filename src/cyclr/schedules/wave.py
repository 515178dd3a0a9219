"""Schedules that move between two bounds."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from cyclr import _checks
from cyclr.schedules._namespace import SCALAR, Namespace, resolve
from cyclr.schedules.base import Schedule, set_fields
from cyclr.schedules.decay import Decay

Place = tuple[Any, Any, Any, Any, Any, Any]
"""Position of a step in a `Wave` before the decay: `low, high, wave, share, cycle, ends`.

- low, high: the bounds of the value at this step.
- wave: height of the value between its bounds, from 0 to 1: the value is low · (1 − wave) + high · wave.
- share: 1.0, or 0.0 at steps at which a mirrored schedule stays at its upper bound.
- cycle: 0-based index of the cycle.
- ends: True if this step is the minimum that ends a cycle.
"""


class Wave(Schedule):
    """Base of the schedules that move between a lower and an upper bound, in one or more cycles.

    To write a wave of your own, define a frozen dataclass below `Wave` with the fields `base_lr` and `max_lr`, an
    optional field `decay`, and the method `place`. The methods `cycle`, `envelope`, `height`, `is_cycle_end` and
    `mirrored` are inherited and use `place`.

    Example:
        >>> import cyclr
        >>> [isinstance(schedule, cyclr.Wave) for schedule in (cyclr.Cyclical(0.1, 0.9, 5), cyclr.Constant(0.1))]
        [True, False]
    """

    base_lr: float
    max_lr: float
    decay: Decay | None = None
    has_cycle_ends = True

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = _checks.bounds(self.base_lr, self.max_lr)
        if self.decay is not None and not isinstance(self.decay, Decay):
            raise TypeError(
                f"decay must be a Decay or None; got decay={_checks.quoted(self.decay)}. Try decay=cyclr.Halving()."
            )
        set_fields(self, base_lr=low, max_lr=high)

    @abstractmethod
    def place(self, xp: Namespace, step: Any) -> Place:
        """Return the position of a step before the decay, see `Place`.

        Args:
            xp: the operations for this kind of step.
            step: an int, a NumPy array of int64, or a tensor of integers, which was checked before. Steps after the run
                are replaced by the last step of the run if the schedule has `total_steps`.
        """

    def evaluate(self, xp: Namespace, step: Any) -> Any:
        low, high, wave, _ = self._decayed(xp, step)
        return between(xp, low, high, wave)

    @property
    def largest(self) -> float:
        return self.max_lr

    def is_cycle_end(self, step: Any) -> Any:
        step, xp = resolve(step)
        ends = self.place(xp, self._within(xp, step))[5]
        return ends if self._endless(xp) else ends & (step < self.total_steps)

    def cycle(self, step: Any) -> Any:
        """Return the 0-based index of the cycle that contains a step.

        Example:
            >>> import cyclr
            >>> cyclr.Cyclical(0.0, 1.0, step_size=5).cycle(10)
            1
        """
        step, xp = resolve(step)
        return self.place(xp, self._within(xp, step))[4]

    def envelope(self, step: Any) -> tuple[Any, Any]:
        """Return the lower and the upper bound of the value at a step, after the decay.

        Example:
            >>> import cyclr
            >>> schedule = cyclr.Cyclical(0.1, 0.9, step_size=5, decay=cyclr.Halving())
            >>> schedule.envelope(10)
            (0.1, 0.5)
        """
        step, xp = resolve(step)
        if xp is SCALAR and self._blocks.holds(self, step):
            # NumPy computes the value of an int too, so the bounds agree with it to the last bit.
            return tuple(bound.item() for bound in self.envelope(np.array([step])))
        low, high, _, _ = self._decayed(xp, step)
        zero = 0.0 * xp.to_float(step)
        return xp.to_float(low + zero), xp.to_float(high + zero)

    def height(self, step: Any) -> Any:
        """Return the height of a step between the bounds, from 0 to 1. A decay of the amplitude lowers the height.

        Example:
            >>> import cyclr
            >>> cyclr.Cyclical(0.1, 0.9, step_size=4).height(1)
            0.25
        """
        step, xp = resolve(step)
        if xp is SCALAR and self._blocks.holds(self, step):
            return self.height(np.array([step])).item()
        return self._decayed(xp, step)[3]

    def _decayed(self, xp: Namespace, step: Any) -> tuple[Any, Any, Any, Any]:
        """Return the bounds after the decay, the height within these bounds, and the height for a mirrored schedule."""
        step = self._within(xp, step)
        low, high, wave, share, cycle, _ = self.place(xp, step)
        if self.decay is not None:
            factor = self.decay.factor(xp, step, cycle)
            if self.decay.bounds == "both":
                low, high = low * factor, high * factor
            else:
                high, share = between(xp, low, high, factor), share * factor
        return low, high, wave, wave * share

    def _within(self, xp: Namespace, step: Any) -> Any:
        """Return the step, or the last step of the run if the step lies after the run."""
        return step if self._endless(xp) else xp.minimum(step, self.total_steps - 1)  # type: ignore[operator]

    def _endless(self, xp: Namespace) -> bool:
        """Return True if the schedule has no end, or if steps of this kind cannot reach the end."""
        return self.total_steps is None or self.total_steps > xp.int_limit

    def mirrored(self, low: float, high: float) -> "Mirrored":
        """Return the schedule that moves the other way: it falls from `high` to `low` while this schedule rises.

        Use it for the momentum, which is lowered while the learning rate is raised (Smith 2018, arXiv:1803.09820). If
        the amplitude of this schedule decays, the mirrored schedule approaches `high`.

        Args:
            low, high: bounds of the mirrored value, 0 ≤ low < high.

        Example:
            >>> import cyclr
            >>> momentum = cyclr.Cyclical(0.001, 0.006, step_size=2000).mirrored(0.85, 0.95)
            >>> momentum(0), momentum(2000), momentum(4000)
            (0.95, 0.85, 0.95)
        """
        return Mirrored(self, low, high)


@dataclass(frozen=True, repr=False)
class Mirrored(Schedule):
    """A schedule that rises while a wave falls: high − (high − low) · height. `Wave.mirrored` returns one.

    Args:
        of: the schedule to mirror: `Cyclical`, `OneCycle` or `WarmRestarts`.
        low, high: bounds of the mirrored value, 0 ≤ low < high.

    Raises:
        TypeError, ValueError: `of` is not a wave, or the bounds are illegal.

    Example:
        >>> import cyclr
        >>> momentum = cyclr.Mirrored(cyclr.Cyclical(0.001, 0.006, step_size=2000), low=0.85, high=0.95)
        >>> momentum(0), momentum(2000)
        (0.95, 0.85)
    """

    of: Wave
    low: float
    high: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.of, Wave):
            raise TypeError(f"of must be a Cyclical, OneCycle or WarmRestarts; got of={_checks.quoted(self.of)}.")
        low, high = _checks.bounds(self.low, self.high, base="low", top="high")
        set_fields(self, low=low, high=high, total_steps=self.of.total_steps)

    def evaluate(self, xp: Namespace, step: Any) -> Any:
        return between(xp, self.low, self.high, 1.0 - self.of._decayed(xp, step)[3])

    @property
    def largest(self) -> float:
        return self.high

    def is_cycle_end(self, step: Any) -> Any:
        return self.of.is_cycle_end(step)


def between(xp: Namespace, low: Any, high: Any, height: Any) -> Any:
    """Return low · (1 − height) + high · height, exact at both bounds and never outside them because of rounding."""
    return xp.clip(low * (1.0 - height) + high * height, low, high)
