"""Reading and setting the hyperparameters in the parameter groups of an optimizer."""

from typing import Any

import torch
from torch.optim import Optimizer

from cyclr.torch import _private


def unwrapped(optimizer: Any) -> Optimizer:
    """Return the optimizer of torch, taken from a wrapper that calls no hooks itself, such as Accelerate's."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be a torch.optim.Optimizer; got {type(optimizer).__name__}.")
    inner = optimizer if _private.runs_hooks(optimizer) else getattr(optimizer, "optimizer", None)
    if not isinstance(inner, Optimizer) or not _private.runs_hooks(inner):
        raise TypeError(
            f"optimizer must be a torch.optim.Optimizer whose updates run hooks; got {type(optimizer).__name__}, a "
            "wrapper. Pass the optimizer within, such as optimizer.optimizer."
        )
    return inner


def assign(group: dict[str, Any], name: str, value: float) -> None:
    """Set a hyperparameter of a group; of `betas` the first, whose tuple stays a tuple.

    A tensor is filled in place, so that compiled and captured steps see the value.
    """
    old = group[name]
    # The type tells a float fastest. A training loop pays for this in every update.
    if type(old) is float:
        group[name] = value
    elif isinstance(old, torch.Tensor):
        old.fill_(value)
    elif name != "betas":
        group[name] = value
    elif isinstance(old[0], torch.Tensor):
        old[0].fill_(value)
    else:
        group[name] = (value, *old[1:])


def key(optimizer: Any, name: str) -> str:
    """Return the key of `lr`, `momentum` or `weight_decay` in the groups of an optimizer."""
    names = ("momentum", "betas", "rho") if name == "momentum" else (name,)
    for key in names:
        if all(key in group for group in optimizer.param_groups):
            return key
    known = {"momentum": "momentum, such as SGD, RMSprop, Adam or Adadelta", "weight_decay": "weight decay"}
    raise ValueError(f"{name}= needs an optimizer with {known[name]}; got {type(optimizer).__name__}.")


def ratios(values: list[float]) -> list[float]:
    """Return each value as a multiple of the first that is not 0; all 1 if all are 0."""
    first = next((value for value in values if value != 0), None)
    return [1.0 if first is None else value / first for value in values]


def rounded(value: float, held: Any) -> float:
    """Return the number that `assign` stores: a tensor rounds it to its dtype."""
    return float(torch.tensor(value, dtype=held.dtype)) if isinstance(held, torch.Tensor) else value


def separate_rates(groups: list[dict[str, Any]]) -> None:
    """Give every group its own tensor if the optimizer gave several groups the same default."""
    first: dict[int, dict[str, Any]] = {}
    for group in groups:
        owner = first.setdefault(id(group["lr"]), group)
        if owner is not group and isinstance(group["lr"], torch.Tensor):
            if "initial_lr" in owner:
                group.setdefault("initial_lr", owner["initial_lr"])
            group["lr"] = group["lr"].clone()
