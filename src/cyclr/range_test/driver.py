"""The range test for any training loop: it gives the learning rate of every update and records the loss."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cyclr import _checks, _names
from cyclr.bounds.curve import LARGEST, MIN_POINTS
from cyclr.bounds.smoothing import RunningMean
from cyclr.errors import RangeTestError
from cyclr.range_test import conditions
from cyclr.range_test.non_finite import NonFinite
from cyclr.range_test.result import (
    MOST_STEPS,
    MOST_UPDATES,
    STOPPED_BECAUSE,
    RangeTestResult,
    StopReason,
)

Spacing = Literal["exponential", "linear"]

SKIPPED_AT_MOST = 100
"""Most updates in a row that loss scaling may skip. Each skipped update halves the loss scale, which starts at 2^15
(Keras) or 2^16 (torch)."""

BROKEN_AT_MOST = 10
"""Most batches in a row that count as broken if their loss is NaN or infinite. After more, the learning rate is the
cause."""


def learning_rates(min_lr: float, max_lr: float, steps: int, spacing: Spacing = "exponential") -> NDArray[np.float64]:
    """Return the `steps` learning rates of a sweep. The first is exactly min_lr, and the last is exactly max_lr.

    With f = i / (steps − 1), learning rate i is min_lr · (max_lr / min_lr)^f if the spacing is exponential, and
    min_lr + (max_lr − min_lr) · f if it is linear.
    """
    low = _checks.number("min_lr", min_lr, above=0, fix="A sweep starts at a tiny learning rate, such as 1e-6.")
    low, high = _checks.bounds(low, max_lr, base="min_lr", top="max_lr")
    count = _checks.integer("steps", steps, at_least=2, at_most=MOST_STEPS)
    _checks.choice("spacing", spacing, ("exponential", "linear"))
    space = np.geomspace if spacing == "exponential" else np.linspace
    rates = np.asarray(space(low, high, count), dtype=np.float64)
    if not np.all(np.diff(rates) > 0):
        raise ValueError(
            f"max_lr must be far enough above min_lr for {count} different learning rates; got min_lr={min_lr!r}, "
            f"max_lr={max_lr!r}, steps={steps!r}. Use a wider range or fewer steps."
        )
    return rates


def divergence_threshold(initial: float, best: float, factor: float, noise: float = 0.0) -> float:
    """Return the smoothed loss above which a test has diverged, by the formula of `RangeTest`.

    If the loss has not fallen much, the threshold is the usual `factor · best`. If the loss has fallen to nearly 0 or
    below 0, the threshold depends on the fall, so that noise around a tiny minimum does not count as divergence. If the
    loss starts near 0, such as the loss of a critic, the threshold depends on the noise. Multiplying all losses by a
    constant does not change the update at which the test stops.
    """
    return best + (factor - 1.0) * max(abs(best), initial - best, noise)


class RangeTest:
    """A learning-rate range test for your own training loop.

    Iterate over the test to get the learning rate of the next update. After the update, record the loss of the batch
    from which the update was computed. The test ends at the last learning rate, when the smoothed loss has diverged, or
    if the loss is NaN or infinite for more than 10 batches in a row. Your loop must restore the model afterwards.
    `for lr in tqdm(test)` shows a progress bar.

    A NaN or infinite loss is not recorded. The test is then `in_doubt`, and the next batch gets the same learning rate.
    If the loss of one of the next 10 batches is finite, the batches before that batch were broken: they are left out,
    and the reason of the bounds names them. Otherwise the learning rate was too high, and the test ends. A broken batch
    spoils the weights. While the test is in doubt, restore the weights from before the broken update, or skip updates
    whose loss is not finite.

    Args:
        min_lr: first learning rate, > 0.
        max_lr: last learning rate, > min_lr.
        steps: number of learning rates, 2 to 10,000,000. Each is used for `updates_per_rate` optimizer updates.
        spacing: `"exponential"` (equal ratios) or `"linear"` (equal differences).
        stop_factor: a number > 1, or None to continue even if the loss diverges. The test has diverged when, after at
            least 12 losses, the smoothed loss is above best + (stop_factor − 1) · max(|best|, initial − best, noise).
            initial is the first smoothed loss, best is the lowest smoothed loss, and noise is the median difference of
            neighbours among the first 12 losses.
        smoothing: momentum of the running mean that smooths the loss to detect divergence, in [0, 1).
        updates_per_rate: updates made at every learning rate, 1 to 1,000,000. The mean of their losses is recorded. If
            the test ends before the last of these updates, nothing is recorded for this learning rate.
        evaluate: function without arguments that is called after the last update at every learning rate. Its value,
            such as the loss on validation data, is recorded instead of the losses of the batches. Lower values must be
            better: return 1 − accuracy instead of an accuracy. A NaN or infinite value ends the test. The noise of
            values from one validation set cannot be estimated from neighbours: look at the plot before you use such
            bounds.
        restores: True if your loop restores the weights while the test is `in_doubt`. If False, a NaN or infinite loss
            that ends the test gives no upper bound, unless the loss rose before.

    Attributes:
        tested: a dict for `RangeTestResult.tested`. Add what you test: `test.tested["model"] = "MLP"`. The result also
            contains the versions of Python and cyclr, and the date.

    Raises:
        TypeError, ValueError: an argument is out of range.
        RangeTestError: `record` is not called exactly once for every learning rate.

    Example:
        >>> import cyclr
        >>> test = cyclr.RangeTest(min_lr=1e-3, max_lr=10.0, steps=50)
        >>> weight = 1.0
        >>> for lr in test:
        ...     loss, gradient = weight**2, 2 * weight
        ...     weight -= lr * gradient
        ...     test.record(loss)
        >>> result = test.result()
        >>> result.stop_reason
        'diverged'

    Source: Smith 2017, arXiv:1506.01186, section 3.3.
    """

    @_names.hinted
    def __init__(
        self,
        min_lr: float = 1e-6,
        max_lr: float = 10.0,
        steps: int = 150,
        spacing: Spacing = "exponential",
        *,
        stop_factor: float | None = 4.0,
        smoothing: float = 0.9,
        updates_per_rate: int = 1,
        evaluate: Callable[[], Any] | None = None,
        restores: bool = False,
    ) -> None:
        self._restores = restores
        self.tested: dict[str, Any] = {}
        self.learning_rates = learning_rates(min_lr, max_lr, steps, spacing)
        self._rates: list[float] = self.learning_rates.tolist()
        self.spacing: Spacing = spacing
        self.updates_per_rate = _checks.integer("updates_per_rate", updates_per_rate, at_least=1, at_most=MOST_UPDATES)
        self._evaluate = None if evaluate is None else _checks.function("evaluate", evaluate, "that returns a number")
        self._stop_factor = None if stop_factor is None else _checks.number("stop_factor", stop_factor, above=1)
        self._mean = RunningMean(_checks.number("smoothing", smoothing, at_least=0, below=1))
        self._initial = self._smoothed = self._noise = math.nan
        self._best = math.inf
        self._losses: list[float] = []
        self._pending_losses: list[float] = []
        """Losses at the current learning rate, fewer than `updates_per_rate`."""
        self._pending_update = False
        """True if a learning rate was given whose loss is not yet recorded."""
        self.updates = 0
        """Number of updates so far, including updates that were left out."""
        self._doubts: list[NonFinite] = []
        self._left_out: list[NonFinite] = []
        self._ended_by: NonFinite | None = None
        self._stop_reason: StopReason | None = None
        self.followers: list[Callable[[RangeTest], object]] = []
        """Functions that are called with the test after every update."""

    def __len__(self) -> int:
        """Return the number of learning rates of a test that runs to its end."""
        return len(self.learning_rates)

    def __iter__(self) -> Iterator[float]:
        return self

    def __next__(self) -> float:
        if self._stop_reason is not None:
            raise StopIteration
        if self._pending_update:
            raise RangeTestError(
                f"record(loss) was not called for learning rate number {len(self._losses)}. Call it after every "
                "update, with the loss of the batch."
            )
        self._pending_update = True
        return self._rates[len(self._losses)]

    def upcoming(self, count: int) -> NDArray[np.float64]:
        """Return the learning rates of the next `count` updates, or of fewer at the end of the test.

        Use it in a loop that makes several updates in one call.
        """
        made = len(self._pending_losses)
        first = len(self._losses)
        rates = self.learning_rates[first : first + -(-(made + count) // self.updates_per_rate)]
        return np.repeat(rates, self.updates_per_rate)[made : made + count]

    def record(self, loss: Any) -> None:
        """Record the loss of the batch from which the last update was computed.

        The loss is ignored if the test was stopped during this update.

        Args:
            loss: a number, or an array or tensor of one element.

        Raises:
            RangeTestError: no learning rate was taken from the test before.
            TypeError: the loss is not a number.
        """
        if not self._pending_update:
            raise RangeTestError(
                "record(loss) was called before a learning rate was taken. Iterate over the test: for lr in test: ..."
            )
        value = loss if type(loss) is float else _checks.scalar("loss", loss)
        self._pending_update = False
        if self._stop_reason is None:
            self._add(value)
        for follower in self.followers:
            follower(self)

    def _add(self, value: float) -> None:
        """Add the loss of an update."""
        self.updates += 1
        if not math.isfinite(value):
            self._record_non_finite(value)
            return
        self._leave_out_doubts()
        self._pending_losses.append(value)
        if len(self._pending_losses) < self.updates_per_rate:
            return
        if self._evaluate is not None:
            value = _checks.scalar("evaluate()", self._evaluate())
        elif self.updates_per_rate > 1:
            # Divide first, because the sum of losses may overflow even if their mean does not.
            value = math.fsum(value / self.updates_per_rate for value in self._pending_losses)
        self._pending_losses = []
        if not math.isfinite(value):
            self._end_by(self._non_finite("evaluate()", value))
            return
        self._losses.append(value)
        if self._diverged():
            self._stop_reason = "diverged"
        elif len(self._losses) == len(self):
            self._stop_reason = "completed"

    def end_by_gradients(self) -> None:
        """End the test because loss scaling skips an update at every scale: its gradients are NaN or infinite."""
        if self._stop_reason is None:
            self.updates += 1
            self._end_by(self._non_finite("gradients", math.nan))

    def _record_non_finite(self, value: float) -> None:
        met = self._non_finite("loss", value)
        if len(self._doubts) < BROKEN_AT_MOST:
            self._doubts.append(met)
        else:
            self._end_by(replace(self._doubts[0], proven=self._restores))

    def _non_finite(self, source: Literal["loss", "evaluate()", "gradients"], value: float) -> NonFinite:
        text: Any = "NaN" if math.isnan(value) else f"{value}"
        return NonFinite(self.updates - 1, self._rates[len(self._losses)], text, source)

    def _end_by(self, met: NonFinite) -> None:
        self._ended_by, self._doubts = met, []
        self._stop_reason = "non_finite"

    def _leave_out_doubts(self) -> None:
        self._left_out += self._doubts
        self._doubts = []

    def _diverged(self) -> bool:
        """Smooth the last loss. Return True if the test has diverged, which needs at least `MIN_POINTS` losses."""
        recorded = len(self._losses)
        self._smoothed = self._mean.update(min(max(self._losses[-1], -LARGEST), LARGEST))
        self._best = min(self._best, self._smoothed)
        if recorded == 1:
            self._initial = self._smoothed
        if recorded == MIN_POINTS:
            self._noise = float(np.median(np.abs(np.diff(np.clip(self._losses, -LARGEST, LARGEST)))))
        return recorded >= MIN_POINTS and self._is_above_threshold(self._smoothed)

    def _is_above_threshold(self, loss: float) -> bool:
        if self._stop_factor is None:
            return False
        return loss > divergence_threshold(self._initial, self._best, self._stop_factor, self._noise)

    def stop(self, reason: StopReason) -> None:
        """Stop the test early: `"data_exhausted"` if the data ended, `"interrupted"` for another reason."""
        _checks.choice("reason", reason, ("data_exhausted", "interrupted"))
        if self._stop_reason is None:
            self._stop_reason = reason
            if self._doubts:
                self._ended_by, self._doubts = replace(self._doubts[0], proven=False), []

    @property
    def in_doubt(self) -> bool:
        """True after a NaN or infinite loss, until later losses show if the batch was broken."""
        return bool(self._doubts)

    @property
    def stopped(self) -> bool:
        """True if the test is over."""
        return self._stop_reason is not None

    @property
    def recorded(self) -> int:
        """Number of learning rates for which a loss was recorded."""
        return len(self._losses)

    @property
    def last(self) -> tuple[float, float]:
        """The last learning rate for which a loss was recorded, and this loss. Both are NaN before the first loss."""
        return (self._rates[len(self._losses) - 1], self._losses[-1]) if self._losses else (math.nan, math.nan)

    @property
    def smoothed_loss(self) -> float:
        """The running mean of the losses so far, or NaN before the first loss."""
        return self._smoothed

    def result(self) -> RangeTestResult:
        """Return the recorded losses with the bounds read from them.

        If the test has not ended, `stop_reason` is `"interrupted"`.

        Raises:
            RangeTestError: no loss was recorded.
        """
        if not self._losses:
            why = f" ({STOPPED_BECAUSE[self._stop_reason]})" if self._stop_reason else ""
            met = self._ended_by or next(iter(self._left_out + self._doubts), None)
            raise RangeTestError(
                f"a result needs at least one finite loss; got none{why}{f': {met}' if met else ''}. "
                "Check that the data has batches and that the loss of the untrained model is finite."
            )
        return RangeTestResult(
            lr=self.learning_rates[: len(self._losses)],
            loss=np.array(self._losses),
            stop_reason=self._stop_reason or "interrupted",
            min_lr=float(self.learning_rates[0]),
            max_lr=float(self.learning_rates[-1]),
            steps=len(self),
            spacing=self.spacing,
            updates_per_rate=self.updates_per_rate,
            left_out=tuple(self._left_out),
            ended_by=self._ended_by,
            tested={**self.tested, **conditions.environment()},
        )
