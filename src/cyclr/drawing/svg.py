"""Range tests and schedules as inline SVG without scripts and requests, for notebooks and for pages that are loading.

Text and axes have the colour of the surrounding text, so they are legible on light and dark backgrounds.
"""

import html
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cyclr.drawing.picture import LEAST_DRAWN, MOST_DRAWN, Floats, RangePicture
from cyclr.drawing.tables import table

_WIDTH, _HEIGHT = 640, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 56, 44
_BLUE, _ORANGE = "#2b83c6", "#d9641e"
_MOST_POINTS = 600


def svg(picture: RangePicture) -> str:
    """Return a plot of the loss over the learning rate, with the bounds, as an `<svg>` element."""
    picture = picture.thinned(_MOST_POINTS)
    logarithmic = picture.scale == "log"
    position = np.log10(picture.lr) if logarithmic else picture.lr
    left, right = float(position[0]), float(position[-1])
    if left == right:
        left, right = left - 0.5, right + 0.5
    low, high = picture.limits

    def x(value: float) -> float:
        return _LEFT + (value - left) / (right - left) * (_WIDTH - _LEFT - _RIGHT)

    def at(lr: float) -> float:
        return x(min(max(math.log10(lr) if logarithmic else lr, left), right))

    def y(value: float) -> float:
        share = (min(max(value, low), high) - low) / (high - low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    def line(points: Iterable[int], losses: Floats) -> list[str]:
        return [f"{x(position[i]):.1f} {y(losses[i]):.1f}" for i in points]

    shown = range(len(position))
    inside = [i for i in shown if math.isfinite(picture.dots[i])]
    dots = "".join(f"M{point}h0" for point in line(inside, picture.loss))
    bottom = _HEIGHT - _BOTTOM
    rates = [(x(value), text) for value, text in _rate_ticks(left, right, logarithmic)]
    levels = [(y(value), text) for value, text in _loss_ticks(low, high)]
    parts = [
        *(_tick(f"M{place:.1f} {_TOP}V{bottom}", place, bottom + 16, text, "middle") for place, text in rates),
        *(
            _tick(f"M{_LEFT} {place:.1f}H{_WIDTH - _RIGHT}", _LEFT - 7, place + 4, text, "end")
            for place, text in levels
        ),
        f'<path d="{dots}" stroke="currentColor" stroke-opacity=".4" stroke-width="4" stroke-linecap="round"></path>',
        f'<path d="M{"L".join(line(shown, picture.curve))}" fill="none" stroke="{_BLUE}" stroke-width="2.2" '
        'stroke-linejoin="round"></path>',
        _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 6, "learning rate", "middle"),
        _text(6, _TOP - 12, "loss", "start"),
        *(
            _line(f"M{_LEFT} {y(height):.1f}H{_WIDTH - _RIGHT}", 'stroke-dasharray="5 3"')
            for _, height in picture.levels
        ),
    ]
    if picture.band is not None:
        edge = "L".join(line(shown, picture.band[0]) + line(reversed(shown), picture.band[1]))
        parts.insert(0, f'<path d="M{edge}Z" fill="currentColor" fill-opacity=".12"></path>')
    if picture.interval is not None:
        parts.append(_area(0.2, *map(at, picture.interval)))
    if picture.bounds is not None:
        parts += _bounds(picture.bounds, [at(lr) for lr in picture.bounds])
    for number, (glyph, colour, _, height, places) in enumerate(picture.symbols):
        style = {
            "soft": 'font-size="9" fill-opacity=".5"',
            "ink": f'font-size="{18 - number}"',
            "orange": f'style="fill:{_ORANGE}"',
        }[colour]
        parts += [_glyph(at(lr), y(height), glyph, style) for lr in places]
    return _element(_HEIGHT, f"Loss against learning rate. {picture.verdict} {picture.reason}", parts)


def svg_and_table(picture: RangePicture) -> str:
    """Return the picture and a table with its verdict, reason and legend, as a `<div>` element."""
    picture = picture.thinned(_MOST_POINTS)
    rows = {
        "bounds": picture.verdict,
        "status": picture.status,
        "reason": picture.reason,
        "picture": ", ".join(f"{glyph} {text}" for glyph, _, text in picture.legend),
        "end": picture.ended,
        "learning rates": f"{picture.lr[0]:.3g} to {picture.lr[-1]:.3g}",
    }
    return f"<div>{svg(picture)}{table('Learning-rate range test', rows.items())}</div>"


