"""The mathematics of `Cyclical`: bounds, peaks, period, direction and exactness, at any step."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from tests.schedules.formulas import FORMULAS

from cyclr import Cyclical, Decay, Exponential, Halving, PerCycle, PerStep, Schedule
from cyclr.schedules.cyclical import MODES
from cyclr.schedules.shape import SHAPES

EPS = np.finfo(np.float64).eps
TINY = math.ulp(0.0)  # the last bit of a rate so small that relative errors mean nothing
STEPS = st.integers(0, 300) | st.integers(0, 2**63 - 1) | st.sampled_from([10**12, 10**15])
LENGTHS = st.integers(1, 12) | st.integers(1, 10**7)

SCALES = {
    "triangular": lambda cycle, iteration, gamma: 1.0,
    "triangular2": lambda cycle, iteration, gamma: 1 / 2 ** (cycle - 1),
    "exp_range": lambda cycle, iteration, gamma: gamma**iteration,
}


def paper(iteration, base_lr, max_lr, stepsize, *, mode="triangular", gamma=1.0, shape="triangular"):
    """The learning rate as the paper's own code computes it."""
    cycle = math.floor(1 + iteration / (2 * stepsize))
    z = abs(iteration / stepsize - 2 * cycle + 1)
    return base_lr + (max_lr - base_lr) * FORMULAS[shape](max(0.0, 1 - z)) * SCALES[mode](cycle, iteration, gamma)


def exact(step, base_lr, max_lr, up, down):
    """The triangular policy in rational arithmetic, without a single rounding."""
    place = step % (up + down)
    x = Fraction(place, up) if place <= up else Fraction(up + down - place, down)
    return Fraction(base_lr) + (Fraction(max_lr) - Fraction(base_lr)) * x


@given(schedule=..., step=STEPS)
def test_value_is_inside_the_envelope_at_every_step(schedule: Cyclical, step):
    low, high = schedule.envelope(step)
    assert low <= schedule(step) <= high


@given(schedule=..., step=STEPS)
# Where the amplitude has all but decayed, the rounding of a weighted sum must not push the upper bound below the lower.
@example(schedule=Cyclical(0.1, 0.11, 10, decay=Exponential(0.99)), step=3603)
def test_value_is_inside_the_stated_bounds_at_every_step(schedule: Cyclical, step):
    lowest = 0.0 if schedule.decay is not None and schedule.decay.bounds == "both" else schedule.base_lr
    assert lowest <= schedule(step) <= schedule.max_lr


@given(
    base_lr=st.floats(0.001, 1),
    ulps=st.integers(1, 5),
    gamma=st.floats(0.01, 1),
    step=st.integers(0, 40),
)
def test_values_stay_within_bounds_that_differ_by_few_roundings(base_lr, ulps, gamma, step):
    max_lr = base_lr
    for _ in range(ulps):
        max_lr = math.nextafter(max_lr, math.inf)
    schedule = Cyclical(base_lr, max_lr, 3, decay=Exponential(gamma))
    low, high = schedule.envelope(step)
    assert base_lr <= low <= schedule(step) <= high <= max_lr


@given(schedule=..., cycle=st.integers(0, 20) | st.integers(0, 10**9))
def test_every_cycle_begins_at_the_lower_bound_exactly(schedule: Cyclical, cycle):
    assume(not schedule.stays or cycle <= schedule.cycles)
    start = math.floor(cycle * schedule.cycle_length)
    assert schedule.cycle(start) == cycle
    assert schedule(start) == schedule.envelope(start)[0]
    if schedule.decay is None or schedule.decay.bounds == "max":
        assert schedule(start) == schedule.base_lr


@pytest.mark.parametrize("shape", SHAPES)
@given(up=LENGTHS, down=LENGTHS, cycle=st.integers(0, 20) | st.integers(0, 10**9), decay=...)
def test_every_cycle_peaks_at_the_upper_bound_exactly(shape, up, down, cycle, decay: Decay | None):
    schedule = Cyclical(0.0013, 0.37, up, step_size_down=down, shape=shape, decay=decay)
    peak = cycle * (up + down) + up
    assert schedule(peak) == schedule.envelope(peak)[1]
    if decay is None:
        assert schedule(peak) == 0.37


@given(schedule=..., step=st.integers(0, 10**6), periods=st.integers(0, 10**9))
def test_an_undecayed_schedule_repeats_bit_for_bit(schedule: Cyclical, step, periods):
    assume(schedule.decay is None and not schedule.stays)
    length = schedule.cycle_length
    period = length if isinstance(length, int) else length.numerator
    assert schedule(step + periods * period) == schedule(step)


