"""The range test of a torch model, which is left as it was, in one process or in many."""

import contextlib
import inspect
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import distributed
from torch.optim import Optimizer

from cyclr import _checks, _files, _generators
from cyclr.errors import RangeTestError
from cyclr.range_test import RangeTest, RangeTestResult
from cyclr.range_test import repeats as repetition
from cyclr.range_test.driver import Spacing
from cyclr.torch import _groups, _hooks
from cyclr.torch.snapshot import LoaderState, Snapshot


def range_test(
    model: torch.nn.Module,
    optimizer: Optimizer,
    loss_fn: Callable[[Any, Any], Any] | None,
    loader: Iterable[Any],
    *,
    min_lr: float = 1e-6,
    max_lr: float = 10.0,
    steps: int = 150,
    spacing: Spacing = "exponential",
    stop_factor: float | None = 4.0,
    smoothing: float = 0.9,
    step_fn: Callable[[Any], Any] | None = None,
    optimizers: Iterable[Optimizer] = (),
    accumulate: int = 1,
    scaler: Any = None,
    autocast: torch.dtype | None = None,
    group: int | None = None,
    updates_per_rate: int = 1,
    evaluate: Callable[[torch.nn.Module], Any] | None = None,
    repeats: int | None = None,
    seed: int | None = 0,
    snapshot_dir: str | os.PathLike[str] | None = None,
    on_step: Callable[[RangeTest], None] | None = None,
) -> RangeTestResult:
    """Train for `steps` updates with a rising learning rate, record each update's loss, and put everything back.

    Afterwards parameters, buffers, optimizer state, scaler, modes, gradients and random number generators are as they
    were, also if the test raises or is interrupted; in place, and with one copy of the state held meanwhile. The loader
    is begun again when it ends; one that has a `state_dict` is put back too, and so are the epochs that samplers count
    and workers that live on, beside which the test has its own. An iterator can only be read once.

    The recorded loss is that of the batch, computed before its update; with `accumulate` or where the scaler skips
    updates, the mean over the batches of the update. Where several processes train together
    (`torch.distributed`), it is the mean over all of them, and they all stop at the same step: also if one of them sees
    NaN or runs out of data.

    Args:
        model: the model; under `DistributedDataParallel` the wrapped one. In the mode that training will be in: there
            is a warning if that is evaluation, unless a step_fn may set it.
        optimizer: the optimizer to sweep; of Accelerate's wrapper, the one within. The first parameter group gets the
            rate, others keep their ratio to it.
        loss_fn: `loss_fn(model(inputs), targets)` for batches `(inputs, targets)`. None for batches that are dicts of
            arguments, `model(**batch).loss`, or with a step_fn. Batches are moved to the device of the parameters.
        loader: batches: a `DataLoader`, a list, any iterable.
        min_lr, max_lr, steps, spacing, stop_factor, smoothing: as for `cyclr.RangeTest`.
        step_fn: a whole update of your own, for any batch and any loop: called with a batch, it updates once with the
            optimizer as it is and returns the loss.
        optimizers: other optimizers that step_fn uses, to be put back too.
        accumulate: batches whose gradients are averaged for one update, ≥ 1.
        scaler: `torch.amp.GradScaler`; an update that it skips makes no point.
        autocast: dtype of `torch.autocast`, such as `torch.bfloat16`.
        group: number of the one parameter group to sweep, while the others keep their own rates: one test for each
            group suggests bounds for each. All groups together by default.
        updates_per_rate: as for `cyclr.RangeTest`: the mean loss of so many updates makes a point.
        evaluate: `evaluate(model)` returns what is recorded instead of the loss of the batches, at the end of every
            rate: a loss on validation data, or 1 − accuracy. Modes that it changes are put back.
        repeats: tests from the same start, ≥ 1, with the seeds seed, seed + 1, …; the bounds are read off the mean of
            their losses. By default one, and up to three more while the curve is too noisy to read, or flat, and the
            second differs from the first. Of a sampler with `set_epoch`, the seed is added to the epoch.
        seed: seed of the order of the data and of all random operations, ≥ 0; None draws from the generators as they
            are. Same seed, same result, on deterministic hardware.
        snapshot_dir: folder for the copy of the training state, which is held in memory by default; what is written
            there is gone after the test.
        on_step: called with the running test after every update, to show progress.

    Returns:
        The result; `result.bounds` are the bounds to train with.

    Raises:
        TypeError, ValueError: an argument out of range.
        RangeTestError: no loss could be recorded.

    Example:
        >>> import torch
        >>> from cyclr.torch import range_test
        >>> _ = torch.manual_seed(0)
        >>> x = torch.randn(256, 4)
        >>> y = x @ torch.tensor([[1.0], [-2.0], [0.5], [3.0]])
        >>> loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=32, shuffle=True)
        >>> model = torch.nn.Linear(4, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        >>> range_test(model, optimizer, torch.nn.functional.mse_loss, loader).bounds.status
        'ok'

    Source: Smith 2017, arXiv:1506.01186, section 3.3.
    """
    optimizer = _groups.unwrapped(optimizer)
    if step_fn is not None and (accumulate != 1 or scaler is not None or autocast is not None):
        raise ValueError(
            "step_fn must do accumulation, scaling and autocast itself; got it with one of these arguments."
        )
    if evaluate is not None:
        _checks.function("evaluate", evaluate, "of the model that returns a number")
    _checks.integer("accumulate", accumulate, at_least=1)
    repetition.check(seed, repeats)
    if step_fn is None and _needs_closure(optimizer):
        raise TypeError(
            "an optimizer that computes the loss itself, several times in an update, needs step_fn; got "
            f"{type(optimizer).__name__}. Pass step_fn=..., a function of the batch that calls optimizer.step(closure) "
            "and returns the loss."
        )
    if step_fn is None and not model.training:
        warnings.warn(
            "model is in evaluation mode, and is tested in it: the rates of training may be others; call model.train() "
            "first.",
            stacklevel=2,
        )
    processes = _Processes(model)
    swept = _swept(optimizer, group)
    all_optimizers = [optimizer, *map(_groups.unwrapped, optimizers)]

    def run(seed: int | None) -> RangeTestResult:
        test = RangeTest(
            min_lr,
            max_lr,
            steps,
            spacing,
            stop_factor=stop_factor,
            smoothing=smoothing,
            updates_per_rate=updates_per_rate,
            evaluate=None if evaluate is None else lambda: processes.mean(_evaluated(model, evaluate)),
        )
        with contextlib.ExitStack() as undo:
            undo.callback(_generators.Generators(loader).restore)
            # Some loaders have the method, and no state behind it.
            with contextlib.suppress(AttributeError):
                undo.callback(loader.load_state_dict, loader.state_dict())  # type: ignore[attr-defined]
            undo.callback(LoaderState(loader).restore)
            folder = undo.enter_context(_files.folder_within(snapshot_dir, name="snapshot_dir"))
            undo.callback(Snapshot(model, all_optimizers, scaler, folder).restore)
            undo.enter_context(_hooks.uncounted(all_optimizers))
            # The snapshot gives groups that shared a tensor their own back.
            _groups.separate_rates(optimizer.param_groups)
            if seed is not None:
                _generators.seed_all(seed, loader)
            batches = _Batches(loader)
            update = _Update(model, optimizer, loss_fn, accumulate, scaler, autocast, processes)
            if processes.any(not batches)[0]:
                raise RangeTestError("data must hold a batch at least; got data that ended at once.")
            for lr in test:
                for settings, share in swept:
                    _groups.assign(settings, lr * share, "lr")
                loss = update(batches) if step_fn is None else _number(step_fn(next(batches)))
                if loss is None:
                    test.stop("data_exhausted")
                    break
                test.record(processes.mean(loss))
                if on_step is not None:
                    on_step(test)
                stopped, exhausted = processes.any(test.stopped, not test.stopped and not batches)
                if stopped or exhausted:
                    test.stop("interrupted" if stopped else "data_exhausted")
        return test.result()

    return repetition.repeated(run, seed, repeats, read_once=isinstance(loader, Iterator))


