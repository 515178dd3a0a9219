"""Models to run on: the classic small CNN, and a user's own from a file."""

import contextlib
import importlib.util
import symtable
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from cyclr.errors import CyclrError
from cyclr.experiments import backend
from cyclr.experiments.data import NAMES, Dataset, load
from cyclr.experiments.job import Job
from cyclr.experiments.spec import Trial


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


def mlp(input_shape: tuple[int, ...], classes: int) -> Any:
    """A network with one hidden layer of 64 units, not compiled: enough for digits, and quick."""
    from keras import Input, Sequential, layers

    return Sequential(
        [
            Input(input_shape),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(classes, activation="softmax"),
        ]
    )


BUILT_IN = {"cnn": classic_cnn, "mlp": mlp}
"""Workloads by name: functions of the shape of an image and the number of classes."""


def builder(trial: Trial) -> Callable[[], Job]:
    """A function that builds the model and the data of a trial, ready to be tested and trained.

    What takes no part in chance is done at once: frameworks are imported, files are read. The function that comes back
    draws initial weights, and is to be called with seeded generators.

    A function of a user's file returns `(model, data)`, where the model is a compiled `keras.Model` or a
    `torch.nn.Module`, and data is `((x, y), (x_val, y_val))`, `(x, y, x_val, y_val)` or two iterables of batches,
    `(training, validation)`, of known length. A torch model is trained with cross-entropy where labels are integers
    and with the squared error elsewhere, or with a third value that the function returns: `loss(outputs, targets)`.

    Raises:
        CyclrError: no such workload, or (when it is called) a function that returns something else.
    """
    if trial.file is None:
        return _built_in(trial)
    function = load_function(trial.workload, "workload", trial.file)
    return lambda: _job(function(), trial)


def _job(made: Any, trial: Trial) -> Job:
    if not isinstance(made, tuple) or len(made) not in (2, 3):
        raise CyclrError(
            f"{trial.workload} must return (model, data); got a {type(made).__name__}. "
            "Data is ((x, y), (x_val, y_val)), or two iterables of batches."
        )
    model, data, *loss = made
    training, validation = _parts(trial.workload, data)
    torch, keras = sys.modules.get("torch"), sys.modules.get("keras")
    if keras is not None and isinstance(model, keras.Model):
        from cyclr.experiments.keras_job import KerasJob

        return KerasJob(model, training, validation, trial)
    if torch is not None and isinstance(model, torch.nn.Module):
        from cyclr.experiments.torch_job import TorchJob

        return TorchJob(model, training, validation, trial, loss[0] if loss else None)
    raise CyclrError(
        f"{trial.workload} must return a compiled keras.Model or a torch.nn.Module, and data; "
        f"got a {type(model).__name__}."
    )


def check(trial: Trial) -> None:
    """Refuse a workload that does not exist, as far as that can be seen without running the user's file.

    Raises:
        CyclrError: no such workload, file or function, or a file that is no Python.
    """
    if trial.file is None:
        if trial.workload not in BUILT_IN:
            raise CyclrError(
                f"workload must be {', '.join(map(repr, BUILT_IN))} or FILE.py:function; got {trial.workload!r}."
            )
        return
    name, function_name = _parsed(trial.workload, "workload", trial.file)
    try:
        source = importlib.util.decode_source(trial.file.read_bytes())
        symbols = symtable.symtable(source, name, "exec").get_symbols()
    except (SyntaxError, ValueError) as error:
        raise CyclrError(f"workload must be in a file of Python; got {name!r}, which is not: {error}.") from error
    made = {symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported()}
    if function_name not in made and "import *" not in source:
        known = ", ".join(symbol.get_name() for symbol in symbols if symbol.is_namespace()) or "none"
        raise CyclrError(f"{name} has no function {function_name!r}; it has {known}.")


