"""The types that a user's type checker sees."""

import sys
from pathlib import Path

import pytest
from tests.processes import run

pytest.importorskip("mypy")

PROGRAM = """
from typing import assert_type

import numpy as np
from numpy.typing import NDArray

import cyclr

bounds = cyclr.Bounds(0.001, 0.1, "ok", "read from a plot")
base_lr, max_lr = bounds
assert_type(base_lr, float)
assert_type(max_lr, float)
schedule = bounds.schedule(total_steps=100)
assert_type(schedule, cyclr.Cyclical)
assert_type(bounds.schedule(kind="one_cycle", total_steps=100), cyclr.OneCycle)
for each in (schedule, cyclr.Constant(0.1), 0.1 * schedule):
    assert_type(each(3), float)
    assert_type(each(np.int64(3)), float)
    assert_type(each(np.arange(3)), NDArray[np.float64])
assert_type(cyclr.RangeTest(steps=20).result().bounds, cyclr.Bounds)
assert_type(cyclr.Run.of(100, 10, epochs=2), cyclr.Run)
assert_type(cyclr.step_size(100, 10), int)
"""


def check(program: str, folder: Path, status: int) -> str:
    (folder / "program.py").write_text(program)
    return run([sys.executable, "-m", "mypy", "--strict", "program.py"], cwd=folder, status=status).stdout


def test_results_have_the_types_that_the_documentation_states(tmp_path: Path) -> None:
    assert "Success" in check(PROGRAM, tmp_path, 0)


def test_a_wrong_argument_or_attribute_is_an_error(tmp_path: Path) -> None:
    wrong = "schedule.get_last_lr()\nbounds.lr\ncyclr.OneCycle(max_lr=0.1, total_steps=9)\ncyclr.step_size(n=3)\n"
    found = check(PROGRAM + wrong, tmp_path, 1)
    assert [name in found for name in ("get_last_lr", '"lr"', "base_lr", '"n"')] == [True] * 4
