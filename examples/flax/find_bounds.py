"""Flax NNX: find the bounds of the learning rate of a small network on scanned digits, and keep the curve.

    python examples/flax/find_bounds.py

Needs: pip install "cyclr[jax,plot]" flax optax scikit-learn.
"""

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
        self.output = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.output(nnx.relu(self.hidden(x)))


def loss_of(model: Classifier, x: jax.Array, y: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()


def main() -> None:
    x, y = load_digits(return_X_y=True)
    x, y = (x / 16).astype("float32"), y.astype("int32")
    order = np.random.default_rng(0).permutation(1440)
    batches = [(x[part], y[part]) for part in np.split(order, len(order) // BATCH)]

    # The range test takes a pure function: a model is split into its graph, which stays, and its parameters.
    graph, parameters = nnx.split(Classifier(nnx.Rngs(0)))
    momentum = optax.trace(decay=0.9)

    def step(state, batch, lr):
        parameters, trace = state
        loss, gradients = jax.value_and_grad(lambda p: loss_of(nnx.merge(graph, p), *batch))(parameters)
        updates, trace = momentum.update(gradients, trace)
        return (jax.tree.map(lambda p, update: p - lr * update, parameters, updates), trace), loss

    result = range_test(step, (parameters, momentum.init(parameters)), batches)
    print(result.bounds.reason)
    result.save("range_test.json")
    result.plot().figure.savefig("range_test.png")


if __name__ == "__main__":
    main()
