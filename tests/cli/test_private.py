"""`cyclr` writes and prints nothing private, even if options, the environment, files and errors contain secrets."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest
from tests.processes import run

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed", allow_module_level=True)

PRIVATE = ("alicia", "hunter2", "b0b", "s3cret", "swordfish", "tracker.ex")
MODEL = """
import os, sys, warnings
print("signed in as", os.environ["USER"], "with", os.environ["WANDB_API_KEY"])
warnings.warn("reading /home/alicia/data")
def build():
    os.environ["HF_TOKEN"] = "swordfish-1"
    raise OSError(f"403 for https%3A%2F%2Fb0b%3Ahunter2%40tracker.example {os.environ['HF_TOKEN']} in {os.getcwd()}")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "people" / "alicia" / "project"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(MODEL)
    return folder


def environment(project: Path) -> dict[str, str]:
    private = {"HOME": str(project.parent), "USER": "alicia", "LOGNAME": "alicia", "WANDB_API_KEY": "s3cret-key"}
    return {**os.environ, **private, "MLFLOW_TRACKING_URI": "https://b0b:hunter2@tracker.example"}


def assert_nothing_private(*texts: str) -> None:
    assert [(word, text) for word in PRIVATE for text in texts if word in text] == []


def test_a_comparison_writes_and_prints_nothing_private(project: Path) -> None:
    command = [sys.executable, "-m", "cyclr"]
    compare = [*command, "compare", "--workload", f"{project}/model.py:build", "--policy", "fixed:0.1", "--epochs", "1"]
    compare += ["--seeds", "1", "--output", f"{project}/run", "--tensorboard", f"{project}/logs", "--workers", "1"]
    done = run(compare, status=1, env=environment(project), cwd=project)
    report = run([*command, "report", f"{project}/run"], env=environment(project), cwd=project)
    assert "***" in done.stdout
    assert "~/project/run/records.jsonl" in done.stdout
    files = {path: path.read_text(errors="replace") for path in project.rglob("*") if path.is_file()}
    del files[project / "model.py"]
    assert {"run.json", "records.jsonl", "report.html"} <= {path.name for path in files}
    assert_nothing_private(done.stdout, done.stderr, report.stdout, *files.values())
    assert_nothing_private(*(str(path.relative_to(project)) for path in files))


def test_a_failing_range_test_and_usage_errors_print_nothing_private(project: Path) -> None:
    test = [sys.executable, "-m", "cyclr", "range-test", "--model", f"{project}/model.py:build"]
    for more, status in (
        ([], 1),
        (["https://b0b:hunter2@tracker.example"], 2),
        (["--output", f"{project}/model.py"], 1),
    ):
        done = run([*test, *more], status=status, env=environment(project), cwd=project)
        assert done.stderr
        assert_nothing_private(done.stdout, done.stderr)
