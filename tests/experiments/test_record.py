"""The run folder: whatever happens to the writer, whole records stay and none is there twice."""

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
