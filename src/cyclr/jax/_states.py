"""The state of a member in JAX: a pytree of parameters, whose arrays are copies in host memory."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from cyclr import _extras
from cyclr.errors import MembersError


class JaxStates:
    """Compares, checks and saves the states of members in JAX.

    A file holds the arrays by their paths, such as `['dense']['kernel']`, but not the structure of the pytree.

    Attributes:
        like: a pytree with the structure of the states in files, or None if the structure is not known yet.
    """

    suffix = ".safetensors"

    def __init__(self, like: Any = None) -> None:
        self.like = like

    def shapes(self, state: Any) -> dict[str, list[int]]:
        return {name: [*value.shape] for name, value in arrays(state).items()}

    def not_finite(self, state: Any) -> str | None:
        for name, value in arrays(state).items():
            # bfloat16 has the kind V, and `np.isfinite` supports only the dtypes of NumPy.
            if value.dtype.kind in "fcV" and not np.isfinite(value.astype(np.complex128)).all():
                return name
        return None

    def save(self, state: Any, path: Path) -> None:
        safetensors().save_file({name: np.ascontiguousarray(value) for name, value in arrays(state).items()}, path)

    def load(self, path: Path) -> Any:
        if self.like is None:
            raise MembersError(
                f"{str(path)!r} holds arrays, but not the structure of their pytree. Create Snapshots(schedule, "
                "folder=folder, like=params) with parameters of the same structure as in that run."
            )
        read = safetensors().load_file(path)
        leaves, structure = jax.tree_util.tree_flatten_with_path(self.like)
        return jax.tree.unflatten(
            structure, [_restored(read, jax.tree_util.keystr(place), leaf) for place, leaf in leaves]
        )


def safetensors() -> Any:
    """Return `safetensors.numpy`, which also supports bfloat16."""
    with _extras.needed("members in a folder need", "safetensors", extra="jax"):
        import safetensors.numpy
    return safetensors.numpy


def is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def is_key(leaf: Any) -> bool:
    """Return True for an array of random keys, which are not numbers."""
    return isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def arrays(state: Any) -> dict[str, Any]:
    """Return the arrays of a pytree by their paths, and random keys as their data. Other leaves are left out."""
    return {
        jax.tree_util.keystr(place): np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)
        for place, leaf in jax.tree_util.tree_flatten_with_path(state)[0]
        if is_array(leaf)
    }


def copy_of(params: Any) -> Any:
    """Return a copy in host memory, because an update may donate the memory of the arrays."""
    return jax.tree.map(_copied, params)


def _copied(leaf: Any) -> Any:
    if is_key(leaf):
        return jax.random.wrap_key_data(jax.random.key_data(leaf).copy(), impl=jax.random.key_impl(leaf))
    return np.array(leaf) if is_array(leaf) else leaf


def _restored(read: dict[str, Any], name: str, like: Any) -> Any:
    if is_key(like):
        return jax.random.wrap_key_data(read[name], impl=jax.random.key_impl(like))
    return read[name] if is_array(like) else like
