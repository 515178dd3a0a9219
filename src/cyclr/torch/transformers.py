"""Range test, schedules and AutoCycle for the `Trainer` of Transformers."""

import contextlib
import functools
import inspect
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch.optim.lr_scheduler import LRScheduler

from cyclr import _extras

with _extras.needed("cyclr.torch.transformers needs", "transformers", "accelerate", extra="transformers"):
    import accelerate  # noqa: F401
    from transformers import Trainer, TrainerCallback, logging

from cyclr import _checks, _generators, _names
from cyclr._contents import Contents
from cyclr._warn import warn
from cyclr.auto import AutoEvent
from cyclr.bounds import Bounds
from cyclr.errors import AutoCycleError, RangeTestError
from cyclr.range_test import RangeTest, RangeTestResult
from cyclr.range_test.driver import Spacing
from cyclr.range_test.progress import Verbose
from cyclr.schedules import Run, Schedule
from cyclr.torch import _groups, _private_transformers
from cyclr.torch._shares import Shares
from cyclr.torch._update import Processes, repeat_skipped
from cyclr.torch.auto_cycle import AutoCycle
from cyclr.torch.range_test import range_test as torch_range_test
from cyclr.torch.scheduler import Scheduler
from cyclr.torch.state import TrainingState


@_names.hinted
def range_test(
    trainer: Any,
    *,
    min_lr: float | Sequence[float] = 1e-6,
    max_lr: float | Sequence[float] = 10.0,
    steps: int = 150,
    spacing: Spacing = "exponential",
    stop_factor: float | None = 4.0,
    smoothing: float = 0.9,
    also: Sequence[Any] = (),
    group: int | None = None,
    updates_per_rate: int = 1,
    evaluate: Callable[[torch.nn.Module], Any] | None = None,
    repeats: int | None = None,
    seed: int | None = 0,
    total_steps: int | Run | None = None,
    refine: int | None = None,
    snapshot_dir: str | os.PathLike[str] | None = None,
    on_step: Callable[[RangeTest], None] | None = None,
    verbose: Verbose = "auto",
) -> RangeTestResult:
    """Run `cyclr.torch.range_test` with the model and data of a trainer, and leave the trainer exactly as it was.

    The trainer prepares everything as for training: the model (also from `model_init`), the optimizer with its
    parameter groups, data, collator, sampler, device, precision and processes. Every update uses the trainer's
    `get_batch_samples`, `training_step` and `max_grad_norm`. So accumulation, label smoothing, your own `compute_loss`
    and `compute_loss_func` apply as in training. Callbacks are not called, and nothing is logged or saved.

    Afterwards everything is restored, even if the test raises or is interrupted: weights, training modes, optimizer,
    scaler, random number generators, and attributes of the trainer, its state, control and accelerator. If the trainer
    had not created an optimizer before, its optimizer is None again. `trainer.train()` then gives bit for bit the same
    result as without the test.

    The recorded loss is the loss that the trainer trains on: the mean over the batches of an update, or over their
    tokens, and over the processes.

    Args:
        trainer: a `transformers.Trainer`, or an instance of a subclass. It must not be in `train()`.
        min_lr, max_lr, steps, spacing, stop_factor, smoothing, also, group, updates_per_rate, evaluate, repeats, seed,
            snapshot_dir, on_step, verbose: as for `cyclr.torch.range_test`. With `verbose="auto"`, nothing is shown if
            the trainer's arguments have `disable_tqdm`.
        total_steps, refine: as for `cyclr.torch.range_test`. With refine, total_steps is by default the number of
            updates that `train()` would make.

    Returns:
        The result; `set_schedule(trainer, result.bounds)` trains with its bounds.

    Raises:
        TypeError, ValueError: `trainer` is not a trainer, is training, shards the model (FSDP, DeepSpeed) or updates
            layer by layer; an argument is out of range.
        RangeTestError: no loss could be recorded.

    Example:
        >>> import tempfile
        >>> import torch, transformers
        >>> from cyclr.torch.transformers import range_test, set_schedule
        >>> _ = torch.manual_seed(0)
        >>> class Model(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layer = torch.nn.Linear(4, 1)
        ...     def forward(self, x, labels):
        ...         return {"loss": (self.layer(x) - labels).square().mean()}
        >>> data = [{"x": x, "labels": x.sum()[None]} for x in torch.randn(256, 4)]
        >>> arguments = transformers.TrainingArguments(
        ...     tempfile.mkdtemp(), use_cpu=True, report_to=[], disable_tqdm=True, save_strategy="no"
        ... )
        >>> trainer = transformers.Trainer(Model(), arguments, train_dataset=data)
        >>> result = range_test(trainer)
        >>> result.bounds.status, trainer.optimizer
        ('ok', None)
        >>> set_schedule(trainer, result.bounds)
        >>> _ = trainer.train()  # doctest: +ELLIPSIS
        {...

    Source: Smith 2017, arXiv:1506.01186, section 3.3.
    """
    options = locals() | {}
    del options["trainer"]
    _check_trainer(trainer, "a range test", "Test on one device or with DDP, and with another optim.")
    if verbose == "auto" and trainer.args.disable_tqdm:
        options["verbose"] = 0
    if trainer.is_in_train:
        raise ValueError("trainer must not be training; got a trainer in train(). Run the range test before train().")
    model, accelerator = trainer.model, trainer.accelerator
    device = next((parameter.device for parameter in model.parameters()), None)
    with contextlib.ExitStack() as undo:
        undo.callback(_generators.Generators().restore)
        if device is not None:
            undo.callback(model.to, device)
        for parameter in model.parameters():
            undo.callback(setattr, parameter, "grad", parameter.grad)
        for name in ("train_dataset", "eval_dataset"):
            if isinstance(rows := getattr(trainer, name), list):
                undo.callback(setattr, trainer, name, rows)
                setattr(trainer, name, _Rows(rows))
        # Accelerate replaces the groups of an optimizer. Schedulers hold these groups too.
        attributes = Contents(parts=lambda value: [vars(value)] if isinstance(value, LRScheduler | Shares) else ())
        undo.callback(attributes.restore)
        configs = [config for name in ("config", "generation_config") if (config := getattr(model, name, None))]
        optimizers = _groups.with_inner([trainer.optimizer] if trainer.optimizer else [])
        owners = trainer, trainer.callback_handler, accelerator, accelerator.gradient_state
        for owner in (*owners, *configs, *optimizers, *model.modules()):
            attributes.add(_generators.attributes(owner))
        undo.callback(logging.set_verbosity, logging.get_verbosity())
        logging.set_verbosity(max(logging.WARNING, logging.get_verbosity()))
        test = _Test(trainer, options)
        trainer.callback_handler.callbacks = [test]
        trainer.create_scheduler = test.create_scheduler
        _private_transformers.measure_no_memory(trainer)
        with contextlib.suppress(_TestEndedError):
            trainer.train()
    if test.result is None:
        raise RangeTestError(
            f"{type(trainer).__name__} must call on_train_begin of its callbacks in train(); got a training without "
            "this call, which has changed the model. Use cyclr.torch.range_test."
        )
    return test.result


