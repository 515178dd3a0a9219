"""What is rejected, when, and in which words: what is wrong, what was received, what is legal, how to mend it."""

import math
import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.schedules.formulas import LISTED

from cyclr import Cyclical, Exponential, Halving, Mirrored, Schedule, step_size

PLAIN = Cyclical(0.001, 0.1, 10)
LENGTHS = "Lengths count optimizer updates; cyclr.step_size(samples, batch_size) computes one."
GAMMA = "It is a factor per step or cycle, such as 0.9999."


def cyclical(base_lr=0.001, max_lr=0.1, length=10, **more):
    return Cyclical(base_lr, max_lr, length, **more)


def over(total_steps=101, cycles=2, base_lr=0.001, max_lr=0.1, **more):
    return Cyclical.over(total_steps, cycles, base_lr, max_lr, **more)


def from_mode(mode="triangular", **more):
    return Cyclical.from_mode(mode, **{"base_lr": 0.001, "max_lr": 0.1, "step_size": 10, **more})


# One row a mistake: what builds it, its arguments, the error, and the whole message.
MESSAGES = [
    # bounds
    (
        cyclical,
        {"base_lr": 0.1, "max_lr": 0.01},
        ValueError,
        "max_lr must be greater than base_lr; got base_lr=0.1, max_lr=0.01. Swap them?",
    ),
    (
        cyclical,
        {"base_lr": 0.1, "max_lr": 0.1},
        ValueError,
        "max_lr must be greater than base_lr; got base_lr=0.1, max_lr=0.1. A range needs two different bounds.",
    ),
    (
        cyclical,
        {"base_lr": -0.001},
        ValueError,
        "base_lr must be a finite number of at least 0; got base_lr=-0.001. "
        "A learning rate is a small number such as 0.001.",
    ),
    (
        cyclical,
        {"max_lr": -1},
        ValueError,
        "max_lr must be a finite number greater than 0; got max_lr=-1. A learning rate is a small number such as 0.1.",
    ),
    (
        cyclical,
        {"base_lr": "0.1"},
        TypeError,
        "base_lr must be a number; got base_lr='0.1' of type str. A learning rate is a small number such as 0.001.",
    ),
    # lengths
    (
        cyclical,
        {"length": 0},
        ValueError,
        f"step_size must be an integer of at least 1; got step_size=0. {LENGTHS}",
    ),
    (
        cyclical,
        {"length": 2000.0},
        TypeError,
        f"step_size must be an integer; got step_size=2000.0 of type float. {LENGTHS}",
    ),
    (
        cyclical,
        {"step_size_down": -3},
        ValueError,
        f"step_size_down must be an integer of at least 1; got step_size_down=-3. {LENGTHS}",
    ),
    (
        over,
        {"total_steps": 6, "cycles": 3},
        ValueError,
        "total_steps must be at least 2 * cycles + 1 = 7, to go up and down in every cycle; "
        "got total_steps=6, cycles=3. Use fewer cycles or more steps.",
    ),
    (over, {"cycles": 0}, ValueError, "cycles must be an integer of at least 1; got cycles=0."),
    *(
        (
            over,
            {"rise": rise},
            ValueError,
            f"rise must be a finite number greater than 0 and less than 1; got rise={rise}. "
            "It is the fraction of a cycle on the way up.",
        )
        for rise in (0, 1)
    ),
    # names
    (
        cyclical,
        {"shape": "sawtooth"},
        ValueError,
        f"shape must be one of {LISTED}; got shape='sawtooth'.",
    ),
    (
        from_mode,
        {"mode": "triangular3"},
        ValueError,
        "mode must be one of 'triangular', 'triangular2', 'exp_range'; got mode='triangular3'. "
        "Did you mean 'triangular'?",
    ),
    (
        cyclical,
        {"decay": "halving"},
        TypeError,
        "decay must be a Decay or None; got decay='halving'. Try decay=cyclr.Halving().",
    ),
    # decays
    (
        Exponential,
        {"gamma": 1.1},
        ValueError,
        f"gamma must be a finite number greater than 0 and at most 1; got gamma=1.1. {GAMMA}",
    ),
    (Exponential, {"gamma": "0.9"}, TypeError, f"gamma must be a number; got gamma='0.9' of type str. {GAMMA}"),
    (
        Exponential,
        {"gamma": 0.9, "bounds": "base"},
        ValueError,
        "bounds must be one of 'max', 'both'; got bounds='base'.",
    ),
    # others
    (
        Mirrored,
        {"of": 0.1, "low": 0.85, "high": 0.95},
        TypeError,
        "of must be a Cyclical, OneCycle or WarmRestarts; got of=0.1.",
    ),
    (
        PLAIN.mirrored,
        {"low": 0.95, "high": 0.85},
        ValueError,
        "high must be greater than low; got low=0.95, high=0.85. Swap them?",
    ),
    (
        step_size,
        {"samples": 0, "batch_size": 10},
        ValueError,
        "samples must be an integer of at least 1; got samples=0.",
    ),
    (
        PLAIN,
        {"step": -1},
        ValueError,
        "step must be an integer of at least 0; got step=-1. The first update is step 0.",
    ),
    (
        PLAIN,
        {"step": 3.0},
        TypeError,
        "step must be an integer, or an array or tensor of integers, counting optimizer updates from 0; got 3.0. "
        "Convert it with int(step) if it is whole.",
    ),
    (
        PLAIN,
        {"step": np.array([0, -5])},
        ValueError,
        "step must be at least 0 everywhere; got a smallest step of -5.",
    ),
    (
        PLAIN,
        {"step": np.array([0.0])},
        TypeError,
        "step must be an integer, or an array or tensor of integers, counting optimizer updates from 0; "
        "got an array of float64. Convert it with int(step) if it is whole.",
    ),
    (
        PLAIN,
        {"step": [1, 2]},
        TypeError,
        "step must be an integer, or an array or tensor of integers, counting optimizer updates from 0; got [1, 2]. "
        "Convert it with numpy.array(step).",
    ),
    (
        lambda **more: PLAIN.mirrored(**more),
        {"low": -1, "high": 0.9},
        ValueError,
        "low must be a finite number of at least 0; got low=-1.",
    ),
]


