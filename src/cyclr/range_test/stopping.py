"""When a range test is over: pure functions of the losses so far."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from cyclr.bounds.curve import MIN_POINTS

StopReason = Literal["completed", "diverged", "non_finite", "data_exhausted", "interrupted"]

IN_WORDS: dict[str, str] = {
    "completed": "every learning rate was tried",
    "diverged": "the loss left its lowest value far behind",
    "non_finite": "the loss became infinite or NaN",
    "data_exhausted": "the data ended",
    "interrupted": "the test was stopped before its end",
}


def divergence_threshold(initial: float, best: float, factor: float, noise: float = 0.0) -> float:
    """The smoothed loss above which a test has diverged: best + (factor − 1) · max(|best|, initial − best, noise).

    For a loss that has not fallen much this is the usual `factor · best`. A loss that has fallen far, to near 0 or
    below, is measured against how far it fell, so that noise around a tiny minimum is no divergence; one that starts
    near 0, such as a critic's, against its noise. Scaling a loss does not make the test stop elsewhere.

    Args:
        initial: smoothed loss of the first point.
        best: lowest smoothed loss so far.
        factor: > 1.
        noise: how much losses differ from their neighbours, ≥ 0.
    """
    return best + (factor - 1.0) * max(abs(best), initial - best, noise)


def typical_step(losses: Sequence[float]) -> float:
    """Median difference of neighbours in the losses that come before a test can have diverged."""
    return float(np.median(np.abs(np.diff(losses[:MIN_POINTS]))))


def is_unstable(reason: StopReason) -> bool:
    """Whether it was training itself that ended the test."""
    return reason in ("diverged", "non_finite")


def is_non_finite(loss: float) -> bool:
    """Whether a loss is NaN or infinite."""
    return not math.isfinite(loss)
