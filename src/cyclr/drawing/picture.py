"""The numbers in a picture of a range test, which Matplotlib, SVG and the page share."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cyclr import _checks

Floats = NDArray[np.float64]

GLYPHS = "●◆■★✚○◇"
"""Glyphs of the marked points, in order. They repeat after the last glyph."""

LEAST_DRAWN, MOST_DRAWN = 1e-300, 1e300
"""Smallest difference that is drawn, and largest value that is drawn, so that heights do not overflow. Larger
values are clipped."""


@dataclass(frozen=True)
class Mark:
    """A point in the description of a curve, which pictures mark. If `lr` is None, the mark is a horizontal line.

    Attributes:
        text: name of the mark, including its number.
        loss: loss of the mark, which is its height.
        lr: learning rate of the mark, > 0, or None.

    Raises:
        TypeError, ValueError: a value has a wrong type or is out of range.
    """

    text: str
    loss: float
    lr: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise TypeError(f"text must be a string; got text={_checks.quoted(self.text)}.")
        object.__setattr__(self, "loss", _checks.number("loss", self.loss))
        if self.lr is not None:
            object.__setattr__(self, "lr", _checks.number("lr", self.lr, above=0))


def verdict(bounds: tuple[float, float] | None, interval: tuple[float, float] | None = None) -> str:
    """Return (base_lr, max_lr) as the sentence of every output, with the interval of max_lr if it is given."""
    if bounds is None:
        return "This curve gives no bounds."
    around = "" if interval is None else f" ({interval[0]:.2g} to {interval[1]:.2g})"
    return f"Train between base_lr={bounds[0]:.3g} and max_lr={bounds[1]:.3g}{around}."


@dataclass(frozen=True, eq=False, kw_only=True)
class RangePicture:
    """The numbers and sentences in the drawing of a range test, without a plotting library.

    Attributes:
        lr: learning rates, rising, shape (n,).
        loss: recorded losses, shape (n,).
        runs: losses of every repeat, shape (repeats, n); one row without repeats.
        curve: the smoothed losses from which the bounds were read, shape (n,).
        cut: lower and upper limit to which losses were clipped before smoothing. One of them is infinite.
        noise: standard deviation of one loss around the smoothed curve.
        scale: scale of the learning-rate axis.
        bounds: (base_lr, max_lr), or None if the test gives no bounds.
        interval: 80 % interval of max_lr, or None if it was not computed.
        status: status of the bounds, such as `"ok"`.
        reason: the description of the curve, and the remedy.
        marks: the points in the description of the curve.
        trials: the highest learning rate of every trial cycle, and the reason for its end, such as `"completed"`.
        ended: a sentence with the number of learning rates tried and the reason for the end of the test.
    """

    lr: Floats
    loss: Floats
    runs: Floats
    curve: Floats
    cut: tuple[float, float]
    noise: float
    scale: Literal["log", "linear"]
    bounds: tuple[float, float] | None
    interval: tuple[float, float] | None = None
    status: str
    reason: str
    marks: tuple[Mark, ...] = ()
    trials: tuple[tuple[float, str], ...] = ()
    ended: str

    def thinned(self, most: int) -> "RangePicture":
        """Return the picture with at most `most` points, evenly spread, and with the same loss axis."""
        if len(self.lr) <= most:
            return self
        shown = np.linspace(0, len(self.lr) - 1, most).astype(int)
        lr, loss, curve = (values[shown] for values in (self.lr, self.loss, self.curve))
        thinned = replace(self, lr=lr, loss=loss, runs=self.runs[:, shown], curve=curve)
        vars(thinned)["span"] = self.span
        return thinned

    @property
    def title(self) -> str:
        """`"Range test"`, with the status if the status is not `"ok"`."""
        return "Range test" if self.status == "ok" else f"Range test: {self.status.replace('_', ' ')}"

    @property
    def verdict(self) -> str:
        """The bounds as a sentence, with the interval of max_lr."""
        return verdict(self.bounds, self.interval)

    @cached_property
    def span(self) -> tuple[float, float]:
        """Lowest and highest loss that are drawn. `cut` is one limit; the other allows twice the range of the curve."""
        seen = [*self.curve.tolist(), *(mark.loss for mark in self.marks)]
        low, high = min(seen), max(seen)
        room = high - low + 3 * self.noise
        lowest = self.cut[0] if math.isfinite(self.cut[0]) else low - room
        highest = self.cut[1] if math.isfinite(self.cut[1]) else high + room
        return min(low, max(lowest, float(self.loss.min()))), max(high, min(highest, float(self.loss.max())))

    @cached_property
    def limits(self) -> tuple[float, float]:
        """Ends of the loss axis: the span with room for half a dot."""
        low, high = self.span
        room = 0.04 * (high - low) or 0.05 * abs(high) or 1.0
        return low - room, high + room

    @cached_property
    def dots(self) -> Floats:
        """The recorded losses, with NaN for losses outside of the span."""
        low, high = self.span
        return np.where((low <= self.loss) & (self.loss <= high), self.loss, np.nan)

    @cached_property
    def symbols(self) -> tuple[tuple[str, str, str, float, list[float]], ...]:
        """Glyph, colour, words, height and learning rates of the symbols (cut losses, trial cycles, marked points)."""
        low, high = self.span
        sides = ("▲", "above", high, self.loss > high), ("▼", "below", low, self.loss < low)
        cut_off = [
            (glyph, "soft", f"cut off {side} {level:.3g}", level, self.lr[beyond].tolist())
            for glyph, side, level, beyond in sides
            if beyond.any()
        ]
        points = [mark for mark in self.marks if mark.lr is not None]
        marked = [
            (GLYPHS[number % len(GLYPHS)], "ink", mark.text, mark.loss, [mark.lr]) for number, mark in enumerate(points)
        ]
        whole = sorted(top for top, ended in self.trials if ended == "completed")
        early = sorted(top for top, ended in self.trials if ended != "completed")
        trials = [
            (
                glyph,
                "orange",
                f"{name}: {' to '.join(f'{top:.2g}' for top in dict.fromkeys((tops[0], tops[-1])))}",
                low,
                tops,
            )
            for glyph, name, tops in (("│", "trial cycles", whole), ("×", "ended early", early))
            if tops
        ]
        return (*cut_off, *trials, *marked)

    @cached_property
    def band(self) -> tuple[Floats, Floats] | None:
        """Lowest and highest loss of the repeats at every learning rate, within the limits. None without repeats."""
        if len(self.runs) < 2:
            return None
        runs = np.clip(self.runs, *self.limits)
        return runs.min(0), runs.max(0)

    @property
    def levels(self) -> tuple[tuple[str, float], ...]:
        """Words and height of the marks that are drawn as lines."""
        return tuple((mark.text, mark.loss) for mark in self.marks if mark.lr is None)

    @cached_property
    def key(self) -> dict[str, str]:
        """The words in the legend by name (`"dots"`, `"curve"`, `"band"`, `"interval"`), without marks and symbols."""
        key = {"dots": "recorded loss" if self.band is None else "mean of the repeats", "curve": "smoothed, as read"}
        if self.band is not None:
            key["band"] = "range of the repeats"
        if self.interval is not None:
            key["interval"] = "max_lr, 80 %: {:.2g} to {:.2g}".format(*self.interval)
        return key

    @property
    def legend(self) -> list[tuple[str, str, str]]:
        """Glyph, colour and words of every entry in the legend, for HTML."""
        drawn = {"dots": ("•", "soft"), "curve": ("━", "blue"), "band": ("▒", "soft"), "interval": ("▒", "orange")}
        return [
            *((*drawn[name], text) for name, text in self.key.items()),
            *(("┄", "soft", text) for text, _ in self.levels),
            *(symbol[:3] for symbol in self.symbols),
        ]
