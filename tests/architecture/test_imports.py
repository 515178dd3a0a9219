"""What importing cyclr loads: NumPy, and no framework, no plotting, no command line. Shown in a fresh interpreter."""

import os
import sys

import pytest
from tests.processes import run

HEAVY = {
    *(
        "keras",
        "tensorflow",
        "torch",
        "jax",
        "jaxlib",
        "optax",
        "matplotlib",
        "jinja2",
        "pandas",
        "scipy",
        "sklearn",
    ),
    *("typer", "rich", "click", "PIL", "hypothesis", "pytest"),
}
CORE = """
import importlib, pkgutil
import cyclr, cyclr.schedules, cyclr.bounds, cyclr.range_test, cyclr.auto, cyclr.members, cyclr.errors
for package in (cyclr.schedules, cyclr.bounds, cyclr.range_test, cyclr.auto, cyclr.members):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
"""
USE = """
import cyclr, numpy
cyclr.Cyclical(0.001, 0.1, 10, decay=cyclr.Halving())(numpy.arange(100))
test = cyclr.RangeTest(1e-4, 1.0, 20)
for lr in test:
    test.record(1.0)
test.result().bounds, repr(test.result()), test.result()._repr_html_()
auto = cyclr.AutoCycle(20)
auto.lr, auto.step(1.0)
"""


def loaded(code: str) -> set[str]:
    """The heavy packages that a fresh interpreter has loaded after running the code."""
    probe = f"{code}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    result = run([sys.executable, "-c", probe])
    return HEAVY & set(result.stdout.split())


@pytest.mark.parametrize("code", ["import cyclr", CORE, USE], ids=["package", "every module of the core", "in use"])
def test_the_core_loads_nothing_heavy(code):
    assert loaded(code) == set()


def test_importing_cyclr_loads_no_module_that_only_files_pages_and_range_tests_need():
    code = "import numpy, sys; before = set(sys.modules); import cyclr; print(*(set(sys.modules) - before))"
    result = run([sys.executable, "-c", code])
    unneeded = {
        "json",
        "html",
        "tempfile",
        "uuid",
        "pathlib",
        "cyclr.bounds",
        "cyclr.range_test",
        "cyclr.auto",
        "cyclr.members",
        "cyclr.drawing",
    }
    assert unneeded & set(result.stdout.split()) == set()


def test_names_that_are_imported_later_are_there_at_once():
    code = (
        "import cyclr\n"
        "assert {'AutoCycle', 'Bounds', 'Member', 'RangeTest', 'RangeTestResult', 'Schedule'} <= set(dir(cyclr))\n"
        "assert cyclr.bounds.Bounds is cyclr.Bounds and cyclr.range_test.RangeTest is cyclr.RangeTest\n"
        "from cyclr import *\n"
        "assert RangeTestResult is cyclr.RangeTestResult\n"
        "assert not hasattr(cyclr, 'RangeTests') and not hasattr(cyclr, 'later')"
    )
    run([sys.executable, "-c", code])


@pytest.mark.parametrize("code", ["import matplotlib", "import cyclr\nimport hypothesis.strategies"])
def test_the_probe_sees_what_is_loaded(code):
    assert loaded(code) >= {code.split()[-1].partition(".")[0]}


def test_a_backend_that_keras_does_not_find_is_answered_with_one_that_is_installed():
    code = "import sys; sys.modules['tensorflow'] = None; import cyclr.keras"
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    command = [sys.executable, "-c", code]
    result = run(command, status=1, env=environment)
    assert (
        "Installed: jax, torch. Set the environment variable KERAS_BACKEND=jax before Python starts." in result.stderr
    )
