"""`Constant`, `Sequence` and `Warmup`: composition is an offset of the step, nested equals flat."""

import json
import math
from fractions import Fraction
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.schedules.formulas import LISTED

import cyclr
from cyclr import (
    Anneal,
    Clock,
    Constant,
    Cyclical,
    OneCycle,
    PerStep,
    Schedule,
    ScheduleError,
    Sequence,
    WarmRestarts,
    Warmup,
)
from cyclr.schedules.shape import SHAPES

EPS = np.finfo(np.float64).eps
TINY = math.ulp(0.0)  # the last bit of a rate so small that relative errors mean nothing
STEPS = st.integers(0, 300) | st.integers(0, 10**7) | st.sampled_from([10**12, 10**15])
PARTS = st.one_of(
    st.builds(Constant, st.floats(0, 1e3)),
    *(st.from_type(kind) for kind in (Cyclical, OneCycle, WarmRestarts)),
)
COUNTS = st.integers(1, 20) | st.integers(1, 10**6)
RISES = st.tuples(COUNTS, st.floats(0, 1e3), st.sampled_from(list(SHAPES)))
CYCLES = Cyclical(0.001, 0.1, 50)


def through_json(schedule):
    return Schedule.from_dict(json.loads(json.dumps(schedule.to_dict(), allow_nan=False)))


# Constant


@given(value=st.floats(0, 1e300), step=STEPS | st.just(10**400))
def test_a_constant_is_its_value_at_every_step(value, step):
    schedule = Constant(value)
    assert schedule(step) == value
    assert schedule(np.array([0, 7])).tolist() == [value, value]
    assert schedule.is_cycle_end(step) is False


@pytest.mark.parametrize("value", [None, "0.1", True, [0.1], 1j], ids=repr)
def test_a_constant_that_is_no_number_is_a_type_error(value):
    with pytest.raises(TypeError, match=r"^value must be a number; got value=.* of type \w+\.$"):
        Constant(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1, -math.inf], ids=repr)
def test_a_constant_that_is_not_finite_or_negative_is_a_value_error(value):
    with pytest.raises(ValueError, match=rf"^value must be a finite number of at least 0; got value={value}\.$"):
        Constant(value)


# Sequence


@st.composite
def nested(draw, parts, lengths):
    """The same parts, grouped in any way: a sequence of sequences of sequences."""
    if len(parts) == 1:
        return parts[0]
    cuts = sorted(draw(st.sets(st.integers(1, len(parts) - 1), min_size=1)))
    groups = [slice(first, last) for first, last in zip([0, *cuts], [*cuts, len(parts)], strict=True)]
    inner = [draw(nested(parts[group], lengths[group])) for group in groups]
    return Sequence(inner, [sum(lengths[group]) for group in groups[:-1]])


@given(data=st.data())
def test_nested_equals_flat_for_any_nesting(data):
    parts = data.draw(st.lists(PARTS, min_size=2, max_size=6))
    lengths = data.draw(st.lists(COUNTS, min_size=len(parts), max_size=len(parts)))
    flat = Sequence(parts, lengths[:-1])
    tree = data.draw(nested(parts, lengths))
    seams = [start + more for start in accumulate(lengths) for more in (-1, 0, 1)]
    steps = [*seams, *data.draw(st.lists(STEPS, max_size=5))]
    assert [tree(step) for step in steps] == [flat(step) for step in steps]
    assert [tree.is_cycle_end(step) for step in steps] == [flat.is_cycle_end(step) for step in steps]
    assert tree(np.array(steps)).tolist() == flat(np.array(steps)).tolist()


@given(data=st.data(), step=STEPS)
def test_every_part_runs_from_its_own_step_0(data, step):
    parts = data.draw(st.lists(PARTS, min_size=1, max_size=5))
    lengths = data.draw(st.lists(COUNTS, min_size=len(parts) - 1, max_size=len(parts) - 1))
    starts = [0, *accumulate(lengths)]
    part = max(index for index, start in enumerate(starts) if start <= step)
    sequence = Sequence(parts, lengths)
    assert sequence(step) == parts[part](step - starts[part])
    assert sequence.is_cycle_end(step) is parts[part].is_cycle_end(step - starts[part])
    np.testing.assert_allclose(sequence(np.array([step])), parts[part](np.array([step - starts[part]])), rtol=0)


