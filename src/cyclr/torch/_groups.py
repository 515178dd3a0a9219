"""What schedulers ask of an optimizer's parameter groups, in one place."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

from cyclr.torch import _private


def unwrapped(optimizer: Any) -> Optimizer:
    """The optimizer of torch, also out of a wrapper that runs no hooks by itself, such as Accelerate's.

    Raises:
        TypeError: there is none.
    """
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be a torch.optim.Optimizer; got {type(optimizer).__name__}.")
    inner = optimizer if _private.runs_hooks(optimizer) else getattr(optimizer, "optimizer", None)
    if not isinstance(inner, Optimizer) or not _private.runs_hooks(inner):
        raise TypeError(
            f"optimizer must be a torch.optim.Optimizer whose updates run hooks; got {type(optimizer).__name__}, a "
            "wrapper. Pass the optimizer within, such as optimizer.optimizer."
        )
    return inner


def assign(group: dict[str, Any], value: float, name: str) -> None:
    """Set a hyperparameter of a group: in place if it is a tensor, so that compiled and captured steps see it."""
    held = group[name]
    # A float is told fastest by its type, and a training loop pays for this at every update.
    if type(held) is float or not isinstance(held, torch.Tensor):
        group[name] = value
    else:
        held.fill_(value)


def setter(group: dict[str, Any], name: str) -> Callable[[float], object]:
    """Return what `assign` does to a hyperparameter, for as long as it stays a tensor or a number."""
    held = group[name]
    return held.fill_ if isinstance(held, torch.Tensor) else functools.partial(group.__setitem__, name)


def assign_first_beta(group: dict[str, Any], value: float) -> None:
    """Set the first of a group's betas, and leave the others; they stay a tuple."""
    first, *others = group["betas"]
    if isinstance(first, torch.Tensor):
        first.fill_(value)
    else:
        group["betas"] = (value, *others)


def momentum_setter(optimizer: Any) -> Callable[[dict[str, Any], float], object]:
    """What sets the momentum of a group.

    Raises:
        ValueError: the optimizer has no momentum.
    """
    setters: dict[str, Callable[[dict[str, Any], float], object]] = {
        "momentum": functools.partial(assign, name="momentum"),
        "betas": assign_first_beta,
        "rho": functools.partial(assign, name="rho"),
    }
    for name, setter in setters.items():
        if all(name in group for group in optimizer.param_groups):
            return setter
    raise ValueError(
        "momentum must be the schedule of an optimizer that has one: momentum (SGD, RMSprop), betas (Adam and its kin) "
        f"or rho (Adadelta); got {type(optimizer).__name__}."
    )


def shares(values: list[float]) -> list[float]:
    """Each value as a multiple of the first that is not 0; all 1 if there is none."""
    first = next((value for value in values if value != 0), None)
    return [1.0 if first is None else value / first for value in values]


def rounded(value: float, held: Any) -> float:
    """The number that `assign` leaves in the place of a hyperparameter."""
    return float(torch.tensor(value, dtype=held.dtype)) if isinstance(held, torch.Tensor) else value


def check_weight_decay(optimizer: Any) -> None:
    """Raise if the optimizer has no weight decay."""
    if not all("weight_decay" in group for group in optimizer.param_groups):
        raise ValueError(
            f"weight_decay must be the schedule of an optimizer that has one; got {type(optimizer).__name__}."
        )


def separate_rates(groups: list[dict[str, Any]]) -> None:
    """Give every group a tensor of its own, where the optimizer gave all of them its default."""
    first: dict[int, dict[str, Any]] = {}
    for group in groups:
        owner = first.setdefault(id(group["lr"]), group)
        if owner is not group and isinstance(group["lr"], torch.Tensor):
            if "initial_lr" in owner:
                group.setdefault("initial_lr", owner["initial_lr"])
            group["lr"] = group["lr"].clone()
