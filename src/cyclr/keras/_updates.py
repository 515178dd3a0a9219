"""Counts optimizer updates: the update that a batch belongs to, and the moment at which it was made."""

import itertools
from typing import Any

import keras
import numpy as np

from cyclr.keras import _private
from cyclr.keras._optimizers import named_optimizers

PATIENCE = 16
"""Batches after which an optimizer that made no update is an error: models that alternate between optimizers, such as
GANs with several critic steps, update each of them within this number. The end of an epoch also decides."""


class UpdateCounter:
    """Counts the updates of an optimizer during `fit`, for a callback that calls these methods.

    Reading the counter waits for the device. It is read before every batch if `every_batch` is True, if loss scaling
    may skip updates, or if the training step of the model makes fewer or more updates than one a batch, or updates of
    several optimizers on TensorFlow. Otherwise batches are counted on the host, and the counter is compared with that
    number before batches 1, 2, 4, 8, ….

    If the optimizer makes no update in the first 16 batches (or in an epoch) although the model is trained, the next
    batch raises, and names the optimizers that make the updates. A model may alternate between optimizers.

    | state | entered by | what is known |
    |---|---|---|
    | outside an epoch | creation, `end_epoch` | nothing |
    | between batches | `begin_epoch`, `end_batch` | the count when the epoch began |
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
        self._begun, self._ended = 0, itertools.count()
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
        """True if batches of an update were gathered that is not made yet."""
        return bool(self._values)

    def restart(self, *, must_update: bool = True) -> None:
        """Forget unfinished updates. Call when training starts.

        Args:
            must_update: False for a callback that neither sets nor logs anything of the optimizer.
        """
        self._values = []
        self._before.clear()
        counter = _private.counter(self.optimizer)
        held = named_optimizers(self._callback.model).items()
        self._others = {name: other for name, other in held if _private.counter(other) is not counter}
        self._start, self._weights = None, None
        self._must_update = must_update

    def _counts(self) -> list[int]:
        """Return the batches seen by the optimizer, and by the others that the model holds."""
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
        self._begun, self._ended = 0, itertools.count()
        self._before.clear()

    def begin_batch(self, batch: int = 0) -> None:
        """Call when a batch starts, or several in one call, of which `batch` is the first."""
        calls = batch // self._per_call
        if not self._reads and calls & (calls - 1) == 0 and batch > 0:
            self._is_irregular = self._reads = _private.batches_seen(self.optimizer) != self._first + batch
        if self._must_update:
            # Other callbacks may have restored a backup since training started.
            self._start, self._watched, self._must_update = self._counts(), 0, False
        elif self._start is not None and self._watched & (self._watched - 1) == 0:
            self._check_updating(self._watched >= PATIENCE)
        self._watched += 1
        self._begun += 1
        if self._reads:
            self._accumulation = _private.accumulation(self.optimizer)
            self._before[calls] = self._counts()

    def _check_updating(self, decides: bool) -> None:
        """Raise if it is time to decide and the model was trained without an update of the optimizer."""
        counts = self._counts()
        start = counts if self._start is None else self._start
        if counts[0] != start[0]:
            self._start = self._weights = None
            return
        # Gradients that a training step adds up by itself change no weight yet.
        weights = [keras.ops.convert_to_numpy(keras.ops.sum(w)) for w in self._callback.model.trainable_variables]
        self._weights = weights if self._weights is None else self._weights
        moved = (number != before for number, before in zip(counts[1:], start[1:], strict=True))
        names = [name for name, has_moved in zip(self._others, moved, strict=True) if has_moved]
        if not decides or (not names and np.array_equal(self._weights, weights, equal_nan=True)):
            return
        mine = {id(optimizer): name for name, optimizer in named_optimizers(self._callback.model).items()}
        makers = " and ".join(f"{name} ({type(self._others[name]).__name__})" for name in names)
        raise ValueError(
            f"{self._who} follows the updates of {mine.get(id(self.optimizer), 'the optimizer')} "
            f"({type(self.optimizer).__name__}), which made none in {self._watched} batches; they were made by "
            f"{makers or 'an optimizer that the model does not hold as an attribute'}. Compile the model with the "
            "optimizer that trains it (super().compile(optimizer=...) in a compile() of your own), pass that to "
            "range_test(optimizer=...), or create each optimizer with a cyclr.keras.LearningRate(schedule) of its own."
        )

    def end_batch(self, batch: int = 0) -> int:
        """Call when a batch ends, or several in one call, of which `batch` is the last.

        Returns its update, from 0: of several updates in one batch the first one if the counter is read.
        """
        next(self._ended)
        before = self._before.pop(batch // self._per_call, None)
        if before is not None:
            return before[0] // self._accumulation
        if self._last_batch is not None:
            batch = min(batch, self._last_batch)
        return (self._first + batch) // self._accumulation

    def end_batch_updates(self, batch: int) -> range:
        """Call in place of `end_batch`. Returns the updates of the batch; they are made only if `made` says so.

        The first batch of an epoch shows if the training step makes several updates.
        """
        is_read = batch == 0 or batch // self._per_call in self._before
        update = self.end_batch(batch)
        return range(update, _private.updates_done(self.optimizer) if is_read else update + 1)

    def made(self, update: int) -> bool:
        """Return True if the update was made: its last micro-batch is done, and loss scaling did not skip it."""
        return _private.updates_done(self.optimizer) > update

    def gather(self, value: Any, *, last: bool = False) -> list[Any]:
        """End a batch that has this value, and return the values of all batches of its update once that is made.

        Before that the list is empty. With `last`, the update is over whether it is made or not. For `every_batch`.
        """
        if not self._before:
            raise ValueError(
                f"{self._who}.on_train_batch_end was called without on_train_batch_begin, which sets the rate. "
                "In a loop of your own call set_model(model), on_train_begin() and, around every batch, "
                "on_train_batch_begin(batch) and on_train_batch_end(batch, logs)."
            )
        self._values.append(value)
        update = self._before.pop(0)[0] // self._accumulation
        made = _private.updates_done(self.optimizer) - update
        if made > 1 and self._one_update:
            raise ValueError(
                f"{self._who} needs a training step that makes one update with every batch; got one that made {made}, "
                "most of which used a wrong learning rate. For a training, create the optimizer with "
                "cyclr.keras.LearningRate(schedule), which is exact for every update; for a range test, with a number."
            )
        if made < 1 and not last:
            return []
        values, self._values = self._values, []
        return values

    def end_epoch(self) -> int:
        """Call when an epoch ends. Returns the number of updates made so far, without a phantom update."""
        optimizer = self.optimizer
        counts = found = self._counts()
        if self._before:
            counts = self._before.popitem()[1]
        elif not self._reads and keras.backend.backend() == "tensorflow" and self._per_call == 1:
            ended = next(self._ended)
            if self._begun > ended and found[0] == self._first + ended + 1:
                counts = [found[0] - 1, *found[1:]]
        for held, count, number in zip((optimizer, *self._others.values()), counts, found, strict=True):
            if count != number:
                _private.counter(held).assign(count)
        if self._start is not None:
            self._check_updating(True)
        return counts[0] // _private.accumulation(optimizer)
