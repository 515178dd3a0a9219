"""JAX: a range test of an Optax chain of clipping and AdamW, then training with a schedule.

    python examples/loops/optax_chain.py

Needs: pip install "cyclr[jax]" optax scikit-learn.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

from cyclr.jax import range_test

BATCH, EPOCHS = 32, 8


def make_optimizer(lr) -> optax.GradientTransformation:
    """Return the optimizer for a learning rate, a number or a schedule. Biases have no weight decay."""
    decays = lambda params: jax.tree.map(lambda param: param.ndim > 1, params)  # noqa: E731
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(lr, weight_decay=0.1, mask=decays))


def predict(params, x):
    return jax.nn.relu(x @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]


def loss_of(params, batch):
    x, y = batch
    return optax.softmax_cross_entropy_with_integer_labels(predict(params, x), y).mean()


def main() -> None:
    x, y = load_digits(return_X_y=True)
    x, y = (x / 16).astype("float32"), y.astype("int32")
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:1440], order[1440:]
    batches = [(x[part], y[part]) for part in np.split(train, len(train) // BATCH)]
    first, second = jax.random.split(jax.random.key(0))
    draw = jax.nn.initializers.he_normal()
    params = {"w1": draw(first, (64, 64)), "b1": jnp.zeros(64), "w2": draw(second, (64, 10)), "b2": jnp.zeros(10)}

    bounds = range_test(loss_of, params, batches, optimizer=make_optimizer).bounds
    print(bounds.reason)

    optimizer = make_optimizer(bounds.schedule(epochs=EPOCHS, steps_per_epoch=len(batches)))
    state = optimizer.init(params)

    @jax.jit
    def update(params, state, batch):
        updates, state = optimizer.update(jax.grad(loss_of)(params, batch), state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(EPOCHS):
        for batch in batches:
            params, state = update(params, state, batch)
    print(f"accuracy {np.mean(np.argmax(predict(params, x[test]), axis=1) == y[test]):.3f}")


if __name__ == "__main__":
    main()
