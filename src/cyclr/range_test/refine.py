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
"""By default a twentieth of the run is spent, if that is at least 600 updates."""

SHORTEST, MOST, PARTS = 100, 4, 6
"""Fewest updates of a trial, most trials, and the part of all updates that a trial takes: a sixth. Trials of 25 and 50
updates choose worse than the sweep alone: deep networks have not begun to learn, and a rate wins that diverges later.
"""

SLOWER, BELOW, ABOVE = 50, 1000.0, 30.0
"""Fewest updates of a second sweep, and its range: from max_lr / 1000 to 30 max_lr."""

FIRST, UP, LOWEST, HIGHEST = (0, 2), 2, -3, 5
"""Tops are 2^j times the max_lr of the sweep: the first j, the step upwards, and the range of j."""

LAST = 0.3
"""Share of a trial, at its end, whose losses are averaged."""

PRIOR = 3e-4
"""What is added to a score for each j², so that of equals the max_lr of the sweep wins."""

KEPT_EVERY, KEPT_MOST = 7, 16
"""One of so many batches is kept out of all trials, up to the second number."""

ASLEEP = 1e-9
"""Share of its top at which a trial measures the batches that were kept out. An optimizer may divide by its rate."""


def budget(refine: int | None, total_steps: int) -> int:
    """Return the updates to spend: `refine`, or by default 5 % of the run if that is worth it."""
    share = total_steps // SHARE
    return refine if refine is not None else share if share >= WORTH else 0


def plan(updates: int, total_steps: int, kept: int = KEPT_MOST) -> tuple[int, int, int]:
    """Return how many trials of how many updates to make at most, and the updates of a second sweep before them.

    Args:
        updates: to be spent in all, ≥ 0.
        total_steps: of the run. A trial is at most half as long.
        kept: batches that every trial measures at its end.
    """
    longest = total_steps // 2
    length = min(max(updates // PARTS, SHORTEST), longest)
    trials = min(updates // (length + kept), MOST) if longest >= SHORTEST else 0
    if trials < len(FIRST):
        return 0, 0, updates
    return trials, length, updates - trials * (length + kept)


class TrialTest(RangeTest):
    """Drives a trial as a range test is driven: it gives the rate of every update, and records the loss.

    First a cycle of the shape that `Bounds.schedule` takes by default: a parabolic rise from top / 100 to top over 0.3
    of its updates, and the way down. Then the batches that were kept out, at a rate that changes nothing. It ends early
    where a range test would: if its loss diverges or is not finite.

    Args:
        top: highest learning rate, > 0.
        length: updates of the cycle.
        evaluate: called without arguments after the last update. Then no batches are kept out.
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
        """Yield batches to train on until the cycle is over, and then those that were kept out.

        Args:
            one_pass: returns the batches of one pass over the data, in every pass and for every trial the same.
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
        """As of a range test, but not beyond the end of the cycle."""
        return super().upcoming(count if self.trained else min(count, self.length - self.recorded))

    def record(self, loss: Any) -> None:
        """Record the loss of the batch that the last update was computed from."""
        super().record(loss)
        if self._value_at_end is not None and self._stop_reason == "completed":
            self._kept = _checks.scalar("evaluate()", self._value_at_end())

    def _diverged(self) -> bool:
        return super()._diverged() and self.recorded <= self.length

    def trial(self) -> TrialCycle:
        """Return what the trial showed, without a score."""
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
    """Chooses the tops of trials one after the other, and compares them.

    After tops 2^0 and 2^2 times `max_lr`: while the best is the highest, a top 4 times as high; while it is the lowest,
    one half as high; else one between the best and its neighbours, first on the side of the better neighbour.

    Args:
        max_lr: of the sweep.
        trials: number of trials at most.
        value_at_start: value of `evaluate` at the start of the test, or None without `evaluate`.
    """

    max_lr: float
    trials: int
    value_at_start: float | None = None
    made: dict[int, TrialCycle] = field(default_factory=dict)
    _units: tuple[float, float] | None = field(default=None, init=False)
    """By how much the loss of training and the other one fell in the first trial that was completed."""

    def next_top(self) -> int | None:
        """Return the j of the next trial, whose top is max_lr · 2^j, or None if no other trial is to be made."""
        if len(self.made) >= self.trials:
            return None
        for j in FIRST:
            if j not in self.made:
                return j
        best = min(self.made, key=self._rank)
        if self.made[best].score is None:
            # All of them became unstable.
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
    """Return by how much a loss fell, at least a thousandth of its start."""
    return max(start - end, 1e-3 * abs(start)) or 1.0
