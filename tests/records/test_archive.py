"""Files that every version wrote stay readable, with the same ids, values and summary; `tests/archive` holds them.

`tests/archive/write.py VERSION` writes those of the next release.
"""

import csv
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import cyclr
from cyclr.cli.app import app
from cyclr.experiments import Spec
from cyclr.records import RunFolder, read_records, summarize, write_csv
from cyclr.records.record import decode, encode

ARCHIVE = Path(__file__).parents[1] / "archive"
IDS = json.loads((ARCHIVE / "ids.json").read_text())
LINES = [json.loads(line) for line in (ARCHIVE / "run" / "records.jsonl").read_text().splitlines()]
SCHEDULES = json.loads((ARCHIVE / "schedules.json").read_text())


SINCE = {"Warmup": {"over": False}}
"""Arguments of schedules that were added since, with the values that older files mean."""


def as_before(described: Any) -> Any:
    """A description without the arguments that were added since."""
    if isinstance(described, list):
        return [as_before(one) for one in described]
    if not isinstance(described, dict):
        return described
    added = SINCE.get(described.get("schedule"), {}).items()
    assert added <= described.items()
    return {name: as_before(value) for name, value in described.items() if (name, value) not in added}


def test_the_ids_of_a_specification_are_those_of_its_records() -> None:
    trials = Spec.from_toml(ARCHIVE / "spec.toml").trials()
    assert [trial.id for trial in trials] == IDS["spec.toml"]
    held = json.loads((ARCHIVE / "run" / "run.json").read_text())["spec"]
    assert [trial.id for trial in Spec.from_dict(held).trials()] == IDS["spec.toml"]
    assert sorted(IDS["run"]) == sorted(IDS["spec.toml"])


def test_every_record_is_read_with_every_value() -> None:
    run = RunFolder.read(ARCHIVE / "run")
    assert [record.trial for record in run.records] == IDS["run"]
    assert not run.torn
    for record, line in zip(run.records, LINES, strict=True):
        for name, value in line.items():
            found = getattr(record, name)
            assert (as_before(found.to_dict()) if name in ("schedule", "range_test") and found else found) == value
    assert {record.status for record in run.records} == {"ok", "diverged", "failed"}
    assert any(None in record.epochs.get("val_loss", ()) for record in run.records)
    assert any(record.range_test is not None and len(record.range_test.runs) == 2 for record in run.records)
    (resumed,) = run.about["resumed"]
    assert list(resumed["dropped"]) == ["fixed-0.2-seed-0-d35f92835c"]


def test_an_incomplete_last_record_is_left_out() -> None:
    run = RunFolder.read(ARCHIVE / "torn")
    assert run.torn
    assert [record.trial for record in run.records] == IDS["run"][:3]


def test_an_archived_comparison_continues_with_its_missing_trials(tmp_path: Path) -> None:
    for name in ("run", "torn"):
        shutil.copytree(ARCHIVE / name, tmp_path / name)
        spec = Spec.from_toml(ARCHIVE / "spec.toml")
        trials = {trial.id: trial for trial in spec.trials()}
        sha256 = next(iter(trials.values())).file_sha256
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            run = RunFolder.open(tmp_path / name, spec.to_dict(), trials, workload_sha256=sha256)
        with run:
            assert set(run.missing(trials)) == (set() if name == "run" else set(trials) - set(IDS["run"][:3]))


def test_the_summary_has_the_archived_numbers(tmp_path: Path) -> None:
    write_csv(summarize(read_records(ARCHIVE / "run")), tmp_path / "table.csv")
    with (ARCHIVE / "table.csv").open(newline="") as before, (tmp_path / "table.csv").open(newline="") as now:
        rows, found = list(csv.DictReader(before)), list(csv.DictReader(now))
    assert list(found[0]) == list(rows[0])
    # The intervals of differences are adjusted for the number of policies since; of two seeds they prove nothing.
    since = {"difference_low", "difference_high", "verdict"}
    assert {row["policy"]: row["verdict"] for row in rows if row["verdict"] == "worse"} == {"fixed 0.01": "worse"}
    assert {row["verdict"] for row in found} == {"baseline", "within noise", "no result"}
    for row, one in zip(rows, found, strict=True):
        assert {name: value for name, value in one.items() if name not in since} == {
            name: value for name, value in row.items() if name not in since
        }


