"""The pictures on the pages are drawn by code in the repository; here it draws them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

DOCS = Path(__file__).parents[2] / "docs"


def draw(script: str, folder: Path, *options: str) -> None:
    environment = {**os.environ, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(DOCS / "figures" / script), str(folder), *options]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr


def pictures(folder: Path) -> set[str]:
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}
    assert all(content.startswith(b"\x89PNG") for content in found.values())
    return set(found)


def test_the_schedules_are_drawn(tmp_path: Path) -> None:
    draw("schedules.py", tmp_path)
    assert pictures(tmp_path) == {"schedules.png"}


def test_the_study_is_drawn_from_its_records(tmp_path: Path) -> None:
    draw("fashion_mnist.py", tmp_path)
    assert pictures(tmp_path / "study") == pictures(DOCS / "images" / "study")


def test_the_gallery_is_drawn_and_its_verdicts_are_those_of_the_page(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    draw("gallery.py", tmp_path)
    assert pictures(tmp_path / "gallery") == pictures(DOCS / "images" / "gallery")


def test_pages_draw_the_pictures_that_they_show(tmp_path: Path) -> None:
    # The blocks of the other pages run as tests; that each picture has its place is the same code for all.
    draw("tutorial.py", tmp_path, "shapes", "decays")
    assert pictures(tmp_path) == {
        name for name in pictures(DOCS / "images") if name.startswith(("tutorial/shapes", "tutorial/decays"))
    }


def test_a_picture_too_few_is_found(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
import tutorial

page = Path(sys.argv[2]) / "page.md"
page.write_text("```python\\nimport matplotlib.pyplot as plt\\nplt.figure()\\n```\\n")
tutorial.draw(page, page.parent)
"""
    command = [sys.executable, "-c", program, str(DOCS / "figures"), str(tmp_path)]
    result = subprocess.run(command, env={**os.environ, "MPLBACKEND": "Agg"}, capture_output=True, text=True)
    assert result.returncode == 1
    assert "1 figures drawn above no picture" in result.stderr
