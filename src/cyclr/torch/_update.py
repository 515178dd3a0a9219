"""An update of a range test: its batches, skipped updates with loss scaling, and processes that train together."""

import contextlib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed

from cyclr import _checks
from cyclr.errors import RangeTestError
from cyclr.range_test.driver import SKIPPED_AT_MOST
from cyclr.torch import _private
from cyclr.torch.state import TrainingState

_END = object()
_REMEDY = (
    "Pass loss_of=lambda model, batch: ..., a function that returns the loss, or step_fn=..., one that also updates."
)


class Batches:
    """The batches of a loader, which is read again when it ends. True as a bool if there is another batch."""

    def __init__(self, loader: Iterable[Any]) -> None:
        self._loader, self._iterator = loader, iter(loader)
        self.upcoming: Any = _END
        """The next batch, after `bool` returned True."""

    def __bool__(self) -> bool:
        if self.upcoming is _END:
            self.upcoming = next(self._iterator, _END)
        if self.upcoming is _END and self._iterator is not self._loader:
            self._iterator = iter(self._loader)
            self.upcoming = next(self._iterator, _END)
        return self.upcoming is not _END

    def __next__(self) -> Any:
        """Return the next batch, after `bool` returned True."""
        batch, self.upcoming = self.upcoming, _END
        return batch


class Processes:
    """The processes that train together. They combine losses and flags, so that all make the same decisions."""

    def __init__(self, model: Any) -> None:
        exists = distributed.is_available() and distributed.is_initialized()
        self.count = distributed.get_world_size() if exists else 1
        self.several = self.count > 1
        self.is_first = not exists or distributed.get_rank() == 0
        self.device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        self.moves = self.device.type != "cpu" or torch.accelerator.is_available()
        """True if batches may be on another device, so that they must be moved."""

    def sums(self, *values: float) -> list[float]:
        """Return the sum of each value over the processes."""
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return [float(value) for value in total]

    def any(self, *flags: bool) -> list[bool]:
        """Return for each flag True if any process sets it."""
        return [total > 0 for total in self.sums(*flags)] if self.several else list(flags)

    def mean(self, loss: float) -> float:
        """Return the mean of the loss over the processes."""
        return self.sums(loss)[0] / self.count if self.several else loss


class UnscalableError(Exception):
    """No loss scale gives finite gradients, although the loss is finite."""


class LeftOutError(RangeTestError):
    """`step_fn` made no update, because its batch must be left out."""


def repeat_skipped(
    optimizer: Any, attempt: Callable[[], float], processes: Processes, more: Callable[[], bool] = lambda: True
) -> float | None:
    """Attempt an update until loss scaling does not skip it in any process, and return its loss.

    Return None if another attempt is needed but `more` returns False, because the batches ended.

    Raises:
        UnscalableError: all `SKIPPED_AT_MOST` attempts were skipped.
    """
    made = [0]
    handle = optimizer.register_step_post_hook(_private.update_counter(made))
    try:
        for _ in range(SKIPPED_AT_MOST):
            made[0] = 0
            loss = attempt()
            if not processes.any(not made[0])[0]:
                return loss
            infinite, ended = processes.any(not math.isfinite(loss), not more())
            if infinite:
                return loss
            if ended:
                return None
    finally:
        handle.remove()
    raise UnscalableError


