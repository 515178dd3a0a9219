"""Policies for the learning rate that a comparison sets against one another: one class for each kind."""

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct, structs

from cyclr import _checks
from cyclr._checks import quoted
from cyclr.bounds import Bounds
from cyclr.errors import BoundsError
from cyclr.experiments._typed import Count, checked, frozen, plain
from cyclr.schedules import (
    Anneal,
    Constant,
    Cyclical,
    OneCycle,
    Run,
    Schedule,
    WarmRestarts,
    Warmup,
    WarmupStableDecay,
)
from cyclr.schedules.anneal import Curve
from cyclr.schedules.base import set_fields
from cyclr.schedules.cyclical import Mode, decay_of_mode
from cyclr.schedules.run import phase

Rate = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, lt=1)]
# An integer stays an integer in records.
Growth = Annotated[int, Meta(ge=1)] | Annotated[float, Meta(ge=1)]
Phase = Annotated[int, Meta(ge=0)] | Share
"""Steps, or a share of the run."""


@dataclass(frozen=True)
class Plan:
    """What one training does with the learning rate.

    Attributes:
        schedule: the rate of every update, or None if the framework decides.
        framework: `"cosine"` or `"plateau"`, one of the framework's own means; `"auto"`, the AutoCycle of the
            framework; or None.
        lr: the constant rate, or the rate that the framework starts from.
        options: arguments of the framework's means.
    """

    schedule: Schedule | None = None
    framework: Literal["cosine", "plateau", "auto"] | None = None
    lr: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


class Kind(Struct, frozen=True, forbid_unknown_fields=True):
    """A kind of policy with its options as fields; a new kind is a subclass with a `tag`, listed in `KINDS`."""

    from_bounds: ClassVar[tuple[str, ...]] = ()
    """Options that a range test can find, all or none of them."""

    @property
    def needs_range_test(self) -> bool:
        """True if its rates come from a range test before the training."""
        return any(getattr(self, name) is None for name in self.from_bounds)

    def plan(self, run: Run) -> Plan:
        """Return the plan for a training of this length; the rates of a range test have been filled in."""
        raise NotImplementedError


class Fixed(Kind, frozen=True, tag="fixed"):
    """One rate."""

    lr: Rate

    def plan(self, run: Run) -> Plan:
        return Plan(Constant(self.lr), lr=self.lr)


class Bounded(Kind, frozen=True):
    """A kind that moves between two bounds, given or found by a range test."""

    from_bounds = ("base_lr", "max_lr")
    base_lr: float | None = None
    max_lr: float | None = None

    @property
    def bounds(self) -> tuple[float, float]:
        """Both bounds; the schedule made of them checks their order."""
        return self.base_lr, self.max_lr  # type: ignore[return-value]


class Triangular(Bounded, frozen=True, tag="triangular"):
    """Cycles between bounds that stay; the other cyclical kinds differ in `mode` and `shape`."""

    mode: ClassVar[Mode] = "triangular"
    shape: ClassVar[str] = "triangular"
    cycles: Count | None = None
    rise: float = 0.5

    def plan(self, run: Run) -> Plan:
        cycles = cycles_in(run) if self.cycles is None else self.cycles
        gamma = getattr(self, "gamma", None)
        decay = decay_of_mode(self.mode, 0.1 ** (1 / run.total_steps) if gamma is None else gamma)
        shape: Any = self.shape
        return Plan(Cyclical.over(run.total_steps, cycles, *self.bounds, rise=self.rise, shape=shape, decay=decay))


class Parabolic(Triangular, frozen=True, tag="parabolic"):
    """Cycles with the shape of Welch's window."""

    shape = "parabolic"


class Sinusoidal(Triangular, frozen=True, tag="sinusoidal"):
    """Cycles with the shape of Hann's window."""

    shape = "sinusoidal"


class Triangular2(Triangular, frozen=True, tag="triangular2"):
    """Cycles whose amplitude is halved after each."""

    mode = "triangular2"
    shape: str = "triangular"  # type: ignore[misc]  # an option here


class ExpRange(Triangular, frozen=True, tag="exp_range"):
    """Cycles whose amplitude shrinks by `gamma` with every step; by default to a tenth at the end of the run."""

    mode = "exp_range"
    shape: str = "triangular"  # type: ignore[misc]
    gamma: float | None = None


class OneCyclePolicy(Bounded, frozen=True, tag="one_cycle"):
    """1cycle: up once, then down to far below."""

    rise: float = 0.3

    def plan(self, run: Run) -> Plan:
        return Plan(OneCycle(*self.bounds, run.total_steps, rise=self.rise))


