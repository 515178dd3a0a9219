"""Models to run on: two small ones, and a user's own from a file."""

import contextlib
import importlib.util
import symtable
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cyclr.errors import CyclrError
from cyclr.experiments import environment
from cyclr.experiments.data import NAMES, Dataset, load
from cyclr.experiments.jobs.base import Job
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

    hidden, output = layers.Dense(64, activation="relu"), layers.Dense(classes, activation="softmax")
    return Sequential([Input(input_shape), layers.Flatten(), hidden, output])


BUILT_IN = {"cnn": classic_cnn, "mlp": mlp}
"""Workloads by name: functions of the shape of an image and the number of classes."""


def builder(trial: Trial, data: Dataset | None = None) -> Callable[[], Job]:
    """Return a function that builds the model and the data of a trial, ready to be tested and trained.

    Frameworks are imported and files are read at once. The returned function draws initial weights; call it with seeded
    generators.

    A function of a user's file returns `(model, data)`, where the model is a compiled `keras.Model` or a
    `torch.nn.Module`, and data is `((x, y), (x_val, y_val))`, `(x, y, x_val, y_val)` or two iterables of batches,
    `(training, validation)`, of known length. A torch model is trained with cross-entropy if labels are integers and
    with the squared error otherwise, or with a third value that the function returns: `loss(outputs, targets)`.

    Args:
        trial: the trial.
        data: data for a function of a user's file that returns only a model.

    Raises:
        CyclrError: no such workload, or (when the builder is called) a function that returns something else.
    """
    check(trial)
    function = _built_in(trial) if trial.file is None else _load_function(trial.workload, trial.file)
    return lambda: _job(function(), trial, data)


def _job(made: Any, trial: Trial, data: Dataset | None) -> Job:
    torch, keras = sys.modules.get("torch"), sys.modules.get("keras")
    model, *rest = made if isinstance(made, tuple) and len(made) in (2, 3) else (made,)
    is_keras = keras is not None and isinstance(model, keras.Model)
    if not is_keras and not (torch is not None and isinstance(model, torch.nn.Module)):
        raise CyclrError(
            f"{trial.workload} must return a compiled keras.Model or a torch.nn.Module, and data; "
            f"got a {type(model).__name__}."
        )
    given = rest[0] if rest else data
    if isinstance(given, Dataset):
        given = given.x_train, given.y_train, given.x_val, given.y_val
    parts = tuple(given) if isinstance(given, tuple | list) else ()
    if len(parts) not in (2, 4):
        received = f"data of type {type(given).__name__}" if rest else f"only a {type(model).__name__}"
        length = f" and length {len(parts)}" if isinstance(given, tuple | list) else ""
        raise CyclrError(
            f"{trial.workload} must return (model, data); got {received}{length}. Data is ((x, y), (x_val, y_val)), "
            "(x, y, x_val, y_val) or two iterables of batches."
        )
    training, validation = parts if len(parts) == 2 else (parts[:2], parts[2:])
    if is_keras:
        from cyclr.experiments.jobs.keras import KerasJob

        return KerasJob(model, training, validation, trial)
    from cyclr.experiments.jobs.torch import TorchJob

    return TorchJob(model, training, validation, trial, *rest[1:])


def check(trial: Trial) -> None:
    """Refuse a workload that does not exist, as far as can be seen without running the user's file.

    Raises:
        CyclrError: no such workload, file or function, or a file that is not Python.
    """
    file = trial.file
    if file is None:
        if trial.workload not in BUILT_IN:
            raise CyclrError(
                f"workload must be {', '.join(map(repr, BUILT_IN))} or FILE.py:function; got {trial.workload!r}."
            )
        return
    name, _, function_name = trial.workload.rpartition(":")
    if not function_name or file.suffix != ".py":
        raise CyclrError(f"a workload in a file is FILE.py:function, such as model.py:build; got {trial.workload!r}.")
    if not file.is_file():
        raise CyclrError(f"there is no file {name!r} for the workload {trial.workload!r}. Check the path.")
    try:
        source = importlib.util.decode_source(file.read_bytes())
        symbols = symtable.symtable(source, name, "exec").get_symbols()
    except (SyntaxError, ValueError) as error:
        raise CyclrError(f"the workload's file must be Python; {name!r} is not: {error}.") from error
    made = {symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported()}
    if function_name not in made and "import *" not in source:
        raise _no_function(name, function_name, [symbol.get_name() for symbol in symbols if symbol.is_namespace()])


def _built_in(trial: Trial) -> Callable[[], Any]:
    """Return a function that returns a compiled model and its data, like the function of a user's file."""
    environment.select_backend(trial.backend)
    import keras

    given: Any = trial.data
    source, held_out = given["source"], given["validation"]
    data = load(source if source in NAMES else Path(trial.folder, source))
    x, y, x_val, y_val = data.x_train, data.y_train, data.x_val, data.y_val
    if held_out != "test":
        if held_out >= len(x):
            raise CyclrError(f"validation must leave samples to train on; got validation={held_out} of {len(x)}.")
        x, y, x_val, y_val = x[:-held_out], y[:-held_out], x[-held_out:], y[-held_out:]
    x, y = x[: given["samples"]], y[: given["samples"]]

    def build() -> Any:
        model = BUILT_IN[trial.workload](data.input_shape, data.classes)
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model, (x, y, x_val, y_val)

    return build


@contextlib.contextmanager
def importable_folder(file: Path | None) -> Iterator[None]:
    """Make the modules in the folder of a user's file importable inside this context, as for a script that is run."""
    if file is None:
        yield
        return
    folder = str(file.parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        # Removed by value, because the file may have inserted entries before it.
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)


def _load_function(workload: str, file: Path) -> Callable[[], Any]:
    """Run the user's file, and return its function; both need `importable_folder`."""
    name, _, function_name = workload.rpartition(":")
    loaded = sys.modules.get(file.stem)
    is_free = loaded is None or getattr(loaded, "__file__", None) == str(file)
    module_name = file.stem if is_free else f"workload_{file.stem}"
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
    function: Any = getattr(module, function_name, None)
    if not callable(function):
        functions = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise _no_function(name, function_name, functions)
    return function  # type: ignore[no-any-return]


def _no_function(file: str, name: str, known: list[str]) -> CyclrError:
    return CyclrError(f"{file} has no function {name!r}; it has {', '.join(known) or 'none'}.")
