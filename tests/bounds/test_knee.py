"""The bounds read off curves whose fall and turn are known.

Asked for and declined elsewhere: Lightning#10089, torch-lr-finder#50 and #86.
"""

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.datasets import load_digits

from cyclr import Bounds, RangeTest
from cyclr.bounds import knee, smooth, smoothing
from cyclr.bounds.knee import read_bounds, unless_ascent
from cyclr.range_test.driver import learning_rates

RNG = np.random.default_rng


def rates(points=150):
    return np.geomspace(1e-6, 10, points)


def curve(lr, fall=0.01, turn=0.5, *, start=2.3, depth=2.0, noise=0.0, seed=0):
    """A loss that falls by half its depth at the rate `fall` and rises quadratically beyond the rate `turn`."""
    loss = start - depth / (1 + (fall / lr) ** 2) + (lr / turn) ** 2
    return loss + noise * RNG(seed).standard_normal(len(lr))


def apart(a, b):
    """By which factor two positive numbers differ, ≥ 1."""
    return max(a / b, b / a)


FALLS = st.floats(1e-4, 1e-2)
TURNS = st.floats(10, 100)


def readings_of(lr, loss, start):
    """What the rule says, read off a curve without noise that is dense: the definition, in other words."""
    lowest = int(np.argmin(loss))
    depth = start - loss[lowest]
    flattened, settled = (lr[np.argmax(loss <= start - share * depth)] for share in (0.9, 0.98))
    returned = np.flatnonzero((np.arange(len(lr)) > lowest) & (loss >= start))
    back = lr[returned[0]] if len(returned) else lr[-1]
    return lr[np.argmax(loss < start - 0.1 * depth)], flattened**0.4 * (settled / 1.5) ** 0.4 * (back / 14) ** 0.2


@settings(max_examples=40)
@given(fall=FALLS, turn=TURNS)
def test_bounds_are_the_readings_of_the_true_curve(fall, turn):
    lr = rates(150)
    bounds = knee(lr, curve(lr, fall, turn * fall))
    dense = rates(20_001)
    truth = curve(dense, fall, turn * fall)
    begins, top = readings_of(dense, truth, 2.3)
    assert bounds.status == "ok"
    assert apart(bounds.max_lr, top) < 1.5
    assert apart(bounds.base_lr, np.clip(begins, top / 100, top / 10)) < 2
    assert bounds.base_lr < bounds.max_lr < dense[np.argmin(truth)]
    assert bounds.max_lr / bounds.base_lr * (1 + 1e-12) >= 10
    assert bounds.max_lr / bounds.base_lr <= 100 * (1 + 1e-12)


def test_the_reason_says_what_was_seen_in_numbers():
    lr = rates()
    bounds = knee(lr, curve(lr))
    assert bounds.details.startswith("The loss fell from 2.3 to 0.")
    for words in ("beginning near 0.00", "it flattened near 0.0", "turned unstable beyond 0."):
        assert words in bounds.reason


# A number where there is none: Lightning#10557.
@pytest.mark.parametrize("level", [2.3, 0.0, -5.0, 1e-12, 1e12])
@pytest.mark.parametrize("unstable_end", [False, True])
def test_a_constant_loss_is_flat(level, unstable_end):
    bounds = knee(rates(), np.full(150, level), unstable_end=unstable_end)
    assert (bounds.status, bounds.base_lr, bounds.max_lr) == ("flat", None, None)
    stayed = f"The loss stayed at {level:.3g} from 1e-06 to 10"
    if unstable_end:
        assert bounds.details.startswith(
            f"{stayed}, until training turned unstable: nothing was learned before. Check "
        )
    else:
        assert bounds.details.startswith(f"{stayed}: nothing was learned. Raise max_lr ")


