"""The command line, as a user runs it: real processes for real work, the parser alone for what it refuses."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

import cyclr
from cyclr.cli.app import app
from cyclr.cli.main import keeping_interrupts

COMMAND = [sys.executable, "-m", "cyclr"]
ENVIRONMENT = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "COLUMNS": "200"}

MODEL = """
import keras
from neighbour import UNITS

def build():
    layers = [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(UNITS, "softmax")]
    model = keras.Sequential(layers)
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model

def frozen():
    # The same for every batch: noise would be taken for a fall in one test of twenty.
    model = build()
    model.set_weights([weights * 0 for weights in model.get_weights()])
    model.compile(keras.optimizers.SGD(0.1, clipvalue=1e-12), "sparse_categorical_crossentropy")
    return model

def not_compiled():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])

def nothing():
    return None
"""


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)


def refuse(*arguments: str) -> str:
    """What the command says when it refuses, with exit code 1."""
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    return result.output


@pytest.fixture
def models(tmp_path: Path) -> Path:
    (tmp_path / "neighbour.py").write_text("UNITS = 10\n")
    (tmp_path / "models.py").write_text(MODEL)
    return tmp_path


def test_demo_runs_end_to_end(tmp_path: Path) -> None:
    result = run("demo", "--epochs", "2", "--batch-size", "128", "--output", "out", cwd=tmp_path)

    assert result.returncode == 0, result.stderr
    assert "Range test" in result.stdout
    assert "Step size" in result.stdout
    assert "best validation accuracy" in result.stdout
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"range_test.png", "schedule.png", "accuracy.png", "results.json"}
    for picture in (tmp_path / "out").glob("*.png"):
        assert picture.read_bytes().startswith(b"\x89PNG")
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    tested = cyclr.RangeTestResult.from_dict(content["range_test"])
    schedule = cyclr.Schedule.from_dict(content["schedule"])
    steps = content["runs"][0]["steps"]
    assert steps == content["runs"][1]["steps"] == [12, 24]
    assert schedule(steps[-1] - 1) == tested.bounds.base_lr


@pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")
def test_ctrl_c_ends_cleanly(tmp_path: Path) -> None:
    # A process that is started in the background by a script inherits that the signal is ignored; one that has a
    # handler here starts its children with the signal's default.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [*COMMAND, "demo", "--epochs", "1000", "--output", "out"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    signal.signal(signal.SIGINT, before)
    with process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            assert first.startswith("digits"), first
            time.sleep(8)
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=60)
        finally:
            process.kill()

    assert process.returncode == 130, stderr
    assert "Interrupted" in stderr
    assert "Traceback" not in stderr
    assert list((tmp_path / "out").iterdir()) == []


LOST = """
import gc, signal, sys, time
from cyclr.cli.main import keeping_interrupts

def interrupt(phase, info):
    gc.callbacks.remove(interrupt)
    signal.raise_signal(signal.SIGINT)

