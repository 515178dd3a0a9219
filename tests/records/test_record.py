"""The JSON of one record: a written record is read back, and a line that is not a record is one clear error."""

import json
import math
from typing import Any

import numpy as np
import pytest

import cyclr
from cyclr.auto import AutoEvent
from cyclr.errors import RunFolderError
from cyclr.records.record import Record, decode, encode

from .conftest import make

LR = np.geomspace(1e-6, 10, 150)
RESULT = cyclr.RangeTestResult(LR, 1 / (1 + LR), "completed", 1e-6, 10.0, 150, "exponential")
EVENTS = (AutoEvent(-1, "left_out", "The loss was nan.", 0.1), AutoEvent(12, "lowered", "The mean loss rose.", 0.3))
FULL = make(
    "up",
    2**63 - 1,
    [0.5, None],
    range_test=RESULT,
    lr=0.1,
    error="x",
    steps={"loss": [1.0, None, 0.5]},
    events=EVENTS,
    ending={"val_accuracy": 0.75, "val_loss": None},
    predictions=5,
)


def changed(**changes: Any) -> bytes:
    return json.dumps({**json.loads(encode(FULL)), **changes}).encode()


def nested(depth: int) -> dict[str, Any]:
    schedule: dict[str, Any] = {"schedule": "Constant", "version": 1, "value": 0.1}
    for _ in range(depth):
        schedule = {"schedule": "Warmup", "version": 1, "of": schedule, "steps": 1}
    return schedule


def test_a_record_survives_encoding_and_decoding() -> None:
    line = encode(FULL)
    assert line.count(b"\n") == 1
    assert decode(line, "here") == FULL
    assert isinstance(decode(line, "here").schedule, cyclr.OneCycle)


def test_texts_of_a_record_hold_no_credentials() -> None:
    private = "token=hunter2 in /home/alice"
    texts = dict.fromkeys(("workload", "policy", "error", "traceback"), private)
    record = Record(**texts, trial="a", seed=0, optimizer="SGD", metric="loss", direction="min", status="failed")
    for again in (record, decode(encode(record), "x")):
        assert (again.workload, again.error, again.traceback) == ("token=*** in ~",) * 3
        # A name is compared with others, and so loses only credentials.
        assert again.policy == "token=*** in /home/alice"


def test_the_fields_are_those_of_version_1_in_their_order() -> None:
    assert list(json.loads(encode(FULL))) == [
        *("version", "trial", "workload", "workload_sha256", "policy", "seed", "optimizer"),
        *("optimizer_call", "moved_by", "status", "error"),
        *("traceback", "metric", "direction", "steps_per_epoch", "total_steps", "range_test_steps", "schedule"),
        *("range_test", "lr", "epochs", "steps", "events", "ending", "predictions", "seconds", "started"),
    ]


def test_a_record_that_is_not_started_has_no_results() -> None:
    named = {"trial": "a", "workload": "mlp", "policy": "p", "seed": 0, "optimizer": ""}
    record = Record(**named, metric="val_loss", direction="min")
    assert (record.status, record.error, record.epochs) == ("ok", None, {})
    assert record.steps == {"learning_rate": [], "loss": []}
    assert record.started.startswith("20")


@pytest.mark.parametrize("name", ["workload_sha256", "error", "traceback", "schedule", "range_test", "lr", "started"])
def test_older_records_may_lack_fields(name: str) -> None:
    content = json.loads(encode(FULL))
    del content[name]
    read = decode(json.dumps(content).encode(), "here")
    assert read.started if name == "started" else getattr(read, name) is None


def test_older_records_have_no_events_and_no_endings() -> None:
    content = json.loads(encode(FULL))
    for name in ("events", "ending", "predictions"):
        del content[name]
    read = decode(json.dumps(content).encode(), "here")
    assert (read.events, read.ending, read.predictions) == ((), {}, 0)


