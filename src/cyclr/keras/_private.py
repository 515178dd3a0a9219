"""Functions on optimizers, models and data that need private names of Keras or TensorFlow.

Each private name is in one function, which states why it is needed. No other module uses private names. Every function
has a test of the same name in `tests/keras/test_private.py`, which fails if Keras changes the private name.
"""

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np


def inner(optimizer: Any) -> Any:
    """Return the optimizer that holds the counter and the learning rate, from inside a `LossScaleOptimizer` if any."""
    return optimizer.inner_optimizer if isinstance(optimizer, keras.optimizers.LossScaleOptimizer) else optimizer


def accumulation(optimizer: Any) -> int:
    """Return the number of micro-batches in an update. A setting of the optimizer's `LearningRate` takes precedence."""
    given = getattr(rate(optimizer), "gradient_accumulation_steps", None)
    return given or inner(optimizer).gradient_accumulation_steps or 1


def counter(optimizer: Any) -> Any:
    """Return the variable that counts the batches of an optimizer.

    With `gradient_accumulation_steps`, the public `iterations` is a quotient, which cannot be set.
    """
    return inner(optimizer)._iterations


def batches_seen(optimizer: Any) -> int:
    """Return the number of batches (or micro-batches) that the optimizer has counted. Waits for the device."""
    return int(number(counter(optimizer)))


def is_compiling(tensor: Any) -> bool:
    """Return True if a tensor has no value yet, because a function is being compiled. Never on torch."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return isinstance(tensor, jax.core.Tracer)
    if backend == "tensorflow":
        import tensorflow

        return not tensorflow.executing_eagerly()
    return False


def updates_done(optimizer: Any) -> int:
    """Return the number of updates made. Updates skipped by loss scaling do not count. Waits for the device."""
    return batches_seen(optimizer) // accumulation(optimizer)


def number(variable: Any) -> float:
    """Return the value of a variable that holds a single number. Waits for the device."""
    try:
        # On TensorFlow, NumPy would take four times as long.
        return float(variable)
    except TypeError:
        # Variables of `tf.distribute` do not support float().
        return float(keras.ops.convert_to_numpy(variable))


def rate(optimizer: Any) -> Any:
    """Return the source of an optimizer's learning rate: a variable, a schedule, a function, or None.

    The public `learning_rate` is only the current value.
    """
    return getattr(inner(optimizer), "_learning_rate", None)


def has_settable_rate(optimizer: Any) -> bool:
    """Return True if the learning rate is a variable, which can be set, and not a schedule or a function."""
    return isinstance(rate(optimizer), keras.Variable)


def scheduled_rate_method(kind: type, is_scheduled: Callable[[Any], bool]) -> dict[str, Any]:
    """Return a method, by its name, for a subclass of `kind`: it returns `learning_rate` if that is scheduled.

    On torch, weight decay calls this private method instead of the public property `learning_rate`.
    """
    name = "_get_current_learning_rate"
    plain = getattr(kind, name)
    return {name: lambda optimizer: optimizer.learning_rate if is_scheduled(optimizer) else plain(optimizer)}


def trained_variables(optimizer: Any) -> list[Any]:
    """Return the variables that a built optimizer updates, to build another optimizer for them."""
    return list(optimizer._trainable_variables)


def devices(owner: Any) -> Any:
    """Return the scope in which to create variables of a model or an optimizer. `fit` enters it by itself.

    Under `tf.distribute` variables are created on every device, and creating them outside the scope is an error. The
    strategy of a model is public, the strategy of an optimizer is private.
    """
    name = "distribute_strategy" if isinstance(owner, keras.Model) else "_distribution_strategy"
    strategy = getattr(owner, name, None)
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def build(optimizer: Any, model: Any) -> None:
    """Create the variables of an optimizer in the same way as the model's first `fit`."""
    with devices(model):
        optimizer.build(model.trainable_variables)


