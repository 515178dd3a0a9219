"""State beside the weights, in every place that it can be in, is restored after a range test and an `LRFinder`."""

import collections

import keras
import numpy as np
import pytest
from keras import ops

from cyclr.keras import LRFinder, range_test

BACKEND = keras.backend.backend()
HAS_VARIABLES = BACKEND != "jax"
"""On JAX, a compiled step of Keras cannot assign to variables that the model does not know."""
X = np.random.default_rng(0).normal(size=(40, 2)).astype("float32")
Y = X.sum(1, keepdims=True)


def spoil(owner):
    """Change every kind of attribute, as code of a user would."""
    owner.count += 1
    owner.helper.total += 0.5
    owner.helper.history.append(owner.count)
    owner.seen["losses"].append(owner.count)
    owner.recent.append(owner.count)
    owner.names.add(owner.count)
    owner.array += 1
    owner.rng.normal()
    owner.pair[0].append(1)
    owner.new = owner.count
    owner.text = f"{owner.text}."
    if HAS_VARIABLES:
        owner.variable.assign(owner.variable * 0.5)
    if BACKEND == "torch":
        owner.tensor.add_(1)


class Helper:
    """An object of the user that a part of the model holds."""

    def __init__(self):
        self.total, self.history = 0.0, []


def fill(owner):
    owner.helper = Helper()
    owner.count, owner.seen, owner.recent, owner.names = 0, {"losses": []}, collections.deque(maxlen=3), set()
    owner.array, owner.rng, owner.pair, owner.text = np.zeros(2), np.random.default_rng(0), ([], 1), "a"
    owner.variable = keras.Variable(1.0, trainable=False)
    if BACKEND == "torch":
        owner.tensor = ops.zeros(2)


def held_by(owner):
    names = ("count", "seen", "recent", "names", "array", "pair", "text", "new")
    numbers = [ops.convert_to_numpy(owner.variable).item(), owner.rng.bit_generator.state["state"]["state"]]
    tensor = ops.convert_to_numpy(owner.tensor).tolist() if BACKEND == "torch" else None
    return repr([getattr(owner, name, None) for name in names]), repr(vars(owner.helper)), numbers, tensor


