"""Schedules that combine other schedules by an offset of the step."""

import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass, field
from itertools import accumulate
from typing import Any

from cyclr import _checks
from cyclr.schedules._namespace import NUMPY, SCALAR, Namespace, resolve
from cyclr.schedules.base import Schedule, check_schedule, set_fields
from cyclr.schedules.layout import Restarts, check_range, restarts
from cyclr.schedules.shape import SHAPES, Shape
from cyclr.schedules.warm_restarts import WarmRestarts


@dataclass(frozen=True, repr=False)
class Constant(Schedule):
    """The same value at every step.

    Args:
        value: the value, ≥ 0.

    Raises:
        TypeError, ValueError: the value is not a finite number ≥ 0.

    Example:
        >>> import cyclr
        >>> cyclr.Constant(0.1)(10**12)
        0.1
    """

    value: float
    settled = 1

    def __post_init__(self) -> None:
        set_fields(self, value=_checks.number("value", self.value, at_least=0))

    def evaluate(self, xp: Namespace, step: Any) -> Any:
        return self.value if xp is SCALAR else xp.to_float(0.0 * xp.to_float(step) + self.value)

    @property
    def largest(self) -> float:
        return self.value


@dataclass(frozen=True, repr=False)
class Sequence(Schedule):
    """One schedule after another. Each starts at its own step 0.

    The value is `schedules[i](step − s_i)`. Schedule i starts at step s_i, the sum of the lengths before it. A sequence
    inside a sequence gives the same values as one sequence of all parts.

    Args:
        schedules: the schedules, in order; at least one.
        lengths: steps (optimizer updates) of each schedule, ≥ 1. Without a length for the last schedule, that schedule
            does not end. With a length for every schedule, the sequence keeps its last value after the last length.

    Raises:
        TypeError, ValueError: a part is not a schedule, or the number of lengths does not fit.

    Example:
        >>> import cyclr
        >>> halves = cyclr.Sequence([cyclr.Constant(0.1), cyclr.Cyclical(0.0, 1.0, 2)], lengths=[3])
        >>> [halves(step) for step in range(6)]
        [0.1, 0.1, 0.1, 0.0, 0.5, 1.0]
    """

    schedules: tuple[Schedule, ...]
    lengths: tuple[int, ...]
    _starts: tuple[int, ...] = field(init=False, compare=False)

    def __init__(self, schedules: Iterable[Schedule], lengths: Iterable[int]) -> None:
        parts = tuple(_listed("schedules", schedules))
        for index, part in enumerate(parts):
            check_schedule(f"schedules[{index}]", part)
        counts = tuple(
            _checks.integer(f"lengths[{index}]", length, at_least=1, fix="It counts optimizer updates.")
            for index, length in enumerate(_listed("lengths", lengths))
        )
        if not parts or len(counts) not in (len(parts) - 1, len(parts)):
            raise ValueError(
                "there must be at least one schedule, and lengths must hold one number of steps for every schedule, or "
                f"for every schedule except the last; got {len(parts)} schedules and {len(counts)} lengths."
            )
        starts = tuple(accumulate(counts[: len(parts) - 1], initial=0))
        last = parts[-1].total_steps
        check_range(sum(counts) + (last or 0), what="the schedules")
        total = sum(counts) if len(counts) == len(parts) else None if last is None else starts[-1] + last
        set_fields(self, schedules=parts, lengths=counts, _starts=starts, total_steps=total)
        self.__post_init__()

    def evaluate(self, xp: Namespace, step: Any) -> Any:
        first, *others = self._reached(xp, step)
        value = self.schedules[first].evaluate(xp, self._local(xp, step, first))
        for part in others:
            here = self.schedules[part].evaluate(xp, self._local(xp, step, part))
            value = xp.where(step >= self._starts[part], here, value)
        return value

    @property
    def largest(self) -> float:
        return max(schedule.largest for schedule in self.schedules)

    def is_cycle_end(self, step: Any) -> Any:
        step, xp = resolve(step)
        ends = step < 0
        for part in self._reached(xp, step):
            here = step >= self._starts[part]
            if (end := self._starts[part] + self._length(part)) <= xp.int_limit:
                here = here & (step < end)
            ends = ends | (here & self.schedules[part].is_cycle_end(self._local(xp, step, part)))
        return ends

    def _reached(self, xp: Namespace, step: Any) -> range:
        """Return the parts that an int or an array reaches, or all parts that a tensor of this type could reach."""
        first, last = 0, xp.int_limit
        if xp is SCALAR or (xp is NUMPY and step.size):
            first, last = (step, step) if xp is SCALAR else (int(step.min()), int(step.max()))
        return range(bisect_right(self._starts, first) - 1, bisect_right(self._starts, last))

    def _local(self, xp: Namespace, step: Any, part: int) -> Any:
        """Return the step counted from the start of a part, clipped to the part."""
        local, last = xp.maximum(step, self._starts[part]) - self._starts[part], self._length(part) - 1
        return xp.minimum(local, last) if last <= xp.int_limit else local

    def _length(self, part: int) -> float:
        return self.lengths[part] if part < len(self.lengths) else math.inf


