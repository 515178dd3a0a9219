"""Reading every file and folder that cyclr writes: the reader returns the content, or an error describes the file."""

import json
from pathlib import Path

import pytest

import cyclr
from cyclr.errors import CyclrError, RunFolderError
from cyclr.records import Record, RunFolder
from cyclr.records.reading import read, unfit

RESULT = cyclr.RangeTestResult([0.1, 0.2], [1.0, 2.0], "completed", 0.1, 0.2, 2)
SCHEDULE = cyclr.Cyclical(0.01, 0.1, 50)
BOUNDS = cyclr.Bounds(0.01, 0.1, "ok", "for a test")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with everything that cyclr writes, and with what it does not."""
    monkeypatch.chdir(tmp_path)
    what = {"workload": "mlp", "policy": "fixed 0.1", "seed": 0, "optimizer": "SGD", "direction": "min"}
    with RunFolder.open("runs/one", {"metric": "val_loss", "direction": "min"}, ["a"]) as run:
        run.append(Record(trial="a", metric="val_loss", **what))  # type: ignore[arg-type]
    for name in ("test", "json", "text", "empty", "half"):
        Path(name).mkdir()
    RESULT.save("test/range_test.json")
    RESULT.save("json/mine.json")
    for name, content in (
        ("schedule", SCHEDULE.to_dict()),
        ("bounds", BOUNDS.to_dict()),
        ("list", [1]),
        ("odd", {"a": 1}),
    ):
        Path(f"{name}.json").write_text(json.dumps(content))
    Path("wrong.json").write_text(json.dumps({**SCHEDULE.to_dict(), "max_lr": "high"}))
    Path("renamed.json").write_bytes(Path("runs/one/run.json").read_bytes())
    Path("line.json").write_bytes(Path("runs/one/records.jsonl").read_bytes())
    Path("half/records.jsonl").write_bytes(Path("runs/one/records.jsonl").read_bytes())
    Path("text/notes.txt").write_text("mine")
    Path("members").mkdir()
    Path("members/members.json").write_text('{"version": 1, "suffix": ".h5", "shapes": {}, "members": []}')
    Path("picture.json").write_bytes(b"\x89PNG\r\n\x1a\n\xff")
    for name in (
        "page.html",
        "plot.PNG",
        "table.csv",
        "renamed.jsonl",
        "spec.toml",
        "model.py",
        "data.npz",
        "model.weights.h5",
    ):
        Path(name).write_bytes(b"\x89\0")
    return tmp_path


@pytest.mark.parametrize("path", ["runs/one", "runs/one/run.json", "runs/one/records.jsonl", "runs/one/"])
def test_a_run_is_read_from_its_folder_and_its_files(folder: Path, path: str) -> None:
    found = read(path)
    assert isinstance(found, RunFolder)
    assert [record.trial for record in found.records] == ["a"]


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("test", RESULT),
        ("test/range_test.json", RESULT),
        ("json/mine.json", RESULT),
        ("schedule.json", SCHEDULE),
        ("bounds.json", BOUNDS),
    ],
)
def test_results_schedules_and_bounds_are_read(folder: Path, path: str, content: object) -> None:
    assert read(path) == content
    assert read(folder / path) == content


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("runs", "holds neither a run nor a range test, but 'one'. Name one of these: runs/one."),
        ("json", "Name one of these: json/mine.json."),
        ("text", "but 'notes.txt'. Check the path."),
        ("empty", "is an empty folder"),
        ("half", "has records.jsonl, but no run.json"),
        ("half/records.jsonl", "has records.jsonl, but no run.json"),
        ("members", "holds the members of a Snapshots"),
        ("members/members.json", "holds the members of a Snapshots"),
        ("schedul.json", "'schedul.json' does not exist. Did you mean 'schedule.json'?"),
        ("runs/on", "Did you mean 'one'?"),
        ("no/such/folder", "Check the path."),
        ("list.json", "it holds a list"),
        ("odd.json", "it holds the entries 'a'"),
        ("wrong.json", "'wrong.json' cannot be read: the description of Cyclical"),
        ("renamed.json", "describes a run, but holds no results"),
        ("line.json", "holds records of trials"),
        ("renamed.jsonl", "holds records of trials"),
        ("picture.json", "it holds binary data"),
        ("page.html", "is a page already. Open it in a browser."),
        ("plot.PNG", "is a picture"),
        ("table.csv", "is a table"),
        ("spec.toml", "Run it: cyclr compare spec.toml"),
        ("model.py", "cyclr range-test --model model.py:function"),
        ("data.npz", "cyclr demo --data data.npz"),
        ("model.weights.h5", "holds the weights of a model"),
    ],
)
def test_errors_for_other_files_name_a_fitting_command(folder: Path, path: str, said: str) -> None:
    with pytest.raises(CyclrError) as caught:
        read(path)
    assert said in str(caught.value)


def test_the_results_of_an_early_demo_are_read_as_its_range_test() -> None:
    archived = Path(__file__).parents[1] / "archive" / "demo" / "results.json"
    assert read(archived) == cyclr.RangeTestResult.from_dict(json.loads(archived.read_text())["range_test"])


def test_a_damaged_run_says_which_line_is_damaged(folder: Path) -> None:
    with Path("runs/one/records.jsonl").open("a") as file:
        file.write("{}\n")
    with pytest.raises(RunFolderError, match="line 2"):
        read("runs/one")


def test_unfit_names_the_command_that_takes_the_file(folder: Path) -> None:
    for path, command in (
        ("runs/one", "cyclr report runs/one"),
        ("test", "cyclr report test"),
        ("schedule.json", "cyclr plot --schedule schedule.json"),
        ("bounds.json", "cyclr compare --policy schedule:bounds.json"),
    ):
        assert command in str(unfit(path, read(path)))
