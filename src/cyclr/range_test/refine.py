"""Trial cycles, which correct the max_lr of a sweep for a run of known length."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cyclr import _checks
from cyclr.range_test.driver import RangeTest
from cyclr.range_test.trial import TrialCycle, cost
from cyclr.schedules import Cyclical

SHARE, WORTH = 20, 600
"""By default the second sweep and the trials take 1/20 of the updates of the run, if this is at least 600 updates."""

SHORTEST, MOST, PARTS = 100, 4, 6
"""Fewest updates of a trial, most trials, and the divisor of all updates that gives the updates of a trial. With trials
of 25 and 50 updates, the choice is worse than the max_lr of the sweep: deep networks have not started to learn, and a
learning rate wins that diverges later.
"""

SLOWER, BELOW, ABOVE = 50, 1000.0, 30.0
"""Fewest updates of a second sweep, and its range: from max_lr / 1000 to 30 · max_lr."""

FIRST, UP, LOWEST, HIGHEST = (0, 2), 2, -3, 5
"""The top (highest learning rate) of a trial is 2^j times the max_lr of the sweep. The first values of j, the step to a
higher j, and the range of j.
"""

LAST = 0.3
"""Share of a trial, at its end, whose losses are averaged for the score."""

PRIOR = 3e-4
"""Factor of j² that is added to a score, so that the max_lr of the sweep wins among equal trials."""

KEPT_EVERY, KEPT_MOST = 7, 16
"""One of `KEPT_EVERY` batches is kept out of the training of all trials, up to `KEPT_MOST` batches in total."""

ASLEEP = 1e-9
"""Learning rate, as a share of the top, at which a trial measures the batches that were kept out. It is above 0,
because an optimizer may divide by its learning rate.
"""


def budget(refine: int | None, total_steps: int) -> int:
    """Return the updates to spend: `refine`, or by default 5 % of the run if this is at least `WORTH`, or 0."""
    share = total_steps // SHARE
    return refine if refine is not None else share if share >= WORTH else 0


def plan(updates: int, total_steps: int, kept: int = KEPT_MOST) -> tuple[int, int, int]:
    """Return the largest number of trials, the updates of a trial, and the updates of a second sweep before the trials.

    Args:
        updates: updates to spend in total, ≥ 0.
        total_steps: steps of the training run. A trial has at most half as many updates.
        kept: number of batches that every trial measures at its end.
    """
    longest = total_steps // 2
    length = min(max(updates // PARTS, SHORTEST), longest)
    trials = min(updates // (length + kept), MOST) if longest >= SHORTEST else 0
    if trials < len(FIRST):
        return 0, 0, updates
    return trials, length, updates - trials * (length + kept)


class TrialTest(RangeTest):
    """A trial with the interface of a range test: it gives the learning rate of every update and records the loss.

    A trial starts with one cycle with the default shape of `Bounds.schedule`: a parabolic rise from top / 100 to top
    over 0.3 of its updates, and a fall. Then the trial measures the batches that were kept out, at a learning rate too
    low to change the weights. Like a range test, the trial ends early if its loss diverges or is not finite.

    Args:
        top: highest learning rate, > 0.
        length: updates of the cycle.
        evaluate: function without arguments that is called after the last update, or None. With `evaluate`, no batches
            are kept out.
    """

    def __init__(self, top: float, length: int, evaluate: Callable[[], Any] | None = None) -> None:
        kept = KEPT_MOST if evaluate is None else 0
        super().__init__(steps=length + kept, restores=True)
        cycle = Cyclical.over(length, 1, top / 100, top, rise=0.3, shape="parabolic")(np.arange(length))
        self.learning_rates = np.concatenate([cycle, np.full(kept, ASLEEP * top)])
        self._rates = self.learning_rates.tolist()
        self.top, self.length = top, length
        self._value_at_end = evaluate
        self._kept: float | None = None

    @property
    def trained(self) -> bool:
        """True if the cycle is over."""
        return self.recorded >= self.length

    def batches(self, one_pass: Callable[[], Iterable[Any]]) -> Iterator[Any]:
        """Yield batches for training until the cycle is over, and then the batches that were kept out.

        Args:
            one_pass: function that returns the batches of one pass over the data. The batches must be the same in every
                pass and in every trial.
        """
        kept: dict[int, Any] = {}
        first = empty = True
        while first or not empty:
            empty = True
            for place, batch in enumerate(one_pass()):
                keep = first and place % KEPT_EVERY == KEPT_EVERY - 1 and len(kept) < KEPT_MOST
                if self._value_at_end is None and (keep or place in kept):
                    kept.setdefault(place, batch)
                    continue
                empty = False
                yield batch
                if self.trained:
                    yield from kept.values()
                    return
            first = False

    def upcoming(self, count: int) -> Any:
        """Return the learning rates of the next `count` updates, or of fewer at the end of the cycle."""
        return super().upcoming(count if self.trained else min(count, self.length - self.recorded))

    def record(self, loss: Any) -> None:
        """Record the loss of the batch from which the last update was computed."""
        super().record(loss)
        if self._value_at_end is not None and self._stop_reason == "completed":
            self._kept = _checks.scalar("evaluate()", self._value_at_end())

    def _diverged(self) -> bool:
        return super()._diverged() and self.recorded <= self.length

    def trial(self) -> TrialCycle:
        """Return the losses of the trial and the reason for its end, without a score."""
        ended = "non_finite" if self.in_doubt else self._stop_reason or "interrupted"
        losses = self._losses[: self.length]
        if not self.trained or ended not in ("completed", "data_exhausted"):
            return TrialCycle(self.top, tuple(losses), None, ended, None)
        after = self._losses[self.length :]
        kept = float(np.mean(after)) if after else self._kept
        if kept is not None and not math.isfinite(kept):
            return TrialCycle(self.top, tuple(losses), None, "non_finite", None)
        return TrialCycle(self.top, tuple(losses), kept, "completed", None)


@dataclass
class Search:
    """Chooses the top (highest learning rate) of each trial, and compares the trials.

    The first two tops are max_lr and 4 · max_lr. If the best trial so far has the highest top, the next top is 4 times
    as high. If the best trial has the lowest top, the next top is half as high. Otherwise the next top lies between the
    best trial and one of its two neighbours, first the better neighbour.

    Args:
        max_lr: max_lr of the sweep.
        trials: largest number of trials.
        value_at_start: value of `evaluate` at the start of the test, or None without `evaluate`.
    """

    max_lr: float
    trials: int
    value_at_start: float | None = None
    made: dict[int, TrialCycle] = field(default_factory=dict)
    _units: tuple[float, float] | None = field(default=None, init=False)
    """Fall of the training loss in the first completed trial, and the unit of `kept`: the fall of the value of
    `evaluate`, or the same fall without `evaluate`."""

    def next_top(self) -> int | None:
        """Return the j of the next trial, whose top is max_lr · 2^j, or None if the search is finished."""
        if len(self.made) >= self.trials:
            return None
        for j in FIRST:
            if j not in self.made:
                return j
        best = min(self.made, key=self._rank)
        if self.made[best].score is None:
            # All trials ended early, for example because they diverged.
            best = min(self.made)
        if best == max(self.made) and best < HIGHEST:
            return min(best + UP, HIGHEST)
        if best == min(self.made) and best > LOWEST:
            return best - 1
        sides = [(j, self._nearest(best, j - best)) for j in (best + 1, best - 1) if LOWEST <= j <= HIGHEST]
        open_sides = [(self._rank(nearest), j) for j, nearest in sides if j not in self.made]
        return min(open_sides)[1] if open_sides else None

    def add(self, j: int, trial: TrialCycle) -> None:
        """Add the trial whose top is max_lr · 2^j, with its score."""
        self.made[j] = replace(trial, score=self._score(j, trial))

    def _nearest(self, j: int, side: int) -> int:
        """Return the trial next to j on one side of it."""
        return min((k for k in self.made if (k - j) * side > 0), key=lambda k: abs(k - j))

    def _rank(self, j: int) -> tuple[float, int]:
        return cost(self.made[j], list(self.made.values())), abs(j)

    def _score(self, j: int, trial: TrialCycle) -> float | None:
        if trial.ended != "completed":
            return None
        start = float(np.median(trial.losses[:3]))
        end = float(np.mean(trial.losses[-max(5, round(LAST * len(trial.losses))) :]))
        if self._units is None:
            unit = _fall(start, end)
            by_value = self.value_at_start is not None and trial.kept is not None
            self._units = unit, _fall(self.value_at_start, trial.kept) if by_value else unit
        training, other = self._units
        judged = end / training if trial.kept is None else (end / training + trial.kept / other) / 2
        return judged + PRIOR * j**2


def _fall(start: Any, end: Any) -> float:
    """Return the fall of a loss, but at least a thousandth of its start."""
    return max(start - end, 1e-3 * abs(start)) or 1.0
