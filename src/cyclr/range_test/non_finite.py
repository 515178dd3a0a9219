"""Losses of a range test that are NaN or infinite."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cyclr import _checks


@dataclass(frozen=True)
class NonFinite:
    """A loss of a range test that was NaN or infinite.

    Attributes:
        update: index of the update, from 0. Updates that were left out are counted too.
        lr: learning rate of the update, > 0.
        value: `"NaN"`, `"inf"` or `"-inf"`.
        source: `"loss"`; `"evaluate()"` if `evaluate` returned the value; `"gradients"` if loss scaling skipped all
            attempts of the update, even if the loss was finite.
        proven: True if the learning rate was too high. False if a broken batch may be the cause.

    Raises:
        TypeError, ValueError: a value has a wrong type or is out of range.

    Example:
        >>> from cyclr.range_test import NonFinite
        >>> print(NonFinite(update=12, lr=0.03, value="NaN"))
        the loss was NaN at update 12, at a learning rate of 0.03
    """

    update: int
    lr: float
    value: Literal["NaN", "inf", "-inf"]
    source: Literal["loss", "evaluate()", "gradients"] = "loss"
    proven: bool = True

    def __post_init__(self) -> None:
        _checks.integer("update", self.update, at_least=0)
        _checks.number("lr", self.lr, above=0)
        _checks.choice("value", self.value, ("NaN", "inf", "-inf"))
        _checks.choice("source", self.source, ("loss", "evaluate()", "gradients"))
        _checks.choice("proven", self.proven, (True, False))  # type: ignore[arg-type]

    def __str__(self) -> str:
        at = f"at update {self.update}, at a learning rate of {self.lr:.2g}"
        if self.source == "gradients":
            return f"gradients were NaN or infinite with every loss scale {at}"
        return f"{'the loss' if self.source == 'loss' else self.source} was {self.value} {at}"


NAMED = 3
"""Largest number of broken batches that a reason names."""


def words_for_left_out(met: Sequence[NonFinite]) -> str:
    """Return the sentence about the broken batches that were left out."""
    one = len(met) == 1
    each = "; ".join(
        f"update {loss.update} ({loss.value}, at a learning rate of {loss.lr:.2g})" for loss in met[:NAMED]
    )
    more = f" and {len(met) - NAMED} more" if len(met) > NAMED else ""
    return (
        f" {len(met)} broken {'batch was' if one else 'batches were'} left out, whose loss was NaN or infinite while "
        f"the loss of a later batch at the same learning rate was finite: {each}{more}. Check the data."
    )
