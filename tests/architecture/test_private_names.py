"""Private names of frameworks: only the `_private*.py` modules may use one.

A name is private if it begins with one underscore and cyclr does not define it itself. Imports of private modules count
too.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "cyclr"
PACKAGES = {
    "keras": ["keras", "experiments/jobs/keras.py"],
    "torch": ["torch", "experiments/jobs/torch.py"],
    "jax": ["jax"],
    "comparisons": ["experiments", "experiments/engines"],
}
"""By framework, the folders and files below src/cyclr that use it."""
PRIVATE = re.compile(r"_[a-zA-Z]\w*")
INHERITED = {"_model"}
"""Attributes that frameworks set on objects of our classes: there `self` has private names, too."""


def defined(tree):
    """The private names that a module defines: variables, functions, classes, attributes of `self`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and of_self(node):
            yield node.attr
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cyclr"):
            yield from (alias.name for alias in node.names)


def of_self(node):
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def used(tree):
    """The private names that a module uses, with their lines: attributes, strings for getattr, imports from outside."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and not (of_self(node) and node.attr not in INHERITED):
            yield node.lineno, node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
        elif isinstance(node, ast.Import | ast.ImportFrom):
            modules = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            if not modules[0].startswith("cyclr"):
                parts = [part for module in modules for part in module.split(".")]
                yield from ((node.lineno, "_" + part) for part in parts if part in ("src", "python"))
                yield from ((node.lineno, part) for part in parts)


def violations(paths, known=()):
    trees = {path: ast.parse(path.read_text()) for path in paths}
    own = {path: set(defined(tree)) for path, tree in trees.items()}
    everywhere = set(known).union(*own.values()) - INHERITED
    return [
        f"{path.name}:{line}: {name}"
        for path, tree in trees.items()
        if not path.name.startswith("_private")
        for line, name in used(tree)
        if PRIVATE.fullmatch(name) and "cyclr" not in name and name not in everywhere | own[path]
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_private_names_of_frameworks_are_in_private_modules_only(package):
    paths = [SOURCE / part for part in PACKAGES[package]]
    files = [file for path in paths for file in ([path] if path.is_file() else sorted(path.glob("*.py")))]
    # Python documents these of named tuples.
    assert violations(files, {"_fields", "_replace", "_asdict"}) == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("optimizer._iterations.assign(0)", "_iterations"),
        ("getattr(model, '_compile_loss')", "_compile_loss"),
        ("from keras.src.backend.common import global_state", "_src"),
        ("from tensorflow.python.eager import context", "_python"),
        ("import torch._dynamo", "_dynamo"),
        ("class C(Callback):\n    def f(self):\n        return self._model", "_model"),
        ("self._own = 1\nprint(self._own, other._own)", None),
        ("from cyclr.keras import _private\n_private.counter(optimizer)", None),
    ],
)
def test_the_check_finds_them(line, found, tmp_path):
    (tmp_path / "module.py").write_text(line)
    names = [text.rsplit(" ", 1)[1] for text in violations([tmp_path / "module.py"])]
    assert names == ([found] if found else [])


def functions(path):
    """The names of the functions and classes of a module that others may use."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return [node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_"]


@pytest.mark.parametrize(
    "path", sorted(SOURCE.rglob("_private*.py")), ids=lambda path: f"{path.parent.name}.{path.stem}"
)
def test_every_private_name_has_a_test_that_fails_by_its_name(path):
    tests = ROOT / "tests" / path.parent.relative_to(SOURCE) / f"test{path.stem}.py"
    tested = functions(tests)
    wanted = [f"test_{re.sub('(?<=[a-z])(?=[A-Z])', '_', name).lower()}" for name in functions(path)]
    assert [name for name in wanted if not any(test == name or test.startswith(f"{name}_") for test in tested)] == []
