"""The run folder: complete records are kept, without duplicates, whatever happens to the writer."""

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest
from tests.processes import forked

from cyclr import _redact
from cyclr.errors import RunFolderError
from cyclr.records import Record, RunFolder, read_records
from cyclr.records.record import encode

from .conftest import make

SPEC = {"workload": "mlp", "metric": "val_accuracy", "direction": "max"}
RECORDS = [make(f"fixed {lr}", seed, [0.5]) for seed in (0, 1) for lr in (0.1, 0.2)]
IDS = [record.trial for record in RECORDS]


def opened(folder: Path, ids: Collection[str] = IDS, **more: Any) -> RunFolder:
    return RunFolder.open(folder, {**SPEC, "direction": more.pop("direction", "max")}, ids, **more)


def filled(folder: Path, count: int) -> Path:
    with opened(folder, command=["a", "command"]) as run:
        for record in RECORDS[:count]:
            run.append(record)
    return folder / "records.jsonl"


def failed(record: Record, error: str) -> Record:
    return msgspec.structs.replace(record, status="failed", error=error)


def test_records_are_read_back_and_missing_trials_are_listed(tmp_path: Path) -> None:
    filled(tmp_path, 2)
    assert read_records(tmp_path) == RECORDS[:2]
    with opened(tmp_path) as run:
        assert run.records == RECORDS[:2]
        assert run.missing(IDS) == IDS[2:]
        run.append(RECORDS[2])
        assert run.missing(IDS) == IDS[3:]
    about = RunFolder.read(tmp_path).about
    assert list(about) == [
        *("version", "spec", "folder", "command", "workload_sha256", "versions", "hardware", "created", "resumed"),
    ]
    assert (about["spec"], about["command"], len(about["resumed"])) == (SPEC, ["a", "command"], 1)
    assert about["versions"]["cyclr"]
    assert about["hardware"]["cores"] == os.cpu_count()


def test_the_command_line_is_kept_without_the_folder_of_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/srv/alice/bin/cyclr", "compare"])
    with opened(tmp_path) as run:
        assert run.about["command"] == ["cyclr", "compare"]


def test_a_new_folder_has_no_records(tmp_path: Path) -> None:
    assert RunFolder.read(tmp_path / "new", missing_ok=True).missing(IDS) == IDS
    filled(tmp_path, 0).unlink()
    assert read_records(tmp_path) == []


