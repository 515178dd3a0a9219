"""AutoCycle for `fit`: a learning rate that corrects itself, and restores an earlier state if necessary."""

import hashlib
import math
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

import cyclr
from cyclr import _checks, _names
from cyclr._warn import warn
from cyclr.auto import AutoEvent
from cyclr.bounds import Bounds
from cyclr.keras import _attach, _private
from cyclr.keras._auto_files import Files
from cyclr.keras._build import build_in_first_step, can_be_built
from cyclr.keras._length import RunLength
from cyclr.keras._optimizers import optimizers_of
from cyclr.keras._rate_callback import RateCallback
from cyclr.range_test import RangeTestResult
from cyclr.schedules import Run, Schedule
from cyclr.schedules.base import check_schedule
from cyclr.schedules.run import total_of

_USUAL_FAST = (keras.optimizers.SGD, keras.optimizers.Adagrad)


class AutoCycle(RateCallback):
    """A cyclical learning rate that corrects itself during `fit`. You choose no learning rate, no bounds and no length.

    Update t of the run uses factor · schedule(t). The factor is 1 until the loss of the batches shows that the learning
    rate is too high or too low; `cyclr.AutoCycle` makes these decisions and describes them. If it goes back to an
    earlier state, it restores the weights, the optimizer with its counter, and the variables of layers (such as the
    statistics of batch normalization). The data and the step of the run are not reset. A batch whose loss is NaN,
    infinite or an outlier is left out. A loss that is NaN or infinite is also left out of the epoch's mean loss.

    One `fit` is one run. If `total_steps` is given, the run continues over several calls of `fit` until it is over. A
    run without events is the same as a run with `ScheduleCallback(lr=schedule)`, except that the learning rate is
    rounded to `float32`.

    After an exception or Ctrl-C, the optimizer has the learning rate of the last update, and nothing is attached to it.

    Args:
        schedule: a `Schedule`, or the `Bounds` of a range test. By default, the run starts with a range test and then
            restores the initial state. The range test takes a quarter of the updates, at most 150. A run of fewer than
            160 updates has no range test: the highest learning rate of its cycle is 0.01 for SGD and Adagrad, and 0.001
            for every other optimizer, until it is corrected.
        total_steps: number of updates of the whole run, an int or a `Run`, ≥ 3; by default the updates of one `fit`.
        folder: folder for the state from which a killed run is resumed, created if it does not exist. The state is
            written atomically at the end of every epoch, and deleted when the run is over. Also use
            `keras.callbacks.BackupAndRestore`, which restores the model, after this callback in the list.

    Attributes:
        events: all events of the run in order, a tuple of `cyclr.auto.AutoEvent`; empty if nothing was corrected.
        auto: the `cyclr.AutoCycle` that makes the decisions, or None before the first epoch.

    Warns:
        UserWarning: one for each event; or the length of the run differs from the length of the schedule or of `fit`.

    Raises:
        TypeError, ValueError: an argument of another type or out of range. When training starts: a `fit` with an
            unknown number of updates; an optimizer that was created with a schedule; `steps_per_execution` > 1; another
            callback that sets the learning rate; a `ScheduleCallback`; a `folder` with another run than the model's.
            During training: a training step that makes several updates with one batch, or does not log its loss.
        BoundsError: bounds without numbers.
        OSError: `folder` cannot be written.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> from cyclr import Cyclical
        >>> from cyclr.keras import AutoCycle
        >>> keras.utils.set_random_seed(0)
        >>> x = np.linspace(-1, 1, 64, dtype="float32")[:, None]
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        >>> model.compile(keras.optimizers.SGD(), "mse")
        >>> auto = AutoCycle(Cyclical.over(40, 1, 0.01, 0.1))
        >>> history = model.fit(x, 2 * x, epochs=5, batch_size=8, verbose=0, callbacks=[auto])
        >>> auto.auto.last_step, auto.events
        (39, ())

    Source: Smith 2017, *Cyclical learning rates for training neural networks*, arXiv:1506.01186.
    """

    @_names.hinted
    def __init__(
        self,
        schedule: Schedule | Bounds | None = None,
        *,
        total_steps: int | Run | None = None,
        folder: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(only_loss=True, one_update=True)
        if isinstance(schedule, Bounds):
            schedule.schedule(total_steps=3)  # raises if the bounds have no numbers
        elif schedule is not None:
            check_schedule("schedule", schedule)
        self._schedule = schedule
        self._total_steps = None if total_steps is None else total_of(total_steps, at_least=3)
        self._files = None if folder is None else Files(Path(folder))
        self._length = RunLength(self)
        self._model_of_run: Any = None
        self._seen, self._has_loss = 0, False
        self.auto: cyclr.AutoCycle | None = None

    @property
    def events(self) -> tuple[AutoEvent, ...]:
        return self.auto.events if self.auto else ()

    @property
    def range_test(self) -> RangeTestResult | None:
        """The result of the range test that the run started with, or None."""
        return self.auto.range_test if self.auto else None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        super().on_train_begin(logs)
        self._length.restart()
        if self._files is not None:
            self._check_backup()
        if self.auto and (self._total_steps is None or self._is_over or self._model_of_run is not self.model):
            self.auto = None
        if self.auto is not None:
            state = _FitState(self)
            for copied in self.auto.state_dict()["copies"].values():
                if copied is not None and not state.fits(copied):
                    raise ValueError(
                        "AutoCycle must continue a run with the model and optimizer that it started with; got other "
                        "variables, as after compile() with another optimizer. Create an AutoCycle for the rest, with "
                        "total_steps=... of the updates that are left."
                    )

    @property
    def _is_over(self) -> bool:
        return self.auto is not None and self.auto.last_step + 1 >= self.auto.total_steps

    def _check_backup(self) -> None:
        callbacks = _private.callbacks_of_fit()
        for number, other in enumerate(callbacks):
            if not isinstance(other, keras.callbacks.BackupAndRestore):
                continue
            if self in callbacks[number:]:
                raise ValueError(
                    "AutoCycle(folder=...) must come before BackupAndRestore in callbacks; got it after, so a backup "
                    "could be newer than the file of AutoCycle. Write callbacks=[auto, backup]."
                )
            if other.save_freq != "epoch":
                raise ValueError(
                    "AutoCycle(folder=...) can only resume at the end of an epoch, because Keras restarts an epoch at "
                    f'its first batch; got BackupAndRestore(save_freq={other.save_freq!r}). Use save_freq="epoch".'
                )

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._has_loss = False
        attachment = _attach.attached(self.model.optimizer)
        if attachment is not None and attachment.values:
            _attach.detach(self.model)
            raise ValueError(
                "AutoCycle cannot be used with a ScheduleCallback: it may set the optimizer's counter back, which is "
                f"the step of a ScheduleCallback; got one that sets {' and '.join(sorted(attachment.values))}. Take "
                "ScheduleCallback out of callbacks, or call its detach()."
            )
        if self.auto is None:
            self._begin_run(epoch)

    def _begin_run(self, epoch: int) -> None:
        # Another callback may have restored a backup since training started.
        model = self.model
        self._length.begin_epoch(epoch)
        planned = self._length.planned
        left = None if planned is None else planned - _private.updates_done(model.optimizer)
        state = _FitState(self)
        saved = self._saved(state, epoch)
        total = self._total_steps or (saved["total_steps"] if saved else left)
        if total is None:
            raise ValueError(
                "AutoCycle needs a known number of updates; got data of unknown length, or a model with a custom "
                "train_step. Pass steps_per_epoch to fit, or AutoCycle(total_steps=...)."
            )
        fast = isinstance(_private.inner(model.optimizer), _USUAL_FAST)
        auto = cyclr.AutoCycle(total, self._schedule, state=state, usual_lr=0.01 if fast else 0.001)
        if saved:
            now = saved["copies"].pop("now")
            try:
                auto.load_state_dict(saved)
            except ValueError as error:
                reason = str(error).split(". ")[0]
                raise ValueError(
                    f"folder must hold a run that this AutoCycle can continue, but {reason}. Create AutoCycle and call "
                    "fit as in that run, or pass an empty folder to start a new run."
                ) from error
            state.restore(now)
        elif not _private.has_weights(model):
            if not can_be_built(model):
                raise ValueError(
                    "AutoCycle needs a model that is built, to restore its weights; got a model that is not built and "
                    "has no call() to build it with. Call its layers on a batch before fit."
                )
            build_in_first_step(model, then=auto.start)
        self.auto, self._model_of_run = auto, model
        if left is not None and auto.last_step + 1 + left > total:
            warn(
                f"the run has total_steps={total}, but fit makes {left} updates from step {auto.last_step + 1} "
                "on. Updates after the end of the run use its last learning rate. Pass the epochs that the run started "
                "with.",
            )

    def _saved(self, state: "_FitState", epoch: int) -> dict[str, Any] | None:
        """Return the saved state of the run that the model was restored from, or None if nothing matching is saved."""
        if self._files is None:
            return None
        saved = self._files.load(epoch, state.fingerprint(), state.variables())
        if saved is None and epoch > 0 and self._files.paths():
            raise ValueError(
                f"folder must hold the run that the model was restored from, after epoch {epoch}; got "
                f"{', '.join(path.name for path in self._files.paths())}. Restore the model with BackupAndRestore, or "
                "pass an empty folder to start a new run."
            )
        return saved

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self.auto is None:
            raise ValueError(
                "AutoCycle must know the length of the run before its first batch; got on_train_batch_begin without "
                "on_epoch_begin. In your own training loop, use cyclr.AutoCycle."
            )
        self._check_rate()
        # If the model has no weights yet, the training step builds them and starts the run.
        self._begin_batch(self.auto.lr)
        self._seen = _private.batches_seen(self.model.optimizer)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        model, auto = self.model, self.auto
        logs = {} if logs is None else logs
        if auto is None or "loss" not in logs:
            raise ValueError(
                f"AutoCycle needs the loss of every batch; the logs hold {', '.join(sorted(logs)) or 'nothing'}. "
                "Return it as 'loss' from train_step."
            )
        loss = _checks.scalar("logs['loss']", logs["loss"])
        if math.isfinite(loss):
            loss = self._batch.end(model, logs)["loss"]
            self._has_loss = True
        else:
            self._batch.leave_out(logs)
        logs["learning_rate"] = self._rate
        is_scaled = _private.inner(model.optimizer) is not model.optimizer
        made = _private.batches_seen(model.optimizer) != self._seen
        losses = self._updates.gather(loss, last=is_scaled and not made and not math.isfinite(loss))
        if not losses or self._is_over:
            return
        if made:
            auto.step(sum(losses) / len(losses))
        else:
            # Loss scaling has already skipped the update.
            auto.skip(loss)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_epoch_end(epoch, logs)
        if self.auto is None:
            return
        if logs is not None:
            logs["learning_rate"] = self._rate
            if not self._has_loss:
                # Keras logs 0 as the mean if no loss was finite.
                logs["loss"] = math.nan
        if self._files is not None:
            state, saved = _FitState(self), self.auto.state_dict()
            # The current state is saved too, because a backup of weights does not contain the seeds of layers.
            saved["copies"]["now"] = state.copy()
            self._files.save(epoch + 1, state.fingerprint(), saved)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self._files is not None and self._is_over:
            self._files.delete()


class _FitState:
    """The variables that training changes in the model of a callback, except metrics and learning rates."""

    def __init__(self, callback: keras.callbacks.Callback) -> None:
        self._callback = callback

    def variables(self) -> list[Any]:
        model = self._callback.model
        if _private.has_weights(model) and not model.optimizer.built:
            _private.build(model.optimizer, model)
        optimizers = optimizers_of(model, model.optimizer)
        left_out = {id(variable) for variable in model.metrics_variables}
        left_out.update(id(_private.rate(optimizer)) for optimizer in optimizers)
        held = (*model.variables, *(variable for optimizer in optimizers for variable in optimizer.variables))
        return list({id(variable): variable for variable in held if id(variable) not in left_out}.values())

    def copy(self) -> list[NDArray[Any]]:
        # Copied by value, because JAX donates the memory of the variables to the compiled step. TensorFlow returns
        # copies, which `np.require` does not copy again.
        return [
            np.require(keras.ops.convert_to_numpy(variable), requirements=["O", "W"]) for variable in self.variables()
        ]

    def is_finite(self) -> bool:
        return all(np.isfinite(np.asarray(weight)).all() for weight in self._callback.model.trainable_weights)

    def restore(self, copy: list[NDArray[Any]]) -> None:
        for variable, value in zip(self.variables(), copy, strict=True):
            variable.assign(value)

    def check_copy(self, copy: list[NDArray[Any]] | None) -> None:
        if copy is None:
            raise ValueError("it lacks a copy of the model to restore")

    def fits(self, copy: list[NDArray[Any]]) -> bool:
        """Return True if a copy has the shapes of the variables."""
        return [tuple(variable.shape) for variable in self.variables()] == [value.shape for value in copy]

    def fingerprint(self) -> str:
        """Return a hash of the weights and the optimizer's counter, which identifies a saved model."""
        digest = hashlib.sha256()
        model = self._callback.model
        for variable in (*model.weights, _private.counter(model.optimizer)):
            digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable)).tobytes())
        return digest.hexdigest()
