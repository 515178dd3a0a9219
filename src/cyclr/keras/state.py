"""The state that training changes: copied before a range test, and restored after it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cyclr import _generators
from cyclr.keras import _private

_MISSING = object()

_CHANGED_BY_FIT = (
    *("train_function", "train_step", "stop_training", "history", "steps_per_execution"),
    *("test_function", "stop_evaluating", "predict_function", "stop_predicting"),
)
"""What `fit`, `evaluate`, `predict` and a range test set on a model besides variables, its compiled steps included."""


class TrainingState:
    """A copy of everything that training changes in a model and its optimizers, in host memory.

    The copy has weights, batch statistics and random seeds of layers, slots and counters of the optimizers, metrics,
    what `fit` sets on the model, and on torch the gradients and modes of modules. Values are copied, because JAX hands
    the memory of the originals to the compiled step.

    Args:
        model: a `keras.Model`.
        optimizers: its optimizers. If one is built only later, it is restored to the values that it was built with.
        metrics: False leaves out the values of metrics.
        folder: folder of the files that hold the copies; in memory by default.
    """

    def __init__(self, model: Any, optimizers: list[Any], *, metrics: bool = True, folder: Path | None = None) -> None:
        self._model = model
        self._attributes = {name: vars(model).get(name, _MISSING) for name in _CHANGED_BY_FIT}
        self._modes = Modes(model)
        # Keras builds these in the first fit, and draws from the random number generators for it. The first fit after
        # a range test builds them again, and draws the same numbers.
        self._unbuilt_parts = [_UnbuiltPart(part) for part in _private.compiled_parts(model) if not part.built]
        variables = [
            *model.variables,
            *(model.metrics_variables if metrics else []),
            *(variable for optimizer in optimizers for variable in optimizer.variables),
        ]
        unique = {id(variable): variable for variable in variables}.values()
        self._values = [(variable, _copied(variable, number, folder)) for number, variable in enumerate(unique)]
        self._unbuilt_optimizers = [optimizer for optimizer in optimizers if not optimizer.built]
        buffers = (buffer for module in _torch_modules(model) for buffer in module.buffers(recurse=False))
        self._buffers = [(buffer, buffer.clone()) for buffer in buffers]
        on_torch = keras.backend.backend() == "torch"
        with_gradient = (variable for variable in unique if on_torch and hasattr(variable.value, "grad"))
        self._gradients = [(variable, variable.value.grad) for variable in with_gradient]

    def restore(self) -> None:
        """Restore everything, bit for bit, even if a part of it raises. Can be called again."""
        try:
            # Metrics that were built after the copy was made have no value in it: they are emptied.
            self._model.reset_metrics()
            for optimizer in self._unbuilt_optimizers:
                if optimizer.built:
                    _reset_to_new(optimizer)
            self.restore_variables()
            for variable, gradient in self._gradients:
                variable.value.grad = gradient
        finally:
            for name, value in self._attributes.items():
                if value is not _MISSING:
                    setattr(self._model, name, value)
                elif name in vars(self._model):
                    delattr(self._model, name)
            self._modes.restore()
            for part in self._unbuilt_parts:
                part.restore()

    def restore_variables(self) -> None:
        """Restore the values of all variables and torch buffers and nothing else, in the middle of a `fit`."""
        for variable, value in self._values:
            variable.assign(value())
        for buffer, value in self._buffers:
            buffer.copy_(value)


def _reset_to_new(optimizer: Any) -> None:
    """Give the variables of an optimizer the values that they have in a new one with the same arguments."""
    with _private.devices(optimizer):
        new = type(optimizer).from_config(optimizer.get_config())
        new.build(_private.trained_variables(optimizer))
    for variable, fresh in zip(optimizer.variables, new.variables, strict=True):
        variable.assign(fresh)


class _UnbuiltPart:
    """The loss or the metrics of a model before they are built: their attributes, and the contents of their lists.

    Lists are emptied in place, because the part's tracker of variables holds the same lists.
    """

    def __init__(self, part: Any) -> None:
        self._part = part
        self._attributes = dict(vars(part))
        self._lists = {name: list(value) for name, value in self._attributes.items() if isinstance(value, list)}
        self._tracked = {name: set(ids) for name, ids in _private.tracked(part).items()}

    def restore(self) -> None:
        vars(self._part).clear()
        vars(self._part).update(self._attributes)
        for name, content in self._lists.items():
            self._attributes[name][:] = content
        _private.tracked(self._part).update(self._tracked)


def _copied(variable: Any, number: int, folder: Path | None) -> Callable[[], Any]:
    """Return a function that returns the value that the variable has now."""
    value = keras.ops.convert_to_numpy(variable)
    if folder is None:
        held = np.array(value)
        return lambda: held
    # As bytes, because NumPy's own format does not know every type of number, such as bfloat16.
    path, dtype, shape = folder / f"{number}.bin", value.dtype, value.shape
    value.tofile(path)
    return lambda: np.fromfile(path, dtype).reshape(shape)


class Modes:
    """A copy of the modes (training or not) of the torch modules in a model. New modules get the mode of the model."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._modes = {id(module): module.training for module in _torch_modules(model)}

    def restore(self) -> None:
        for module in _torch_modules(self._model):
            module.training = self._modes.get(id(module), self._modes[id(self._model)])


def _torch_modules(model: Any) -> list[Any]:
    """Return every torch module of the model and its layers; torch itself does not find all of them."""
    if keras.backend.backend() != "torch":
        return []
    modules = [module for layer in _private.layers(model) for module in layer.modules()]
    return list({id(module): module for module in modules}.values())


class Generators(_generators.Generators):
    """A copy of the state of the generators of Keras and of TensorFlow (if it is loaded), and of all others.

    Generators that belong to layers are variables of the model, which `TrainingState` copies.
    """

    def __init__(self, data: Any = None) -> None:
        super().__init__(data)
        self._keras = _private.keras_generators()
        self._restore_tensorflow = _private.tensorflow_generators()

    def restore(self) -> None:
        super().restore()
        _private.set_keras_generators(*self._keras)
        self._restore_tensorflow()


def seed_all(seed: int, data: Any = None) -> None:
    """Seed the generators that `Generators` copies. Unlike `keras.utils.set_random_seed`, do not import TensorFlow."""
    _generators.seed_all(seed, data)
    _private.set_keras_generators({"global_random_seed": seed, "global_seed_generator": None})
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None:
        tensorflow.random.set_seed(seed)
