"""The plan of a run: a schedule times one factor, so that the way down always ends with the run."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cyclr.auto import reading
from cyclr.schedules import Schedule
from cyclr.schedules._blocks import is_of_cyclr, reader

HOLD = 0.2
"""Fraction of the run up to which training goes back to the start, and no other state is kept."""

EARLY = 0.35
"""Fraction of the run up to which training may go back to the start."""

COPIES = 64
"""Number of equal parts of a run. The state may be kept after each part."""

PIECES = 80
"""Number of pieces of the run in which the fall of the loss is measured, if the run has at least SHORT updates."""

SHORT = 160
"""Number of updates of a run in which each piece has two updates."""

RAISES, FRESH = (0.15, 0.2, 0.25, 0.3, 0.35, 0.4), 0.15
"""Fractions of the run after which the rate is checked for being too low, and least fraction since its last change."""

STALL, TRIAL = 0.2, 0.1
"""Fraction of the run in which the loss must have fallen from the start, and length of a trial of other rates."""

_CHUNK = 2**16


@dataclass(frozen=True)
class RatePlan:
    """The schedule of a run, and the updates at which something may happen. Updates count from the start of the plan.

    Attributes:
        schedule: learning rates, which the run multiplies by a factor.
        updates: number of updates, ≥ 1.
        start: step of the run at which the plan starts, ≥ 0: the number of updates of the range test.
        returns: True if training can go back to an earlier state.
    """

    schedule: Schedule
    updates: int
    start: int = 0
    returns: bool = True

    def rate(self, update: int) -> float:
        """Return the learning rate of the schedule at an update."""
        return self._read(self.schedule, update)

    def highest(self, update: int) -> float:
        """Return the highest learning rate of the schedule from an update to the end."""
        if not is_of_cyclr(self.schedule):
            return self.schedule.largest
        return max(float(self.schedule(steps).max()) for steps in self._chunks(update))

    @cached_property
    def hold(self) -> float:
        """The first update after which states are kept."""
        return HOLD * self.updates

    @cached_property
    def early(self) -> float:
        """The update up to which training may go back to the start."""
        return EARLY * self.updates

    @cached_property
    def every(self) -> int:
        """Number of updates between two kept states."""
        return max(1, self.updates // COPIES)

    @cached_property
    def piece(self) -> int:
        """Number of updates in a piece."""
        return max(1, self.updates // PIECES)

    @cached_property
    def is_long(self) -> bool:
        """True if the run is long enough to measure how the loss falls."""
        return self.updates >= SHORT

    @cached_property
    def trial(self) -> int:
        """Number of updates of a trial."""
        return math.ceil(TRIAL * self.updates)

    def is_raise_check(self, update: int, since: int) -> bool:
        """Return True if the rate must now be checked for being too low, `since` updates after the last change."""
        return since >= FRESH * self.updates and any(self._passes(update, share) for share in RAISES)

    def is_stall_check(self, since: int) -> bool:
        """Return True if the loss must have fallen by now, `since` updates after the start."""
        return self._passes(since, STALL)

    def may_stall(self, pieces: reading.Pieces, update: int) -> bool:
        """Return True if a stall check of the current training is still to come."""
        return self.is_long and pieces.from_start and update < pieces.begin + STALL * self.updates + self.piece

    def _passes(self, update: int, share: float) -> bool:
        """Return True if the piece that ends before this update reached a fraction of the run."""
        return 0 <= update - share * self.updates < self.piece

    @cached_property
    def _read(self) -> Callable[[Schedule, int], float]:
        return reader(self.schedule)

    def _chunks(self, update: int) -> Iterator[NDArray[np.int64]]:
        first = min(update, self.updates - 1)
        for begin in range(first, self.updates, _CHUNK):
            yield np.arange(begin, min(begin + _CHUNK, self.updates))
