"""Bounds of the default range test are worth what they were: the gate of the benchmark."""

import importlib.util
import sys
from pathlib import Path

import pytest
from tests.processes import run

# It runs in a process of its own.
if not all(map(importlib.util.find_spec, ("jax", "optax", "sklearn"))):
    pytest.skip("the benchmark needs JAX, Optax and scikit-learn", allow_module_level=True)

FOLDER = Path(__file__).parents[2] / "benchmarks" / "bounds"


def test_default_bounds_do_not_get_worse():
    run([sys.executable, FOLDER / "gate.py"])


def test_the_gate_notices_bounds_that_are_ten_times_too_low():
    program = f"""
import sys
sys.path.insert(0, {str(FOLDER)!r})
import compare, gate

def low(task, seed):
    choice = compare.with_cyclr(task, seed)
    return choice._replace(rates=choice.rates / 10)

sys.exit(gate.worse(["linear 4"], compare.Way(low)))
"""
    assert "worse than stored" in run([sys.executable, "-c", program], status=1).stderr