@pytest.mark.parametrize(("points", "status"), [(1, "too_few_points"), (60, "flat"), (105, "no_divergence")])
def test_a_test_that_was_cut_short_does_not_ask_for_a_higher_max_lr(points, status):
    lr = rates()[:points]
    loss = 2.3 - 2 / (1 + (0.05 / lr) ** 2) + 0.001 * RNG(0).standard_normal(points)
    whole, cut = knee(lr, loss), knee(lr, loss, cut_short=True)
    assert (cut.status, cut.base_lr, cut.max_lr) == (status, whole.base_lr, whole.max_lr)
    assert whole.reason != cut.reason
    assert cut.reason.endswith(
        " The test ended before it reached its max_lr: let it run to the end, with more data or fewer steps."
    )


@pytest.mark.parametrize("points", [100, 150, 300])
def test_pure_noise_hardly_ever_gives_bounds(points):
    lr = rates(points)
    seen = Counter(
        knee(lr, 2.3 + 0.1 * RNG(seed).standard_normal(points), unstable_end=seed % 2 == 0).status
        for seed in range(100)
    )
    assert seen["flat"] >= 85
    assert seen["flat"] + seen["noisy"] >= 97


def test_noise_that_ends_in_a_blow_up_is_hardly_ever_a_fall():
    lr = rates()
    blow_up = 5 * np.maximum(np.log10(lr / 0.3), 0)
    seen = Counter(
        knee(lr, 2.3 + blow_up + 0.1 * RNG(seed).standard_normal(150), unstable_end=True).status for seed in range(100)
    )
    assert seen["flat"] >= 85
    assert seen["ok"] <= 3


@pytest.mark.parametrize("noise", [0.0, 0.02])
@pytest.mark.parametrize("height", [2.0, 400.0])
def test_a_loss_that_only_rises_is_flat_and_the_reason_says_that_it_rose(noise, height):
    lr = rates()
    bounds = knee(lr, 2.3 + height / (1 + (1e-5 / lr) ** 2) + noise * RNG(0).standard_normal(150))
    assert (bounds.status, bounds.base_lr, bounds.max_lr) == ("flat", None, None)
    assert bounds.details.startswith("The loss never fell below its starting level of ")
    assert "before it rose" in bounds.reason


@pytest.mark.parametrize("noise", [0.0, 0.002])
@pytest.mark.parametrize("height", [2.0, 400.0])
def test_a_loss_that_starts_at_its_floor_has_bounds_for_fine_tuning_below_the_rise(noise, height):
    lr = rates()
    loss = 0.02 + height / (1 + (0.5 / lr) ** 2)
    bounds = knee(lr, loss + noise * RNG(0).standard_normal(150), unstable_end=True)
    assert bounds.status == "flat"
    assert "for fine-tuning, these bounds keep below the rise" in bounds.reason
    rises = lr[np.argmax(loss > 0.02 * 1.1 + 5 * noise)]
    assert min(rises, lr[-1] / 20) / 4 < bounds.max_lr <= min(rises, lr[-1] / 20)
    assert bounds.max_lr / bounds.base_lr == pytest.approx(100)


def test_a_loss_that_does_not_rise_again_gives_status_no_divergence():
    lr = rates()
    bounds = knee(lr, 2.3 - 2 / (1 + (0.01 / lr) ** 2))
    assert bounds.status == "no_divergence"
    # It falls by 0.9 of its depth at three times 0.01, by 0.98 at seven times, and is never back.
    top = 0.03**0.4 * (0.07 / 1.5) ** 0.4 * (10 / 14) ** 0.2
    assert apart(bounds.max_lr, top) < 2
    assert apart(bounds.base_lr, 0.01 / 3) < 2
    assert "did not rise again before the end of the test at 10" in bounds.reason
    assert bounds.reason.endswith("Raise max_lr of the range test to see where training turns unstable.")


def test_an_unstable_end_without_a_recorded_rise_is_ok():
    lr = rates()
    assert knee(lr, 2.3 - 2 / (1 + (0.01 / lr) ** 2), unstable_end=True).status == "ok"


@pytest.mark.parametrize("points", range(12))
def test_too_few_points_give_no_bounds(points):
    lr = rates()[:points]
    bounds = knee(lr, curve(lr))
    assert (bounds.status, bounds.base_lr, bounds.max_lr) == ("too_few_points", None, None)
    assert bounds.details.startswith(
        f"The test recorded {points} loss{'' if points == 1 else 'es'} before it ended; 12 are needed to see a curve. "
    )


