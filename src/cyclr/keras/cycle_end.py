"""A callback that calls a function at the end of every cycle."""

from collections.abc import Callable
from typing import Any

from cyclr import _checks, _names
from cyclr.keras._cycle_callback import CycleCallback
from cyclr.schedules import Schedule


class CycleEnd(CycleCallback):
    """Call a function at every minimum that ends a cycle: for checkpoints, evaluation or an ensemble of snapshots.

    The function is called after the update at the minimum and before the next update, so the model has the weights of
    the minimum. If an `AutoCycle` comes before this callback in the list, the step is the step of the run, which never
    decreases, and the function is not called for an update that was undone.

    Args:
        fn: function that is called with the model and the step (the number of the update, from 0).
        schedule: the schedule that defines the cycles (see `Schedule.is_cycle_end`). By default, the schedule of the
            `AutoCycle` or `ScheduleCallback` in the list, or of the `LearningRate` that the optimizer was created with.

    Warns:
        UserWarning: `fit` is longer or shorter than the schedule, as for `ScheduleCallback`. If an `AutoCycle` or
            `ScheduleCallback` is in the list, only that callback warns.

    Raises:
        TypeError: fn is not a function, or schedule is not a schedule.
        ValueError: when training starts: no schedule is found; an `AutoCycle` comes later in the list, or is used
            together with `schedule`; or `steps_per_execution` > 1, so that one call would run past the minimum.

    Example:
        >>> import cyclr
        >>> from cyclr.keras import CycleEnd
        >>> cycle = cyclr.Cyclical(0.001, 0.006, step_size=2000)
        >>> keep = CycleEnd(lambda model, step: model.save(f"snapshot-{step}.keras"), cycle)

    Source: Huang et al. 2017, *Snapshot Ensembles*, arXiv:1704.00109.
    """

    _with_schedule, _without_schedule = "fn, schedule", "fn"

    @_names.hinted
    def __init__(self, fn: Callable[[Any, int], object], schedule: Schedule | None = None) -> None:
        super().__init__(schedule)
        self._fn = _checks.function("fn", fn, "of the model and the step")

    def _is_due(self, step: int, is_end: Callable[[], bool]) -> bool:
        return is_end()

    def _act(self, step: int, lr: float) -> None:
        self._fn(self.model, step)
