"""`cyclr demo`, and the pages that it and `cyclr report` offer to open."""

import importlib.util
import os
import re
import shutil
import sys
import webbrowser
from pathlib import Path
from typing import Any

import pytest
from tests.processes import run
from typer.testing import CliRunner

import cyclr
from cyclr.cli import options
from cyclr.cli.app import app
from cyclr.experiments.demo import AUTO, CYCLE, TOO_HIGH, demo_spec
from cyclr.records import RunFolder, read_records

COMMAND = [sys.executable, "-m", "cyclr", "demo"]
# Keras on torch, which is imported in a third of the time.
ENVIRONMENT = {**os.environ, "KERAS_BACKEND": "torch", "COLUMNS": "200"}
BLOBS = Path(__file__).parents[1] / "experiments" / "blobs.py"
PICTURES = {"range_test.png", "schedule.png", "accuracy.png"}
WRITTEN = {*PICTURES, "report.html", "run.json", "records.jsonl", ".lock"}

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


def refuse(*arguments: str) -> str:
    """What the command says when it refuses, with exit code 1."""
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    return result.output


@needs_torch
def test_the_demo_compares_cycles_with_a_grid_and_writes_a_page(tmp_path: Path) -> None:
    command = [*COMMAND, "--model", "mlp", "--epochs", "4", "--batch-size", "100", "--output", "out"]
    said = run(command, cwd=tmp_path, env=ENVIRONMENT).stdout
    assert said.startswith("digits: 1,437 training and 360 validation images of 8×8×1, 10 classes")
    for part in (
        "Model mlp, optimizer Adam, batch size 100, 4 epochs, seed 0",
        "Range test",
        "the fixed rates 0.0003, 0.001, 0.003, 0.01, which are 0.3, 1, 3 and 10 times the usual 0.001 for Adam",
        "of 360 validation images (",
        "can be noise.",
        "AutoCycle from ten times these bounds:",
        "Written: out/report.html",
    ):
        assert part in said, part
    assert "the 4 fixed rates 240." in said
    # What a picture does not show.
    assert "Step size" not in said
    folder = tmp_path / "out"
    assert {path.name for path in folder.iterdir()} == WRITTEN
    for picture in PICTURES:
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
    records = {record.policy: record for record in read_records(folder)}
    fixed = {f"fixed {rate}" for rate in (0.0003, 0.001, 0.003, 0.01)}
    assert records.keys() == {CYCLE, AUTO, *TOO_HIGH, *fixed}
    cycle: Any = records[CYCLE]
    assert f"Steps include the {cycle.range_test_steps} updates of the range test." in said
    assert all(record.epochs["step"] == [15, 30, 45, 60] for record in records.values())
    bounds = cycle.range_test.bounds
    assert cycle.schedule == bounds.schedule(total_steps=60)
    too_high: Any = records[TOO_HIGH[0]].schedule
    assert [too_high.base_lr, too_high.max_lr] == pytest.approx([10 * lr for lr in bounds])
    page = (folder / "report.html").read_text()
    assert all(policy in page for policy in records)

    # The command for more seeds goes on with the same comparison.
    assert "  cyclr compare --output out --seeds 5" in said
    run([*COMMAND[:-1], "compare", "--output", "out", "--seeds", "2"], cwd=tmp_path, env=ENVIRONMENT)
    assert len(read_records(folder)) == 16

    # The same command shows the same results, and trains nothing.
    before = (folder / "records.jsonl").read_bytes()
    (folder / "report.html").unlink()
    said = run(command, cwd=tmp_path, env=ENVIRONMENT).stdout
    assert "fixed 0.01, " in said.replace("\n", " ")
    assert "already trained. To train again, add --overwrite." in said
    assert "This is one seed" in said
    assert (folder / "records.jsonl").read_bytes() == before
    assert {path.name for path in folder.iterdir()} == WRITTEN
    result = CliRunner().invoke(app, ["report", str(folder), "--overwrite"])
    assert result.exit_code == 0, result.output