def test_unknown_fields_of_later_versions_are_ignored() -> None:
    assert decode(changed(more=[1]), "here") == FULL


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_not_written(value: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        encode(make("up", 0, [0.5], seconds=value))


def test_series_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"epochs must hold lists of one length; got lengths \[1, 2\]"):
        make("up", 0, [], epochs={"step": [1], "val_accuracy": [0.1, 0.2]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "must have version 1; got version=2"),
        ({"version": True}, "must have version 1; got version=True"),
        ({"version": 1.0}, "must have version 1; got version=1.0"),
        ({"trial": []}, "Expected `str`, got `array` - at `$.trial`"),
        ({"policy": 3}, "Expected `str`, got `int` - at `$.policy`"),
        ({"workload_sha256": []}, "Expected `str | null`, got `array` - at `$.workload_sha256`"),
        ({"seed": "0"}, "Expected `int`, got `str` - at `$.seed`"),
        ({"seed": True}, "Expected `int`, got `bool` - at `$.seed`"),
        ({"ending": {"val_accuracy": "high"}}, "Expected `float | null`, got `str` - at `$.ending[...]`"),
        ({"predictions": -1}, "Expected `int` >= 0 - at `$.predictions`"),
        ({"total_steps": -1}, "Expected `int` >= 0 - at `$.total_steps`"),
        ({"total_steps": 2**63}, "Expected `int` <= 9223372036854775807 - at `$.total_steps`"),
        ({"total_steps": 10**400}, "Expected `int` <= 9223372036854775807 - at `$.total_steps`"),
        ({"lr": 10**400}, "at `$.lr`"),
        ({"epochs": {"step": [10**400]}}, "at `$.epochs[...][0]`"),
        ({"status": "good"}, "at `$.status`"),
        ({"direction": ["max"]}, "at `$.direction`"),
        ({"schedule": {"schedule": "Wobbly"}}, "schedule must be one of"),
        ({"schedule": []}, "description must be a dict"),
        ({"schedule": nested(201)}, "here is not the record of a trial"),
        ({"schedule": nested(900)}, "nested more than 420 levels deep"),
        ({"range_test": {}}, "version must be 1; got version=None"),
        ({"range_test": {"version": 1}}, "the result of a range test must have"),
        ({"lr": "0.1"}, "Expected `float | null`, got `str` - at `$.lr`"),
        ({"seconds": None}, "Expected `float`, got `null` - at `$.seconds`"),
        ({"events": [{"step": 1}]}, "missing required field `what` - at `$.events[0]`"),
        ({"events": [{"step": 1, "what": "paid", "why": "", "lr": 0.1}]}, "at `$.events[0].what`"),
        ({"events": [{"step": -2, "what": "lowered", "why": "", "lr": 0.1}]}, "step must be"),
        ({"epochs": []}, "Expected `object`, got `array` - at `$.epochs`"),
        ({"epochs": {"step": 3}}, "Expected `array`, got `int` - at `$.epochs[...]`"),
        ({"epochs": {"step": [1], "loss": ["x"]}}, "Expected `float | null`, got `str`"),
        ({"epochs": {"step": [1], "loss": [1, 2]}}, "epochs must hold lists of one length; got lengths [1, 2]"),
        ({"seconds": math.nan}, "NaN is not a finite number"),
        ({"epochs": {"step": [-math.inf]}}, "-Infinity is not a finite number"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_the_error_for_a_wrong_value_names_its_place(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RunFolderError) as raised:
        decode(changed(**change), "here")
    said = str(raised.value)
    assert said.startswith("here ")
    assert message in said
    assert len(said) < 500


@pytest.mark.parametrize(
    "name",
    [
        *("version", "trial", "workload", "policy", "seed", "optimizer", "status", "metric", "direction"),
        *("steps_per_epoch", "total_steps", "range_test_steps", "seconds"),
    ],
)
def test_the_error_for_a_missing_field_names_the_field(name: str) -> None:
    content = json.loads(encode(FULL))
    del content[name]
    with pytest.raises(RunFolderError, match=rf"here .*\b{name}\b"):
        decode(json.dumps(content).encode(), "here")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"  ",
        b"{",
        b"\xff\xfe",
        b"3",
        b"[]",
        b"null",
        b"[" * 10**5,
        b'{"a":' * 10**5,
        b'{"seconds": 1e999}',
        b"9" * 10**4,
    ],
    ids=lambda line: str(line[:8]),
)
def test_what_is_not_a_json_object_is_refused(line: bytes) -> None:
    with pytest.raises(RunFolderError, match=r"^here is not a JSON object: ") as raised:
        decode(line, "here")
    assert len(str(raised.value)) < 400


def test_long_values_are_quoted_shortly() -> None:
    for change in ({"status": "x" * 10**6}, {"schedule": {"schedule": "x" * 10**6}}, {"version": "x" * 10**6}):
        with pytest.raises(RunFolderError) as raised:
            decode(changed(**change), "here")
        assert len(str(raised.value)) < 500


def test_a_lone_surrogate_is_text() -> None:
    assert decode(encode(make("\ud800", 0, [])), "here").policy == "\ud800"
