"""What is wrong is said at once, with what was received and how to mend it, and before anything has changed."""

import importlib
import math
import re

import keras
import numpy as np
import pytest

import cyclr.keras
from cyclr import MissingExtraError
from cyclr.keras import range_test

pytestmark = pytest.mark.any_backend

BACKEND = keras.backend.backend()
X, Y = np.ones((8, 3), "float32"), np.zeros((8, 1), "float32")


# keyword, value, error, what the message says must hold; it goes on with what was received.
NUMBERS = [
    ("min_lr", 0.0, ValueError, "min_lr must be a finite number greater than 0"),
    ("min_lr", -1e-3, ValueError, "min_lr must be a finite number greater than 0"),
    ("min_lr", math.nan, ValueError, "min_lr must be a finite number greater than 0"),
    ("min_lr", math.inf, ValueError, "min_lr must be a finite number greater than 0"),
    ("min_lr", "1e-6", TypeError, "min_lr must be a number"),
    ("min_lr", None, TypeError, "min_lr must be a number"),
    ("min_lr", True, TypeError, "min_lr must be a number"),
    ("max_lr", 0.0, ValueError, "max_lr must be a finite number greater than 0"),
    ("max_lr", -10.0, ValueError, "max_lr must be a finite number greater than 0"),
    ("max_lr", math.nan, ValueError, "max_lr must be a finite number greater than 0"),
    ("max_lr", math.inf, ValueError, "max_lr must be a finite number greater than 0"),
    ("max_lr", "10", TypeError, "max_lr must be a number"),
    ("max_lr", [1.0], TypeError, "max_lr must be a number"),
    ("max_lr", 1e-6, ValueError, "max_lr must be greater than min_lr"),
    ("max_lr", 1e-7, ValueError, "max_lr must be greater than min_lr"),
    ("steps", 0, ValueError, "steps must be an integer of at least 2"),
    ("steps", 1, ValueError, "steps must be an integer of at least 2"),
    ("steps", -5, ValueError, "steps must be an integer of at least 2"),
    ("steps", 2.5, TypeError, "steps must be an integer"),
    ("steps", 100.0, TypeError, "steps must be an integer"),
    ("steps", "100", TypeError, "steps must be an integer"),
    ("steps", True, TypeError, "steps must be an integer"),
    ("steps", None, TypeError, "steps must be an integer"),
    ("spacing", "log", ValueError, "spacing must be one of 'exponential', 'linear'"),
    ("spacing", None, ValueError, "spacing must be one of 'exponential', 'linear'"),
    ("stop_factor", 1.0, ValueError, "stop_factor must be a finite number greater than 1"),
    ("stop_factor", math.nan, ValueError, "stop_factor must be a finite number greater than 1"),
    ("stop_factor", "4", TypeError, "stop_factor must be a number"),
    ("smoothing", -0.1, ValueError, "smoothing must be a finite number"),
    ("smoothing", 1.0, ValueError, "smoothing must be a finite number"),
    ("smoothing", math.nan, ValueError, "smoothing must be a finite number"),
    ("smoothing", "0.9", TypeError, "smoothing must be a number"),
    ("seed", -1, ValueError, "seed must be an integer of at least 0"),
    ("seed", 1.5, TypeError, "seed must be an integer"),
    ("seed", "0", TypeError, "seed must be an integer"),
    ("seed", True, TypeError, "seed must be an integer"),
    ("repeats", 0, ValueError, "repeats must be an integer of at least 1"),
    ("updates_per_rate", 0, ValueError, "updates_per_rate must be an integer of at least 1"),
    ("evaluate", 0.5, TypeError, "evaluate must be a function"),
    ("snapshot_dir", "no/such/folder", ValueError, "snapshot_dir must be a folder that exists"),
]


@pytest.fixture(scope="module")
def model():
    made = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    made.compile("sgd", loss="mse")
    return made


@pytest.mark.parametrize(
    ("name", "value", "error", "message"), NUMBERS, ids=[f"{name}={value!r}" for name, value, _, _ in NUMBERS]
)
def test_a_wrong_argument_is_named_with_what_was_received(name, value, error, message, model):
    weights = model.get_weights()
    with pytest.raises(error, match=message) as caught:
        range_test(model, X, Y, **{name: value})
    assert f"{name}={value!r}" in str(caught.value)
    assert str(caught.value).rstrip("?").endswith((".", "them", "bounds"))
    assert not model.optimizer.built
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_swapped_limits_are_recognized(model):
    with pytest.raises(
        ValueError, match=r"max_lr must be greater than min_lr; got min_lr=1\.0, max_lr=0\.1\. Swap them\?"
    ):
        range_test(model, X, Y, min_lr=1.0, max_lr=0.1)


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [(None, "NoneType"), ("model", "str"), (keras.layers.Dense(1), "Dense"), (keras.Sequential, "")],
    ids=["None", "str", "layer", "class"],
)
def test_what_is_no_model_is_refused(wrong, kind):
    with pytest.raises(TypeError, match=rf"model must be a keras\.Model; got .*{kind}"):
        range_test(wrong, X, Y)


