"""Schedules as values: equal, hashable, immutable, printed, copied, pickled and written to JSON."""

import copy
import json
import pickle
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cyclr
from cyclr import (
    Clock,
    Constant,
    Cyclical,
    Decay,
    Exponential,
    Function,
    Halving,
    Mirrored,
    OneCycle,
    PerCycle,
    PerStep,
    Schedule,
    ScheduleError,
    Sequence,
    WarmRestarts,
    Warmup,
    Wave,
)
from cyclr.schedules._blocks import is_of_cyclr, reader
from cyclr.schedules.shape import SHAPES

PLAIN = Cyclical(0.001, 0.006, 2000)
MOMENTUM = st.tuples(st.floats(0, 0.9), st.floats(0.91, 1))


def share(index):
    return 1 / (1 + index)


def through_json(schedule):
    return Schedule.from_dict(json.loads(json.dumps(schedule.to_dict(), allow_nan=False)))


@given(schedule=..., step=st.integers(0, 10**15))
def test_json_gives_back_an_equal_schedule_with_the_same_values(schedule: Cyclical, step):
    again = through_json(schedule)
    assert again == schedule
    assert again(step) == schedule(step)
    assert again.to_dict() == schedule.to_dict()


@given(schedule=..., momentum=MOMENTUM, step=st.integers(0, 10**15))
def test_json_gives_back_a_mirrored_schedule(schedule: Cyclical, momentum, step):
    mirrored = schedule.mirrored(*momentum)
    again = through_json(mirrored)
    assert isinstance(again, Mirrored)
    assert again == mirrored
    assert again(step) == mirrored(step)


@pytest.mark.parametrize("rise", [1e-9, 1e-300, 1 - 1e-9])
def test_json_gives_back_a_run_whose_rise_is_at_the_edge_of_what_is_legal(rise):
    schedule = Cyclical.over(102, 2, 0.001, 0.1, rise=rise)
    assert through_json(schedule) == schedule


# The drop-in callbacks take fractional step sizes, as their users pass them; a checkpoint holds them as any other.
@pytest.mark.parametrize(
    ("up", "down"), [(2.5, 2.5), (2.5, 1.5), (1.5, 1.75), (2.0, 2.5), (2.5, 2.0), (7.3, 1 + 1 / 3)]
)
@pytest.mark.parametrize("decay", [None, Halving(), Exponential(0.99)])
def test_json_gives_back_a_schedule_of_fractional_lengths(up, down, decay):
    schedule = Cyclical.fractional(0.001, 0.1, up, down, decay)
    again = through_json(schedule)
    assert again == schedule
    assert [again(step) for step in range(50)] == [schedule(step) for step in range(50)]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_description_of_fractional_lengths_keeps_its_shape_or_is_refused(shape):
    description = {**Cyclical.fractional(0.001, 0.1, 2.5, 1.5, None).to_dict(), "shape": shape}
    try:
        schedule = Schedule.from_dict(description)
    except ValueError:
        assert shape != "triangular"
    else:
        assert schedule.to_dict() == description


def test_the_description_in_full():
    assert Cyclical(0.001, 0.006, 2000, step_size_down=1000, shape="parabolic", decay=Exponential(0.5)).to_dict() == {
        "schedule": "Cyclical",
        "version": 1,
        "base_lr": 0.001,
        "max_lr": 0.006,
        "step_size": 2000,
        "step_size_down": 1000,
        "shape": "parabolic",
        "decay": {"decay": "Exponential", "gamma": 0.5, "bounds": "max", "per": "step"},
    }


def test_a_description_written_by_hand_may_leave_out_what_has_a_default():
    description = {"schedule": "Cyclical", "version": 1, "base_lr": 0.001, "max_lr": 0.006, "step_size": 2000}
    assert Schedule.from_dict(description) == PLAIN


def test_from_dict_leaves_the_description_as_it_was():
    description = Cyclical(0.001, 0.006, 2000, decay=Halving()).mirrored(0.85, 0.95).to_dict()
    before = copy.deepcopy(description)
    Schedule.from_dict(description)
    assert description == before