def _built_in(trial: Trial) -> Callable[[], Job]:
    check(trial)
    backend.select(trial.backend)
    import keras

    from cyclr.experiments.keras_job import KerasJob

    given = dict(trial.data or {})
    data = load(_located(given["source"], trial.folder))
    training, validation = (data.x_train, data.y_train), (data.x_val, data.y_val)
    if given["validation"] != "test":
        held = int(given["validation"])
        if held >= len(data.x_train):
            raise CyclrError(
                f"validation must leave samples to train on; got validation={held} of {len(data.x_train)}."
            )
        validation = data.x_train[-held:], data.y_train[-held:]
        training = data.x_train[:-held], data.y_train[:-held]
    training = training[0][: given["samples"]], training[1][: given["samples"]]

    def build() -> Job:
        model = BUILT_IN[trial.workload](data.input_shape, data.classes)
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy", metrics=["accuracy"])
        return KerasJob(model, training, validation, trial)

    return build


def _located(source: str, folder: str) -> str | Path:
    """A data set's name as it is, a path from the folder that it is relative to."""
    return source if source in NAMES else Path(folder, source)


def _parts(reference: str, data: Any) -> tuple[Any, Any]:
    """Training and validation data: pairs of arrays, or iterables of batches."""
    if isinstance(data, Dataset):
        return (data.x_train, data.y_train), (data.x_val, data.y_val)
    if isinstance(data, tuple | list) and len(data) == 4:
        return (data[0], data[1]), (data[2], data[3])
    if isinstance(data, tuple | list) and len(data) == 2:
        return data[0], data[1]
    raise CyclrError(
        f"the data of {reference} must be ((x, y), (x_val, y_val)), (x, y, x_val, y_val) or two iterables of batches; "
        f"got a {type(data).__name__}" + (f" of {len(data)}." if isinstance(data, tuple | list) else ".")
    )


@contextlib.contextmanager
def neighbours_of(file: Path | None) -> Iterator[None]:
    """While this lasts, what is in the folder of a user's file can be imported, as by a script that is run."""
    if file is None:
        yield
        return
    folder = str(file.parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        # By its value: the file may have put entries of its own before it.
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)


def load_function(reference: str, what: str, file: Path) -> Callable[[], Any]:
    """The function that `FILE.py:function` names; to be loaded and called where `neighbours_of` the file are known.

    Args:
        reference: `FILE.py:function`.
        what: what the reference is for, for messages.
        file: where the file is.

    Raises:
        CyclrError: no such file or function.
    """
    name, function_name = _parsed(reference, what, file)
    module_name = _module_name(file)
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise CyclrError(f"{name} cannot be imported as Python.")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickle look for the module there.
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    function = getattr(module, function_name, None)
    if not callable(function):
        known = ", ".join(n for n, v in vars(module).items() if callable(v) and not n.startswith("_")) or "none"
        raise CyclrError(f"{name} has no function {function_name!r}; it has {known}.")
    return cast(Callable[[], Any], function)


def _parsed(reference: str, what: str, file: Path) -> tuple[str, str]:
    """The names of file and function in `FILE.py:function`, where `file` is there."""
    name, separator, function_name = reference.rpartition(":")
    if not separator or not function_name or Path(name).suffix != ".py":
        raise CyclrError(f"{what} must be FILE.py:function; got {reference!r}. For example: model.py:build.")
    if not file.is_file():
        raise CyclrError(f"{what} must be in a file that exists; got {name!r}. Check the path.")
    return name, function_name


def _module_name(file: Path) -> str:
    """The name of the file, or another where that would take the place of a module that is loaded already."""
    loaded = sys.modules.get(file.stem)
    return file.stem if loaded is None or getattr(loaded, "__file__", None) == str(file) else f"workload_{file.stem}"


def from_file(reference: str) -> Any:
    """The compiled model that a function in a user's file returns.

    Args:
        reference: `FILE.py:function`; the function takes no arguments and returns a compiled `keras.Model`. File and
            function can import what is beside the file.

    Raises:
        CyclrError: no such file or function, or it returns something else.
    """
    import keras

    file = Path(reference.rpartition(":")[0]).resolve()
    with neighbours_of(file):
        model = load_function(reference, "model", file)()
    if not isinstance(model, keras.Model) or not model.compiled:
        kind = "a model that is not compiled" if isinstance(model, keras.Model) else f"a {type(model).__name__}"
        raise CyclrError(f"{reference} must return a compiled keras.Model; got {kind}. Call model.compile(...) in it.")
    return model
