"""One tiny problem for every framework: `python same_problem.py NAME...` prints the range tests that it gives there.

Several names share a process if Keras has one backend for all of them.

Multinomial regression of scanned digits from zero weights by SGD, on the same batches in the same order;
float64 where the framework has it.
"""

import json
import os
import sys

import numpy as np
from sklearn.datasets import load_digits

SIZE, FEATURES, CLASSES = 32, 64, 10
SWEEP = {"min_lr": 1e-4, "max_lr": 10.0, "steps": 100}


def data():
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))[: 20 * SIZE]
    return x[order] / 16, y[order].astype("int64")


def batches():
    x, y = data()
    return [(x[first : first + SIZE], y[first : first + SIZE]) for first in range(0, len(x), SIZE)]


def by_hand():
    """NumPy, with the driver that is there for any loop."""
    import cyclr

    test, weights = cyclr.RangeTest(**SWEEP), np.zeros((FEATURES + 1, CLASSES))
    pairs = batches()
    for number, lr in enumerate(test):
        x, y = pairs[number % len(pairs)]
        x = np.c_[x, np.ones(len(x))]
        logits = x @ weights
        logits -= logits.max(axis=1, keepdims=True)
        log_shares = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        gradient = x.T @ (np.exp(log_shares) - np.eye(CLASSES)[y]) / len(x)
        weights = weights - lr * gradient
        test.record(-log_shares[np.arange(len(x)), y].mean())
    return test.result()


def in_keras():
    import keras

    from cyclr.keras import range_test

    keras.config.set_floatx("float64")
    layer = keras.layers.Dense(CLASSES, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((FEATURES,)), layer])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss)
    return range_test(model, *data(), **SWEEP, batch_size=SIZE, shuffle=False)


def in_torch():
    import torch

    from cyclr.torch import range_test

    model = torch.nn.Linear(FEATURES, CLASSES, dtype=torch.float64)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.zero_()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    pairs = [(torch.tensor(x), torch.tensor(y)) for x, y in batches()]
    return range_test(model, optimizer, torch.nn.functional.cross_entropy, pairs, **SWEEP)


def in_jax():
    import jax
    import jax.numpy as jnp

    from cyclr.jax import range_test

    def loss_of(weights, x, y):
        shares = jax.nn.log_softmax(x @ weights["kernel"] + weights["bias"])
        return -shares[jnp.arange(len(x)), y].mean()

    def step(weights, batch, lr):
        loss, gradients = jax.value_and_grad(loss_of)(weights, *batch)
        return jax.tree.map(lambda weight, gradient: weight - lr * gradient, weights, gradients), loss

    weights = {"kernel": jnp.zeros((FEATURES, CLASSES)), "bias": jnp.zeros(CLASSES)}
    return range_test(step, weights, batches(), **SWEEP)


RUNS = {
    "keras-tensorflow": in_keras,
    "keras-jax": in_keras,
    "keras-torch": in_keras,
    "torch": in_torch,
    "jax": in_jax,
    "driver": by_hand,
}


def main():
    names = sys.argv[1:]
    os.environ["KERAS_BACKEND"] = names[0].removeprefix("keras-")
    os.environ["JAX_ENABLE_X64"] = "1"
    found = {}
    for name in names:
        result = RUNS[name]()
        bounds = result.bounds
        found[name] = {"lr": result.lr.tolist(), "loss": result.loss.tolist(), "reason": result.stop_reason}
        found[name]["bounds"] = [bounds.base_lr, bounds.max_lr, bounds.status]
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
