"""Argument checks. Every message names the legal values, the received value and the remedy."""

import inspect
import math
import operator
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray


def number(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    fix: str = "",
) -> float:
    """Return `value` as a float. Raise if it is not finite or is out of range."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(_message(name, "a number", value, fix, kind=True))
    rules = (
        ("greater than", operator.gt, above),
        ("at least", operator.ge, at_least),
        ("at most", operator.le, at_most),
        ("less than", operator.lt, below),
    )
    given = [(words, holds, limit) for words, holds, limit in rules if limit is not None]
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result) or not all(holds(result, limit) for _, holds, limit in given):
        limits = " and ".join(f"{words} {limit:g}" for words, _, limit in given)
        of = "of " if limits.startswith("at ") else ""
        raise ValueError(_message(name, f"a finite number {of}{limits}", value, fix))
    return result


LARGEST_INTEGER = 2**63 - 1
"""Largest integer of NumPy, and largest step, length or count."""


def integer(name: str, value: Any, *, at_least: int, at_most: int = LARGEST_INTEGER, fix: str = "") -> int:
    """Return `value` as an int. Raise if it is out of range or has no integer type, such as 2.0."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(_message(name, "an integer", value, fix, kind=True))
    result = int(value)
    if result < at_least:
        raise ValueError(_message(name, f"an integer of at least {at_least}", value, fix))
    if result > at_most:
        raise ValueError(_message(name, f"an integer of at most {at_most}", value, fix))
    return result


def choice(name: str, value: Any, legal: Iterable[str]) -> str:
    """Return `value` if it is one of the `legal` names. The error lists them all."""
    names = list(legal)
    if value not in names:
        fix = did_you_mean(value, names)
        raise ValueError(_message(name, "one of " + ", ".join(map(repr, names)), value, fix))
    return str(value)


def closest(given: Any, known: Iterable[str]) -> str:
    """Return the closest known name, ignoring case, or an empty string if no name is close."""
    # Imported late, because it takes 2 ms and is needed only for errors.
    import difflib

    names = {str(name).lower(): name for name in known}
    close = difflib.get_close_matches(given[:100].lower() if isinstance(given, str) else "", names, n=1)
    return names[close[0]] if close else ""


def did_you_mean(given: Any, known: Iterable[str]) -> str:
    """Return `"Did you mean 'name'?"` with the closest known name, or an empty string if no name is close.

    Example:
        >>> did_you_mean("Addam", ["SGD", "Adam"])
        "Did you mean 'Adam'?"
    """
    name = closest(given, known)
    return f"Did you mean {name!r}?" if name else ""


def function(name: str, value: Any, what: str) -> Any:
    """Return `value` if it can be called. `what` describes its arguments and its result in the error."""
    if not callable(value):
        raise TypeError(_message(name, f"a function {what}", value, "", kind=True))
    if isinstance(value, type) and any("__call__" in vars(base) for base in value.__mro__):
        raise TypeError(f"{name} must be a function {what}; got the class {value.__name__}. Write {value.__name__}().")
    return value


def bounds(base_lr: Any, max_lr: Any, *, base: str = "base_lr", top: str = "max_lr") -> tuple[float, float]:
    """Return both bounds as floats. Raise if 0 <= base < top does not hold."""
    rates = base.endswith("lr")
    low = number(base, base_lr, at_least=0, fix="A learning rate is a small number such as 0.001." if rates else "")
    high = number(top, max_lr, above=0, fix="A learning rate is a small number such as 0.1." if rates else "")
    if high <= low:
        fix = "Swap them?" if high < low else "A range needs two different bounds."
        raise ValueError(
            f"{top} must be greater than {base}; got {base}={quoted(base_lr)}, {top}={quoted(max_lr)}. {fix}"
        )
    return low, high


def scalar(name: str, value: Any) -> float:
    """Return a number, or an array or tensor of one element, as a float; NaN and infinity are legal.

    Raises:
        TypeError: the value is anything else, such as a string or an array of several elements.
    """
    # The errors in this block need no message, because they are replaced below.
    try:
        if isinstance(value, str | bytes | bytearray) or getattr(getattr(value, "dtype", None), "kind", "f") in "SUO":
            raise TypeError
        # torch warns if a tensor with a graph is converted to a float. TensorFlow's tensors have no method `reshape`.
        plain = value.detach() if hasattr(value, "detach") else value
        shape = tuple(getattr(plain, "shape", ()))
        if math.prod(shape) != 1:
            raise TypeError
        if shape:
            plain = (plain if hasattr(plain, "reshape") else plain.numpy()).reshape(())
        return float(plain)
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        shape = tuple(getattr(value, "shape", ()))
        received = f"{name} of shape {shape}. Take its mean?" if shape else f"{name}={quoted(value)}."
        raise TypeError(f"{name} must be a number, or an array or tensor of one element; got {received}") from error


def floats(name: str, value: Any, shape: str) -> NDArray[np.float64]:
    """Return a new read-only array of numbers. Raise for strings and booleans. `shape` is a word for the error."""
    try:
        kinds = {type(item) for item in np.array(value, dtype=object).ravel()}
        if any(issubclass(kind, bool | np.bool_ | str | bytes) for kind in kinds):
            raise TypeError
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} must be {shape} of numbers; got {name}={quoted(value)}.") from error
    array.setflags(write=False)
    return array


def remedy(value: Any, usual: str) -> str:
    """Return the remedy for a wrong value: to call a method `schedule`, the `_remedy` of its class, or `usual`."""
    if inspect.ismethod(value) and value.__name__ == "schedule":
        return "Call it: bounds.schedule(total_steps=...)."
    return str(getattr(type(value), "_remedy", usual))


def quoted(value: Any, most: int = 200) -> str:
    """Return `repr(value)` for a message, cut to `most` characters."""
    try:
        text = f"<{type(value).__name__} that is too long to print>" if _is_long(value) else repr(value)
        # Arrays are printed on several lines.
        text = " ".join(text.split()) if "\n" in text else text
    except (ValueError, RecursionError):
        # Python raises for integers of more than 4,300 digits.
        text = f"<{type(value).__name__} that is too long to print>"
    return text if len(text) <= most else f"{text[: most - 20]}... ({len(text)} characters)"


def _is_long(value: Any) -> bool:
    """Return True if lists and dicts would print more than 100,000 values. A repeated value counts each time."""
    pending, count = [value], 0
    while pending and count + len(pending) <= _MOST_PRINTED:
        count += 1
        held = pending.pop()
        if isinstance(held, dict):
            pending += [*held, *held.values()]
        elif isinstance(held, list | tuple | set | frozenset):
            pending += held
    return bool(pending)


_MOST_PRINTED = 100_000


def _message(name: str, legal: str, value: Any, fix: str, kind: bool = False) -> str:
    received = f"{name}={quoted(value)}" + (f" of type {type(value).__name__}" if kind else "")
    fix = remedy(value, fix) if kind else fix
    return f"{name} must be {legal.strip()}; got {received}." + (f" {fix}" if fix else "")
