"""A run folder in any order of writing, stopping, tearing, dropping and continuing: complete records are kept."""

import shutil
import tempfile
import warnings
from pathlib import Path

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from tests.stateful import Machine, searched

from cyclr.errors import RunFolderError
from cyclr.records import Record, RunFolder
from cyclr.records.record import encode

from .conftest import make

SPEC = {"workload": "mlp", "metric": "val_accuracy", "direction": "max"}
ALL = {record.trial: record for record in (make(f"fixed {lr}", seed, [0.5]) for lr in range(4) for seed in range(2))}
IDS = [*ALL]


class Comparison(Machine):
    """The model: the latest record of every trial, in order, and the ids that the comparison has."""

    @initialize(count=st.integers(1, len(IDS)))
    def begin(self, count):
        self.folder = Path(tempfile.mkdtemp()) / "run"
        self.ids = IDS[:count]
        self.records: dict[str, Record] = {}
        self.run = None
        self.torn = False
        self.started = 0

    def teardown(self):
        if hasattr(self, "folder"):
            self.close()
            shutil.rmtree(self.folder.parent)

    def close(self):
        if self.run is not None:
            self.run.close()
            self.run = None

    def opened(self, ids, **more):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".* has changed since")
            return RunFolder.open(self.folder, {**SPEC, **more}, ids)

    @precondition(lambda self: self.run is None)
    @rule(more=st.integers(0, 3))
    def open(self, more):
        """Go on, with more trials or the same."""
        self.ids = [*self.ids, *[name for name in IDS if name not in self.ids][:more]]
        self.run = self.opened(self.ids)
        self.drop({name for name in self.records if name not in self.ids})
        self.torn, self.started = False, self.started + 1

    @precondition(lambda self: self.run is None and self.started)
    @rule(data=st.data())
    def open_with_fewer(self, data):
        """Trials that failed are dropped with their policy; results are not."""
        ids = data.draw(st.lists(st.sampled_from(self.ids), min_size=1, unique=True))
        gone = {name for name in self.records if name not in ids}
        if any(self.records[name].status != "failed" for name in gone):
            before = self.content()
            with pytest.raises(RunFolderError, match="already holds results of another comparison"):
                self.opened(ids)
            assert self.content() == before
            return
        self.ids = [name for name in IDS if name in ids]
        self.run = self.opened(ids)
        self.drop(gone)
        self.torn, self.started = False, self.started + 1
        if gone:
            assert self.run.about["resumed"][-1]["dropped"].keys() == gone

    def drop(self, gone):
        self.records = {name: record for name, record in self.records.items() if name not in gone}

    @precondition(lambda self: self.run is None and self.started)
    @rule()
    def open_by_another_direction(self):
        if any(record.status != "failed" for record in self.records.values()):
            before = self.content()
            with pytest.raises(RunFolderError, match="direction"):
                self.opened(self.ids, direction="min")
            assert self.content() == before

    @rule()
    def second_writer_is_refused(self):
        if self.run is not None:
            before = self.content()
            with pytest.raises(RunFolderError, match="is in use"):
                self.opened(self.ids)
            assert self.content() == before

    @rule(data=st.data(), status=st.sampled_from(["ok", "failed", "diverged"]))
    def append(self, data, status):
        name = data.draw(st.sampled_from(self.ids))
        record = msgspec.structs.replace(ALL[name], status=status, error=None if status == "ok" else "why")
        if self.run is None:
            if self.started:
                with pytest.raises(RunFolderError, match="is not open for writing"):
                    RunFolder.read(self.folder).append(record)
            return
        self.run.append(record)
        self.records.pop(name, None)
        self.records[name] = record

    @rule()
    def finish(self):
        self.close()

    @precondition(lambda self: self.run is None and self.started and not self.torn)
    @rule(data=st.data())
    def tear(self, data):
        """A kill in the middle of a line, or a line that was written and not finished."""
        line = encode(ALL[data.draw(st.sampled_from(self.ids))])
        cut = data.draw(st.integers(1, len(line) - 1))
        with (self.folder / "records.jsonl").open("ab") as file:
            file.write(line[:cut])
        self.torn = True

    @precondition(lambda self: self.run is None and self.started)
    @rule(name=st.sampled_from([".run.json.1.tmp", ".records.jsonl.x.tmp"]))
    def left_by_a_kill(self, name):
        (self.folder / name).write_text("{")

    @precondition(lambda self: self.run is None and self.started)
    @rule()
    def lock_file_removed(self):
        (self.folder / ".lock").unlink(missing_ok=True)

    def content(self):
        files = {path.name: path.read_bytes() for path in self.folder.iterdir() if path.name != ".lock"}
        return {name: data for name, data in files.items() if not name.endswith(".tmp")}

    @invariant()
    def readers_see_the_records(self):
        if not hasattr(self, "folder"):
            return
        if not self.started:
            assert RunFolder.read(self.folder, missing_ok=True).missing(self.ids) == self.ids
            return
        for run in (RunFolder.read(self.folder), *([self.run] if self.run is not None else [])):
            assert run.records == [*self.records.values()]
            assert run.torn == self.torn
            assert run.missing(self.ids) == [name for name in self.ids if name not in self.records]
            failed = [name for name in self.ids if name not in self.records or self.records[name].status == "failed"]
            assert run.missing(self.ids, retry_failed=True) == failed
            assert len(run.about["resumed"]) == self.started - 1


TestComparison = searched(Comparison, 20, 30)
