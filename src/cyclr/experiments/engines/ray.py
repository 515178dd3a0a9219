"""The engine that runs trials on a Ray cluster, or on a Ray instance that it starts on this machine."""

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from cyclr import _checks, _extras
from cyclr._redact import credentials
from cyclr.errors import CyclrError
from cyclr.experiments import environment
from cyclr.experiments.engines.base import Engine, Lost
from cyclr.experiments.events import Epoch, Event, Finished, Progress
from cyclr.experiments.spec import Trial
from cyclr.experiments.trial import run_trial

_SECONDS_BETWEEN_MESSAGES = 0.5

_MOST_SUBMITTED = 1000
"""Largest number of trials that run or wait in Ray's queue. Ray checks all of them whenever a trial has events."""


class RayEngine(Engine):
    """Runs trials as Ray tasks. The records equal the records of `LocalEngine`.

    If this process is already connected to Ray, the connection is used. Otherwise the engine connects, and disconnects
    at the end. The folder of the user's file is sent to the cluster (as Ray's `working_dir`). cyclr and the frameworks
    must be installed on every node. If the worker or the node of a trial dies, the trial is restarted. A trial does not
    run in the main thread of its worker, so your file cannot install signal handlers.

    Args:
        address: address of a cluster, such as `"auto"` or `"HOST:PORT"`; by default Ray is started on this machine.
        workers: number of trials that run at the same time if Ray is started on this machine; by default the number of
            cores.
        cpus, gpus: CPUs and GPUs of one trial, ≥ 0; GPUs may be fractions.
        threads, retries: see `Engine`.
        init: further arguments of `ray.init`.

    Raises:
        MissingExtraError: Ray is not installed.
        TypeError, ValueError: an option has the wrong type or is out of range.
    """

    def __init__(
        self,
        *,
        address: str | None = None,
        workers: int | None = None,
        cpus: float = 1,
        gpus: float = 0,
        threads: int = 1,
        retries: int = 2,
        init: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(threads=threads, retries=retries)
        with _extras.needed("the engine needs", "ray", extra="ray"):
            import ray
        self._ray: Any = ray
        self._address = address
        self._init = {**({} if address else {"include_dashboard": False}), **(init or {})}
        self._resources = {
            "num_cpus": _checks.number("cpus", cpus, at_least=0),
            "num_gpus": _checks.number("gpus", gpus, at_least=0),
        }
        if workers is not None:
            _checks.integer("workers", workers, at_least=1)
            if address is not None:
                raise ValueError(
                    "workers must be left out with an address: the resources of the cluster limit the number of "
                    "trials. Set cpus and gpus instead."
                )
            self._init["num_cpus"] = max(1, round(workers * cpus))
        self._running: dict[Any, Trial] = {}
        self._connected = self._folder_sent = False

    def open(self, trials: Sequence[Trial]) -> int:
        """Connect to Ray. Ray queues trials, so more trials may be submitted than run at the same time.

        Raises:
            CyclrError: the cluster cannot be reached, or the folder cannot be sent to it.
        """
        ray = self._ray
        if not ray.is_initialized():
            self._connect(next((trial.file for trial in trials if trial.file is not None), None))
        self._task = ray.remote(**self._resources, max_retries=0, num_returns="streaming")(_run_in_task)
        return min(len(trials), _MOST_SUBMITTED)

    def submit(self, trial: Trial) -> None:
        sent = trial
        if self._folder_sent and trial.file is not None:
            sent = replace(trial, folder=".", shipped_as=trial.file.name)
        self._running[self._task.remote(sent)] = trial

    def poll(self) -> Iterable[Progress | Epoch | Finished | Lost]:
        streams = [*self._running]
        self._ray.wait(streams)
        ready, _ = self._ray.wait(streams, num_returns=len(streams), timeout=0)
        for stream in ready:
            try:
                events = self._ray.get(next(stream))
            except self._ray.exceptions.RayError as error:
                yield Lost(self._running.pop(stream), (str(error).strip() or type(error).__name__).splitlines()[0])
                continue
            if isinstance(events[-1], Finished):
                del self._running[stream]
            yield from events

    def close(self) -> None:
        """Cancel the tasks, and disconnect from Ray if this engine connected."""
        for stream in self._running:
            self._ray.cancel(stream, force=True)
        self._running = {}
        if self._connected:
            self._ray.shutdown()
            self._connected = self._folder_sent = False

    def _connect(self, file: Path | None) -> None:
        ray = self._ray
        variables = environment.thread_variables(self.threads)
        if "KERAS_BACKEND" in os.environ:
            variables["KERAS_BACKEND"] = os.environ["KERAS_BACKEND"]
        runtime: dict[str, Any] = {"env_vars": variables}
        # If this process is a job that was submitted to the cluster, its files are there already.
        if file is not None and not os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"):
            runtime |= {"working_dir": str(file.parent), "excludes": ["records.jsonl"]}
            self._folder_sent = True
        self._connected = True
        try:
            with warnings.catch_warnings():
                # Ray warns about its own future changes.
                warnings.filterwarnings("ignore", category=FutureWarning, module="ray.*")
                ray.init(
                    address=self._address or "local",
                    runtime_env=runtime,
                    log_to_driver=False,
                    logging_level="ERROR",
                    **self._init,
                )
        except ray.exceptions.RayError as error:
            said = credentials(str(error).strip() or type(error).__name__).splitlines()[-1]
            message = f"Ray did not start ({said}). Check its logs, or use the local engine."
            if self._folder_sent and file is not None:
                message = (
                    f"Ray could not send the folder of the workload's file: {_describe(file.parent)} ({said}). Move "
                    "data out of this folder, or list the data in a file .rayignore in this folder."
                )
            raise CyclrError(message) from error
        except (ConnectionError, ValueError, RuntimeError) as error:
            self._connected = False
            raise CyclrError(
                credentials(
                    f"no Ray cluster was found at address={self._address!r} ({error}). Start a cluster with `ray start "
                    "--head`, or leave the address out to run on this machine."
                )
            ) from None


def _describe(folder: Path) -> str:
    """Return the path, the size and the largest file of a folder, as text."""
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    largest = max(sizes, key=lambda path: sizes[path])
    total, most = (f"{size / 2**20:,.1f} MiB" for size in (sum(sizes.values()), sizes[largest]))
    return f"{str(folder)!r} of {total}, {most} of them in {str(largest.relative_to(folder))!r}"


def _run_in_task(trial: Trial) -> Iterator[list[Event]]:
    """Run a trial, and yield lists of its events. The last event is `Finished`.

    Events are yielded in lists because every message of Ray is slow. The trial runs in a separate thread, because a
    task cannot yield in the middle of a function call.
    """
    events: SimpleQueue[Event] = SimpleQueue()
    with ThreadPoolExecutor(1) as thread:
        record = thread.submit(run_trial, trial, events.put)
        while True:
            ended = wait([record], _SECONDS_BETWEEN_MESSAGES).done
            told = [events.get() for _ in range(events.qsize())]
            if ended:
                yield [*told, Finished(record.result())]
                return
            if told:
                yield told
