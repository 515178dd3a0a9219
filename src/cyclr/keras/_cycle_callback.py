"""The base class of callbacks that act after some of the updates, such as at the end of every cycle."""

from collections.abc import Callable
from functools import partial
from typing import Any

from cyclr.keras import _attach, _private
from cyclr.keras._callback import FitCallback
from cyclr.keras._length import RunLength
from cyclr.keras._updates import UpdateCounter
from cyclr.keras.auto_cycle import AutoCycle
from cyclr.keras.schedule import LearningRate
from cyclr.keras.schedule_callback import ScheduleCallback
from cyclr.schedules import Schedule
from cyclr.schedules.base import check_schedule


class CycleCallback(FitCallback):
    """Calls `_act` after each update that is due, before the next update.

    The step is the number of the update. If an `AutoCycle` is in the list of callbacks, the step is the step of its
    run. Updates of its range test and updates that it undoes are not due.

    Args:
        schedule: the schedule that defines the cycles. By default, the schedule of the optimizer's `LearningRate`, or
            of the `ScheduleCallback` or `AutoCycle` in the list.
        needs_schedule: False for a callback that needs no cycles.
    """

    _with_schedule, _without_schedule, _or_else = "schedule=schedule", "", ""
    """Parts of the remedy in messages: the arguments with a schedule, the arguments without, and an alternative."""

    def __init__(self, schedule: Schedule | None, *, needs_schedule: bool = True) -> None:
        super().__init__()
        if schedule is not None:
            check_schedule("schedule", schedule)
        self._given = schedule
        self._needs_schedule = needs_schedule
        self._optimizer: Any = None
        self._auto: AutoCycle | None = None
        self._updates = UpdateCounter(self)
        self._length = RunLength(self)
        self._start_step = 0
        self._last_step = -1

    def _is_due(self, step: int, is_end: Callable[[], bool]) -> bool:
        """Return True if `_act` must be called after this update. `is_end()` is True if the update ends a cycle."""
        raise NotImplementedError

    def _act(self, step: int, lr: float) -> None:
        """Act after an update that is due. Receives the step and the learning rate of the update."""
        raise NotImplementedError

    @property
    def _sets_rate(self) -> bool:
        return False

    def _followed(self) -> Schedule | None:
        """Return the schedule that now defines the cycles. `change_schedule` or `change` may have replaced it."""
        own, attachment = _private.rate(self._optimizer), _attach.attached(self._optimizer)
        if self._given is not None:
            return self._given
        if isinstance(own, LearningRate):
            return own.schedule
        return None if attachment is None else attachment.rate

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        model, who = self.model, type(self).__name__
        self._check_start()
        self._optimizer = model.optimizer
        self._auto = self._auto_cycle()
        # A ScheduleCallback later in the list has not attached its schedule yet.
        others = (other for other in _private.callbacks_of_fit() if isinstance(other, ScheduleCallback))
        found = self._auto is not None or self._followed() is not None or any(other._sets_rate for other in others)
        if self._needs_schedule and not found:
            raise ValueError(
                f"{who} needs a schedule with cycles; got an optimizer that was created without a "
                "cyclr.keras.LearningRate, and no ScheduleCallback that sets the learning rate. Add "
                f"ScheduleCallback(schedule) to callbacks. Or pass {who}({self._with_schedule}){self._or_else}."
            )
        if model.steps_per_execution > 1:
            raise ValueError(
                f"{who} needs steps_per_execution=1; got steps_per_execution={model.steps_per_execution}, with which "
                "a call may run past a minimum. Compile with steps_per_execution=1."
            )
        self._last_step = -1
        self._updates.restart()
        self._begin_epoch()
        self._length.restart()

    def _auto_cycle(self) -> AutoCycle | None:
        """Return the `AutoCycle` in the list, or None. Raise if it comes later in the list or a schedule was given."""
        who, callbacks = type(self).__name__, _private.callbacks_of_fit()
        for number, other in enumerate(callbacks):
            if not isinstance(other, AutoCycle):
                continue
            if self in callbacks[:number] or self._given is not None:
                raise ValueError(
                    f"{who} takes the steps and the schedule from AutoCycle, and must come after it in callbacks; got "
                    f"{f'{who}({self._with_schedule})' if self._given is not None else 'it before'}. Write "
                    f"callbacks=[auto, {who}({self._without_schedule})]."
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
        """Return the schedule whose length is compared with the length of the run.

        The list is empty if another callback makes this comparison.
        """
        followed = self._followed()
        is_done = any(isinstance(other, ScheduleCallback | AutoCycle) for other in _private.callbacks_of_fit())
        return [] if followed is None or is_done else [(followed, self._start_step)]

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._auto is None:
            self._updates.begin_batch(batch)
        elif self._auto.auto is not None:
            self._last_step = self._auto.auto.last_step

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._auto is not None:
            self._after_batch_of(self._auto)
            return
        followed = self._followed()
        for update in self._updates.end_batch_updates(batch):
            step = update + self._start_step
            if step == self._last_step:
                continue
            if self._is_due(step, partial(_ends_cycle, followed, step)) and self._updates.made(update):
                self._last_step = step
                self._act(step, _private.number(self._optimizer.learning_rate) if followed is None else followed(step))

    def _after_batch_of(self, callback: AutoCycle) -> None:
        auto = callback.auto
        if auto is None or auto.last_step == self._last_step or auto.undone:
            return
        if self._is_due(auto.last_step, lambda: auto.is_cycle_end):
            self._act(auto.last_step, auto.last_lr)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._auto is None:
            self._updates.end_epoch()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._length.compare_done(self._compared())


def _ends_cycle(schedule: Schedule | None, step: int) -> bool:
    return schedule is not None and bool(schedule.is_cycle_end(step))