@pytest.mark.parametrize("step", [10**12, 10**15, 10**30], ids=["1e12", "1e15", "1e30"])
@given(up=LENGTHS, down=LENGTHS, past=st.integers(0, 10**7))
def test_huge_steps_are_as_exact_as_small_ones(step, up, down, past):
    schedule = Cyclical(0.001, 0.37, up, step_size_down=down)
    error = Fraction(schedule(step + past)) - exact(step + past, 0.001, 0.37, up, down)
    assert abs(error) <= EPS * Fraction(0.37)


@pytest.mark.parametrize("shape", SHAPES)
@given(up=st.integers(1, 60), down=st.integers(1, 60), cycle=st.integers(0, 10**6))
def test_rises_to_the_peak_and_falls_after_it(shape, up, down, cycle):
    schedule = Cyclical(0.001, 0.37, up, step_size_down=down, shape=shape)
    start = cycle * (up + down)
    values = schedule(np.arange(start, start + up + down + 1))
    assert np.all(np.diff(values[: up + 1]) > 0)
    assert np.all(np.diff(values[up:]) < 0)


@given(schedule=..., step=st.integers(0, 10**9))
def test_never_moves_against_its_direction_by_more_than_rounding(schedule: Cyclical, step):
    assume(schedule.decay is None)
    steps = step + np.arange(40)
    values, cycles = schedule(steps), schedule.cycle(steps)
    turns = np.diff(np.sign(np.diff(values)) * (np.abs(np.diff(values)) > 4 * max(EPS * schedule.max_lr, TINY)))
    # Within one cycle the direction changes from up to down at most once, and never from down to up.
    inside = cycles[:-2] == cycles[2:]
    assert not np.any(turns[inside] > 1)


@given(schedule=..., steps=st.lists(STEPS, min_size=1, max_size=8))
def test_arrays_give_the_same_values_as_ints(schedule: Cyclical, steps):
    values = schedule(np.array(steps, dtype=np.int64))
    scalars = [schedule(step) for step in steps]
    assert values.dtype == np.float64
    if schedule.shape != "sinusoidal" and schedule.decay is None:
        assert values.tolist() == scalars
    else:  # NumPy's sine and power are vectorized and may round the last bit otherwise than the C library's.
        np.testing.assert_allclose(values, scalars, rtol=4 * EPS, atol=4 * max(EPS * schedule.max_lr, TINY))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_arrays_of_any_integer_type_are_steps(dtype):
    schedule = Cyclical.over(100_001, 7, 0.001, 0.1)
    values = schedule(np.array([0, 3, 100, 127], dtype=dtype))
    assert values.tolist() == [schedule(step) for step in (0, 3, 100, 127)]


@pytest.mark.parametrize("step", [2**63, 2**63 + 5, 2**64 - 1])
def test_unsigned_steps_beyond_a_signed_integer_are_refused(step):
    schedule = Cyclical(0.0, 1.0, 7, step_size_down=3)
    with pytest.raises(ValueError, match=f"must fit a signed integer of 64 bits; got a largest step of {step}"):
        schedule(np.array([0, step], dtype=np.uint64))
    largest = 2**63 - 1
    assert schedule(np.array([largest], dtype=np.uint64)).tolist() == [schedule(largest)]


@pytest.mark.parametrize("shape", [(), (0,), (1,), (6,), (2, 3), (1, 2, 3)])
def test_arrays_keep_their_shape(shape):
    steps = np.arange(math.prod(shape)).reshape(shape)
    for decay in (None, Halving(), PerCycle(lambda cycle: 1 / (1 + cycle)), PerStep(lambda step: 0.5**step)):
        schedule = Cyclical(0.001, 0.1, 3, decay=decay)
        assert np.shape(schedule(steps)) == shape
        assert np.shape(schedule.cycle(steps)) == shape
        assert np.shape(schedule.height(steps)) == shape
        assert [np.shape(bound) for bound in schedule.envelope(steps)] == [shape, shape]


def test_an_array_of_steps_is_left_as_it_was():
    steps = np.arange(20)
    Cyclical(0.0, 1.0, 3, decay=Halving())(steps)
    assert steps.tolist() == list(range(20))


def test_numpy_integers_are_ints():
    schedule = Cyclical(0.001, 0.1, 7)
    value = schedule(np.int32(5))
    assert type(value) is float
    assert value == schedule(5)


