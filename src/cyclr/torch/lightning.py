"""Callbacks for Lightning: a range test at the start of `trainer.fit`, and AutoCycle."""

import collections
import contextlib
import copy
import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import torch

from cyclr import _extras

with _extras.needed("cyclr.torch.lightning needs", "lightning", extra="lightning"):
    import lightning
    from lightning.pytorch.loggers.logger import DummyLogger
    from lightning.pytorch.utilities import CombinedLoader
    from torchmetrics import Metric

from cyclr import _checks, _names
from cyclr._contents import Contents
from cyclr.auto import AutoEvent
from cyclr.bounds import Bounds
from cyclr.errors import RangeTestError
from cyclr.range_test import RangeTest, RangeTestResult
from cyclr.range_test.driver import Spacing
from cyclr.range_test.progress import Verbose
from cyclr.range_test.repeats import Sweep
from cyclr.schedules import Run, Schedule
from cyclr.torch import _private, _private_lightning
from cyclr.torch._update import LeftOutError, Processes, repeat_skipped
from cyclr.torch.auto_cycle import AutoCycle
from cyclr.torch.range_test import range_test
from cyclr.torch.state import TrainingState, copy_in_memory, silence


class RangeTestCallback(lightning.Callback):  # type: ignore[misc]
    """A callback that runs `cyclr.torch.range_test` when training starts. Training then runs as without the test.

    The test uses the module's `training_step` with the trainer's optimizer, training data, device, precision, gradient
    clipping and accumulation, in one process or in several. Then everything is restored, even if the test raises or is
    interrupted: weights, optimizers, schedulers, metrics, contents of the module's attributes, random number
    generators, counters and logs. Other callbacks and loggers are not called. Of the module's hooks, only those around
    the transfer of a batch, the backward pass and the update are called. The training data must be readable twice.

    Each point is one update of the optimizer. Its loss is the value that `training_step` returns, or logs as `monitor`,
    averaged over the batches of the update. Batches for which `training_step` returns None are left out.

    Args:
        min_lr, max_lr, steps, spacing, stop_factor, smoothing, updates_per_rate, repeats, seed, total_steps, refine,
            on_step, verbose: as for `cyclr.torch.range_test`. With `verbose="auto"`, nothing is shown if the trainer
            shows no progress.
        optimizer: index of the optimizer to sweep, ≥ 0, if the module has several and uses manual optimization.
        monitor: name of a value that `training_step` logs, to record instead of the returned loss. Required if the
            module uses manual optimization and returns nothing.
        then_train: False to end `fit` after the test, for a trainer that only finds bounds.

    Attributes:
        result: the `RangeTestResult` of the last `fit`; None before.

    Raises:
        TypeError, ValueError: an argument is out of range; in `fit`, the test cannot use the trainer or the data.
        RangeTestError: in `fit`, no loss could be recorded.

    Example:
        >>> import lightning
        >>> from cyclr.torch.lightning import RangeTestCallback
        >>> finder = RangeTestCallback(max_lr=1.0, then_train=False)
        >>> trainer = lightning.Trainer(accelerator="cpu", logger=False, callbacks=[finder])
        >>> trainer.fit(module, loader)  # doctest: +SKIP
        >>> schedule = finder.result.bounds.schedule(total_steps=1000)  # doctest: +SKIP

    Source: Smith 2017, arXiv:1506.01186, section 3.3.
    """

    @_names.hinted
    def __init__(
        self,
        *,
        min_lr: float = 1e-6,
        max_lr: float = 10.0,
        steps: int = 150,
        spacing: Spacing = "exponential",
        stop_factor: float | None = 4.0,
        smoothing: float = 0.9,
        updates_per_rate: int = 1,
        repeats: int | None = None,
        seed: int | None = 0,
        total_steps: int | Run | None = None,
        refine: int | None = None,
        optimizer: int = 0,
        monitor: str | None = None,
        then_train: bool = True,
        on_step: Callable[[RangeTest], None] | None = None,
        verbose: Verbose = "auto",
    ) -> None:
        arguments = min_lr, max_lr, steps, spacing, stop_factor, smoothing, updates_per_rate, repeats, seed
        self._sweep = Sweep(*arguments, total_steps, refine, verbose)
        self._optimizer = _checks.integer("optimizer", optimizer, at_least=0)
        self._monitor, self._then_train, self._on_step = monitor, then_train, on_step
        self.result: RangeTestResult | None = None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage == "fit" and not self._then_train and (trainer.min_epochs or trainer.min_steps):
            raise ValueError(
                "then_train=False needs a trainer that may stop before its first epoch; got "
                f"min_epochs={trainer.min_epochs!r}, min_steps={trainer.min_steps!r}. Create it without them."
            )

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.result = None
        optimizer = self._swept(trainer)
        quiet = {"verbose": 0} if self._sweep.verbose == "auto" and trainer.progress_bar_callback is None else {}
        with contextlib.ExitStack() as undo:
            data = _Data(trainer)
            # Resetting the data ends its workers.
            undo.callback(data.combined.reset)
            _copy_attributes(pl_module, undo)
            logged = _silence(trainer, pl_module, undo)
            # The scaler is not passed to `range_test`, because the trainer makes the updates.
            scaler = getattr(trainer.precision_plugin, "scaler", None)
            undo.callback(TrainingState(torch.nn.ModuleList(), (), scaler).restore)
            self.result = range_test(
                pl_module,
                optimizer,
                None,
                data,
                step_fn=_Update(trainer, pl_module, optimizer, scaler, self._monitor, logged),
                optimizers=[other for other in trainer.optimizers if other is not optimizer],
                on_step=self._on_step,
                **vars(self._sweep) | quiet,
            )
        if not self._then_train:
            trainer.should_stop = True

    def _swept(self, trainer: Any) -> Any:
        if trainer.strategy.handles_gradient_accumulation:
            raise ValueError(
                "the range test needs a strategy with which the trainer makes the updates; got "
                f"{type(trainer.strategy).__name__}, which makes the updates itself. Test on one device or with DDP."
            )
        if self._optimizer >= len(trainer.optimizers):
            raise ValueError(
                f"optimizer must be the number of one of the module's {len(trainer.optimizers)} optimizers, from 0; "
                f"got optimizer={self._optimizer}."
            )
        return trainer.optimizers[self._optimizer]


