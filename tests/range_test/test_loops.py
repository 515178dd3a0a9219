"""Range tests in real training loops, where what the result has to be is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cyclr import RangeTest


def descend(curvatures, test):
    """Gradient descent on ½ Σ L_i w_i², which is stable below the rate 2 / max L and blows up beyond it."""
    curvatures = np.asarray(curvatures, dtype=np.float64)
    weights = np.ones_like(curvatures)
    for lr in test:
        loss, gradient = 0.5 * np.sum(curvatures * weights**2), curvatures * weights
        weights = weights - lr * gradient
        test.record(loss)
    return test.result()


@settings(max_examples=40)
@given(curvature=st.floats(0.01, 1000))
def test_gradient_descent_on_a_quadratic_is_stable_to_two_over_its_curvature(curvature):
    limit = 2 / curvature
    test = RangeTest(limit * 1e-4, limit * 100, 200)
    result = descend([curvature], test)
    ratio = test.learning_rates[1] / test.learning_rates[0]
    # A loss is taken before its update: it is lowest at the first rate beyond the limit, and rises with the next one.
    assert limit < result.lr[np.argmin(result.loss)] <= limit * ratio
    assert result.stop_reason == "diverged"
    assert limit < result.lr[-1] < limit * 10
    assert result.bounds.status == "ok"
    assert result.bounds.base_lr < result.bounds.max_lr < limit


def test_the_bounds_of_a_quadratic_train_it():
    curvatures = np.array([4.0, 1.0])
    bounds = descend(curvatures, RangeTest(1e-5, 100, 200)).bounds
    schedule = bounds.schedule(total_steps=201, cycles=2)
    weights = np.ones(2)
    for step in range(201):
        weights = weights - schedule(step) * curvatures * weights
    assert 0.5 * np.sum(curvatures * weights**2) < 1e-3 * 0.5 * np.sum(curvatures)


@settings(max_examples=20)
@given(scale=st.floats(1e-6, 1e6))
def test_scaling_the_loss_changes_neither_the_end_nor_the_bounds(scale):
    plain, scaled = (RangeTest(1e-5, 100, 150) for _ in range(2))
    for test, factor in ((plain, 1.0), (scaled, scale)):
        weight = 1.0
        for lr in test:
            loss, gradient = 1 + weight**2, 2 * weight
            weight -= lr * gradient
            test.record(factor * loss)
    a, b = plain.result(), scaled.result()
    assert (a.stop_reason, len(a.lr)) == (b.stop_reason, len(b.lr))
    assert b.bounds.base_lr == pytest.approx(a.bounds.base_lr, rel=1e-6)
    assert b.bounds.max_lr == pytest.approx(a.bounds.max_lr, rel=1e-6)


# GANs, several optimizers and custom loops: torch-lr-finder#16, composer#2361.
def test_a_loop_of_two_players_with_two_optimizers():
    # min over x, max over y of x·y + 0.5·x² − 0.5·y²: each player has its own loss and its own update.
    test = RangeTest(1e-4, 100, 120)
    x, y = 1.0, 1.0
    losses = []
    for lr in test:
        loss_x, loss_y = x * y + 0.5 * x**2 - 0.5 * y**2, -(x * y + 0.5 * x**2 - 0.5 * y**2)
        losses.append(abs(loss_x) + abs(loss_y) + x**2 + y**2)
        x, y = x - lr * (y + x), y - 0.5 * lr * (y - x)
        test.record(losses[-1])
    result = test.result()
    assert result.stop_reason == "diverged"
    assert result.loss.tolist() == losses
    assert result.bounds.status == "ok"


def test_a_loop_over_data_that_ends():
    batches = iter(np.arange(30.0))
    test = RangeTest(1e-4, 1.0, 100)
    for _lr in test:
        batch = next(batches, None)
        if batch is None:
            test.stop("data_exhausted")
            break
        test.record(2.0 - batch / 100)
    result = test.result()
    assert (result.stop_reason, len(result.lr), result.steps) == ("data_exhausted", 30, 100)
    assert result.lr.tolist() == test.learning_rates[:30].tolist()


def test_an_exception_in_the_loop_leaves_what_was_recorded():
    test = RangeTest(1e-4, 1.0, 100)

    def interrupted_loop():
        for number, _lr in enumerate(test):
            if number == 25:
                raise KeyboardInterrupt
            test.record(1.0)

    with pytest.raises(KeyboardInterrupt):
        interrupted_loop()
    result = test.result()
    assert (result.stop_reason, len(result.lr)) == ("interrupted", 25)


def test_a_second_run_gives_the_same_result():
    first, second = (descend([4.0, 1.0], RangeTest(1e-5, 100, 200)) for _ in range(2))
    assert first == second
    assert first.bounds == second.bounds
