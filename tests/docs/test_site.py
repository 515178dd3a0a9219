"""The site builds without a warning, holds every public name, and asks nobody else for anything."""

import ast
import json
import os
import re
import shutil
import sys
import zlib
from pathlib import Path

import pytest
from tests.processes import run

pytest.importorskip("mkdocs")

# One xdist worker builds the site, and has all tests that share it.
pytestmark = pytest.mark.xdist_group("site")

ROOT = Path(__file__).parents[2]
PUBLIC = [
    "cyclr",
    *(
        "cyclr.schedules",
        "cyclr.bounds",
        "cyclr.range_test",
        "cyclr.auto",
        "cyclr.members",
        "cyclr.records",
        "cyclr.report",
        "cyclr.experiments",
    ),
    *("cyclr.keras", "cyclr.torch", "cyclr.jax"),
]


def build(config: Path, site: Path, status: int = 0) -> str:
    """Build a site, and return what is written to standard error."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(site)]
    # Without the advertisement for its successor, in which the theme speaks of a warning.
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return run(command, status=status, cwd=ROOT, env=environment).stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    assert "WARNING" not in build(ROOT / "mkdocs.yml", folder)
    return folder


def names_of(package: str) -> list[str]:
    """`__all__` of a package, read without importing it."""
    tree = ast.parse((ROOT / "src" / package.replace(".", "/") / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    raise AssertionError(package)


@pytest.mark.parametrize("package", PUBLIC)
def test_every_public_name_is_in_the_reference(site: Path, package: str) -> None:
    inventory = zlib.decompress((site / "objects.inv").read_bytes().split(b"zlib.\n", 1)[1]).decode()
    documented = {line.split()[0] for line in inventory.splitlines()}
    top = set(names_of("cyclr"))
    missing = [
        name
        for name in names_of(package)
        # What is public in two places is documented at the shorter one.
        if f"{package}.{name}" not in documented and not (package != "cyclr" and name in top)
    ]
    assert missing == []


def test_every_public_package_is_looked_at() -> None:
    packages = {
        ".".join(path.parent.relative_to(ROOT / "src").parts)
        for path in (ROOT / "src" / "cyclr").rglob("__init__.py")
        if "__all__" in path.read_text(encoding="utf-8")
    }
    assert packages == set(PUBLIC)


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    loading = re.compile(r"""<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)=["']?(?:https?:)?//[^>]*>""")
    allowed = re.compile(r'rel="?(?:canonical|next|prev)')
    for page in site.rglob("*.html"):
        found = [tag for tag in loading.findall(page.read_text(encoding="utf-8")) if not allowed.search(tag)]
        assert found == [], page
    for style in site.rglob("*.css"):
        assert not re.search(r"""(?:@import|url\()\s*["']?(?:https?:)?//""", style.read_text(encoding="utf-8")), style


def test_every_page_of_the_tutorial_is_a_notebook(site: Path) -> None:
    pages = {
        page.stem for page in (ROOT / "docs/tutorial").glob("*.md") if "```python" in page.read_text(encoding="utf-8")
    }
    assert {notebook.stem for notebook in (site / "tutorial").glob("*.ipynb")} == pages
    for page in pages:
        assert f'href="{page}.ipynb"' in (site / "tutorial" / f"{page}.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("epochs", "how-to/lengths.html"),
        ("validation_split", "how-to/lengths.html"),
        ("drop_last", "how-to/lengths.html"),
        ("nan", "how-to/troubleshooting.html"),
        ("different every time", "how-to/troubleshooting.html"),
        ("early stopping", "how-to/early-stopping.html"),
        ("patience", "how-to/early-stopping.html"),
        ("resume", "how-to/resume.html"),
        ("bounds", "how-to/gallery.html"),
        ("warm-up", "how-to/test-again.html"),
        ("unfrozen", "how-to/test-again.html"),
        ("freez", "how-to/fine-tuning.html"),
        ("multi-gpu", "how-to/several-gpus.html"),
        ("mirroredstrategy", "how-to/several-gpus.html"),
        ("lrfinder", "how-to/keras.html"),
    ],
)
def test_the_search_finds(site: Path, words: str, page: str) -> None:
    sections = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))["docs"]
    assert page in {
        section["location"].partition("#")[0]
        for section in sections
        if words in f"{section['title']} {section['text']}".lower()
    }


def test_code_and_signatures_fit_a_phone(site: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium to drive: apt-get install chromium")
    wider = """() => [document.documentElement, ...document.querySelectorAll(".highlight:not(.wide) code")]
        .filter(element => element.scrollWidth > element.clientWidth + 1)
        .map(element => element.outerHTML.slice(0, 200))"""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"], timeout=180_000)
        page = browser.new_page(viewport={"width": 320, "height": 800})
        found = {}
        for file in site.rglob("*.html"):
            page.goto(file.as_uri(), timeout=180_000)
            found[str(file.relative_to(site))] = page.evaluate(wider)
        browser.close()
    assert {name: elements for name, elements in found.items() if elements} == {}


def test_a_dead_link_fails_the_build(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("[nowhere](nowhere.md)\n")
    (tmp_path / "mkdocs.yml").write_text("site_name: broken\nstrict: true\n")
    assert "nowhere.md" in build(tmp_path / "mkdocs.yml", tmp_path / "site", status=1)
