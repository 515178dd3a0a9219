"""The description of a comparison, which is checked at construction, and its trials."""

import functools
import hashlib
import itertools
import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

from msgspec import UNSET, Meta, Struct

from cyclr import _checks, _files, _plain
from cyclr._checks import did_you_mean, quoted
from cyclr._redact import credentials, redact, restore
from cyclr.errors import CyclrError
from cyclr.experiments._typed import Count, Seeds, Table, checked, frozen, plain, unknown
from cyclr.experiments.data import NAMES
from cyclr.experiments.environment import BACKENDS
from cyclr.experiments.policies import KINDS, Policy
from cyclr.range_test import RangeTestResult
from cyclr.range_test.repeats import Sweep
from cyclr.records import RunFolder
from cyclr.records.direction import Direction, direction_of
from cyclr.records.reading import read, unfit
from cyclr.schedules import Schedule


@dataclass(frozen=True)
class Trial:
    """One training: all settings that determine its outcome, as plain values.

    Attributes:
        data: `source`, `validation` and `samples`, as in `Spec`; None if the workload returns its own data.
        policy: the policy.
        seed: seed of the initial weights, of the order of the data and of the range test.
        optimizer: name and arguments, or None for the workload's own optimizer.
        epochs, steps: length of the training; one of the two is None.
        workload, batch_size, metric, direction, range_test, backend: as in `Spec`.
        folder: the folder that relative paths start from; not part of the definition.
        shipped_as: path of the workload's file on the machine that runs the trial, if the file was sent there; not part
            of the definition.
    """

    workload: str
    data: Mapping[str, Any] | None
    policy: Policy
    seed: int
    optimizer: Mapping[str, Any] | None
    epochs: int | None
    steps: int | None
    batch_size: int
    metric: str
    direction: Direction
    range_test: Mapping[str, Any]
    backend: str | None
    folder: str = field(default=".", compare=False)
    shipped_as: str | None = field(default=None, compare=False)

    def total_steps(self, steps_per_epoch: int) -> int:
        """Return the length of the training in optimizer updates."""
        # Either steps or epochs is None.
        return (self.steps or 0) + (self.epochs or 0) * steps_per_epoch

    def range_test_arguments(self, steps_per_epoch: int) -> dict[str, Any]:
        """Return the arguments of the range test. With `refine` they include the length of the training."""
        length = {"total_steps": self.total_steps(steps_per_epoch)} if "refine" in self.range_test else {}
        return {**self.range_test, **length, "seed": self.seed}

    def definition(self) -> dict[str, Any]:
        """Return all settings that determine the outcome, for JSON. Options are as given, without defaults."""
        names = ("workload", "data", "seed", "optimizer", "epochs", "steps", "batch_size", "metric", "backend")
        return {
            **{name: getattr(self, name) for name in names},
            "kind": self.policy.kind,
            "options": self.policy.options,
            "range_test": self.range_test if self.policy.needs_range_test else None,
        }

    @property
    def file(self) -> Path | None:
        """The user's file that defines the workload; None for a built-in workload."""
        name, separator, _ = self.workload.rpartition(":")
        return Path(self.shipped_as or Path(self.folder, name)).resolve() if separator else None

    @property
    def file_sha256(self) -> str | None:
        """SHA-256 of the user's file, without the files that it imports; None if it does not exist or is unreadable."""
        try:
            return None if self.file is None else hashlib.sha256(_files.read_regular(self.file)).hexdigest()
        except OSError:
            return None

    @functools.cached_property
    def id(self) -> str:
        """Name of the policy, seed, and a hash of the definition. Equal trials always have the same id."""
        digest = hashlib.sha256(json.dumps(self.definition(), sort_keys=True).encode()).hexdigest()[:10]
        words = re.sub(r"[^a-z0-9.]+", "-", f"{self.policy.name} seed {self.seed}".lower()).strip("-")
        return f"{words}-{digest}"

    @property
    def weight(self) -> float:
        """Approximate duration, relative to the other trials of the comparison."""
        return float(self.epochs or self.steps or 1)

    @property
    def optimizer_name(self) -> str:
        """The optimizer as shown in tables; `""` for the workload's own optimizer, which is not built yet."""
        if self.optimizer is None:
            return ""
        table = plain("optimizer", self.optimizer)
        arguments = ", ".join(f"{name}={value}" for name, value in table.items() if name != "name")
        return f"{self.optimizer['name']}({arguments})" if arguments else str(self.optimizer["name"])


