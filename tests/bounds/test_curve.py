"""A smoothed curve against its definition in plain Python, and the bounds of curves whose every point is known."""

import math
import statistics
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cyclr import Bounds
from cyclr.bounds.base import ADVICE
from cyclr.bounds.curve import BANDWIDTH, FINE, Curve, smooth
from cyclr.bounds.knee import errors_of_fall, read_bounds, readings
from cyclr.bounds.smoothing import unimodal

LOSSES = st.lists(st.floats(-100, 100), min_size=1, max_size=40)


def rates(points, spacing):
    return np.geomspace(1e-6, 10, points) if spacing == "exponential" else np.linspace(1e-6, 10, points)


def mean_around(position, values, width):
    weights = [[math.exp(-(((x - y) / width) ** 2) / 2) for y in position] for x in position]
    return [math.fsum(k * v for k, v in zip(row, values, strict=True)) / math.fsum(row) for row in weights]


@settings(max_examples=30)
@example(losses=[math.sin(i * i) for i in range(40)], spacing="linear")
@example(losses=[math.sin(i * i) for i in range(40)], spacing="exponential")
@given(losses=LOSSES, spacing=st.sampled_from(["exponential", "linear"]))
def test_a_curve_is_smoothed_step_by_step(losses, spacing):
    n = len(losses)
    lr = rates(n, spacing)
    curve = smooth(lr, losses)
    x = [math.log10(rate) for rate in lr]
    quarter = sum(place < x[0] + (x[-1] - x[0]) / 4 for place in x)
    first = losses[: max(min(5, n), min(quarter, n // 4))]
    median = [statistics.median(losses[max(i - 1, 0) : i + 2]) for i in range(n)]
    # At the ends too, an outlier has to be outvoted.
    median[0], median[-1] = statistics.median(losses[:3]), statistics.median(losses[-3:])
    cut = 2 * statistics.median(first) - min(median)
    clipped = [min(value, max(cut, statistics.median(first))) for value in median]
    spaces = (x[-1] - x[0]) / (n - 1) if n > 1 else 0.0
    loss = mean_around(x, unimodal(clipped), max(BANDWIDTH, 1.5 * spaces))
    same = {"rel": 1e-9, "abs": 1e-9}
    assert curve.loss.tolist() == pytest.approx(loss, **same)
    assert curve.fine.tolist() == pytest.approx(mean_around(x, clipped, max(FINE, 1.5 * spaces)), **same)
    assert curve.median.tolist() == median
    assert curve.cut == pytest.approx(max(cut, statistics.median(first)), **same)
    assert curve.start == pytest.approx(min(statistics.median(first), loss[0]), **same)
    assert curve.highest == max(losses)
    assert curve.loss[curve.lowest] == curve.loss.min()
    for array in (curve.lr, curve.loss, curve.fine, curve.median):
        assert not array.flags.writeable
    # The noise, from the differences of neighbours as far as the lowest point, and the error of the fall.
    steps = [abs(b - a) for a, b in pairwise(losses[: max(curve.lowest, n // 4) + 1])]
    noise = statistics.median(steps) / (0.6745 * math.sqrt(2)) if steps else 0.0
    noise = noise or (math.sqrt(statistics.fmean([step * step for step in steps]) / 2) if steps else 0.0)
    width = max(BANDWIDTH, 1.5 * spaces)
    weights = [math.exp(-(((x[curve.lowest] - place) / width) ** 2) / 2) for place in x]
    lowest = sum(weight**2 for weight in weights) / sum(weights) ** 2
    assert curve.noise == pytest.approx(noise, **same)
    assert curve.error == pytest.approx(noise * math.sqrt(lowest + math.pi / 2 / len(first)), **same)


@pytest.mark.parametrize("kind", [np.int64, np.float32])
def test_rates_and_losses_of_any_kind_are_computed_as_floats_of_64_bits(kind):
    curve = smooth(np.array([1, 2, 4, 8], kind), np.array([3, 2, 1, 2], kind))
    assert {array.dtype for array in (curve.lr, curve.loss, curve.fine, curve.median)} == {np.dtype("float64")}
    assert curve.loss.tolist() == smooth([1.0, 2.0, 4.0, 8.0], [3.0, 2.0, 1.0, 2.0]).loss.tolist()


@pytest.mark.parametrize("values", [[1e-308, 2e-308] * 30, [1e300, -1e300] * 30, [0.0, 0.0, 0.0, 0.0, 1e306] * 12])
def test_the_noise_of_tiny_and_huge_losses_is_a_number(values):
    curve = smooth(rates(60, "exponential"), values)
    assert math.isfinite(curve.noise)
    assert curve.noise > 0


def curve_of(loss, *, start=None, noise=0.0, error=0.0, lr=None):
    """A curve of these points, which no smoothing has moved."""
    loss = np.array(loss)
    lr = np.geomspace(1e-6, 10, len(loss)) if lr is None else lr
    start = float(loss[0]) if start is None else start
    lowest = int(np.argmin(loss))
    return Curve(lr, loss, loss, loss, 1e9, start, lowest, float(loss.max()), noise, error)


@given(losses=LOSSES, share=st.sampled_from([0.0, 0.1, 0.5, 0.9, 0.98, 1.0]))
def test_properties_of_a_curve_at_its_points(losses, share):
    curve = curve_of(losses)
    lowest = losses.index(min(losses))
    fall = losses[0] - losses[lowest]
    assert curve.fall == fall
    after = [i for i in range(lowest, len(losses)) if losses[i] >= losses[0]]
    assert curve.back == (after[0] if after else len(losses) - 1)
    below = losses[0] - share * fall
    stays = [i for i in range(lowest + 1) if all(loss <= below for loss in losses[i : lowest + 1])]
    assert curve.reached(share) == (stays[0] if stays else lowest)
    for index in (0, lowest):
        assert curve.updates(index) == pytest.approx(sum(curve.lr[: index + 1]) / curve.lr[index])


def test_a_loss_that_starts_below_its_level_has_no_fall():
    assert curve_of([2.0, 3.0, 4.0], start=1.0).fall == 0.0


# One point a decade, down from 10 to 0 in steps of 1 and up again: the loss has fallen by a tenth after the first.
FALL = [10.0, 10.0, *range(9, -1, -1), 1.0, 2.0, 10.0, 11.0]
LR = 10.0 ** np.arange(-8, 8)


def test_bounds_are_the_geometric_mean_of_their_readings():
    curve = curve_of(FALL, lr=LR)
    flattened, settled, back = readings(curve)
    # Of 1.11 updates at their rates each, which are far fewer than in a usual test: 1/4 at least.
    assert (flattened, settled) == (pytest.approx(1e2 * 0.25**0.4), pytest.approx(1e3 * 0.25**0.4))
    assert back == 1e6
    bounds = read_bounds(curve, unstable_end=False, cut_short="")
    assert bounds.status == "ok"
    assert bounds.max_lr == pytest.approx(flattened**0.4 * (settled / 1.5) ** 0.4 * (back / 14) ** 0.2)
    # The fall began seven decades earlier.
    assert bounds.base_lr == pytest.approx(bounds.max_lr / 100)
    assert bounds.details == (
        "The loss fell from 10 to 0, beginning near 1e-06; it flattened near 1e+02 and turned unstable beyond 1e+03. "
        "base_lr is kept at max_lr / 100."
    )
    marks = [(mark.text, mark.loss, mark.lr) for mark in bounds.marks]
    assert marks == [
        ("start: 10", 10.0, None),
        ("begins to fall: 1e-06", 9.0, 1e-6),
        ("flattens: 1e+02", 1.0, 100.0),
        ("lowest: 0 at 1e+03", 0.0, 1000.0),
    ]


def test_the_readings_of_a_test_from_the_start_count_the_updates_at_a_rate():
    curve = curve_of(FALL, lr=LR)
    # 70 % of the fall are reached at 1, in 1/4 to 4 times as many updates as the usual 5.
    for updates, share in ((1, 0.25), (2, 0.4), (5, 1.0), (20, 4.0), (100, 4.0)):
        assert readings(curve, updates, from_start=True) == (pytest.approx(share**0.4), 1e6)
        # In a sweep, 1.11 updates for each of these, of 9.75.
        usual = min(max(updates * curve.updates(10) / 9.75, 0.25), 4.0) ** 0.4
        assert readings(curve, updates)[0] == pytest.approx(100 * usual)
    bounds = read_bounds(curve, unstable_end=False, cut_short="", updates_per_rate=5, from_start=True)
    assert bounds.max_lr == pytest.approx((1 / 0.65) ** 0.8 * (1e6 / 10) ** 0.2)


@pytest.mark.parametrize(
    ("loss", "base", "top", "words"),
    [
        # Back at its start 9 decades after its lowest point, which is the most.
        ([10.0, 10.0, 0.0, *[5.0] * 9, 10.0, 11.0, 12.0, 13.0], 1e-7, 1e-6, " max_lr is kept at the learning rate"),
        # Begins a decade and a half before the top.
        ([*[10.0] * 9, 9.5, 0.0, 10.0, 11.0, 12.0, 13.0, 14.0], None, None, "beyond 1e+02."),
    ],
)
def test_the_bounds_are_kept_in_order(loss, base, top, words):
    bounds = read_bounds(curve_of(loss, lr=LR), unstable_end=False, cut_short="")
    assert bounds.status == "ok"
    assert words in bounds.details
    if base is not None:
        assert (bounds.base_lr, bounds.max_lr) == (pytest.approx(base), pytest.approx(top))
    assert 10 * (1 - 1e-12) <= bounds.max_lr / bounds.base_lr <= 100 * (1 + 1e-12)


def status_and_words(curve, **named):
    bounds = read_bounds(curve, **{"unstable_end": False, "cut_short": "", **named})
    return bounds.status, bounds.details


# What a curve is taken for, on both sides of every border.


@pytest.mark.parametrize(
    ("errors", "status"),
    [(1.49, "flat"), (1.51, "flat"), (3.09, "flat"), (3.11, "noisy"), (4.49, "noisy"), (4.51, "ok")],
)
def test_a_fall_counts_by_its_standard_errors(errors, status):
    curve = curve_of(FALL, lr=LR, error=10 / errors)
    found, words = status_and_words(curve, unstable_end=True)
    assert found == status
    assert ("may hide a fall" in words) is (1.5 < errors < 3.1)
    assert ("the bounds are a guess" in words) is (status == "noisy")
    assert words.endswith(ADVICE["noisy"]) is (status == "noisy")
    if 1.5 < errors < 3.1:
        assert words.endswith("check the data and that the model learns at all.")
        assert status_and_words(curve, unstable_end=True, cut_short="Go on.")[1].endswith("Go on.")


@pytest.mark.parametrize(("share", "status"), [(0.99, "no_divergence"), (1.0, "ok"), (1.01, "ok")])
def test_a_loss_that_turns_up_by_a_tenth_of_its_fall_diverges(share, status):
    loss = [10.0, 10.0, *range(9, -1, -1), 0.5 * share, 0.7 * share, 0.9 * share, share]
    assert status_and_words(curve_of(loss, lr=LR))[0] == status
    assert status_and_words(curve_of(loss, lr=LR), unstable_end=True)[0] == "ok"
    if status == "no_divergence":
        bounds = read_bounds(curve_of(loss, lr=LR), unstable_end=False, cut_short="")
        assert bounds.details.endswith(ADVICE["no_divergence"])
        assert read_bounds(curve_of(loss, lr=LR), unstable_end=False, cut_short="Go on.").details.endswith("Go on.")
        assert (bounds.marks[-1].text, bounds.marks[-1].lr) == ("end of the test: 1e+07", 1e7)


@pytest.mark.parametrize("rise", [200.0, 2000.0])
@pytest.mark.parametrize("share", [0.9, 1.1])
def test_a_fall_below_a_thousandth_of_the_level_or_of_the_rise_is_ignored(rise, share):
    fall = share * min(rise, 1000.0) / 1000
    loss = [1000.0, *[1000.0 - fall] * 8, *[1000.0] * 6, 1000.0 + rise]
    assert (status_and_words(curve_of(loss, lr=LR))[0] == "flat") is (share < 1)
    border = [1000.0, *[999.0] * 8, *[1000.0] * 6, 2000.0]
    assert status_and_words(curve_of(border, lr=LR))[0] == "ok"


def level(rise, *, points=16, at=1, **named):
    """A loss of 10 that rises at the last points."""
    return curve_of([10.0] * (points - at) + [10.0 + rise] * at, **named)


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("share", [0.99, 1.01])
def test_a_rise_below_the_noise_or_a_thousandth_of_the_level_is_ignored(noise, share):
    curve = level(share * max(6.5 * noise, 0.01), noise=noise)
    status, words = status_and_words(curve, unstable_end=True)
    assert status == "flat"
    assert words.startswith("The loss stayed at 10 from 1e-06 to 10, until") is (share < 1)
    if share < 1:
        assert status_and_words(curve)[1].endswith(f"nothing was learned. {ADVICE['flat']}")
        assert status_and_words(curve, cut_short="Go on.")[1].endswith("Go on.")
        bounds = read_bounds(curve, unstable_end=False, cut_short="")
        assert [mark.text for mark in bounds.marks] == ["start: 10", "first rate: 1e-06", "end of the test: 10"]


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_bounds_for_fine_tuning_keep_below_the_last_rate_that_did_no_harm(noise):
    harm = max(3 * noise, 1.0)
    lr = np.geomspace(1e-6, 10, 29)
    loss = [10.0] * 16 + [10.0 + 0.99 * harm] + [10.0 + 1.01 * harm] * 11 + [100.0]
    bounds = read_bounds(curve_of(loss, lr=lr, noise=noise, error=1.0), unstable_end=False, cut_short="")
    assert (bounds.status, bounds.usable) == ("flat", True)
    assert bounds.max_lr == pytest.approx(lr[16] / 1.5)
    assert bounds.base_lr == pytest.approx(bounds.max_lr / 100)
    assert [mark.text for mark in bounds.marks] == ["start: 10", "rises beyond 0.01"]
    assert "twentieth" not in bounds.details


@pytest.mark.parametrize(("last", "kept"), [(2.0, "may hide a fall"), (4.0, "a twentieth of 10")])
def test_a_rise_right_before_the_end_may_be_noise(last, kept):
    """Of 10, 3.3 is a third, and a loss that did no harm up to there shows no rise."""
    lr = np.array([*np.geomspace(1e-6, 1, 20), 10 / last, 10.0])
    loss = [10.0] * 21 + [100.0]
    bounds = read_bounds(curve_of(loss, lr=lr, error=1.0), unstable_end=False, cut_short="")
    assert kept in bounds.details
    if bounds.usable:
        assert bounds.max_lr == pytest.approx(10 / 20)
        assert [mark.text for mark in bounds.marks][-1] == "end of the test: 10"
    # A test that turned unstable shows a rise.
    assert read_bounds(curve_of(loss, lr=lr, error=1.0), unstable_end=True, cut_short="").max_lr == pytest.approx(0.5)


@pytest.mark.parametrize(("decades", "usable"), [(1.60, False), (1.70, True)])
def test_a_level_of_thirty_times_the_first_rate_may_come_from_a_trained_model(decades, usable):
    lr = np.array([*np.geomspace(1e-6, 1e-6 * 10**decades, 20), 1.0, 10.0])
    bounds = read_bounds(curve_of([10.0] * 20 + [90.0, 100.0], lr=lr, error=1.0), unstable_end=True, cut_short="")
    # 30 times 1.5 are 1.65 decades.
    assert (bounds.status, bounds.usable) == ("flat", usable)
    if not usable:
        assert bounds.details.endswith("Lower min_lr of the range test.")
        assert "before it rose: every learning rate from 1e-06 on" in bounds.details


@pytest.mark.parametrize("points", [1, 11])
def test_few_points_say_what_to_do(points):
    curve = curve_of([10.0] * points)
    texts = [
        read_bounds(curve, unstable_end=unstable, cut_short=short).details
        for unstable, short in ((False, ""), (True, ""), (True, "Go on."))
    ]
    assert texts[0].endswith(ADVICE["too_few_points"])
    assert "scale the inputs, or lower min_lr" in texts[1]
    assert texts[2].endswith("Go on.")


def test_a_fall_smaller_than_rounding_is_ignored():
    curve = curve_of(np.array(FALL) * 1e-10 + 10.0, lr=LR)
    assert curve.fall > 0.001 * (curve.highest - curve.start) > 0
    assert status_and_words(curve)[0] == "flat"
    assert status_and_words(curve_of(np.array(FALL) * 1e-10, lr=LR))[0] == "ok"
    # From a level of 0 it is a fall in any case.
    assert status_and_words(curve_of(np.array(FALL) - 10.0, lr=LR))[0] == "ok"
    assert errors_of_fall(curve_of([0.0] * 16)) == 0.0


def test_values_at_a_threshold_count_as_within_it():
    """31 / 10 is the number 3.1, to the last bit."""
    falls = curve_of([31.0, 31.0, *[0.0] * 10, 31.0, 40.0, 50.0, 60.0], error=10.0)
    assert status_and_words(falls)[0] == "noisy"
    hidden = curve_of([2.0**17, *[2.0**17 - 31] * 10, 2.0**17, *[2.0**18] * 4], error=10.0)
    status, words = status_and_words(hidden, unstable_end=True)
    assert (status, "may hide a fall" in words) == ("flat", False)
    hint = curve_of([10.0, *[7.0] * 10, 10.0, *[99.0] * 4], error=2.0)
    assert "may hide a fall" in status_and_words(hint, unstable_end=True)[1]
    assert status_and_words(level(6.5, noise=1.0))[1].startswith("The loss stayed")
    lr = np.array([*np.geomspace(1e-6, 0.1, 20), 1.0, 3.0])
    assert read_bounds(curve_of([10.0] * 21 + [90.0], lr=lr), unstable_end=False, cut_short="").usable


def test_bounds_keep_their_marks_in_a_dictionary():
    bounds = read_bounds(curve_of(FALL, lr=LR), unstable_end=False, cut_short="")
    again = bounds.to_dict()
    assert [*again] == ["base_lr", "max_lr", "status", "reason", "marks"]
    assert Bounds(**again) == bounds
    assert "marks" not in Bounds(0.1, 0.2, "ok", "").to_dict()


@pytest.mark.parametrize("status", ["ok", "no_divergence", "noisy", "flat", "too_few_points"])
def test_a_status_says_if_there_are_numbers(status):
    for numbers, illegal in (((0.1, 0.2), {"too_few_points"}), ((None, None), {"ok", "no_divergence", "noisy"})):
        if status in illegal:
            with pytest.raises(ValueError, match=r"^base_lr and max_lr must be numbers if the status is 'ok'"):
                Bounds(*numbers, status, "")
        else:
            assert Bounds(*numbers, status, "").usable is (numbers != (None, None))
