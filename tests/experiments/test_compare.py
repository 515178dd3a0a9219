"""Comparisons on the local engine, with real processes that are really killed."""

import errno
import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from msgspec import structs

from cyclr.errors import CyclrError, RunFolderError
from cyclr.experiments import Spec, compare, read_records, workloads
from cyclr.experiments import trial as trials
from cyclr.experiments.engines.local import LocalEngine
from cyclr.experiments.events import Epoch, Event, Finished, Progress, Started
from cyclr.experiments.spec import Trial
from cyclr.records import Record, RunFolder

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed", allow_module_level=True)

KILLS = Path(__file__).parents[2] / "benchmarks" / "compare_kills.py"
MakeSpec = Callable[..., Spec]
POLICIES = [{"kind": "fixed", "lr": [0.01, 0.1]}, {"kind": "triangular"}]
RANGE_TEST = {"min_lr": 1e-4, "steps": 60}


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A process that has ended stays in the table until its parent asks for it.
    return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"


def gone(pid: int, within: float = 600.0) -> bool:
    end = time.monotonic() + within
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.1)
    return not alive(pid)


def trial_of(event: Event) -> str:
    return event.record.trial if isinstance(event, Finished) else event.trial  # type: ignore[union-attr]


def workers_of(folder: Path) -> list[int]:
    return [int(path.name.partition("-")[2]) for path in folder.glob("worker-*")]


def test_two_workers_record_what_one_process_does(
    blob_spec: MakeSpec, blobs: Path, tmp_path: Path, timeless: Callable[[Any], Any]
) -> None:
    spec = blob_spec(policies=POLICIES, seeds=[0, 1], range_test=RANGE_TEST)
    events: list[Event] = []
    filters = list(warnings.filters)
    records = compare(spec, tmp_path / "run", workers=2, tell=events.append)
    assert warnings.filters == filters
    assert len(workers_of(blobs)) == 2
    assert {record.trial for record in records} == {trial.id for trial in spec.trials()}
    by_id = {record.trial: timeless(record) for record in records}
    for trial in spec.trials():
        assert by_id[trial.id] == timeless(trials.run_trial(trial))
    assert records == read_records(tmp_path / "run")
    assert isinstance(events[0], Started)
    assert (events[0].missing, events[0].done) == (spec.trials(), [])
    told = [event for event in events[1:] if trial_of(event) == spec.trials()[2].id]
    stages = list(dict.fromkeys(event.stage for event in told if isinstance(event, Progress)))
    assert stages == ["loading", "range test", "training"]
    assert [event.values["step"] for event in told if isinstance(event, Epoch)] == [10, 20]
    assert isinstance(told[-1], Finished)

    # Again: nothing is repeated, and no process is started for it.
    before = (tmp_path / "run" / "records.jsonl").read_bytes()
    assert compare(spec, tmp_path / "run", workers=2) == records
    assert (tmp_path / "run" / "records.jsonl").read_bytes() == before
    assert len(workers_of(blobs)) == 3  # two workers, and this process by `run_trial`


def test_a_worker_that_is_killed_in_mid_trial_is_replaced_and_its_trial_retried(
    blob_spec: MakeSpec, blobs: Path, tmp_path: Path, timeless: Callable[[Any], Any]
) -> None:
    spec = blob_spec(seeds=[0, 1], epochs=40)
    killed: list[int] = []

    def kill_first(event: Event) -> None:
        if isinstance(event, Progress) and not killed and event.stage == "training" and 0 < event.done < event.total:
            killed.append(workers_of(blobs)[0])
            os.kill(killed[0], signal.SIGKILL)

    records = compare(spec, tmp_path / "run", workers=1, tell=kill_first)
    assert killed
    assert [(record.status, record.seed) for record in records] == [("ok", 0), ("ok", 1)]
    assert len(workers_of(blobs)) == 2
    assert timeless(records[0]) == timeless(trials.run_trial(spec.trials()[0]))