@pytest.mark.parametrize("cut", range(1, 8))
def test_an_incomplete_last_line_is_ignored_and_cut_off_by_the_next_writer(tmp_path: Path, cut: int) -> None:
    path = filled(tmp_path, 2)
    whole, second = path.read_bytes(), path.read_bytes().splitlines(keepends=True)[1]
    path.write_bytes(whole[: len(whole) - max(1, len(second) * cut // 8)])
    run = RunFolder.read(tmp_path)
    assert (run.records, run.torn) == (RECORDS[:1], True)
    with opened(tmp_path) as run:
        assert (run.missing(IDS), run.torn) == (IDS[1:], False)
        run.append(RECORDS[1])
    assert path.read_bytes() == whole
    assert not RunFolder.read(tmp_path).torn


def test_the_latest_record_of_a_trial_replaces_earlier_ones_and_is_listed_last(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        for record in (failed(RECORDS[0], "x"), RECORDS[1]):
            run.append(record)
        assert run.missing(IDS) == IDS[2:]
        assert run.missing(IDS, retry_failed=True) == [IDS[0], *IDS[2:]]
        run.append(RECORDS[0])
        assert run.records == [RECORDS[1], RECORDS[0]]
    assert read_records(tmp_path) == [RECORDS[1], RECORDS[0]]


def test_pandas_reads_the_records(tmp_path: Path) -> None:
    table = pd.read_json(filled(tmp_path, 4), lines=True)
    assert list(table.policy) == ["fixed 0.1", "fixed 0.2"] * 2
    assert list(table.seed) == [0, 0, 1, 1]
    assert table.epochs[0]["val_accuracy"] == [0.5]


def test_numbers_that_are_not_finite_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    path = filled(tmp_path, 1)
    before = path.read_bytes()
    with opened(tmp_path) as run, pytest.raises(ValueError, match="JSON compliant"):
        run.append(make("up", 0, [0.5], seconds=float("nan")))
    assert path.read_bytes() == before


def test_a_comparison_can_be_extended_but_not_changed(tmp_path: Path) -> None:
    filled(tmp_path, 4)
    more = [*IDS, "another"]
    with opened(tmp_path, more) as run:
        assert run.missing(more) == ["another"]
    message = r"already holds results of another comparison \(4 trials, such as fixed 0\.1-0\)"
    with pytest.raises(RunFolderError, match=message):
        opened(tmp_path, ["another"])
    with pytest.raises(RunFolderError, match=r"such as fixed 0\.1-0\): direction='max', not 'min'\. Choose another"):
        opened(tmp_path, ["another"], direction="min")
    with opened(tmp_path, more) as run:  # the lock was released
        assert run.missing(more) == ["another"]


def test_failed_trials_of_an_older_description_are_dropped_and_results_are_not(tmp_path: Path) -> None:
    with opened(tmp_path, ["typo", "typo 2"]) as run:
        for name in ("typo", "typo 2"):
            run.append(failed(msgspec.structs.replace(RECORDS[0], trial=name), "no such metric"))
    with opened(tmp_path) as run:
        assert run.missing(IDS) == IDS
        run.append(failed(RECORDS[0], "its own"))
        run.append(RECORDS[1])
    dropped = {"typo": "no such metric", "typo 2": "no such metric"}
    assert RunFolder.read(tmp_path).about["resumed"][-1]["dropped"] == dropped
    with opened(tmp_path) as run:
        assert [record.status for record in run.records] == ["failed", "ok"]
        assert "dropped" not in run.about["resumed"][-1]
    before = (tmp_path / "records.jsonl").read_bytes()
    with pytest.raises(RunFolderError, match=r"\(1 trials, such as fixed 0\.2-0\)"):
        opened(tmp_path, ["another"])
    assert (tmp_path / "records.jsonl").read_bytes() == before


def test_a_direction_that_changes_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = filled(tmp_path, 2)
    before = path.read_bytes()
    with pytest.raises(RunFolderError, match=r"direction is 'min', but 2 records in .* have 'max'\. "):
        opened(tmp_path, direction="min")
    assert path.read_bytes() == before
    with opened(tmp_path) as run:
        assert len(run.missing(IDS)) == 2


def test_temporary_files_of_a_killed_writer_are_removed(tmp_path: Path) -> None:
    for name in (".run.json.123.tmp", ".run.json.0f3a.tmp", ".records.jsonl.0f3a.tmp"):
        (tmp_path / name).write_text("{")
    with opened(tmp_path) as run:
        assert run.missing(IDS) == IDS
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "records.jsonl", "run.json"]


def test_a_changed_user_file_warns_as_long_as_there_are_results_of_the_old_one(tmp_path: Path) -> None:
    def with_file(sha256: str, *records: Record) -> None:
        with opened(tmp_path, workload_sha256=sha256) as run:
            for record in records:
                run.append(msgspec.structs.replace(record, workload_sha256=sha256))

    with_file("one", failed(RECORDS[0], "its file is wrong"))
    with_file("two", RECORDS[0])  # nothing that failed is mixed with anything
    with_file("two")
    for _ in range(2):
        with pytest.warns(
            UserWarning, match=r"^.* has changed since .*test_.*' got results \(SHA-256 three…"
        ) as warned:
            with_file("three", RECORDS[1])
        assert warned[0].filename == __file__
    about = RunFolder.read(tmp_path).about
    sums = [opening["workload_sha256"] for opening in (about, *about["resumed"])]
    assert sums == ["one", "two", "two", "three", "three"]


def test_older_records_without_checksums_are_readable(tmp_path: Path) -> None:
    path = filled(tmp_path, 2)
    old = [{k: v for k, v in json.loads(encode(record)).items() if k != "workload_sha256"} for record in RECORDS[:2]]
    path.write_text("".join(json.dumps(record) + "\n" for record in old))
    with opened(tmp_path, workload_sha256="new") as run:
        assert run.records == RECORDS[:2]


def test_folders_that_hold_something_else_are_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(RunFolderError, match="holds files that do not belong to a comparison"):
        opened(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thesis.tex"]
    with pytest.raises(RunFolderError, match="cannot be used as a run folder"):
        opened(tmp_path / "thesis.tex")
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(RunFolderError, match=r"is not a run folder: it has no run\.json"):
            read_records(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"run\.json is not a JSON object"),
        ("{", r"run\.json is not a JSON object"),
        ("[]", r"run\.json is not a JSON object"),
        ("[" * 100_000, r"run\.json is not a JSON object"),
        ('{"version": 1, "a": ' + "[" * 960 + "]" * 960 + "}", "nested too deeply|is not a JSON object"),
        ('{"version": 1, "a": NaN}', "NaN is not a finite number"),
        ('{"version": 2}', r"run\.json must have version 1; got version=2"),
        ('{"spec": {}}', r"run\.json must have version 1; got version=None"),
        ('{"version": 1, "resumed": 5}', "resumed in .* must be a list"),
        ('{"version": 1, "resumed": null}', "resumed in .* must be a list"),
    ],
    ids=lambda text: text[:20],
)
def test_an_invalid_run_json_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "run.json").write_text(content)
    for use in (read_records, opened):
        with pytest.raises(RunFolderError, match=message):
            use(tmp_path)


@pytest.mark.parametrize("line", [b"", b"{", b"\xff\xfe", b"3", b'{"version": 1}', b'{"version": 2}', b"[" * 100_000])
def test_an_invalid_line_error_names_the_file_and_the_line(tmp_path: Path, line: bytes) -> None:
    path = filled(tmp_path, 2)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + line + b"\n" + lines[1])
    for use in (read_records, opened):
        with pytest.raises(RunFolderError, match=r"records\.jsonl, line 2 "):
            use(tmp_path)


