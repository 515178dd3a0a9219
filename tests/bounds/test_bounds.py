"""`Bounds`: the two numbers, and the schedule made of them."""

import dataclasses
import json
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclr import (
    Anneal,
    Bounds,
    BoundsError,
    Clock,
    Constant,
    Cyclical,
    CyclrError,
    Exponential,
    Halving,
    OneCycle,
    Product,
    RangeTest,
    RangeTestResult,
    Run,
    Schedule,
    Sequence,
    Warmup,
    WarmupStableDecay,
)
from cyclr.bounds import knee

GOOD = Bounds(0.001, 0.1, "ok", "The loss fell.")
UNUSABLE = ["flat", "too_few_points"]


@given(cycles=st.integers(1, 20), more=st.integers(0, 2000))
def test_the_first_and_the_last_step_are_at_the_lower_bound_and_every_cycle_reaches_the_upper(cycles, more):
    total_steps = 2 * cycles + 1 + more
    values = GOOD.schedule(total_steps=total_steps, cycles=cycles)(np.arange(total_steps))
    assert values[0] == values[-1] == values.min() == 0.001
    assert np.sum(values == 0.1) == cycles


def test_the_schedule_is_one_cycle_by_default_and_takes_its_style():
    assert GOOD.schedule(total_steps=101) == Cyclical.over(101, 1, 0.001, 0.1, rise=0.3, shape="parabolic")
    styled = GOOD.schedule(total_steps=101, cycles=3, rise=0.5, shape="sinusoidal", decay=Halving())
    assert styled == Cyclical.over(101, 3, 0.001, 0.1, rise=0.5, shape="sinusoidal", decay=Halving())


def test_the_two_numbers_can_be_unpacked():
    base_lr, max_lr = GOOD
    assert (base_lr, max_lr) == (GOOD.base_lr, GOOD.max_lr)
    assert Cyclical(*GOOD, 50) == Cyclical(0.001, 0.1, 50)
    assert dict(zip(("base_lr", "max_lr"), GOOD, strict=True)) == {"base_lr": 0.001, "max_lr": 0.1}


@pytest.mark.parametrize("status", UNUSABLE)
def test_unpacking_bounds_without_numbers_raises_bounds_error(status):
    bounds = Bounds(None, None, status, "Seen this. Do that.")
    messages = []
    for use in (lambda: bounds.schedule(total_steps=9), lambda: Cyclical(*bounds, 3), lambda: max(bounds)):
        with pytest.raises(BoundsError) as error:
            use()
        messages.append(str(error.value))
    assert messages == [f"these bounds hold no numbers (status {status!r}): Seen this. Do that."] * 3


OPTIONS = {
    "cycle": {"cycles": st.integers(1, 5), "rise": st.floats(0.01, 0.99)},
    "one_cycle": {"rise": st.floats(0.01, 0.49) | st.integers(1, 9), "fall": st.floats(0.01, 0.49) | st.none()},
    "warm_restarts": {"cycles": st.integers(1, 5)},
    "wsd": {"rise": st.floats(0, 0.49) | st.integers(0, 9), "fall": st.floats(0.01, 0.49) | st.integers(1, 9)},
}
SHAPED = {"shape": st.sampled_from(["triangular", "parabolic", "sinusoidal"])}
ENDS = {"cycle": 0.001, "one_cycle": 0.001 / 10_000, "warm_restarts": 0.001, "wsd": 0.0}
"""The documented rate at the last step, of bounds from 0.001."""


@pytest.mark.parametrize("kind", OPTIONS)
@given(data=st.data(), total=st.integers(30, 2000))
def test_every_kind_has_its_top_at_max_lr_and_ends_where_it_says(kind, data, total):
    legal = OPTIONS[kind] | (SHAPED if kind != "wsd" else {})
    options = {name: data.draw(values, name) for name, values in legal.items() if data.draw(st.booleans())}
    schedule = GOOD.schedule(total_steps=total, kind=kind, **options)
    values = schedule(np.arange(total + 5))
    assert schedule.total_steps == total
    assert values.max() == schedule.largest == 0.1
    assert set(values[total - 1 :]) == {ENDS[kind]}
    assert values.min() >= min(ENDS[kind], 0.001)
    assert values[0] in ({0.1} if kind == "warm_restarts" else {0.001, 0.1} if kind == "wsd" else {0.001})
    assert Schedule.from_dict(schedule.to_dict()) == schedule


