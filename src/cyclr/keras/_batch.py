"""The values of one batch, out of a framework that reports running means."""

from typing import Any

import keras


class BatchValues:
    """Makes one batch's logs hold that batch's own loss and metrics, then puts the running means back.

    Keras logs the mean over the epoch so far. Before a batch every mean is set to empty, so that what is logged for it
    is its own value, exactly; afterwards the sums are added up again, so that epoch logs and progress bars stay what
    they were. Metrics that are no means (such as AUC) are left alone and keep their running value.
    """

    def __init__(self) -> None:
        self._sums: list[tuple[Any, Any, Any]] = []

    def begin(self, model: Any) -> None:
        """Call before the batch."""
        to_numpy = keras.ops.convert_to_numpy
        # A metric may be listed twice.
        unique = {id(metric): metric for metric in _leaves(model.metrics)}.values()
        self._sums = [
            (metric, to_numpy(metric.total) * 1, to_numpy(metric.count) * 1)
            for metric in unique
            if isinstance(metric, keras.metrics.Mean)
        ]
        for metric, _, _ in self._sums:
            metric.reset_state()

    def end(self, model: Any, logs: dict[str, Any]) -> dict[str, Any]:
        """Call after the batch: returns its own values, and turns `logs` into running means for other callbacks."""
        own = {name: _plain(value) for name, value in logs.items()}
        for metric, total, count in self._sums:
            metric.total.assign(metric.total + total)
            metric.count.assign(metric.count + count)
        running = model.get_metrics_result()
        logs.update({name: _plain(running[name]) for name in logs if name in running})
        self._sums = []
        return own

    def end_epoch(self, logs: dict[str, Any]) -> None:
        """Call when an epoch ends: where the length of the data is not known, a batch may begin that never comes.

        The means are then still empty, or hold what validation left in them; their own sums give the epoch's logs.
        """
        for metric, total, count in self._sums:
            metric.total.assign(total)
            metric.count.assign(count)
            if metric.name in logs:
                logs[metric.name] = _plain(metric.result())
        self._sums = []


def _plain(value: Any) -> Any:
    """A value as Keras logs it: a number, or an array of those of a metric that has several, such as F1Score."""
    if isinstance(value, float):
        return value
    array = keras.ops.convert_to_numpy(value)
    return float(array.item()) if array.size == 1 else array


def _leaves(metrics: list[Any]) -> list[Any]:
    """The metrics themselves, out of the container that `compile(metrics=...)` makes of them."""
    leaves: list[Any] = []
    for metric in metrics:
        parts = getattr(metric, "metrics", None)
        leaves.extend([metric] if parts is None else _leaves(parts))
    return leaves