def schedule_svg(steps: NDArray[np.int64], schedule: Callable[[Any], Any], name: str) -> str:
    """Return a plot of a schedule at two or more rising steps, with its name below, as a `<div>` element."""
    values = np.minimum(schedule(steps), MOST_DRAWN)
    low, high = float(values.min()), float(values.max())
    if high - low < LEAST_DRAWN:
        room = abs(low) / 2 if abs(low) >= LEAST_DRAWN else 1.0
        low, high = low - room, high + room
    width, height, top = _WIDTH - _LEFT - _RIGHT, 200 - 20 - _BOTTOM, 20
    bottom, last = top + height, int(steps[-1])
    x, y = _LEFT + steps / last * width, bottom - (values - low) / (high - low) * height
    line = "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True))
    whole = [at for at, _ in _loss_ticks(0, last) if at == int(at)]
    across = [(_LEFT + at / last * width, f"{at:,.0f}") for at in whole]
    upwards = [(bottom - (at - low) / (high - low) * height, text) for at, text in _loss_ticks(low, high)]
    parts = [
        *(_tick(f"M{at:.1f} {top}V{bottom}", at, bottom + 16, text, "middle") for at, text in across),
        *(_tick(f"M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}", _LEFT - 7, at + 4, text, "end") for at, text in upwards),
        f'<path d="M{line}" fill="none" stroke="{_BLUE}" stroke-width="2" stroke-linejoin="round"></path>',
        _text(_LEFT + width / 2, bottom + 38, "step (optimizer update)", "middle"),
    ]
    return f"<div>{_element(200, f'Value against step of {name}', parts)}<code>{html.escape(name)}</code></div>"


def _element(height: int, label: str, parts: Iterable[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{html.escape(label)}" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="none" '
        f'style="display:block;width:100%;max-width:{_WIDTH}px;height:auto">{"".join(parts)}</svg>'
    )


def _bounds(bounds: tuple[float, float], at: list[float]) -> list[str]:
    """Return the area between the bounds, a line for each bound, and their names above in two rows."""
    parts = [_area(0.13, *at)]
    for row, (name, value, place) in enumerate(zip(("base_lr", "max_lr"), bounds, at, strict=True)):
        parts.append(_line(f"M{place:.1f} {_TOP}V{_HEIGHT - _BOTTOM}", 'stroke-width="1.6"', _ORANGE))
        anchor = "start" if place < (_LEFT + _WIDTH - _RIGHT) / 2 else "end"
        parts.append(_text(place, _TOP - 6 - 17 * row, f"{name} {value:.3g}", anchor, _ORANGE))
    return parts


def _area(opacity: float, left: float, right: float) -> str:
    return (
        f'<rect x="{left:.1f}" y="{_TOP}" width="{right - left:.1f}" height="{_HEIGHT - _BOTTOM - _TOP}" '
        f'fill="{_ORANGE}" fill-opacity="{opacity}"></rect>'
    )


def _line(path: str, style: str, colour: str = "currentColor") -> str:
    return f'<path d="{path}" stroke="{colour}" {style}></path>'


def _glyph(x: float, y: float, glyph: str, style: str) -> str:
    """Return a glyph centred at a point."""
    return f'<text x="{x:.1f}" y="{y:.1f}" dy=".35em" text-anchor="middle" fill="currentColor" {style}>{glyph}</text>'


def _rate_ticks(left: float, right: float, logarithmic: bool) -> list[tuple[float, str]]:
    if not logarithmic or right - left < 1:
        return [(at, f"{10**at if logarithmic else at:.2g}") for at in np.linspace(left, right, 5).tolist()]
    decades = range(math.ceil(left - 1e-9), math.floor(right + 1e-9) + 1)
    every = max(1, math.ceil(len(decades) / 9))
    return [(decade, f"{10.0**decade:g}") for decade in decades[::every]]


def _loss_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Return about four round numbers between the limits, with their texts."""
    rough = (high - low) / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.99)
    return [(at * step, f"{at * step:.6g}") for at in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _tick(path: str, x: float, y: float, text: str, anchor: str) -> str:
    return _line(path, 'stroke-opacity=".14"') + _text(x, y, text, anchor)


def _text(x: float, y: float, text: str, anchor: str, colour: str = "currentColor") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{html.escape(text)}</text>'
