"""The private names of Keras and TensorFlow: a test fails if Keras changes what the function of its name relies on."""

import sys

import keras
import numpy as np
import pytest
from keras import ops

from cyclr._contents import Contents
from cyclr.keras import _private, state

BACKEND = keras.backend.backend()
X = np.ones((4, 3), "float32")


def make(optimizer, **arguments):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dropout(0.5), keras.layers.Dense(1)])
    model.compile(optimizer, "mse", metrics=["mae"], **arguments)
    return model


def fit(model, epochs=1):
    return model.fit(X, X[:, :1], batch_size=1, epochs=epochs, verbose=0)


def number(value):
    return ops.convert_to_numpy(value).item()


@pytest.mark.parametrize("arguments", [{"batch_size": 3}, {"batch_size": None, "steps_per_epoch": 3}])
def test_batches(arguments):
    x, y, weight = np.arange(10.0)[:, None], np.arange(10.0), np.ones(10)
    arguments = {"steps_per_epoch": None, "class_weight": None, "shuffle": False, "verbose": 0, **arguments}
    found = list(_private.batches(x, y, sample_weight=weight, validation_split=0.2, **arguments))
    assert [len(batch) for batch in found] == [3] * 3
    assert [batch[1].tolist() for batch in found] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert np.concatenate([batch[0] for batch in found]).tolist() == x[:8].tolist()


def test_inner():
    optimizer = keras.optimizers.SGD(0.5)
    assert _private.inner(optimizer) is optimizer
    assert _private.inner(keras.optimizers.LossScaleOptimizer(optimizer)) is optimizer


def test_accumulation():
    optimizer = keras.optimizers.SGD(0.5, gradient_accumulation_steps=2)
    assert _private.accumulation(keras.optimizers.LossScaleOptimizer(optimizer)) == 2
    assert _private.accumulation(keras.optimizers.SGD(0.5)) == 1


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "loss scaling"])
def test_counter(scaled):
    optimizer = keras.optimizers.SGD(0.5, gradient_accumulation_steps=2)
    model = make(keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=4.0) if scaled else optimizer)
    fit(model)
    counter = _private.counter(model.optimizer)
    assert (number(counter), number(model.optimizer.iterations)) == (4, 2)
    counter.assign(7)
    assert number(model.optimizer.iterations) == 3


def test_batches_seen():
    optimizer = keras.optimizers.SGD(0.5, gradient_accumulation_steps=2)
    _private.counter(optimizer).assign(5)
    assert _private.batches_seen(optimizer) == 5


def test_is_compiling():
    compiling = []

    def step(value):
        compiling.append(_private.is_compiling(value))
        return value

    step(keras.ops.ones(()))
    if BACKEND == "jax":
        sys.modules["jax"].jit(step)(1.0)
    elif BACKEND == "tensorflow":
        sys.modules["tensorflow"].function(step)(1.0)
    assert compiling == [False] + [True] * (BACKEND != "torch")


def test_updates_done():
    optimizer = keras.optimizers.SGD(0.5, gradient_accumulation_steps=2)
    _private.counter(optimizer).assign(5)
    assert _private.updates_done(keras.optimizers.LossScaleOptimizer(optimizer)) == 2


def test_number():
    assert _private.number(keras.Variable(0.5, trainable=False)) == 0.5
    if BACKEND == "tensorflow":
        with sys.modules["tensorflow"].distribute.MirroredStrategy(["CPU:0"]).scope():
            assert _private.number(keras.Variable(0.5, trainable=False)) == 0.5


def test_batch_size():
    assert _private.batch_size(None) is None
    assert _private.batch_size([1, 2]) is None
    if BACKEND == "tensorflow":
        data = sys.modules["tensorflow"].data.Dataset.from_tensor_slices(X)
        assert _private.batch_size(data.shuffle(4)) is None
        assert _private.batch_size(data.batch(2).map(lambda x: x).prefetch(1)) == 2


