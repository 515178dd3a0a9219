"""Number of cyclr's files that a reader passes in four walks, each from the call of a user to its result.

    python benchmarks/walks.py              the walks, a process each
    python benchmarks/walks.py lines        lines of Python per package
    python benchmarks/walks.py private      private names of frameworks, per file

A walk enters a file whenever one of its functions is called. Consecutive entries of one file count once; returns and
code that runs at import do not count. A crossing is an entry of a different file than the previous entry. Two files
with crossings in both directions are a pair "both ways". To measure other sources, set PYTHONPATH to their `src`.
"""

import ast
import contextlib
import importlib
import io
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any
from unittest import mock

import numpy as np

import cyclr

SOURCE = Path(cyclr.__file__).parent


class Walk:
    """Record the files that are entered while the block runs, in order. Consecutive entries of one file count once."""

    def __init__(self) -> None:
        self.entries: list[str] = []
        self._files: dict[CodeType, str | None] = {}
        self._imports = 0

    def _file(self, code: CodeType) -> str | None:
        if code not in self._files:
            path = Path(code.co_filename)
            inside = path.is_relative_to(SOURCE) and path.exists()
            self._files[code] = str(path.relative_to(SOURCE)) if inside else None
        return self._files[code]

    def _see(self, frame: FrameType, event: str, _: Any) -> None:
        if event not in ("call", "return"):
            return
        if frame.f_code.co_name == "<module>":
            self._imports += 1 if event == "call" else -1
        elif event == "call" and not self._imports:
            file = self._file(frame.f_code)
            if file is not None and (not self.entries or self.entries[-1] != file):
                self.entries.append(file)

    @contextlib.contextmanager
    def seen(self) -> Iterator[None]:
        sys.setprofile(self._see)
        try:
            yield
        finally:
            sys.setprofile(None)

    def numbers(self) -> dict[str, Any]:
        python = [file for file in self.entries if file.endswith(".py")]
        # Without the templates, two consecutive entries may belong to one file.
        crossings = Counter((one, other) for one, other in itertools.pairwise(python) if one != other)
        return {
            "files": len(set(python)),
            "templates": len(set(self.entries) - set(python)),
            "crossings": sum(crossings.values()),
            "distinct": len(crossings),
            "both ways": sum(one < other and (other, one) in crossings for one, other in crossings),
            "order": list(dict.fromkeys(self.entries)),
        }


def in_keras(callbacks: Callable[[Any], list[Any]], *, in_graph: bool) -> Walk:
    """Two updates by `fit` on JAX, which compiles the step at the first update."""
    import keras

    import cyclr.keras

    schedule = cyclr.Cyclical(0.001, 0.1, 4)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    rate = cyclr.keras.LearningRate(schedule) if in_graph else 0.01
    model.compile(keras.optimizers.SGD(rate), "mse")
    x = np.ones((8, 3), "float32")
    used, walk = callbacks(schedule), Walk()
    with walk.seen():
        model.fit(x, x[:, :1], batch_size=4, verbose=0, callbacks=used)
    return walk


def learning_rate() -> Walk:
    return in_keras(lambda schedule: [], in_graph=True)


def callback_for_logs() -> Walk:
    import cyclr.keras

    return in_keras(lambda schedule: [cyclr.keras.ScheduleCallback()], in_graph=True)


def callback() -> Walk:
    import cyclr.keras

    return in_keras(lambda schedule: [cyclr.keras.ScheduleCallback(schedule)], in_graph=False)


def range_test() -> Walk:
    """A range test of torch, from a loss to the plot."""
    import torch

    import cyclr.torch

    torch.manual_seed(0)
    x = torch.randn(320, 4)
    data = [(x[i : i + 32], x[i : i + 32].sum(1, keepdim=True)) for i in range(0, 320, 32)]
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    walk = Walk()
    with walk.seen():
        result = cyclr.torch.range_test(
            model, optimizer, torch.nn.functional.mse_loss, data, min_lr=1e-5, max_lr=1.0, steps=142, stop_factor=None
        )
        result.plot()
    return walk


WORKLOAD = """
import numpy as np, torch

def build():
    rng = np.random.default_rng(0)
    y = np.arange(400) % 3
    x = (np.eye(3)[y] + 0.7 * rng.normal(size=(400, 3))).astype("float32")
    return torch.nn.Linear(3, 3), ((x[:320], y[:320]), (x[320:], y[320:]))
"""


def command(*arguments: str) -> None:
    from cyclr.cli.main import main

    with mock.patch.object(sys, "argv", ["cyclr", *arguments]), contextlib.suppress(SystemExit):
        main()


