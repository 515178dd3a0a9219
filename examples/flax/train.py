"""Flax NNX and Optax: run a range test, then train with one cycle between the bounds, on scanned digits.

    python examples/flax/train.py

Needs: pip install "cyclr[jax]" flax optax scikit-learn.
"""

import functools

import jax
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits

import cyclr
from cyclr.jax import range_test

BATCH, EPOCHS = 32, 8


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
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:1440], order[1440:]
    batches = [(x[part], y[part]) for part in np.split(train, len(train) // BATCH)]
    model = Classifier(nnx.Rngs(0))

    # A function that returns an optimizer for a learning rate or a schedule.
    sgd = functools.partial(optax.sgd, momentum=0.9)
    bounds = range_test(loss_of, model, batches, optimizer=sgd).bounds
    print(bounds.reason)

    # Every cyclr schedule is also an Optax schedule.
    schedule: cyclr.Schedule = bounds.schedule(total_steps=EPOCHS * len(batches))
    optimizer = nnx.Optimizer(model, sgd(schedule), wrt=nnx.Param)

    @nnx.jit
    def update(model, optimizer, batch):
        loss, gradients = nnx.value_and_grad(loss_of)(model, batch)
        optimizer.update(model, gradients)
        return loss

    for _ in range(EPOCHS):
        for batch in batches:
            update(model, optimizer, batch)
    model.eval()
    print(f"accuracy {np.mean(np.argmax(model(x[test]), axis=1) == y[test]):.3f}")


if __name__ == "__main__":
    main()
