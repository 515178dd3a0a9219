"""Policies for the learning rate that a comparison sets against one another."""

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cyclr import _checks
from cyclr.bounds import Bounds
from cyclr.errors import BoundsError
from cyclr.schedules import Constant, Cyclical, OneCycle, Run, Schedule, Sequence, WarmRestarts
from cyclr.schedules.cyclical import decay_of_mode

EPOCHS_PER_CYCLE = 8
"""Two of Smith's step sizes of four epochs: the cycle length that is aimed at where none is given."""


@dataclass(frozen=True)
class Plan:
    """What one training does with the learning rate.

    Attributes:
        schedule: the rate of every update, or None where the framework decides.
        framework: `"cosine"` or `"plateau"`, one of the framework's own means, or None.
        lr: the rate that stays, or that the framework starts from.
        options: arguments of the framework's means.
    """

    schedule: Schedule | None = None
    framework: Literal["cosine", "plateau"] | None = None
    lr: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Kind:
    """A kind of policy: its options with their defaults, the rates that a range test can find, and how it plans."""

    says: str
    options: Mapping[str, Any]
    from_bounds: tuple[str, ...]
    plan: Callable[[Mapping[str, Any], Run], Plan]


@dataclass(frozen=True)
class Policy:
    """A kind of policy with its options.

    Args:
        kind: one of `KINDS`.
        options: its options; rates that are left out come from a range test, where the kind can take them from there.
        name: what to call it in tables; made of kind and options by default.

    Raises:
        ValueError: an unknown kind or option, or a rate that no range test finds.

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

    def __post_init__(self) -> None:
        kind = KINDS[_checks.choice("kind", self.kind, KINDS)]
        for option in self.options:
            if option not in kind.options:
                raise ValueError(
                    f"options of policy {self.kind!r} must be among {', '.join(kind.options) or 'none'}; "
                    f"got {option!r}. Check its spelling."
                )
        given = [rate for rate in kind.from_bounds if rate in self.options]
        if 0 < len(given) < len(kind.from_bounds):
            raise ValueError(
                f"policy {self.kind!r} must have both of {' and '.join(kind.from_bounds)}, or neither, to take them "
                f"from a range test; got {given[0]} alone."
            )
        required = [name for name, default in kind.options.items() if default is REQUIRED and name not in self.options]
        if required:
            raise ValueError(f"policy {self.kind!r} must have {required[0]}; got {dict(self.options)!r}.")
        if not self.name:
            object.__setattr__(self, "name", self._default_name())
        # Values that no run takes are refused before anything is trained, whatever a range test is to find.
        kind.plan(self._settings(Bounds(1e-3, 1e-1, "ok", "stands in")), Run(10**6, steps_per_epoch=10**5))

    @property
    def needs_range_test(self) -> bool:
        """Whether its rates come from a range test."""
        rates = KINDS[self.kind].from_bounds
        return bool(rates) and not any(rate in self.options for rate in rates)

    def plan(self, run: Run, bounds: Bounds | None = None) -> Plan:
        """What a training of a certain length does.

        Args:
            run: length of the training.
            bounds: those of the range test, for a policy that needs one.

        Raises:
            BoundsError: the bounds hold no numbers.
            ValueError: the options do not fit the length.
        """
        return KINDS[self.kind].plan(self._settings(bounds), run)

    def _settings(self, bounds: Bounds | None) -> dict[str, Any]:
        kind = KINDS[self.kind]
        settings = {name: default for name, default in kind.options.items() if default is not REQUIRED}
        if self.needs_range_test:
            if bounds is None or bounds.base_lr is None or bounds.max_lr is None:
                why = "none was run" if bounds is None else f"status {bounds.status!r}: {bounds.reason}"
                raise BoundsError(f"policy {self.name!r} needs the bounds of a range test, but {why}")
            settings |= {"base_lr": bounds.base_lr, "max_lr": bounds.max_lr, "lr": bounds.max_lr}
        return {**settings, **self.options}

    def _default_name(self) -> str:
        words = [self.kind]
        for name, value in self.options.items():
            if isinstance(value, dict):
                words.append(str(value.get("schedule", "")))
            elif isinstance(value, float | int) and not isinstance(value, bool):
                words.append(f"{value:g}" if name == "lr" else f"{name} {value:g}")
            else:
                words.append(Path(value).stem if name == "file" else f"{name} {value}")
        return " ".join(words)


REQUIRED = object()
"""Marks an option that has to be given."""


def cycles_in(run: Run) -> int:
    """Cycles of about 8 epochs, two of Smith's step sizes of four, that fill a run; at least one."""
    return max(1, round(run.total_steps / (EPOCHS_PER_CYCLE * (run.steps_per_epoch or run.total_steps))))


def _fixed(options: Mapping[str, Any], run: Run) -> Plan:
    lr = _checks.number("lr", options["lr"], above=0)
    return Plan(Constant(lr), lr=lr)


def _cyclical(mode: str, shape: str) -> Callable[[Mapping[str, Any], Run], Plan]:
    def plan(options: Mapping[str, Any], run: Run) -> Plan:
        gamma = 0.1 ** (1 / run.total_steps) if options.get("gamma") is None else options["gamma"]
        return Plan(
            Cyclical.over(
                run.total_steps,
                cycles_in(run) if options["cycles"] is None else options["cycles"],
                options.get("base_lr"),  # type: ignore[arg-type]  # checked there
                options.get("max_lr"),  # type: ignore[arg-type]
                rise=options["rise"],
                shape=options.get("shape", shape),
                decay=decay_of_mode(mode, gamma),  # type: ignore[arg-type]
            )
        )

    return plan