def comparison() -> Walk:
    """A comparison of two policies with one seed, from the command line to the page. Trials run in this process."""
    import torch  # noqa: F401  # Loaded before the trial runs, as in a worker.

    from cyclr.experiments.engines.local import LocalEngine
    from cyclr.experiments.events import Finished
    from cyclr.experiments.trial import run_trial

    class Here(LocalEngine):
        """Runs trials in this process, so that their calls are recorded."""

        def submit(self, trial: Any) -> None:
            self._trial = trial

        def poll(self) -> list[Any]:
            events: list[Any] = []
            record = run_trial(self._trial, events.append)
            return [*events, Finished(record)]

    walk = Walk()
    compare = importlib.import_module("cyclr.experiments.compare")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "work.py").write_text(WORKLOAD, encoding="utf-8")
        run = f"{folder}/run"
        policies = ["--policy", "fixed:0.1", "--policy", "triangular", "--seeds", "1", "--epochs", "3"]
        options = ["--workload", f"{folder}/work.py:build", "--batch-size", "32", "--output", run, "--workers", "1"]
        shown = io.StringIO()
        with mock.patch.object(compare, "LocalEngine", Here), contextlib.redirect_stdout(shown), walk.seen():
            command("compare", *policies, *options)
            command("report", run)
        if not Path(run, "report.html").exists():
            raise RuntimeError(shown.getvalue())
    return walk


WALKS: dict[str, tuple[Callable[[], Walk], str]] = {
    "learning-rate": (learning_rate, "a step through Keras' LearningRate"),
    "callback-for-logs": (callback_for_logs, "the same with ScheduleCallback() for the logs, 2 steps"),
    "callback": (callback, "ScheduleCallback(lr=...), 2 steps"),
    "range-test": (range_test, "a loss through torch's range_test to its plot, 142 updates"),
    "compare": (comparison, "a trial through cyclr compare to its page, 2 policies, 1 seed"),
}


def measured(*names: str) -> list[dict[str, Any]]:
    """Return the numbers of walks, each measured in a separate process."""
    output = subprocess.run([sys.executable, __file__, *names], check=True, stdout=subprocess.PIPE).stdout
    found: list[dict[str, Any]] = json.loads(output.splitlines()[-1])
    return found


def print_walks() -> None:
    print("| walk | Python files | templates | crossings | distinct | both ways |\n|---|---|---|---|---|---|")
    orders = {}
    for name, (_, title) in WALKS.items():
        (found,) = measured(name)
        orders[name] = found.pop("order")
        print(f"| {title} | {' | '.join(str(number) for number in found.values())} |", flush=True)
    for name, order in orders.items():
        print(f"\n{name}: {' → '.join(order)}")


def print_lines() -> None:
    lines: Counter[str] = Counter()
    for file in sorted(SOURCE.rglob("*.py")):
        part = file.relative_to(SOURCE).parts
        lines[part[0] if len(part) > 1 else "ground"] += len(file.read_text(encoding="utf-8").splitlines())
    print("| package | lines |\n|---|---|")
    for package, count in [*lines.items(), ("all", lines.total())]:
        print(f"| {package} | {count:,} |")


def trees() -> dict[str, ast.Module]:
    return {
        str(file.relative_to(SOURCE)): ast.parse(file.read_text(encoding="utf-8"))
        for file in sorted(SOURCE.rglob("*.py"))
    }


DOCUMENTED = {"_fields", "_replace", "_asdict", "_make", "_exit", "_getframe"}
"""Names with an underscore that are public in Python: of named tuples, `os` and `sys`."""


def is_private(name: object) -> bool:
    underscored = isinstance(name, str) and name.startswith("_") and not name.startswith("__")
    return underscored and name not in DOCUMENTED


def used_attributes(tree: ast.Module) -> Iterator[str]:
    """Yield the private names that a module reads or sets on objects, by attributes or by `getattr` and others."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            yield node.attr
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            if called in ("getattr", "setattr", "hasattr", "delattr", "__setattr__"):
                yield from (a.value for a in node.args[1:2] if isinstance(a, ast.Constant) and is_private(a.value))


def own_names(tree: ast.Module) -> Iterator[str]:
    """Yield the names that a module of cyclr defines: functions, classes, variables, fields, attributes of `self`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name):
            if node.value.id in ("self", "cls"):
                yield node.attr
        elif isinstance(node, ast.ImportFrom | ast.Import):
            yield from (alias.asname or alias.name for alias in node.names)


def private_names() -> dict[str, Counter[str]]:
    """Return for each file the private names of other packages with the number of uses, and private modules."""
    modules = trees()
    own = {name for tree in modules.values() for name in own_names(tree)}
    found = {}
    for file, tree in modules.items():
        used = Counter(name for name in used_attributes(tree) if name not in own)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and not node.module.startswith("cyclr"):
                parts = node.module.split(".")
                if any(map(is_private, [*parts, *(alias.name for alias in node.names)])) or "src" in parts:
                    used[node.module] += 1
        if used:
            found[file] = used
    return found


def print_private() -> None:
    found = private_names()
    print("| file | accesses | names |\n|---|---|---|")
    for file, names in found.items():
        print(f"| {file} | {names.total()} | {', '.join(sorted(names))} |")
    every = sum(found.values(), Counter())
    print(f"| {len(found)} files | {every.total()} | {len(every)} names |")


def main() -> None:
    match sys.argv[1:]:
        case []:
            print_walks()
        case ["lines"]:
            print_lines()
        case ["private"]:
            print_private()
        case names:
            # Read by the frameworks when a walk imports them.
            os.environ |= {
                "KERAS_BACKEND": "jax",
                "JAX_PLATFORMS": "cpu",
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "MPLBACKEND": "Agg",
            }
            print(json.dumps([WALKS[name][0]().numbers() for name in names]))


if __name__ == "__main__":
    main()
