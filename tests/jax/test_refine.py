"""Trial cycles in JAX: in chunks as one by one, on the same batches, and with the state as it was."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits

from cyclr import Bounds
from cyclr.jax import range_test
from cyclr.range_test.refine import TrialTest

X, Y = load_digits(return_X_y=True)
X = (X / 16).astype("float32")
BATCHES = [(X[i : i + 64], Y[i : i + 64]) for i in range(0, 1280, 64)]
LENGTH = {"total_steps": 1000, "refine": 500}
PARAMETERS = {
    "hidden": np.random.default_rng(0).normal(0, 0.17, (64, 32)).astype("float32"),
    "out": np.random.default_rng(1).normal(0, 0.2, (32, 10)).astype("float32"),
}


def loss_of(parameters, batch):
    out = jax.nn.relu(batch[0] @ parameters["hidden"]) @ parameters["out"]
    return optax.softmax_cross_entropy_with_integer_labels(out, batch[1]).mean()


def step(parameters, batch, lr):
    loss, gradient = jax.value_and_grad(loss_of)(parameters, batch)
    return jax.tree.map(lambda p, g: p - lr * g, parameters, gradient), loss


def rounded(trials):
    return [(trial.ended, np.round(trial.losses, 3).tolist()) for trial in trials]


def test_chunks_and_single_steps_make_the_same_trials():
    one_by_one = range_test(step, PARAMETERS, BATCHES, chunk=None, **LENGTH)
    assert len(one_by_one.trials) >= 2
    for chunk in (7, 10, 64):
        result = range_test(step, PARAMETERS, BATCHES, chunk=chunk, **LENGTH)
        assert rounded(result.trials) == rounded(one_by_one.trials)
        assert result.bounds.max_lr == pytest.approx(one_by_one.bounds.max_lr, rel=1e-3)


def test_the_losses_are_those_of_training_with_the_schedule():
    result = range_test(step, PARAMETERS, BATCHES, **LENGTH)
    trial = next(trial for trial in result.trials if trial.ended == "completed")
    schedule = Bounds(trial.max_lr / 100, trial.max_lr, "ok", "").schedule(total_steps=len(trial.losses))
    trained_on = [batch for place, batch in enumerate(BATCHES) if place not in (6, 13)]
    parameters, losses = PARAMETERS, []
    for at, batch in zip(range(len(trial.losses)), itertools.cycle(trained_on), strict=False):
        parameters, loss = step(parameters, batch, schedule(at))
        losses.append(float(loss))
    np.testing.assert_allclose(trial.losses, losses, rtol=1e-3)
    kept = np.mean([loss_of(parameters, BATCHES[place]) for place in (6, 13)])
    assert trial.kept == pytest.approx(kept, rel=1e-3)


def test_an_optimizer_by_its_rate_and_validation_data():
    def evaluate(parameters):
        return loss_of(parameters, (X[1280:], Y[1280:]))

    result = range_test(
        loss_of, PARAMETERS, BATCHES, optimizer=optax.adam, evaluate=evaluate, updates_per_rate=2, **LENGTH
    )
    completed = [trial for trial in result.trials if trial.ended == "completed"]
    assert completed
    assert all(0 < trial.kept < 2.5 for trial in completed)
    assert result.bounds.max_lr in {trial.max_lr for trial in result.trials}


def test_batches_that_are_shuffled_by_a_generator_are_the_same_for_all_trials():
    class Shuffled:
        def __init__(self):
            self.rng = np.random.default_rng(3)

        def __iter__(self):
            return (BATCHES[i] for i in self.rng.permutation(len(BATCHES)))

    batches, firsts = Shuffled(), []
    state = batches.rng.bit_generator.state

    def note(test):
        if isinstance(test, TrialTest) and test.recorded == 1:
            firsts.append(test._losses[0])

    range_test(step, PARAMETERS, batches, on_step=note, **LENGTH)
    assert len(firsts) >= 2
    assert len(set(firsts)) == 1
    assert batches.rng.bit_generator.state == state


def test_a_broken_batch_is_left_out_of_the_trials():
    broken = list(BATCHES)
    broken[2] = (np.full_like(X[:64], np.nan), Y[:64])
    result = range_test(step, PARAMETERS, broken, **LENGTH)
    assert result.left_out
    assert "completed" in {trial.ended for trial in result.trials}


def test_an_interrupt_keeps_what_is_known():
    def interrupt(test):
        if isinstance(test, TrialTest) and test.recorded == 30:
            raise KeyboardInterrupt

    result = range_test(step, PARAMETERS, BATCHES, on_step=interrupt, **LENGTH)
    assert [trial.ended for trial in result.trials] == ["interrupted"]
    assert result.bounds.usable


def test_an_iterator_is_refused():
    with pytest.raises(ValueError, match="read again"):
        range_test(step, PARAMETERS, iter(BATCHES), **LENGTH)


def test_the_state_is_as_it_was():
    parameters = jax.tree.map(jnp.array, PARAMETERS)
    range_test(step, parameters, BATCHES, **LENGTH)
    assert all(map(np.array_equal, jax.tree.leaves(parameters), jax.tree.leaves(PARAMETERS)))
