"""The three classic suggestions of one rate: those of the finders that they come from."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cyclr import RangeTestResult
from cyclr.bounds import classic, suggest
from cyclr.bounds.smoothing import exponential

METHODS = ["steepest", "valley", "minimum"]
LR = np.geomspace(1e-7, 10, 100)
RECORDED = json.loads(Path(__file__).with_name("recorded_curves.json").read_text(encoding="utf-8"))


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


@pytest.fixture(params=RECORDED["curves"], ids=lambda recorded: recorded["task"])
def recorded(request):
    """A recorded curve with what fastai's own functions said of it (benchmarks/bounds/classic_rules.py)."""
    loss = np.array(request.param["loss"])
    lr = np.geomspace(RECORDED["min_lr"], RECORDED["max_lr"], RECORDED["steps"])[: len(loss)]
    ends = (RECORDED["min_lr"], RECORDED["max_lr"], RECORDED["steps"])
    return RangeTestResult(lr, loss, "diverged", *ends, "exponential"), request.param


@pytest.mark.parametrize("method", ["valley", "minimum"])
def test_suggestions_are_those_of_fastai(method, recorded):
    result, of_fastai = recorded
    assert result.suggest(method) == pytest.approx(of_fastai[method], rel=1e-5)


def test_the_steepest_point_is_that_of_fastai_if_that_is_before_the_minimum(recorded):
    # Found in the blow-up elsewhere.
    result, of_fastai = recorded
    lowest = 10 * result.suggest("minimum")
    if of_fastai["steep"] < lowest * (1 - 1e-5):
        assert result.suggest("steepest") == pytest.approx(of_fastai["steep"], rel=1e-5)
    else:
        assert result.suggest("steepest") < lowest


def test_some_recorded_curves_are_steepest_before_their_minimum_and_not_all():
    before = [recorded["steep"] < 10 * recorded["minimum"] for recorded in RECORDED["curves"]]
    assert any(before)
    assert len(before) >= 10


def test_the_steepest_point_is_that_of_ignite():
    ignite = pytest.importorskip("ignite.handlers")
    for seed in range(10):
        loss = curve(0.003, 0.2, noise=0.05, seed=seed)
        kept = slice(10, -5)
        finder = ignite.FastaiLRFinder()
        smoothed = exponential(loss, 0.98)[kept]
        finder._history = {"lr": LR[kept].tolist(), "loss": smoothed.tolist()}
        # Its difference is central, and ours goes forward: they are a point or two apart.
        ours, theirs = suggest(LR, loss, "steepest"), float(finder.lr_suggestion())
        assert abs(np.log(ours / theirs)) < 2.5 * np.log(LR[1] / LR[0])


@settings(max_examples=40)
@given(loss=CURVES)
def test_the_steepest_point_is_before_the_minimum(loss):
    assert LR[0] < suggest(LR, loss, "steepest") <= 10 * suggest(LR, loss, "minimum") * (1 + 1e-12)


@settings(max_examples=40)
@given(loss=CURVES)
def test_the_minimum_is_a_tenth_of_the_rate_with_the_lowest_smoothed_loss(loss):
    lowest = LR[10:-5][np.argmin(exponential(loss, 0.98)[10:-5])]
    assert suggest(LR, loss, "minimum") == pytest.approx(lowest / 10, rel=1e-12)


@given(losses=st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0]) | st.floats(-1, 4), min_size=16, max_size=50))
def test_the_valley_is_in_the_longest_falling_subsequence_found_pair_by_pair(losses):
    kept = exponential(losses, 0.98)[len(losses) // 10 : -5]
    longest = np.ones(len(kept), dtype=int)
    for i in range(len(kept)):
        longest[i] = 1 + max((longest[j] for j in range(i) if kept[j] > kept[i]), default=0)
    end = int(np.argmax(longest))
    third = longest[end] / 3
    place = max(end - int(longest[end]) + int(third) + int(third / 2), 0)
    assert suggest(LR[: len(losses)], losses, "valley") == LR[len(losses) // 10 + place]


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
def test_a_loss_that_only_rises_suggests_the_first_rate_that_counts_or_less(method):
    assert suggest(LR, 2.3 + np.arange(100) / 100, method) <= LR[10]


@pytest.mark.parametrize("method", METHODS)
def test_a_loss_that_falls_to_the_end_suggests_a_rate_of_the_test_before_its_end(method):
    assert suggest(LR, -np.arange(100) / 100, method) < LR[-1]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("points", [1, 2, 6])
def test_few_points_are_enough_to_answer(method, points):
    assert LR[0] / 10 * (1 - 1e-9) <= suggest(LR[:points], np.arange(points, 0, -1.0), method) <= LR[points - 1]


@pytest.mark.parametrize("method", ["", "Steepest", "knee", None, 3], ids=repr)
def test_an_unknown_method_is_a_value_error(method):
    with pytest.raises(ValueError, match=r"^method must be one of 'steepest', 'valley', 'minimum'; got method="):
        suggest(LR, curve(0.01, 0.5), method)


@pytest.mark.parametrize("method", METHODS)
def test_points_are_left_out_at_both_ends_after_the_smoothing(method):
    loss = curve(0.01, 0.5, noise=0.02)
    loss[:15] -= np.linspace(3, 0, 15)
    rule = classic.METHODS[method]
    smoothed = exponential(loss, 0.98)
    for begin, end in ((0, 0), (20, 0), (0, 30), (20, 30), (10, 5), (99, 0), (0, 99)):
        kept = slice(begin, 100 - end)
        assert suggest(LR, loss, method, skip_begin=begin, skip_end=end) == rule(LR[kept], smoothed[kept])
    assert suggest(LR, loss, method) == suggest(LR, loss, method, skip_begin=10, skip_end=5)
    assert suggest(LR, loss, method, skip_begin=30) == suggest(LR, loss, method, skip_begin=30, skip_end=5)
    assert suggest(LR, loss, method, skip_end=0, steps=200) == suggest(LR, loss, method, skip_begin=20, skip_end=0)


@pytest.mark.parametrize(
    ("skips", "error", "message"),
    [
        ({"skip_begin": -1}, ValueError, "skip_begin must be an integer of at least 0; got skip_begin=-1"),
        ({"skip_end": 2.0}, TypeError, "skip_end must be an integer; got skip_end=2.0 of type float"),
        (
            {"skip_begin": 60, "skip_end": 40},
            ValueError,
            "skip_begin and skip_end must leave at least one of 100 points; got skip_begin=60, skip_end=40. Skip ",
        ),
        (
            {"skip_begin": 95},
            ValueError,
            "skip_begin and skip_end must leave at least one of 100 points; got skip_begin=95",
        ),
    ],
)
def test_skipping_all_points_is_an_error(skips, error, message):
    with pytest.raises(error, match=f"^{message}"):
        suggest(LR, curve(0.01, 0.5), "steepest", **skips)


def test_fewer_steps_than_points_are_an_error():
    with pytest.raises(ValueError, match=r"^steps must be an integer of at least 100; got steps=50"):
        suggest(LR, curve(0.01, 0.5), "valley", steps=50)
