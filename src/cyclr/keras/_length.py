"""Compares the length of a run with the lengths of the schedules that it follows."""

import keras

from cyclr._warn import warn
from cyclr.keras import _private
from cyclr.schedules import Schedule


class RunLength:
    """Warns if `fit` is longer or shorter than its schedules, once for every stated length, for a callback.

    A run may be split over several calls of `fit`. Only in the first one, or if it ends early, a shorter run is
    reported: a later one may be followed by another. A run that ends early at the end of a cycle is not reported.
    """

    def __init__(self, callback: keras.callbacks.Callback) -> None:
        self._callback = callback
        self._compared: set[int] = set()
        self.restart()

    def restart(self) -> None:
        """Call when training starts."""
        self.knows_start = False
        self.planned: int | None = None
        """Updates of the optimizer when `fit` ends; None if they are not known before."""

    def begin_epoch(self, epoch: int) -> None:
        """Call when an epoch starts. The first one of a `fit` tells the planned number of updates."""
        if self.knows_start:
            return
        model, params = self._callback.model, self._callback.params or {}
        self.knows_start, self._first = True, _private.updates_done(model.optimizer)
        steps, epochs = params.get("steps"), params.get("epochs")
        # A training step of the user's own may make any number of updates.
        if steps and epochs and type(model).train_step is keras.Model.train_step:
            batches = _private.batches_seen(model.optimizer) + steps * (epochs - epoch)
            self.planned = batches // _private.accumulation(model.optimizer)

    def compare_planned(self, followed: list[tuple[Schedule, int]]) -> None:
        """Compare schedules with the planned number of updates. Each has the number added to the optimizer's count."""
        if self.planned is not None:
            self._compare(followed, self.planned, "has")

    def compare_done(self, followed: list[tuple[Schedule, int]]) -> None:
        """Compare schedules with the updates done. Call when training ends."""
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
            rest = "The updates after that use its last value" if end > total else "The run ends in the middle of it"
            goes_on = "" if end > total else " Ignore this if another fit continues the run."
            optimizer = self._callback.model.optimizer
            if end > total and self.knows_start and self._first + offset > 0 and _private.has_settable_rate(optimizer):
                goes_on = (
                    f" The optimizer made {self._first + offset} of them before this fit. To start the schedule with "
                    "this fit, pass a new ScheduleCallback(schedule, start_step=0)."
                )
            warn(
                f"the schedule has total_steps={total}, and the run {has} {end} updates. {rest}, "
                f"{schedule(end - 1):.3g} at the end. Write total_steps={end}, or train for {total} updates.{goes_on}",
            )
