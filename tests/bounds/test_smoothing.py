"""Smoothing against independent computations, and what it must leave alone.

One popular finder's debiased average turns a constant loss of 1.0 into 0.505 … 0.992: a constant has to stay one.
"""

import math
import statistics
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cyclr.bounds.smoothing import RunningMean, exponential, kernel, kernel_weights, running_median

EPS = np.finfo(np.float64).eps
LOSSES = st.floats(-1e6, 1e6)
CURVES = st.lists(LOSSES, min_size=1, max_size=60)
MOMENTA = st.floats(0, 0.99)
WINDOWS = st.integers(0, 12).map(lambda half: 2 * half + 1)


@given(constant=LOSSES, length=st.integers(1, 60), momentum=MOMENTA)
def test_exponential_leaves_a_constant_exactly_as_it_is(constant, length, momentum):
    assert exponential([constant] * length, momentum).tolist() == [constant] * length


@given(constant=LOSSES, length=st.integers(1, 60), bandwidth=st.just(0) | st.floats(1e-3, 10))
def test_kernel_leaves_a_constant_exactly_as_it_is(constant, length, bandwidth):
    assert kernel(np.linspace(-6, 1, length), [constant] * length, bandwidth).tolist() == [constant] * length


@given(constant=LOSSES, length=st.integers(1, 60), window=WINDOWS)
def test_running_median_leaves_a_constant_exactly_as_it_is(constant, length, window):
    assert running_median([constant] * length, window).tolist() == [constant] * length


@given(values=CURVES, momentum=MOMENTA)
def test_exponential_equals_pandas(values, momentum):
    expected = pd.Series(values).ewm(alpha=1 - momentum, adjust=True).mean()
    np.testing.assert_allclose(exponential(values, momentum), expected, rtol=1e-9, atol=1e-9 * max(map(abs, values)))


@given(values=CURVES, momentum=MOMENTA)
def test_running_mean_equals_exponential(values, momentum):
    mean = RunningMean(momentum)
    assert [mean.update(value) for value in values] == exponential(values, momentum).tolist()


@given(values=CURVES)
def test_exponential_without_a_past_returns_the_values(values):
    assert exponential(values, 0).tolist() == values


@settings(max_examples=50)
@given(values=st.lists(LOSSES, min_size=1, max_size=30), bandwidth=st.floats(0.05, 5), data=st.data())
def test_kernel_equals_its_formula_term_by_term(values, bandwidth, data):
    position = data.draw(st.lists(st.floats(-6, 1), min_size=len(values), max_size=len(values)))
    weights = [[math.exp(-(((x - y) / bandwidth) ** 2) / 2) for y in position] for x in position]
    expected = [math.fsum(k * v for k, v in zip(row, values, strict=True)) / math.fsum(row) for row in weights]
    np.testing.assert_allclose(kernel(position, values, bandwidth), expected, rtol=1e-9, atol=1e-9)


def directly(position, values, bandwidth):
    return np.concatenate([kernel_weights(position[[i]], position, bandwidth) @ values for i in range(len(position))])


SPREADS = {
    "equal ratios": np.linspace(-6, 1, 3000),
    "equal differences": np.log10(np.linspace(1e-6, 10, 3000)),
    "random": np.random.default_rng(1).uniform(-6, 1, 3000),
    "clusters": np.concatenate([np.linspace(start, start + 1e-3, 300) for start in range(10)]),
    "repeated": np.repeat(np.linspace(0, 1, 50), 60),
    "one place": np.zeros(2000),
}


@pytest.mark.parametrize("bandwidth", [0.1, 0.35])
@pytest.mark.parametrize("position", SPREADS.values(), ids=SPREADS)
def test_the_kernel_of_many_points_differs_by_less_than_1e_6_of_their_range(position, bandwidth):
    random = np.random.default_rng(0)
    values = np.sin(3 * position) + random.normal(size=len(position)) + 40 * (random.random(len(position)) < 0.01)
    difference = np.abs(kernel(position, values, bandwidth) - directly(position, values, bandwidth)).max()
    assert difference < 1e-6 * np.ptp(values)
    assert kernel(position, np.full(len(position), 2.3), bandwidth).tolist() == [2.3] * len(position)


