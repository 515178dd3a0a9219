"""Policies for the learning rate that a comparison sets against one another: one class for each kind."""

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from msgspec import Meta, Struct, structs

from cyclr._checks import did_you_mean, quoted
from cyclr.bounds import Bounds
from cyclr.errors import BoundsError
from cyclr.experiments._typed import Count, checked, frozen, plain
from cyclr.members import Member
from cyclr.schedules import (
    Anneal,
    Clock,
    Constant,
    Cyclical,
    OneCycle,
    Run,
    Schedule,
    Sequence,
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
Phase = Annotated[int, Meta(ge=0, le=2**63 - 1)] | Share
"""Steps, or a share of the run."""
Combine = Literal["ensemble", "average"]
Several = Annotated[int, Meta(ge=2, le=2**63 - 1)]


@dataclass(frozen=True)
class Ending:
    """How the members of a training are combined after it.

    Attributes:
        combine: `"ensemble"` or `"average"`.
        every: updates from one member to the next; None for a member at the end of every cycle.
        keep: number of the last members to combine; None for all.
        decay: what the weight of a member is multiplied by for every update until the last member.
    """

    combine: Combine
    every: int | None = None
    keep: int | None = None
    decay: float = 1.0

    def weights(self, members: list[Member]) -> list[float]:
        """Return the weights of the members, 1 for the last."""
        return [self.decay ** (members[-1].step - member.step) for member in members]


@dataclass(frozen=True)
class Plan:
    """What one training does with the learning rate.

    Attributes:
        schedule: the rate of every update, or None if the framework decides.
        framework: `"cosine"` or `"plateau"`, one of the framework's own means; `"auto"`, the AutoCycle of the
            framework; or None.
        lr: the constant rate, or the rate that the framework starts from.
        options: arguments of the framework's means.
        ending: how members of the training are combined after it, or None.
    """

    schedule: Schedule | None = None
    framework: Literal["cosine", "plateau", "auto"] | None = None
    lr: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    ending: Ending | None = None

    def check_members(self, total_steps: int) -> None:
        """Raise ValueError if a training of this length has fewer than two members to combine."""
        if self.ending is None or (self.ending.every is None and self.schedule is None):
            return
        if self.ending.every is not None:
            count = total_steps // self.ending.every
        else:
            count = int(np.sum(self.schedule.is_cycle_end(np.arange(total_steps))))  # type: ignore[union-attr]
        if count < 2:
            raise ValueError(
                f"ending={self.ending.combine!r} needs at least two members; a run of {total_steps} steps has {count}. "
                "Use more cycles, a smaller every, or a longer run."
            )


class Kind(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A kind of policy with its options as fields; a new kind is a subclass with a `tag`, listed in `KINDS`.

    A policy of any kind can end in an ensemble or an average of members: of the ends of its cycles, or of every so many
    steps (`every`), the last `keep` of them.
    """

    from_bounds: ClassVar[tuple[str, ...]] = ()
    """Options that a range test can find, all or none of them."""
    ending: Combine | None = None
    every: Count | str | None = None
    keep: Several | None = None

    @property
    def needs_range_test(self) -> bool:
        """True if its rates come from a range test before the training."""
        return any(getattr(self, name) is None for name in self.from_bounds)

    def plan(self, run: Run) -> Plan:
        """Return the plan for a training of this length; the rates of a range test have been filled in."""
        raise NotImplementedError

    def spacing(self, run: Run) -> int | None:
        """Return the steps from one member to the next, or None for the ends of cycles."""
        return None if self.every is None else run.steps(self.every)

    def end(self, run: Run) -> Ending | None:
        """Return how the members are combined, if they are."""
        if self.ending is not None:
            return Ending(self.ending, self.spacing(run), self.keep)
        if given := [
            f"{name}={getattr(self, name)!r}" for name in ("every", "keep") if getattr(self, name) is not None
        ]:
            raise ValueError(
                f"every and keep choose the members of an ending; got {', '.join(given)} and no ending. Add "
                "ending=ensemble or ending=average, or leave them out."
            )
        return None


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


class SnapshotEnsemble(Peaked, frozen=True, tag="snapshot_ensemble"):
    """Cosines from the peak down to 0, whose ends are an ensemble (Huang et al. 2017, arXiv:1704.00109)."""

    ending: Combine | None = "ensemble"
    cycles: Several = 5

    def plan(self, run: Run) -> Plan:
        return Plan(WarmRestarts.over(run.total_steps, self.cycles, 0.0, self.peak))


class FastGeometric(Bounded, frozen=True, tag="fge"):
    """One cycle, left after `start` of the run for short triangles, whose ends are an ensemble.

    The triangles go up to `height` of the way from base_lr to max_lr, where the first starts. Garipov et al. 2018,
    arXiv:1802.10026.
    """

    ending: Combine | None = "ensemble"
    tail: ClassVar[str] = "triangular"
    start: Annotated[float, Meta(gt=0, lt=1)] = 0.8
    members: Several = 5
    height: Annotated[float, Meta(gt=0, le=1)] = 0.25

    def plan(self, run: Run) -> Plan:
        (low, high), start, length = self.bounds, self._start(run), self._length(run)
        body, top = Cyclical.over(run.total_steps, 1, low, high), low + self.height * (high - low)
        if self.tail == "constant":
            tail: Schedule = Anneal(body(start), top, length, "cosine")
        elif self.tail == "cyclic":
            tail = WarmRestarts.over(run.total_steps - start, self.members, low, top)
        else:
            up = length // 2
            tail = Clock(Cyclical(low, top, up, step_size_down=length - up), start=up)
        return Plan(Sequence([body, tail], [start, run.total_steps - start]))

    def _start(self, run: Run) -> int:
        return round(self.start * run.total_steps)

    def _length(self, run: Run) -> int:
        steps = run.total_steps - self._start(run)
        if steps < 2 * self.members:
            raise ValueError(
                f"members must be at most half the steps after start; got members={self.members}, and {steps} of "
                f"{run.total_steps} steps come after start={self.start!r}. Use fewer members, or an earlier start."
            )
        return steps // self.members

    def spacing(self, run: Run) -> int | None:
        return super().spacing(run) or (self._length(run) if self.tail == "constant" else None)

    def end(self, run: Run) -> Ending | None:
        ending = super().end(run)
        return ending and replace(ending, keep=ending.keep or self.members)


class WeightAveraging(FastGeometric, frozen=True, tag="swa"):
    """The same with an average, and a tail at that height or of short cosines down from it.

    Izmailov et al. 2018, arXiv:1803.05407.
    """

    ending: Combine | None = "average"
    tail: Literal["constant", "cyclic"] = "constant"  # type: ignore[misc]  # an option here


class LatestAveraging(Triangular, frozen=True, tag="lawa"):
    """A cycle with an average of the last members, by default of every 50th part of the run (arXiv:2209.14981)."""

    ending: Combine | None = "average"
    keep: Several | None = 5
    cycles: Count | None = 1

    def spacing(self, run: Run) -> int | None:
        return super().spacing(run) or max(1, run.total_steps // 50)


class RunningAverage(Triangular, frozen=True, tag="ema"):
    """A cycle with a running average of the weights, which forgets by `decay` in every step.

    It is made of members a fifth of its memory of 1 / (1 − decay) steps apart, of the last 25, which leave out a weight
    of e⁻⁵.
    """

    ending: Combine | None = "average"
    keep: Several | None = 25
    cycles: Count | None = 1
    decay: Annotated[float, Meta(gt=0, lt=1)] = 0.98

    def spacing(self, run: Run) -> int | None:
        return super().spacing(run) or min(max(1, round(0.2 / (1 - self.decay))), max(1, run.total_steps // 2))

    def end(self, run: Run) -> Ending | None:
        ending = super().end(run)
        return ending and replace(ending, decay=self.decay)


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
        *(Cosine, Plateau, Auto, SnapshotEnsemble, FastGeometric, WeightAveraging, LatestAveraging, RunningAverage),
        FromSchedule,
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
        if not isinstance(self.kind, str) or self.kind not in KINDS:
            hint = did_you_mean(self.kind, KINDS)
            raise ValueError(
                f"there is no policy of kind {quoted(self.kind)}. {hint and hint + ' '}"
                f"The kinds are {', '.join(KINDS)}."
            )
        kind = KINDS[self.kind]
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
            return _planned(self.kind, self._settings, run)
        if bounds is None or bounds.base_lr is None or bounds.max_lr is None:
            why = "none was run" if bounds is None else f"status {bounds.status!r}: {bounds.details}"
            raise BoundsError(f"policy {self.name!r} needs the bounds of a range test, but {why}")
        found = {"base_lr": bounds.base_lr, "max_lr": bounds.max_lr, "lr": bounds.max_lr}
        rates = {name: found[name] for name in self._settings.from_bounds}
        return _planned(self.kind, structs.replace(self._settings, **rates), run)


def _planned(kind: str, settings: Kind, run: Run) -> Plan:
    plan, ending = settings.plan(run), settings.end(run)
    if ending is None:
        return plan
    if plan.framework not in (None, "auto"):
        raise ValueError(
            f"policy {kind!r} has no ending, because the framework moves its rate; got ending={ending.combine!r}. Use "
            "another kind, such as cosine_with_floor, or leave ending out."
        )
    if ending.every is None and plan.schedule is not None and not plan.schedule.has_cycle_ends:
        raise ValueError(
            f"ending={ending.combine!r} of policy {kind!r} needs every, the steps from one member to the next, because "
            f"its schedule has no cycle ends. Add every=100, or every=1 epoch."
        )
    return replace(plan, ending=ending)


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
        ValueError: an option without a value, or a fixed rate without a number.

    Example:
        >>> from cyclr.experiments.policies import parse
        >>> parse("fixed:0.01,0.1")
        [{'kind': 'fixed', 'lr': [0.01, 0.1]}]
        >>> parse("warm_restarts:cycle_length=2 epochs,growth=2")
        [{'kind': 'warm_restarts', 'cycle_length': '2 epochs', 'growth': 2}]
    """
    kind, _, rest = text.partition(":")
    parts = [part.strip() for part in rest.split(",") if part.strip()]
    if not parts and kind in ("fixed", "schedule"):
        what, example = (
            ("a rate", "fixed:0.01 or fixed:0.01,0.1") if kind == "fixed" else ("a file", "schedule:FILE.json")
        )
        raise ValueError(f"policy {kind!r} needs {what}; got none. Write {example}.")
    if kind == "schedule":
        return [{"kind": kind, "file": rest}]
    if kind == "fixed" and not any("=" in part for part in parts):
        return [{"kind": kind, "lr": [_value(part) for part in parts]}]
    table: dict[str, Any] = {"kind": kind}
    for part in parts:
        name, separator, value = (word.strip() for word in part.partition("="))
        # Policy reports unknown kinds and options.
        if not separator and kind in KINDS:
            known = KINDS[kind].__struct_fields__
            hint = "" if name in known else did_you_mean(name, known)
            raise ValueError(
                f"an option of policy {kind!r} must be option=value; got {quoted(part)}. {hint and hint + ' '}"
                f"It has {', '.join(known)}."
            )
        table[name] = _value(value)
    return [table]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