@_names.hinted
def set_schedule(
    trainer: Any,
    schedule: Schedule | Bounds,
    momentum: Schedule | None = None,
    weight_decay: Schedule | None = None,
    *,
    resume: Literal["same", "new", "saved"] = "same",
) -> None:
    """Train with a schedule: `trainer.train()` then creates a `cyclr.torch.Scheduler` instead of its own scheduler.

    The trainer steps, saves and loads the scheduler, and logs its learning rate. Each `train()` restarts the schedule,
    unless it continues from a checkpoint. `lr_scheduler_type` and the warm-up of the trainer's arguments are not used.

    Args:
        trainer: the `transformers.Trainer`, or an instance of a subclass.
        schedule: a schedule, or the bounds of one cycle over all updates that `train()` makes.
        momentum, weight_decay: schedules, as for `cyclr.torch.Scheduler`.
        resume: as for `cyclr.torch.Scheduler`; used when `train(resume_from_checkpoint=...)` loads the scheduler.

    Warns:
        UserWarning: in `train()`, if it makes fewer updates than the schedule has.

    Raises:
        TypeError: `trainer` is not a trainer, or `schedule` is not a schedule or bounds.
        BoundsError: the bounds hold no numbers.

    Example: see `range_test`.
    """
    _check_type(trainer)
    if not isinstance(schedule, Schedule | Bounds):
        raise TypeError(
            f"schedule must be a schedule or bounds; got {_checks.quoted(schedule)}. Pass result.bounds, or "
            "result.bounds.schedule(total_steps=...)."
        )

    if isinstance(schedule, Bounds):
        # Raises now if the bounds hold no numbers.
        tuple(schedule)

    def create_scheduler(num_training_steps: int, optimizer: Any = None) -> Any:
        lr = schedule.schedule(total_steps=num_training_steps) if isinstance(schedule, Bounds) else schedule
        if (lr.total_steps or 0) > num_training_steps:
            warn(
                f"the schedule has total_steps={lr.total_steps}, but train() makes {num_training_steps} updates: it "
                f"ends in the middle of the schedule, at {lr(num_training_steps - 1):.3g}. Pass bounds, which fill the "
                f"run, or a schedule of total_steps={num_training_steps}."
            )
        trainer.lr_scheduler = Scheduler(optimizer or trainer.optimizer, lr, momentum, weight_decay, resume=resume)
        return trainer.lr_scheduler

    trainer.create_scheduler = create_scheduler


