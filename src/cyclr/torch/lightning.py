"""The range test within Lightning's `trainer.fit`, which goes on as if there had been none."""

import collections
import contextlib
import copy
import inspect
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch

from cyclr import _checks
from cyclr.errors import MissingExtraError, RangeTestError
from cyclr.range_test import RangeTest, RangeTestResult
from cyclr.range_test.driver import Spacing
from cyclr.torch import _groups
from cyclr.torch.range_test import SKIPPED_AT_MOST, range_test
from cyclr.torch.scheduler import Scheduler
from cyclr.torch.snapshot import Snapshot

try:
    import lightning
    from lightning.pytorch.loggers.logger import DummyLogger
    from lightning.pytorch.utilities import CombinedLoader
    from torchmetrics import Metric
except ImportError as error:
    raise MissingExtraError(
        'cyclr.torch.lightning needs Lightning. Install it: pip install "cyclr[lightning]".'
    ) from error


class RangeTestCallback(lightning.Callback):  # type: ignore[misc]
    """A callback that runs `cyclr.torch.range_test` when training begins: `trainer.fit` then goes on as without it.

    The test trains by the module's own `training_step`, on the trainer's optimizer, training data, device, precision,
    gradient clipping and accumulation, in one process or in many, and is then taken back: weights, optimizers,
    schedulers, metrics, what attributes of the module hold, random number generators, counters and logs are as they
    were, also if the test raises or is interrupted. Other callbacks and loggers hear nothing of it, and of the module's
    hooks only those around a batch's transfer, the backward pass and the update are called. Data that can be read only
    once cannot be tested on.

    The recorded loss is what `training_step` returns, the mean over the batches of an update; one point is one update
    of the optimizer.

    Args:
        min_lr, max_lr, steps, spacing, stop_factor, smoothing, updates_per_rate, repeats, seed, on_step: as for
            `cyclr.torch.range_test`.
        optimizer: number of the optimizer to sweep, for a module with several, which steps by itself; ≥ 0.
        then_train: whether `fit` goes on; False ends it after the test, for a trainer that is a finder only.

    Attributes:
        result: the `RangeTestResult` of the last `fit`; None before.

    Raises:
        TypeError, ValueError: an argument out of range; in `fit`, a trainer that the test cannot run in.
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
        optimizer: int = 0,
        then_train: bool = True,
        on_step: Callable[[RangeTest], None] | None = None,
    ) -> None:
        # It checks the arguments, now and not in `fit`.
        sweep: dict[str, Any] = {
            "stop_factor": stop_factor,
            "smoothing": smoothing,
            "updates_per_rate": updates_per_rate,
        }
        RangeTest(min_lr, max_lr, steps, spacing, **sweep)
        self._seed = None if seed is None else _checks.integer("seed", seed, at_least=0)
        self._optimizer = _checks.integer("optimizer", optimizer, at_least=0)
        self._then_train = then_train
        self._arguments: dict[str, Any] = {
            **{"min_lr": min_lr, "max_lr": max_lr, "steps": steps, "spacing": spacing},
            **{**sweep, "repeats": repeats, "on_step": on_step},
        }
        self.result: RangeTestResult | None = None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage == "fit" and not self._then_train and (trainer.min_epochs or trainer.min_steps):
            raise ValueError(
                "then_train=False needs a trainer that may stop before its first epoch; got "
                f"min_epochs={trainer.min_epochs!r}, min_steps={trainer.min_steps!r}. Make it without them."
            )

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.result = None
        optimizer = self._swept(trainer)
        with contextlib.ExitStack() as undo:
            data = _Data(trainer)
            undo.callback(data.close)
            for attributes in [_Attributes(module) for module in pl_module.modules()]:
                undo.callback(attributes.restore)
            _silence(trainer, pl_module, undo)
            # The scaler belongs to no optimizer of ours, as the trainer steps.
            scaler = getattr(trainer.precision_plugin, "scaler", None)
            undo.callback(Snapshot(torch.nn.ModuleList(), (), scaler).restore)
            self.result = range_test(
                pl_module,
                optimizer,
                None,
                data,
                step_fn=_Update(trainer, pl_module, optimizer, scaler),
                optimizers=[other for other in trainer.optimizers if other is not optimizer],
                seed=self._seed,
                **self._arguments,
            )
        if not self._then_train:
            trainer.should_stop = True

    def _swept(self, trainer: Any) -> Any:
        if trainer.strategy.handles_gradient_accumulation:
            raise ValueError(
                "the range test needs a strategy that leaves the updates to the trainer; got "
                f"{type(trainer.strategy).__name__}, which makes them by itself. Test on one device or by DDP."
            )
        if self._optimizer >= len(trainer.optimizers):
            raise ValueError(
                f"optimizer must be the number of one of the module's {len(trainer.optimizers)} optimizers, from 0; "
                f"got optimizer={self._optimizer}."
            )
        return trainer.optimizers[self._optimizer]


class _Data:
    """The trainer's training data, read by iterators of its own: the batches of one update at a time."""

    def __init__(self, trainer: Any) -> None:
        # There is no public way to its mode.
        combined = trainer.fit_loop._combined_loader
        self.loaders = [_read_apart(loader) for loader in combined.flattened]
        self._combined = CombinedLoader(combined.iterables, combined._mode)
        self._combined.flattened = self.loaders
        self._combined.limits = combined.limits
        self._size = trainer.accumulate_grad_batches

    def __iter__(self) -> Iterator[list[tuple[Any, int]]]:
        batches = ((batch, index) for batch, index, _ in self._combined)
        while group := list(itertools.islice(batches, self._size)):
            yield group

    def close(self) -> None:
        """End the workers."""
        self._combined.reset()


