"""`Run`: lengths in steps, epochs, cycles and shares of the run, all in one place.

A length in raw steps does not fit a run of another batch size or data set: tensorflow/addons#2181.
"""

import math
import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cyclr
from cyclr import Cyclical, OneCycle, Run

RUN = Run(1001, steps_per_epoch=100, cycles=5)
NUMBERS = st.decimals(min_value="0.01", max_value=1000, places=2).map(str)


def nearest(exact):
    return max(1, math.floor(exact + Fraction(1, 2)))


@pytest.mark.parametrize(
    ("length", "steps"),
    [
        (7, 7),
        ("7 steps", 7),
        ("1 step", 1),
        ("2 epochs", 200),
        ("1 epoch", 100),
        ("0.5 epochs", 50),
        ("1 cycle", 200),
        ("0.5 cycles", 100),
        ("10 %", 100),
        ("10%", 100),
        (" 2epochs ", 200),
        (".25 epochs", 25),
        ("2. epochs", 200),
        ("100 %", 1001),
        ("150 %", 1502),
        (np.int64(9), 9),
    ],
)
def test_every_unit(length, steps):
    assert RUN.steps(length) == steps
    assert type(RUN.steps(length)) is int


@given(number=NUMBERS, total=st.integers(1, 10**12), epoch=st.integers(1, 10**6), cycles=st.integers(1, 100))
def test_lengths_are_rounded_to_the_nearest_and_at_least_one(number, total, epoch, cycles):
    run = Run(total, steps_per_epoch=epoch, cycles=cycles)
    assert run.steps(f"{number} steps") == nearest(Fraction(number))
    assert run.steps(f"{number} epochs") == nearest(Fraction(number) * epoch)
    assert run.steps(f"{number} %") == nearest(Fraction(number) * total / 100)
    if total > 1:
        assert run.steps(f"{number} cycles") == nearest(Fraction(number) * (total - 1) / cycles)


def test_numbers_are_read_as_they_are_written():
    # 0.29 · 100 and 0.145 · 1000 as floats are a little less, and would be rounded down.
    assert Run(10, steps_per_epoch=10**18).steps("0.29 epochs") == 29 * 10**16
    assert Run(10, steps_per_epoch=10).steps("0.05 epochs") == 1
    assert Run(10, steps_per_epoch=1000).steps("0.1445 epochs") == 145


@given(
    samples=st.integers(1, 10**7),
    batch_size=st.integers(1, 10**4),
    epochs=st.integers(1, 1000),
    cycles=st.integers(1, 9),
)
def test_a_run_of_data_has_as_many_steps_as_batches(samples, batch_size, epochs, cycles):
    run = Run.of(samples=samples, batch_size=batch_size, epochs=epochs, cycles=cycles)
    assert run == Run(
        epochs * math.ceil(Fraction(samples, batch_size)),
        steps_per_epoch=math.ceil(Fraction(samples, batch_size)),
        cycles=cycles,
    )
    assert run.steps(f"{epochs} epochs") == run.steps("100 %") == run.total_steps


@given(epochs=st.integers(1, 50), batch_size=st.integers(1, 600), cycles=st.integers(1, 9))
def test_the_last_cycle_ends_on_the_last_step(epochs, batch_size, cycles):
    run = Run.of(samples=600, batch_size=batch_size, epochs=epochs, cycles=cycles)
    if run.total_steps > 2 * cycles:
        schedule = Cyclical.over(run.total_steps, cycles, 0.001, 0.1)
        assert schedule.is_cycle_end(run.total_steps - 1)
        assert schedule(run.total_steps - 1) == 0.001
    if (run.total_steps - 1) % (2 * cycles) == 0 and run.total_steps > 1:
        schedule = Cyclical(0.001, 0.1, run.steps("0.5 cycles"))
        assert schedule.is_cycle_end(run.total_steps - 1)
        assert schedule.cycle(run.total_steps - 1) == cycles


def test_the_batch_size_changes_the_steps_and_not_the_schedule():
    shapes = []
    for batch_size in (10, 20, 40):
        run = Run.of(samples=800, batch_size=batch_size, epochs=10)
        schedule = OneCycle(0.01, 0.1, run.total_steps, rise=run.steps("30 %"), final_lr=0.0)
        shapes.append([schedule(run.steps(f"{epoch} epochs")) for epoch in (1, 2, 3)])
    assert shapes[0] == shapes[1] == pytest.approx(shapes[2])