def _swept(optimizer: Optimizer, group: int | None) -> list[tuple[dict[str, Any], float]]:
    """The parameter groups to sweep, each with its share of the rate."""
    groups = optimizer.param_groups
    if group is None:
        rates = [_groups.number(settings.get("initial_lr", settings["lr"])) for settings in groups]
        return list(zip(groups, _groups.shares(rates), strict=True))
    if _checks.integer("group", group, at_least=0) >= len(groups):
        raise ValueError(f"group must be the number of a parameter group, 0 to {len(groups) - 1}; got group={group}.")
    return [(groups[group], 1.0)]


def _needs_closure(optimizer: Optimizer) -> bool:
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def _evaluated(model: torch.nn.Module, evaluate: Callable[[torch.nn.Module], Any]) -> float:
    modes = [(module, module.training) for module in model.modules()]
    try:
        with torch.no_grad():
            return _number(evaluate(model))
    finally:
        for module, training in modes:
            module.training = training


SKIPPED_AT_MOST = 100
"""Updates in a row that loss scaling may skip, as it halves its scale from 2^16."""


class _Batches:
    """The batches of a loader, begun again when it ends; true as long as there is another one."""

    def __init__(self, loader: Iterable[Any]) -> None:
        self._loader = loader
        self._iterator: Iterator[Any] = iter(loader)
        self._read_once = self._iterator is loader
        self._next: Any = _NONE

    def __bool__(self) -> bool:
        if self._next is _NONE:
            self._next = next(self._iterator, _NONE)
        if self._next is _NONE and not self._read_once:
            self._iterator = iter(self._loader)
            self._next = next(self._iterator, _NONE)
        return self._next is not _NONE

    def __next__(self) -> Any:
        if not self:
            raise StopIteration
        batch, self._next = self._next, _NONE
        return batch


