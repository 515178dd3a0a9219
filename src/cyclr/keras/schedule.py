"""A schedule inside the compiled training step."""

from typing import Any

import keras

from cyclr import _checks
from cyclr.keras import _private
from cyclr.schedules import Schedule


@keras.saving.register_keras_serializable(package="cyclr")
class LearningRate(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A cyclr schedule as the learning rate of any Keras optimizer, computed inside the compiled step.

    The rate is a function of the optimizer's own counter, so the clock contract holds by itself: update t uses
    `schedule(t)` under `steps_per_execution`, `jit_compile` and several calls of `fit`, and a saved and loaded model
    goes on where it was. After a backup of Keras' `BackupAndRestore` in mid-epoch, Keras takes the data from the first
    batch of the epoch again; the rate still follows the counter. With `gradient_accumulation_steps=k` Keras hands its
    schedules the number of the micro-batch; this one asks the optimizer for k and counts updates.

    One case needs help: on TensorFlow, when data of unknown length (`from_generator`, `filter`) ends, or data with
    fewer batches than `steps_per_epoch`, Keras counts an update that never was. Add `ScheduleCallback()` to the
    callbacks, which puts the counter right at the end of every epoch.

    Args:
        schedule: any `cyclr.Schedule`; its steps are optimizer updates, from 0.
        start_step: step of the schedule at the optimizer's update 0, ≥ 0; for a run that goes on with an optimizer that
            counts from 0 again. `load_weights` brings the counter back only to an optimizer that is compiled and built
            (`model.optimizer.build(model.trainable_variables)`), which then needs no start_step.

    Raises:
        TypeError, ValueError: `schedule` is no `cyclr.Schedule`, or start_step no integer ≥ 0.

    Example:
        >>> import cyclr, keras
        >>> from cyclr.keras import LearningRate
        >>> schedule = cyclr.Cyclical(base_lr=0.001, max_lr=0.006, step_size=2000)
        >>> optimizer = keras.optimizers.SGD(LearningRate(schedule), momentum=0.9)
        >>> round(float(optimizer.learning_rate), 6)
        0.001
    """

    def __init__(self, schedule: Schedule, start_step: int = 0) -> None:
        if not isinstance(schedule, Schedule):
            raise TypeError(
                f"schedule must be a cyclr.Schedule; got schedule={schedule!r}. "
                "Try cyclr.Cyclical(base_lr, max_lr, step_size)."
            )
        self.schedule = schedule
        self.start_step = _checks.integer("start_step", start_step, at_least=0)

    def __call__(self, step: Any) -> Any:
        """The rate at the optimizer's counter `step`; asked directly, at the update number `step`."""
        accumulation = _private.calling_optimizer_accumulation()
        if isinstance(step, int):
            return self.schedule(step // accumulation + self.start_step)
        step = keras.ops.convert_to_tensor(step)
        return value_at(self.schedule, step // accumulation if accumulation > 1 else step, self.start_step)

    def get_config(self) -> dict[str, Any]:
        """The schedule's description; a schedule with a Python function in it raises `cyclr.ScheduleError`."""
        return {"schedule": self.schedule.to_dict(), "start_step": self.start_step}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LearningRate":
        """The learning rate that `get_config` described."""
        return cls(Schedule.from_dict(config["schedule"]), config.get("start_step", 0))

    def __repr__(self) -> str:
        start = f", start_step={self.start_step}" if self.start_step else ""
        return f"LearningRate({self.schedule!r}{start})"


def change_schedule(model: Any, schedule: Schedule) -> None:
    """Let a model whose optimizer was made with a `LearningRate` go on by another schedule, from the next update on.

    The one call for extending a run, or for changing bounds or lengths in its midst, also during `fit`. The optimizer's
    counter goes on: the next update t takes `schedule(t)`. For one that begins at its own step 0 at update n, pass
    `cyclr.Sequence([old, new], lengths=[n])`.

    Args:
        model: a compiled `keras.Model` whose optimizer was made with a `LearningRate`.
        schedule: the new schedule.

    Raises:
        TypeError: `schedule` is no `cyclr.Schedule`.
        ValueError: the optimizer was not made with a `LearningRate`.

    Example:
        >>> import cyclr, keras
        >>> from cyclr.keras import LearningRate, change_schedule
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        >>> model.compile(keras.optimizers.SGD(LearningRate(cyclr.OneCycle(0.01, 0.1, total_steps=1000))), "mse")
        >>> change_schedule(model, cyclr.OneCycle(0.01, 0.1, total_steps=2000))
    """
    current = _private.rate(getattr(model, "optimizer", None))
    if not isinstance(current, LearningRate):
        raise ValueError(
            f"model must be compiled with a cyclr.keras.LearningRate; its optimizer has {current!r}. "
            "A ScheduleCallback has a method change() of its own."
        )
    _private.inner(model.optimizer).learning_rate = LearningRate(schedule, current.start_step)
    if model.train_function is not None:
        retrace(model)


def value_at(schedule: Schedule, step: Any, offset: int = 0) -> Any:
    """Return the value of a schedule at an optimizer's counter, within a compiled step or outside of one."""
    step = step.value if isinstance(step, keras.Variable) else step
    on_host = keras.backend.backend() == "torch" and step.device.type == "cpu" and step.ndim == 0
    if on_host and not step.is_floating_point() and not _torch_is_compiling():
        # One Python number is cheaper than twenty operations on tensors of one element. A fraction would be cut off.
        return schedule(int(step) + offset)
    return schedule(step + offset if offset else step)


def _torch_is_compiling() -> bool:
    import torch

    return bool(torch.compiler.is_compiling())


def retrace(model: Any) -> None:
    """Give the model a training step that is traced again, with its optimizer as it is now.

    JAX keeps traces by function and would reuse the old one for the same method, so another function is passed to it.
    """
    held = vars(model).get("train_step")
    train_step = model.train_step
    model.train_step = lambda *arguments: train_step(*arguments)
    try:
        model.make_train_function(force=True)
    finally:
        del model.train_step
        if held is not None:
            model.train_step = held