def test_a_trial_that_kills_its_worker_again_and_again_fails_and_others_go_on(tmp_path: Path) -> None:
    # No framework is imported: workers start in a tenth of the time.
    (tmp_path / "light.py").write_text(DEADLY)
    light = {"policies": [{"kind": "fixed", "lr": 0.1}], "epochs": 1, "seeds": [0], "folder": str(tmp_path)}
    (fatal,), (other,) = (Spec(**light, workload=f"light.py:{name}").trials() for name in ("dies", "raises"))
    records = {record.workload: record for record in LocalEngine(workers=2, retries=1).run([fatal, other])}
    assert str(records["light.py:raises"].error).startswith("OSError: no data")
    assert records["light.py:dies"].status == "failed"
    assert records["light.py:dies"].error == (
        "its worker died 2 times; last: killed by SIGKILL. Its last output: out of luck. If memory ran out, use fewer "
        "workers or a smaller batch size."
    )


def test_an_error_without_a_message_is_recorded_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "light.py").write_text("def build(): raise MemoryError")
    spec = Spec([{"kind": "fixed", "lr": 0.1}], workload="light.py:build", epochs=1, seeds=[0], folder=str(tmp_path))
    assert trials.run_trial(spec.trials()[0]).error == "MemoryError (light.py, line 1)"


def test_a_worker_that_cannot_be_started_ends_the_comparison_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    (tmp_path / "light.py").write_text("def build(): pass")
    spec = Spec([{"kind": "fixed", "lr": 0.1}], workload="light.py:build", epochs=1, seeds=[0], folder=str(tmp_path))
    monkeypatch.setattr(subprocess, "Popen", fails)
    message = r"cannot start a worker process for .*: Cannot allocate memory\. Free memory"
    with pytest.raises(CyclrError, match=message):
        compare(spec, tmp_path / "run", workers=1)
    assert read_records(tmp_path / "run") == []


DEADLY = """
import os, signal, sys

def dies():
    print("out of luck", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

def raises():
    raise OSError("no data")
"""