def test_the_kinds_are_the_schedules_of_their_classes():
    assert GOOD.schedule(total_steps=101, kind="one_cycle") == OneCycle(0.001, 0.1, 101)
    assert GOOD.schedule(total_steps=101, kind="wsd") == WarmupStableDecay(0.1, 101, warmup=0.1, start=0.001)
    symmetric = GOOD.schedule(total_steps=101, kind="one_cycle", rise=40, fall=40, shape="triangular")
    assert symmetric == OneCycle(0.001, 0.1, 101, rise=40, fall=40, shape="triangular")
    assert GOOD.schedule(epochs=2, steps_per_epoch=50, kind="wsd").total_steps == 100


TAKEN = {
    "cycle": {"cycles", "rise", "shape", "decay"},
    "one_cycle": {"rise", "fall", "shape"},
    "warm_restarts": {"cycles", "shape", "decay"},
    "wsd": {"rise", "fall"},
}
VALUES = {"cycles": 2, "rise": 0.2, "fall": 0.25, "shape": "triangular", "decay": Exponential(0.99)}


@pytest.mark.parametrize("kind", TAKEN)
@pytest.mark.parametrize("name", VALUES)
def test_every_kind_takes_its_own_options_and_refuses_the_others(kind, name):
    options = {"total_steps": 101, "kind": kind, name: VALUES[name]}
    if name in TAKEN[kind]:
        assert GOOD.schedule(**options) != GOOD.schedule(total_steps=101, kind=kind)
        return
    with pytest.raises(ValueError, match=rf"^kind='{kind}' takes .*; got {name}=.*\. Omit {name}, or write kind='"):
        GOOD.schedule(**options)


def test_an_unknown_kind_is_an_error_that_lists_them():
    kinds = "'cycle', 'one_cycle', 'warm_restarts', 'wsd'"
    with pytest.raises(ValueError, match=f"^kind must be one of {kinds}; got kind='cosine'"):
        GOOD.schedule(total_steps=101, kind="cosine")


@pytest.mark.parametrize("kind", OPTIONS)
def test_a_run_that_is_too_short_is_an_error(kind):
    with pytest.raises(ValueError, match=r"^total_steps must"):
        GOOD.schedule(total_steps=1, kind=kind)


NO_SCHEDULE = {
    "Sequence": lambda given: Sequence([Constant(0.1), given], [3]),
    "Sequence as a list": lambda given: Sequence(given, [3]),
    "Warmup": lambda given: Warmup(given, 3),
    "Clock": Clock,
    "Product": lambda given: Product(Constant(0.1), given),
    "multiplied": lambda given: given * Constant(0.1),
    "Constant": Constant,
    "Cyclical": lambda given: Cyclical(given, 0.1, 10),
    "OneCycle": lambda given: OneCycle(0.001, given, 10),
    "Anneal": lambda given: Anneal(given, 0.0, 10),
    "RangeTest": lambda given: RangeTest(min_lr=given),
}


@pytest.mark.parametrize("make", NO_SCHEDULE.values(), ids=NO_SCHEDULE)
@pytest.mark.parametrize("name", ["bounds", "result.bounds"])
def test_bounds_in_place_of_a_schedule_say_what_to_write(make, name):
    result = RangeTestResult(LR, LR, "completed", 1e-6, 10.0, 150)
    message = rf"got .*\. Write {name}\.schedule\(total_steps=\.\.\.\) with the updates of the run, or base_lr, "
    with pytest.raises(TypeError, match=message):
        make(GOOD if name == "bounds" else result)


def test_a_schedule_cannot_be_read_from_a_description_of_bounds():
    for description in (GOOD.to_dict(), RangeTestResult(LR, LR, "completed", 1e-6, 10.0, 150).to_dict()):
        with pytest.raises(
            ValueError, match=r"got the description of a range test\. .*\.bounds\.schedule\(total_steps="
        ):
            Schedule.from_dict(description)


@pytest.mark.parametrize("status", ["no_divergence", "noisy"])
def test_bounds_with_another_status_than_ok_can_be_used(status):
    assert Bounds(0.001, 0.1, status, "").schedule(total_steps=101)(30) == 0.1


def test_a_noisy_curve_says_so_and_still_has_numbers():
    bounds = knee(LR, 2.3 - 0.5 / (1 + (0.01 / LR) ** 2) + 0.4 * NOISE)
    assert bounds.status == "noisy"
    assert bounds.usable
    assert bounds.reason.endswith("Run the range test with more steps or larger batches.")


LR = np.geomspace(1e-6, 10, 150)
NOISE = np.random.default_rng(4).standard_normal(150)


