"""Models to run on: the classic small CNN, and a user's own from a file."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

from cyclr.errors import CyclrError


def classic_cnn(input_shape: tuple[int, ...], classes: int) -> Any:
    """The small CNN of the classic Keras tutorials, not compiled.

    Conv 32 – pool – Conv 64 – pool – Dense 256 – Dense 128 – softmax, with 3 × 3 kernels that keep the size of the
    image and ReLU between; it fits images of 4 × 4 pixels and more.

    Args:
        input_shape: (height, width, channels).
        classes: number of classes, ≥ 2.
    """
    from keras import Input, Sequential, layers

    return Sequential(
        [
            Input(input_shape),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(256, activation="relu"),
            layers.Dense(128, activation="relu"),
            layers.Dense(classes, activation="softmax"),
        ]
    )


def from_file(reference: str) -> Any:
    """The compiled model that a function in a user's file returns.

    Args:
        reference: `FILE.py:function`; the function takes no arguments and returns a compiled `keras.Model`. The file
            can import its neighbours.

    Raises:
        CyclrError: no such file or function, or it returns something else.
    """
    import keras

    name, separator, function_name = reference.rpartition(":")
    path = Path(name)
    if not separator or not function_name or path.suffix != ".py":
        raise CyclrError(f"model must be FILE.py:function; got {reference!r}. For example: model.py:build.")
    if not path.is_file():
        raise CyclrError(f"model must be in a file that exists; got {name!r}. Check the path.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise CyclrError(f"{name} cannot be imported as Python.")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    function = getattr(module, function_name, None)
    if not callable(function):
        known = ", ".join(n for n, v in vars(module).items() if callable(v) and not n.startswith("_")) or "none"
        raise CyclrError(f"{name} has no function {function_name!r}; it has {known}.")
    model = function()
    if not isinstance(model, keras.Model) or not model.compiled:
        kind = "a model that is not compiled" if isinstance(model, keras.Model) else f"a {type(model).__name__}"
        raise CyclrError(f"{reference} must return a compiled keras.Model; got {kind}. Call model.compile(...) in it.")
    return model
