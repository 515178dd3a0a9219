"""Learning rate, momentum and weight decay by schedules, as a callback."""

from typing import Any

from cyclr import _checks, _names
from cyclr._warn import warn
from cyclr.bounds import Bounds
from cyclr.keras import _attach, _private
from cyclr.keras._callback import FitCallback
from cyclr.keras._length import RunLength
from cyclr.keras._optimizers import check_optimizer
from cyclr.keras._updates import UpdateCounter
from cyclr.keras.schedule import LearningRate
from cyclr.schedules import Schedule
from cyclr.schedules.base import check_schedule


class ScheduleCallback(FitCallback):
    """Schedules for learning rate, momentum and weight decay of any Keras optimizer, for as long as `fit` runs.

    Update t of the optimizer uses `schedule(t)` within the compiled step, also under `steps_per_execution`,
    `jit_compile`, gradient accumulation, loss scaling and several calls of `fit`. The logs of every batch and epoch
    have the values as `learning_rate`, `momentum` and `weight_decay`. Put this callback first in the list, so that all
    others see them. Without arguments it only writes the logs, for an optimizer created with a `LearningRate`. With
    `steps_per_execution`, if data of unknown length ends within a call, the batch log of that call has the values of a
    full call, because Keras does not report how many batches it ran. Updates and epoch logs are right.

    When training ends, the optimizer is a plain one again, with the learning rate of the last update. Checkpoints saved
    during training hold the plain optimizer too: to resume from one, pass the callback again. After an exception Keras
    calls no callback, so the schedules stay attached until the next `fit` with this callback, or until `detach`.

    Args:
        lr: schedule of the learning rate, or the `Bounds` of a range test: `fit` then trains with
            `bounds.schedule(total_steps=...)` for the updates that the optimizer will have made when it ends. For a
            cycle of this `fit` only on a model that was trained before, pass start_step=0.
        momentum: schedule of `momentum` in SGD, Muon and RMSprop (created with one), of `beta_1` in Adam, AdamW,
            Adamax, Lamb, Lion and Nadam, of `rho` in Adadelta and RMSprop (created without momentum).
        weight_decay: schedule of the (decoupled) weight decay, which Keras multiplies by the learning rate.
        start_step: step of the schedules that the next update uses, ≥ 0; by default the optimizer's own count of
            updates. Use it to resume from weights only, because the optimizer then counts from 0 again (see
            `LearningRate`). The next update is counted when `fit` starts, before a `BackupAndRestore` in the list
            restores a later one.

    Warns:
        UserWarning: once, if `fit` is longer or shorter than a schedule of a stated length (`Schedule.total_steps`):
            when training starts, or when it ends if the number of updates is not known before. A run that is split
            over several calls of `fit` is reported as shorter at most in the first of them. Also if `fit` starts at its
            first epoch with bounds and an optimizer that has made updates, so that their cycle starts in its middle.

    Raises:
        TypeError, ValueError: an argument that is not a schedule, or not a step. When training starts: a model without
            an optimizer, an optimizer with a schedule of its own or without momentum, bounds without a known number of
            updates. During training: another callback that sets the same hyperparameter.
        BoundsError: bounds without numbers.

    Example:
        >>> import cyclr
        >>> from cyclr.keras import ScheduleCallback
        >>> cycle = cyclr.OneCycle(0.01, 0.1, total_steps=1000)
        >>> callback = ScheduleCallback(lr=cycle, momentum=cycle.mirrored(0.85, 0.95))

    Source: Smith 2018, *A disciplined approach to neural network hyper-parameters*, arXiv:1803.09820.
    """

    async_safe = True
    """Keras does not need to wait for the device after every batch."""

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
        """The bounds of a schedule whose length is not known before `fit`."""
        if isinstance(lr, Bounds):
            lr.schedule(total_steps=3)  # raises if there are no numbers
            self._bounds, lr = lr, None
        self._schedules = _given(lr=lr, momentum=momentum, weight_decay=weight_decay)
        self.start_step = None if start_step is None else _checks.integer("start_step", start_step, at_least=0)
        self._offset = 0
        self._last_model: Any = None
        """What `model` is, which waits for the device on JAX when it is read."""
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
        """Replace schedules from the next update on, also during `fit`. Those that are not given stay.

        The step continues: the next update t uses `lr(t)`. If the new schedule is to start at its own step 0 at update
        n, pass `cyclr.Sequence([old, new], lengths=[n])`.

        Raises:
            TypeError: an argument that is not a schedule. Nothing is changed then.
            ValueError: while attached, an optimizer that cannot use the schedules. Nothing is changed then.
        """
        schedules = {**self._schedules, **_given(lr=lr, momentum=momentum, weight_decay=weight_decay)}
        # Steps that were compiled with the old schedules must not be used again, so no earlier attachment is passed.
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
            # An optimizer that the schedules were not attached to yet. Its count is read as `fit` finds it, before
            # another callback restores the backup of an interrupted run.
            self._counted = None
            start = self.start_step
            self._offset = 0 if start is None or optimizer is None else start - _private.updates_done(optimizer)

    def attach(self, model: Any) -> None:
        """Attach the schedules to a model outside `fit`, for `train_on_batch`, until `detach` or another model."""
        if self._bounds is not None:
            raise ValueError(_NO_LENGTH.format(received="attach(), which knows no length"))
        self.set_model(model)
        self._attach(model, self._schedules, self._attachment)
        self._attached_by_hand = True

    def detach(self) -> None:
        """Make the optimizer a plain one again, with the learning rate of the last update, if anything is attached."""
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
        """Raise if the optimizer has a schedule of its own that is not the one given."""
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
            "ScheduleCallback(lr=...) must be the only one to set the learning rate, but the optimizer was made "
            f"with a {type(own).__name__} of its own. {advice} a number, such as keras.optimizers.SGD(0.01)."
        )

    def _values(self, update: int) -> dict[str, float]:
        # The optimizer's own schedule may have been replaced by `change_schedule`.
        own = _private.rate(self._counted)
        values = {"learning_rate": own.schedule(update + own.start_step)} if isinstance(own, LearningRate) else {}
        return values | {name: schedule(update + self._offset) for name, schedule in self._logged.items()}

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        model = self.model
        self._check_start()
        if not self._attached_by_hand:
            self._attach(model, self._schedules, self._attachment)
        has_rate = self._sets_rate or not _private.has_settable_rate(model.optimizer)
        self._updates.restart(must_update=has_rate or bool(self._schedules))
        self._updates.begin_epoch()
        self._length.restart()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        model = self.model
        if not self._is_attached():
            _attach.detach(model)
            raise ValueError(
                "ScheduleCallback must be the only one of its kind that is attached to an optimizer, but another one "
                "took its place, or the model was compiled again with another optimizer. Pass all schedules to one "
                "callback, ScheduleCallback(lr=..., momentum=...), and detach() what was attached by hand."
            )
        # Another callback may have restored a backup since `start_step` was counted from the updates found.
        found = None if self.start_step is None else self.start_step - self._offset
        if found is not None and (done := _private.updates_done(model.optimizer)) < found:
            self._counted = None
            _attach.detach(model)
            raise ValueError(
                f"start_step={self.start_step} was meant for the update after the {found} that the optimizer had "
                f"made, but a backup brought it back to {done} of them. Pass the callback that the run started with, "
                "or start with the model as it was then."
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
            received = "data of unknown length without steps_per_epoch=, or a model with a train_step of its own"
            raise ValueError(_NO_LENGTH.format(received=received))
        total, first = planned + self._offset, _private.updates_done(self.model.optimizer) + self._offset
        schedule = bounds.schedule(total_steps=total)
        if self.start_step is None and first > 0 and epoch == 0:
            warn(
                f"the optimizer has made {first} updates before this fit, so the cycle has {total} updates, and starts "
                f"at update {first}, at a learning rate of {schedule(first):.3g}. For a cycle of this fit only, write "
                "ScheduleCallback(bounds, start_step=0). Ignore this if the fit continues a run."
            )
        self.change(lr=schedule)
        self._bounds = None

    def _followed(self) -> list[tuple[Schedule, int]]:
        """Return the schedules that the run follows, each with the number added to the optimizer's count."""
        own = _private.rate(self._counted)
        followed = [(own.schedule, own.start_step)] if isinstance(own, LearningRate) else []
        return [*followed, *((schedule, self._offset) for schedule in self._logged.values())]

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._attachment is None:
            raise ValueError(
                "ScheduleCallback must be attached before the first batch; got on_train_batch_begin without "
                "on_train_begin. In a loop of your own call attach(model) before it and detach() after it."
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
            # TensorBoard reads the optimizer, which would return the rate of the next update.
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
    "ScheduleCallback(lr=bounds) needs a fit whose number of updates is known when it starts; got {received}. Pass "
    "ScheduleCallback(lr=bounds.schedule(total_steps=...))."
)


def _given(**schedules: Schedule | None) -> dict[str, Schedule]:
    given = {name: schedule for name, schedule in schedules.items() if schedule is not None}
    for name, schedule in given.items():
        check_schedule(name, schedule)
    return given
