"""Equinox and Optax: run a range test, then train with one cycle of learning rate and momentum, on scanned digits.

    python examples/equinox/train.py

Needs: pip install "cyclr[jax]" equinox optax scikit-learn.
"""

import functools

import equinox as eqx
import jax
import numpy as np
import optax
from sklearn.datasets import load_digits

import cyclr
from cyclr.jax import range_test

BATCH, EPOCHS = 32, 8


def loss_of(model: eqx.Module, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    x, y = batch
    return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(x), y).mean()


def main() -> None:
    x, y = load_digits(return_X_y=True)
    x, y = (x / 16).astype("float32"), y.astype("int32")
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:1440], order[1440:]
    batches = [(x[part], y[part]) for part in np.split(train, len(train) // BATCH)]
    model = eqx.nn.MLP(64, 10, width_size=64, depth=1, key=jax.random.key(0))

    bounds = range_test(loss_of, model, batches, optimizer=functools.partial(optax.sgd, momentum=0.9)).bounds
    print(bounds.reason)

    cycle = cyclr.OneCycle(bounds.base_lr, bounds.max_lr, total_steps=EPOCHS * len(batches))
    optimizer = optax.inject_hyperparams(optax.sgd)(learning_rate=cycle, momentum=cycle.mirrored(0.85, 0.95))
    state = optimizer.init(eqx.filter(model, eqx.is_array))

    @eqx.filter_jit
    def update(model, state, batch):
        gradients = eqx.filter_grad(loss_of)(model, batch)
        updates, state = optimizer.update(gradients, state)
        return eqx.apply_updates(model, updates), state

    for _ in range(EPOCHS):
        for batch in batches:
            model, state = update(model, state, batch)
    print(f"accuracy {np.mean(np.argmax(jax.vmap(model)(x[test]), axis=1) == y[test]):.3f}")


if __name__ == "__main__":
    main()