def test_a_model_that_is_not_compiled_is_refused():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match=r"model must be compiled.*your own loop, call model\.compile\(optimizer=its"):
        range_test(model, X, Y)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("callbacks", "Callbacks do not run during the test: follow the test by on_step."),
        ("epochs", "Did you mean 'steps'?"),
        ("validation_data", "Did you mean 'evaluate'?"),
        ("initial_epoch", "It takes model, x, y, min_lr, "),
        ("stepz", "Did you mean 'steps'?"),
        ("start_lr", "Did you mean 'min_lr'?"),
        ("num_iter", "Did you mean 'steps'?"),
    ],
)
def test_other_arguments_of_fit_and_of_other_finders_are_refused(name, remedy, model):
    with pytest.raises(TypeError, match=re.escape(f"range_test() has no argument {name}; got {name}=3. {remedy}")):
        range_test(model, X, Y, **{name: 3})


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        ([0.5, 0.2], "Return the first number only"),
        ({"loss": 0.5}, 'Return its "loss"'),
        (None, "Return the"),
    ],
    ids=["list", "dict", "None"],
)
def test_evaluate_must_return_a_number(value, remedy, model):
    with pytest.raises(TypeError, match=rf"evaluate must return a number; got .*{remedy}"):
        range_test(model, X, Y, evaluate=lambda model: value)


@pytest.mark.parametrize("wrong", ["sgd", 0.1, keras.optimizers.SGD], ids=["name", "number", "class"])
def test_what_is_no_optimizer_is_refused(wrong, model):
    with pytest.raises((TypeError, ValueError), match=r"optimizer must be a keras optimizer; got .*optimizer=model\."):
        range_test(model, X, Y, optimizer=wrong)


@pytest.mark.every_backend
def test_a_mistake_in_the_data_is_said_by_keras_and_leaves_the_model(model):
    weights = model.get_weights()
    with pytest.raises(ValueError, match=r"(?i)shape|incompatible|cardinality"):
        range_test(model, X, Y[:5])
    with pytest.raises(Exception, match=r"(?i)shape|incompatible|dim"):
        range_test(model, X[:, :2], Y)
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert model.train_function is None
    assert range_test(model, X, Y, steps=3, max_lr=1e-3).stop_reason == "completed"


def stop(*arguments):
    raise StopIteration("no more")


class StoppingStep(keras.Model):
    """A model whose training step iterates over something that has ended."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def call(self, inputs):
        return self.dense(inputs)

    train_step = stop


@pytest.mark.parametrize("built", [False, True], ids=["not built", "built"])
def test_stop_iteration_in_train_step_is_an_error_and_not_the_end_of_the_data(built):
    model = StoppingStep()
    model.compile("sgd", "mse")
    if built:
        model(X[:1])
    with pytest.raises(RuntimeError, match="train_step raised StopIteration: no more"):
        range_test(model, X, Y, steps=5)
    assert "train_step" not in vars(model)


@pytest.mark.parametrize("name", ["on_step", "evaluate"])
def test_stop_iteration_in_a_function_of_the_user_is_an_error_and_not_the_end_of_the_data(name, model):
    with pytest.raises(RuntimeError, match=f"{name} raised StopIteration: no more"):
        range_test(model, X, Y, **{name: stop})


def test_stop_iteration_in_the_loss_is_an_error_in_a_model_that_was_trained():
    """JAX has compiled the step by then, and calls the loss no more unless the shapes are new."""
    calls = []

    def loss(y_true, y_pred):
        if calls:
            stop()
        return keras.ops.mean(y_pred)

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", loss)
    model.fit(X, Y, batch_size=4, verbose=0)
    calls.append(1)
    if keras.backend.backend() == "jax":
        assert range_test(model, X, Y, batch_size=4, steps=5, max_lr=1e-3).stop_reason == "completed"
        return
    with pytest.raises(RuntimeError, match="train_step raised StopIteration: no more"):
        range_test(model, X, Y, batch_size=4, steps=5, max_lr=1e-3)


@pytest.mark.parametrize("version", ["2.15.0", "3.8.0", "3.14.1"])
def test_versions_of_keras_that_train_at_wrong_rates_are_refused(version, monkeypatch):
    monkeypatch.setattr(keras, "__version__", version)
    with pytest.raises(MissingExtraError, match=rf'needs Keras 3\.15 or newer; got {version}\..*"keras>=3\.15"'):
        importlib.reload(cyclr.keras)


def test_not_implemented_error_in_the_forward_pass_is_shown():
    class Unfinished(keras.Model):
        def call(self, inputs):
            raise NotImplementedError("only for images")

    model = Unfinished()
    model.compile("sgd", "mse")
    # Keras makes a RuntimeError of it where it builds models before training.
    with pytest.raises((NotImplementedError, RuntimeError), match="only for images"):
        range_test(model, X, Y)


def test_another_order_of_arguments_is_named():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(TypeError, match="model, x, y in this order; got ndarray, ndarray, Sequential"):
        range_test(X, Y, model)
