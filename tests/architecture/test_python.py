"""Newer Pythons than there are to test on: nothing in the sources is removed or deprecated up to Python 3.14."""

import ast
import warnings
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "cyclr"
# By "What's new" of Python 3.12 to 3.14: full names that these removed or deprecated.
GONE = """
    ast.Bytes ast.Ellipsis ast.NameConstant ast.Num ast.Str asyncio.AbstractEventLoopPolicy
    asyncio.DefaultEventLoopPolicy asyncio.get_child_watcher asyncio.get_event_loop_policy
    asyncio.iscoroutinefunction asyncio.set_event_loop_policy codecs.open configparser.LegacyInterpolation
    datetime.datetime.utcfromtimestamp datetime.datetime.utcnow glob.glob0 glob.glob1 importlib.abc.ResourceReader
    importlib.abc.Traversable importlib.abc.TraversableResources importlib.find_loader
    importlib.machinery.DEBUG_BYTECODE_SUFFIXES importlib.machinery.OPTIMIZED_BYTECODE_SUFFIXES
    importlib.machinery.WindowsRegistryFinder importlib.resources.contents importlib.resources.is_resource
    importlib.resources.open_binary importlib.resources.open_text importlib.resources.path
    importlib.resources.read_binary importlib.resources.read_text locale.getdefaultlocale locale.resetlocale
    logging.warn pkgutil.ImpImporter pkgutil.find_loader pkgutil.get_loader platform.java_ver pty.master_open
    pty.slave_open re.template shutil.ExecError ssl.match_hostname ssl.wrap_socket sys.last_type sys.last_value
    sysconfig.expand_makefile_vars types.CodeType.co_lnotab typing.ByteString typing.io
    typing.no_type_check_decorator typing.re unittest.findTestCases unittest.makeSuite urllib.request.FancyURLopener
    urllib.request.URLopener zipimport.zipimporter.find_loader
"""
MODULES = """
    aifc asynchat asyncore audioop cgi cgitb chunk crypt distutils imghdr imp lib2to3 mailcap msilib nis nntplib
    ossaudiodev pipes smtpd sndhdr spwd sunau telnetlib uu xdrlib
"""
# Arguments that are gone or deprecated, and names that mean something else where annotations are not evaluated (3.14).
WORDS = {"onerror", "__annotations__", "__package__", "__cached__", "co_lnotab"}


def used(source: str) -> set[str]:
    """Modules and full names that a module uses, and its attributes, arguments and texts that may be in `WORDS`."""
    found, known = set(), {}
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {f"import {alias.name.partition('.')[0]}" for alias in node.names}
            known |= {alias.asname or alias.name.partition(".")[0]: alias.asname and alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
            found.add(f"import {str(node.module).partition('.')[0]}")
            known |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute):
            parts = ast.unparse(node).split(".")
            found |= {".".join([known.get(parts[0]) or parts[0], *parts[1:]]), node.attr}
        elif isinstance(node, ast.keyword) and node.arg:
            found.add(node.arg)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found


def gone(source: str) -> set[str]:
    return used(source) & {*GONE.split(), *WORDS, *(f"import {module}" for module in MODULES.split())}


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_a_module_uses_nothing_that_newer_pythons_lack(path):
    source = path.read_text(encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compile(source, str(path), "exec")
    assert gone(source) == set()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import datetime\ndatetime.datetime.utcnow()", "datetime.datetime.utcnow"),
        ("from datetime import datetime\ndatetime.utcnow()", "datetime.datetime.utcnow"),
        ("import datetime as dt\ndt.datetime.utcnow()", "datetime.datetime.utcnow"),
        ("import shutil\nshutil.rmtree('a', onerror=print)", "onerror"),
        ("members = vars(int).get('__annotations__')", "__annotations__"),
        ("import distutils.version", "import distutils"),
        ("from codecs import open", "codecs.open"),
    ],
)
def test_the_check_finds_them(source, found):
    assert found in gone(source)
