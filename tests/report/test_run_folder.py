"""Reading a run folder: what is right is read, what is cut off is left out, what is wrong is named."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

import cyclr
from cyclr.report import run_folder

from .conftest import ABOUT, write_run


def test_everything_is_read(run: Path, records: list[dict[str, Any]]) -> None:
    folder = run_folder.read(run)
    assert folder.name == "digits run"
    assert folder.about == ABOUT
    assert not folder.torn
    assert [trial.trial for trial in folder.trials] == [record["trial"] for record in records]
    for trial, record in zip(folder.trials, records, strict=True):
        for name in (
            "workload",
            "policy",
            "seed",
            "status",
            "metric",
            "total_steps",
            "lr",
            "epochs",
            "steps",
            "seconds",
        ):
            assert getattr(trial, name) == record[name]
        if record["schedule"] is not None:
            assert trial.schedule == cyclr.Schedule.from_dict(record["schedule"])
            assert trial.range_test == cyclr.RangeTestResult.from_dict(record["range_test"])


def test_a_torn_last_line_is_left_out_at_whatever_byte_it_was_cut(
    tmp_path: Path, records: list[dict[str, Any]]
) -> None:
    run = write_run(tmp_path, records[:2])
    file = run / "records.jsonl"
    content = file.read_bytes()
    second = content.index(b"\n") + 1
    for end in (second + 1, second + 100, len(content) - 2, len(content) - 1):
        file.write_bytes(content[:end])
        folder = run_folder.read(run)
        assert [trial.trial for trial in folder.trials] == [records[0]["trial"]]
        assert folder.torn
    file.write_bytes(content[:second])
    assert not run_folder.read(run).torn


def test_the_later_record_of_a_trial_counts(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    again = {**records[0], "seconds": 99.0}
    trials = run_folder.read(write_run(tmp_path, [*records[:2], again])).trials
    assert [(trial.trial, trial.seconds) for trial in trials] == [
        (records[1]["trial"], records[1]["seconds"]),
        (records[0]["trial"], 99.0),
    ]


def test_what_was_not_recorded_is_nan(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    epochs = {"step": [28, 56], "val_accuracy": [None, math.nan]}
    (trial,) = run_folder.read(write_run(tmp_path, [{**records[0], "epochs": epochs, "steps": None}])).trials
    assert all(math.isnan(value) for value in trial.epochs["val_accuracy"])
    assert trial.steps == {}


def test_a_run_without_records_has_no_trials(tmp_path: Path) -> None:
    (write_run(tmp_path, []) / "records.jsonl").unlink()
    assert run_folder.read(tmp_path).trials == ()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 2}', '{"spec": {}}', "[" * 100_000])
def test_what_is_no_description_of_a_run_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(cyclr.CyclrError, match=r"run\.json must (be|have)"):
        run_folder.read(tmp_path)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(cyclr.CyclrError, match=r"RUN must be a folder with a run\.json"):
            run_folder.read(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "have version 1; got version=2"),
        ({"policy": 3}, "policy must be a text; got policy=3"),
        ({"seed": "0"}, "seed must be an integer of at least 0 .*; got seed='0'"),
        ({"seed": True}, "seed must be an integer"),
        ({"total_steps": -1}, "total_steps must be an integer of at least 0 .*; got total_steps=-1"),
        ({"total_steps": 10**400}, r"total_steps must be an integer of at least 0 and below 2\*\*63"),
        ({"lr": 10**400}, "lr must be a number of double precision; got one of 401 digits"),
        ({"epochs": {"step": [10**400]}}, "epochs.step must be a number of double precision"),
        ({"status": "good"}, "status must be one of 'ok', 'diverged', 'failed'; got status='good'"),
        ({"direction": ["max"]}, "direction must be one of 'max', 'min'"),
        ({"schedule": {"schedule": "Wobbly"}}, "schedule must be one of"),
        ({"range_test": {}}, "version must be 1; got version=None"),
        ({"lr": "0.1"}, "lr must be a number; got lr='0.1'"),
        ({"seconds": None}, "seconds must be a number; got seconds=None"),
        ({"epochs": []}, "epochs must hold lists by name"),
        ({"epochs": {"step": 3}}, "epochs must hold lists by name"),
        ({"epochs": {"step": [1], "loss": ["x"]}}, "epochs.loss must be a number; got epochs.loss='x'"),
        ({"epochs": {"step": [1], "loss": [1, 2]}}, r"epochs must hold lists of one length; got lengths \[1, 2\]"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, dict) else "",
)
def test_a_record_that_is_none_is_refused_by_file_and_line(
    tmp_path: Path, records: list[dict[str, Any]], change: dict[str, Any], message: str
) -> None:
    run = write_run(tmp_path, [records[0], {**records[1], **change}])
    with pytest.raises(cyclr.CyclrError, match=rf"records\.jsonl, line 2 must .*?{message}"):
        run_folder.read(run)


@pytest.mark.parametrize("line", [b"{", b"\xff\xfe", b"3", b'{"version": 1}'])
def test_a_broken_line_that_is_not_the_last_is_refused(
    tmp_path: Path, records: list[dict[str, Any]], line: bytes
) -> None:
    run = write_run(tmp_path, records[:1])
    file = run / "records.jsonl"
    file.write_bytes(line + b"\n" + json.dumps(records[0]).encode() + b"\n")
    with pytest.raises(cyclr.CyclrError, match=r"records\.jsonl, line 1 must"):
        run_folder.read(run)
