"""What a comparison asks of a framework: test a model, train it, and write down what happened."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Protocol

from cyclr.experiments.policies import Plan
from cyclr.range_test import RangeTest, RangeTestResult

Tell = Callable[[int, int], None]
"""Called with the steps done and the steps in all."""

TellEpoch = Callable[[dict[str, float]], None]
"""Called with the values at the end of an epoch, `step` among them."""


@dataclass
class History:
    """The series of one training, as they grow.

    Attributes:
        total_steps: updates that are planned.
        lr, loss: of every update: the rate it used, and the loss of its batch before it.
        epochs: at the end of every epoch `step` (updates so far), `loss` (mean of its batches), the validation
            metrics and `seconds` (since the training began).
        diverged: whether a loss was NaN or infinite, which ends the training.
    """

    total_steps: int
    on_step: Tell
    on_epoch: TellEpoch
    lr: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    epochs: dict[str, list[float]] = field(default_factory=dict)
    diverged: bool = False
    _began: float = field(default_factory=time.perf_counter)
    _epoch_start: int = 0

    @property
    def over(self) -> bool:
        """Whether the training has come to its end."""
        return self.diverged or len(self.loss) >= self.total_steps

    def step(self, loss: float) -> None:
        """Note an update by the loss of its batch."""
        self.loss.append(loss)
        self.diverged = not isfinite(loss)
        self.on_step(len(self.loss), self.total_steps)

    def epoch(self, metrics: dict[str, float]) -> None:
        """Note the end of an epoch, a partial last one too."""
        batches = self.loss[self._epoch_start :]
        self._epoch_start = len(self.loss)
        values = {
            "step": len(self.loss),
            **metrics,
            "loss": sum(batches) / max(1, len(batches)),
            "seconds": round(time.perf_counter() - self._began, 3),
        }
        for name, value in values.items():
            self.epochs.setdefault(name, []).append(value)
        self.on_epoch(values)


class Job(Protocol):
    """A model with its data and optimizer, in one framework."""

    steps_per_epoch: int
    optimizer_name: str

    def range_test(self, on_step: Callable[[RangeTest], None]) -> RangeTestResult:
        """Run the range test of the trial; the model is left as it was."""

    def train(self, plan: Plan, history: History) -> None:
        """Train until the history is over; every update and epoch is noted in it."""


def checked_length(reference: str, batches: Any) -> int:
    """Number of batches in training data that is given as batches."""
    from cyclr.errors import CyclrError

    try:
        length = len(batches)
    except TypeError:
        length = 0
    if length < 1:
        raise CyclrError(
            f"the training data of {reference} must know how many batches it has, one at least; got a "
            f"{type(batches).__name__} that does not. Return ((x, y), (x_val, y_val)), or an iterable with a length."
        )
    return length