@needs_torch
def test_the_demo_runs_on_the_users_own_model(tmp_path: Path) -> None:
    shutil.copy(BLOBS, tmp_path)
    command = [*COMMAND, "--model", "blobs.py:build", "--epochs", "8", "--batch-size", "20"]
    said = run(command, cwd=tmp_path, env=ENVIRONMENT).stdout
    assert "Model blobs.py:build, optimizer its own" in said
    assert "the fixed rates 0.003, 0.01, 0.03, 0.1, which are 0.3, 1, 3 and 10 times the usual 0.01 for SGD" in said
    assert "This is one seed." in said
    assert "validation images" not in said
    assert {path.name for path in (tmp_path / "cyclr-demo").iterdir()} == WRITTEN

    refused = run([*command, "--epochs", "4"], cwd=tmp_path, env=ENVIRONMENT, status=1)
    assert "Add --overwrite" in refused.stderr
    run([*command, "--epochs", "4", "--overwrite"], cwd=tmp_path, env=ENVIRONMENT)
    assert {record.total_steps for record in read_records(tmp_path / "cyclr-demo")} == {64}


@needs_torch
@pytest.mark.parametrize(("function", "said"), [("raises", "a mistake of the user"), ("no_model", "must return a")])
def test_a_model_that_cannot_be_tested_leaves_no_folder(tmp_path: Path, function: str, said: str) -> None:
    shutil.copy(BLOBS, tmp_path)
    result = run([*COMMAND, "--model", f"blobs.py:{function}"], cwd=tmp_path, env=ENVIRONMENT, status=1)
    assert said in result.stdout + result.stderr
    # The traceback in the user's file, and no other.
    lines = re.findall(r'File "(.*?)"', result.stdout + result.stderr)
    assert {*lines} == ({str(tmp_path / "blobs.py")} if function == "raises" else set())
    assert not (tmp_path / "cyclr-demo").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--data", "mnst"], "Did you mean 'mnist'?"),
        (["--model", "ccn"], "Did you mean 'cnn'? Write cnn, mlp, or FILE.py:function"),
        (["--model", "missing.py:build"], "missing.py"),
        (["--model", "model.py:biuld"], "Did you mean 'build'? It has build"),
        (["--metric", "accuracy"], "metric must be a validation metric"),
        (["--output", "model.py"], "output must be a folder that can be written"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_loaded_or_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model.py").write_text("def build(): raise SystemExit\n")
    loaded = set(sys.modules)
    assert said in refuse("demo", *arguments).replace("\n", " ")
    assert not {"keras", "torch", "tensorflow", "jax"} & (set(sys.modules) - loaded)
    assert [path.name for path in tmp_path.iterdir()] == ["model.py"]


def test_a_backend_that_is_not_installed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "jax" else find(name))
    assert "backend 'jax' is not installed" in refuse("demo", "--backend", "jax")
    assert [*tmp_path.iterdir()] == []


def test_a_folder_in_use_by_another_demo_is_not_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec = demo_spec()
    with RunFolder.open("cyclr-demo", spec.to_dict(), [trial.id for trial in spec.trials()]):
        assert "is in use" in refuse("demo")
        assert {path.name for path in Path("cyclr-demo").iterdir()} == {"run.json", "records.jsonl", ".lock"}


class Browser:
    """A browser that remembers what it was to open."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.opened: list[str] = []

    def open(self, uri: str) -> bool:
        self.opened.append(uri)
        return True


@pytest.mark.parametrize(
    ("name", "arguments", "terminal", "answer", "opens"),
    [
        ("firefox", ["--open"], False, "", True),
        ("firefox", [], False, "", False),
        ("firefox", [], True, "y\n", True),
        ("firefox", [], True, "\n", True),
        ("firefox", [], True, "n\n", False),
        ("firefox", ["--no-open"], True, "", False),
        ("/usr/bin/www-browser", ["--open"], True, "", False),
        ("w3m", [], True, "", False),
        (None, ["--open"], False, "", False),
        (None, [], True, "", False),
    ],
)
def test_a_page_is_opened_if_the_user_wants_it_and_a_browser_can_show_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str | None,
    arguments: list[str],
    terminal: bool,
    answer: str,
    opens: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    cyclr.RangeTestResult([0.1, 0.2], [1.0, 2.0], "completed", 0.1, 0.2, 2).save("range_test.json")
    browser = Browser(name or "")

    def get() -> Browser:
        if name is None:
            raise webbrowser.Error("could not locate runnable browser")
        return browser

    monkeypatch.setattr(webbrowser, "get", get)
    monkeypatch.setattr(options, "is_interactive", lambda: terminal)
    result = CliRunner().invoke(app, ["report", "range_test.json", *arguments], input=answer)
    assert result.exit_code == 0, result.output
    assert browser.opened == ([(tmp_path / "range_test.html").as_uri()] if opens else [])
    assert ("Open the page" in result.output) == (bool(answer))
    assert ("No graphical browser was found" in result.output) == (name != "firefox" and "--open" in arguments)
