"""The run folder: whatever happens to the writer, whole records stay and none is there twice."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from cyclr.errors import RunFolderError
from cyclr.experiments import Spec, read_records
from cyclr.experiments.record import RunFolder, read_run
from cyclr.experiments.trial import empty_record

SPEC = Spec([{"kind": "fixed", "lr": [0.1, 0.2]}], epochs=1, seeds=[0, 1])
RECORDS = [{**empty_record(trial), "epochs": {"step": [3], "val_accuracy": [0.5]}} for trial in SPEC.trials()]


def filled(folder: Path, count: int) -> Path:
    with RunFolder(folder, SPEC, ["a", "command"]) as run:
        for record in RECORDS[:count]:
            run.append(record)
    return folder / "records.jsonl"


def test_records_come_back_and_missing_ones_are_known(tmp_path: Path) -> None:
    filled(tmp_path, 2)
    assert read_records(tmp_path) == RECORDS[:2]
    with RunFolder(tmp_path, SPEC) as run:
        assert run.missing() == SPEC.trials()[2:]
    held = read_run(tmp_path)
    assert held["command"] == ["a", "command"]
    assert held["versions"]["cyclr"]
    assert held["hardware"]["cores"] == os.cpu_count()
    assert len(held["resumed"]) == 1
    assert Spec.from_dict(held["spec"]).trials() == SPEC.trials()


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_torn_line_is_ignored_and_cut_off_by_the_next_writer(tmp_path: Path, cut: int) -> None:
    path = filled(tmp_path, 2)
    whole, second = path.read_bytes(), path.read_bytes().splitlines(keepends=True)[1]
    path.write_bytes(whole[: len(whole) - max(1, len(second) * cut // 8)])
    assert read_records(tmp_path) == RECORDS[:1]
    with RunFolder(tmp_path, SPEC) as run:
        assert len(run.missing()) == 3
        run.append(RECORDS[1])
    assert path.read_bytes() == whole


def test_the_latest_record_of_a_trial_counts(tmp_path: Path) -> None:
    filled(tmp_path, 1)
    failed = {**RECORDS[1], "status": "failed", "error": "x"}
    with RunFolder(tmp_path, SPEC) as run:
        run.append(failed)
        assert len(run.missing()) == 2
        assert len(run.missing(retry_failed=True)) == 3
        run.append(RECORDS[1])
    assert read_records(tmp_path) == RECORDS[:2]


def test_a_damaged_line_in_the_midst_is_named(tmp_path: Path) -> None:
    path = filled(tmp_path, 2)
    path.write_bytes(b"{}\n" + path.read_bytes())
    with pytest.raises(RunFolderError, match=r"line 1 is not .*remove that line"):
        read_records(tmp_path)


def test_pandas_reads_it_as_it_is(tmp_path: Path) -> None:
    table = pd.read_json(filled(tmp_path, 4), lines=True)
    assert list(table.policy) == ["fixed 0.1", "fixed 0.2"] * 2
    assert list(table.seed) == [0, 0, 1, 1]
    assert table.epochs[0]["val_accuracy"] == [0.5]


def test_values_that_json_does_not_know_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    path = filled(tmp_path, 1)
    before = path.read_bytes()
    with RunFolder(tmp_path, SPEC) as run, pytest.raises(ValueError, match="JSON compliant"):
        run.append({**RECORDS[1], "seconds": float("nan")})
    assert path.read_bytes() == before


def test_a_comparison_can_grow_and_not_change(tmp_path: Path) -> None:
    filled(tmp_path, 4)
    more = SPEC.replace(seeds=[0, 1, 2])
    with RunFolder(tmp_path, more) as run:
        assert [trial.seed for trial in run.missing()] == [2, 2]
    with pytest.raises(RunFolderError, match=r"it holds 4 of another, such as 'fixed-0\.1-seed-0"):
        RunFolder(tmp_path, SPEC.replace(epochs=2)).__enter__()
    with RunFolder(tmp_path, more) as run:  # the lock was let go
        assert len(run.missing()) == 2


def test_what_failed_under_another_description_is_dropped_and_results_are_not(tmp_path: Path) -> None:
    wrong = SPEC.replace(metric="val_acc")
    with RunFolder(tmp_path, wrong) as run:
        for trial in wrong.trials():
            run.append({**empty_record(trial), "status": "failed", "error": "no such metric"})
        assert run.missing() == []
    with RunFolder(tmp_path, SPEC) as run:
        assert run.missing() == SPEC.trials()
        run.append({**RECORDS[0], "status": "failed", "error": "its own"})
        run.append(RECORDS[1])
    assert set(read_run(tmp_path)["resumed"][-1]["dropped"].values()) == {"no such metric"}
    with RunFolder(tmp_path, SPEC):
        assert [record["status"] for record in read_records(tmp_path)] == ["failed", "ok"]
    assert "dropped" not in read_run(tmp_path)["resumed"][-1]
    before = (tmp_path / "records.jsonl").read_bytes()
    with pytest.raises(RunFolderError, match=r"it holds 1 of another, such as 'fixed-0\.2-seed-0"):
        RunFolder(tmp_path, SPEC.replace(epochs=2)).__enter__()
    assert (tmp_path / "records.jsonl").read_bytes() == before


def test_a_direction_that_changes_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = filled(tmp_path, 2)
    before = path.read_bytes()
    with pytest.raises(RunFolderError, match=r"direction must stay .*; got 'min', 2 of them have 'max'\. "):
        RunFolder(tmp_path, SPEC.replace(direction="min")).__enter__()
    assert path.read_bytes() == before
    with RunFolder(tmp_path, SPEC) as run:
        assert len(run.missing()) == 2


def test_files_that_a_kill_left_in_mid_writing_are_removed(tmp_path: Path) -> None:
    for name in (".run.json.123.tmp", ".run.json.0f3a.tmp", ".records.jsonl.0f3a.tmp"):
        (tmp_path / name).write_text("{")
    with RunFolder(tmp_path, SPEC) as run:
        assert len(run.missing()) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "records.jsonl", "run.json"]


def test_a_users_file_that_changed_is_told_as_long_as_there_are_results_of_the_old_one(tmp_path: Path) -> None:
    file, folder = tmp_path / "model.py", tmp_path / "run"
    file.write_text("one")
    spec = SPEC.replace(workload="model.py:build", folder=str(tmp_path))
    first, second, *_ = spec.trials()
    with RunFolder(folder, spec) as run:
        run.append({**empty_record(first), "status": "failed", "error": "its file is wrong"})
    file.write_text("two")
    with RunFolder(folder, spec) as run:  # nothing that failed is mixed with anything
        run.append(empty_record(first))
    with RunFolder(folder, spec):
        pass
    file.write_text("three")
    for _ in range(2):
        told = pytest.warns(UserWarning, match=r"^model\.py has changed since .*run' got results \(SHA-256 ")
        with told, RunFolder(folder, spec) as run:
            run.append(empty_record(second))
    held = read_run(folder)
    sums = [hashlib.sha256(text.encode()).hexdigest() for text in ("one", "two", "two", "three", "three")]
    assert [opened["workload_sha256"] for opened in (held, *held["resumed"])] == sums
    assert read_records(folder)[0]["workload_sha256"] == sums[1]

    # Folders of before there were such sums are as readable as ever.
    old = [{name: value for name, value in record.items() if name != "workload_sha256"} for record in RECORDS[:2]]
    with RunFolder(tmp_path / "old", SPEC) as run:
        for record in old:
            run.append(record)
    with RunFolder(tmp_path / "old", SPEC) as run:
        assert len(run.missing()) == 2


def test_folders_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("")
    with pytest.raises(RunFolderError, match="holds other files"):
        RunFolder(tmp_path / "other", SPEC).__enter__()
    with pytest.raises(RunFolderError, match="must be one that can be written"):
        RunFolder(tmp_path / "other" / "thesis.tex", SPEC).__enter__()
    with pytest.raises(RunFolderError, match=r"must hold run\.json"):
        read_records(tmp_path)
    (tmp_path / "run.json").write_text('{"version": 2}')
    with pytest.raises(RunFolderError, match="must be of version 1"):
        RunFolder(tmp_path, SPEC).__enter__()


def test_a_closed_folder_takes_no_record(tmp_path: Path) -> None:
    with RunFolder(tmp_path, SPEC) as run:
        pass
    with pytest.raises(RunFolderError, match="must be open"):
        run.append(RECORDS[0])


WRITER = """
import sys
from cyclr.experiments import Spec
from cyclr.experiments.record import RunFolder
from cyclr.experiments.trial import empty_record
spec = Spec([{"kind": "fixed", "lr": 0.1}], epochs=1, seeds=range(1000))
with RunFolder(sys.argv[1], spec) as run:
    print("open", flush=True)
    for trial in run.missing():
        run.append({**empty_record(trial), "steps": {"loss": [0.1] * 20_000}})
        print(trial.seed, flush=True)
"""


def test_one_process_writes_at_a_time_and_a_killed_one_loses_nothing_that_it_reported(tmp_path: Path) -> None:
    reported = -1
    for records in (3, 11):
        process = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        with pytest.raises(RunFolderError, match=rf"process {process.pid} on .* writes to it now"):
            RunFolder(tmp_path, SPEC).__enter__()
        seeds = [int(process.stdout.readline()) for _ in range(records)]
        assert seeds[0] > reported
        process.send_signal(signal.SIGKILL)
        rest = [int(seed) for seed in re.findall(r"^\d+$", process.stdout.read(), re.MULTILINE)]
        process.wait()
        process.stdout.close()
        reported = max(seeds + rest)
        found = [record["seed"] for record in read_records(tmp_path)]
        assert found == sorted(set(found)) == list(range(len(found)))
        assert len(found) > reported
        for line in (tmp_path / "records.jsonl").read_text().splitlines()[: len(found)]:
            assert len(json.loads(line)["steps"]["loss"]) == 20_000
