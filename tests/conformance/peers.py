"""The tables of docs/how-to/migrate.md as data: schedulers of other libraries, and the schedules that replace them.

A table with the heading "cyclr" in its second column is read row by row; both expressions are evaluated with the names
of the page's first block. What a remark says in these words is used: "the first `…` steps" ends the comparison,
"differs by up to …" is the tolerance, "`momentum=`" compares momenta. A new row of the page needs no line here.
"""

import importlib
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from tests.conformance import published

import cyclr
from cyclr import Schedule

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "migrate.md"
EXACT = 1e-12

MODULES = {
    "torch.optim": ["torch.optim.lr_scheduler", "torch.optim.swa_utils"],
    "keras.optimizers.schedules": ["keras.optimizers.schedules"],
    "optax": ["optax"],
    "transformers": ["transformers.optimization"],
    "ignite.handlers": ["torch.optim.lr_scheduler", "ignite.handlers.param_scheduler"],
}
"""Where the names of a table's first column are, by its heading; for other headings in `published`."""


class Row(NamedTuple):
    """A row of a table: the peer's expression, cyclr's, and the remarks."""

    peer: str
    old: str
    new: str
    remarks: str

    @property
    def tolerance(self) -> float:
        """Largest difference that the page allows, as a share of the largest rate."""
        stated = re.search(r"differs by up to ([\d.e-]+\d)", self.remarks)
        return float(stated[1]) if stated else EXACT

    def steps(self, symbols: dict[str, Any]) -> int:
        """Number of steps to compare."""
        stated = re.search(r"the first `(.+?)` steps", self.remarks)
        return int(eval(stated[1] if stated else "n + w + s + 20", dict(symbols)))  # noqa: S307

    def schedule(self, symbols: dict[str, Any]) -> Schedule:
        made: Schedule = eval(self.new, {**vars(cyclr), **symbols})  # noqa: S307
        return made

    def reference(self, symbols: dict[str, Any]) -> np.ndarray:
        """The peer's rates (or momenta) of updates 0, 1, 2, …"""
        names = {**symbols, **published.NAMES.get(self.peer, {})}
        if "optimizer" in self.old:
            import torch

            names["optimizer"] = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=symbols["lr"], momentum=0.9)
        for module in MODULES.get(self.peer, []):
            names.update(vars(imported(module)))
        steps = range(self.steps(symbols))
        if "(t / n)" in self.old or "(t, " in self.old:
            expression = compile(self.old, self.old, "eval")
            return np.array([eval(expression, {**names, "t": t}) for t in steps])  # noqa: S307
        with quietly(), float64(self.peer):
            made = eval(self.old, names)  # noqa: S307
            if self.peer in ("torch.optim", "transformers"):
                return of_torch(made, names["optimizer"], steps, "momentum" if "`momentum=`" in self.remarks else "lr")
            if self.peer == "ignite.handlers":
                return of_ignite(made, names["optimizer"], steps)
            if self.peer == "keras.optimizers.schedules":
                return of_keras(made, steps)
            if self.peer == "optax":
                return of_optax(made, steps)
        factor = symbols["lr"] if self.peer == "composer.optim" else 1.0
        return factor * np.array([made(t) for t in steps])

    def difference(self, symbols: dict[str, Any]) -> float:
        """The largest difference over all steps, as a share of the largest rate."""
        wanted = self.reference(symbols)
        found = self.schedule(symbols)(np.arange(len(wanted)))
        return float(np.max(np.abs(found - wanted)) / np.max(wanted))


def imported(module: str) -> ModuleType:
    with quietly():
        return importlib.import_module(module)


def of_torch(scheduler: Any, optimizer: Any, steps: range, key: str = "lr") -> np.ndarray:
    """What each update uses; the scheduler is stepped after it."""
    used = [optimizer.param_groups[0][key]]
    optimizer.step()
    for _ in steps[1:]:
        scheduler.step()
        used.append(optimizer.param_groups[0][key])
    return np.array(used)


def of_ignite(scheduler: Any, optimizer: Any, steps: range) -> np.ndarray:
    """What each update uses; the scheduler is called before it."""
    used = []
    for _ in steps:
        scheduler(None)
        used.append(optimizer.param_groups[0]["lr"])
    return np.array(used)


def of_keras(schedule: Any, steps: range) -> np.ndarray:
    import keras

    if keras.backend.backend() != "jax":
        return np.array([float(schedule(step)) for step in steps])
    # One compilation instead of one a call. Other backends cannot map conditions, or round 60 / 30 to more than 2.
    mapped = keras.ops.vectorized_map(schedule, keras.ops.convert_to_tensor(np.array(steps)))
    return np.asarray(keras.ops.convert_to_numpy(mapped))


def of_optax(schedule: Any, steps: range) -> np.ndarray:
    import jax

    # A constant length, because JAX compiles every operation again for another one.
    values = np.asarray(jax.vmap(schedule)(np.arange(512)))
    return np.broadcast_to(values, 512)[: len(steps)]


def rows() -> list[Row]:
    """Every row of the tables whose second heading is "cyclr" and that have remarks."""
    found: list[Row] = []
    peer = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if cells[1:] == ["cyclr", "remarks"]:
            peer = cells[0]
        elif not cells:
            peer = ""
        elif peer and set(cells[0]) != {"-"}:
            old, new, remarks = cells
            found.append(Row(peer, old.strip("`"), new.strip("`"), remarks))
    return found


def symbols() -> dict[str, Any]:
    """The names that the page's first block defines."""
    names: dict[str, Any] = {}
    block = re.search(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert block
    exec(block[1], names)  # noqa: S102
    return names


def any_symbols() -> "SearchStrategy[dict[str, Any]]":
    """The page's names with other values, for which the equivalents must hold too."""
    from hypothesis import strategies as st

    shares = st.floats(0.05, 0.95)
    return st.fixed_dictionaries(
        {
            "lr": st.floats(0.01, 1.0),
            "start": st.floats(0.0, 0.01),
            "end": st.floats(1e-5, 0.0005),  # Below lr · share.
            "n": st.integers(1, 10).map(lambda quarter: 4 * quarter),
            "w": st.integers(2, 20),
            "s": st.integers(2, 15),
            "N": st.sampled_from([20, 40, 60, 80, 100]),  # Shares of 0.3 and 0.85 are whole steps.
            "share": shares,
            "gamma": st.floats(0.9, 0.999),
            "rate": shares,
            "p": st.floats(0.5, 3.0),
        }
    ).map(lambda drawn: {**symbols(), **drawn})


@contextmanager
def float64(peer: str) -> Iterator[None]:
    """Let a peer compute in float64 that does so in float32 by default."""
    if peer == "optax":
        import jax

        with jax.enable_x64(True):
            yield
    elif peer == "keras.optimizers.schedules":
        import keras

        before = keras.config.floatx()
        keras.config.set_floatx("float64")
        try:
            with float64("optax") if keras.backend.backend() == "jax" else nullcontext():
                yield
        finally:
            keras.config.set_floatx(before)
    else:
        yield


@contextmanager
def quietly() -> Iterator[None]:
    """Ignore what torch warns of while its `SequentialLR` and Ignite use it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
