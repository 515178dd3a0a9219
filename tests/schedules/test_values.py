"""Schedules as values: equal, hashable, immutable, printed, copied, pickled and written to JSON."""

import copy
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cyclr
from cyclr import Cyclical, Decay, Exponential, Halving, Mirrored, PerCycle, PerStep, Schedule, ScheduleError

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


@pytest.mark.parametrize("shape", ["triangular", "parabolic", "sinusoidal"])
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
        with pytest.raises(ScheduleError, match=r"holds a Python function, which JSON cannot hold\. Use Halving\(\)"):
            described.to_dict()


CYCLICAL = {"schedule": "Cyclical", "version": 1, "base_lr": 0.001, "max_lr": 0.1, "step_size": 10}
MIRRORED = {"schedule": "Mirrored", "version": 1, "of": CYCLICAL, "low": 0.85, "high": 0.95}


def without(description, name):
    return {key: value for key, value in description.items() if key != name}


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({}, r"^schedule must be one of 'Constant', 'Cyclical', 'Mirrored'.*; got schedule=None\.$"),
        ({**CYCLICAL, "schedule": "Sawtooth"}, r"^schedule must be one of .*; got schedule='Sawtooth'\.$"),
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
def test_a_description_that_describes_no_schedule_is_a_value_error(description, message):
    with pytest.raises(ValueError, match=message):
        Schedule.from_dict(description)


@pytest.mark.parametrize("description", [None, "Cyclical", 3, [], [("schedule", "Cyclical")], PLAIN], ids=repr)
def test_what_is_no_dict_is_a_type_error(description):
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


def test_repr_leaves_out_what_is_none():
    assert repr(PLAIN) == "Cyclical(base_lr=0.001, max_lr=0.006, step_size=2000, shape='triangular')"
