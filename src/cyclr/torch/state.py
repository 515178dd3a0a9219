"""The training state of a torch model, copied before a range test and restored after it."""

import contextlib
import functools
import inspect
import itertools
import random
import sys
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed
from torch.optim import Optimizer

from cyclr import _generators
from cyclr._contents import CONTAINERS, Contents, Copy
from cyclr.range_test.copies import on_disk
from cyclr.torch import _groups, _private


class TrainingState:
    """A copy of the training state: parameters, buffers, optimizers, training modes, gradients, scaler, attributes.

    Attributes of modules and optimizers are copied as in `Contents`, except for torch's own modules. The objects
    in `parts`, which `find_parts` finds, are copied too. From `owners`, attributes are copied without the values of
    tensors. Gradients are not copied: the model has none until `restore`, which sets the original tensors again. With
    `keep_gradients`, gradients are copied and stay in the model. The copies are files in `folder` if it is given.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        optimizers: Iterable[Any],
        scaler: Any = None,
        folder: Path | None = None,
        *,
        parts: Iterable[Any] = (),
        owners: Iterable[Any] = (),
        keep_gradients: bool = False,
    ) -> None:
        self._model = model
        reshard(model)
        self._contents = Contents(copy_in_memory if folder is None else _copy_to_files(folder))
        # Without the values of tensors, because an owner such as a trainer may hold the data.
        self._attributes = Contents()
        self._attributes.add([_generators.attributes(owner) for owner in owners])
        parts = [model, *optimizers, *parts]
        modules = {id(module): module for part in parts for module in _modules(part)}.values()
        parameters = {id(parameter): parameter for module in modules for parameter in module.parameters(recurse=False)}
        for optimizer in _groups.with_inner(part for part in parts if isinstance(part, Optimizer)):
            self._contents.add(_generators.attributes(optimizer))
            self._contents.add(getattr(optimizer, "state", None))
            self._contents.add(getattr(optimizer, "param_groups", None))
            parameters |= {id(p): p for group in getattr(optimizer, "param_groups", ()) for p in group["params"]}
        for parameter in parameters.values():
            self._contents.add(parameter)
        for module in modules:
            # A module may replace a buffer by another tensor.
            self._contents.add(_private.buffers(module))
            if _is_own(module):
                self._contents.add(_generators.attributes(module))
        # Hooks of torch, such as weight norm, replace tensors that are neither parameters nor buffers.
        self._replaced = [
            (own, {name: value for name, value in own.items() if isinstance(value, torch.Tensor)})
            for own in map(_generators.attributes, modules)
        ]
        # Attributes of a scaler too, because `load_state_dict` also changes the scale that it starts with.
        for part in (scaler, *parts):
            if not isinstance(part, torch.nn.Module | Optimizer | torch.utils.data.DataLoader):
                self._contents.add(part)
                self._contents.add(_generators.attributes(part))
        self._modes = [(module, module.training) for module in modules]
        self._gradients = [(parameter, parameter.grad) for parameter in parameters.values()]
        self._trainable = [(parameter, parameter.requires_grad) for parameter in parameters.values()]
        _private.scaler_stages(scaler).clear()
        if keep_gradients:
            self._contents.add([gradient for _, gradient in self._gradients if gradient is not None])
        else:
            self.clear_gradients()

    def clear_gradients(self) -> None:
        """Set all gradients to None. Faster than an optimizer's `zero_grad`: 5 % of an update of a tiny model."""
        for parameter, _ in self._gradients:
            parameter.grad = None

    def restore(self) -> None:
        """Restore everything, bit for bit and in place."""
        reshard(self._model)
        self._attributes.restore()
        self._contents.restore()
        for own, tensors in self._replaced:
            own.update(tensors)
        for module, training in self._modes:
            module.training = training
        for parameter, trainable in self._trainable:
            if parameter.requires_grad != trainable:
                parameter.requires_grad = trainable
        for parameter, gradient in self._gradients:
            parameter.grad = gradient


_GENERATORS: tuple[Any, ...] = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
_LIBRARIES = {"torch", "numpy", *sys.stdlib_module_names}


def find_parts(functions: Iterable[Any], also: Iterable[Any] = ()) -> tuple[list[Any], list[Any]]:
    """Return the objects that functions and modules use and that can be restored, and other objects that hold them.

    From functions, these are the modules, optimizers, random number generators, loaders, and objects with a
    `state_dict` such as loss scalers, in closures, global variables, arguments, `self` and attributes. Modules and
    optimizers are searched for these too, and for objects whose class is defined in the same file as theirs. Objects of
    other classes are not included, because they may hold their trainer, which holds everything. From objects in `also`,
    everything that they hold is included.

    The other objects are objects whose methods are called, and objects that hold a module or an optimizer.
    """
    found: list[Any] = []
    owners: list[Any] = []
    pending: list[tuple[Any, str | None]] = [*((part, None) for part in functions), *((part, "") for part in also)]
    seen = set[int]()
    while pending:
        part, file = pending.pop()
        if id(part) in seen or isinstance(part, type | types.ModuleType):
            continue
        seen.add(id(part))
        if inspect.isroutine(part):
            file = None
        elif file is not None or _keeps_state(part):
            found.append(part)
        elif _is_own(part):
            owners.append(part)
        if isinstance(part, torch.nn.Module | Optimizer):
            file = type(part).__module__
        if inspect.ismethod(part):
            pending += [(part.__func__, None), (part.__self__, None)]
            continue
        pending += [
            (value, file)
            for value in _used_by(part)
            if _may_hold(value) or (_is_own(value) and (file in ("", type(value).__module__) or _holds_model(value)))
        ]
    return found, owners