@pytest.mark.parametrize("width", [1e-3, 2.5])
@pytest.mark.parametrize("length", [1024, 1025])
def test_the_kernel_of_many_points_is_right_for_any_bandwidth(length, width):
    position = np.sort(np.random.default_rng(0).uniform(-6, 1, length))
    values = position**2
    # Up to 1,024 points the mean is exact.
    near = 1e-11 if length == 1024 else 36e-6
    np.testing.assert_allclose(kernel(position, values, width), directly(position, values, width), rtol=0, atol=near)
    mixed = np.random.default_rng(1).permutation(length)
    np.testing.assert_allclose(
        kernel(position[mixed], values[mixed], width), kernel(position, values, width)[mixed], atol=1e-9
    )


@given(values=CURVES, bandwidth=st.floats(0.05, 5))
def test_kernel_stays_within_the_values(values, bandwidth):
    smoothed = kernel(np.linspace(-6, 1, len(values)), values, bandwidth)
    room = 1e-9 * max(1.0, *map(abs, values))
    assert min(values) - room <= smoothed.min() <= smoothed.max() <= max(values) + room


def test_kernel_keeps_a_minimum_where_it_is():
    x = np.linspace(-3, 3, 121)
    assert x[np.argmin(kernel(x, x**2, 0.5))] == pytest.approx(0, abs=1e-12)


@given(values=CURVES)
def test_kernel_without_bandwidth_returns_the_values_in_a_new_array(values):
    given_values = np.array(values)
    result = kernel(np.arange(len(values)), given_values, 0)
    assert result.tolist() == values
    assert not np.shares_memory(result, given_values)


@given(values=CURVES, window=WINDOWS)
def test_running_median_equals_the_median_of_every_window(values, window):
    half = window // 2
    expected = [statistics.median(values[max(0, i - half) : i + half + 1]) for i in range(len(values))]
    np.testing.assert_allclose(running_median(values, window), expected, rtol=4 * EPS)


@given(length=st.integers(5, 60), data=st.data(), outlier=st.floats(-1e30, 1e30))
def test_a_lone_outlier_inside_a_curve_leaves_no_trace(length, data, outlier):
    values = np.ones(length)
    values[data.draw(st.integers(2, length - 3))] = outlier
    assert running_median(values, 3).tolist() == [1.0] * length


@pytest.mark.parametrize(
    "smooth", [lambda v: exponential(v, 0.9), lambda v: kernel(v, v, 1.0), lambda v: running_median(v, 3)]
)
def test_no_values_give_no_values(smooth):
    assert smooth([]).shape == (0,)


@pytest.mark.parametrize(
    "smooth", [lambda v: exponential(v, 0.9), lambda v: kernel(v, v, 1.0), lambda v: running_median(v, 3)]
)
def test_the_given_array_is_left_as_it_was(smooth):
    values = np.array([3.0, 1.0, 2.0])
    smooth(values)
    assert values.tolist() == [3.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: exponential([1.0], 1),
            ValueError,
            "momentum must be a finite number of at least 0 and less than 1; got momentum=1",
        ),
        (
            lambda: exponential([1.0], -0.1),
            ValueError,
            "momentum must be a finite number of at least 0 and less than 1; got momentum=-0.1",
        ),
        (
            lambda: exponential([1.0], math.nan),
            ValueError,
            "momentum must be a finite number of at least 0 and less than 1; got momentum=nan",
        ),
        (lambda: exponential([1.0], "0.9"), TypeError, "momentum must be a number; got momentum='0.9' of type str"),
        (
            lambda: kernel([1.0], [1.0], -1),
            ValueError,
            "bandwidth must be a finite number of at least 0; got bandwidth=-1",
        ),
        (
            lambda: kernel([1.0], [1.0, 2.0], 1),
            ValueError,
            r"position and values must be vectors of the same length; got shapes \(1,\) and \(2,\)",
        ),
        (
            lambda: kernel([[1.0]], [[1.0]], 1),
            ValueError,
            r"position and values must be vectors of the same length; got shapes \(1, 1\)",
        ),
        (lambda: running_median([1.0], 0), ValueError, "window must be an integer of at least 1; got window=0"),
        (lambda: running_median([1.0], 3.0), TypeError, "window must be an integer; got window=3.0 of type float"),
        (lambda: running_median([1.0], 4), ValueError, "window must be odd, to have a middle; got window=4. Use 5"),
    ],
)
def test_messages(call, error, message):
    with pytest.raises(error, match="^" + message):
        call()


def test_kernel_s_memory_grows_with_the_number_of_points():
    position = np.linspace(0, 7, 5_000)
    tracemalloc.start()
    kernel(position, np.sin(position), 0.35)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # All weights at once would be 8 · 5,000² bytes.
    assert peak < 8 * 5_000**2 / 4
