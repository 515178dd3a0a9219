"""What scripts/test-versions installs for each of its environments."""

import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.processes import run

ROOT = Path(__file__).parents[2]
LOADER = importlib.machinery.SourceFileLoader("test_versions_script", str(ROOT / "scripts" / "test-versions"))
script = importlib.util.module_from_spec(importlib.util.spec_from_loader(LOADER.name, LOADER))
INDEX = """torch (2.15.0)
Available versions: 2.15.0, 2.13.0+cpu, 2.13.0, 2.11.0+cpu, 2.9.0, 2.8.0+cpu
"""


@pytest.fixture(autouse=True)
def index(monkeypatch):
    """The script, without its cached code beside it, and an index that is made up."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    LOADER.exec_module(script)
    found = SimpleNamespace(stdout=INDEX)
    monkeypatch.setattr(script.subprocess, "run", lambda *given, **named: found)
    return found


def options(lane, **given):
    return SimpleNamespace(**{"lane": lane, "short": False, "torch": None, "pre": False, **given})


def test_lowest_pins_every_package_that_an_extra_declares():
    pinned = script.requirements(options("lowest"))
    assert {"numpy==2.0", "keras==3.15", "tensorflow-cpu==2.19; sys_platform == 'linux'", "ray==2.40"} <= set(pinned)
    assert all("==" in line for line in pinned)
    names = {line.partition("==")[0] for line in pinned}
    declared = {
        line.partition(">=")[0] for extra in script.PROJECT.keys() - {"dev", "docs"} for line in script.PROJECT[extra]
    }
    assert declared <= names
    assert {"pytest", "hypothesis", "optax", "flax"} <= names


def test_the_short_form_is_a_part():
    short, whole = (set(script.requirements(options("lowest", short=part))) for part in (True, False))
    assert short < whole
    assert all((ROOT / path).exists() for path in script.SHORT_TESTS)


def test_newest_leaves_all_to_the_index():
    lines = script.requirements(options("newest"))
    assert [line for line in lines if "==" in line.partition(";")[0]] == ["torch==2.13.0+cpu"]


@pytest.mark.parametrize(
    ("lane", "without", "wanted"),
    [
        *[("lowest", "", "2.11.0+cpu"), ("newest", "", "2.13.0+cpu")],
        *[("lowest", "+cpu", "2.9.0"), ("newest", "+cpu", "2.15.0")],
    ],
)
def test_torch_is_a_build_for_cpus_if_there_is_one(index, lane, without, wanted):
    index.stdout = INDEX.replace(without, "") if without else INDEX
    assert script.cpu_build(lane, "2.9") == wanted
    assert f"torch=={wanted}" in script.requirements(options(lane))
    assert "torch==2.9.0" in script.requirements(options(lane, torch="2.9.0"))


def test_settings_of_pip_go_to_uv(index):
    index.stdout = (
        "global.extra-index-url='https://a/simple https://b/simple'\n:env:.find-links='/wheels'\nglobal.cert='c'\n"
    )
    places = [
        "--extra-index-url",
        "https://a/simple",
        "--extra-index-url",
        "https://b/simple",
        "--find-links",
        "/wheels",
    ]
    assert script.index_options(Path("python")) == places


def test_help_says_what_it_does(monkeypatch):
    monkeypatch.undo()
    said = run([sys.executable, ROOT / "scripts" / "test-versions", "--help"]).stdout
    assert "Run the tests on the lowest versions that pyproject.toml declares" in said
