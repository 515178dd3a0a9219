"""The training state that AutoCycle copies and restores: modules, optimizers and other objects."""

import copy
import itertools
import os
import tempfile
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from torch import distributed
from torch.optim import Optimizer

from cyclr import _checks, _plain
from cyclr.errors import AutoCycleError
from cyclr.torch import _groups
from cyclr.torch.state import reshard, writable

_NOT_RESTORED = ("params", "lr", "initial_lr", "train_mode")
"""Entries of groups that are not restored. `train_mode` belongs to schedule-free optimizers. They are in training mode
at each copy, except possibly the first, at which the weights of both modes are equal."""


_ATTRIBUTES = frozenset(vars(Optimizer([torch.zeros(1)], {})))
"""Attributes that every optimizer of torch has."""


class TrainingState:
    """The state that training changes: tensors of modules, states and groups of optimizers, states of other objects."""

    def __init__(self, model: Any, optimizer: Any, also: Iterable[Any], device: Any, folder: Any) -> None:
        if isinstance(also, torch.nn.Module | Optimizer) or not isinstance(also, Iterable):
            raise TypeError(f"also must be a list or tuple of objects; got {type(also).__name__}. Write also=[...].")
        parts = [*also]
        for part in parts:
            if not callable(getattr(part, "state_dict", None)) or not callable(getattr(part, "load_state_dict", None)):
                raise TypeError(
                    "also must hold objects with state_dict() and load_state_dict(); got "
                    f"{_checks.quoted(part)} of type {type(part).__name__}."
                )
        _groups.check_not_lazy(model)
        self._model, self._device = model, None if device is None else torch.device(device)
        self._folder = None if folder is None else Path(folder)
        self._modules = [model, *(part for part in parts if isinstance(part, torch.nn.Module))]
        optimizers = [optimizer, *(part for part in parts if isinstance(part, Optimizer))]
        # Wrappers without hooks show the state of the inner optimizer as their own.
        self._optimizers = _groups.with_inner(map(_groups.unwrapped, optimizers))
        reshard(model)
        _groups.check_trains(model, self._modules, self._optimizers[0])
        self._frozen: list[tuple[Any, str]] = []
        """The parameters that are not copied, each with the sum of its elements before the first update."""
        self._others = [part for part in parts if not isinstance(part, torch.nn.Module | Optimizer)]

    def copy(self) -> Any:
        self.check_frozen()
        with torch.no_grad():
            tensors, frozen = self._tensors(), {*map(id, self.frozen_parameters())}
            return self.put(
                {
                    "tensors": [None if id(tensor) in frozen else self._copied(tensor) for tensor in tensors],
                    "optimizers": [self._of_optimizer(optimizer) for optimizer in self._optimizers],
                    "others": [self._copied(part.state_dict()) for part in self._others],
                }
            )

    def is_finite(self) -> bool:
        weights = [_local(weight.detach()) for module in self._modules for weight in module.parameters()]
        # `isfinite` is not implemented for dtypes of one byte.
        return all(bool(weight.isfinite().all()) for weight in weights if weight.element_size() > 1)

    def restore(self, kept: Any, /) -> None:
        if isinstance(kept, CopyFile):
            kept = kept.read()
        self.check_frozen()
        with torch.no_grad():
            for tensor, saved in zip(self._tensors(), kept["tensors"], strict=False):
                if saved is not None:
                    _local(tensor).copy_(saved)
            for optimizer, saved in zip(self._optimizers, kept["optimizers"], strict=True):
                for group, entries in zip(optimizer.param_groups, saved["groups"], strict=False):
                    group.update({name: _restored(group.get(name), value) for name, value in entries.items()})
                for parameter, values in zip(_parameters(optimizer), saved["state"], strict=False):
                    if values is None:
                        optimizer.state.pop(parameter, None)
                    else:
                        optimizer.state[parameter] = _restored(optimizer.state.get(parameter), values)
                for name, value in saved["attributes"].items():
                    setattr(optimizer, name, _restored(getattr(optimizer, name, None), value))
            for part, saved in zip(self._others, kept["others"], strict=True):
                part.load_state_dict(_restored(None, saved))

    def repair_buffers(self, kept: Any) -> None:
        """Restore buffers in which a batch left NaN or infinity, such as running means, which would never recover."""
        if isinstance(kept, CopyFile):
            kept = kept.read()
        for tensor, saved in zip(self._tensors(), kept["tensors"], strict=False):
            if not isinstance(tensor, torch.nn.Parameter) and tensor.is_floating_point():
                now, before = _local(tensor), saved.to(tensor.device)
                if (before.isfinite() & ~now.isfinite()).any():
                    now.copy_(before)

    def put(self, copied: Any) -> Any:
        """Return a copy in the form that is kept: the copy itself, or a file."""
        return copied if self._folder is None else CopyFile(self._folder, copied)

    def check(self, kept: Any) -> None:
        """Raise if `kept` is not a copy, or a copy of other modules or optimizers."""
        _plain.check_depth(kept)
        copied = _plain.read("a copy in state_dict", kept, _Copy)
        frozen = {*map(id, self.frozen_parameters())}
        own = [None if id(tensor) in frozen else tuple(_local(tensor).shape) for tensor in self._tensors()]
        saved = [None if tensor is None else tuple(tensor.shape) for tensor in kept["tensors"]]
        counts = len(kept["optimizers"]), len(kept["others"])
        if own[: len(saved)] != saved or counts != (len(self._optimizers), len(self._others)):
            raise ValueError(
                "state_dict must come from a run with the same model, optimizers and also=; got tensors of shapes "
                f"{_checks.quoted(saved)}, but the tensors of this run have {_checks.quoted(own)}. Create AutoCycle "
                "with the arguments of that run."
            )
        for optimizer, one in zip(self._optimizers, copied.optimizers, strict=True):
            for group, entries in zip(optimizer.param_groups, one.groups, strict=False):
                for name, value in entries.items():
                    if not _same_kind(group.get(name), value):
                        raise ValueError(
                            f"state_dict must hold copies of the groups of {type(optimizer).__name__}; got "
                            f"{name:.100}={_checks.quoted(value)}. Create AutoCycle with the arguments of that run."
                        )

    @property
    def process(self) -> tuple[int, int] | None:
        """Number of this process and number of processes, or None if this process holds the whole state."""
        parts = any(hasattr(tensor, "to_local") for tensor in self._tensors())
        if not parts and not any(type(one).__name__ == "ZeroRedundancyOptimizer" for one in self._optimizers):
            return None
        return distributed.get_rank(), distributed.get_world_size()

    def check_process(self, saved: tuple[int, int] | None) -> None:
        """Raise if a saved state holds the part of another process."""
        if saved is not None and saved != self.process:
            raise ValueError(
                "state_dict must come from the same process and number of processes, because each process holds a part "
                f"of the state; got the state of process {saved[0]} of {saved[1]}. Save and load a separate file for "
                "each process."
            )

    def frozen_parameters(self) -> list[Any]:
        """Return parameters of the model that need no gradient and are neither in an optimizer nor in `also`."""
        copied = {id(parameter) for module in self._modules[1:] for parameter in module.parameters()}
        copied |= {id(parameter) for optimizer in self._optimizers for parameter in _parameters(optimizer)}
        return [p for p in self._model.parameters() if not p.requires_grad and id(p) not in copied]

    def note_frozen(self, parameters: list[Any]) -> None:
        """Store frozen parameters with their sums before the first update."""
        self._frozen = [(parameter, _sum(parameter)) for parameter in parameters]

    def check_frozen(self) -> None:
        """Raise if parameters that are not copied changed, or were added to an optimizer."""
        trained = {id(parameter) for optimizer in self._optimizers for parameter in _parameters(optimizer)}
        wrong = [p for p, before in self._frozen if id(p) in trained or _sum(p) != before]
        if wrong:
            raise AutoCycleError(
                "parameters of model that need no gradient and are in no optimizer are not copied, so they must not "
                f"change; got {len(wrong)} that changed or were added to an optimizer, such as one of shape "
                f"{tuple(wrong[0].shape)}. Pass the module that holds them in also=[...]."
            )

    def _tensors(self) -> list[Any]:
        """Return parameters and buffers, without their names, which wrappers change."""
        reshard(self._model)
        found = [part for module in self._modules for part in (*module.parameters(), *module.buffers())]
        found += itertools.chain(*map(_parameters, self._optimizers))
        return [*{id(tensor): tensor for tensor in found}.values()]

    def _of_optimizer(self, optimizer: Any) -> dict[str, Any]:
        parameters = _parameters(optimizer)
        if unknown := set(map(id, optimizer.state)) - set(map(id, parameters)):
            raise AutoCycleError(
                f"{type(optimizer).__name__} keeps {len(unknown)} states that do not belong to parameters of its "
                "groups, so they cannot be copied. Use Scheduler."
            )
        own = type(optimizer).__module__.startswith("torch.")
        return {
            "attributes": {
                name: self._copied(value)
                for name, value in vars(optimizer).items()
                if not own and name not in _ATTRIBUTES and _is_plain(value)
            },
            "state": [self._copied(optimizer.state[p]) if p in optimizer.state else None for p in parameters],
            "groups": [
                {name: self._copied(value) for name, value in group.items() if name not in _NOT_RESTORED}
                for group in optimizer.param_groups
            ],
        }

    def _copied(self, value: Any) -> Any:
        return _mapped(lambda tensor: _local(tensor).to(self._device or tensor.device, copy=True), value)


