"""The optimizers that a model holds: in attributes, lists, dicts, layers and other optimizers."""

from collections.abc import Iterator
from typing import Any

import keras

from cyclr.keras import _private
from cyclr.schedules import Schedule


def optimizers_of(model: Any, chosen: Any) -> list[Any]:
    """Return every optimizer that the model holds, `chosen` first: a custom training step may have several."""
    held = named_optimizers(model).values()
    return list({id(optimizer): optimizer for optimizer in (chosen, *held)}.values())


def named_optimizers(model: Any) -> dict[str, Any]:
    """Return every optimizer that the model holds, by its name in Python, such as `model.optimizers[0]`.

    Lists, dicts, layers and optimizers are searched too: a layer may be a compiled model, and an optimizer may hold
    other optimizers.
    """
    held: dict[str, Any] = {}
    seen: set[int] = set()
    for layer in _private.layers(model):
        owner = "model" if layer is model else layer.name
        # On TensorFlow, private attributes hold the same objects again, so the public names come first.
        for attribute, value in sorted(vars(layer).items(), key=lambda item: item[0].startswith("_")):
            held.update(_optimizers_in(value, f"{owner}.{attribute}", seen))
    return held


def _optimizers_in(value: Any, name: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, keras.optimizers.Optimizer):
        if id(value) not in seen:
            seen.add(id(value))
            yield name, value
            yield from _optimizers_within(value, name, seen)
    elif isinstance(value, list | tuple | dict):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _optimizers_in(part, f"{name}[{key!r}]", seen)


def _optimizers_within(optimizer: Any, name: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    plain = _private.inner(optimizer)
    seen.add(id(plain))
    for attribute, value in vars(plain).items():
        yield from _optimizers_in(value, f"{name}.{attribute}", seen)


def check_model(model: Any) -> None:
    """Raise for a model of Keras 2, which has other classes."""
    if any(kind.__module__.partition(".")[0] == "tf_keras" for kind in type(model).__mro__):
        raise TypeError(
            f"model must be a model of Keras 3; got a {type(model).__name__} of tf_keras, which is Keras 2. Create it "
            "with keras in place of tf_keras, and unset TF_USE_LEGACY_KERAS; keras.models.load_model reads a model "
            "that was saved as .keras or .h5."
        )


def check_optimizer(who: str, optimizer: Any) -> None:
    """Raise if `optimizer` lets other optimizers make its updates, or has no learning rate that cyclr can use."""
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise ValueError(
            f"{who} needs a compiled model with one optimizer; got optimizer={optimizer!r}. Call model.compile(...)."
        )
    plain = _private.inner(optimizer)
    within = [type(held).__name__ for _, held in _optimizers_within(optimizer, "", set())]
    if within or hasattr(plain, "optimizers"):
        holder, held = type(plain).__name__, " and ".join(within) or "optimizers that it has not created yet"
        raise ValueError(
            f"{who} needs a compiled model with one optimizer; got a {holder}, which leaves the updates to {held}, so "
            f"the learning rate of the {holder} has no effect. Create every optimizer in it with its own "
            f"cyclr.keras.LearningRate(schedule), or compile without the {holder}."
        )
    rate = _private.rate(optimizer)
    if isinstance(rate, Schedule):
        raise ValueError(
            f"the learning rate of a Keras optimizer cannot be a cyclr schedule itself; got {type(plain).__name__} "
            f"with {rate!r}. Write keras.optimizers.{type(plain).__name__}(cyclr.keras.LearningRate(schedule))."
        )