def test_a_trial_that_failed_is_run_again_when_asked(blob_spec: MakeSpec, blobs: Path, tmp_path: Path) -> None:
    spec = blob_spec()
    source = (blobs / "blobs.py").read_text()
    (blobs / "blobs.py").write_text(source.replace("def build():", "def build():\n    raise OSError('no disk')"))
    assert compare(spec, tmp_path / "run", workers=1)[0].error.startswith("OSError: no disk (blobs.py, line ")
    (blobs / "blobs.py").write_text(source)
    assert compare(spec, tmp_path / "run", workers=1)[0].status == "failed"
    (record,) = compare(spec, tmp_path / "run", workers=1, retry_failed=True)
    assert record.status == "ok"
    assert len((tmp_path / "run" / "records.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("workload", "message"),
    [
        ("blob.py:build", "'blob.py' does not exist. Check the path"),
        ("blobs.py:biuld", r"blobs\.py has no function 'biuld'\. Did you mean 'build'\? It has build, dies_once, dies"),
        ("blobs.py", r"blobs\.py needs the name of a function in it; it has build, .*\. Write blobs\.py:build"),
        ("blobs.txt:build", "'blobs.txt' must be a Python file. Write FILE.py:function"),
        (".:build", r"'\.' is a folder\. Write FILE\.py:function, such as model\.py:build"),
        ("cnnn", "unknown model 'cnnn'. Did you mean 'cnn'[?]"),
        ("wants.py:build", r"wants\.py:build is called without arguments; it needs units, rate"),
        ("empty.py", r"empty\.py needs the name of a function in it; it has none"),
        ("broken.py:build", r"'broken\.py' must be Python; it is not: .*line 2"),
    ],
)
def test_a_missing_workload_is_reported_before_anything_runs(
    blob_spec: MakeSpec, blobs: Path, tmp_path: Path, workload: str, message: str
) -> None:
    (blobs / "broken.py").write_text("def build():\n  return (\n")
    (blobs / "wants.py").write_text("def build(units, *, width=2, rate):\n  return None\n")
    (blobs / "empty.py").write_text("")
    wrong = blob_spec().replace(workload=workload)
    with pytest.raises(CyclrError, match=message):
        compare(wrong, tmp_path / "run", tell=lambda event: pytest.fail(str(event)))
    assert not (tmp_path / "run").exists()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"workload": "blob.py:build"}, {}, "'blob.py' does not exist"),
        ({"workload": "blobs.py:biuld"}, {"retry_failed": True}, "has no function 'biuld'"),
        ({"seeds": [0, 1]}, {"workers": 0}, "workers must be an integer of at least 1"),
        ({}, {"threads": 0, "retry_failed": True}, "threads must be an integer of at least 1"),
    ],
    ids=str,
)
def test_a_comparison_that_is_refused_leaves_its_folder_as_it_was(
    blob_spec: MakeSpec, tmp_path: Path, changes: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with RunFolder.open(tmp_path / "run", blob_spec().to_dict(), [trial.id for trial in blob_spec().trials()]) as run:
        failed = structs.replace(trials.empty_record(blob_spec().trials()[0]), status="failed", error="a mistake")
        run.append(failed)
    before = contents(tmp_path / "run")
    with pytest.raises((CyclrError, ValueError), match=message):
        compare(blob_spec().replace(**changes), tmp_path / "run", **options)
    assert contents(tmp_path / "run") == before


def test_a_folder_that_is_finished_opens_without_the_users_file_and_the_engine(
    blob_spec: MakeSpec, blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunFolder.open(tmp_path / "run", blob_spec().to_dict(), [trial.id for trial in blob_spec().trials()]) as run:
        run.append(trials.empty_record(blob_spec().trials()[0]))
    (blobs / "blobs.py").unlink()
    monkeypatch.setitem(sys.modules, "ray", None)
    for engine in ("local", "ray"):
        assert len(compare(blob_spec(), tmp_path / "run", engine=engine)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "from blobs import build",
        "from blobs import *",
        "import blobs as build",
        "build = print",
        "if True:\n    def build(): ...",
        "class build: ...",
    ],
)
def test_functions_may_be_made_in_any_way(blob_spec: MakeSpec, blobs: Path, source: str) -> None:
    (blobs / "user_model.py").write_text(source)
    workloads.check(blob_spec().replace(workload="user_model.py:build").trials()[0])


def test_failed_trials_of_a_corrected_typo_are_removed(blob_spec: MakeSpec, tmp_path: Path) -> None:
    (record,) = compare(blob_spec("raises"), tmp_path / "run", workers=1)
    assert record.status == "failed"
    (record,) = compare(blob_spec(), tmp_path / "run", workers=1)
    assert record.status == "ok"


@pytest.fixture(scope="module")
def kills() -> ModuleType:
    """The benchmark, which kills comparisons that train torch models; its code is shared."""
    spec = importlib.util.spec_from_file_location("compare_kills", KILLS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LIGHT = """
import os, random, time
from pathlib import Path

def build():
    (Path(__file__).parent / f"worker-{os.getpid()}").touch()
    time.sleep(random.uniform(0.05, 0.1))
    raise OSError("x" * 200_000)
"""


def test_twenty_kills_at_random_moments_lose_nothing_and_repeat_nothing(kills: ModuleType, tmp_path: Path) -> None:
    # Trials that need no framework: they end by an error, and are recorded, in long lines, as any other is.
    (tmp_path / "light.py").write_text(LIGHT)
    spec = Spec(
        [{"kind": "fixed", "lr": [0.1, 0.2]}],
        workload="light.py:build",
        epochs=1,
        seeds=range(40),
        folder=str(tmp_path),
    )
    table: list[str] = []
    outcome = kills.kill_at_random(
        spec, tmp_path / "run", random.Random(6), kills=20, events=3, wait=0.2, tell=table.append
    )
    assert (outcome.lost, outcome.left) == (set(), set()), table
    assert sorted(outcome.records) == sorted(trial.id for trial in spec.trials()), table
    assert {record.status for record in read_records(tmp_path / "run")} == {"failed"}
    # The kills were spread over the whole of it.
    assert outcome.killed >= 15, table
    assert len({line.split()[3] for line in table[1:]}) >= 10, table


def test_a_comparison_that_is_killed_loses_nothing_and_repeats_nothing(
    kills: ModuleType, blob_spec: MakeSpec, blobs: Path, tmp_path: Path, timeless: Callable[[Any], Any]
) -> None:
    spec = blob_spec(policies=POLICIES, seeds=[0, 1, 2], range_test=RANGE_TEST, epochs=4)
    run = tmp_path / "run"
    recorded: list[str] = []
    # Killed in the middle of training, and right after a record.
    for moment, count in (("Epoch", 3), ("Finished", 3)):
        process = subprocess.Popen(kills.command(spec, run), stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        heard = []
        for line in process.stdout:
            heard.append(line.split()[0])
            if heard.count(moment) == count:
                break
        else:
            pytest.fail(f"{moment} was not heard {count} times: {heard}")
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        for worker in workers_of(blobs):
            assert gone(worker), "a worker outlived its driver"
        names = [record.trial for record in read_records(run)]
        assert names[: len(recorded)] == recorded
        assert len(names) >= len(recorded) + heard.count("Finished")
        recorded = names
    assert len(recorded) < 9

    records = compare(spec, run, workers=2)
    names = [json.loads(line)["trial"] for line in (run / "records.jsonl").read_text().splitlines()]
    assert sorted(names) == sorted(trial.id for trial in spec.trials())
    assert names[: len(recorded)] == recorded
    assert all(record.status == "ok" for record in records)
    sample = spec.trials()[-1]
    assert timeless(trials.run_trial(sample)) in [timeless(record) for record in records]


def test_ctrl_c_ends_workers_and_leaves_the_folder_whole(blob_spec: MakeSpec, blobs: Path, tmp_path: Path) -> None:
    spec = blob_spec(seeds=[0, 1], epochs=10_000)

    def interrupt(event: Event) -> None:
        if isinstance(event, Progress) and event.stage == "training":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(spec, tmp_path / "run", workers=1, tell=interrupt)
    assert all(gone(worker) for worker in workers_of(blobs))
    assert read_records(tmp_path / "run") == []


class Broken:
    """A tracker whose server is gone after the first epoch."""

    def __init__(self) -> None:
        self.calls = 0

    def epoch(self, trial: Trial, values: dict[str, float]) -> None:
        self.calls += 1
        if self.calls > 1:
            raise TimeoutError("no answer from the server")

    def finish(self, trial: Trial, record: Record) -> None:
        raise TimeoutError("no answer from the server")


def test_a_tracker_that_raises_is_reported_once_and_ends_no_trial(blob_spec: MakeSpec, tmp_path: Path) -> None:
    class Counter(Broken):
        def epoch(self, trial: Trial, values: dict[str, float]) -> None:
            self.calls += 1

        def finish(self, trial: Trial, record: Record) -> None:
            self.calls += 1

    broken, whole = Broken(), Counter()
    spec = blob_spec(seeds=[0, 1, 2])
    with pytest.warns(UserWarning, match="Broken failed .*TimeoutError: no answer from the server") as warned:
        records = compare(spec, tmp_path / "run", workers=1, trackers=[broken, whole])
    assert len(warned) == 1
    assert [record.status for record in records] == ["ok"] * 3
    assert (broken.calls, whole.calls) == (2, 9)


def test_workers_end_when_a_record_cannot_be_saved(
    blob_spec: MakeSpec, blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: RunFolder, record: Record) -> None:
        raise RunFolderError("the disk is full")

    monkeypatch.setattr(RunFolder, "append", refuse)
    with pytest.raises(RunFolderError, match="the disk is full") as raised:
        compare(blob_spec(seeds=[0, 1]), tmp_path / "run", workers=1)
    # The traceback, which holds the frames, is still there.
    assert raised.tb is not None
    assert workers_of(blobs)
    assert all(gone(worker) for worker in workers_of(blobs))


def test_a_second_process_is_refused(blob_spec: MakeSpec, tmp_path: Path) -> None:
    spec = blob_spec()

    def again(event: Event) -> None:
        if isinstance(event, Started):
            with pytest.raises(RunFolderError, match="is in use: process"):
                compare(spec, tmp_path / "run")
            raise StopIteration

    with pytest.raises(StopIteration):
        compare(spec, tmp_path / "run", workers=1, tell=again)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"workers": 0}, "workers must be an integer of at least 1"),
        ({"threads": 0}, "threads must be an integer of at least 1"),
        ({"retries": -1}, "retries must be an integer of at least 0"),
    ],
)
def test_options_are_checked_at_once(options: dict[str, int], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        LocalEngine(**options)  # type: ignore[arg-type]
