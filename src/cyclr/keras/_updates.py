"""Counts optimizer updates: the update that a batch belongs to, and the moment at which it was made."""

import itertools
from typing import Any

import keras

from cyclr.keras import _private


class UpdateCounter:
    """Counts the updates of an optimizer during `fit`, for a callback that calls these methods.

    The counter is read before every batch if `every_batch` is True, or if loss scaling may skip updates. Otherwise it
    is read once an epoch, because reading it waits for the device, and batches are counted on the host.

    | state | entered by | what is known |
    |---|---|---|
    | outside an epoch | creation, `end_epoch` | nothing |
    | between batches | `begin_epoch`, `end_batch` | the batches counted when the epoch began |
    | within a batch | `begin_batch` | if the counter is read before every batch: the update of this batch |
    | phantom update | `end_epoch` within a batch, which undoes it | TensorFlow has counted a batch without data |

    If data of unknown length ends, or data that is shorter than it was said to be, Keras starts a batch and finds no
    data. TensorFlow has run by then what needs none, the counter included.

    Keras may call `end_batch` in several threads and in any order. With `steps_per_execution > 1` it does not report
    how many batches a call ran. If the data's length is unknown, a shortened last call is counted as a full one.

    Args:
        callback: the callback, whose model is counted.
        optimizer: the optimizer to count; the model's by default.
        every_batch: True if the callback waits for the device after every batch anyway. `begin_epoch` and the numbers
            of the batches are not needed then.
    """

    def __init__(self, callback: keras.callbacks.Callback, optimizer: Any = None, *, every_batch: bool = False) -> None:
        self._callback = callback
        self._given = optimizer
        self._every_batch = self._reads = every_batch
        self._first, self._accumulation, self._per_call = 0, 1, 1
        self._last_batch: int | None = None
        self._begun, self._ended = 0, itertools.count()
        self._before: dict[int, int] = {}
        self._values: list[Any] = []

    @property
    def optimizer(self) -> Any:
        """The optimizer that is counted."""
        return self._callback.model.optimizer if self._given is None else self._given

    @property
    def within_update(self) -> bool:
        """True if batches of an update were gathered that is not made yet."""
        return bool(self._values)

    def restart(self) -> None:
        """Forget unfinished updates. Call when training starts."""
        self._values = []
        self._before.clear()

    def begin_epoch(self) -> None:
        """Call when an epoch starts."""
        model, optimizer = self._callback.model, self.optimizer
        steps = (self._callback.params or {}).get("steps")
        self._first, self._accumulation = _private.batches_seen(optimizer), _private.accumulation(optimizer)
        self._last_batch = steps - 1 if steps else None
        self._reads = self._every_batch or _private.inner(optimizer) is not optimizer
        self._per_call = model.steps_per_execution
        self._begun, self._ended = 0, itertools.count()
        self._before.clear()

    def begin_batch(self, batch: int = 0) -> None:
        """Call when a batch starts, or several in one call, of which `batch` is the first."""
        self._begun += 1
        if self._reads:
            optimizer = self.optimizer
            self._accumulation = _private.accumulation(optimizer)
            self._before[batch // self._per_call] = _private.batches_seen(optimizer)

    def end_batch(self, batch: int = 0) -> int:
        """Call when a batch ends, or several in one call, of which `batch` is the last. Returns its update, from 0."""
        next(self._ended)
        if self._reads:
            return self._before.pop(batch // self._per_call) // self._accumulation
        if self._last_batch is not None:
            batch = min(batch, self._last_batch)
        return (self._first + batch) // self._accumulation

    def made(self, update: int) -> bool:
        """Return True if the update was made: its last micro-batch is done, and loss scaling did not skip it."""
        return _private.updates_done(self.optimizer) > update

    def gather(self, value: Any, *, last: bool = False) -> list[Any]:
        """End a batch that has this value, and return the values of all batches of its update once that is made.

        Before that the list is empty. With `last`, the update is over whether it is made or not. For `every_batch`.
        """
        self._values.append(value)
        if not self.made(self._before.pop(0, 0) // self._accumulation) and not last:
            return []
        values, self._values = self._values, []
        return values

    def end_epoch(self) -> int:
        """Call when an epoch ends. Returns the number of updates made so far, without a phantom update."""
        optimizer = self.optimizer
        count = found = _private.batches_seen(optimizer)
        if self._reads:
            if self._before:
                count = self._before.popitem()[1]
        elif keras.backend.backend() == "tensorflow" and self._per_call == 1:
            ended = next(self._ended)
            if self._begun > ended and found == self._first + ended + 1:
                count -= 1
        if count != found:
            _private.counter(optimizer).assign(count)
        return count // _private.accumulation(optimizer)
