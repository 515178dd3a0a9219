"""What every schedule keeps, whichever it is: a new schedule or decay needs a line in SCHEDULES, a new shape none."""

import dataclasses
import gc
import json
import math
import pickle
import sys
from typing import Any, NamedTuple, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cyclr
from cyclr import (
    Anneal,
    Clock,
    Constant,
    Cyclical,
    Decay,
    Exponential,
    Function,
    Halving,
    OneCycle,
    PerCycle,
    PerStep,
    Product,
    Schedule,
    ScheduleError,
    Sequence,
    WarmRestarts,
    Warmup,
    WarmupStableDecay,
)
from cyclr.schedules.anneal import CURVES, Curve
from cyclr.schedules.cyclical import MODES, Mode
from cyclr.schedules.shape import SHAPES, Shape


def share(index: Any) -> Any:
    """A decay by a function, for every kind of step."""
    return 1 / (1 + index)


class Case(NamedTuple):
    """A schedule with what is known of it, from its definition and not from running it."""

    name: str
    schedule: Schedule
    lowest: float
    """No value is below it."""
    highest: float
    """The stated maximum, reached at `peak`."""
    peak: int
    repeats: int | None = None
    """Period in steps, where there is one."""
    first_end: int | None = None
    """The first step that ends a cycle, where there are cycles."""
    total: int | None = None
    """Steps of the run that it fills."""
    json: bool = True
    """Whether it can be written to JSON: it holds no function."""


