"""Compares the length of a run with the lengths of its schedules."""

import keras

from cyclr._warn import warn
from cyclr.keras import _private
from cyclr.schedules import Schedule


class RunLength:
    """Warns for a callback if `fit` is longer or shorter than a schedule, once for every length of a schedule.

    A run may be split over several calls of `fit`. Therefore a `fit` that ends before its schedule is reported only if
    it is the first one, or if it ends earlier than planned. It is not reported if it ends at the end of a cycle.
    """

    def __init__(self, callback: keras.callbacks.Callback) -> None:
        self._callback = callback
        self._compared: set[int] = set()
        self.restart()

    def restart(self) -> None:
        """Call when training starts."""
        self.knows_start = False
        self.planned: int | None = None
        """Number of updates that the optimizer will have made when `fit` ends, or None if it is not known before."""

    def begin_epoch(self, epoch: int) -> None:
        """Call when an epoch starts. In the first epoch of a `fit`, compute the planned number of updates."""
        if self.knows_start:
            return
        model, params = self._callback.model, self._callback.params or {}
        self.knows_start, self._first = True, _private.updates_done(model.optimizer)
        steps, epochs = params.get("steps"), params.get("epochs")
        # A custom training step may make any number of updates.
        if steps and epochs and type(model).train_step is keras.Model.train_step:
            batches = _private.batches_seen(model.optimizer) + steps * (epochs - epoch)
            self.planned = batches // _private.accumulation(model.optimizer)

    def compare_planned(self, followed: list[tuple[Schedule, int]]) -> None:
        """Compare schedules with the planned number of updates. Each has its offset from the optimizer's count."""
        if self.planned is not None:
            self._compare(followed, self.planned, "has")

    def compare_done(self, followed: list[tuple[Schedule, int]]) -> None:
        """Compare schedules with the number of updates made. Call when training ends."""
        model = self._callback.model
        # Loss scaling may have skipped updates.
        is_exact = _private.inner(model.optimizer) is model.optimizer
        if self.planned is None or is_exact or model.stop_training:
            self._compare(followed, _private.updates_done(model.optimizer), "ended after")

    def _compare(self, followed: list[tuple[Schedule, int]], updates: int, has: str) -> None:
        goes_as_planned = self.planned in (None, updates)
        for schedule, offset in followed:
            total, end = schedule.total_steps, updates + offset
            if total is None or end in (0, total) or total in self._compared:
                continue
            if end < total and goes_as_planned and self.knows_start and self._first + offset > 0:
                continue
            if end < total and schedule.is_cycle_end(end - 1):
                continue
            self._compared.add(total)
            rest = (
                "Later updates use the last value of the schedule,"
                if end > total
                else "The run ends in the middle of the schedule, at the value"
            )
            goes_on = "" if end > total else " Ignore this if another fit continues the run."
            optimizer = self._callback.model.optimizer
            if end > total and self.knows_start and self._first + offset > 0 and _private.has_settable_rate(optimizer):
                goes_on = (
                    f" The optimizer made {self._first + offset} of these updates before this fit. To start the "
                    "schedule with this fit, pass a new ScheduleCallback(schedule, start_step=0)."
                )
            warn(
                f"the schedule has total_steps={total}, but the run {has} {end} updates. {rest} "
                f"{schedule(end - 1):.3g}. Write total_steps={end}, or train for {total} updates.{goes_on}",
            )
