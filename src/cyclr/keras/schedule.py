"""A schedule as the learning rate of an optimizer, computed inside the compiled training step."""

from typing import Any, ClassVar, NamedTuple

import keras

from cyclr import _checks, _names, _plain
from cyclr.keras import _private
from cyclr.schedules import Schedule
from cyclr.schedules.base import check_schedule


@keras.saving.register_keras_serializable(package="cyclr")
class LearningRate(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A cyclr schedule as the learning rate of any Keras optimizer, computed inside the compiled step.

    The learning rate is a function of the optimizer's step counter: update t uses `schedule(t)`. This also holds with
    `steps_per_execution`, with `jit_compile` and over several calls of `fit`. A loaded model continues where it was
    saved. If Keras' `BackupAndRestore` restores a backup from the middle of an epoch, Keras reads the data of this
    epoch again from its first batch; the learning rate continues from the restored counter.

    With `gradient_accumulation_steps=k` Keras passes the number of the micro-batch to schedules. `LearningRate` reads k
    from the optimizer and counts updates. Inside another schedule or a function, `LearningRate` cannot know if it
    receives the number of a micro-batch or of an update: pass `gradient_accumulation_steps` there.

    One case needs a callback. On TensorFlow, Keras counts one update too many if data of unknown length
    (`from_generator`, `filter`) ends, or if the data has fewer batches than `steps_per_epoch`. Add `ScheduleCallback()`
    to the callbacks: it corrects the counter at the end of every epoch.

    Args:
        schedule: any `cyclr.Schedule`; its steps are optimizer updates, from 0.
        start_step: step of the schedule at the optimizer's update 0, ≥ 0. Use it to resume a run with an optimizer that
            counts from 0 again. You do not need it if `load_weights` restores the counter, for which the optimizer must
            be compiled and built first (`model.optimizer.build(model.trainable_variables)`).
        gradient_accumulation_steps: micro-batches in an update, ≥ 1. The number that Keras passes is divided by it. By
            default, the setting of the optimizer that calls the schedule, or 1 if no optimizer calls it.

    Raises:
        TypeError, ValueError: `schedule` is not a `cyclr.Schedule`, or a number is not an integer in its range. When
            called: the optimizer accumulates another number of micro-batches; the optimizer accumulates and calls this
            schedule through another schedule or a function; or Keras' `LearningRateScheduler` calls it with an epoch.

    Example:
        >>> import cyclr, keras
        >>> from cyclr.keras import LearningRate
        >>> schedule = cyclr.Cyclical(base_lr=0.001, max_lr=0.006, step_size=2000)
        >>> optimizer = keras.optimizers.SGD(LearningRate(schedule), momentum=0.9)
        >>> round(float(optimizer.learning_rate), 6)
        0.001
    """

    _remedy: ClassVar[str] = "Pass its schedule: learning_rate.schedule."

    @_names.hinted
    def __init__(self, schedule: Schedule, start_step: int = 0, gradient_accumulation_steps: int | None = None) -> None:
        check_schedule("schedule", schedule)
        self.schedule = schedule
        self.compiled = False
        """True if a training step was compiled with this learning rate."""
        self.start_step = _checks.integer("start_step", start_step, at_least=0)
        given = gradient_accumulation_steps
        self.gradient_accumulation_steps = (
            None if given is None else _checks.integer("gradient_accumulation_steps", given, at_least=1)
        )

    def __call__(self, step: Any) -> Any:
        """Return the learning rate at the optimizer's counter `step` as a tensor, as Keras' own schedules do.

        If no optimizer makes the call, `step` is the number of the update.
        """
        accumulation = self._accumulation(*_private.calling_optimizer())
        if isinstance(step, int):
            return rate_tensor(self.schedule(step // accumulation + self.start_step))
        step = keras.ops.convert_to_tensor(step)
        self.compiled = self.compiled or _private.is_compiling(step)
        step = step // accumulation if accumulation > 1 else step
        return rate_tensor(value_at(self.schedule, step, self.start_step))

    def _accumulation(self, optimizer: Any, is_direct: bool) -> int:
        """Return the number of micro-batches in an update of the calling optimizer. Raise if the number is unknown."""
        given, found = self.gradient_accumulation_steps, getattr(optimizer, "gradient_accumulation_steps", None) or 1
        if given is None and found > 1 and not is_direct:
            raise ValueError(
                "LearningRate inside another schedule or function cannot know if it receives the number of a "
                f"micro-batch or of an update; got an optimizer with gradient_accumulation_steps={found}. Write "
                f"LearningRate(schedule, gradient_accumulation_steps={found}), or 1 if the caller divides by {found}."
            )
        if is_direct and found > 1 and given not in (None, found):
            raise ValueError(
                "gradient_accumulation_steps must be equal in LearningRate and the optimizer; got LearningRate(..., "
                f"{given}) in an optimizer with gradient_accumulation_steps={found}. Leave it out of LearningRate."
            )
        return given or found

    def get_config(self) -> dict[str, Any]:
        """Return the schedule as a dict. Raise `cyclr.ScheduleError` if the schedule contains a Python function."""
        return {
            "schedule": self.schedule.to_dict(),
            "start_step": self.start_step,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
            # Keras prints the config if it does not know the class.
            "needs": "import cyclr.keras before keras.saving.load_model, or load_model(..., compile=False)",
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LearningRate":
        """Return the learning rate that `get_config` described."""
        saved = _plain.read("the config of LearningRate", config, _Config)
        return cls(Schedule.from_dict(saved.schedule), saved.start_step, saved.gradient_accumulation_steps)

    def __repr__(self) -> str:
        start = f", start_step={self.start_step}" if self.start_step else ""
        given = self.gradient_accumulation_steps
        factor = "" if given is None else f", gradient_accumulation_steps={given}"
        return f"LearningRate({self.schedule!r}{start}{factor})"


class _Config(NamedTuple):
    """The entries of `LearningRate.get_config()`."""

    schedule: dict[str, Any]
    start_step: int = 0
    gradient_accumulation_steps: int | None = None
    needs: Any = None


@_names.hinted
def change_schedule(model: Any, schedule: Schedule) -> None:
    """Replace the schedule of a model whose optimizer was created with a `LearningRate`, from the next update on.

    Use it to extend a run, or to change bounds or lengths in the middle of a run, also during `fit`. The optimizer's
    counter continues: the next update t uses `schedule(t)`. To start the new schedule at its step 0 in update n, pass
    `cyclr.Sequence([old, new], lengths=[n])`.

    Args:
        model: a compiled `keras.Model` whose optimizer was created with a `LearningRate`.
        schedule: the new schedule.

    Raises:
        TypeError: `schedule` is not a `cyclr.Schedule`.
        ValueError: the optimizer was not created with a `LearningRate`.

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
            f"model must be compiled with a cyclr.keras.LearningRate; got an optimizer with {current!r}. "
            "To change the schedules of a ScheduleCallback, call its method change()."
        )
    _private.inner(model.optimizer).learning_rate = LearningRate(
        schedule, current.start_step, current.gradient_accumulation_steps
    )
    if model.train_function is not None:
        retrace(model)


def rate_tensor(rate: Any) -> Any:
    """Convert a learning rate (a number or a tensor) to the tensor that Keras' own schedules return."""
    return keras.ops.convert_to_tensor(rate, keras.backend.floatx())


def value_at(schedule: Schedule, step: Any, offset: int = 0) -> Any:
    """Return the value of a schedule at an optimizer's counter: a tensor, or on torch a float if that is cheaper."""
    step = step.value if isinstance(step, keras.Variable) else step
    if keras.backend.backend() == "torch":
        import torch

        # One Python number is cheaper than twenty operations on tensors of one element. Fractions are left as tensors,
        # because `int` would cut them off.
        is_integer = step.device.type == "cpu" and step.ndim == 0 and not step.is_floating_point()
        if is_integer and not torch.compiler.is_compiling():
            return schedule(int(step) + offset)
    return schedule(step + offset if offset else step)


def retrace(model: Any) -> None:
    """Make the model trace its training step again, with its optimizer as it is now.

    JAX caches traces by function, and would use the old trace again for the same method. Therefore the method is
    wrapped in a new function.
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
