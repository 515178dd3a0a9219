"""Schedules of schedules: `Product`, `Clock`, `Function`, `WarmupStableDecay`, `Warmup`, `WarmRestarts.over`."""

import copy
import json
import math
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclr import (
    Anneal,
    Clock,
    Constant,
    Cyclical,
    Exponential,
    Function,
    OneCycle,
    PerStep,
    Product,
    Run,
    Schedule,
    ScheduleError,
    Sequence,
    WarmRestarts,
    Warmup,
    WarmupStableDecay,
)

STEPS = st.integers(0, 300) | st.integers(0, 10**12)
PARTS = st.one_of(
    st.builds(Constant, st.floats(0, 1e3)), *(st.from_type(kind) for kind in (Anneal, Cyclical, OneCycle, WarmRestarts))
)


def through_json(schedule):
    return Schedule.from_dict(json.loads(json.dumps(schedule.to_dict(), allow_nan=False)))


# Product


@given(parts=st.lists(PARTS, min_size=1, max_size=4), step=STEPS)
def test_a_product_multiplies_in_the_order_given_and_stays_within_its_bounds(parts, step):
    product = Product(*parts)
    expected = parts[0](step)
    for part in parts[1:]:
        expected = expected * part(step)
    assert product(step) == expected <= product.largest
    assert product.is_cycle_end(step) is any(part.is_cycle_end(step) for part in parts)
    assert through_json(product) == product


@given(first=PARTS, second=PARTS, third=PARTS)
def test_brackets_make_no_difference(first, second, third):
    assert (first * second) * third == first * (second * third) == Product(first, second, third)
    assert hash(first * (second * third)) == hash(Product(first, second, third))


def test_a_number_is_a_constant_on_either_side():
    leg = Anneal(1.0, 0.0, 4)
    assert 0.5 * leg == Product(Constant(0.5), leg) != leg * 0.5
    assert np.float64(0.5) * leg == 0.5 * leg
    assert np.int64(2) * leg == leg.__rmul__(2)
    assert (0.5 * leg)(1) == 0.375


@pytest.mark.parametrize("factor", ["0.1", None, [0.1], True, np.array([1.0, 2.0])], ids=repr)
def test_multiplying_by_something_else_is_a_type_error(factor):
    for multiply in (lambda: Constant(1.0) * factor, lambda: factor * Constant(1.0)):
        with pytest.raises(TypeError, match=r"a factor of a schedule must be a number; got .* a schedule or a number"):
            multiply()


def test_a_negative_factor_and_an_empty_product_are_value_errors():
    with pytest.raises(ValueError, match="a factor of a schedule must be a finite number of at least 0; got"):
        -1 * Constant(1.0)
    with pytest.raises(ValueError, match="a Product must have at least one schedule; got none"):
        Product()


def test_a_product_is_as_long_as_its_longest_part():
    assert (0.5 * OneCycle(0.01, 0.1, 100)).total_steps == 100
    assert (Anneal(1.0, 0.0, 50) * OneCycle(0.01, 0.1, 100)).total_steps == 100
    assert (Anneal(0.0, 1.0, 200) * OneCycle(0.01, 0.1, 100)).total_steps == 201
    assert (Cyclical(0.1, 0.2, 5) * 0.5).total_steps is None
    assert (Anneal(1.0, 0.1, 50) * Cyclical(0.1, 0.2, 5)).total_steps is None
    assert (Anneal(0.0, 1.0, 50) * 0.5).total_steps is None


# Clock


@given(
    of=PARTS, start=st.integers(0, 10**6), every=st.integers(1, 50), repeat=st.none() | st.integers(1, 99), step=STEPS
)
def test_a_clock_reads_the_schedule_at_its_ticks(of, start, every, repeat, step):
    clock = Clock(of, start=start, every=every, repeat=repeat)
    tick = step // every if repeat is None else step // every % repeat
    assert clock(step) == of(start + tick) <= clock.largest
    assert clock(np.array([step]))[0] == clock(step)
    assert through_json(clock) == clock


