"""Mutation testing: change the source in one place at a time, and see whether a test fails.

`scripts/test-mutants` runs this file; `docs/contributing.md` says how. One process collects the tests of a package and
forks a child for every mutant. The child replaces the code of the functions that differ. It then runs the tests that
reach the changed line until one fails; tests that found other mutants of the function run first. Nothing is imported
twice. Lambdas, properties and nested functions are changed as well; code that runs only at import is not.
"""

import argparse
import ast
import collections
import functools
import gc
import importlib
import math
import os
import pickle
import random
import resource
import signal
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[1]

TESTS = {
    "schedules": ["tests/schedules"],
    "bounds": ["tests/bounds", "--ignore=tests/bounds/test_gate.py"],
    "auto": ["tests/auto"],
}
"""The tests of each package, besides the examples in its docstrings."""

EQUIVALENT = Path(__file__).with_name("equivalent_mutants.txt")
"""Mutants that make no difference, as they are printed without the number of the line, and why after a #."""

SLOW = 4.0
"""Tests that take more seconds are left out."""

LEAST, TIMES = 10, 5
"""A mutant may take 10 seconds of a processor and five times what its tests take without it; then it counts as timed
out."""

SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
NAMES = {"min": "max", "any": "all", "floor": "ceil", "minimum": "maximum", "bisect_left": "bisect_right"}
NAMES |= {new: old for old, new in NAMES.items()}


@functools.cache
def source(path: Path) -> str:
    """Return the source that was imported, whatever is written while it is tested."""
    return path.read_text(encoding="utf-8")


