"""AutoCycle for `fit`: a learning rate that corrects itself, with a way back."""

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
    """A cyclical learning rate that corrects itself during `fit`. It needs no rate, no bounds and no length.

    Update t of the run uses factor · schedule(t). The factor is 1 until the loss of the batches shows that the rate is
    too high or too low: `cyclr.AutoCycle` decides, and has the details. If it goes back, the weights, the optimizer
    with its counter, and what layers keep (such as the statistics of batch normalization) become what they were. The
    data goes on, and so does the step of the run. A batch whose loss is NaN, infinite or an outlier is left out. A loss
    that is NaN or infinite does not enter the means of the epoch either.

    One `fit` is one run, unless `total_steps` is given: then the run continues over calls of `fit` until it is over. A
    calm run is the one with `ScheduleCallback(lr=schedule)`, apart from the rounding of the rate to `float32`.

    After an exception or Ctrl-C the optimizer is a plain one, with the rate of the last update.

    Args:
        schedule: learning rates, or the `Bounds` of a range test. By default the run starts with a range
            test, which is undone: a quarter of the updates, at most 150. A run of fewer than 160 updates starts from
            the usual rate instead: 0.01 for SGD and Adagrad, 0.001 for every other optimizer.
        total_steps: updates of the whole run, an int or a `Run`, ≥ 3; by default those of `fit`.
        folder: folder for what a killed run needs to go on, made if it is missing. It is written at the end of every
            epoch, whole or not at all, and deleted when the run is over. Use it with
            `keras.callbacks.BackupAndRestore`, which restores the model, and comes after this callback in the list.

    Attributes:
        events: everything that happened in the run: a tuple of `cyclr.auto.AutoEvent`. A calm run has none.
        auto: the `cyclr.AutoCycle` that decides, or None before the first epoch.

    Warns:
        UserWarning: one for each event; the run has another length than the schedule or than `fit`.

    Raises:
        TypeError, ValueError: an argument of another type or out of range. When training starts: a `fit` whose number
            of updates is not known; an optimizer with a schedule of its own; `steps_per_execution` > 1; another
            callback that sets the learning rate; a `ScheduleCallback`; in `folder`, a run that is not the one of the
            model. During training: a training step that makes several updates with one batch, or that does not log its
            loss.
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
            schedule.schedule(total_steps=3)  # raises if there are no numbers
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
                    "AutoCycle(folder=...) must come before BackupAndRestore in callbacks, so that no backup is newer "
                    "than its own file; got it after. Write callbacks=[auto, backup]."
                )
            if other.save_freq != "epoch":
                raise ValueError(
                    "AutoCycle(folder=...) goes on from the end of an epoch, because Keras begins an epoch again from "
                    f'its first batch; got BackupAndRestore(save_freq={other.save_freq!r}). Use save_freq="epoch".'
                )

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._has_loss = False
        attachment = _attach.attached(self.model.optimizer)
        if attachment is not None and attachment.values:
            _attach.detach(self.model)
            raise ValueError(
                "AutoCycle goes back, and with it the optimizer's counter, which a ScheduleCallback takes its step "
                f"from; got one that sets {' and '.join(sorted(attachment.values))}. Take ScheduleCallback out of "
                "callbacks, or detach() it."
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
                "AutoCycle must know the number of updates of the run; got a fit whose number is not known, because "
                "its data has no length or the model has a train_step of its own. Pass steps_per_epoch to fit, or "
                "AutoCycle(total_steps=...)."
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
                    "fit as for that run, or pass an empty folder to start a run."
                ) from error
            state.restore(now)
        elif not _private.has_weights(model):
            if not can_be_built(model):
                raise ValueError(
                    "AutoCycle needs a model that has its weights, to go back to them; got a model that is not built, "
                    "and that has no call() to build it by. Call its layers on a batch before fit."
                )
            build_in_first_step(model, then=auto.start)
        self.auto, self._model_of_run = auto, model
        if left is not None and auto.last_step + 1 + left > total:
            warn(
                f"the run has total_steps={total}, and fit makes {left} updates from step {auto.last_step + 1} "
                "on. The updates after its end use its last learning rate. Pass the epochs that the run started with.",
            )

    def _saved(self, state: "_FitState", epoch: int) -> dict[str, Any] | None:
        """Return the saved state of the run whose model was restored, or None if there is none."""
        if self._files is None:
            return None
        saved = self._files.load(epoch, state.fingerprint(), state.variables())
        if saved is None and epoch > 0 and self._files.paths():
            raise ValueError(
                f"folder must hold the run that the model was restored from, after epoch {epoch}; got "
                f"{', '.join(path.name for path in self._files.paths())}. Restore the model by BackupAndRestore, or "
                "pass an empty folder to start a run."
            )
        return saved

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self.auto is None:
            raise ValueError(
                "AutoCycle must know the length of the run before its first batch; got on_train_batch_begin without "
                "on_epoch_begin. In a loop of your own, use cyclr.AutoCycle."
            )
        self._check_rate()
        # Before there are weights, the training step builds them and starts the run.
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
            # Loss scaling has left the batch out already.
            auto.skip(loss)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_epoch_end(epoch, logs)
        if self.auto is None:
            return
        if logs is not None:
            logs["learning_rate"] = self._rate
            if not self._has_loss:
                # The mean of no loss is 0 for Keras.
                logs["loss"] = math.nan
        if self._files is not None:
            state, saved = _FitState(self), self.auto.state_dict()
            # The seeds of layers too, which no backup of weights has.
            saved["copies"]["now"] = state.copy()
            self._files.save(epoch + 1, state.fingerprint(), saved)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self._files is not None and self._is_over:
            self._files.delete()


class _FitState:
    """All that training changes in the model of a callback, but the metrics and the learning rate."""

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
        # Values, because JAX hands the memory of the variables to the compiled step. Those of TensorFlow are copies.
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
            raise ValueError("it lacks a copy of the model to go back to")

    def fingerprint(self) -> str:
        """Return a hash of what a saved model has."""
        digest = hashlib.sha256()
        model = self._callback.model
        for variable in (*model.weights, _private.counter(model.optimizer)):
            digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable)).tobytes())
        return digest.hexdigest()