def test_twelve_points_are_enough_to_see_a_curve():
    lr = rates(12)
    assert knee(lr, curve(lr)).status == "ok"


def test_a_rise_that_drowns_in_noise_gives_no_bounds():
    lr = rates(150)
    loss = 2.6 + np.random.default_rng(0).gamma(1.0, 0.5, 150) - 0.5
    loss[[70, 100, 130]] = 8.0
    bounds = knee(lr, loss)
    assert (bounds.status, bounds.usable) == ("flat", False)
    assert "its noise from update to update may hide a fall" in bounds.reason
    assert "larger batches, or with updates_per_rate=8" in bounds.reason
    assert knee(lr, loss, unstable_end=True).max_lr == pytest.approx(lr[-1] / 20)


def test_a_fall_that_drowns_in_noise_is_noisy_or_flat():
    lr = rates()
    seen = Counter(knee(lr, curve(lr, noise=3.0, seed=seed)).status for seed in range(60))
    assert seen["noisy"] > 10
    assert seen["ok"] <= 6
    noisy = next(b for s in range(60) if (b := knee(lr, curve(lr, noise=3.0, seed=s))).status == "noisy")
    assert noisy.usable
    assert "hides the shape of the curve: the bounds are a guess. " in noisy.reason
    assert noisy.reason.endswith("Run the range test with more steps or larger batches.")


# Suggestions that move by orders of magnitude with seed, number of steps or range: torch-lr-finder#68.
@pytest.mark.parametrize(("fall", "turn"), [(1e-4, 1e-3), (1e-3, 0.1), (1e-2, 0.5)])
def test_seeds_move_the_bounds_by_less_than_a_factor_of_two(fall, turn):
    lr = rates()
    still = knee(lr, curve(lr, fall, turn))
    for seed in range(30):
        bounds = knee(lr, curve(lr, fall, turn, noise=0.1, seed=seed))
        assert bounds.status == "ok"
        assert apart(bounds.base_lr, still.base_lr) < 2
        assert apart(bounds.max_lr, still.max_lr) < 2


@pytest.mark.parametrize("points", [60, 100, 150, 400, 1000])
@pytest.mark.parametrize(("fall", "turn"), [(1e-4, 1e-3), (1e-3, 0.1), (1e-2, 0.5)])
def test_the_number_of_points_moves_the_bounds_by_less_than_a_factor_of_two(fall, turn, points):
    few, many = (knee(lr, curve(lr, fall, turn)) for lr in (rates(100), rates(points)))
    assert apart(few.base_lr, many.base_lr) < 2
    assert apart(few.max_lr, many.max_lr) < 2


@pytest.mark.parametrize(("low", "high"), [(1e-8, 10), (1e-5, 10), (1e-6, 1), (1e-6, 1e3)])
def test_the_range_moves_the_bounds_by_less_than_a_factor_of_two(low, high):
    lr = np.geomspace(low, high, 150)
    usual, other = knee(rates(), curve(rates(), 1e-3, 0.05)), knee(lr, curve(lr, 1e-3, 0.05))
    assert apart(usual.base_lr, other.base_lr) < 2
    assert apart(usual.max_lr, other.max_lr) < 2


CURVES = st.builds(
    lambda fall, turn, noise, seed: curve(rates(), fall, turn * fall, noise=noise, seed=seed),
    FALLS,
    TURNS,
    st.sampled_from([0.0, 0.05, 1.0]),
    st.integers(0, 1000),
)


