"""Trials of Keras models."""

import inspect
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from cyclr.errors import CyclrError
from cyclr.experiments.job import History, checked_length
from cyclr.experiments.policies import Plan
from cyclr.experiments.spec import Trial
from cyclr.keras import LearningRate, _optimizer, _private, range_test
from cyclr.keras._compiled import make_anew
from cyclr.range_test import RangeTest, RangeTestResult


class KerasJob:
    """A compiled Keras model and its data.

    Args:
        model: the model; the trial's optimizer, if it has one, takes the place of the model's.
        training, validation: `(x, y)`, or iterables of batches that `fit` takes.
        trial: what is to be done.

    Raises:
        CyclrError: the model is not compiled, accumulates gradients, or the data does not know its length.
    """

    def __init__(self, model: Any, training: Any, validation: Any, trial: Trial) -> None:
        if not model.compiled:
            raise CyclrError(f"{trial.workload} must return a compiled model. Call model.compile(...) in it.")
        self._model, self._trial = model, trial
        self._training, self._validation = training, validation
        self._is_arrays = isinstance(training, tuple | list) and len(training) == 2
        if trial.optimizer is not None:
            model.optimizer = made_optimizer(trial.optimizer)
        if _optimizer.micro_batches(model.optimizer) != 1:
            raise CyclrError(
                f"the optimizer of {trial.workload} must update after every batch, for steps to be batches; got "
                f"gradient_accumulation_steps={_optimizer.micro_batches(model.optimizer)}. Use larger batches instead."
            )
        self.optimizer_name = trial.optimizer_name or optimizer_name(_private.inner(model.optimizer))
        if self._is_arrays:
            self.steps_per_epoch = -(-len(keras.tree.flatten(training[0])[0]) // trial.batch_size)
        else:
            self.steps_per_epoch = checked_length(trial.workload, training)

    def range_test(self, on_step: Callable[[RangeTest], None]) -> RangeTestResult:
        """Run the range test of the trial; the model is left as it was."""
        return range_test(
            self._model,
            *(self._training if self._is_arrays else (self._training,)),
            batch_size=self._trial.batch_size if self._is_arrays else None,
            seed=self._trial.seed,
            on_step=on_step,
            **self._trial.range_test,
        )

    def train(self, plan: Plan, history: History) -> None:
        """Train until the history is over; every update and epoch is noted in it."""
        model = self._model
        callbacks = [_Recorder(history, self._trial.metric)]
        self._set_rate(plan, history.total_steps)
        if plan.framework == "plateau":
            callbacks.append(
                keras.callbacks.ReduceLROnPlateau(self._trial.metric, mode=self._trial.direction, **plan.options)
            )
        model.steps_per_execution = 1
        make_anew(model)
        model.fit(
            *(self._training if self._is_arrays else (self._training,)),
            batch_size=self._trial.batch_size if self._is_arrays else None,
            epochs=-(-history.total_steps // self.steps_per_epoch),
            validation_data=tuple(self._validation) if self._is_arrays else self._validation,
            verbose=0,
            callbacks=callbacks,
        )
        rate = _private.rate(model.optimizer)
        if isinstance(rate, LearningRate):
            history.lr[:] = np.asarray(rate.schedule(np.arange(len(history.loss)))).tolist()
        elif isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            history.lr[:] = [float(keras.ops.convert_to_numpy(rate(step))) for step in range(len(history.loss))]

    def _set_rate(self, plan: Plan, total_steps: int) -> None:
        optimizer = _private.inner(self._model.optimizer)
        if plan.schedule is not None:
            optimizer.learning_rate = LearningRate(plan.schedule)
        elif plan.framework == "cosine":
            optimizer.learning_rate = keras.optimizers.schedules.CosineDecay(plan.lr, total_steps)
        elif _optimizer.has_settable_rate(optimizer):
            optimizer.learning_rate = plan.lr
        else:
            raise CyclrError(
                f"the optimizer of {self._trial.workload} must be made with a number for ReduceLROnPlateau to change; "
                f"got one with a {type(_private.rate(optimizer)).__name__}."
            )


class _Recorder(keras.callbacks.Callback):  # type: ignore[misc]
    """Notes the loss of every batch, which is not the running mean that Keras logs, and the metrics of every epoch."""

    def __init__(self, history: History, metric: str) -> None:
        super().__init__()
        self._history, self._metric = history, metric
        self._rate: float | None = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        rate = self.model.optimizer.learning_rate
        # A rate that Keras' own callbacks set changes between epochs alone.
        if not isinstance(_private.rate(self.model.optimizer), Callable):  # type: ignore[arg-type]
            self._rate = float(keras.ops.convert_to_numpy(rate))

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.model.reset_metrics()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._history.step(float((logs or {})["loss"]))
        if self._rate is not None:
            self._history.lr.append(self._rate)
        if self._history.over:
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        metrics = {name: float(value) for name, value in (logs or {}).items() if name.startswith("val_")}
        if self._metric not in metrics:
            raise CyclrError(
                f"metric must be one that the model reports; got metric={self._metric!r}, it reports "
                f"{', '.join(metrics) or 'nothing'}. Compile it with metrics=[...]."
            )
        self._history.epoch(metrics)


def optimizer_name(optimizer: Any) -> str:
    """An optimizer with its arguments that are not the defaults, the rate left out, such as `"SGD(momentum=0.9)"`."""
    known = inspect.signature(type(optimizer)).parameters
    arguments = ", ".join(
        f"{name}={value}"
        for name, value in optimizer.get_config().items()
        if name not in ("name", "learning_rate") and (name not in known or value != known[name].default)
    )
    return f"{type(optimizer).__name__}({arguments})" if arguments else type(optimizer).__name__


def made_optimizer(table: Any) -> Any:
    """The Keras optimizer that a table names, such as `{"name": "SGD", "momentum": 0.9}`.

    Raises:
        CyclrError: Keras has none of that name, or it does not take these arguments.
    """
    arguments = {name: value for name, value in table.items() if name != "name"}
    known = {
        name.lower(): kind
        for name, kind in vars(keras.optimizers).items()
        if isinstance(kind, type) and issubclass(kind, keras.optimizers.Optimizer) and name != "Optimizer"
    }
    try:
        return known[table["name"].lower()](**arguments)
    except KeyError:
        names = ", ".join(sorted(kind.__name__ for kind in known.values()))
        raise CyclrError(f"optimizer must be one of {names}; got {table['name']!r}.") from None
    except (TypeError, ValueError) as error:
        raise CyclrError(
            f"optimizer {table['name']} must be made with its arguments; got {arguments}: {error}."
        ) from error
