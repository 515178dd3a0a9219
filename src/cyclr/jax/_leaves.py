"""Copies of the leaves of a training state."""

import copy
from typing import Any

from cyclr import _checks


def copied(leaf: Any) -> Any:
    """Return a copy of a leaf of a pytree, which later updates do not change."""
    # A copy of a function would be compiled again.
    if callable(leaf):
        return leaf
    try:
        return copy.deepcopy(leaf)
    except TypeError as error:
        raise TypeError(
            f"state must hold values that can be copied; got {_checks.quoted(leaf)}. Keep it outside the state."
        ) from error
