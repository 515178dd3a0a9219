"""The diffs on the page for contributors are applied to a copy of the source, which then does as told."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


def diff_of(section: str) -> str:
    part = TEXT.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.search(r"```diff\n(.*?)```", part, re.DOTALL)[1]


def apply(diff: str, root: Path) -> None:
    """Apply a diff whose hunks have no line numbers: each is found by its text, which must occur once."""
    path = re.search(r"^\+\+\+ b/(\S+)$", diff, re.MULTILINE)[1]
    text = (root / path).read_text(encoding="utf-8")
    for hunk in diff.split("\n@@\n")[1:]:
        lines = hunk.rstrip("\n").split("\n")
        before = "\n".join(line[1:] for line in lines if line[:1] != "+")
        after = "\n".join(line[1:] for line in lines if line[:1] != "-")
        if before:
            assert text.count(before) == 1, before
            text = text.replace(before, after)
    (root / path).write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("section", "check"), [("Add a shape", TRY_THE_SHAPE), ("Add a decay", TRY_THE_DECAY)], ids=["shape", "decay"]
)
def test_a_diff_does_what_it_says(section: str, check: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src")}
    run = [sys.executable, "-c", check]

    # Without the diff it fails, so that the check checks something.
    assert subprocess.run(run, env=environment, capture_output=True, timeout=100).returncode != 0
    apply(diff_of(section), tmp_path)
    result = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stderr