def test_rate():
    variable = _private.rate(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.5)))
    assert isinstance(variable, keras.Variable)
    assert number(variable) == 0.5
    schedule = keras.optimizers.schedules.CosineDecay(0.5, 4)
    assert _private.rate(keras.optimizers.SGD(schedule)) is schedule
    assert _private.rate(None) is None


def test_has_settable_rate():
    assert _private.has_settable_rate(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.5)))
    assert not _private.has_settable_rate(keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.5, 4)))
    assert not _private.has_settable_rate(keras.optimizers.SGD(lambda: 0.5))


def test_scheduled_rate_method():
    """Weight decay asks it on torch; the subclass must decide for both, and the plain rate stay within reach."""
    scheduled = []
    kind = keras.optimizers.SGD
    members = _private.scheduled_rate_method(kind, lambda optimizer: bool(scheduled))
    (name,) = members
    assert callable(getattr(kind, name))
    made = type("SGD", (kind,), {**members, "learning_rate": property(lambda self: getattr(super(made, self), name)())})
    optimizer = made(0.5)
    assert number(getattr(optimizer, name)()) == 0.5
    made.learning_rate = 0.25
    scheduled.append(True)
    assert getattr(optimizer, name)() == 0.25


def test_trained_variables():
    model = make(keras.optimizers.Adam())
    model.optimizer.build(model.trainable_variables)
    assert [id(v) for v in _private.trained_variables(model.optimizer)] == [id(v) for v in model.trainable_variables]


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow has strategies")
def test_devices():
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = make(keras.optimizers.SGD(0.5))
    for owner in (model, model.optimizer):
        with _private.devices(owner):
            assert tf.distribute.get_strategy() is strategy
    assert tf.distribute.get_strategy() is not strategy


def test_devices_without_a_strategy():
    with _private.devices(object()):
        pass


def test_build():
    model = make(keras.optimizers.Adam())
    _private.build(model.optimizer, model)
    assert len(model.optimizer.variables) == 2 + 2 * len(model.trainable_variables)


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "loss scaling"])
def test_calling_optimizer(scaled):
    found = []

    class Schedule(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            found.append(_private.calling_optimizer())
            return 0.5

    optimizer = keras.optimizers.SGD(Schedule(), gradient_accumulation_steps=2)
    model = make(keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=4.0) if scaled else optimizer)
    fit(model)
    assert found
    assert {id(caller) for caller, _ in found} == {id(optimizer)}
    assert all(is_direct for _, is_direct in found)
    Schedule()(0)
    assert found[-1] == (None, False)


def test_callbacks_of_fit():
    class Look(keras.callbacks.Callback):
        found = None

        def on_train_begin(self, logs=None):
            self.found = _private.callbacks_of_fit()

    look, other = Look(), keras.callbacks.TerminateOnNaN()
    make(keras.optimizers.SGD(0.5)).fit(np.ones((2, 3)), np.ones((2, 1)), verbose=0, callbacks=[other, look])
    assert look.found[:2] == [other, look]
    assert _private.callbacks_of_fit() == []


def test_layers():
    inside = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model = keras.Sequential([keras.Input((3,)), inside])
    found = _private.layers(model)
    assert [layer for layer in (model, inside, inside.layers[0]) if not any(layer is other for other in found)] == []


def test_mode():
    inputs = keras.Input((3,))
    assert _private.mode(keras.Model(inputs, keras.layers.Dense(1)(inputs)), True) == {"training": True}

    class Plain(keras.Model):
        def call(self, inputs):
            return inputs

    assert _private.mode(Plain(), False) == {}


def test_compiled():
    calls = []

    def double(values, more):
        calls.append(1)
        return [2 * value + more for value in values]

    compiled = _private.compiled(double)
    for more in (1.0, 2.0, 3.0):
        found = compiled([ops.convert_to_tensor(X)], ops.convert_to_tensor(more))
        np.testing.assert_array_equal(ops.convert_to_numpy(found[0]), 2 * X + more)
    assert len(calls) == (3 if BACKEND == "torch" else 1)


def test_without_gradients():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    output = _private.without_gradients(model)(X, training=False)
    assert not getattr(output, "requires_grad", False)
    np.testing.assert_allclose(ops.convert_to_numpy(output), model.predict(X, verbose=0), rtol=1e-5)


