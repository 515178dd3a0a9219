"""What a comparison is to run: a description that is checked at once, and the trials that it stands for."""

import difflib
import functools
import hashlib
import itertools
import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from cyclr import _checks
from cyclr.errors import CyclrError
from cyclr.experiments.backend import BACKENDS
from cyclr.experiments.data import NAMES
from cyclr.experiments.policies import KINDS, Policy
from cyclr.range_test import RangeTest, repeats
from cyclr.report.direction import Direction, direction_of


@dataclass(frozen=True)
class Trial:
    """One training: everything that its outcome depends on, in plain values.

    Attributes:
        workload: as in `Spec`.
        data: `source`, `validation` and `samples`, as in `Spec`; None if the workload brings its own.
        policy: the policy.
        seed: of weights, of the order of the data and of the range test.
        optimizer: name and arguments, or None for the workload's own.
        epochs, steps: the budget; one of them is None.
        batch_size, metric, direction, range_test, backend: as in `Spec`.
        folder: where relative paths begin; not a part of what the trial is.
        shipped_as: path of the workload's file where it was shipped to another machine; no part of it either.
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

    def definition(self) -> dict[str, Any]:
        """What the outcome depends on, for JSON."""
        return {
            "workload": self.workload,
            "data": self.data,
            "kind": self.policy.kind,
            "options": dict(self.policy.options),
            "seed": self.seed,
            "optimizer": None if self.optimizer is None else dict(self.optimizer),
            "epochs": self.epochs,
            "steps": self.steps,
            "batch_size": self.batch_size,
            "metric": self.metric,
            "range_test": dict(self.range_test) if self.policy.needs_range_test else None,
            "backend": self.backend,
        }

    @property
    def file(self) -> Path | None:
        """The user's file that the workload is in; None for a built-in one."""
        name, separator, _ = self.workload.rpartition(":")
        return Path(self.shipped_as or Path(self.folder, name)).resolve() if separator else None

    @property
    def file_sha256(self) -> str | None:
        """SHA-256 of that file, without what it imports; None where there is none, or none that can be read."""
        try:
            return None if self.file is None else hashlib.sha256(self.file.read_bytes()).hexdigest()
        except OSError:
            return None

    @property
    def id(self) -> str:
        """Name of the policy, seed, and a hash of the definition: it stays as long as they do."""
        digest = hashlib.sha256(json.dumps(self.definition(), sort_keys=True).encode()).hexdigest()[:10]
        words = re.sub(r"[^a-z0-9.]+", "-", f"{self.policy.name} seed {self.seed}".lower()).strip("-")
        return f"{words}-{digest}"

    @property
    def weight(self) -> float:
        """About how long it takes, against the other trials of its comparison."""
        return float(self.epochs or self.steps or 1)

    @property
    def optimizer_name(self) -> str:
        """The optimizer as tables show it; `""` for the workload's own, until it is built."""
        if self.optimizer is None:
            return ""
        arguments = ", ".join(f"{name}={value}" for name, value in self.optimizer.items() if name != "name")
        return f"{self.optimizer['name']}({arguments})" if arguments else str(self.optimizer["name"])


