"""A whole comparison: what is missing in its folder is run and recorded, trial by trial."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

from cyclr import _checks
from cyclr.experiments import local, workloads
from cyclr.experiments.spec import Spec, Trial
from cyclr.experiments.trial import Event
from cyclr.records import Record, RunFolder

Engine = Literal["local", "ray"]


class Tracker(Protocol):
    """Someone who is told about a comparison while it runs, such as TensorBoard."""

    def epoch(self, trial: Trial, values: dict[str, float]) -> None:
        """An epoch of a trial has ended, with these values."""

    def finish(self, trial: Trial, record: Record) -> None:
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
) -> list[Record]:
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
        ...     [record.error for record in compare(spec, f"{folder}/run", workers=1)]
        ['OSError: no data (model.py, line 1)']
    """
    _checks.choice("engine", engine, ("local", "ray"))
    listeners = list(trackers)
    # What is refused is refused before the folder is changed.
    trials = {trial.id: trial for trial in spec.trials()}
    if missing := RunFolder.read(folder, missing_ok=True).missing(trials, retry_failed):
        workloads.check(trials[missing[0]])
        _engine(engine)([], **options)
    sha256 = next(iter(trials.values())).file_sha256
    with RunFolder.open(folder, spec.to_dict(), trials, workload_sha256=sha256, command=command) as run:
        missing = run.missing(trials, retry_failed)
        tell(
            {"missing": [trials[name] for name in missing], "done": [r for r in run.records if r.trial not in missing]}
        )

        def hear(event: Event) -> None:
            tell(event)
            if "epoch" in event:
                for tracker in listeners:
                    tracker.epoch(trials[event["trial"]], event["epoch"])

        for record in _engine(engine)([trials[name] for name in missing], tell=hear, **options) if missing else ():
            run.append(record)
            for tracker in listeners:
                tracker.finish(trials[record.trial], record)
            tell({"trial": record.trial, "record": record})
        return run.records


def _engine(name: Engine) -> Callable[..., Iterator[Record]]:
    if name == "ray":
        from cyclr.experiments.ray import run

        return run
    return local.run
