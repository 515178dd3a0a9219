"""What training changes in a torch model, its optimizers and the generators, taken before a range test and put back."""

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from cyclr import _generators


class Snapshot:
    """One copy of the training state: parameters, buffers, optimizer state and settings, modes, gradients, scaler.

    Gradients are not copied: the model goes without them meanwhile, and gets the same tensors back.

    Args:
        model: any `torch.nn.Module`.
        optimizers: its optimizers.
        scaler: a `GradScaler`, if there is one.
        folder: where the copies are kept, in files; in memory by default.
    """

    def __init__(
        self, model: torch.nn.Module, optimizers: Iterable[Any], scaler: Any = None, folder: Path | None = None
    ) -> None:
        copy = _in_memory if folder is None else _in_files(folder)
        self._model = model
        _reshard(model)
        self._tensors = [_Pair(tensor, copy) for tensor in (*model.parameters(), *model.buffers())]
        # Modules may put another tensor in a buffer's place.
        self._buffers = [(module._buffers, dict(module._buffers)) for module in model.modules()]
        self._modes = [(module, module.training) for module in model.modules()]
        self._optimizers = [_OptimizerState(optimizer, copy) for optimizer in optimizers]
        trained = {id(p): p for p in model.parameters()} | {
            id(p): p for state in self._optimizers for p in state.parameters()
        }
        known = {id(pair.tensor) for pair in self._tensors}
        self._tensors += [_Pair(p, copy) for key, p in trained.items() if key not in known]
        self._gradients = [(parameter, parameter.grad) for parameter in trained.values()]
        self._scaler = scaler
        if scaler is not None:
            # What stands there in the midst of an update would make the next one an error.
            self._scaler_state, self._scaler_stages = scaler.state_dict(), dict(_stages(scaler))
            _stages(scaler).clear()
        for parameter, _ in self._gradients:
            parameter.grad = None

    def restore(self) -> None:
        """Put everything back, bit for bit and in place."""
        _reshard(self._model)
        with torch.no_grad():
            for pair in self._tensors:
                pair.put_back()
            for state in self._optimizers:
                state.restore()
        for buffers, held in self._buffers:
            buffers.clear()
            buffers.update(held)
        for module, training in self._modes:
            module.training = training
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        if self._scaler is not None:
            _stages(self._scaler).clear()
            _stages(self._scaler).update(self._scaler_stages)
            self._scaler.load_state_dict(self._scaler_state)


def _reshard(model: torch.nn.Module) -> None:
    """Let every module of FSDP2 hold its share again: after a forward pass without a backward one it holds the whole.

    The whole is a copy that the next pass would use, whatever the share holds by then.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def _stages(scaler: Any) -> dict[Any, Any]:
    """How far the scaler is with each optimizer; one that is not enabled has none."""
    stages: dict[Any, Any] = getattr(scaler, "_per_optimizer_states", {})
    return stages


class _OptimizerState:
    """State and settings of one optimizer; tensors are put back in place."""

    def __init__(self, optimizer: Any, copy: "_Copy") -> None:
        self._optimizer = optimizer
        self._state = {parameter: _copied(state, copy) for parameter, state in optimizer.state.items()}
        self._settings = [
            _copied({name: value for name, value in group.items() if name != "params"}, copy)
            for group in optimizer.param_groups
        ]

    def parameters(self) -> list[Any]:
        return [parameter for group in self._optimizer.param_groups for parameter in group["params"]]

    def restore(self) -> None:
        self._optimizer.state.clear()
        for parameter, state in self._state.items():
            self._optimizer.state[parameter] = _put_back(state)
        for group, settings in zip(self._optimizer.param_groups, self._settings, strict=True):
            parameters = group["params"]
            group.clear()
            group.update(params=parameters, **_put_back(settings))


_Copy = Callable[[torch.Tensor], Callable[[], torch.Tensor]]
"""Takes a copy of a tensor, and returns what gives it back."""


def _in_memory(tensor: torch.Tensor) -> Callable[[], torch.Tensor]:
    held = tensor.clone()
    return lambda: held


def _in_files(folder: Path) -> _Copy:
    numbers = itertools.count()

    def copy(tensor: torch.Tensor) -> Callable[[], torch.Tensor]:
        path = folder / f"{next(numbers)}.pt"
        # A clone holds no more than what is seen of it; a mapped file is read piece by piece.
        torch.save(tensor.clone(), path)
        return lambda: torch.load(path, weights_only=True, mmap=True)

    return copy


def _copied(value: Any, copy: _Copy) -> Any:
    """A value with every tensor in it paired with a copy."""
    if isinstance(value, torch.Tensor):
        return _Pair(value, copy)
    if isinstance(value, dict):
        return {key: _copied(held, copy) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(held, copy) for held in value)
    return value


def _put_back(value: Any) -> Any:
    """The value again, its tensors themselves with what they held."""
    if isinstance(value, _Pair):
        return value.put_back()
    if isinstance(value, dict):
        return {key: _put_back(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_put_back(held) for held in value)
    return value


class _Pair:
    """A tensor and what it held."""

    def __init__(self, tensor: torch.Tensor, copy: _Copy) -> None:
        self.tensor, self._held = tensor, tensor.detach()
        if tensor.layout is torch.strided and 0 in tensor.stride():
            # An expanded tensor is written through one of the elements that share their memory.
            self._held = self._held[tuple(slice(None) if stride else slice(1) for stride in tensor.stride())]
        self._copy = copy(self._held)

    def put_back(self) -> torch.Tensor:
        self._held.copy_(self._copy())
        return self.tensor


class LoaderState:
    """Where a loader stands: the iterator whose workers live on; of Accelerate's loaders also which are being read.

    Meanwhile the loader is without that iterator, so that another one is made, with workers of its own.
    """

    def __init__(self, loader: Any) -> None:
        self._held = []
        self._read: list[tuple[Any, list[Any]]] = []
        for part in _generators.loaders(loader):
            own = _generators.attributes(part)
            gradients: Any = own.get("gradient_state")
            if hasattr(gradients, "dataloader_references"):
                self._read.append((gradients, list(gradients.dataloader_references)))
            lives_on = isinstance(part, torch.utils.data.DataLoader) and own.get("persistent_workers")
            names = (*_ENDS, "_iterator") if lives_on else _ENDS
            self._held.append((own, {name: own[name] for name in names if name in own}))
            if lives_on:
                own["_iterator"] = None

    def restore(self) -> None:
        """Put it back."""
        for own, held in self._held:
            own.update(held)
        for gradients, references in self._read:
            gradients.dataloader_references = references


_ENDS = ("end_of_dataloader", "remainder")
"""What Accelerate's loaders note of a batch: whether it is the last one, and how many of its rows are no padding."""
