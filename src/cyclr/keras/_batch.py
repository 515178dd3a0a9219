"""The loss and metrics of single batches. Keras reports only running means."""

from typing import Any

import keras
import numpy as np

from cyclr import _checks
from cyclr.errors import RangeTestError
from cyclr.keras import _private


class BatchValues:
    """Computes the loss and the metrics of one batch, and restores the running means after it.

    Keras logs the mean over the epoch so far. Before a batch the means are emptied, so that Keras logs the value of
    this batch exactly. After the batch the earlier sums are added again, so that epoch logs and progress bars do not
    change. Metrics that are not means (such as AUC) are not touched, and are logged as running values.

    Args:
        only_loss: True if only the loss of the batch is needed. Then only the mean of the loss is emptied, which costs
            less. With a custom `train_step` all means are emptied, because it may log any of them as the loss.
    """

    def __init__(self, *, only_loss: bool = False) -> None:
        self._only_loss = only_loss
        self._sums: list[tuple[Any, float, float]] = []
        self._loss: list[tuple[Any, float, float]] = []

    def begin(self, model: Any) -> None:
        """Call before the batch."""
        # A metric may be listed twice.
        means = {id(metric): metric for metric in _leaves(model.metrics) if isinstance(metric, keras.metrics.Mean)}
        # Copied as numbers, because JAX donates the memory of the variables to the compiled step.
        self._sums = [
            (metric, _private.number(metric.total), _private.number(metric.count)) for metric in means.values()
        ]
        self._loss = []
        if self._only_loss and type(model).train_step is keras.Model.train_step:
            # The count of samples is not emptied, and float32 holds whole numbers exactly up to 2²⁴ only.
            self._loss = [
                part for part in self._sums if part[0].name == "loss" and _is_plain(part[0]) and part[2] < 2**23
            ]
        for metric, _, _ in self._loss:
            metric.total.assign(0.0)
        for metric, _, _ in () if self._loss else self._sums:
            metric.reset_state()

    def end(self, model: Any, logs: dict[str, Any]) -> dict[str, Any]:
        """Call after the batch. Return the values of the batch, and set `logs` to running means for other callbacks."""
        own = {name: _plain(value) for name, value in logs.items()}
        for metric, total_before, count_before in self._loss:
            # NumPy is faster on single values than the operations of a backend.
            total, count = np.float32(_private.number(metric.total)), np.float32(_private.number(metric.count))
            own["loss"] = float(total / (count - np.float32(count_before)))
            total += np.float32(total_before)
            metric.total.assign(total)
            logs["loss"] = float(total / count)
        if not self._loss:
            for metric, total_before, count_before in self._sums:
                metric.total.assign(metric.total + total_before)
                metric.count.assign(metric.count + count_before)
            running = model.get_metrics_result()
            logs.update({name: _plain(running[name]) for name in logs if name in running})
        self._sums = []
        return own

    def leave_out(self, logs: dict[str, Any]) -> None:
        """Call instead of `end` to leave the batch out of the means. Set `logs` to the means before the batch.

        For the first batch of an epoch there are no earlier means, so `logs` stay unchanged.
        """
        for metric, total, count in self._sums:
            metric.total.assign(total)
            metric.count.assign(count)
            if metric.name in logs and count:
                logs[metric.name] = _plain(metric.result())
        self._sums = []

    def end_epoch(self, logs: dict[str, Any]) -> None:
        """Call when an epoch ends. Correct `logs` if data of unknown length ended.

        In this case Keras started a batch without data, so the means are empty, or hold values of the validation.
        """
        self.leave_out(logs)


def monitored(logs: dict[str, Any] | None, name: str) -> float:
    """Return the loss of this name from the logs of a batch. Raise if the logs do not contain it."""
    if not logs or name not in logs:
        names = ", ".join(sorted(logs or {})) or "nothing"
        raise RangeTestError(
            f"monitor must name a loss in the model's logs; got monitor={name!r}. The logs contain {names}."
        )
    return _checks.scalar(f"logs[{name!r}]", logs[name])


def _plain(value: Any) -> Any:
    """Return a value as Keras logs it: a number, or an array if the metric has several values, such as F1Score."""
    if isinstance(value, float):
        return value
    array = keras.ops.convert_to_numpy(value)
    return float(array.item()) if array.size == 1 else array


def _is_plain(metric: Any) -> bool:
    return type(metric) is keras.metrics.Mean and metric.dtype == "float32"


def _leaves(metrics: list[Any]) -> list[Any]:
    """Return the single metrics. `compile(metrics=...)` puts them into a container."""
    leaves: list[Any] = []
    for metric in metrics:
        parts = getattr(metric, "metrics", None)
        leaves.extend([metric] if parts is None else _leaves(parts))
    return leaves