@given(parts=st.lists(st.tuples(PARTS, COUNTS), min_size=1, max_size=5), past=STEPS)
def test_with_a_length_for_every_schedule_the_last_value_stays(parts, past):
    schedules, lengths = zip(*parts, strict=True)
    sequence = Sequence(schedules, lengths)
    last = schedules[-1](lengths[-1] - 1)
    assert sequence(sum(lengths) - 1) == sequence(sum(lengths) + past) == last
    assert sequence.is_cycle_end(sum(lengths) + past) is False
    assert sequence.is_cycle_end(sum(lengths) - 1) is schedules[-1].is_cycle_end(lengths[-1] - 1)


@given(data=st.data(), step=STEPS)
def test_a_sequence_goes_to_json_and_back(data, step):
    parts = data.draw(st.lists(PARTS, min_size=1, max_size=3))
    schedule = Sequence([Sequence(parts, [5] * len(parts)), Constant(0.1)], [100])
    for again in (through_json(schedule), eval(repr(schedule), vars(cyclr).copy())):  # noqa: S307
        assert again == schedule
        assert hash(again) == hash(schedule)
        assert again(step) == schedule(step)


def test_a_sequence_that_holds_a_function_is_not_written_to_json():
    schedule = Sequence([Cyclical(0.0, 0.1, 5, decay=PerStep(lambda step: 0.5**step))], [])
    with pytest.raises(ScheduleError, match="holds a Python function, which cannot be written to JSON"):
        schedule.to_dict()


@pytest.mark.parametrize("step", [10**12, 10**15])
def test_an_offset_of_a_huge_step_is_exact(step):
    schedule = Sequence([Constant(0.5), Cyclical(0.0, 1.0, 700, step_size_down=3)], [step - 123_457])
    place = 123_457 % 703
    exact = Fraction(place, 700) if place <= 700 else Fraction(703 - place, 3)
    assert schedule(step) == pytest.approx(float(exact), rel=EPS)


def test_parts_and_lengths_may_come_from_any_iterable():
    schedule = Sequence((Constant(value) for value in (1, 2)), iter([np.int64(3)]))
    assert schedule == Sequence([Constant(1.0), Constant(2.0)], (3,))
    assert through_json(schedule) == schedule


TRY = "Try cyclr.Constant(value) or cyclr.Cyclical(base_lr, max_lr, step_size)."
LENGTHS = (
    "there must be at least one schedule, and lengths must hold one number of steps for every schedule, or for every "
    "schedule except the last; got {} schedules and {} lengths."
)


@pytest.mark.parametrize(
    ("schedules", "lengths", "error", "message"),
    [
        ([], [], ValueError, LENGTHS.format(0, 0)),
        ([CYCLES] * 3, [1], ValueError, LENGTHS.format(3, 1)),
        ([CYCLES], [1, 2], ValueError, LENGTHS.format(1, 2)),
        (CYCLES, [1], TypeError, f"schedules must be a list; got schedules={CYCLES!r}."),
        ("ab", [1], TypeError, "schedules must be a list; got schedules='ab'."),
        ([CYCLES], 10, TypeError, "lengths must be a list; got lengths=10."),
        ([CYCLES], "10", TypeError, "lengths must be a list; got lengths='10'."),
        ([CYCLES], {10: 10}, TypeError, "lengths must be a list; got lengths={10: 10}."),
        ([0.1], [], TypeError, f"schedules[0] must be a cyclr schedule; got schedules[0]=0.1. {TRY}"),
        (
            [CYCLES, CYCLES],
            [10, 0],
            ValueError,
            "lengths[1] must be an integer of at least 1; got lengths[1]=0. It counts optimizer updates.",
        ),
        (
            [CYCLES],
            [10.0],
            TypeError,
            "lengths[0] must be an integer; got lengths[0]=10.0 of type float. It counts optimizer updates.",
        ),
    ],
    ids=lambda value: None,
)
def test_illegal_arguments_of_a_sequence_are_an_error(schedules, lengths, error, message):
    with pytest.raises(error) as caught:
        Sequence(schedules, lengths)
    assert str(caught.value) == message