@settings(max_examples=40)
@given(loss=CURVES, scale=st.floats(1e-6, 1e6), constant=st.floats(-10, 10))
def test_scaling_and_shifting_the_loss_leaves_the_bounds(loss, scale, constant):
    before = knee(rates(), loss)
    for changed, shifted in ((loss * scale, False), (loss + constant, True)):
        after = knee(rates(), changed)
        # A shift far beyond the fall makes the fall negligible.
        assert after.status == before.status
        # Where nothing fell, the upper bound allows a share of the starting level, which a shift changes.
        if before.usable and not (shifted and before.status == "flat"):
            assert after.base_lr == pytest.approx(before.base_lr, rel=1e-6)
            assert after.max_lr == pytest.approx(before.max_lr, rel=1e-6)


@settings(max_examples=40)
@given(loss=CURVES, scale=st.floats(1e-6, 1e6))
def test_scaling_the_rates_scales_the_bounds(loss, scale):
    before, after = knee(rates(), loss), knee(rates() * scale, loss)
    assert after.status == before.status
    if before.usable:
        assert after.base_lr == pytest.approx(before.base_lr * scale, rel=1e-6)
        assert after.max_lr == pytest.approx(before.max_lr * scale, rel=1e-6)


@settings(max_examples=40)
@given(place=st.integers(0, 149), height=st.sampled_from([10.0, 1e3, 1e30, -10.0]), fall=FALLS, turn=TURNS)
def test_a_lone_spike_moves_the_bounds_by_less_than_a_factor_of_two(place, height, fall, turn):
    loss = curve(rates(), fall, turn * fall)
    before = knee(rates(), loss)
    loss[place] = height
    after = knee(rates(), loss)
    assert after.status == "ok"
    assert apart(after.base_lr, before.base_lr) < 2
    assert apart(after.max_lr, before.max_lr) < 2


@settings(max_examples=20)
@given(height=st.sampled_from([1e3, 1e10, 1e30, 1e300]), fall=FALLS, turn=TURNS)
def test_how_high_a_diverging_loss_flies_does_not_matter(height, fall, turn):
    loss = curve(rates(), fall, turn * fall)
    before = knee(rates(), loss)
    loss[rates() > turn * fall * 2] = height
    after = knee(rates(), loss)
    assert after.status == "ok"
    assert apart(after.base_lr, before.base_lr) < 2
    assert apart(after.max_lr, before.max_lr) < 2


def test_a_noise_that_is_almost_nothing_overflows_nowhere():
    loss = np.full(13, 1e-308)
    loss[[1, 3]], loss[11] = 0.0, -3.0
    assert knee(np.geomspace(1e-5, 1, 13), loss).status in ("ok", "flat", "noisy", "no_divergence")


def test_bounds_of_many_points_are_near_those_of_few():
    few, many = (knee(rates(n), curve(rates(n), 1e-3, 0.1, noise=0.1)) for n in (1000, 20_000))
    assert many.status == few.status == "ok"
    # A longer sweep is corrected for its length up to a factor of 4.
    assert apart(few.max_lr, many.max_lr) < 2


@pytest.mark.parametrize("points", [5_000, 20_000])
def test_the_work_of_smoothing_grows_with_the_number_of_points(points, monkeypatch):
    weights, computed = smoothing.kernel_weights, []
    monkeypatch.setattr(smoothing, "kernel_weights", lambda *data: (computed.append(made := weights(*data)), made)[1])
    smooth(rates(points), curve(rates(points), noise=0.1))
    assert sum(made.size for made in computed) < 2_000 * points
    assert max(made.size for made in computed) <= 2**20, "memory"


def test_lists_are_taken_and_nothing_given_is_changed():
    lr, loss = rates(), curve(rates())
    before = loss.copy()
    assert knee(lr.tolist(), loss.tolist()) == knee(lr, loss)
    assert loss.tolist() == before.tolist()


BAD = {
    "nan loss": (rates(), np.where(np.arange(150) == 70, np.nan, curve(rates())), "loss"),
    "infinite loss": (rates(), np.where(np.arange(150) == 140, np.inf, curve(rates())), "loss"),
    "falling rates": (rates()[::-1], curve(rates()), "lr"),
    "a rate of zero": (np.linspace(0, 1, 150), curve(rates()), "lr"),
    "a negative rate": (np.linspace(-1, 1, 150), curve(rates()), "lr"),
    "another length": (rates(), curve(rates())[:-1], "lr"),
}


