"""Transformers: AutoCycle in a `Trainer`."""

import functools
import math
from collections.abc import Iterable
from typing import Any, Literal

import torch

from cyclr import _checks, _names
from cyclr.auto import AutoEvent
from cyclr.bounds import Bounds
from cyclr.errors import AutoCycleError, MissingExtraError
from cyclr.schedules import Schedule
from cyclr.torch.auto_cycle import AutoCycle

try:
    from transformers import Trainer, TrainerCallback
except ImportError as error:
    raise MissingExtraError(
        'cyclr.torch.transformers needs Transformers and Accelerate. Install them: pip install "cyclr[transformers]".'
    ) from error


class AutoCycleCallback(TrainerCallback):  # type: ignore[misc]
    """A callback that trains with `cyclr.torch.AutoCycle`, in place of the scheduler that a `Trainer` creates.

    Create it with the trainer and add it: `trainer.add_callback(AutoCycleCallback(trainer))`. The trainer calls
    callbacks without the loss, so this one replaces the methods `training_step`, to keep what it returns, and
    `create_scheduler` of this trainer. The model, the data, accumulation, precision, clipping, label smoothing and a
    `compute_loss` of your own are the trainer's.

    The loss of an update is the one that the trainer trains on: the mean over its batches, or over their tokens, and
    over the processes. The length is the trainer's number of updates. The logged `learning_rate` is the one that the
    update used. Checkpoints hold the state, with the copies, in `scheduler.pt`, so that
    `trainer.train(resume_from_checkpoint=...)` goes on as if it had not been stopped.

    Args:
        trainer: the `transformers.Trainer`, or an instance of a subclass, without a scheduler.
        schedule, also, copies_on: as for `cyclr.torch.AutoCycle`. A loss scaler of the trainer goes back too.
        usual_lr: as for `cyclr.torch.AutoCycle`. By default `learning_rate` of the trainer's arguments, or the usual
            one of the optimizer if the trainer is given an optimizer.
        resume: `"same"`: a checkpoint must be of a run of the same length and schedule; `"new"`: continue it by those
            of this trainer, to extend or change the run.

    Attributes:
        auto: the `AutoCycle` of the last `train()`; None before.
        events: its events.

    Raises:
        TypeError, ValueError: something else than a trainer; a trainer with a scheduler, or with arguments for one;
            one that shards the model (FSDP, DeepSpeed) or updates layer by layer; a trainer that has an AutoCycle; in
            `train()`, a checkpoint without the state.
        AutoCycleError: the callback was not added to the trainer; the trainer made no update that can be seen.

    Example:
        >>> import tempfile
        >>> import torch, transformers
        >>> from cyclr.torch.transformers import AutoCycleCallback
        >>> class Model(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layer = torch.nn.Linear(1, 1)
        ...     def forward(self, x, labels):
        ...         return {"loss": (self.layer(x) - labels).square().mean()}
        >>> data = [{"x": torch.ones(1), "labels": torch.ones(1)}] * 64
        >>> arguments = transformers.TrainingArguments(
        ...     tempfile.mkdtemp(), use_cpu=True, report_to=[], disable_tqdm=True, save_strategy="no"
        ... )
        >>> trainer = transformers.Trainer(Model(), arguments, train_dataset=data)
        >>> auto = AutoCycleCallback(trainer)
        >>> trainer.add_callback(auto)
        >>> _ = trainer.train()  # doctest: +ELLIPSIS
        {...
        >>> auto.auto.last_step, auto.events
        (23, ())

    Source: Smith 2017, arXiv:1506.01186, for the cycle; Chowdhery et al. 2022, arXiv:2204.02311, for the return.
    """

    @_names.hinted
    def __init__(
        self,
        trainer: Any,
        schedule: Schedule | Bounds | None = None,
        *,
        also: Iterable[Any] = (),
        usual_lr: float | None = None,
        copies_on: str | torch.device | None = None,
        resume: Literal["same", "new"] = "same",
    ) -> None:
        _check(trainer)
        self._resume: Any = _checks.choice("resume", resume, ("same", "new"))
        self._trainer, self._schedule, self._also = trainer, schedule, [*also]
        self._usual_lr, self._copies_on = usual_lr, copies_on
        self._has_optimizer = trainer.optimizer is not None
        self._scheduler = _Scheduler()
        self._loss: Any = None
        training_step = trainer.training_step

        @functools.wraps(training_step)
        def keep_loss(*arguments: Any, **keywords: Any) -> Any:
            loss = training_step(*arguments, **keywords)
            # The trainer has divided the losses of an update by their number, or by that of their tokens.
            self._loss = loss if self._loss is None else self._loss + loss
            return loss

        trainer.training_step, trainer.create_scheduler = keep_loss, self._create_scheduler

    @property
    def auto(self) -> AutoCycle | None:
        return self._scheduler.auto

    @property
    def events(self) -> tuple[AutoEvent, ...]:
        return self.auto.events if self.auto else ()

    def _create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        if self not in self._trainer.callback_handler.callbacks:
            raise AutoCycleError(
                "AutoCycleCallback(trainer) must be one of the trainer's callbacks; got a trainer without it. Call "
                "trainer.add_callback(callback), or create another Trainer to train without it."
            )
        self._trainer.lr_scheduler = self._scheduler = _Scheduler()
        return self._scheduler

    def on_train_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        trainer, scheduler = self._trainer, self._scheduler
        if trainer.lr_scheduler is not scheduler:
            raise ValueError(
                f"trainer must create its scheduler by create_scheduler(); got {type(trainer.lr_scheduler).__name__}. "
                "Leave create_optimizer_and_scheduler as it is, or use Scheduler."
            )
        if state.global_step and scheduler.saved is None:
            raise ValueError(
                f"the checkpoint of step {state.global_step} must hold the state of AutoCycle; got one without an "
                "optimizer and scheduler. Save checkpoints with save_only_model=False."
            )
        scaler = getattr(trainer.accelerator, "scaler", None)
        usual_lr = None if self._has_optimizer else args.learning_rate
        auto = AutoCycle(
            trainer.model_wrapped,
            trainer.optimizer,
            total_steps=state.max_steps,
            schedule=self._schedule,
            also=[*self._also, *([] if scaler is None else [scaler])],
            usual_lr=usual_lr if self._usual_lr is None else self._usual_lr,
            copies_on=self._copies_on,
        )
        if scheduler.saved is not None:
            auto.load_state_dict(scheduler.saved, self._resume)
        scheduler.auto, scheduler.saved, self._loss = auto, None, None

    def on_step_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        self._scheduler.rates = self._scheduler.auto.get_last_lr() if self._scheduler.auto else []

    def on_step_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        auto, loss = self.auto, self._loss
        self._loss = None
        if auto is None or loss is None:
            raise AutoCycleError(
                f"{type(self._trainer).__name__} must call self.training_step for every batch; got an update without "
                "a loss. Use cyclr.torch.AutoCycle in a loop of your own."
            )
        auto.step(loss)
        scaled = getattr(self._trainer.accelerator, "scaler", None) is not None
        if auto.last_step < 0 and not scaled and math.isfinite(loss):
            raise AutoCycleError(
                f"AutoCycle must see the updates of the trainer's optimizer; got an update of which "
                f"{type(parts['optimizer']).__name__} ran no hooks. Use another optim=... in TrainingArguments."
            )