@pytest.mark.parametrize("shape", SHAPES)
@given(stepsize=st.integers(1, 5000), iteration=st.integers(0, 10**5))
def test_shapes_follow_the_paper(shape, stepsize, iteration):
    schedule = Cyclical(0.001, 0.37, stepsize, shape=shape)
    assert schedule(iteration) == pytest.approx(paper(iteration, 0.001, 0.37, stepsize, shape=shape), rel=1e-9)


@pytest.mark.parametrize("mode", MODES)
@given(stepsize=st.integers(1, 500), iteration=st.integers(0, 5000), gamma=st.floats(0.99, 1))
def test_modes_follow_the_paper(mode, stepsize, iteration, gamma):
    schedule = Cyclical.from_mode(mode, 0.001, 0.37, stepsize, gamma)
    expected = paper(iteration, 0.001, 0.37, stepsize, mode=mode, gamma=gamma)
    assert schedule(iteration) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("mode", "decay"), [("triangular", None), ("triangular2", Halving()), ("exp_range", Exponential(0.999))]
)
def test_a_mode_is_a_decay(mode, decay):
    assert Cyclical.from_mode(mode, 0.001, 0.1, 50, 0.999) == Cyclical(0.001, 0.1, 50, decay=decay)


def test_the_numbers_printed_in_the_paper():
    # Smith 2017, section 3.1: bounds 0.001 and 0.006, stepsize 2000.
    schedule = Cyclical(0.001, 0.006, 2000)
    assert [schedule(step) for step in (0, 2000, 4000, 6000, 8000)] == [0.001, 0.006, 0.001, 0.006, 0.001]
    assert schedule(1000) == schedule(3000) == pytest.approx(0.0035, rel=1e-15)


@given(up=LENGTHS, down=LENGTHS, step=STEPS)
def test_cycle_is_counted_from_zero(up, down, step):
    schedule = Cyclical(0.0, 1.0, up, step_size_down=down)
    assert schedule.cycle_length == up + down
    assert schedule.cycle(step) == step // (up + down)


@given(schedule=..., step=STEPS)
def test_a_cycle_ends_where_the_next_begins(schedule: Cyclical, step):
    assume(step > 0)
    assert schedule.is_cycle_end(step) is (schedule.cycle(step) != schedule.cycle(step - 1))


def test_step_zero_ends_no_cycle():
    schedule = Cyclical(0.0, 1.0, 1)
    assert schedule.is_cycle_end(0) is False
    assert schedule.is_cycle_end(np.arange(5)).tolist() == [False, False, True, False, True]


@given(schedule=..., step=STEPS)
def test_height_is_the_share_of_the_way_up(schedule: Cyclical, step):
    height = schedule.height(step)
    assert 0 <= height <= 1
    if schedule.decay is None or schedule.decay.bounds == "max":
        expected = schedule.base_lr + (schedule.max_lr - schedule.base_lr) * height
        assert schedule(step) == pytest.approx(expected, rel=1e-12, abs=1e-300)


@given(schedule=..., step=STEPS)
def test_the_mirrored_schedule_moves_the_other_way(schedule: Cyclical, step):
    momentum = schedule.mirrored(0.85, 0.95)
    assert 0.85 <= momentum(step) <= 0.95
    assert momentum(step) == pytest.approx(0.95 - 0.1 * schedule.height(step), rel=1e-14)


@pytest.mark.parametrize("shape", SHAPES)
@given(up=LENGTHS, down=LENGTHS, cycle=st.integers(0, 10**9))
def test_the_mirrored_schedule_hits_both_of_its_bounds_exactly(shape, up, down, cycle):
    momentum = Cyclical(0.001, 0.1, up, step_size_down=down, shape=shape).mirrored(0.85, 0.95)
    start = cycle * (up + down)
    assert (momentum(start), momentum(start + up)) == (0.95, 0.85)


def test_a_decay_moves_the_mirrored_schedule_towards_its_upper_bound():
    momentum = Cyclical(0.001, 0.1, 2, decay=Halving()).mirrored(0.8, 1.0)
    assert [momentum(step) for step in (0, 2, 4, 6, 8, 10)] == pytest.approx([1.0, 0.8, 1.0, 0.9, 1.0, 0.95])


def test_a_mirrored_schedule_is_a_schedule():
    assert isinstance(Cyclical(0.001, 0.1, 5).mirrored(0.85, 0.95), Schedule)
