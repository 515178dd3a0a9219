"""One trial, from its description to its record, in whatever process it runs."""

import gc
import math
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import structs

from cyclr import _generators
from cyclr.errors import CyclrError
from cyclr.experiments import environment, workloads
from cyclr.experiments.data import Dataset
from cyclr.experiments.events import Epoch, Event, Progress
from cyclr.experiments.jobs.base import History, Job
from cyclr.experiments.spec import Trial
from cyclr.range_test import RangeTest, RangeTestResult
from cyclr.records import Record
from cyclr.schedules import Run

_frozen: set[str] = set()


def run_trial(trial: Trial, tell: Callable[[Event], None] = lambda event: None) -> Record:
    """Train as the trial says, and return its record. An error in it is recorded, and nothing is raised.

    A trial gives the same record wherever it runs, except for times: all generators are seeded first and the range test
    leaves no trace. `seconds` covers the range test and the training, but not imports and loading data.

    Args:
        trial: what to do.
        tell: called with its `Progress` after every step, and with every `Epoch`.
    """
    record, found = empty_record(trial), dict[str, Any]()
    try:
        with workloads.importable_folder(trial.file):
            _fill(found, trial, tell)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # A user's model may raise anything, and other trials go on.
        found |= {"status": "failed", "error": _error_line(error, trial.file)}
        found["traceback"] = "".join(traceback.format_exception(error))
    finally:
        _clear_session()
    return structs.replace(record, **found)


def find_bounds(
    trial: Trial, data: Dataset | None = None, on_step: Callable[[RangeTest], None] = lambda test: None
) -> RangeTestResult:
    """Run only the range test of a trial; errors of the user's file are raised.

    Args:
        trial: the trial.
        data: data for a function of a user's file that returns only a model.
        on_step: called after every update.
    """
    with workloads.importable_folder(trial.file):
        return _seeded(workloads.builder(trial, data), trial.seed).range_test(on_step)


def empty_record(trial: Trial) -> Record:
    """The record of a trial that has not started."""
    on = "" if trial.data is None else f" on {Path(trial.data['source']).name}"
    return Record(
        trial=trial.id,
        workload=trial.workload + on,
        workload_sha256=trial.file_sha256,
        policy=trial.policy.name,
        seed=trial.seed,
        optimizer=trial.optimizer_name,
        metric=trial.metric,
        direction=trial.direction,
    )


def _fill(found: dict[str, Any], trial: Trial, tell: Callable[[Event], None]) -> None:
    def progress(stage: str) -> Callable[[int, int], None]:
        return lambda done, total: tell(Progress(trial.id, stage, done, total))

    tell(Progress(trial.id, "loading"))
    if trial.backend is not None:
        environment.select_backend(trial.backend)
    job = _seeded(workloads.builder(trial), trial.seed)
    per_epoch = job.steps_per_epoch
    total = trial.steps if trial.epochs is None else trial.epochs * per_epoch
    if total is None:
        raise CyclrError(f"a trial must have a budget in epochs or in steps; got neither in {trial.id}.")
    found |= {"steps_per_epoch": per_epoch, "total_steps": total, "optimizer": job.optimizer_name}
    started = time.perf_counter()
    bounds = None
    if trial.policy.needs_range_test:
        result, updates = _range_test(job, progress("range test"))
        found |= {"range_test": result, "range_test_steps": updates}
        bounds = result.bounds
    plan = trial.policy.plan(Run(total, steps_per_epoch=per_epoch), bounds)
    found |= {"lr": plan.lr if plan.framework is None else None, "schedule": plan.schedule}
    _seed(trial.seed)
    history = History(total, trial.metric, progress("training"), lambda values: tell(Epoch(trial.id, values)))
    job.train(plan, history)
    epochs = {name: _finite(values) for name, values in history.epochs.items()}
    found |= {
        "seconds": round(time.perf_counter() - started, 3),
        "epochs": epochs,
        "steps": {"learning_rate": _finite(history.lr), "loss": _finite(history.loss)},
    }
    if history.diverged:
        found |= {"status": "diverged", "error": f"loss not finite at update {len(history.loss) - 1}"}
    elif all(value is None for value in epochs[trial.metric]):
        found |= {"status": "diverged", "error": f"{trial.metric} was not finite after any epoch"}


def _range_test(job: Job, progress: Callable[[int, int], None]) -> tuple[RangeTestResult, int]:
    """The result, and the number of updates: those of repeats, and one whose loss was not finite, count too."""
    updates = 0

    def count(test: RangeTest) -> None:
        nonlocal updates
        updates += 1
        progress(test.recorded, len(test))

    return job.range_test(count), updates


def _finite(values: list[float]) -> list[float | None]:
    """The values with None, which JSON knows, for NaN and infinity."""
    return [value if math.isfinite(value) else None for value in values]


def _seeded(build: Callable[[], Job], seed: int) -> Job:
    """Build with seeded generators; again if the build was the first to load a framework."""
    _seed(seed)
    _freeze_frameworks()
    job = build()
    if not _frameworks() <= _frozen:
        del job
        _freeze_frameworks()
        _seed(seed)
        job = build()
    return job


def _frameworks() -> set[str]:
    return {"keras", "tensorflow", "torch", "jax"} & set(sys.modules)


def _freeze_frameworks() -> None:
    """Exclude loaded frameworks from garbage collections, which would walk their 300,000 objects after every trial."""
    if not _frameworks() <= _frozen:
        gc.collect()
        gc.freeze()
        _frozen.update(_frameworks())


def _seed(seed: int) -> None:
    """Seed the generators of Python, NumPy and the frameworks that are loaded."""
    if "keras" in sys.modules:
        from cyclr.keras.state import seed_all

        seed_all(seed)
    else:
        _generators.seed_all(seed)


def _clear_session() -> None:
    """Free the models of this trial: Keras keeps graphs, and a worker runs many trials."""
    keras = sys.modules.get("keras")
    if keras is not None:
        keras.utils.clear_session()
    gc.collect()


def _error_line(error: BaseException, file: Path | None) -> str:
    """One line for what a user can fix, and where in the user's folder it happened for anything else."""
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, CyclrError):
        return said
    frames = traceback.extract_tb(error.__traceback__)
    users = [frame for frame in frames if file is not None and _is_in_folder(frame.filename, file.parent)]
    where = (users or frames)[-1]
    return f"{said} ({Path(where.filename).name}, line {where.lineno})"


def _is_in_folder(filename: str, folder: Path) -> bool:
    """True if a source file is in a folder, and not in packages that are installed there."""
    path = Path(filename)
    return path.is_relative_to(folder) and "site-packages" not in path.relative_to(folder).parts
