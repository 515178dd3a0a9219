"""Plots with Matplotlib: every function returns the axes that it drew on, and none opens a window."""

import itertools
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cyclr.drawing.picture import RangePicture
from cyclr.errors import MissingExtraError

try:
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes
except ImportError as error:
    raise MissingExtraError('plots need Matplotlib. Run: pip install "cyclr[plot]".') from error

_BLUE, _ORANGE, _GREY = "#0b6bb5", "#c8500a", "#767676"
_MOST_POINTS = 20_000


def sampled_steps(steps: int) -> NDArray[np.int64]:
    """The steps of a schedule to draw: all `steps` of them, or 20,000 from the first to the last."""
    return np.unique(np.linspace(0, steps - 1, min(steps, _MOST_POINTS)).astype(np.int64))


def draw_schedule(
    steps: NDArray[np.int64],
    values: NDArray[np.float64],
    envelope: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the values of a schedule at rising steps, and its bounds at these steps as a band if they change."""
    ax = _axes(ax, (8, 3.6))
    if envelope is not None and any(np.ptp(bound) > 0 for bound in envelope):
        ax.fill_between(steps, *envelope, color=_BLUE, alpha=0.1, linewidth=0, label="bounds")
        ax.legend(loc="upper right", frameon=False)
    ax.plot(steps, values, color=_BLUE, linewidth=1.6)
    ax.margins(x=0)
    ax.ticklabel_format(axis="y", style="sci", scilimits=(-3, 3))
    _tidy(ax, "step (optimizer update)", "value")
    return ax


def draw_range_test(picture: RangePicture, ax: Axes | None = None) -> Axes:
    """Draw loss against learning rate with the bounds marked, and the reason above it."""
    ax = _axes(ax, (8, 4.8))
    if picture.band is not None:
        ax.fill_between(picture.lr, *picture.band, color=_GREY, alpha=0.2, linewidth=0, label="range of the repeats")
    ax.plot(picture.lr, picture.dots, ".", color=_GREY, markersize=4, alpha=0.6, label="loss of each batch")
    ax.plot(picture.lr, picture.curve, color=_BLUE, linewidth=2, label="smoothed")
    ax.set_xscale(picture.scale)
    if picture.bounds is not None:
        ax.axvspan(*picture.bounds, color=_ORANGE, alpha=0.12, linewidth=0)
        for name, lr, side in zip(("base_lr", "max_lr"), picture.bounds, ("right", "left"), strict=True):
            ax.axvline(lr, color=_ORANGE, linewidth=1.4)
            # Near the left end the name would cover the axis. Asking for the limits settles them.
            ax.get_xlim()
            side = "left" if ax.transAxes.inverted().transform(ax.transData.transform((lr, 0.0)))[0] < 0.12 else side
            ax.annotate(
                f"{name}\n{lr:.2g}",
                (lr, 0.03),
                xycoords=ax.get_xaxis_transform(),
                xytext=(-5 if side == "right" else 5, 0),
                textcoords="offset points",
                horizontalalignment=side,
                color=_ORANGE,
            )
    ax.set_ylim(*picture.limits)
    ax.ticklabel_format(axis="y", useOffset=False)
    # A character of 9 points is a fourteenth of an inch wide.
    lines = textwrap.wrap(picture.reason, max(24, int(14 * ax.get_window_extent().width / ax.figure.dpi)))
    ax.set_title(picture.title, loc="left", fontweight="bold", pad=10 + 14 * len(lines))
    ax.text(0, 1.02, "\n".join(lines), transform=ax.transAxes, fontsize=9, verticalalignment="bottom")
    ax.legend(loc="best" if picture.bounds is None else "upper left", frameon=False)
    _tidy(ax, "learning rate", "loss")
    ax.figure.tight_layout()  # type: ignore[union-attr]
    return ax


def draw_curves(
    series: Mapping[str, Sequence[float]],
    *,
    xlabel: str,
    ylabel: str,
    x: Sequence[float] | None = None,
    marks: Mapping[str, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw named curves, such as the accuracy of several runs, with named horizontal marks.

    Args:
        series: name → values; of one length if `x` is given.
        xlabel, ylabel: names of the axes.
        x: position of the values; 1, 2, 3, … by default.
        marks: name → height of a dashed line.
        ax: axes to draw on; new ones by default.
    """
    ax = _axes(ax, (8, 4.2))
    styles = itertools.cycle(itertools.product(("-", "-.", ":"), (_BLUE, _ORANGE, _GREY, "#3f7d20", "#7b3fa0")))
    for (name, values), (line, color) in zip(series.items(), styles, strict=False):
        steps = x if x is not None else range(1, len(values) + 1)
        ax.plot(steps, values, color=color, linestyle=line, linewidth=1.8, label=name)
    for name, height in (marks or {}).items():
        ax.axhline(height, color=_GREY, linewidth=1, linestyle="--", label=name)
    if series or marks:
        ax.legend(frameon=False)
    _tidy(ax, xlabel, ylabel)
    return ax


def draw_tradeoff(
    single: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    separate: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
    *,
    xlabel: str,
    ylabel: str,
    ax: Axes | None = None,
) -> Axes:
    """Draw a metric against training time as single cyclical runs trace it, and as separate runs of each length do.

    Args:
        single: name → (times, values) at the ends of the cycles of one run, joined by a line.
        separate: name → (times, values), a point for every run of its own.
        xlabel, ylabel: names of the axes.
        ax: axes to draw on; new ones by default.

    Source: Portes et al. 2022, *Fast Benchmarking of Accuracy vs. Training Time with Cyclic Learning Rates*,
    arXiv:2206.00832.
    """
    ax = _axes(ax, (8, 4.2))
    for number, (name, (times, values)) in enumerate(single.items()):
        style = {"alpha": 0.35 + 0.65 / (1 + number), "linewidth": 1.8, "marker": "o", "markersize": 4}
        ax.plot(times, values, color=_BLUE, label=name, **style)  # type: ignore[arg-type]
    for name, (times, values) in (separate or {}).items():
        ax.plot(times, values, linestyle="", marker="x", markersize=7, markeredgewidth=1.8, color=_ORANGE, label=name)
    ax.set_xscale("log")
    ax.legend(frameon=False)
    _tidy(ax, xlabel, ylabel)
    return ax


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    return plt.subplots(figsize=size, layout=None)[1] if ax is None else ax


def _tidy(ax: Axes, xlabel: str, ylabel: str) -> None:
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25)