sys.unraisablehook = keeping_interrupts(sys.unraisablehook)
signal.signal(signal.SIGINT, signal.default_int_handler)
gc.callbacks.append(interrupt)
try:
    gc.collect()
    print("collected", flush=True)
    for _ in range(1000):
        time.sleep(0.01)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_is_not_lost_in_a_garbage_collection() -> None:
    result = subprocess.run([sys.executable, "-c", LOST], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["collected", "interrupted"]
    assert result.stderr == ""


def test_what_else_cannot_be_raised_is_reported_as_ever() -> None:
    heard: list[Any] = []
    unraisable = SimpleNamespace(exc_type=ValueError)
    keeping_interrupts(heard.append)(unraisable)
    assert heard == [unraisable]


def test_range_test_of_a_users_model(models: Path) -> None:
    result = run("range-test", "--model", "models.py:build", "--steps", "60", "--batch-size", "64", cwd=models)

    assert result.returncode == 0, result.stderr
    assert "base_lr" in result.stdout
    saved = cyclr.RangeTestResult.load(models / "cyclr-range-test" / "range_test.json")
    assert saved.steps == 60
    assert saved.bounds.usable
    assert (models / "cyclr-range-test" / "range_test.png").read_bytes().startswith(b"\x89PNG")


def test_range_test_without_bounds_has_an_exit_code_of_its_own(models: Path) -> None:
    result = run("range-test", "--model", "models.py:frozen", "--steps", "40", cwd=models)

    assert result.returncode == 3, result.stderr
    assert "no bounds" in result.stdout
    assert "flat" in result.stdout


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("models.py", r"workload must be 'cnn', 'mlp' or FILE\.py:function; got 'models\.py'"),
        ("missing.py:build", r"there is no file 'missing\.py'"),
        ("models.py:missing", r"has no function 'missing'; it has build, frozen, not_compiled, nothing"),
        ("models.py:nothing", r"must return a compiled keras\.Model or a torch\.nn\.Module, and data; got a NoneType"),
        ("models.py:not_compiled", r"must return a compiled model\. Call model\.compile"),
    ],
)
def test_range_test_refuses_what_is_no_model(
    models: Path, monkeypatch: pytest.MonkeyPatch, model: str, message: str
) -> None:
    monkeypatch.chdir(models)
    assert re.search(message, refuse("range-test", "--model", model, "--steps", "20"))


def test_an_unknown_data_set_is_answered_with_those_that_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = refuse("demo", "--data", "mnst")
    assert "Did you mean 'mnist'?" in said
    assert "digits, mnist, fashion_mnist, cifar10" in said


def test_an_output_folder_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("")
    for output in (occupied, occupied / "below"):
        said = refuse("demo", "--data", "no-such-data", "--output", str(output))
        assert "output must be a folder that can be written" in said
        assert "--output DIR" in said


def test_plot_draws_a_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["plot", "--mode", "triangular2", "--step-size", "100", "--output", "a.png"])
    assert result.exit_code == 0, result.output
    assert "Halving" in result.output
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_plot_draws_any_schedule_from_its_description(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    schedule = cyclr.Cyclical.over(101, 3, 0.01, 0.5, shape="sinusoidal")
    (tmp_path / "schedule.json").write_text(json.dumps(schedule.to_dict()))
    result = CliRunner().invoke(app, ["plot", "--schedule", "schedule.json", "--output", "b.svg"])
    assert result.exit_code == 0, result.output
    assert "sinusoidal" in result.output
    assert "<svg" in (tmp_path / "b.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--base-lr", "0.1", "--max-lr", "0.01"], "max_lr must be greater than base_lr"),
        (["--base-lr", "-1"], "base_lr must be a finite number at least 0"),
        (["--gamma", "2", "--mode", "exp_range"], "gamma must be"),
        (["--schedule", "missing.json"], "missing.json"),
        (["--schedule", "broken.json"], "schedule must be a JSON file"),
        (["--schedule", "other.json"], "schedule must be one of"),
        (["--output", "missing/folder.png"], "missing/folder.png"),
    ],
)
def test_plot_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "other.json").write_text('{"schedule": "Wobbly"}')
    assert message in refuse("plot", *arguments)


@pytest.mark.parametrize("arguments", [["demo", "--epochs", "0"], ["plot", "--shape", "square"], ["no-such-command"]])
def test_wrong_usage_has_exit_code_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2


def test_help_teaches() -> None:
    result = CliRunner().invoke(app, ["--help"], terminal_width=120)
    assert result.exit_code == 0
    for word in ("demo", "range-test", "plot", "report", "Exit codes"):
        assert word in result.output
    for command in ("demo", "range-test", "plot", "report"):
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0


def test_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).output.strip() == f"cyclr {cyclr.__version__}"


def test_a_missing_extra_names_the_command_that_installs_it(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise ImportError\n")
    environment = {**ENVIRONMENT, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run([*COMMAND, "demo"], env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert 'pip install "cyclr[cli]"' in result.stderr
    assert "Traceback" not in result.stderr
