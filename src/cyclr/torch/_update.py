"""One update of a range test: its batches, loss scaling that skips updates, and all processes that train together."""

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
    """The batches of a loader, which is read again when it ends. True if there is another batch."""

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
    """All processes that train together: each acts on what any of them sees."""

    def __init__(self, model: Any) -> None:
        exists = distributed.is_available() and distributed.is_initialized()
        self.count = distributed.get_world_size() if exists else 1
        self.several = self.count > 1
        self.is_first = not exists or distributed.get_rank() == 0
        self.device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        self.moves = self.device.type != "cpu" or torch.accelerator.is_available()
        """False if no batch can be on another device."""

    def sums(self, *values: float) -> list[float]:
        """Return each sum over the processes."""
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return [float(value) for value in total]

    def any(self, *flags: bool) -> list[bool]:
        """Return for each flag True if it is set in any process."""
        return [total > 0 for total in self.sums(*flags)] if self.several else list(flags)

    def mean(self, loss: float) -> float:
        """Return the mean over the processes."""
        return self.sums(loss)[0] / self.count if self.several else loss


class UnscalableError(Exception):
    """No loss scale helps: gradients are not finite, whatever the loss is."""


class LeftOutError(RangeTestError):
    """`step_fn` made no update, because the batch is to be left out."""


def repeat_skipped(
    optimizer: Any, attempt: Callable[[], float], processes: Processes, more: Callable[[], bool] = lambda: True
) -> float | None:
    """Attempt an update until loss scaling does not skip it in any process, and return its loss.

    The loss is None if there were no `more` batches for an attempt.

    Raises:
        UnscalableError: `SKIPPED_AT_MOST` updates were skipped.
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
    """Updates a model, once for each call, from as many batches as an update takes. Fields as for `range_test`."""

    model: Any
    optimizer: Any
    stepped: Any
    """The optimizer as it was given: the same, or a wrapper whose own `step()` trains."""
    state: TrainingState
    loss_of: Any
    loss_name: str
    """What errors call the loss."""
    step_fn: Any
    accumulate: int
    batches: Batches
    processes: Processes
    scaler: Any
    autocast: torch.dtype | None
    clip_norm: float | None
    clip_value: float | None
    batch: Any = None
    """The last batch of step_fn."""

    def __call__(self) -> float | None:
        """Return the mean loss over batches and processes, or None if the data ended before the update was made."""
        if not self.batches:
            return None
        try:
            loss = self._loss()
        except UserWarning as warning:
            sizes = re.findall(r"size \(torch\.Size\(\[([^\]]*)\]\)\)", str(warning))
            if len(sizes) != 2:
                raise
            raise ValueError(
                f"targets must have the shape of the model's output, ({sizes[1]}); got ({sizes[0]}), so that the loss "
                "compares every output with every target. Reshape the targets or the output."
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
        """Call step_fn until it updates, and return its loss, or None if the data ended before."""
        for left in reversed(range(SKIPPED_AT_MOST)):
            self.batch = next(self.batches)
            try:
                return _value(self.step_fn(self.batch), "step_fn(batch)")
            except LeftOutError:
                if not left:
                    raise
                if not self.batches:
                    break
        return None

    def _attempt(self, losses: list[float]) -> float:
        """Update, unless the scaler skips it, and return the mean of `losses` with the batches' losses added."""
        self.state.clear_gradients()
        for micro_batch in range(self.accumulate):
            if micro_batch > 0 and self.processes.any(not self.batches)[0]:
                break
            cast = None if self.autocast is None else torch.autocast(self.processes.device.type, self.autocast)
            with cast or contextlib.nullcontext():
                batch = next(self.batches)
                loss = self.loss_of(self.model, _moved(batch, self.processes.device) if self.processes.moves else batch)
            losses.append(_value(loss, self.loss_name))
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
        """Clip the gradients of the whole model, which are unscaled before."""
        if self.clip_norm is None and self.clip_value is None:
            return
        if self.scaler is not None:
            self.scaler.unscale_(self.stepped)
        if self.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        else:
            torch.nn.utils.clip_grad_value_(self.model.parameters(), self.clip_value)


def loss_from(loss_fn: Callable[[Any, Any], Any] | None) -> Callable[[Any, Any], Any]:
    """Return the function of a model and a batch that a `loss_fn`, or None, stands for."""
    return _own_loss if loss_fn is None else lambda model, batch: _compared(loss_fn, model, batch)


def _compared(loss_fn: Callable[[Any, Any], Any], model: Any, batch: Any) -> Any:
    if not (isinstance(batch, (list, tuple)) and len(batch) == 2):
        raise _wrong(batch)
    inputs, targets = batch
    if isinstance(targets, torch.Tensor) and targets.ndim == 0:
        raise ValueError(
            "a batch must hold targets of several samples; got a target without a dimension, that of one sample. Pass "
            "a DataLoader, which makes batches, or loss_of=...."
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
            f"loss_fn(model(inputs), targets) must take the batches; got {received}, which raise: {error!s:.200}. "
            f"{_REMEDY}"
        ) from error


def _own_loss(model: Any, batch: Any) -> Any:
    if not isinstance(batch, Mapping):
        raise _wrong(batch)
    output = model(**batch)
    loss = getattr(output, "loss", None)
    if loss is None:
        raise TypeError(
            f"model(**batch) must return an object with a loss without a loss_fn; got {type(output).__name__} "
            f"for the arguments {', '.join(map(str, batch))}. Add the labels to the batch. {_REMEDY}"
        )
    return loss


def _wrong(batch: Any) -> TypeError:
    held = f" of {len(batch)}" if isinstance(batch, (list, tuple)) else ""
    return TypeError(
        "a batch must be (inputs, targets) with a loss_fn, or a dict of arguments without; got "
        f"{type(batch).__name__}{held}. {_REMEDY}"
    )


def _value(loss: Any, name: str) -> float:
    # A small model would feel the checks of a tensor with one number.
    if type(loss) is torch.Tensor and loss.ndim == 0 and loss.is_floating_point():
        return float(loss.item())
    return _checks.scalar(name, loss)


def _moved(batch: Any, device: Any) -> Any:
    """Return the batch with all of its tensors on the device."""
    if hasattr(batch, "to"):
        return batch.to(device)
    if isinstance(batch, list | tuple):
        moved = [_moved(value, device) for value in batch]
        return type(batch)(*moved) if hasattr(batch, "_fields") else type(batch)(moved)
    return {key: _moved(value, device) for key, value in batch.items()} if isinstance(batch, Mapping) else batch