def test_stairs_end_a_cycle_in_the_last_step_of_a_tick():
    clock = Clock(Cyclical(0.0, 1.0, 2), every=3)
    assert [step for step in range(30) if clock.is_cycle_end(step)] == [14, 26]
    assert clock.total_steps is None
    assert Clock(OneCycle(0.01, 0.1, 10), every=3).total_steps == 30
    assert Clock(OneCycle(0.01, 0.1, 10), start=4).total_steps == 6
    assert Clock(OneCycle(0.01, 0.1, 10), start=99, every=3).total_steps == 3


def test_a_turn_that_falls_ends_a_cycle_and_one_that_rises_does_not():
    falling, rising = (Clock(Anneal(*ends, 4), repeat=4) for ends in ((1.0, 0.0), (0.0, 1.0)))
    assert [step for step in range(10) if falling.is_cycle_end(step)] == [3, 7]
    assert falling.has_cycle_ends
    assert not any(rising.is_cycle_end(step) for step in range(10))
    assert not rising.has_cycle_ends


@given(
    values=st.lists(st.integers(0, 3), min_size=1, max_size=9),
    start=st.integers(0, 9),
    repeat=st.integers(1, 9),
    every=st.integers(1, 3),
)
def test_a_turn_ends_a_cycle_if_it_falls_and_the_next_starts_higher(values, start, repeat, every):
    of = Sequence(map(Constant, values), [1] * (len(values) - 1))
    clock = Clock(of, start=start, repeat=repeat, every=every)
    turn = [of(start + tick) for tick in range(repeat)]
    ends = turn[-1] < turn[0] and turn[-1] <= turn[max(repeat - 2, 0)]
    assert clock.has_cycle_ends is ends
    last = [(turns + 1) * repeat * every - 1 for turns in range(3)]
    assert [step for step in range(3 * repeat * every) if clock.is_cycle_end(step)] == (last if ends else [])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"of": 0.1},
            TypeError,
            "of must be a cyclr schedule; got of=0.1. Try cyclr.Constant(value) or cyclr.Cyclical(base_lr, max_lr, "
            "step_size).",
        ),
        ({"start": -1}, ValueError, "start must be an integer of at least 0; got start=-1."),
        ({"every": 0}, ValueError, "every must be an integer of at least 1; got every=0. It counts optimizer updates."),
        ({"repeat": 0}, ValueError, "repeat must be an integer of at least 1; got repeat=0."),
        ({"repeat": 0.5}, TypeError, "repeat must be an integer; got repeat=0.5 of type float."),
    ],
)
def test_illegal_arguments_of_a_clock_are_an_error(arguments, error, message):
    with pytest.raises(error) as caught:
        Clock(**{"of": Constant(0.1), **arguments})
    assert str(caught.value) == message


# Function


def test_a_function_is_called_only_for_the_requested_step():
    asked = []

    def fn(step):
        asked.append(step)
        return 1.0 / (1 + step)

    for schedule in (
        Function(fn),
        0.1 * Function(fn),
        Clock(Function(fn)),
        Sequence([Function(fn), Constant(0.1)], [100]),
        Cyclical(0.1, 0.2, 5, decay=PerStep(fn)),
    ):
        asked.clear()
        schedule(7)
        schedule(8)
        assert asked == [7, 8]
        asked.clear()
        schedule(np.array([[3, 4], [4, 3]]))
        assert sorted(asked) == [3, 4]


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1, 1.5])
def test_what_a_function_returns_outside_its_bounds_is_a_value_error(value):
    schedule = Function(lambda step: value if step > 20 else 0.5, high=1)
    assert schedule(20) == 0.5
    for step in (21, np.array([3, 21])):
        with pytest.raises(ValueError, match=rf"^fn must return a finite number from 0 to 1; got {value} at step 21\."):
            schedule(step)


@pytest.mark.parametrize("value", ["0.1", None, True, [0.1], 1j], ids=repr)
def test_a_function_that_returns_no_number_is_a_type_error(value):
    with pytest.raises(TypeError, match=r"^fn must return a finite number from 0; got .* at step 3\.$"):
        Function(lambda step: value)(3)