def test_append_to_a_closed_folder_raises(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        pass
    for closed in (run, RunFolder.read(tmp_path)):
        with pytest.raises(RunFolderError, match="is not open for writing"):
            closed.append(RECORDS[0])


def test_run_json_and_records_hold_no_credentials_no_host_and_no_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["/home/alice/.venv/bin/cyclr", "compare", "--mlflow", "https://bob:hunter2@tracker.example?token=x1y2"]
    command += ["--address", "head.cluster:10001", "--address=ray://alice@head.cluster:10001"]
    monkeypatch.setattr(socket, "gethostname", lambda: "laptop-of-alice")
    spec = {**SPEC, "workload": "/home/alice/model.py:build", "data": "/home/alice/data"}
    traceback = 'File "/home/alice/model.py", line 3\nOSError: https://bob:hunter2@tracker.example'
    lost = msgspec.structs.replace(
        RECORDS[0], workload="/home/alice/model.py:build", status="failed", error=traceback, traceback=traceback
    )
    with RunFolder.open(tmp_path, spec, IDS, command=command) as run:
        run.append(lost)
    with RunFolder.open(tmp_path, spec, IDS, command=command) as run:
        assert run.about["spec"]["workload"] == "~/model.py:build"
    for name in ("run.json", "records.jsonl", ".lock"):
        assert not re.search(r"alice|hunter2|x1y2|bob|tracker|cluster", (tmp_path / name).read_text())


def test_a_comparison_in_the_home_of_another_user_keeps_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The pattern of such homes, here below a folder of the test.
    monkeypatch.setattr(_redact, "_HOMES", re.compile(re.escape(str(tmp_path / "home")) + r"/\w+"))
    project = tmp_path / "home" / "alice" / "project"
    for run in (project / "runs" / "a", tmp_path / "b"):
        RunFolder.open(run, SPEC, IDS, folder_of_paths=project).close()
        assert "alice" not in (run / "run.json").read_text()
    assert RunFolder.read(project / "runs" / "a").about["folder"] == str(project)


def test_folders_that_were_written_with_credentials_are_read_without(tmp_path: Path) -> None:
    path = filled(tmp_path, 1)
    about = json.loads((tmp_path / "run.json").read_text())
    about["command"] = ["/home/alice/bin/cyclr", "--mlflow", "https://bob:hunter2@tracker.example"]
    (tmp_path / "run.json").write_text(json.dumps(about))
    old = {**json.loads(path.read_text()), "workload": "/home/alice/model.py:build", "error": "https://u:pw@host"}
    path.write_text(json.dumps(old) + "\n")
    run = RunFolder.read(tmp_path)
    assert run.about["command"] == ["~/bin/cyclr", "--mlflow", "https://***"]
    assert (run.records[0].workload, run.records[0].error) == ("~/model.py:build", "https://***")


@contextlib.contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[None]:
    """A disk whose call of this name fails."""

    def fails(*_: Any) -> int:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, name, fails)
        yield


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_record_that_was_not_confirmed_by_the_disk_counts_as_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = filled(tmp_path, 1)
    before = path.read_bytes()
    message = r"the record of fixed 0\.2-0 cannot be saved in .*: Input/output error\."
    with opened(tmp_path) as run:
        with failing(monkeypatch, call), pytest.raises(RunFolderError, match=message):
            run.append(RECORDS[1])
        assert path.read_bytes() == before
        assert run.missing(IDS) == IDS[1:]
        run.append(RECORDS[1])
    assert read_records(tmp_path) == RECORDS[:2]


