"""Trials on the cores of this machine: worker processes by loky, one trial at a time in each."""

import json
import os
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any

from cyclr import _checks
from cyclr.errors import MissingExtraError
from cyclr.experiments import environment as environments
from cyclr.experiments import trial as trials_
from cyclr.experiments.spec import Trial
from cyclr.experiments.trial import Event
from cyclr.records import Record

_LOOK_EVERY = 0.2
_TELL_EVERY = 0.2


def run(
    trials: Sequence[Trial],
    *,
    workers: int | None = None,
    threads: int = 1,
    retries: int = 2,
    tell: Callable[[Event], None] = lambda event: None,
) -> Iterator[Record]:
    """Run trials in worker processes, and give their records as they finish.

    Every worker is a process of its own: one that dies (killed, out of memory) takes no other with it, and its trial is
    begun anew in a new one. Workers end with this process, also if it is killed.

    Args:
        trials: what to run, begun in this order.
        workers: processes, ≥ 1; the cores that this process may use by default.
        threads: threads of the framework in each of them, ≥ 1.
        retries: how often a trial whose worker died is begun again, ≥ 0; then its record says that it failed.
        tell: called with the events of running trials.

    Raises:
        MissingExtraError: loky is not installed.
        TypeError, ValueError: a number out of range.
    """
    try:
        import loky
    except ImportError as error:
        raise MissingExtraError('comparisons need loky. Run: pip install "cyclr[compare]".') from error
    count = loky.cpu_count() if workers is None else _checks.integer("workers", workers, at_least=1)
    _checks.integer("threads", threads, at_least=1)
    _checks.integer("retries", retries, at_least=0)
    # loky takes a worker whose memory has grown, as TensorFlow's does, for a leak, and replaces it between two trials.
    warnings.filterwarnings("ignore", "A worker was restarted", UserWarning)
    return _run(list(trials), min(count, len(trials)), threads, retries, tell)


def _run(
    waiting: list[Trial], workers: int, threads: int, retries: int, tell: Callable[[Event], None]
) -> Iterator[Record]:
    deaths: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix="cyclr-") as folder:
        idle = [_Worker(Path(folder, str(number)), threads) for number in range(workers)]
        every = list(idle)
        busy: dict[Future[Record], _Worker] = {}
        try:
            while waiting or busy:
                while waiting and idle:
                    worker = idle.pop()
                    busy[worker.begin(waiting.pop(0))] = worker
                done, _ = wait(busy, timeout=_LOOK_EVERY, return_when=FIRST_COMPLETED)
                for worker in busy.values():
                    worker.pass_on(tell)
                for future in done:
                    worker = busy.pop(future)
                    idle.append(worker)
                    trial, death = worker.trial, worker.death_of(future)
                    if death is None:
                        yield future.result()
                        continue
                    deaths[trial.id] = deaths.get(trial.id, 0) + 1
                    tell({"trial": trial.id, "stage": "worker died", "done": 0, "total": 1})
                    if deaths[trial.id] > retries:
                        yield trials_.failed_record(trial, f"its worker died {deaths[trial.id]} times; last: {death}")
                    else:
                        waiting.insert(0, trial)
        finally:
            for worker in every:
                worker.kill()


class _Worker:
    """A process that runs one trial at a time, made when it is needed and again after it died."""

    trial: Trial

    def __init__(self, channel: Path, threads: int) -> None:
        self._channel, self._log = channel, channel.with_suffix(".log")
        self._channel.touch()
        self._read = 0
        self._environment = environments.thread_variables(threads)
        self._executor: Any = None

    def begin(self, trial: Trial) -> "Future[Record]":
        import loky

        self.trial = trial
        if self._executor is None:
            self._executor = loky.ProcessPoolExecutor(
                max_workers=1,
                env=self._environment,
                initializer=_begin_worker,
                initargs=(os.getpid(), str(self._log)),
            )
        future: Future[Record] = self._executor.submit(_run_in_worker, trial, str(self._channel))
        return future

    def death_of(self, future: "Future[Record]") -> str | None:
        """Why a trial has no record, if its process died; the next trial gets a new one."""
        error = future.exception()
        if error is None:
            return None
        self.kill()
        said = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
        why = " ".join(str(error).split())[:300] or type(error).__name__
        return f"{why} It had said: {' / '.join(said)}" if said else why

    def pass_on(self, tell: Callable[[Event], None]) -> None:
        """Tell what the process has told since the last time."""
        with self._channel.open("rb") as file:
            file.seek(self._read)
            news = file.read()
        whole = news[: news.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            tell(json.loads(line))

    def kill(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, kill_workers=True)
            self._executor = None


def _begin_worker(parent: int, log: str) -> None:
    """Prepare a worker: Ctrl-C is for the parent to handle, and without the parent there is nothing to live for.

    What frameworks and models print goes to a file, of which the last lines are told if the worker dies.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _run_in_worker(trial: Trial, channel: str) -> Record:
    descriptor = os.open(channel, os.O_WRONLY | os.O_APPEND)
    try:
        return trials_.run(trial, Throttle(lambda event: os.write(descriptor, (json.dumps(event) + "\n").encode())))
    finally:
        os.close(descriptor)


class Throttle:
    """Passes on events, but steps of one stage no more often than five times a second."""

    def __init__(self, tell: Callable[[Event], Any]) -> None:
        self._tell = tell
        self._stage = ""
        self._last = 0.0

    def __call__(self, event: Event) -> None:
        if "stage" in event:
            now = time.monotonic()
            if event["stage"] == self._stage and now - self._last < _TELL_EVERY and event["done"] < event["total"]:
                return
            self._stage, self._last = event["stage"], now
        self._tell(event)
