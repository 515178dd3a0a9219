"""A sweep as every adapter takes it: the arguments of a range test, and the repeats of a curve that is noisy."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from cyclr import _checks
from cyclr.bounds.curve import MIN_POINTS
from cyclr.range_test.driver import RangeTest, Spacing
from cyclr.range_test.result import RangeTestResult

MOST = 4
"""Number of tests at most if `repeats` is None."""


@dataclass(frozen=True)
class Sweep:
    """The arguments that the range tests of all frameworks share, checked when it is made.

    Args:
        min_lr, max_lr, steps, spacing, stop_factor, smoothing, updates_per_rate: as for `RangeTest`.
        repeats: number of tests from the same start, ≥ 1. None makes further tests, up to `MOST` in all, while the
            bounds are `"noisy"` or the loss is `"flat"`, which may be noise too.
        seed: seed of the first test, ≥ 0; the others take seed + 1, seed + 2, …. None seeds nothing and makes one test.

    Raises:
        TypeError, ValueError: an argument out of range; several repeats without a seed.
    """

    min_lr: float = 1e-6
    max_lr: float = 10.0
    steps: int = 150
    spacing: Spacing = "exponential"
    stop_factor: float | None = 4.0
    smoothing: float = 0.9
    updates_per_rate: int = 1
    repeats: int | None = None
    seed: int | None = 0

    def __post_init__(self) -> None:
        self.test()
        count = 1 if self.repeats is None else _checks.integer("repeats", self.repeats, at_least=1)
        if self.seed is not None:
            _checks.integer("seed", self.seed, at_least=0)
        elif count > 1:
            raise ValueError(f"seed must be an integer if repeats are to differ; got seed=None, repeats={count}.")

    def test(self, evaluate: Callable[[], Any] | None = None) -> RangeTest:
        """Return a new range test with these arguments; `evaluate` as for `RangeTest`."""
        arguments = {name: value for name, value in vars(self).items() if name not in ("repeats", "seed")}
        return RangeTest(**arguments, evaluate=evaluate, restores=True)

    def measure(
        self,
        drive: Callable[[RangeTest, bool], object],
        evaluate: Callable[[], Any] | None = None,
        *,
        read_once: bool = False,
    ) -> RangeTestResult:
        """Make one test, and return its result.

        A broken batch spoils the weights, and so does a rate that is too high. A test that is in doubt is therefore
        made again from its start, carefully: with a copy of the training state before every update, which is restored
        when the test is in doubt. Tests without a loss that is NaN or infinite need no copies.

        Args:
            drive: `drive(test, careful)` drives a test from the start, until it has stopped or, unless `careful`, is in
                doubt, and then restores everything.
            evaluate: as for `RangeTest`.
            read_once: True if the data can be read only once, so that the test has to be careful at once.
        """
        test = self.test(evaluate)
        drive(test, read_once)
        if test.in_doubt and not read_once:
            test = self.test(evaluate)
            drive(test, True)
        return test.result()

    def run(self, once: Callable[[int | None], RangeTestResult], *, read_once: bool = False) -> RangeTestResult:
        """Make the repeats, and return one result of all.

        With `repeats=None`, a second test that equals the first is discarded and is the last, because the seed changes
        nothing. A test that a bad batch ended early is also discarded if the shortened curve would no longer give
        bounds; further tests may follow.

        Args:
            once: makes the test with a seed, and restores everything.
            read_once: True if the data can be read only once, so that `repeats=None` makes one test.
        """
        first = once(self.seed)
        if self.seed is None:
            return first
        if self.repeats is not None:
            return RangeTestResult.of_repeats([first, *(once(self.seed + more) for more in range(1, self.repeats))])
        results, combined = [first], first
        for more in range(1, 1 if read_once else MOST):
            if combined.bounds.status not in ("noisy", "flat"):
                break
            result = once(self.seed + more)
            if result == first:
                return first
            if not _would_lose_bounds(combined, result):
                results.append(result)
                combined = RangeTestResult.of_repeats(results)
        return combined


def _would_lose_bounds(combined: RangeTestResult, result: RangeTestResult) -> bool:
    """True if the results so far, cut to the length of a further one, would no longer give bounds."""
    n = result.lr.size
    if n < MIN_POINTS:
        return True
    lr, loss, runs = combined.lr[:n], combined.loss[:n], combined.runs[:, :n]
    shortened = replace(combined, lr=lr, loss=loss, runs=runs, stop_reason=result.stop_reason)
    return combined.bounds.usable and not shortened.bounds.usable
