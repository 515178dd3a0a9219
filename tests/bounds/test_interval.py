"""The interval of max_lr over tests with other seeds: what it depends on, and what it does not."""

import dataclasses
import json
import math
import statistics

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cyclr import Bounds, RangeTestResult
from cyclr.bounds import interval as module
from cyclr.bounds import smooth
from cyclr.range_test import TrialCycle

LR = np.geomspace(1e-6, 10, 150)
SHARES = st.floats(0.01, 0.99)


def result_of(seed=0, noise=0.05, *, lr=LR, scale=1.0, reason="completed", **arguments):
    loss = 2.3 - 2 / (1 + (0.01 / LR) ** 2) + (LR / 0.5) ** 2
    loss += noise * np.random.default_rng(seed).standard_normal(len(loss))
    return RangeTestResult(lr, scale * loss, reason, lr[0], lr[-1], len(lr), **arguments)


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), noise=st.floats(0, 0.5), one=SHARES, other=SHARES)
def test_an_interval_holds_max_lr_and_grows_with_its_share(seed, noise, one, other):
    result = result_of(seed, noise)
    assume(result.bounds.usable)
    (low, high), (wider_low, wider_high) = (result.interval(share) for share in sorted((one, other)))
    assert result.swept[0] <= wider_low <= low < result.bounds.max_lr < high <= wider_high <= result.swept[1]


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), power=st.integers(-30, 30), noise=st.sampled_from([0.0, 0.05, 0.2]))
def test_the_scale_of_the_loss_does_not_matter(seed, power, noise):
    assert result_of(seed, noise, scale=2.0**power).interval() == result_of(seed, noise).interval()


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-4, 1e4), noise=st.sampled_from([0.01, 0.1]))
def test_an_interval_scales_with_the_rates(seed, scale, noise):
    one, other = result_of(seed, noise), result_of(seed, noise, lr=LR * scale)
    assert other.interval() == pytest.approx(np.multiply(one.interval(), scale), rel=1e-3)


def test_the_distance_from_max_lr_is_exponential_and_the_same_on_both_sides():
    result = result_of()
    top = result.bounds.max_lr
    reach = {share: math.log(result.interval(share)[1] / top) for share in (0.5, 0.8, 0.96)}
    assert reach[0.96] == pytest.approx(2 * reach[0.8])
    assert reach[0.8] / reach[0.5] == pytest.approx(math.log(0.2) / math.log(0.5))
    assert math.log(top / result.interval(0.8)[0]) == pytest.approx(reach[0.8])
    assert reach[0.8] >= -module.LENGTH * math.log(0.2) * module.FLOOR


def test_noise_widens_the_interval():
    widths = [math.log(high / low) for low, high in (result_of(noise=noise).interval() for noise in (0, 0.05, 0.3))]
    assert widths[0] < widths[1] < widths[2]


def test_an_interval_stays_within_the_rates_of_the_test():
    lr, loss = LR[60:120], result_of(noise=0.3).loss[60:120]
    result = RangeTestResult(lr, loss, "completed", lr[0], lr[-1], 60)
    assert result.interval(1 - 1e-16) == result.swept


@pytest.mark.parametrize("losses", [np.full(150, 2.3), np.full(5, 2.3)])
def test_a_test_without_bounds_has_no_interval(losses):
    lr = LR[: len(losses)]
    result = RangeTestResult(lr, losses, "completed", lr[0], lr[-1], len(lr))
    assert result.interval() is None
    with pytest.raises(ValueError, match="share must be a finite number greater than 0 and less than 1; got share=2"):
        result.interval(2)


@pytest.mark.parametrize("share", [0, 1, -0.5, 80, math.nan, math.inf])
def test_a_share_outside_0_and_1_is_an_error(share):
    with pytest.raises(ValueError, match=r"share must be .*Write 0.8 for 80 %"):
        result_of().interval(share)


@pytest.mark.parametrize("share", ["0.8", None, True, [0.8]])
def test_a_share_that_is_not_a_number_is_an_error(share):
    with pytest.raises(TypeError, match="share must be a number"):
        result_of().interval(share)


def test_a_trained_model_whose_loss_only_rises_has_an_interval():
    loss = 0.1 + (LR / 0.05) ** 2 + 0.001 * np.random.default_rng(0).standard_normal(150)
    kept = loss < 0.5
    result = RangeTestResult(LR[kept], loss[kept], "diverged", LR[0], LR[-1], 150)
    assert result.bounds.status == "flat"
    low, high = result.interval()
    reach = -module.LENGTH * math.log(0.2) * module.FLAT
    assert (low, high) == pytest.approx(
        (result.bounds.max_lr / math.exp(reach), result.bounds.max_lr * math.exp(reach))
    )


