"""The models that trials train: two small built-in models, and models from a user's file."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cyclr._checks import did_you_mean
from cyclr.errors import CyclrError
from cyclr.experiments import data, environment, optimizers, user_file
from cyclr.experiments.jobs.base import Job
from cyclr.experiments.spec import Trial


def classic_cnn(input_shape: tuple[int, ...], classes: int) -> Any:
    """Return the small CNN of the classic Keras tutorials, not compiled.

    Conv 32 – pool – Conv 64 – pool – Dense 256 – Dense 128 – softmax, with ReLU and with 3 × 3 kernels that keep the
    size of the image. Images must have at least 4 × 4 pixels.

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


def mlp(input_shape: tuple[int, ...], classes: int) -> Any:
    """Return a network with one hidden layer of 64 units, not compiled. It is fast, and large enough for digits."""
    from keras import Input, Sequential, layers

    hidden, output = layers.Dense(64, activation="relu"), layers.Dense(classes, activation="softmax")
    return Sequential([Input(input_shape), layers.Flatten(), hidden, output])


BUILT_IN = {"cnn": classic_cnn, "mlp": mlp}
"""Workloads by name: functions of the shape of an image and the number of classes."""

_METRICS = "val_loss", "val_accuracy"
"""Metrics of built-in workloads and of torch models."""

_DATA = "(x_train, y_train, x_val, y_val)"


def builder(trial: Trial, *, trains: bool = True) -> Callable[[], Job]:
    """Return a function that builds the model and the data of a trial, ready for range test and training.

    `builder` itself imports frameworks and reads files. The returned function draws initial weights, so seed all
    generators before you call it.

    A function of a user's file is called without arguments. It returns a model, or a tuple that starts with a model and
    also contains any of the other parts, in any order:

    - model: a `keras.Model`, compiled or not, or a `torch.nn.Module`.
    - data: `(x_train, y_train, x_val, y_val)`, `((x_train, y_train), (x_val, y_val))`, or `(training, validation)`, two
      iterables of batches of known length. A range test needs only the training data. If the function returns no data,
      the data of the trial is used, with the channels first for torch.
    - optimizer: an optimizer of the framework, if the model is not compiled; SGD with momentum 0.9 by default.
    - loss: `loss(outputs, targets)` in torch, or a loss that Keras' `compile` accepts. By default the cross-entropy if
      targets are integers (of probabilities or logits, by the last layer of a Keras model), else the squared error.

    Args:
        trial: the trial.
        trains: False for only a range test, which needs no validation data.

    Raises:
        CyclrError: the workload does not exist, or (raised by the returned function) the user's function returns
            something else.
    """
    check(trial)
    if trial.file is None:
        environment.select_backend(trial.backend)
    loaded, parts = (None, None) if trial.data is None else _load(trial)
    if trial.file is not None:
        function = user_file.load_function(trial.workload, trial.file)
        if _framework(function) is not None:
            raise CyclrError(f"{trial.workload} is a model. Write a function that creates the model and returns it.")
        return lambda: _job(function(), parts, trial, trains)
    shape, classes = loaded.input_shape, loaded.classes  # type: ignore[union-attr]
    return lambda: _job(BUILT_IN[trial.workload](shape, classes), parts, trial, trains)


def check(trial: Trial) -> None:
    """Raise if a part of a trial does not exist. No framework is imported, and the user's file is not run.

    Raises:
        CyclrError: the workload, file, function, data, optimizer or metric does not exist, or the file is not Python.
        MissingExtraError: the backend of Keras is not installed.
    """
    frameworks: tuple[str, ...] = ("keras",)
    name = trial.workload
    if trial.file is not None or name.endswith(".py") or Path(trial.folder, name).exists():
        frameworks = user_file.check(name, trial.file or Path(trial.folder, name))
    elif name not in BUILT_IN:
        hint = did_you_mean(name, BUILT_IN)
        raise CyclrError(
            f"unknown model {name!r}. {hint and hint + ' '}Write {', '.join(BUILT_IN)}, or FILE.py:function, such "
            "as model.py:build."
        )
    if trial.file is None or trial.backend is not None:
        environment.check_backend(trial.backend)
    if trial.data is not None:
        data.check(_source(trial))
    if trial.optimizer is not None:
        optimizers.check(trial.optimizer, frameworks)
    if (trial.file is None or frameworks == ("torch",)) and trial.metric not in _METRICS:
        raise CyclrError(
            f"metric must be one of {', '.join(_METRICS)} for {name}; got metric={trial.metric!r}. "
            f"{did_you_mean(trial.metric, _METRICS)}".rstrip()
        )


def _source(trial: Trial) -> str | Path:
    source: str = trial.data["source"]  # type: ignore[index]
    return source if source in data.NAMES else Path(trial.folder, source)