def test_a_function_may_return_a_tensor_of_one_element_without_a_method_item():
    class Tensor:
        """As TensorFlow's."""

        shape = ()

        def __float__(self):
            return 0.25

    assert Function(lambda step: Tensor())(3) == 0.25


def test_a_function_states_its_largest_value_only_if_it_was_given():
    assert Function(lambda step: 0.5, high=0.9).largest == 0.9
    with pytest.raises(ScheduleError, match=r"the largest value of Function\(.*\) is not known\. Write Function"):
        _ = (0.1 * Function(lambda step: 0.5)).largest
    with pytest.raises(ScheduleError, match="holds a Python function, which cannot be written to JSON"):
        (0.1 * Function(lambda step: 0.5)).to_dict()
    with pytest.raises(TypeError, match="fn must be a function of the step; got fn=3"):
        Function(3)
    with pytest.raises(ValueError, match=r"high must be a finite number of at least 1; got high=0\.5"):
        Function(math.sqrt, low=1, high=0.5)
    with pytest.raises(ValueError, match=r"low must be a finite number of at least 0; got low=-1"):
        Function(math.sqrt, low=-1)


# Blocks


def test_a_value_does_not_depend_on_the_steps_requested_before():
    schedule = WarmRestarts(0.001, 0.1, 97, growth=1.5, decay=Exponential(0.999))
    steps = [5, 10**12, 2047, 2048, 2049, 6, 10**9, 2**63 - 1, 2**63 - 2050, 4096, 0]
    alone = [pickle.loads(pickle.dumps(schedule))(step) for step in steps]  # noqa: S301
    assert [schedule(step) for step in steps] == alone == [schedule(np.array([step]))[0] for step in steps]
    assert copy.copy(schedule)(5) == alone[0]


def test_a_long_array_has_the_values_of_its_pieces():
    steps = np.arange(50_000).reshape(5, 10_000)
    for schedule in (WarmRestarts(0.001, 0.1, 97, growth=1.5), 0.5 * Constant(0.1), Function(lambda step: step % 3)):
        values = schedule(steps)
        assert values.shape == steps.shape
        assert values[4].tolist() == schedule(steps[4]).tolist()


def test_threads_at_distant_steps_get_correct_values():
    schedule, starts = Cyclical(0.0, 1.0, 10**6), range(0, 80_000, 10_000)

    def read(start):
        return [schedule(start + step) for step in range(5000)]

    with ThreadPoolExecutor(8) as pool:
        for start, values in zip(starts, pool.map(read, starts), strict=True):
            assert values == schedule(np.arange(start, start + 5000)).tolist()


# WarmupStableDecay


@given(
    total=st.integers(10, 10**6),
    warmup=st.floats(0, 0.4) | st.integers(0, 4),
    decay=st.floats(0.01, 0.5) | st.integers(1, 4),
    end=st.floats(0, 0.1),
)
def test_it_rises_stays_and_ends_on_the_last_step(total, warmup, decay, end):
    schedule = WarmupStableDecay(0.1, total, warmup=warmup, decay=decay, end=end)
    up = warmup if isinstance(warmup, int) else int(warmup * (total - 1) + 1e-9)
    assert schedule(0) == (0.1 if up == 0 else 0.0)
    assert schedule(up + 1) <= schedule(up) == schedule.largest == 0.1
    assert schedule(total - 1) == schedule(total) == schedule(10**12) == end
    assert schedule.total_steps == total
    assert schedule.is_cycle_end(total - 1) is schedule.has_cycle_ends is (end < 0.1)
    assert through_json(schedule) == schedule


