"""The bounds that a range test gives, with a status and a reason."""

import math
from dataclasses import dataclass
from typing import Any, Literal, Never

from cyclr import _checks
from cyclr.errors import BoundsError
from cyclr.schedules import Cyclical, Decay, Run
from cyclr.schedules.run import total_of
from cyclr.schedules.shape import Shape

Status = Literal["ok", "flat", "no_divergence", "too_few_points", "noisy"]

ADVICE: dict[str, str] = {
    "flat": "Raise max_lr of the range test, and check that the model learns at all.",
    "no_divergence": "Raise max_lr of the range test to see where training turns unstable.",
    "too_few_points": "Run the range test with more steps, or from a smaller min_lr.",
    "noisy": "Run the range test with more steps or larger batches.",
}


@dataclass(frozen=True)
class Bounds:
    """Bounds of the learning rate, read from a range test.

    Attributes:
        base_lr: lower bound, or None if the curve gives no bounds.
        max_lr: upper bound, or None if the curve gives no bounds.
        status: `"ok"`; `"no_divergence"` (numbers that can be used, but the best rate may be higher); `"noisy"`
            (numbers that are a guess); `"flat"` (the loss never fell: numbers for fine-tuning, or none);
            `"too_few_points"` (no numbers).
        reason: the shape of the curve in words, and the remedy if the status is not `"ok"`.

    Raises:
        TypeError, ValueError: numbers that are not bounds, or only one of them; an unknown status.

    Example:
        >>> from cyclr import Bounds
        >>> bounds = Bounds(base_lr=0.001, max_lr=0.1, status="ok", reason="read from a plot")
        >>> bounds.schedule(total_steps=101)(30)  # the top, 0.3 of the way
        0.1
    """

    base_lr: float | None
    max_lr: float | None
    status: Status
    reason: str

    def __post_init__(self) -> None:
        _checks.choice("status", self.status, ("ok", *ADVICE))
        if not isinstance(self.reason, str):
            raise TypeError(f"reason must be a text; got reason={_checks.quoted(self.reason)}.")
        if (self.base_lr is None) != (self.max_lr is None):
            raise ValueError(
                "base_lr and max_lr must be both numbers or both None; "
                f"got base_lr={_checks.quoted(self.base_lr)}, max_lr={_checks.quoted(self.max_lr)}."
            )
        if self.status in (("too_few_points",) if self.usable else ("ok", "no_divergence", "noisy")):
            raise ValueError(
                "bounds must hold numbers if their status is one of 'ok', 'no_divergence', 'noisy', and none if it is "
                f"'too_few_points'; got status={self.status!r}, base_lr={self.base_lr!r}, max_lr={self.max_lr!r}."
            )
        if self.usable:
            for name, value in zip(("base_lr", "max_lr"), _checks.bounds(self.base_lr, self.max_lr), strict=True):
                object.__setattr__(self, name, value)

    @property
    def numbers(self) -> tuple[float, float] | None:
        """(base_lr, max_lr), or None if the curve gives no bounds."""
        return None if self.base_lr is None or self.max_lr is None else (self.base_lr, self.max_lr)

    @property
    def usable(self) -> bool:
        """True if both bounds are numbers."""
        return self.numbers is not None

    @property
    def verdict(self) -> str:
        """The bounds as a sentence: the only wording of them, which every output uses."""
        if self.numbers is None:
            return "This curve gives no bounds."
        return "Cycle between base_lr={:.3g} and max_lr={:.3g}.".format(*self.numbers)

    def schedule(
        self,
        *positional: Never,
        total_steps: int | Run | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        cycles: int = 1,
        rise: float = 0.3,
        shape: Shape = "parabolic",
        decay: Decay | None = None,
    ) -> Cyclical:
        """Return the schedule to train with: whole cycles between the bounds, with the last step at base_lr.

        The length of the training run is given by name: `total_steps`, or `epochs` and `steps_per_epoch`.

        By default one parabolic cycle that rises over 0.3 of the run. It stays near max_lr for long and then anneals.
        Of the cycles compared (`benchmarks/bounds/ground_truth.py`), it suffers least from bounds that are too low.

        Args:
            total_steps: steps (optimizer updates) of the whole training run, or a `Run`.
            epochs, steps_per_epoch: epochs of the run and steps (optimizer updates) in each, ≥ 1.
            cycles: number of whole cycles, ≥ 1.
            rise, shape, decay: as for `Cyclical.over`.

        Raises:
            BoundsError: the bounds are None; the message says what to change.
            TypeError: no length, two lengths, or a length that is not given by name.
            TypeError, ValueError: an argument that `Cyclical.over` rejects.

        Example:
            >>> from cyclr import Bounds
            >>> bounds = Bounds(base_lr=0.001, max_lr=0.1, status="ok", reason="read from a plot")
            >>> bounds.schedule(epochs=5, steps_per_epoch=20) == bounds.schedule(total_steps=100)
            True
        """
        named = {"total_steps": total_steps, "epochs": epochs, "steps_per_epoch": steps_per_epoch}
        given = {name: value for name, value in named.items() if value is not None}
        if positional or list(given) not in (["total_steps"], ["epochs", "steps_per_epoch"]):
            received = [*map(_checks.quoted, positional), *(f"{name}={_checks.quoted(given[name])}" for name in given)]
            raise TypeError(
                "the length of the training run must be given by name, as total_steps or as epochs and "
                f"steps_per_epoch; got {', '.join(received) or 'none'}. Write bounds.schedule(total_steps="
                f"{_checks.quoted(positional[0]) if positional else 960}) or "
                "bounds.schedule(epochs=5, steps_per_epoch=192)."
            )
        if self.numbers is None:
            raise BoundsError(f"these bounds hold no numbers (status {self.status!r}): {self.reason}")
        if total_steps is None:
            names = ("epochs", "steps_per_epoch")
            total_steps = math.prod(_checks.integer(name, given[name], at_least=1) for name in names)
        return Cyclical.over(total_of(total_steps), cycles, *self.numbers, rise=rise, shape=shape, decay=decay)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, for JSON."""
        return {"base_lr": self.base_lr, "max_lr": self.max_lr, "status": self.status, "reason": self.reason}