def _load(trial: Trial) -> tuple[data.Dataset, tuple[Any, ...]]:
    """Return the whole data set of a trial, and the arrays that the trial uses."""
    given: Any = trial.data
    loaded = data.load(_source(trial))
    x, y, x_val, y_val = loaded.x_train, loaded.y_train, loaded.x_val, loaded.y_val
    if (held_out := given["validation"]) != "test":
        if held_out >= len(x):
            raise CyclrError(f"validation must leave samples to train on; got validation={held_out} of {len(x)}.")
        x, y, x_val, y_val = x[:-held_out], y[:-held_out], x[-held_out:], y[-held_out:]
    return loaded, (x[: given["samples"]], y[: given["samples"]], x_val, y_val)


def _framework(model: Any) -> Any:
    """Return the module `keras` or `torch` if a model belongs to it, else None."""
    keras, torch = sys.modules.get("keras"), sys.modules.get("torch")
    if keras is not None and isinstance(model, keras.Model):
        return keras
    return torch if torch is not None and isinstance(model, torch.nn.Module) else None


def _job(made: Any, loaded: tuple[Any, ...] | None, trial: Trial, trains: bool) -> Job:
    """Return the job for the values that a function returned. `loaded` is the data of the trial, or None."""
    model, *rest = made if isinstance(made, tuple | list) and made else (made,)
    framework = _framework(model)
    if framework is None:
        missing = " Is a return statement missing?" if made is None else ""
        raise CyclrError(
            f"{trial.workload} must return a keras.Model or a torch.nn.Module, or a tuple that starts with one, such "
            f"as (model, data); got a {type(model).__name__}.{missing}"
        )
    is_keras = framework is sys.modules.get("keras")
    found = _by_kind(rest, framework, trial)
    given = found.pop("data", None)
    if given is None and loaded is None:
        raise CyclrError(
            f"{trial.workload} returned a model without data. Add data, such as --data digits, or return "
            f"(model, {_DATA})."
        )
    if given is not None and loaded is not None:
        source = trial.data["source"]  # type: ignore[index]
        raise CyclrError(f"data must be left out, because {trial.workload} returns data; got data={source!r}.")
    if loaded is not None and not is_keras:
        loaded = tuple(np.moveaxis(part, -1, 1) if part.ndim == 4 else part for part in loaded)
    training, validation = _halves(loaded if given is None else given, trial.workload)
    if validation is None and trains:
        raise CyclrError(
            f"{trial.workload} returned no validation data, which is needed to compare policies. Return (model, "
            f"{_DATA})."
        )
    if is_keras:
        from cyclr.experiments.jobs.keras import KerasJob

        return KerasJob(model, training, validation, trial, **found)
    from cyclr.experiments.jobs.torch import TorchJob

    return TorchJob(model, training, validation, trial, **found)


def _by_kind(parts: list[Any], framework: Any, trial: Trial) -> dict[str, Any]:
    """Return the values that a function returned in addition to the model: `data`, `optimizer` and `loss`, if given."""
    module = framework.optimizers if framework.__name__ == "keras" else framework.optim
    found: dict[str, Any] = {}
    for part in parts:
        if part is None:
            continue
        kind = "data"
        if isinstance(part, module.Optimizer) or (isinstance(part, str) and part.lower() in _lower(module)):
            kind = "optimizer"
        elif callable(part) or isinstance(part, str):
            kind = "loss"
        if isinstance(part, type):
            raise CyclrError(
                f"{trial.workload} returned the class {part.__name__}. Return an object: {part.__name__}(...)."
            )
        if kind in found:
            raise CyclrError(
                f"{trial.workload} returned two values for {kind}, of types {type(found[kind]).__name__} and "
                f"{type(part).__name__}. Return (model, data, optimizer, loss), with data as one value: {_DATA}."
            )
        found[kind] = part
    return found


def _lower(module: Any) -> set[str]:
    return {name.lower() for name, kind in vars(module).items() if isinstance(kind, type)}


def _halves(given: Any, workload: str) -> tuple[Any, Any]:
    """Return training and validation data; the validation data is None if only training data is given."""
    if isinstance(given, data.Dataset):
        given = given.x_train, given.y_train, given.x_val, given.y_val
    parts = tuple(given) if isinstance(given, tuple | list) else ()
    if len(parts) == 4:
        return parts[:2], parts[2:]
    if len(parts) == 2:
        return (parts, None) if all(hasattr(part, "shape") for part in parts) else parts
    if parts or not (hasattr(given, "__iter__") or hasattr(given, "__getitem__")):
        length = f" of length {len(parts)}" if parts else ""
        raise CyclrError(
            f"data of {workload} must be {_DATA}, or two iterables of batches; got a {type(given).__name__}{length}."
        )
    return given, None