@dataclass(frozen=True)
class Spec:
    """A comparison: policies × optimizers × seeds on one workload.

    Args:
        policies: tables with `kind` (one of `policies.KINDS`) and its options; a list of rates for `lr` in `"fixed"`
            makes a policy of each. A table may also have a `name`, a budget of its own (`epochs` or `steps`), `seeds`,
            and `optimizer`, to be run with that alone. `"schedule"` takes `file` or an inline `schedule`.
        workload: `"cnn"` (the classic small CNN), `"mlp"` (one hidden layer of 64), or `FILE.py:function`, a function
            without arguments that returns `(model, data)`; see `cyclr.experiments.workloads.builder`.
        data: data set of a built-in workload, as for `cyclr.experiments.data.load`; `"digits"` by default.
        validation: where a built-in workload gets its validation data: `"test"`, the part that the data set has for
            it, or a number of samples that are taken off the end of the training part, which leaves the test part
            unseen.
        samples: training samples of a built-in workload that are used; all by default.
        seeds: seeds, each from 0 to 2⁶³ − 1 and once.
        epochs, steps: the budget of a training, one of them, ≥ 1.
        batch_size: samples in an update, ≥ 1.
        optimizer: a name, a table with `name` and arguments, or a list of these; the workload's own by default
            (SGD with momentum 0.9 for the built-in ones and for torch).
        metric: what is compared, a validation metric by its name in the logs.
        direction: `"max"` or `"min"`; by default that of the metric's name (`"min"` for losses and errors, `"max"` for
            accuracies and their like), and to be given where the name does not tell.
        range_test: arguments of the range tests: those of `cyclr.RangeTest`, and `repeats`.
        backend: Keras backend; that of the environment by default.
        folder: where relative paths begin.

    Raises:
        TypeError, ValueError: an argument out of range, no budget or two of them, policies that are equal.

    Example:
        >>> from cyclr.experiments import Spec
        >>> spec = Spec([{"kind": "fixed", "lr": [0.01, 0.1]}, {"kind": "triangular"}], epochs=4, seeds=[0, 1, 2])
        >>> len(spec.trials())
        9
    """

    policies: Iterable[Mapping[str, Any]]
    workload: str = "mlp"
    data: str | None = None
    validation: int | Literal["test"] = "test"
    samples: int | None = None
    seeds: Iterable[int] = (0, 1, 2)
    epochs: int | None = None
    steps: int | None = None
    batch_size: int = 50
    optimizer: Any = None
    metric: str = "val_accuracy"
    direction: Direction | None = None
    range_test: Mapping[str, Any] = field(default_factory=dict)
    backend: str | None = None
    folder: str = field(default=".", compare=False)

    def __post_init__(self) -> None:
        # What is checked is kept as it was checked: records are JSON, which knows no integers of NumPy.
        keep = functools.partial(object.__setattr__, self)
        keep("policies", [_own(table) for table in _listed("policies", self.policies)])
        keep("seeds", _seeds("seeds", self.seeds))
        _text("workload", self.workload)
        if self.data is not None:
            _text("data", self.data)
        keep("batch_size", _checks.integer("batch_size", self.batch_size, at_least=1))
        for name in ("epochs", "steps", "samples"):
            if getattr(self, name) is not None:
                keep(name, _checks.integer(name, getattr(self, name), at_least=1))
        _budget(self.epochs, self.steps, "the comparison")
        if not isinstance(self.metric, str) or not self.metric.startswith("val_"):
            raise ValueError(
                f"metric must be a validation metric, such as 'val_accuracy' or 'val_loss'; got metric={self.metric!r}."
            )
        if self.direction is None:
            keep("direction", direction_of(self.metric))
        _checks.choice("direction", self.direction, ("max", "min"))
        if self.backend is not None:
            _checks.choice("backend", self.backend, BACKENDS)
        if self.validation != "test":
            fix = 'It counts samples; or say "test".'
            keep("validation", _checks.integer("validation", self.validation, at_least=1, fix=fix))
        if not isinstance(self.range_test, Mapping):
            raise TypeError(f"range_test must be a table; got range_test={self.range_test!r}.")
        _plain("range_test", dict(self.range_test))
        try:
            RangeTest(**{name: value for name, value in self.range_test.items() if name != "repeats"})
        except TypeError as error:
            raise ValueError(
                f"range_test must hold arguments of a range test; got {dict(self.range_test)!r}: {error}"
            ) from error
        repeats.check(0, self.range_test.get("repeats"))
        trials = self.trials()
        named: dict[tuple[str, str], dict[str, Any]] = {}
        with_own_optimizer: dict[str, bool] = {}
        known: set[str] = set()
        for trial in trials:
            if trial.id in known:
                raise ValueError(
                    f"every trial must be there once; got {trial.id!r} twice. Is a policy or a seed repeated?"
                )
            known.add(trial.id)
            # Trials of one name are of one policy to whoever reads them, and so may differ in their seeds alone.
            but_seed = {**trial.definition(), "seed": None}
            if named.setdefault((trial.policy.name, trial.optimizer_name), but_seed) != but_seed:
                raise ValueError(f"policies must differ in name; got two called {trial.policy.name!r}. Set name = …")
            own = trial.optimizer is None
            if with_own_optimizer.setdefault(trial.policy.name, own) != own:
                raise ValueError(
                    "policies must differ in name where one trains with the workload's own optimizer, which may be the "
                    f"one that another names; got two called {trial.policy.name!r}. Set name = …"
                )

    @classmethod
    def from_dict(cls, description: Mapping[str, Any], folder: str = ".") -> "Spec":
        """The comparison that a table describes, such as that of a TOML file or of `to_dict`.

        Raises:
            TypeError, ValueError: an unknown key, or what `Spec` rejects.
        """
        description = {"policies" if name == "policy" else name: value for name, value in description.items()}
        known = [f.name for f in fields(cls) if f.name != "folder"]
        for name in description:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                raise ValueError(
                    f"a comparison must be described by {', '.join(known)}; got {name!r}."
                    + (f" Did you mean {close[0]!r}?" if close else "")
                )
        if "policies" not in description:
            raise ValueError(
                f"policies must be given; got none. Add a [[policy]] with kind = one of {', '.join(KINDS)}."
            )
        return cls(**description, folder=folder)

    @classmethod
    def from_toml(cls, path: str | Path) -> "Spec":
        """The comparison in a TOML file; relative paths in it begin at its folder.

        Raises:
            CyclrError: the file cannot be read or is no TOML.
            TypeError, ValueError: what `from_dict` rejects.
        """
        return cls.from_dict(*_toml(path))

    @classmethod
    def from_options(cls, path: str | Path | None, options: Mapping[str, Any]) -> "Spec":
        """The comparison in a TOML file, if there is one, with some arguments set over it; None sets nothing.

        Relative paths in the file begin at its folder, those in the arguments at the current one.

        Raises:
            CyclrError: the file cannot be read or is no TOML.
            TypeError, ValueError: what `from_dict` rejects.
        """
        given = {name: value for name, value in options.items() if value is not None}
        if path is None:
            return cls.from_dict(given)
        description, folder = _toml(path)
        if given.keys() & {"epochs", "steps"}:
            description = {name: value for name, value in description.items() if name not in ("epochs", "steps")}
        if given.get("metric", description.get("metric")) != description.get("metric"):
            description.pop("direction", None)
        if "policies" in given:
            description.pop("policy", None)
        return cls.from_dict({**description, **_seen_from(folder, given)}, folder)

    def to_dict(self) -> dict[str, Any]:
        """The description for JSON; files of schedules are read into it."""
        described = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "folder"}
        described["policies"] = [self._with_schedule(table) for table in self.policies]
        return {name: value for name, value in described.items() if value is not None}

    def replace(self, **changes: Any) -> "Spec":
        """The same comparison with some arguments changed; the direction of a new metric is that of its name."""
        return replace(self, **({"direction": None} if "metric" in changes else {}) | changes)

    def trials(self) -> list[Trial]:
        """Every trial: seed after seed, so that an interrupted comparison has whole seeds."""
        found = []
        for table in self.policies:
            found += list(self._trials_of(self._with_schedule(table)))
        order = {seed: place for place, seed in enumerate(dict.fromkeys(trial.seed for trial in found))}
        return sorted(found, key=lambda trial: order[trial.seed])

    def _with_schedule(self, table: Mapping[str, Any]) -> dict[str, Any]:
        if table.get("kind") != "schedule" or "file" not in table:
            return dict(table)
        path = Path(self.folder, str(table["file"]))
        try:
            schedule = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CyclrError(f"a schedule must be a JSON file; {str(path)!r} cannot be read: {error}.") from error
        rest = {name: value for name, value in table.items() if name != "file"}
        return {"name": path.stem, **rest, "schedule": schedule}

    def _trials_of(self, table: dict[str, Any]) -> Iterable[Trial]:
        kind, name = table.pop("kind", None), _text("the name of a policy", table.pop("name", ""))
        epochs, steps = table.pop("epochs", None), table.pop("steps", None)
        seeds = table.pop("seeds", self.seeds)
        optimizers = table.pop("optimizer", self.optimizer)
        _plain(f"policy {kind!r}", table)
        own_budget = epochs is not None or steps is not None
        if own_budget:
            _budget(epochs, steps, f"policy {kind!r}")
        else:
            epochs, steps = self.epochs, self.steps
        options = [table]
        if kind == "fixed" and isinstance(table.get("lr"), list):
            options = [{**table, "lr": lr} for lr in _listed("lr", table["lr"])]
        for chosen in options:
            policy = Policy(kind, chosen, name if len(options) == 1 else "")
            if own_budget and not name:
                policy = replace(policy, name=f"{policy.name}, {epochs or steps} {'epochs' if epochs else 'steps'}")
            for optimizer, seed in itertools.product(_optimizers(optimizers), seeds):
                yield Trial(
                    self.workload,
                    self._data(),
                    policy,
                    seed,
                    optimizer,
                    epochs,
                    steps,
                    self.batch_size,
                    self.metric,
                    self.direction or "max",
                    self.range_test,
                    self.backend,
                    self.folder,
                )

    def _data(self) -> dict[str, Any] | None:
        """Where the data comes from and what is taken of it; None if the workload brings its own."""
        if ":" in self.workload:
            if self.data is not None or self.samples is not None or self.validation != "test":
                raise ValueError(
                    "data, samples and validation must be left out where a function of a file gives the data; "
                    f"got workload={self.workload!r}. Choose them in the function."
                )
            return None
        return {"source": self.data or "digits", "validation": self.validation, "samples": self.samples}