def test_a_loaded_result_has_the_same_interval_around_the_bounds_of_its_file():
    result = result_of()
    description = json.loads(json.dumps(result.to_dict()))
    assert RangeTestResult.from_dict(description).interval() == result.interval()
    description["bounds"]["max_lr"] = 2 * result.bounds.max_lr
    assert RangeTestResult.from_dict(description).interval() == pytest.approx(np.multiply(result.interval(), 2))


def test_repeats_narrow_the_interval():
    results = [result_of(seed, 0.3) for seed in range(4)]
    widths = [math.log(high / low) for low, high in (result.interval() for result in results)]
    low, high = RangeTestResult.of_repeats(results).interval()
    assert math.log(high / low) < np.mean(widths)


def test_the_losses_of_a_test_that_diverged_do_not_widen_it():
    lr, loss = LR[:140], result_of().loss[:140].copy()
    loss[-2:] = 1e3, 1e30
    result = RangeTestResult(lr, loss, "diverged", LR[0], LR[-1], 150)
    whole = RangeTestResult(lr, np.minimum(loss, 4.0), "diverged", LR[0], LR[-1], 150)
    assert result.interval() == pytest.approx(whole.interval(), rel=0.05)


@pytest.mark.parametrize("tops", [[], [0.1], [0.1, 0.3], [0.1, 0.2, 0.4]], ids=len)
def test_the_scatter_is_that_of_the_readings_with_bounds_and_never_0(tops, monkeypatch):
    asked, found = [], iter(tops)

    def read(curve, *, updates_per_rate, **named):
        asked.append((len(curve.lr), updates_per_rate, named["unstable_end"], named["from_start"]))
        top = next(found, None)
        return Bounds(None, None, "flat", "") if top is None else Bounds(top / 10, top, "ok", "")

    lr = np.geomspace(1e-6, 10, 801)
    loss = 2.3 - 2 / (1 + (0.01 / lr) ** 2)
    curve = smooth(lr, loss)
    monkeypatch.setattr(module, "read_bounds", read)
    scatter = module.scatter(
        Bounds(0.01, 0.1, "ok", ""), curve, loss, unstable_end=True, updates_per_rate=2, from_start=True
    )
    spread = statistics.stdev(map(math.log, tops)) if len(tops) > 1 else 0.0
    assert scatter == pytest.approx(math.hypot(0.05, spread))
    # 267 means of 3 neighbours, which are as many updates with a rate.
    assert asked == [(267, 6, True, True)] * 32


def test_bounds_are_read_without_the_readings_of_the_interval(monkeypatch):
    def refuse(*arguments, **named):
        raise AssertionError("the interval was computed")

    monkeypatch.setattr("cyclr.range_test.result.scatter", refuse)
    result = result_of()
    assert result.bounds.usable
    assert result.to_dict()
    assert repr(result)
    with pytest.raises(AssertionError):
        result.picture()


def test_a_picture_holds_the_interval():
    result = result_of()
    assert result.picture().interval == result.interval(0.8)


def test_long_curves_are_averaged_and_give_about_the_same_interval():
    lr = np.geomspace(1e-6, 10, 6000)
    noise = 0.05 * math.sqrt(40) * np.random.default_rng(0).standard_normal(6000)
    long = RangeTestResult(
        lr, 2.3 - 2 / (1 + (0.01 / lr) ** 2) + (lr / 0.5) ** 2 + noise, "completed", 1e-6, 10.0, 6000
    )
    widths = [math.log(high / low) for low, high in (long.interval(), result_of().interval())]
    assert widths[0] == pytest.approx(widths[1], rel=0.5)


def test_trial_cycles_widen_the_interval():
    result = result_of(total_steps=1000)
    trials = [TrialCycle(result.bounds.max_lr, (2.3, 1.0), None, "completed", 0.4)]
    tried = dataclasses.replace(result, trials=trials)
    assert tried.bounds.max_lr == pytest.approx(result.bounds.max_lr)
    reach = [math.log(each.interval()[1] / each.bounds.max_lr) for each in (result, tried)]
    assert reach[1] == pytest.approx(math.hypot(reach[0], -module.LENGTH * math.log(0.2) * module.TRIALS))
