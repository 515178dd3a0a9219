"""Runs the Python code blocks of the pages as tests; and sets what makes all tests quick, before a framework starts."""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from sybil import Sybil
from sybil.integration.pytest import SybilItem
from sybil.parsers.markdown import PythonCodeBlockParser

# There is a worker of pytest-xdist for every core. More threads wait for one another, and longer on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Compiling takes most of the time on JAX, and what is compiled here runs a few times only.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")

_of_sybil = SybilItem._traceback_filter


def _traceback_filter(item: SybilItem, failure: Any) -> Any:
    """As Sybil's, which fails itself on a cause whose traceback has one entry, and the whole run of pytest with it."""
    return _of_sybil(item, failure) if len(failure.traceback) > 1 else failure.traceback


SybilItem._traceback_filter = _traceback_filter


def _in_a_folder_of_its_own(namespace: dict[str, Any]) -> None:
    """What a page writes goes into a folder that is thrown away."""
    namespace["_folder"], namespace["_back"] = tempfile.TemporaryDirectory(ignore_cleanup_errors=True), Path.cwd()
    os.chdir(namespace["_folder"].name)


def _clean_up(namespace: dict[str, Any]) -> None:
    os.chdir(namespace["_back"])
    namespace["_folder"].cleanup()
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser()], patterns=["*.md"], setup=_in_a_folder_of_its_own, teardown=_clean_up
).pytest()
