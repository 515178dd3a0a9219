"""Changes of plain values from outside: each sets one entry to a value that is wrong, removes it, or adds one.

More of them: `CYCLR_EXAMPLES=5000 pytest tests -k test_outside`.
"""

import copy
import math
import os
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from cyclr.errors import CyclrError

REFUSED = (CyclrError, ValueError, TypeError)
"""What a reader may raise."""

LONGEST_MESSAGE = 700


def nested(levels: int, kind: type) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value] if kind is list else {"a": value}
    return value


WRONG = (
    *(None, True, False, 0, -1, 1, 2, 1.5, -0.0, 1e-320, 5e-324, 1e308, -1e308, 1.7976931348623157e308),
    *(math.nan, math.inf, -math.inf, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**30, 10**400, -(10**400)),
    *("", "x", "x" * 10_000, "NaN", "1", "\0", [], {}, [[]], [None], [1], [True], ["x"], [math.nan], {"a": 1}),
    *(nested(150, list), nested(150, dict), nested(900, list), [0.0] * 1_000),
)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths to all entries, of long lists to the first and the last."""
    yield at
    if isinstance(value, dict):
        for name in value:
            yield from places(value[name], (*at, name))
    elif isinstance(value, list | tuple):
        for index in sorted({0, 1, len(value) - 1} & {*range(len(value))}):
            yield from places(value[index], (*at, index))


@st.composite
def changes(draw: Any, value: Any) -> Any:
    """A copy of a value with one change, or two."""
    for _ in range(draw(st.sampled_from([1, 1, 1, 2]))):
        value = _changed(value, draw(st.sampled_from([*places(value)])), draw)
    return value


def _changed(value: Any, at: tuple[Any, ...], draw: Any) -> Any:
    if not at:
        if isinstance(value, dict) and draw(st.booleans()):
            return {**value, "extra": 1}
        return draw(st.sampled_from(WRONG))
    made = copy.copy(value) if isinstance(value, dict) else [*value]
    if len(at) == 1 and draw(st.integers(0, 9)) == 0:
        del made[at[0]]
    else:
        made[at[0]] = _changed(made[at[0]], at[1:], draw)
    return made


def check(value: Any, read: Callable[[Any], Any], use: Callable[[Any], Any]) -> None:
    """Read a value: it is refused by a short message, or what is read can be used."""
    refused = None
    try:
        found = read(value)
    except REFUSED as error:
        refused = error
    if refused is None:
        use(found)
    else:
        assert len(str(refused)) <= LONGEST_MESSAGE, str(refused)[:1000]


def examples(number: int) -> Callable[[Any], Any]:
    """Draw so many examples, or as many as the environment says."""
    return settings(max_examples=int(os.environ.get("CYCLR_EXAMPLES", number)))