@pytest.mark.parametrize("length", [True, None, "5", math.nan, Fraction(5), [5]], ids=repr)
def test_a_length_that_is_no_integer_is_a_type_error(length):
    with pytest.raises(TypeError, match=r"^lengths\[1\] must be an integer; got lengths\[1\]=.* of type "):
        Sequence([CYCLES, CYCLES], [10, length])


# Warmup


@given(of=PARTS, rise=RISES, step=STEPS)
def test_after_the_warm_up_the_schedule_runs_from_its_own_step_0(of, rise, step):
    steps, start, shape = rise
    schedule = Warmup(of, steps, start, shape=shape)
    assert schedule(0) == start
    assert schedule(steps) == of(0)
    assert schedule(steps + step) == of(step)
    assert schedule.is_cycle_end(steps + step) is of.is_cycle_end(step)
    assert not schedule.is_cycle_end(min(step, steps - 1))


@given(of=PARTS, rise=RISES, share=st.floats(0, 1))
def test_the_rise_stays_between_its_ends_and_goes_one_way(of, rise, share):
    steps, start, shape = rise
    schedule = Warmup(of, steps, start, shape=shape)
    step = int(share * (steps - 1))
    low, high = sorted((start, of(0)))
    assert low <= schedule(step) <= high
    assert low <= schedule(np.array([step]))[0] <= high
    if step + 1 < steps:
        forward = math.copysign(1, of(0) - start)
        assert forward * (schedule(step + 1) - schedule(step)) >= -4 * max(EPS * high, TINY)


