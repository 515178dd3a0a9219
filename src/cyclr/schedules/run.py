"""Lengths in epochs, cycles and shares of a run, and the length of half a cycle, in steps."""

import re
import warnings
from dataclasses import KW_ONLY, dataclass
from fractions import Fraction
from typing import Self

from cyclr import _checks
from cyclr.schedules.base import set_fields


@dataclass(frozen=True)
class Run:
    """The length of a training run, and of parts of it: steps, epochs, cycles or a share of the run.

    Schedules take their lengths in steps (optimizer updates). A `Run` converts other units to steps, so that code which
    measures in epochs stays right if the batch size or the data change.

    Args:
        total_steps: steps (optimizer updates) of the run, ≥ 1.
        steps_per_epoch: steps in an epoch, ≥ 1; for lengths in epochs.
        cycles: cycles in the run, ≥ 1; for lengths in cycles.

    Raises:
        TypeError, ValueError: a number is not an integer ≥ 1.

    Example:
        >>> import cyclr
        >>> run = cyclr.Run.of(samples=60_000, batch_size=50, epochs=15)
        >>> run.total_steps, run.steps("4 epochs"), run.steps("10 %")
        (18000, 4800, 1800)
        >>> schedule = cyclr.Cyclical(0.001, 0.006, run.steps("4 epochs"))
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

    @classmethod
    def of(cls, *, samples: int, batch_size: int, epochs: int, cycles: int | None = None) -> Self:
        """Return the run over `epochs` epochs of ceil(samples / batch_size) steps each.

        Args:
            samples: training samples in an epoch, ≥ 1.
            batch_size: samples in one optimizer update, all micro-batches and processes together, ≥ 1.
            epochs: epochs of the run, ≥ 1.
            cycles: as for `Run`.

        Raises:
            TypeError, ValueError: a number is not an integer ≥ 1.
        """
        size = _checks.integer("batch_size", batch_size, at_least=1)
        per_epoch = -(-_checks.integer("samples", samples, at_least=1) // size)
        total = per_epoch * _checks.integer("epochs", epochs, at_least=1)
        return cls(total, steps_per_epoch=per_epoch, cycles=cycles)

    def steps(self, length: int | str) -> int:
        """Return a length in steps, at least 1 and rounded to the nearest.

        Args:
            length: steps as an int, or a text of a number and a unit: `"2000 steps"`, `"4 epochs"`, `"2 cycles"`
                (of `total_steps − 1` over `cycles`, so that the last one ends on the last step), `"30 %"` of
                total_steps.

        Raises:
            TypeError: the length is neither an int nor a text.
            ValueError: the unit is unknown, the length is 0, or the run was made without the length of the unit.

        Example:
            >>> import cyclr
            >>> run = cyclr.Run(1001, steps_per_epoch=100, cycles=5)
            >>> [run.steps(length) for length in (7, "7 steps", "0.5 epochs", "1 cycle", "25%")]
            [7, 7, 50, 200, 250]
        """
        if not isinstance(length, str):
            return _checks.integer("length", length, at_least=1, fix=_UNITS_FIX)
        units: dict[str, Fraction | int | None] = {
            "step": 1,
            "epoch": self.steps_per_epoch,
            "cycle": self.cycles and Fraction(self.total_steps - 1, self.cycles),
            "%": Fraction(self.total_steps, 100),
        }
        match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(%|[a-z]+)\s*", length)
        unit = match.group(2).removesuffix("s") if match else ""
        if match is None or unit not in units:
            raise ValueError(f"length must be a number and a unit; got length={length!r}. {_UNITS_FIX}")
        if (steps := units[unit]) is None:
            missing = "steps_per_epoch" if unit == "epoch" else "cycles"
            raise ValueError(
                f"{missing} must be given to measure in {unit}s; got length={length!r} and {self!r}. "
                f"Make it with cyclr.Run(total_steps, {missing}=...)."
            )
        exact = Fraction(match.group(1)) * steps
        if exact <= 0:
            why = " A run of one step has no cycle." if unit == "cycle" and self.total_steps == 1 else ""
            raise ValueError(f"length must be greater than 0; got length={length!r}.{why}")
        return max(1, int(exact + Fraction(1, 2)))


def step_size(samples: int, batch_size: int, epochs: float = 4) -> int:
    """Return half a cycle in steps, by Smith's rule: `epochs` epochs, of ceil(samples / batch_size) steps each.

    Args:
        samples: training samples in an epoch, ≥ 1.
        batch_size: samples in one optimizer update (all micro-batches and processes together), ≥ 1.
        epochs: length of half a cycle in epochs, > 0. Smith advises 2 to 10; outside that a `UserWarning` is issued.

    Returns:
        Steps (optimizer updates), at least 1, rounded to the nearest.

    Raises:
        TypeError, ValueError: samples or batch_size is not an integer ≥ 1, or epochs is not a number > 0.

    Example:
        >>> import cyclr
        >>> cyclr.step_size(60_000, 250, epochs=2), cyclr.step_size(60_000, 250, epochs=10)
        (480, 2400)

    Source: Smith 2017, arXiv:1506.01186, section 3.2.
    """
    per_epoch = Run.of(samples=samples, batch_size=batch_size, epochs=1).total_steps
    length = _checks.number("epochs", epochs, above=0)
    if not 2 <= length <= 10:
        warnings.warn(
            f"half a cycle of {length:g} epochs is outside the 2 to 10 that Smith (2017) advises", stacklevel=2
        )
    # By its decimals: 2.01 is not exactly a float.
    return max(1, int(Fraction(repr(length)) * per_epoch + Fraction(1, 2)))


_UNITS_FIX = 'Units are steps, epochs, cycles and %, such as "4 epochs"; an int counts steps (optimizer updates).'
