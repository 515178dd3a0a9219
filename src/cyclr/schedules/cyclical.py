"""The cyclical schedule: a shape between two bounds that may decay."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any, Literal, Self

from cyclr import _checks
from cyclr.schedules import layout
from cyclr.schedules._namespace import Namespace
from cyclr.schedules.decay import Decay, Exponential, Halving, checked_decay, decayed
from cyclr.schedules.shape import SHAPES, Shape
from cyclr.schedules.wave import Wave, between

Mode = Literal["triangular", "triangular2", "exp_range"]


def decay_of_mode(mode: Mode, gamma: float = 1.0) -> Decay | None:
    """The decay of one of the three policies of Smith's paper; `Cyclical.from_mode` says more."""
    _checks.choice("mode", mode, ("triangular", "triangular2", "exp_range"))
    if mode == "exp_range":
        return Exponential(gamma)
    return Halving() if mode == "triangular2" else None


class Cyclical(Wave):
    """A rate that goes from base_lr up to max_lr and back, again and again.

    With t the step, U = step_size, D = step_size_down, L = U + D and p = t mod L:

    - triangular position: x = p / U for p ≤ U, else (L − p) / D,
    - height: w = shape(x), one of x, 1 − (1 − x)², (1 − cos πx) / 2,
    - value: low · (1 − w) + high · w, where low and high are base_lr and max_lr after the decay.

    The value is base_lr at every multiple of L and the (decayed) maximum at every p = U, exactly.

    Args:
        base_lr: lower bound, ≥ 0.
        max_lr: upper bound, > base_lr.
        step_size: steps (optimizer updates) on the way up, ≥ 1; half a cycle, Smith's `stepsize`. See `step_size()`.
        step_size_down: steps on the way down, ≥ 1; step_size by default.
        shape: `"triangular"`, `"parabolic"` or `"sinusoidal"`.
        decay: `Halving()`, `Exponential(gamma)`, `PerCycle(fn)`, `PerStep(fn)`, or None for bounds that stay.

    Raises:
        TypeError: a bound is no number, a length no integer, the decay no `Decay`.
        ValueError: bounds that are negative, swapped, equal or not finite; a length below 1; an unknown shape.

    Example:
        >>> import cyclr
        >>> schedule = cyclr.Cyclical(base_lr=0.001, max_lr=0.006, step_size=2000)
        >>> schedule(0), schedule(1000), schedule(2000), schedule(4000)
        (0.001, 0.0035, 0.006, 0.001)

    Source: Smith 2017, *Cyclical Learning Rates for Training Neural Networks*, arXiv:1506.01186.
    """

    base_lr: float
    max_lr: float
    shape: Shape
    decay: Decay | None
    _layout: layout.Uniform | layout.Even

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
        self._init(base_lr, max_lr, layout.Uniform(up, down), shape, decay)

    def _init(
        self, base_lr: float, max_lr: float, cycles: layout.Uniform | layout.Even, shape: str, decay: Decay | None
    ) -> None:
        low, high = _checks.bounds(base_lr, max_lr)
        _checks.choice("shape", shape, SHAPES)
        self._set(base_lr=low, max_lr=high, shape=shape, decay=checked_decay(decay), _layout=cycles)

    @classmethod
    def _with_layout(
        cls, base_lr: float, max_lr: float, cycles: layout.Uniform | layout.Even, shape: str, decay: Decay | None
    ) -> Self:
        schedule = cls.__new__(cls)
        schedule._init(base_lr, max_lr, cycles, shape, decay)
        return schedule

    @classmethod
    def from_mode(cls, mode: Mode, base_lr: float, max_lr: float, step_size: int, gamma: float = 1.0) -> Self:
        """One of the three policies of Smith's paper, by the name used there.

        Args:
            mode: `"triangular"` (bounds that stay), `"triangular2"` (amplitude halved per cycle) or `"exp_range"`
                (amplitude times gamma^step).
            base_lr, max_lr, step_size: as for `Cyclical`.
            gamma: factor per step in (0, 1]; used by `"exp_range"` alone.

        Raises:
            ValueError: an unknown mode, or what `Cyclical` rejects.

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
    ) -> Self:
        """Whole cycles that fill a run: the first and the last of `total_steps` steps are at base_lr.

        Where `total_steps − 1` is no multiple of `cycles`, cycle lengths differ by one step, so that every cycle still
        begins, peaks and ends on a step.

        Args:
            total_steps: steps (optimizer updates) of the run, at least `2 · cycles + 1`.
            cycles: number of whole cycles, ≥ 1.
            base_lr, max_lr, shape, decay: as for `Cyclical`.
            rise: fraction of a cycle spent on the way up, in (0, 1).

        Raises:
            TypeError, ValueError: too few steps for so many cycles, or what `Cyclical` rejects.

        Example:
            >>> import cyclr
            >>> schedule = cyclr.Cyclical.over(total_steps=101, cycles=2, base_lr=0.0, max_lr=1.0)
            >>> schedule(0), schedule(25), schedule(50), schedule(100)
            (0.0, 1.0, 0.0, 0.0)
        """
        count = _checks.integer("cycles", cycles, at_least=1)
        total = _checks.integer("total_steps", total_steps, at_least=1, fix="It counts optimizer updates.")
        if total < 2 * count + 1:
            raise ValueError(
                f"total_steps must be at least 2 * cycles + 1 = {2 * count + 1}, to go up and down in every cycle; "
                f"got total_steps={total}, cycles={count}. Use fewer cycles?"
            )
        part = _checks.number("rise", rise, above=0, below=1, fix="It is the fraction of a cycle on the way up.")
        span = total - 1
        cycles_in_span = layout.Even(span, count, Fraction(repr(part)))
        if span % count == 0:
            up = cycles_in_span.up(span // count)
            return cls._with_layout(base_lr, max_lr, layout.Uniform(up, span // count - up), shape, decay)
        return cls._with_layout(base_lr, max_lr, cycles_in_span, shape, decay)

    @classmethod
    def _fractional(
        cls,
        base_lr: float,
        max_lr: float,
        step_size: float,
        step_size_down: float | None = None,
        decay: Decay | None = None,
        shape: str = "triangular",
    ) -> Self:
        """Cycles of a fractional number of steps, which may peak between two steps; for the drop-ins alone."""
        fix = "It is a number of steps, such as 4 * steps_per_epoch."
        up = _checks.number("step_size", step_size, at_least=1, fix=fix)
        down = up if step_size_down is None else _checks.number("step_size_down", step_size_down, at_least=1, fix=fix)
        lengths = (Fraction(length).limit_denominator(10**4) for length in (up, down))
        return cls._with_layout(base_lr, max_lr, layout.Uniform(*lengths), shape, decay)

    def arguments(self) -> dict[str, Any]:
        lengths: dict[str, Any]
        if isinstance(self._layout, layout.Even):
            rise = float(self._layout.rise)
            lengths = {"total_steps": self._layout.span + 1, "cycles": self._layout.count, "rise": rise}
        else:
            up, down = (_whole_or_float(Fraction(n, self._layout.ticks)) for n in (self._layout.up, self._layout.down))
            lengths = {"step_size": up, "step_size_down": None if down == up else down}
        return {"base_lr": self.base_lr, "max_lr": self.max_lr, **lengths, "shape": self.shape, "decay": self.decay}

    def __repr__(self) -> str:
        text = super().__repr__()
        return text.replace("Cyclical(", "Cyclical.over(", 1) if isinstance(self._layout, layout.Even) else text

    @classmethod
    def _from_arguments(cls, arguments: dict[str, Any]) -> Self:
        arguments = {**arguments, "decay": Decay.from_description(arguments.get("decay"))}
        if "total_steps" in arguments:
            return cls.over(**arguments)
        if any(isinstance(arguments.get(name), float) for name in ("step_size", "step_size_down")):
            return cls._fractional(**arguments)
        return cls(**arguments)

    @property
    def cycle_length(self) -> int | Fraction:
        """Steps in a whole cycle; their mean where cycles differ by a step (see `over`)."""
        length = self._layout.length
        return length.numerator if length.denominator == 1 else length

    def _place(self, xp: Namespace, step: Any) -> layout.Place:
        return layout.Place(*self._layout.locator(xp)(step))

    def _cycle(self, xp: Namespace, step: Any) -> Any:
        return self._place(xp, step).cycle

    def _is_cycle_end(self, xp: Namespace, step: Any) -> Any:
        return (self._place(xp, step).offset == 0) & (step > 0)

    def _wave(self, xp: Namespace) -> Callable[[Any], tuple[Any, Any]]:
        """The function from a step to the height of the undecayed wave, and the cycle."""
        locate, shape, where, ratio = self._layout.locator(xp), SHAPES[self.shape], xp.where, xp.ratio

        def wave(step: Any) -> tuple[Any, Any]:
            cycle, offset, up, down = locate(step)
            return shape(xp, where(offset <= up, ratio(offset, up), ratio(up + down - offset, down))), cycle

        return wave

    def _formula(self, xp: Namespace) -> Callable[[Any], Any]:
        wave, low, high, decay, clip = self._wave(xp), self.base_lr, self.max_lr, self.decay, xp.clip

        def constant(step: Any) -> Any:
            height, _ = wave(step)
            return clip(low * (1.0 - height) + high * height, low, high)

        def decaying(step: Any) -> Any:
            height, cycle = wave(step)
            return between(xp, *decayed(xp, low, high, decay, step, cycle), height)

        return constant if decay is None else decaying

    def _value(self, xp: Namespace, step: Any) -> Any:
        return self._formula(xp)(step)

    def _bounds_at(self, xp: Namespace, step: Any) -> tuple[Any, Any]:
        return decayed(xp, self.base_lr, self.max_lr, self.decay, step, self._cycle(xp, step))

    def _height(self, xp: Namespace, step: Any) -> Any:
        return self._height_formula(xp)(step)

    def _height_formula(self, xp: Namespace) -> Callable[[Any], Any]:
        wave, decay = self._wave(xp), self.decay
        if decay is None or decay.bounds == "both":
            return lambda step: wave(step)[0]

        def decaying(step: Any) -> Any:
            height, cycle = wave(step)
            return height * decay.factor(xp, step, cycle)

        return decaying


def _whole_or_float(length: Fraction) -> int | float:
    return length.numerator if length.denominator == 1 else float(length)


_LENGTH_FIX = "Lengths count optimizer updates; cyclr.step_size(samples, batch_size) computes one."
