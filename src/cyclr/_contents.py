"""Copies of the contents of containers and objects, which are restored in place after a range test."""

import collections
import contextlib
import dataclasses
import random
import types
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from cyclr import _generators

Copy = Callable[[Any], Callable[[], object] | None]
"""A function that copies a value which may change in place, and returns a function that restores the value. It returns
None for any other value."""

_MUTABLE: tuple[Any, ...] = (collections.OrderedDict, dict, set, list, collections.deque)
CONTAINERS: tuple[Any, ...] = (*_MUTABLE, tuple, frozenset)
_ATOMS = (type(None), bool, int, float, complex, str, bytes)


class Contents:
    """A copy of the contents of containers and objects, at any depth, which can be restored in place.

    Args:
        copy: function that copies tensors and variables. Without `copy`, only containers and attributes are restored:
            the arrays, tensors and generators in them keep their current values.
        parts: function that returns further parts of a value to restore, such as the `__dict__` of an object. By
            default there are none. The attributes of dataclasses and namespaces are always restored.
    """

    def __init__(self, copy: Copy | None = None, parts: Callable[[Any], Iterable[Any]] = lambda value: ()) -> None:
        self._copy = copy
        self._parts = parts
        self._seen: dict[int, Any] = {}
        self._containers: list[tuple[Any, Any]] = []
        self._restore: list[Callable[[], object]] = []

    def add(self, value: Any) -> None:
        """Add a dict, list, tuple, set, deque, dataclass, array, random number generator or tensor with its contents.

        Other values are ignored, except for their `parts`.
        """
        pending = [value]
        while pending:
            value = pending.pop()
            if isinstance(value, _ATOMS) or id(value) in self._seen:
                continue
            self._seen[id(value)] = value
            restore = None if self._copy is None else self._copy(value) or _copy_of(value)
            if restore is not None:
                self._restore.append(restore)
            # Unlike `isinstance`, `issubclass` is not deceived by a proxy that imitates the class of its container.
            elif issubclass(type(value), CONTAINERS):
                self._containers.append((value, dict(value) if isinstance(value, dict) else list(value)))
                pending += value.values() if isinstance(value, dict) else value
                # TensorFlow's lists keep their items in an attribute.
                pending += [vars(value)] if hasattr(value, "__dict__") else []
            else:
                is_record = dataclasses.is_dataclass(value) or isinstance(value, types.SimpleNamespace)
                if is_record and not isinstance(value, type):
                    pending.append(_generators.attributes(value))
                pending += self._parts(value)

    def close(self) -> None:
        """Drop the functions, which may keep the owner of this object alive. Afterwards nothing can be added."""
        self._copy, self._parts = None, lambda value: ()

    def restore(self) -> None:
        """Restore everything, even if the restoring of a part raises. This method can be called repeatedly."""
        with contextlib.ExitStack() as undo:
            for container, contents in self._containers:
                undo.callback(_restore_container, container, contents)
            for restore in self._restore:
                undo.callback(restore)


def _copy_of(value: Any) -> Callable[[], object] | None:
    if isinstance(value, np.ndarray) and value.flags.writeable and not value.dtype.hasobject:
        array = value.copy()
        return lambda: np.copyto(value, array)
    if isinstance(value, np.random.Generator):
        state = value.bit_generator.state
        return lambda: setattr(value.bit_generator, "state", state)
    if isinstance(value, np.random.RandomState):
        numbers = value.get_state()
        return lambda: value.set_state(numbers)
    if isinstance(value, random.Random):
        drawn = value.getstate()
        return lambda: value.setstate(drawn)
    return None


def _restore_container(container: Any, contents: Any) -> None:
    kind = next((kind for kind in _MUTABLE if isinstance(container, kind)), None)
    # Tuples and frozen sets cannot change.
    if kind is None or _items(container) == _items(contents):
        return
    # The methods of the base class are called, because a subclass may refuse changes or count them.
    kind.clear(container)
    (kind.extend if hasattr(kind, "extend") else kind.update)(container, contents)


def _items(container: Any) -> list[Any]:
    """Return the ids of all items in a container, in the order of iteration."""
    if isinstance(container, dict):
        return [(id(key), id(value)) for key, value in container.items()]
    return [id(value) for value in container]
