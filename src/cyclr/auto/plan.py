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
"""Share of the run until which training goes back to the start, and no other state is kept."""

EARLY = 0.35
"""Share of the run until which it is worth while to go back to the start."""

COPIES = 64
"""Times in a run that the state may be kept, after each of so many equal parts."""

PIECES = 80
"""Pieces of the run in which the fall of the loss is measured. Shorter runs than SHORT are not looked at."""

SHORT = 160
"""Updates of a run in which a piece has two."""

RAISES, FRESH = (0.15, 0.2, 0.25, 0.3, 0.35, 0.4), 0.15
"""Shares of the run after which a rate that is too low is looked for, and how long training must have had its rates."""

STALL, TRIAL = 0.2, 0.1
"""Share of the run in which the loss must have fallen from the start, and the share of a trial of other rates."""

_CHUNK = 2**16


@dataclass(frozen=True)
class RatePlan:
    """The schedule of a run, and the updates at which something may happen. An update is counted from its start.

    Attributes:
        schedule: learning rates, of which the run uses a multiple.
        updates: length, ≥ 1.
        start: step of the run at which the plan starts, ≥ 0: the updates that a range test used.
        returns: True if there is a state to go back to.
    """

    schedule: Schedule
    updates: int
    start: int = 0
    returns: bool = True

    def rate(self, update: int) -> float:
        """Return the learning rate of the schedule."""
        return self._read(self.schedule, update)

    def highest(self, update: int) -> float:
        """Return the highest rate of the schedule from an update on."""
        if not is_of_cyclr(self.schedule):
            return self.schedule.largest
        return max(float(self.schedule(steps).max()) for steps in self._chunks(update))

    @cached_property
    def hold(self) -> float:
        """The update from which on states are kept."""
        return HOLD * self.updates

    @cached_property
    def early(self) -> float:
        """The update until which it is worth while to go back to the start."""
        return EARLY * self.updates

    @cached_property
    def every(self) -> int:
        """Updates between two states that are kept."""
        return max(1, self.updates // COPIES)

    @cached_property
    def piece(self) -> int:
        """Updates in a piece."""
        return max(1, self.updates // PIECES)

    @cached_property
    def looks(self) -> bool:
        """True if the run is long enough to see whether the loss falls as it should."""
        return self.updates >= SHORT

    @cached_property
    def trial(self) -> int:
        """Updates of a trial."""
        return math.ceil(TRIAL * self.updates)

    def is_raise_check(self, update: int, since: int) -> bool:
        """Return True if a rate that is too low is looked for, `since` updates after the last change."""
        return since >= FRESH * self.updates and any(self._passes(update, share) for share in RAISES)

    def is_stall_check(self, since: int) -> bool:
        """Return True if the loss must have fallen by now, `since` updates after the start."""
        return self._passes(since, STALL)

    def may_stall(self, pieces: reading.Pieces, update: int) -> bool:
        """Return True if such a check of the present training is still to come."""
        return self.looks and pieces.from_start and update < pieces.begin + STALL * self.updates + self.piece

    def _passes(self, update: int, share: float) -> bool:
        """Return True if the piece that ends before this update reached a share of the run."""
        return 0 <= update - share * self.updates < self.piece

    @cached_property
    def _read(self) -> Callable[[Schedule, int], float]:
        return reader(self.schedule)

    def _chunks(self, update: int) -> Iterator[NDArray[np.int64]]:
        first = min(update, self.updates - 1)
        for begin in range(first, self.updates, _CHUNK):
            yield np.arange(begin, min(begin + _CHUNK, self.updates))
