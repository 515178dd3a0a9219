"""Inject a fault into every system call on the files that cyclr writes, and check that no file is lost or incomplete.

    python benchmarks/faults.py                  # all scenarios whose packages are installed
    python benchmarks/faults.py run members      # only scenarios whose names start with these words

It needs Linux and strace. A scenario runs in a forked process. strace lets system calls fail in the kernel, so calls of
C++ libraries fail too, and kills the process by SIGKILL. For each call on the folder of the scenario (open, read,
write, fsync, rename, close, mkdir, unlink, flock, truncate, stat) there are three faults: the call fails; it and all
later calls of its kind fail; or the process is killed before the call. In a fourth fault the disk is full after some
bytes of a file, so that a write is incomplete. After each fault these conditions are checked:

- the process finished its work, or raised the one error that the scenario names, or was killed;
- an error leaves no temporary file, unless files cannot be removed after the fault;
- everything that was reported as done exists, and every file is complete: either the old or the new version;
- a second run without a fault does all work, and leaves exactly the files of a run without faults.

The exit status is 1 if one of these conditions does not hold.
"""

import argparse
import contextlib
import io
import json
import mmap
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import cyclr
from cyclr import RangeTestResult
from cyclr.errors import MembersError, RangeTestError, RunFolderError
from cyclr.members.kept import KeptMembers
from cyclr.records import Record, RunFolder, read_records, summarize, write_csv

ERRORS = {
    **dict.fromkeys(("openat", "mkdir"), ("EACCES", "ENOSPC", "EIO")),
    **dict.fromkeys(("write", "pwrite64", "writev", "ftruncate"), ("ENOSPC", "EIO")),
    **dict.fromkeys(("rename", "unlink", "rmdir"), ("EACCES", "EIO")),
    **dict.fromkeys(("read", "pread64", "fsync", "close", "getdents64"), ("EIO",)),
    **dict.fromkeys(("newfstatat", "fstat"), ("EACCES", "EIO")),
    "flock": ("ENOLCK", "EIO"),
}
"""The calls that fail, and how. Their names are those of x86-64."""

_CALL = re.compile(r"^\d+ +(\w+)\(")

DONE, REFUSED, OTHER = 0, 1, 2
"""Exit status of a process: all work done, the expected error, or another error."""

Confirm = Callable[[], None]


@dataclass
class Scenario:
    """Code that writes files.

    Attributes:
        name: a name.
        act: called with a folder and a function; writes to the folder, and calls the function after each finished part.
        check: called with the folder and the number of confirmed parts; raises if a file is lost or incomplete.
        error: the error that `act` may raise.
        prepare: writes the earlier contents of the folder.
        leaves: pattern of the files that a fault may leave forever; none by default.
    """

    name: str
    act: Callable[[Path, Confirm], None]
    check: Callable[[Path, int], None]
    error: type[Exception] | tuple[type[Exception], ...]
    prepare: Callable[[Path], None] = lambda folder: None
    leaves: str = "(?!)"


@dataclass
class Found:
    """A fault that was injected into a scenario, and the condition that did not hold."""

    injected: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


class Process:
    """A forked process that runs `act`, stopped before it starts. It reports through shared memory."""

    def __init__(self, scenario: Scenario, folder: Path, most_bytes: int = resource.RLIM_INFINITY) -> None:
        self._said = mmap.mmap(-1, 4096)
        sys.stdout.flush()
        with warnings.catch_warnings():
            # JAX and Python 3.12 warn about forks with threads. The process needs no threads of frameworks.
            warnings.simplefilter("ignore")
            self.pid = os.fork()
        if self.pid == 0:
            os.kill(os.getpid(), signal.SIGSTOP)
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
            os._exit(self._act(scenario, folder))
        os.waitpid(self.pid, os.WUNTRACED)

    def _act(self, scenario: Scenario, folder: Path) -> int:
        confirmed = 0

        def confirm() -> None:
            nonlocal confirmed
            confirmed += 1
            self._said[0] = confirmed

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                scenario.act(folder, confirm)
        except BaseException as error:  # noqa: BLE001
            said = f"{type(error).__name__}: {error}".encode()[:4000]
            self._said[1 : 1 + len(said)] = said
            return REFUSED if isinstance(error, scenario.error) else OTHER
        return DONE

    def run(self) -> int:
        """Let the process continue, and return its exit status or the negative number of a signal."""
        os.kill(self.pid, signal.SIGCONT)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return status

    @property
    def confirmed(self) -> int:
        return self._said[0]

    @property
    def error(self) -> str:
        return self._said[1:].split(b"\0")[0].decode(errors="replace")


