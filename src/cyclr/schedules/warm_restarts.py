"""Learning rates that fall and then jump up."""

from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Self

from cyclr import _checks
from cyclr.schedules import layout
from cyclr.schedules._namespace import Namespace
from cyclr.schedules.base import set_fields
from cyclr.schedules.decay import Decay
from cyclr.schedules.run import total_of
from cyclr.schedules.shape import SHAPES, Shape
from cyclr.schedules.wave import Place, Wave

SLOWEST_GROWTH = 1.005
"""Smallest growth above 1. A slower growth would give too many cycles to list."""

MOST_GROWING = 10_000
"""Most cycles in a run if their lengths grow."""


@dataclass(frozen=True, repr=False)
class WarmRestarts(Wave):
    """A learning rate that falls from max_lr towards base_lr, then jumps back to max_lr, in repeated cycles: SGDR.

    Cycle i has L_i = floor(cycle_length · growth^i + 1/2) steps. At p steps after the start of the cycle, the value is
    low + (high − low) · w(1 − p / L_i), with the shape w, and with low and high equal to base_lr and max_lr after the
    decay. A cycle starts at high. One step after its last step, the cycle would reach low, but this step is the first
    step of the next cycle.

    Args:
        base_lr: lower bound, ≥ 0.
        max_lr: upper bound, > base_lr.
        cycle_length: steps (optimizer updates) in the first cycle, ≥ 1. To fill a run with cycles, see `over`.
        growth: length of each cycle divided by the length of the cycle before: 1, or at least 1.005. (T_mult in the
            paper.)
        shape: `"sinusoidal"` (cosine), `"triangular"` (linear) or `"parabolic"`.
        decay: how the bounds shrink. `Exponential(0.8, per="cycle")` multiplies the height of the peak above base_lr by
            0.8 after every cycle.

    Raises:
        TypeError, ValueError: the bounds are illegal, a length is below 1, cycles shrink, or the shape is unknown.

    Example:
        >>> import cyclr
        >>> schedule = cyclr.WarmRestarts(0.0, 0.1, cycle_length=10, growth=2)
        >>> [round(schedule(step), 6) for step in (0, 5, 9, 10, 20, 30)]
        [0.1, 0.05, 0.002447, 0.1, 0.05, 0.1]

    Source: Loshchilov & Hutter 2017, *SGDR: Stochastic Gradient Descent with Warm Restarts*, arXiv:1608.03983.
    """

    base_lr: float
    max_lr: float
    cycle_length: int | None
    _: KW_ONLY
    growth: float = 1
    total_steps: int | None = field(default=None, init=False)
    cycles: int | None = field(default=None, init=False)
    shape: Shape = "sinusoidal"
    decay: Decay | None = None
    _layout: layout.Restarts | layout.Even = field(init=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        factor = _checks.number("growth", self.growth, at_least=1, fix="Cycles may keep their length or grow.")
        growth = self.growth if type(self.growth) is int else factor
        _checks.choice("shape", self.shape, SHAPES)
        if self.total_steps is not None and self.cycles is not None:
            set_fields(self, growth=growth, _layout=_filling(self.total_steps, self.cycles, growth))
            return
        length = _checks.integer("cycle_length", self.cycle_length, at_least=1, fix="It counts optimizer updates.")
        if 1 < factor < SLOWEST_GROWTH:
            raise ValueError(f"growth must be 1 or at least {SLOWEST_GROWTH}; got growth={self.growth!r}.")
        cycles = layout.restarts(length, growth)
        set_fields(self, cycle_length=length, growth=growth, _layout=cycles)

    @classmethod
    def over(
        cls,
        total_steps: int,
        cycles: int,
        base_lr: float,
        max_lr: float,
        *,
        growth: float = 1,
        shape: Shape = "sinusoidal",
        decay: Decay | None = None,
    ) -> Self:
        """Return a schedule of whole cycles that fill a run: the last step, and all steps after it, are at base_lr.

        Cycle i starts at step floor((total_steps − 1) · (growth^i − 1) / (growth^cycles − 1)). If growth is 1, it
        starts at step floor((total_steps − 1) · i / cycles).

        Args:
            total_steps: steps (optimizer updates) of the run, or a `Run`; enough for at least one step in every cycle.
            cycles: number of whole cycles, ≥ 1; at most 10,000 if growth is above 1.
            growth: length of each cycle divided by the length of the cycle before, ≥ 1.
            base_lr, max_lr, shape, decay: as for `WarmRestarts`.

        Raises:
            TypeError, ValueError: the run has too few steps for its cycles, or an argument is illegal for
                `WarmRestarts`.

        Example:
            >>> import cyclr
            >>> schedule = cyclr.WarmRestarts.over(total_steps=31, cycles=2, base_lr=0.0, max_lr=0.1, growth=2)
            >>> [round(schedule(step), 6) for step in (0, 9, 10, 20, 30, 1000)]
            [0.1, 0.002447, 0.1, 0.05, 0.0, 0.0]
        """
        made = cls.__new__(cls)
        total, count = total_of(total_steps, at_least=2), _checks.integer("cycles", cycles, at_least=1)
        bounds = {"base_lr": base_lr, "max_lr": max_lr, "cycle_length": None, "growth": growth}
        set_fields(made, **bounds, total_steps=total, cycles=count, shape=shape, decay=decay)
        made.__post_init__()
        return made

    @classmethod
    def _constructor(cls, given: dict[str, Any]) -> Any:
        return cls.over if "total_steps" in given else cls

    def place(self, xp: Namespace, step: Any) -> Place:
        located, last = step, None
        if not self._endless(xp):
            # The last step of the run is added to the last cycle, which then reaches base_lr.
            located, last = xp.minimum(step, self.total_steps - 2), self.total_steps - 1  # type: ignore[operator]
        cycle, offset = self._layout.locate(xp, located)
        left, x = self._layout.left(xp, cycle, offset + (step - located))
        ends = left == 1
        if self.cycles is not None:
            ends = ends & (cycle < self.cycles - 1)
        if last is not None:
            ends = ends | (step == last)
        return self.base_lr, self.max_lr, SHAPES[self.shape](xp, x), 1.0, cycle, ends


def _filling(total_steps: int, cycles: int, growth: float) -> layout.Restarts | layout.Even:
    if growth > 1:
        # The time to compute exact lengths grows with the square of the number of cycles.
        _checks.integer("cycles", cycles, at_least=1, at_most=MOST_GROWING, fix="Or use equal cycles, with growth=1.")
    filled: layout.Restarts | layout.Even | None = None
    if cycles < total_steps:
        span = total_steps - 1
        filled = layout.filling(span, cycles, growth) if growth > 1 else layout.Even(span, cycles)
    if filled is None or 0 in getattr(filled, "lengths", ()):
        raise ValueError(
            f"total_steps must give every cycle at least one step; got total_steps={total_steps}, cycles={cycles}, "
            f"growth={growth!r}. Use more steps, fewer cycles, or a growth nearer to 1."
        )
    return filled
