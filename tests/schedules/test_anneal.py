"""`Anneal`: one leg, by five curves. Formulas written again from their sources; digits from mpmath."""

import json
import math

import mpmath
import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from cyclr import Anneal, Schedule
from cyclr.schedules.anneal import CURVES

mpmath.mp.dps = 50
EPS = np.finfo(np.float64).eps
STEPS = st.integers(0, 300) | st.integers(0, 10**15)
LONG = 3 * 10**12 + 7
FAR = [10**12 + more for more in (-3, 0, 1, 7, 12345)] + [2 * 10**12 + 1, LONG - 1]


def exact(step, start, end, steps, curve="linear", power=1, warp=1):
    """The formula in 50 digits."""
    x, start, end = mpmath.mpf(step) / steps, mpmath.mpf(start), mpmath.mpf(end)
    if curve == "exponential":
        return start * (end / start) ** x
    if curve == "inverse":
        return 1 / ((1 - x) / start + x / end)
    if curve == "inverse_sqrt":
        return 1 / mpmath.sqrt((1 - x) / start**2 + x / end**2)
    rest = 1 - x ** mpmath.mpf(warp)
    if curve == "cosine":
        rest = (1 - mpmath.cos(mpmath.pi * rest)) / 2
    rest = rest ** mpmath.mpf(power)
    return start * rest + end * (1 - rest)


@given(leg=..., step=STEPS)
def test_it_goes_from_start_to_end_within_its_bounds_and_is_exact_at_both(leg: Anneal, step):
    last = leg.end if leg.limit is None else leg.limit
    low, high = sorted((leg.start, last))
    assert low <= leg(step) <= high == leg.largest
    assert leg(0) == leg.start
    assert leg(leg.steps) == np.clip(leg.end, low, high)
    if leg.limit is None:
        assert leg(leg.steps + step) == leg.end


@given(leg=..., step=STEPS)
@example(leg=Anneal(1.9028, 1.9028, 1, limit=0.0), step=1_000)
def test_it_never_turns_back_by_more_than_rounding(leg: Anneal, step):
    values = leg(step + np.arange(40))
    moves = np.diff(values) * (1 if leg.end >= leg.start else -1)
    assert moves.min() >= -4 * EPS * leg.largest


@given(leg=..., step=STEPS)
def test_arrays_descriptions_and_ints_agree(leg: Anneal, step):
    again = Schedule.from_dict(json.loads(json.dumps(leg.to_dict())))
    assert again == leg
    assert again(step) == leg(step) == leg(np.array([step]))[0]


CASES = [
    *(("linear", {"power": power}) for power in (1, 2, 0.5)),
    *(("linear", {"power": power, "warp": warp}) for power in (1, 2) for warp in (0.5, 3)),
    *(("cosine", {"power": power}) for power in (1, 2)),
    *((curve, {}) for curve in ("exponential", "inverse", "inverse_sqrt")),
]


@pytest.mark.parametrize(("curve", "how"), CASES)
@pytest.mark.parametrize(("start", "end"), [(0.1, 0.003), (0.003, 0.1), (0.1, 0.0999999)])
def test_it_is_exact_around_a_step_of_a_million_millions(curve, how, start, end):
    leg = Anneal(start, end, LONG, curve, **how)
    for step in FAR:
        off = abs(mpmath.mpf(leg(step)) - exact(step, start, end, LONG, curve, **how))
        assert off <= 4 * EPS * max(start, end), (step, float(off))


@pytest.mark.parametrize(
    ("curve", "steps", "factor"), [("exponential", 1, 1 - 1e-12), ("inverse", 1000, 0.5), ("inverse_sqrt", 1000, 0.5)]
)
def test_an_endless_fall_keeps_its_relative_precision(curve, steps, factor):
    leg = Anneal(1.0, factor, steps, curve, limit=0)
    for step in FAR:
        true = exact(step, 1.0, factor, steps, curve)
        assert abs(mpmath.mpf(leg(step)) / true - 1) <= 16 * EPS


