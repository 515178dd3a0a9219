"""`WarmRestarts`: falls and jumps, in cycles that stay as they are or grow, as far as steps can be counted."""

import gc
import json
import math
import sys
from bisect import bisect_right
from fractions import Fraction
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.schedules.formulas import FORMULAS, LISTED

import cyclr
from cyclr import Exponential, Halving, Schedule, WarmRestarts, Warmup
from cyclr.schedules.shape import SHAPES

EPS = np.finfo(np.float64).eps
TINY = math.ulp(0.0)  # the last bit of a rate so small that relative errors mean nothing
LARGEST = 2**63 - 1
STEPS = st.integers(0, 300) | st.integers(0, LARGEST) | st.sampled_from([10**12, 10**15, 2**62, LARGEST])
GROWTHS = [1.5, 1.1, 2, 3, 1000]


@cache
def cycles(first, growth):
    """Where the cycles begin and how long they are, as far as 64 bits go, in rational arithmetic."""
    starts, lengths = [0], [first]
    while starts[-1] + lengths[-1] <= LARGEST:
        starts.append(starts[-1] + lengths[-1])
        lengths.append(math.floor(first * Fraction(str(growth)) ** len(lengths) + Fraction(1, 2)))
    return starts, lengths


@pytest.mark.parametrize("first", [1, 7, 10**9])
@pytest.mark.parametrize("growth", GROWTHS)
def test_cycles_grow_exactly_up_to_the_last_step_there_is(growth, first):
    starts, lengths = cycles(first, growth)
    schedule = WarmRestarts(0.0013, 0.37, first, growth=growth)
    steps = np.array(starts[1:])
    assert schedule.cycle(np.array(starts)).tolist() == list(range(len(starts)))
    assert schedule.cycle(steps - 1).tolist() == list(range(len(starts) - 1))
    assert schedule.is_cycle_end(steps - 1).all()
    for start, length in zip(starts, lengths, strict=True):
        assert schedule(start) == schedule.envelope(start)[1] == 0.37
        assert schedule.height(start) == 1.0
        if start > 0:
            assert schedule.is_cycle_end(start - 1)
        if length > 1:
            assert not schedule.is_cycle_end(start)
            assert schedule.cycle(min(start + length - 1, LARGEST)) == schedule.cycle(start)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("growth", GROWTHS)
@given(first=st.sampled_from([1, 2, 10, 12_345, 10**7]), step=STEPS)
def test_values_of_growing_cycles_follow_the_formula(growth, shape, first, step):
    starts, lengths = cycles(first, growth)
    cycle = bisect_right(starts, step) - 1
    height = FORMULAS[shape](1 - Fraction(step - starts[cycle], lengths[cycle]))
    schedule = WarmRestarts(0.001, 0.37, first, growth=growth, shape=shape)
    assert schedule(step) == pytest.approx(0.001 + (0.37 - 0.001) * float(height), rel=0, abs=8 * EPS * 0.37)
    assert schedule(np.array([step]))[0] == pytest.approx(schedule(step), rel=0, abs=4 * EPS * 0.37)
    assert schedule.cycle(step) == cycle


@pytest.mark.parametrize("shape", SHAPES)
@given(length=st.integers(1, 12) | st.integers(1, 10**13), step=STEPS | st.just(10**400))
def test_values_of_equal_cycles_follow_the_formula(shape, length, step):
    schedule = WarmRestarts(0.001, 0.37, length, shape=shape)
    height = FORMULAS[shape](1 - Fraction(step % length, length))
    assert schedule(step) == pytest.approx(0.001 + (0.37 - 0.001) * float(height), rel=0, abs=8 * EPS * 0.37)
    assert schedule.cycle(step) == step // length
    assert schedule.is_cycle_end(step) is ((step + 1) % length == 0)


@given(schedule=..., step=STEPS)
def test_bounds_hold_at_every_step(schedule: WarmRestarts, step):
    low, high = schedule.envelope(step)
    both = schedule.decay is not None and schedule.decay.bounds == "both"
    assert (0.0 if both else schedule.base_lr) <= low <= schedule(step) <= high <= schedule.max_lr
    assert 0.0 <= schedule.height(step) <= 1.0


