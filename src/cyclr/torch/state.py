"""The training state of a torch model, copied before a range test and restored after it."""

import contextlib
import functools
import inspect
import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from cyclr import _generators
from cyclr._contents import Contents, Copy
from cyclr.torch import _groups, _private


class TrainingState:
    """A copy of the training state: parameters, buffers, optimizers, modes, gradients, scaler, attributes.

    Attributes of modules and optimizers are copied as `Contents` does, without those of torch's own modules. Modules
    that the `functions` use, such as loss modules and second networks, are copied too. Gradients are not copied: the
    model has none until `restore`, which gives it the same tensors. With `keep_gradients` they are copied, and the
    model keeps them. The copies are files in `folder`, if there is one.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        optimizers: Iterable[Any],
        scaler: Any = None,
        folder: Path | None = None,
        *,
        functions: Iterable[Any] = (),
        keep_gradients: bool = False,
    ) -> None:
        self._model = model
        reshard(model)
        self._contents = Contents(in_memory if folder is None else _in_files(folder))
        modules = {id(module): module for part in (model, *reached(functions)) for module in part.modules()}.values()
        parameters = {id(parameter): parameter for module in modules for parameter in module.parameters(recurse=False)}
        for optimizer in _groups.with_inner(optimizers):
            self._contents.add(_generators.attributes(optimizer))
            self._contents.add(getattr(optimizer, "state", None))
            self._contents.add(getattr(optimizer, "param_groups", None))
            parameters |= {id(p): p for group in getattr(optimizer, "param_groups", ()) for p in group["params"]}
        for parameter in parameters.values():
            self._contents.add(parameter)
        for module in modules:
            # Modules may replace a buffer by another tensor.
            self._contents.add(_private.buffers(module))
            if not type(module).__module__.startswith("torch."):
                self._contents.add(_generators.attributes(module))
        self._modes = [(module, module.training) for module in modules]
        self._gradients = [(parameter, parameter.grad) for parameter in parameters.values()]
        # By its attributes: `load_state_dict` also changes the scale that a scaler starts with.
        self._contents.add(_generators.attributes(scaler))
        _private.scaler_stages(scaler).clear()
        if keep_gradients:
            self._contents.add([gradient for _, gradient in self._gradients if gradient is not None])
        else:
            self.clear_gradients()

    def clear_gradients(self) -> None:
        """Set all gradients to None. For a tiny model, an optimizer's `zero_grad` takes a twentieth of an update."""
        for parameter, _ in self._gradients:
            parameter.grad = None

    def restore(self) -> None:
        """Restore everything, bit for bit and in place."""
        reshard(self._model)
        self._contents.restore()
        for module, training in self._modes:
            module.training = training
        for parameter, gradient in self._gradients:
            parameter.grad = gradient


def reached(functions: Iterable[Any]) -> list[torch.nn.Module]:
    """Return the modules that functions use: themselves, in closures, global variables, arguments and `self`."""
    found: list[torch.nn.Module] = []
    pending, seen = [*functions], set[int]()
    while pending:
        part = pending.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, torch.nn.Module):
            found.append(part)
        elif isinstance(part, functools.partial):
            pending += [part.func, *part.args, *part.keywords.values()]
        elif inspect.ismethod(part):
            pending += [part.__func__, part.__self__, *_held_by(part.__self__)]
        elif inspect.isfunction(part):
            used = inspect.getclosurevars(part)
            pending += [value for value in (*used.nonlocals.values(), *used.globals.values()) if _may_hold(value)]
            pending += part.__defaults__ or ()
        elif isinstance(part, list | tuple | dict):
            pending += [value for value in (part.values() if isinstance(part, dict) else part) if _may_hold(value)]
        elif callable(part) and not isinstance(part, type):
            pending += _held_by(part)
    return found


def _held_by(part: Any) -> list[Any]:
    """Return the attributes of an object that may hold modules."""
    return [value for value in _generators.attributes(part).values() if _may_hold(value)]


def _may_hold(value: Any) -> bool:
    return isinstance(value, torch.nn.Module | functools.partial | list | tuple | dict) or inspect.isroutine(value)


def reshard(model: torch.nn.Module) -> None:
    """Let every module of FSDP2 hold only its shards: after a forward pass without a backward pass it holds the whole.

    The whole is a copy. The next forward pass would use it, whatever the shards hold then.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def in_memory(value: Any) -> Callable[[], object] | None:
    """Copy a tensor, and return the function that restores its elements. None for other values."""
    if not isinstance(value, torch.Tensor):
        return None
    copied = _memory(value).clone()
    return lambda: _memory(value).copy_(copied)


def _in_files(folder: Path) -> Copy:
    numbers = itertools.count()

    def copy(value: Any) -> Callable[[], object] | None:
        if not isinstance(value, torch.Tensor):
            return None
        path = folder / f"{next(numbers)}.pt"
        # A view would be saved with all of its storage. A mapped file is read piece by piece.
        torch.save(_memory(value).clone(), path)
        return lambda: _memory(value).copy_(torch.load(path, weights_only=True, mmap=True))

    return copy


def _memory(tensor: torch.Tensor) -> torch.Tensor:
    """Return the elements of a tensor that can be written: elements of an expanded tensor share their memory."""
    elements = tensor.detach()
    if tensor.layout is torch.strided and 0 in tensor.stride():
        return elements[tuple(slice(None) if stride else slice(1) for stride in tensor.stride())]
    return elements


def restore_loader(loader: Any, undo: contextlib.ExitStack) -> None:
    """Let `undo` restore where a loader and the samplers within it stand, and its living workers.

    Until then a loader with persistent workers is without them, so another iterator starts workers of its own.
    """
    if _private.keeps_state(loader):
        undo.callback(loader.load_state_dict, loader.state_dict())
    for part in _generators.loaders(loader):
        undo.callback(_private.detach_iterator(part))
        undo.callback(_private.copy_progress(part))
