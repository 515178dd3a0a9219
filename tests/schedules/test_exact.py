"""What holds for every schedule: it keeps numbers of Python, and steps near 2⁶³ are as exact as others."""

from fractions import Fraction

import numpy as np
import pytest

import cyclr
from cyclr import (
    Anneal,
    Clock,
    Constant,
    Cyclical,
    Exponential,
    Function,
    Mirrored,
    OneCycle,
    Product,
    Run,
    Sequence,
    WarmRestarts,
    Warmup,
    WarmupStableDecay,
)
from cyclr.schedules._namespace import NUMPY, SCALAR

CYCLE = Cyclical(0.25, 0.75, 3)
LEG = Anneal(1.0, 0.5, 1)


def share(step):
    return 0.5


MADE = {
    "anneal": (Anneal, (1, 2, 3), {"power": 2, "warp": 3}),
    "anneal that goes on": (Anneal, (2, 1, 3), {"limit": 0}),
    "clock": (Clock, (CYCLE,), {"start": 1, "every": 2, "repeat": 3}),
    "constant": (Constant, (1,), {}),
    "cyclical": (Cyclical, (0, 1, 2), {"step_size_down": 3}),
    "fractional": (Cyclical.fractional, (0, 1, 2, 3), {}),
    "over": (Cyclical.over, (11, 2, 0, 1), {}),
    "exponential": (Exponential, (1,), {}),
    "function": (Function, (share,), {"low": 0, "high": 1}),
    "mirrored": (Mirrored, (CYCLE, 0, 1), {}),
    "one cycle": (OneCycle, (0, 2, 11), {"rise": 2, "fall": 3, "final_lr": 1}),
    "product": (Product, (2, LEG), {}),
    "run": (Run, (10,), {"steps_per_epoch": 5, "cycles": 2}),
    "sequence": (Sequence, ([CYCLE, LEG], [2, 3]), {}),
    "warm restarts": (WarmRestarts, (0, 1, 2), {}),
    "restarts over": (WarmRestarts.over, (11, 2, 0, 1), {}),
    "warmup": (Warmup, (CYCLE, 2, 1), {"to": 2}),
    "warmup, stable, decay": (WarmupStableDecay, (2, 11), {"warmup": 2, "decay": 3, "start": 1, "end": 1}),
}


def plain_numbers(value):
    """The numbers in a schedule's public fields."""
    if isinstance(value, tuple | list):
        return [number for part in value for number in plain_numbers(part)]
    return [value] if isinstance(value, (int, float, np.number)) else []


@pytest.mark.parametrize(("make", "arguments", "named"), MADE.values(), ids=MADE)
def test_a_schedule_keeps_numbers_of_python_whatever_it_is_given(make, arguments, named):
    def of_numpy(value):
        if isinstance(value, list) and isinstance(value[0], int):
            return [*map(np.int64, value)]
        return np.int64(value) if type(value) is int else value

    expected = make(*arguments, **named)
    made = make(*map(of_numpy, arguments), **{name: of_numpy(value) for name, value in named.items()})
    assert made == expected
    assert repr(made) == repr(expected)
    fields = [value for name, value in vars(made).items() if not name.startswith("_")]
    assert {type(number) for number in plain_numbers(fields)} <= {int, float, bool}
    rates = {"base_lr", "max_lr", "start", "end", "low", "high", "final_lr", "limit", "power", "warp", "to", "value"}
    for name in rates & vars(made).keys() - ({"start"} if make is Clock else set()):
        assert isinstance(getattr(made, name), float | None), name


