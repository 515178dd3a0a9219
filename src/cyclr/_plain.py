"""Checks of plain values from files and saved states: JSON is read with limits, and values are checked by type."""

import dataclasses
import functools
import itertools
import math
import os
import types
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from cyclr import _checks, _files

DEEPEST = 420
"""Most levels of nested lists and objects: two for each of 200 nested schedules, and 20 around them."""

MOST_LISTS = 1_000_000
"""Most lists and objects in one value. A saved state has a few for each parameter of the model."""

LONGEST_NUMBER = 4_000
"""Most digits of an integer. Python reads at most 4,300."""


def parse(text: bytes | str, *, finite: bool = True) -> Any:
    """Return the value of a JSON text.

    Args:
        text: the text. Bytes must be in UTF-8.
        finite: False to accept NaN and infinite numbers, which are not part of JSON.

    Raises:
        ValueError: the text is not JSON in UTF-8, an object has a name twice, a number is not finite or has more than
            4,000 digits, or lists are nested more than 420 levels deep. The message is short.
    """
    import json

    number = _finite if finite else float
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
        value = json.loads(
            decoded, parse_float=number, parse_constant=number, parse_int=_integer, object_pairs_hook=_object
        )
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    if decoded.count("[") + decoded.count("{") > DEEPEST:
        check_depth(value)
    return value


def read_json(path: str | os.PathLike[str]) -> Any:
    """Return the value of a JSON file, see `parse`.

    Raises:
        OSError: the file cannot be read, has more than 1 GiB, or is a pipe or a device.
        ValueError: as for `parse`.
    """
    return parse(_files.read_regular(path))


def why(error: BaseException) -> str:
    """Return a short reason why a parser of Python rejected a text."""
    if isinstance(error, RecursionError | MemoryError):
        return "it is nested too deeply"
    said = str(error)
    return "an integer in it has more than 4,300 digits" if "set_int_max_str_digits" in said else f"{said:.200}"


def check_depth(value: Any) -> None:
    """Raise a ValueError if lists and dicts are nested more than 420 levels deep, or if there are over a million.

    A list that occurs several times is counted each time, because it is read each time.
    """
    level, lists, values = [value], 0, 0
    for _ in range(DEEPEST + 1):
        held = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list | tuple)]
        if not held:
            return
        lists, values = lists + len(held), values + sum(map(len, held))
        if lists > MOST_LISTS or values > 100 * MOST_LISTS:
            raise ValueError(f"it holds more than {MOST_LISTS:,} lists, or {100 * MOST_LISTS:,} values")
        level = [*itertools.chain.from_iterable(held)]
    raise ValueError(_TOO_DEEP)


_TOO_DEEP = f"it is nested more than {DEEPEST} levels deep"


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is not a finite number")
    return value