def test_the_command_line_prints_the_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ARCHIVE)
    monkeypatch.setenv("COLUMNS", "80")
    said = CliRunner().invoke(app, ["compare", "--summary", "--output", "run"])
    assert said.exit_code == 1, said.output
    assert said.output == (ARCHIVE / "summary.txt").read_text()


@pytest.mark.parametrize("name", SCHEDULES["schedules"])
def test_archived_schedules_give_their_archived_values(name: str) -> None:
    held = SCHEDULES["schedules"][name]
    schedule = cyclr.Schedule.from_dict(held["description"])
    assert as_before(schedule.to_dict()) == held["description"]
    assert [schedule(step) for step in SCHEDULES["steps"]] == pytest.approx(held["values"], rel=1e-15, abs=0)


def results() -> list[Any]:
    content = json.loads((ARCHIVE / "demo" / "results.json").read_text())
    return [json.loads((ARCHIVE / "range_test.json").read_text()), content["range_test"]]


@pytest.mark.parametrize("held", results(), ids=["with repeats", "of the demo"])
def test_range_tests_are_read_with_their_bounds(held: dict[str, Any]) -> None:
    result = cyclr.RangeTestResult.from_dict(held)
    assert result.to_dict() == held
    assert result.bounds.to_dict() == held["bounds"]


def test_the_schedule_of_a_demo_is_read() -> None:
    content = json.loads((ARCHIVE / "demo" / "results.json").read_text())
    assert cyclr.Schedule.from_dict(content["schedule"]).to_dict() == content["schedule"]


def test_nothing_in_the_archive_names_a_person_or_a_machine() -> None:
    for path in ARCHIVE.rglob("*.json*"):
        text = path.read_text()
        assert "/home/" not in text
        assert "/root/" not in text
    assert json.loads((ARCHIVE / "run" / "run.json").read_text())["hardware"]["host"] == "machine"


RELEASES = {path.stem: json.loads(path.read_text()) for path in sorted(ARCHIVE.glob("[0-9]*.json"))}


@pytest.mark.parametrize("release", RELEASES)
def test_what_a_release_wrote_is_read_with_every_value(release: str) -> None:
    held = RELEASES[release]
    for one in held["schedules"].values():
        schedule = cyclr.Schedule.from_dict(one["description"])
        assert schedule.to_dict() == one["description"]
        assert [schedule(step) for step in held["steps"]] == pytest.approx(one["values"], rel=1e-13, abs=0)
    result = cyclr.RangeTestResult.from_dict(held["range_test"])
    assert json.loads(json.dumps(result.to_dict())) == held["range_test"]
    read = decode(json.dumps(held["record"]).encode(), release)
    assert held["record"].items() <= json.loads(encode(read)).items()


@pytest.mark.parametrize("release", RELEASES)
def test_the_states_of_a_release_are_continued(release: str) -> None:
    for state in RELEASES[release]["auto_cycle"]:
        auto = cyclr.AutoCycle(state["total_steps"], state=Number())
        auto.load_state_dict(state)
        assert auto.last_step == state["step"]
        saved = json.loads(json.dumps(auto.state_dict()))
        assert {name: repr(saved[name]) for name in state} == {name: repr(value) for name, value in state.items()}
        auto.step(0.001)


class Number:
    """A training state."""

    def copy(self) -> float:
        return 1.0

    def restore(self, copy: Any) -> None:
        """Nothing to restore."""
