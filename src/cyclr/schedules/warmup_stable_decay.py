"""A warm-up, a constant learning rate, and a decay at the end of the run."""

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
    """A warm-up to max_lr, max_lr for most of a run, and a decay at its end: the "WSD" schedule of language models.

    With n = total_steps − 1, w steps of warm-up and d steps of decay, the value is

    - steps 0 to w: start → max_lr,
    - steps w to n − d: max_lr,
    - steps n − d to n: max_lr → end. After the run, the value stays at end.

    Args:
        max_lr: learning rate between the warm-up and the decay, > 0.
        total_steps: steps (optimizer updates) of the run, or a `Run`; ≥ 2.
        warmup: length of the warm-up: a float is a fraction of the run in [0, 1), rounded down to whole steps, and an
            int is a number of steps ≥ 0.
        decay: length of the decay, in the same units, > 0.
        start: learning rate at step 0 if there is a warm-up, ≥ 0 and ≤ max_lr.
        end: learning rate at the last step, ≥ 0 and ≤ max_lr.
        warmup_curve, curve: curves of the warm-up and of the decay: `"linear"`, `"cosine"`, `"1-sqrt"`, `"exponential"`
            (only between values > 0), or a number > 0, the argument `power` of a linear `Anneal`.

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
    """Return the arguments for an `Anneal`."""
    if isinstance(curve, str):
        return _LEGS[_checks.choice(name, curve, _LEGS)]
    return {"power": _checks.number(name, curve, above=0, fix=f"It is a power, or one of {', '.join(_LEGS)}.")}
