"""The values of a schedule at ints, looked up in blocks."""

from array import array
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cyclr.schedules._namespace import NUMPY, SCALAR

BLOCK = 2048
PIECE = 2**14
LAST = 2**63 - 1 - BLOCK
"""NumPy's integers hold the blocks of steps up to this one."""


class Blocks:
    """The values around the step that was asked for last: one block, made by one call of the NumPy form.

    Blocks begin at multiples of 2,048, so that a value has the same bits whoever asks for it, and wherever a run is
    split. A schedule that holds a user's function or is of a user's class is evaluated at the step alone: the function
    may count its calls, and the class may know ints only.
    """

    __slots__ = ("_ahead", "_block")

    def __init__(self) -> None:
        self._ahead: bool | None = None
        # In one piece, because another thread may replace it at any time.
        self._block = -BLOCK, array("d")

    def read(self, schedule: Any, step: int) -> float:
        """Return the value of the schedule at a step ≥ 0."""
        begin, values = self._block
        index = step - begin
        if 0 <= index < BLOCK:
            return values[index]
        if not self.holds(schedule, step):
            return float(schedule.evaluate(SCALAR, step))
        index = step % BLOCK
        values = array("d", schedule.evaluate(NUMPY, np.arange(step - index, step - index + BLOCK)).tobytes())
        self._block = step - index, values
        return values[index]

    def holds(self, schedule: Any, step: int) -> bool:
        """Return True if the schedule is evaluated at this step by the NumPy form."""
        if self._ahead is None:
            self._ahead = next(user_classes(schedule), None) is None
        return self._ahead and step <= LAST


def reader(schedule: Any) -> Callable[[Any, int], float]:
    """Return the function that reads a schedule's value at a step ≥ 0, in half the time of calling the schedule."""
    blocks: Blocks = schedule._blocks
    return blocks.read


def is_of_cyclr(schedule: Any) -> bool:
    """Return True if a schedule holds no class or function of a user's, so that its `largest` can be trusted."""
    blocks: Blocks = schedule._blocks
    return blocks.holds(schedule, 0)


def evaluate_in_pieces(schedule: Any, steps: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the values at many steps, computed in pieces that a processor's cache holds."""
    values, flat = np.empty(steps.size), steps.ravel()
    for start in range(0, steps.size, PIECE):
        values[start : start + PIECE] = schedule.evaluate(NUMPY, flat[start : start + PIECE])
    return values.reshape(steps.shape)


def user_classes(described: Any) -> Iterator[str]:
    """Yield the names of the classes that hold code of a user, in a schedule or decay: a function, or their formula."""
    kind = type(described)
    if not (kind.__module__.startswith("cyclr.") and kind.in_json):
        yield kind.__name__
    for part in described.parts():
        yield from user_classes(part)
