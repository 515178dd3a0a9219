"""The conditions of a range test for its file and its page, without names of people, machines and folders."""

import math
import sys
from collections.abc import Mapping
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any

from cyclr import _checks


def checked(tested: Any) -> Mapping[str, str | int | float | bool | None]:
    """Return a read-only copy of the values. Raise if a value is not a string, a finite number, a boolean or None.

    Credentials, hosts, users and home folders are removed from strings, because results are shared.
    """
    if not isinstance(tested, Mapping):
        raise TypeError(f"tested must be a dict of values by name; got tested={_checks.quoted(tested)}.")
    values = {_name(name): _value(name, value) for name, value in tested.items()}
    if values:
        # Imported late, because compiling its patterns takes 10 ms.
        from cyclr._redact import redact

        values = redact(values)
    return MappingProxyType(values)


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"tested must be a dict of values by name; got a name {_checks.quoted(name)}.")
    return name


def _value(name: str, value: Any) -> str | int | float | bool | None:
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Integral):
        # Raises if the integer is too large for a float, although JSON could hold it.
        _checks.number(f"tested[{_checks.quoted(name)}]", value)
        return int(value)
    if isinstance(value, Real):
        return _checks.number(f"tested[{_checks.quoted(name)}]", value)
    raise TypeError(
        f"tested[{_checks.quoted(name)}] must be a string, a number, a boolean or None; got {_checks.quoted(value)}."
    )


def environment() -> dict[str, str]:
    """Return the versions of Python and cyclr, and the date in UTC."""
    import datetime
    from platform import python_version

    today = datetime.datetime.now(datetime.UTC).date()
    return {"python": python_version(), **versions("cyclr"), "date": today.isoformat()}


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of the packages, without packages that are not imported."""
    return {name: str(sys.modules[name].__version__) for name in packages if name in sys.modules}


def call(function: str, arguments: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """Return a function call as a string, with the arguments that differ from their defaults.

    Only numbers, booleans, None and tuples of these are written out. Other values are replaced by `...`, because they
    may name a person or a folder.

    Example:
        >>> call("torch.optim.SGD", {"momentum": 0.9, "nesterov": False}, {"momentum": 0, "nesterov": False})
        'torch.optim.SGD(momentum=0.9)'
    """
    given = [f"{name}={_literal(value)}" for name, value in arguments.items() if not _equal(value, defaults.get(name))]
    return f"{function}({', '.join(given)})" if given else function


def _literal(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_literal, value))}{',' if len(value) == 1 else ''})"
    is_number = isinstance(value, int | float) and math.isfinite(value)
    return repr(value) if value is None or (is_number and type(value) in (int, float, bool)) else "..."


def _equal(value: Any, default: Any) -> bool:
    """Return True if both are equal and plain values. A tensor never equals a number."""
    return type(value) in (int, float, bool, tuple, type(None)) and bool(value == default)