class _TestEndedError(Exception):
    """Ends `train()` after the range test, before the training."""


class _Test(TrainerCallback):  # type: ignore[misc]
    """Runs the range test after `train()` has prepared the training, and then ends `train()`.

    Attributes:
        result: the result, after the test.
    """

    def __init__(self, trainer: Any, options: dict[str, Any]) -> None:
        self._trainer, self._options = trainer, options
        self.result: RangeTestResult | None = None

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Return a scheduler that does nothing, because another one would set the optimizer's rates."""
        trainer = self._trainer
        trainer.lr_scheduler = trainer.lr_scheduler or _Scheduler()
        return trainer.lr_scheduler

    def on_train_begin(self, args: Any, state: Any, control: Any, *, train_dataloader: Any, **parts: Any) -> None:
        trainer, options = self._trainer, self._options
        if options["refine"] is not None and options["total_steps"] is None:
            options = options | {"total_steps": state.max_steps}
        trainer.accelerator.sync_gradients = True
        model, scaler = trainer.model_wrapped, getattr(trainer.accelerator, "scaler", None)
        with contextlib.ExitStack() as undo:
            # The scaler is not passed to `range_test`, because the trainer makes the updates.
            undo.callback(TrainingState(torch.nn.ModuleList(), (), scaler).restore)
            data = _Data(trainer, train_dataloader)
            step_fn = _Update(trainer, model, scaler)
            self.result = torch_range_test(model, trainer.optimizer, loader=data, step_fn=step_fn, **options)
        raise _TestEndedError


class _Rows(torch.utils.data.Dataset):  # type: ignore[misc]
    """Wraps a list of rows, so that the rows are not copied with the trainer's other attributes."""

    def __init__(self, rows: list[Any]) -> None:
        self._rows = rows

    def __getitem__(self, index: int) -> Any:
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)