@given(of=PARTS, rise=RISES)
def test_a_linear_rise_is_continuous_and_exact(of, rise):
    steps, start, _ = rise
    schedule = Warmup(of, steps, start)
    slope = (Fraction(of(0)) - Fraction(start)) / steps
    for step in {0, steps // 3, steps // 2, steps - 1, steps}:
        exact = Fraction(start) + slope * step
        assert abs(Fraction(schedule(step)) - exact) <= 4 * max(EPS * start, EPS * of(0), TINY)


@pytest.mark.parametrize(
    ("shape", "window"),
    [
        ("triangular", lambda x: x),
        ("parabolic", lambda x: 1 - (1 - x) ** 2),
        ("sinusoidal", lambda x: math.sin(math.pi / 2 * x) ** 2),
    ],
)
@given(steps=COUNTS, step=st.integers(0, 10**6))
def test_the_rise_has_the_shape_that_was_asked_for(shape, window, steps, step):
    expected = 0.01 + 0.09 * float(window(Fraction(min(step, steps), steps)))
    schedule = Warmup(Constant(0.1), steps, 0.01, shape=shape)
    assert schedule(step) == pytest.approx(expected, rel=8 * EPS)


def test_a_rise_of_trillions_of_steps_is_exact():
    schedule = Warmup(Constant(1.0), 3 * 10**12)
    assert schedule(10**12) == pytest.approx(1 / 3, rel=EPS)
    assert schedule(3 * 10**12 - 1) == pytest.approx(float(1 - Fraction(1, 3 * 10**12)), rel=EPS)


def test_a_warm_up_may_come_down_or_stay():
    assert [Warmup(Constant(0.1), 2, 0.3)(step) for step in range(3)] == pytest.approx([0.3, 0.2, 0.1])
    for steps in range(1, 100):
        assert {Warmup(Constant(0.1), steps, 0.1)(step) for step in range(steps + 1)} == {0.1}


@pytest.mark.parametrize("growth", [1, 1.5, 2])
@given(first=st.integers(1, 30), rise=st.integers(1, 30), cycle=st.integers(0, 6))
def test_a_warm_up_of_every_cycle_comes_before_it(growth, first, rise, cycle):
    restarts = WarmRestarts(0.001, 0.1, first, growth=growth)
    schedule = Warmup(restarts, rise, 0.02, every_cycle=True)
    lengths = [math.floor(first * Fraction(str(growth)) ** index + Fraction(1, 2)) for index in range(cycle + 1)]
    begin = sum(lengths[:-1])
    start = begin + cycle * rise
    rising = [schedule(start + step) for step in range(rise + 1)]
    assert rising == pytest.approx([0.02 + 0.08 * step / rise for step in range(rise + 1)], rel=1e-14)
    assert (rising[0], rising[-1]) == (0.02, 0.1)
    falling = range(lengths[-1])
    assert [schedule(start + rise + step) for step in falling] == [restarts(begin + step) for step in falling]
    ends = [step for step in range(start, start + rise + lengths[-1]) if schedule.is_cycle_end(step)]
    assert ends == [start + rise + lengths[-1] - 1]


@pytest.mark.parametrize("growth", [1, 1.5, 2])
def test_warm_ups_of_every_cycle_are_exact_at_huge_steps(growth):
    restarts = WarmRestarts(0.0, 1.0, 10, growth=growth, shape="triangular")
    schedule = Warmup(restarts, 7, every_cycle=True)
    start = length = cycle = 0
    for step in (10**12, 10**12 + 12_345, 10**15):
        if growth == 1:
            start, length = step // 17 * 17, 10
        else:
            while start + 7 + (length := math.floor(10 * Fraction(str(growth)) ** cycle + Fraction(1, 2))) <= step:
                start, cycle = start + 7 + length, cycle + 1
        place = step - start
        exact = Fraction(place, 7) if place < 7 else 1 - Fraction(place - 7, length)
        assert schedule(step) == pytest.approx(float(exact), rel=4 * EPS)


@given(of=PARTS, rise=RISES, step=STEPS)
def test_a_warm_up_goes_to_json_and_back(of, rise, step):
    steps, start, shape = rise
    schedule = Warmup(
        of,
        steps,
        start,
        shape=shape,
        every_cycle=getattr(of, "cycle_length", None) is not None and isinstance(of, WarmRestarts),
    )
    for again in (through_json(schedule), eval(repr(schedule), vars(cyclr).copy())):  # noqa: S307
        assert again == schedule
        assert again(step) == schedule(step)


@given(of=PARTS, rise=RISES, length=COUNTS, steps=st.lists(STEPS, min_size=1, max_size=5))
def test_a_warm_up_is_a_part_like_any_other(of, rise, length, steps):
    warmed = Warmup(of, rise[0], rise[1], shape=rise[2])
    schedule = Sequence([Constant(0.5), warmed], [length])
    assert [schedule(length + step) for step in steps] == [warmed(step) for step in steps]


def warmup(of=CYCLES, steps=10, **more):
    return Warmup(of, steps, **more)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"of": 0.1}, TypeError, f"of must be a cyclr schedule; got of=0.1. {TRY}"),
        (
            {"every_cycle": True},
            TypeError,
            f"of must be a WarmRestarts with every_cycle=True; got of={CYCLES!r}, which has no restarts to "
            "warm up for.",
        ),
        ({"every_cycle": 1}, TypeError, "every_cycle must be True or False; got every_cycle=1."),
        (
            {"steps": 0},
            ValueError,
            "steps must be an integer of at least 1; got steps=0. It counts optimizer updates.",
        ),
        (
            {"steps": 0.1},
            TypeError,
            "steps must be an integer; got steps=0.1 of type float. It counts optimizer updates.",
        ),
        ({"start": -0.1}, ValueError, "start must be a finite number of at least 0; got start=-0.1."),
        (
            {"shape": "linear"},
            ValueError,
            f"shape must be one of {LISTED}; got shape='linear'.",
        ),
    ],
    ids=lambda value: None,
)
def test_illegal_arguments_of_a_warm_up_are_an_error(arguments, error, message):
    with pytest.raises(error) as caught:
        warmup(**arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize("value", [None, "1", True, [1], 1j], ids=repr)
@pytest.mark.parametrize("name", ["steps", "start"])
def test_a_value_that_is_not_a_number_is_a_type_error(name, value):
    with pytest.raises(TypeError, match=rf"^{name} must be (a number|an integer); got {name}=.* of type "):
        warmup(**{name: value})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=repr)
def test_a_start_that_is_not_finite_is_a_value_error(value):
    with pytest.raises(ValueError, match=rf"^start must be a finite number of at least 0; got start={value}\.$"):
        warmup(start=value)


# Both


