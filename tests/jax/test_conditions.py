"""What the result of a range test in JAX says was tested."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cyclr.jax import range_test

X = np.random.default_rng(0).normal(size=(96, 4)).astype("float32")
Y = X @ np.array([1.0, -2.0, 0.5, 3.0], dtype="float32")
BATCHES = [(X[start : start + 16], Y[start : start + 16]) for start in range(0, 96, 16)]


def loss_of(params, batch):
    return jnp.mean((batch[0] @ params["w"] - batch[1]) ** 2)


@pytest.mark.parametrize(
    ("optimizer", "shown"),
    [
        (optax.adamw, "optax.adamw"),
        (functools.partial(optax.sgd, momentum=0.9, nesterov=True), "optax.sgd(momentum=0.9, nesterov=True)"),
        (lambda lr: optax.sgd(lr), None),
    ],
)
def test_the_result_says_what_was_tested(optimizer, shown):
    params = {"w": jnp.zeros(4), "key": jax.random.key(0)}
    tested = range_test(loss_of, params, BATCHES, optimizer=optimizer, steps=20).tested
    assert (tested.get("optimizer"), tested["parameters"], tested["batch_size"]) == (shown, 4, 16)
    assert tested["jax"] == jax.__version__
    assert {"optax", "python", "cyclr", "date"} <= tested.keys()


def test_a_step_of_ones_own_says_what_is_known():
    def step(weights, batch, lr):
        loss, gradient = jax.value_and_grad(lambda w: jnp.mean((batch[0] @ w - batch[1]) ** 2))(weights)
        return weights - lr * gradient, loss

    tested = range_test(step, jnp.zeros(4), BATCHES, steps=20).tested
    assert tested["batch_size"] == 16
    assert "parameters" not in tested
    assert "optimizer" not in tested


def test_an_nnx_model_has_its_class_and_the_parameters_that_are_trained():
    nnx = pytest.importorskip("flax.nnx")

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.norm = nnx.BatchNorm(4, rngs=rngs)
            self.dense = nnx.Linear(4, 1, rngs=rngs)

        def __call__(self, x):
            return self.dense(self.norm(x))[:, 0]

    def loss(model, batch):
        return jnp.mean((model(batch[0]) - batch[1]) ** 2)

    tested = range_test(loss, Net(nnx.Rngs(0)), BATCHES, optimizer=optax.adam, steps=20).tested
    assert (tested["model"], tested["parameters"], tested["optimizer"]) == ("Net", 13, "optax.adam")
    assert "flax" in tested
