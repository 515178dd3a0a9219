"""Check the types of plain values from JSON and TOML files, and make the values immutable."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import msgspec

from cyclr import _plain
from cyclr._checks import did_you_mean, quoted

Count = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
Seeds = Annotated[tuple[Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)], ...], msgspec.Meta(min_length=1)]
"""Seeds, at most the largest integer that msgspec reads from a record."""

_WORDS = {
    "object": "a table",
    "array": "a list",
    "str": "text",
    "int": "an integer",
    "float": "a number",
    "null": "None",
}


class Table(dict[str, Any]):
    """A dict that cannot be changed, and therefore can be hashed."""

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise TypeError("a table of a comparison cannot be changed. Make a new comparison with Spec.replace.")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self))

    def __reduce__(self) -> tuple[Any, ...]:
        # As JSON text: for nested objects of a class, pickle needs three levels of recursion per level.
        return _from_json, (json.dumps(self),)


def plain(name: str, value: Any) -> Any:
    """Return a copy in the types of JSON. Raise ValueError for others, such as NaN, a date or 500 nested lists."""
    try:
        return _plain.parse(json.dumps(value, allow_nan=False, default=_standard))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{name} must hold only text, booleans and finite numbers; got {quoted(value)}: {error}."
        ) from error


def _standard(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Iterable):
        return list(value)
    raise TypeError(f"{type(value).__name__} is not a type of JSON")


def frozen(value: Any) -> Any:
    """Return plain values as immutable ones: tables as `Table`, lists as tuples."""
    # Not a comprehension, which needs one more level of recursion for each nested value.
    if isinstance(value, dict):
        return Table(zip(value, map(frozen, value.values()), strict=True))
    return (*map(frozen, value),) if isinstance(value, list | tuple) else value


def _from_json(text: str) -> Any:
    return frozen(json.loads(text))


def checked(name: str, value: Any, kind: Any) -> Any:
    """Convert plain values to a type that msgspec knows; errors name the argument or table.

    Raises:
        TypeError: a value has another type.
        ValueError: a value is out of range, unknown or missing.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        fact, _, path = str(error).removesuffix("`").partition(" - at `$")
        if "unknown field" in fact:
            raise ValueError(unknown(name, fact.split("`")[1], kind.__struct_fields__)) from error
        if "missing required field" in fact:
            raise ValueError(f"{name} needs {fact.split('`')[1]}; got {quoted(value)}.") from error
        legal, is_type, _ = fact[:200].removeprefix("Expected ").partition(", got ")
        legal = re.sub("`(.*?)`", lambda types: " or ".join(_WORDS.get(t, t) for t in types[1].split(" | ")), legal)
        where = f"{path.removeprefix('.')} of {name}" if path.startswith(".") else f"{name}{path}"
        raise (TypeError if is_type else ValueError)(f"{where} must be {legal}; got {quoted(value)}.") from error


def unknown(name: str, given: str, known: Iterable[str]) -> str:
    """Return the message for an unknown name, with the closest known one."""
    names = list(known)
    hint = did_you_mean(given, names)
    return f"{name} has no option {given!r}. {hint and hint + ' '}It has {', '.join(names) or 'none'}."
