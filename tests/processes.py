"""How tests start programs and wait: for a state, never for a time.

Import it as `from tests.processes import run, started, wait_until`.
"""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

LIMIT = 900.0
"""Seconds after which a program or a state is given up. No passing test comes near it, however busy the machine is."""

T = TypeVar("T")


@contextlib.contextmanager
def started(command: Sequence[str | os.PathLike[str]], **options: Any) -> Iterator["subprocess.Popen[str]"]:
    """Start a program in a process group of its own, and kill the group when the block ends or after `LIMIT`.

    Args:
        command: the program and its arguments.
        options: as for `subprocess.Popen`. Standard output and error are pipes of text unless given otherwise.
    """
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    with subprocess.Popen(command, start_new_session=True, **options) as process:

        def kill() -> None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

        guard = threading.Timer(LIMIT, kill)
        guard.daemon = True
        guard.start()
        try:
            yield process
        finally:
            guard.cancel()
            kill()


def run(
    command: Sequence[str | os.PathLike[str]], *, status: int | None = 0, **options: Any
) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end. The test fails, showing its output, if it ends with another status or not at all.

    Args:
        command: the program and its arguments.
        status: the exit status that is expected; None for any.
        options: as for `started`.
    """
    started_at = time.monotonic()
    with started(command, **options) as process:
        output, errors = process.communicate()
    if status is not None and process.returncode != status:
        line = shlex.join(map(os.fspath, command))
        seconds = time.monotonic() - started_at
        limit = f" (killed at the limit of {LIMIT:.0f} s)" if seconds >= LIMIT else ""
        pytest.fail(
            f"{line}\nended with status {process.returncode}, not {status}, after {seconds:.1f} s{limit}\n"
            f"== standard output\n{output}\n== standard error\n{errors}"
        )
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def forked(act: Callable[[], object]) -> tuple[int, str]:
    """Call a function in a forked process. Return its exit status, or minus a signal, and its error or `"done"`."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # The threads of frameworks are not in the forked process, which does not need them.
        warnings.simplefilter("ignore")
        pid = os.fork()
    if pid == 0:
        said = "done"
        try:
            act()
        except BaseException as error:  # noqa: BLE001
            said = f"{type(error).__name__}: {error}"
        finally:
            os.write(writer, said.encode()[:4000])
            os._exit(0)
    os.close(writer)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with os.fdopen(reader) as file:
        return status, file.read()


def run_kills(kind: str) -> None:
    """Run `benchmarks/members/kills.py` with two kills. Its status is 1 if a member is lost or broken."""
    program = Path(__file__).parents[1] / "benchmarks" / "members" / "kills.py"
    said = run([sys.executable, program, kind, "--kills", "2"]).stdout
    assert "2 kills, 30 members of the whole run" in said


def wait_until(condition: Callable[[], T], what: str = "the condition", *, every: float = 0.02) -> T:
    """Call `condition` until it returns something true, and return that. The test fails after `LIMIT` seconds.

    Args:
        condition: a function without arguments.
        what: what is awaited, for the error message.
        every: seconds between two calls.
    """
    end = time.monotonic() + LIMIT
    while not (value := condition()):
        if time.monotonic() > end:
            pytest.fail(f"waited {LIMIT:.0f} s for {what}")
        time.sleep(every)
    return value
