"""A whole comparison: what is missing in its folder is run and recorded, trial by trial."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

from cyclr import _checks
from cyclr.experiments import local, workloads
from cyclr.experiments.record import RunFolder, read_records, unrecorded
from cyclr.experiments.spec import Spec, Trial
from cyclr.experiments.trial import Event

Engine = Literal["local", "ray"]


class Tracker(Protocol):
    """Someone who is told about a comparison while it runs, such as TensorBoard."""

    def epoch(self, trial: Trial, values: dict[str, float]) -> None:
        """An epoch of a trial has ended, with these values."""

    def finish(self, trial: Trial, record: dict[str, Any]) -> None:
        """A trial has been recorded."""


def compare(
    spec: Spec,
    folder: str | Path,
    *,
    engine: Engine = "local",
    retry_failed: bool = False,
    trackers: Iterable[Tracker] = (),
    tell: Callable[[Event], None] = lambda event: None,
    command: Iterable[str] | None = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """Run every trial of a comparison that its folder has no record of, and return all records.

    Each record is on the disk before the next is waited for. A process that is killed loses the trials that were
    running; called again, this runs them and repeats no other.

    Args:
        spec: the comparison.
        folder: the run folder, made if it does not exist.
        engine: `"local"` (see `local.run`) or `"ray"` (see `ray.run`).
        retry_failed: whether trials that failed are run again.
        trackers: told of every epoch and every record.
        tell: called with events: those of `trial.run`, then `{"trial": …, "record": …}` for every record, after
            `{"missing": [trials], "done": [records]}` at the start.
        command: the command line for run.json; that of this process by default.
        **options: of the engine: `workers`, `threads`, `retries`; for Ray see there.

    Raises:
        RunFolderError: the folder is in use, holds another comparison, or cannot be written.
        CyclrError: the workload does not exist; the folder stays as it is.
        MissingExtraError: the engine is not installed.

    Warns:
        UserWarning: the user's file is another than the one that the folder's results were made with.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from cyclr.experiments import Spec, compare
        >>> policies = [{"kind": "fixed", "lr": 0.1}]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "model.py").write_text("def build(): raise OSError('no data')")
        ...     spec = Spec(policies, workload="model.py:build", epochs=1, seeds=[0], folder=folder)
        ...     [record["error"] for record in compare(spec, f"{folder}/run", workers=1)]
        ['OSError: no data (model.py, line 1)']
    """
    _checks.choice("engine", engine, ("local", "ray"))
    listeners = list(trackers)
    # What is refused is refused before the folder is changed.
    if missing := unrecorded(folder, spec, retry_failed):
        workloads.check(missing[0])
        _engine(engine)([], **options)
    with RunFolder(folder, spec, command) as run:
        missing = run.missing(retry_failed)
        tell({"missing": missing, "done": [r for r in read_records(folder) if r["trial"] not in _ids(missing)]})
        by_id = {trial.id: trial for trial in missing}

        def hear(event: Event) -> None:
            tell(event)
            if "epoch" in event:
                for tracker in listeners:
                    tracker.epoch(by_id[event["trial"]], event["epoch"])

        for record in _engine(engine)(missing, tell=hear, **options) if missing else ():
            run.append(record)
            for tracker in listeners:
                tracker.finish(by_id[record["trial"]], record)
            tell({"trial": record["trial"], "record": record})
    return read_records(folder)


def _engine(name: Engine) -> Callable[..., Iterator[dict[str, Any]]]:
    if name == "ray":
        from cyclr.experiments.ray import run

        return run
    return local.run


def _ids(trials: Iterable[Trial]) -> set[str]:
    return {trial.id for trial in trials}
