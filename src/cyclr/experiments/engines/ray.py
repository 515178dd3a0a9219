"""Trials on a Ray cluster, or on a Ray that is started on this machine for the purpose."""

import asyncio
import os
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cyclr import _checks
from cyclr.errors import CyclrError, MissingExtraError
from cyclr.experiments import environment
from cyclr.experiments.engines.base import Engine, Lost, Throttle
from cyclr.experiments.events import Epoch, Event, Finished, Progress
from cyclr.experiments.spec import Trial
from cyclr.experiments.trial import run_trial
from cyclr.records import Record

_SECONDS_BETWEEN_MESSAGES = 0.5
_SECONDS_BETWEEN_LOOKS = 2.0
_SECONDS_FOR_LATE_MESSAGES = 5.0


class RayEngine(Engine):
    """Runs trials as Ray tasks; their records are the same as those of `LocalEngine`.

    A Ray that is already connected is used; otherwise this connects, and disconnects at the end. The folder of the
    user's file is shipped with the job (as Ray's `working_dir`). cyclr and the frameworks have to be installed on every
    node. A trial whose worker or node dies is started again.

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
        try:
            import ray
        except ImportError as error:
            raise MissingExtraError('the engine needs Ray. Run: pip install "cyclr[ray]".') from error
        self._ray: Any = ray
        self._address, self._init = address, dict(init or {})
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
        self._received: Counter[str] = Counter()
        self._connected = False

    def open(self, trials: Sequence[Trial]) -> int:
        """Connect to Ray. It has a queue, so all trials may be submitted.

        Raises:
            CyclrError: the cluster cannot be reached, or the folder cannot be shipped.
        """
        ray = self._ray
        file = next((trial.file for trial in trials if trial.file is not None), None)
        # A job that was submitted to the cluster has its files there already.
        self._ships = bool(file) and not ray.is_initialized() and not os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR")
        if not ray.is_initialized():
            self._connect(file)
        self._mailbox = ray.remote(num_cpus=0)(Mailbox).remote()
        self._news = self._mailbox.take.remote()
        self._task = ray.remote(**self._resources, max_retries=0)(_run_in_task)
        return len(trials)

    def submit(self, trial: Trial) -> None:
        """Start a task."""
        self._received[trial.id] = 0
        shipped = replace(trial, folder=".", shipped_as=None if trial.file is None else trial.file.name)
        self._running[self._task.remote(shipped if self._ships else trial, self._mailbox)] = trial

    def poll(self) -> Iterable[Progress | Epoch | Finished | Lost]:
        """Wait until a task reports or ends."""
        ready, _ = self._ray.wait([*self._running, self._news], num_returns=1, timeout=_SECONDS_BETWEEN_LOOKS)
        for reference in ready:
            if reference == self._news:
                yield from self._take()
                continue
            trial = self._running.pop(reference)
            try:
                record, last, messages = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                yield Lost(trial, (str(error).strip() or type(error).__name__).splitlines()[0])
                continue
            # Messages may arrive after the record that was sent after them.
            end = time.monotonic() + _SECONDS_FOR_LATE_MESSAGES
            while self._received[trial.id] < messages and time.monotonic() < end:
                if self._ray.wait([self._news], timeout=_SECONDS_BETWEEN_MESSAGES)[0]:
                    yield from self._take()
            yield from last
            yield Finished(record)

    def _take(self) -> Iterable[Progress | Epoch]:
        messages = self._ray.get(self._news)
        self._news = self._mailbox.take.remote()
        for trial, events in messages:
            self._received[trial] += 1
            yield from events

    def close(self) -> None:
        """Cancel the tasks, and disconnect if this has connected."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._running = {}
        if hasattr(self, "_mailbox"):
            self._ray.kill(self._mailbox)
            del self._mailbox
        if self._connected:
            self._ray.shutdown()
            self._connected = False

    def _connect(self, file: Path | None) -> None:
        ray = self._ray
        variables = environment.thread_variables(self.threads)
        if "KERAS_BACKEND" in os.environ:
            variables["KERAS_BACKEND"] = os.environ["KERAS_BACKEND"]
        runtime: dict[str, Any] = {"env_vars": variables}
        if self._ships and file is not None:
            runtime |= {"working_dir": str(file.parent), "excludes": ["records.jsonl"]}
        started_here = {} if self._address else {"include_dashboard": False}
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
                    **{**started_here, **self._init},
                )
        except ray.exceptions.RayError as error:
            said = (str(error).strip() or type(error).__name__).splitlines()[-1]
            if not self._ships or file is None:
                raise CyclrError(f"Ray did not start ({said}). Look into its logs, or use the local engine.") from error
            raise CyclrError(
                f"Ray could not ship the folder of the workload's file: {_describe(file.parent)} ({said}). Keep data "
                "elsewhere, or name it in a file .rayignore there."
            ) from error
        except (ConnectionError, ValueError, RuntimeError) as error:
            self._connected = False
            raise CyclrError(
                f"there is no Ray cluster at address={self._address!r} ({error}). Start one with `ray start --head`, "
                "or leave the address out to run on this machine."
            ) from error


def _describe(folder: Path) -> str:
    """A folder, its size and its largest file."""
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    largest = max(sizes, key=lambda path: sizes[path])
    total, most = (f"{size / 2**20:,.1f} MiB" for size in (sum(sizes.values()), sizes[largest]))
    return f"{str(folder)!r} of {total}, {most} of them in {str(largest.relative_to(folder))!r}"


class Mailbox:
    """Messages of running trials until the driver takes them; an actor."""

    def __init__(self) -> None:
        self._messages: list[tuple[str, list[Event]]] = []
        self._arrived = asyncio.Event()

    async def put(self, trial: str, events: list[Event]) -> None:
        """Add a message."""
        self._messages.append((trial, events))
        self._arrived.set()

    async def take(self) -> list[tuple[str, list[Event]]]:
        """Wait for messages, and return them."""
        await self._arrived.wait()
        self._arrived.clear()
        messages, self._messages = self._messages, []
        return messages


def _run_in_task(trial: Trial, mailbox: Any) -> tuple[Record, list[Event], int]:
    """Return the record, the events since the last message, and the number of messages."""
    events: list[Event] = []
    messages, last = 0, time.monotonic()

    def tell(event: Event) -> None:
        nonlocal messages, last
        events.append(event)
        if time.monotonic() - last >= _SECONDS_BETWEEN_MESSAGES:
            mailbox.put.remote(trial.id, list(events))
            events.clear()
            messages, last = messages + 1, time.monotonic()

    record = run_trial(trial, Throttle(tell))
    return record, events, messages
