"""Plots: they return axes, show what the result says, and open no window."""

import dataclasses
import itertools
import json
import re
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox
from tests import gallery

import cyclr
from cyclr.drawing import axes
from cyclr.range_test import NonFinite, TrialCycle

mpl.use("Agg")

LR = np.geomspace(1e-6, 10, 120)
FALLS_AND_TURNS = 2.3 - 2 / (1 + (0.01 / LR) ** 2) + (LR / 0.5) ** 2


@pytest.fixture(autouse=True)
def no_window(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    def show(*args: object, **kwargs: object) -> None:
        raise AssertionError("a plot must not show itself")

    monkeypatch.setattr(plt, "show", show)
    yield
    plt.close("all")


def result(loss: np.ndarray = FALLS_AND_TURNS) -> cyclr.RangeTestResult:
    return cyclr.RangeTestResult(LR, loss, "completed", 1e-6, 10.0, len(LR), "exponential")


def test_a_schedule_is_drawn_step_by_step() -> None:
    schedule = cyclr.Cyclical(0.001, 0.006, step_size=50)
    ax = schedule.plot(201)
    assert isinstance(ax, Axes)
    x, y = ax.lines[0].get_data()
    np.testing.assert_array_equal(x, np.arange(201))
    np.testing.assert_array_equal(y, schedule(np.arange(201)))
    assert ax.get_xlabel().startswith("step")


def test_a_long_schedule_keeps_its_first_and_last_step() -> None:
    x, _ = cyclr.Cyclical(0.001, 0.006, step_size=10_000).plot(10_000_001).lines[0].get_data()
    assert (x[0], x[-1]) == (0, 10_000_000)
    assert len(x) <= 20_000


def test_decaying_bounds_are_drawn_too() -> None:
    ax = cyclr.Cyclical(0.001, 0.006, step_size=50, decay=cyclr.Halving()).plot(300)
    assert len(ax.collections) == 1


@pytest.mark.parametrize("decay", [None, cyclr.Halving(), cyclr.Exponential(0.99, bounds="both")], ids=repr)
def test_the_bounds_of_warm_restarts_are_drawn_if_they_decay(decay: cyclr.Decay | None) -> None:
    ax = cyclr.WarmRestarts(0.001, 0.006, 50, decay=decay).plot(300)
    assert len(ax.collections) == (0 if decay is None else 1)


def named(ax: Axes) -> dict[str, Any]:
    """The artists of the legend, by their names."""
    artists, names = ax.get_legend_handles_labels()
    return dict(zip(names, artists, strict=True))


def bounds_of(ax: Axes) -> list[float]:
    """The learning rates of the lines of the bounds."""
    return [line.get_xdata()[0] for line in ax.lines if line.get_color() == axes._ORANGE]  # type: ignore[index]


def test_the_band_of_repeats_is_drawn() -> None:
    repeats = [result(FALLS_AND_TURNS + shift) for shift in (0.0, 0.2, 0.1)]
    band = named(cyclr.RangeTestResult.of_repeats(repeats).plot())["range of the repeats"]
    corners = np.asarray(band.get_paths()[0].vertices)
    at_first = corners[np.isclose(corners[:, 0], LR[0]), 1]
    assert (at_first.min(), at_first.max()) == pytest.approx((FALLS_AND_TURNS[0], FALLS_AND_TURNS[0] + 0.2))
    assert "range of the repeats" not in named(result().plot())


def test_axes_of_the_user_are_used() -> None:
    _, mine = plt.subplots()
    assert result().plot(ax=mine) is mine
    assert cyclr.Cyclical(0.1, 0.2, 5).plot(10, ax=mine) is mine


def test_a_range_test_shows_losses_bounds_and_verdict() -> None:
    tested = result()
    ax = tested.plot()
    drawn = named(ax)
    np.testing.assert_array_equal(drawn["recorded loss"].get_ydata(), tested.picture().dots)
    assert drawn["recorded loss"].get_ydata()[:100].tolist() == tested.loss[:100].tolist()
    np.testing.assert_array_equal(drawn["smoothed, as read"].get_ydata(), tested.curve.loss)
    assert bounds_of(ax) == [tested.bounds.base_lr, tested.bounds.max_lr]
    shown = " ".join(text.get_text().replace("\n", " ") for text in ax.texts)
    assert f"{tested.picture().verdict} {tested.bounds.details}" in shown
    assert ax.get_xscale() == "log"


def test_points_that_are_skipped_are_not_drawn_and_the_bounds_stay() -> None:
    loss = FALLS_AND_TURNS.copy()
    loss[:10] += np.linspace(5, 0, 10)
    tested = cyclr.RangeTestResult.of_repeats([result(loss), result(loss + 0.1)])
    ax = tested.plot(skip_begin=10, skip_end=5)
    dots, smoothed = named(ax)["mean of the repeats"], named(ax)["smoothed, as read"]
    assert dots.get_xdata().tolist() == smoothed.get_xdata().tolist() == LR[10:-5].tolist()
    np.testing.assert_array_equal(smoothed.get_ydata(), tested.smoothed_loss[10:-5])
    assert bounds_of(ax) == list(tested.bounds.numbers or ())
    assert tested.plot(skip_begin=10, skip_end=40).get_ylim()[1] < tested.plot(skip_end=40).get_ylim()[1]
    with pytest.raises(ValueError, match="skip_begin and skip_end must leave at least one of 120 points"):
        tested.plot(skip_begin=100, skip_end=20)


def test_a_range_test_without_bounds_says_so_and_draws_none() -> None:
    ax = result(np.full(len(LR), 2.3)).plot()
    assert bounds_of(ax) == []
    assert "flat" in ax.get_title(loc="left")


NOISE = np.random.default_rng(3).standard_normal(len(LR))
BROKEN = NonFinite(30, float(LR[30]), "NaN")


def cycle(top: float, score: float | None) -> TrialCycle:
    return TrialCycle(top, (2.3, 1.0), None, "diverged" if score is None else "completed", score)


# Curves of every sentence, with the words that only this sentence has.
SENTENCES = {
    "turned unstable beyond": {},
    "base_lr is kept at max_lr / 10.": {"loss": 2.3 - 2 / (1 + (0.05 / LR) ** 8) + (LR / 0.3) ** 2},
    "base_lr is kept at max_lr / 100.": {"loss": 2.3 - 1 / (1 + 1e-4 / LR) - 1 / (1 + 0.3 / LR) + (LR / 3) ** 4},
    "max_lr is kept at the learning rate of the lowest loss": {
        "loss": np.where(LR < 1e-4, 2.3, 1.3 + 0.2 * np.log10(LR / 1e-4))
    },
    "did not rise again": {"loss": 2.3 - 2 / (1 + (0.01 / LR) ** 2)},
    "the bounds are a guess": {"loss": 2.3 - 0.5 / (1 + (0.01 / LR) ** 2) + 0.4 * NOISE},
    "nothing was learned.": {"loss": 2.3 + 0.1 * NOISE},
    "nothing was learned before": {"loss": np.full(len(LR), 2.3), "stop_reason": "diverged"},
    "may hide a fall": {"loss": 2.3 + 0.02 * NOISE + np.where(LR > 4, 1.0, 0.0)},
    "and rose beyond": {"loss": 0.02 + 4 / (1 + (0.02 / LR) ** 2), "stop_reason": "diverged"},
    "a twentieth of": {"loss": 0.02 + 4 / (1 + (5 / LR) ** 8), "stop_reason": "diverged"},
    "before it rose": {"loss": 2.3 + 2 / (1 + (1e-5 / LR) ** 2)},
    "like a reward": {"loss": -FALLS_AND_TURNS},
    "are needed to see a curve": {"lr": LR[:9], "loss": FALLS_AND_TURNS[:9], "stop_reason": "interrupted"},
    "broken batch was left out": {"left_out": [BROKEN]},
    "The test ended because": {"stop_reason": "non_finite", "ended_by": NonFinite(119, 10.0, "inf")},
    "The curve gives": {"total_steps": 1000, "trials": [cycle(0.1, 0.3), cycle(0.2, 0.2), cycle(0.4, None)]},
    "the trial up to 0.4 was the best": {"total_steps": 1000, "trials": [cycle(0.4, 0.3)]},
}


def sentence(words: str) -> cyclr.RangeTestResult:
    changes = {"lr": LR, "loss": FALLS_AND_TURNS, "stop_reason": "completed", **SENTENCES[words]}
    tested = cyclr.RangeTestResult(min_lr=1e-6, max_lr=10.0, steps=len(LR), **changes)
    assert words in tested.bounds.reason
    return tested


def numbers(text: str) -> set[str]:
    """The numbers of a text but those of settings, counts and ratios: what can be found on a curve."""
    settings = r"(updates_per_rate|steps|refine)=\d+|max_lr / \d+"
    counts = r"within \d+ updates|update \d+|\d+ (losses|are needed|broken|trial|updates)"
    text = re.sub(f"{settings}|{counts}", "", text)
    return set(re.findall(r"-?\d+(?:\.\d+)?(?:e[-+]\d+)?", text))


def check_marks(tested: cyclr.RangeTestResult, ax: Axes) -> None:
    """Every number of the reason is written at a mark, and every mark is where its number is: on the curve drawn."""
    drawn, bounds = named(ax), tested.bounds
    written = " ".join([*drawn, *(text.get_text() for text in ax.texts[:2])])
    assert bounds.reason.startswith(bounds.verdict)
    assert numbers(bounds.reason) <= numbers(written)
    curve = drawn["smoothed, as read"]
    for mark in bounds.marks:
        if mark.lr is None:
            assert drawn[mark.text].get_ydata()[0] == mark.loss
            assert f"{mark.loss:.3g}" in mark.text
        else:
            (place,) = drawn[mark.text].get_offsets()
            assert place.tolist() == [mark.lr, mark.loss]
            assert mark.loss == pytest.approx(float(np.interp(mark.lr, curve.get_xdata(), curve.get_ydata())))
            assert mark.text.endswith((f" {mark.lr:.2g}", f" {mark.lr:.3g}"))


def test_marks_are_saved_with_the_words_that_name_them() -> None:
    saved = json.loads(json.dumps(result().to_dict()))
    assert cyclr.RangeTestResult.from_dict(saved).bounds.marks == result().bounds.marks
    # The words of a file without marks may be those of another rule, so nothing is marked.
    del saved["bounds"]["marks"]
    assert cyclr.RangeTestResult.from_dict(saved).picture().marks == ()


def texts(ax: Axes) -> dict[str, Bbox]:
    """The boxes of all text of a plot, by the text."""
    figure: Any = ax.figure
    figure.canvas.draw()
    labels = [*ax.texts, ax.title, ax._left_title, *ax.get_legend().get_texts(), ax.xaxis.label, ax.yaxis.label]  # type: ignore[attr-defined,union-attr]
    labels += [tick.label1 for axis in (ax.xaxis, ax.yaxis) for tick in axis._update_ticks()]  # type: ignore[attr-defined]
    return {
        f"{text.get_text()} {number}": text.get_window_extent() for number, text in enumerate(labels) if text.get_text()
    }


def check_boxes(ax: Axes) -> None:
    """No text covers a curve, a dot, a mark or another text, and none is cut at the edge of the figure."""
    boxes, inside = texts(ax), ax.get_window_extent()
    for (one, box), (other, its_box) in itertools.combinations(boxes.items(), 2):
        assert not box.padded(-0.5).overlaps(its_box), (one, other)
    for name, box in boxes.items():
        assert not inside.overlaps(box), name
        assert ax.figure.bbox.padded(1).containsx(box.x0), name
        assert ax.figure.bbox.padded(1).containsx(box.x1), name
        assert ax.figure.bbox.padded(1).containsy(box.y0), name
        assert ax.figure.bbox.padded(1).containsy(box.y1), name
    legend: Any = ax.get_legend()
    assert not inside.overlaps(legend.get_window_extent())
    for artist in (*ax.lines, *ax.collections):
        if artist.get_label() in named(ax):
            assert artist.get_clip_on()
    assert inside.height > 0.1 * ax.figure.bbox.height


@pytest.mark.parametrize("words", SENTENCES)
def test_every_number_of_a_reason_is_marked_and_no_text_covers_anything(words: str) -> None:
    tested = sentence(words)
    ax = tested.plot()
    check_marks(tested, ax)
    check_boxes(ax)


@pytest.mark.parametrize("size", [None, (5, 6)], ids=str)
@pytest.mark.parametrize("name", gallery.NAMES)
def test_the_gallery_is_marked_and_no_text_covers_anything(name: str, size: tuple[float, float] | None) -> None:
    tested = gallery.results()[name]
    ax = tested.plot(None if size is None else plt.subplots(figsize=size)[1])
    check_marks(tested, ax)
    check_boxes(ax)


@pytest.mark.parametrize("bounds", [(1e-6, 2e-6), (1e-6, 10.0), (9.0, 10.0), (3e-3, 3.1e-3)], ids=str)
def test_the_names_of_bounds_anywhere_cover_nothing(bounds: tuple[float, float]) -> None:
    check_boxes(axes.draw_range_test(dataclasses.replace(result().picture(), bounds=bounds)))


def test_the_interval_of_max_lr_is_drawn_and_in_the_verdict() -> None:
    assert result().picture().interval == result().interval()
    picture = dataclasses.replace(result().picture(), bounds=(0.0022, 0.04), interval=(0.03, 0.055))
    ax = axes.draw_range_test(picture)
    assert (
        ax.texts[-1]
        .get_text()
        .startswith("Train between base_lr=0.0022 and max_lr=0.04 (0.03 to 0.055). The loss fell")
    )
    band = named(ax)["max_lr, 80 %: 0.03 to 0.055"].get_extents().transformed(ax.transData.inverted())
    assert (band.x0, band.x1) == pytest.approx((0.03, 0.055))


def test_losses_that_are_cut_off_are_shown_as_cut_off() -> None:
    loss = FALLS_AND_TURNS.copy()
    loss[-10:] = np.geomspace(1e3, 1e30, 10)
    loss[40] = -50.0
    tested = result(loss)
    drawn = named(tested.plot())
    level = tested.curve.cut
    above = drawn[f"cut off above {level:.3g}"].get_offsets()
    assert above[:, 0].tolist() == LR[loss > level].tolist()
    assert set(above[:, 1]) == {level}
    (below,) = (artist for name, artist in drawn.items() if name.startswith("cut off below"))
    assert below.get_offsets()[:, 0].tolist() == [LR[40]]
    assert drawn["smoothed, as read"].get_ydata().max() <= level


def test_a_diverged_loss_does_not_hide_the_fall() -> None:
    loss = FALLS_AND_TURNS.copy()
    loss[-10:] = np.geomspace(1e3, 1e30, 10)
    low, high = result(loss).plot().get_ylim()
    assert low < 1.0
    assert high < 10.0


def test_too_few_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="steps must be an integer of at least 2; got steps=1"):
        cyclr.Cyclical(0.1, 0.2, 5).plot(1)


