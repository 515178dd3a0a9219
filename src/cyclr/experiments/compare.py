"""Run the trials of a comparison, and record each trial in the run folder."""

import contextlib
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, Protocol

from cyclr import _checks
from cyclr._redact import credentials
from cyclr.experiments import workloads
from cyclr.experiments.engines.base import Engine
from cyclr.experiments.engines.local import LocalEngine
from cyclr.experiments.events import Epoch, Event, Finished, Started
from cyclr.experiments.spec import Spec, Trial
from cyclr.records import Record, RunFolder


class Tracker(Protocol):
    """A log of a comparison while it runs, such as TensorBoard."""

    def epoch(self, trial: Trial, values: dict[str, float]) -> None:
        """Log the values at the end of an epoch."""

    def finish(self, trial: Trial, record: Record) -> None:
        """Log the record of a finished trial."""


def compare(
    spec: Spec,
    folder: str | Path,
    *,
    engine: Literal["local", "ray"] = "local",
    retry_failed: bool = False,
    trackers: Iterable[Tracker] = (),
    tell: Callable[[Event], None] = lambda event: None,
    command: Iterable[str] | None = None,
    **options: Any,
) -> list[Record]:
    """Run the trials that are missing from a run folder, and return all records.

    Each record is flushed to disk as soon as its trial finishes. After a crash or a kill, call it again: only
    unfinished trials run. A trial that raises is recorded as failed, with its error and its traceback.

    Args:
        spec: the comparison.
        folder: the run folder, created if it does not exist.
        engine: `"local"` (see `engines.local.LocalEngine`) or `"ray"` (see `engines.ray.RayEngine`).
        retry_failed: True to run failed trials again.
        trackers: called for every epoch and every record. A tracker that raises is not called again.
        tell: called with every event: `Started` once, `Progress` and `Epoch` for running trials, and `Finished` for
            every record; see `cyclr.experiments.events`.
        command: the command line for run.json; by default the command line of this process.
        **options: options of the engine: `workers`, `threads` and `retries`, or the options of `RayEngine`.

    Raises:
        RunFolderError: the folder is in use, holds another comparison, or cannot be written.
        CyclrError: the workload does not exist. The folder is not changed.
        MissingExtraError: the engine is not installed.

    Warns:
        UserWarning: the user's file has changed since the folder got its results, or a tracker raised.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from cyclr.experiments import Spec, compare
        >>> policies = [{"kind": "fixed", "lr": 0.1}]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "model.py").write_text("def build(): raise OSError('no data')")
        ...     spec = Spec(policies, workload="model.py:build", epochs=1, seeds=[0], folder=folder)
        ...     [record.error for record in compare(spec, f"{folder}/run", workers=1)]
        ['OSError: no data (model.py, line 1)']
    """
    _checks.choice("engine", engine, ("local", "ray"))
    trials = {trial.id: trial for trial in spec.trials()}
    runner: Engine | None = None
    # All checks are made before the folder is changed.
    if missing := RunFolder.read(folder, missing_ok=True).missing(trials, retry_failed):
        for trial in {trials[name].optimizer_name: trials[name] for name in missing}.values():
            workloads.check(trial)
        runner = _engine(engine)(**options)
    logs = list(trackers)

    def notify(event: Event) -> None:
        tell(event)
        for log in list(logs):
            try:
                if isinstance(event, Epoch):
                    log.epoch(trials[event.trial], event.values)
                elif isinstance(event, Finished):
                    log.finish(trials[event.record.trial], event.record)
            except Exception as error:  # noqa: BLE001  # A tracker may raise anything; the comparison continues.
                logs.remove(log)
                said = credentials(str(error))
                warnings.warn(
                    f"{type(log).__name__} failed and gets no further events: {type(error).__name__}: {said}. The "
                    "comparison continues, and its records are complete.",
                    stacklevel=4,
                )

    sha256 = next(iter(trials.values())).file_sha256
    about = {"folder_of_paths": spec.folder, "workload_sha256": sha256, "command": command}
    with RunFolder.open(folder, spec.to_dict(), trials, **about) as run:  # type: ignore[arg-type]
        missing = run.missing(trials, retry_failed)
        done = [record for record in run.records if record.trial not in set(missing)]
        notify(Started([trials[name] for name in missing], done))
        if missing:
            runner = runner or _engine(engine)(**options)
            with contextlib.closing(runner.run([trials[name] for name in missing], notify)) as finished:
                for record in finished:
                    run.append(record)
                    notify(Finished(record))
        return run.records


def _engine(name: str) -> type[Engine]:
    if name == "local":
        return LocalEngine
    from cyclr.experiments.engines.ray import RayEngine

    return RayEngine
