"""Decays: what shrinks, by how much, and how far."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclr import Cyclical, Exponential, Halving, PerCycle, PerStep


@given(up=st.integers(1, 100), down=st.integers(1, 100), cycle=st.integers(0, 1000))
def test_halving_leaves_an_exact_power_of_two_of_the_amplitude(up, down, cycle):
    schedule = Cyclical(0.0, 1.0, up, step_size_down=down, decay=Halving())
    assert schedule(cycle * (up + down) + up) == 0.5**cycle


# torch.optim.lr_scheduler.CyclicLR raises OverflowError in mode triangular2 after about 1,024 cycles.
@pytest.mark.parametrize(
    "step",
    [2 * 1023 + 1, 2 * 1024 + 1, 2 * 1025 + 1, 10**6 + 1, 10**12 + 1, 10**15 + 1, 10**400 + 1],
    ids=["1023", "1024", "1025", "1e6", "1e12", "1e15", "1e400"],
)
def test_triangular2_is_finite_at_any_step(step):
    schedule = Cyclical.from_mode("triangular2", 0.001, 0.1, 1)
    assert 0.001 <= schedule(step) <= 0.1
    assert schedule(step) == pytest.approx(0.001, rel=1e-12)


@given(gamma=st.floats(0.9, 1), step=st.integers(0, 1000))
def test_exponential_multiplies_the_amplitude_by_gamma_every_step(gamma, step):
    schedule, plain = Cyclical(0.1, 1.1, 7, decay=Exponential(gamma)), Cyclical(0.1, 1.1, 7)
    assert schedule(step) == pytest.approx(0.1 + (plain(step) - 0.1) * gamma**step, rel=1e-11)


@given(gamma=st.floats(0.9, 1), step=st.integers(0, 1000))
def test_exponential_of_both_bounds_scales_the_whole_schedule(gamma, step):
    schedule, plain = Cyclical(0.1, 1.1, 7, decay=Exponential(gamma, "both")), Cyclical(0.1, 1.1, 7)
    assert schedule(step) == pytest.approx(plain(step) * gamma**step, rel=1e-11)
    low, high = schedule.envelope(step)
    assert high / low == pytest.approx(11, rel=1e-12)


def test_exponential_is_exact_after_many_steps():
    # (1 − 10⁻⁶)^1000000 in rational arithmetic is too long to write down; its logarithm's series is not.
    gamma = 1 - 1e-6
    exponent = 10**6 * -sum(Fraction(1 - Fraction(gamma)) ** k / k for k in range(1, 6))
    schedule = Cyclical(0.0, 1.0, 1, decay=Exponential(gamma))
    assert schedule.envelope(10**6)[1] == pytest.approx(math.exp(exponent), rel=1e-12)


def test_gamma_one_is_no_decay():
    steps = np.arange(100)
    schedule = Cyclical(0.001, 0.1, 7, decay=Exponential(1.0))
    assert schedule(steps).tolist() == Cyclical(0.001, 0.1, 7)(steps).tolist()


@pytest.mark.parametrize("gamma", [0.5, 1e-300, 5e-324])
@pytest.mark.parametrize("bounds", ["max", "both"])
def test_exponential_goes_to_its_limit_without_overflow(gamma, bounds):
    schedule = Cyclical(0.001, 0.1, 5, decay=Exponential(gamma, bounds))
    assert schedule(10**15) == (0.001 if bounds == "max" else 0.0)


@given(step=st.integers(0, 10**9))
def test_a_function_of_the_cycle_sees_the_index_of_the_cycle_as_an_int(step):
    seen = []
    schedule = Cyclical(0.0, 1.0, 3, step_size_down=2, decay=PerCycle(lambda cycle: seen.append(cycle) or 1.0))
    seen.clear()
    schedule(step)
    schedule(np.array([step, step]))
    assert set(seen) == {step // 5}
    assert {type(cycle) for cycle in seen} == {int}


@given(step=st.integers(0, 10**9))
def test_a_function_of_the_step_sees_the_step_as_an_int(step):
    seen = []
    schedule = Cyclical(0.0, 1.0, 3, decay=PerStep(lambda step: seen.append(step) or 1.0))
    seen.clear()
    schedule(step)
    schedule(np.array([step, step]))
    assert set(seen) == {step}
    assert {type(step) for step in seen} == {int}


def test_functions_can_retype_the_other_decays():
    steps = np.arange(200)
    halving = Cyclical(0.001, 0.1, 5, decay=Halving())(steps)
    exponential = Cyclical(0.001, 0.1, 5, decay=Exponential(0.99))(steps)
    np.testing.assert_allclose(Cyclical(0.001, 0.1, 5, decay=PerCycle(lambda c: 0.5**c))(steps), halving, rtol=1e-14)
    np.testing.assert_allclose(
        Cyclical(0.001, 0.1, 5, decay=PerStep(lambda t: 0.99**t))(steps), exponential, rtol=1e-13
    )


OUTSIDE = [
    pytest.param(lambda index: 1.5, "1.5", id="above-one"),
    pytest.param(lambda index: -0.25, "-0.25", id="negative"),
    pytest.param(lambda index: math.nan, "nan", id="nan"),
    pytest.param(lambda index: math.inf, "inf", id="infinite"),
    pytest.param(lambda index: index, "2.0", id="growing"),
]


@pytest.mark.parametrize(("kind", "argument"), [(PerCycle, "cycle"), (PerStep, "step")])
@pytest.mark.parametrize(("fn", "received"), OUTSIDE)
def test_a_function_that_leaves_zero_to_one_is_rejected_at_construction(kind, argument, fn, received):
    with pytest.raises(ValueError, match="fn must return a factor between 0 and 1; got ") as error:
        kind(fn)
    assert f"got {received} at {argument} " in str(error.value)
    assert str(error.value).endswith("Divide it by its largest value.") is (float(received) > 1)


@pytest.mark.parametrize("late", [1.5, -0.25, math.nan])
def test_a_function_that_leaves_zero_to_one_later_raises_at_that_step(late):
    # The constructor tries a handful of small indices only.
    schedule = Cyclical(0.001, 0.1, 1, decay=PerCycle(lambda cycle: late if cycle == 777 else 1.0))
    assert schedule(2 * 776 + 1) == schedule(2 * 778 + 1) == 0.1
    with pytest.raises(ValueError, match=rf"got {late} at cycle 777\."):
        schedule(2 * 777)
    with pytest.raises(ValueError, match=f"got {late} at cycle"):
        schedule(np.array([0, 2 * 777, 2 * 778]))


def test_the_message_about_a_late_value_of_many_steps_stays_short():
    schedule = Cyclical(0.001, 0.1, 1, decay=PerCycle(lambda cycle: 2.0 if cycle == 777 else 1.0))
    with pytest.raises(ValueError, match=r"got 2\.0") as error:
        schedule(np.arange(10_000))
    assert "777" in str(error.value)
    assert len(str(error.value)) < 200


def test_a_factor_of_one_may_be_off_by_rounding_and_the_bounds_still_hold():
    schedule = Cyclical(0.001, 0.1, 2, decay=PerStep(lambda step: 1.0 + 1e-12))
    assert schedule(2) == 0.1


@pytest.mark.parametrize("fn", [None, 0.5, "0.9", Halving()])
@pytest.mark.parametrize("kind", [PerCycle, PerStep])
def test_another_object_as_function_is_a_type_error(kind, fn):
    with pytest.raises(TypeError, match=r"^fn must be a function of the (cycle|step); got fn="):
        kind(fn)


def test_an_error_of_the_function_is_not_hidden():
    def broken(cycle):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        PerCycle(broken)


@pytest.mark.parametrize("returned", [None, "0.5", True, np.array([0.5])], ids=repr)
@pytest.mark.parametrize(("kind", "argument"), [(PerCycle, "cycle"), (PerStep, "step")])
def test_a_function_that_returns_no_number_is_a_type_error(kind, argument, returned):
    with pytest.raises(TypeError, match=rf"^fn must return a factor between 0 and 1; got .* at {argument} 0\.$"):
        kind(lambda index: returned)


@pytest.mark.parametrize("number", [1, 0.5, np.float32(0.5), np.array(0.5)], ids=repr)
def test_a_function_may_return_any_number(number):
    assert Cyclical(0.0, 1.0, 1, decay=PerCycle(lambda cycle: number))(1) == float(number)


@pytest.mark.parametrize("index", [0, 1, 2, 10])
def test_a_function_is_tried_at_the_first_three_and_at_ten(index):
    with pytest.raises(ValueError, match=f"got 1.5 at cycle {index}"):
        PerCycle(lambda cycle: 1.5 if cycle == index else 1.0)
