"""What trial cycles showed, and the bounds after them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from cyclr import _checks
from cyclr.bounds.base import Bounds, with_numbers

ENDED = ("completed", "diverged", "non_finite", "data_exhausted", "interrupted")


@dataclass(frozen=True)
class TrialCycle:
    """A trial cycle: a short run of the shape that training will have, from the state in which the test began.

    Attributes:
        max_lr: its highest learning rate.
        losses: the loss of the batch of every update, before it.
        kept: mean loss after the last update on batches that no trial was trained on, or what `evaluate` returned.
            None if there were none, or if the trial ended early.
        ended: `"completed"`; `"diverged"` (the losses rose far above their start), `"non_finite"`, `"data_exhausted"`
            or `"interrupted"`, as the `stop_reason` of a range test.
        score: half the mean of the last 0.3 of the losses and half of `kept`, in units of the fall of each in the first
            trial, plus 0.0003 · log2(max_lr / that of the sweep)²; lower is better. None if the trial ended early.

    Raises:
        TypeError, ValueError: a value of another type or out of range.

    Example:
        >>> from cyclr.range_test import TrialCycle
        >>> TrialCycle(max_lr=0.1, losses=(2.3, 1.0, 0.5), kept=0.6, ended="completed", score=0.24).ended
        'completed'
    """

    max_lr: float
    losses: tuple[float, ...] = field(repr=False)
    kept: float | None
    ended: Literal["completed", "diverged", "non_finite", "data_exhausted", "interrupted"]
    score: float | None

    def __post_init__(self) -> None:
        _checks.number("max_lr", self.max_lr, above=0)
        _checks.choice("ended", self.ended, ENDED)
        losses = _checks.floats("losses", self.losses, "a vector")
        if losses.ndim != 1 or not np.isfinite(losses).all():
            raise ValueError(f"losses must be a vector of finite numbers; got losses={_checks.quoted(self.losses)}.")
        object.__setattr__(self, "losses", tuple(losses.tolist()))
        for name in ("kept", "score"):
            if getattr(self, name) is not None:
                _checks.number(name, getattr(self, name))


EDGE, WORST = 0.03, 1.0
"""Share of a worse score at the next higher top, an octave away, that counts against a trial, and how much worse it can
be. Where training turns unstable differs between seeds, and a longer run has more time to do so.
"""


def cost(trial: TrialCycle, trials: Sequence[TrialCycle]) -> float:
    """Return what a trial is chosen by, infinite if it ended early.

    score + 0.03 · min(max(score above − score, 0), 1) / octaves, where above is the trial with the next higher top, and
    octaves = log2 of the ratio of both tops. A trial that ended early is worse by 1.
    """
    if trial.score is None:
        return math.inf
    above = min((other for other in trials if other.max_lr > trial.max_lr), key=lambda t: t.max_lr, default=None)
    if above is None:
        return trial.score
    worse = WORST if above.score is None else min(max(above.score - trial.score, 0.0), WORST)
    return trial.score + EDGE * worse / math.log2(above.max_lr / trial.max_lr)


def best_of(trials: Sequence[TrialCycle]) -> TrialCycle | None:
    """Return the trial with the lowest cost, or None if all ended early."""
    completed = [trial for trial in trials if trial.score is not None]
    return min(completed, key=lambda trial: cost(trial, trials), default=None)


def moved(bounds: Bounds, trials: Sequence[TrialCycle]) -> Bounds:
    """Return the bounds with max_lr at the top of the best trial and their ratio as it was, and with a reason.

    The reason begins with the verdict on these bounds.
    """
    if not trials or bounds.numbers is None:
        return bounds
    base_lr, max_lr = bounds.numbers
    tops = sorted(trial.max_lr for trial in trials)
    longest = max(len(trial.losses) for trial in trials)
    tried = f"{len(trials)} trial cycle{'s' if len(trials) > 1 else ''} of {longest} updates up to "
    tried += f"{tops[0]:.2g}" if len(trials) == 1 else f"rates from {tops[0]:.2g} to {tops[-1]:.2g}"
    tried += ", before they were interrupted," if trials[-1].ended == "interrupted" else ""
    chosen = best_of(trials)
    if chosen is None:
        return replace(bounds, reason=f"{bounds.reason} None of {tried} was completed, so they change nothing.")
    if chosen.max_lr == max_lr:
        return replace(bounds, reason=f"{bounds.reason} Of {tried}, the one up to max_lr was the best.")
    ratio = chosen.max_lr / max_lr
    words = f"The curve alone gives max_lr={max_lr:.3g}; of {tried}, the one up to {chosen.max_lr:.3g} was the best."
    return with_numbers(bounds, (base_lr * ratio, chosen.max_lr), words)