def test_an_unconfirmed_record_is_removed_before_the_next_append(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, write = filled(tmp_path, 1), os.write
    with opened(tmp_path) as run:
        with failing(monkeypatch, "ftruncate"):
            monkeypatch.setattr(os, "write", lambda file, line: write(file, line[:100]))
            with pytest.raises(RunFolderError, match="the disk is full"):
                run.append(RECORDS[1])
            monkeypatch.setattr(os, "write", write)
            assert RunFolder.read(tmp_path).torn
            with pytest.raises(RunFolderError, match=r"cannot be saved in .*: Input/output error"):
                run.append(RECORDS[1])
        run.append(RECORDS[1])
    assert read_records(tmp_path) == RECORDS[:2]
    assert len(path.read_bytes().splitlines()) == 2


def test_an_error_while_closing_is_ignored_and_loses_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path) as run:
        run.append(RECORDS[0])
        descriptors = [*run._locked.values()]
        with failing(monkeypatch, "close"):
            run.close()
    for descriptor in descriptors:
        os.close(descriptor)
    assert read_records(tmp_path) == RECORDS[:1]


def test_a_full_disk_leaves_no_part_of_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, write = filled(tmp_path, 1), os.write
    before = path.read_bytes()
    with opened(tmp_path) as run:
        monkeypatch.setattr(os, "write", lambda file, line: write(file, line[:100]))
        with pytest.raises(RunFolderError, match="the disk is full"):
            run.append(RECORDS[1])
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["run.json", "records.jsonl"])
def test_a_pipe_in_the_place_of_a_file_is_a_clear_error(tmp_path: Path, name: str) -> None:
    filled(tmp_path, 1)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    for use in (read_records, opened):
        with pytest.raises(RunFolderError, match=r"not a regular file|is not a run folder"):
            use(tmp_path)


def test_an_unreadable_file_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path, 1)

    def fails(*_: Any) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "open", fails)
    with pytest.raises(RunFolderError, match=r"cannot be read: Input/output error"):
        read_records(tmp_path)


def test_append_to_a_deleted_folder_raises(tmp_path: Path) -> None:
    with opened(tmp_path / "run") as run:
        shutil.rmtree(tmp_path / "run")
        with pytest.raises(RunFolderError, match=r"records\.jsonl' was deleted or replaced .* is not saved"):
            run.append(RECORDS[0])


@pytest.mark.parametrize("name", ["run", "run/.lock", "run/records.jsonl"])
def test_append_after_a_file_or_the_folder_was_replaced_raises(tmp_path: Path, name: str) -> None:
    with opened(tmp_path / "run") as run:
        (tmp_path / name).rename(tmp_path / "moved")
        filled(tmp_path / "run", 0) if name == "run" else (tmp_path / name).touch()
        with pytest.raises(RunFolderError, match=r"was deleted or replaced .* is not saved"):
            run.append(RECORDS[0])


