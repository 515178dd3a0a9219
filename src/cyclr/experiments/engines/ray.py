"""Trials on a Ray cluster, or on a Ray that is started on this machine for the purpose."""

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

_SUBMITTED_AT_MOST = 1000
"""Trials that run or are in Ray's queue: Ray looks at each whenever one has events."""


class RayEngine(Engine):
    """Runs trials as Ray tasks; the records equal the records of `LocalEngine`.

    A Ray that is already connected is used; otherwise this connects, and disconnects at the end. The folder of the
    user's file is shipped with the job (as Ray's `working_dir`). cyclr and the frameworks have to be installed on every
    node. A trial whose worker or node dies is started again. A trial runs in a thread of its worker that is not the
    main thread, so your file cannot set handlers of signals there.

    Args:
        address: of a cluster, such as `"auto"` or `"HOST:PORT"`; by default a Ray is started here.
        workers: trials at a time on a Ray that is started here; its cores by default.
        cpus, gpus: what one trial takes; GPUs may be fractions.
        threads, retries: see `Engine`.
        init: further arguments of `ray.init`.

    Raises:
        MissingExtraError: Ray is not installed.
        TypeError, ValueError: a number out of range.
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
                    "workers must be left out with an address: the cluster's resources decide. Use cpus and gpus."
                )
            self._init["num_cpus"] = max(1, round(workers * cpus))
        self._running: dict[Any, Trial] = {}
        self._connected = self._ships = False

    def open(self, trials: Sequence[Trial]) -> int:
        """Connect to Ray. It has a queue, so more trials may be submitted than run at a time.

        Raises:
            CyclrError: the cluster cannot be reached, or the folder cannot be shipped.
        """
        ray = self._ray
        if not ray.is_initialized():
            self._connect(next((trial.file for trial in trials if trial.file is not None), None))
        self._task = ray.remote(**self._resources, max_retries=0, num_returns="streaming")(_run_in_task)
        return min(len(trials), _SUBMITTED_AT_MOST)

    def submit(self, trial: Trial) -> None:
        sent = trial
        if self._ships and trial.file is not None:
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
        """Cancel the tasks, and disconnect if this has connected."""
        for stream in self._running:
            self._ray.cancel(stream, force=True)
        self._running = {}
        if self._connected:
            self._ray.shutdown()
            self._connected = self._ships = False

    def _connect(self, file: Path | None) -> None:
        ray = self._ray
        variables = environment.thread_variables(self.threads)
        if "KERAS_BACKEND" in os.environ:
            variables["KERAS_BACKEND"] = os.environ["KERAS_BACKEND"]
        runtime: dict[str, Any] = {"env_vars": variables}
        # A job that was submitted to the cluster has its files there already.
        if file is not None and not os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"):
            runtime |= {"working_dir": str(file.parent), "excludes": ["records.jsonl"]}
            self._ships = True
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
            message = f"Ray did not start ({said}). Look into its logs, or use the local engine."
            if self._ships and file is not None:
                message = (
                    f"Ray could not ship the folder of the workload's file: {_describe(file.parent)} ({said}). Keep "
                    "data elsewhere, or name it in a file .rayignore there."
                )
            raise CyclrError(message) from error
        except (ConnectionError, ValueError, RuntimeError) as error:
            self._connected = False
            raise CyclrError(
                credentials(
                    f"there is no Ray cluster at address={self._address!r} ({error}). Start one with `ray start "
                    "--head`, or leave the address out to run on this machine."
                )
            ) from None


def _describe(folder: Path) -> str:
    """A folder, its size and its largest file."""
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    largest = max(sizes, key=lambda path: sizes[path])
    total, most = (f"{size / 2**20:,.1f} MiB" for size in (sum(sizes.values()), sizes[largest]))
    return f"{str(folder)!r} of {total}, {most} of them in {str(largest.relative_to(folder))!r}"


def _run_in_task(trial: Trial) -> Iterator[list[Event]]:
    """Run a trial, and yield its events in lists, because a message is slow. The last event is `Finished`.

    A task cannot yield while it runs something else, so the trial has a thread of its own.
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