def calling_optimizer() -> tuple[Any, bool]:
    """Return the optimizer that is calling the current schedule, and True if it calls the schedule directly.

    The optimizer is None if no optimizer makes the call. Raise if Keras' `LearningRateScheduler` makes the call.

    Keras passes only the number of the micro-batch to a schedule, so the optimizer can only be found in the frames of
    the call. If steps are compiled, this happens once per trace, not once per step.
    """
    frame = inspect.currentframe()
    schedule = None if frame is None else frame.f_back
    caller = None if schedule is None else schedule.f_back
    is_direct = True
    while caller is not None:
        owner = caller.f_locals.get("self")
        if isinstance(owner, keras.optimizers.Optimizer):
            return owner, is_direct
        if isinstance(owner, keras.callbacks.LearningRateScheduler):
            raise ValueError(
                "a cyclr schedule counts optimizer updates; got an epoch from LearningRateScheduler. Write "
                "keras.optimizers.SGD(LearningRate(schedule)), or pass ScheduleCallback(lr=schedule) to fit instead."
            )
        caller, is_direct = caller.f_back, False
    return None, False


def batch_size(dataset: Any) -> int | None:
    """Return the number of samples in a batch of a `tf.data.Dataset`; None for other data, or if it is not known.

    The public way is to read a batch, which changes the state of a shuffle.
    """
    while dataset is not None:
        if (size := getattr(dataset, "_batch_size", None)) is not None:
            return int(size)
        dataset = getattr(dataset, "_input_dataset", None)
    return None


def batches(x: Any, y: Any, *, sample_weight: Any, validation_split: float, **arguments: Any) -> Iterator[Any]:
    """Yield the batches of one pass over data, in any form that `fit` takes, as NumPy arrays.

    The only public function that reads all these forms is `fit`, and it reads batches before they are needed.
    """
    from keras.src.trainers.data_adapters import array_slicing, get_data_adapter

    if validation_split:
        (x, y, sample_weight), _ = array_slicing.train_validation_split((x, y, sample_weight), validation_split)
    names = ("batch_size", "steps_per_epoch", "shuffle", "class_weight")
    adapter = get_data_adapter(x, y, sample_weight, **{name: arguments[name] for name in names})
    adapter.on_epoch_begin()
    try:
        yield from adapter.get_numpy_iterator()
    finally:
        adapter.on_epoch_end()


def callbacks_of_fit() -> list[Any]:
    """Return the list of callbacks of the current `fit`, in order; empty if no `fit` is calling a callback.

    Keras does not pass this list to callbacks, so it can only be found in the frames of the call.
    """
    frame = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, keras.callbacks.CallbackList):
            return list(caller.callbacks)
        frame = frame.f_back
    return []


def mode(model: Any, training: bool) -> dict[str, bool]:
    """Return the argument `training` for a call of the model, or nothing if its `call` has no such argument."""
    return {"training": training} if model._call_has_training_arg else {}


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of tensors, compiled by the backend. On torch it is only called without gradients.

    Keras itself compiles no functions other than training steps.
    """
    module: Any = sys.modules.get(keras.backend.backend())
    if keras.backend.backend() == "tensorflow":
        compiled_by_it: Callable[..., Any] = module.function(function, reduce_retracing=True)
    elif keras.backend.backend() == "jax":
        compiled_by_it = module.jit(function)
    else:
        compiled_by_it = without_gradients(function)
    return compiled_by_it


def without_gradients(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that records nothing for gradients, which matters on torch only."""
    module: Any = sys.modules.get(keras.backend.backend())
    if keras.backend.backend() != "torch":
        return function

    def call(*arguments: Any, **keywords: Any) -> Any:
        with module.no_grad():
            return function(*arguments, **keywords)

    return call


def layers(model: Any) -> list[Any]:
    """Return the model and all layers within it, at any depth. The public `layers` hold only the first level."""
    return list(model._flatten_layers())


def has_weights(model: Any) -> bool:
    """Return True if the model has all its variables. Keras' own `model.built` is also True if layers lack theirs."""
    return all(layer.built for layer in layers(model))


