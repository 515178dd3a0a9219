"""How many files a reader goes through, from a call to its result."""

import importlib.util
from pathlib import Path

import pytest

# They run in processes of their own, and are not imported here.
if not all(map(importlib.util.find_spec, ("jax", "keras", "torch", "typer"))):
    pytest.skip("the walks need JAX, Keras, torch and typer", allow_module_level=True)

_spec = importlib.util.spec_from_file_location("walks", Path(__file__).parents[2] / "benchmarks" / "walks.py")
walks = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(walks)

# By process: the files, templates included, that each walk visits. Lower a number when its walk gets shorter.
FILES = [{"learning-rate": 8, "range-test": 27}, {"compare": 76}]


@pytest.mark.parametrize("limits", FILES, ids=" and ".join)
def test_a_walk_visits_no_more_files_than_it_did(limits):
    for (name, limit), found in zip(limits.items(), walks.measured(*limits), strict=True):
        assert found["files"] + found["templates"] <= limit, (name, found["order"])