_NONE = object()


class _Update:
    """One update of the optimizer out of as many batches as it takes."""

    def __init__(
        self,
        model: Any,
        optimizer: Any,
        loss_fn: Any,
        accumulate: int,
        scaler: Any,
        autocast: torch.dtype | None,
        processes: "_Processes",
    ) -> None:
        self._model, self._optimizer, self._loss_fn = model, optimizer, loss_fn
        self._accumulate, self._scaler, self._autocast = accumulate, scaler, autocast
        self._device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        self._processes = processes
        self._done = False

    def __call__(self, batches: _Batches) -> float | None:
        """Update once, and return the mean loss of the batches; None if the data ended before the update happened."""
        if self._scaler is None:
            losses = self._backward(batches)
            return sum(losses) / len(losses)
        self._done = False
        handle = self._optimizer.register_step_post_hook(self._note)
        losses = []
        try:
            for _ in range(SKIPPED_AT_MOST):
                losses += self._backward(batches)
                if not self._processes.any(not self._done)[0]:
                    return sum(losses) / len(losses)
                infinite, ended = self._processes.any(not all(map(math.isfinite, losses)), not batches)
                if infinite:
                    return sum(losses) / len(losses)
                if ended:
                    return None
        finally:
            handle.remove()
        # No scale helps: gradients are not finite, whatever the loss is.
        return math.nan

    def _note(self, optimizer: Any, *arguments: Any) -> None:
        self._done = not _groups.skips(optimizer)

    def _backward(self, batches: _Batches) -> list[float]:
        self._optimizer.zero_grad(set_to_none=True)
        losses = []
        for number in range(self._accumulate):
            if number > 0 and self._processes.any(not batches)[0]:
                break
            with self._context():
                loss = self._loss(_moved(next(batches), self._device))
            losses.append(_number(loss))
            # On a small model, a division by 1 and its gradient would be felt.
            part = loss if self._accumulate == 1 else loss / self._accumulate
            (part if self._scaler is None else self._scaler.scale(part)).backward()
        if self._scaler is None:
            self._optimizer.step()
        else:
            self._scaler.step(self._optimizer)
            self._scaler.update()
        return losses

    def _context(self) -> Any:
        if self._autocast is None:
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, dtype=self._autocast)

    def _loss(self, batch: Any) -> Any:
        if self._loss_fn is None and isinstance(batch, Mapping):
            return self._model(**batch).loss
        if self._loss_fn is not None and isinstance(batch, list | tuple) and len(batch) == 2:
            return self._loss_fn(self._model(batch[0]), batch[1])
        raise TypeError(
            "a batch must be (inputs, targets) with a loss_fn, or a dict of arguments without; got "
            f"{type(batch).__name__}. Pass step_fn=..., a function of the batch that updates once and returns the loss."
        )


class _Processes:
    """All processes that train together: what one of them sees, all of them act on."""

    def __init__(self, model: Any) -> None:
        self._together = (
            distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
        )
        parameter = next(iter(model.parameters()), None)
        self._device = "cpu" if parameter is None else parameter.device

    def _sum(self, *values: float) -> list[float]:
        total = torch.tensor(values, dtype=torch.float64, device=self._device)
        distributed.all_reduce(total)
        return [float(value) for value in total]

    def any(self, *flags: bool) -> list[bool]:
        """Whether each of the flags is set in any process."""
        return [total > 0 for total in self._sum(*flags)] if self._together else list(flags)

    def mean(self, loss: float) -> float:
        """The mean over the processes."""
        return self._sum(loss)[0] / distributed.get_world_size() if self._together else loss


def _number(loss: Any) -> float:
    if isinstance(loss, torch.Tensor):
        loss = loss.detach()
        if loss.numel() != 1:
            raise ValueError(f"the loss must be one number; got a tensor of shape {tuple(loss.shape)}. Take its mean?")
    return float(loss)


def _moved(batch: Any, device: Any) -> Any:
    """The batch with every tensor in it on the device."""
    if isinstance(batch, torch.Tensor) or hasattr(batch, "to"):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: _moved(value, device) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        moved = [_moved(value, device) for value in batch]
        return type(batch)(*moved) if hasattr(batch, "_fields") else type(batch)(moved)
    return batch
