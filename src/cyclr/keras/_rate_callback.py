"""The base of callbacks that set the learning rate of every update."""

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
                f"{self._who} must be the only one to set the learning rate, but the optimizer was made with a "
                f"{type(_private.rate(optimizer)).__name__} of its own. Compile with a number, such as "
                "keras.optimizers.SGD(0.01)."
            )
        if model.steps_per_execution > 1:
            raise ValueError(
                f"{self._who} sets the learning rate between updates, which "
                f"steps_per_execution={model.steps_per_execution} runs several of in one call, so that most would use "
                "a wrong rate. Compile with steps_per_execution=1, or use cyclr.keras.LearningRate(schedule), which "
                "is exact with any."
            )
        self._set_to = self._before = None
        self._updates.restart()

    def _check_rate(self) -> None:
        """Raise if the rate is no longer the one that was set."""
        found = learning_rate(self.model.optimizer)
        # JAX loses a rate that was set for a batch without data, when data of unknown length ends.
        if self._set_to is not None and found not in (self._set_to, self._before):
            raise ValueError(
                f"{self._who} must be the only one to set the learning rate; it set {self._set_to:g}, and another "
                f"callback then set {found:g}. Take LearningRateScheduler, ReduceLROnPlateau or the like out of "
                "callbacks."
            )
        self._before = found

    def _begin_batch(self, rate: float) -> None:
        """Let a batch use `rate`. Called for every micro-batch: JAX loses a rate that was set for one without data."""
        model = self.model
        model.optimizer.learning_rate = self._rate = rate
        self._set_to = learning_rate(model.optimizer)
        self._batch.begin(model)
        self._updates.begin_batch()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._updates.end_epoch()
        self._batch.end_epoch({} if logs is None else logs)
