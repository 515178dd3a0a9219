"""Flax NNX: find learning-rate bounds for a small network on scanned digits, and save the curve.

    python examples/flax/find_bounds.py

Needs: pip install "cyclr[jax,plot]" flax optax scikit-learn.
"""

import functools

import jax
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits

from cyclr.jax import range_test

BATCH = 32


class Classifier(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.hidden = nnx.Linear(64, 64, rngs=rngs)
        self.norm = nnx.BatchNorm(64, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.output = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.output(self.dropout(nnx.relu(self.norm(self.hidden(x)))))


def loss_of(model: Classifier, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    x, y = batch
    return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()


def main() -> None:
    x, y = load_digits(return_X_y=True)
    x, y = (x / 16).astype("float32"), y.astype("int32")
    order = np.random.default_rng(0).permutation(1440)
    batches = [(x[part], y[part]) for part in np.split(order, len(order) // BATCH)]

    optimizer = functools.partial(optax.sgd, momentum=0.9)

    result = range_test(loss_of, Classifier(nnx.Rngs(0)), batches, optimizer=optimizer)
    print(result.bounds.reason)
    result.save("range_test.json")
    result.plot().figure.savefig("range_test.png")


if __name__ == "__main__":
    main()
