"""The pictures on the pages are drawn by code in the repository; here it draws them."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.gallery import NAMES, loaded, results

if importlib.util.find_spec("matplotlib") is None:
    pytest.skip("Matplotlib is not installed", allow_module_level=True)

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(autouse=True)
def _without_a_display(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import matplotlib.pyplot as plt

    plt.close("all")
    before = plt.get_backend()
    plt.switch_backend("Agg")
    # Scripts add to it to find their neighbours.
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    plt.close("all")
    plt.switch_backend(before)


def run(script: str, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
    loaded(script).main()


def pictures(folder: Path) -> set[str]:
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}
    assert all(content.startswith(b"\x89PNG") for content in found.values())
    return set(found)


def test_the_schedules_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("schedules", monkeypatch, tmp_path)
    assert pictures(tmp_path) == {"schedules.png"}


def test_the_study_is_drawn_from_its_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("msgspec")
    run("fashion_mnist", monkeypatch, tmp_path)
    assert pictures(tmp_path / "study") == pictures(DOCS / "images" / "study")


def test_the_verdicts_of_the_gallery_are_those_of_the_page(tmp_path: Path) -> None:
    measured, cases = results(), loaded("gallery")
    assert sorted(measured) == NAMES
    for name, (_, statuses) in cases.CASES.items():
        assert measured[name].bounds.status in statuses, name
    # All are drawn by the same code.
    cases.draw(measured["good"], tmp_path / "good.png")
    assert pictures(tmp_path) == {"good.png"}


def test_pages_draw_the_pictures_that_they_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The blocks of the other pages run as tests; that each picture has its place is the same code for all.
    run("tutorial", monkeypatch, tmp_path, "shapes")
    assert pictures(tmp_path) == {name for name in pictures(DOCS / "images") if name.startswith("tutorial/shapes")}


def test_a_picture_too_few_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nimport matplotlib.pyplot as plt\nplt.figure()\n```\n")
    with pytest.raises(SystemExit, match="1 figures drawn above no picture"):
        loaded("tutorial").draw(page, tmp_path)