def _used_by(part: Any) -> list[Any]:
    """Return the objects that a function uses, that a container holds, or that are attributes of an object."""
    if isinstance(part, functools.partial):
        return [part.func, *part.args, *part.keywords.values()]
    if inspect.isfunction(part):
        used = inspect.getclosurevars(part)
        return [*used.nonlocals.values(), *used.globals.values(), *(part.__defaults__ or ())]
    if isinstance(part, CONTAINERS):
        return [*(part.values() if isinstance(part, dict) else part)]
    if isinstance(part, torch.nn.Module) and not _is_own(part):
        return [*part.children()]
    return [] if isinstance(part, torch.utils.data.DataLoader) else [*_generators.attributes(part).values()]


def _keeps_state(part: Any) -> bool:
    """Return True for modules, optimizers, random number generators, loaders, and objects with a `state_dict`."""
    has_state = hasattr(type(part), "state_dict") and hasattr(type(part), "load_state_dict")
    return has_state or isinstance(part, (torch.utils.data.DataLoader, *_GENERATORS))


def _holds_model(value: Any) -> bool:
    """Return True for objects with a module or an optimizer as an attribute, such as averaged weights or a trainer."""
    return any(isinstance(held, torch.nn.Module | Optimizer) for held in _generators.attributes(value).values())


def can_be_restored(part: Any) -> bool:
    """Return True if a part of an object can be restored: its items, attributes or state."""
    if isinstance(part, type | types.ModuleType):
        return False
    return isinstance(part, torch.Tensor | np.ndarray) or _may_hold(part) or hasattr(part, "__dict__")


def _may_hold(value: Any) -> bool:
    """Return True if a value has state, or may hold an object with state."""
    return isinstance(value, (functools.partial, *CONTAINERS)) or inspect.isroutine(value) or _keeps_state(value)


def _is_own(part: Any) -> bool:
    """Return True for objects of classes that are not Python's, torch's or NumPy's, except for data sets."""
    return type(part).__module__.partition(".")[0] not in _LIBRARIES and not isinstance(part, torch.utils.data.Dataset)


def _modules(part: Any) -> list[torch.nn.Module]:
    return [*part.modules()] if isinstance(part, torch.nn.Module) else []


def silence(part: Any, names: Iterable[str], undo: contextlib.ExitStack) -> None:
    """Replace methods of an object by functions that do nothing, until `undo` restores them."""
    own = _generators.attributes(part)
    for name in names:
        undo.callback(own.update, {name: own[name]} if name in own else {})
        undo.callback(own.pop, name, None)
        own[name] = lambda *arguments, **keywords: None


def reshard(model: torch.nn.Module) -> None:
    """Make every module of FSDP2 hold only its shards again.

    After a forward pass without a backward pass, a module holds a copy of its whole parameters. The next forward pass
    would use this copy, even if the shards have changed.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def copy_in_memory(value: Any) -> Callable[[], object] | None:
    """Copy a tensor or a torch generator. Return the function that restores it, or None for other values."""
    if isinstance(value, torch.Generator):
        return functools.partial(value.set_state, value.get_state())
    if not isinstance(value, torch.Tensor):
        return None
    copied = writable(value).clone()
    return lambda: writable(value).copy_(copied)


def _copy_to_files(folder: Path) -> Copy:
    numbers = itertools.count()

    def copy(value: Any) -> Callable[[], object] | None:
        if not isinstance(value, torch.Tensor):
            return copy_in_memory(value)
        path = folder / f"{next(numbers)}.pt"
        # The tensor is cloned, because a view is saved with its whole storage. `mmap` reads the file piece by piece.
        # The file is opened in Python, whose errors name the cause, such as a full disk.
        with on_disk(restoring=False), path.open("wb") as file:
            torch.save(writable(value).clone(), file)

        def restore() -> None:
            with on_disk(restoring=True):
                writable(value).copy_(torch.load(path, weights_only=True, mmap=True))

        return restore

    return copy


def writable(tensor: torch.Tensor) -> torch.Tensor:
    """Return the elements of a tensor that can be written, because elements of an expanded tensor share memory."""
    elements = tensor.detach()
    if tensor.layout is torch.strided and 0 in tensor.stride():
        return elements[tuple(slice(None) if stride else slice(1) for stride in tensor.stride())]
    return elements


def restore_loader(loader: Any, undo: contextlib.ExitStack) -> None:
    """Let `undo` restore the position of a loader and its samplers, and its running workers.

    Until then, a loader with persistent workers has none, so a new iterator starts its own workers.
    """
    if _private.keeps_state(loader):
        undo.callback(loader.load_state_dict, loader.state_dict())
    for part in _generators.loaders(loader):
        undo.callback(_private.detach_iterator(part))
        undo.callback(_private.copy_progress(part))
