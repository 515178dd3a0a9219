"""`Cyclical.over`: whole cycles that fill a run exactly.

A step_size in raw steps does not fit a run of another batch size or data set: tensorflow/addons#2181.
"""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclr import Cyclical, Exponential, Halving, Run, Schedule
from cyclr.schedules.shape import SHAPES

RUNS = st.integers(1, 40).flatmap(lambda cycles: st.tuples(st.integers(2 * cycles + 1, 3000), st.just(cycles)))
RISES = st.floats(0, 1, exclude_min=True, exclude_max=True) | st.sampled_from([0.1, 0.25, 0.3, 0.5, 0.9])


def cycle_starts(schedule, total_steps):
    """The steps at which cycles begin, the one after the last included."""
    steps = np.arange(total_steps)
    return [0, *steps[schedule.is_cycle_end(steps)].tolist()]


@given(run=RUNS, rise=RISES)
def test_the_first_and_the_last_step_are_at_the_lower_bound(run, rise):
    total_steps, cycles = run
    schedule = Cyclical.over(total_steps, cycles, 0.001, 0.1, rise=rise)
    assert schedule(0) == schedule(total_steps - 1) == 0.001
    assert schedule.is_cycle_end(total_steps - 1)


@given(run=RUNS, rise=RISES)
def test_a_run_holds_as_many_cycles_as_asked_for_and_their_lengths_differ_by_a_step_at_most(run, rise):
    total_steps, cycles = run
    schedule = Cyclical.over(total_steps, cycles, 0.001, 0.1, rise=rise)
    lengths = np.diff(cycle_starts(schedule, total_steps))
    assert len(lengths) == cycles
    assert lengths.max() - lengths.min() <= 1
    assert schedule.cycle_length * cycles == total_steps - 1


@pytest.mark.parametrize("shape", SHAPES)
@given(run=RUNS, rise=RISES)
def test_every_cycle_rises_to_the_upper_bound_exactly_once_and_falls_back(shape, run, rise):
    total_steps, cycles = run
    schedule = Cyclical.over(total_steps, cycles, 0.001, 0.1, rise=rise, shape=shape)
    values = schedule(np.arange(total_steps))
    starts = cycle_starts(schedule, total_steps)
    for start, end in pairwise(starts):
        wave = values[start : end + 1]
        peak = int(np.argmax(wave))
        assert wave[peak] == 0.1
        assert wave[0] == wave[-1] == 0.001
        assert np.all(np.diff(wave[: peak + 1]) > 0)
        assert np.all(np.diff(wave[peak:]) < 0)


@given(run=RUNS, rise=RISES)
def test_the_peak_is_less_than_a_step_from_where_rise_puts_it(run, rise):
    total_steps, cycles = run
    schedule = Cyclical.over(total_steps, cycles, 0.001, 0.1, rise=rise)
    values = schedule(np.arange(total_steps))
    starts = cycle_starts(schedule, total_steps)
    for start, end in pairwise(starts):
        up = int(np.argmax(values[start : end + 1]))
        wanted = rise * (end - start)
        assert abs(up - np.clip(wanted, 1, end - start - 1)) < 1 + 1e-2


@given(run=RUNS, past=st.integers(0, 10**12))
def test_stays_selects_the_last_value_or_further_cycles_after_the_run(run, past):
    total_steps, cycles = run
    schedule = Cyclical.over(total_steps, cycles, 0.001, 0.1)
    assert schedule(past + total_steps - 1) == 0.001
    assert schedule.is_cycle_end(past + total_steps - 1) is (past == 0)
    goes_on = Cyclical.over(total_steps, cycles, 0.001, 0.1, stays=False)
    assert goes_on(past + total_steps - 1) == goes_on(past) == schedule(min(past, past % (total_steps - 1)))