class _Own(Struct):
    """Settings in the table of a policy that apply only to the trials of that policy."""

    name: str = ""
    epochs: Count | None = None
    steps: Count | None = None
    seeds: Seeds | None = None
    optimizer: Any = UNSET
    refine: int | None = None


@dataclass(frozen=True)
class Spec:
    """A comparison: policies × optimizers × seeds on one workload.

    Args:
        policies: tables with `kind` (one of `policies.KINDS`) and the options of this kind. If `lr` of `"fixed"` is a
            list, each learning rate in the list becomes a policy. A table may also have a `name`, its own length
            (`epochs` or `steps`), `seeds`, `refine` (as in `range_test`), and an `optimizer`, which replaces the
            optimizers of the comparison. `"schedule"` takes an inline `schedule`, or a `file` with a schedule, `Bounds`
            or a `RangeTestResult`; for the last two, `bounds.schedule` with the length of the run is used. With
            `ending` (`"ensemble"` or `"average"`) the training ends with an ensemble or average of members. Members are
            the weights at the ends of cycles or, with `every`, after each such number of steps. With `keep`, only the
            last members are used.
        workload: `"cnn"` (the classic small CNN), `"mlp"` (one hidden layer of 64), or `FILE.py:function`, a function
            without arguments that returns a model, with or without its data, optimizer and loss; see
            `cyclr.experiments.workloads.builder`.
        data: data set, as for `cyclr.experiments.data.load`, for a built-in workload (`"digits"` by default) or for a
            function that returns no data.
        validation: validation data: `"test"` for the test part of the data set, or a number of samples from the end of
            the training part; the test part is then not used.
        samples: number of training samples to use; all by default.
        seeds: different integers from 0 to 2⁶³ − 1.
        epochs, steps: length of every training, ≥ 1; give one of the two.
        batch_size: samples per update, ≥ 1.
        optimizer: a name, a table with `name` and arguments, or a list of these; by default the workload's own
            optimizer (SGD with momentum 0.9 for built-in workloads and for torch).
        metric: name of the validation metric to compare, as in the logs.
        direction: `"max"` or `"min"`; by default from the metric's name (`"min"` for losses and errors, `"max"` for
            accuracies and others). It is required if the direction does not follow from the name.
        range_test: arguments of the range tests: the arguments of `cyclr.RangeTest`, `repeats`, and `refine`, the
            updates to spend on finding bounds for the length of the training. All updates of a range test count as
            steps of its training.
        backend: Keras backend; by default from the environment.
        folder: the folder that relative paths start from.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range, not exactly one of `epochs` and
            `steps` is given, or two policies are equal.

    Example:
        >>> from cyclr.experiments import Spec
        >>> spec = Spec([{"kind": "fixed", "lr": [0.01, 0.1]}, {"kind": "triangular"}], epochs=4, seeds=[0, 1, 2])
        >>> len(spec.trials())
        9
    """

    policies: Iterable[Mapping[str, Any]]
    workload: str = "mlp"
    data: str | None = None
    validation: Annotated[int, Meta(ge=1)] | Literal["test"] = "test"
    samples: Count | None = None
    seeds: Iterable[int] = (0, 1, 2)
    epochs: Count | None = None
    steps: Count | None = None
    batch_size: Count = 50
    optimizer: Any = None
    metric: str = "val_accuracy"
    direction: Direction | None = None
    range_test: Mapping[str, Any] = field(default_factory=dict)
    backend: str | None = None
    folder: str = field(default=".", compare=False)

    def __post_init__(self) -> None:
        for name, kind in _field_types().items():
            value = checked(name, plain(name, getattr(self, name)), kind)
            if name in ("workload", "data") and value is not None:
                value = restore(value)
            object.__setattr__(self, name, frozen(value))
        object.__setattr__(self, "policies", tuple(self._with_schedule(table) for table in self.policies))
        _check_budget(self, "the comparison")
        if not self.metric.startswith("val_"):
            raise ValueError(
                "metric must be a validation metric, such as 'val_accuracy' or 'val_loss'; got "
                f"metric={quoted(self.metric)}. {did_you_mean(self.metric, ('val_accuracy', 'val_loss'))}".rstrip()
            )
        if self.direction is None:
            object.__setattr__(self, "direction", direction_of(self.metric))
        for name, legal in (("validation", ("test",)), ("direction", get_args(Direction)), ("backend", BACKENDS)):
            if isinstance(getattr(self, name), str):
                _checks.choice(name, getattr(self, name), legal)
        known = [argument.name for argument in fields(Sweep) if argument.name not in ("seed", "total_steps", "verbose")]
        for name in self.range_test.keys() - known:
            raise ValueError(unknown("range_test", name, known))
        Sweep(**self.range_test, total_steps=1 if "refine" in self.range_test else None)
        self._check_names()

    def _check_names(self) -> None:
        """Raise if two policies have the same name: trials of one name must differ only in their seeds."""
        ids: set[str] = set()
        named: dict[str, Trial] = {}
        with_optimizer: dict[tuple[str, str], Trial] = {}
        for trial in self._trials:
            if trial.id in ids:
                raise ValueError(
                    f"policy {trial.policy.name!r} is given twice with seed {trial.seed}. Leave one of them out."
                )
            ids.add(trial.id)
            name = trial.policy.name
            if (shown := credentials(name)) != name:
                raise ValueError(
                    f"the name of a policy must not contain a password or token, because names are recorded; got "
                    f"{shown!r}. Give the policy another name (name = …)."
                )
            first = with_optimizer.setdefault((name, trial.optimizer_name), trial)
            if replace(trial, seed=first.seed) != first:
                raise ValueError(f"two different policies are named {name!r}. Give them different names (name = …).")
            if (named.setdefault(name, trial).optimizer is None) != (trial.optimizer is None):
                raise ValueError(
                    f"two policies are named {name!r}: one uses the workload's own optimizer, the other "
                    "sets one, so their results would be mixed up. Give them different names (name = …)."
                )

    @classmethod
    def from_dict(cls, description: Mapping[str, Any], folder: str = ".") -> "Spec":
        """Return the comparison that a table describes, from a TOML file or `to_dict`.

        Raises:
            TypeError, ValueError: a key is unknown, or `Spec` raises.
        """
        if not isinstance(description, Mapping):
            raise TypeError(f"a comparison must be a table; got {quoted(description)}.")
        description = {"policies" if name == "policy" else name: value for name, value in description.items()}
        for name in description.keys() - _field_types():
            raise ValueError(unknown("a comparison", name, _field_types()))
        if "policies" not in description:
            raise ValueError(
                "a comparison needs policies; got none. Add a [[policy]] with a kind, or --policy KIND: "
                f"{', '.join(KINDS)}."
            )
        return cls(**description, folder=folder)

    @classmethod
    def from_toml(cls, path: str | Path) -> "Spec":
        """Return the comparison in a TOML file. Relative paths in the file start from the folder of the file.

        Raises:
            CyclrError: the file cannot be read or is not TOML.
            TypeError, ValueError: `from_dict` raises.
        """
        return cls.from_options(path, {})

    @classmethod
    def from_options(cls, path: str | Path | None, options: Mapping[str, Any]) -> "Spec":
        """Return the comparison in a TOML file, with the options that are not None in place of its settings.

        If `path` is None, the options are the whole comparison. Relative paths in the file start from the folder of the
        file, and relative paths in the options from the current folder.

        Raises:
            CyclrError, TypeError, ValueError: as for `from_toml`.
        """
        if path is None:
            return cls.from_dict({name: value for name, value in options.items() if value is not None})
        what = f"{str(path)!r} must be the TOML file of a comparison"
        if Path(path).is_dir():
            is_run = Path(path, "run.json").is_file()
            fix = f"To finish the comparison in it: cyclr compare --output {path}" if is_run else "Name a file."
            raise CyclrError(f"{what}; it is a folder. {fix}")
        try:
            description = tomllib.loads(_files.read_regular(path).decode())
        except OSError as error:
            fix = f"To name a model, write --workload {path}" if ".py" in str(path) else "Check the path"
            raise CyclrError(f"{what}; it cannot be read: {error.strerror or error}. {fix}.") from error
        except (ValueError, RecursionError) as error:
            raise CyclrError(f"{what}; it is not TOML: {_plain.why(error)}.") from error
        return cls._changed(description, str(Path(path).resolve().parent), options)

    @classmethod
    def from_run(cls, about: Mapping[str, Any], options: Mapping[str, Any]) -> "Spec":
        """Return the comparison of a run folder, with the options that are not None in place of its settings.

        Args:
            about: the contents of `run.json`, as in `RunFolder.about`.
            options: as for `from_options`.

        Raises:
            CyclrError, TypeError, ValueError: as for `from_toml`.
        """
        spec, folder = about.get("spec"), about.get("folder", ".")
        if not isinstance(spec, Mapping) or not isinstance(folder, str):
            raise CyclrError(
                f"run.json must hold spec, a table, and folder, a path; got spec={quoted(spec)}, "
                f"folder={quoted(folder)}. Was it edited?"
            )
        return cls._changed(spec, restore(folder), options)

    @classmethod
    def _changed(cls, description: Mapping[str, Any], folder: str, options: Mapping[str, Any]) -> "Spec":
        given = {name: value for name, value in options.items() if value is not None}
        described = dict(description)
        if given.keys() & {"epochs", "steps"}:
            described |= {"epochs": None, "steps": None}
        if given.get("metric", described.get("metric")) != described.get("metric"):
            described["direction"] = None
        if "policies" in given:
            described.pop("policy", None)
        if "range_test" in given:
            given["range_test"] = {**described.get("range_test", {}), **given["range_test"]}
        return cls.from_dict({**described, **_relative_to(str(Path(folder).resolve()), given)}, folder)

    def to_dict(self) -> dict[str, Any]:
        """Return the description for JSON; it includes the contents of schedule files."""
        described = {name: getattr(self, name) for name in _field_types()}
        return {name: plain(name, value) for name, value in described.items() if value is not None}

    def replace(self, **changes: Any) -> "Spec":
        """Return the comparison with some arguments changed. With a new metric, the direction follows from its name."""
        return replace(self, **({"direction": None} if "metric" in changes else {}) | changes)

    def trials(self) -> list[Trial]:
        """Return all trials, ordered by seed, so that an interrupted comparison contains complete seeds."""
        return list(self._trials)

    @functools.cached_property
    def _trials(self) -> tuple[Trial, ...]:
        found = [trial for table in self.policies for trial in self._trials_of(table)]
        order = {seed: place for place, seed in enumerate(dict.fromkeys(trial.seed for trial in found))}
        return tuple(sorted(found, key=lambda trial: order[trial.seed]))

    def _with_schedule(self, table: Mapping[str, Any]) -> Mapping[str, Any]:
        """Replace the path of a schedule by the contents of the file, and the result of a range test by its bounds."""
        if table.get("kind") != "schedule":
            return table
        table = self._with_file(table) if "file" in table else table
        schedule = table.get("schedule")
        if isinstance(schedule, Mapping) and "bounds" in schedule:
            return Table({**table, "schedule": schedule["bounds"]})
        return table

    def _with_file(self, table: Mapping[str, Any]) -> Mapping[str, Any]:
        path = Path(self.folder, restore(str(table["file"])))
        rest = {name: value for name, value in table.items() if name != "file"}
        try:
            found = read(path)
        except OSError as error:
            raise CyclrError(f"{str(path)!r} cannot be read: {error.strerror or error}.") from error
        if isinstance(found, RunFolder):
            raise unfit(path, found)
        if isinstance(found, Schedule):
            # Use the file's own table: older files lack newer arguments, which would change the ids of trials.
            description = _plain.read_json(path)
        else:
            description = (found.bounds if isinstance(found, RangeTestResult) else found).to_dict()
        return Table({"name": path.stem, **rest, "schedule": frozen(plain("a schedule", description))})

    def _trials_of(self, given: Mapping[str, Any]) -> Iterator[Trial]:
        table = plain("policies", given)
        kind = table.pop("kind", None)
        what = f"policy {kind!r}"
        own = checked(what, {name: table.pop(name) for name in _Own.__struct_fields__ if name in table}, _Own)
        budget = self if own.epochs is own.steps is None else own
        _check_budget(budget, what)
        many = [table]
        if kind == "fixed" and isinstance(table.get("lr"), list):
            many = [{**table, "lr": lr} for lr in table["lr"]]
            if not many:
                raise ValueError("lr of policy 'fixed' must be a number or a list of length >= 1; got [].")
        names = ("workload", "batch_size", "metric", "direction", "range_test", "backend", "folder")
        shared = {name: getattr(self, name) for name in names}
        shared |= {"data": self._data(), "epochs": budget.epochs, "steps": budget.steps}
        if own.refine is not None:
            shared["range_test"] = {**self.range_test, "refine": own.refine}
            Sweep(**shared["range_test"], total_steps=1)
        optimizers = _optimizers(self.optimizer if own.optimizer is UNSET else own.optimizer)
        for options in many:
            policy = Policy(kind, options, own.name if len(many) == 1 else "")
            for name in ("epochs", "steps", "refine") if not own.name else ():
                if (value := getattr(own, name)) is not None:
                    said = f"refine {value}" if name == "refine" else f"{value} {name}"
                    policy = replace(policy, name=f"{policy.name}, {said}")
            for optimizer, seed in itertools.product(optimizers, own.seeds or self.seeds):
                yield Trial(policy=policy, seed=seed, optimizer=optimizer, **shared)

    def _data(self) -> Table | None:
        """Return the source of the data and the parts to use; None if the workload returns its own data."""
        if ":" not in self.workload or self.data is not None:
            return Table(source=self.data or "digits", validation=self.validation, samples=self.samples)
        if (self.samples, self.validation) != (None, "test"):
            raise ValueError(
                "samples and validation must be left out if the data comes from a function of a file; "
                f"got workload={self.workload!r}. Choose them in the function, or set data."
            )
        return None


