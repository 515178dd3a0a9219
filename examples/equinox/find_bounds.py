"""Equinox: find the bounds of the learning rate of a small network on scanned digits, and keep the curve.

    python examples/equinox/find_bounds.py

Needs: pip install "cyclr[jax,plot]" equinox optax scikit-learn.
"""

import equinox as eqx
import jax
import numpy as np
import optax
from sklearn.datasets import load_digits

from cyclr.jax import range_test

BATCH = 32


def loss_of(model: eqx.Module, x: jax.Array, y: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(x), y).mean()


def main() -> None:
    x, y = load_digits(return_X_y=True)
    x, y = (x / 16).astype("float32"), y.astype("int32")
    order = np.random.default_rng(0).permutation(1440)
    batches = [(x[part], y[part]) for part in np.split(order, len(order) // BATCH)]
    model = eqx.nn.MLP(64, 10, width_size=64, depth=1, key=jax.random.key(0))

    # The state holds the arrays of the model; what is no array stays outside.
    arrays, rest = eqx.partition(model, eqx.is_array)
    momentum = optax.trace(decay=0.9)

    def step(state, batch, lr):
        arrays, trace = state
        loss, gradients = eqx.filter_value_and_grad(loss_of)(eqx.combine(arrays, rest), *batch)
        updates, trace = momentum.update(gradients, trace)
        return (jax.tree.map(lambda p, update: p - lr * update, arrays, updates), trace), loss

    result = range_test(step, (arrays, momentum.init(arrays)), batches)
    print(result.bounds.reason)
    result.save("range_test.json")
    result.plot().figure.savefig("range_test.png")


if __name__ == "__main__":
    main()