DECAYING = Exponential(0.9, per="cycle")
SCHEDULES = [
    Case("triangular", Cyclical(0.001, 0.1, 50), 0.001, 0.1, peak=50, repeats=100, first_end=100),
    Case("triangular2", Cyclical.from_mode("triangular2", 0.001, 0.1, 50), 0.001, 0.1, peak=50, first_end=100),
    Case(
        "exp_range",
        Cyclical.from_mode("exp_range", 0.0, 0.1, 50, gamma=0.99),
        0.0,
        0.1 * 0.99**50,
        peak=50,
        first_end=100,
    ),
    *(Case(f"rise by {shape}", Cyclical(0.001, 0.1, 40, shape=shape), 0.001, 0.1, 40, 80, 80) for shape in SHAPES),
    *(Case(f"fall by {shape}", WarmRestarts(0.001, 0.1, 40, shape=shape), 0.001, 0.1, 0, 40, 39) for shape in SHAPES),
    Case("shortest", Cyclical(0.0, 1.0, 1), 0.0, 1.0, peak=1, repeats=2, first_end=2),
    Case("slow rise", Cyclical(0.001, 0.1, 90, step_size_down=7), 0.001, 0.1, peak=90, repeats=97, first_end=97),
    Case("slow fall", Cyclical(0.001, 0.1, 3, step_size_down=100), 0.001, 0.1, peak=3, repeats=103, first_end=103),
    Case("whole run", Cyclical.over(1001, 7, 0.001, 0.1), 0.001, 0.1, peak=71, first_end=142, total=1001),
    Case("run that goes on", Cyclical.over(1001, 7, 0.0, 0.1, stays=False), 0.0, 0.1, 71, 1000, 142, total=1001),
    Case("one peak", Cyclical.over(1000, 1, 0.001, 0.1, rise=0.3), 0.001, 0.1, peak=299, first_end=999, total=1000),
    Case(
        "halving run",
        Cyclical.over(1001, 7, 0.001, 0.1, decay=Halving()),
        0.001,
        0.1,
        peak=71,
        first_end=142,
        total=1001,
    ),
    Case(
        "both bounds",
        Cyclical(0.01, 0.1, 50, decay=Exponential(0.99, "both")),
        0.0,
        0.1 * 0.99**50,
        peak=50,
        first_end=100,
    ),
    Case("exponential per cycle", Cyclical(0.001, 0.1, 50, decay=DECAYING), 0.001, 0.1, peak=50, first_end=100),
    Case("per cycle", Cyclical(0.001, 0.1, 50, decay=PerCycle(share)), 0.001, 0.1, 50, first_end=100, json=False),
    # 0.1 · (t / 50) / (1 + t) rises up to t = 50.
    Case("per step", Cyclical(0.0, 0.1, 50, decay=PerStep(share)), 0.0, 0.1 / 51, 50, first_end=100, json=False),
    Case("mirrored", Cyclical(0.001, 0.1, 50).mirrored(0.85, 0.95), 0.85, 0.95, peak=100, repeats=100, first_end=100),
    Case(
        "mirrored halving",
        Cyclical(0.001, 0.1, 50, decay=Halving()).mirrored(0.85, 0.95),
        0.85,
        0.95,
        peak=100,
        first_end=100,
    ),
    Case("one cycle", OneCycle(0.01, 0.1, 1000), 0.01 / 10_000, 0.1, peak=299, first_end=999, total=1000),
    Case(
        "linear one cycle",
        OneCycle(0.01, 0.1, 1000, rise=450, shape="triangular"),
        1e-6,
        0.1,
        450,
        first_end=999,
        total=1000,
    ),
    Case(
        "one cycle in three phases", OneCycle(0.01, 0.1, 1000, fall=0.3), 1e-6, 0.1, peak=299, first_end=999, total=1000
    ),
    Case(
        "linear one cycle in three phases",
        OneCycle(0.01, 0.1, 1001, rise=0.45, fall=0.45, final_lr=0.0, shape="triangular"),
        0.0,
        0.1,
        peak=450,
        first_end=1000,
        total=1001,
    ),
    Case(
        "one cycle that ends higher",
        OneCycle(0.01, 0.1, 101, fall=9, final_lr=0.05),
        0.01,
        0.1,
        30,
        first_end=100,
        total=101,
    ),
    Case("shortest one cycle", OneCycle(0.0, 1.0, 3, rise=1), 0.0, 1.0, peak=1, first_end=2, total=3),
    Case(
        "mirrored one cycle",
        OneCycle(0.01, 0.1, 1000).mirrored(0.85, 0.95),
        0.85,
        0.95,
        peak=0,
        first_end=999,
        total=1000,
    ),
    Case(
        "mirrored phases",
        OneCycle(0.01, 0.1, 99, fall=9).mirrored(0.85, 0.95),
        0.85,
        0.95,
        peak=0,
        first_end=98,
        total=99,
    ),
    Case("restarts", WarmRestarts(0.001, 0.1, 50), 0.001, 0.1, peak=0, repeats=50, first_end=49),
    Case("doubling restarts", WarmRestarts(0.001, 0.1, 50, growth=2), 0.001, 0.1, peak=0, first_end=49),
    Case("restarts that grow by half", WarmRestarts(0.0, 0.1, 3, growth=1.5), 0.0, 0.1, peak=0, first_end=2),
    # The last cycle that 32 or 64 bits reach is longer than they can count.
    Case("restarts that outgrow integers", WarmRestarts(0.0, 0.1, 10, growth=1000), 0.0, 0.1, peak=0, first_end=9),
    Case("decaying restarts", WarmRestarts(0.001, 0.1, 50, growth=1.1, decay=DECAYING), 0.001, 0.1, 0, first_end=49),
    Case(
        "mirrored restarts",
        WarmRestarts(0.0, 0.1, 50).mirrored(0.85, 0.95),
        0.85,
        0.95 - 0.1 * math.sin(math.pi / 100) ** 2,
        peak=49,
        repeats=50,
        first_end=49,
    ),
    Case("warm-up", Warmup(Cyclical(0.01, 0.1, 20), 10), 0.0, 0.1, peak=30, first_end=50),
    Case("warm-up of restarts", Warmup(WarmRestarts(0.0, 0.1, 50), 10, 0.001), 0.0, 0.1, peak=10, first_end=59),
    Case(
        "warm-up of every cycle",
        Warmup(WarmRestarts(0.001, 0.1, 50), 10, shape="parabolic", every_cycle=True),
        0.0,
        0.1,
        peak=10,
        repeats=60,
        first_end=59,
    ),
    Case(
        "warm-up of every growing cycle",
        Warmup(WarmRestarts(0.001, 0.1, 50, growth=1.5, decay=DECAYING), 10, 0.002, every_cycle=True),
        0.001,
        0.1,
        peak=10,
        first_end=59,
    ),
    Case("sequence", Sequence([Constant(0.01), Cyclical(0.001, 0.1, 50)], [30]), 0.001, 0.1, peak=80, first_end=130),
    Case(
        "sequence that ends",
        Sequence([OneCycle(0.01, 0.1, 101, rise=30), WarmRestarts(0.0, 0.05, 10, growth=2)], [101, 70]),
        0.0,
        0.1,
        peak=30,
        first_end=100,
        total=171,
    ),
    Case("constant", Constant(0.1), 0.1, 0.1, peak=0, repeats=1),
    *(Case(f"fall to by {curve}", Anneal(0.1, 0.01, 50, curve), 0.01, 0.1, 0, None, 50, total=51) for curve in CURVES),
    *(Case(f"rise to by {curve}", Anneal(0.01, 0.1, 50, curve), 0.01, 0.1, peak=50) for curve in CURVES),
    Case("square root", Anneal(0.1, 0.0, 50, power=0.5), 0.0, 0.1, peak=0, first_end=50, total=51),
    Case("cosine squared", Anneal(0.1, 0.0, 50, "cosine", power=2), 0.0, 0.1, peak=0, first_end=50, total=51),
    Case("bent time", Anneal(0.0, 0.1, 50, warp=0.5), 0.0, 0.1, peak=50),
    Case("fall for ever", Anneal(0.1, 0.05, 50, "exponential", limit=0), 0.0, 0.1, peak=0),
    Case("growth to a limit", Anneal(0.01, 0.02, 50, "exponential", limit=0.1), 0.01, 0.1, peak=167),
    Case("inverse growth", Anneal(0.01, 0.02, 50, "inverse", limit=0.1), 0.01, 0.1, peak=91),
    Case("level", Anneal(0.1, 0.1, 7), 0.1, 0.1, peak=0),
    Case("product", 0.5 * Anneal(0.0, 1.0, 50) * Cyclical(0.1, 0.2, 50), 0.0, 0.1, peak=50, first_end=100),
    Case("product of a run", 0.5 * OneCycle(0.01, 0.2, 1000), 0.0, 0.1, peak=299, first_end=999, total=1000),
    Case("stairs", 0.1 * Clock(Anneal(1, 0.5, 1, "exponential", limit=0), every=30), 0.0, 0.1, peak=0),
    Case("saw-tooth", Clock(Anneal(0.0, 0.1, 50), repeat=51), 0.0, 0.1, peak=50, repeats=51),
    Case("falling saw-tooth", Clock(Anneal(0.1, 0.0, 50), every=2, repeat=50), 0.002, 0.1, 0, 100, 99),
    Case("from the top", Clock(Cyclical(0.0, 0.1, 50), start=50, repeat=100), 0.0, 0.1, 0, 100, first_end=50),
    Case("run by epochs", Clock(OneCycle(0.01, 0.1, 50, rise=9), every=10), 0.0, 0.1, 90, None, 499, total=500),
    Case("function", Function(share, high=1), 0.0, 1.0, peak=0, json=False),
    Case("product of a function", 0.1 * Function(share, high=1), 0.0, 0.1, peak=0, json=False),
    Case("stable", WarmupStableDecay(0.1, 500, warmup=50), 0.0, 0.1, peak=50, first_end=499, total=500),
    Case("stable at once", WarmupStableDecay(0.1, 500, end=0.01, curve=2), 0.01, 0.1, 0, None, 499, total=500),
    Case("warm-up laid over", Warmup(Anneal(0.1, 0.0, 100), 10, over=True), 0.0, 0.09, 10, None, 100, total=101),
    Case("jump after a warm-up", Warmup(Anneal(0.1, 0.0, 100), 20, to=0.1, over=True), 0, 0.095, 19, None, 100, 101),
    Case("restarts in a run", WarmRestarts.over(201, 4, 0.0, 0.1), 0.0, 0.1, peak=0, first_end=49, total=201),
    Case("growing ones", WarmRestarts.over(1501, 4, 0.0, 0.1, growth=2), 0.0, 0.1, peak=0, first_end=99, total=1501),
]


