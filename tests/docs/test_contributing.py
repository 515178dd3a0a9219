"""The diffs of the contributing page do what the page says when they are applied to a copy of the source."""

import os
import re
import shutil
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from tests.processes import run

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")

TRY_THE_SHAPE = """
import cyclr, numpy as np

schedule = cyclr.Cyclical(0.1, 0.9, step_size=50, shape="quarter_sine")
steps = np.arange(250)
values = schedule(steps)
assert (schedule(0), schedule(50), schedule(100)) == (0.1, 0.9, 0.1)
assert values.min() >= 0.1 and values.max() <= 0.9
assert np.allclose(values, [schedule(int(step)) for step in steps], rtol=0, atol=1e-15)
assert cyclr.Schedule.from_dict(schedule.to_dict()) == schedule
assert schedule(10) > cyclr.Cyclical(0.1, 0.9, step_size=50, shape="sinusoidal")(10)
"""

TRY_THE_DECAY = """
import doctest

import cyclr
from cyclr.schedules import decay

cycle = cyclr.Cyclical(0.0, 1.0, step_size=2, decay=decay.Harmonic())
assert [cycle(peak) for peak in (2, 6, 14)] == [1.0, 0.5, 0.25]
assert cyclr.Schedule.from_dict(cycle.to_dict()) == cycle
result = doctest.testmod(decay)
assert result.failed == 0 and result.attempted > 10, result
"""


MUST_HAVE_A_CASE = "add a Case to SCHEDULES in tests/conformance/test_schedules.py for each of"


def diffs_of(section: str) -> dict[str, str]:
    """Return the hunks of each file in the diff of a section."""
    part = TEXT.split(f"\n## {section}\n")[1].split("\n## ")[0]
    (diff,) = re.findall(r"```diff\n(.*?)```", part, re.DOTALL)
    files = re.split(r"^--- \S+\n\+\+\+ b/(\S+)\n", diff, flags=re.MULTILINE)[1:]
    return dict(zip(files[::2], files[1::2], strict=True))


def apply(diffs: dict[str, str], root: Path) -> None:
    """Apply diffs whose hunks have no line numbers: the text of each hunk must occur once."""
    for path, hunks in diffs.items():
        file = root / path
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        for hunk in f"\n{hunks}".split("\n@@\n")[1:]:
            lines = hunk.rstrip("\n").split("\n")
            before = "\n".join(line[1:] for line in lines if line[:1] != "+")
            after = "\n".join(line[1:] for line in lines if line[:1] != "-")
            assert not text or text.count(before) == 1, before
            text = text.replace(before, after) if text else f"{after}\n"
        file.write_text(text, encoding="utf-8")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the source and of the tests that a contribution changes."""
    for folder in ("src", "tests/conformance", "tests/schedules"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def python(root: Path, *arguments: str) -> CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}", "PYTHONDONTWRITEBYTECODE": "1"}
    return run([sys.executable, *arguments], status=None, cwd=root, env=environment)


def conformance(root: Path, chosen: str) -> CompletedProcess[str]:
    """Run some of the conformance tests, without those that need a framework."""
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:randomly")
    chosen = f"({chosen}) and not compiled and not keras"
    return python(root, "-m", "pytest", *options, "tests/conformance/test_schedules.py", "-k", chosen)


@pytest.mark.parametrize(
    ("section", "check"), [("Add a shape", TRY_THE_SHAPE), ("Add a decay", TRY_THE_DECAY)], ids=["shape", "decay"]
)
def test_a_diff_works_as_the_page_says(section: str, check: str, copy: Path) -> None:
    # The check must fail without the diff.
    assert python(copy, "-c", check).returncode != 0
    apply(diffs_of(section), copy)
    result = python(copy, "-c", check)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("section", "case", "name"),
    [("Add a decay", "harmonic", "Harmonic"), ("Add a schedule", "inverse and root", "InverseRoot")],
    ids=["decay", "schedule"],
)
def test_conformance_demands_and_runs_a_case_of_a_contribution(section, case, name, copy):
    diffs = diffs_of(section)
    apply({path: hunks for path, hunks in diffs.items() if path.startswith("src/")}, copy)
    without = conformance(copy, f"registered or ({case})")
    assert without.returncode == 1
    assert f"{MUST_HAVE_A_CASE} ['{name}']" in without.stdout
    assert "1 failed" in without.stdout

    apply({path: hunks for path, hunks in diffs.items() if not path.startswith("src/")}, copy)
    result = conformance(copy, f"registered or ({case})")
    assert result.returncode == 0, result.stdout
    assert int(re.search(r"(\d+) passed", result.stdout)[1]) > 15


def test_conformance_runs_a_shape_that_is_registered(copy):
    assert conformance(copy, "quarter_sine").returncode == pytest.ExitCode.NO_TESTS_COLLECTED
    diffs = diffs_of("Add a shape")
    apply({"src/cyclr/schedules/shape.py": diffs["src/cyclr/schedules/shape.py"]}, copy)
    formulas = python(copy, "tests/schedules/formulas.py")
    assert "tests/schedules/formulas.py must have a formula for each of" in formulas.stderr
    apply({"tests/schedules/formulas.py": diffs["tests/schedules/formulas.py"]}, copy)
    assert python(copy, "tests/schedules/formulas.py").returncode == 0
    result = conformance(copy, "quarter_sine")
    assert result.returncode == 0, result.stdout
    assert int(re.search(r"(\d+) passed", result.stdout)[1]) > 30