@dataclass
class Update:
    """Makes one update of a model per call, from as many batches as needed. For most fields, see `range_test`."""

    model: Any
    optimizer: Any
    stepped: Any
    """The optimizer that the user passed: `optimizer`, or a wrapper whose own `step()` updates."""
    state: TrainingState
    loss_of: Any
    loss_name: str
    """Name of the loss in error messages."""
    step_fn: Any
    accumulate: int
    batches: Batches
    processes: Processes
    scaler: Any
    autocast: torch.dtype | None
    clip_norm: float | None
    clip_value: float | None
    batch: Any = None
    """The last batch that `step_fn` got."""

    def __call__(self) -> float | None:
        """Return the mean loss over batches and processes, or None if the data ended before the update."""
        if not self.batches:
            return None
        try:
            loss = self._loss()
        except UserWarning as warning:
            sizes = re.findall(r"size \(torch\.Size\(\[([^\]]*)\]\)\)", str(warning))
            if len(sizes) != 2:
                raise
            raise ValueError(
                f"targets must have the shape of the model's output, ({sizes[1]}); got ({sizes[0]}), with which the "
                "loss compares every output with every target. Reshape the targets or the output."
            ) from warning
        return self.processes.mean(loss) if loss is not None and self.processes.several else loss

    def _loss(self) -> float | None:
        losses: list[float] = []
        if self.step_fn is not None:
            return self._step()
        if self.scaler is None:
            return self._attempt(losses)
        return repeat_skipped(self.optimizer, lambda: self._attempt(losses), self.processes, self.batches.__bool__)

    def _step(self) -> float | None:
        """Call step_fn until it updates, and return its loss. Return None if the data ends before."""
        for left in reversed(range(SKIPPED_AT_MOST)):
            self.batch = next(self.batches)
            try:
                return _loss_value(self.step_fn(self.batch), "step_fn(batch)")
            except LeftOutError:
                if not left:
                    raise
                if not self.batches:
                    break
        return None

    def _attempt(self, losses: list[float]) -> float:
        """Make an update, which the scaler may skip. Add the batches' losses to `losses`, and return their mean."""
        self.state.clear_gradients()
        for micro_batch in range(self.accumulate):
            if micro_batch > 0 and self.processes.any(not self.batches)[0]:
                break
            cast = None if self.autocast is None else torch.autocast(self.processes.device.type, self.autocast)
            with cast or contextlib.nullcontext():
                batch = next(self.batches)
                loss = self.loss_of(
                    self.model, to_device(batch, self.processes.device) if self.processes.moves else batch
                )
            losses.append(_loss_value(loss, self.loss_name))
            if not getattr(loss, "requires_grad", False):
                raise TypeError(
                    f"{self.loss_name} must be a tensor that depends on the model's parameters; got "
                    f"{_checks.quoted(loss)}. Return the loss without .item(), .detach() and torch.no_grad()."
                )
            if self.accumulate > 1:
                loss = loss / self.accumulate
            (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        self._clip()
        if self.scaler is None:
            self.stepped.step()
        else:
            self.scaler.step(self.stepped)
            self.scaler.update()
        return sum(losses) / len(losses)

    def _clip(self) -> None:
        """Clip the gradients of the whole model, after unscaling them."""
        if self.clip_norm is None and self.clip_value is None:
            return
        if self.scaler is not None:
            self.scaler.unscale_(self.stepped)
        if self.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        else:
            torch.nn.utils.clip_grad_value_(self.model.parameters(), self.clip_value)


def loss_from(loss_fn: Callable[[Any, Any], Any] | None) -> Callable[[Any, Any], Any]:
    """Return a function of a model and a batch that computes the loss with `loss_fn`, or with the model for None."""
    return _model_loss if loss_fn is None else lambda model, batch: _loss_of_pair(loss_fn, model, batch)


def _loss_of_pair(loss_fn: Callable[[Any, Any], Any], model: Any, batch: Any) -> Any:
    if not (isinstance(batch, (list, tuple)) and len(batch) == 2):
        raise _batch_error(batch)
    inputs, targets = batch
    if isinstance(targets, torch.Tensor) and targets.ndim == 0:
        raise ValueError(
            "a batch must hold targets of several samples; got a target without a dimension, for a single sample. Pass "
            "a DataLoader, which creates batches, or loss_of=...."
        )
    output: Any = None
    try:
        output = model(inputs)
        return loss_fn(output, targets)
    except (TypeError, AttributeError) as error:
        if all(isinstance(value, torch.Tensor) for value in (inputs, output, targets)):
            raise
        received = f"inputs of type {type(inputs).__name__}, targets of type {type(targets).__name__}"
        if output is not None:
            received += f", output of type {type(output).__name__}"
        raise TypeError(
            f"loss_fn(model(inputs), targets) must accept the batches; got {received}, which raise: {error!s:.200}. "
            f"{_REMEDY}"
        ) from error


def _model_loss(model: Any, batch: Any) -> Any:
    if not isinstance(batch, Mapping):
        raise _batch_error(batch)
    output = model(**batch)
    loss = getattr(output, "loss", None)
    if loss is None:
        raise TypeError(
            f"without a loss_fn, model(**batch) must return an object with a loss; got {type(output).__name__} "
            f"for the arguments {', '.join(map(str, batch))}. Add the labels to the batch. {_REMEDY}"
        )
    return loss


def _batch_error(batch: Any) -> TypeError:
    held = f" of {len(batch)}" if isinstance(batch, (list, tuple)) else ""
    return TypeError(
        "a batch must be (inputs, targets) with a loss_fn, or a dict of arguments without a loss_fn; got "
        f"{type(batch).__name__}{held}. {_REMEDY}"
    )


def _loss_value(loss: Any, name: str) -> float:
    # Skips the slower checks of `_checks.scalar`, which take time in an update of a small model.
    if type(loss) is torch.Tensor and loss.ndim == 0 and loss.is_floating_point():
        return float(loss.item())
    return _checks.scalar(name, loss)


def to_device(batch: Any, device: Any) -> Any:
    """Return the batch with all its tensors on the device."""
    if hasattr(batch, "to"):
        return batch.to(device)
    if isinstance(batch, list | tuple):
        moved = [to_device(value, device) for value in batch]
        return type(batch)(*moved) if hasattr(batch, "_fields") else type(batch)(moved)
    return {key: to_device(value, device) for key, value in batch.items()} if isinstance(batch, Mapping) else batch