class AutoCycleCallback(lightning.Callback):  # type: ignore[misc]
    """A callback that trains with `cyclr.torch.AutoCycle`. Replaces a scheduler in `configure_optimizers`.

    The loss is the value that `training_step` returns, averaged over the batches of an update, and over the processes
    with DDP. The length of the run is `trainer.estimated_stepping_batches`. A checkpoint of the trainer holds the state
    of AutoCycle, with its copies.

    Args:
        schedule, also, usual_lr, copies_on: as for `cyclr.torch.AutoCycle`. The trainer's loss scaler is restored too.
        resume: `"same"`: a checkpoint must have the same length and schedule; `"new"`: continue with the length and
            schedule of this trainer, to extend or change the run.

    Attributes:
        auto: the `AutoCycle` of the last `fit`; None before.
        events: its events.

    Raises:
        TypeError, ValueError: in `fit`, the module has several optimizers, its own scheduler or manual optimization;
            the trainer has no end, or its strategy makes the updates itself; `training_step` returns no loss.

    Example:
        >>> import lightning
        >>> from cyclr.torch.lightning import AutoCycleCallback
        >>> auto = AutoCycleCallback()
        >>> trainer = lightning.Trainer(accelerator="cpu", logger=False, max_epochs=3, callbacks=[auto])
        >>> trainer.fit(module, loader)  # doctest: +SKIP
    """

    @_names.hinted
    def __init__(
        self,
        schedule: Schedule | Bounds | None = None,
        *,
        also: Iterable[Any] = (),
        usual_lr: float | None = None,
        copies_on: str | torch.device | None = None,
        resume: Literal["same", "new"] = "same",
    ) -> None:
        self._schedule, self._also = schedule, [*also]
        self._resume: Any = _checks.choice("resume", resume, ("same", "new"))
        self._options: dict[str, Any] = {"usual_lr": usual_lr, "copies_on": copies_on}
        self.auto: AutoCycle | None = None
        self._saved: dict[str, Any] | None = None
        self._losses: list[float] = []
        self._made = 0

    @property
    def events(self) -> tuple[AutoEvent, ...]:
        return self.auto.events if self.auto else ()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        problems = {
            f"{len(trainer.optimizers)} optimizers": len(trainer.optimizers) != 1,
            "a scheduler of its own": bool(trainer.lr_scheduler_configs),
            "updates of its own (automatic_optimization=False)": not pl_module.automatic_optimization,
            f"{type(trainer.strategy).__name__}, which makes updates": trainer.strategy.handles_gradient_accumulation,
        }
        found = [words for words, given in problems.items() if given]
        if found:
            raise ValueError(
                "AutoCycleCallback needs a module with one optimizer, which the trainer updates, and without a "
                f"scheduler; got {', '.join(found)}. Return only one optimizer from configure_optimizers, or use "
                "cyclr.torch.AutoCycle in your own training loop."
            )
        total = trainer.estimated_stepping_batches
        if total == float("inf"):
            raise ValueError("the trainer must have an end; got none. Create it with max_epochs=... or max_steps=....")
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        self.auto = AutoCycle(
            trainer.strategy.model,
            trainer.optimizers[0],
            total_steps=int(total),
            schedule=self._schedule,
            also=[*self._also, *([] if scaler is None else [scaler])],
            **self._options,
        )
        if self._saved is not None:
            self.auto.load_state_dict(self._saved, self._resume)
            self._saved = None
        self._losses, self._made = [], trainer.global_step

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if loss is not None:
            # Lightning has divided the loss by the number of batches.
            self._losses.append(float(loss) * trainer.accumulate_grad_batches)
        if trainer.global_step == self._made or self.auto is None:
            return
        if not self._losses:
            raise TypeError("training_step must return the loss that AutoCycle follows; got None.")
        self._made = trainer.global_step
        self.auto.step(sum(self._losses) / len(self._losses))
        self._losses.clear()

    def state_dict(self) -> dict[str, Any]:
        return {} if self.auto is None else self.auto.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._saved = state_dict or None


