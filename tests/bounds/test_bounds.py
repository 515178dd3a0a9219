"""`Bounds`: the two numbers, and the schedule made of them."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclr import Bounds, BoundsError, Cyclical, CyclrError, Halving
from cyclr.bounds import knee

GOOD = Bounds(0.001, 0.1, "ok", "The loss fell.")
UNUSABLE = ["flat", "too_few_points"]


@given(cycles=st.integers(1, 20), more=st.integers(0, 2000))
def test_the_first_and_the_last_step_are_at_the_lower_bound_and_every_cycle_reaches_the_upper(cycles, more):
    total_steps = 2 * cycles + 1 + more
    values = GOOD.schedule(total_steps, cycles)(np.arange(total_steps))
    assert values[0] == values[-1] == values.min() == 0.001
    assert np.sum(values == 0.1) == cycles


def test_the_schedule_is_one_cycle_by_default_and_takes_its_style():
    assert GOOD.schedule(101) == Cyclical.over(101, 1, 0.001, 0.1, rise=0.3, shape="parabolic")
    styled = GOOD.schedule(101, 3, rise=0.5, shape="sinusoidal", decay=Halving())
    assert styled == Cyclical.over(101, 3, 0.001, 0.1, rise=0.5, shape="sinusoidal", decay=Halving())


@pytest.mark.parametrize("status", ["no_divergence", "noisy"])
def test_numbers_that_are_marked_can_be_used(status):
    assert Bounds(0.001, 0.1, status, "").schedule(101)(30) == 0.1


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
    assert str(error.value) == f"these bounds hold no numbers (status {status!r}): {bounds.reason}"
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
        ((-0.1, 0.1, "ok", ""), ValueError, "base_lr must be a finite number at least 0; got base_lr=-0.1"),
        ((0.1, math.nan, "ok", ""), ValueError, "max_lr must be a finite number greater than 0; got max_lr=nan"),
        ((0.1, math.inf, "ok", ""), ValueError, "max_lr must be a finite number greater than 0; got max_lr=inf"),
        (("0.1", 1.0, "ok", ""), TypeError, "base_lr must be a number; got base_lr='0.1'"),
        (
            (None, 0.1, "ok", ""),
            ValueError,
            "base_lr and max_lr must be both numbers or both None; got base_lr=None, max_lr=0.1",
        ),
        ((0.1, None, "flat", ""), ValueError, "base_lr and max_lr must be both numbers or both None"),
        ((None, None, "noisy", ""), ValueError, "bounds must hold numbers if their status is one of 'ok', "),
        ((0.1, 0.2, "too_few_points", ""), ValueError, "bounds must hold .* none if it is 'too_few_points'; got"),
        ((0.1, 0.2, "ok", None), TypeError, "reason must be a text; got reason=None"),
        ((0.1, 0.2, "good", ""), ValueError, "status must be one of 'ok', 'flat', .*; got status='good'"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else None,
)
def test_what_are_no_bounds_is_an_error(arguments, error, message):
    with pytest.raises(error, match="^" + message):
        Bounds(*arguments)


@pytest.mark.parametrize(("arguments", "error"), [({"total_steps": 2}, ValueError), ({"total_steps": 10.0}, TypeError)])
def test_what_no_schedule_can_be_made_of_is_the_schedule_s_error(arguments, error):
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
