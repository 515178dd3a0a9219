"""The base class of all callbacks, with the checks at the start of `fit`."""

from typing import Any

import keras

from cyclr.keras import _private
from cyclr.keras._optimizers import check_model, check_optimizer

_SET_RATE = (keras.callbacks.LearningRateScheduler, keras.callbacks.ReduceLROnPlateau)


class FitCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """A callback that raises before the first update if the model or another callback conflicts with it.

    Keras calls the methods `on_train_batch_…`. The older names `on_batch_…` do the same, for custom training loops.
    """

    @property
    def _sets_rate(self) -> bool:
        """True if this callback sets the learning rate."""
        return True

    def set_model(self, model: Any) -> None:
        check_model(model)
        super().set_model(model)

    def _check_start(self) -> None:
        """Raise if the optimizer or another callback conflicts with this callback. Call when training starts."""
        who, optimizer = type(self).__name__, getattr(self.model, "optimizer", None)
        check_optimizer(who, optimizer)
        for other in _private.callbacks_of_fit():
            sets_rate = isinstance(other, FitCallback) and other is not self and self._sets_rate and other._sets_rate
            has_schedule = not _private.has_settable_rate(optimizer)
            if sets_rate or (isinstance(other, _SET_RATE) and (self._sets_rate or has_schedule)):
                owner = f"the {type(_private.rate(optimizer)).__name__} of the optimizer" if has_schedule else who
                raise ValueError(
                    f"{owner} sets the learning rate, and nothing else can; got {type(other).__name__} in callbacks, "
                    f"which also sets it. Take {type(other).__name__} out of callbacks."
                )

    def on_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.on_train_batch_begin(batch, logs)

    def on_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.on_train_batch_end(batch, logs)