def traced(process: Process, log: Path, *injections: str) -> tuple[int, list[str]]:
    """Run a process under strace, and return its exit status and the calls that it made."""
    calls = ",".join(f"?{name}" for name in ERRORS)
    options = [word for one in injections for word in ("-e", f"inject={one}")]
    command = ["strace", "-f", "-y", "-s0", "-o", log, "-e", f"trace={calls}", *options, "-p", str(process.pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        attached = tracer.stderr.readline() if tracer.stderr else ""
        if "attached" not in attached:
            os.kill(process.pid, signal.SIGKILL)
            os.waitpid(process.pid, 0)
            raise OSError(f"strace cannot trace: {attached.strip()}")
        status = process.run()
    return status, log.read_text().splitlines()


def calls_on(folder: Path, lines: list[str]) -> list[tuple[str, int]]:
    """Return the calls on a folder and its files: the name of each call, and its number among calls of that name."""
    counts: Counter[str] = Counter()
    found = []
    for line in lines:
        if match := _CALL.match(line):
            counts[match[1]] += 1
            if str(folder) in line:
                found.append((match[1], counts[match[1]]))
    return found


def faults_at(name: str, number: int) -> Iterator[tuple[str, str]]:
    """Yield the faults of a call: the kind, and the injection for strace."""
    for error in ERRORS[name]:
        yield f"{error} once", f"{name}:error={error}:when={number}"
    if name not in ("newfstatat", "fstat"):
        # Python uses these calls to read its own modules.
        yield f"{ERRORS[name][0]} from then on", f"{name}:error={ERRORS[name][0]}:when={number}+"
    yield "kill", f"{name}:signal=SIGKILL:when={number}"


def content(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def inject(scenario: Scenario, *, every: int = 1) -> Found:
    """Inject all faults, or each n-th, into a scenario."""
    found = Found()
    # On a file system in memory if possible, because fsync takes no time there.
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
    with tempfile.TemporaryDirectory(dir=memory) as temporary:
        root = Path(temporary).resolve()
        log, before, folder = root / "log", root / "before", root / "folder"
        before.mkdir()
        scenario.prepare(before)

        def start(most_bytes: int = resource.RLIM_INFINITY) -> Process:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(before, folder)
            return Process(scenario, folder, most_bytes)

        # Run once in this process, so that imports are not made under strace.
        start().run()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shutil.rmtree(folder)
            shutil.copytree(before, folder)
            scenario.act(folder, lambda: None)
        process = start()
        status, lines = traced(process, log)
        if status != DONE:
            raise RuntimeError(f"{scenario.name} ends with {status} without a fault: {process.error}")
        whole, expected = process.confirmed, content(folder)
        scenario.check(folder, whole)
        cases: list[tuple[str, int, str, str]] = [
            (call, number, *fault) for call, number in calls_on(folder, lines) for fault in faults_at(call, number)
        ]
        largest = max((path.stat().st_size for path in folder.rglob("*") if path.is_file()), default=0)
        cases += [("disk", size, "full", "") for size in range(0, largest + 200, 1 + largest // 50)]
        for call, number, kind, injection in cases[::every]:
            if call == "disk":
                process = start(most_bytes=number)
                status = process.run()
            else:
                process = start()
                status, lines = traced(process, log, injection)
                if not any("INJECTED" in line for line in lines) and status != -signal.SIGKILL:
                    continue
            found.injected[f"{call} {kind.split()[0]}"] += 1
            found.ended["killed" if status < 0 else ("done", "refused", "raw error")[status]] += 1

            def fault(what: str, at: str = f"{call} {number}, {kind}") -> None:
                found.faults.append(f"{scenario.name}, {at}: {what}")

            if status not in (DONE, REFUSED, -signal.SIGKILL):
                fault(f"ended with {status}: {process.error}")
            left = [name for name in content(folder) if ".tmp" in name]
            if status >= 0 and left and call not in ("unlink", "newfstatat", "getdents64", "openat", "flock"):
                fault(f"left {left} after an error")
            try:
                scenario.check(folder, process.confirmed)
            except Exception as error:  # noqa: BLE001
                fault(f"{type(error).__name__}: {error}")
            again = Process(scenario, folder)
            if again.run() != DONE:
                fault(f"the next start: {again.error}")
                continue
            try:
                scenario.check(folder, whole)
            except Exception as error:  # noqa: BLE001
                fault(f"after the next start: {type(error).__name__}: {error}")
            different = {*content(folder)} ^ {*expected}
            if different := sorted(name for name in different if not re.search(scenario.leaves, name)):
                fault(f"after the next start, files are missing or left: {different}")
    return found


def a_record(policy: str, seed: int, **more: Any) -> Record:
    named: dict[str, Any] = {"workload": "mlp", "optimizer": "SGD", "metric": "val_loss", "direction": "min"}
    curves = {"epochs": {"val_loss": [0.5, 0.25], "step": [4, 8]}, "steps": {"loss": [0.1] * 8}, "total_steps": 8}
    return Record(trial=f"{policy}-{seed}", policy=policy, seed=seed, **named, **curves, **more)


SPEC = {"workload": "mlp", "metric": "val_loss", "direction": "min"}
RECORDS = [a_record(policy, seed) for policy in ("fixed 0.1", "triangular") for seed in (0, 1)]
IDS = [record.trial for record in RECORDS]


def write_run(folder: Path, confirm: Confirm) -> None:
    with RunFolder.open(folder / "run", SPEC, IDS) as run:
        for record in RECORDS:
            if record.trial in run.missing(IDS):
                run.append(record)
            confirm()


def check_run(folder: Path, confirmed: int, before: int = 0) -> None:
    if not (folder / "run" / "run.json").exists():
        require(confirmed == 0, "run.json is lost")
        return
    found = [record for record in read_records(folder / "run") if record.status == "ok"]
    require(len(found) >= max(before, confirmed), f"of {max(before, confirmed)} records there are {len(found)}")
    require(found == RECORDS[: len(found)], "other records")


def require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)


def prepare_run(folder: Path) -> None:
    """Write a run with a typo in a policy, as left by a kill in the middle of a line and of a file."""
    failed = a_record("typo", 0, status="failed", error="no such policy")
    with RunFolder.open(folder / "run", SPEC, [failed.trial, *IDS]) as run:
        for record in (failed, *RECORDS[:2]):
            run.append(record)
    with (folder / "run" / "records.jsonl").open("a") as file:
        file.write('{"trial": "tri')
    for name in (".run.json.0f3a.tmp", ".records.jsonl.0f3a.tmp"):
        (folder / "run" / name).write_text("{")


def one_file(
    name: str, write: Callable[[Path, int], None], read: Callable[[Path], Any], file: str, **more: Any
) -> Scenario:
    """A file that is replaced: `write` writes version 0 or 1, and `read` returns the version."""
    with tempfile.TemporaryDirectory() as folder:
        versions = []
        for version in (0, 1):
            write(Path(folder, file), version)
            versions.append(read(Path(folder, file)))

    def act(folder: Path, confirm: Confirm) -> None:
        for _ in range(2):
            write(folder / file, 1)
            confirm()

    def check(folder: Path, confirmed: int) -> None:
        require(read(folder / file) in versions[bool(confirmed) :], "the file is neither the old one nor the new one")

    options: dict[str, Any] = {"error": OSError, "prepare": lambda folder: write(folder / file, 0), **more}
    return Scenario(name, act, check, **options)


def a_result(version: int) -> RangeTestResult:
    test = cyclr.RangeTest(1e-4, 10.0, steps=40)
    for lr in test:
        test.record((2 + version) / (1 + 10 * lr) if lr < 1 else lr**2)
    return test.result()


class Arrays:
    """States of members that are dicts of NumPy arrays."""

    suffix = ".npz"

    def shapes(self, state: dict[str, Any]) -> dict[str, list[int]]:
        return {name: [*array.shape] for name, array in state.items()}

    def not_finite(self, state: Any) -> None:
        return None

    def save(self, state: dict[str, Any], path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, **state)

    def load(self, path: Path) -> dict[str, Any]:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            return {name: file[name] for name in file}


def members(name: str, formats: Callable[[], Any], state: Callable[[Any, int], Any], leaf: Callable[[Any], Any]) -> Any:
    """A run with cycles of 5 updates that keeps the last two members, and continues after the last member if killed."""

    def act(folder: Path, confirm: Confirm) -> None:
        kept = KeptMembers(formats(), keep=2, folder=folder / "members")
        last = kept.members[-1].step if kept.members else -1
        for step in range(21):
            if step <= last:
                is_done = step % 5 == 4
            elif is_done := kept.after_update(step, lambda step=step: step % 5 == 4):  # type: ignore[misc]
                kept.add(step, 0.1, state(kept, step), None)
            if is_done:
                confirm()

    def check(folder: Path, confirmed: int) -> None:
        found = KeptMembers(formats(), folder=folder / "members").members
        steps = [member.step for member in found]
        ends = [4, 9, 14, 19]
        known = next((n for n in range(confirmed, 5) if steps == ends[max(0, n - 2) : n]), None)
        require(known is not None, f"{confirmed} members were made, and those of {steps} are there")
        for member in found:
            require(leaf(member.state) == member.step, "a state is not its own")

    return Scenario(name, act, check, MembersError)


def core() -> Iterator[Scenario]:
    """Return the scenarios that need only the core."""
    yield Scenario("run folder, new", write_run, check_run, RunFolderError)
    yield Scenario(
        "run folder, resumed",
        write_run,
        lambda folder, confirmed: check_run(folder, confirmed, before=2),
        RunFolderError,
        prepare_run,
    )
    yield members("members", Arrays, lambda kept, step: {"a": np.full(3, step)}, lambda state: int(state["a"][0]))
    yield one_file(
        "range test, save",
        lambda path, version: a_result(version).save(path),
        lambda path: RangeTestResult.load(path).loss[0],
        "range_test.json",
    )


def scenarios() -> Iterator[Scenario]:
    """Return all scenarios whose packages are installed."""
    yield from core()
    for more in (commands, demo, torch_files, keras_files, jax_files):
        try:
            yield from more()
        except ImportError as error:
            print(f"{more.__name__} left out: {error}")


def commands() -> Iterator[Scenario]:
    from cyclr.cli.app import app
    from cyclr.cli.options import save_picture
    from cyclr.drawing.page import render
    from cyclr.report import run_page

    summary = summarize(RECORDS)

    def page(path: Path, version: int) -> None:
        cyclr._files.write_atomically(path, render(run_page(path.parent / "run")))

    def call(*words: Any) -> None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            if status := app([*map(str, words)], standalone_mode=False):
                raise ChildProcessError(f"exit status {status}")

    def picture(path: Path, version: int) -> None:
        save_picture(cyclr.Cyclical(0.1, 0.2 + version, 4).plot(8), path)

    yield one_file(
        "range test, page",
        lambda path, version: a_result(version).to_html(path),
        lambda path: len(path.read_text()),
        "test.html",
    )
    yield one_file("table", lambda path, version: write_csv(summary, path), lambda path: path.read_text(), "table.csv")
    yield one_file("picture", picture, lambda path: path.read_bytes(), "picture.png")
    yield one_file(
        "cyclr plot",
        lambda path, version: call("plot", "--max-lr", 0.1 + version, "--output", path, "--overwrite"),
        lambda path: path.read_bytes(),
        "plot.png",
    )
    one = tempfile.mkdtemp()
    a_result(0).save(Path(one, "range_test.json"))
    yield one_file(
        "cyclr report",
        lambda path, version: call("report", one, "--output", path, "--overwrite", "--no-open"),
        lambda path: len(path.read_text()),
        "report.html",
    )


def demo() -> Iterator[Scenario]:
    from cyclr.experiments.demo import CYCLE, discard_records, remove_empty

    def fill(folder: Path, **more: Any) -> None:
        about = {**SPEC, "policies": [{"name": CYCLE}]}
        with RunFolder.open(folder / "run", about, ["a-0"]) as run:
            run.append(a_record("a", 0, **more))

    def act(clear: Callable[[Path], None]) -> Callable[[Path, Confirm], None]:
        def cleared(folder: Path, confirm: Confirm) -> None:
            if (folder / "run").exists():
                clear(folder / "run")
            with RunFolder.open(folder / "run", SPEC, ["a-0"]) as run:
                if run.missing(["a-0"]):
                    run.append(a_record("a", 0))
            confirm()

        return cleared

    def check(folder: Path, confirmed: int) -> None:
        found = RunFolder.read(folder / "run", missing_ok=True).records
        require(len(found) >= confirmed, "a record is lost")

    yield Scenario("demo, again", act(discard_records), check, (RunFolderError, OSError), fill)
    errors = (RunFolderError, OSError)
    yield Scenario("demo, failed", act(remove_empty), check, errors, lambda folder: fill(folder, status="failed"))


ON_DISK = (RangeTestError, ValueError)
"""The error that a range test raises if its snapshot_dir fails."""


@contextlib.contextmanager
def restored(weight: Callable[[], float]) -> Iterator[None]:
    """Raise if a weight has changed afterwards, unless an error reports that it could not be restored."""
    before, said = weight(), ""
    try:
        yield
    except RangeTestError as error:
        said = str(error)
        raise
    finally:
        if weight() != before and "cannot be restored" not in said:
            raise RuntimeError("the weights are not restored")


def torch_files() -> Iterator[Scenario]:
    import torch

    from cyclr import Member
    from cyclr.torch import Ensemble, range_test
    from cyclr.torch._states import STATES
    from cyclr.torch._training_state import CopyFile

    torch.set_num_threads(1)
    model = torch.nn.Linear(1, 1)

    def a_state(step: int) -> dict[str, Any]:
        return {"weight": torch.full((1, 1), float(step)), "bias": torch.zeros(1)}

    yield members(
        "members of torch", lambda: STATES, lambda kept, step: a_state(step), lambda state: int(state["weight"].item())
    )
    yield one_file(
        "ensemble of torch",
        lambda path, version: Ensemble(model, [Member(4, 0.1, a_state(version))]).save(path),
        lambda path: Ensemble.load(path, model).members[0].state["weight"].item(),
        "ensemble.pt",
    )

    def copies(folder: Path, confirm: Confirm) -> None:
        for step in (4, 9):
            copied = CopyFile(folder / "copies", a_state(step))
            if copied.read()["weight"].item() != step:
                raise ValueError("another copy")
            confirm()

    yield Scenario("AutoCycle of torch, folder", copies, lambda folder, confirmed: None, OSError)

    def test(folder: Path, confirm: Confirm) -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        batches = [(torch.ones(2, 1), torch.ones(2, 1))] * 4
        with restored(model.weight.item):
            range_test(model, optimizer, torch.nn.MSELoss(), batches, steps=4, snapshot_dir=folder, verbose=False)
        confirm()

    yield Scenario("range test of torch, snapshot_dir", test, lambda folder, confirmed: None, ON_DISK)


def keras_files() -> Iterator[Scenario]:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    from cyclr.keras import range_test
    from cyclr.keras._auto_files import Files
    from cyclr.keras._states import KerasStates

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse")

    def a_state(kept: Any, step: int) -> list[Any]:
        model.set_weights([np.full((1, 1), step), np.zeros(1)])
        return [np.array(value) for value in model.get_weights()]

    yield members("members of Keras", lambda: KerasStates(model), a_state, lambda state: int(state[0].item()))

    def auto(folder: Path, confirm: Confirm) -> None:
        files = Files(folder / "auto")
        for epoch in (1, 2, 3, 4):
            copy = [np.full((1, 1), epoch, "float32"), np.zeros(1, "float32")]
            if files.load(epoch, "this model", model.get_weights()) is None:
                files.save(epoch, "this model", {"epoch": epoch, "copies": {"first": None, "kept": copy, "now": copy}})
            confirm()

    def check(folder: Path, confirmed: int) -> None:
        states = [Files(folder / "auto").load(epoch, "this model", model.get_weights()) for epoch in (1, 2, 3, 4)]
        found = [epoch for epoch, state in enumerate(states, 1) if state is not None]
        require(confirmed == 0 or confirmed in found, f"epoch {confirmed} was saved, and {found} are there")
        for epoch in found:
            require(int(states[epoch - 1]["copies"]["kept"][0].item()) == epoch, "another state")  # type: ignore[index]

    yield Scenario("AutoCycle of Keras, folder", auto, check, OSError)

    def test(folder: Path, confirm: Confirm) -> None:
        with restored(lambda: model.get_weights()[0].item()):
            range_test(model, np.ones((8, 1)), np.ones(8), batch_size=2, steps=4, snapshot_dir=folder, verbose=False)
        confirm()

    yield Scenario("range test of Keras, snapshot_dir", test, lambda folder, confirmed: None, ON_DISK)


def jax_files() -> Iterator[Scenario]:
    from cyclr.jax._states import JaxStates

    like = {"a": np.zeros(3)}
    yield members(
        "members of JAX",
        lambda: JaxStates(like),
        lambda kept, step: {"a": np.full(3, float(step))},
        lambda state: int(state["a"][0]),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="of scenarios, or how they start")
    parser.add_argument("--every", type=int, default=1, help="inject only each n-th fault")
    parser.add_argument("--json", type=Path, help="write the counts there")
    given = parser.parse_args()
    table: dict[str, dict[str, int]] = {}
    faults: list[str] = []
    for scenario in scenarios():
        if given.names and not scenario.name.startswith(tuple(given.names)):
            continue
        found = inject(scenario, every=given.every)
        faults += found.faults
        table[scenario.name] = {**found.injected}
        total, ended = found.injected.total(), ", ".join(f"{count} {how}" for how, count in found.ended.items())
        print(f"{scenario.name}: {total} faults ({ended}); {len(found.faults)} that do not hold", flush=True)
        for one in found.faults:
            print(f"    {one}", flush=True)
    kinds: Counter[str] = Counter()
    for counts in table.values():
        kinds.update(counts)
    print(", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items())))
    print(f"{kinds.total()} faults in {len(table)} scenarios, {len(faults)} that do not hold.")
    if given.json is not None:
        given.json.write_text(json.dumps(table, indent=2))
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
