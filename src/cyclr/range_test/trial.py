"""The results of trial cycles, and the bounds after trial cycles."""

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
    """A trial cycle: a short training run of one cycle, from the state at the start of the test.

    Attributes:
        max_lr: highest learning rate of the cycle.
        losses: loss of the batch at every update, computed before the update.
        kept: mean loss after the last update on the batches that were kept out of all trials, or the value of
            `evaluate`. None if there is neither, or if the trial ended early.
        ended: `"completed"`; `"diverged"` (the losses rose far above their start), `"non_finite"`, `"data_exhausted"`
            or `"interrupted"`, as the `stop_reason` of a range test.
        score: (a + b) / 2 + 0.0003 · log2(max_lr / max_lr of the sweep)². a is the mean of the last 0.3 of `losses`,
            divided by the fall of the loss in the first completed trial. b is `kept`, divided by the same fall, or by
            the fall of the value of `evaluate`. Without `kept`, b is a. Lower is better. None if the trial ended early.

    Raises:
        TypeError, ValueError: a value has a wrong type or is out of range.

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
"""A trial is penalized if the trial with the next higher max_lr is worse, by the share `EDGE` of the difference of
their scores if their max_lr differ by a factor of 2. The difference is at most `WORST`. The penalty is needed because
the learning rate at which training turns unstable differs between seeds, and a longer run has more time to turn
unstable.
"""


def cost(trial: TrialCycle, trials: Sequence[TrialCycle]) -> float:
    """Return the cost of a trial, by which the best trial is chosen. The cost is infinite if the trial ended early.

    cost = score + 0.03 · min(max(next score − score, 0), 1) / octaves. The next score is the score of the trial with
    the next higher max_lr, and octaves is log2 of the ratio of both max_lr. If the next trial ended early, the
    difference of the scores counts as 1.
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


def apply_trials(bounds: Bounds, trials: Sequence[TrialCycle]) -> Bounds:
    """Return the bounds with the max_lr of the best trial, and with the same ratio max_lr / base_lr.

    The reason starts with the verdict of the new bounds and describes the trials.
    """
    if not trials or bounds.numbers is None:
        return bounds
    base_lr, max_lr = bounds.numbers
    tops = sorted(trial.max_lr for trial in trials)
    longest = max(len(trial.losses) for trial in trials)
    tried = f"{len(trials)} trial cycle{'s' if len(trials) > 1 else ''} of {longest} updates up to "
    tried += f"{tops[0]:.2g}" if len(trials) == 1 else f"learning rates from {tops[0]:.2g} to {tops[-1]:.2g}"
    tried += ", before they were interrupted," if trials[-1].ended == "interrupted" else ""
    chosen = best_of(trials)
    if chosen is None:
        return replace(bounds, reason=f"{bounds.reason} None of {tried} was completed, so the bounds stay the same.")
    if chosen.max_lr == max_lr:
        return replace(bounds, reason=f"{bounds.reason} Of {tried}, the trial up to max_lr was the best.")
    ratio = chosen.max_lr / max_lr
    words = f"The curve gives max_lr={max_lr:.3g}; of {tried}, the trial up to {chosen.max_lr:.3g} was the best."
    return with_numbers(bounds, (base_lr * ratio, chosen.max_lr), words)
