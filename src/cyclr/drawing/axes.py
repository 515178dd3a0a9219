"""Plots with Matplotlib. Every function returns the axes on which it drew. No function opens a window."""

import io
import itertools
import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cyclr import _checks, _extras, _files
from cyclr.drawing.picture import MOST_DRAWN, RangePicture

with _extras.needed("plots need", "matplotlib", extra="plot"):
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes
    from matplotlib.transforms import offset_copy

_BLUE, _ORANGE, _GREY = "#0b6bb5", "#c8500a", "#767676"
_SYMBOLS = {
    "▲": "^",
    "▼": "v",
    "│": "|",
    "×": "x",
    "●": "o",
    "◆": "D",
    "■": "s",
    "★": "*",
    "✚": "P",
    "○": "$○$",
    "◇": "$◇$",
}
_STYLES: dict[str, Any] = {
    "soft": {"color": _GREY, "s": 25, "alpha": 0.6},
    "orange": {"color": _ORANGE, "s": 60},
    "ink": {"color": "#222222", "edgecolors": "white", "linewidths": 0.7},
}
_ROW = 14
"""Height of a row of text above the axes, in points."""


def draw_schedule(
    steps: NDArray[np.int64],
    values: NDArray[np.float64],
    envelope: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the values of a schedule at rising steps. Draw its bounds at these steps as a band if the bounds change."""
    ax = _axes(ax, (8, 3.6))
    values = np.minimum(values, MOST_DRAWN)
    if envelope is not None and any(np.ptp(bound) > 0 for bound in envelope):
        low, high = np.minimum(envelope, MOST_DRAWN)
        ax.fill_between(steps, low, high, color=_BLUE, alpha=0.1, linewidth=0, label="bounds")
        ax.legend(loc="upper right", frameon=False)
    ax.plot(steps, values, color=_BLUE, linewidth=1.6)
    ax.margins(x=0)
    ax.ticklabel_format(axis="y", style="sci", scilimits=(-3, 3))
    _tidy(ax, "step (optimizer update)", "value")
    return ax


def draw_range_test(picture: RangePicture, ax: Axes | None = None) -> Axes:
    """Draw the loss over the learning rate, with the bounds, the marks, and the verdict and reason above the plot.

    All text is outside of the axes, so that it does not cover the curve: the names of the bounds are above the axes, in
    two rows, and the other names are in a legend below the axes.
    """
    own, key = ax is None, picture.key
    ax = _axes(ax, plt.rcParams["figure.figsize"])
    if picture.band is not None:
        ax.fill_between(picture.lr, *picture.band, color=_GREY, alpha=0.2, linewidth=0, label=key["band"])
    ax.plot(picture.lr, picture.dots, ".", color=_GREY, markersize=4, alpha=0.6, label=key["dots"])
    ax.plot(picture.lr, picture.curve, color=_BLUE, linewidth=2, label=key["curve"])
    for text, height in picture.levels:
        ax.axhline(height, color=_GREY, linewidth=1, linestyle="--", label=text)
    for number, (glyph, colour, text, height, rates) in enumerate(picture.symbols):
        # Each symbol is smaller than the last, so that two symbols at the same point are both visible.
        style = {"zorder": 3, "s": 110 - 9 * number, "label": text, **_STYLES[colour]}
        ax.scatter(rates, np.full(len(rates), height), marker=_SYMBOLS[glyph], **style)
    ax.set_xscale(picture.scale)
    if picture.interval is not None:
        ax.axvspan(*picture.interval, color=_ORANGE, alpha=0.2, linewidth=0, label=key["interval"])
    if picture.bounds is not None:
        ax.axvspan(*picture.bounds, color=_ORANGE, alpha=0.12, linewidth=0)
        for row, (name, lr) in enumerate(zip(("base_lr", "max_lr"), picture.bounds, strict=True)):
            ax.axvline(lr, color=_ORANGE, linewidth=1.4)
            # Reading the limits updates them.
            ax.get_xlim()
            left_half = ax.transAxes.inverted().transform(ax.transData.transform((lr, 0.0)))[0] < 0.5
            ax.annotate(
                f"{name} {lr:.3g}",
                (lr, 1),
                xycoords=ax.get_xaxis_transform(),
                xytext=(0, 3 + _ROW * row),
                textcoords="offset points",
                horizontalalignment="left" if left_half else "right",
                color=_ORANGE,
            )
    ax.set_ylim(*picture.limits)
    ax.ticklabel_format(axis="y", useOffset=False)
    _tidy(ax, "learning rate", "loss")
    figure: Any = ax.figure
    figure.tight_layout()
    # A character of 9 points is 1/14 inch wide.
    width = ax.get_window_extent().width / figure.dpi
    lines = textwrap.wrap(f"{picture.verdict} {picture.reason}", max(24, int(14 * width)))
    above = 6 + _ROW * (0 if picture.bounds is None else 2)
    raised = offset_copy(ax.transAxes, figure, y=above, units="points")
    ax.text(0, 1, "\n".join(lines), transform=raised, fontsize=9, verticalalignment="bottom")
    ax.set_title(picture.title, loc="left", fontweight="bold", pad=above + 8 + _ROW * len(lines))
    # Below the numbers and the name of the axis, in columns of about 2 inches.
    columns = max(1, int(width / 2))
    ax.legend(
        loc="upper left",
        bbox_to_anchor=(0, 0),
        bbox_transform=offset_copy(ax.transAxes, figure, y=-3 * _ROW, units="points"),
        borderaxespad=0,
        borderpad=0,
        ncols=columns,
        columnspacing=1,
        handlelength=1.5,
        fontsize=9,
        frameon=False,
    )
    if own:
        rows = len(lines) + len(ax.get_legend_handles_labels()[1]) / columns
        figure.set_figheight(3.5 + (above + _ROW * rows) / 72)
    figure.tight_layout()
    return ax


def draw_curves(
    series: Mapping[str, Sequence[float]],
    *,
    xlabel: str,
    ylabel: str,
    x: Sequence[float] | Mapping[str, Sequence[float]] | None = None,
    marks: Mapping[str, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw named curves, such as the accuracy of several runs, with named horizontal lines.

    Args:
        series: the values of each curve by name.
        xlabel, ylabel: names of the axes.
        x: positions of the values, either for all curves or for each curve by name. By default 1, 2, 3, ….
        marks: heights of dashed lines by name.
        ax: axes to draw on. By default new axes are created.
    """
    ax = _axes(ax, (8, 4.2))
    styles = itertools.cycle(itertools.product(("-", "-.", ":"), (_BLUE, _ORANGE, _GREY, "#3f7d20", "#7b3fa0")))
    for (name, values), (line, color) in zip(series.items(), styles, strict=False):
        steps = range(1, len(values) + 1) if x is None else x[name] if isinstance(x, Mapping) else x
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
    """Draw a metric over the training time, for single cyclical runs and for separate runs of different lengths.

    Args:
        single: (times, values) at the ends of the cycles of each run, by name. A line joins them.
        separate: (times, values) with one point for every separate run, by name.
        xlabel, ylabel: names of the axes.
        ax: axes to draw on. By default new axes are created.

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


def _axes(ax: Axes | None, size: Sequence[float]) -> Axes:
    if ax is not None and not hasattr(ax, "plot"):
        raise TypeError(
            f"ax must be axes of Matplotlib; got ax={_checks.quoted(ax)}. To write a file, call "
            "plot().figure.savefig(path)."
        )
    return plt.subplots(figsize=size, layout=None)[1] if ax is None else ax


def _tidy(ax: Axes, xlabel: str, ylabel: str) -> None:
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25)


def save_figure(figure: Any, path: str | os.PathLike[str], **options: Any) -> None:
    """Save a figure in the format of the path's suffix, or as PNG. An existing file is replaced atomically.

    Args:
        figure: the Matplotlib figure.
        path: the file.
        options: as for `figure.savefig`.

    Raises:
        OSError: the file cannot be written.
        ValueError: Matplotlib does not know the format.
    """
    target = Path(path)
    if not target.suffix:
        # Matplotlib adds the same suffix.
        target = target.with_name(f"{target.name}.png")
    drawn = io.BytesIO()
    figure.savefig(drawn, format=target.suffix[1:], **options)
    _files.write_atomically(target, drawn.getvalue())