class Mutant(NamedTuple):
    """One change of a module; `index` counts the changes of its file."""

    path: Path
    index: int
    node: ast.AST
    lines: range
    """Lines of the statement, or of its head."""
    function: str
    change: str
    tree: ast.Module
    """The changed module, until the next mutant is asked for."""

    def __str__(self) -> str:
        line = source(self.path).splitlines()[self.node.lineno - 1]
        return f"{self.path.name}:{self.node.lineno}:{self.node.col_offset + 1} {self.change} | {line.strip()}"

    @property
    def key(self) -> str:
        """The mutant without the number of its line, which other changes move."""
        place, rest = str(self).split(" ", 1)
        return f"{place.split(':')[0]} {rest}"


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Yield what can take the place of a node, and words that say so."""
    match node:
        case ast.BinOp(op=op) | ast.BoolOp(op=op) | ast.AugAssign(op=op):
            new = SWAPS[type(op)]
            yield f"{type(op).__name__} -> {new.__name__}", _with(node, op=new())
        case ast.Compare(ops=ops):
            for index, op in enumerate(ops):
                new = SWAPS[type(op)]
                swapped = [*ops[:index], new(), *ops[index + 1 :]]
                yield f"{type(op).__name__} -> {new.__name__}", _with(node, ops=swapped)
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield f"without {type(node.op).__name__}", operand
        case ast.Constant(value=bool(value)):
            yield f"{value} -> {not value}", _with(node, value=not value)
        case ast.Constant(value=int() | float() as value):
            yield f"{value} -> {value + 1}", _with(node, value=value + 1)
        case ast.Constant(value=str(value)):
            yield f"{value!r} -> another text", _with(node, value=f"XX{value}XX")
        case ast.Name(id=name) if name in NAMES:
            yield f"{name} -> {NAMES[name]}", _with(node, id=NAMES[name])
        case ast.Attribute(attr=name) if name in NAMES:
            yield f"{name} -> {NAMES[name]}", _with(node, attr=NAMES[name])
        case ast.Call(keywords=keywords):
            for keyword in keywords:
                if keyword.arg and not _is_words(keyword):
                    rest = [other for other in keywords if other is not keyword]
                    yield f"without {keyword.arg}=", _with(node, keywords=rest)
        case ast.If() | ast.IfExp():
            # The condition stays, so that the function keeps its free variables.
            yield "always", _with(node, test=ast.BoolOp(ast.Or(), [node.test, ast.Constant(True)]))
            yield "never", _with(node, test=ast.BoolOp(ast.And(), [node.test, ast.Constant(False)]))
        case ast.Break():
            yield "Break -> Continue", ast.Continue()
        case ast.Continue():
            yield "Continue -> Break", ast.Break()
        case ast.match_case():
            yield "never", _with(node, guard=ast.Constant(False))
    match node:
        case ast.Expr(value=ast.Call() | ast.YieldFrom()) | ast.AugAssign():
            yield "left out", ast.If(ast.Constant(0), [node], [])
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield "left out", ast.If(ast.Constant(0), [node], [])


def _with(node: ast.AST, **fields: Any) -> ast.AST:
    return type(node)(**{**dict(ast.iter_fields(node)), **fields})


def _is_words(node: ast.AST) -> bool:
    """True for what is only said: docstrings, f-strings, texts with a space, errors, `fix=`; and for `strict=`."""
    match node:
        case ast.Expr(value=ast.Constant()) | ast.JoinedStr() | ast.Raise() | ast.keyword(arg="fix" | "strict"):
            return True
        case ast.Constant(value=str(value)):
            return " " in value or not value
    return False


def mutants(path: Path) -> Iterator[Mutant]:
    """Yield the mutants of the functions of a file."""
    tree = ast.parse(source(path))
    index = 0

    def walk(node: ast.AST, names: tuple[str, ...], lines: range, in_function: bool) -> Iterator[Mutant]:
        nonlocal index
        in_function = in_function or isinstance(node, ast.FunctionDef | ast.Lambda)
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "decorator_list") or isinstance(value, ast.arguments):
                continue
            for position, child in list(enumerate(value)) if isinstance(value, list) else [(None, value)]:
                if not isinstance(child, ast.AST) or _is_words(child):
                    continue
                here, within = names, lines
                if isinstance(child, ast.FunctionDef | ast.ClassDef | ast.Lambda):
                    here = (*names, getattr(child, "name", "<lambda>"))
                if isinstance(child, ast.stmt):
                    body = getattr(child, "body", None) or getattr(child, "cases", None)
                    body = body and getattr(body[0], "pattern", body[0])
                    within = range(child.lineno, max(body.lineno, child.lineno + 1) if body else child.end_lineno + 1)
                for change, new in changes(child) if in_function else ():
                    located = child.pattern if isinstance(child, ast.match_case) else child
                    if not hasattr(located, "lineno"):
                        continue
                    ast.fix_missing_locations(ast.copy_location(new, located))
                    _put(node, field, position, new)
                    yield Mutant(path, index, located, within, ".".join(names), change, tree)
                    _put(node, field, position, child)
                    index += 1
                yield from walk(child, here, within, in_function)

    yield from walk(tree, (), range(0), False)


def _put(parent: ast.AST, field: str, position: int | None, node: ast.AST) -> None:
    if position is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[position] = node


def _codes(code: types.CodeType) -> list[types.CodeType]:
    return [each for each in code.co_consts if isinstance(each, types.CodeType)]


def replaced(old: types.CodeType, new: types.CodeType) -> dict[types.CodeType, types.CodeType]:
    """Return the code objects that differ, and what replaces them."""
    if old == new:
        return {}
    found = {old: new}
    inner, changed = _codes(old), _codes(new)
    if [code.co_qualname for code in inner] == [code.co_qualname for code in changed]:
        for one, other in zip(inner, changed, strict=True):
            found |= replaced(one, other)
    return found


class Runner:
    """A plugin of pytest that runs the collected tests for one mutant after another."""

    def __init__(self, package: str, options: argparse.Namespace) -> None:
        self.folder = ROOT / "src" / "cyclr" / package
        self.package, self.options = package, options
        self.found: dict[str, list[Mutant]] = collections.defaultdict(list)

    def pytest_configure(self, config: pytest.Config) -> None:
        import hypothesis

        # Without shrinking what fails.
        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        changed = {"phases": phases, "derandomize": True, "database": None, "max_examples": self.options.examples}
        hypothesis.settings.register_profile("mutants", hypothesis.settings.get_profile("cyclr"), **changed)
        hypothesis.settings.load_profile("mutants")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            return True
        self.items, begin = session.items, time.monotonic()
        for path in self.folder.glob("*[!_].py"):
            importlib.import_module(f"cyclr.{self.package}.{path.stem}")
        functions = (each for each in gc.get_objects() if isinstance(each, types.FunctionType))
        self.live = [each for each in functions if each.__code__.co_filename.startswith(str(self.folder))]
        self.seconds, self.reached = {}, collections.defaultdict(set)
        for seconds, reached in self._in_children(self._baseline):
            self.seconds |= seconds
            for line, tests in reached.items():
                self.reached[line] |= tests
        self._say(f"{len(self.items)} tests take {sum(self.seconds.values()):.0f} s, and took", begin)
        listed = [mutant for path in sorted(self.folder.glob("*.py")) for mutant in mutants(path)]
        listed = [mutant for mutant in listed if any(part in f"{self.package}/{mutant}" for part in self.options.only)]
        self.total = len(listed)
        # In any order, so that those before the time is over are a sample too.
        self.listed = random.Random(self.options.seed).sample(
            listed, min(self.options.sample or len(listed), len(listed))
        )
        self.end = time.monotonic() + 60 * self.options.minutes
        for outcomes in self._in_children(self._outcomes):
            for number, outcome in outcomes:
                self.found[outcome].append(self.listed[number])
        self._say(f"{len(self.listed)} mutants took", begin)
        return True

    def _say(self, words: str, begin: float) -> None:
        print(f"{words} {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)

    def _outcomes(self, job: int) -> list[tuple[int, str]]:
        """Try every so many-th mutant, until the time is over."""
        kills: collections.Counter[Any] = collections.Counter()
        equivalent = EQUIVALENT.read_text(encoding="utf-8").splitlines()
        outcomes: list[tuple[int, str]] = []
        for number in range(job, len(self.listed), self.options.jobs):
            mutant = self.listed[number]
            if time.monotonic() > self.end:
                break
            if any(line.startswith(f"{self.package}/{mutant.key} # ") for line in equivalent):
                outcomes.append((number, "equivalent"))
                continue
            path, place = str(mutant.path), (mutant.path, mutant.function)
            near = [self.reached.get((path, line), set()) for line in mutant.lines]
            tests = sorted(self.reached.get((path, mutant.node.lineno)) or set().union(*near), key=self.seconds.get)
            tests.sort(key=lambda test: (kills[place, test], kills[test] > 20), reverse=True)
            outcome = self._in_child(lambda: self._test(mutant, tests)) if tests else "not reached"  # noqa: B023
            if isinstance(outcome, int):
                kills[place, outcome] += 1
                kills[outcome] += 1
                outcome = "killed"
            outcomes.append((number, outcome))
            if outcome not in ("killed", "timed out"):
                print(f"{outcome}: {self.package}/{mutant}", flush=True)
        return outcomes

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed = self.failed or report.failed

    def _in_children(self, run: Callable[[int], Any]) -> list[Any]:
        """Return what a function returns for each job, in a child each."""
        pipes = [self._start(lambda: run(job)) for job in range(self.options.jobs)]  # noqa: B023
        return [self._answer(pipe) for pipe in pipes]

    def _in_child(self, run: Callable[[], Any]) -> Any:
        """Return what a function returns in a child, or "timed out" if a limit ends the child."""
        answer = self._answer(self._start(run))
        return "timed out" if answer is None else answer

    def _start(self, run: Callable[[], Any]) -> tuple[int, int]:
        ends = os.pipe()
        child = os.fork()
        if child:
            os.close(ends[1])
            return child, ends[0]
        answer: Any = "broken"
        try:
            answer = run()
        finally:
            with os.fdopen(ends[1], "wb") as pipe:
                pickle.dump(answer, pipe)
            os._exit(0)

    def _answer(self, started: tuple[int, int]) -> Any:
        with os.fdopen(started[1], "rb") as pipe:
            answer = pipe.read()
        os.waitpid(started[0], 0)
        return pickle.loads(answer) if answer else None  # noqa: S301

    def _run(self, test: int) -> bool:
        """Run a test, and return True if it passes."""
        item, self.failed = self.items[test], False
        try:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
        except BaseException:
            return False
        return not self.failed

    def _baseline(self, job: int) -> Any:
        """Run every so many-th test. Return the seconds of each, and the tests that reach each line."""
        seconds, reached, hit = {}, collections.defaultdict(set), set()
        folder = str(self.folder)
        _silence()

        def trace(frame: types.FrameType, event: str, argument: Any) -> Any:
            if not frame.f_code.co_filename.startswith(folder):
                return None
            hit.add((frame.f_code.co_filename, frame.f_lineno))
            return trace

        for test in range(job, len(self.items), self.options.jobs):
            hit.clear()
            begin = time.process_time()
            sys.settrace(trace)
            passed = self._run(test)
            sys.settrace(None)
            seconds[test] = time.process_time() - begin
            # Some fail because a trace is slow, or calls functions.
            if passed and seconds[test] < SLOW:
                for line in hit:
                    reached[line].add(test)
        return seconds, dict(reached)

    def _test(self, mutant: Mutant, tests: list[int]) -> int | str:
        """Return the test that fails with a mutant, or "survived"."""
        _silence()
        limit = LEAST + TIMES * sum(self.seconds[test] for test in tests)
        resource.setrlimit(resource.RLIMIT_DATA, (8 << 30, 8 << 30))
        signal.setitimer(signal.ITIMER_PROF, limit)
        signal.alarm(900 + 20 * int(limit))
        old = compile(ast.parse(source(mutant.path)), str(mutant.path), "exec")
        again = next(each for each in mutants(mutant.path) if each.index == mutant.index)
        codes = replaced(old, compile(again.tree, str(mutant.path), "exec"))
        applied = 0
        for function in self.live:
            code = codes.get(function.__code__)
            if code is not None:
                if code.co_freevars != function.__code__.co_freevars:
                    return "not possible"
                function.__code__ = code
                applied += 1
        if not applied:
            return "same code" if len(codes) < 2 else "only at import"
        return next((test for test in tests if not self._run(test)), "survived")


def _silence() -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)


def interval(killed: int, of: int) -> tuple[float, float]:
    """Return the 95 % interval of Wilson for a share."""
    z, share = 1.96, killed / of
    middle, width = share + z * z / (2 * of), z * math.sqrt(share * (1 - share) / of + (z / (2 * of)) ** 2)
    return (middle - width) / (1 + z * z / of), (middle + width) / (1 + z * z / of)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="scripts/test-mutants", description="How many mutants the tests find.")
    parser.add_argument("package", nargs="*", default=list(TESTS), help=", ".join(TESTS))
    parser.add_argument("--sample", type=int, default=0, help="number of mutants in each package, drawn with the seed")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--jobs", type=int, default=1, help="processes; default: 1")
    parser.add_argument(
        "--only", nargs="*", default=[""], help='only mutants of which a part of the line is this, as "anneal.py:95"'
    )
    parser.add_argument("--examples", type=int, default=60, help="examples of each test by Hypothesis; default: 60")
    parser.add_argument("--tests", nargs="*", help="other tests than those of the package")
    parser.add_argument("--minutes", type=float, default=math.inf, help="time after which no further mutant is tried")
    options = parser.parse_args()
    os.chdir(ROOT)
    rows = []
    for package in options.package:
        runner = Runner(package, options)
        paths = options.tests or [*TESTS[package], "--doctest-modules", f"src/cyclr/{package}"]
        status = pytest.main(["-q", "-s", "--no-header", "-p", "no:cacheprovider", *paths], plugins=[runner])
        if not runner.found:
            return int(status) or 1
        number = collections.Counter({outcome: len(found) for outcome, found in runner.found.items()})
        killed = number["killed"] + number["timed out"]
        counted = killed + number["survived"] + number["not reached"]
        low, high = interval(killed, max(counted, 1))
        rows.append(
            f"{package:10} {runner.total:8} {counted:7} {number['killed']:7} {number['timed out']:9} "
            f"{number['survived']:8} {number['not reached']:11} {number['equivalent']:10}   "
            f"{killed / max(counted, 1):.1%} ({low:.1%} to {high:.1%})"
        )
        print(dict(number), file=sys.stderr)
    print("package     mutants  tested  killed timed out survived not reached equivalent   found (95 % interval)")
    print(*rows, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
