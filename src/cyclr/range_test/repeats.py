"""The range test that all adapters share: its arguments, the repeats for a noisy curve, and the trial cycles."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from cyclr import _checks
from cyclr._warn import warn
from cyclr.bounds import Bounds
from cyclr.bounds.curve import MIN_POINTS
from cyclr.range_test.driver import RangeTest, Spacing
from cyclr.range_test.progress import ProgressLine, Verbose, is_shown
from cyclr.range_test.refine import ABOVE, BELOW, KEPT_MOST, SLOWER, Search, TrialTest, budget, plan
from cyclr.range_test.result import RangeTestResult
from cyclr.schedules import Run
from cyclr.schedules.run import total_of

MOST = 4
"""Largest number of tests if `repeats` is None."""

_NOT_OF_ONE_TEST = ("repeats", "seed", "total_steps", "refine", "verbose")


@dataclass(frozen=True)
class Sweep:
    """The arguments that the range tests of all frameworks share. They are checked at construction.

    Args:
        min_lr, max_lr, steps, spacing, stop_factor, smoothing, updates_per_rate: as for `RangeTest`.
        repeats: number of tests from the same start, ≥ 1. None repeats the test, up to `MOST` tests in total, while the
            status is `"noisy"` or `"flat"`, because noise may also cause `"flat"`.
        seed: seed of the first test, ≥ 0. Further tests use seed + 1, seed + 2, …. None sets no seed and makes one
            test.
        total_steps: length of the training run for which the bounds are, as an int or a `Run`, or None if unknown.
        refine: largest number of updates to spend on a second, slower sweep and on trial cycles, 0 or at least 50. None
            means 5 % of the run if this is at least 600 updates, and otherwise 0.
        verbose: as for `ProgressLine`.

    Raises:
        TypeError, ValueError: an argument is out of range, several repeats have no seed, or refine is given without
            total_steps.
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
    total_steps: int | Run | None = None
    refine: int | None = None
    verbose: Verbose = "auto"

    def __post_init__(self) -> None:
        self.test()
        is_shown(self.verbose)
        count = 1 if self.repeats is None else _checks.integer("repeats", self.repeats, at_least=1)
        if self.seed is not None:
            _checks.integer("seed", self.seed, at_least=0, at_most=2**128)
        elif count > 1:
            raise ValueError(f"seed must be an integer if repeats are to differ; got seed=None, repeats={count}.")
        if self.total_steps is not None:
            total_of(self.total_steps)
        if self.refine is not None:
            _checks.integer("refine", self.refine, at_least=0, fix="It counts optimizer updates.")
            if 0 < self.refine < SLOWER:
                raise ValueError(
                    f"refine must be 0 or at least {SLOWER} updates, because fewer show nothing; got "
                    f"refine={self.refine}."
                )
            if self.total_steps is None:
                raise ValueError(
                    f"refine must come with the length of the run; got refine={self.refine} without total_steps. Pass "
                    "total_steps=..., the optimizer updates of the whole run."
                )

    def test(self, evaluate: Callable[[], Any] | None = None) -> RangeTest:
        """Return a new range test with these arguments. `evaluate` is as for `RangeTest`."""
        arguments = {name: value for name, value in vars(self).items() if name not in _NOT_OF_ONE_TEST}
        return RangeTest(**arguments, evaluate=evaluate, restores=True)

    def measure(
        self,
        drive: Callable[[RangeTest, bool], object],
        evaluate: Callable[[], Any] | None = None,
        *,
        read_once: bool = False,
    ) -> RangeTestResult:
        """Run one test and return its result.

        Both a broken batch and a learning rate that is too high spoil the weights. A test that is in doubt is therefore
        repeated from its start in careful mode: the training state is copied before every update, and is restored while
        the test is in doubt. Tests in which all losses are finite need no copies.

        Args:
            drive: function `drive(test, careful)` that runs a test from the start until the test has stopped, and then
                restores everything. If `careful` is False, it also ends a test that is in doubt.
            evaluate: as for `RangeTest`.
            read_once: True if the data can be read only once. The test is then careful from the start, because it
                cannot be repeated.
        """
        test = self.test(evaluate)
        drive(test, read_once)
        if test.in_doubt and not read_once:
            test = self.test(evaluate)
            drive(test, True)
        return test.result()

    def run(
        self,
        drive: Callable[[int | None, RangeTest, bool], object],
        evaluate: Callable[[], Any] | None = None,
        *,
        read_once: bool = False,
        on_step: Callable[[RangeTest], object] | None = None,
    ) -> RangeTestResult:
        """Run the range test with its repeats and, if total_steps is given, its trial cycles.

        Args:
            drive: function `drive(seed, test, careful)` that runs a test with a seed, otherwise as for `measure`. For a
                `TrialTest` it takes the batches from `test.batches`.
            evaluate, read_once: as for `measure`.
            on_step: function that is called with the running test after every update.

        Raises:
            ValueError: the test is to be refined, but the data can be read only once.
        """
        with ProgressLine(self.verbose) as line:

            def followed(name: str, seed: int | None, test: RangeTest, careful: bool) -> None:
                number = 1 + (seed or 0) - (self.seed or 0)
                line.follow(test, name if number == 1 else f"{name} {number}")
                if on_step is not None:
                    test.followers.append(on_step)
                drive(seed, test, careful)

            return self._run(followed, evaluate, read_once)

    def _run(
        self,
        drive: Callable[[str, int | None, RangeTest, bool], object],
        evaluate: Callable[[], Any] | None,
        read_once: bool,
    ) -> RangeTestResult:
        def repeated(sweep: Sweep, name: str) -> RangeTestResult:
            return sweep.repeated(
                lambda seed: sweep.measure(partial(drive, name, seed), evaluate, read_once=read_once),
                read_once=read_once,
            )

        if self.total_steps is None:
            return repeated(self, "range test")
        total_steps = total_of(self.total_steps)
        updates = budget(self.refine, total_steps)
        if updates and read_once:
            raise ValueError(
                f"refine must be 0 for data that can be read only once; got {updates} updates, which need the same "
                "batches again. Pass data that can be read again, or refine=0."
            )
        trials, length, left = plan(updates, total_steps, KEPT_MOST if evaluate is None else 0)
        result = repeated(self, "range test")
        try:
            if left >= SLOWER:
                result = _clearer(result, repeated(self._slower(result.bounds, left), "second sweep"))
        except KeyboardInterrupt:
            warn("the second sweep was interrupted, so the bounds come from the first sweep.")
            trials = 0
        numbers = result.bounds.numbers
        if not trials or numbers is None:
            return replace(result, total_steps=total_steps)
        search = Search(numbers[1], trials, None if evaluate is None else result.curve.start)
        while (j := search.next_top()) is not None:
            cycle = TrialTest(search.max_lr * 2.0**j, length, evaluate)
            try:
                drive(f"trial up to {cycle.top:.2g}", self.seed, cycle, bool(result.left_out))
            except KeyboardInterrupt:
                search.add(j, replace(cycle.trial(), kept=None, ended="interrupted"))
                break
            search.add(j, cycle.trial())
        return replace(result, total_steps=total_steps, trials=tuple(search.made.values()))

    def _slower(self, bounds: Bounds, updates: int) -> "Sweep":
        """Return a sweep of `updates` updates around the bounds, or over the whole range if the bounds are None."""
        steps = max(updates // self.updates_per_rate, 2)
        if bounds.max_lr is None:
            return replace(self, steps=steps, repeats=1)
        low, high = max(self.min_lr, bounds.max_lr / BELOW), min(self.max_lr, bounds.max_lr * ABOVE)
        return replace(self, min_lr=low, max_lr=high, steps=steps, repeats=1)

    def repeated(self, once: Callable[[int | None], RangeTestResult], *, read_once: bool = False) -> RangeTestResult:
        """Run the repeats and return one combined result.

        With `repeats=None`, the first result is returned if a further test gives an equal result, because the seed then
        changes nothing. A test that a bad batch ended early is discarded if the shortened curve would no longer give
        bounds. Further tests may follow.

        Args:
            once: function that runs the test with a seed and restores everything.
            read_once: True if the data can be read only once. `repeats=None` then makes one test.
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


def _clearer(first: RangeTestResult, second: RangeTestResult) -> RangeTestResult:
    """Return the second result, unless the first has bounds and the status of the second is not `"ok"`."""
    return second if second.bounds.status == "ok" or not first.bounds.usable else first


def _would_lose_bounds(combined: RangeTestResult, result: RangeTestResult) -> bool:
    """Return True if the combined result, cut to the length of a further result, would no longer give bounds."""
    n = result.lr.size
    if n < MIN_POINTS:
        return True
    lr, loss, runs = combined.lr[:n], combined.loss[:n], combined.runs[:, :n]
    shortened = replace(combined, lr=lr, loss=loss, runs=runs, stop_reason=result.stop_reason)
    return combined.bounds.usable and not shortened.bounds.usable