def _integer(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise ValueError(f"{text[:20]}... is an integer of {len(text)} digits")
    return int(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in content if names.count(name) > 1)
        raise ValueError(f"{_checks.quoted(twice)} occurs twice in one object")
    return content


def read(name: str, value: Any, kind: Any) -> Any:
    """Return a plain value converted to a type, or raise if the value does not fit.

    Args:
        name: name of the value in the error message.
        value: None, booleans, numbers, strings, and lists, tuples and dicts of these. A scalar of a framework is
            converted to a number.
        kind: `bool`, `int` (of 64 bits), `float`, `str`, `Any`, `X | None`, a `Literal`, `list[X]`, `dict[str, X]` or a
            tuple. A named tuple or a dataclass is created from a dict by the types of its fields. For
            `Annotated[X, check]`, the function `check(name, value)` returns the value or raises.

    Raises:
        ValueError: the value has another type, or an entry is missing, unknown or illegal. The message names the entry.

    Example:
        >>> read("lengths", {"warmup": [1, 2]}, dict[str, list[int]])
        {'warmup': [1, 2]}
    """
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is Annotated:
        return _made(name, parts[1], name, read(name, value, parts[0]))
    if origin in (Union, types.UnionType):
        return None if value is None else read(name, value, parts[0])
    if origin is Literal:
        if value in parts and type(value) is type(parts[parts.index(value)]):
            return value
        raise _wrong(name, "one of " + ", ".join(map(repr, parts)), value)
    if origin in (list, tuple):
        if not isinstance(value, list | tuple):
            raise _wrong(name, "a list", value)
        if origin is tuple and parts[-1] is not ...:
            if len(value) != len(parts):
                raise _wrong(name, f"a list of {len(parts)} values", value)
            return tuple(
                read(f"{name}[{i}]", one, part) for i, (one, part) in enumerate(zip(value, parts, strict=True))
            )
        return origin(read(f"{name}[{i}]", one, parts[0]) for i, one in enumerate(value))
    if origin is dict or hasattr(kind, "_fields") or dataclasses.is_dataclass(kind):
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise _wrong(name, "a dict of values by name", value)
        if origin is dict:
            return {key: read(f"{name}[{_checks.quoted(key)}]", one, parts[1]) for key, one in value.items()}
        return _read_fields(name, value, kind)
    return _read_scalar(name, value, kind)


def is_version(state: Any, version: int, entry: str) -> bool:
    """Return True if a state is a dict of this version with an entry of this name."""
    try:
        return (
            isinstance(state, dict) and entry in state and bool(read("version", state.get("version"), int) == version)
        )
    except ValueError:
        return False


def described(state: Any) -> str:
    """Return a description of a state for an error message: the names of its entries, or the value."""
    return f"keys {_checks.quoted(sorted(map(str, state)))}" if isinstance(state, dict) else _checks.quoted(state)


def _read_fields(name: str, value: Mapping[str, Any], kind: Any) -> Any:
    known, optional = _fields(kind)
    for entry in known:
        if entry not in value and entry not in optional:
            raise _wrong(name, f"a dict with an entry {entry!r}", value)
    for entry in value:
        if entry not in known:
            raise ValueError(f"{name} must have no entry {_checks.quoted(entry)}; it has {', '.join(known)}.")
    given = {entry: read(f"{name}[{entry!r}]", one, known[entry]) for entry, one in value.items()}
    return _made(name, kind, **given)


@functools.cache
def _fields(kind: Any) -> tuple[dict[str, Any], frozenset[str]]:
    """Return the types of the fields of a named tuple or dataclass, and the names of the fields with a default."""
    hints = get_type_hints(kind, include_extras=True)
    if hasattr(kind, "_fields"):
        return {name: hints[name] for name in kind._fields}, frozenset(kind._field_defaults)
    fields = dataclasses.fields(kind)
    missing = dataclasses.MISSING
    return {one.name: hints[one.name] for one in fields}, frozenset(
        one.name for one in fields if one.default is not missing or one.default_factory is not missing
    )


def _made(name: str, make: Any, *arguments: Any, **fields: Any) -> Any:
    try:
        return make(*arguments, **fields)
    except TypeError as error:
        raise ValueError(f"{name} must hold legal values: {error}") from error


def _read_scalar(name: str, value: Any, kind: Any) -> Any:
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    legal, words = _SCALARS[kind]
    if not isinstance(value, legal) or (isinstance(value, bool) and kind is not bool):
        raise _wrong(name, words, value)
    try:
        return np.int64(value).item() if kind is int else kind(value)
    except OverflowError:
        raise _wrong(name, words, value) from None


_SCALARS: dict[Any, tuple[Any, str]] = {
    bool: (bool, "True or False"),
    str: (str, "a text"),
    int: (Integral, "an integer of 64 bits"),
    float: (Real, "a number"),
}


def _wrong(name: str, legal: str, value: Any) -> ValueError:
    return ValueError(f"{name} must be {legal}; got {_checks.quoted(value)} of type {type(value).__name__}.")