@dataclass(frozen=True, repr=False)
class Warmup(Schedule):
    """A rise to the first value of a schedule, once or before every cycle.

    With n = steps, the shape w and the schedule s, the value at step t is

    - by default: start + (s(0) − start) · w(t / n) for t < n, then s(t − n).
    - with `over=True`: start + (s(n) − start) · w(t / n) for t < n, then s(t). The rise replaces the first n steps of
      the schedule, so that the run does not become longer.
    - with `every_cycle=True`: n steps from start to the first value of a cycle, then the cycle, and so on.

    Args:
        of: the schedule to warm up: any schedule, or a `WarmRestarts` with a cycle_length if `every_cycle` is True.
        steps: steps (optimizer updates) of the rise, ≥ 1.
        start: value at step 0, ≥ 0.
        shape: `"triangular"` (linear), `"parabolic"` or `"sinusoidal"` (cosine).
        every_cycle: True for a rise before every cycle, False for one rise.
        over: True to replace the first steps of the schedule by the rise, False to put the rise before the schedule.
        to: value at the end of the rise, ≥ 0. By default the rise meets the schedule. (timm's warm-up rises to `of(0)`
            and then jumps.)

    Raises:
        TypeError, ValueError: an argument is out of range, or `every_cycle` is True and `of` is not a `WarmRestarts`
            with a cycle_length or `over` is also True.

    Example:
        >>> import cyclr
        >>> schedule = cyclr.Warmup(cyclr.Constant(1.0), steps=4)
        >>> [schedule(step) for step in range(6)]
        [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]

    Source: Goyal et al. 2017, *Accurate, Large Minibatch SGD*, arXiv:1706.02677, section 2.2.
    """

    of: Schedule
    steps: int
    start: float = 0.0
    _: KW_ONLY
    shape: Shape = "triangular"
    every_cycle: bool = False
    over: bool = False
    to: float | None = None
    _layout: Restarts | None = field(init=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        of = self.of
        check_schedule("of", of)
        for name in ("every_cycle", "over"):
            if not isinstance(given := getattr(self, name), bool):
                raise TypeError(f"{name} must be True or False; got {name}={_checks.quoted(given)}.")
        steps = _checks.integer("steps", self.steps, at_least=1, fix="It counts optimizer updates.")
        start = _checks.number("start", self.start, at_least=0)
        _checks.choice("shape", self.shape, SHAPES)
        to = None if self.to is None else _checks.number("to", self.to, at_least=0)
        total, cycles = of.total_steps, None
        if self.every_cycle:
            if not isinstance(of, WarmRestarts) or of.cycle_length is None:
                lacks = "cycle_length" if isinstance(of, WarmRestarts) else "restarts to warm up for"
                raise TypeError(
                    f"of must be a WarmRestarts with every_cycle=True; got of={_checks.quoted(of)}, which has no "
                    f"{lacks}."
                )
            if self.over:
                raise ValueError("over must be False with every_cycle=True; got over=True. Omit one of the two.")
            cycles = restarts(of.cycle_length, of.growth, pause=steps)
        elif total is not None:
            total = max(total, steps + 1) if self.over else steps + total
        check_range(total or steps, what="the schedules")
        set_fields(self, steps=steps, start=start, to=to, _layout=cycles, total_steps=total)

    def evaluate(self, xp: Namespace, step: Any) -> Any:
        offset, local = self._locate(xp, step)
        reached = self.steps <= xp.int_limit
        value = self.of.evaluate(xp, local) if reached or not self.over else self.of(self.steps)
        x = xp.ratio(offset, self.steps if reached else SCALAR.to_float(self.steps))
        height = SHAPES[self.shape](xp, xp.minimum(x, 1.0))
        # During the rise `value` is the value at the end of the rise, which rounding must not exceed.
        top = value if self.to is None else self.to
        rising = self.start * (1.0 - height) + top * height
        rising = xp.clip(rising, xp.minimum(top, self.start), xp.maximum(top, self.start))
        return xp.where(offset < self.steps, rising, value) if reached else rising

    @property
    def largest(self) -> float:
        return max(self.start, self.to or 0.0, self.of.largest)

    def is_cycle_end(self, step: Any) -> Any:
        step, xp = resolve(step)
        offset, local = self._locate(xp, step)
        return self.of.is_cycle_end(local) & (offset >= self.steps) if self.steps <= xp.int_limit else step < 0

    def _locate(self, xp: Namespace, step: Any) -> tuple[Any, Any]:
        """Return the steps since the rise started, and the step of `of`, which stays the same during the rise."""
        start: Any = 0
        offset = step
        if self._layout is not None:
            cycle, offset = self._layout.locate(xp, step)
            start = step - offset - cycle * self.steps
        if self.steps > xp.int_limit:
            return offset, offset * 0
        return offset, start + (xp.maximum(offset, self.steps) - (0 if self.over else self.steps))


def _listed(name: str, values: Any) -> list[Any]:
    fix = _checks.remedy(values, "")
    if fix or isinstance(values, str | bytes | dict) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a list; got {name}={_checks.quoted(values)}. {fix}".rstrip())
    return list(values)