class _Scheduler:
    """What the trainer steps, logs, saves and loads as its scheduler.

    Attributes:
        auto: the AutoCycle, from the start of training on.
        saved: a state that was loaded before.
        rates: the learning rates of the update that is being made, or was made last.
    """

    def __init__(self) -> None:
        self.auto: AutoCycle | None = None
        self.saved: dict[str, Any] | None = None
        self.rates: list[Any] = []

    def step(self) -> None:
        """Do nothing: AutoCycle steps with the loss."""

    def get_last_lr(self) -> list[Any]:
        return self.rates

    def state_dict(self) -> dict[str, Any]:
        return {} if self.auto is None else self.auto.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.saved = state_dict


def _check(trainer: Any) -> None:
    """Raise if AutoCycle cannot take the place of the trainer's scheduler."""
    if not isinstance(trainer, Trainer):
        raise TypeError(
            f"trainer must be a transformers.Trainer; got {type(trainer).__name__}. Create the callback after the "
            "trainer: trainer.add_callback(AutoCycleCallback(trainer))."
        )
    if any(isinstance(callback, AutoCycleCallback) for callback in trainer.callback_handler.callbacks):
        raise ValueError("trainer must have one AutoCycleCallback; got a second. Create another Trainer.")
    args = trainer.args
    names = "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "warmup_ratio"
    given = {name: value for name in names if (value := getattr(args, name, None)) and value != "linear"}
    if given or trainer.lr_scheduler is not None:
        received = [type(trainer.lr_scheduler).__name__] if trainer.lr_scheduler else []
        received += [f"{name}={getattr(value, 'value', value)}" for name, value in given.items()]
        raise ValueError(
            f"trainer must be created without a scheduler, in place of which AutoCycle is; got {', '.join(received)}. "
            "Pass optimizers=(optimizer, None) and no such arguments."
        )
    optim = str(getattr(args.optim, "value", args.optim))
    refused = {
        "DeepSpeed": trainer.is_deepspeed_enabled,
        "FSDP": trainer.is_fsdp_enabled or any(hasattr(p, "to_local") for p in trainer.model.parameters()),
        f"optim={optim!r}": "layerwise" in optim or "lomo" in optim,
    }
    if found := [name for name, used in refused.items() if used]:
        raise ValueError(
            "trainer must have the whole model in every process, and one optimizer that updates it; got "
            f"{', '.join(found)}. Use Scheduler, or cyclr.torch.AutoCycle in a loop of your own."
        )


__all__ = ["AutoCycleCallback"]

_names.Package.adopt(__name__)
