"""A callback that calls a function at the end of every cycle."""

from collections.abc import Callable
from typing import Any

from cyclr import _checks
from cyclr.keras import _attach, _private
from cyclr.keras._callback import FitCallback
from cyclr.keras._length import RunLength
from cyclr.keras._updates import UpdateCounter
from cyclr.keras.auto_cycle import AutoCycle
from cyclr.keras.schedule import LearningRate
from cyclr.keras.schedule_callback import ScheduleCallback
from cyclr.schedules import Schedule
from cyclr.schedules.base import check_schedule


class CycleEnd(FitCallback):
    """Call a function at every minimum that ends a cycle: for checkpoints, evaluation or an ensemble of snapshots.

    The function is called after the update at the minimum and before the next one, so it sees the weights of that
    update. With an `AutoCycle` before it in the list, the step is that of the run, which never goes back. It is not
    called for an update that was undone.

    Args:
        fn: called with the model and the step, the number of that update, from 0.
        schedule: the schedule whose cycles are meant (see `Schedule.is_cycle_end`). By default, the schedule of the
            `AutoCycle` in the list, or of the `LearningRate` that the optimizer was created with.

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

    def __init__(self, fn: Callable[[Any, int], object], schedule: Schedule | None = None) -> None:
        super().__init__()
        if schedule is not None:
            check_schedule("schedule", schedule)
        self._fn = _checks.function("fn", fn, "of the model and the step")
        self._given = schedule
        self._optimizer: Any = None
        self._auto: AutoCycle | None = None
        self._updates = UpdateCounter(self)
        self._length = RunLength(self)
        self._start_step = 0
        self._last_step = -1

    @property
    def _sets_rate(self) -> bool:
        return False

    def _followed(self) -> Schedule | None:
        """Return the schedule whose cycles are meant, which `change_schedule` may have replaced."""
        own = _private.rate(self._optimizer)
        return own.schedule if self._given is None and isinstance(own, LearningRate) else self._given

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        model = self.model
        self._check_start()
        self._optimizer = model.optimizer
        self._auto = self._auto_cycle()
        if self._auto is None and self._followed() is None:
            raise ValueError(
                "CycleEnd must know whose cycles are meant; the optimizer was made without a cyclr.keras.LearningRate. "
                "Pass CycleEnd(fn, schedule)."
            )
        if model.steps_per_execution > 1:
            raise ValueError(
                f"CycleEnd needs steps_per_execution=1; got steps_per_execution={model.steps_per_execution}, which "
                "runs past a minimum before any callback is called."
            )
        self._last_step = -1
        self._updates.restart()
        self._begin_epoch()
        self._length.restart()

    def _auto_cycle(self) -> AutoCycle | None:
        """Return the `AutoCycle` that counts the steps of this `fit`, or None. It must have counted before this one."""
        callbacks = _private.callbacks_of_fit()
        for number, other in enumerate(callbacks):
            if not isinstance(other, AutoCycle):
                continue
            if self in callbacks[:number] or self._given is not None:
                received = "CycleEnd(fn, schedule)" if self._given is not None else "it before"
                raise ValueError(
                    "CycleEnd must come after AutoCycle in callbacks, which counts the steps and has the schedule; got "
                    f"{received}. Write callbacks=[auto, CycleEnd(fn)]."
                )
            return other
        return None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._begin_epoch()
        self._length.begin_epoch(epoch)
        self._length.compare_planned(self._compared())

    def _begin_epoch(self) -> None:
        self._optimizer = self.model.optimizer
        # Every ScheduleCallback in the list has attached its schedules by now.
        own, attachment = _private.rate(self._optimizer), _attach.attached(self._optimizer)
        offset = 0 if attachment is None else attachment.offset
        self._start_step = own.start_step if isinstance(own, LearningRate) else offset
        self._updates.begin_epoch()

    def _compared(self) -> list[tuple[Schedule, int]]:
        """Return the schedule whose length is compared with that of the run, unless another does so."""
        followed = self._followed()
        is_done = any(isinstance(other, ScheduleCallback | AutoCycle) for other in _private.callbacks_of_fit())
        return [] if followed is None or is_done else [(followed, self._start_step)]

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._auto is None:
            self._updates.begin_batch(batch)
        elif self._auto.auto is not None:
            self._last_step = self._auto.auto.last_step

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        followed = self._followed()
        if self._auto is not None:
            self._after_auto_cycle()
            return
        for update in self._updates.end_batch_updates(batch):
            step = update + self._start_step
            is_end = followed is not None and step != self._last_step and followed.is_cycle_end(step)
            if is_end and self._updates.made(update):
                self._last_step = step
                self._fn(self.model, step)

    def _after_auto_cycle(self) -> None:
        auto = self._auto and self._auto.auto
        if auto is not None and auto.last_step != self._last_step and auto.is_cycle_end:
            self._fn(self.model, auto.last_step)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._auto is None:
            self._updates.end_epoch()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._length.compare_done(self._compared())
