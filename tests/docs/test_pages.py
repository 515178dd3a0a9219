"""What pages say holds: their blocks run, their pictures are drawn by their code, and what they name exists."""

import ast
import os
import re
import sys
import textwrap
from pathlib import Path

import pytest
from tests.processes import run

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
TUTORIAL = [page for page in sorted((DOCS / "tutorial").glob("*.md")) if "```python" in page.read_text("utf-8")]

sys.path.insert(0, str(DOCS / "tools"))
import pages  # noqa: E402


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def run_pytest(folder: Path, status: int) -> str:
    """Run pytest on a folder of pages, with the configuration of this project."""
    (folder / "conftest.py").write_bytes((ROOT / "conftest.py").read_bytes())
    (folder / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(folder)]
    return run(command, status=status, cwd=folder).stdout


def test_a_broken_block_fails(tmp_path: Path) -> None:
    page = """
    # A page

    ```python
    import cyclr

    schedule = cyclr.Cyclical(0.1, 0.2, step_size=10)
    ```

    The next one says something that is not so:

    ```python
    assert schedule(10) == 0.1
    ```

    This one raises with a cause:

    ```python
    try:
        raise KeyError("a cause of one line")
    except KeyError as error:
        raise ValueError("what came of it") from error
    ```

    And this one warns:

    ```python
    cyclr.step_size(60_000, 50, epochs=1)
    ```
    """
    (tmp_path / "page.md").write_text(textwrap.dedent(page))
    output = run_pytest(tmp_path, status=1)
    assert "3 failed, 1 passed" in output
    assert "line:12,column:1 - AssertionError" in output
    assert "ValueError: what came of it" in output
    assert "outside the 2 to 10" in output


