"""The range test of JAX: losses by hand, whatever is compiled, and the state as it was."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cyclr import RangeTestError
from cyclr.jax import range_test

RNG = np.random.default_rng(4)
X = RNG.normal(size=(40, 3)).astype("float32")
Y = (X @ np.array([1.0, -2.0, 0.5]) + 0.3 * RNG.normal(size=40)).astype("float32")
BATCHES = [(X[i : i + 8], Y[i : i + 8]) for i in range(0, 40, 8)]
SWEEP = {"min_lr": 1e-3, "max_lr": 0.1, "steps": 23, "stop_factor": None}


def loss_of(weights, batch):
    x, y = batch
    return jnp.mean((x @ weights - y) ** 2)


def step(weights, batch, lr):
    loss, gradient = jax.value_and_grad(loss_of)(weights, batch)
    return weights - lr * gradient, loss


def losses_by_hand(rates, batches=BATCHES):
    weights, losses = np.zeros(3), []
    for rate, (x, y) in zip(rates, itertools.cycle(batches), strict=False):
        error = x.astype("float64") @ weights - y
        losses.append(np.mean(error**2))
        weights = weights - rate * 2 * x.T @ error / len(error)
    return losses


@pytest.mark.parametrize("chunk", [None, 1, 4, 10, 100])
def test_losses_are_those_of_the_batches_and_every_rate_is_used(chunk):
    result = range_test(step, jnp.zeros(3), BATCHES, **SWEEP, chunk=chunk)
    assert (result.stop_reason, result.steps) == ("completed", 23)
    np.testing.assert_allclose(result.lr, np.geomspace(1e-3, 0.1, 23), rtol=1e-12)
    np.testing.assert_allclose(result.loss, losses_by_hand(result.lr), rtol=1e-5)


@pytest.mark.parametrize("chunk", [None, 3, 10])
def test_batches_of_different_sizes(chunk):
    batches = [(X[i : i + 9], Y[i : i + 9]) for i in range(0, 40, 9)]
    result = range_test(step, jnp.zeros(3), batches, **SWEEP, chunk=chunk)
    np.testing.assert_allclose(result.loss, losses_by_hand(result.lr, batches), rtol=1e-5)


def test_the_state_is_as_it_was_and_any_pytree_will_do():
    state = {"weights": jnp.zeros(3), "rest": (jnp.ones(2), jax.random.key(3))}

    def tree_step(state, batch, lr):
        weights, loss = step(state["weights"], (batch["x"], batch["y"]), lr)
        ones, key = state["rest"]
        return {"weights": weights, "rest": (ones * 0.5, jax.random.split(key)[0])}, loss

    batches = [{"x": x, "y": y} for x, y in BATCHES]
    first = range_test(tree_step, state, batches, **SWEEP)
    np.testing.assert_array_equal(state["weights"], np.zeros(3))
    assert range_test(tree_step, state, batches, **SWEEP) == first
    np.testing.assert_allclose(first.loss, losses_by_hand(first.lr), rtol=1e-5)


@pytest.mark.parametrize("chunk", [None, 7, 50])
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"max_lr": 1e3, "stop_factor": 1.5, "smoothing": 0.0}, "diverged"),
        ({"max_lr": 1e30, "steps": 60}, "non_finite"),
        ({}, "completed"),
    ],
)
def test_it_stops_for_the_same_reason_at_the_same_step_whatever_runs_in_one_call(chunk, changes, reason):
    result = range_test(step, jnp.zeros(3), BATCHES, **{**SWEEP, **changes}, chunk=chunk)
    assert result.stop_reason == reason
    assert len(result.loss) == len(range_test(step, jnp.zeros(3), BATCHES, **{**SWEEP, **changes}, chunk=1).loss)
    assert np.isfinite(result.loss).all()


@pytest.mark.parametrize("chunk", [None, 1, 10])
def test_an_iterator_is_read_once(chunk):
    result = range_test(step, jnp.zeros(3), iter(BATCHES), **SWEEP, chunk=chunk)
    assert (result.stop_reason, len(result.loss)) == ("data_exhausted", 5)
    endless = itertools.cycle(BATCHES)
    assert range_test(step, jnp.zeros(3), endless, **SWEEP, chunk=chunk).stop_reason == "completed"
    if chunk == 1:
        np.testing.assert_array_equal(next(endless)[0], BATCHES[23 % 5][0])


def test_a_step_is_compiled_once():
    traces = []

    def counted(weights, batch, lr):
        traces.append(0)
        return step(weights, batch, lr)

    range_test(counted, jnp.zeros(3), BATCHES, **{**SWEEP, "steps": 40})
    assert len(traces) == 1


def test_on_step_is_called_for_every_point():
    seen = []
    range_test(step, jnp.zeros(3), BATCHES, **SWEEP, on_step=lambda test: seen.append(test.recorded))
    assert seen == list(range(1, 24))


@pytest.mark.parametrize("batches", [[], iter([])])
def test_no_data_is_an_error(batches):
    with pytest.raises(RangeTestError, match="needs at least one finite loss"):
        range_test(step, jnp.zeros(3), batches, **SWEEP)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"chunk": 0}, ValueError, "chunk must be an integer of at least 1; got chunk=0"),
        ({"chunk": 2.5}, TypeError, "chunk must be an integer"),
        ({"min_lr": 0.0}, ValueError, "min_lr must be"),
        ({"step_fn": None}, TypeError, "step_fn must be a function of state, batch and learning rate; got"),
    ],
)
def test_a_wrong_argument_is_refused_at_once(arguments, error, message):
    with pytest.raises(error, match=message):
        range_test(**{"step_fn": step, "state": jnp.zeros(3), "batches": BATCHES, **arguments})


@pytest.mark.parametrize("chunk", [None, 4, 10])
def test_several_updates_make_one_point_of_their_mean_loss(chunk):
    result = range_test(step, jnp.zeros(3), BATCHES, **SWEEP, updates_per_rate=3, chunk=chunk)
    by_hand = losses_by_hand(np.repeat(result.lr, 3))
    np.testing.assert_allclose(result.loss, np.reshape(by_hand, (23, 3)).mean(1), rtol=1e-5)


@pytest.mark.parametrize("updates", [1, 3])
def test_an_evaluation_is_of_the_state_after_the_updates_of_a_rate(updates):
    whole = [(X, Y)]
    result = range_test(
        step, jnp.zeros(3), whole, **SWEEP, updates_per_rate=updates, evaluate=lambda weights: loss_of(weights, (X, Y))
    )
    by_hand = losses_by_hand([*np.repeat(result.lr, updates), 0.0], whole)
    np.testing.assert_allclose(result.loss, by_hand[updates::updates], rtol=1e-5)