@pytest.mark.parametrize(
    ("run", "length", "message"),
    [
        (
            Run(100),
            "4 epochs",
            "steps_per_epoch must be given to measure in epochs; got length='4 epochs' and Run(total_steps=100, "
            "steps_per_epoch=None, cycles=None). Create the run with cyclr.Run(total_steps, steps_per_epoch=...).",
        ),
        (
            Run(100, steps_per_epoch=10),
            "1 cycle",
            "cycles must be given to measure in cycles; got length='1 cycle' and "
            "Run(total_steps=100, steps_per_epoch=10, cycles=None). Create the run with "
            "cyclr.Run(total_steps, cycles=...).",
        ),
        (
            RUN,
            "4 batches",
            "length must be a number and a unit; got length='4 batches'. "
            'Units are steps, epochs, cycles and %, such as "4 epochs". An int is a number of steps.',
        ),
        (RUN, "0 epochs", "length must be greater than 0; got length='0 epochs'."),
        (
            Run(1, cycles=1),
            "1 cycle",
            "length must be greater than 0; got length='1 cycle'. A run of one step has no cycle.",
        ),
        (Run(1, steps_per_epoch=1), "0 epochs", "length must be greater than 0; got length='0 epochs'."),
        (Run(9, cycles=1), "0 cycles", "length must be greater than 0; got length='0 cycles'."),
        (
            RUN,
            0,
            "length must be an integer of at least 1; got length=0. "
            'Units are steps, epochs, cycles and %, such as "4 epochs". An int is a number of steps.',
        ),
    ],
    ids=["epochs", "cycles", "unit", "nothing", "one-step", "one-step-of-epochs", "no-cycle", "zero"],
)
def test_message(run, length, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        run.steps(length)


NONSENSE = ["", " ", "epochs", "4", "4.5.6 epochs", "-4 epochs", "4 epochss", "4 s", "4 %s", "1e3 steps", "nan epochs"]
NONSENSE += ["inf steps", "4 epochs 3 steps", "four epochs", "4 Epochs", "4, epochs", ". epochs", "1/2 cycles", "4 %%"]


@pytest.mark.parametrize("length", NONSENSE)
def test_an_illegal_length_string_is_a_value_error(length):
    with pytest.raises(ValueError, match=r'^length must be a number and a unit; got length=.*Units are .* "4 epochs"'):
        RUN.steps(length)


@pytest.mark.parametrize("length", [None, 4.0, 0.3, True, math.nan, ["4 epochs"], b"4 epochs", Fraction(4)], ids=repr)
def test_a_length_that_is_no_int_or_string_is_a_type_error(length):
    with pytest.raises(TypeError, match=r"^length must be an integer; got length=.* of type \w+\. Units are"):
        RUN.steps(length)


@pytest.mark.parametrize("value", [0, -1, -(10**20)])
@pytest.mark.parametrize("name", ["total_steps", "steps_per_epoch", "cycles", "samples", "batch_size", "epochs"])
def test_a_count_below_one_is_a_value_error(name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be an integer of at least 1; got {name}={value}\."):
        build(name, value)


@pytest.mark.parametrize("value", [1.0, 2.5, math.nan, "10", True, [10]], ids=repr)
@pytest.mark.parametrize("name", ["total_steps", "steps_per_epoch", "cycles", "samples", "batch_size", "epochs"])
def test_a_count_that_is_no_integer_is_a_type_error(name, value):
    with pytest.raises(TypeError, match=rf"^{name} must be an integer; got {name}=.* of type {type(value).__name__}\."):
        build(name, value)


def build(name, value):
    if name in ("samples", "batch_size", "epochs"):
        return Run.of(**{"samples": 100, "batch_size": 10, "epochs": 3, name: value})
    return Run(**{"total_steps": 100, name: value})


def test_a_run_is_a_value():
    assert Run(1001, steps_per_epoch=100, cycles=5) == RUN != Run(1001, steps_per_epoch=100)
    assert hash(Run(1001, steps_per_epoch=100, cycles=5)) == hash(RUN)
    assert eval(repr(RUN), vars(cyclr).copy()) == RUN  # noqa: S307
    with pytest.raises(AttributeError, match=r"^cannot assign to field 'cycles'$"):
        RUN.cycles = 3