class _Data:
    """The trainer's training data, read by separate iterators. Each item is the list of batches of one update."""

    def __init__(self, trainer: Any) -> None:
        read = _private_lightning.training_data(trainer)
        self.loaders = [_independent_loader(loader) for loader in read.flattened]
        self.combined = CombinedLoader(read.iterables, _private_lightning.combination_mode(read))
        self.combined.flattened = self.loaders
        self.combined.limits = read.limits
        self._size = trainer.accumulate_grad_batches

    def __iter__(self) -> Iterator[list[tuple[Any, int]]]:
        batches = ((batch, index) for batch, index, _ in self.combined)
        while group := list(itertools.islice(batches, self._size)):
            yield group


def _independent_loader(loader: Any) -> Any:
    """Return a loader of the same data with its own iterator, because training already reads from `loader`."""
    if isinstance(loader, Iterator):
        raise ValueError(
            "the training data must be readable twice, by the range test and by the training after it; got "
            f"{type(loader).__name__}, which is an iterator. Pass a DataLoader, or an iterable that can be read again."
        )
    if not isinstance(loader, torch.utils.data.DataLoader):
        return loader
    apart = copy.copy(loader)
    _private.detach_iterator(apart)
    return apart


class _Update:
    """Makes one update with the module's `training_step`, as the trainer's loop does."""

    def __init__(
        self,
        trainer: Any,
        module: Any,
        optimizer: Any,
        scaler: Any,
        monitor: str | None,
        logged: collections.ChainMap[str, Any],
    ) -> None:
        self._monitor, self._logged = monitor, logged
        self._trainer, self._strategy = trainer, trainer.strategy
        self._module, self._optimizer, self._scaler = module, optimizer, scaler
        self._processes = Processes(module)
        # The name of the second argument is the user's choice.
        self._with_index = len(inspect.signature(module.training_step).parameters) > 1

    def __call__(self, group: list[tuple[Any, int]]) -> float | None:
        """Return the mean loss of the batches."""
        if not self._module.automatic_optimization:
            ((batch, index),) = group
            return self._recorded(self._loss(batch, index))
        if self._scaler is None:
            return self._attempt(group)
        return repeat_skipped(self._optimizer, lambda: self._attempt(group), self._processes)

    def _attempt(self, group: list[tuple[Any, int]]) -> float:
        losses: list[float] = []
        self._strategy.optimizer_step(self._optimizer, lambda: self._backward(group, losses), model=self._module)
        # An optimizer may call the closure several times. The first call is before the update.
        return losses[0]

    def _backward(self, group: list[tuple[Any, int]], losses: list[float]) -> Any:
        """Compute the gradients of an update, and append the mean loss to `losses`."""
        recorded: list[float] = []
        with torch.enable_grad():
            for number, (batch, index) in enumerate(group):
                # Processes exchange their gradients once, with the last batch.
                no_exchange = getattr(self._strategy, "block_backward_sync", contextlib.nullcontext)
                with contextlib.nullcontext() if number == len(group) - 1 else no_exchange():
                    loss = self._loss(batch, index)
                    if loss is None:
                        continue
                    if not recorded:
                        self._optimizer.zero_grad()
                    recorded.append(self._recorded(loss))
                    self._strategy.backward(loss / self._trainer.accumulate_grad_batches, self._optimizer)
                    last = loss.detach()
        if not recorded:
            raise LeftOutError("training_step must return the loss to learn from; got None for 100 batches in a row.")
        losses.append(sum(recorded) / len(recorded))
        return last

    def _loss(self, batch: Any, index: int) -> Any:
        strategy = self._strategy
        batch = self._trainer.precision_plugin.convert_input(batch)
        batch = strategy.batch_to_device(_private_lightning.before_transfer(self._module)(batch, dataloader_idx=0))
        for logged in self._logged.maps:
            logged.clear()
        output = strategy.training_step(batch, index) if self._with_index else strategy.training_step(batch)
        loss = output.get("loss") if isinstance(output, dict) else output
        if loss is not None and not isinstance(loss, torch.Tensor):
            raise RangeTestError(
                f'training_step must return the loss, or a dict with a "loss"; got {type(output).__name__}.'
            )
        return loss

    def _recorded(self, loss: Any) -> float:
        """Return the number to record for a batch: the loss, or the value logged as `monitor`."""
        if self._monitor is None and loss is not None:
            return float(loss.item())
        if self._monitor is None or self._monitor not in self._logged:
            raise RangeTestError(
                "the loss to record must be returned by training_step, or logged and named by monitor=...; got "
                f"monitor={self._monitor!r}, and values logged as {', '.join(map(repr, self._logged)) or 'nothing'}."
            )
        return _checks.scalar("monitor", self._logged[self._monitor])