@given(schedule=..., step=st.integers(0, 10**9))
def test_falls_within_a_cycle_and_jumps_to_the_upper_bound_after_it(schedule: WarmRestarts, step):
    now, then = schedule(step), schedule(step + 1)
    if schedule.is_cycle_end(step):
        assert schedule.cycle(step + 1) == schedule.cycle(step) + 1
        assert then == schedule.envelope(step + 1)[1]
    else:
        assert schedule.cycle(step + 1) == schedule.cycle(step)
        assert then <= now + 4 * max(EPS * schedule.max_lr, TINY)


@pytest.mark.parametrize("growth", [1, 1.5, 2])
@given(factor=st.floats(0.5, 1), cycle=st.integers(0, 20))
def test_decay_per_cycle_lowers_every_peak(growth, factor, cycle):
    length = [math.floor(10 * Fraction(str(growth)) ** i + Fraction(1, 2)) for i in range(cycle)]
    for bounds, expected in (("max", 0.1 + 0.9 * factor**cycle), ("both", factor**cycle)):
        decay = Exponential(factor, bounds, per="cycle")
        assert WarmRestarts(0.1, 1.0, 10, growth=growth, decay=decay)(sum(length)) == pytest.approx(expected, rel=1e-12)
    halving = WarmRestarts(0.0, 1.0, 10, growth=growth, decay=Halving())
    assert halving(sum(length)) == 0.5**cycle


@given(schedule=..., step=STEPS)
def test_the_mirrored_schedule_moves_the_other_way(schedule: WarmRestarts, step):
    momentum = schedule.mirrored(0.85, 0.95)
    assert 0.85 <= momentum(step) <= 0.95
    assert momentum(step) == pytest.approx(0.95 - 0.1 * schedule.height(step), rel=1e-14)
    assert momentum(0) == 0.85


@given(schedule=..., step=STEPS)
def test_json_and_repr_give_back_an_equal_schedule(schedule: WarmRestarts, step):
    for again in (
        Schedule.from_dict(json.loads(json.dumps(schedule.to_dict(), allow_nan=False))),
        eval(repr(schedule), vars(cyclr).copy()),  # noqa: S307
    ):
        assert again == schedule
        assert again(step) == schedule(step)


@pytest.mark.parametrize("step", [2**63, 10**19, 10**400], ids=["2**63", "1e19", "1e400"])
@pytest.mark.parametrize("growth", [1.1, 2, 1000])
def test_steps_beyond_64_bits_are_refused_where_cycles_grow(growth, step):
    schedule = WarmRestarts(0.0, 0.1, 10, growth=growth)
    warmed = Warmup(schedule, 5, every_cycle=True)
    for call in (schedule, schedule.cycle, schedule.is_cycle_end, schedule.envelope, schedule.height, warmed):
        with pytest.raises(ValueError, match=rf"^step must be at most {LARGEST} if cycles grow; got step={step}\.$"):
            call(step)
    assert 0.0 <= schedule(LARGEST) <= 0.1


def test_a_first_cycle_of_huge_length_stays_near_max_lr():
    schedule = WarmRestarts(0.0, 0.1, LARGEST, growth=2)
    assert schedule(np.array([0, 10**12])) == pytest.approx([schedule(0), schedule(10**12)]) == [0.1, 0.1]
    assert schedule.is_cycle_end(LARGEST - 1)


@pytest.mark.parametrize("growth", [1.5, 2, 7, 1000])
def test_unsigned_steps_of_jax_reach_the_cycles_beyond_31_bits(growth):
    jax = pytest.importorskip("jax")
    schedule = WarmRestarts(0.0, 0.1, 10, growth=growth)
    steps = np.array([0, 9, 2**31 - 1, 2**31, 3 * 10**9, 2**32 - 1], dtype=np.uint32)
    values = np.asarray(jax.jit(schedule)(jax.numpy.asarray(steps)), dtype=np.float64)
    np.testing.assert_allclose(values, schedule(steps), rtol=0, atol=4e-8)


def test_cycles_that_grow_slowly_are_many_and_cost_no_more():
    schedule = WarmRestarts(0.0, 0.1, 1, growth=1.005)
    assert schedule.cycle(LARGEST) > 7000
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    gc.disable()
    sys.setprofile(count)
    try:
        schedule(10**12)
    finally:
        sys.setprofile(None)
        gc.enable()
    assert calls < 150


def restarts(base_lr=0.01, max_lr=0.1, cycle_length=10, **more):
    return WarmRestarts(base_lr, max_lr, cycle_length, **more)