def only(cases):
    """A test of some of the cases."""
    cases = list(cases)
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


every = only(SCHEDULES)
describable = only(case for case in SCHEDULES if case.json)
STEPS = st.integers(0, 300) | st.integers(0, 10**15)
FEW = settings(max_examples=20)
EPS = np.finfo(np.float64).eps
FLOAT32 = float(np.finfo(np.float32).eps)


@pytest.mark.parametrize("family", [Schedule, Decay], ids=["schedules", "decays"])
def test_every_registered_schedule_and_decay_has_a_case(family):
    covered = {type(held) for case in SCHEDULES for held in (case.schedule, getattr(case.schedule, "decay", None))}
    # Other tests define classes too, in modules of their own or, in docstrings, under names that no module has.
    own = [kind for kind in family.kinds().values() if getattr(sys.modules[kind.__module__], kind.__name__, 0) is kind]
    missing = [kind.__name__ for kind in own if kind.__module__.startswith("cyclr.") and kind not in covered]
    assert not missing, f"add a Case to SCHEDULES in tests/conformance/test_schedules.py for each of {missing}"


def test_types_name_what_the_registries_hold():
    assert get_args(Shape) == tuple(SHAPES)
    assert get_args(Mode) == tuple(MODES)
    assert get_args(Curve) == tuple(CURVES)