@pytest.mark.parametrize(
    "build",
    [
        lambda n: Sequence([CYCLES, CYCLES], [n]),
        lambda n: Sequence([CYCLES, Constant(0.3), CYCLES], [n, 5, 7]),
        lambda n: Warmup(CYCLES, n, 0.1),
        lambda n: Warmup(CYCLES, n, 0.1, over=True),
        lambda n: Anneal(0.1, 0.0, n),
        lambda n: Anneal(0.1, 0.2, n, "exponential", limit=0.3),
        lambda n: Clock(CYCLES, every=n),
        lambda n: Clock(CYCLES, repeat=n),
    ],
)
def test_a_part_longer_than_its_steps_can_count_is_never_left(build):
    steps = [0, 5, 10**9]
    assert build(2**60)(np.array(steps)).tolist() == [build(2**60)(step) for step in steps]
    with pytest.raises(ValueError, match="9223372036854775807"):
        build(2**63)
    jax = pytest.importorskip("jax")
    for step in steps:
        compiled = jax.jit(build(2**40))(jax.numpy.int32(step))
        assert float(compiled) == pytest.approx(build(2**40)(step), rel=1e-6, abs=1e-9)
        assert bool(jax.jit(build(2**40).is_cycle_end)(jax.numpy.int32(step))) is build(2**40).is_cycle_end(step)


def test_a_clock_that_starts_beyond_the_integers_of_a_step_is_refused():
    jax = pytest.importorskip("jax")
    schedule = Clock(CYCLES, start=2**31)
    assert schedule(0) == CYCLES(2**31)
    with pytest.raises(ValueError, match="the starts need integers up to 2147483648"):
        schedule(jax.numpy.int32(0))


@pytest.mark.parametrize(
    "schedule",
    [
        Sequence([OneCycle(0.01, 0.1, 20, fall=5), CYCLES], [30]),
        Warmup(CYCLES, 30),
        Warmup(WarmRestarts(0.0, 0.1, 7, growth=1.5), 30, every_cycle=True),
    ],
    ids=["sequence", "warm-up", "every cycle"],
)
def test_unsigned_steps_of_jax_before_a_seam_do_not_wrap(schedule):
    jax = pytest.importorskip("jax")
    steps = np.arange(200, dtype=np.uint32)
    traced = jax.numpy.asarray(steps)
    values, ends = jax.jit(lambda step: (schedule(step), schedule.is_cycle_end(step)))(traced)
    np.testing.assert_allclose(np.asarray(values, np.float64), schedule(steps), rtol=0, atol=4e-8)
    assert ends.tolist() == schedule.is_cycle_end(steps).tolist()


@given(
    parts=st.lists(
        st.sampled_from([Constant(0.5), WarmRestarts(0.1, 0.9, 1), Cyclical(0.1, 0.9, 1), Cyclical(0.1, 0.9, 2)]),
        min_size=1,
        max_size=4,
    ),
    lengths=st.lists(st.integers(1, 6), min_size=4, max_size=4),
    whole=st.booleans(),
)
def test_a_cycle_ends_in_a_sequence_where_it_ends_in_the_part_of_the_step(parts, lengths, whole):
    lengths = lengths[: len(parts) - 1 + whole]
    sequence = Sequence(parts, lengths)
    expected = [
        part.is_cycle_end(step)
        for part, length in zip(parts, [*lengths, 5][: len(parts)], strict=True)
        for step in range(length)
    ]
    steps = range(len(expected))
    assert [sequence.is_cycle_end(step) for step in steps] == expected
    assert sequence.is_cycle_end(np.array(steps)).tolist() == expected
    assert sequence.total_steps == (sum(lengths) if whole else None)


def test_a_sequence_and_a_rise_are_as_long_as_their_parts():
    run = OneCycle(0.01, 0.1, 20)
    assert Sequence([Constant(0.1), run], [5]).total_steps == 25
    assert Sequence([run, run], [5]).total_steps == 25
    assert Sequence([Constant(0.1), run], [5, 7]).total_steps == 12
    assert Sequence([run, Constant(0.1)], [5]).total_steps is None
    assert Warmup(run, 5).total_steps == 25
    assert Warmup(run, 5, over=True).total_steps == 20
    assert Warmup(run, 20, over=True).total_steps == 21
    assert Warmup(Constant(0.25), 5).largest == 0.25
    assert Warmup(Constant(0.25), 5, to=0.5).largest == 0.5
