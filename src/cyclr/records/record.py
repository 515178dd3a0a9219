"""The record of one trial, and how it is written to and read from JSON."""

import datetime
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclr import _extras, _plain
from cyclr._redact import redact
from cyclr.auto import AutoEvent
from cyclr.errors import RunFolderError
from cyclr.range_test import RangeTestResult
from cyclr.records.direction import Direction
from cyclr.schedules import Schedule

with _extras.needed("records need", "msgspec", extra="compare"):
    import msgspec

VERSION = 1
"""Version of the files of a run folder."""

if TYPE_CHECKING:
    _Schedule = Schedule | None
    _RangeTest = RangeTestResult | None
else:
    # Read and written by to_dict and from_dict, because msgspec would convert dataclasses field by field.
    _Schedule = _RangeTest = Any
_OBJECTS = (("schedule", Schedule), ("range_test", RangeTestResult))
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Series = dict[str, list[float | None]]


def now() -> str:
    """Return the current time in UTC, in ISO 8601 with seconds."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One finished trial: a policy trained from one seed. The defaults describe a trial that has not started.

    Credentials, hosts, users and home folders are removed from `workload`, `error` and `traceback`, and credentials are
    removed from `policy`; see `cyclr._redact`.

    Attributes:
        version: version of the format, 1.
        trial: id of the trial; see `cyclr.experiments.Spec`.
        workload: name of the trained model and data.
        workload_sha256: SHA-256 of the user's file, or None.
        policy, seed, optimizer: names of policy and optimizer, and the seed; optimizer `""` if it was never created.
        optimizer_call: the optimizer as a call with its settings, such as `"torch.optim.SGD(momentum=0.9)"`; or `""`.
        moved_by: what set the learning rate instead of a schedule: `"cosine"` or `"plateau"` for the framework's
            scheduler, `"auto"` for AutoCycle, which may start from `schedule`; or `""`.
        status: `"ok"`, `"diverged"` or `"failed"`.
        error, traceback: why the trial diverged or failed, or None.
        metric, direction: the compared metric, and `"max"` if larger values are better, `"min"` if smaller ones are.
        steps_per_epoch, total_steps: lengths in steps (optimizer updates).
        range_test_steps: updates of the range test before the training, including its repeats; 0 if AutoCycle made the
            range test, because its updates are part of the training.
        schedule, range_test, lr: the schedule, the range test with its bounds, the fixed learning rate; or None.
        epochs: series by name, with one value per epoch and of equal length: `"step"`, `"seconds"`, `"loss"` and
            metrics; None for a value that was not finite.
        steps: the series `"learning_rate"` and `"loss"`, with one value per step.
        events: the events of AutoCycle during the training.
        ending: the validation metrics of the ensemble or average of members at the end of the training; empty without
            an ending, None for a metric that was not finite.
        predictions: number of models that one prediction of the ending evaluates: the members of an ensemble, 1 for an
            average; 0 without an ending.
        seconds: wall time of range test, training and ending.
        started: when the trial started, ISO 8601.

    Raises:
        ValueError: the series of `epochs` or of `steps` differ in length.
    """

    version: Literal[1] = VERSION  # type: ignore[assignment]
    trial: str
    workload: str
    workload_sha256: str | None = None
    policy: str
    seed: _Count
    optimizer: str
    optimizer_call: str = ""
    moved_by: Literal["", "cosine", "plateau", "auto"] = ""
    status: Literal["ok", "diverged", "failed"] = "ok"
    error: str | None = None
    traceback: str | None = None
    metric: str
    direction: Direction
    steps_per_epoch: _Count = 0
    total_steps: _Count = 0
    range_test_steps: _Count = 0
    schedule: _Schedule = None
    range_test: _RangeTest = None
    lr: float | None = None
    epochs: _Series = {}
    steps: _Series = msgspec.field(default_factory=lambda: {"learning_rate": [], "loss": []})
    events: tuple[AutoEvent, ...] = ()
    ending: dict[str, float | None] = {}
    predictions: _Count = 0
    seconds: float = 0.0
    started: str = msgspec.field(default_factory=now)

    def __repr__(self) -> str:
        return f"<Record: {self.policy}, seed {self.seed}, on {self.workload}: {self.status}>"

    def __post_init__(self) -> None:
        texts = {name: getattr(self, name) for name in ("workload", "error", "traceback")}
        redacted = redact({**texts, "name": self.policy})
        for name, text in {"policy": redacted.pop("name"), **redacted}.items():
            msgspec.structs.force_setattr(self, name, text)
        for name in ("epochs", "steps"):
            lengths = sorted({len(values) for values in getattr(self, name).values()})
            if len(lengths) > 1:
                raise ValueError(f"{name} must hold lists of one length; got lengths {lengths}.")


_OPTIONAL = {
    *("workload_sha256", "error", "traceback", "schedule", "range_test", "lr", "epochs", "steps", "events", "ending"),
    *("predictions", "started", "optimizer_call", "moved_by"),
}
"""Fields that a line may lack: older records have no `workload_sha256`, `events` and the fields listed after it."""
_REQUIRED = [name for name in Record.__struct_fields__ if name not in _OPTIONAL]


def encode(record: Record) -> bytes:
    """Return a record as one line of JSON, with its line feed.

    Raises:
        ValueError: a number is not finite.
        ScheduleError: the schedule holds a Python function, which JSON cannot hold.
    """
    content = msgspec.structs.asdict(record)
    content |= {name: content[name].to_dict() for name, _ in _OBJECTS if content[name] is not None}
    content["events"] = [asdict(event) for event in record.events]
    return (json.dumps(content, allow_nan=False, separators=(",", ":")) + "\n").encode()


def decode(line: bytes, where: str) -> Record:
    """Return the record in a line of JSON.

    Args:
        line: the line, with or without its line feed.
        where: the file and the number of the line, for error messages.

    Raises:
        RunFolderError: the line is not the record of a trial.
    """
    content = decode_json(line, where)
    missing = [name for name in _REQUIRED if name not in content]
    try:
        if missing:
            raise ValueError(f"{missing[0]} is missing")
        for name, kind in _OBJECTS:
            if content.get(name) is not None:
                content[name] = kind.from_dict(content[name])
        return msgspec.convert(content, Record)
    except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise RunFolderError(
            f"{where} is not the record of a trial: {_shortened(error)}. The line was changed or damaged. Remove it, "
            "and its trial runs again."
        ) from error


def decode_json(text: bytes, where: str) -> dict[str, Any]:
    """Return the object in a JSON text of this version. All numbers must be finite.

    Raises:
        RunFolderError: the text is not a JSON object, or has another version.
    """
    try:
        content = _plain.parse(text)
        if not isinstance(content, dict):
            raise TypeError(f"expected an object, got {type(content).__name__}")
    except (ValueError, TypeError) as error:
        raise RunFolderError(f"{where} is not a JSON object: {_shortened(error)}; got {text[:40]!r}.") from error
    version = content.get("version")
    if type(version) is not int or version != VERSION:
        raise RunFolderError(
            f"{where} must have version {VERSION}; got version={str(version)[:40]}. "
            "Was it written by another version of cyclr?"
        )
    return content


def _shortened(error: BaseException) -> str:
    """Return the first 200 characters of a message, because the message may quote a long value."""
    text = str(error).rstrip(".")
    return text if len(text) <= 200 else f"{text[:200]} …"