def test_has_weights():
    inside = keras.Sequential([keras.layers.Dense(1)])
    model = keras.Sequential([inside])
    assert not _private.has_weights(model)
    model(X)
    assert _private.has_weights(model)


def test_compiled_parts():
    model = make("sgd")
    parts = _private.compiled_parts(model)
    assert [part.built for part in parts] == [False, False]
    fit(model)
    assert [part.built for part in parts] == [True, True]
    assert _private.compiled_parts(keras.Sequential()) == []


def test_parts_with_state():
    model = make("sgd")
    for part in (
        model,
        model.layers[0],
        model.optimizer,
        *_private.compiled_parts(model),
        keras.losses.MeanSquaredError(),
    ):
        assert _private.parts_with_state(part) == [vars(part)]
        assert [vars(part._tracker)] == _private.parts_with_state(part._tracker) if hasattr(part, "_tracker") else True
    scale = keras.Variable(1.0)
    assert _private.parts_with_state(lambda: scale) == [scale]
    assert _private.parts_with_state(keras.losses.mean_squared_error) == _private.parts_with_state(X) == []


def test_parts_of_compiled():
    """Emptied lists of a part that was built are built again, because its tracker has forgotten them."""
    (metrics, _) = _private.compiled_parts(model := make("sgd"))
    contents = Contents(parts=_private.parts_of_compiled)
    contents.add(metrics)
    fit(model)
    contents.restore()
    assert not metrics.built
    model.make_train_function(force=True)
    fit(model)
    assert len(model.metrics_variables) == 4


@pytest.mark.skipif(BACKEND != "tensorflow", reason="elsewhere fit builds the model before it traces a step")
@pytest.mark.parametrize("eager", [False, True])
def test_create_variables(eager):
    model = keras.Sequential([keras.layers.BatchNormalization(), keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=eager)
    _private.create_variables(model, ops.convert_to_tensor(X))
    assert len(model.get_weights()) == 6
    assert model.input_shape == X.shape


@pytest.mark.skipif(BACKEND != "tensorflow", reason="elsewhere values are not read within a trace")
def test_outside_of_trace():
    import tensorflow as tf

    variable, values = keras.Variable(2.0), []

    @tf.function
    def trace():
        with _private.outside_of_trace():
            values.append(float(ops.convert_to_numpy(variable)))

    trace()
    assert values == [2.0]


def test_variable_types():
    assert keras.Variable in _private.variable_types()
    own = {"tensorflow": "Variable", "torch": "Tensor"}.get(BACKEND)
    assert own is None or getattr(sys.modules[BACKEND], own) in _private.variable_types()


def test_keras_generators():
    keras.utils.set_random_seed(3)
    keras.random.normal(())
    before = _private.keras_generators()
    drawn = number(keras.random.normal(()))
    assert number(keras.random.normal(())) != drawn
    _private.set_keras_generators(*before)
    assert number(keras.random.normal(())) == drawn


def test_set_keras_generators():
    """As `keras.utils.set_random_seed` sets them."""
    numbers = []
    for seed in (keras.utils.set_random_seed, state.seed_all):
        seed(5)
        numbers.append([number(keras.random.normal(())) for _ in range(2)])
    assert numbers[0] == numbers[1]


def test_tensorflow_generators():
    if "tensorflow" not in sys.modules:
        _private.tensorflow_generators()()
        assert "tensorflow" not in sys.modules
        return
    import tensorflow as tf

    tf.random.set_seed(3)
    tf.random.normal(())
    restore = _private.tensorflow_generators()
    drawn = number(tf.random.normal(()))
    assert number(tf.random.normal(())) != drawn
    restore()
    assert number(tf.random.normal(())) == drawn


def test_compiled_with():
    model = make("adam", loss_weights=[2.0])
    given = {"loss": "mse", "loss_weights": [2.0], "metrics": ["mae"], "weighted_metrics": None}
    assert _private.compiled_with(model) == given
    fit(model)
    assert _private.compiled_with(model) == given
