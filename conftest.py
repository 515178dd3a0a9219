"""Runs the Python code blocks of the pages as tests; and sets what makes all tests quick, before a framework starts.

A block ```output after a Python block shows what it prints. `WRITE_OUTPUT=1 pytest PAGE` writes these blocks.
"""

import contextlib
import io
import math
import os
import re
import sys
import tempfile
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sybil import Document, Example, Region, Sybil
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


_OUTPUT = re.compile(r"\n+(?P<indent> *)```output\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)
_PARTS = re.compile(r"(\.\.\.|\s+|-?\d+\.\d+(?:e[-+]\d+)?|-?\d+e[-+]\d+)")
_NUMBER = r"(-?\d+(?:\.\d+)?(?:e[-+]?\d+)?)"
_TOLERANCE = 0.25
_WRITE = "WRITE_OUTPUT" in os.environ


def same(printed: str, shown: str) -> bool:
    """Return True if a page may show `shown` for `printed`.

    Words and integers must be equal, and other numbers within a quarter of each other, because machines round
    differently. Spaces and line breaks are one. `...` on the page stands for any text.
    """
    parts = _PARTS.split(f" {shown.strip()} ")
    numbers = [float(part) for part in parts[1::2] if part != "..." and part.strip()]
    # Every second part is one that the pattern found.
    parts[1::2] = [".*?" if part == "..." else _NUMBER if part.strip() else r"\s+" for part in parts[1::2]]
    parts[::2] = [re.escape(part) for part in parts[::2]]
    found = re.fullmatch("".join(parts), f" {printed.strip()} ", re.DOTALL)
    near = zip(map(float, found.groups()), numbers, strict=True) if found else [(0.0, 1.0)]
    return all(math.isclose(one, other, rel_tol=_TOLERANCE) for one, other in near)


class _Pages(PythonCodeBlockParser):
    """Python blocks that print what the block ```output after them shows."""

    def __call__(self, document: Document) -> Iterable[Region]:
        for region in super().__call__(document):
            shown, run = _OUTPUT.match(document.text, region.end), region.evaluator
            region.evaluator = lambda example, shown=shown, run=run: _evaluate(example, shown, run)
            yield region


def _evaluate(example: Example, shown: re.Match[str] | None, run: Any) -> None:
    __tracebackhide__ = True
    with contextlib.redirect_stdout(io.StringIO()) as stream:
        run(example)
    printed = stream.getvalue()
    example.namespace["_printed"].append((example, shown, printed))
    # Keras' backends make different weights from one seed: the pages show TensorFlow's.
    if shown is None or _WRITE or os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
        return
    if not same(printed, shown["text"]):
        raise AssertionError(f"the page shows\n{shown['text']}\nbut the block prints\n{printed}")


def _in_a_folder_of_its_own(namespace: dict[str, Any]) -> None:
    """What a page writes goes into a folder that is thrown away."""
    namespace["_folder"], namespace["_back"] = tempfile.TemporaryDirectory(ignore_cleanup_errors=True), Path.cwd()
    namespace["_printed"] = []
    os.chdir(namespace["_folder"].name)


def _clean_up(namespace: dict[str, Any]) -> None:
    os.chdir(namespace["_back"])
    namespace["_folder"].cleanup()
    if _WRITE:
        _write(namespace["_printed"])
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


def _write(printed: list[tuple[Example, re.Match[str] | None, str]]) -> None:
    """Write what the blocks of a page printed after them, the last one first. Blocks that are right stay."""
    for example, shown, text in reversed(printed):
        if shown is not None and same(text, shown["text"]):
            continue
        page = Path(example.path)
        before = page.read_text(encoding="utf-8")
        start, end = example.region.end, shown.end() if shown else example.region.end
        indent = re.match(r" *", before[before.rfind("\n", 0, example.region.start + 1) + 1 :])[0]
        lines = [part for line in text.splitlines() for part in textwrap.wrap(line, 80) or [""]]
        block = "\n".join(["```output", *lines, "```"]) if "print(" in example.parsed else ""
        block = f"\n\n{textwrap.indent(block, indent)}" if block else ""
        page.write_text(before[:start] + block + before[end:], encoding="utf-8")


pytest_collect_file = Sybil(
    parsers=[_Pages()], patterns=["*.md"], setup=_in_a_folder_of_its_own, teardown=_clean_up
).pytest()
