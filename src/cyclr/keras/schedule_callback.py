"""A callback that sets the learning rate, the momentum and the weight decay by schedules."""

from typing import Any

import keras

from cyclr import _checks, _names
from cyclr._warn import warn
from cyclr.bounds import Bounds
from cyclr.keras import _attach, _private
from cyclr.keras._callback import FitCallback
from cyclr.keras._length import RunLength
from cyclr.keras._optimizers import check_optimizer
from cyclr.keras._updates import UpdateCounter
from cyclr.keras.schedule import LearningRate, retrace
from cyclr.schedules import Schedule
from cyclr.schedules.base import check_schedule


class ScheduleCallback(FitCallback):
    """Schedules for learning rate, momentum and weight decay of any Keras optimizer, for as long as `fit` runs.

    Update t of the optimizer uses `schedule(t)` inside the compiled step. This also holds with `steps_per_execution`,
    `jit_compile`, gradient accumulation and loss scaling, and over several calls of `fit`.

    The logs of every batch and epoch contain the values as `learning_rate`, `momentum` and `weight_decay`. Put this
    callback first in the list, so that all other callbacks receive these logs. Without arguments it only writes the
    logs, for an optimizer created with a `LearningRate`. If data of unknown length ends within a call of
    `steps_per_execution` batches, the batch log shows the values of a full call, because Keras does not report how many
    batches it ran. The updates and the epoch logs are still correct.

    When training ends, the optimizer is a plain optimizer again, with the learning rate of the last update. Checkpoints
    saved during training also contain the plain optimizer: pass the callback again when you resume from a checkpoint.
    After an exception Keras calls no callback, so the schedules stay attached until the next `fit` with this callback,
    or until you call `detach`.

    Args:
        lr: schedule of the learning rate, or the `Bounds` of a range test. With `Bounds`, `fit` trains with
            `bounds.schedule(total_steps=...)`, where `total_steps` is the optimizer's number of updates at the end of
            `fit`. If the model was trained before and the cycle is for this `fit` only, pass start_step=0.
        momentum: schedule of `momentum` in SGD, Muon and RMSprop (created with momentum), of `beta_1` in Adam, AdamW,
            Adamax, Lamb, Lion and Nadam, of `rho` in Adadelta and RMSprop (created without momentum).
        weight_decay: schedule of the (decoupled) weight decay, which Keras multiplies by the learning rate.
        start_step: step of the schedules in the next update, ≥ 0; by default the optimizer's number of updates. Use it
            to resume from weights only, because then the optimizer counts from 0 again (see `LearningRate`). The number
            of updates is read when `fit` starts, before a `BackupAndRestore` in the list restores a backup.

    Warns:
        UserWarning: once, if `fit` is longer or shorter than a schedule with a `Schedule.total_steps`. The warning
            comes when training starts, or when training ends if the number of updates is not known before. If a run is
            split over several calls of `fit`, at most the first call is reported as too short. Another warning comes
            with bounds if `fit` starts at its first epoch, but the optimizer has already made updates, because the
            first learning rate is then in the middle of the cycle.

    Raises:
        TypeError, ValueError: an argument that is not a schedule, or not a step. When training starts: a model without
            an optimizer; lr for an optimizer that was created with another schedule; momentum for an optimizer without
            momentum; bounds without a known number of updates. During training: another callback that sets the same
            hyperparameter.
        BoundsError: bounds without numbers.

    Example:
        >>> import cyclr
        >>> from cyclr.keras import ScheduleCallback
        >>> cycle = cyclr.OneCycle(0.01, 0.1, total_steps=1000)
        >>> callback = ScheduleCallback(lr=cycle, momentum=cycle.mirrored(0.85, 0.95))

    Source: Smith 2018, *A disciplined approach to neural network hyper-parameters*, arXiv:1803.09820.
    """

    async_safe = True
    """True: Keras does not need to wait for the device after every batch."""

    @_names.hinted
    def __init__(
        self,
        lr: Schedule | Bounds | None = None,
        momentum: Schedule | None = None,
        weight_decay: Schedule | None = None,
        *,
        start_step: int | None = None,
    ) -> None:
        super().__init__()
        self._bounds: Bounds | None = None
        """Bounds that become a schedule in `fit`, which knows the length."""
        if isinstance(lr, Bounds):
            lr.schedule(total_steps=3)  # raises if the bounds have no numbers
            self._bounds, lr = lr, None
        self._schedules = _given(lr=lr, momentum=momentum, weight_decay=weight_decay)
        self.start_step = None if start_step is None else _checks.integer("start_step", start_step, at_least=0)
        self._offset = 0
        self._last_model: Any = None
        """The same as `model`. On JAX, reading `model` waits for the device."""
        self._counted: Any = None
        self._logged: dict[str, Schedule] = {}
        self._attachment: _attach.Attachment | None = None
        self._attached_by_hand = False
        self._updates = UpdateCounter(self)
        self._length = RunLength(self)

    @property
    def _sets_rate(self) -> bool:
        return "lr" in self._schedules or self._bounds is not None

    def change(
        self, lr: Schedule | None = None, momentum: Schedule | None = None, weight_decay: Schedule | None = None
    ) -> None:
        """Replace the given schedules from the next update on, also during `fit`, and keep the others.

        The step continues: the next update t uses `lr(t)`. To start the new schedule at its step 0 in update n, pass
        `cyclr.Sequence([old, new], lengths=[n])`.

        Raises:
            TypeError: an argument that is not a schedule. Nothing is changed then.
            ValueError: while attached, an optimizer that cannot use the schedules. Nothing is changed then.
        """
        schedules = {**self._schedules, **_given(lr=lr, momentum=momentum, weight_decay=weight_decay)}
        # No earlier attachment is passed, because its compiled step contains the old schedules.
        if self._is_attached():
            self._attach(self.model, schedules)
        else:
            self._schedules, self._attachment = schedules, None

    def set_model(self, model: Any) -> None:
        if model is not self._last_model:
            self.detach()
        super().set_model(model)
        self._last_model = model
        optimizer = getattr(model, "optimizer", None)
        if optimizer is None or optimizer is not self._counted:
            # The schedules were not attached to this optimizer before. Its counter is read now, before another callback
            # restores the backup of an interrupted run.
            self._counted = None
            start = self.start_step
            self._offset = 0 if start is None or optimizer is None else start - _private.updates_done(optimizer)

    def attach(self, model: Any) -> None:
        """Attach the schedules to a model outside `fit`, for `train_on_batch`.

        They stay attached until you call `detach`, or use this callback for another model.
        """
        if self._bounds is not None:
            raise ValueError(_NO_LENGTH.format(received="attach(), which is outside of fit"))
        self.set_model(model)
        self._attach(model, self._schedules, self._attachment)
        self._attached_by_hand = True

    def detach(self) -> None:
        """Make the optimizer a plain optimizer again, with the learning rate of the last update.

        If nothing is attached, do nothing.
        """
        self._attached_by_hand = False
        if not self._is_attached():
            return
        model = self.model
        _attach.detach(model)
        last = _private.updates_done(model.optimizer) + self._offset - 1
        if "lr" in self._schedules and last >= 0 and _private.has_settable_rate(model.optimizer):
            model.optimizer.learning_rate = self._schedules["lr"](last)

    def _is_attached(self) -> bool:
        attachment = self._attachment
        return attachment is not None and _attach.attached(self._last_model.optimizer) is attachment

    def _attach(self, model: Any, schedules: dict[str, Schedule], earlier: _attach.Attachment | None = None) -> None:
        optimizer: Any = getattr(model, "optimizer", None)
        check_optimizer("ScheduleCallback", optimizer)
        if _private.has_weights(model) and not optimizer.built:
            _private.build(optimizer, model)
        self._counted = optimizer
        names = {"lr": "learning_rate", "weight_decay": "weight_decay"}
        if "momentum" in schedules:
            names["momentum"] = _attach.momentum_name(optimizer)
        given = {names[name]: schedules[name] for name in names if name in schedules}
        if not _private.has_settable_rate(optimizer):
            self._check_optimizer_schedule(_private.rate(optimizer), given.pop("learning_rate", None))
        self._logged = {"momentum" if name in _attach.MOMENTUM_NAMES else name: given[name] for name in given}
        self._schedules = schedules
        self._attachment = _attach.attach(model, given, self._offset, earlier)

    def _check_optimizer_schedule(self, own: Any, given: Schedule | None) -> None:
        """Raise if the optimizer was created with a schedule that differs from the given one."""
        known = isinstance(own, LearningRate)
        if given is None or (known and own.schedule == given and own.start_step == self._offset):
            return
        advice = "Compile with"
        if known:
            advice = (
                "The two schedules or their start_step differ, for instance after change_schedule. Pass "
                "ScheduleCallback() without lr, or compile with"
            )
        raise ValueError(
            "ScheduleCallback(lr=...) cannot set the learning rate of an optimizer that was created with a schedule; "
            f"got {type(own).__name__}. {advice} a number, such as keras.optimizers.SGD(0.01)."
        )

    def _values(self, update: int) -> dict[str, float]:
        # Read every time, because `change_schedule` may have replaced the optimizer's schedule.
        own = _private.rate(self._counted)
        values = {"learning_rate": own.schedule(update + own.start_step)} if isinstance(own, LearningRate) else {}
        return values | {name: schedule(update + self._offset) for name, schedule in self._logged.items()}

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        model = self.model
        self._check_start()
        if not self._attached_by_hand:
            self._attach(model, self._schedules, self._attachment)
        own = _private.rate(model.optimizer)
        is_replaced = isinstance(own, LearningRate) and not own.compiled and _private.updates_done(model.optimizer) > 0
        if is_replaced and keras.backend.backend() != "torch" and not model.run_eagerly:
            # Keras keeps a compiled step when a schedule is assigned to the optimizer, and with it the old schedule.
            retrace(model)
        has_rate = self._sets_rate or not _private.has_settable_rate(model.optimizer)
        self._updates.restart(must_update=has_rate or bool(self._schedules))
        self._updates.begin_epoch()
        self._length.restart()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        model = self.model
        if not self._is_attached():
            _attach.detach(model)
            raise ValueError(
                "the schedules of this ScheduleCallback are not attached any more: another ScheduleCallback replaced "
                "them, or the model was compiled again with another optimizer. Pass all schedules to one callback, "
                "ScheduleCallback(lr=..., momentum=...), and call detach() on one that you attached by hand."
            )
        # Another callback may have restored a backup since training started.
        found = None if self.start_step is None else self.start_step - self._offset
        if found is not None and (done := _private.updates_done(model.optimizer)) < found:
            self._counted = None
            _attach.detach(model)
            raise ValueError(
                f"start_step={self.start_step} was given for an optimizer with {found} updates; got an optimizer with "
                f"{done} updates, which a backup restored. Pass the callback that the run started with, or start "
                "with the model as it was then."
            )
        self._length.begin_epoch(epoch)
        if self._bounds is not None:
            self._follow_bounds(self._bounds, epoch)
        self._show(None)
        self._updates.begin_epoch()
        self._length.compare_planned(self._followed())

    def _follow_bounds(self, bounds: Bounds, epoch: int) -> None:
        planned = self._length.planned
        if planned is None:
            received = "data of unknown length without steps_per_epoch=, or a model with a custom train_step"
            raise ValueError(_NO_LENGTH.format(received=received))
        total, first = planned + self._offset, _private.updates_done(self.model.optimizer) + self._offset
        schedule = bounds.schedule(total_steps=total)
        if self.start_step is None and first > 0 and epoch == 0:
            warn(
                f"the optimizer made {first} updates before this fit, so the cycle has {total} updates, and this fit "
                f"starts at update {first} of it, at a learning rate of {schedule(first):.3g}. For a cycle of this fit "
                "only, write ScheduleCallback(bounds, start_step=0). Ignore this if the fit continues a run."
            )
        self.change(lr=schedule)
        self._bounds = None

    def _followed(self) -> list[tuple[Schedule, int]]:
        """Return the schedules of this run, each with its offset: step = the optimizer's count + offset."""
        own = _private.rate(self._counted)
        followed = [(own.schedule, own.start_step)] if isinstance(own, LearningRate) else []
        return [*followed, *((schedule, self._offset) for schedule in self._logged.values())]

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._attachment is None:
            raise ValueError(
                "ScheduleCallback must be attached before the first batch; got on_train_batch_begin without "
                "on_train_begin. In your own training loop, call attach(model) before the loop and detach() after it."
            )
        if self._bounds is not None:
            raise ValueError(_NO_LENGTH.format(received="on_train_batch_begin without on_epoch_begin"))
        self._updates.begin_batch(batch)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None:
            logs.update(self._values(self._updates.end_batch(batch)))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        done = self._updates.end_epoch()
        if done > 0 and logs is not None:
            values = self._values(done - 1)
            logs.update(values)
            # TensorBoard reads the optimizer, which would otherwise return the learning rate of the next update.
            self._show(values.get("learning_rate"))

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._show(None)
        self._length.compare_done(self._followed())
        if not self._attached_by_hand:
            self.detach()

    def _show(self, rate: float | None) -> None:
        if self._attachment is not None:
            self._attachment.shown = rate


_NO_LENGTH = (
    "ScheduleCallback(lr=bounds) needs a fit with a known number of updates; got {received}. Pass "
    "ScheduleCallback(lr=bounds.schedule(total_steps=...))."
)


def _given(**schedules: Schedule | None) -> dict[str, Schedule]:
    given = {name: schedule for name, schedule in schedules.items() if schedule is not None}
    for name, schedule in given.items():
        check_schedule(name, schedule)
    return given