@pytest.mark.parametrize(
    ("bounds", "status", "advice"),
    [
        (knee(LR, np.ones(150)), "flat", "Raise max_lr of the range test, and check that the model learns at all."),
        (knee(LR, 1 + (LR / 1e-5)), "flat", "Lower min_lr of the range test."),
        (knee(LR[:5], LR[:5]), "too_few_points", "Run the range test with more steps, or from a smaller min_lr."),
    ],
    ids=["constant", "rising", "few"],
)
def test_a_schedule_without_numbers_is_an_error_that_says_what_was_seen_and_what_to_change(bounds, status, advice):
    assert not bounds.usable
    assert bounds.status == status
    with pytest.raises(BoundsError) as error:
        bounds.schedule(total_steps=100)
    assert str(error.value) == f"these bounds hold no numbers (status {status!r}): {bounds.details}"
    assert bounds.reason.endswith(advice)
    assert bounds.reason.count(advice) == 1
    assert isinstance(error.value, CyclrError)


@pytest.mark.parametrize("status", UNUSABLE)
def test_a_status_raises_nothing_by_itself(status):
    bounds = Bounds(None, None, status, "Seen this.")
    assert (bounds.base_lr, bounds.max_lr, bounds.status, bounds.reason) == (None, None, status, "Seen this.")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            (0.1, 0.01, "ok", ""),
            ValueError,
            "max_lr must be greater than base_lr; got base_lr=0.1, max_lr=0.01. Swap them?",
        ),
        ((0.1, 0.1, "ok", ""), ValueError, "max_lr must be greater than base_lr"),
        ((-0.1, 0.1, "ok", ""), ValueError, "base_lr must be a finite number of at least 0; got base_lr=-0.1"),
        ((0.1, math.nan, "ok", ""), ValueError, "max_lr must be a finite number greater than 0; got max_lr=nan"),
        ((0.1, math.inf, "ok", ""), ValueError, "max_lr must be a finite number greater than 0; got max_lr=inf"),
        (("0.1", 1.0, "ok", ""), TypeError, "base_lr must be a number; got base_lr='0.1'"),
        (
            (None, 0.1, "ok", ""),
            ValueError,
            "base_lr and max_lr must be both numbers or both None; got base_lr=None, max_lr=0.1",
        ),
        ((0.1, None, "flat", ""), ValueError, "base_lr and max_lr must be both numbers or both None"),
        ((None, None, "noisy", ""), ValueError, "base_lr and max_lr must be numbers if the status is 'ok', "),
        (
            (0.1, 0.2, "too_few_points", ""),
            ValueError,
            "base_lr and max_lr must be .* None if it is 'too_few_points'; got",
        ),
        ((0.1, 0.2, "ok", None), TypeError, "reason must be a string; got reason=None"),
        ((0.1, 0.2, "good", ""), ValueError, "status must be one of 'ok', 'flat', .*; got status='good'"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else None,
)
def test_illegal_fields_of_bounds_are_an_error(arguments, error, message):
    with pytest.raises(error, match="^" + message):
        Bounds(*arguments)


def test_the_length_of_a_run_is_given_by_name_in_steps_or_in_epochs():
    wanted = GOOD.schedule(total_steps=100, cycles=2)
    assert GOOD.schedule(epochs=5, steps_per_epoch=20, cycles=2) == wanted
    assert GOOD.schedule(total_steps=Run.of(samples=640, batch_size=32, epochs=5), cycles=2) == wanted
    assert wanted.total_steps == 100


@pytest.mark.parametrize(
    ("positional", "named", "received", "remedy"),
    [
        ((5,), {}, "5", "total_steps=5"),
        ((450, 2), {}, "450, 2", "total_steps=450"),
        ((450,), {"cycles": 2}, "450", "total_steps=450"),
        ((), {}, "none", "total_steps=960"),
        ((), {"epochs": 5}, "epochs=5", "total_steps=960"),
        ((), {"steps_per_epoch": 20}, "steps_per_epoch=20", "total_steps=960"),
        ((), {"total_steps": 100, "epochs": 5}, "total_steps=100, epochs=5", "total_steps=960"),
        ((7,), {"total_steps": 100}, "7, total_steps=100", "total_steps=7"),
    ],
)
def test_another_length_is_a_type_error_that_says_what_to_write(positional, named, received, remedy):
    message = (
        "the length of the training run must be given by name, as total_steps or as epochs and steps_per_epoch; "
        f"got {received}. Write bounds.schedule({remedy}) or bounds.schedule(epochs=5, steps_per_epoch=192)."
    )
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        GOOD.schedule(*positional, **named)


@pytest.mark.parametrize(
    ("epochs", "steps_per_epoch", "error"), [(0, 20, ValueError), (5, 0, ValueError), (1.5, 20, TypeError)]
)
def test_epochs_and_their_steps_are_whole_and_positive(epochs, steps_per_epoch, error):
    with pytest.raises(error, match=r"^(epochs|steps_per_epoch) must be an integer"):
        GOOD.schedule(epochs=epochs, steps_per_epoch=steps_per_epoch)


