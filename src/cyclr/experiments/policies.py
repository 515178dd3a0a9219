"""The learning-rate policies of a comparison: one class for each kind."""

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
    """How the members of a training are combined at its end.

    Attributes:
        combine: `"ensemble"` or `"average"`.
        every: updates from one member to the next; None for a member at the end of every cycle.
        keep: number of the last members to combine; None for all.
        decay: factor of a member's weight for every update between this member and the last member.
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
    """How the learning rate of one training is set.

    Attributes:
        schedule: learning rate of every update, or None if the framework or AutoCycle sets the learning rate.
        framework: `"cosine"` or `"plateau"` for the framework's own scheduler, `"auto"` for AutoCycle, or None.
        lr: the constant learning rate, or the initial learning rate of the framework's scheduler.
        options: arguments of the framework's scheduler or of AutoCycle.
        ending: how members are combined at the end of the training, or None.
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
    """A kind of policy, with its options as fields. A new kind is a subclass with a `tag`, listed in `KINDS`.

    Policies of all kinds except `cosine` and `plateau` can end with an ensemble or average of members. Members are the
    weights at the ends of cycles or, with `every`, after each such number of steps. The last `keep` are combined.
    """

    from_bounds: ClassVar[tuple[str, ...]] = ()
    """Options that a range test can find. Either all or none of them are given."""
    ending: Combine | None = None
    every: Count | str | None = None
    keep: Several | None = None

    @property
    def needs_range_test(self) -> bool:
        """True if the learning rates come from a range test before the training."""
        return any(getattr(self, name) is None for name in self.from_bounds)

    def plan(self, run: Run) -> Plan:
        """Return the plan for a training of this length. The options in `from_bounds` must not be None."""
        raise NotImplementedError

    def spacing(self, run: Run) -> int | None:
        """Return the steps from one member to the next, or None for members at the ends of cycles."""
        return None if self.every is None else run.steps(self.every)

    def end(self, run: Run) -> Ending | None:
        """Return how the members are combined, or None if the training has no ending."""
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
    """A constant learning rate."""

    lr: Rate

    def plan(self, run: Run) -> Plan:
        return Plan(Constant(self.lr), lr=self.lr)


class Bounded(Kind, frozen=True):
    """Base class of kinds whose learning rate moves between two bounds, which are given or found by a range test."""

    from_bounds = ("base_lr", "max_lr")
    base_lr: float | None = None
    max_lr: float | None = None

    @property
    def bounds(self) -> tuple[float, float]:
        """Both bounds. Their order is checked by the schedule."""
        return self.base_lr, self.max_lr  # type: ignore[return-value]


class Triangular(Bounded, frozen=True, tag="triangular"):
    """Cycles between constant bounds. The subclasses differ in `mode` and `shape`."""

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
    """Cycles whose amplitude is halved after every cycle."""

    mode = "triangular2"
    shape: str = "triangular"  # type: ignore[misc]  # an option here


class ExpRange(Triangular, frozen=True, tag="exp_range"):
    """Cycles whose amplitude is multiplied by `gamma` at every step; by default it shrinks to a tenth in the run."""

    mode = "exp_range"
    shape: str = "triangular"  # type: ignore[misc]
    gamma: float | None = None


class OneCyclePolicy(Bounded, frozen=True, tag="one_cycle"):
    """1cycle: the learning rate rises to max_lr once, and then falls far below base_lr."""

    rise: float = 0.3

    def plan(self, run: Run) -> Plan:
        return Plan(OneCycle(*self.bounds, run.total_steps, rise=self.rise))


