"""The direction of imports, as import-linter checks it by the contracts in pyproject.toml; and of examples."""

import ast
import shutil
import sys
import tomllib
from pathlib import Path

import pytest
from tests.processes import run

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
CONFIGURATION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
LAYERS = next(contract["layers"] for contract in CONFIGURATION["contracts"] if contract["type"] == "layers")
FILES = sorted(path for path in (SOURCE / "cyclr").rglob("*.py") if path.name != "__init__.py")


def lint_imports(configuration: Path, status: int) -> str:
    """Run the command of this environment, whether or not it is on the path, and return what it prints."""
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent)) or shutil.which("lint-imports")
    if command is None:
        pytest.skip("import-linter is not installed")
    result = run([command, "--no-cache", "--config", str(configuration)], cwd=ROOT, status=status)
    return result.stdout + result.stderr


def test_imports_go_to_the_left_only():
    assert "0 broken" in lint_imports(ROOT / "pyproject.toml", 0)


def test_no_import_is_left_out_of_account():
    assert all("ignore_imports" not in contract for contract in CONFIGURATION["contracts"])


def test_a_broken_contract_would_be_found(tmp_path):
    (tmp_path / "broken.toml").write_text(
        """
[tool.importlinter]
root_package = "cyclr"

[[tool.importlinter.contracts]]
name = "the wrong way round"
type = "layers"
layers = ["cyclr.schedules", "cyclr.bounds"]
"""
    )
    assert "BROKEN" in lint_imports(tmp_path / "broken.toml", 1)


def level(module: str) -> int | None:
    """The number of the layer that a module is in, from the right; None for `cyclr` itself, which names them all."""
    for number, layer in enumerate(LAYERS):
        for package in (name.strip(" ()") for name in layer.split("|")):
            if module == package or module.startswith(f"{package}."):
                return number
    return None


def imported(source: str) -> set[str]:
    """The modules of cyclr that a program imports; also those that it reaches as `cyclr.keras.range_test`."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "cyclr":
            found.add(f"cyclr.{node.attr}")
    return {name for name in found if name.startswith("cyclr.")}


def examples(tree: ast.Module) -> str:
    """All examples in the docstrings of a module, as one program."""
    import doctest

    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    texts = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, documented)]
    parser = doctest.DocTestParser()
    return "".join(example.source for text in texts if text for example in parser.get_examples(text))


def to_the_right(module: str, source: str) -> set[str]:
    """What a module's code, also within functions, or its examples import from a layer to its right."""
    own, tree = level(module), ast.parse(source)
    reached = {name: level(name) for name in imported(source) | imported(examples(tree))}
    return {name for name, number in reached.items() if None not in (own, number) and number < own}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE / "cyclr")))
def test_code_and_examples_name_nothing_to_the_right(file):
    module = ".".join(file.relative_to(SOURCE).with_suffix("").parts)
    assert to_the_right(module, file.read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def plot():\n    from cyclr.report import page", {"cyclr.report", "cyclr.report.page"}),
        ('"""Doc.\n\n>>> import cyclr.experiments\n"""', {"cyclr.experiments"}),
        ("import cyclr\ncyclr.keras.range_test", {"cyclr.keras"}),
        ("from cyclr import bounds\nimport cyclr.drawing", set()),
    ],
    ids=["in a function", "in an example", "as an attribute", "to the left"],
)
def test_a_name_to_the_right_would_be_found(source, found):
    assert to_the_right("cyclr.range_test.driver", source) == found