def test_a_deleted_run_json_is_written_again(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        (tmp_path / "run.json").unlink()
        run.append(RECORDS[0])
        assert RunFolder.read(tmp_path).about == run.about
    (tmp_path / "run.json").unlink()
    with pytest.raises(RunFolderError, match=r"has records\.jsonl, but no run\.json with their description\. Restore"):
        opened(tmp_path)
    assert (tmp_path / "records.jsonl").read_bytes()


def test_a_process_may_change_its_folder_while_a_run_folder_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with opened(Path("run")) as run:
        monkeypatch.chdir("/")
        run.append(RECORDS[0])
    assert read_records(tmp_path / "run") == RECORDS[:1]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fails(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fails)
    message = rf"cannot be locked: its file system has no file locks \({os.strerror(number)}\), .* a local disk\."
    with pytest.raises(RunFolderError, match=message):
        opened(tmp_path / "run")
    assert files_of(tmp_path / "run") == [".lock"]


@pytest.mark.parametrize(("mode", "is_readable"), [(0o000, False), (0o555, True)])
def test_a_folder_of_another_user_is_a_clear_error(mode: int, is_readable: bool) -> None:
    # Not in tmp_path, which other users cannot reach.
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "run")
        filled(folder, 1)
        (folder / ".lock").chmod(0o444)
        folder.chmod(mode)
        Path(temporary).chmod(0o755)
        reading, writing = (as_other_user(use, folder) for use in (read_records, opened))
        folder.chmod(0o755)
    assert re.fullmatch(
        r"RunFolderError: .* cannot be used as a run folder: Permission denied\. Free disk space, check .*",
        writing,
    )
    if is_readable:
        assert reading == "done"
    else:
        assert re.fullmatch(
            r"RunFolderError: '.*' cannot be read: Permission denied\. Check its files and their permissions\.", reading
        )


def as_other_user(use: Callable[[Path], object], folder: Path) -> str:
    """Use a folder in a process without the rights of root, who may do everything; return the error or `"done"`."""

    def act() -> None:
        with contextlib.suppress(PermissionError):
            os.setuid(65534)
        use(folder)

    return forked(act)[1]


def files_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_deleted_lock_file_is_noticed_and_admits_no_second_writer(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        before = (tmp_path / "run.json").read_bytes()
        (tmp_path / ".lock").unlink()
        with pytest.raises(RunFolderError, match="is in use"):
            opened(tmp_path)
        assert (tmp_path / "run.json").read_bytes() == before
        with pytest.raises(RunFolderError, match=r"\.lock' was deleted or replaced"):
            run.append(RECORDS[0])


WRITER = """
import sys
from cyclr.records import Record, RunFolder
named = {"workload": "mlp", "policy": "p", "optimizer": "", "metric": "val_loss", "direction": "min"}
ids = [str(seed) for seed in range(1000)]
with RunFolder.open(sys.argv[1], {"direction": "min"}, ids) as run:
    print("open", flush=True)
    for name in run.missing(ids):
        run.append(Record(trial=name, seed=int(name), steps={"loss": [0.1] * 20_000}, **named))
        print(name, flush=True)
"""


def test_one_process_writes_at_a_time_and_a_killed_one_loses_nothing_that_it_reported(tmp_path: Path) -> None:
    reported = -1
    for records in (3, 11):
        process = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        with pytest.raises(RunFolderError, match=rf"is in use: process {process.pid} writes to it"):
            opened(tmp_path)
        seeds = [int(process.stdout.readline()) for _ in range(records)]
        assert seeds[0] > reported
        process.send_signal(signal.SIGKILL)
        rest = [int(seed) for seed in re.findall(r"^\d+$", process.stdout.read(), re.MULTILINE)]
        process.wait()
        process.stdout.close()
        reported = max(seeds + rest)
        found = [record.seed for record in read_records(tmp_path)]
        assert found == sorted(set(found)) == list(range(len(found)))
        assert len(found) > reported
        for line in (tmp_path / "records.jsonl").read_text().splitlines()[: len(found)]:
            assert len(json.loads(line)["steps"]["loss"]) == 20_000