class Multiplicative(Bounded, frozen=True, tag="multiplicative"):
    """Restarts with cycles that double in length, to show accuracy against training time (Portes et al. 2022).

    With cycles of 1, 2, 4, … epochs, the ends of the cycles stand for runs of 1, 3, 7, … epochs.
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
        # If cycles of whole steps fill the run, use them: they end together with epochs.
        shares = [self.growth**-cycle for cycle in range(cycles)]
        whole = WarmRestarts(*self.bounds, max(1, round(total * shares[-1] / sum(shares))), growth=self.growth)
        if whole.cycle(total - 1) == cycles - 1 and whole.is_cycle_end(total - 1):
            return Plan(whole)
        return Plan(WarmRestarts.over(total, cycles, *self.bounds, growth=self.growth))


class RestartsPolicy(Multiplicative, frozen=True, tag="warm_restarts"):
    """SGDR: a cosine from max_lr to base_lr in every cycle. `cycle_length` or `cycles` gives the number of cycles."""

    cycles: Count | None = None  # type: ignore[misc]
    cycle_length: Count | str | None = None
    growth: Growth = 1


class Peaked(Kind, frozen=True):
    """Base class of kinds with one peak learning rate, which is given or is the upper bound of a range test."""

    from_bounds = ("lr",)
    lr: Rate | None = None

    @property
    def peak(self) -> float:
        """The peak learning rate; `lr` must not be None."""
        return self.lr  # type: ignore[return-value]


class DecayToZero(Peaked, frozen=True, tag="d2z"):
    """A linear warm-up, then a line to 0 at the last step (Bergsma et al. 2025, arXiv:2502.15938).

    The subclasses differ in `curve` and in `floor`, the learning rate at the last step as a share of the peak.
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
    """A linear warm-up, a constant peak, and a final 1 − sqrt decay to 0 (Hägele et al. 2024, arXiv:2405.18392)."""

    warmup: Phase = 0.1
    decay: Phase = 0.2

    def plan(self, run: Run) -> Plan:
        return Plan(WarmupStableDecay(self.peak, run.total_steps, warmup=self.warmup, decay=self.decay))


class Cosine(Peaked, frozen=True, tag="cosine"):
    """The framework's own cosine decay to 0."""

    def plan(self, run: Run) -> Plan:
        return Plan(framework="cosine", lr=self.lr)


class Plateau(Peaked, frozen=True, tag="plateau"):
    """The framework's own ReduceLROnPlateau, on the compared metric."""

    factor: Annotated[float, Meta(gt=0, lt=1)] = 0.1
    patience: Annotated[int, Meta(ge=0, le=2**31)] = 3

    def plan(self, run: Run) -> Plan:
        return Plan(framework="plateau", lr=self.lr, options={"factor": self.factor, "patience": self.patience})


class Auto(Bounded, frozen=True, tag="auto"):
    """`AutoCycle`: a cycle that corrects its learning rates by the loss, with its own bounds or with given bounds."""

    range_test: bool = False

    @property
    def needs_range_test(self) -> bool:
        return self.range_test

    def plan(self, run: Run) -> Plan:
        given = {} if self.base_lr is None else {"schedule": Bounds(*self.bounds, "ok", "given")}
        return Plan(framework="auto", options=given)


class SnapshotEnsemble(Peaked, frozen=True, tag="snapshot_ensemble"):
    """Cosine cycles from the peak to 0, and an ensemble of their ends (Huang et al. 2017, arXiv:1704.00109)."""

    ending: Combine | None = "ensemble"
    cycles: Several = 5

    def plan(self, run: Run) -> Plan:
        return Plan(WarmRestarts.over(run.total_steps, self.cycles, 0.0, self.peak))