def _copy_attributes(module: Any, undo: contextlib.ExitStack) -> None:
    """Copy the contents of attributes, to restore lists of outputs, counters and sums of metrics after the test.

    If an attribute is a tensor, its values are only restored for metrics.
    """
    attributes, sums = Contents(), Contents(copy_in_memory)
    for part in module.modules():
        attributes.add(vars(part))
        for state in part.metric_state.values() if isinstance(part, Metric) else ():
            if isinstance(state, torch.Tensor):
                sums.add(state)
    undo.callback(attributes.restore)
    undo.callback(sums.restore)


def _silence(trainer: Any, module: Any, undo: contextlib.ExitStack) -> "collections.ChainMap[str, Any]":
    """Hide the steps of the range test from callbacks, loggers and schedulers. Return the values the module logs."""
    for name in ("callbacks", "loggers", "should_stop"):
        undo.callback(setattr, trainer, name, getattr(trainer, name))
    trainer.callbacks = []
    trainer.loggers = [DummyLogger() for _ in trainer.loggers]
    parts = [part for part in module.modules() if isinstance(part, lightning.LightningModule)]
    logged = collections.ChainMap(*[_mute(part, undo) for part in parts])
    for config in trainer.lr_scheduler_configs:
        silence(config.scheduler, ["step"], undo)
    return logged


def _mute(module: Any, undo: contextlib.ExitStack) -> dict[str, Any]:
    """Make `self.log` and `self.log_dict` write only into the returned dict."""
    own, logged = vars(module), dict[str, Any]()
    silence(module, ["log", "log_dict"], undo)
    own["log"] = lambda name, value, *arguments, **keywords: logged.update({name: value})
    own["log_dict"] = lambda dictionary, *arguments, **keywords: logged.update(dictionary.items())
    return logged


__all__ = ["AutoCycleCallback", "RangeTestCallback"]

_names.Package.adopt(__name__)