class _Data:
    """The trainer's training data. Each item is the list of batches of one update, with the number of their items."""

    def __init__(self, trainer: Any, loader: Any) -> None:
        self._trainer, self._loader = trainer, loader
        self.loaders = [loader]
        self.batch_size, self.accumulate = trainer.args.train_batch_size, trainer.args.gradient_accumulation_steps

    def __iter__(self) -> Iterator[tuple[list[Any], Any]]:
        read = self._trainer.get_batch_samples
        # Older versions of Transformers pass no device.
        device = [self._trainer.args.device] if len(inspect.signature(read).parameters) > 2 else []
        batches = iter(self._loader)
        while (update := read(batches, self.accumulate, *device))[0]:
            yield update


class _Update:
    """Makes one update with the trainer's `training_step`, as the trainer's loop does."""

    def __init__(self, trainer: Any, model: Any, scaler: Any) -> None:
        self._trainer, self._model, self._scaler = trainer, model, scaler
        self._processes = Processes(model)

    def __call__(self, update: tuple[list[Any], Any]) -> float | None:
        """Return the loss of the update: the sum, because the trainer has divided the losses of the batches."""
        if self._scaler is None:
            return self._attempt(*update)
        inner = _groups.unwrapped(self._trainer.optimizer)
        return repeat_skipped(inner, lambda: self._attempt(*update), self._processes)

    def _attempt(self, batches: list[Any], items: Any) -> float:
        trainer, model = self._trainer, self._model
        model.zero_grad()
        trainer.current_gradient_accumulation_steps = len(batches)
        losses = []
        for number, inputs in enumerate(batches):
            # Processes exchange their gradients once, with the last batch.
            is_last = number == len(batches) - 1
            with contextlib.nullcontext() if is_last else trainer.accelerator.no_sync(model=model):
                losses.append(trainer.training_step(model, inputs, items))
        if trainer.args.max_grad_norm:
            trainer.accelerator.clip_grad_norm_(model.parameters(), trainer.args.max_grad_norm)
        trainer.optimizer.step()
        return float(sum(losses))


class AutoCycleCallback(TrainerCallback):  # type: ignore[misc]
    """A callback that trains with `cyclr.torch.AutoCycle`. Replaces the scheduler that a `Trainer` creates.

    Create it with the trainer and add it: `trainer.add_callback(AutoCycleCallback(trainer))`. The trainer calls
    callbacks without the loss. Therefore this callback replaces two methods of the trainer: `training_step`, to read
    the loss that it returns, and `create_scheduler`. The model, the data, accumulation, precision, clipping, label
    smoothing and your own `compute_loss` are used as in training without the callback.

    The loss of an update is the loss that the trainer trains on: the mean over its batches, or over their tokens, and
    over the processes. The length of the run is the trainer's number of updates. The logged `learning_rate` is the
    learning rate of the update. Checkpoints hold the state of AutoCycle, with its copies, in `scheduler.pt`, so
    `trainer.train(resume_from_checkpoint=...)` continues as if training had not stopped.

    Args:
        trainer: the `transformers.Trainer`, or an instance of a subclass, without a scheduler.
        schedule, also, copies_on: as for `cyclr.torch.AutoCycle`. The trainer's loss scaler is restored too.
        usual_lr: as for `cyclr.torch.AutoCycle`. By default `learning_rate` of the trainer's arguments, or the default
            of `cyclr.torch.AutoCycle` if the trainer was created with an optimizer.
        resume: `"same"`: a checkpoint must have the same length and schedule; `"new"`: continue with the length and
            schedule of this trainer, to extend or change the run.

    Attributes:
        auto: the `AutoCycle` of the last `train()`; None before.
        events: its events.

    Raises:
        TypeError, ValueError: `trainer` is not a trainer, shards the model (FSDP, DeepSpeed), updates layer by layer,
            has a scheduler or arguments for a scheduler, or already has an AutoCycle; in `train()`, the checkpoint
            lacks the state.
        AutoCycleError: the callback was not added to the trainer; no update of the optimizer could be seen.

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

    Source: Smith 2017, arXiv:1506.01186, for the cycle; Chowdhery et al. 2022, arXiv:2204.02311, for restoring states.
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
            # The trainer has divided the losses of an update by their number, or by the number of tokens.
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
                "trainer.add_callback(callback). To train without AutoCycle, create another Trainer."
            )
        self._trainer.lr_scheduler = self._scheduler = _Scheduler()
        return self._scheduler

    def on_train_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        trainer, scheduler = self._trainer, self._scheduler
        if trainer.lr_scheduler is not scheduler:
            raise ValueError(
                f"trainer must create its scheduler by create_scheduler(); got {type(trainer.lr_scheduler).__name__}. "
                "Do not override create_optimizer_and_scheduler, or use Scheduler."
            )
        if state.global_step and scheduler.saved is None:
            raise ValueError(
                f"the checkpoint of step {state.global_step} must hold the state of AutoCycle; got a checkpoint "
                "without an optimizer and scheduler. Save checkpoints with save_only_model=False."
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
                "a loss. Use cyclr.torch.AutoCycle in your own training loop."
            )
        auto.step(loss)
        scaled = getattr(self._trainer.accelerator, "scaler", None) is not None
        if auto.last_step < 0 and not scaled and math.isfinite(loss):
            raise AutoCycleError(
                f"AutoCycle must see the updates of the trainer's optimizer; got an update in which "
                f"{type(parts['optimizer']).__name__} ran no hooks. Use another optim=... in TrainingArguments."
            )


class _Scheduler:
    """The object that the trainer steps, logs, saves and loads as its scheduler.

    Attributes:
        auto: the AutoCycle, after the start of training.
        saved: a state that was loaded before the start of training.
        rates: the learning rates of the current or the last update.
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


