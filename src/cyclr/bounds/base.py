"""The bounds read from a range test, with a status and a reason."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Never, TypedDict, Unpack, overload

from cyclr import _checks, _names
from cyclr.drawing.picture import Mark, verdict
from cyclr.errors import BoundsError
from cyclr.schedules import Cyclical, Decay, OneCycle, Run, Schedule, WarmRestarts, WarmupStableDecay
from cyclr.schedules.run import total_of
from cyclr.schedules.shape import Shape

Status = Literal["ok", "flat", "no_divergence", "too_few_points", "noisy"]

ADVICE: dict[str, str] = {
    "flat": "Raise max_lr of the range test, and check that the model learns at all.",
    "no_divergence": "Raise max_lr of the range test to see where training turns unstable.",
    "too_few_points": "Run the range test with more steps, or from a smaller min_lr.",
    "noisy": "Run the range test with more steps or larger batches.",
}

MOST_FEWER = 16
"""Largest factor by which a batch size may become smaller. The square root was measured up to this factor."""

Kind = Literal["cycle", "one_cycle", "warm_restarts", "wsd"]


class _Arguments(TypedDict, total=False):
    total_steps: int | Run
    epochs: int
    steps_per_epoch: int
    cycles: int
    rise: float
    fall: float
    shape: Shape
    decay: Decay


@_names.hinted
@dataclass(frozen=True, repr=False)
class Bounds:
    """Bounds of the learning rate, read from a range test.

    To get both numbers, write `base_lr, max_lr = bounds`. This raises `BoundsError` if the curve gives no bounds.

    Attributes:
        base_lr: lower bound, or None if the curve gives no bounds.
        max_lr: upper bound, or None if the curve gives no bounds.
        status: `"ok"`; `"no_divergence"` (the bounds can be used, but the best learning rate may be higher); `"noisy"`
            (the bounds are a guess); `"flat"` (the loss never fell: the bounds are for fine-tuning, or None);
            `"too_few_points"` (the bounds are None).
        reason: the verdict, a description of the curve, and the remedy if the status is not `"ok"`.
        marks: the points in the description that a plot marks.

    Raises:
        TypeError, ValueError: a bound is illegal, only one bound is given, the status is unknown or does not fit the
            bounds, or a mark is illegal.

    Example:
        >>> from cyclr import Bounds
        >>> bounds = Bounds(base_lr=0.001, max_lr=0.1, status="ok", reason="read from a plot")
        >>> bounds.schedule(total_steps=101)(30)  # the maximum, after 0.3 of the run
        0.1
        >>> base_lr, max_lr = bounds
        >>> base_lr, max_lr
        (0.001, 0.1)
    """

    _remedy: ClassVar[str] = (
        "Write bounds.schedule(total_steps=...) with the updates of the run, or base_lr, max_lr = bounds for the two "
        "numbers."
    )

    base_lr: float | None
    max_lr: float | None
    status: Status
    reason: str
    marks: tuple[Mark, ...] = ()

    def __post_init__(self) -> None:
        _checks.choice("status", self.status, ("ok", *ADVICE))
        if not isinstance(self.reason, str):
            raise TypeError(f"reason must be a string; got reason={_checks.quoted(self.reason)}.")
        # Marks that were read from a file are dictionaries.
        marks = tuple(mark if isinstance(mark, Mark) else Mark(**mark) for mark in self.marks)
        object.__setattr__(self, "marks", marks)
        if (self.base_lr is None) != (self.max_lr is None):
            raise ValueError(
                "base_lr and max_lr must be both numbers or both None; "
                f"got base_lr={_checks.quoted(self.base_lr)}, max_lr={_checks.quoted(self.max_lr)}."
            )
        if self.status in (("too_few_points",) if self.usable else ("ok", "no_divergence", "noisy")):
            raise ValueError(
                "base_lr and max_lr must be numbers if the status is 'ok', 'no_divergence' or 'noisy', and None if it "
                f"is 'too_few_points'; got status={self.status!r}, base_lr={self.base_lr!r}, max_lr={self.max_lr!r}."
            )
        if self.usable:
            for name, value in zip(("base_lr", "max_lr"), _checks.bounds(self.base_lr, self.max_lr), strict=True):
                object.__setattr__(self, name, value)

    if not TYPE_CHECKING:

        def __getattr__(self, name):
            raise _names.missing_attribute(self, "bounds", name)

    def __repr__(self) -> str:
        return f"<Bounds: {self._formatted('base_lr={:.3g}, max_lr={:.3g}')} ({self.status}). {self.details}>"

    def _repr_html_(self) -> str:
        from cyclr.drawing.tables import table

        rows = {"bounds": self._formatted("{:.3g} to {:.3g}"), "status": self.status, "reason": self.details}
        return table("Learning-rate bounds", rows.items())

    def _formatted(self, form: str) -> str:
        return "none" if self.numbers is None else form.format(*self.numbers)

    def __iter__(self) -> Iterator[float]:
        return iter(self._usable_numbers())

    def _usable_numbers(self) -> tuple[float, float]:
        if self.numbers is None:
            raise BoundsError(f"these bounds hold no numbers (status {self.status!r}): {self.details}")
        return self.numbers

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
        """The bounds as a sentence, which is the same in every output."""
        return verdict(self.numbers)

    @property
    def details(self) -> str:
        """The reason without the verdict."""
        return self.reason.removeprefix(self.verdict).lstrip()

    @overload
    def schedule(self, *, kind: Literal["cycle"] = "cycle", **arguments: Unpack[_Arguments]) -> Cyclical: ...
    @overload
    def schedule(self, *, kind: Literal["one_cycle"], **arguments: Unpack[_Arguments]) -> OneCycle: ...
    @overload
    def schedule(self, *, kind: Literal["warm_restarts"], **arguments: Unpack[_Arguments]) -> WarmRestarts: ...
    @overload
    def schedule(self, *, kind: Literal["wsd"], **arguments: Unpack[_Arguments]) -> WarmupStableDecay: ...

    def schedule(
        self,
        *positional: Never,
        total_steps: int | Run | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        kind: Kind = "cycle",
        cycles: int | None = None,
        rise: float | None = None,
        fall: float | None = None,
        shape: Shape | None = None,
        decay: Decay | None = None,
    ) -> Schedule:
        """Return a schedule for a whole training run, with its maximum at max_lr.

        Give the length of the training run by name: `total_steps`, or `epochs` and `steps_per_epoch`.

        The default is one parabolic cycle that rises during 0.3 of the run. It stays near max_lr for a long time and
        then falls to base_lr. Of all cycles that were compared (`benchmarks/bounds/ground_truth.py`), this cycle is
        harmed least by bounds that are too low.

        - `"cycle"`, `Cyclical.over`: cycles from base_lr to max_lr and back. The last step is at base_lr. Options:
          cycles=1, rise=0.3, shape="parabolic", decay.
        - `"one_cycle"`, `OneCycle`: base_lr → max_lr → base_lr / 10,000 at the last step. Options: rise=0.3, fall,
          shape="sinusoidal".
        - `"warm_restarts"`, `WarmRestarts.over`: every cycle starts at max_lr, without a rise, and falls towards
          base_lr. The last step is at base_lr. Options: cycles=1, shape="sinusoidal", decay.
        - `"wsd"`, `WarmupStableDecay`: a rise from base_lr to max_lr, a constant learning rate, and a fall to 0 at the
          last step. Options: rise=0.1, fall=0.2.

        Args:
            total_steps: steps (optimizer updates) of the whole training run, or a `Run`.
            epochs, steps_per_epoch: epochs of the run and steps (optimizer updates) in an epoch, ≥ 1.
            kind: kind of the schedule, as above.
            cycles: number of whole cycles, ≥ 1.
            rise: length of the way up as a fraction of a cycle, or of the run if there are no cycles, in (0, 1). For
                `"one_cycle"` and `"wsd"`, an int is a number of steps.
            fall: length of the way down, in the units of rise. For `"wsd"` it leads to 0. For `"one_cycle"` it leads to
                base_lr, and a third phase then leads to base_lr / 10,000.
            shape, decay: as for the class of the kind. A decay lowers later peaks, or all peaks, below max_lr.

        Raises:
            BoundsError: the bounds are None. The message says what to change.
            TypeError: the length is missing, is given twice, or is not given by name.
            ValueError: the kind does not take one of the arguments.
            TypeError, ValueError: the class of the kind rejects one of the arguments.

        Example:
            >>> from cyclr import Bounds
            >>> bounds = Bounds(base_lr=0.001, max_lr=0.1, status="ok", reason="read from a plot")
            >>> bounds.schedule(epochs=5, steps_per_epoch=20) == bounds.schedule(total_steps=100)
            True
            >>> wsd = bounds.schedule(total_steps=101, kind="wsd")
            >>> [wsd(step) for step in (0, 10, 80, 100)]
            [0.001, 0.1, 0.1, 0.0]
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
        _checks.choice("kind", kind, _KINDS)
        options = {"cycles": cycles, "rise": rise, "fall": fall, "shape": shape, "decay": decay}
        options = {name: value for name, value in options.items() if value is not None}
        make, defaults = _KINDS[kind]
        for name in [name for name in options if name not in defaults]:
            kinds = " or ".join(f"kind={other!r}" for other, (_, legal) in _KINDS.items() if name in legal)
            raise ValueError(
                f"kind={kind!r} takes {', '.join(defaults)}; got {name}={_checks.quoted(options[name])}. Omit {name}, "
                f"or write {kinds}."
            )
        base_lr, max_lr = self._usable_numbers()
        if total_steps is None:
            names = ("epochs", "steps_per_epoch")
            fix = "Write steps_per_epoch=len(loader)." if hasattr(steps_per_epoch, "__len__") else ""
            total_steps = math.prod(_checks.integer(name, given[name], at_least=1, fix=fix) for name in names)
        length = total_of(total_steps)
        return make(base_lr=base_lr, max_lr=max_lr, total_steps=length, **{**defaults, **options})

    def for_batch_size(self, old: int, new: int) -> "Bounds":
        """Return the bounds for a smaller batch size, both multiplied by sqrt(new / old).

        The square root was measured for runs with the same number of samples, so that half the batch size gives twice
        as many updates. For such runs the square root is better than a new range test: the 150 updates of the test do
        not show the noise that small batches accumulate during a long run. For larger batches, a new range test is
        better, or equally good with SGD (`benchmarks/bounds/batch_size.py`).

        Args:
            old: batch size of the range test, ≥ 1.
            new: batch size of the training run, from old / 16 to old.

        Raises:
            BoundsError: the bounds are None. The message says what to change.
            TypeError, ValueError: a batch size is not an integer or is out of range.

        Example:
            >>> from cyclr import Bounds
            >>> bounds = Bounds(base_lr=0.001, max_lr=0.1, status="ok", reason="read from a plot")
            >>> bounds.for_batch_size(128, 32).numbers
            (0.0005, 0.05)
        """
        old, new = (_checks.integer(*given, at_least=1) for given in (("old", old), ("new", new)))
        base_lr, max_lr = self._usable_numbers()
        if new == old:
            return self
        if not old <= MOST_FEWER * new <= MOST_FEWER * old:
            raise ValueError(
                f"new must be from old / {MOST_FEWER} to old, for which the square root was measured; got old={old}, "
                f"new={new}. Run the range test at a batch size from {new} to {MOST_FEWER * new}."
            )
        ratio = math.sqrt(new / old)
        words = f"The bounds of batch size {old} are scaled by the square root of {new} / {old}."
        return with_numbers(self, (base_lr * ratio, max_lr * ratio), words)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, for JSON."""
        named = {"base_lr": self.base_lr, "max_lr": self.max_lr, "status": self.status, "reason": self.reason}
        return {**named, **({"marks": [asdict(mark) for mark in self.marks]} if self.marks else {})}


def with_numbers(bounds: Bounds, numbers: tuple[float, float], words: str) -> Bounds:
    """Return bounds with other numbers. The new reason starts with their verdict and ends with `words`."""
    base_lr, max_lr = numbers
    found = replace(bounds, base_lr=base_lr, max_lr=max_lr)
    return replace(found, reason=f"{found.verdict} {bounds.details} {words}")


_KINDS: dict[Kind, tuple[Callable[..., Schedule], dict[str, Any]]] = {
    "cycle": (Cyclical.over, {"cycles": 1, "rise": 0.3, "shape": "parabolic", "decay": None}),
    "one_cycle": (OneCycle, {"rise": 0.3, "fall": None, "shape": "sinusoidal"}),
    "warm_restarts": (WarmRestarts.over, {"cycles": 1, "shape": "sinusoidal", "decay": None}),
    "wsd": (
        lambda base_lr, max_lr, total_steps, rise, fall: WarmupStableDecay(
            max_lr, total_steps, warmup=rise, decay=fall, start=base_lr
        ),
        {"rise": 0.1, "fall": 0.2},
    ),
}
"""For each kind, the function that makes the schedule from bounds and length, and its options with their defaults."""
