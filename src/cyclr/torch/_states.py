"""The weights of a torch model in a member: a copy of the model's `state_dict()` on the CPU."""

import copy
from pathlib import Path
from typing import Any

import torch

from cyclr import _checks, _extras
from cyclr.torch import _private

State = dict[str, torch.Tensor]


class TorchStates:
    """Compares and checks states of torch models, and writes them to files."""

    suffix = ".safetensors"

    def shapes(self, state: Any) -> dict[str, list[int]]:
        if not isinstance(state, dict) or not all(map(_is_dense, state.values())):
            raise TypeError(
                "the state of a member must be the dict from model.state_dict(), with dense tensors; got "
                f"{_checks.quoted(state)} of type {type(state).__name__}."
            )
        return {name: list(value.shape) for name, value in state.items()}

    def not_finite(self, state: State) -> str | None:
        return next((name for name, value in state.items() if not _is_finite(value)), None)

    def save(self, state: State, path: Path) -> None:
        safetensors().save_file({name: value.contiguous() for name, value in state.items()}, path)

    def load(self, path: Path) -> State:
        read: State = safetensors().load_file(path)
        return read


STATES = TorchStates()


def _is_dense(value: Any) -> bool:
    """Return True for a tensor with elements in memory that can be added."""
    if not isinstance(value, torch.Tensor) or value.layout is not torch.strided:
        return False
    return not (value.is_quantized or value.is_nested or value.is_meta)


def _is_finite(value: torch.Tensor) -> bool:
    # torch does not compute with types of 8 bits.
    is_small = value.is_floating_point() and value.itemsize == 1
    return bool(torch.isfinite(value.float() if is_small else value).all())


def safetensors() -> Any:
    """Return `safetensors.torch`."""
    with _extras.needed("members in a folder need", "safetensors", extra="torch"):
        import safetensors.torch
    return safetensors.torch


def tensors_of(model: torch.nn.Module) -> State:
    """Return the tensors of a model by name, without the names of wrappers for several devices.

    Raises:
        TypeError: `model` is not a module, or its state holds values that are not tensors.
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module; got {type(model).__name__}.")
    state: State = _private.wrapped(model).state_dict()
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise TypeError(
                f"model.state_dict() must hold only tensors to be kept as a member; got {name} of type "
                f"{type(value).__name__}. Leave it out in the get_extra_state() of its module."
            )
    return state


def copy_of(model: torch.nn.Module) -> State:
    """Return a copy of all tensors of a model on the CPU. For a sharded model, all processes must call this."""
    return {
        # A DTensor holds the shard of this process.
        name: (value.full_tensor() if hasattr(value, "full_tensor") else value).detach().to("cpu", copy=True)
        for name, value in tensors_of(model).items()
    }


def own_copy(model: torch.nn.Module) -> torch.nn.Module:
    """Return a copy of a model, out of its wrappers and without gradients."""
    copied = copy.deepcopy(_private.wrapped(model))
    copied.zero_grad(set_to_none=True)
    return copied
