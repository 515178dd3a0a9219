"""Conversion of epochs, cycles and shares of a run to steps, and Smith's rule for the step size."""

import math
import re
from dataclasses import KW_ONLY, dataclass
from numbers import Integral
from typing import Any, Self

from cyclr import _checks, _names
from cyclr._warn import warn
from cyclr.schedules.base import set_fields
from cyclr.schedules.layout import decimal


@_names.hinted
@dataclass(frozen=True)
class Run:
    """The length of a training run in steps, which also converts epochs, cycles and percentages to steps.

    Schedules take their lengths in steps (optimizer updates). With a `Run`, code that gives lengths in epochs stays
    correct if the batch size or the amount of data changes. Pass a `Run` for any argument `total_steps`, or wherever
    Python takes an index: `operator.index(run) == run.total_steps`.

    Args:
        total_steps: steps (optimizer updates) of the run, ≥ 1.
        steps_per_epoch: steps in an epoch, ≥ 1. Required for lengths in epochs.
        cycles: cycles in the run, ≥ 1. Required for lengths in cycles.

    Raises:
        TypeError, ValueError: a number is not an integer ≥ 1.

    Example:
        >>> import cyclr
        >>> run = cyclr.Run.of(60_000, 50, epochs=15)
        >>> run.total_steps, run.steps("4 epochs"), run.steps("10 %")
        (18000, 4800, 1800)
        >>> schedule = cyclr.Cyclical(0.001, 0.006, run.steps("4 epochs"))
        >>> cyclr.OneCycle(0.001, 0.006, total_steps=run).total_steps
        18000
    """

    total_steps: int
    _: KW_ONLY
    steps_per_epoch: int | None = None
    cycles: int | None = None

    def __post_init__(self) -> None:
        total = _checks.integer("total_steps", self.total_steps, at_least=1, fix="It counts optimizer updates.")
        set_fields(self, total_steps=total)
        for name in ("steps_per_epoch", "cycles"):
            if (length := getattr(self, name)) is not None:
                set_fields(self, **{name: _checks.integer(name, length, at_least=1)})

    def __index__(self) -> int:
        return self.total_steps

    @classmethod
    def of(
        cls,
        samples: int,
        batch_size: int,
        epochs: int,
        *,
        cycles: int | None = None,
        validation_split: float = 0.0,
        drop_last: bool = False,
        accumulate: int = 1,
    ) -> Self:
        """Return a run of `epochs` epochs, with ceil(ceil(samples / batch_size) / accumulate) steps each.

        Args:
            samples: samples in the data, ≥ 1.
            batch_size: samples in a batch, summed over all processes, ≥ 1.
            epochs: epochs of the run, ≥ 1.
            cycles: as for `Run`.
            validation_split: share of the samples that is not used for training, in [0, 1), as in Keras' `fit`, which
                trains on floor(samples · (1 − validation_split)) samples.
            drop_last: True if an incomplete last batch is dropped, as by torch's `DataLoader(drop_last=True)`.
            accumulate: batches in an optimizer update (gradient accumulation), ≥ 1. The last update of an epoch uses
                the remaining batches, as in Lightning, Accelerate and Transformers. Keras carries the remaining batches
                over to the next epoch; use `Run(epochs * batches // accumulate)` for Keras.

        Raises:
            TypeError, ValueError: a number is out of range, or there is no batch to train on.

        Example:
            >>> import cyclr
            >>> cyclr.Run.of(1000, 32, 10, validation_split=0.2).total_steps
            250
            >>> cyclr.Run.of(1000, 32, 10, drop_last=True, accumulate=4).total_steps
            80
        """
        size = _checks.integer("batch_size", batch_size, at_least=1)
        split = _checks.number("validation_split", validation_split, at_least=0, below=1)
        count = _checks.integer("samples", samples, at_least=1)
        trained = math.floor(count * (1.0 - split)) if split else count
        batches = trained // size if drop_last else -(-trained // size)
        if batches == 0:
            raise ValueError(
                f"samples must fill a batch; got {trained} samples to train on, with samples={samples!r}, "
                f"validation_split={validation_split!r}, batch_size={batch_size!r}, drop_last={drop_last!r}. "
                "Use a smaller batch_size."
            )
        per_epoch = -(-batches // _checks.integer("accumulate", accumulate, at_least=1))
        total = per_epoch * _checks.integer("epochs", epochs, at_least=1)
        return cls(total, steps_per_epoch=per_epoch, cycles=cycles)

    def steps(self, length: int | str) -> int:
        """Return a length in steps, rounded to the nearest step, but at least 1.

        Args:
            length: number of steps, or a string of a number and a unit: `"2000 steps"`, `"4 epochs"`, `"2 cycles"`, or
                `"30 %"` of total_steps. A cycle has (total_steps − 1) / cycles steps, so that the last cycle ends at
                the last step.

        Raises:
            TypeError: the length is neither an int nor a string.
            ValueError: the unit is unknown, the length is 0, or the run was created without the `steps_per_epoch` or
                `cycles` that the unit needs.

        Example:
            >>> import cyclr
            >>> run = cyclr.Run(1001, steps_per_epoch=100, cycles=5)
            >>> [run.steps(length) for length in (7, "7 steps", "0.5 epochs", "1 cycle", "25%")]
            [7, 7, 50, 200, 250]
        """
        if not isinstance(length, str):
            return _checks.integer("length", length, at_least=1, fix=_UNITS_FIX)
        from fractions import Fraction

        units: dict[str, Fraction | int | None] = {
            "step": 1,
            "epoch": self.steps_per_epoch,
            "cycle": self.cycles and Fraction(self.total_steps - 1, self.cycles),
            "%": Fraction(self.total_steps, 100),
        }
        match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(%|[a-z]+)\s*", length)
        unit = match.group(2).removesuffix("s") if match else ""
        if match is None or unit not in units:
            raise ValueError(f"length must be a number and a unit; got length={_checks.quoted(length)}. {_UNITS_FIX}")
        if (steps := units[unit]) is None:
            missing = "steps_per_epoch" if unit == "epoch" else "cycles"
            raise ValueError(
                f"{missing} must be given to measure in {unit}s; got length={_checks.quoted(length)} and {self!r}. "
                f"Create the run with cyclr.Run(total_steps, {missing}=...)."
            )
        exact = Fraction(match.group(1)) * steps
        if exact <= 0:
            why = " A run of one step has no cycle." if unit == "cycle" and self.total_steps == 1 else ""
            raise ValueError(f"length must be greater than 0; got length={_checks.quoted(length)}.{why}")
        return max(1, int(exact + Fraction(1, 2)))


@_names.hinted
def step_size(samples: int, batch_size: int, epochs: float = 4) -> int:
    """Return the steps in half a cycle by Smith's rule: `epochs` epochs of ceil(samples / batch_size) steps each.

    Args:
        samples: training samples in an epoch, ≥ 1.
        batch_size: samples in an optimizer update, summed over all micro-batches and processes, ≥ 1.
        epochs: length of half a cycle in epochs, > 0. Smith advises 2 to 10. Other values give a `UserWarning`.

    Returns:
        Steps (optimizer updates), rounded to the nearest integer, but at least 1.

    Raises:
        TypeError, ValueError: samples or batch_size is not an integer ≥ 1, or epochs is not a number > 0.

    Example:
        >>> import cyclr
        >>> cyclr.step_size(60_000, 250, epochs=2), cyclr.step_size(60_000, 250, epochs=10)
        (480, 2400)

    Source: Smith 2017, arXiv:1506.01186, section 3.2.
    """
    per_epoch = Run.of(samples, batch_size, epochs=1).total_steps
    length = _checks.number("epochs", epochs, above=0)
    if not 2 <= length <= 10:
        warn(f"half a cycle of {length:g} epochs is outside the 2 to 10 epochs that Smith (2017) advises")
    return max(1, math.floor(decimal(length) * per_epoch + decimal(0.5)))


def total_of(total_steps: Any, at_least: int = 1) -> int:
    """Return the steps of a run that is given as an int or a `Run`."""
    given = total_steps.total_steps if isinstance(total_steps, Run) else total_steps
    return _checks.integer("total_steps", given, at_least=at_least, fix="It counts optimizer updates.")


def phase(name: str, length: Any, span: int, left_over: int, *, least: int = 1) -> tuple[float | int, int]:
    """Return the length of a phase as given and in steps. Raise if fewer than `left_over` of `span` steps remain."""
    fix = "A float is a fraction of the run, an int its steps."
    given: float | int
    if isinstance(length, Integral):
        given = steps = _checks.integer(name, length, at_least=least, fix=fix)
    else:
        given = _checks.number(name, length, **{"above" if least else "at_least": 0}, below=1, fix=fix)
        steps = max(least, math.floor(decimal(given) * span))
    if steps > span - left_over:
        raise ValueError(
            f"{name} must leave at least one step for every other phase of the {span + 1} steps; got "
            f"{name}={_checks.quoted(length)}, which is {_checks.quoted(steps)} steps. Use a shorter phase or a "
            "longer run."
        )
    return given, steps


_UNITS_FIX = 'Units are steps, epochs, cycles and %, such as "4 epochs". An int is a number of steps.'