class Layer(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        fill(self)

    def call(self, inputs, training=False):
        if training:
            spoil(self)
        return inputs


class Loss(keras.losses.Loss):
    def __init__(self):
        super().__init__(name="own")
        fill(self)

    def call(self, y_true, y_pred):
        spoil(self)
        return ops.mean(ops.square(y_true - y_pred), axis=-1)


class Peak(keras.metrics.Metric):
    def __init__(self):
        super().__init__(name="peak")
        fill(self)
        self.peak = self.add_weight(initializer="zeros", name="peak")

    def update_state(self, y_true, y_pred, sample_weight=None):
        spoil(self)
        self.peak.assign(ops.maximum(self.peak, ops.max(ops.abs(y_pred))))

    def result(self):
        return self.peak + 0.0

    def reset_state(self):
        """The peak of the whole life of the model, which no epoch resets."""


class Optimizer(keras.optimizers.SGD):
    def apply(self, *arguments, **keywords):
        spoil(self)
        return super().apply(*arguments, **keywords)


class Model(keras.Model):
    def train_step(self, *arguments):
        spoil(self)
        return super().train_step(*arguments)


def make():
    """A model of which every part holds state of its own, and what holds it."""
    inputs, layer, loss, optimizer = keras.Input((2,)), Layer(), Loss(), Optimizer(0.01)
    model, metric = Model(inputs, keras.layers.Dense(1)(layer(inputs))), Peak()
    owners = {"model": model, "layer": layer, "loss": loss, "metric": metric, "optimizer": optimizer}
    for owner in (model, optimizer):
        fill(owner)
    model.compile(optimizer, loss, metrics=[metric], run_eagerly=True)
    return model, owners


class Interrupt(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 3:
            raise KeyboardInterrupt


def interrupt(test):
    if test.recorded == 7:
        raise KeyboardInterrupt


def fit(model, *callbacks):
    return model.fit(X, Y, batch_size=8, epochs=2, callbacks=callbacks, shuffle=False, verbose=0).history


def swept(model, interrupted):
    finder = LRFinder(1e-4, 1e-1, batches_lr_update=2)
    if not interrupted:
        return fit(model, finder)
    with pytest.raises(KeyboardInterrupt):
        fit(model, finder, Interrupt())
    return finder.restore()


def measured(model, interrupted):
    if not interrupted:
        return range_test(model, X, Y, batch_size=8, steps=12)
    with pytest.raises(KeyboardInterrupt):
        range_test(model, X, Y, batch_size=8, steps=12, on_step=interrupt)


@pytest.mark.parametrize("interrupted", [False, True], ids=["completed", "interrupted"])
@pytest.mark.parametrize("test", [measured, swept])
@pytest.mark.parametrize("trained", [False, True], ids=["fresh", "trained"])
def test_state_in_every_part_is_restored(trained, test, interrupted):
    """https://github.com/fastai/fastai/issues/2892"""
    model, owners = make()
    # On JAX and torch, the first fit itself calls losses and metrics to build them, before any callback.
    if trained or test is swept:
        fit(model)
    before = {name: held_by(owner) for name, owner in owners.items()}
    peak = ops.convert_to_numpy(owners["metric"].peak).item()
    test(model, interrupted)
    assert {name: held_by(owner) for name, owner in owners.items()} == before
    assert ops.convert_to_numpy(owners["metric"].peak).item() == peak
    fit(model)
    assert all(held_by(owner) != before[name] for name, owner in owners.items())


@pytest.mark.parametrize("test", [measured, swept])
def test_training_goes_on_as_without_a_test(test):
    found = []
    for disturbed in (True, False):
        keras.utils.set_random_seed(2)
        model, owners = make()
        if disturbed:
            test(model, False)
        found.append((fit(model), [held_by(owner) for owner in owners.values()]))
    assert found[0] == found[1]


@pytest.mark.skipif(not HAS_VARIABLES, reason="JAX")
@pytest.mark.parametrize("test", [measured, swept])
@pytest.mark.parametrize("hold", ["closure", "method", "list", "dict"])
def test_a_variable_of_a_loss_is_restored_wherever_it_is(hold, test):
    held, variable = Loss(), keras.Variable(1.0, trainable=False)

    def in_closure(y_true, y_pred):
        variable.assign(variable * 0.5)
        return ops.mean(ops.square(y_true - y_pred), axis=-1)

    losses = {"closure": in_closure, "method": held.call, "list": [held], "dict": {"out": held}}
    inputs = keras.Input((2,))
    output = keras.layers.Dense(1, name="out")(inputs)
    model = keras.Model(inputs, {"out": output} if hold == "dict" else output)
    model.compile("sgd", losses[hold], jit_compile=False)
    fit(model)
    before = [ops.convert_to_numpy(part).item() for part in (variable, held.variable)]
    assert before != [1.0, 1.0]
    test(model, False)
    assert [ops.convert_to_numpy(part).item() for part in (variable, held.variable)] == before


@pytest.mark.skipif(BACKEND != "tensorflow", reason="Keras keeps no state on JAX, and cannot train it on torch")
@pytest.mark.parametrize("cell", [keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN])
@pytest.mark.parametrize("interrupted", [False, True], ids=["completed", "interrupted"])
@pytest.mark.parametrize("test", [measured, swept])
def test_the_state_of_a_recurrent_layer_is_restored(test, interrupted, cell):
    layers = [keras.Input((2,), batch_size=8), keras.layers.Reshape((2, 1)), cell(3, stateful=True)]
    model = keras.Sequential([*layers, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    fit(model)
    before = [np.array(part) for part in model.layers[1].states]
    assert all(map(np.any, before))
    test(model, interrupted)
    for one, other in zip(before, model.layers[1].states, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="Variables and generators of TensorFlow")
@pytest.mark.parametrize("test", [measured, swept])
def test_variables_and_generators_of_tensorflow_are_restored(test):
    import tensorflow as tf

    class Noise(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.calls, self.generator = tf.Variable(0.0), tf.random.Generator.from_seed(1)

        def call(self, inputs):
            self.calls.assign_add(1.0)
            return inputs + self.generator.normal(tf.shape(inputs))

    inputs, noise = keras.Input((2,)), Noise()
    model = keras.Model(inputs, keras.layers.Dense(1)(noise(inputs)))
    model.compile("sgd", "mse")
    fit(model)
    before = noise.calls.numpy(), noise.generator.state.numpy().tolist()
    test(model, False)
    assert (noise.calls.numpy(), noise.generator.state.numpy().tolist()) == before
