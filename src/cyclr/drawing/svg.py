"""A picture of a range test as inline SVG, without scripts and requests: for notebooks, and until the page has drawn.

Text and axes take the colour of the surrounding text, so they can be read on light and dark backgrounds.
"""

import html
import math
from collections.abc import Iterable

import numpy as np

from cyclr.drawing.picture import Floats, RangePicture

_WIDTH, _HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 26, 44
_BLUE, _ORANGE = "#2b83c6", "#d9641e"
_MOST_POINTS = 600
_LABEL = 90
"""Room for the label of a bound."""


def svg(picture: RangePicture) -> str:
    """Return loss against learning rate with the bounds marked, as an `<svg>` element."""
    logarithmic = picture.scale == "log"
    position = np.log10(picture.lr) if logarithmic else picture.lr
    left, right = float(position[0]), float(position[-1])
    if left == right:
        left, right = left - 0.5, right + 0.5
    low, high = picture.limits

    def x(value: float) -> float:
        return _LEFT + (value - left) / (right - left) * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        share = (min(max(value, low), high) - low) / (high - low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    def line(points: Iterable[int], losses: Floats) -> list[str]:
        return [f"{x(position[i]):.1f} {y(losses[i]):.1f}" for i in points]

    shown = np.unique(np.linspace(0, len(position) - 1, min(len(position), _MOST_POINTS)).astype(int)).tolist()
    inside = [i for i in shown if low <= picture.loss[i] <= high]
    dots = "".join(f"M{point}h0" for point in line(inside, picture.loss))
    bottom = _HEIGHT - _BOTTOM
    rates = [(x(at), text) for at, text in _rate_ticks(left, right, logarithmic)]
    levels = [(y(at), text) for at, text in _loss_ticks(low, high)]
    parts = [
        *(_tick(f"M{at:.1f} {_TOP}V{bottom}", at, bottom + 16, text, "middle") for at, text in rates),
        *(_tick(f"M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}", _LEFT - 7, at + 4, text, "end") for at, text in levels),
        f'<path d="{dots}" stroke="currentColor" stroke-opacity=".4" stroke-width="4" stroke-linecap="round"></path>',
        f'<path d="M{"L".join(line(shown, picture.curve))}" fill="none" stroke="{_BLUE}" stroke-width="2.2" '
        'stroke-linejoin="round"></path>',
        _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 6, "learning rate", "middle"),
        _text(6, 14, "loss", "start"),
    ]
    if picture.band is not None:
        edge = "L".join(line(shown, picture.band[0]) + line(reversed(shown), picture.band[1]))
        parts.insert(0, f'<path d="M{edge}Z" fill="currentColor" fill-opacity=".12"></path>')
    if picture.bounds is not None:
        parts += _bounds(picture.bounds, [x(math.log10(lr) if logarithmic else lr) for lr in picture.bounds])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{html.escape("Loss against learning rate. " + picture.reason)}" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="none" '
        f'style="display:block;width:100%;max-width:{_WIDTH}px;height:auto">{"".join(parts)}</svg>'
    )


def svg_and_table(picture: RangePicture) -> str:
    """Return the picture and a table of what it says, as a `<div>` element."""
    rows = {
        "bounds": picture.verdict,
        "status": picture.status,
        "reason": picture.reason,
        "end": picture.ended,
        "learning rates": f"{picture.lr[0]:.3g} to {picture.lr[-1]:.3g}",
    }
    cells = "".join(
        f"<tr><th scope='row' style='text-align:left'>{name}</th>"
        f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
        for name, value in rows.items()
    )
    return f"<div>{svg(picture)}<table><caption>Learning-rate range test</caption>{cells}</table></div>"


def _bounds(bounds: tuple[float, float], at: list[float]) -> list[str]:
    top, bottom = _TOP, _HEIGHT - _BOTTOM
    parts = [
        f'<rect x="{at[0]:.1f}" y="{top}" width="{at[1] - at[0]:.1f}" height="{bottom - top}" '
        f'fill="{_ORANGE}" fill-opacity=".13"></rect>'
    ]
    # The labels stand outside of the bounds. A label without room there goes to the other side, and higher.
    level = bottom - 8
    for name, value, place, outwards in zip(("base_lr", "max_lr"), bounds, at, (-1, 1), strict=True):
        room = place - _LEFT if outwards < 0 else _WIDTH - _RIGHT - place
        side, height = (outwards, level) if room > _LABEL else (-outwards, level - 18)
        parts.append(f'<path d="M{place:.1f} {top}V{bottom}" stroke="{_ORANGE}" stroke-width="1.6"></path>')
        parts.append(_text(place + 5 * side, height, f"{name} {value:.3g}", "end" if side < 0 else "start", _ORANGE))
    return parts


def _rate_ticks(left: float, right: float, logarithmic: bool) -> list[tuple[float, str]]:
    if not logarithmic or right - left < 1:
        return [(at, f"{10**at if logarithmic else at:.2g}") for at in np.linspace(left, right, 5).tolist()]
    decades = range(math.ceil(left - 1e-9), math.floor(right + 1e-9) + 1)
    every = max(1, math.ceil(len(decades) / 9))
    return [(decade, f"{10.0**decade:g}") for decade in decades[::every]]


def _loss_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """About four round numbers between the limits."""
    rough = (high - low) / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.99)
    return [(at * step, f"{at * step:.6g}") for at in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _tick(path: str, x: float, y: float, text: str, anchor: str) -> str:
    return f'<path d="{path}" stroke="currentColor" stroke-opacity=".14"></path>' + _text(x, y, text, anchor)


def _text(x: float, y: float, text: str, anchor: str, colour: str = "currentColor") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{html.escape(text)}</text>'
