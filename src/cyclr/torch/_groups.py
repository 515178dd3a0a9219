"""Reading and setting the hyperparameters in the parameter groups of an optimizer."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch.optim import Optimizer

from cyclr import _checks, _names
from cyclr._generators import attributes
from cyclr.torch import _private

_NOT_ENTRIES = ("lr", "momentum", "weight_decay", "lr_scale", "initial_lr", "initial_weight_decay")


def unwrapped(optimizer: Any) -> Optimizer:
    """Return the optimizer of torch, also from a wrapper that runs no hooks itself, such as Accelerate's."""
    if not isinstance(optimizer, Optimizer):
        received = f"the class {optimizer.__name__}" if isinstance(optimizer, type) else type(optimizer).__name__
        usual = "Pass the optimizer that trains, such as torch.optim.SGD(model.parameters(), lr=0.01)."
        fix = _names.for_trainer(optimizer) or usual
        raise TypeError(f"optimizer must be a torch.optim.Optimizer; got {received}. {fix}")
    inner = optimizer if _private.runs_hooks(optimizer) else getattr(optimizer, "optimizer", None)
    if not isinstance(inner, Optimizer) or not _private.runs_hooks(inner):
        raise TypeError(
            f"optimizer must be a torch.optim.Optimizer whose updates run hooks; got {type(optimizer).__name__}, a "
            "wrapper. Pass the optimizer inside it, such as optimizer.optimizer."
        )
    # ZeroRedundancyOptimizer copies its learning rates to its inner optimizer before each update.
    wraps = not type(inner).__module__.startswith("torch.")
    for held in [held for held in attributes(inner).values() if wraps and isinstance(held, Optimizer)]:
        if _contents(held) == _contents(inner) and held.param_groups[0] is not inner.param_groups[0]:
            raise ValueError(
                f"{type(inner).__name__} must have the same param_groups as the {type(held).__name__} inside it; got "
                "other groups with the same parameters. After loading a state, set wrapper.param_groups to the inner "
                f"optimizer's param_groups, or pass the {type(held).__name__}."
            )
    for index, group in enumerate(inner.param_groups):
        if not isinstance(group["lr"], torch.Tensor):
            fix = f" Create {type(inner).__name__} with lr=0.001, for example."
            _checks.number(f"lr of parameter group {index}", group["lr"], fix=fix.strip())
    return inner


def check_not_lazy(model: torch.nn.Module) -> None:
    """Raise if a module has lazy parameters that do not exist yet."""
    lazy = [name for name, parameter in model.named_parameters() if torch.nn.parameter.is_lazy(parameter)]
    if lazy:
        raise ValueError(
            f"model must have all of its parameters; got lazy ones without a shape, such as {lazy[0]}. Call "
            "model(inputs) once first, and then create the optimizer."
        )


def check_minimizes(name: str, optimizer: Any) -> None:
    """Raise if an optimizer maximizes, because `name` treats the given value as a loss."""
    for index, group in enumerate(optimizer.param_groups):
        if group.get("maximize"):
            raise ValueError(
                f"the optimizer of {name} must minimize a loss; got maximize=True in parameter group {index} of "
                f"{type(optimizer).__name__}. Create it with maximize=False, and return −reward as the loss."
            )


def check_trains(model: torch.nn.Module, parts: Iterable[torch.nn.Module], optimizer: Any) -> None:
    """Raise if the optimizer has no parameter of the modules `parts`. The first module is `model`."""
    trained = {id(parameter) for part in parts for parameter in part.parameters()}
    if not any(id(parameter) in trained for group in optimizer.param_groups for parameter in group["params"]):
        raise ValueError(
            f"optimizer must hold parameters of the model; got {type(optimizer).__name__} with none of "
            f"{type(model).__name__}'s. Create it with model.parameters(), after the model is copied or wrapped."
        )


def _contents(optimizer: Any) -> list[tuple[list[int], set[str]]]:
    """Return parameters and names of hyperparameters of each group, to recognize the groups of the same optimizer."""
    return [
        ([*map(id, group["params"])], {name for name in group if not name.startswith("initial_")})
        for group in getattr(optimizer, "param_groups", ())
    ]


def innermost(optimizer: Any) -> Any:
    """Return the optimizer whose update reads the groups: the inner one if a wrapper shares its groups.

    After the inner optimizer loads a state, it has new groups, and a wrapper such as Lookahead may keep the old ones.
    """
    for held in attributes(optimizer).values():
        runs = isinstance(held, Optimizer) and _private.runs_hooks(held) and held is not optimizer
        if runs and [*map(id, held.param_groups)] == [*map(id, optimizer.param_groups)]:
            return innermost(held)
    return optimizer


def with_inner(optimizers: Iterable[Any]) -> list[Any]:
    """Return the optimizers and all optimizers in their attributes, as in SAM, Lookahead and ZeRO."""
    found: dict[int, Any] = {}
    pending = [*optimizers]
    while pending:
        optimizer = pending.pop(0)
        if id(optimizer) not in found:
            found[id(optimizer)] = optimizer
            pending += [held for held in attributes(optimizer).values() if isinstance(held, Optimizer)]
    return list(found.values())


