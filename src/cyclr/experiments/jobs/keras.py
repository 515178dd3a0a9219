"""Trials of Keras models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cyclr.errors import CyclrError
from cyclr.experiments import optimizers
from cyclr.experiments.jobs.base import History, number_of_batches, shapes_of
from cyclr.experiments.policies import Ending, Plan
from cyclr.experiments.spec import Trial
from cyclr.keras import AutoCycle, Ensemble, LearningRate, Snapshots, _private, average, range_test
from cyclr.keras._conditions import optimizer_call
from cyclr.keras.schedule import retrace
from cyclr.members import Member
from cyclr.range_test import RangeTest, RangeTestResult


class KerasJob:
    """A Keras model and its data.

    The model is trained with `steps_per_execution=1`, even if it was compiled with another value, because every update
    is recorded.

    Args:
        model: the model. If the trial has an optimizer, it replaces the optimizer of the model.
        training, validation: `(x, y)`, or iterables of batches that `fit` takes. Without a training, `validation` may
            be None.
        trial: the trial.
        optimizer, loss: arguments of `compile` for a model that is not compiled.

    Raises:
        CyclrError: the model is not compiled and has no default loss, the model does not fit the data, or the length of
            the data is unknown.
    """

    def __init__(
        self, model: Any, training: Any, validation: Any, trial: Trial, optimizer: Any = None, loss: Any = None
    ) -> None:
        self.batch_shapes = shapes_of(training)
        x, y = training if self.batch_shapes else (None, None)
        name = "its data" if trial.data is None else Path(trial.data["source"]).name
        if x is not None:
            _check_inputs(model, x, trial.workload, name)
        if not model.compiled:
            loss = _default_loss(model, y, trial.workload) if loss is None else loss
            in_classes = "crossentropy" in str(getattr(loss, "name", loss)).replace("_", "")
            optimizer = keras.optimizers.SGD(0.01, momentum=0.9) if optimizer is None else optimizer
            model.compile(optimizer, loss, metrics=["accuracy"] if in_classes else None)
        elif optimizer is not None or loss is not None:
            raise CyclrError(
                f"{trial.workload} returned a compiled model and {'a loss' if optimizer is None else 'an optimizer'}, "
                "which would not be used. Leave it out, or do not compile the model."
            )
        self._model, self._trial = model, trial
        if y is not None:
            _check_classes(model, y, trial.workload, name)
        if trial.optimizer is not None:
            model.optimizer = optimizers.make(keras.optimizers, trial.optimizer)
        self.optimizer_call = optimizer_call(model.optimizer)
        self.optimizer_name = trial.optimizer_name or self.optimizer_call.removeprefix("keras.optimizers.")
        # Arguments of `fit` and `range_test`: arrays and a batch size, or an iterable of batches.
        self._data, self._validation, self._batch_size = (training,), validation, None
        if isinstance(training, tuple | list) and len(training) == 2:
            self._data, self._batch_size = (*training,), trial.batch_size
            # Keras would take a list as inputs without targets.
            self._validation = tuple(validation) if isinstance(validation, list) else validation
            self.steps_per_epoch = -(-len(keras.tree.flatten(training[0])[0]) // trial.batch_size)
        else:
            self.steps_per_epoch = number_of_batches(trial.workload, training)

    def range_test(self, on_step: Callable[[RangeTest], None]) -> RangeTestResult:
        return range_test(
            self._model,
            *self._data,
            batch_size=self._batch_size,
            on_step=on_step,
            verbose=0,
            **self._trial.range_test_arguments(self.steps_per_epoch),
        )

    def train(self, plan: Plan, history: History) -> None:
        model = self._model
        if (batches := _private.accumulation(model.optimizer)) != 1:
            raise CyclrError(
                f"the optimizer of {self._trial.workload} must update after every batch, because steps are counted in "
                f"batches; got gradient_accumulation_steps={batches}. Use larger batches instead."
            )
        rate = self._set_rate(plan, history.total_steps)
        callbacks = [_Recorder(history)]
        auto = AutoCycle(total_steps=history.total_steps, **plan.options) if plan.framework == "auto" else None
        if auto is not None:
            # Added after the recorder, which resets the metrics before every batch.
            callbacks.append(auto)
        if plan.ending is not None:
            snapshots = Snapshots(every=plan.ending.every, keep=plan.ending.keep)
            callbacks.append(snapshots)
        if plan.framework == "plateau":
            callbacks.append(
                keras.callbacks.ReduceLROnPlateau(self._trial.metric, mode=self._trial.direction, **plan.options)
            )
        model.steps_per_execution = 1
        retrace(model)
        model.fit(
            *self._data,
            batch_size=self._batch_size,
            epochs=-(-history.total_steps // self.steps_per_epoch),
            validation_data=self._validation,
            verbose=0,
            callbacks=callbacks,
        )
        if auto is not None:
            history.events, history.range_test = auto.events, auto.range_test
        if plan.schedule is not None:
            history.lr[:] = np.asarray(plan.schedule(np.arange(len(history.loss)))).tolist()
        elif rate is not None:
            history.lr[:] = [float(keras.ops.convert_to_numpy(rate(step))) for step in range(len(history.loss))]
        if plan.ending is not None and not history.diverged:
            history.add_ending(*self._end(plan.ending, snapshots.members))

    def _end(self, ending: Ending, members: list[Member]) -> tuple[dict[str, float], int]:
        """Return the metrics of an ensemble or average, and the number of models that one prediction evaluates."""
        model, weights, predictions = self._model, ending.weights(members), 1
        if ending.combine == "average":
            averaged: Any = average(model, members, self._data[0], weights=weights)
        else:
            kinds = (keras.losses.CategoricalCrossentropy, keras.losses.SparseCategoricalCrossentropy)
            logits = isinstance(model.loss, kinds) and model.loss.from_logits
            averaged = (_Logits if logits else Ensemble)(
                model, members, activation="softmax" if logits else None, weights=weights
            )
            predictions = len(members)
        averaged.compile(**_private.compiled_with(model))
        data = self._validation if self._batch_size else (self._validation,)
        values = averaged.evaluate(*data, batch_size=self._batch_size, return_dict=True, verbose=0)
        return {f"val_{name}": float(value) for name, value in values.items()}, predictions

    def _set_rate(self, plan: Plan, total_steps: int) -> Any:
        """Set the learning rate. Return the schedule of the optimizer, or None if the learning rate is a variable."""
        optimizer = _private.inner(self._model.optimizer)
        rate: Any = None
        if plan.schedule is not None:
            rate = LearningRate(plan.schedule)
        elif plan.framework == "cosine":
            rate = keras.optimizers.schedules.CosineDecay(plan.lr, total_steps)
        elif not _private.has_settable_rate(optimizer):
            raise CyclrError(
                f"policy {plan.framework!r} needs an optimizer whose learning rate is a number; the optimizer of "
                f"{self._trial.workload} was created with a {type(_private.rate(optimizer)).__name__}. Create it with "
                "a number."
            )
        if plan.framework != "auto":
            optimizer.learning_rate = plan.lr if rate is None else rate
        return rate


def _default_loss(model: Any, targets: Any, workload: str) -> Any:
    """Return "mse" for floating-point targets, else the cross-entropy that fits the last layer of the model."""
    if targets is not None and np.asarray(targets).dtype.kind == "f":
        return "mse"
    last = model.layers[-1] if model.layers and (isinstance(model, keras.Sequential) or _outputs(model)) else None
    activation = getattr(last, "activation", None)
    units = getattr(last, "units", 0)
    if targets is not None and (activation is keras.activations.softmax or isinstance(last, keras.layers.Softmax)):
        return keras.losses.SparseCategoricalCrossentropy()
    if targets is not None and activation is keras.activations.linear and units > 1:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if targets is not None and activation is keras.activations.sigmoid and units == 1:
        return keras.losses.BinaryCrossentropy()
    raise CyclrError(
        f"{workload} returned a model that is not compiled, and no loss. Call model.compile(...), or return "
        "(model, data, optimizer, loss)."
    )


def _outputs(model: Any) -> Any:
    """Return the size of the output's last axis, or None if the model is not built or has several outputs."""
    outputs: Any = getattr(model, "outputs", None) or ()
    return outputs[0].shape[-1] if len(outputs) == 1 else None


