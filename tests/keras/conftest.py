"""What the tests of the Keras adapter share.

They run on the backend that KERAS_BACKEND names; run them once for each, in a process of its own. Keras is imported in
functions only, because pytest-xdist imports this file also in the process that runs no test.
"""

import gc
import importlib.util
import itertools
import os
import warnings
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

_INSTALLED = [name for name in ("tensorflow", "jax", "torch") if importlib.util.find_spec(name)]
if importlib.util.find_spec("keras") and _INSTALLED:
    os.environ.setdefault("KERAS_BACKEND", _INSTALLED[0])
else:
    collect_ignore_glob = ["test_*.py"]


SIXTHS = {"tensorflow": 0, "jax": 1}
"""The backends on which a sixth of the `any_backend` tests run, and which. All run on torch, which compiles nothing."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "any_backend: runs no code of one backend; a sixth of these run on each of SIXTHS"
    )
    config.addinivalue_line("markers", "every_backend: runs on every backend, although its module is any_backend")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        # Runs of tests stop in the middle of a schedule, to go on in another fit.
        item.add_marker(pytest.mark.filterwarnings("ignore:the schedule has total_steps"))
    sixth = None if "ALL_BACKENDS" in os.environ else SIXTHS.get(os.environ.get("KERAS_BACKEND", ""))
    if sixth is not None:
        kept = [item for item in items if runs_in(item, sixth)]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
        items[:] = kept


def runs_in(item: pytest.Item, sixth: int) -> bool:
    """Return True for a test of this sixth, and for tests that other backends skip."""
    if item.get_closest_marker("any_backend") is None:
        return True
    if item.get_closest_marker("every_backend") or item.get_closest_marker("skipif"):
        return True
    return zlib.crc32(item.nodeid.encode()) % 6 == sixth


@pytest.fixture(autouse=True)
def _seeded_and_collected() -> Iterable[None]:
    """Seed every test, and collect garbage after it.

    Keras leaves iterators of tf.data in it when training is stopped, and TensorFlow may wait for up to a minute when it
    destroys an old one.
    """
    import keras

    keras.utils.set_random_seed(0)
    gc.freeze()
    yield
    gc.collect()


def mean_prediction(y_true: Any, y_pred: Any) -> Any:
    """A loss whose gradient by the prediction is the same everywhere."""
    import keras

    return keras.ops.mean(y_pred)


class Probe:
    """A model that writes down the learning rate of every update: update t moves weight t alone, by its rate.

    Sample t is the t-th unit vector and the loss is the prediction itself, so that the gradient is 1 at weight t and 0
    at all others, exactly, in every precision. Without momentum the weights are minus the rates, whatever ran the
    updates and however many of them it ran in one call.
    """

    def __init__(self, optimizer: Any, updates: int = 24, *, micro_batches: int = 1, **compile_arguments: Any) -> None:
        import keras

        kernel = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
        self.model = keras.Sequential([keras.Input((updates,)), kernel])
        self.model.compile(optimizer, loss=mean_prediction, **compile_arguments)
        self.x = np.repeat(np.eye(updates, dtype="float32"), micro_batches, axis=0)
        self.y = np.zeros((len(self.x), 1), "float32")

    def fit(self, samples: slice = slice(None), **arguments: Any) -> Any:
        """Train on some of the samples, each of them a batch."""
        arguments = {"batch_size": 1, "shuffle": False, "verbose": 0, **arguments}
        return self.model.fit(self.x[samples], self.y[samples], **arguments)

    @property
    def rates(self) -> np.ndarray:
        """The rate that every update used; 0 for those that did not happen."""
        return -self.model.get_weights()[0].ravel().astype("float64")


@pytest.fixture
def probe() -> type[Probe]:
    return Probe


WEIGHTS, BIAS = np.array([[0.5], [0.25], [-0.5]]), 0.125


def _linear_model(optimizer: Any, **compile_arguments: Any) -> Any:
    import keras

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.layers[0].set_weights([WEIGHTS, np.array([BIAS])])
    model.compile(optimizer, loss="mse", **compile_arguments)
    return model


@pytest.fixture
def linear_model() -> Callable[..., Any]:
    """Makes a model for linear regression of one output on three inputs, with weights known to `losses_by_hand`."""
    return _linear_model


def _losses_by_hand(
    rates: Iterable[float],
    x: np.ndarray,
    y: np.ndarray,
    *,
    batch_size: int,
    sample_weight: np.ndarray | None = None,
    momentum: float = 0.0,
    micro_batches: int = 1,
) -> np.ndarray:
    x = np.hstack([x, np.ones((len(x), 1))]).astype("float64")
    y = np.reshape(y, (-1, 1)).astype("float64")
    importance = np.ones_like(y) if sample_weight is None else np.reshape(sample_weight, (-1, 1)).astype("float64")
    weights, velocity = np.vstack([WEIGHTS, [[BIAS]]]), np.zeros((4, 1))
    batches = itertools.cycle([slice(start, start + batch_size) for start in range(0, len(x), batch_size)])
    losses = []
    for rate in rates:
        gradient, loss = np.zeros((4, 1)), 0.0
        for batch in itertools.islice(batches, micro_batches):
            error = x[batch] @ weights - y[batch]
            loss += (importance[batch] * error**2).mean() / micro_batches
            gradient += 2 * x[batch].T @ (importance[batch] * error) / len(error) / micro_batches
        losses.append(loss)
        velocity = momentum * velocity - rate * gradient
        weights = weights + velocity
    return np.array(losses)


@pytest.fixture
def losses_by_hand() -> Callable[..., np.ndarray]:
    """Linear regression by SGD, written out: the mean squared error of every batch, before its update."""
    return _losses_by_hand


@pytest.fixture
def built_by_shape() -> Callable[..., Any]:
    """Makes a compiled model that Keras calls built after `build(shape)`, although its layer has no weights yet."""
    import keras

    class Model(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, inputs: Any) -> Any:
            return self.dense(inputs)

    def make(optimizer: Any, shape: tuple[int | None, ...]) -> Any:
        model = Model()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`build\(\)` was called on layer")
            model.build(shape)
        model.compile(optimizer, loss="mse")
        return model

    return make


@pytest.fixture
def mixed_float16() -> Iterable[None]:
    """Half precision, under which Keras wraps every optimizer in loss scaling."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy(before)


def _state(model: Any, *optimizers: Any) -> list[np.ndarray]:
    import keras

    variables = [
        *model.variables,
        *model.metrics_variables,
        *(variable for optimizer in optimizers or (model.optimizer,) for variable in optimizer.variables),
    ]
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


@pytest.fixture
def state_of() -> Callable[..., list[np.ndarray]]:
    """Every value that training changes: weights, statistics, seeds of layers, metrics, slots and counters."""
    return _state