@functools.cache
def _field_types() -> dict[str, Any]:
    types = get_type_hints(Spec, include_extras=True)
    del types["folder"]
    lists = {"policies": Annotated[list[dict[str, Any]], Meta(min_length=1)], "seeds": Seeds}
    return {**types, **lists, "range_test": dict[str, Any], "direction": str | None, "validation": Count | str}


def _relative_to(folder: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with relative paths changed to start from `folder` instead of the current folder."""

    def moved(path: Any) -> Any:
        if not isinstance(path, str) or Path(path := restore(path)).is_absolute():
            return path
        absolute = str(Path(path).resolve())
        shared = os.path.commonpath([absolute, folder])
        # A relative path into a home folder would contain the name of the home folder.
        return absolute if redact(shared) == shared and redact(absolute) != absolute else os.path.relpath(path, folder)

    seen = dict(given)
    name, separator, function = str(given.get("workload")).rpartition(":")
    if separator:
        seen["workload"] = f"{moved(name)}:{function}"
    if given.get("data", NAMES[0]) not in NAMES:
        seen["data"] = moved(given["data"])
    if isinstance(tables := plain("policies", given.get("policies")), list):
        seen["policies"] = [
            {**one, "file": moved(one["file"])} if isinstance(one, dict) and "file" in one else one for one in tables
        ]
    return seen


def _check_budget(of: "Spec | _Own", what: str) -> None:
    if (of.epochs is None) == (of.steps is None):
        fix = "Add epochs, or steps (optimizer updates)." if of.epochs is None else "Leave one of them out."
        raise ValueError(
            f"{what} must have a budget in epochs or in steps; got epochs={of.epochs}, steps={of.steps}. {fix}"
        )


def _optimizers(given: Any) -> list[Table | None]:
    """Return the optimizers as a list of tables, from None, a name, a table, or a list of names and tables."""
    if given is None:
        return [None]
    many = given if isinstance(given, list | tuple) else [given]
    tables = [{"name": one} if isinstance(one, str) else one for one in many]
    if not tables or not all(isinstance(table, Mapping) and isinstance(table.get("name"), str) for table in tables):
        raise ValueError(
            "optimizer must be a name, a table with a name, or a list of length >= 1; got "
            f'{quoted(plain("optimizer", given))}. For example: {{ name = "SGD", momentum = 0.9 }}'
        )
    return [Table(table) for table in tables]
