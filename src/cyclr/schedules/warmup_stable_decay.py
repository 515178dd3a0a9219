"""A rise, a rate that stays, and a fall at the end."""

from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from cyclr import _checks
from cyclr.schedules._namespace import Namespace
from cyclr.schedules.anneal import Anneal
from cyclr.schedules.base import Schedule, set_fields
from cyclr.schedules.compose import Constant, Sequence
from cyclr.schedules.run import phase, total_of

_LEGS: dict[str, dict[str, Any]] = {name: {"curve": name} for name in ("linear", "cosine", "exponential")}
_LEGS["1-sqrt"] = {"warp": 0.5}


@dataclass(frozen=True, repr=False)
class WarmupStableDecay(Schedule):
    """A rise to max_lr, max_lr for most of a run, and a fall at its end: the schedule "WSD" of language models.

    With n = total_steps − 1, w steps of warm-up and d of decay, it is a `Sequence` of three legs: start → max_lr in
    steps 0 to w, max_lr to step n − d, and max_lr → end in steps n − d to n. The last step, n, is at `end`.

    Args:
        max_lr: the rate that stays, > 0.
        total_steps: steps (optimizer updates) of the run, or a `Run`; ≥ 2.
        warmup: the rise: a fraction of the run in [0, 1), rounded down to whole steps, or a number of steps ≥ 0.
        decay: the fall, in the same units, > 0.
        start: rate at step 0 if there is a rise, ≥ 0 and ≤ max_lr.
        end: rate at the last step, ≥ 0 and ≤ max_lr.
        warmup_curve, curve: how it rises and falls: `"linear"`, `"cosine"`, `"1-sqrt"`, `"exponential"` (between rates
            > 0), or a number > 0, the power of `Anneal`.

    Raises:
        TypeError, ValueError: an argument is out of range, or the phases do not fit into the run.

    Example:
        >>> import cyclr
        >>> schedule = cyclr.WarmupStableDecay(0.1, total_steps=101, warmup=10, decay=0.2, curve="linear")
        >>> [round(schedule(step), 6) for step in (0, 5, 10, 80, 90, 100, 1000)]
        [0.0, 0.05, 0.1, 0.1, 0.05, 0.0, 0.0]

    Source: Hägele et al. 2024, arXiv:2405.18392; Hu et al. 2024, *MiniCPM*, arXiv:2404.06395.
    """

    max_lr: float
    total_steps: int = field()
    _: KW_ONLY
    warmup: float | int = 0.0
    decay: float | int = 0.2
    start: float = 0.0
    end: float = 0.0
    warmup_curve: str | float = "linear"
    curve: str | float = "1-sqrt"
    _legs: Sequence = field(init=False, compare=False)

    def __post_init__(self) -> None:
        top = _checks.number("max_lr", self.max_lr, above=0, fix="A learning rate is a small number such as 0.1.")
        start, end = (_checks.number(name, getattr(self, name), at_least=0, at_most=top) for name in ("start", "end"))
        total = total_of(self.total_steps, at_least=2)
        warmup, up = phase("warmup", self.warmup, total - 1, left_over=1, least=0)
        decay, down = phase("decay", self.decay, total - 1, left_over=up)
        curves = [_curve(name, getattr(self, name)) for name in ("warmup_curve", "curve")]
        legs: list[tuple[Schedule, int]] = [(Anneal(start, top, up, **curves[0]), up)] if up else []
        legs += [(Constant(top), total - 1 - down - up)] if total - 1 > down + up else []
        made = Sequence([*(leg for leg, _ in legs), Anneal(top, end, down, **curves[1])], [steps for _, steps in legs])
        set_fields(self, max_lr=top, total_steps=total, warmup=warmup, decay=decay, start=start, end=end, _legs=made)

    def evaluate(self, xp: Namespace, step: Any) -> Any:
        return self._legs.evaluate(xp, step)

    @property
    def largest(self) -> float:
        return self.max_lr

    @property
    def has_cycle_ends(self) -> bool:
        return self._legs.has_cycle_ends

    def is_cycle_end(self, step: Any) -> Any:
        return self._legs.is_cycle_end(step)


def _curve(name: str, curve: Any) -> dict[str, Any]:
    """The arguments of an `Anneal`."""
    if isinstance(curve, str):
        return _LEGS[_checks.choice(name, curve, _LEGS)]
    return {"power": _checks.number(name, curve, above=0, fix=f"It is a power, or one of {', '.join(_LEGS)}.")}