def test_its_curves_in_numbers():
    falls = {"linear": 0.05, "cosine": 0.05, "1-sqrt": 0.1 * (1 - math.sqrt(0.5)), 2: 0.1 * 0.25}
    for curve, half in falls.items():
        assert WarmupStableDecay(0.1, 101, decay=50, curve=curve)(75) == pytest.approx(half, rel=1e-14)
        rise = WarmupStableDecay(0.1, 101, warmup=50, warmup_curve=curve, decay=1)
        assert rise(25) == pytest.approx(0.1 - half, rel=1e-14)
    assert WarmupStableDecay(0.1, 101, decay=50, end=0.001, curve="exponential")(75) == pytest.approx(0.01, rel=1e-14)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"warmup": 0.5, "decay": 0.6}, "decay must leave at least one step for every other phase of the 100 steps"),
        ({"warmup": 1.0}, "warmup must be a finite number of at least 0 and less than 1; got warmup=1.0"),
        ({"decay": 0.0}, "decay must be a finite number greater than 0 and less than 1; got decay=0.0"),
        ({"max_lr": 0}, "max_lr must be a finite number greater than 0; got max_lr=0"),
        ({"end": 0.2}, "end must be a finite number of at least 0 and at most 0.1; got end=0.2"),
        ({"curve": "sqrt"}, "curve must be one of 'linear', 'cosine', 'exponential', '1-sqrt'; got curve='sqrt'"),
        ({"curve": 0}, "curve must be a finite number greater than 0; got curve=0. It is a power, or one of linear"),
        ({"total_steps": 1}, "total_steps must be an integer of at least 2; got total_steps=1"),
    ],
)
def test_illegal_arguments_of_warmup_stable_decay_are_a_value_error(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        WarmupStableDecay(**{"max_lr": 0.1, "total_steps": 100, **arguments})


# Warmup laid over


@given(of=PARTS, steps=st.integers(1, 50), start=st.floats(0, 1e3), step=STEPS)
def test_a_warm_up_over_the_schedule_ends_at_the_value_of_the_schedule(of, steps, start, step):
    laid = Warmup(of, steps, start, over=True)
    assert laid(0) == start
    assert laid(steps + step) == of(steps + step)
    assert laid.is_cycle_end(steps + step) == of.is_cycle_end(steps + step)
    low, high = sorted((start, of(steps)))
    assert all(low <= laid(early) <= high for early in range(steps))
    assert through_json(laid) == laid


def test_a_warm_up_may_end_at_another_value():
    # timm: to the base rate, from which the schedule jumps down.
    laid = Warmup(Anneal(0.1, 0.0, 250), 50, 0.001, over=True, to=0.1)
    assert laid(49) == pytest.approx(0.001 + 0.099 * 49 / 50, rel=1e-14)
    assert laid(50) == pytest.approx(0.08, rel=1e-14)
    assert laid.total_steps == 251
    assert Warmup(Anneal(0.1, 0.0, 250), 50).total_steps == 301
    assert Warmup(Constant(0.1), 4, to=0.2)(np.arange(6)).tolist() == [0.0, 0.05, 0.1, 0.2 * 0.75, 0.1, 0.1]
    assert type(Warmup(Constant(0.1), 4, to=1).to) is float
    with pytest.raises(ValueError, match=r"^to must be a finite number of at least 0; got to=-1"):
        Warmup(Constant(0.1), 4, to=-1)


def test_over_and_every_cycle_cannot_be_combined():
    with pytest.raises(ValueError, match="over must be False with every_cycle=True; got over=True"):
        Warmup(WarmRestarts(0.0, 0.1, 10), 2, every_cycle=True, over=True)
    with pytest.raises(TypeError, match=r"of must be a WarmRestarts with every_cycle=True; .* has no cycle_length\.$"):
        Warmup(WarmRestarts.over(100, 3, 0.0, 0.1), 2, every_cycle=True)
    with pytest.raises(TypeError, match="over must be True or False; got over=1"):
        Warmup(Constant(0.1), 2, over=1)


def test_a_description_without_over_puts_the_warm_up_before_the_schedule():
    described = Warmup(Constant(0.1), 5).to_dict()
    assert described.pop("over") is False
    assert Schedule.from_dict(described) == Warmup(Constant(0.1), 5)


# WarmRestarts.over


@given(cycles=st.integers(1, 6), growth=st.sampled_from([1, 1.001, 1.5, 2]), total=st.integers(500, 10**6))
def test_cycles_fill_the_run_and_begin_where_the_formula_says(cycles, growth, total):
    schedule = WarmRestarts.over(total, cycles, 0.001, 0.1, growth=growth)
    whole = cycles if growth == 1 else (growth**cycles - 1) / (growth - 1)
    for index in range(cycles):
        passed = index if growth == 1 else (growth**index - 1) / (growth - 1)
        start = math.floor((total - 1) * passed / whole + 1e-9)
        assert schedule(start) == 0.1
        assert schedule.cycle(start) == index
        assert schedule.is_cycle_end(start - 1) if index else True
    assert schedule(total - 1) == schedule(10**12) == 0.001
    ends = schedule.is_cycle_end(np.arange(total + 5))
    assert (ends.sum(), ends[total - 1]) == (cycles, True)
    assert through_json(schedule) == schedule


def test_restarts_that_leave_a_cycle_without_a_step_are_refused():
    with pytest.raises(ValueError, match=r"^total_steps must give every cycle at least one step; got total_steps=10, "):
        WarmRestarts.over(10, 5, 0.0, 0.1, growth=3)
    with pytest.raises(ValueError, match=r"^total_steps must give every cycle at least one step; .* cycles=10{12}, "):
        WarmRestarts.over(10, 10**12, 0.0, 0.1)
    with pytest.raises(ValueError, match=r"^cycles must be an integer of at most 10000; got cycles=1000000\. Or use"):
        WarmRestarts.over(10**9, 10**6, 0.0, 0.1, growth=1.001)
    assert WarmRestarts.over(Run.of(10, 1, 1), 9, 0.0, 0.1)(np.arange(11)).tolist() == [0.1] * 9 + [0.0, 0.0]


# Run


def test_a_run_counts_only_the_samples_used_for_training():
    assert Run.of(1000, 32, 2).total_steps == 2 * 32
    assert Run.of(1000, 32, 2, validation_split=0.25).total_steps == 2 * 24
    assert Run.of(1000, 32, 2, drop_last=True).total_steps == 2 * 31
    assert Run.of(1000, 32, 2, accumulate=5).total_steps == 2 * 7
    assert Run.of(10, 1, 1, validation_split=0.25).total_steps == 7
    assert Run.of(2**53 + 1, 1, 1).total_steps == 2**53 + 1
    assert Run.of(samples=1000, batch_size=32, epochs=2, cycles=2) == Run(64, steps_per_epoch=32, cycles=2)
    assert list(range(Run(3))) == [0, 1, 2]
    with pytest.raises(ValueError, match="samples must fill a batch; got 10 samples to train on"):
        Run.of(10, 32, 1, drop_last=True)
    with pytest.raises(ValueError, match="accumulate must be an integer of at least 1; got accumulate=0"):
        Run.of(10, 1, 1, accumulate=0)
    for split in (-0.1, 1.0):
        with pytest.raises(
            ValueError, match="validation_split must be a finite number of at least 0 and less than 1; got"
        ):
            Run.of(10, 1, 1, validation_split=split)


def test_keras_splits_as_run_does():
    keras = pytest.importorskip("keras")
    for samples, split in ((1000, 0.1), (997, 0.3), (10, 0.29), (1000, 0.9)):
        kept = keras.src.trainers.data_adapters.array_slicing.train_validation_split(
            (np.zeros((samples, 1)),), validation_split=split
        )[0][0]
        assert Run.of(samples, 1, 1, validation_split=split).total_steps == len(kept)


def test_a_run_is_accepted_as_total_steps():
    run = Run.of(100, 10, 3)
    assert OneCycle(0.01, 0.1, run) == OneCycle(0.01, 0.1, total_steps=30)
    assert WarmupStableDecay(0.1, run) == WarmupStableDecay(0.1, 30)
    assert WarmRestarts.over(run, 2, 0.0, 0.1) == WarmRestarts.over(30, 2, 0.0, 0.1)