@pytest.mark.parametrize(("arguments", "error"), [({"total_steps": 2}, ValueError), ({"total_steps": 10.0}, TypeError)])
def test_illegal_options_raise_the_error_of_the_schedule(arguments, error):
    with pytest.raises(error, match=r"^total_steps must be"):
        GOOD.schedule(**arguments)


def test_bounds_are_values():
    assert Bounds(0.001, 0.1, "ok", "The loss fell.") == GOOD != Bounds(0.001, 0.2, "ok", "The loss fell.")
    assert hash(GOOD) == hash(dataclasses.replace(GOOD))
    for name in ("base_lr", "max_lr", "status", "reason"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(GOOD, name, None)


@pytest.mark.parametrize("bounds", [GOOD, Bounds(None, None, "flat", "Nothing.")])
def test_a_description_is_the_fields(bounds):
    assert Bounds(**json.loads(json.dumps(bounds.to_dict()))) == bounds


def test_bounds_of_numpy_numbers_are_plain_numbers():
    bounds = Bounds(np.float32(0.5), np.array(1.0)[()], "ok", "Seen this.")
    assert json.dumps(bounds.to_dict())
    assert (type(bounds.base_lr), type(bounds.max_lr)) == (float, float)


BOUNDS = Bounds(0.001, 0.1, "noisy", "A reason.")


@given(old=st.integers(1, 10**6), share=st.floats(1 / 16, 1))
def test_bounds_of_a_smaller_batch_are_scaled_by_the_square_root(old, share):
    new = math.ceil(share * old)
    scaled = BOUNDS.for_batch_size(old, new)
    assert np.array(scaled.numbers) ** 2 == pytest.approx(np.array(BOUNDS.numbers) ** 2 * new / old)
    assert scaled.status == BOUNDS.status
    assert new == old or scaled.reason.startswith(f"{scaled.verdict} {BOUNDS.details}")


@given(sizes=st.lists(st.integers(64, 1024), min_size=3, max_size=3))
def test_two_changes_of_the_batch_size_equal_one_change(sizes):
    smallest, between, largest = sorted(sizes)
    at_once = BOUNDS.for_batch_size(largest, smallest)
    assert BOUNDS.for_batch_size(largest, between).for_batch_size(between, smallest).numbers == pytest.approx(
        at_once.numbers
    )


@pytest.mark.parametrize("size", [1, 32, np.int64(32)])
def test_the_same_batch_size_changes_nothing(size):
    assert BOUNDS.for_batch_size(size, size) == BOUNDS


@pytest.mark.parametrize(("old", "new"), [(32, 33), (32, 128), (32, 1), (1024, 63)])
def test_a_batch_size_beyond_what_was_measured_is_refused(old, new):
    with pytest.raises(
        ValueError, match=rf"got old={old}, new={new}\. Run the range test .* from {new} to {16 * new}\."
    ):
        BOUNDS.for_batch_size(old, new)


def test_a_sixteenth_of_the_batch_size_is_the_smallest_that_was_measured():
    assert BOUNDS.for_batch_size(1024, 64).numbers == (0.00025, 0.025)


@pytest.mark.parametrize(
    ("old", "new", "error", "name"),
    [(0, 1, ValueError, "old"), (8, -1, ValueError, "new"), (8, 0.5, TypeError, "new"), ("8", 8, TypeError, "old")],
)
def test_batch_sizes_are_checked(old, new, error, name):
    with pytest.raises(error, match=f"^{name} must be an integer"):
        BOUNDS.for_batch_size(old, new)


def test_for_batch_size_raises_for_bounds_without_numbers():
    with pytest.raises(BoundsError, match="these bounds hold no numbers"):
        Bounds(None, None, "flat", "Nothing fell.").for_batch_size(32, 8)


@pytest.mark.parametrize(
    ("bounds", "shown"),
    [
        (
            Bounds(0.00123456, 0.123456, "ok", "Train between base_lr=0.00123 and max_lr=0.123. The loss fell."),
            "<Bounds: base_lr=0.00123, max_lr=0.123 (ok). The loss fell.>",
        ),
        (
            Bounds(1e-7, 10, "noisy", "Read from a plot."),
            "<Bounds: base_lr=1e-07, max_lr=10 (noisy). Read from a plot.>",
        ),
        (Bounds(None, None, "flat", "The loss never fell."), "<Bounds: none (flat). The loss never fell.>"),
    ],
)
def test_repr_has_three_digits_and_the_numbers_have_all(bounds, shown):
    assert repr(bounds) == str(bounds) == shown
    if bounds.usable:
        assert bounds == Bounds(*bounds, bounds.status, bounds.reason)
