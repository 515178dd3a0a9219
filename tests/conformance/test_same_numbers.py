"""The same problem gives the same numbers in every framework: rates, losses and bounds.

To cover a new one, add a function to `same_problem.py`.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.processes import run

PROGRAM = Path(__file__).with_name("same_problem.py")
_spec = importlib.util.spec_from_file_location("cyclr_tests_same_problem", PROGRAM)
problem = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(problem)

# All of it is float64, but for the mean that Keras' losses take on torch, which is a float32.
TOLERANCES = {name: 2e-4 if name == "keras-torch" else 1e-11 for name in problem.RUNS}


@pytest.fixture(scope="module")
def wanted():
    return problem.by_hand()


# What shares a process, and so the import of a framework.
TOGETHER = [["keras-tensorflow"], ["keras-jax", "jax"], ["keras-torch", "torch"]]


def test_every_framework_has_a_process():
    assert sorted(sum(TOGETHER, ["driver"])) == sorted(problem.RUNS)


@pytest.mark.parametrize("names", TOGETHER, ids=" and ".join)
def test_every_framework_gives_the_same_numbers(names, wanted):
    needed = {part for name in names for part in name.split("-") if importlib.util.find_spec(part) is None}
    if needed:
        pytest.skip(f"{', '.join(sorted(needed))} is not installed")
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    output = run([sys.executable, "-W", "ignore", str(PROGRAM), *names], env=environment).stdout
    every = json.loads(output.splitlines()[-1])
    assert list(every) == names
    for name in names:
        check(every[name], wanted, TOLERANCES[name])


def check(found, wanted, tolerance):
    assert found["lr"] == wanted.lr.tolist()
    assert found["reason"] == wanted.stop_reason
    np.testing.assert_allclose(found["loss"], wanted.loss, rtol=tolerance)
    base_lr, max_lr, status = found["bounds"]
    assert (base_lr, max_lr, status) == (wanted.bounds.base_lr, wanted.bounds.max_lr, "ok")


def test_the_problem_has_an_answer(wanted):
    """The bounds are well inside the sweep, and the loss falls far and rises again."""
    low, high = problem.SWEEP["min_lr"], problem.SWEEP["max_lr"]
    assert 10 * low < wanted.bounds.base_lr < wanted.bounds.max_lr < high / 3
    assert wanted.loss.min() < wanted.loss[0] / 2
    assert wanted.loss[-1] > wanted.loss[0]
