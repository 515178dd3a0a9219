"""The interface that comparisons use for every framework: test a model, train it, and record the training."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite, nan
from typing import Any, Protocol

from cyclr.auto import AutoEvent
from cyclr.errors import CyclrError
from cyclr.experiments.policies import Plan
from cyclr.range_test import RangeTest, RangeTestResult


@dataclass
class History:
    """The recorded series of one training. They grow with every update and epoch.

    Attributes:
        total_steps: planned updates.
        metric: the metric that every epoch must have.
        on_step: called after every update with the updates done and `total_steps`.
        on_epoch: called after every epoch with its values, including `step`.
        lenient: True if the training continues after a loss that is NaN or infinite.
        lr, loss: learning rate of every update, and loss of its batch before the update.
        epochs: values at the end of every epoch: `step` (updates so far), `loss` (mean over the batches of the epoch;
            with `lenient` only over finite losses), the validation metrics, and `seconds` since the training started.
        events: the events of AutoCycle.
        range_test: the range test that AutoCycle made at the start of the training, or None.
        ending: the validation metrics of the ensemble or average of members; empty without an ending.
        predictions: number of models that one prediction of the ending evaluates, or 0 without an ending.
        diverged: True if a loss was NaN or infinite and ended the training.
    """

    total_steps: int
    metric: str
    on_step: Callable[[int, int], None]
    on_epoch: Callable[[dict[str, float]], None]
    lenient: bool = False
    lr: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    epochs: dict[str, list[float]] = field(default_factory=dict)
    diverged: bool = False
    events: tuple[AutoEvent, ...] = ()
    range_test: RangeTestResult | None = None
    ending: Mapping[str, float] = field(default_factory=dict)
    predictions: int = 0
    _started: float = field(default_factory=time.perf_counter)
    _epoch_start: int = 0

    @property
    def is_over(self) -> bool:
        """True after the last update, or if the training diverged."""
        return self.diverged or len(self.loss) >= self.total_steps

    def add_step(self, loss: float) -> None:
        """Record the loss of an update."""
        self.loss.append(loss)
        self.diverged = not (self.lenient or isfinite(loss))
        self.on_step(len(self.loss), self.total_steps)

    def add_epoch(self, metrics: Mapping[str, float]) -> None:
        """Record the metrics at the end of an epoch, which may be a partial last epoch."""
        self._check(metrics)
        batches = [loss for loss in self.loss[self._epoch_start :] if isfinite(loss) or not self.lenient]
        self._epoch_start = len(self.loss)
        values = {
            "step": len(self.loss),
            **metrics,
            "loss": sum(batches) / len(batches) if batches else nan,
            "seconds": round(time.perf_counter() - self._started, 3),
        }
        for name, value in values.items():
            self.epochs.setdefault(name, []).append(value)
        self.on_epoch(values)

    def add_ending(self, metrics: Mapping[str, float], predictions: int) -> None:
        """Record the metrics of the ensemble or average at the end of the training."""
        self._check(metrics)
        self.ending, self.predictions = metrics, predictions

    def _check(self, metrics: Mapping[str, float]) -> None:
        if self.metric not in metrics:
            raise CyclrError(
                f"metric must be a metric that the trial reports; got metric={self.metric!r}, but the trial reports "
                f"{', '.join(metrics) or 'nothing'}. Choose one of these, or compile a Keras model with metrics=[...]."
            )


class Job(Protocol):
    """A model with its data and optimizer, in one framework."""

    steps_per_epoch: int
    optimizer_name: str
    optimizer_call: str
    batch_shapes: str
    """Shapes of a sample's inputs and targets as text; `""` if they are not known before a batch is read."""

    def range_test(self, on_step: Callable[[RangeTest], None]) -> RangeTestResult:
        """Run the range test of the trial. The model is restored afterwards."""

    def train(self, plan: Plan, history: History) -> None:
        """Train until `history.is_over`, and record every update and epoch in `history`."""


def number_of_batches(workload: str, batches: Any) -> int:
    """Return the number of batches in training data that is an iterable of batches."""
    try:
        length = len(batches)
    except TypeError:
        length = 0
    if length < 1:
        raise CyclrError(
            f"the training data of {workload} must have a known length of at least one batch; got a "
            f"{type(batches).__name__} without one. Return ((x, y), (x_val, y_val)), or an iterable with a length."
        )
    return length


def shapes_of(training: Any) -> str:
    """Return the shapes of a sample's inputs and targets as text, or `""` for iterables of batches."""
    shapes: list[Any] = (
        [getattr(part, "shape", None) for part in training] if isinstance(training, tuple | list) else []
    )
    if len(shapes) != 2 or None in shapes:
        return ""
    return "inputs of shape {} and targets of shape {}".format(*(tuple(shape[1:]) for shape in shapes))