def _tensor(name: str, value: Any) -> Any:
    if value is None or isinstance(value, torch.Tensor):
        return value
    raise TypeError(f"{name} must be a tensor; got {_checks.quoted(value)}.")


def _state(name: str, value: Any) -> Any:
    if value is None or isinstance(value, dict):
        return value
    raise TypeError(f"{name} must be the state of a parameter; got {_checks.quoted(value)}.")


class _OptimizerCopy(NamedTuple):
    attributes: dict[str, Any]
    state: list[Annotated[Any, _state]]
    groups: list[dict[str, Any]]


class _Copy(NamedTuple):
    """A copy of the training state, which is checked when it comes from a saved state."""

    tensors: list[Annotated[Any, _tensor]]
    optimizers: list[_OptimizerCopy]
    others: list[Any]


class CopyFile:
    """A copy in a file without a name. The system deletes the file when the process ends, even if it is killed."""

    def __init__(self, folder: Path, copied: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        try:
            torch.save(copied, self._file)
        except OSError as error:
            # Name the folder that the user passed, because the file has no name.
            raise OSError(error.errno, error.strerror, os.fspath(folder)) from error

    def read(self) -> Any:
        self._file.seek(0)
        return torch.load(self._file, weights_only=True)


def _parameters(optimizer: Any) -> list[Any]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _sum(tensor: Any) -> str:
    """Return the sum of the elements in this process, as text so that NaN equals NaN."""
    elements = _local(tensor)
    return repr((torch.view_as_real(elements) if elements.is_complex() else elements).sum(dtype=torch.float64).item())


def _local(tensor: Any) -> Any:
    """Return the elements of a tensor that are in this process."""
    return writable(tensor.to_local() if hasattr(tensor, "to_local") else tensor)


def _mapped(change: Callable[[Any], Any], value: Any) -> Any:
    """Return a copy of nested values, with `change` applied to each tensor."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, dict):
        return {name: _mapped(change, held) for name, held in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_mapped(change, held) for held in value)
    return copy.deepcopy(value)


def _is_plain(value: Any) -> bool:
    """Return True for numbers, strings and tensors that are not parameters, and for lists, tuples and dicts of them."""
    if isinstance(value, dict):
        return all(isinstance(name, str | int) and _is_plain(held) for name, held in value.items())
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    return isinstance(value, int | float | str | torch.Tensor) and not isinstance(value, torch.nn.Parameter)


def _same_kind(now: Any, saved: Any) -> bool:
    """Return True if a saved value has the same kind as the current one. None and tensors match any number."""
    if isinstance(now, tuple | list):
        return isinstance(saved, tuple | list) and len(saved) == len(now) and all(map(_same_kind, now, saved))
    if now is None or saved is None or isinstance(now, torch.Tensor) or isinstance(saved, torch.Tensor):
        return not isinstance(saved, str | dict | list | tuple)
    if isinstance(now, int | float) and not isinstance(now, bool):
        return isinstance(saved, int | float) and not isinstance(saved, bool) and abs(saved) <= 1e30
    return type(now) is type(saved)


def _restored(now: Any, saved: Any) -> Any:
    """Return a copy of a saved value. If the current value is a tensor of the same shape, it is changed in place."""
    if isinstance(saved, dict):
        held = now if isinstance(now, dict) else {}
        return {name: _restored(held.get(name), value) for name, value in saved.items()}
    if type(saved) in (list, tuple):
        parts = now if type(now) is type(saved) and len(now) == len(saved) else [None] * len(saved)
        return type(saved)(_restored(part, value) for part, value in zip(parts, saved, strict=True))
    if isinstance(saved, torch.Tensor) and isinstance(now, torch.Tensor) and _local(now).shape == saved.shape:
        _local(now).copy_(saved)
        return now
    return _mapped(torch.clone, saved)
