"""The conditions of a range test in Keras: model, optimizer, batch size, seed and versions."""

import inspect
import math
from typing import Any

import keras

from cyclr.keras import _private
from cyclr.range_test import conditions


def conditions_of(model: Any, optimizer: Any, batch_size: int | None = None, seed: int | None = None) -> dict[str, Any]:
    """Return the entries of `RangeTestResult.tested`."""
    found = {
        "model": type(model).__name__,
        "parameters": sum(math.prod(weight.shape) for weight in model.weights),
        "trainable": sum(math.prod(weight.shape) for weight in model.trainable_weights),
        "optimizer": optimizer_call(optimizer),
        "batch_size": batch_size,
        "seed": seed,
    }
    known = {name: value for name, value in found.items() if value is not None}
    return {**known, **conditions.versions("keras", keras.backend.backend())}


def optimizer_call(optimizer: Any) -> str:
    """Return an optimizer as code, with the settings that differ from the defaults, and without the learning rate.

    Example:
        >>> import keras
        >>> optimizer_call(keras.optimizers.SGD(0.1, momentum=0.9))
        'keras.optimizers.SGD(momentum=0.9)'
    """
    plain = _private.inner(optimizer)
    kind = type(plain)
    # On torch, an optimizer has a private class of Keras with the name of the public class.
    is_public = kind.__module__.startswith("keras.")
    try:
        settings = dict(plain.get_config())
    except Exception:  # noqa: BLE001  # A user's `get_config` may raise anything, and the test does not need it.
        settings = {}
    for name in ("name", "learning_rate"):
        settings.pop(name, None)
    made_by = [vars(base)["__init__"] for base in reversed(kind.__mro__) if "__init__" in vars(base)]
    arguments = [argument for init in made_by for argument in inspect.signature(init).parameters.values()]
    defaults = {argument.name: argument.default for argument in arguments}
    return conditions.call(f"{'keras.optimizers.' if is_public else ''}{kind.__name__}", settings, defaults)


def batch_size_of(x: Any, y: Any, given: int | None) -> int | None:
    """Return the number of samples in a batch, or None if it is not known before the data is read."""
    if y is not None or hasattr(x, "shape") or isinstance(x, list | tuple | dict):
        return given or 32
    own = getattr(x, "batch_size", None)
    return own if type(own) is int else _private.batch_size(x)