def test_curves_are_named() -> None:
    ax = axes.draw_curves({"a": [1, 2], "b": [2, 1]}, xlabel="x", ylabel="y", marks={"mark": 1.5})
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b", "mark"]


def test_each_curve_may_have_positions_of_its_own() -> None:
    curves = {"a": [1.0, 2.0], "b": [2.0, 1.0, 3.0]}
    ax = axes.draw_curves(curves, x={"a": [5, 6], "b": [1, 2, 3]}, xlabel="x", ylabel="y")
    assert [line.get_xdata().tolist() for line in ax.lines] == [[5, 6], [1, 2, 3]]
    plt.close(ax.figure)


def test_every_curve_is_drawn_and_none_like_another() -> None:
    ax = axes.draw_curves({f"{n}": [n, n] for n in range(12)}, xlabel="x", ylabel="y")
    assert [line.get_label() for line in ax.lines] == [f"{n}" for n in range(12)]
    assert len({(line.get_color(), line.get_linestyle()) for line in ax.lines}) == 12


def test_a_trade_off_joins_the_cycles_of_single_runs_and_not_separate_runs() -> None:
    single = {"one run": ([10, 30, 70], [0.1, 0.3, 0.7])}
    ax = axes.draw_tradeoff(single, {"runs of their own": ([10, 70], [0.2, 0.6])}, xlabel="step", ylabel="accuracy")
    joined, alone = ax.get_lines()
    assert joined.get_xydata().tolist() == [[10, 0.1], [30, 0.3], [70, 0.7]]  # type: ignore[union-attr]
    assert joined.get_linestyle() == "-"
    assert alone.get_linestyle() == "None"
    assert ax.get_xscale() == "log"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["one run", "runs of their own"]  # type: ignore[union-attr]
    plt.close(ax.figure)
