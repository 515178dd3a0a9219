"""What the adapters ask of an optimizer, in one place."""

from collections.abc import Iterator
from typing import Any

import keras

from cyclr.keras import _private
from cyclr.schedules import Schedule


def updates_done(optimizer: Any) -> int:
    """Updates that the optimizer has applied: not micro-batches, and not updates skipped by loss scaling."""
    return int(keras.ops.convert_to_numpy(optimizer.iterations))


def batches_seen(optimizer: Any) -> int:
    """Batches that the optimizer has seen: like `updates_done`, but every micro-batch of an update counts."""
    return int(keras.ops.convert_to_numpy(_private.counter(optimizer)))


def value_at(schedule: Schedule, step: Any, offset: int = 0) -> Any:
    """The value of a schedule at an optimizer's counter, as part of a compiled step or on its own."""
    step = step.value if isinstance(step, keras.Variable) else step
    on_host = keras.backend.backend() == "torch" and step.device.type == "cpu" and step.ndim == 0
    if on_host and not step.is_floating_point() and not _torch_is_compiling():
        # One Python number is cheaper than twenty operations on tensors that hold one; a fraction would be cut off.
        return schedule(int(step) + offset)
    return schedule(step + offset if offset else step)


def _torch_is_compiling() -> bool:
    import torch

    return bool(torch.compiler.is_compiling())


def learning_rate(optimizer: Any) -> float:
    """The learning rate that the next update will use."""
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


def has_settable_rate(optimizer: Any) -> bool:
    """Whether the rate is a variable, which compiled steps read anew, and not a schedule or function within them."""
    return isinstance(_private.rate(optimizer), keras.Variable)


def has_weights(model: Any) -> bool:
    """Whether the model has made all its variables: Keras calls a subclassed one built that `build` made none for."""
    return all(layer.built for layer in _private.layers(model))


class BatchThatNeverCame:
    """Undoes what Keras does when data of unknown length ends: a batch begins, and there is none.

    TensorFlow has by then counted an update in the optimizer, as it runs what needs no data before it finds that there
    is none. A callback that calls all three methods keeps the counter right.
    """

    def __init__(self) -> None:
        self._counter: Any = None
        self._before = 0

    def begin(self, optimizer: Any) -> None:
        """Call when a batch begins."""
        self._counter = _private.counter(optimizer)
        self._before = batches_seen(optimizer)

    def end(self) -> None:
        """Call when it ends."""
        self._counter = None

    def end_epoch(self) -> None:
        """Call when the epoch ends."""
        if self._counter is not None:
            self._counter.assign(self._before)
        self._counter = None


class RateControl:
    """Sets the learning rate between updates, and notices when somebody else does so too.

    Args:
        who: name of the callback, for messages.
    """

    def __init__(self, who: str) -> None:
        self._who = who
        self._set_to: float | None = None
        self._before: float | None = None

    def begin(self, model: Any) -> None:
        """Call when training begins; raises what `require_callback_control` does."""
        require_callback_control(model, self._who)
        self._set_to = self._before = None

    def check(self, optimizer: Any) -> None:
        """Call before every batch.

        Raises:
            ValueError: the rate is no longer the one that was set.
        """
        found = learning_rate(optimizer)
        # JAX forgets a rate that was set for a batch that never came, as data of unknown length ended.
        if self._set_to is not None and found not in (self._set_to, self._before):
            raise ValueError(
                f"{self._who} must be the only one to set the learning rate; it set {self._set_to:g}, and another "
                f"callback then set {found:g}. Take LearningRateScheduler, ReduceLROnPlateau or the like out of "
                "callbacks."
            )
        self._before = found

    def set(self, optimizer: Any, rate: float) -> None:
        """Let the next update use `rate`."""
        optimizer.learning_rate = rate
        self._set_to = learning_rate(optimizer)


def require_callback_control(model: Any, who: str) -> None:
    """Raise unless a callback can set the learning rate of every single update.

    Raises:
        ValueError: the model is not compiled, runs several steps per call, or its optimizer has a schedule of its own.
    """
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        raise ValueError(
            f"{who} needs a compiled model with one optimizer; got optimizer=None. Call model.compile(...)."
        )
    if not has_settable_rate(optimizer):
        schedule = type(_private.rate(optimizer)).__name__
        raise ValueError(
            f"{who} must be the only one to set the learning rate, but the optimizer was made with a {schedule} of its "
            "own. Compile with a number, such as keras.optimizers.SGD(0.01)."
        )
    if model.steps_per_execution > 1:
        raise ValueError(
            f"{who} sets the learning rate between updates, which steps_per_execution={model.steps_per_execution} runs "
            "several of in one call, so that most would use a wrong rate. Compile with steps_per_execution=1, or use "
            "cyclr.keras.LearningRate(schedule), which is exact with any."
        )


def micro_batches(optimizer: Any) -> int:
    """Batches whose gradients are added up for one update."""
    return _private.inner(optimizer).gradient_accumulation_steps or 1


def swap_schedule(optimizer: Any, schedule: Any) -> Any:
    """Give an optimizer that was made with a schedule another one, and return the old one."""
    previous = _private.rate(optimizer)
    _private.inner(optimizer).learning_rate = schedule
    return previous


def all_of(model: Any, chosen: Any) -> list[Any]:
    """Every optimizer that the model holds, `chosen` first: a custom training step may have several.

    They are looked for in lists and dicts too, and in the layers, which may be models that were compiled themselves.
    """
    held = (optimizer for layer in _private.layers(model) for optimizer in _optimizers_in(vars(layer)))
    return list({id(optimizer): optimizer for optimizer in (chosen, *held)}.values())


def _optimizers_in(value: Any) -> Iterator[Any]:
    if isinstance(value, keras.optimizers.Optimizer):
        yield value
    elif isinstance(value, list | tuple | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _optimizers_in(part)


def build(optimizer: Any, model: Any) -> None:
    """Make the variables of an optimizer, as the model's first `fit` would."""
    with _private.devices(model):
        optimizer.build(model.trainable_variables)


def reset_to_new(optimizer: Any) -> None:
    """Give an optimizer the values that one just built holds: one like it is built, and its values are taken."""
    with _private.devices(optimizer):
        new = type(optimizer).from_config(optimizer.get_config())
        new.build(_private.trained_variables(optimizer))
    for variable, fresh in zip(optimizer.variables, new.variables, strict=True):
        variable.assign(fresh)