LAST = 2**63 - 1
LENGTHS = [LAST - 100, LAST, LAST + 1]
LONG = {
    "anneal": lambda n: Anneal(1.0, 0.25, n),
    "anneal that goes on": lambda n: Anneal(1.0, 0.5, n, limit=0),
    "cosine": lambda n: Anneal(1.0, 0.25, n, "cosine", power=2.0),
    "exponential": lambda n: Anneal(1.0, 0.25, n, "exponential"),
    "inverse": lambda n: Anneal(1.0, 0.25, n, "inverse", limit=0),
    "stairs": lambda n: Clock(LEG, every=n),
    "stairs of ends": lambda n: Clock(WarmRestarts(0.25, 1.0, 1), every=n),
    "turns": lambda n: Clock(Anneal(1.0, 0.25, n), repeat=n),
    "late": lambda n: Clock(Anneal(1.0, 0.25, 10), start=n // 2),
    "warmup": lambda n: Warmup(LEG, n, 0.25),
    "warmup laid over": lambda n: Warmup(Anneal(1.0, 0.25, n), n, 0.5, over=True),
    "sequence": lambda n: Sequence([Anneal(1.0, 0.25, n), LEG], [n]),
    "sequence with an end": lambda n: Sequence([LEG, Anneal(1.0, 0.25, n)], [n - 2, 2]),
    "cycle": lambda n: Cyclical(0.25, 1.0, n // 2, step_size_down=n - n // 2),
    "run of cycles": lambda n: Cyclical.over(n, 1, 0.25, 1.0),
    "one cycle": lambda n: OneCycle(0.25, 1.0, n, final_lr=0.125),
    "three phases": lambda n: OneCycle(0.25, 1.0, n, rise=0.25, fall=0.25, final_lr=0.5),
    "restarts": lambda n: WarmRestarts(0.25, 1.0, n, shape="triangular"),
    "growing restarts": lambda n: WarmRestarts(0.25, 1.0, n // 3, growth=2, shape="triangular"),
    "run of restarts": lambda n: WarmRestarts.over(n, 2, 0.25, 1.0, growth=3),
    "warmup, stable, decay": lambda n: WarmupStableDecay(1.0, n, warmup=0.25, decay=0.25, curve="linear"),
}


@pytest.mark.parametrize("length", LENGTHS, ids=["2**63 - 101", "2**63 - 1", "2**63"])
@pytest.mark.parametrize("make", LONG.values(), ids=LONG)
def test_arrays_up_to_their_last_step_agree_with_the_integers_of_python_or_are_refused(make, length):
    try:
        schedule = make(length)
    except ValueError as error:
        refused = str(error)
    else:
        refused = ""
    # No array can hold what is needed: the length, or the sum of the lengths.
    assert not refused or ((length > LAST - 100 or "need integers up to" in refused) and str(LAST) in refused)
    if refused:
        return
    steps = [
        step for step in (0, 1, length // 3, length // 2, LAST - 2, LAST - 1, LAST) if step != length - 1 or step < LAST
    ]
    values = schedule.evaluate(NUMPY, np.array(steps))
    assert values.tolist() == pytest.approx([schedule.evaluate(SCALAR, step) for step in steps], rel=1e-14)
    assert schedule.is_cycle_end(np.array(steps)).tolist() == [schedule.is_cycle_end(step) for step in steps]
    assert max(values) <= schedule.largest


def test_a_step_of_numpy_has_the_bits_of_an_int():
    schedule = WarmRestarts(0.001, 0.1, 97, growth=1.5, decay=Exponential(0.999))
    values = [schedule(np.int64(step)) for step in range(500)]
    assert values == [schedule(step) for step in range(500)] == schedule(np.arange(500)).tolist()
    assert {type(value) for value in values} == {float}
    assert [schedule.height(step) for step in range(500)] == schedule.height(np.arange(500)).tolist()
    bounds = zip(*(bound.tolist() for bound in schedule.envelope(np.arange(500))), strict=True)
    assert [schedule.envelope(step) for step in range(500)] == list(bounds)


def test_a_mirrored_schedule_is_as_long_as_its_wave():
    assert OneCycle(0.25, 1.0, 10).mirrored(0.5, 0.75).total_steps == 10
    assert CYCLE.mirrored(0.5, 0.75).total_steps is None


@pytest.mark.parametrize(("up", "down"), [(2.5, 2.5), (2.5, 1.25), (3.75, 2.5), (1.5, 4), (4, 1.1)])
def test_fractional_cycles_follow_the_formula(up, down):
    schedule = Cyclical.fractional(0.0, 1.0, up, down)
    length = Fraction(str(up)) + Fraction(str(down))
    for step in (*range(60), 10**12, 10**12 + 3):
        place = step % length
        height = place / Fraction(str(up)) if place <= up else (length - place) / Fraction(str(down))
        assert schedule(step) == pytest.approx(float(height), rel=1e-12, abs=1e-12)
        assert schedule.cycle(step) == step // length
        assert schedule.is_cycle_end(step) is (place == 0 and step > 0)
    near = Fraction(2) + Fraction(1, 10_000)
    assert Cyclical.fractional(0.0, 1.0, 2 + 1 / 10_007, 2 + 1 / 10_007).cycle_length == 2 * near
    for name, lengths in (("step_size", (0.5, 2.0)), ("step_size_down", (2.0, 0.5))):
        with pytest.raises(ValueError, match=f"^{name} must be a finite number of at least 1; got {name}=0.5"):
            Cyclical.fractional(0.0, 1.0, *lengths)


def test_the_shortest_runs_are_legal():
    assert [WarmRestarts.over(2, 1, 0.25, 1.0)(step) for step in (0, 1, 2)] == [1.0, 0.25, 0.25]
    assert [WarmRestarts.over(3, 2, 0.25, 1.0)(step) for step in (0, 1, 2, 3)] == [1.0, 1.0, 0.25, 0.25]
    assert [WarmupStableDecay(1.0, 2, decay=1)(step) for step in (0, 1, 2)] == [1.0, 0.0, 0.0]
    assert [Anneal(1.0, 0.5, 1)(step) for step in (0, 1, 2)] == [1.0, 0.5, 0.5]
    assert [Cyclical(0.25, 1.0, 1)(step) for step in (0, 1, 2)] == [0.25, 1.0, 0.25]
    assert [Cyclical.over(3, 1, 0.25, 1.0)(step) for step in (0, 1, 2, 3)] == [0.25, 1.0, 0.25, 0.25]
    assert [OneCycle(0.25, 1.0, 3, final_lr=0.0)(step) for step in (0, 1, 2)] == [0.25, 1.0, 0.0]


def test_a_last_phase_that_rises_leads_to_the_last_rate():
    schedule = OneCycle(0.25, 1.0, 21, rise=5, fall=5, final_lr=0.5, shape="triangular")
    assert [schedule(step) for step in (0, 5, 10, 15, 20, 99)] == [0.25, 1.0, 0.25, 0.375, 0.5, 0.5]


def test_uneven_cycles_of_a_run_that_arrays_cannot_count_are_refused():
    with pytest.raises(
        ValueError, match=rf"^the cycles need integers up to {3 * (2**62 + 1)}, but the type of the step"
    ):
        Cyclical.over(2**62 + 2, 3, 0.25, 1.0)(np.array([5]))


def test_whole_lengths_are_printed_as_integers():
    assert repr(Cyclical(0.25, 1.0, 2)) == "Cyclical(base_lr=0.25, max_lr=1.0, step_size=2, shape='triangular')"
    assert Cyclical.fractional(0.25, 1.0, 2.0, 2.5).step_size_down == 2.5
    assert type(Cyclical.fractional(0.25, 1.0, 2.0, 2.5).step_size) is int


@pytest.mark.parametrize("growth", [1.01, 2])
def test_a_run_of_too_many_growing_cycles_is_refused(growth):
    with pytest.raises(
        ValueError, match=r"^cycles must be an integer of at most 10000; got cycles=10001\. Or use equal"
    ):
        WarmRestarts.over(10**9, 10_001, 0.25, 1.0, growth=growth)


def test_every_schedule_class_is_tested_here():
    kinds = {kind for name, kind in cyclr.Schedule.kinds().items() if kind.__module__.startswith("cyclr.")}
    assert kinds <= {getattr(make, "__self__", make) for make, _, _ in MADE.values()}
