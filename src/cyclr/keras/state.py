"""The state that training changes: copied before a range test, and restored after it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cyclr import _generators
from cyclr._contents import Contents
from cyclr.keras import _attach, _private
from cyclr.range_test.copies import on_disk


class TrainingState:
    """A copy of everything that training changes in a model and its optimizers, in host memory.

    The copy contains all variables of the model and of its layers, losses, metrics and optimizers, also variables in
    their attributes and containers. It also contains the attributes themselves: Python numbers, lists, compiled steps,
    modes. Attributes of another object are copied if its class is in the same file as the class of one of these parts.
    A part that is built after the copy was made is unbuilt again after `restore`. On torch, tensors and gradients are
    copied too. Variables are copied by value, because JAX donates their memory to the compiled step.

    Args:
        model: a `keras.Model`.
        optimizers: its optimizers.
        folder: folder of the files that hold the copies; in memory by default.
    """

    def __init__(self, model: Any, optimizers: list[Any], *, folder: Path | None = None) -> None:
        self._model = model
        self._optimizers = optimizers
        self._folder = folder
        self._types = _private.variable_types()
        self._on_torch = keras.backend.backend() == "torch"
        self._values: dict[int, tuple[Any, Callable[[], object]]] = {}
        self._parameters: dict[int, Any] = {}
        """By id, the torch parameters that hold the values of Keras variables. They are not copied a second time."""
        self._files: set[str] = set()
        """Names of the Python modules in which the user defines classes of layers, losses, metrics or optimizers."""
        self._contents = Contents(self._copied, self._parts)
        # Variables come before the torch parameters that hold their values.
        for variable in (*model.variables, *model.metrics_variables):
            self._contents.add(variable)
        self._contents.add([model, *optimizers])
        # Break the reference cycle, so that an unused copy is deleted at once, with the old compiled steps that it
        # holds. JAX would otherwise use the trace of an old step again after the model was compiled with another loss.
        self._contents.close()
        self._metrics = {id(variable) for variable in model.metrics_variables}
        values = [getattr(variable, "value", variable) for variable, _ in self._values.values()]
        self._gradients = [(value, value.grad) for value in values if self._on_torch and value.is_leaf]

    def _parts(self, value: Any) -> Any:
        file = type(value).__module__
        if file in self._files and hasattr(value, "__dict__"):
            return [vars(value)]
        if isinstance(value, keras.Layer | keras.Loss | keras.Metric | keras.optimizers.Optimizer):
            self._files |= set() if file.startswith("keras.") else {file}
        return _private.parts_with_state(value)

    def __deepcopy__(self, memo: Any) -> "TrainingState":
        """Return this object: tuners copy callbacks, and the copied callback must restore the same model."""
        return self

    def _copied(self, value: Any) -> Callable[[], object] | None:
        is_computed = isinstance(value, _attach.ScheduledVariable)
        if is_computed or not isinstance(value, self._types) or id(value) in self._parameters:
            return None
        restore = _copied(value, len(self._values), self._folder)
        self._values[id(value)] = value, restore
        if self._on_torch and isinstance(value, keras.Variable):
            self._parameters[id(value.value)] = value.value
        return restore

    def restore(self) -> None:
        """Restore everything bit for bit, even if restoring one part raises. Can be called again."""
        try:
            self._contents.restore()
        finally:
            for value, gradient in self._gradients:
                value.grad = gradient

    def restore_weights(self) -> None:
        """Restore all variables except those of optimizers and metrics. Can be called during `fit`."""
        kept = self._metrics.union(id(variable) for held in self._optimizers for variable in held.variables)
        for key, (_, restore) in self._values.items():
            if key not in kept:
                restore()

    def copy_values(self, folder: Path | None = None) -> Callable[[], None]:
        """Copy the current values of all variables except metrics, and return a function that restores them.

        Both can be called during `fit`.
        """
        built = (*self._model.variables, *(variable for held in self._optimizers for variable in held.variables))
        variables = {id(variable): variable for variable in (*(value for value, _ in self._values.values()), *built)}
        copies = [_copied(v, n, folder) for n, (key, v) in enumerate(variables.items()) if key not in self._metrics]

        def restore() -> None:
            for copied in copies:
                copied()

        return restore


def _copied(variable: Any, number: int, folder: Path | None) -> Callable[[], object]:
    """Copy the current value of a variable or torch tensor, and return a function that restores it."""
    value = keras.ops.convert_to_numpy(variable)
    if folder is None:
        held = np.array(value)
        return lambda: _assign(variable, held)
    # As raw bytes, because NumPy's file format does not support every dtype, such as bfloat16.
    path, dtype, shape = folder / f"{number}.bin", value.dtype, value.shape
    with on_disk(restoring=False):
        value.tofile(path)

    def restore() -> None:
        with on_disk(restoring=True):
            held = np.fromfile(path, dtype).reshape(shape)
        _assign(variable, held)

    return restore


def _assign(variable: Any, value: Any) -> None:
    if hasattr(variable, "assign"):
        variable.assign(value)
    else:
        variable.detach().copy_(keras.ops.convert_to_tensor(value))


class Modes:
    """A copy of the modes (training or not) of the torch modules in a model. New modules get the mode of the model."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._modes = {id(module): module.training for module in _torch_modules(model)}

    def restore(self) -> None:
        for module in _torch_modules(self._model):
            module.training = self._modes.get(id(module), self._modes[id(self._model)])


def _torch_modules(model: Any) -> list[Any]:
    """Return all torch modules of the model and its layers. `model.modules()` does not find all of them."""
    if keras.backend.backend() != "torch":
        return []
    modules = [module for layer in _private.layers(model) for module in layer.modules()]
    return list({id(module): module for module in modules}.values())


class Generators(_generators.Generators):
    """A copy of the state of all random number generators, including those of Keras and (if loaded) TensorFlow.

    The generators of layers are not included: they are variables of the model, which `TrainingState` copies.
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
    """Seed the generators that `Generators` copies. `keras.utils.set_random_seed` would also import TensorFlow."""
    _generators.seed_all(seed, data)
    _private.set_keras_generators({"global_random_seed": seed, "global_seed_generator": None})
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None:
        tensorflow.random.set_seed(seed)