@every
def test_the_largest_value_is_an_upper_bound_that_composition_keeps(case):
    largest = case.schedule.largest
    assert case.schedule(np.arange(2001)).max() <= largest
    assert Warmup(case.schedule, 5, start=0.01).largest == max(largest, 0.01)
    assert Sequence([Constant(0.2), case.schedule], [3]).largest == max(largest, 0.2)


@every
@FEW
@given(step=STEPS)
def test_bounds_hold(case, step):
    assert case.lowest <= case.schedule(step) <= case.highest * (1 + 4 * EPS)


@every
def test_the_stated_maximum_is_reached_and_nothing_is_above_it(case):
    values = case.schedule(np.arange(2001))
    assert case.schedule(case.peak) == pytest.approx(case.highest, rel=1e-13)
    assert values.max() == case.schedule(case.peak)
    assert values.min() >= case.lowest


@every
@FEW
@given(steps=st.lists(STEPS, min_size=1, max_size=10))
def test_a_vector_of_steps_equals_the_scalars(case, steps):
    scalars = [case.schedule(step) for step in steps]
    assert case.schedule.is_cycle_end(np.array(steps)).tolist() == [case.schedule.is_cycle_end(step) for step in steps]
    np.testing.assert_allclose(case.schedule(np.array(steps)), scalars, rtol=4 * EPS, atol=4 * EPS * case.highest)


@every
def test_an_int_gives_a_float_and_an_array_an_array_of_its_shape(case):
    assert type(case.schedule(3)) is float
    assert type(case.schedule.is_cycle_end(3)) is bool
    for shape in ((5,), (2, 3), (0,)):
        values = case.schedule(np.zeros(shape, dtype=np.int32))
        assert (values.shape, values.dtype) == (shape, np.float64)
        ends = case.schedule.is_cycle_end(np.zeros(shape, dtype=np.int32))
        assert (ends.shape, ends.dtype) == (shape, np.bool_)


@only(case for case in SCHEDULES if case.repeats)
@FEW
@given(step=STEPS, periods=st.integers(1, 10**6))
def test_a_schedule_with_a_period_repeats(case, step, periods):
    assert case.schedule(step + periods * case.repeats) == case.schedule(step)


@every
def test_the_first_cycle_ends_where_it_should(case):
    ends = [step for step in range(2001) if case.schedule.is_cycle_end(step)]
    assert ends[:1] == ([] if case.first_end is None else [case.first_end])
    if case.repeats and case.first_end:
        assert case.schedule.is_cycle_end(case.first_end + 10**9 * case.repeats)


@describable
@FEW
@given(step=STEPS)
def test_json_gives_back_an_equal_schedule(case, step):
    again = Schedule.from_dict(json.loads(json.dumps(case.schedule.to_dict(), allow_nan=False)))
    assert again == case.schedule
    assert type(again) is type(case.schedule)
    assert again(step) == case.schedule(step)


@every
def test_a_function_is_never_written_to_json(case):
    if case.json:
        assert json.loads(json.dumps(case.schedule.to_dict()))["schedule"] == type(case.schedule).__name__
    else:
        with pytest.raises(ScheduleError, match="holds a Python function, which cannot be written to JSON"):
            case.schedule.to_dict()


@every
def test_pickle_gives_back_an_equal_schedule(case):
    again = pickle.loads(pickle.dumps(case.schedule))  # noqa: S301
    assert again == case.schedule
    assert hash(again) == hash(case.schedule)
    assert [again(step) for step in (0, case.peak, 10**12)] == [case.schedule(step) for step in (0, case.peak, 10**12)]


@every
def test_nothing_can_be_changed(case):
    for name in (*vars(case.schedule), "new"):
        with pytest.raises(AttributeError, match="cannot assign to field"):
            setattr(case.schedule, name, None)
        with pytest.raises(AttributeError, match="cannot delete field"):
            delattr(case.schedule, name)


@every
def test_repr_names_the_kind_and_every_argument(case):
    shown = repr(case.schedule)
    assert shown.startswith(type(case.schedule).__name__)
    for field in dataclasses.fields(case.schedule):
        if isinstance(case.schedule, Product):
            continue
        value = getattr(case.schedule, field.name)
        assert (f"{field.name}={value!r}" in shown) is (value is not None and not field.name.startswith("_"))