def test_growth_ends_at_its_limit_and_overflows_nowhere():
    for curve in ("linear", "exponential", "inverse", "inverse_sqrt"):
        leg = Anneal(1e-3, 2e-3, 10, curve, limit=1e300)
        assert leg(np.array([0, 10, 11, 10**12]))[:2].tolist() == [1e-3, 2e-3]
        assert 2e-3 < leg(11) <= leg(10**12) <= 1e300
    assert Anneal(1e-3, 2e-3, 10, "exponential", limit=0.5)(10**400) == 0.5
    assert Anneal(1e-300, 1e300, 10, "inverse_sqrt")(10) == 1e300
    assert Anneal(1e300, 1e-300, 10, "inverse_sqrt")(np.array([0, 5, 10]))[[0, 2]].tolist() == [1e300, 1e-300]


def test_a_power_equals_repeated_multiplication_by_the_factor():
    leg = 0.1 * Anneal(1, 0.5, 1, "exponential", limit=0)
    assert [leg(step) for step in range(60)] == [0.1 * 0.5**step for step in range(60)]


@given(leg=..., step=st.integers(0, 10**6))
def test_only_a_fall_without_limit_ends_a_cycle_and_has_total_steps(leg: Anneal, step):
    falls = leg.end < leg.start and leg.limit is None
    assert leg.total_steps == (leg.steps + 1 if falls else None)
    assert leg.has_cycle_ends is leg.is_cycle_end(leg.steps) is falls
    assume(step != leg.steps)
    assert leg.is_cycle_end(step) is False


ANNEAL = {"start": 0.1, "end": 0.01, "steps": 10}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"start": "0.1"}, TypeError, "start must be a number; got start='0.1' of type str."),
        ({"end": -0.1}, ValueError, "end must be a finite number of at least 0; got end=-0.1."),
        ({"end": math.nan}, ValueError, "end must be a finite number of at least 0; got end=nan."),
        ({"steps": 0}, ValueError, "steps must be an integer of at least 1; got steps=0. It counts optimizer updates."),
        (
            {"steps": 1.5},
            TypeError,
            "steps must be an integer; got steps=1.5 of type float. It counts optimizer updates.",
        ),
        (
            {"curve": "sine"},
            ValueError,
            f"curve must be one of {', '.join(map(repr, CURVES))}; got curve='sine'. Did you mean 'cosine'?",
        ),
        (
            {"curve": "exponential", "end": 0},
            ValueError,
            'end must be a finite number greater than 0; got end=0. For curve="exponential".',
        ),
        ({"power": 0}, ValueError, "power must be a finite number greater than 0; got power=0."),
        (
            {"curve": "inverse", "warp": 0.5},
            ValueError,
            'power and warp must be 1 with curve="inverse", limit=None; got power=1.0, warp=0.5. Use them '
            'with curve="linear" or "cosine", and without limit.',
        ),
        (
            {"curve": "cosine", "limit": 0},
            ValueError,
            'limit must be None with curve="cosine", which ends at `end`; got limit=0.',
        ),
        (
            {"limit": 0.2},
            ValueError,
            "limit must be a finite number of at least 0 and at most 0.1; got limit=0.2. It must lie on the same side "
            "of `start` as `end`.",
        ),
        (
            {"end": 0.2, "limit": 0.05},
            ValueError,
            "limit must be a finite number of at least 0.1; got limit=0.05. It must lie on the same side "
            "of `start` as `end`.",
        ),
    ],
    ids=lambda value: None,
)
def test_illegal_arguments_of_anneal_are_an_error(arguments, error, message):
    with pytest.raises(error) as caught:
        Anneal(**{**ANNEAL, **arguments})
    assert str(caught.value) == message


@pytest.mark.parametrize("end", [0.9999, 0.999_999, 0.6])
def test_a_factor_near_one_keeps_its_digits(end):
    for start in (1.0, 0.3):
        near = start * end
        leg = Anneal(start, near, 1, "exponential", limit=0)
        for step in (10, 1000, 100_000):
            expected = float(start * (mpmath.mpf(near) / start) ** step)
            assert leg(step) == pytest.approx(expected, rel=1e-15 * max(10, -math.log(end) * step))