@pytest.mark.parametrize("decay", [PerCycle(share), PerStep(share)])
def test_a_function_cannot_be_written_to_json_and_the_error_says_what_can(decay):
    schedule = Cyclical(0.001, 0.1, 10, decay=decay)
    for described in (schedule, schedule.mirrored(0.85, 0.95), decay):
        with pytest.raises(
            ScheduleError, match=r"holds a Python function, which cannot be written to JSON\. Use schedules"
        ):
            described.to_dict()


CYCLICAL = {"schedule": "Cyclical", "version": 1, "base_lr": 0.001, "max_lr": 0.1, "step_size": 10}
MIRRORED = {"schedule": "Mirrored", "version": 1, "of": CYCLICAL, "low": 0.85, "high": 0.95}


def without(description, name):
    return {key: value for key, value in description.items() if key != name}


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({}, r"^schedule must be one of 'Anneal', 'Clock', 'Constant', .*; got schedule=None\.$"),
        ({**CYCLICAL, "schedule": "Sawtooth"}, r"^schedule must be one of .*; got schedule='Sawtooth'\."),
        ({**CYCLICAL, "schedule": ["Cyclical"]}, r"^schedule must be one of .*; got schedule=\['Cyclical'\]\.$"),
        ({**CYCLICAL, "version": 2}, r"^version must be 1; got version=2\. .* another version of cyclr\.$"),
        ({**CYCLICAL, "version": "1"}, r"^version must be 1; got version='1'\."),
        (without(CYCLICAL, "version"), r"^version must be 1; got version=None\."),
        (without(CYCLICAL, "base_lr"), "Cyclical is not complete or has unknown entries: .*'base_lr'"),
        (without(CYCLICAL, "step_size"), "Cyclical is not complete or has unknown entries: .*'step_size'"),
        ({**CYCLICAL, "colour": "red"}, "Cyclical is not complete or has unknown entries: .*'colour'"),
        ({**CYCLICAL, "base_lr": None}, "base_lr must be a number; got base_lr=None"),
        ({**CYCLICAL, "base_lr": "0.001"}, "base_lr must be a number; got base_lr='0.001'"),
        ({**CYCLICAL, "base_lr": 1.0}, "max_lr must be greater than base_lr; got base_lr=1.0, max_lr=0.1"),
        ({**CYCLICAL, "step_size": 0}, "step_size must be an integer of at least 1; got step_size=0"),
        ({**CYCLICAL, "shape": "sawtooth"}, "shape must be one of .*; got shape='sawtooth'"),
        ({**CYCLICAL, "step_size": 10.5, "shape": "sawtooth"}, "shape must be one of .*; got shape='sawtooth'"),
        ({**CYCLICAL, "decay": "Halving"}, "decay must be a Decay or None; got decay='Halving'"),
        ({**CYCLICAL, "decay": {}}, "decay must be a Decay or None; got decay={}"),
        ({**CYCLICAL, "decay": {"decay": "PerCycle"}}, "decay must be one of 'Exponential', .*; got decay='PerCycle'"),
        (
            {**CYCLICAL, "decay": {"decay": "Exponential"}},
            "Exponential is not complete or has unknown entries: .*'gamma'",
        ),
        ({**CYCLICAL, "decay": {"decay": "Exponential", "gamma": 2}}, "gamma must be a finite number .*; got gamma=2"),
        ({**CYCLICAL, "total_steps": 100, "cycles": 3}, "unknown entries: .*'step_size'"),
        ({**without(CYCLICAL, "step_size"), "total_steps": 100}, "not complete or has unknown entries: .*'cycles'"),
        (without(MIRRORED, "of"), "Mirrored is not complete or has unknown entries: .*'of'"),
        ({**MIRRORED, "of": MIRRORED}, "of must be a Cyclical, OneCycle or WarmRestarts; got of=Mirrored"),
        ({**MIRRORED, "of": 3}, "of must be a Cyclical, OneCycle or WarmRestarts; got of=3"),
        ({**MIRRORED, "low": 0.99}, "high must be greater than low; got low=0.99, high=0.95"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:40],
)
def test_an_illegal_description_is_a_value_error(description, message):
    with pytest.raises(ValueError, match=message):
        Schedule.from_dict(description)


