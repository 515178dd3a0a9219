"""The plan of a run: a schedule times one factor, so that the way down always ends with the run."""

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

PIECES = 20
"""Pieces of the run in which the fall of the loss is measured; each has at least 4 updates."""

CHECKS, REACH = (0.15, 0.2, 0.25, 0.3), 2.0
"""Shares of the run after which a rate that is too low is looked for, and the `reach` of `reading.too_low`."""

EAGER_CHECKS, EAGER_REACH = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4), 3.0
"""The same of a run that starts from the usual rate of an optimizer, and not from bounds."""

_CHUNK = 2**16


@dataclass(frozen=True)
class RatePlan:
    """The schedule of a run, and the updates at which something may happen. An update is counted from its start.

    Attributes:
        schedule: learning rates, of which the run uses a multiple.
        updates: length, ≥ 1.
        start: step of the run at which the plan starts, ≥ 0: the updates that a range test used.
        eager: True if the schedule is a guess that may be raised early.
        returns: True if there is a state to go back to.
    """

    schedule: Schedule
    updates: int
    start: int = 0
    eager: bool = False
    returns: bool = True

    def rate(self, update: int) -> float:
        """Return the learning rate of the schedule."""
        return self._read(self.schedule, update)

    def highest(self, update: int) -> float:
        """Return the highest rate of the schedule from an update on."""
        if not is_of_cyclr(self.schedule):
            return self.schedule.largest
        return max(float(self.schedule(steps).max()) for steps in self._chunks(update))

    def summed(self, update: int) -> float:
        """Return the sum of the rates from an update on, or 0 if the schedule must not be asked ahead."""
        if not is_of_cyclr(self.schedule):
            return 0.0
        return float(sum(float(self.schedule(steps).sum()) for steps in self._chunks(update)))

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
        return max(4, self.updates // PIECES)

    @cached_property
    def checks(self) -> frozenset[int]:
        """Numbers of pieces after which a rate that is too low is looked for."""
        shares = EAGER_CHECKS if self.eager else CHECKS
        ends = {number: number * self.piece for number in range(1, self.updates // self.piece + 1)}
        near = self.piece / 2
        return frozenset(
            number for number, end in ends.items() if any(abs(end - x * self.updates) < near for x in shares)
        )

    @cached_property
    def last_check(self) -> int:
        """The update after which no rate that is too low is looked for."""
        return max(self.checks, default=0) * self.piece

    def lacking(self, pieces: reading.Pieces, noise: float, update: int, factor: float) -> float:
        """Return the factor by which the rates are too low at an update, or 1."""
        rest = factor * self.summed(update + 1) if update + 1 < self.updates else 0.0
        return reading.too_low(pieces, noise, self.piece, rest, EAGER_REACH if self.eager else REACH)

    @cached_property
    def _read(self) -> Callable[[Schedule, int], float]:
        return reader(self.schedule)

    def _chunks(self, update: int) -> Iterator[NDArray[np.int64]]:
        first = min(update, self.updates - 1)
        for begin in range(first, self.updates, _CHUNK):
            yield np.arange(begin, min(begin + _CHUNK, self.updates))
