"""Several range tests from the same start, for curves that one test leaves too noisy to read."""

from collections.abc import Callable

from cyclr import _checks
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
            the seed changes nothing.
        read_once: whether the data cannot be had a second time, so that one test has to do.

    Raises:
        TypeError, ValueError: what `check` rejects.
    """
    check(seed, repeats)
    results = [run(seed)]
    if seed is not None:
        most = repeats or (1 if read_once else MOST)
        while len(results) < most and (repeats or _unclear(results)):
            results.append(run(seed + len(results)))
            if repeats is None and results[-1] == results[0]:
                return results[0]
    return RangeTestResult.of_repeats(results)


def _unclear(results: list[RangeTestResult]) -> bool:
    return RangeTestResult.of_repeats(results).bounds.status in ("noisy", "flat")
