"""Optional packages that are missing or too old, and the floors that pyproject.toml declares."""

import re
import sys
import tomllib
import types
from pathlib import Path

import pytest
from tests.processes import run

from cyclr import MissingExtraError, _extras

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DECLARED = re.compile(r"(?P<name>[\w-]+)(\[[\w,]+\])?>=(?P<version>[\d.]+)")


def declared() -> dict[str, set[str]]:
    """The lowest versions of each distribution, over all extras."""
    found: dict[str, set[str]] = {}
    for requirements in [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]:
        for requirement in requirements:
            if match := DECLARED.match(requirement):
                found.setdefault(match["name"], set()).add(match["version"])
    return found


def test_floors_are_those_of_pyproject() -> None:
    floors = declared()
    assert [name for name, versions in floors.items() if len(versions) > 1] == []
    for package, version in _extras.LOWEST.items():
        assert floors[_extras.DISTRIBUTIONS.get(package, package)] == {version}, package
    assert floors["tensorflow-cpu"] == floors["tensorflow"]


def test_every_extra_of_a_message_exists() -> None:
    calls = [path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py")]
    named = {extra for text in calls for extra in re.findall(r'extra="(\w+)"|cyclr\[(\w+)\]', text) for extra in extra}
    assert named - {""} <= PROJECT["optional-dependencies"].keys()


@pytest.mark.parametrize(
    ("version", "refused"),
    [
        *[("2.8.9", True), ("1.13.1", True), ("2.8.0+cu128", True), ("0.4", True), ("2", True)],
        *[("2.9", False), ("2.9.0", False), ("2.10.0a0+git123", False), ("2.9.0rc1", False), ("10.0", False)],
        ("of our own", False),
    ],
)
def test_a_version_is_compared_by_its_numbers(version, refused, monkeypatch):
    monkeypatch.setitem(_extras.LOWEST, "fake", "2.9")
    monkeypatch.setitem(sys.modules, "fake", types.SimpleNamespace(__version__=version))
    if not refused:
        return _extras.check("pictures need", "fake")
    message = f'pictures need fake 2.9 or newer; got {version}. Run: pip install "fake>=2.9".'
    with pytest.raises(MissingExtraError, match=f"^{re.escape(message)}$"):
        _extras.check("pictures need", "fake")


def test_a_package_without_its_version_is_looked_up(monkeypatch):
    monkeypatch.setitem(_extras.LOWEST, "pytest", "10000")
    monkeypatch.setitem(sys.modules, "pytest", types.SimpleNamespace())
    with pytest.raises(MissingExtraError, match=rf"pytest 10000 or newer; got {pytest.__version__}\."):
        _extras.check("tests need", "pytest")
    monkeypatch.setitem(_extras.LOWEST, "not_on_any_index", "2.9")
    monkeypatch.setitem(sys.modules, "not_on_any_index", types.SimpleNamespace())
    _extras.check("tests need", "not_on_any_index")


# The module that uses each package, the package, and its extra.
USERS = [
    ("cyclr.torch", "torch", "torch"),
    ("cyclr.jax", "jax", "jax"),
    ("cyclr.keras", "keras", "tensorflow"),
    ("cyclr.torch.lightning", "lightning", "lightning"),
    ("cyclr.torch.transformers", "transformers", "transformers"),
    ("cyclr.torch.transformers", "accelerate", "transformers"),
    ("cyclr.drawing.axes", "matplotlib", "plot"),
    ("cyclr.records", "msgspec", "compare"),
    ("cyclr.experiments", "msgspec", "compare"),
]
FAKE = """
import sys, types, importlib.abc, importlib.machinery

class Kind(type):
    # Classes that have every attribute, can be called with anything, and decorate nothing.

    def __new__(cls, name, bases=(), members=None, **given):
        return super().__new__(cls, name, bases or (Decorator,), dict(members or {}))

    def __init__(self, *given, **named):
        pass

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Kind(name)

    def __getitem__(self, given):
        return self

class Decorator:
    def __init__(self, *given, **named):
        pass

    def __call__(self, decorated):
        return decorated

class Fake(types.ModuleType):
    __path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Kind(name)

class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in PACKAGES:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return Fake(spec.name)

    def exec_module(self, module):
        pass

sys.meta_path.insert(0, Finder())
for user, package, missing in CASES:
    for name in [name for name in sys.modules if name.partition(".")[0] in {"cyclr", *PACKAGES}]:
        del sys.modules[name]
    for other in PACKAGES:
        __import__(other).__version__ = "0.0.1" if other == package else "10000"
    if missing:
        sys.modules[package] = None
    try:
        __import__(user)
    except ImportError as error:
        print(type(error).__name__, error, sep=": ")
    else:
        print("imported")
"""


@pytest.mark.parametrize("missing", [False, True], ids=["too old", "missing"])
def test_every_module_that_uses_a_package_refuses_it_at_its_import(missing: bool) -> None:
    packages = {package for _, package, _ in USERS} | {"torchmetrics", "tensorflow"}
    cases = [(user, package, missing) for user, package, _ in USERS]
    program = f"PACKAGES, CASES = {packages!r}, {cases!r}{FAKE}"
    printed = run([sys.executable, "-c", program]).stdout.splitlines()
    for said, (user, package, extra) in zip(printed, USERS, strict=True):
        fact = "needs? " if missing else rf"needs? .*{_extras.LOWEST[package]} or newer; got 0\.0\.1\. "
        wanted = f"cyclr[{extra}]" if missing else _extras.requirement(package)
        assert re.fullmatch(rf'MissingExtraError: \S.* {fact}.*pip install "{re.escape(wanted)}".*', said), (
            user,
            package,
            said,
        )