def _one_cycle(options: Mapping[str, Any], run: Run) -> Plan:
    return Plan(OneCycle(options["base_lr"], options["max_lr"], run.total_steps, rise=options["rise"]))


def _warm_restarts(options: Mapping[str, Any], run: Run) -> Plan:
    cycles, length, growth = options.get("cycles"), options["cycle_length"], options["growth"]
    if cycles is not None and length is not None:
        raise ValueError(
            f"cycles or cycle_length must be left out, as either gives the other; got cycles={cycles!r}, "
            f"cycle_length={length!r}."
        )

    def made(steps: int) -> WarmRestarts:
        return WarmRestarts(options["base_lr"], options["max_lr"], steps, growth=growth)

    if length is not None:
        return Plan(made(run.steps(length)))
    count = cycles_in(run) if cycles is None else _checks.integer("cycles", cycles, at_least=1)
    lengths = _filling(run.total_steps, count, _checks.number("growth", growth, at_least=1))
    plain, last = made(lengths[0]), run.total_steps - 1
    if plain.cycle(last) == len(lengths) - 1 and plain.is_cycle_end(last):
        return Plan(plain)
    alike = [(length, len(list(group))) for length, group in itertools.groupby(lengths)]
    parts = [WarmRestarts(options["base_lr"], options["max_lr"], length) for length, _ in alike]
    return Plan(Sequence(parts, [length * times for length, times in alike]))


def _filling(total: int, count: int, growth: float) -> list[int]:
    """Lengths of cycles that end with the run, within a step of `count` cycles each `growth` times as long as before.

    Cycles of less than a step are left out.
    """
    count = min(count, total)

    def share(cycles: int) -> float:
        """Of the run, what its first cycles take."""
        if growth == 1:
            return cycles / count
        # (growth^cycles − 1) / (growth^count − 1), where the powers would overflow.
        return (growth ** (cycles - count) - growth**-count) / (1 - growth**-count)

    ends = [round(total * share(cycles)) for cycles in range(count + 1)]
    return sorted(end - start for start, end in itertools.pairwise(ends) if end > start)


def _cosine(options: Mapping[str, Any], run: Run) -> Plan:
    return Plan(framework="cosine", lr=_checks.number("lr", options["lr"], above=0))


def _plateau(options: Mapping[str, Any], run: Run) -> Plan:
    factor = _checks.number("factor", options["factor"], above=0, below=1)
    patience = _checks.integer("patience", options["patience"], at_least=0)
    lr = _checks.number("lr", options["lr"], above=0)
    return Plan(framework="plateau", lr=lr, options={"factor": factor, "patience": patience})


def _schedule(options: Mapping[str, Any], run: Run) -> Plan:
    return Plan(Schedule.from_dict(options["schedule"]))


_BOUNDS = ("base_lr", "max_lr")
_RATES = {"base_lr": None, "max_lr": None}
_WAVE = {**_RATES, "cycles": None, "rise": 0.5}

KINDS: dict[str, Kind] = {
    "fixed": Kind("one rate", {"lr": REQUIRED}, (), _fixed),
    "triangular": Kind("bounds that stay", _WAVE, _BOUNDS, _cyclical("triangular", "triangular")),
    "triangular2": Kind(
        "amplitude halved per cycle",
        {**_WAVE, "shape": "triangular"},
        _BOUNDS,
        _cyclical("triangular2", "triangular"),
    ),
    "exp_range": Kind(
        "amplitude shrinks with every step, to a tenth at the end of the run without gamma",
        {**_WAVE, "shape": "triangular", "gamma": None},
        _BOUNDS,
        _cyclical("exp_range", "triangular"),
    ),
    "parabolic": Kind("Welch window", _WAVE, _BOUNDS, _cyclical("triangular", "parabolic")),
    "sinusoidal": Kind("Hann window", _WAVE, _BOUNDS, _cyclical("triangular", "sinusoidal")),
    "one_cycle": Kind("1cycle: up once, down to far below", {**_RATES, "rise": 0.3}, _BOUNDS, _one_cycle),
    "warm_restarts": Kind(
        "SGDR", {**_RATES, "cycles": None, "cycle_length": None, "growth": 1}, _BOUNDS, _warm_restarts
    ),
    # Cycles of 1, 2, 4, … epochs: each ends where a run of 1, 3, 7, … epochs of its own would.
    "multiplicative": Kind(
        "Portes et al. 2022: restarts whose cycles double, so that their ends trace accuracy against training time",
        {**_RATES, "cycle_length": "1 epoch", "growth": 2},
        _BOUNDS,
        _warm_restarts,
    ),
    "cosine": Kind("the framework's own cosine decay to 0", {"lr": None}, ("lr",), _cosine),
    "plateau": Kind(
        "the framework's own ReduceLROnPlateau, on the target metric",
        {"lr": None, "factor": 0.1, "patience": 3},
        ("lr",),
        _plateau,
    ),
    "schedule": Kind("any schedule, from its to_dict()", {"schedule": REQUIRED}, (), _schedule),
}
"""Every kind of policy by its name."""


def parse(text: str) -> list[dict[str, Any]]:
    """The policies that an option of the command line names.

    Args:
        text: `KIND`, `KIND:option=value,…`, `fixed:RATE,RATE,…` or `schedule:FILE.json`; values as in TOML.

    Raises:
        ValueError: text that is none of these.

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
        name, separator, value = part.partition("=")
        if not separator:
            raise ValueError(f"a policy must be KIND:option=value,…; got {text!r}, where {part!r} has no value.")
        table[name.strip()] = _value(value.strip())
    return [table]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