class FastGeometric(Bounded, frozen=True, tag="fge"):
    """One cycle, then short triangular cycles after the share `start` of the run, and an ensemble of their ends.

    The triangular cycles start at base_lr + height · (max_lr − base_lr), fall to base_lr and rise again. Source:
    Garipov et al. 2018, arXiv:1802.10026.
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
    """Like `FastGeometric`, but with an average of the weights, and with another tail after `start`.

    The tail goes to the height of the triangles and stays constant, or it has short cosine cycles that fall from this
    height. Source: Izmailov et al. 2018, arXiv:1803.05407.
    """

    ending: Combine | None = "average"
    tail: Literal["constant", "cyclic"] = "constant"  # type: ignore[misc]  # an option here


class LatestAveraging(Triangular, frozen=True, tag="lawa"):
    """A cycle with an average of the last members, by default one for every 50th part of the run (arXiv:2209.14981)."""

    ending: Combine | None = "average"
    keep: Several | None = 5
    cycles: Count | None = 1

    def spacing(self, run: Run) -> int | None:
        return super().spacing(run) or max(1, run.total_steps // 50)


class RunningAverage(Triangular, frozen=True, tag="ema"):
    """A cycle with a running average of the weights, in which older weights are multiplied by `decay` at every step.

    The average is computed from the last 25 members. The distance between members is a fifth of the average's memory,
    1 / (1 − decay) steps, so older members would have a total weight of e⁻⁵ only.
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
    """Any schedule, given by its `to_dict()`. The `to_dict()` of `Bounds` stands for `bounds.schedule` of the run."""

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
        options: options of the kind. Learning rates that are left out come from a range test, if the kind allows it.
        name: name of the policy in tables; by default made from the kind and the options.

    Raises:
        TypeError, ValueError: the kind or an option is unknown, or a value is out of range.

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
                f"unknown kind of policy {quoted(self.kind)}. {hint and hint + ' '}The kinds are {', '.join(KINDS)}."
            )
        kind = KINDS[self.kind]
        what = f"policy {self.kind!r}"
        options = plain(what, self.options)
        settings = checked(what, options, kind)
        given = [name for name in kind.from_bounds if getattr(settings, name) is not None]
        if 0 < len(given) < len(kind.from_bounds):
            raise ValueError(
                f"{what} needs both {' and '.join(kind.from_bounds)}, or neither to find them by a range test; "
                f"got only {given[0]}."
            )
        if given and settings.needs_range_test:
            raise ValueError(f"{what} takes {' and '.join(given)}, or range_test; got both. Leave one of them out.")
        name = self.name or " ".join([self.kind, *itertools.starmap(_in_name, options.items())])
        set_fields(self, options=frozen(options), name=name, _settings=settings)
        # The schedule checks its arguments, also with placeholder bounds, before anything is trained.
        self.plan(Run(10**6, steps_per_epoch=10**5), Bounds(1e-3, 1e-1, "ok", "placeholder"))

    @property
    def needs_range_test(self) -> bool:
        """True if the learning rates come from a range test before the training."""
        return self._settings.needs_range_test

    def plan(self, run: Run, bounds: Bounds | None = None) -> Plan:
        """Return the plan for a training of a certain length.

        Args:
            run: length of the training.
            bounds: bounds of the range test, for a policy that needs one.

        Raises:
            BoundsError: the bounds hold no learning rates.
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
            f"policy {kind!r} cannot have an ending, because the framework sets the learning rate; got "
            f"ending={ending.combine!r}. Use another kind, such as cosine_with_floor, or leave ending out."
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
    """Return the number of cycles of about 8 epochs (twice Smith's step size of 4 epochs) in a run, at least 1."""
    return max(1, round(run.total_steps / (8 * (run.steps_per_epoch or run.total_steps))))


def parse(text: str) -> list[dict[str, Any]]:
    """Return the policies that the text of a `--policy` option describes.

    Args:
        text: `KIND`, `KIND:option=value,…`, `fixed:RATE,RATE,…` or `schedule:FILE.json`; values as in TOML.

    Raises:
        ValueError: an option has no value, `fixed` has no learning rate, or `schedule` has no file.

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
            ("a learning rate", "fixed:0.01 or fixed:0.01,0.1") if kind == "fixed" else ("a file", "schedule:FILE.json")
        )
        raise ValueError(f"policy {kind!r} needs {what}; got none. Write {example}.")
    if kind == "schedule":
        return [{"kind": kind, "file": rest}]
    if kind == "fixed" and not any("=" in part for part in parts):
        return [{"kind": kind, "lr": [_value(part) for part in parts]}]
    table: dict[str, Any] = {"kind": kind}
    for part in parts:
        name, separator, value = (word.strip() for word in part.partition("="))
        # The constructor of Policy reports unknown kinds and options.
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