@pytest.mark.parametrize(("lr", "loss", "name"), BAD.values(), ids=BAD)
def test_illegal_learning_rates_or_losses_are_a_value_error(lr, loss, name):
    with pytest.raises(ValueError, match=f"^{name} (and loss )?must .*; got "):
        knee(lr, loss)


def of_descent(points: int) -> Bounds:
    """The bounds of gradient descent on a quadratic loss of 40 curvatures over four decades, without noise."""
    test, curvatures, weights = RangeTest(steps=points), np.geomspace(1e-3, 10, 40), np.ones(40)
    for rate in test:
        loss = float(curvatures @ weights**2) / 2
        weights = weights * (1 - rate * curvatures)
        test.record(loss)
    return test.result().bounds


@pytest.mark.parametrize("points", [100, 400])
def test_a_longer_sweep_of_the_same_training_gives_the_same_bounds(points):
    usual, other = (of_descent(n) for n in (150, points))
    assert usual.status == other.status == "ok"
    assert apart(usual.max_lr, other.max_lr) < 1.5
    # Beyond 2 / 10 the largest curvature diverges.
    assert max(usual.max_lr, other.max_lr) < 0.2


def test_several_updates_with_a_rate_are_as_many_points():
    lr = rates(150)
    loss = curve(lr, 1e-3, 0.1)
    one, two = knee(lr, loss), knee(lr, loss, updates_per_rate=2)
    assert two.max_lr / one.max_lr == pytest.approx(2 ** (0.4 * 0.8))
    assert (two.base_lr, two.status) == (one.base_lr, one.status)


@pytest.mark.parametrize(("points", "updates"), [(150, 5), (600, 5), (150, 10), (150, 2)])
def test_bounds_from_restored_weights_do_not_depend_on_updates_at_lower_rates(points, updates):
    lr = rates(points)
    bounds = knee(lr, curve(lr, 1e-3, 0.1), updates_per_rate=updates, from_start=True)
    dense = rates(20_001)
    truth = curve(dense, 1e-3, 0.1)
    lowest = int(np.argmin(truth))
    fallen = dense[np.argmax(truth <= 2.3 - 0.7 * (2.3 - truth[lowest]))] * (updates / 5) ** 0.4
    back = dense[lowest + np.argmax(truth[lowest:] >= 2.3)]
    top = min((fallen / 0.65) ** 0.8 * (back / 10) ** 0.2, dense[lowest])
    assert apart(bounds.max_lr, top) < 1.2


@pytest.mark.parametrize(("updates", "error"), [(0, ValueError), (1.5, TypeError)])
def test_updates_per_rate_are_an_integer_of_at_least_one(updates, error):
    with pytest.raises(error, match=r"^updates_per_rate must be an integer"):
        knee(rates(150), curve(rates(150), 1e-3, 0.1), updates_per_rate=updates)


def softmax_regression(lr, seed):
    """The losses of a linear model on the digits, trained with momentum and these rates."""
    images, labels = load_digits(return_X_y=True)
    images, labels = images / 16, np.eye(10)[labels]
    rng = RNG(seed)
    weights = momentum = np.zeros((64, 10))
    losses = []
    for rate in lr:
        batch = rng.integers(0, len(images), 64)
        chances = softmax(images[batch] @ weights, axis=1)
        losses.append(-np.log(np.maximum((chances * labels[batch]).sum(axis=1), 1e-300)).mean())
        momentum = 0.9 * momentum + images[batch].T @ (chances - labels[batch]) / 64
        weights = weights - rate * momentum
    return losses


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("top", [1.0, 3.0, 10.0])
@pytest.mark.parametrize("points", [100, 400])
def test_a_sweep_with_equal_differences_gives_the_bounds_of_the_usual_one(seed, top, points):
    usual = knee(rates(), softmax_regression(rates(), seed))
    linear = learning_rates(1e-6, top, points, "linear")
    bounds = knee(linear, softmax_regression(linear, seed))
    assert bounds.status in ("ok", "no_divergence")
    assert bounds.details.startswith("The loss fell from 2.")
    assert apart(bounds.max_lr, usual.max_lr) < 4


