"""Several range tests from the same start, for curves that one test leaves too noisy to read."""

from collections.abc import Callable
from dataclasses import replace

from cyclr import _checks
from cyclr.bounds.curve import MIN_POINTS
from cyclr.range_test.result import RangeTestResult

MOST = 4
"""Tests made at most of a noisy curve, where their number is not given."""


def check(seed: int | None, repeats: int | None) -> None:
    """Raise unless the seed is None or ≥ 0, and repeats None or ≥ 1; several repeats need a seed to differ by.

    Raises:
        TypeError, ValueError: anything else.
    """
    count = 1 if repeats is None else _checks.integer("repeats", repeats, at_least=1)
    if seed is not None:
        _checks.integer("seed", seed, at_least=0)
    elif count > 1:
        raise ValueError(f"seed must be an integer where repeats are to differ; got seed=None, repeats={count}.")


def repeated(
    run: Callable[[int | None], RangeTestResult], seed: int | None, repeats: int | None, *, read_once: bool = False
) -> RangeTestResult:
    """The result of `run(seed)`, `run(seed + 1)`, …, as one.

    Args:
        run: makes a range test and leaves everything as it was.
        seed: of the first test, ≥ 0, or None.
        repeats: how many tests, ≥ 1. None makes more than one only while the bounds are `"noisy"` or the loss `"flat"`,
            which may be noise too, and `MOST` at most. A second that equals the first is thrown away, and is the last:
            the seed changes nothing. So is one that ended so early, by a bad batch, that nothing could be read off
            the others as far as it goes; it is not the last.
        read_once: whether the data cannot be had a second time, so that one test has to do.

    Raises:
        TypeError, ValueError: what `check` rejects.
    """
    check(seed, repeats)
    first = run(seed)
    if seed is None:
        return first
    if repeats is not None:
        return RangeTestResult.of_repeats([first, *(run(seed + more) for more in range(1, repeats))])
    results, sofar = [first], first
    for more in range(1, 1 if read_once else MOST):
        if sofar.bounds.status not in ("noisy", "flat"):
            break
        result = run(seed + more)
        if result == first:
            return first
        if not _hides(result, sofar):
            results.append(result)
            sofar = RangeTestResult.of_repeats(results)
    return sofar


def _hides(result: RangeTestResult, sofar: RangeTestResult) -> bool:
    """Whether what is known so far, cut to where a further result ends, could no longer be read."""
    n = result.lr.size
    if n < MIN_POINTS:
        return True
    cut = replace(sofar, lr=sofar.lr[:n], loss=sofar.loss[:n], runs=sofar.runs[:, :n], stop_reason=result.stop_reason)
    return sofar.bounds.usable and not cut.bounds.usable
