"""Reads the folder that a comparison leaves: `run.json`, and one line of `records.jsonl` for every finished trial.

The folder is data of somebody else's making: everything is checked on the way in, and nothing in it is run.
"""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cyclr.errors import CyclrError
from cyclr.range_test import RangeTestResult
from cyclr.schedules import Schedule

FORMAT_VERSION = 1

_HUGE = 2**63

Series = dict[str, list[float]]


@dataclass(frozen=True)
class Trial:
    """One finished trial: a policy trained from one seed.

    Attributes:
        trial: stable name of the trial.
        workload, policy, optimizer, seed: what was trained, how, and from which seed.
        status: `"ok"`, `"diverged"` or `"failed"`; `error` says why.
        metric, direction: what is compared, and whether more (`"max"`) or less (`"min"`) of it is better.
        steps_per_epoch, total_steps, range_test_steps: lengths in steps (optimizer updates).
        schedule, range_test, lr: the schedule, the range test that its bounds come from, the fixed rate; or None.
        epochs: series by name, one value an epoch, with `"step"` their steps; NaN where none was recorded.
        steps: series by name, one value a step.
        seconds: wall time of the trial.
    """

    trial: str
    workload: str
    policy: str
    seed: int
    optimizer: str
    status: Literal["ok", "diverged", "failed"]
    error: str | None
    metric: str
    direction: Literal["max", "min"]
    steps_per_epoch: int
    total_steps: int
    range_test_steps: int
    schedule: Schedule | None
    range_test: RangeTestResult | None
    lr: float | None
    epochs: Series
    steps: Series
    seconds: float

    @property
    def record(self) -> dict[str, Any]:
        """The trial as `statistics` takes it: what is no finite number is None, as in the file."""
        epochs = {
            name: [value if math.isfinite(value) else None for value in values] for name, values in self.epochs.items()
        }
        schedule = None if self.schedule is None else self.schedule.to_dict()
        return {**vars(self), "epochs": epochs, "schedule": schedule}


@dataclass(frozen=True)
class RunFolder:
    """A run folder as read.

    Attributes:
        name: name of the folder.
        about: `run.json`: spec, command, versions, hardware, created.
        trials: the finished trials, in the order in which they finished.
        torn: whether the last line was cut off in mid-writing, and left out.
    """

    name: str
    about: dict[str, Any]
    trials: tuple[Trial, ...]
    torn: bool


def read(folder: str | os.PathLike[str]) -> RunFolder:
    """Read a run folder.

    A last line without its end is what a killed process leaves; it is left out. Of two records of one trial the later
    one counts.

    Raises:
        CyclrError: there is no run in the folder, or a file in it is none of a run's; the message names file and line.
        OSError: a file cannot be read.
    """
    path = Path(folder)
    about_file, records_file = path / "run.json", path / "records.jsonl"
    if not about_file.is_file():
        raise CyclrError(
            f"RUN must be a folder with a run.json, as cyclr compare writes it; got {str(path)!r}, which has none."
        )
    about = _json(about_file.read_bytes(), str(about_file))
    _version(about, str(about_file))
    content = records_file.read_bytes() if records_file.is_file() else b""
    *lines, rest = content.split(b"\n")
    trials: dict[str, Trial] = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            trial = _trial(line, f"{records_file}, line {number}")
            trials.pop(trial.trial, None)
            trials[trial.trial] = trial
    return RunFolder(path.resolve().name, about, tuple(trials.values()), torn=bool(rest.strip()))


def _json(text: bytes, where: str) -> dict[str, Any]:
    try:
        content = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CyclrError(f"{where} must be JSON; got {text[:60]!r} ({error}).") from error
    if not isinstance(content, dict):
        raise CyclrError(f"{where} must be a JSON object; got {text[:60]!r}.")
    return content


def _version(content: dict[str, Any], where: str) -> None:
    if content.get("version") != FORMAT_VERSION:
        raise CyclrError(
            f"{where} must have version {FORMAT_VERSION}; got version={content.get('version')!r}. "
            "Was it written by another version of cyclr?"
        )


def _trial(line: bytes, where: str) -> Trial:
    record = _json(line, where)
    _version(record, where)
    try:
        return Trial(
            trial=_text(record, "trial"),
            workload=_text(record, "workload"),
            policy=_text(record, "policy"),
            seed=_whole(record, "seed"),
            optimizer=_text(record, "optimizer"),
            status=_one_of(record, "status", "ok", "diverged", "failed"),
            error=None if record.get("error") is None else _text(record, "error"),
            metric=_text(record, "metric"),
            direction=_one_of(record, "direction", "max", "min"),
            steps_per_epoch=_whole(record, "steps_per_epoch"),
            total_steps=_whole(record, "total_steps"),
            range_test_steps=_whole(record, "range_test_steps"),
            schedule=None if record.get("schedule") is None else Schedule.from_dict(record["schedule"]),
            range_test=None if record.get("range_test") is None else RangeTestResult.from_dict(record["range_test"]),
            lr=None if record.get("lr") is None else _number("lr", record["lr"]),
            epochs=_series(record, "epochs"),
            steps=_series(record, "steps"),
            seconds=_number("seconds", record.get("seconds")),
        )
    except (ValueError, TypeError, OverflowError) as error:
        raise CyclrError(f"{where} must be the record of a trial; got one where {error}") from error


def _text(record: dict[str, Any], name: str) -> str:
    if not isinstance(value := record.get(name), str):
        raise ValueError(f"{name} must be a text; got {name}={value!r}.")
    return value


def _one_of(record: dict[str, Any], name: str, *legal: str) -> Any:
    if (value := record.get(name)) not in legal:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, legal))}; got {name}={value!r}.")
    return value


def _whole(record: dict[str, Any], name: str) -> int:
    value = record.get(name)
    if type(value) is not int or not 0 <= value < _HUGE:
        raise ValueError(f"{name} must be an integer of at least 0 and below 2**63; got {name}={value!r}.")
    return value


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} must be a number; got {name}={value!r}.")
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(
            f"{name} must be a number of double precision; got one of {len(str(value))} digits."
        ) from error


def _series(record: dict[str, Any], name: str) -> Series:
    content = record.get(name)
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(values, list) for values in content.values()):
        raise ValueError(f"{name} must hold lists by name; got {name}={str(content)[:60]}.")
    series = {
        key: [math.nan if value is None else _number(f"{name}.{key}", value) for value in values]
        for key, values in content.items()
    }
    lengths = {len(values) for values in series.values()}
    if len(lengths) > 1:
        raise ValueError(f"{name} must hold lists of one length; got lengths {sorted(lengths)}.")
    return series