def _check_inputs(model: Any, x: Any, workload: str, name: str) -> None:
    """Raise if the model is built for inputs of another shape."""
    inputs: Any = getattr(model, "inputs", None) or ()
    if len(inputs) != 1:
        return
    takes, has = tuple(inputs[0].shape[1:]), tuple(x.shape[1:])
    # Keras adds or removes a last axis of 1.
    shapes = [has, (*has, 1), has[:-1] if has[-1:] == (1,) else has]
    if not any(len(takes) == len(one) and all(map(_fits, takes, one)) for one in shapes):
        raise CyclrError(f"the model of {workload} takes inputs of shape {takes}; {name} has {has}.")


def _fits(taken: int | None, size: int) -> bool:
    return taken in (None, size)


def _check_classes(model: Any, y: Any, workload: str, name: str) -> None:
    """Raise if the model is built, its loss is a sparse cross-entropy, and it has fewer outputs than classes exist."""
    is_sparse = isinstance(model.loss, keras.losses.SparseCategoricalCrossentropy)
    outputs, classes = _outputs(model), int(np.max(y)) + 1
    if (is_sparse or model.loss == "sparse_categorical_crossentropy") and outputs is not None and classes > outputs:
        raise CyclrError(f"the model of {workload} has {outputs} outputs; {name} has {classes} classes.")


class _Logits(Ensemble):
    """An ensemble that returns the logarithms of mean probabilities, which are logits."""

    def call(self, inputs: Any, training: bool = False) -> Any:
        tiny = float(np.finfo(np.float32).tiny)
        return keras.ops.log(keras.ops.maximum(super().call(inputs), tiny))


class _Recorder(keras.callbacks.Callback):  # type: ignore[misc]
    """Records the loss of every batch and the metrics of every epoch.

    Keras logs the running mean of the loss, so the metrics are reset before every batch. The learning rate is read at
    the start of every epoch, because Keras' own callbacks change it only between epochs. With `AutoCycle` it is read
    after every batch.
    """

    def __init__(self, history: History) -> None:
        super().__init__()
        self._history = history

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._rate = self._read_rate()

    def _read_rate(self) -> float:
        return float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.model.reset_metrics()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._history.add_step(float((logs or {})["loss"]))
        self._history.lr.append(self._read_rate() if self._history.lenient else self._rate)
        if self._history.is_over:
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._history.add_epoch({n: float(value) for n, value in (logs or {}).items() if n.startswith("val_")})
