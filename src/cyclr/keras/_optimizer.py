"""What the adapters need of an optimizer: who may set its learning rate, its variables, all optimizers of a model."""

from collections.abc import Iterator
from typing import Any

import keras

from cyclr.keras import _private
from cyclr.keras._batch import BatchValues
from cyclr.keras._updates import UpdateCounter


def learning_rate(optimizer: Any) -> float:
    """Return the learning rate that the next update will use."""
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


def has_settable_rate(optimizer: Any) -> bool:
    """Return True if the rate is a variable, which compiled steps read, and not a schedule or function within them."""
    return isinstance(_private.rate(optimizer), keras.Variable)


class RateCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Sets the learning rate of every update, and raises if anything else sets it too.

    A subclass calls `_check_rate` and `_begin_batch` before every batch, and both `end` and `gather` after it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._who = type(self).__name__
        self._set_to: float | None = None
        self._before: float | None = None
        self._batch = BatchValues()
        self._updates = UpdateCounter(self, every_batch=True)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        model = self.model
        optimizer = getattr(model, "optimizer", None)
        if optimizer is None:
            raise ValueError(
                f"{self._who} needs a compiled model with one optimizer; got optimizer=None. Call model.compile(...)."
            )
        if not has_settable_rate(optimizer):
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
        model.optimizer.learning_rate = rate
        self._set_to = learning_rate(model.optimizer)
        self._batch.begin(model)
        self._updates.begin_batch()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._updates.end_epoch()
        self._batch.end_epoch({} if logs is None else logs)


def all_of(model: Any, chosen: Any) -> list[Any]:
    """Return every optimizer that the model holds, `chosen` first: a custom training step may have several.

    Lists, dicts and layers are searched too; layers may be models that were compiled themselves.
    """
    held = (optimizer for layer in _private.layers(model) for optimizer in _optimizers_in(vars(layer)))
    return list({id(optimizer): optimizer for optimizer in (chosen, *held)}.values())


def _optimizers_in(value: Any) -> Iterator[Any]:
    if isinstance(value, keras.optimizers.Optimizer):
        yield value
    elif isinstance(value, list | tuple | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _optimizers_in(part)


def has_weights(model: Any) -> bool:
    """Return True if the model has all its variables: Keras also calls a model built that `build` made none for."""
    return all(layer.built for layer in _private.layers(model))


def build(optimizer: Any, model: Any) -> None:
    """Create the variables of an optimizer, as the model's first `fit` would."""
    with _private.devices(model):
        optimizer.build(model.trainable_variables)


def reset_to_new(optimizer: Any) -> None:
    """Give the variables of an optimizer the values that they have in a new one with the same arguments."""
    with _private.devices(optimizer):
        new = type(optimizer).from_config(optimizer.get_config())
        new.build(_private.trained_variables(optimizer))
    for variable, fresh in zip(optimizer.variables, new.variables, strict=True):
        variable.assign(fresh)
