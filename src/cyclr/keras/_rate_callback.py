"""The base class of callbacks that set the learning rate of every update."""

from typing import Any

from cyclr.keras import _private
from cyclr.keras._batch import BatchValues
from cyclr.keras._callback import FitCallback
from cyclr.keras._updates import UpdateCounter


def learning_rate(optimizer: Any) -> float:
    """Return the learning rate that the next update will use."""
    return _private.number(optimizer.learning_rate)


class RateCallback(FitCallback):
    """Sets the learning rate of every update, and raises if anything else sets it too.

    A subclass calls `_check_rate` and `_begin_batch` before every batch, `_batch.end` and `_updates.gather` after it.
    """

    def __init__(self, *, only_loss: bool = False, one_update: bool = False) -> None:
        super().__init__()
        self._who = type(self).__name__
        self._set_to: float | None = None
        self._before: float | None = None
        self._rate = 0.0
        self._batch = BatchValues(only_loss=only_loss)
        self._updates = UpdateCounter(self, every_batch=True, one_update=one_update)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        model = self.model
        optimizer = getattr(model, "optimizer", None)
        self._check_start()
        if not _private.has_settable_rate(optimizer):
            raise ValueError(
                f"{self._who} cannot set the learning rate of an optimizer that was created with a schedule; got "
                f"{type(_private.rate(optimizer)).__name__}. Compile with a number, such as "
                "keras.optimizers.SGD(0.01)."
            )
        if model.steps_per_execution > 1:
            raise ValueError(
                f"{self._who} sets the learning rate between two calls of the training step; got "
                f"steps_per_execution={model.steps_per_execution}, with which most updates of a call would use a wrong "
                "rate. Compile with steps_per_execution=1, or use cyclr.keras.LearningRate(schedule), which is exact "
                "for every update."
            )
        self._set_to = self._before = None
        self._updates.restart()

    def _check_rate(self) -> None:
        """Raise if something else changed the learning rate after this callback set it."""
        found = learning_rate(self.model.optimizer)
        # When data of unknown length ends, JAX loses the rate that was set for a batch without data.
        if self._set_to is not None and found not in (self._set_to, self._before):
            raise ValueError(
                f"{self._who} set the learning rate to {self._set_to:g}, and another callback then changed it to "
                f"{found:g}. Take the other callback, such as LearningRateScheduler or ReduceLROnPlateau, out of "
                "callbacks."
            )
        self._before = found

    def _begin_batch(self, rate: float) -> None:
        """Set the learning rate of a batch.

        Called for every micro-batch, because JAX loses a rate that was set for a batch without data.
        """
        model = self.model
        model.optimizer.learning_rate = self._rate = rate
        self._set_to = learning_rate(model.optimizer)
        self._batch.begin(model)
        self._updates.begin_batch()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._updates.end_epoch()
        self._batch.end_epoch({} if logs is None else logs)
