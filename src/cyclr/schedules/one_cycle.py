"""One cycle for a whole run."""

from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from cyclr import _checks
from cyclr.schedules._namespace import Namespace
from cyclr.schedules.base import set_fields
from cyclr.schedules.layout import check_range
from cyclr.schedules.run import phase, total_of
from cyclr.schedules.shape import SHAPES, Shape
from cyclr.schedules.wave import Place, Wave


@dataclass(frozen=True, repr=False)
class OneCycle(Wave):
    """A learning rate that rises once and falls once, to far below its first value: Smith's 1cycle policy.

    With n = total_steps − 1, u steps up, d steps down, the shape w, and x rising from 0 to 1 in each phase:

    - up, steps 0 to u: base_lr → max_lr, by w(x),
    - two phases (`fall=None`), steps u to n: max_lr → final_lr, by w(1 − x),
    - three phases, steps u to u + d: max_lr → base_lr, then to n: base_lr → final_lr, both by w(1 − x).

    The value is exactly max_lr at step u, and exactly final_lr at the last step and after it.

    Args:
        base_lr: learning rate at step 0, ≥ 0.
        max_lr: learning rate at the peak, > base_lr.
        total_steps: steps (optimizer updates) of the run, or a `Run`; at least 3 for two phases, 4 for three.
        rise: length of the way up: a float is a fraction of the run in (0, 1), rounded down to whole steps, and an int
            is a number of steps ≥ 1.
        fall: length of the way down from max_lr to base_lr, in the units of `rise`, for three phases. `fall=rise` makes
            both ways equally long. None for two phases.
        final_lr: learning rate at the last step, ≥ 0 and < max_lr. The default is base_lr / 10,000.
        shape: `"sinusoidal"` (cosine), `"triangular"` (linear) or `"parabolic"`.

    Raises:
        TypeError, ValueError: the bounds are illegal, or the phases do not fit into the run.

    Example:
        >>> import cyclr
        >>> schedule = cyclr.OneCycle(0.01, 0.1, total_steps=101, shape="triangular", final_lr=0.0)
        >>> schedule(0), schedule(30), schedule(65), schedule(100), schedule(1000)
        (0.01, 0.1, 0.05, 0.0, 0.0)

    Source: Smith & Topin 2018, *Super-Convergence*, arXiv:1708.07120; two phases as in fastai. torch's `OneCycleLR` and
    Optax' one-cycle schedules give the same values if they reach max_lr at a step.
    """

    base_lr: float
    max_lr: float
    total_steps: int = field()
    _: KW_ONLY
    rise: float | int = 0.3
    fall: float | int | None = None
    final_lr: float | None = None
    shape: Shape = "sinusoidal"
    _up: int = field(init=False, compare=False)
    _down: int = field(init=False, compare=False)
    _final: float = field(init=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        final = self.base_lr / 10_000
        if self.final_lr is not None:
            final = _checks.number("final_lr", self.final_lr, at_least=0, below=self.max_lr)
        _checks.choice("shape", self.shape, SHAPES)
        phases = 2 if self.fall is None else 3
        total = total_of(self.total_steps, at_least=phases + 1)
        rise, up = phase("rise", self.rise, total - 1, left_over=phases - 1)
        fall, down = None, total - 1 - up
        if self.fall is not None:
            fall, down = phase("fall", self.fall, total - 1, left_over=up + 1)
        set_fields(self, total_steps=total, rise=rise, fall=fall, final_lr=final, _up=up, _down=down, _final=final)

    def place(self, xp: Namespace, step: Any) -> Place:
        check_range(self.total_steps, xp, "the phases")
        last, up, top = self.total_steps - 1, self._up, self._up + self._down
        low, high, final, share = self.base_lr, self.max_lr, self._final, 1.0
        rises = step <= up
        x = xp.where(rises, xp.ratio(step, up), xp.ratio(top - step, self._down))
        if self.fall is None:
            low = xp.where(rises, low, final)
        else:
            cycles = step <= top
            x = xp.where(cycles, x, xp.ratio(last - step, last - top))
            low, high = xp.where(cycles, low, min(final, low)), xp.where(cycles, high, max(final, low))
            share = xp.where(cycles, 1.0, 0.0)
        # x lies outside [0, 1] in the branches that `where` does not select.
        wave = SHAPES[self.shape](xp, xp.clip(x, 0.0, 1.0))
        if self.fall is not None and final > self.base_lr:
            wave = xp.where(cycles, wave, 1.0 - wave)
        return low, high, wave, share, step * 0, step == last
