"""The three classic suggestions of one rate, on curves whose steepest and lowest points are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cyclr.bounds import smooth, suggest

METHODS = ["steepest", "valley", "minimum"]
LR = np.geomspace(1e-6, 10, 150)


def curve(fall, turn, noise=0.0, seed=0):
    """Steepest against the logarithm of the rate at `fall`, rising beyond `turn`."""
    loss = 2.3 - 2 / (1 + (fall / LR) ** 2) + (LR / turn) ** 2
    return loss + noise * np.random.default_rng(seed).standard_normal(len(LR))


CURVES = st.builds(
    lambda fall, turn, noise, seed: curve(fall, fall * turn, noise, seed),
    st.floats(1e-4, 1e-2),
    st.floats(10, 100),
    st.sampled_from([0.0, 0.1]),
    st.integers(0, 1000),
)


@settings(max_examples=40)
@given(loss=CURVES)
def test_the_steepest_point_is_before_the_minimum(loss):
    # Found in the blow-up or at the very start elsewhere.
    assert LR[0] < suggest(LR, loss, "steepest") < LR[smooth(LR, loss).lowest]


@settings(max_examples=20)
@given(fall=st.floats(1e-4, 1e-2), turn=st.floats(10, 100))
def test_the_steepest_point_is_where_the_true_curve_is_steepest(fall, turn):
    assert 1 / 1.5 < suggest(LR, curve(fall, turn * fall), "steepest") / fall < 1.5


@settings(max_examples=40)
@given(loss=CURVES)
def test_the_minimum_is_a_tenth_of_the_rate_with_the_lowest_smoothed_loss(loss):
    lowest = LR[np.argmin(smooth(LR, loss).loss)]
    assert suggest(LR, loss, "minimum") == pytest.approx(lowest / 10, rel=1e-12)


@settings(max_examples=40)
@given(loss=CURVES)
def test_the_valley_is_inside_the_test_and_before_the_minimum(loss):
    assert LR[0] < suggest(LR, loss, "valley") < LR[smooth(LR, loss).lowest]


@pytest.mark.parametrize("order", range(4))
def test_the_valley_is_two_thirds_down_the_longest_falling_subsequence(order):
    loss = smooth(LR, curve(0.01, 0.5, noise=0.1, seed=order)).loss
    best = [1] * len(loss)  # by definition: the longest strictly falling subsequence that ends at each point
    for i in range(len(loss)):
        best[i] = 1 + max((best[j] for j in range(i) if loss[j] > loss[i]), default=0)
    end = best.index(max(best))
    begin = end - max(best) + 1
    expected = LR[begin + (end - begin) * 2 // 3]
    assert suggest(LR, curve(0.01, 0.5, noise=0.1, seed=order), "valley") == expected


@settings(max_examples=20)
@given(loss=CURVES, scale=st.floats(1e-3, 1e3), constant=st.floats(-100, 100), method=st.sampled_from(METHODS))
def test_scaling_and_shifting_the_loss_leaves_the_suggestion(loss, scale, constant, method):
    before = suggest(LR, loss, method)
    # Not of the valley: on the flat part before the fall, rounding decides which of two points is the lower.
    if method != "valley":
        assert suggest(LR, loss * scale, method) == pytest.approx(before, rel=1e-6)
        assert suggest(LR, loss + constant, method) == pytest.approx(before, rel=1e-6)
    assert suggest(LR * scale, loss, method) == pytest.approx(before * scale, rel=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_loss_that_only_rises_suggests_the_smallest_rate_or_less(method):
    assert suggest(LR, 2.3 + np.arange(150) / 100, method) <= LR[0]


@pytest.mark.parametrize("method", METHODS)
def test_a_loss_that_falls_to_the_end_suggests_a_rate_of_the_test_before_its_end(method):
    assert suggest(LR, -np.arange(150) / 100, method) < LR[-1]


@pytest.mark.parametrize("method", METHODS)
def test_one_point_is_enough_to_answer(method):
    assert suggest([0.1], [2.3], method) == pytest.approx(0.01 if method == "minimum" else 0.1)


@pytest.mark.parametrize("method", ["", "Steepest", "knee", None, 3], ids=repr)
def test_another_method_is_a_value_error(method):
    with pytest.raises(ValueError, match=r"^method must be one of 'steepest', 'valley', 'minimum'; got method="):
        suggest(LR, curve(0.01, 0.5), method)
