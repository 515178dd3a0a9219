"""The nearest sequence that falls first and rises then, against scikit-learn's isotonic regression at every split."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import isotonic_regression

from cyclr.bounds.smoothing import unimodal

VALUES = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=25)


def by_splits(values):
    """The smallest sum of squares that any split leaves."""
    v = np.array(values)
    parts = [
        np.concatenate(
            [isotonic_regression(part, increasing=up) for part, up in ((v[:k], False), (v[k:], True)) if len(part)]
        )
        for k in range(len(v) + 1)
    ]
    return min(((part - v) ** 2).sum() for part in parts)


@given(values=VALUES)
def test_unimodal_is_the_closest_sequence_that_falls_and_then_rises(values):
    fitted = unimodal(values)
    lowest = int(np.argmin(fitted))
    slack = 1e-9 * max(1.0, np.abs(values).max())
    assert np.all(np.diff(fitted[: lowest + 1]) <= slack)
    assert np.all(np.diff(fitted[lowest:]) >= -slack)
    best = by_splits(values)
    assert ((fitted - values) ** 2).sum() == pytest.approx(best, rel=1e-6, abs=slack**2 * len(values) * 1e6)


@given(fall=st.lists(st.floats(0, 10), max_size=15), rise=st.lists(st.floats(0, 10), max_size=15))
def test_a_sequence_that_falls_and_then_rises_is_not_changed(fall, rise):
    values = np.concatenate([-np.cumsum(fall), [-np.sum(fall)], -np.sum(fall) + np.cumsum(rise)])
    np.testing.assert_allclose(unimodal(values), values, atol=1e-12)


@given(values=VALUES, scale=st.floats(1e-3, 1e3), constant=st.floats(-1e3, 1e3))
def test_it_scales_and_shifts_with_the_values(values, scale, constant):
    # Two sequences may be equally near, and rounding decide between them: the distance is the same.
    changed = np.array(values) * scale + constant
    distance, before = np.linalg.norm(unimodal(changed) - changed), np.linalg.norm(unimodal(values) - values)
    assert distance == pytest.approx(before * scale, rel=1e-6, abs=1e-8 * scale * 1e3)


@pytest.mark.parametrize("level", [0.0, 2.3, -1e300, 1e-300])
def test_a_constant_is_left_exactly_as_it_is(level):
    assert unimodal([level] * 9).tolist() == [level] * 9


def test_a_dip_of_noise_at_the_start_is_not_taken_for_the_lowest_point():
    fall = np.concatenate([np.full(40, 2.0), np.linspace(2, 1, 30), np.linspace(1, 3, 20)])
    noise = 0.05 * np.random.default_rng(0).standard_normal(90)
    noise[5] = -1.2
    assert np.argmin(fall + noise) == 5
    assert 60 < np.argmin(unimodal(fall + noise)) < 80


def test_values_near_the_largest_float_do_not_overflow():
    values = np.array([1.5, 1.2, 1.4, 0.5, 1.6])
    assert unimodal(values * 1e308).tolist() == pytest.approx((unimodal(values) * 1e308).tolist())


@pytest.mark.parametrize("values", [[], [3.0], [3.0, 1.0], [1.0, 3.0]])
def test_short_sequences_are_left_as_they_are(values):
    assert unimodal(values).tolist() == values
