"""The conditions of a range test of a torch model, which the result records."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from cyclr.range_test import conditions
from cyclr.torch import _groups, _private


def conditions_of(model: Any, optimizer: Any, loader: Any, batch: Any, **more: int | None) -> dict[str, Any]:
    """Return the entries of `RangeTestResult.tested`.

    Args:
        model, optimizer: the tested model and its optimizer.
        loader: the batches.
        batch: the first batch.
        more: the seed, and the numbers `group`, `accumulate` and `processes`.
    """
    inner = _private.wrapped(model)
    parameters = list(inner.parameters())
    found = {
        "model": type(inner).__name__,
        "parameters": sum(parameter.numel() for parameter in parameters),
        "trainable": sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        "optimizer": optimizer_call(_groups.innermost(optimizer), more.get("group") or 0),
        "groups": len(optimizer.param_groups),
        "batch_size": _batch_size(loader, batch),
        **more,
    }
    ones = ("groups", "accumulate", "processes")
    known = {name: value for name, value in found.items() if value is not None and not (name in ones and value == 1)}
    return {**known, **conditions.versions("torch")}


def optimizer_call(optimizer: Any, group: int = 0) -> str:
    """Return an optimizer as a call, with the settings of a group that are not defaults, but no learning rate."""
    kind = type(optimizer)
    is_public = getattr(torch.optim, kind.__name__, None) is kind
    known = inspect.signature(kind).parameters
    defaults = {name: parameter.default for name, parameter in known.items() if name not in ("params", "lr")}
    held = optimizer.param_groups[group]
    settings = {name: held[name] for name in defaults if name in held}
    return conditions.call(f"{'torch.optim.' if is_public else ''}{kind.__name__}", settings, defaults)


def _batch_size(loader: Any, batch: Any) -> int | None:
    sizes = (getattr(part, "batch_size", None) for part in (loader, getattr(loader, "batch_sampler", None)))
    given = next((size for size in sizes if type(size) is int), None)
    return _length(batch) if given is None else given


def _length(value: Any) -> int | None:
    """Return the length of the first tensor or array in a batch."""
    if shape := tuple(getattr(value, "shape", ())):
        return int(shape[0])
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return next((length for part in parts if (length := _length(part)) is not None), None)
