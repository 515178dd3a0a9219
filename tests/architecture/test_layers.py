"""The direction of imports, as import-linter checks it by the contracts in pyproject.toml."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def lint_imports() -> str:
    """The command of this environment, whether or not it is on the path."""
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent)) or shutil.which("lint-imports")
    return command or pytest.skip("import-linter is not installed")


def test_imports_go_to_the_left_only():
    command = [lint_imports(), "--no-cache", "--config", str(ROOT / "pyproject.toml")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "0 broken" in run.stdout


def test_a_broken_contract_would_be_found(tmp_path):
    (tmp_path / "broken.toml").write_text(
        """
[tool.importlinter]
root_package = "cyclr"

[[tool.importlinter.contracts]]
name = "the wrong way round"
type = "layers"
layers = ["cyclr.schedules", "cyclr.bounds"]
"""
    )
    command = [lint_imports(), "--no-cache", "--config", str(tmp_path / "broken.toml")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 1
    assert "cyclr.bounds is not allowed to import" in run.stdout + run.stderr or "BROKEN" in run.stdout
