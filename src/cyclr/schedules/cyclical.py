"""The cyclical schedule: a shape between two bounds that may decay."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self

from cyclr import _checks
from cyclr.schedules._namespace import Namespace
from cyclr.schedules.base import set_fields
from cyclr.schedules.decay import Decay, Exponential, Halving
from cyclr.schedules.layout import Even, check_range
from cyclr.schedules.run import total_of
from cyclr.schedules.shape import SHAPES, Shape
from cyclr.schedules.wave import Place, Wave

if TYPE_CHECKING:
    from fractions import Fraction

Mode = Literal["triangular", "triangular2", "exp_range"]

MODES: dict[Mode, Callable[[float], Decay | None]] = {
    "triangular": lambda gamma: None,
    "triangular2": lambda gamma: Halving(),
    "exp_range": Exponential,
}


def decay_of_mode(mode: Mode, gamma: float = 1.0) -> Decay | None:
    """Return the decay of one of the three policies in Smith's paper, see `Cyclical.from_mode`."""
    _checks.choice("mode", mode, MODES)
    return MODES[mode](gamma)


@dataclass(frozen=True, repr=False)
class Cyclical(Wave):
    """A learning rate that rises from base_lr to max_lr and falls back to base_lr, in repeated cycles.

    With t the step, U = step_size, D = step_size_down, L = U + D and p = t mod L:

    - triangular position: x = p / U for p ≤ U, else (L − p) / D,
    - height: w = x (triangular), 1 − (1 − x)² (parabolic) or (1 − cos πx) / 2 (sinusoidal),
    - value: low · (1 − w) + high · w, with low and high equal to base_lr and max_lr after the decay.

    The value is exactly low at p = 0 and exactly high at p = U.

    Args:
        base_lr: lower bound, ≥ 0.
        max_lr: upper bound, > base_lr.
        step_size: steps (optimizer updates) on the way up, ≥ 1: half a cycle, Smith's `stepsize`. See `step_size()`.
        step_size_down: steps on the way down, ≥ 1. The default is step_size.
        shape: `"triangular"`, `"parabolic"` or `"sinusoidal"`.
        decay: `Halving()`, `Exponential(gamma)`, `PerCycle(fn)`, `PerStep(fn)`, or None for constant bounds.

    Raises:
        TypeError: a bound is not a number, a length is not an integer, or the decay is not a `Decay`.
        ValueError: the bounds are negative, swapped, equal or not finite, a length is below 1, or the shape is unknown.

    Example:
        >>> import cyclr
        >>> schedule = cyclr.Cyclical(base_lr=0.001, max_lr=0.006, step_size=2000)
        >>> schedule(0), schedule(1000), schedule(2000), schedule(4000)
        (0.001, 0.0035, 0.006, 0.001)

    Source: Smith 2017, *Cyclical Learning Rates for Training Neural Networks*, arXiv:1506.01186.
    """

    base_lr: float
    max_lr: float
    step_size: int | float | None
    step_size_down: int | float | None = None
    total_steps: int | None = field(default=None, init=False)
    cycles: int | None = field(default=None, init=False)
    rise: float | None = field(default=None, init=False)
    stays: bool | None = field(default=None, init=False)
    shape: Shape = "triangular"
    decay: Decay | None = None
    _ticks: tuple[int, int, int] = field(init=False, compare=False)
    """Ticks on the way up, ticks on the way down, and ticks per step (1, or more if the lengths are fractions)."""
    _even: Even | None = field(init=False, compare=False)
    """Positions of the cycles if their lengths differ by one step (see `over`), or None."""

    def __init__(
        self,
        base_lr: float,
        max_lr: float,
        step_size: int,
        *,
        step_size_down: int | None = None,
        shape: Shape = "triangular",
        decay: Decay | None = None,
    ) -> None:
        up = _checks.integer("step_size", step_size, at_least=1, fix=_LENGTH_FIX)
        down = up if step_size_down is None else step_size_down
        down = _checks.integer("step_size_down", down, at_least=1, fix=_LENGTH_FIX)
        self._init(up, down, base_lr=base_lr, max_lr=max_lr, shape=shape, decay=decay)

    def _init(self, up: "int | Fraction", down: "int | Fraction", even: Even | None = None, **values: Any) -> Self:
        """Set the fields and return the schedule. `up` and `down` are the steps on the way up and on the way down."""
        ticks = math.lcm(up.denominator, down.denominator)
        steps = [length.numerator if length.denominator == 1 else float(length) for length in (up, down)]
        sizes = {"step_size": steps[0], "step_size_down": None if up == down else steps[1]}
        ways = int(up * ticks), int(down * ticks), ticks
        check_range((ways[0] + ways[1]) * ticks)
        set_fields(self, **{**sizes, **values}, _ticks=ways, _even=even)
        self.__post_init__()
        _checks.choice("shape", self.shape, SHAPES)
        return self

    @classmethod
    def from_mode(cls, mode: Mode, base_lr: float, max_lr: float, step_size: int, gamma: float = 1.0) -> Self:
        """Return the schedule of one of the three policies in Smith's paper.

        Args:
            mode: name of the policy: `"triangular"` (constant bounds), `"triangular2"` (the amplitude is halved after
                every cycle) or `"exp_range"` (the amplitude is multiplied by gamma^step).
            base_lr, max_lr, step_size: as for `Cyclical`.
            gamma: factor per step in (0, 1]. Only `"exp_range"` uses it.

        Raises:
            ValueError: the mode is unknown, or an argument is illegal for `Cyclical`.

        Example:
            >>> import cyclr
            >>> cyclr.Cyclical.from_mode("triangular2", 0.0, 1.0, 2)(6)
            0.5
        """
        return cls(base_lr, max_lr, step_size, decay=decay_of_mode(mode, gamma))

    @classmethod
    def over(
        cls,
        total_steps: int,
        cycles: int,
        base_lr: float,
        max_lr: float,
        *,
        rise: float = 0.5,
        shape: Shape = "triangular",
        decay: Decay | None = None,
        stays: bool = True,
    ) -> Self:
        """Return a schedule of whole cycles that fill a run: its first and its last step are at base_lr.

        If `total_steps − 1` is not a multiple of `cycles`, the lengths of the cycles differ by one step, so that every
        cycle still starts, peaks and ends at a whole step.

        Args:
            total_steps: steps (optimizer updates) of the run, or a `Run`; at least `2 · cycles + 1`.
            cycles: number of whole cycles, ≥ 1.
            base_lr, max_lr, shape, decay: as for `Cyclical`.
            rise: fraction of a cycle on the way up, in (0, 1).
            stays: True to keep the last value after the run, False to start further cycles.

        Raises:
            TypeError, ValueError: the run has too few steps for its cycles, or an argument is illegal for `Cyclical`.

        Example:
            >>> import cyclr
            >>> schedule = cyclr.Cyclical.over(total_steps=101, cycles=2, base_lr=0.0, max_lr=1.0)
            >>> schedule(0), schedule(25), schedule(50), schedule(100)
            (0.0, 1.0, 0.0, 0.0)
        """
        count = _checks.integer("cycles", cycles, at_least=1)
        total = total_of(total_steps)
        if total < 2 * count + 1:
            raise ValueError(
                f"total_steps must be at least 2 * cycles + 1 = {2 * count + 1}, to go up and down in every cycle; "
                f"got total_steps={total}, cycles={count}. Use fewer cycles or more steps."
            )
        part = _checks.number("rise", rise, above=0, below=1, fix="It is the fraction of a cycle on the way up.")
        if not isinstance(stays, bool):
            raise TypeError(f"stays must be True or False; got stays={_checks.quoted(stays)}.")
        even = Even(total - 1, count, part)
        (up, down), values = even.ways(0), {"base_lr": base_lr, "max_lr": max_lr, "shape": shape, "decay": decay}
        run = {"step_size": None, "step_size_down": None, "total_steps": total, "cycles": count, "rise": part}
        uneven = even if (total - 1) % count else None
        return cls.__new__(cls)._init(up, down, uneven, **run, stays=stays, **values)

    @classmethod
    def fractional(
        cls,
        base_lr: float,
        max_lr: float,
        step_size: float,
        step_size_down: float | None = None,
        decay: Decay | None = None,
        shape: Shape = "triangular",
    ) -> Self:
        """Return a schedule whose step sizes may be fractions, so that a peak may lie between two steps.

        The drop-in replacements, such as `cyclr.keras.CyclicLR`, use it.

        Args:
            step_size, step_size_down: steps on the way up and on the way down, ≥ 1. They are rounded to the nearest
                fraction with a denominator of at most 10,000.
            base_lr, max_lr, decay, shape: as for `Cyclical`.

        Raises:
            TypeError, ValueError: a length is not a finite number ≥ 1, or an argument is illegal for `Cyclical`.

        Example:
            >>> import cyclr
            >>> cyclr.Cyclical.fractional(0.0, 1.0, 2.5)(5)
            0.0
        """
        from fractions import Fraction

        fix = "It is a number of steps, such as 4 * steps_per_epoch."
        up = _checks.number("step_size", step_size, at_least=1, fix=fix)
        down = up if step_size_down is None else _checks.number("step_size_down", step_size_down, at_least=1, fix=fix)
        ways = (Fraction(up).limit_denominator(10**4), Fraction(down).limit_denominator(10**4))
        return cls.__new__(cls)._init(*ways, base_lr=base_lr, max_lr=max_lr, shape=shape, decay=decay)

    @classmethod
    def _constructor(cls, given: dict[str, Any]) -> Any:
        if "total_steps" in given:
            # Descriptions without `stays` are from versions that always started further cycles after the run.
            return cls.over if "stays" in given else partial(cls.over, stays=False)
        fractional = any(isinstance(given.get(name), float) for name in ("step_size", "step_size_down"))
        return cls.fractional if fractional else cls

    @property
    def cycle_length(self) -> "int | Fraction":
        """Steps (optimizer updates) in a cycle, or their mean if cycles differ by one step (see `over`)."""
        from fractions import Fraction

        up, down, ticks = self._ticks
        length = Fraction(up + down, ticks) if self._even is None else Fraction(self._even.span, self._even.count)
        return length.numerator if length.denominator == 1 else length

    def _endless(self, xp: Namespace) -> bool:
        return not self.stays or super()._endless(xp)

    def place(self, xp: Namespace, step: Any) -> Place:
        if self._even is None:
            up, down, ticks = self._ticks
            period = up + down
            check_range(period * ticks, xp)
            if ticks == 1:
                cycle, offset = step // period, step % period
            else:
                within = (step % period) * ticks
                cycle, offset = (step // period) * ticks + within // period, within % period
        else:
            cycle, offset = self._even.locate(xp, step)
            up, down = self._even.ways(cycle)
        x = xp.where(offset <= up, xp.ratio(offset, up), xp.ratio(up + down - offset, down))
        wave = SHAPES[self.shape](xp, x)
        return self.base_lr, self.max_lr, wave, 1.0, cycle, (offset == 0) & (step > 0)


_LENGTH_FIX = "Lengths count optimizer updates; cyclr.step_size(samples, batch_size) computes one."