@pytest.mark.parametrize("description", [None, "Cyclical", 3, [], [("schedule", "Cyclical")], PLAIN], ids=repr)
def test_a_description_that_is_not_a_dict_is_a_type_error(description):
    with pytest.raises(TypeError, match=r"^description must be a dict made by to_dict\(\); got "):
        Schedule.from_dict(description)


@given(first=..., second=...)
def test_equal_means_equal_arguments_and_equal_hashes(first: Cyclical, second: Cyclical):
    assert (first == second) is (first.to_dict() == second.to_dict())
    assert first == copy.copy(first)
    assert hash(first) == hash(copy.copy(first))
    assert len({first, copy.copy(first), second}) == (1 if first == second else 2)


@pytest.mark.parametrize(
    "other",
    [
        Cyclical(0.002, 0.006, 2000),
        Cyclical(0.001, 0.007, 2000),
        Cyclical(0.001, 0.006, 2001),
        Cyclical(0.001, 0.006, 2000, step_size_down=1999),
        Cyclical(0.001, 0.006, 2000, shape="parabolic"),
        Cyclical(0.001, 0.006, 2000, decay=Halving()),
        Cyclical(0.001, 0.006, 2000, decay=Exponential(1.0)),
        PLAIN.mirrored(0.85, 0.95),
        PLAIN.to_dict(),
        None,
    ],
    ids=repr,
)
def test_schedules_that_differ_in_one_argument_are_not_equal(other):
    assert other != PLAIN
    assert other != PLAIN


def test_decays_are_values_too():
    assert Halving() == Halving()
    assert hash(Halving()) == hash(Halving())
    assert Exponential(0.5) == Exponential(0.5, "max") != Exponential(0.5, "both")
    assert PerCycle(share) == PerCycle(share) != PerStep(share)
    assert len({Halving(), Halving(), Exponential(0.5), Exponential(0.5), PerCycle(share), PerCycle(share)}) == 3


@given(schedule=..., momentum=MOMENTUM)
def test_pickle_and_copy_give_back_an_equal_schedule(schedule: Cyclical, momentum):
    for value in (schedule, schedule.mirrored(*momentum)):
        for again in (pickle.loads(pickle.dumps(value)), copy.copy(value), copy.deepcopy(value)):  # noqa: S301
            assert again == value
            assert hash(again) == hash(value)
            assert again(1234) == value(1234)


def test_a_copy_is_immutable_too():
    for again in (pickle.loads(pickle.dumps(PLAIN)), copy.copy(PLAIN), copy.deepcopy(PLAIN)):  # noqa: S301
        with pytest.raises(AttributeError, match="cannot assign to field"):
            again.base_lr = 0.5


IMMUTABLE = [PLAIN, PLAIN.mirrored(0.85, 0.95), Halving(), Exponential(0.9), PerCycle(share), PerStep(share)]


@pytest.mark.parametrize("value", IMMUTABLE, ids=lambda value: type(value).__name__)
def test_nothing_can_be_set_or_deleted(value):
    for name in (*vars(value), "new"):
        with pytest.raises(AttributeError, match=f"^cannot assign to field '{name}'$"):
            setattr(value, name, 0.5)
        with pytest.raises(AttributeError, match=f"^cannot delete field '{name}'$"):
            delattr(value, name)


def test_setting_fails_before_anything_changes():
    schedule = Cyclical(0.001, 0.006, 2000)
    with pytest.raises(AttributeError, match="cannot assign to field"):
        schedule.base_lr = 0.5
    assert schedule == PLAIN
    assert schedule(0) == 0.001


@given(schedule=..., momentum=MOMENTUM)
def test_repr_evaluates_to_the_schedule(schedule: Cyclical, momentum):
    for value in (schedule, schedule.mirrored(*momentum)):
        assert eval(repr(value), vars(cyclr).copy()) == value  # noqa: S307


@given(decay=...)
def test_repr_evaluates_to_the_decay(decay: Decay):
    assert eval(repr(decay), vars(cyclr).copy()) == decay  # noqa: S307


def test_repr_omits_fields_that_are_none():
    assert repr(PLAIN) == "Cyclical(base_lr=0.001, max_lr=0.006, step_size=2000, shape='triangular')"


