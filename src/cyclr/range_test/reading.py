"""The bounds read from the curve and the trial cycles of a range test, with all notes in their reason."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cyclr.bounds import Bounds
from cyclr.bounds.knee import BEGUN, CUT_SHORT, UNPROVEN, read_bounds, unless_ascent
from cyclr.drawing.picture import Mark
from cyclr.range_test.non_finite import NAMED, words_for_left_out
from cyclr.range_test.trial import apply_trials

if TYPE_CHECKING:
    from cyclr.range_test.result import RangeTestResult

TOO_FAST = 36
"""A test may be too fast if its loss takes at most this many updates from a tenth of its fall to its lowest point. The
best fixed learning rate was above 3 · max_lr in 28 % of 29 such tests on the benchmark's tasks, and in 11 % of 177
other tests (`benchmarks/bounds/too_fast.py`).
"""


@dataclass(frozen=True)
class Reading:
    """The bounds of a range test, and the smoothed losses from which they were read.

    Attributes:
        bounds: the bounds, after trial cycles if there were any.
        loss: the smoothed losses, shape (n,).
        cut: lower and upper limit to which the losses were clipped before smoothing.
    """

    bounds: Bounds
    loss: NDArray[np.float64]
    cut: tuple[float, float]


def read(result: "RangeTestResult") -> Reading:
    """Read the bounds of a result, with notes on its broken batches and on its speed."""
    curve = result.curve
    cut_short = CUT_SHORT if result.stop_reason in ("data_exhausted", "interrupted") else ""
    bounds = read_bounds(
        curve,
        unstable_end=unstable_end(result),
        cut_short=cut_short or ("" if _proven(result) else UNPROVEN),
        updates_per_rate=result.updates_per_rate,
        from_start=result.from_start,
    )
    curve_bounds, reward = unless_ascent(bounds, curve, result.loss)
    bounds = apply_trials(curve_bounds, result.trials)
    read = curve.loss if reward is None else -reward.loss
    cut = (-math.inf, curve.cut) if reward is None else (-reward.cut, math.inf)
    notes = words_for_left_out(result.left_out) if result.left_out else ""
    updates = updates_of_fall(result)
    if bounds.status in ("ok", "no_divergence") and not result.trials and updates <= TOO_FAST:
        slower = math.ceil(2 * TOO_FAST / max(updates, 1) * result.steps / 50) * 50
        notes = (
            f" The loss fell within {updates} updates, so this test may be too fast to show higher "
            f"bounds. Run it with steps={slower}, or with total_steps= and refine=600.{notes}"
        )
    if result.ended_by is not None:
        ended = "The test ended because" if result.stop_reason == "non_finite" else "At its end,"
        notes = f" {ended} {result.ended_by}.{notes}"

    def marked(words: str, lr: float) -> Mark:
        return Mark(words, float(np.interp(lr, result.lr, read)), lr)

    named = [*result.left_out[:NAMED], *([] if result.ended_by is None else [result.ended_by])]
    marks = [marked(f"{met.value} at update {met.update}: {met.lr:.2g}", met.lr) for met in named]
    if curve_bounds.max_lr is not None and curve_bounds.numbers != bounds.numbers:
        marks.insert(0, marked(f"max_lr of the curve: {curve_bounds.max_lr:.3g}", curve_bounds.max_lr))
    return Reading(replace(bounds, reason=bounds.reason + notes, marks=(*bounds.marks, *marks)), read, cut)


def updates_of_fall(result: "RangeTestResult") -> int:
    """Return the number of updates from a tenth of the loss's fall to its lowest point."""
    return (result.curve.lowest - result.curve.reached(BEGUN)) * result.updates_per_rate


def became_unstable(result: "RangeTestResult") -> bool:
    """Return True if the test ended because its loss diverged or was not finite."""
    return result.stop_reason in ("diverged", "non_finite")


def unstable_end(result: "RangeTestResult") -> bool:
    """Return True if a learning rate that is too high ended the test, and not a broken batch."""
    return became_unstable(result) and _proven(result)


def _proven(result: "RangeTestResult") -> bool:
    return result.ended_by is None or result.ended_by.proven