@pytest.mark.parametrize(
    ("given", "plain"), [(np.float64(1.5), 1.5), (Fraction(3, 2), 1.5), (np.int64(2), 2), (2.0, 2), (np.float32(1), 1)]
)
def test_a_growth_of_another_kind_is_taken_as_python_has_it(given, plain):
    schedule = restarts(growth=given)
    assert schedule == restarts(growth=plain)
    assert type(schedule.growth) in (int, float)
    assert schedule(123) == restarts(growth=plain)(123)
    assert Schedule.from_dict(json.loads(json.dumps(schedule.to_dict()))) == schedule
    assert eval(repr(schedule), vars(cyclr).copy()) == schedule  # noqa: S307


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"base_lr": 0.2},
            ValueError,
            "max_lr must be greater than base_lr; got base_lr=0.2, max_lr=0.1. Swap them?",
        ),
        (
            {"cycle_length": 0},
            ValueError,
            "cycle_length must be an integer of at least 1; got cycle_length=0. It counts optimizer updates.",
        ),
        (
            {"cycle_length": 2000.0},
            TypeError,
            "cycle_length must be an integer; got cycle_length=2000.0 of type float. It counts optimizer updates.",
        ),
        (
            {"growth": 0.5},
            ValueError,
            "growth must be a finite number of at least 1; got growth=0.5. Cycles may keep their length or grow.",
        ),
        ({"growth": 1.001}, ValueError, "growth must be 1 or at least 1.005; got growth=1.001."),
        (
            {"decay": "halving"},
            TypeError,
            "decay must be a Decay or None; got decay='halving'. Try decay=cyclr.Halving().",
        ),
        (
            {"shape": "cosine"},
            ValueError,
            f"shape must be one of {LISTED}; got shape='cosine'.",
        ),
    ],
    ids=lambda value: None,
)
def test_message(arguments, error, message):
    with pytest.raises(error) as caught:
        restarts(**arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["base_lr", "max_lr", "cycle_length", "growth"])
@pytest.mark.parametrize("value", [None, "2", True, [2], 2j, {}], ids=repr)
def test_a_value_that_is_not_a_number_is_a_type_error(name, value):
    with pytest.raises(TypeError, match=rf"^{name} must be (a number|an integer); got {name}=.* of type "):
        restarts(**{name: value})


@pytest.mark.parametrize("name", ["base_lr", "max_lr", "growth"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1, 10**400], ids=lambda value: f"{value!r:.5}")
def test_an_illegal_number_is_a_value_error(name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be a finite number .*; got {name}={str(value)[:9]}"):
        restarts(**{name: value})


@pytest.mark.parametrize("per", [None, "", "epoch", "Cycle", 1])
def test_an_unknown_per_of_a_decay_is_a_value_error(per):
    with pytest.raises(ValueError, match=r"^per must be one of 'step', 'cycle'; got per="):
        Exponential(0.9, per=per)


def test_arguments_for_the_shape_of_the_cycles_must_be_named():
    with pytest.raises(TypeError, match="arguments by position at most"):
        WarmRestarts(0.01, 0.1, 10, 2)


@pytest.mark.parametrize("growth", [1, 1.5, 2, 3])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_run_of_whole_cycles_follows_the_formula(growth, count):
    g = Fraction(str(growth))
    for total in (2, 3, 7, 20, 41, 100):
        shares = [(g**i - 1) / (g**count - 1) if g > 1 else Fraction(i, count) for i in range(count + 1)]
        starts = [math.floor((total - 1) * share) for share in shares]
        if any(end == start for start, end in pairwise(starts)):
            with pytest.raises(ValueError, match="total_steps must give every cycle at least one step"):
                WarmRestarts.over(total, count, 0.25, 1.0, growth=growth)
            continue
        schedule = WarmRestarts.over(total, count, 0.25, 1.0, growth=growth, shape="parabolic")
        assert (schedule.shape, schedule.total_steps) == ("parabolic", total)
        for step in range(total + 3):
            # The last step is one more of the last cycle, and all after it are like it.
            here = min(step, total - 1)
            cycle = min(bisect_right(starts, here) - 1, count - 1)
            left = Fraction(starts[cycle + 1] - here, starts[cycle + 1] - starts[cycle])
            assert schedule(step) == pytest.approx(0.25 + 0.75 * (1 - (1 - float(left)) ** 2), rel=1e-13)
            assert schedule.cycle(step) == cycle
            assert schedule.is_cycle_end(step) is (step == total - 1 or step + 1 in starts[1:-1])
