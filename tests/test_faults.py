"""System calls that fail and kills at them, in a short form of `benchmarks/faults.py`, which injects all of them."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "benchmarks" / "faults.py"


@pytest.fixture(scope="module")
def faults():
    description = importlib.util.spec_from_file_location("faults", PROGRAM)
    module = importlib.util.module_from_spec(description)
    sys.modules["faults"] = module
    description.loader.exec_module(module)
    return module


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize(
    ("name", "every"), [("run folder, new", 29), ("run folder, resumed", 29), ("members", 61), ("range test, save", 17)]
)
def test_whatever_call_fails_or_is_the_last_nothing_is_lost_half_or_left(faults, name, every):
    (scenario,) = (one for one in faults.core() if one.name == name)
    try:
        found = faults.inject(scenario, every=every)
    except OSError as error:
        pytest.skip(str(error))
    assert found.faults == []
    assert found.ended.total() >= 10
    assert {"killed", "refused"} <= {*found.ended}