@pytest.mark.parametrize("spacing", ["exponential", "linear"])
def test_pure_noise_of_few_levels_is_no_fall(spacing):
    lr = learning_rates(1e-6, 10, 150, spacing)
    seen = Counter()
    for seed in range(100):
        loss = np.full(150, 0.9)
        at = RNG(seed).choice(150, 40, replace=False)
        loss[at] += RNG(seed).choice([-0.001, 0.001], 40)
        seen[knee(lr, loss).status] += 1
    assert seen["flat"] >= 95
    assert seen["flat"] + seen["noisy"] == 100


def test_an_empty_lr_with_losses_is_an_error():
    with pytest.raises(ValueError, match="lr and loss must be vectors of the same length"):
        knee([], [1.0])


def test_a_curve_is_equal_only_to_itself():
    one, other = (smooth(rates(), curve(rates())) for _ in range(2))
    assert one == one
    assert one != other
    assert len({one, other}) == 2


# A reward that rises as it learns


@pytest.mark.parametrize("noise", [0.0, 0.05])
@pytest.mark.parametrize("turn", [0.3, 1.0])
def test_a_reward_that_rises_and_collapses_has_no_bounds_and_the_reason_says_what_it_is(turn, noise):
    lr = rates()
    loss = curve(lr, turn=turn, noise=noise)
    bounds = knee(lr, -loss)
    assert (bounds.status, bounds.numbers) == ("flat", None)
    start, highest = -2.3, -float(smooth(lr, loss).loss.min())
    assert re.match(r"The loss rose from -2\.(3|29) to -0\.", bounds.details)
    assert "like a reward. If the training step maximizes a reward, return the reward's negative" in bounds.details
    first, top = bounds.marks
    assert (first.text, first.lr) == (f"start: {first.loss:.3g}", None)
    assert first.loss == pytest.approx(start, abs=0.05)
    assert top.loss == pytest.approx(highest)
    assert top.lr == lr[smooth(lr, loss).lowest] < turn
    assert top.text == f"highest: {top.loss:.3g} at {top.lr:.2g}"
    # What falls and then turns unstable is none, whatever its sign says of the end.
    assert knee(lr, loss).status == "ok"


@pytest.mark.parametrize("start", [0.0, 10.0])
def test_a_reward_that_never_collapses_is_distinguished_from_a_loss_that_rises_by_its_noise(start):
    lr = rates()
    rise = start + 2 / (1 + (0.01 / lr) ** 2)
    loud = knee(lr, rise + 0.8 * RNG(0).standard_normal(150))
    assert "like a reward" in loud.details
    quiet = knee(lr, rise + 0.01 * RNG(0).standard_normal(150))
    assert quiet.status == "flat"
    assert "like a reward" not in quiet.details


def test_a_fall_after_a_rise_is_a_reward_that_collapses_and_not_a_fall():
    lr = rates()
    collapses = 2 / (1 + (0.001 / lr) ** 2) - 30 / (1 + (1 / lr) ** 2)
    assert collapses[-1] < collapses[0] < collapses.max()
    bounds = knee(lr, collapses)
    assert bounds.numbers is None
    assert "like a reward" in bounds.details
    smoothed = smooth(lr, collapses)
    read = read_bounds(smoothed, unstable_end=False, cut_short="")
    found, reward = unless_ascent(read, smoothed, collapses)
    assert found == bounds
    np.testing.assert_allclose(reward.loss, smooth(lr, -collapses).loss)
    kept, none = unless_ascent(knee(lr, curve(lr)), smooth(lr, curve(lr)), curve(lr))
    assert (kept, none) == (knee(lr, curve(lr)), None)
    few = knee(lr[:5], -curve(lr)[:5])
    assert unless_ascent(few, smooth(lr[:5], -curve(lr)[:5]), -curve(lr)[:5]) == (few, None)
