"""A model's training state, taken before a range test and put back after it."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cyclr.keras import _optimizer, _private

_MISSING = object()

_CHANGED_BY_FIT = (
    *("train_function", "train_step", "stop_training", "history", "steps_per_execution"),
    *("test_function", "stop_evaluating", "predict_function", "stop_predicting"),
)
"""What `fit`, `evaluate`, `predict` and a range test set on a model besides variables, its compiled steps included."""


class Attributes:
    """What `fit` sets on a model besides variables, whether it has been fitted before or not.

    Args:
        model: a `keras.Model`.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._values = {name: vars(model).get(name, _MISSING) for name in _CHANGED_BY_FIT}
        self._modes = _modes(model)
        # Keras builds these in the first fit, and draws from the random number generators meanwhile. The first fit
        # after the test does so again, and draws the same.
        self._not_built = [_NotBuilt(part) for part in _private.compiled_parts(model) if not part.built]

    def restore(self) -> None:
        """Put them back; those that were not there before are gone again."""
        for name, value in self._values.items():
            if value is not _MISSING:
                setattr(self._model, name, value)
            elif name in vars(self._model):
                delattr(self._model, name)
        _set_modes(self._model, self._modes)
        for part in self._not_built:
            part.restore()


class _NotBuilt:
    """A part of the model that is not built yet, to be put back to that: its attributes, and what its lists hold.

    Lists are emptied in place, as the part's tracker of variables holds the same ones, and knows what it has seen.
    """

    def __init__(self, part: Any) -> None:
        self._part = part
        self._values = dict(vars(part))
        self._lists = {name: list(value) for name, value in self._values.items() if isinstance(value, list)}
        self._seen = {name: set(ids) for name, ids in _private.tracked(part).items()}

    def restore(self) -> None:
        vars(self._part).clear()
        vars(self._part).update(self._values)
        for name, content in self._lists.items():
            self._values[name][:] = content
        _private.tracked(self._part).update(self._seen)


class Snapshot:
    """Everything that training changes in a model and its optimizers: one copy, in host memory.

    That is weights, batch statistics and random seeds of layers, slots and counters of the optimizers, metrics, and
    under torch the gradients. Values are copied, as JAX hands the memory of the originals to the compiled step.

    Args:
        model: a built `keras.Model`.
        optimizers: its optimizers; one that is built meanwhile gets back the values it was built with.
        metrics: whether metrics are part of it.
        folder: where the copies are kept, in files; in memory by default.
    """

    def __init__(self, model: Any, optimizers: list[Any], *, metrics: bool = True, folder: Path | None = None) -> None:
        self._model = model
        variables = [
            *model.variables,
            *(model.metrics_variables if metrics else []),
            *(variable for optimizer in optimizers for variable in optimizer.variables),
        ]
        unique = {id(variable): variable for variable in variables}.values()
        self._values = [(variable, _copied(variable, number, folder)) for number, variable in enumerate(unique)]
        self._not_built = [optimizer for optimizer in optimizers if not optimizer.built]
        buffers = (buffer for module in _torch_modules(model) for buffer in module.buffers(recurse=False))
        self._buffers = [(buffer, buffer.clone()) for buffer in buffers]
        self._gradients = [(variable, variable.value.grad) for variable, _ in self._values if _has_gradient(variable)]

    def restore(self) -> None:
        """Put everything back, bit for bit; can be called again."""
        # Metrics that were only built during the test have no saved value: they go back to empty.
        self._model.reset_metrics()
        for optimizer in self._not_built:
            if optimizer.built:
                _optimizer.reset_to_new(optimizer)
        self.restore_variables()
        for buffer, value in self._buffers:
            buffer.copy_(value)
        for variable, gradient in self._gradients:
            variable.value.grad = gradient

    def restore_variables(self) -> None:
        """Put the values of all variables back and nothing else, in the middle of a `fit`."""
        for variable, value in self._values:
            variable.assign(value())


def _copied(variable: Any, number: int, folder: Path | None) -> Callable[[], Any]:
    """What gives a variable's value back as it is now."""
    value = keras.ops.convert_to_numpy(variable)
    if folder is None:
        held = np.array(value)
        return lambda: held
    # As bytes, which any type of number has, bfloat16 too.
    path, dtype, shape = folder / f"{number}.bin", value.dtype, value.shape
    value.tofile(path)
    return lambda: np.fromfile(path, dtype).reshape(shape)


@contextlib.contextmanager
def modes_kept(model: Any) -> Iterator[None]:
    """Put torch modules back into training or evaluation mode, whatever happens within."""
    modes = _modes(model)
    try:
        yield
    finally:
        _set_modes(model, modes)


def _modes(model: Any) -> dict[int, bool]:
    return {id(module): module.training for module in _torch_modules(model)}


def _set_modes(model: Any, modes: dict[int, bool]) -> None:
    for module in _torch_modules(model):
        module.training = modes.get(id(module), modes[id(model)])


def _torch_modules(model: Any) -> list[Any]:
    """Every torch module of the model and its layers, which torch itself does not all know as parts of the model."""
    if keras.backend.backend() != "torch":
        return []
    modules = [module for layer in _private.layers(model) for module in layer.modules()]
    return list({id(module): module for module in modules}.values())


def _has_gradient(variable: Any) -> bool:
    return keras.backend.backend() == "torch" and hasattr(variable.value, "grad")