def _toml(path: str | Path) -> tuple[dict[str, Any], str]:
    """What a TOML file holds, and its folder."""
    try:
        with Path(path).open("rb") as file:
            return tomllib.load(file), str(Path(path).resolve().parent)
    except (OSError, ValueError) as error:
        raise CyclrError(f"the comparison must be a TOML file; {str(path)!r} cannot be read: {error}.") from error


def _seen_from(folder: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments whose relative paths begin at the current folder, with paths that begin at another."""

    def moved(path: Any) -> Any:
        return path if not isinstance(path, str) or Path(path).is_absolute() else os.path.relpath(path, folder)

    seen = dict(given)
    if ":" in str(given.get("workload")):
        name, _, function = str(given["workload"]).rpartition(":")
        seen["workload"] = f"{moved(name)}:{function}"
    if given.get("data", NAMES[0]) not in NAMES:
        seen["data"] = moved(given["data"])
    if "policies" in given:
        tables = _listed("policies", given["policies"])
        seen["policies"] = [
            {**one, "file": moved(one["file"])} if isinstance(one, Mapping) and "file" in one else one for one in tables
        ]
    return seen


def _budget(epochs: Any, steps: Any, of: str) -> None:
    if (epochs is None) == (steps is None):
        raise ValueError(f"{of} must have a budget in epochs or in steps; got epochs={epochs!r}, steps={steps!r}.")


def _own(table: Any) -> dict[str, Any]:
    """The table of a policy, with seeds and budget of its own as plain integers."""
    if not isinstance(table, Mapping):
        raise TypeError(f"a policy must be a table with a kind; got {table!r}.")
    own = dict(table)
    for name in ("epochs", "steps"):
        if own.get(name) is not None:
            own[name] = _checks.integer(name, own[name], at_least=1)
    if "seeds" in own:
        own["seeds"] = _seeds(f"the seeds of policy {own.get('kind')!r}", own["seeds"])
    return own


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be text; got {value!r}.")
    return value


def _listed(name: str, value: Any) -> list[Any]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a list; got {value!r}.")
    listed = list(value)
    if not listed:
        raise ValueError(f"{name} must hold one at least; got none.")
    return listed


def _plain(name: str, value: Any) -> None:
    """Refuse what JSON does not know, and so no record could hold: NaN, dates and other objects."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must hold text, truth values and finite numbers alone; got {value!r} ({error})."
        ) from error


def _seeds(name: str, given: Any) -> list[int]:
    seeds = [_checks.integer("seed", seed, at_least=0) for seed in _listed(name, given)]
    if max(seeds) >= 2**63:
        raise ValueError(f"seed must be an integer below 2**63; got seed={max(seeds)}. Choose a smaller one.")
    return seeds


def _optimizers(given: Any) -> list[dict[str, Any] | None]:
    """None, a name, a table, or a list of these, as a list of tables."""
    if given is None:
        return [None]
    many = _listed("optimizer", given) if isinstance(given, list | tuple) else [given]
    tables = [{"name": one} if isinstance(one, str) else one for one in many]
    for table in tables:
        if not isinstance(table, Mapping) or not isinstance(table.get("name"), str):
            raise ValueError(
                f"optimizer must be a name or a table with a name; got {table!r}. For example: "
                '{ name = "SGD", momentum = 0.9 }'
            )
        _plain("optimizer", dict(table))
    return [dict(table) for table in tables]
