"""The interface of a framework to comparisons: test a model, train it, and record the training."""

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
    """The series of one training, as they grow.

    Attributes:
        total_steps: planned updates.
        metric: the metric that every epoch must have.
        on_step: called after every update with the updates done and `total_steps`.
        on_epoch: called after every epoch with its values, `step` among them.
        forgives: True if the training goes on after a loss that is NaN or infinite.
        lr, loss: of every update: the rate it used, and the loss of its batch before it.
        epochs: at the end of every epoch `step` (updates so far), `loss` (mean of its batches, of the finite ones if
            the training goes on after others), the validation metrics and `seconds` (since the training started).
        events: what AutoCycle did.
        range_test: the range test that AutoCycle started the training with, or None.
        ending: the validation metrics of the ensemble or average of members; empty without one.
        predictions: models that a prediction of the ending costs, or 0 without one.
        diverged: True if a loss was NaN or infinite and ended the training.
    """

    total_steps: int
    metric: str
    on_step: Callable[[int, int], None]
    on_epoch: Callable[[dict[str, float]], None]
    forgives: bool = False
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
        """True if no further update is to be made."""
        return self.diverged or len(self.loss) >= self.total_steps

    def add_step(self, loss: float) -> None:
        """Record an update by the loss of its batch."""
        self.loss.append(loss)
        self.diverged = not (self.forgives or isfinite(loss))
        self.on_step(len(self.loss), self.total_steps)

    def add_epoch(self, metrics: Mapping[str, float]) -> None:
        """Record the end of an epoch, also of a partial last one."""
        self._check(metrics)
        batches = [loss for loss in self.loss[self._epoch_start :] if isfinite(loss) or not self.forgives]
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
        """Record the metrics of the ensemble or average that the training ends in."""
        self._check(metrics)
        self.ending, self.predictions = metrics, predictions

    def _check(self, metrics: Mapping[str, float]) -> None:
        if self.metric not in metrics:
            raise CyclrError(
                f"metric must be one that the trial reports; got metric={self.metric!r}, it reports "
                f"{', '.join(metrics) or 'nothing'}. Choose one of these, or compile a Keras model with metrics=[...]."
            )


class Job(Protocol):
    """A model with its data and optimizer, in one framework."""

    steps_per_epoch: int
    optimizer_name: str
    optimizer_call: str
    batch_shapes: str
    """Shapes of a sample's inputs and targets, in words; `""` if they are not known before a batch is read."""

    def range_test(self, on_step: Callable[[RangeTest], None]) -> RangeTestResult:
        """Run the range test of the trial; the model is left as it was."""

    def train(self, plan: Plan, history: History) -> None:
        """Train until the history is over, and record every update and epoch in it."""


def number_of_batches(workload: str, batches: Any) -> int:
    """Number of batches in training data that is given as batches."""
    try:
        length = len(batches)
    except TypeError:
        length = 0
    if length < 1:
        raise CyclrError(
            f"the training data of {workload} must know how many batches it has, one at least; got a "
            f"{type(batches).__name__} that does not. Return ((x, y), (x_val, y_val)), or an iterable with a length."
        )
    return length


def shapes_of(training: Any) -> str:
    """Return the shapes of a sample's inputs and targets in words, or `""` for iterables of batches."""
    shapes: list[Any] = (
        [getattr(part, "shape", None) for part in training] if isinstance(training, tuple | list) else []
    )
    if len(shapes) != 2 or None in shapes:
        return ""
    return "inputs of shape {} and targets of shape {}".format(*(tuple(shape[1:]) for shape in shapes))