@pytest.mark.parametrize(("build", "arguments", "error", "message"), MESSAGES, ids=lambda value: None)
def test_message(build, arguments, error, message):
    with pytest.raises(error) as caught:
        build(**arguments)
    assert str(caught.value) == message
    assert re.fullmatch(r"\w+ must .+[;,] .*got .+\.( .+[.?])?", message)


NO_NUMBERS = [None, "0.1", True, [0.1], 0.1j, {}]
NOT_FINITE = [math.nan, math.inf, -math.inf, np.float64("nan")]
NO_LENGTHS = [1.0, 2.5, math.nan, "10", True, [10], Fraction(5)]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
@pytest.mark.parametrize(
    ("build", "name"),
    [
        (cyclical, "base_lr"),
        (cyclical, "max_lr"),
        (over, "base_lr"),
        (over, "max_lr"),
        (over, "rise"),
        (from_mode, "base_lr"),
        (lambda **a: PLAIN.mirrored(**{"low": 0.85, "high": 0.95, **a}), "low"),
        (lambda **a: PLAIN.mirrored(**{"low": 0.85, "high": 0.95, **a}), "high"),
        (Exponential, "gamma"),
        (lambda **a: step_size(100, 10, **a), "epochs"),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "__name__", ""),
)
def test_a_value_that_is_not_a_number_is_a_type_error(build, name, value):
    with pytest.raises(TypeError, match=rf"^{name} must be a number; got {name}=.* of type {type(value).__name__}\."):
        build(**{name: value})


