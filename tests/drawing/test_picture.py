"""The record that all pictures of a range test are drawn from."""

import dataclasses

import numpy as np
import pytest

import cyclr

LR = np.geomspace(1e-6, 10, 120)
LOSS = 2.3 - 2 / (1 + (0.01 / LR) ** 2) + (LR / 0.5) ** 2


def result(loss=LOSS, **changes):
    arguments = {"stop_reason": "completed", "min_lr": 1e-6, "max_lr": 10.0, "steps": 120, "spacing": "exponential"}
    return cyclr.RangeTestResult(LR, loss, **{**arguments, **changes})


def test_a_picture_holds_the_numbers_and_the_words_of_the_result():
    tested = result()
    picture = tested.picture()
    assert picture.lr.tolist() == LR.tolist()
    assert picture.curve.tolist() == tested.smoothed_loss.tolist()
    assert picture.bounds == (tested.bounds.base_lr, tested.bounds.max_lr)
    assert tested.bounds.reason == f"{tested.bounds.verdict} {picture.reason}"
    low, high = tested.interval()
    assert picture.verdict == f"{tested.bounds.verdict[:-1]} ({low:.2g} to {high:.2g})."
    assert picture.verdict.startswith("Train between base_lr=0.00")
    assert (picture.title, picture.scale, picture.band) == ("Range test", "log", None)
    assert picture.ended == "The test took 120 of 120 steps: every learning rate was tried."
    with pytest.raises(dataclasses.FrozenInstanceError):
        picture.bounds = None


def test_a_picture_without_bounds_says_so():
    picture = result(np.full(120, 2.3)).picture()
    assert picture.bounds is None
    assert picture.verdict == "This curve gives no bounds."
    assert picture.title == "Range test: flat"


def test_losses_far_outside_the_limits_are_not_dots():
    loss = LOSS.copy()
    loss[-10:] = np.geomspace(1e3, 1e30, 10)
    picture = result(loss).picture()
    low, high = picture.span
    assert low < 1.0 < 2.3 < high < 10.0
    assert np.isnan(picture.dots[-10:]).all()
    inside = (low <= loss) & (loss <= high)
    assert picture.dots[inside].tolist() == loss[inside].tolist()


def test_a_picture_of_many_points_is_thinned_on_the_same_axis():
    loss = np.append(LOSS, 1e30)
    loss[50] = loss.min() - 0.1
    lr = np.append(LR, 11.0)
    one = cyclr.RangeTestResult(lr, loss, "completed", 1e-6, 11.0, 121, "exponential")
    picture = cyclr.RangeTestResult.of_repeats([one, one]).picture()
    assert picture.thinned(121) is picture
    thinned = picture.thinned(13)
    assert thinned.lr.tolist() == lr[::10].tolist()
    assert thinned.runs.tolist() == [loss[::10].tolist()] * 2
    assert thinned.curve.tolist() == picture.curve[::10].tolist()
    assert (thinned.span, thinned.limits) == (picture.span, picture.limits)
    assert (thinned.bounds, thinned.marks, thinned.reason) == (picture.bounds, picture.marks, picture.reason)
    assert [symbol[0] for symbol in thinned.symbols] == [symbol[0] for symbol in picture.symbols]


def test_the_band_of_repeats_is_kept_within_the_limits():
    one, other = result(LOSS), result(np.where(LR > 5, 1e30, LOSS + 0.1))
    picture = cyclr.RangeTestResult.of_repeats([one, other]).picture()
    lowest, highest = picture.band
    high = picture.limits[1]
    assert lowest[:50].tolist() == LOSS[:50].tolist()
    assert highest[:50].tolist() == (LOSS + 0.1)[:50].tolist()
    assert highest[-1] == high
