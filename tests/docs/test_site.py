"""The built site: no warnings, all public names, nothing from other servers, a search that finds the right pages."""

import ast
import os
import re
import shutil
import sys
import threading
import zlib
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.processes import run

pytest.importorskip("mkdocs")

# All tests that share the site run in one xdist worker, which builds it once.
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
    """Build a site, and return its standard error."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(site)]
    # The theme advertises its successor in a text that contains the word "warning".
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
        # A name that is public in two packages is documented only in `cyclr`.
        if f"{package}.{name}" not in documented and not (package != "cyclr" and name in top)
    ]
    assert missing == []


def test_list_of_public_packages_is_complete() -> None:
    packages = {
        ".".join(path.parent.relative_to(ROOT / "src").parts)
        for path in (ROOT / "src" / "cyclr").rglob("__init__.py")
        if "__all__" in path.read_text(encoding="utf-8")
    }
    assert packages == set(PUBLIC)


def test_nothing_is_loaded_from_other_servers(site: Path) -> None:
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


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium to drive: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"], timeout=180_000)
        yield started
        started.close()


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files without a line for every request."""

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Address of the site on a local server: browsers do not search in pages that are opened as files."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=site)) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def first_results(browser: Any, address: str, words: str) -> list[str]:
    """Type words into the search field of the site, and return the first three pages that it lists."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(f"{address}/index.html", timeout=180_000)
    field = page.locator("[data-md-component=search-query]")
    field.click()
    # Only the last key starts a search, so the list is never the one of a part of the words.
    field.fill(words[:-1])
    field.press(words[-1])
    page.locator(".md-search-result__meta", has_text="matching").wait_for(timeout=180_000)
    results = page.locator(".md-search-result__item")
    results.first.wait_for(timeout=180_000)
    found = results.evaluate_all("results => results.slice(0, 3).map(result => result.querySelector('a').pathname)")
    page.close()
    return [path.removeprefix("/") for path in found]


@pytest.mark.parametrize(
    ("words", "right"),
    [
        ("epochs", {"how-to/lengths.html"}),
        ("validation_split", {"how-to/lengths.html"}),
        ("drop_last", {"how-to/lengths.html"}),
        ("NaN", {"how-to/troubleshooting.html"}),
        ("different every time", {"how-to/troubleshooting.html"}),
        ("early stopping", {"how-to/early-stopping.html"}),
        ("patience", {"how-to/early-stopping.html"}),
        ("resume", {"how-to/resume.html"}),
        ("bounds", {"explanation/bounds.html", "how-to/gallery.html"}),
        ("warm-up", {"how-to/schedules.html", "how-to/test-again.html"}),
        ("unfrozen", {"how-to/test-again.html"}),
        ("freeze", {"how-to/fine-tuning.html"}),
        ("multi-GPU", {"how-to/several-gpus.html"}),
        ("MirroredStrategy", {"how-to/several-gpus.html"}),
        ("LRFinder", {"how-to/keras.html", "how-to/migrate.html"}),
    ],
)
def test_search_lists_the_right_page_among_the_first_three(
    browser: Any, address: str, words: str, right: set[str]
) -> None:
    found = first_results(browser, address, words)
    assert right & set(found), f"{words!r} finds {found}"


def test_code_and_signatures_fit_a_phone(browser: Any, site: Path) -> None:
    wider = """() => [document.documentElement, ...document.querySelectorAll(".highlight:not(.wide) code")]
        .filter(element => element.scrollWidth > element.clientWidth + 1)
        .map(element => element.outerHTML.slice(0, 200))"""
    page = browser.new_page(viewport={"width": 320, "height": 800})
    found = {}
    for file in site.rglob("*.html"):
        page.goto(file.as_uri(), timeout=180_000)
        found[str(file.relative_to(site))] = page.evaluate(wider)
    page.close()
    assert {name: elements for name, elements in found.items() if elements} == {}


def test_a_dead_link_fails_the_build(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("[nowhere](nowhere.md)\n")
    (tmp_path / "mkdocs.yml").write_text("site_name: broken\nstrict: true\n")
    assert "nowhere.md" in build(tmp_path / "mkdocs.yml", tmp_path / "site", status=1)
