"""A callback that calls a function at the end of every cycle."""

from collections.abc import Callable
from typing import Any

from cyclr import _checks, _names
from cyclr.keras._cycle_callback import CycleCallback
from cyclr.schedules import Schedule


class CycleEnd(CycleCallback):
    """Call a function at every minimum that ends a cycle: for checkpoints, evaluation or an ensemble of snapshots.

    The function is called after the update at the minimum and before the next one, so it sees the weights of that
    update. With an `AutoCycle` before it in the list, the step is that of the run, which never goes back. It is not
    called for an update that was undone.

    Args:
        fn: called with the model and the step, the number of that update, from 0.
        schedule: the schedule whose cycles are meant (see `Schedule.is_cycle_end`). By default, the schedule of the
            `AutoCycle` or `ScheduleCallback` in the list, or of the `LearningRate` that the optimizer was created with.

    Warns:
        UserWarning: as `ScheduleCallback`, if there is none in the list.

    Raises:
        TypeError: fn is not a function, or schedule is not a schedule.
        ValueError: when training starts, no schedule is found, an `AutoCycle` is later in the list, or comes with a
            schedule, or `steps_per_execution` > 1, which runs past the minimum.

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
