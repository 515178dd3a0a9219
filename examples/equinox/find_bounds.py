"""Equinox: find learning-rate bounds for a small network on scanned digits, and save the curve.

    python examples/equinox/find_bounds.py

Needs: pip install "cyclr[jax,plot]" equinox optax scikit-learn.
"""

import functools

import equinox as eqx
import jax
import numpy as np
import optax
from sklearn.datasets import load_digits

from cyclr.jax import range_test

BATCH = 32


def loss_of(model: eqx.Module, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    x, y = batch
    return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(x), y).mean()


def main() -> None:
    x, y = load_digits(return_X_y=True)
    x, y = (x / 16).astype("float32"), y.astype("int32")
    order = np.random.default_rng(0).permutation(1440)
    batches = [(x[part], y[part]) for part in np.split(order, len(order) // BATCH)]
    model = eqx.nn.MLP(64, 10, width_size=64, depth=1, key=jax.random.key(0))

    optimizer = functools.partial(optax.sgd, momentum=0.9)

    result = range_test(loss_of, model, batches, optimizer=optimizer)
    print(result.bounds.reason)
    result.save("range_test.json")
    result.plot().figure.savefig("range_test.png")


if __name__ == "__main__":
    main()
