"""The range test's driver: which rates it gives, what it takes in, and when it ends."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclr import CyclrError, RangeTest, RangeTestError, RangeTestResult
from cyclr.range_test.driver import divergence_threshold

LOWS = st.floats(1e-12, 1.0)
RATIOS = st.floats(1.01, 1e12)
STEPS = st.integers(2, 300)
SPACINGS = st.sampled_from(["exponential", "linear"])


def drive(test, loss_of, *, steps=None):
    """Drive a test with `loss_of(number, lr)` and return the rates it gave."""
    used = []
    for number, lr in enumerate(test):
        used.append(lr)
        test.record(loss_of(number, lr))
        if number + 1 == steps:
            break
    return used


@given(low=LOWS, ratio=RATIOS, steps=STEPS, spacing=SPACINGS)
def test_a_test_gives_exactly_as_many_rates_as_asked_for_from_the_first_to_the_last(low, ratio, steps, spacing):
    # Elsewhere min_lr is never used, or the last rate is off by a step of the grid.
    test = RangeTest(low, low * ratio, steps, spacing)
    used = drive(test, lambda number, lr: 1.0)
    assert len(used) == len(test) == test.recorded == steps
    assert (used[0], used[-1]) == (low, low * ratio)
    assert np.all(np.diff(used) > 0)
    assert {type(lr) for lr in used} == {float}


@given(low=LOWS, ratio=RATIOS, steps=STEPS)
def test_exponential_spacing_has_equal_ratios(low, ratio, steps):
    used = drive(RangeTest(low, low * ratio, steps), lambda number, lr: 1.0)
    expected = [low * (low * ratio / low) ** (i / (steps - 1)) for i in range(steps)]
    assert used == pytest.approx(expected, rel=1e-12)


@given(low=LOWS, ratio=RATIOS, steps=STEPS)
def test_linear_spacing_has_equal_differences(low, ratio, steps):
    high = low * ratio
    used = drive(RangeTest(low, high, steps, "linear"), lambda number, lr: 1.0)
    expected = [low + (high - low) * i / (steps - 1) for i in range(steps)]
    assert used == pytest.approx(expected, rel=1e-12)


def test_five_rates_over_four_decades():
    # The same sweep gives three different lists in three other finders.
    used = drive(RangeTest(1e-5, 1e-1, 5), lambda number, lr: 1.0)
    assert used == pytest.approx([1e-5, 1e-4, 1e-3, 1e-2, 1e-1], rel=1e-14)


@given(
    losses=st.lists(st.floats(-10, 10), min_size=1, max_size=40),
    steps=st.integers(2, 40),
    spacing=SPACINGS,
    stop_factor=st.none() | st.floats(1.1, 10),
)
def test_what_is_recorded_is_what_was_used(losses, steps, spacing, stop_factor):
    # ignite records a rate one step of the grid above the one used.
    test = RangeTest(1e-4, 1.0, steps, spacing, stop_factor=stop_factor)
    used = drive(test, lambda number, lr: losses[number], steps=len(losses))
    result = test.result()
    assert result.lr.tolist() == used
    assert result.loss.tolist() == losses[: len(used)]
    assert test.recorded == len(used)
    assert (result.swept, result.steps, result.spacing) == ((1e-4, 1.0), steps, spacing)


def test_defaults():
    result_of = RangeTest()
    assert (len(result_of), result_of.learning_rates[0], result_of.learning_rates[-1]) == (150, 1e-6, 10.0)


# The stated reason for stopping is true: ignite#2200, Lightning#5044.


def test_a_test_that_tried_every_rate_is_completed():
    test = RangeTest(1e-3, 1.0, 20)
    drive(test, lambda number, lr: 1.0)
    assert test.stopped
    assert list(test) == []
    assert test.result().stop_reason == "completed"


@pytest.mark.parametrize("constant", [2.3, 1.0, 0.0, -4.0, 1e-300, 1e300])
@given(smoothing=st.floats(0, 0.99), stop_factor=st.floats(1.0001, 10))
def test_a_constant_loss_never_diverges(constant, smoothing, stop_factor):
    test = RangeTest(1e-3, 1.0, 60, stop_factor=stop_factor, smoothing=smoothing)
    drive(test, lambda number, lr: constant)
    assert test.result().stop_reason == "completed"
    assert test.smoothed_loss == pytest.approx(constant, rel=1e-12)


@given(losses=st.lists(st.floats(-10, -1), min_size=20, max_size=20))
def test_a_negative_loss_that_wanders_does_not_diverge(losses):
    test = RangeTest(1e-3, 1.0, 20, stop_factor=11.1)
    drive(test, lambda number, lr: losses[number])
    assert test.result().stop_reason == "completed"


def test_a_negative_loss_that_falls_and_blows_up_diverges():
    test = RangeTest(1e-3, 1.0, 60, smoothing=0.0)
    losses = [-1.0] * 20 + [-5.0] * 20 + [9.9] + [10.1] * 19
    used = drive(test, lambda number, lr: losses[number])
    # Threshold: −5 + 3 · max(5, 4) = 10.
    assert test.result().stop_reason == "diverged"
    assert len(used) == 42


@pytest.mark.parametrize(
    ("initial", "best", "factor", "threshold"),
    [
        (2.0, 2.0, 4.0, 8.0),  # nothing fell: the usual factor · best
        (2.0, 1.5, 4.0, 6.0),
        (2.0, 1e-9, 4.0, 6.0),  # fell to almost 0: three times the fall above it, not four times almost 0
        (2.0, 0.0, 4.0, 6.0),
        (1.0, -1.0, 2.0, 1.0),
        (-4.0, -4.0, 4.0, 8.0),
        (0.0, 0.0, 4.0, 0.0),
    ],
)
def test_the_threshold_of_divergence(initial, best, factor, threshold):
    assert divergence_threshold(initial, best, factor) == pytest.approx(threshold)


@given(
    initial=st.floats(-10, 10),
    fall=st.floats(0, 10),
    factor=st.floats(1.1, 10),
    scale=st.floats(1e-3, 1e3),
)
def test_the_threshold_scales_with_the_loss(initial, fall, factor, scale):
    plain = divergence_threshold(initial, initial - fall, factor)
    scaled = divergence_threshold(scale * initial, scale * (initial - fall), factor)
    assert scaled == pytest.approx(scale * plain, rel=1e-9, abs=1e-9 * scale * 100)


def test_without_a_stop_factor_a_test_goes_to_its_end_whatever_happens():
    test = RangeTest(1e-3, 1.0, 50, stop_factor=None)
    drive(test, lambda number, lr: 10.0**number)
    assert test.result().stop_reason == "completed"
    assert test.recorded == 50


def test_divergence_ends_a_test_and_the_loss_that_showed_it_is_recorded():
    test = RangeTest(1e-3, 1.0, 50, smoothing=0.0)
    drive(test, lambda number, lr: 1.0 if number < 30 else 5.0)
    result = test.result()
    assert result.stop_reason == "diverged"
    assert len(result.loss) == 31
    assert result.loss[-1] == 5.0


# A NaN loss stops neither ignite nor torch-lr-finder, and their suggestion lands beside it.
@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf, np.float32("nan"), np.float64("inf")])
@pytest.mark.parametrize("number", [1, 7, 49])
def test_eleven_non_finite_losses_in_a_row_end_a_test_and_enter_nothing(loss, number):
    test = RangeTest(1e-3, 1.0, 50)
    clean = RangeTest(1e-3, 1.0, 50)
    used = drive(test, lambda n, lr: loss if n >= number else 1.0 + n / 100)
    drive(clean, lambda n, lr: 1.0 + n / 100, steps=number)
    result = test.result()
    assert result.stop_reason == "non_finite"
    assert used == [*clean.learning_rates[:number], *11 * [clean.learning_rates[number]]]
    assert not test.in_doubt
    met = result.ended_by
    assert (met.update, met.lr, met.value) == (number, used[-1], {"nan": "NaN"}.get(str(loss), str(loss)))
    assert f"The test ended because the loss was {met.value} at update {number}, at a learning" in result.bounds.reason
    assert len(result.lr) == len(result.loss) == test.recorded == number
    assert np.all(np.isfinite(result.loss))
    assert test.smoothed_loss == clean.smoothed_loss
    assert result.loss.tolist() == clean.result().loss.tolist()
    assert list(test) == []


@pytest.mark.parametrize("reason", ["data_exhausted", "interrupted"])
def test_a_loop_can_end_a_test_for_its_own_reason(reason):
    test = RangeTest(1e-3, 1.0, 50)
    drive(test, lambda number, lr: 1.0, steps=10)
    assert not test.stopped
    test.stop(reason)
    assert test.stopped
    assert list(test) == []
    assert test.result().stop_reason == reason


def test_the_first_reason_is_kept():
    test = RangeTest(1e-3, 1.0, 10)
    drive(test, lambda number, lr: 1.0)
    test.stop("interrupted")
    assert test.result().stop_reason == "completed"


def test_the_result_before_the_end_is_interrupted():
    test = RangeTest(1e-3, 1.0, 50)
    drive(test, lambda number, lr: 1.0, steps=10)
    result = test.result()
    assert (result.stop_reason, len(result.lr)) == ("interrupted", 10)


def test_a_loop_can_be_continued_after_a_break():
    test = RangeTest(1e-3, 1.0, 50)
    first = drive(test, lambda number, lr: 1.0, steps=20)
    assert len(test.result().lr) == 20
    rest = drive(test, lambda number, lr: 1.0)
    assert first + rest == test.learning_rates.tolist()
    assert test.result().stop_reason == "completed"


@pytest.mark.parametrize("reason", ["completed", "diverged", "non_finite", "bored", None])
def test_a_loop_cannot_give_a_reason_that_is_not_its_own(reason):
    with pytest.raises(ValueError, match=r"^reason must be one of 'data_exhausted', 'interrupted'; got reason="):
        RangeTest().stop(reason)


def test_a_rate_is_refused_until_the_loss_of_the_last_one_is_recorded():
    test = RangeTest(1e-3, 1.0, 50)
    next(test)
    with pytest.raises(
        RangeTestError, match=r"^record\(loss\) was not called for learning rate number 0\. Call it after"
    ):
        next(test)


@pytest.mark.parametrize("driven", [0, 1, 5])
def test_a_loss_without_a_rate_is_an_error(driven):
    test = RangeTest(1e-3, 1.0, 50)
    drive(test, lambda number, lr: 1.0, steps=driven) if driven else None
    with pytest.raises(RangeTestError, match=r"^record\(loss\) was called before a learning rate was taken\. Iterate"):
        test.record(1.0)
    assert test.recorded == driven


def test_a_loss_after_the_end_is_an_error():
    test = RangeTest(1e-3, 1.0, 5)
    drive(test, lambda number, lr: 1.0)
    with pytest.raises(RangeTestError, match="was called before a learning rate was taken"):
        test.record(1.0)


@pytest.mark.parametrize("loss", [None, "no number", object(), [1.0], np.ones(2)], ids=lambda loss: type(loss).__name__)
def test_an_illegal_loss_is_an_error_and_a_legal_one_can_follow(loss):
    test = RangeTest(1e-3, 1.0, 5)
    next(test)
    with pytest.raises((TypeError, ValueError)):
        test.record(loss)
    test.record(1.0)
    assert test.recorded == 1


def test_a_result_of_nothing_is_an_error_that_says_why():
    with pytest.raises(
        RangeTestError, match=r"^a result needs at least one finite loss; got none\. Check that the data"
    ):
        RangeTest().result()
    exhausted, broken = RangeTest(), RangeTest()
    exhausted.stop("data_exhausted")
    drive(broken, lambda number, lr: math.nan)
    with pytest.raises(RangeTestError, match=r"got none \(the data ended\)"):
        exhausted.result()
    with pytest.raises(
        RangeTestError,
        match=r"got none \(the loss became infinite or NaN\): the loss was NaN at update 0, at a learning rate of ",
    ) as error:
        broken.result()
    assert isinstance(error.value, CyclrError)


def of_numpy():
    return {1.0: 1, 1.5: 1.5, 0.25: np.float32(0.25), 0.5: np.array(0.5), 2.5: np.array([[2.5]]), 0.0: False}, np.array


def of_torch():
    torch = pytest.importorskip("torch")
    weight = torch.tensor(3.0, requires_grad=True)
    bf16 = torch.tensor([[2.5]], dtype=torch.bfloat16)
    return {0.75: torch.tensor(0.75), 3.0: weight, 6.0: 2 * weight.reshape(1), 2.5: bf16}, torch.tensor


def of_tensorflow():
    tf = pytest.importorskip("tensorflow")
    double = tf.Variable([1.5], dtype=tf.float64)
    return {0.75: tf.constant(0.75), 2.5: tf.constant([[2.5]]), 0.5: tf.Variable(0.5), 1.5: double}, tf.constant


def of_jax():
    jnp = pytest.importorskip("jax.numpy")
    return {0.75: jnp.asarray(0.75), 1.0: jnp.ones((1, 1), jnp.bfloat16)}, jnp.asarray


@pytest.mark.parametrize("kind", [of_numpy, of_torch, of_tensorflow, of_jax])
def test_losses_of_any_kind_that_is_one_number_are_taken(kind):
    losses, several = kind()
    test = RangeTest(1e-3, 1.0, len(losses) + 1, stop_factor=None)
    for loss in losses.values():
        next(test)
        test.record(loss)
    assert test.result().loss.tolist() == list(losses)
    next(test)
    for none in (several([1.0, 2.0]), several([])):
        with pytest.raises(
            TypeError, match=r"^loss must be a number, or an array or tensor of one element; got loss of shape"
        ):
            test.record(none)


@pytest.mark.parametrize(
    "loss",
    [None, "1.0", b"1", np.array("1.0"), np.array([1.0, 2.0]), np.array([]), [1.0], 10**400],
    ids=lambda loss: repr(loss)[:20],
)
def test_a_loss_that_is_not_a_number_is_a_type_error_and_a_number_can_follow(loss):
    test = RangeTest(1e-3, 1.0, 10)
    next(test)
    with pytest.raises(TypeError, match=r"^loss must be a number, or an array or tensor of one element; got loss"):
        test.record(loss)
    test.record(1.0)
    assert test.recorded == 1


def test_the_mean_of_losses_whose_sum_is_too_large_is_recorded():
    test = RangeTest(1e-3, 1.0, 10, updates_per_rate=2)
    for loss in (1e308, 1e308):
        next(test)
        test.record(loss)
    assert test.result().loss.tolist() == [1e308]


@pytest.mark.parametrize("losses", [[1e308, -1e308], [1.7e308, 1.7e308]], ids=["alternating", "constant"])
def test_losses_near_the_largest_float_are_recorded(losses):
    test = RangeTest(1e-3, 1.0, 40)
    drive(test, lambda number, lr: losses[number % 2])
    assert test.result().stop_reason == "completed"
    assert math.isfinite(test.smoothed_loss)


def test_no_test_diverges_before_bounds_could_be_read_off_it():
    test = RangeTest(1e-3, 1.0, 50)
    used = drive(test, lambda number, lr: 10.0**number)
    assert test.result().stop_reason == "diverged"
    assert len(used) == 12


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_a_loss_that_starts_near_0_goes_to_where_it_blows_up(scale):
    ends = []
    for seed in range(50):
        test = RangeTest()
        lr = test.learning_rates
        noise = 0.1 * np.random.default_rng(seed).standard_normal(len(lr))
        losses = iter(scale * (noise - 5 * lr / (lr + 0.01) + (lr / 0.5) ** 2))
        drive(test, lambda number, lr, losses=losses: next(losses))
        ends.append(test.result().lr[-1])
    assert min(ends) > 0.5


def test_the_smoothed_loss_is_there_to_be_watched():
    test = RangeTest(1e-3, 1.0, 10, smoothing=0.5)
    assert math.isnan(test.smoothed_loss)
    seen = []
    for number, _ in enumerate(test):
        test.record([1.0, 1.0, 4.0][number])
        seen.append(test.smoothed_loss)
        if number == 2:
            break
    # (1 · 0.125 + 1 · 0.25 + 4 · 0.5) / 0.875
    assert seen == pytest.approx([1.0, 1.0, 2.375 / 0.875])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"min_lr": 0},
            ValueError,
            "min_lr must be a finite number greater than 0; got min_lr=0. A sweep starts at a tiny",
        ),
        ({"min_lr": -1e-6}, ValueError, "min_lr must be a finite number greater than 0; got min_lr=-1e-06"),
        ({"min_lr": math.nan}, ValueError, "min_lr must be a finite number greater than 0; got min_lr=nan"),
        ({"min_lr": "1e-6"}, TypeError, "min_lr must be a number; got min_lr='1e-6' of type str"),
        ({"min_lr": None}, TypeError, "min_lr must be a number; got min_lr=None"),
        ({"max_lr": math.inf}, ValueError, "max_lr must be a finite number greater than 0; got max_lr=inf"),
        ({"max_lr": True}, TypeError, "max_lr must be a number; got max_lr=True of type bool"),
        (
            {"min_lr": 1, "max_lr": 0.1},
            ValueError,
            "max_lr must be greater than min_lr; got min_lr=1.0, max_lr=0.1. Swap them",
        ),
        (
            {"min_lr": 1, "max_lr": 1},
            ValueError,
            "max_lr must be greater than min_lr; got min_lr=1.0, max_lr=1. A range needs",
        ),
        ({"min_lr": 1.0, "max_lr": 1 + 1e-15}, ValueError, "max_lr must be .*; got .*"),
        ({"steps": 1}, ValueError, "steps must be an integer of at least 2; got steps=1"),
        ({"steps": 10**8}, ValueError, "steps must be an integer of at most 10000000; got steps=100000000"),
        ({"steps": 150.0}, TypeError, "steps must be an integer; got steps=150.0 of type float"),
        ({"steps": True}, TypeError, "steps must be an integer; got steps=True of type bool"),
        ({"spacing": "log"}, ValueError, "spacing must be one of 'exponential', 'linear'; got spacing='log'"),
        ({"stop_factor": 1}, ValueError, "stop_factor must be a finite number greater than 1; got stop_factor=1"),
        ({"stop_factor": "4"}, TypeError, "stop_factor must be a number; got stop_factor='4'"),
        ({"smoothing": -0.1}, ValueError, "smoothing must be a finite number of at least 0 and .*; got smoothing=-0.1"),
        ({"smoothing": 1}, ValueError, "smoothing must be .*; got smoothing=1"),
        ({"smoothing": None}, TypeError, "smoothing must be a number; got smoothing=None"),
    ],
    ids=str,
)
def test_an_argument_out_of_range_is_an_error_at_construction(arguments, error, message):
    with pytest.raises(error, match="^" + message):
        RangeTest(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 10**400}, "steps must be an integer of at most 10000000; got steps=1000.* [(]401 characters"),
        ({"steps": 10**5000}, "steps must be .*; got steps=<int that is too long to print>"),
        ({"min_lr": 10**400}, "min_lr must be a finite number greater than 0; got min_lr=1000"),
        ({"updates_per_rate": 10**400}, "updates_per_rate must be an integer of at most 1000000; got"),
        ({"spacing": "x" * 10**6}, "spacing must be .*; got spacing='xxx"),
    ],
    ids=range(5),
)
def test_huge_arguments_are_a_short_error(arguments, message):
    with pytest.raises(ValueError, match="^" + message) as error:
        RangeTest(**arguments)
    assert len(str(error.value)) < 400


@given(low=st.floats(1e-6, 1.0), ulps=st.integers(1, 2000), steps=STEPS, spacing=SPACINGS)
def test_equal_learning_rates_are_an_error_at_construction(low, ulps, steps, spacing):
    high = low * (1 + ulps * np.finfo(np.float64).eps)
    try:
        test = RangeTest(low, high, steps, spacing)
    except ValueError:
        return
    drive(test, lambda number, lr: 1.0)
    assert np.all(np.diff(test.result().lr) > 0)


@given(updates=st.integers(1, 5), steps=st.integers(2, 12), losses=st.data())
def test_several_updates_make_one_point_of_their_mean_loss(updates, steps, losses):
    values = losses.draw(st.lists(st.floats(-1e3, 1e3), min_size=updates * steps, max_size=updates * steps))
    test = RangeTest(1e-3, 1.0, steps, stop_factor=None, updates_per_rate=updates)
    used = drive(test, lambda number, lr: values[number])
    assert used == np.repeat(test.learning_rates, updates).tolist()
    result = test.result()
    assert (len(test), test.recorded, result.stop_reason) == (steps, steps, "completed")
    np.testing.assert_allclose(result.loss, np.reshape(values, (steps, updates)).mean(1), rtol=1e-9, atol=1e-9)


def test_an_unfinished_learning_rate_is_not_recorded():
    test = RangeTest(1e-3, 1.0, 10, updates_per_rate=3)
    drive(test, lambda number, lr: 1.0, steps=8)
    test.stop("data_exhausted")
    assert len(test.result().lr) == 2


@pytest.mark.parametrize("number", [0, 1, 2])
def test_any_losses_of_a_rate_that_are_not_finite_stop_the_test(number):
    test = RangeTest(1e-3, 1.0, 10, updates_per_rate=3)
    drive(test, lambda index, lr: math.nan if index >= 6 + number else 1.0)
    assert (test.result().stop_reason, test.recorded) == ("non_finite", 2)


@pytest.mark.parametrize("updates", [1, 3])
@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("bad", [{0}, {7}, {0, 2, 4}, {28}, {3, 4}, set(range(10)), set(range(1, 30, 2))], ids=str)
def test_a_broken_batch_is_left_out_and_the_next_one_gets_its_rate(bad, loss, updates):
    test, clean = (RangeTest(1e-3, 1.0, 30, updates_per_rate=updates) for _ in range(2))
    doubts = []

    def loss_of(number, lr):
        doubts.append(test.in_doubt)
        return loss if number in bad else 2.0 - test.recorded / 30

    used = drive(test, loss_of)
    assert [number for number, doubt in enumerate(doubts) if doubt] == sorted(number + 1 for number in bad)
    expected = drive(clean, lambda number, lr: 2.0 - clean.recorded / 30)
    assert [lr for number, lr in enumerate(used) if number not in bad] == expected
    result, wanted = test.result(), clean.result()
    assert (result.stop_reason, result.loss.tolist()) == ("completed", wanted.loss.tolist())
    value = "NaN" if math.isnan(loss) else str(loss)
    assert [(met.update, met.lr, met.value) for met in result.left_out] == [(n, used[n], value) for n in sorted(bad)]
    assert (result.bounds.max_lr, result.bounds.status) == (wanted.bounds.max_lr, wanted.bounds.status)
    one = "1 broken batch was left out" if len(bad) == 1 else f"{len(bad)} broken batches were left out"
    assert result.bounds.reason.startswith(f"{wanted.bounds.reason} {one}, ")
    assert f"update {min(bad)} ({value}, at a learning rate of" in result.bounds.reason


def test_a_broken_batch_after_one_with_a_high_loss_is_left_out():
    test = RangeTest(1e-3, 1.0, 50)
    drive(test, lambda number, lr: math.inf if number == 30 else 50.0 if number == 29 else 10.0)
    result = test.result()
    assert (result.stop_reason, [met.update for met in result.left_out]) == ("completed", [30])


def test_data_that_end_after_a_broken_batch_give_no_upper_bound():
    test = RangeTest(1e-3, 1.0, 50)
    drive(test, lambda number, lr: math.nan if number == 30 else 1.0, steps=31)
    assert test.in_doubt
    test.stop("data_exhausted")
    result = test.result()
    assert (result.stop_reason, result.left_out, test.in_doubt) == ("data_exhausted", (), False)
    assert "unstable" not in result.bounds.reason
    assert "At its end, the loss was NaN at update 30, at a learning rate" in result.bounds.reason


def test_few_points_before_a_nan_advise_to_check_the_data():
    test = RangeTest(restores=True)
    drive(test, lambda number, lr: math.inf if number >= 6 else 1.0)
    reason = test.result().bounds.reason
    assert "check the data for values that are not finite, scale the inputs, or lower min_lr" in reason
    assert "the loss was inf at update 6, at a learning rate of 1.9e-06" in reason
    assert "more steps" not in reason


@given(updates=st.integers(1, 4), made=st.integers(0, 40), count=st.integers(1, 60))
def test_upcoming_gives_the_rates_that_follow(updates, made, count):
    test = RangeTest(1e-3, 1.0, 10, stop_factor=None, updates_per_rate=updates)
    drive(test, lambda number, lr: 1.0, steps=made) if made else None
    expected = test.upcoming(count).tolist()
    assert drive(test, lambda number, lr: 1.0)[:count] == expected


def test_an_evaluation_is_recorded_instead_of_the_losses_once_a_rate():
    calls = itertools.count()
    test = RangeTest(1e-3, 1.0, 6, updates_per_rate=4, evaluate=lambda: 10 - next(calls))
    drive(test, lambda number, lr: 1.0)
    assert test.result().loss.tolist() == [10, 9, 8, 7, 6, 5]
    assert next(calls) == 6


def test_an_evaluation_that_is_not_finite_stops_the_test():
    test = RangeTest(1e-3, 1.0, 6, evaluate=iter([1.0, 1.0, math.inf]).__next__)
    drive(test, lambda number, lr: 1.0)
    assert (test.result().stop_reason, test.recorded) == ("non_finite", 2)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"updates_per_rate": 0}, ValueError, "^updates_per_rate must be an integer of at least 1; got"),
        ({"updates_per_rate": 1.5}, TypeError, "^updates_per_rate must be an integer; got"),
        ({"evaluate": 1.0}, TypeError, "^evaluate must be a function that returns a number; got evaluate=1.0"),
    ],
)
def test_an_option_out_of_range_is_an_error(arguments, error, message):
    with pytest.raises(error, match=message):
        RangeTest(**arguments)


@pytest.mark.parametrize("restores", [True, False])
def test_a_loop_that_restores_nothing_gets_no_upper_bound_from_nan(restores):
    def train(test):
        weight, before = 0.0, 0.0
        for number, lr in enumerate(test):
            if test.in_doubt and restores:
                weight = before
            before = weight
            broken = math.nan if number == 20 else 1.0
            loss = (weight - 1) ** 2 * broken
            weight -= lr * 2 * (weight - 1) * broken
            test.record(loss)
        return test.result()

    result = train(RangeTest(1e-3, 100.0, 60, restores=restores))
    if restores:
        assert (result.bounds.status, len(result.left_out), result.stop_reason) == ("ok", 1, "diverged")
    else:
        assert (result.bounds.status, result.left_out, result.stop_reason) == ("no_divergence", (), "non_finite")
        assert (
            "because of a broken batch or because the learning rate is too high. Check the data for values"
            in result.bounds.reason
        )
        assert (
            "The test ended because the loss was NaN at update 20, at a learning rate of 0.05" in result.bounds.reason
        )
        assert RangeTestResult.from_dict(result.to_dict()).ended_by == result.ended_by