@pytest.mark.parametrize(
    ("schedule", "changes", "expected"),
    [
        (PLAIN, {"max_lr": 0.01}, Cyclical(0.001, 0.01, 2000)),
        (OneCycle(0.01, 0.1, 100), {"total_steps": 200}, OneCycle(0.01, 0.1, 200)),
        (WarmRestarts(0.0, 0.1, 10, growth=2), {"growth": 3}, WarmRestarts(0.0, 0.1, 10, growth=3)),
        (Warmup(PLAIN, 10), {"steps": 20}, Warmup(PLAIN, 20)),
        (Sequence([PLAIN, PLAIN], [5]), {"lengths": [6]}, Sequence([PLAIN, PLAIN], [6])),
        (Exponential(0.9), {"gamma": 0.8}, Exponential(0.8)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_field_can_be_replaced_in_a_copy(schedule, changes, expected):
    assert replace(schedule, **changes) == expected
    assert replace(schedule, **changes).to_dict() == expected.to_dict()


# Schedules nested in schedules


def nested(depth, combine):
    """Schedules in schedules: `depth` levels in all."""
    schedule = Constant(0.1)
    for _ in range(depth - 1):
        schedule = combine(schedule)
    return schedule


def described(depth):
    """The description of `depth` levels, without making them."""
    description = {"schedule": "Constant", "version": 1, "value": 0.1}
    for _ in range(depth - 1):
        description = {"schedule": "Warmup", "version": 1, "of": description, "steps": 1}
    return description


COMBINE = {
    "warm-up": lambda schedule: Warmup(schedule, 1),
    "sequence": lambda schedule: Sequence([schedule, Constant(0.2)], [3]),
    "clock": lambda schedule: Clock(schedule, every=2),
}
TOO_DEEP = (
    r"^schedules must be nested at most 200 levels deep; got more\. A Sequence in a Sequence can be written as one"
)


@pytest.mark.parametrize("combine", COMBINE.values(), ids=COMBINE)
def test_the_deepest_schedules_can_be_printed_compared_copied_and_written(combine):
    schedule, other = nested(200, combine), nested(200, combine)
    assert repr(schedule) == repr(other)
    assert schedule == other
    assert hash(schedule) == hash(other)
    assert through_json(schedule) == schedule
    assert pickle.loads(pickle.dumps(schedule)) == schedule  # noqa: S301
    assert copy.deepcopy(schedule) == schedule
    assert schedule(1000) == other(1000)
    assert schedule.is_cycle_end(1000) is False
    assert schedule.largest == other.largest


@pytest.mark.parametrize("combine", COMBINE.values(), ids=COMBINE)
def test_deeper_schedules_are_refused_when_they_are_made(combine):
    with pytest.raises(ValueError, match=TOO_DEEP):
        nested(201, combine)


@pytest.mark.parametrize(
    "combine", [lambda schedule: Clock(0.5 * schedule), lambda schedule: 0.5 * Warmup(schedule, 1)]
)
def test_products_count_as_a_level(combine):
    # Each call adds two levels.
    nested(100, combine)
    with pytest.raises(ValueError, match=TOO_DEEP):
        nested(101, combine)


@pytest.mark.parametrize(
    ("schedule", "levels"),
    [
        (Cyclical(0.1, 0.9, 5), 1),
        (Cyclical(0.1, 0.9, 5, decay=Halving()), 2),
        (WarmRestarts(0.1, 0.9, 5, decay=Halving()), 2),
        (Cyclical(0.1, 0.9, 5, decay=Halving()).mirrored(0.1, 0.9), 3),
        (0.5 * Clock(Cyclical(0.1, 0.9, 5)), 3),
    ],
    ids=["wave", "decay", "restarts", "mirrored", "product"],
)
@pytest.mark.parametrize("combine", COMBINE.values(), ids=COMBINE)
def test_every_part_counts_as_a_level(schedule, levels, combine):
    for _ in range(200 - levels):
        schedule = combine(schedule)
    assert schedule(0) >= 0
    with pytest.raises(ValueError, match=TOO_DEEP):
        combine(schedule)


@pytest.mark.parametrize("depth", [201, 250, 400, 10_000])
def test_deeper_descriptions_are_refused(depth):
    with pytest.raises(ValueError, match=TOO_DEEP):
        Schedule.from_dict(described(depth))


@pytest.mark.parametrize("name", ["schedule", "version", "schedules", "lengths"])
def test_a_description_of_deeply_nested_lists_is_a_value_error(name):
    deep = []
    for _ in range(10_000):
        deep = [deep]
    with pytest.raises(ValueError, match="must be"):
        Schedule.from_dict({"schedule": "Sequence", "version": 1, "schedules": [], "lengths": [], name: deep})


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"base_lr": [0.1]}, "the description of Cyclical has an entry of a wrong type: base_lr must be a number"),
        ({"step_size": "10"}, "the description of Cyclical has an entry of a wrong type: step_size must be an integer"),
        ({"decay": 0.5}, "the description of Cyclical has an entry of a wrong type: decay must be a Decay or None"),
        (
            {"decay": {"decay": "Exponential", "gamma": None}},
            "the description of Exponential has an entry of a wrong type: gamma must be a number",
        ),
        ({1: 2}, "the description of Cyclical is not complete or has unknown entries"),
    ],
)
def test_a_wrong_type_in_a_description_is_named(entries, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Schedule.from_dict({**CYCLICAL, **entries})


def test_repr_of_fractional_cycles_evaluates_to_the_schedule():
    for lengths in ((2.5,), (2.5, 1.75), (2, 1.5), (2.0, 3.0)):
        schedule = Cyclical.fractional(0.001, 0.1, *lengths, decay=Halving())
        assert eval(repr(schedule), vars(cyclr).copy()) == schedule  # noqa: S307


# Calls as Keras makes them


def test_calling_a_schedule_as_keras_does_suggests_learning_rate():
    for call, error, received in ((PLAIN, TypeError, "none"), (lambda: PLAIN(3, 0.1), ValueError, "2 arguments")):
        with pytest.raises(
            error, match=rf"^step must be .*; got {received}\. In Keras, create the optimizer with cyclr\.keras"
        ):
            call()


# Classes of one's own


def test_a_second_class_with_the_same_name_is_refused():
    with pytest.raises(
        TypeError, match=r"^a schedule must have a unique class name, .* second Constant, in addition to "
    ):
        type("Constant", (Schedule,), {"__module__": __name__, "__qualname__": "Constant"})
    with pytest.raises(TypeError, match=r"^a decay must have a unique class name, .* second Halving, in addition to "):
        type("Halving", (Decay,), {"__module__": __name__, "__qualname__": "Halving"})
    assert Schedule.kinds()["Constant"] is Constant
    assert Decay.kinds()["Halving"] is Halving


def test_a_schedule_that_is_not_a_frozen_dataclass_is_refused():
    class Loose(Schedule):
        def evaluate(self, xp, step):
            return 0.1

    with pytest.raises(TypeError, match=r"^Loose must be a frozen dataclass\. Write @dataclass\(frozen=True\) above"):
        Loose()


@dataclass(frozen=True)
class Linear(Decay):
    """A decay of one's own, with an argument, which shrinks both bounds."""

    rate: float
    bounds: str = "both"

    def factor(self, xp, step, cycle):
        return 1.0 / (1.0 + self.rate * xp.to_float(step))


def test_an_unknown_option_of_a_class_is_refused():
    with pytest.raises(TypeError, match="takes no keyword arguments"):
        type("Coloured", (Decay,), {}, colour="red")


def test_a_users_decay_can_be_written_to_json_and_read():
    schedule = Cyclical(0.1, 0.9, 2, decay=Linear(0.5))
    assert schedule.to_dict()["decay"] == {"decay": "Linear", "rate": 0.5, "bounds": "both"}
    assert through_json(schedule) == schedule
    assert schedule(2) == 0.45


@dataclass(frozen=True)
class Unbounded(Schedule):
    """A schedule of one's own without a largest value."""

    top: float

    def evaluate(self, xp, step):
        return 0.0 * xp.to_float(step) + self.top


@dataclass(frozen=True)
class Holding(Schedule):
    """A schedule of one's own that holds what JSON cannot."""

    held: object

    def evaluate(self, xp, step):
        return 0.0 * xp.to_float(step)


def test_a_field_that_json_cannot_hold_is_an_error_when_it_is_written():
    assert Holding(3).to_dict() == {"schedule": "Holding", "version": 1, "held": 3}
    with pytest.raises(ScheduleError, match=r"^Holding\(held=1j\) cannot be written to JSON: .*complex"):
        Holding(1j).to_dict()


def test_a_schedule_without_a_largest_value_says_how_to_define_it():
    for schedule in (Unbounded(2.0), Warmup(Unbounded(2.0), 5), Sequence([Constant(0.1), Unbounded(2.0)], [3])):
        with pytest.raises(ScheduleError, match=r"^the largest value of Unbounded\(top=2\.0\) is not known, because"):
            _ = schedule.largest


def test_the_largest_value_of_a_rise_from_above_is_its_start():
    assert Warmup(Constant(0.5), 10, start=1.5).largest == 1.5


@dataclass(frozen=True)
class SawTooth(Wave):
    """A wave of one's own: only `place` is written."""

    base_lr: float
    max_lr: float
    length: int
    decay: Decay | None = None

    def place(self, xp, step):
        offset = step % self.length
        wave = xp.ratio(offset, self.length)
        return self.base_lr, self.max_lr, wave, 1.0, step // self.length, (offset == 0) & (step > 0)


def test_a_users_wave_needs_only_place():
    wave = SawTooth(0.0, 1.0, 4, decay=Halving())
    assert [wave(step) for step in (0, 3, 4, 7)] == [0.0, 0.75, 0.0, 0.375]
    assert wave(np.array([3, 7])).tolist() == [0.75, 0.375]
    assert (wave.cycle(7), wave.envelope(7), wave.height(7)) == (1, (0.0, 0.5), 0.375)
    assert [step for step in range(10) if wave.is_cycle_end(step)] == [4, 8]
    assert wave.mirrored(0.0, 1.0)(7) == 0.625
    assert wave.largest == 1.0
    assert through_json(Warmup(wave, 3)) == Warmup(wave, 3)
    with pytest.raises(ValueError, match="max_lr must be greater than base_lr"):
        SawTooth(1.0, 0.5, 4)


def test_decay_itself_cannot_be_made():
    with pytest.raises(TypeError, match="abstract"):
        Decay()


# Lengths beyond 64 bits


def test_lengths_end_with_the_integers_of_numpy():
    long, cycle = 2**63 - 1, WarmRestarts(0.0, 1.0, 5)
    assert OneCycle(0.0, 1.0, long, rise=0.5, shape="triangular")(long // 4) == 0.5
    assert Warmup(Constant(0.5), long)(long // 2) == pytest.approx(0.25)
    for build in (
        lambda: OneCycle(0.0, 1.0, long + 1),
        lambda: Warmup(Constant(0.5), 10**400),
        lambda: Warmup(OneCycle(0.0, 1.0, long), 1),
        lambda: Warmup(cycle, long, every_cycle=True),
        lambda: Sequence([cycle, cycle], [long, 1]),
        lambda: Clock(OneCycle(0.0, 1.0, 5), every=long),
        lambda: Clock(cycle, start=long, repeat=1),
        lambda: Cyclical.over(long, 2, 0.0, 1.0),
    ):
        with pytest.raises(ValueError, match=r"9223372036854775807") as caught:
            build()
        assert len(str(caught.value)) < 500


def test_many_parts_with_the_same_cycles_lay_them_out_once():
    parts = [WarmRestarts(0.0, 0.1 * part, 10, growth=1.02) for part in range(1, 50)]
    assert len({id(part._layout) for part in parts}) == 1


@pytest.mark.parametrize("step", [0, 1, 5000, 10**20])
def test_a_reader_gives_the_values_of_the_schedule(step):
    schedule = Cyclical(0.25, 0.75, 3)
    assert reader(schedule)(schedule, step) == schedule(step)


def test_is_of_cyclr_is_false_for_schedules_with_a_users_function():
    cycle, own = Cyclical(0.25, 0.75, 3), Function(lambda step: 0.5, high=0.9)
    assert is_of_cyclr(Sequence([cycle, Warmup(cycle, 5)], [7]))
    assert not any(map(is_of_cyclr, (own, 0.5 * own, Warmup(own, 5))))
