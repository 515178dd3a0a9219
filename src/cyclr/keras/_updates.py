"""Counts optimizer updates, and assigns batches to them."""

import itertools
from typing import Any

import keras
import numpy as np

from cyclr.keras import _private
from cyclr.keras._optimizers import named_optimizers

PATIENCE = 16
"""Number of batches after which an optimizer without an update is an error. Models that alternate between optimizers,
such as GANs with several critic steps, update each optimizer within this number. The end of an epoch also decides."""


class UpdateCounter:
    """Counts the updates of an optimizer during `fit`, for a callback that calls these methods.

    Reading the optimizer's counter waits for the device. The counter is read before every batch in four cases:
    `every_batch` is True; loss scaling may skip updates; the training step does not make exactly one update per batch;
    the model has several optimizers on TensorFlow. Otherwise batches are counted on the host, and this count is
    compared with the counter before batches 1, 2, 4, 8, ….

    If the model is trained without an update of this optimizer in the first 16 batches (or in an epoch), the next batch
    raises an error that names the optimizers that make the updates. So a model may alternate between optimizers.

    | state | entered by | what is known |
    |---|---|---|
    | outside an epoch | creation, `end_epoch` | nothing |
    | between batches | `begin_epoch`, `end_batch` | the count at the start of the epoch |
    | within a batch | `begin_batch` | if the counter is read before every batch: the update of this batch |
    | phantom update | `end_epoch` within a batch, which undoes it | TensorFlow has counted a batch without data |

    If data of unknown length ends, or data ends before its stated length, Keras starts a batch and finds no data. On
    TensorFlow, this batch still runs the operations that need no data, such as increasing the counter.

    Keras may call `end_batch` in several threads and in any order. With `steps_per_execution > 1` it does not report
    how many batches a call ran. If the data's length is unknown, a shortened last call is counted as a full one.

    Args:
        callback: the callback, whose model is counted.
        optimizer: the optimizer to count; the model's by default.
        every_batch: True if the callback waits for the device after every batch anyway. Then `begin_epoch` and the
            numbers of the batches are not needed.
        one_update: True to raise if a batch makes several updates.
    """

    def __init__(
        self,
        callback: keras.callbacks.Callback,
        optimizer: Any = None,
        *,
        every_batch: bool = False,
        one_update: bool = False,
    ) -> None:
        self._one_update = one_update
        self._callback = callback
        self._given = optimizer
        self._every_batch = self._reads = every_batch
        self._is_irregular = False
        self._others: dict[str, Any] = {}
        self._first, self._accumulation, self._per_call = 0, 1, 1
        self._last_batch: int | None = None
        self._started, self._ended = 0, itertools.count()
        self._before: dict[int, list[int]] = {}
        self._values: list[Any] = []
        self._must_update = False
        self._start: list[int] | None = None
        self._weights: Any = None
        self._watched = 0

    @property
    def optimizer(self) -> Any:
        """The optimizer that is counted."""
        return self._callback.model.optimizer if self._given is None else self._given

    @property
    def _who(self) -> str:
        return getattr(self._callback, "who", type(self._callback).__name__)

    @property
    def within_update(self) -> bool:
        """True if batches were gathered for an update that is not made yet."""
        return bool(self._values)

    def restart(self, *, must_update: bool = True) -> None:
        """Forget unfinished updates. Call when training starts.

        Args:
            must_update: False for a callback that neither sets nor logs a hyperparameter of the optimizer.
        """
        self._values = []
        self._before.clear()
        counter = _private.counter(self.optimizer)
        held = named_optimizers(self._callback.model).items()
        self._others = {name: other for name, other in held if _private.counter(other) is not counter}
        self._start, self._weights = None, None
        self._must_update = must_update

    def _counts(self) -> list[int]:
        """Return the number of batches seen by the optimizer, then by each other optimizer of the model."""
        return [_private.batches_seen(optimizer) for optimizer in (self.optimizer, *self._others.values())]

    def begin_epoch(self) -> None:
        """Call when an epoch starts."""
        model, optimizer = self._callback.model, self.optimizer
        steps = (self._callback.params or {}).get("steps")
        self._first, self._accumulation = _private.batches_seen(optimizer), _private.accumulation(optimizer)
        self._last_batch = steps - 1 if steps else None
        has_phantoms = bool(self._others) and keras.backend.backend() == "tensorflow"
        is_scaled = _private.inner(optimizer) is not optimizer
        self._reads = self._every_batch or self._is_irregular or has_phantoms or is_scaled
        self._per_call = model.steps_per_execution
        self._started, self._ended = 0, itertools.count()
        self._before.clear()

    def begin_batch(self, batch: int = 0) -> None:
        """Call when a batch starts. If one call runs several batches, `batch` is the first of them."""
        calls = batch // self._per_call
        if not self._reads and calls & (calls - 1) == 0 and batch > 0:
            self._is_irregular = self._reads = _private.batches_seen(self.optimizer) != self._first + batch
        if self._must_update:
            # Other callbacks may have restored a backup since training started.
            self._start, self._watched, self._must_update = self._counts(), 0, False
        elif self._start is not None and self._watched & (self._watched - 1) == 0:
            self._check_updating(self._watched >= PATIENCE)
        self._watched += 1
        self._started += 1
        if self._reads:
            self._accumulation = _private.accumulation(self.optimizer)
            self._before[calls] = self._counts()

    def _check_updating(self, decides: bool) -> None:
        """Raise if `decides` is True and the model was trained without an update of the optimizer."""
        counts = self._counts()
        start = counts if self._start is None else self._start
        if counts[0] != start[0]:
            self._start = self._weights = None
            return
        # Unchanged weights are not an error yet: a custom training step may accumulate gradients.
        weights = [keras.ops.convert_to_numpy(keras.ops.sum(w)) for w in self._callback.model.trainable_variables]
        self._weights = weights if self._weights is None else self._weights
        moved = (number != before for number, before in zip(counts[1:], start[1:], strict=True))
        names = [name for name, has_moved in zip(self._others, moved, strict=True) if has_moved]
        if not decides or (not names and np.array_equal(self._weights, weights, equal_nan=True)):
            return
        mine = {id(optimizer): name for name, optimizer in named_optimizers(self._callback.model).items()}
        makers = " and ".join(f"{name} ({type(self._others[name]).__name__})" for name in names)
        raise ValueError(
            f"{self._who} follows {mine.get(id(self.optimizer), 'the optimizer')} "
            f"({type(self.optimizer).__name__}), which made no update in {self._watched} batches; updates were made by "
            f"{makers or 'an optimizer that the model does not hold as an attribute'}. Compile the model with the "
            "optimizer that trains it (super().compile(optimizer=...) in your own compile()), pass this optimizer to "
            "range_test(optimizer=...), or create each optimizer with its own cyclr.keras.LearningRate(schedule)."
        )

    def end_batch(self, batch: int = 0) -> int:
        """Call when a batch ends, and return the number of its update, from 0.

        If one call runs several batches, `batch` is the last of them. If the counter is read and a batch makes several
        updates, return the first of them.
        """
        next(self._ended)
        before = self._before.pop(batch // self._per_call, None)
        if before is not None:
            return before[0] // self._accumulation
        if self._last_batch is not None:
            batch = min(batch, self._last_batch)
        return (self._first + batch) // self._accumulation

    def end_batch_updates(self, batch: int) -> range:
        """Call instead of `end_batch`, and return the updates of the batch. Check each with `made`.

        The counter is also read after the first batch of an epoch, to find a training step that makes several updates.
        """
        is_read = batch == 0 or batch // self._per_call in self._before
        update = self.end_batch(batch)
        return range(update, _private.updates_done(self.optimizer) if is_read else update + 1)

    def made(self, update: int) -> bool:
        """Return True if the update was made: its last micro-batch is done, and loss scaling did not skip it."""
        return _private.updates_done(self.optimizer) > update

    def gather(self, value: Any, *, last: bool = False) -> list[Any]:
        """End a batch with this value. If its update is made, return the values of all batches of the update.

        Otherwise return an empty list. With `last=True`, the update is complete even if it is not made. Needs
        `every_batch=True`.
        """
        if not self._before:
            raise ValueError(
                f"{self._who}.on_train_batch_end was called without on_train_batch_begin, which sets the learning "
                "rate. In your own training loop, call set_model(model), on_train_begin() and, around every batch, "
                "on_train_batch_begin(batch) and on_train_batch_end(batch, logs)."
            )
        self._values.append(value)
        update = self._before.pop(0)[0] // self._accumulation
        made = _private.updates_done(self.optimizer) - update
        if made > 1 and self._one_update:
            raise ValueError(
                f"{self._who} needs a training step that makes one update with every batch; got one that made {made}, "
                "most of them at a wrong learning rate. To train, create the optimizer with "
                "cyclr.keras.LearningRate(schedule), which is exact for every update. For a range test, create the "
                "optimizer with a number."
            )
        if made < 1 and not last:
            return []
        values, self._values = self._values, []
        return values

    def end_epoch(self) -> int:
        """Call when an epoch ends. Undo a phantom update, and return the number of updates made so far."""
        optimizer = self.optimizer
        counts = found = self._counts()
        if self._before:
            counts = self._before.popitem()[1]
        elif not self._reads and keras.backend.backend() == "tensorflow" and self._per_call == 1:
            ended = next(self._ended)
            if self._started > ended and found[0] == self._first + ended + 1:
                counts = [found[0] - 1, *found[1:]]
        for held, count, number in zip((optimizer, *self._others.values()), counts, found, strict=True):
            if count != number:
                _private.counter(held).assign(count)
        if self._start is not None:
            self._check_updating(True)
        return counts[0] // _private.accumulation(optimizer)