@pytest.mark.parametrize("value", [*NOT_FINITE, 10**400], ids=lambda value: f"{value!r:.5}")
@pytest.mark.parametrize(
    ("build", "name"),
    [
        (cyclical, "base_lr"),
        (cyclical, "max_lr"),
        (over, "base_lr"),
        (over, "rise"),
        (Exponential, "gamma"),
        (lambda **a: step_size(100, 10, **a), "epochs"),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "__name__", ""),
)
def test_a_value_that_is_not_finite_is_a_value_error(build, name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be a finite number .*; got {name}="):
        build(**{name: value})


@pytest.mark.parametrize("value", NO_LENGTHS, ids=repr)
@pytest.mark.parametrize(
    ("build", "argument", "name"),
    [
        (cyclical, "length", "step_size"),
        (cyclical, "step_size_down", "step_size_down"),
        (over, "total_steps", "total_steps"),
        (over, "cycles", "cycles"),
        (from_mode, "step_size", "step_size"),
        (lambda **a: step_size(**{"batch_size": 10, **a}), "samples", "samples"),
        (lambda **a: step_size(**{"samples": 10, **a}), "batch_size", "batch_size"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_length_that_is_no_integer_is_a_type_error(build, argument, name, value):
    with pytest.raises(TypeError, match=rf"^{name} must be an integer; got {name}=.* of type {type(value).__name__}"):
        build(**{argument: value})


@pytest.mark.parametrize("value", [0, -1, -(10**20)])
@pytest.mark.parametrize(
    ("build", "argument"),
    [
        (cyclical, "length"),
        (cyclical, "step_size_down"),
        (over, "total_steps"),
        (over, "cycles"),
        (from_mode, "step_size"),
    ],
)
def test_a_length_below_one_is_a_value_error(build, argument, value):
    with pytest.raises(ValueError, match=rf"must be an integer of at least 1; got \w+={value}"):
        build(**{argument: value})


@pytest.mark.parametrize("name", ["shape", "mode", "bounds"])
@pytest.mark.parametrize("value", [None, "", "Triangular", 1, [], ("max",)], ids=repr)
def test_an_unknown_name_is_a_value_error_that_lists_the_known(name, value):
    build = {"shape": cyclical, "mode": from_mode, "bounds": lambda **a: Exponential(0.9, **a)}[name]
    with pytest.raises(ValueError, match=rf"^{name} must be one of '\w+', '\w+'.*; got {name}="):
        build(**{name: value})


@pytest.mark.parametrize(
    "value", ["halving", 0.9, Halving, lambda cycle: 1.0, PLAIN], ids=lambda value: type(value).__name__
)
def test_another_object_as_decay_is_a_type_error(value):
    with pytest.raises(TypeError, match=r"^decay must be a Decay or None; got decay=.*Try decay=cyclr\.Halving\(\)\.$"):
        cyclical(decay=value)


METHODS = [PLAIN, PLAIN.cycle, PLAIN.is_cycle_end, PLAIN.envelope, PLAIN.height, PLAIN.mirrored(0.85, 0.95)]
METHOD_NAMES = ["call", "cycle", "is_cycle_end", "envelope", "height", "mirrored"]
NO_STEPS = [None, 1.0, 0.5, math.nan, math.inf, "3", True, False, [1, 2], (1,), 1j, Fraction(3)]
NO_STEPS += [
    np.float32(3),
    np.bool_(True),
    np.array([True]),
    np.array([1.0]),
    np.array(["1"]),
    np.array([1], dtype=object),
]


@pytest.mark.parametrize("method", METHODS, ids=METHOD_NAMES)
@pytest.mark.parametrize("step", NO_STEPS, ids=lambda step: f"{type(step).__name__}:{step!r}")
def test_a_step_that_is_no_integer_is_a_type_error(method, step):
    with pytest.raises(TypeError, match=r"^step must be an integer, or an array or tensor of integers, .*; got "):
        method(step)


@pytest.mark.parametrize("method", METHODS, ids=METHOD_NAMES)
@given(step=st.integers(max_value=-1))
def test_a_negative_step_is_a_value_error(method, step):
    with pytest.raises(ValueError, match=rf"^step must be an integer of at least 0; got step={step}"):
        method(step)


@pytest.mark.parametrize("method", METHODS, ids=METHOD_NAMES)
@pytest.mark.parametrize(
    "step", [np.int64(-1), np.array([3, -1]), np.array(-1), np.array([-1], dtype=np.int8)], ids=repr
)
def test_a_negative_numpy_step_is_a_value_error(method, step):
    with pytest.raises(ValueError, match=r"^step must be .*at least 0.*; got .*-1\."):
        method(step)


def test_numbers_of_other_kinds_are_taken_as_floats():
    schedule = Cyclical(Fraction(1, 8), np.float32(0.5), np.int16(4), step_size_down=np.uint8(2))
    assert schedule == Cyclical(0.125, 0.5, 4, step_size_down=2)
    assert [type(value) for value in (schedule.base_lr, schedule.max_lr, schedule(1))] == [float] * 3


def test_a_base_of_zero_is_legal():
    assert Cyclical(0, 1, 1)(0) == 0.0


def test_lengths_of_a_cycle_are_named():
    with pytest.raises(TypeError, match="arguments by position at most"):
        Cyclical(0.001, 0.1, 10, 20)


def test_schedule_itself_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        Schedule()
