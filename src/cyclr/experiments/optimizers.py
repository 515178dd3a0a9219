"""Check optimizer names in the source files of a framework, without importing the framework, and create optimizers."""

import ast
import functools
import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cyclr._checks import did_you_mean
from cyclr.errors import CyclrError
from cyclr.experiments._typed import unknown

_PACKAGES = {"keras": "optimizers", "torch": "optim"}


def check(table: Mapping[str, Any], frameworks: Iterable[str]) -> None:
    """Raise if none of the frameworks has an optimizer, or if the optimizer does not take an argument.

    The frameworks are not imported. If their source files cannot be read, nothing is checked.

    Args:
        table: `name`, in upper or lower case, and arguments.
        frameworks: some of `"keras"`, `"torch"`.

    Raises:
        CyclrError: the optimizer or an argument does not exist.
    """
    known: dict[str, list[tuple[str, Path]]] = {}
    for name, file in (source for framework in frameworks for source in _sources(framework).items()):
        known.setdefault(name.lower(), []).append((name, file))
    if not known:
        return
    found = known.get(table["name"].lower())
    if found is None:
        raise _no_optimizer(table["name"], [sources[0][0] for sources in known.values()])
    arguments = list(dict.fromkeys(argument for name, file in found for argument in _arguments(name, file)))
    for given in table.keys() - {"name", *arguments} if arguments else ():
        raise CyclrError(unknown(f"optimizer {found[0][0]}", given, arguments))


def make(module: Any, table: Mapping[str, Any], *parameters: Any, **defaults: Any) -> Any:
    """Create the optimizer that a table describes, such as `{"name": "SGD", "momentum": 0.9}`.

    Args:
        module: `keras.optimizers` or `torch.optim`.
        table: `name`, in upper or lower case, and arguments.
        parameters, defaults: further arguments; the arguments of the table take precedence.

    Raises:
        CyclrError: the module has no optimizer of this name, or the optimizer does not take these arguments.
    """
    arguments = {name: value for name, value in table.items() if name != "name"}
    known = {
        name.lower(): kind
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, module.Optimizer) and kind is not module.Optimizer
    }
    kind = known.get(table["name"].lower())
    if kind is None:
        raise _no_optimizer(table["name"], [kind.__name__ for kind in known.values()])
    try:
        return kind(*parameters, **{**defaults, **arguments})
    except (TypeError, ValueError) as error:
        raise CyclrError(f"optimizer {table['name']} does not take the arguments {arguments}: {error}.") from error


def _no_optimizer(given: str, known: list[str]) -> CyclrError:
    hint = did_you_mean(given, known)
    # Optimizers that wrap another optimizer cannot be created by name.
    names = sorted({name for name in known if not name.endswith("Optimizer")})
    return CyclrError(f"optimizer must be one of {', '.join(names)}; got {given!r}.{hint and ' ' + hint}")


@functools.cache
def _sources(framework: str) -> dict[str, Path]:
    """Return the public optimizers of an installed framework, each with the file of its class."""
    found = importlib.util.find_spec(framework)
    if found is None or found.origin is None:
        return {}
    root = Path(found.origin).parent
    try:
        tree = ast.parse((root / _PACKAGES[framework] / "__init__.py").read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return {}
    return {
        one.asname or one.name: Path(root.parent, *(node.module or "").split(".")).with_suffix(".py")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for one in node.names
        if one.name[0].isupper() and one.name not in ("Optimizer", "OptimizerMap")
    }


def _arguments(name: str, file: Path) -> list[str]:
    """Return the argument names of an optimizer's class; empty if its source file does not contain them."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return []
    for kind in tree.body:
        for node in kind.body if isinstance(kind, ast.ClassDef) and kind.name == name else ():
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                names = [one.arg for one in (*node.args.args, *node.args.kwonlyargs)]
                return [one for one in names if one not in ("self", "params")]
    return []
