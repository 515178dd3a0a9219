"""Check and run a user's file with a function that returns a model, and show errors by the lines of that file."""

import ast
import contextlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cyclr import _files, _plain
from cyclr._checks import did_you_mean
from cyclr.errors import CyclrError

FRAMEWORKS = {"keras": "keras", "tensorflow": "keras", "tf_keras": "keras", "torch": "torch", "torchvision": "torch"}
"""The framework of a user's model, by the packages that the user's file imports."""


def check(workload: str, path: Path) -> tuple[str, ...]:
    """Raise if a workload does not name a function in a Python file. The file is read, but not run.

    Args:
        workload: `FILE.py:function`.
        path: path of the file on this machine.

    Returns:
        The frameworks that the file imports, `"keras"` and `"torch"`; both if it imports neither.

    Raises:
        CyclrError: the file or the function does not exist, the function needs arguments, or the file is not Python.
    """
    name, _, function = workload.rpartition(":") if ":" in workload else (workload, "", "")
    if path.is_dir():
        raise CyclrError(f"{name!r} is a folder. Write FILE.py:function, such as {Path(name, 'model.py')}:build.")
    if path.suffix != ".py":
        raise CyclrError(f"{name!r} must be a Python file. Write FILE.py:function, such as model.py:build.")
    if not path.is_file():
        raise CyclrError(f"{name!r} does not exist. Check the path.")
    try:
        source = importlib.util.decode_source(_files.read_regular(path))
        tree = ast.parse(source, name)
    except OSError as error:
        raise CyclrError(f"{name!r} cannot be read: {error.strerror or error}. Check its permissions.") from error
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise CyclrError(f"{name!r} must be Python; it is not: {_plain.why(error)}.") from error
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    public = [known for known in functions if not known.startswith("_")]
    if not function:
        write = f"Write {name}:{public[0]}." if public else "Write a function that returns a model."
        raise CyclrError(f"{name} needs the name of a function in it; it has {', '.join(public) or 'none'}. {write}")
    if function in functions:
        given = functions[function].args
        required = [*given.posonlyargs, *given.args][: len(given.posonlyargs + given.args) - len(given.defaults)]
        required += [one for one, default in zip(given.kwonlyargs, given.kw_defaults, strict=True) if default is None]
        if required:
            raise CyclrError(
                f"{workload} is called without arguments; it needs {', '.join(one.arg for one in required)}. Give them "
                "defaults, or write a function without arguments that calls it."
            )
    elif function not in _bound(tree) and "import *" not in source:
        raise no_function(name, function, public)
    imported = {one.partition(".")[0] for one in _imported(tree)}
    return tuple(dict.fromkeys(FRAMEWORKS[one] for one in FRAMEWORKS if one in imported)) or ("keras", "torch")


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""


def _bound(tree: ast.Module) -> set[str]:
    """Return all names that the file binds anywhere: it may define a function in an `if`, or by a call."""
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                names |= {one.asname or one.name.partition(".")[0] for one in aliases}
    return names


def no_function(file: str, name: str, known: list[str]) -> CyclrError:
    """Return the error for a file that lacks the function."""
    hint = did_you_mean(name, known)
    return CyclrError(f"{file} has no function {name!r}. {hint and hint + ' '}It has {', '.join(known) or 'none'}.")


@contextlib.contextmanager
def importable_folder(file: Path | None) -> Iterator[None]:
    """Make modules in the folder of a user's file importable inside this context, as Python does for scripts."""
    if file is None:
        yield
        return
    folder = str(file.parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        # Removed by value, because the file may have inserted entries before it.
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)


def load_function(workload: str, file: Path) -> Callable[[], Any]:
    """Run the user's file, and return its function. Call this, and the function, inside `importable_folder`."""
    name, _, function_name = workload.rpartition(":")
    loaded = sys.modules.get(file.stem)
    is_free = loaded is None or getattr(loaded, "__file__", None) == str(file)
    module_name = file.stem if is_free else f"workload_{file.stem}"
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise CyclrError(f"{name} cannot be imported as Python.")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickle look up the module in sys.modules.
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    function: Any = getattr(module, function_name, None)
    if not callable(function):
        functions = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise no_function(name, function_name, functions)
    return function  # type: ignore[no-any-return]


def own_traceback(error: BaseException, file: Path | None) -> str:
    """Return the traceback of an error with only the lines in the user's folder; `""` if it has no such lines."""
    if file is None:
        return ""
    shown = traceback.TracebackException.from_exception(error)
    kept, chain = 0, [shown]
    while chain:
        one = chain.pop()
        own = [frame for frame in one.stack if is_in_folder(frame.filename, file.parent)]
        one.stack[:] = own
        kept += len(own)
        chain += [cause for cause in (one.__cause__, one.__context__) if cause is not None]
    return plain_text("".join(shown.format())) if kept or isinstance(error, SyntaxError) else ""


def is_in_folder(filename: str, folder: Path) -> bool:
    """Return True if a source file is in a folder, but not in packages that are installed in this folder."""
    path = Path(filename)
    return path.is_relative_to(folder) and "site-packages" not in path.relative_to(folder).parts


def plain_text(text: str) -> str:
    """Return a message of a framework without colors, and without the call details of Keras and TensorFlow."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    text = re.sub(r"in user code:\n\n(?: {4}File .*\n(?: {8}.*\n)+)+\n? {4}\w+: ", "", text)
    text = re.sub(r"Exception encountered when calling .*?\.call\(\)\.\s+", "", text)
    return re.sub(r"\s*\n\s*Arguments received by .*?(?=\n\S*Error|\Z)", "", text, flags=re.DOTALL)
