"""What scripts/environment.sh says while it sets up, and if that fails: run with Pythons and a pip that are made up."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "environment.sh"

PYTHON = """#!/usr/bin/env bash
case "$*" in
-c*) exit {version} ;;
"-m venv"*)
    mkdir -p .venv/bin
    cp "$0" .venv/bin/python
    exit {venv} ;;
"-m pip --version") test -e .venv/bin/python ;;
"-m pip install"*)
    cat pip.txt
    exit "$(cat pip.exit)" ;;
esac
"""
INSTALLED = """Obtaining file:///here
Collecting numpy
  Downloading numpy-2.0-cp311-manylinux_x86_64.whl (61 kB)
  Downloading tensorflow-2.21-cp311-manylinux_x86_64.whl (286.7 MB)
Requirement already satisfied: six
Installing collected packages: numpy, tensorflow, cyclr
Successfully installed all
"""
BROKEN = """Collecting hatchling
WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError'
      ERROR: No matching distribution found for hatchling
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "constraints.txt").touch()
    shutil.copy(SCRIPT, tmp_path)
    return tmp_path


def set_up(folder: Path, *, version: int = 0, venv: int = 0, pip: int = 0, said: str = INSTALLED) -> tuple[int, str]:
    """Return the exit code and what is printed, without a terminal."""
    (folder / "pip.txt").write_text(said)
    (folder / "pip.exit").write_text(str(pip))
    python = folder / "python"
    python.write_text(PYTHON.format(version=version, venv=venv))
    python.chmod(0o755)
    result = subprocess.run(
        ["bash", "-c", "set -euo pipefail; . ./environment.sh; environment cli 'about 2 GB'"],
        cwd=folder,
        env={**os.environ, "PYTHON": str(python)},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert result.stdout == ""
    return result.returncode, result.stderr


def test_setting_up_says_what_it_does_once_and_nothing_the_second_time(checkout: Path) -> None:
    code, said = set_up(checkout)
    assert code == 0
    first, download, installing, last = said.splitlines()
    assert first == "Setting up .venv with cyclr[cli]: about 2 GB the first time."
    assert download == "Downloading tensorflow-2.21-cp311-manylinux_x86_64.whl (286.7 MB)"
    assert installing == "Installing 3 packages, the longest part"
    assert last.startswith("Set up in ")
    assert set_up(checkout) == (0, "")
    (checkout / "constraints.txt").write_text("six==1")
    assert set_up(checkout)[1].startswith("Setting up")


def test_a_python_that_is_too_old_is_named(checkout: Path) -> None:
    code, said = set_up(checkout, version=1)
    assert code == 1
    assert f"cyclr needs Python 3.11, 3.12 or 3.13; tried {checkout / 'python'}. Install one" in said
    assert not (checkout / ".venv").exists()


def test_a_missing_venv_module_leaves_no_half_environment(checkout: Path) -> None:
    code, said = set_up(checkout, venv=1)
    assert code == 1
    assert "cannot create a virtual environment. On Debian and Ubuntu: apt install python3-venv." in said
    assert not (checkout / ".venv").exists()


def test_a_failed_installation_says_why_and_is_tried_again(checkout: Path) -> None:
    code, said = set_up(checkout, pip=1, said=BROKEN)
    assert code == 1
    assert "ERROR: No matching distribution found for hatchling" in said
    assert ".venv/setup.log has the output of pip. Check the network" in said
    assert (checkout / ".venv" / "setup.log").read_text() == BROKEN
    assert set_up(checkout)[0] == 0