class Multiplicative(Bounded, frozen=True, tag="multiplicative"):
    """Restarts whose cycles double, so that their ends trace accuracy against training time (Portes et al. 2022).

    Cycles of 1, 2, 4, … epochs each end where a run of 1, 3, 7, … epochs would.
    """

    cycles: ClassVar[int | None] = None
    cycle_length: Count | str | None = "1 epoch"
    growth: Growth = 2

    def plan(self, run: Run) -> Plan:
        if self.cycle_length is not None:
            if self.cycles is not None:
                raise ValueError(
                    f"cycles and cycle_length exclude each other; got cycles={self.cycles!r}, "
                    f"cycle_length={self.cycle_length!r}. Leave one out."
                )
            return Plan(WarmRestarts(*self.bounds, run.steps(self.cycle_length), growth=self.growth))
        cycles, total = cycles_in(run) if self.cycles is None else self.cycles, run.total_steps
        if cycles > total:
            raise ValueError(f"cycles must be at most total_steps={total}; got cycles={cycles}. Use fewer cycles.")
        # Cycles that divide the run end where its epochs do.
        shares = [self.growth**-cycle for cycle in range(cycles)]
        whole = WarmRestarts(*self.bounds, max(1, round(total * shares[-1] / sum(shares))), growth=self.growth)
        if whole.cycle(total - 1) == cycles - 1 and whole.is_cycle_end(total - 1):
            return Plan(whole)
        return Plan(WarmRestarts.over(total, cycles, *self.bounds, growth=self.growth))


class RestartsPolicy(Multiplicative, frozen=True, tag="warm_restarts"):
    """SGDR: a cosine down in every cycle; cycles of `cycle_length`, or as many as fill the run."""

    cycles: Count | None = None  # type: ignore[misc]
    cycle_length: Count | str | None = None
    growth: Growth = 1


class Peaked(Kind, frozen=True):
    """A kind with one rate, given or found by a range test, whose upper bound it is."""

    from_bounds = ("lr",)
    lr: Rate | None = None

    @property
    def peak(self) -> float:
        """The rate, which has been filled in."""
        return self.lr  # type: ignore[return-value]


class DecayToZero(Peaked, frozen=True, tag="d2z"):
    """A linear warm-up, then a line to 0 at the last step (Bergsma et al. 2025, arXiv:2502.15938).

    The other kinds that anneal differ in `curve` and in `floor`, the rate at the last step as a share of the peak.
    """

    curve: ClassVar[Curve] = "linear"
    floor: ClassVar[float] = 0.0
    warmup: Phase = 0.1

    def plan(self, run: Run) -> Plan:
        last = run.total_steps - 1
        _, rise = phase("warmup", self.warmup, last, left_over=1, least=0)
        fall = Anneal(self.peak, self.floor * self.peak, last - rise, self.curve)
        return Plan(Warmup(fall, rise) if rise else fall)


class Linear(DecayToZero, frozen=True, tag="linear"):
    """A linear warm-up, then a line down, by default to a tenth of the peak."""

    floor: Share = 0.1  # type: ignore[misc]  # an option here


class CosineWithFloor(Linear, frozen=True, tag="cosine_with_floor"):
    """A linear warm-up, then a cosine down, by default to a tenth of the peak."""

    curve = "cosine"


class StableDecay(Peaked, frozen=True, tag="wsd"):
    """A linear warm-up, the peak, and at the end a fall to 0 by 1 − sqrt (Hägele et al. 2024, arXiv:2405.18392)."""

    warmup: Phase = 0.1
    decay: Phase = 0.2

    def plan(self, run: Run) -> Plan:
        return Plan(WarmupStableDecay(self.peak, run.total_steps, warmup=self.warmup, decay=self.decay))


class Cosine(Peaked, frozen=True, tag="cosine"):
    """The framework's own cosine decay to 0."""

    def plan(self, run: Run) -> Plan:
        return Plan(framework="cosine", lr=self.lr)


class Plateau(Peaked, frozen=True, tag="plateau"):
    """The framework's own ReduceLROnPlateau, on the target metric."""

    factor: Annotated[float, Meta(gt=0, lt=1)] = 0.1
    patience: Annotated[int, Meta(ge=0, le=2**31)] = 3

    def plan(self, run: Run) -> Plan:
        return Plan(framework="plateau", lr=self.lr, options={"factor": self.factor, "patience": self.patience})


class Auto(Bounded, frozen=True, tag="auto"):
    """`AutoCycle`, a cycle that corrects itself by the loss: without a number, or from bounds."""

    range_test: bool = False

    @property
    def needs_range_test(self) -> bool:
        return self.range_test

    def plan(self, run: Run) -> Plan:
        given = {} if self.base_lr is None else {"schedule": Bounds(*self.bounds, "ok", "given")}
        return Plan(framework="auto", options=given)


class FromSchedule(Kind, frozen=True, tag="schedule"):
    """Any schedule, from its `to_dict()`; or `bounds.schedule` of the run's length, from those of `Bounds`."""

    schedule: dict[str, Any]

    def plan(self, run: Run) -> Plan:
        if self.schedule.keys() - {"marks"} == {"base_lr", "max_lr", "status", "reason"}:
            return Plan(Bounds(**self.schedule).schedule(total_steps=run))
        return Plan(Schedule.from_dict(self.schedule))


