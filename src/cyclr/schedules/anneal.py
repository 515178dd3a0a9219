"""A transition between two values, the building block of most schedules."""

import math
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal

from cyclr import _checks
from cyclr.schedules._namespace import SCALAR, Namespace, resolve
from cyclr.schedules.base import Schedule, set_fields

Curve = Literal["linear", "cosine", "exponential", "inverse", "inverse_sqrt"]

CURVES: dict[str, int | None] = {"linear": None, "cosine": None, "exponential": 0, "inverse": -1, "inverse_sqrt": -2}
"""The curves by name, with the q for which value^q is a straight line (0: the logarithm), or None for a weighted mean
of the ends."""


@dataclass(frozen=True, repr=False)
class Anneal(Schedule):
    """A monotone transition from one value to another: `start` at step 0, and `end` from step `steps` on.

    With t the step, n = steps and x = min(t / n, 1):

    - `"linear"` and `"cosine"` are weighted means of the ends, start · r + end · (1 − r), with r = (1 − x^warp)^power
      and r = sin²(π/2 · (1 − x^warp))^power,
    - `"exponential"`, `"inverse"` and `"inverse_sqrt"` are straight lines in the logarithm of the value
      (start · (end / start)^x), in 1 / value and in 1 / value².

    The values at both ends are exact, and no value lies outside them because of rounding. A falling transition without
    `limit` ends a cycle at step `steps`.

    Args:
        start, end: values at both ends, ≥ 0, and > 0 for the last three curves. The values may rise, fall or be equal.
        steps: steps (optimizer updates) from start to end, ≥ 1.
        curve: one of the five names.
        power: exponent > 0 for `"linear"` (which becomes a polynomial) and `"cosine"`.
        warp: exponent > 0 of the time x, for the same two curves. `"linear"` with 0.5 is the "1 − sqrt" decay of
            language models.
        limit: value at which the line stops instead of at `end`. The line continues after `end` until it reaches this
            value. For example, an exponential decay with limit=0 never stops falling. A limit between start and end
            stops the line before `end`. Not for `"cosine"`, and not together with power or warp.

    Raises:
        TypeError, ValueError: an argument is out of range, or the curve does not support the argument.

    Example:
        >>> import cyclr
        >>> schedule = cyclr.Anneal(0.1, 0.0, steps=4)
        >>> [round(schedule(step), 6) for step in (0, 1, 2, 4, 1000)]
        [0.1, 0.075, 0.05, 0.0, 0.0]
        >>> [(0.8 * cyclr.Anneal(1, 0.5, 1, "exponential", limit=0))(step) for step in range(4)]
        [0.8, 0.4, 0.2, 0.1]

    Source: torch's `LinearLR`, `PolynomialLR` and `ExponentialLR`, fastai's `Sched*`, the decays of Keras and Optax.
    1 − sqrt: Hägele et al. 2024, arXiv:2405.18392. Inverse square root: Vaswani et al. 2017, arXiv:1706.03762.
    """

    start: float
    end: float
    steps: int
    curve: Curve = "linear"
    _: KW_ONLY
    power: float = 1.0
    warp: float = 1.0
    limit: float | None = None
    _log: float = field(init=False, compare=False)
    """The natural logarithm of end / start for the last three curves, or 0."""

    def __post_init__(self) -> None:
        axis = CURVES[_checks.choice("curve", self.curve, CURVES)]
        floor: dict[str, Any] = {"at_least": 0} if axis is None else {"above": 0, "fix": f'For curve="{self.curve}".'}
        start, end = (_checks.number(name, getattr(self, name), **floor) for name in ("start", "end"))
        steps = _checks.integer("steps", self.steps, at_least=1, fix="It counts optimizer updates.")
        power, warp = (_checks.number(name, getattr(self, name), above=0) for name in ("power", "warp"))
        bent = (power, warp) != (1, 1)
        if bent and (axis is not None or self.limit is not None):
            raise ValueError(
                f'power and warp must be 1 with curve="{self.curve}", limit={self.limit!r}; got power={power!r}, '
                f'warp={warp!r}. Use them with curve="linear" or "cosine", and without limit.'
            )
        limit = self.limit
        if limit is not None:
            if self.curve == "cosine":
                raise ValueError(f'limit must be None with curve="cosine", which ends at `end`; got limit={limit!r}.')
            side = {"at_least": start} if end > start else {"at_least": 0, "at_most": start}
            limit = _checks.number("limit", limit, **side, fix="It must lie on the same side of `start` as `end`.")
        near = axis is not None and 0.5 < end / start < 2
        log = 0.0 if axis is None else math.log1p((end - start) / start) if near else math.log(end) - math.log(start)
        total = steps + 1 if end < start and limit is None else None
        values: dict[str, Any] = {"start": start, "end": end, "steps": steps, "power": power, "warp": warp}
        settled = steps + 1 if limit is None else None
        set_fields(self, **values, limit=limit, _log=log, total_steps=total, settled=settled)

    def evaluate(self, xp: Namespace, step: Any) -> Any:
        start, end, steps, reached = self.start, self.end, self.steps, self.steps <= xp.int_limit
        if self.limit is None and reached:
            step = xp.minimum(step, steps)
        # If this integer type cannot hold `steps`, the division uses a float.
        done = xp.ratio(step, steps if reached else SCALAR.to_float(steps))
        left = xp.ratio(steps - step, steps) if reached and self.limit is None else 1.0 - done
        axis, last = CURVES[self.curve], end if self.limit is None else self.limit
        if axis == 0:
            # The exponent of a rising curve is cut just above the limit, because the power would overflow.
            most = min(math.log2(max(start, last)) - math.log2(start) + 1.0, 1023.0)
            value = start * xp.exp2(xp.minimum(done * (self._log / math.log(2)), most))
        elif axis is not None:
            power = min(axis * self._log, 700.0)
            # Up to `end` both terms of the first sum are positive. After `end` they would cancel, so the second form
            # is used; the linear curve below has the same two forms.
            line = xp.where(done <= 1.0, left + done * math.exp(power), 1.0 + done * math.expm1(power))
            value = start * xp.power(xp.maximum(line, 1e-300), 1.0 / axis)
        else:
            if self.warp != 1:
                done = xp.power(done, self.warp)
                left = 1.0 - done
            if self.curve == "cosine":
                left, done = xp.sin(left * (math.pi / 2)) ** 2, xp.sin(done * (math.pi / 2)) ** 2
            if self.power != 1:
                left = xp.power(left, self.power)
                done = 1.0 - left
            value = start * left + end * done
            if self.limit is not None:
                value = xp.where(done <= 1.0, value, start + (end - start) * done)
        low, high = min(start, last), max(start, last)
        value = xp.where(step == 0, start, xp.clip(value, low, high))
        return xp.where(step == steps, min(max(end, low), high), value) if reached else value

    @property
    def largest(self) -> float:
        return max(self.start, self.end if self.limit is None else self.limit)

    @property
    def has_cycle_ends(self) -> bool:
        return self.total_steps is not None

    def is_cycle_end(self, step: Any) -> Any:
        step, xp = resolve(step)
        return step == self.steps if self.has_cycle_ends and self.steps <= xp.int_limit else step < 0
