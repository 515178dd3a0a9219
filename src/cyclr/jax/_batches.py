"""Reads, checks and stacks the batches of a range test in JAX, and restores the generators that order them."""

import inspect
import itertools
import random
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np

from cyclr import _checks, _generators
from cyclr._contents import Contents


def copy_generators(batches: Any) -> Callable[[], None]:
    """Return a function that restores the generators that order the data.

    These are the global generators, and the generators and loaders that `batches` holds in attributes, or that its
    `__iter__` uses from its closure or as global variables.
    """
    names = _generators.attributes(batches) | used_by(getattr(type(batches), "__iter__", None))
    held = [value for value in names.values() if not isinstance(value, types.ModuleType | type)]
    torch = sys.modules.get("torch")
    kinds = () if torch is None else (torch.utils.data.DataLoader, torch.utils.data.Sampler)
    loaders = [batches, *(value for value in held if isinstance(value, kinds))]
    loaders += [
        types.SimpleNamespace(generator=value) for value in held if torch and isinstance(value, torch.Generator)
    ]
    global_and_torch = _generators.Generators(types.SimpleNamespace(loaders=loaders))
    own = Contents(lambda value: None)
    for value in held:
        if isinstance(value, np.random.Generator | np.random.RandomState | random.Random):
            own.add(value)

    def restore() -> None:
        own.restore()
        global_and_torch.restore()

    return restore


def used_by(function: Any) -> dict[str, Any]:
    """Return the global variables that a function uses, and the variables in its closure."""
    function = inspect.unwrap(function)
    if not inspect.isfunction(function):
        return {}
    used = inspect.getclosurevars(function)
    return {**used.globals, **used.nonlocals}


def repeated(batches: Iterable[Any]) -> Iterator[Any]:
    """Yield the batches again and again. An iterator is read only once."""
    while True:
        empty = True
        for batch in batches:
            empty = False
            yield batch
        if empty or iter(batches) is batches:
            return


def checked(batch: Any) -> Any:
    """Return the batch, or raise if it holds anything but arrays of numbers."""
    for leaf in jax.tree.leaves(batch):
        library = type(leaf).__module__.split(".")[0]
        if library in ("torch", "tensorflow"):
            raise TypeError(
                f"batches must hold arrays of JAX or NumPy; got {type(leaf).__name__} of {library}. Convert it to "
                "NumPy: tensor.numpy()."
            )
        kind = getattr(getattr(leaf, "dtype", None), "kind", "V")
        if kind in "OSUMm" or not (is_array(leaf) or isinstance(leaf, int | float | complex)):
            raise TypeError(
                f"batches must hold arrays of numbers; got a batch with {_checks.quoted(leaf)}. Pass a list of "
                "batches, such as [(x, y)], after the state. With chunk=None, batches may be of any kind."
            )
    return batch


def check_batches(batches: Any, state: Any) -> None:
    """Raise if `batches` looks like another argument. An error of the training step would not name the cause."""
    fix = "Pass a list, such as [(x[i : i + 32], y[i : i + 32]) for i in range(0, len(x), 32)]."
    if not hasattr(batches, "__iter__") and not hasattr(batches, "__getitem__"):
        raise TypeError(f"batches must be an iterable of batches; got {_checks.quoted(batches)}. {fix}")
    if is_array(batches) and np.ndim(batches) < 2 and isinstance(state, list | Iterator):
        raise TypeError(
            f"batches must be an iterable of batches; got an array of shape {np.shape(batches)}, and a "
            f"{type(state).__name__} as state. Swap them: the order is step_fn, state, batches."
        )
    if isinstance(batches, tuple) and 2 <= len(batches) <= 3 and all(map(is_array, batches)):
        shapes = [np.shape(part) for part in batches]
        if len({shape[:1] for shape in shapes}) == 1 < len({(np.shape(part), str(part.dtype)) for part in batches}):
            raise TypeError(
                f"batches must be an iterable of batches; got one tuple of arrays, of shapes {shapes}. {fix}"
            )


def take_same_shape(source: Iterator[Any], pending: list[Any], count: int) -> tuple[list[Any], list[Any]]:
    """Return up to `count` batches of the same shape, and in another list the next batch if its shape differs."""
    taken = list(pending)
    for batch in itertools.islice(source, count - len(taken)):
        if taken and shape_of(batch) != shape_of(taken[0]):
            return taken, [batch]
        taken.append(batch)
    return taken, []


def shape_of(batch: Any) -> Any:
    leaves, structure = jax.tree.flatten(batch)
    return structure, [(np.shape(leaf), jax.dtypes.result_type(leaf)) for leaf in leaves]


def stack(*leaves: Any) -> Any:
    # JAX would compile for every number of arrays, which is slow for many arrays.
    return (np if all(isinstance(leaf, np.ndarray) for leaf in leaves) else jax.numpy).stack(leaves)


def is_array(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape")