def parts_with_state(value: Any) -> Any:
    """Return the parts of a value that training may change: attributes of model parts, and objects used by functions.

    The user's functions are searched for variables and model parts, because a loss may be such a function.
    """
    from keras.src.utils.tracking import Tracker

    kinds = (keras.Layer, keras.Loss, keras.Metric, keras.optimizers.Optimizer, keras.random.SeedGenerator, Tracker)
    backend = keras.backend.backend()
    module: Any = sys.modules.get(backend)
    if isinstance(value, kinds) or (backend == "torch" and isinstance(value, module.nn.Module)):
        return [vars(value)]
    if backend == "tensorflow" and isinstance(value, module.random.Generator):
        return [value.state]
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    if inspect.ismethod(value):
        return [value.__func__, value.__self__]
    if inspect.isfunction(value) and not value.__module__.startswith("keras."):
        used = inspect.getclosurevars(value)
        held = [*used.nonlocals.values(), *used.globals.values()]
        return [part for part in held if isinstance(part, (*kinds, keras.Variable))]
    return []


def compiled_parts(model: Any) -> list[Any]:
    """Return the containers of the loss and the metrics, which `compile` creates and the first `fit` builds."""
    parts = (getattr(model, name, None) for name in ("_compile_metrics", "_compile_loss"))
    return [part for part in parts if part is not None]


def compiled_with(model: Any) -> dict[str, Any]:
    """Return the loss and the metrics as they were passed to `compile`."""
    given = model._compile_config.config
    return {name: given.get(name) for name in ("loss", "loss_weights", "metrics", "weighted_metrics")}


def parts_of_compiled(value: Any) -> Any:
    """Return the attributes of a loss, a metric, or a tracker of either."""
    from keras.src.utils.tracking import Tracker

    return [vars(value)] if isinstance(value, keras.Loss | keras.Metric | Tracker) else []


def create_variables(model: Any, inputs: Any) -> None:
    """Create the variables of a model on TensorFlow for these inputs, which may be symbolic. No value is computed."""
    if model.run_eagerly:
        with keras.StatelessScope():
            model(inputs)
    else:
        sys.modules["tensorflow"].function(lambda inputs: model(inputs)).get_concrete_function(inputs)


def outside_of_trace() -> Any:
    """Return the scope in which values of variables can be read while TensorFlow traces a training step."""
    return sys.modules["tensorflow"].init_scope()


def variable_types() -> tuple[type, ...]:
    """Return the types whose values training changes in place: the variables of Keras and of the backend."""
    module: Any = sys.modules.get(keras.backend.backend())
    own = {"tensorflow": "Variable", "torch": "Tensor"}.get(keras.backend.backend())
    return (keras.Variable, getattr(module, own)) if own else (keras.Variable,)


def keras_generators() -> tuple[dict[str, Any], Any]:
    """Return the state of the generator that `keras.random` draws from when no seed is given.

    Keras has a public function to seed this generator (it would import TensorFlow), but none to read its state.
    """
    from keras.src.backend.common import global_state

    names = ("global_seed_generator", "global_random_seed")
    held = {name: global_state.get_global_attribute(name) for name in names}
    generator = held["global_seed_generator"]
    return held, None if generator is None else np.array(keras.ops.convert_to_numpy(generator.state))


def set_keras_generators(held: dict[str, Any], state: Any = None) -> None:
    """Restore the state that `keras_generators` returned."""
    from keras.src.backend.common import global_state

    for name, value in held.items():
        global_state.set_global_attribute(name, value)
    if state is not None:
        held["global_seed_generator"].state.assign(state)


def tensorflow_generators() -> Callable[[], None]:
    """Return a function that restores TensorFlow's seed and its generator of seeds for unseeded operations.

    TensorFlow has public functions to set both, but none to read them.
    """
    if "tensorflow" not in sys.modules:
        return lambda: None
    from tensorflow.python.eager import context

    seed, generator = context.global_seed(), getattr(context.context(), "_rng", None)
    state = None if generator is None else generator.getstate()

    def restore() -> None:
        context.set_global_seed(seed)
        if state is not None:
            context.context()._rng.setstate(state)

    return restore
