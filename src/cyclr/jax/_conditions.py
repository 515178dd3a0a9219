"""The conditions of a range test in JAX: model, optimizer, batch size and versions."""

import functools
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax

from cyclr.range_test import conditions


def conditions_of(params: Any, trained: Any, optimizer: Callable[[Any], Any] | None, batch: Any) -> dict[str, Any]:
    """Return the entries of `RangeTestResult.tested`.

    Args:
        params: a model, or a pytree of its parameters.
        trained: the arrays in `params` that are trained.
        optimizer: as for `range_test`. None for a `step_fn`, because the parameters in its state are not known.
        batch: the first batch.
    """
    found: dict[str, Any] = {}
    if optimizer is not None:
        is_model = not isinstance(params, Mapping | list | tuple) and not jax.tree_util.all_leaves([params])
        found = {
            "model": type(params).__name__ if is_model else None,
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(trained)),
            "optimizer": _optimizer_call(optimizer),
        }
    shapes = [leaf.shape for leaf in jax.tree.leaves(batch) if getattr(leaf, "shape", ())]
    found["batch_size"] = int(shapes[0][0]) if shapes else None
    known = {name: value for name, value in found.items() if value is not None}
    return {**known, **conditions.versions("jax", "optax", "flax", "equinox")}


def _optimizer_call(optimizer: Any) -> str | None:
    """Return a function of Optax as code, with the arguments of a `partial`. None for any other function."""
    is_partial = isinstance(optimizer, functools.partial) and not optimizer.args
    function, given = (optimizer.func, optimizer.keywords) if is_partial else (optimizer, {})
    name = getattr(function, "__name__", "")
    is_public = getattr(sys.modules.get("optax"), name, None) is function
    return conditions.call(f"optax.{name}", given, {}) if name and is_public else None