KINDS: dict[str, type[Kind]] = {
    str(kind.__struct_config__.tag): kind
    for kind in (
        *(Fixed, Triangular, Triangular2, ExpRange, Parabolic, Sinusoidal),
        *(OneCyclePolicy, RestartsPolicy, Multiplicative, Linear, DecayToZero, CosineWithFloor, StableDecay),
        *(Cosine, Plateau, Auto, FromSchedule),
    )
}
"""Every kind of policy by its name."""


@dataclass(frozen=True)
class Policy:
    """A kind of policy with its options.

    Args:
        kind: one of `KINDS`.
        options: its options as given; rates that are left out come from a range test, if the kind allows it.
        name: what to call it in tables; made of kind and options by default.

    Raises:
        TypeError, ValueError: an unknown kind or option, or a value out of range.

    Example:
        >>> from cyclr.experiments.policies import Policy
        >>> Policy("triangular", {"cycles": 2}).needs_range_test
        True
        >>> Policy("fixed", {"lr": 0.1}).name
        'fixed 0.1'
    """

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    _settings: Kind = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        kind = KINDS[_checks.choice("kind", self.kind, KINDS)]
        what = f"policy {self.kind!r}"
        options = plain(what, self.options)
        settings = checked(what, options, kind)
        given = [name for name in kind.from_bounds if getattr(settings, name) is not None]
        if 0 < len(given) < len(kind.from_bounds):
            raise ValueError(
                f"{what} needs both of {' and '.join(kind.from_bounds)}, or neither to find them by a range test; "
                f"got only {given[0]}."
            )
        if given and settings.needs_range_test:
            raise ValueError(f"{what} takes {' and '.join(given)}, or range_test; got both. Leave one of them out.")
        name = self.name or " ".join([self.kind, *itertools.starmap(_in_name, options.items())])
        set_fields(self, options=frozen(options), name=name, _settings=settings)
        # What the schedule itself checks is checked before anything is trained, also if the bounds are still to come.
        self.plan(Run(10**6, steps_per_epoch=10**5), Bounds(1e-3, 1e-1, "ok", "placeholder"))

    @property
    def needs_range_test(self) -> bool:
        """True if its rates come from a range test before the training."""
        return self._settings.needs_range_test

    def plan(self, run: Run, bounds: Bounds | None = None) -> Plan:
        """Return the plan for a training of a certain length.

        Args:
            run: length of the training.
            bounds: bounds of the range test, for a policy that needs one.

        Raises:
            BoundsError: the bounds hold no numbers.
            ValueError: the options do not fit the length.
        """
        if not self.needs_range_test:
            return self._settings.plan(run)
        if bounds is None or bounds.base_lr is None or bounds.max_lr is None:
            why = "none was run" if bounds is None else f"status {bounds.status!r}: {bounds.details}"
            raise BoundsError(f"policy {self.name!r} needs the bounds of a range test, but {why}")
        found = {"base_lr": bounds.base_lr, "max_lr": bounds.max_lr, "lr": bounds.max_lr}
        return structs.replace(self._settings, **{name: found[name] for name in self._settings.from_bounds}).plan(run)


def _in_name(option: str, value: Any) -> str:
    if isinstance(value, dict):
        return str(value.get("schedule", "of bounds"))
    if isinstance(value, float | int) and not isinstance(value, bool):
        return f"{value:g}" if option == "lr" else f"{option} {value:g}"
    return option if value is True else f"{option} {value}"


def cycles_in(run: Run) -> int:
    """Cycles of about 8 epochs, two of Smith's step sizes of four, that fill a run; at least one."""
    return max(1, round(run.total_steps / (8 * (run.steps_per_epoch or run.total_steps))))


def parse(text: str) -> list[dict[str, Any]]:
    """The policies that an option of the command line names.

    Args:
        text: `KIND`, `KIND:option=value,…`, `fixed:RATE,RATE,…` or `schedule:FILE.json`; values as in TOML.

    Raises:
        ValueError: an option without a value.

    Example:
        >>> from cyclr.experiments.policies import parse
        >>> parse("fixed:0.01,0.1")
        [{'kind': 'fixed', 'lr': [0.01, 0.1]}]
        >>> parse("warm_restarts:cycle_length=2 epochs,growth=2")
        [{'kind': 'warm_restarts', 'cycle_length': '2 epochs', 'growth': 2}]
    """
    kind, _, rest = text.partition(":")
    if kind == "schedule":
        return [{"kind": kind, "file": rest}]
    parts = [part.strip() for part in rest.split(",") if part.strip()]
    if kind == "fixed" and not any("=" in part for part in parts):
        return [{"kind": kind, "lr": [_value(part) for part in parts]}]
    table: dict[str, Any] = {"kind": kind}
    for part in parts:
        name, separator, value = (word.strip() for word in part.partition("="))
        # Policy reports unknown kinds and options.
        if not separator and kind in KINDS and name in KINDS[kind].__struct_fields__:
            raise ValueError(f"option {name!r} has no value; got {quoted(text)}. Write KIND:option=value,…")
        table[name] = _value(value)
    return [table]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