def _check_type(trainer: Any) -> None:
    if not isinstance(trainer, Trainer):
        raise TypeError(
            f"trainer must be a transformers.Trainer; got {type(trainer).__name__}. Create the trainer first, and pass "
            "it as the first argument."
        )


def _check_trainer(trainer: Any, what: str, remedy: str) -> None:
    """Raise if the updates of a trainer cannot be copied and restored, or are not made by its optimizer."""
    _check_type(trainer)
    optim = str(getattr(trainer.args.optim, "value", trainer.args.optim))
    refused = {
        "DeepSpeed": trainer.is_deepspeed_enabled,
        "FSDP": trainer.is_fsdp_enabled or any(hasattr(p, "to_local") for p in trainer.model.parameters()),
        f"optim={optim!r}": "layerwise" in optim or "lomo" in optim,
    }
    if found := [name for name, used in refused.items() if used]:
        raise ValueError(
            f"trainer must have the whole model in every process for {what}, and one optimizer that updates it; got "
            f"{', '.join(found)}. {remedy}"
        )


def _check(trainer: Any) -> None:
    """Raise if AutoCycle cannot replace the trainer's scheduler."""
    _check_trainer(trainer, "AutoCycle", "Use Scheduler, or cyclr.torch.AutoCycle in your own training loop.")
    if any(isinstance(callback, AutoCycleCallback) for callback in trainer.callback_handler.callbacks):
        raise ValueError("trainer must have one AutoCycleCallback; got a second. Create another Trainer.")
    args = trainer.args
    names = "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "warmup_ratio"
    given = {name: value for name in names if (value := getattr(args, name, None)) and value != "linear"}
    if given or trainer.lr_scheduler is not None:
        received = [type(trainer.lr_scheduler).__name__] if trainer.lr_scheduler else []
        received += [f"{name}={getattr(value, 'value', value)}" for name, value in given.items()]
        raise ValueError(
            f"trainer must be created without a scheduler, because AutoCycle replaces it; got {', '.join(received)}. "
            "Pass optimizers=(optimizer, None), and no arguments for a scheduler."
        )


__all__ = ["AutoCycleCallback", "range_test", "set_schedule"]

_names.Package.adopt(__name__)
