"""`OneCycle`: up once, down once, and the bounds and ends exactly where the docstring puts them."""

import json
import math
import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.schedules.formulas import FORMULAS, LISTED

import cyclr
from cyclr import OneCycle, Schedule
from cyclr.schedules.shape import SHAPES

EPS = np.finfo(np.float64).eps
TINY = math.ulp(0.0)  # the last bit of a rate so small that relative errors mean nothing
STEPS = st.integers(0, 100) | st.integers(0, 10**7 + 100) | st.sampled_from([10**12, 10**15, 10**400])


def formula(step, base_lr, max_lr, total, up, down, final_lr, shape):
    """The docstring's formula; `down` is None for two phases. Positions are exact."""
    step = min(step, total - 1)
    top = total - 1 if down is None else up + down
    middle = final_lr if down is None else base_lr
    if step <= up:
        begin, end, height = max_lr, base_lr, FORMULAS[shape](Fraction(step, up))
    elif step <= top:
        begin, end, height = max_lr, middle, FORMULAS[shape](1 - Fraction(step - up, top - up))
    else:
        begin, end, height = base_lr, final_lr, FORMULAS[shape](1 - Fraction(step - top, total - 1 - top))
    return end + (begin - end) * float(height)


@st.composite
def phases(draw, longest=10**7):
    """total_steps, steps up, and steps down or None."""
    total = draw(st.integers(4, 30) | st.integers(4, longest))
    up = draw(st.integers(1, total - 3))
    return total, up, draw(st.none() | st.integers(1, total - 2 - up))


@pytest.mark.parametrize("final_lr", [0.0, 1e-6, 0.05, 0.2])
@pytest.mark.parametrize("shape", SHAPES)
@given(phases=phases(), step=STEPS)
def test_values_follow_the_formula(shape, final_lr, phases, step):
    total, up, down = phases
    schedule = OneCycle(0.05, 0.37, total, rise=up, fall=down, final_lr=final_lr, shape=shape)
    expected = formula(step, 0.05, 0.37, total, up, down, final_lr, shape)
    assert schedule(step) == pytest.approx(expected, rel=0, abs=8 * EPS * 0.37)


@pytest.mark.parametrize("shape", SHAPES)
@given(phases=phases(longest=10**13), step=st.integers(10**12 - 50, 10**12 + 50))
def test_a_run_of_trillions_of_steps_is_as_exact_as_a_short_one(shape, phases, step):
    total, up, down = phases
    total, up = total + 10**12, up + 10**12 - 25
    total, down = (total + up, down) if down is None else (total + up + down, down)
    schedule = OneCycle(0.05, 0.37, total, rise=up, fall=down, final_lr=0.0, shape=shape)
    expected = formula(step, 0.05, 0.37, total, up, down, 0.0, shape)
    assert schedule(step) == pytest.approx(expected, rel=0, abs=8 * EPS * 0.37)


@given(schedule=..., step=STEPS)
def test_bounds_hold_at_every_step_and_past_the_end(schedule: OneCycle, step):
    low, high = schedule.envelope(step)
    assert min(schedule.base_lr, schedule.final_lr) <= low <= schedule(step) <= high <= schedule.max_lr


@given(schedule=...)
def test_begins_peaks_and_ends_exactly(schedule: OneCycle):
    assert schedule(0) == schedule.base_lr
    assert schedule(schedule.rise) == schedule.max_lr
    assert schedule.height(schedule.rise) == 1.0
    if schedule.fall is not None:
        assert schedule(schedule.rise + schedule.fall) == schedule.base_lr
    last = schedule.total_steps - 1
    assert [schedule(step) for step in (last, last + 1, 10**400)] == [schedule.final_lr] * 3


