"""The public names: listed, sorted, documented, with examples that run."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import types
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import cyclr
from cyclr import errors

PACKAGES = [
    "cyclr",
    "cyclr.schedules",
    "cyclr.bounds",
    "cyclr.range_test",
    "cyclr.auto",
    "cyclr.members",
    "cyclr.records",
    "cyclr.report",
]
MODULES = [
    *PACKAGES,
    "cyclr.errors",
    *(
        module.name
        for package in PACKAGES[1:]
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + ".")
    ),
]
PUBLIC = [getattr(cyclr, name) for name in cyclr.__all__]
ERRORS = [value for value in PUBLIC if isinstance(value, type) and issubclass(value, Exception)]
WORKING = [value for value in PUBLIC if value not in ERRORS]


def takes_arguments(value) -> bool:
    """Whether one calls it with arguments: a function, or a class that can be made."""
    if inspect.isabstract(value):
        return "__call__" in vars(value)
    return bool(inspect.signature(value).parameters)


def methods(kind):
    """The public methods and properties that a class itself defines."""
    for name, value in vars(kind).items():
        if not name.startswith("_") and isinstance(value, types.FunctionType | classmethod | staticmethod | property):
            yield name


@pytest.mark.parametrize("package", PACKAGES)
def test_all_is_every_public_name_in_order(package):
    module = importlib.import_module(package)
    defined = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType) and value is not TYPE_CHECKING
    }
    assert module.__all__ == sorted(defined | set(vars(module).get("_LATER", {}))) == dir(module)


def test_every_error_is_public():
    defined = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)}
    assert defined == set(ERRORS)


@pytest.mark.parametrize("package", PACKAGES[1:])
def test_a_name_is_the_same_thing_wherever_it_is_public(package):
    module = importlib.import_module(package)
    for name in set(module.__all__) & set(cyclr.__all__):
        assert getattr(module, name) is getattr(cyclr, name)


@pytest.mark.parametrize("value", PUBLIC, ids=lambda value: value.__name__)
def test_every_public_name_is_documented(value):
    assert value.__doc__
    assert len(value.__doc__.splitlines()[0]) > 20
    # A dataclass without a docstring is given its signature for one.
    assert not value.__doc__.startswith(f"{value.__name__}(")


@pytest.mark.parametrize(
    "kind", [value for value in WORKING if isinstance(value, type)], ids=lambda kind: kind.__name__
)
def test_every_public_method_is_documented(kind):
    undocumented = [name for name in methods(kind) if not inspect.getdoc(getattr(kind, name))]
    assert undocumented == []


@pytest.mark.parametrize("value", WORKING, ids=lambda value: value.__name__)
def test_every_public_name_has_an_example(value):
    assert "\n    Example:\n        >>> " in value.__doc__


@pytest.mark.parametrize("value", [v for v in WORKING if takes_arguments(v)], ids=lambda value: value.__name__)
def test_what_takes_arguments_says_what_it_raises(value):
    assert "\n    Raises:\n        " in value.__doc__


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_can_be_caught_as_one_of_cyclr(error):
    assert issubclass(error, cyclr.CyclrError)


@pytest.mark.parametrize("module", MODULES)
def test_every_example_runs(module):
    result = doctest.testmod(importlib.import_module(module), optionflags=doctest.FAIL_FAST)
    assert result.failed == 0


def test_examples_are_found_where_they_are():
    assert doctest.testmod(importlib.import_module("cyclr.schedules.wave")).attempted > 10


# Each framework has its own, so that a program changes an import and nothing else.
ONE_A_FRAMEWORK = {
    *("AutoCycle", "AutoCycleCallback", "CycleEnd", "CyclicLR"),
    *("Ensemble", "Snapshots", "TrainingState", "Generators"),
}


def test_no_two_classes_have_one_name():
    files = Path(cyclr.__file__).parent.rglob("*.py")
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    names = Counter(node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef))
    shared = {name for name, count in names.items() if count > 1 and not name.startswith("_")}
    assert shared - ONE_A_FRAMEWORK == set()
