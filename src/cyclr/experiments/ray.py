"""Trials on a Ray cluster, or on a Ray that is started on this machine for the purpose."""

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cyclr import _checks
from cyclr.errors import CyclrError, MissingExtraError
from cyclr.experiments import environment as environments
from cyclr.experiments import trial as trials_
from cyclr.experiments.local import Throttle
from cyclr.experiments.spec import Trial
from cyclr.experiments.trial import Event
from cyclr.records import Record

_LOOK_EVERY = 0.5


def run(
    trials: Sequence[Trial],
    *,
    address: str | None = None,
    workers: int | None = None,
    cpus: float = 1,
    gpus: float = 0,
    threads: int = 1,
    retries: int = 2,
    tell: Callable[[Event], None] = lambda event: None,
    init: Mapping[str, Any] | None = None,
) -> Iterator[Record]:
    """Run trials as Ray tasks, and give their records as they finish: the same as those of `local.run`.

    A Ray that is already connected is used as it is; otherwise this connects, and lets go at the end. The folder that
    the user's file is in is shipped with the job (as Ray's `working_dir`); cyclr and the frameworks have to be
    installed on every node. A task whose worker or node dies is begun anew by Ray.

    Args:
        trials: what to run, begun in this order.
        address: of a cluster, such as `"auto"` or `"HOST:PORT"`; by default a Ray is started here.
        workers: trials at a time on a Ray that is started here; its cores by default.
        cpus, gpus: what one trial takes up; GPUs may be fractions.
        threads: threads of the framework in a trial, ≥ 1.
        retries: how often a trial whose worker died is begun again, ≥ 0; then its record says that it failed.
        tell: called with the events of running trials.
        init: further arguments of `ray.init`.

    Raises:
        MissingExtraError: Ray is not installed.
        CyclrError: the cluster cannot be reached, or the folder cannot be shipped.
        TypeError, ValueError: a number out of range.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError('the engine needs Ray. Run: pip install "cyclr[ray]".') from error
    resources = {
        "num_cpus": _checks.number("cpus", cpus, at_least=0),
        "num_gpus": _checks.number("gpus", gpus, at_least=0),
        "max_retries": _checks.integer("retries", retries, at_least=0),
    }
    _checks.integer("threads", threads, at_least=1)
    if workers is not None:
        _checks.integer("workers", workers, at_least=1)
    if address is not None and workers is not None:
        raise ValueError("workers must be left out with an address: the cluster's resources decide. Use cpus and gpus.")
    settings = dict(init or {})
    if address is None and workers is not None:
        settings["num_cpus"] = max(1, round(workers * cpus))
    return _run(ray, list(trials), address, resources, threads, tell, settings)


def _run(
    ray: Any,
    trials: list[Trial],
    address: str | None,
    resources: dict[str, Any],
    threads: int,
    tell: Callable[[Event], None],
    settings: dict[str, Any],
) -> Iterator[Record]:
    with _connected(ray, trials, address, threads, settings) as shipped:
        mailbox = ray.remote(num_cpus=0)(Mailbox).remote()
        task = ray.remote(**resources, retry_exceptions=False)(_run_in_task)
        pending = {task.remote(_as_shipped(trial) if shipped else trial, mailbox): trial for trial in trials}
        try:
            while pending:
                done, _ = ray.wait(list(pending), num_returns=1, timeout=_LOOK_EVERY)
                for event in ray.get(mailbox.take.remote()):
                    tell(event)
                for reference in done:
                    yield _record_of(ray, reference, pending.pop(reference))
        finally:
            for reference in pending:
                ray.cancel(reference, force=True)
            ray.kill(mailbox)


def _as_shipped(trial: Trial) -> Trial:
    return replace(trial, folder=".", shipped_as=None if trial.file is None else trial.file.name)


def _record_of(ray: Any, reference: Any, trial: Trial) -> Record:
    try:
        record: Record = ray.get(reference)
    except ray.exceptions.RayError as error:
        said = str(error).strip().splitlines()
        return trials_.failed_record(trial, f"its worker was lost: {said[0] if said else type(error).__name__}")
    return record


@contextlib.contextmanager
def _connected(
    ray: Any, trials: list[Trial], address: str | None, threads: int, settings: dict[str, Any]
) -> Iterator[bool]:
    """A Ray to run on, and whether the user's file goes with the job."""
    if ray.is_initialized():
        yield False
        return
    environment: dict[str, Any] = {"env_vars": {**environments.thread_variables(threads), **_of_backend()}}
    file = next((trial.file for trial in trials if trial.file is not None), None)
    # A job that was submitted to the cluster has its files there already.
    shipped = file is not None and not os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR")
    if shipped and file is not None:
        environment |= {"working_dir": str(file.parent), "excludes": ["records.jsonl"]}
    started_here = {} if address else {"include_dashboard": False}
    try:
        with warnings.catch_warnings():
            # Ray says so about itself.
            warnings.filterwarnings("ignore", category=FutureWarning, module="ray.*")
            ray.init(
                address=address or "local",
                runtime_env=environment,
                log_to_driver=False,
                logging_level="ERROR",
                **{**started_here, **settings},
            )
    except ray.exceptions.RayError as error:
        ray.shutdown()
        said = (str(error).strip() or type(error).__name__).splitlines()[-1]
        if not shipped or file is None:
            raise CyclrError(
                f"Ray must be ready to run trials; got an error ({said}). Look into its logs, or use the local engine."
            ) from error
        raise CyclrError(
            "the folder of the workload's file is shipped to the cluster, and Ray must be able to; "
            f"got {_in_words(file.parent)} ({said}). Keep data elsewhere, or name it in a file .rayignore there."
        ) from error
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise CyclrError(
            f"address must be that of a running Ray cluster; got {address!r} ({error}). "
            "Start one with `ray start --head`, or leave it out to run on this machine."
        ) from error
    try:
        yield shipped
    finally:
        ray.shutdown()


def _in_words(folder: Path) -> str:
    """A folder, its size and its largest file."""
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    largest = max(sizes, key=lambda path: sizes[path])
    total, most = (f"{size / 2**20:,.1f} MiB" for size in (sum(sizes.values()), sizes[largest]))
    return f"{str(folder)!r} of {total}, {most} of them in {str(largest.relative_to(folder))!r}"


def _of_backend() -> dict[str, str]:
    backend = os.environ.get("KERAS_BACKEND")
    return {} if backend is None else {"KERAS_BACKEND": backend}


class Mailbox:
    """Events of running trials, kept until they are asked for; an actor."""

    def __init__(self) -> None:
        self._events: list[Event] = []

    def put(self, event: Event) -> None:
        """Keep an event."""
        self._events.append(event)

    def take(self) -> list[Event]:
        """All events since the last time."""
        events, self._events = self._events, []
        return events


def _run_in_task(trial: Trial, mailbox: Any) -> Record:
    import ray

    last: list[Any] = []

    def tell(event: Event) -> None:
        last[:] = [mailbox.put.remote(event)]

    record = trials_.run(trial, Throttle(tell))
    # Whoever has the record has had the events: the last of them arrives after all others.
    with contextlib.suppress(ray.exceptions.RayError):
        ray.get(last)
    return record
