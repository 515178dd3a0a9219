"""Trials on the cores of this machine, in worker processes with one trial at a time in each."""

import contextlib
import json
import os
import signal
import subprocess  # nosec B404  # Starts this interpreter only.
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any

from cyclr import _checks
from cyclr.errors import CyclrError
from cyclr.experiments import environment
from cyclr.experiments.engines.base import Engine, Lost
from cyclr.experiments.events import Epoch, Finished, Progress
from cyclr.experiments.spec import Trial
from cyclr.experiments.trial import run_trial

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); from cyclr.experiments.engines import local; local.work()"
)
_SECONDS_BETWEEN_LOOKS = 0.5
_BYTES_OF_LOG = 10_000
"""Bytes of a worker's output in which its last lines are looked for."""


class LocalEngine(Engine):
    """Runs trials in worker processes.

    Each worker is a separate process. If one dies (killed, out of memory), the others keep running and its trial is
    restarted in a new worker. Workers exit when this process exits, even if it is killed.

    Args:
        workers: processes, ≥ 1; by default one for each core that this process may use.
        threads, retries: see `Engine`.

    Raises:
        TypeError, ValueError: a number out of range.
    """

    def __init__(self, *, workers: int | None = None, threads: int = 1, retries: int = 2) -> None:
        super().__init__(threads=threads, retries=retries)
        self._count = environment.cores() if workers is None else _checks.integer("workers", workers, at_least=1)
        self._idle: list[_Worker] = []
        self._busy: dict[Connection, _Worker] = {}

    def open(self, trials: Sequence[Trial]) -> int:
        """Return the number of workers; each starts with its first trial."""
        return min(self._count, len(trials))

    def submit(self, trial: Trial) -> None:
        """Start a trial in a worker that is idle, or in a new one."""
        if not self._idle:
            try:
                self._idle.append(_Worker(self.threads))
            except OSError as error:
                raise CyclrError(
                    f"no worker process can be started for {trial.id}: {error.strerror or error}. Free memory, or "
                    "room in the folder for temporary files, or use fewer workers, and run the comparison again."
                ) from error
        worker = self._idle.pop()
        worker.trial = trial
        self._busy[worker.connection] = worker
        # If it has died since its last trial, `poll` finds the end of its connection.
        with contextlib.suppress(OSError):
            worker.connection.send(trial)

    def poll(self) -> Iterable[Progress | Epoch | Finished | Lost]:
        for connection in wait(list(self._busy)):
            worker = self._busy[connection]  # type: ignore[index]
            try:
                event = worker.connection.recv()
            except (EOFError, OSError):
                del self._busy[worker.connection]
                # Its connection has ended, so that it is about to.
                yield Lost(worker.trial, worker.close(patience=5))
                continue
            if isinstance(event, Finished):
                self._idle.append(self._busy.pop(worker.connection))
            yield event

    def close(self) -> None:
        for worker in (*self._idle, *self._busy.values()):
            worker.close()
        self._idle, self._busy = [], {}


class _Worker:
    """A process that runs one trial after another. What it prints goes to a file, for the reason of a crash."""

    trial: Trial

    def __init__(self, threads: int) -> None:
        self.connection, theirs = Pipe()
        self._log: Any = tempfile.TemporaryFile()  # noqa: SIM115  # Closed by `close`.
        try:
            # In a new session Ctrl-C reaches only the parent, and the processes that a worker starts can be killed with
            # it.
            self._process = subprocess.Popen(  # noqa: S603  # nosec B603  # This interpreter, with code of this file.
                [
                    sys.executable,
                    "-c",
                    _START,
                    str(theirs.fileno()),
                    json.dumps([*map(str, sys.path)]),
                    str(os.getpid()),
                ],
                env={**os.environ, **environment.thread_variables(threads)},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,
            )
        except OSError:
            self.connection.close()
            self._log.close()
            raise
        finally:
            theirs.close()

    def close(self, patience: float = 0) -> str:
        """Wait this many seconds for the process to end, kill what is left of it, and return why it ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=patience)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        code = self._process.wait()
        self.connection.close()
        # A trial may have printed more than fits into memory.
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - _BYTES_OF_LOG))
        printed = self._log.read().decode(errors="replace").strip().splitlines()[-3:]
        self._log.close()
        reason = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return reason + (f". Its last output: {' / '.join(printed)}" if printed else "")


def work() -> None:
    """Run the trials that come through the connection, in a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection, parent = Connection(int(sys.argv[1])), int(sys.argv[3])

    def exit_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=exit_with_parent, daemon=True).start()
    while True:
        connection.send(Finished(run_trial(connection.recv(), connection.send)))
