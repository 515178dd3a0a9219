"""The range tests of the gallery, measured again: real curves, good and ugly."""

import functools
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from cyclr import RangeTestResult

FIGURES = Path(__file__).parents[1] / "docs" / "figures"
NAMES = [path.stem for path in sorted((FIGURES.parent / "images" / "gallery").glob("*.png"))]


def loaded(script: str) -> ModuleType:
    """The script as a module, in this process, as starting another takes longer than drawing."""
    spec = importlib.util.spec_from_file_location(f"cyclr_figures_{script}", FIGURES / f"{script}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def results() -> dict[str, RangeTestResult]:
    """Every case of the gallery by its name."""
    pytest.importorskip("torch")
    return {name: measure() for name, (measure, _) in loaded("gallery").CASES.items()}
