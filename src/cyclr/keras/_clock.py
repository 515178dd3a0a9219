"""Which update a batch belongs to, without asking the device for its counter after every batch."""

import itertools

import keras

from cyclr.keras import _optimizer, _private


class Clock:
    """Counts on the host: the device is asked once an epoch, or before every batch where loss scaling skips updates.

    Keras may tell the ends of batches from several threads, in any order. Of several batches in one call it never tells
    how many there were: where the length of the data is not known, a last call that is cut short counts as a full one.

    Args:
        callback: whose model is meant. On JAX, asking a callback for its model waits for the device.
    """

    def __init__(self, callback: keras.callbacks.Callback) -> None:
        self._callback = callback
        self._before_epoch = 0
        self._micro_batches = 1
        self._last_batch: int | None = None
        self._skips = False
        self._per_call = 1
        self._began = 0
        self._ended = itertools.count()
        self._read: dict[int, int] = {}

    def begin_epoch(self) -> None:
        """Call when an epoch begins."""
        model = self._callback.model
        steps = (self._callback.params or {}).get("steps")
        self._before_epoch = _optimizer.batches_seen(model.optimizer)
        self._micro_batches = _optimizer.micro_batches(model.optimizer)
        self._last_batch = steps - 1 if steps else None
        self._skips = _private.inner(model.optimizer) is not model.optimizer
        self._per_call = model.steps_per_execution
        self._began = 0
        self._ended = itertools.count()
        self._read.clear()

    def begin_batch(self, batch: int) -> None:
        """Call when a batch, or several in one call, begin with this one."""
        self._began += 1
        if self._skips:
            self._read[batch // self._per_call] = _optimizer.updates_done(self._callback.model.optimizer)

    def end_batch(self, batch: int) -> int:
        """Call when a batch, or several in one call, ended with this one: the number of the update it belongs to."""
        next(self._ended)
        if self._skips:
            return self._read.pop(batch // self._per_call)
        if self._last_batch is not None:
            batch = min(batch, self._last_batch)
        return (self._before_epoch + batch) // self._micro_batches

    def end_epoch(self) -> int:
        """Call when an epoch ends: the updates done so far.

        TensorFlow counts a batch that never came when data of unknown length ends, or before the length that it was
        said to have; that is put right.
        """
        optimizer = self._callback.model.optimizer
        ended = next(self._ended)
        data_ended = self._began > ended and self._per_call == 1 and not self._skips
        if data_ended and keras.backend.backend() == "tensorflow":
            expected = self._before_epoch + ended
            if _optimizer.batches_seen(optimizer) == expected + 1:
                _private.counter(optimizer).assign(expected)
        return _optimizer.updates_done(optimizer)