@given(schedule=...)
def test_rises_to_the_peak_and_falls_after_it(schedule: OneCycle):
    def differences(first, last):
        return np.diff(schedule(np.linspace(first, last, 50).astype(np.int64)))

    last = schedule.total_steps - 1
    top = last if schedule.fall is None else schedule.rise + schedule.fall
    noise = 4 * max(EPS * schedule.max_lr, TINY)
    assert np.all(differences(0, schedule.rise) >= -noise)
    assert np.all(differences(schedule.rise, top) <= noise)
    assert np.all(np.sign(schedule.final_lr - schedule.base_lr) * differences(top, last) >= -noise)


def test_the_last_rate_is_a_ten_thousandth_of_the_first():
    assert OneCycle(0.05, 1.0, 100)(99) == OneCycle(0.05, 1.0, 100).final_lr == 0.05 / 10_000


@given(total=st.integers(10, 10**6), hundredths=st.integers(1, 49))
def test_a_rise_as_a_fraction_is_rounded_down_to_whole_steps(total, hundredths):
    # 0.29 as a float is a little less than 29 hundredths, and no step may be lost by it.
    steps = max(1, hundredths * (total - 1) // 100)
    share = OneCycle(0.05, 1.0, total, rise=hundredths / 100, fall=hundredths / 100)
    number = OneCycle(0.05, 1.0, total, rise=steps, fall=steps)
    assert share(steps) == 1.0
    assert share(2 * steps) == 0.05
    sample = np.linspace(0, total, 50).astype(np.int64)
    assert share(sample).tolist() == number(sample).tolist()


def test_the_example_of_the_paper_is_symmetric():
    # Two ways of equal length, then the rest far below.
    schedule = OneCycle(0.1, 1.0, 101, rise=45, fall=45, final_lr=0.0, shape="triangular")
    values = [schedule(step) for step in range(101)]
    assert values[:46] == pytest.approx(values[45:91][::-1])
    assert (values[45], values[90], values[95], values[100]) == (1.0, 0.1, 0.05, 0.0)


@given(schedule=..., step=STEPS)
def test_the_one_cycle_ends_with_the_run(schedule: OneCycle, step):
    assert schedule.cycle(step) == 0
    assert schedule.is_cycle_end(step) is (step == schedule.total_steps - 1)
    assert schedule.is_cycle_end(schedule.total_steps - 1)


@given(schedule=..., step=STEPS)
def test_the_mirrored_schedule_moves_the_other_way_and_rests_after_the_cycle(schedule: OneCycle, step):
    momentum = schedule.mirrored(0.85, 0.95)
    assert momentum(step) == pytest.approx(0.95 - 0.1 * schedule.height(step), rel=1e-14)
    assert 0.85 <= momentum(step) <= 0.95
    assert (momentum(0), momentum(schedule.rise)) == (0.95, 0.85)
    top = schedule.total_steps - 1 if schedule.fall is None else schedule.rise + schedule.fall
    assert {momentum(late) for late in (top, top + 1, schedule.total_steps, 10**12)} == {0.95}


@given(schedule=..., step=STEPS)
def test_json_and_repr_give_back_an_equal_schedule(schedule: OneCycle, step):
    for again in (
        Schedule.from_dict(json.loads(json.dumps(schedule.to_dict(), allow_nan=False))),
        eval(repr(schedule), vars(cyclr).copy()),  # noqa: S307
    ):
        assert again == schedule
        assert again(step) == schedule(step)


@pytest.mark.parametrize(
    ("rise", "plain"), [(np.int64(30), 30), (np.float64(0.3), 0.3), (Fraction(1, 4), 0.25), (np.float32(0.25), 0.25)]
)
def test_numbers_of_other_kinds_are_taken_as_python_has_them(rise, plain):
    schedule = OneCycle(np.float32(0.5), Fraction(3, 2), np.int16(101), rise=rise, fall=rise, final_lr=np.float64(0.1))
    assert schedule == OneCycle(0.5, 1.5, 101, rise=plain, fall=plain, final_lr=0.1)
    assert {type(value) for value in (schedule.rise, schedule.fall)} == {type(plain)}
    assert Schedule.from_dict(json.loads(json.dumps(schedule.to_dict()))) == schedule
    assert eval(repr(schedule), vars(cyclr).copy()) == schedule  # noqa: S307


def one_cycle(base_lr=0.01, max_lr=0.1, total_steps=101, **more):
    return OneCycle(base_lr, max_lr, total_steps, **more)


PHASE = "A float is a fraction of the run, an int its steps."


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"base_lr": 0.2},
            ValueError,
            "max_lr must be greater than base_lr; got base_lr=0.2, max_lr=0.1. Swap them?",
        ),
        (
            {"final_lr": 0.1},
            ValueError,
            "final_lr must be a finite number of at least 0 and less than 0.1; got final_lr=0.1.",
        ),
        (
            {"total_steps": 2},
            ValueError,
            "total_steps must be an integer of at least 3; got total_steps=2. It counts optimizer updates.",
        ),
        (
            {"total_steps": 3, "fall": 1},
            ValueError,
            "total_steps must be an integer of at least 4; got total_steps=3. It counts optimizer updates.",
        ),
        ({"rise": 0}, ValueError, f"rise must be an integer of at least 1; got rise=0. {PHASE}"),
        (
            {"rise": 1.0},
            ValueError,
            f"rise must be a finite number greater than 0 and less than 1; got rise=1.0. {PHASE}",
        ),
        (
            {"rise": 100},
            ValueError,
            "rise must leave at least one step for every other phase of the 101 steps; got rise=100, which is 100 "
            "steps. Use a shorter phase or a longer run.",
        ),
        (
            {"rise": 0.5, "fall": 0.5},
            ValueError,
            "fall must leave at least one step for every other phase of the 101 steps; got fall=0.5, which is 50 steps."
            " Use a shorter phase or a longer run.",
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
        one_cycle(**arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["base_lr", "max_lr", "total_steps", "rise", "fall", "final_lr"])
@pytest.mark.parametrize("value", ["0.1", "", True, [0.1], 0.1j, {}], ids=repr)
def test_a_value_that_is_not_a_number_is_a_type_error(name, value):
    with pytest.raises(TypeError, match=rf"^{name} must be (a number|an integer); got {name}={re.escape(repr(value))}"):
        one_cycle(**{name: value})


@pytest.mark.parametrize("name", ["base_lr", "max_lr", "rise", "fall", "final_lr"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.1, -1], ids=repr)
def test_an_illegal_number_is_a_value_error(name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be (a finite number|an integer) .*; got {name}={value}\."):
        one_cycle(**{name: value})


@pytest.mark.parametrize("value", [0, -1, 1, 2])
def test_a_run_without_room_for_the_phases_is_a_value_error(value):
    with pytest.raises(ValueError, match=rf"^total_steps must be .*; got total_steps={value}\."):
        one_cycle(total_steps=value)


def test_arguments_for_the_shape_of_the_cycle_must_be_named():
    with pytest.raises(TypeError, match="arguments by position at most"):
        OneCycle(0.01, 0.1, 101, 0.3)


def test_the_shortest_runs_reach_every_bound():
    assert [OneCycle(0.1, 1.0, 3, rise=0.01, final_lr=0.0)(step) for step in range(4)] == [0.1, 1.0, 0.0, 0.0]
    three = OneCycle(0.1, 1.0, 4, rise=1, fall=1, final_lr=0.0)
    assert [three(step) for step in range(5)] == [0.1, 1.0, 0.1, 0.0, 0.0]


def test_a_run_that_steps_cannot_count_is_a_clear_error():
    with pytest.raises(ValueError, match=r"^total_steps must be an integer of at most 9223372036854775807; got"):
        OneCycle(0.01, 0.1, 2**70)
    jax = pytest.importorskip("jax")
    for call in (OneCycle(0.01, 0.1, 2**40), OneCycle(0.01, 0.1, 2**40).is_cycle_end):
        with pytest.raises(ValueError, match=r"^the phases need integers up to 1099511627776, .* enable 64-bit"):
            jax.jit(call)(jax.numpy.int32(5))
