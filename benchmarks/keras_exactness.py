"""Exactness of the Keras adapter on the backend of KERAS_BACKEND: losses and learning rates against results by hand.

    for backend in tensorflow jax torch; do KERAS_BACKEND=$backend python benchmarks/keras_exactness.py; done

Losses: a linear model with mean squared error and SGD with momentum, trained by hand in float64 NumPy with the learning
rates and the batches of the range test. Learning rates: update t moves only weight t, with gradient 1, so the weights
show the learning rates.
"""

from typing import Any

import keras
import numpy as np

import cyclr
from cyclr.keras import CyclicLR, LearningRate, range_test

MOMENTUM, BATCH, UPDATES = 0.9, 16, 400


def losses_by_hand(x: np.ndarray, y: np.ndarray, weights: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Return the loss of each batch before its update."""
    velocity, losses = np.zeros_like(weights), []
    for number, rate in enumerate(rates):
        rows = slice(BATCH * (number % (len(x) // BATCH)), BATCH * (number % (len(x) // BATCH)) + BATCH)
        error = x[rows] @ weights - y[rows]
        losses.append(np.mean(error**2))
        velocity = MOMENTUM * velocity - rate * 2 * x[rows].T @ error / BATCH
        weights = weights + velocity
    return np.array(losses)


def range_test_error() -> tuple[int, float]:
    """Return the number of recorded points, and their largest relative difference from the losses by hand."""
    random = np.random.default_rng(0)
    x = random.normal(size=(BATCH * 40, 8))
    y = x @ random.normal(size=8) + random.normal(size=len(x))
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(0.01, momentum=MOMENTUM), "mse")
    weights = np.asarray(model.get_weights()[0], dtype=np.float64).ravel()
    result = range_test(model, x, y[:, None], batch_size=BATCH, shuffle=False)
    by_hand = losses_by_hand(x, y, weights, result.lr)
    return len(result.loss), float(np.max(np.abs(result.loss - by_hand) / by_hand))


def rates_used(learning_rate: Any, callbacks: list[Any]) -> np.ndarray:
    """Return the learning rates of UPDATES updates, as shown by the weights that they moved."""
    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((UPDATES,)), layer])
    model.compile(keras.optimizers.SGD(learning_rate), loss=lambda y, prediction: keras.ops.mean(prediction))
    x = np.eye(UPDATES, dtype="float32")
    model.fit(x, np.zeros((UPDATES, 1)), batch_size=1, shuffle=False, verbose=0, callbacks=callbacks)
    return -np.asarray(model.get_weights()[0], dtype=np.float64).ravel()


def main() -> None:
    points, error = range_test_error()
    print(f"{keras.backend.backend()}: range test, {points} losses: largest relative difference {error:.1e}")
    schedule = cyclr.Cyclical(0.001, 0.006, step_size=37, decay=cyclr.Exponential(0.995))
    expected = schedule(np.arange(UPDATES))
    callback = CyclicLR(0.001, 0.006, 37, mode="exp_range", gamma=0.995)
    for name, used in (
        ("LearningRate", rates_used(LearningRate(schedule), [])),
        ("CyclicLR", rates_used(0.5, [callback])),
    ):
        difference = np.max(np.abs(used - expected)) / 0.006
        print(f"{keras.backend.backend()}: {name}, {UPDATES} updates: largest difference {difference:.1e} of max_lr")


if __name__ == "__main__":
    main()