@pytest.mark.parametrize("decay", [Halving(), Exponential(0.9, "both"), Exponential(0.9, "both", per="cycle")])
def test_bounds_that_decay_stop_at_the_end_of_the_run(decay):
    schedule = Cyclical.over(101, 4, 0.01, 0.1, decay=decay)
    assert {schedule(step) for step in (100, 101, 125, 10**9)} == {schedule.envelope(100)[0]}
    assert schedule.envelope(10**9) == schedule.envelope(100)
    assert schedule.cycle(10**9) == 4


def test_a_description_without_stays_starts_further_cycles_after_the_run():
    described = Cyclical.over(12, 3, 0.0, 1.0).to_dict()
    assert described.pop("stays") is True
    old = Schedule.from_dict(described)
    assert old == Cyclical.over(12, 3, 0.0, 1.0, stays=False)
    assert Schedule.from_dict(old.to_dict()) == old
    assert [old(step) for step in range(11, 22)] == [old(step) for step in range(11)]


@pytest.mark.parametrize("cycles", [1, 2, 3, 7, 1000])
def test_the_shortest_run_goes_up_and_down_in_every_cycle(cycles):
    schedule = Cyclical.over(2 * cycles + 1, cycles, 0.001, 0.1)
    assert schedule(np.arange(2 * cycles + 1)).tolist() == [0.001, 0.1] * cycles + [0.001]


def same_in_the_run(schedule, other):
    steps = np.arange(schedule.total_steps)
    return schedule(steps).tolist() == other(steps).tolist()


def test_a_run_that_divides_has_the_values_of_a_step_size():
    assert same_in_the_run(Cyclical.over(101, 5, 0.001, 0.1), Cyclical(0.001, 0.1, 10))
    assert same_in_the_run(Cyclical.over(101, 5, 0.001, 0.1, rise=0.25), Cyclical(0.001, 0.1, 5, step_size_down=15))
    assert Cyclical.over(101, 5, 0.001, 0.1) != Cyclical(0.001, 0.1, 10)


def test_a_run_gives_its_length():
    run = Run.of(1000, 32, 3)
    assert Cyclical.over(run, 2, 0.001, 0.1) == Cyclical.over(96, 2, 0.001, 0.1)


@pytest.mark.parametrize("tenths", range(1, 10))
@pytest.mark.parametrize("cycles", [1, 3])
def test_a_rise_in_tenths_of_a_cycle_of_ten_steps_is_as_many_steps(tenths, cycles):
    # 0.3 and 0.7 as floats are a little less than three and seven tenths, and no step may be lost by it.
    schedule = Cyclical.over(10 * cycles + 1, cycles, 0.001, 0.1, rise=tenths / 10)
    assert same_in_the_run(schedule, Cyclical(0.001, 0.1, tenths, step_size_down=10 - tenths))


def test_a_run_of_uneven_cycles_in_numbers():
    # 10 steps in 3 cycles: they begin at 0, floor(10/3) = 3, floor(20/3) = 6 and end at 10.
    schedule = Cyclical.over(11, 3, 0.0, 1.0)
    assert [step for step in range(11) if schedule.is_cycle_end(step)] == [3, 6, 10]
    assert schedule(np.arange(11)).tolist() == [0, 1, 0.5, 0, 1, 0.5, 0, 0.5, 1, 0.5, 0]


def test_cycles_of_a_long_run_do_not_drift():
    total_steps, cycles = 10**12 + 8, 7_001
    schedule = Cyclical.over(total_steps, cycles, 0.0, 1.0)
    for index in (1, 3_500, 7_000, 7_001):
        start = index * (total_steps - 1) // cycles
        assert schedule.is_cycle_end(start)
        assert schedule.cycle(start - 1) == index - 1
        assert schedule(start) == 0.0


def test_decay_counts_cycles_in_a_run():
    schedule = Cyclical.over(102, 4, 0.0, 1.0, decay=Halving())
    values = schedule(np.arange(102))
    starts = cycle_starts(schedule, 102)
    peaks = [values[start:end].max() for start, end in pairwise(starts)]
    assert peaks == [1.0, 0.5, 0.25, 0.125]
