"""A picture of a range test as inline SVG: no script, no plotting library, no request; for notebooks and as a fallback.

Text and axes take the colour of the text around them, so that it is readable on light and on dark.
"""

import html
import math
from collections.abc import Callable

import numpy as np

from cyclr.range_test import RangeTestResult
from cyclr.report.view import loss_limits, spread

_WIDTH, _HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 26, 44
_BLUE, _ORANGE = "#2b83c6", "#d9641e"
_MOST_POINTS = 600
_LABEL = 90
"""Room that a label of a bound needs."""


def range_test(result: RangeTestResult) -> str:
    """Loss against learning rate with the bounds marked, as an `<svg>` element.

    Example:
        >>> import numpy as np
        >>> from cyclr import RangeTestResult
        >>> lr = np.geomspace(1e-6, 10, 150)
        >>> result = RangeTestResult(lr, 1 / (1 + lr), "completed", 1e-6, 10.0, 150, "exponential")
        >>> range_test(result).startswith("<svg ")
        True
    """
    logarithmic = result.spacing == "exponential"
    position = np.log10(result.lr) if logarithmic else np.asarray(result.lr)
    left, right = float(position[0]), float(position[-1])
    if left == right:
        left, right = left - 0.5, right + 0.5
    low, high = loss_limits(result)

    def x(value: float) -> float:
        return _LEFT + (value - left) / (right - left) * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        share = (min(max(value, low), high) - low) / (high - low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    shown = np.unique(np.linspace(0, len(position) - 1, min(len(position), _MOST_POINTS)).astype(int))
    dots = "".join(f"M{x(position[i]):.1f} {y(result.loss[i]):.1f}h0" for i in shown if low <= result.loss[i] <= high)
    line = "L".join(f"{x(position[i]):.1f} {y(result.smoothed_loss[i]):.1f}" for i in shown)
    band = spread(result)
    edge = [] if band is None else [*((i, band[0][i]) for i in shown), *((i, band[1][i]) for i in reversed(shown))]
    area = "L".join(f"{x(position[i]):.1f} {y(loss):.1f}" for i, loss in edge)
    parts = [
        *(_tick_below(x(at), text) for at, text in _rate_ticks(left, right, logarithmic)),
        *(_tick_beside(y(at), text) for at, text in _loss_ticks(low, high)),
        f'<path d="M{area}Z" fill="currentColor" fill-opacity=".12"></path>' if area else "",
        f'<path d="{dots}" stroke="currentColor" stroke-opacity=".4" stroke-width="4" stroke-linecap="round"></path>',
        f'<path d="M{line}" fill="none" stroke="{_BLUE}" stroke-width="2.2" stroke-linejoin="round"></path>',
        *_bounds(result, x, logarithmic),
        _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 6, "learning rate", "middle"),
        _text(6, 14, "loss", "start"),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{html.escape("Loss against learning rate. " + result.bounds.reason)}" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="none" '
        f'style="display:block;width:100%;max-width:{_WIDTH}px;height:auto">{"".join(parts)}</svg>'
    )


def _bounds(result: RangeTestResult, x: Callable[[float], float], logarithmic: bool) -> list[str]:
    low, high = result.bounds.base_lr, result.bounds.max_lr
    if low is None or high is None:
        return []
    top, bottom = _TOP, _HEIGHT - _BOTTOM
    at = [x(math.log10(value) if logarithmic else value) for value in (low, high)]
    parts = [
        f'<rect x="{at[0]:.1f}" y="{top}" width="{at[1] - at[0]:.1f}" height="{bottom - top}" '
        f'fill="{_ORANGE}" fill-opacity=".13"></rect>'
    ]
    # The labels stand outside of the bounds; one that would leave the picture goes to the other side, and higher.
    level = bottom - 8
    for name, value, place, outwards in (("base_lr", low, at[0], -1), ("max_lr", high, at[1], 1)):
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


def _tick_below(x: float, text: str) -> str:
    line = f'<path d="M{x:.1f} {_TOP}V{_HEIGHT - _BOTTOM}" stroke="currentColor" stroke-opacity=".14"></path>'
    return line + _text(x, _HEIGHT - _BOTTOM + 16, text, "middle")


def _tick_beside(y: float, text: str) -> str:
    line = f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="currentColor" stroke-opacity=".14"></path>'
    return line + _text(_LEFT - 7, y + 4, text, "end")


def _text(x: float, y: float, text: str, anchor: str, colour: str = "currentColor") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{html.escape(text)}</text>'