def _read_apart(loader: Any) -> Any:
    """A loader of the same data that shares no iterator with this one, which training has begun to read."""
    if isinstance(loader, Iterator):
        raise ValueError(
            "the training data must be readable twice, by the range test and by the training after it; got "
            f"{type(loader).__name__}, which is an iterator. Pass a DataLoader, or any iterable that begins anew."
        )
    if not isinstance(loader, torch.utils.data.DataLoader):
        return loader
    apart = copy.copy(loader)
    # With persistent workers, the one iterator is kept here.
    vars(apart)["_iterator"] = None
    return apart


class _Update:
    """One update by the module's own training step, as the trainer's loop makes it."""

    def __init__(self, trainer: Any, module: Any, optimizer: Any, scaler: Any) -> None:
        self._trainer, self._module, self._optimizer, self._scaler = trainer, module, optimizer, scaler
        # The name of the second argument is the user's.
        self._takes_index = len(inspect.signature(module.training_step).parameters) > 1
        self._done = False

    def __call__(self, group: list[tuple[Any, int]]) -> float:
        """Update once, and return the mean loss of the batches."""
        if not self._module.automatic_optimization:
            ((batch, index),) = group
            return float(self._loss(batch, index).item())
        handle = self._optimizer.register_step_post_hook(self._note)
        try:
            for _ in range(1 if self._scaler is None else SKIPPED_AT_MOST):
                self._done = False
                losses: list[float] = []
                self._trainer.strategy.optimizer_step(
                    self._optimizer, lambda losses=losses: self._backward(group, losses), model=self._module
                )
                # A step with a closure may call it several times; the first time is before the update.
                loss = sum(losses[: len(group)]) / len(group)
                if self._done or not math.isfinite(loss):
                    return loss
        finally:
            handle.remove()
        # No scale helps: gradients are not finite, whatever the loss is.
        return math.nan

    def _note(self, optimizer: Any, *arguments: Any) -> None:
        self._done = not _groups.skips(optimizer)

    def _backward(self, group: list[tuple[Any, int]], losses: list[float]) -> Any:
        strategy = self._trainer.strategy
        with torch.enable_grad():
            for number, (batch, index) in enumerate(group):
                # Gradients are exchanged once, by the last of the batches.
                alone = getattr(strategy, "block_backward_sync", contextlib.nullcontext)
                with contextlib.nullcontext() if number == len(group) - 1 else alone():
                    loss = self._loss(batch, index)
                    losses.append(loss.item())
                    if number == 0:
                        self._optimizer.zero_grad()
                    strategy.backward(loss / self._trainer.accumulate_grad_batches, self._optimizer)
        return loss.detach()

    def _loss(self, batch: Any, index: int) -> Any:
        strategy = self._trainer.strategy
        batch = self._trainer.precision_plugin.convert_input(batch)
        batch = strategy.batch_to_device(self._module._on_before_batch_transfer(batch, dataloader_idx=0))
        output = strategy.training_step(batch, index) if self._takes_index else strategy.training_step(batch)
        loss = output.get("loss") if isinstance(output, dict) else output
        if not isinstance(loss, torch.Tensor):
            raise RangeTestError(
                'training_step must return the loss to record, or a dict with a "loss"; got '
                f"{type(output).__name__}. Return it also where the step updates by itself."
            )
        return loss


class _Attributes:
    """What the attributes of a module hold besides parameters and buffers: sums of metrics, lists of outputs, counters.

    Other tensors than those of metrics are put back as they are, without a copy of their values.
    """

    def __init__(self, module: Any) -> None:
        self._contents: dict[int, tuple[Any, Any]] = {}
        self._note(vars(module))
        names = module._defaults if isinstance(module, Metric) else ()
        states = [getattr(module, name) for name in names]
        self._states = [(state, state.clone()) for state in states if isinstance(state, torch.Tensor)]

    def _note(self, container: Any) -> None:
        self._contents[id(container)] = container, copy.copy(container)
        for value in container.values() if isinstance(container, dict) else container:
            if type(value) in _CONTAINERS and id(value) not in self._contents:
                self._note(value)

    def restore(self) -> None:
        """Put them back, in place."""
        for container, content in self._contents.values():
            container.clear()
            (container.extend if isinstance(container, list | collections.deque) else container.update)(content)
        with torch.no_grad():
            for state, value in self._states:
                state.copy_(value)


_CONTAINERS = (dict, list, set, collections.deque, collections.OrderedDict, collections.defaultdict)


def _silence(trainer: Any, module: Any, undo: contextlib.ExitStack) -> None:
    """Let nobody but the module hear of the steps; `_Attributes` gives the module its methods back."""
    for name in ("callbacks", "loggers", "should_stop"):
        undo.callback(setattr, trainer, name, getattr(trainer, name))
    trainer.callbacks = []
    trainer.loggers = [DummyLogger() for _ in trainer.loggers]
    for part in module.modules():
        if isinstance(part, lightning.LightningModule):
            vars(part).update(log=_ignore, log_dict=_ignore)
    for config in trainer.lr_scheduler_configs:
        # Ours do not count while a range test runs.
        if not isinstance(config.scheduler, Scheduler):
            undo.callback(config.scheduler.load_state_dict, copy.deepcopy(config.scheduler.state_dict()))


def _ignore(*arguments: Any, **keywords: Any) -> None:
    """What `self.log` does during a range test."""
