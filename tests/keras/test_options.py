"""Options of `range_test`: what is recorded, and that every one of them leaves no trace."""

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import ops

from cyclr.keras import range_test

pytestmark = pytest.mark.any_backend

RNG = np.random.default_rng(3)
X = RNG.normal(size=(40, 4)).astype("float32")
Y = (X @ np.array([[1.0], [-2.0], [0.5], [0.0]])).astype("float32")
SWEEP = {"min_lr": 1e-3, "max_lr": 0.05, "steps": 8, "batch_size": 8, "stop_factor": None}


def make():
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Dense(5, "relu"), keras.layers.BatchNormalization(), keras.layers.Dropout(0.4)]
    model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.01), "mse", run_eagerly=keras.backend.backend() == "tensorflow")
    return model


def trained(model):
    return model.fit(X, Y, batch_size=8, verbose=0).history["loss"]


def validation(model):
    return model.evaluate(X, Y, verbose=0)


OPTIONS = {
    "updates_per_rate": {"updates_per_rate": 3},
    "evaluate": {"evaluate": validation},
    "repeats": {"repeats": 2},
    "snapshot_dir": {},
    "all": {"updates_per_rate": 2, "evaluate": validation, "repeats": 2},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_no_option_leaves_a_trace(name, state_of, tmp_path):
    model, twin = make(), make()
    options = OPTIONS[name] | ({"snapshot_dir": tmp_path} if name in ("snapshot_dir", "all") else {})
    keras.utils.set_random_seed(2)
    result = range_test(model, X, Y, **SWEEP, **options)
    assert (result.stop_reason, len(result.lr)) == ("completed", 8)
    assert list(tmp_path.iterdir()) == []
    found = trained(model)
    keras.utils.set_random_seed(2)
    assert found == trained(twin)
    for one, other in zip(state_of(model), state_of(twin), strict=True):
        np.testing.assert_array_equal(one, other)


@given(
    step=st.integers(1, 16),
    error=st.sampled_from([KeyboardInterrupt, ArithmeticError, SystemExit]),
    spill=st.booleans(),
)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_is_left_behind_wherever_it_is_interrupted(step, error, spill, state_of, tmp_path_factory):
    model, folder, left = make(), tmp_path_factory.mktemp("spill"), step
    model.optimizer.build(model.trainable_variables)
    before = state_of(model)

    def on_step(test):
        nonlocal left
        left -= 1
        if left == 0:
            raise error

    with pytest.raises(error):
        range_test(model, X, Y, **SWEEP, repeats=2, on_step=on_step, snapshot_dir=folder if spill else None)
    for one, other in zip(before, state_of(model), strict=True):
        np.testing.assert_array_equal(one, other)
    assert list(folder.iterdir()) == []


@pytest.mark.every_backend
def test_a_snapshot_on_disk_is_all_of_the_state(tmp_path):
    model, sizes = make(), []

    def look(test):
        [folder] = tmp_path.iterdir()
        sizes.append(sum(path.stat().st_size for path in folder.iterdir()))

    range_test(model, X, Y, **SWEEP, snapshot_dir=tmp_path, on_step=look)
    weights = sum(ops.size(variable) * 4 for variable in model.trainable_variables)
    assert min(sizes) >= 3 * weights  # The weights and both of Adam's slots.


def test_several_updates_make_one_point_of_their_mean_loss(linear_model, losses_by_hand):
    sweep = {**SWEEP, "shuffle": False, "steps": 6}
    result = range_test(linear_model(keras.optimizers.SGD()), X[:, :3], Y, **sweep, updates_per_rate=3)
    by_hand = losses_by_hand(np.repeat(result.lr, 3), X[:, :3], Y, batch_size=8)
    np.testing.assert_allclose(result.loss, by_hand.reshape(6, 3).mean(1), rtol=1e-5)


def test_several_updates_at_the_rates_of_a_schedule(linear_model, losses_by_hand):
    sweep = {**SWEEP, "shuffle": False, "steps": 6}
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    result = range_test(linear_model(keras.optimizers.SGD(schedule)), X[:, :3], Y, **sweep, updates_per_rate=3)
    by_hand = losses_by_hand(np.repeat(result.lr, 3), X[:, :3], Y, batch_size=8)
    np.testing.assert_allclose(result.loss, by_hand.reshape(6, 3).mean(1), rtol=1e-5)


def test_an_evaluation_is_of_the_model_after_the_update(linear_model, losses_by_hand):
    x = X[:, :3]
    sweep = {**SWEEP, "shuffle": False, "steps": 6, "batch_size": 40}
    model = linear_model(keras.optimizers.SGD(), metrics=["mae"])
    result = range_test(model, x, Y, **sweep, evaluate=lambda model: model.evaluate(x, Y, verbose=0)[0])
    # All of the data are one batch: the loss after an update is the loss of the next batch before its own.
    by_hand = losses_by_hand([*result.lr, 0.0], x, Y, batch_size=40)
    np.testing.assert_allclose(result.loss, by_hand[1:], rtol=1e-5)


def test_repeats_are_the_tests_with_the_next_seeds():
    model = make()
    together = range_test(model, X, Y, **SWEEP, repeats=2, seed=5)
    alone = [range_test(model, X, Y, **SWEEP, seed=seed) for seed in (5, 6)]
    np.testing.assert_allclose(together.runs, [result.loss for result in alone], rtol=1e-6)
