"""The engine that runs trials in worker processes on this machine, one trial at a time in each."""

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
_POLL_SECONDS = 0.5
_BYTES_OF_LOG = 10_000
"""Number of bytes at the end of a worker's output that are searched for the last lines."""


class LocalEngine(Engine):
    """Runs trials in worker processes.

    Each worker is a separate process. If one dies (killed, out of memory), the others keep running and its trial is
    restarted in a new worker. Workers exit when this process exits, even if it is killed.

    Args:
        workers: number of worker processes, ≥ 1; by default one for each core that this process may use.
        threads, retries: see `Engine`.

    Raises:
        TypeError, ValueError: an option has the wrong type or is out of range.
    """

    def __init__(self, *, workers: int | None = None, threads: int = 1, retries: int = 2) -> None:
        super().__init__(threads=threads, retries=retries)
        self._count = environment.cores() if workers is None else _checks.integer("workers", workers, at_least=1)
        self._idle: list[_Worker] = []
        self._busy: dict[Connection, _Worker] = {}

    def open(self, trials: Sequence[Trial]) -> int:
        """Return the number of workers. A worker process is started when it gets its first trial."""
        return min(self._count, len(trials))

    def submit(self, trial: Trial) -> None:
        """Start a trial in an idle worker, or in a new worker."""
        if not self._idle:
            try:
                self._idle.append(_Worker(self.threads))
            except OSError as error:
                raise CyclrError(
                    f"cannot start a worker process for {trial.id}: {error.strerror or error}. Free memory, or disk "
                    "space in the folder for temporary files, or use fewer workers. Then run the comparison again."
                ) from error
        worker = self._idle.pop()
        worker.trial = trial
        self._busy[worker.connection] = worker
        # If the worker has died since its last trial, `poll` finds its connection closed.
        with contextlib.suppress(OSError):
            worker.connection.send(trial)

    def poll(self) -> Iterable[Progress | Epoch | Finished | Lost]:
        for connection in wait(list(self._busy)):
            worker = self._busy[connection]  # type: ignore[index]
            try:
                event = worker.connection.recv()
            except (EOFError, OSError):
                del self._busy[worker.connection]
                # The connection is closed, so the process ends soon.
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
    """A process that runs one trial after another. Its output goes to a file, to show the reason of a crash."""

    trial: Trial

    def __init__(self, threads: int) -> None:
        self.connection, theirs = Pipe()
        self._log: Any = tempfile.TemporaryFile()  # noqa: SIM115  # Closed by `close`.
        try:
            # In a new session: Ctrl-C reaches only the parent, and a worker can be killed with its child processes.
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
        """Wait `patience` seconds for the process, kill it and its child processes, and return why it ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=patience)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        code = self._process.wait()
        self.connection.close()
        # Read only the end: a trial may have printed more than fits into memory.
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - _BYTES_OF_LOG))
        printed = self._log.read().decode(errors="replace").strip().splitlines()[-3:]
        self._log.close()
        reason = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return reason + (f". Its last output: {' / '.join(printed)}" if printed else "")


def work() -> None:
    """Run the trials that arrive through the connection. This is the main function of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection, parent = Connection(int(sys.argv[1])), int(sys.argv[3])

    def exit_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_SECONDS)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=exit_with_parent, daemon=True).start()
    while True:
        connection.send(Finished(run_trial(connection.recv(), connection.send)))
