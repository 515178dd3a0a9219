"""Plots: they return axes, show what the result says, and open no window."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

import cyclr
from cyclr.drawing import axes

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


def test_the_band_of_repeats_is_drawn() -> None:
    repeats = [result(FALLS_AND_TURNS + shift) for shift in (0.0, 0.2, 0.1)]
    (band,) = cyclr.RangeTestResult.of_repeats(repeats).plot().collections
    corners = np.asarray(band.get_paths()[0].vertices)
    at_first = corners[np.isclose(corners[:, 0], LR[0]), 1]
    assert (at_first.min(), at_first.max()) == pytest.approx((FALLS_AND_TURNS[0], FALLS_AND_TURNS[0] + 0.2))
    assert not result().plot().collections


def test_axes_of_the_user_are_used() -> None:
    _, mine = plt.subplots()
    assert result().plot(ax=mine) is mine
    assert cyclr.Cyclical(0.1, 0.2, 5).plot(10, ax=mine) is mine


def test_a_range_test_shows_losses_bounds_and_verdict() -> None:
    tested = result()
    ax = tested.plot()
    dots, smoothed, low, high = ax.lines
    np.testing.assert_array_equal(dots.get_ydata(), tested.picture().dots)
    assert dots.get_ydata()[:100].tolist() == tested.loss[:100].tolist()
    np.testing.assert_array_equal(smoothed.get_ydata(), tested.smoothed_loss)
    assert low.get_xdata()[0] == tested.bounds.base_lr
    assert high.get_xdata()[0] == tested.bounds.max_lr
    shown = " ".join(text.get_text().replace("\n", " ") for text in ax.texts)
    assert tested.bounds.reason in shown
    assert ax.get_xscale() == "log"


def test_points_that_are_skipped_are_not_drawn_and_the_bounds_stay() -> None:
    loss = FALLS_AND_TURNS.copy()
    loss[:10] += np.linspace(5, 0, 10)
    tested = cyclr.RangeTestResult.of_repeats([result(loss), result(loss + 0.1)])
    dots, smoothed, low, high = tested.plot(skip_begin=10, skip_end=5).lines
    assert dots.get_xdata().tolist() == smoothed.get_xdata().tolist() == LR[10:-5].tolist()
    np.testing.assert_array_equal(smoothed.get_ydata(), tested.smoothed_loss[10:-5])
    assert (low.get_xdata()[0], high.get_xdata()[0]) == tested.bounds.numbers
    assert tested.plot(skip_begin=10, skip_end=40).get_ylim()[1] < tested.plot(skip_end=40).get_ylim()[1]
    with pytest.raises(ValueError, match="skip_begin and skip_end must leave a point of 120"):
        tested.plot(skip_begin=100, skip_end=20)


def test_a_range_test_without_bounds_says_so_and_draws_none() -> None:
    ax = result(np.full(len(LR), 2.3)).plot()
    assert len(ax.lines) == 2
    assert "flat" in ax.get_title(loc="left")


def test_a_loss_that_flew_away_does_not_hide_the_fall() -> None:
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