def test_a_page_shows_what_its_blocks_print(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    text = """
    ```python
    print("from 0.0123 in 28 updates, at 10:31")
    ```

    ```output
    from 0.0120
    in {updates} updates, at ...
    ```

    ```python
    print({value})
    ```

    ```output
    0.25
    ```
    """
    page.write_text(textwrap.dedent(text.format(updates=28, value=0.251)))
    run_pytest(tmp_path, status=0)
    page.write_text(textwrap.dedent(text.format(updates=29, value=0.5)))
    output = run_pytest(tmp_path, status=1)
    assert "2 failed" in output
    assert "in 29 updates" in output
    assert "from 0.0123 in 28 updates, at 10:31" in output

    run([sys.executable, "-m", "pytest", "-q", str(page)], cwd=tmp_path, env={**os.environ, "WRITE_OUTPUT": "1"})
    assert "in 28 updates, at 10:31\n```\n" in page.read_text()
    run_pytest(tmp_path, status=0)


def test_a_page_writes_into_a_folder_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text('```python\nopen("left-behind", "w").close()\n```\n')
    run_pytest(tmp_path, status=0)
    assert not list(tmp_path.rglob("left-behind"))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_of_python_is_one_that_the_tests_run(page: Path) -> None:
    # Blocks of another kind are shell commands, output, diffs, and programs that are included and run by themselves.
    text = page.read_text(encoding="utf-8")
    kinds = {kind.strip() for kind in re.findall(r"^ *```([^\n`]*)$", text, re.MULTILINE)}
    included = {kind for kind in kinds if kind.startswith("{.python title=")}
    assert kinds - included <= {"", "python", "diff", "output", "{.text .wide}"}
    for block in re.findall(r"```\{\.python title=[^\n]*\n(.*?)```", text, re.DOTALL):
        assert re.fullmatch(r'--8<-- "examples/\w+/\w+\.py"\n', block)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_a_block_prints_is_shown_after_it(page: Path) -> None:
    # `pages.blocks` has no blocks in tabs.
    blocks = re.findall(r"^( *)```python\n(.*?)^\1```(\n\n[^\n]*)?", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    silent = [code for indent, code, after in blocks if "print(" in code and after != f"\n\n{indent}```output"]
    assert silent == [], f"WRITE_OUTPUT=1 pytest {name(page)} writes what they print"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_is_installed_is_the_checkout(page: Path) -> None:
    # No release is on PyPI, where this name would not be found.
    assert re.findall(r'^ *pip install "?cyclr.*', page.read_text("utf-8"), re.MULTILINE) == []


EXTRAS = {
    "tensorflow": {"keras", "tensorflow"},
    "jax": {"keras", "jax"},
    "torch": {"keras", "torch"},
    "transformers": {"torch", "transformers", "accelerate"},
    "plot": {"matplotlib"},
}
MODULES = {"scikit-learn": "sklearn"}
LESSONS = [page for page in PAGES if page.parent.name in ("tutorial", "how-to") and page.name != "index.md"]


def imported(code: str) -> set[str]:
    """Names of the packages that a program imports."""
    nodes = list(ast.walk(ast.parse(code)))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {name.split(".")[0] for name in plain | {n.module or "" for n in nodes if isinstance(n, ast.ImportFrom)}}


@pytest.mark.parametrize("page", LESSONS, ids=name)
def test_a_page_says_what_to_install(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    front = (DOCS / "tutorial" / "index.md").read_text("utf-8") if page.parent.name == "tutorial" else text
    installed = {"cyclr", "numpy"}
    for command in re.findall(r"^pip install (.*?)(?: #.*)?$", front, re.MULTILINE):
        for requirement in command.replace('"', "").split():
            package, _, extras = requirement.rstrip("]").partition("[")
            installed |= {MODULES.get(package, package)}.union(*(EXTRAS[extra] for extra in extras.split(",") if extra))
    programs = [block.code for block in pages.blocks(text)]
    programs += [(ROOT / file).read_text("utf-8") for file in re.findall(r'--8<-- "([^"]+)"', text)]
    assert set().union(*map(imported, programs)) - set(sys.stdlib_module_names) <= installed


HOW_TO = [page for page in LESSONS if page.parent.name == "how-to"]


@pytest.mark.parametrize("page", HOW_TO, ids=name)
def test_a_how_to_links_to_an_explanation_in_its_introduction(page: Path) -> None:
    introduction = page.read_text(encoding="utf-8").split("\n## ")[0]
    assert "](../explanation/" in introduction


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_sentences_have_at_most_30_words(page: Path) -> None:
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"\]\([^)]*\)", "]", re.sub(r"`[^`]*`", "code", text))
    paragraphs = re.split(r"\n\s*\n|\n(?= *- | *\d+\. )", text)
    prose = [paragraph for paragraph in paragraphs if not paragraph.startswith(("|", "#", "    "))]
    sentences = [part for paragraph in prose for part in re.split(r"(?<=[.!?:…])[*)\"]*\s+", paragraph)]
    assert [sentence for sentence in sentences if len(sentence.split()) > 30] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    # Without the files that a diff on the page adds.
    text = re.sub(r"^--- /dev/null\n.*$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    named = set(re.findall(r"(?:benchmarks|examples|scripts|docs/figures|tests|src/cyclr)/[\w./-]*\w", text))
    missing = {file for file in named if not (ROOT / file).exists()}
    assert missing == set()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_pictures_of_a_page_exist_and_are_described(page: Path) -> None:
    for words, target in re.findall(r"!\[([^\]]*)\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists()
        assert len(words) > 5


def test_every_picture_is_on_a_page() -> None:
    shown = {
        (page.parent / target).resolve()
        for page in PAGES
        for target in re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    }
    assert {picture.resolve() for picture in (DOCS / "images").rglob("*.png")} == shown


@pytest.mark.parametrize("page", TUTORIAL, ids=name)
def test_a_notebook_holds_the_blocks_of_its_page(page: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("jupytext")
    text = page.read_text(encoding="utf-8")
    notebook = nbformat.reads(pages.notebook(text), as_version=4)
    nbformat.validate(notebook)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert code == [block.code.strip() for block in pages.blocks(text)]
    assert "../images" not in "".join(cell.source for cell in notebook.cells)


def test_a_notebook_runs_and_shows_its_pictures(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    page = DOCS / "tutorial" / "saddle-points.md"
    text = page.read_text(encoding="utf-8")
    # In a process of its own, as the client warns about event loops.
    program = """
    import sys, nbformat, nbclient
    notebook = nbformat.read(sys.argv[1], as_version=4)
    nbclient.NotebookClient(notebook, timeout=None, resources={"metadata": {"path": sys.argv[2]}}).execute()
    nbformat.write(notebook, sys.argv[1])
    """
    file = tmp_path / "page.ipynb"
    file.write_text(pages.notebook(text), encoding="utf-8")
    command = [sys.executable, "-c", textwrap.dedent(program), str(file), str(tmp_path)]
    # A notebook shows pictures by a backend of its own.
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    run(command, env=environment)
    outputs = [output for cell in nbformat.read(file, as_version=4).cells for output in cell.get("outputs", [])]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == sum(len(block.images) for block in pages.blocks(text)) == 2
