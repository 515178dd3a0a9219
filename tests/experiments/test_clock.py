"""A wall clock that jumps changes no duration, no progress and no record, because it is used only for dates."""

import re
import time
from pathlib import Path

import pytest
from rich.console import Console

import cyclr
from cyclr.cli.live import Board
from cyclr.experiments import Spec, compare
from cyclr.records import read_records

SOURCES = Path(cyclr.__file__).parent


def test_only_dates_are_read_from_the_wall_clock() -> None:
    found = {
        f"{path.relative_to(SOURCES)}: {line.strip()}"
        for path in SOURCES.rglob("*.py")
        for line in path.read_text().splitlines()
        if re.search(r"\btime\.time|\.now\(|\.today\(|st_[mac]time", line)
    }
    with_dates = {"records/record.py", "range_test/conditions.py", "experiments/tracking.py"}
    assert {line.partition(":")[0] for line in found} <= with_dates, found


def test_a_comparison_on_a_clock_that_jumps_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = time.time, iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: real() + (-1) ** next(calls) * 1e6)
    (tmp_path / "light.py").write_text("def build(): raise OSError('no data')")
    light = {"workload": "light.py:build", "epochs": 1, "seeds": [0], "folder": str(tmp_path)}
    spec = Spec([{"kind": "fixed", "lr": [0.1, 0.2]}], **light)  # type: ignore[arg-type]
    console = Console(force_terminal=True, width=80, file=(tmp_path / "shown").open("w"))
    with Board(console, spec.metric) as board:
        records = compare(spec, tmp_path / "run", workers=1, tell=board)
        (task,) = board.tasks
        assert 0 <= (task.elapsed or 0) < 1000
    console.file.close()
    assert read_records(tmp_path / "run") == records
    assert [record.seconds for record in records] == [0.0, 0.0]