@describable
def test_repr_evaluates_to_the_schedule(case):
    names = {**vars(cyclr), **Schedule.kinds(), **Decay.kinds()}
    assert eval(repr(case.schedule), names) == case.schedule  # noqa: S307


@every
def test_a_schedule_is_equal_to_itself_alone(case):
    assert [other.name for other in SCHEDULES if other.schedule == case.schedule] == [case.name]
    assert len({other.schedule for other in SCHEDULES}) == len(SCHEDULES)


@every
@FEW
@given(resumed=st.integers(0, 250))
def test_a_resumed_run_equals_an_unsplit_one(case, resumed):
    unsplit = [case.schedule(step) for step in range(250)]
    # A restart has the step and the description (or, of one with a function, the pickle) and nothing else.
    state = json.dumps(case.schedule.to_dict()) if case.json else pickle.dumps(case.schedule)
    again = Schedule.from_dict(json.loads(state)) if case.json else pickle.loads(state)  # noqa: S301
    assert unsplit[:resumed] + [again(step) for step in range(resumed, 250)] == unsplit


@every
def test_a_call_leaves_nothing_behind(case):
    before = dict(vars(case.schedule))
    first = case.schedule(7)
    case.schedule(10**12)
    assert case.schedule(7) == first
    assert vars(case.schedule) == before


def calls(schedule, step):
    """Python and C functions that one value takes."""
    count = 0

    def profile(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    # A garbage collection calls functions too.
    gc.disable()
    sys.setprofile(profile)
    try:
        schedule(step)
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


@every
def test_no_step_costs_more_than_the_first_ones(case):
    # A rise or a part of a sequence may cost more than another, but how far into the run is nothing to it.
    costs = {calls(case.schedule, start) for start in range(0, 20_000, 2048)}
    assert max(calls(case.schedule, start) for start in (10**12, 10**12 + 123_456_789, 10**15)) <= max(costs)
    assert max(costs) < 250
    if case.json:
        case.schedule(5000)
        assert max(calls(case.schedule, step) for step in range(4096, 6144)) == 3


@every
@FEW
@given(step=STEPS)
def test_a_step_has_the_same_bits_whoever_asks(case, step):
    alone = pickle.loads(pickle.dumps(case.schedule))(step)  # noqa: S301
    assert [case.schedule(near) for near in range(max(step - 2, 0), step + 1)][-1] == alone


@every
def test_a_schedule_that_fills_a_run_says_so_and_stays_at_its_last_value(case):
    assert case.schedule.total_steps == case.total
    assert case.schedule.has_cycle_ends is (case.first_end is not None)
    if case.total and not case.repeats:
        past = np.array([case.total, case.total + 7, 10**12])
        assert set(case.schedule(past).tolist()) == {case.schedule(case.total - 1)}
        assert not case.schedule.is_cycle_end(past).any()


def value_and_end(schedule, step):
    return schedule(step), schedule.is_cycle_end(step)


@every
@FEW
@given(start=st.integers(0, 2000) | st.integers(0, 2**31 - 200))
def test_a_compiled_schedule_equals_numpy(case, start):
    jax = pytest.importorskip("jax")
    steps = np.arange(start, start + 200, dtype=np.int32)
    values, ends = jax.jit(value_and_end, static_argnums=0)(case.schedule, jax.numpy.asarray(steps))
    values = np.asarray(values, dtype=np.float64)
    np.testing.assert_allclose(values, case.schedule(steps), rtol=0, atol=4 * FLOAT32 * case.highest)
    assert np.asarray(ends).tolist() == case.schedule.is_cycle_end(steps).tolist()


@every
@pytest.mark.parametrize("dtype", ["int8", "int32", "uint32"])
def test_a_keras_tensor_equals_numpy(case, dtype):
    keras = pytest.importorskip("keras")
    steps = np.array([*range(128), *([] if dtype == "int8" else [10**6, 2**30 + 1, 2**31 - 2, 2**31 - 1])], dtype)
    tensor = keras.ops.convert_to_tensor(steps, dtype)
    values = keras.ops.convert_to_numpy(case.schedule(tensor))
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, case.schedule(steps), rtol=0, atol=4 * FLOAT32 * case.highest)
    ends = keras.ops.convert_to_numpy(case.schedule.is_cycle_end(tensor))
    assert ends.tolist() == case.schedule.is_cycle_end(steps).tolist()


@every
@pytest.mark.parametrize("step", [-1, 1.0, None, True, "3"])
def test_what_is_no_step_is_an_error(case, step):
    with pytest.raises((TypeError, ValueError), match=r"^step must be an integer.*; got "):
        case.schedule(step)