def assign(group: dict[str, Any], key: str, value: float, index: int = 0) -> float | None:
    """Set an entry of a group, or the number at `index` if the entry is a tuple.

    A tensor is changed in place, so compiled and captured steps see the value. Return the entry if it is a float now,
    otherwise None.
    """
    old = group[key]
    held = old[index] if isinstance(old, (tuple, list)) else old
    # Comparing the type with float is faster than `isinstance(held, torch.Tensor)`.
    if type(held) is not float and isinstance(held, torch.Tensor):
        held.fill_(value)
    elif held is not old:
        group[key] = (*old[:index], value, *old[index + 1 :])
    else:
        group[key] = value
        return value
    return None


def held(group: dict[str, Any], key: str, index: int = 0) -> float:
    """Return the number in an entry of a group, or the number at `index` if the entry is a tuple."""
    value = group[key]
    return float(value[index] if isinstance(value, (tuple, list)) else value)


def key(optimizer: Any, name: str) -> tuple[str, int]:
    """Return the key of a hyperparameter in the groups of an optimizer, and the index if the entry is a tuple."""
    for key in {"momentum": ("momentum", "betas", "rho"), "beta2": ("betas",)}.get(name, (name,)):
        if all(key in group for group in optimizer.param_groups):
            return key, int(name == "beta2")
    known = {"momentum": "momentum, such as SGD, RMSprop, Adam or Adadelta", "weight_decay": "weight decay"}
    raise ValueError(f"{name}= needs an optimizer with {known[name]}; got {type(optimizer).__name__}.")


def entries(optimizer: Any) -> list[str]:
    """Return the names of the numbers that all groups have, except those with their own arguments in `Scheduler`."""
    first, *others = optimizer.param_groups
    legal = [
        name
        for name, value in first.items()
        if name not in _NOT_ENTRIES
        and not isinstance(value, bool)
        and (isinstance(value, int | float) or (isinstance(value, torch.Tensor) and value.numel() == 1))
        and all(name in group for group in others)
    ]
    return [*legal, "beta2"] if all(len(group.get("betas", ())) > 1 for group in optimizer.param_groups) else legal


def per_group(optimizer: Any, *values: Any) -> list[tuple[Any, ...]]:
    """Return a tuple for each group from values that are numbers, or lists of one number for each group."""
    groups = len(optimizer.param_groups)
    lists = [list(value) if isinstance(value, list | tuple) else [value] * groups for value in values]
    if any(len(held) != groups for held in lists):
        lengths = ", ".join(str(len(held)) for held in lists)
        raise ValueError(f"lists must hold a value for each of the {groups} parameter groups; got lengths {lengths}.")
    return list(zip(*[map(number, held) for held in lists], strict=True))


def number(value: Any) -> Any:
    """Return the number in a tensor. Other values are returned unchanged."""
    return _checks.scalar("a tensor", value) if isinstance(value, torch.Tensor) else value


def ratios(values: list[float]) -> list[float]:
    """Return each value as a multiple of the first value that is not 0. All ratios are 1 if all values are 0."""
    first = next((value for value in values if value != 0), None)
    return [1.0 if first is None else value / first for value in values]


def ratios_of(name: str, groups: list[dict[str, Any]], scheduler: Any = None) -> list[float]:
    """Return each group's value as a multiple of the first group's value, from the current or the initial values.

    Initial values are used if the current ones give no ratios: the first is 0, or a `scheduler` with a schedule for
    each group set them. If both ratios agree, the initial one is used, because it has no rounding errors.
    """
    now = [float(group[name]) for group in groups]
    initial = ratios([float(group.get(f"initial_{name}", group[name])) for group in groups])
    if now[0] == 0 or (scheduler is not None and scheduler._has_group_schedules(name)):
        return initial
    near = [
        1e-6 if not isinstance(group[name], torch.Tensor) else torch.finfo(group[name].dtype).eps for group in groups
    ]
    return [
        kept if math.isclose(kept, ratio, rel_tol=2 * eps) else ratio
        for kept, ratio, eps in zip(initial, ratios(now), near, strict=True)
    ]


def rate_shares(groups: list[dict[str, Any]], scheduler: Any = None, *, keep_ratios: bool = True) -> list[float]:
    """Return each group's factor of the learning rate: its `lr_scale`, or the ratio to the first group's rate."""
    shares = ratios_of("lr", groups, scheduler) if keep_ratios else [1.0] * len(groups)
    return [
        share if group.get("lr_scale") is None else scale(group) for share, group in zip(shares, groups, strict=True)
    ]


def scale(group: dict[str, Any]) -> float:
    """Return the `lr_scale` of a group."""
    return _checks.number("lr_scale", number(group["lr_scale"]), at_least=0)


def rounded(value: float, held: Any) -> float:
    """Return the number that `assign` stores for `value`. A tensor rounds it to its dtype."""
    return float(torch.tensor(value, dtype=held.dtype)) if isinstance(held, torch.Tensor) else value


def separate_rates(optimizer: Any) -> None:
    """Give every group its own tensor if groups share one. The optimizer's default is kept for groups added later."""
    groups, default = optimizer.param_groups, attributes(optimizer).get("defaults", {}).get("lr")
    if isinstance(default, torch.Tensor) and any(group["lr"] is default for group in groups):
        optimizer.defaults["lr"] = default.clone()
    first: dict[int, dict[str, Any]] = {}
    for group in groups:
        owner = first.setdefault(id(group["lr"]), group)
        if owner is not group and isinstance(group["lr"], torch.Tensor):
            group["lr"] = group["lr"].clone()
