"""One trial, from its description to its record, in whatever process it runs."""

import gc
import math
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from cyclr import _generators
from cyclr.errors import CyclrError
from cyclr.experiments import environment, workloads
from cyclr.experiments.data import Dataset
from cyclr.experiments.jobs.base import History, Job
from cyclr.experiments.spec import Trial
from cyclr.range_test import RangeTest, RangeTestResult
from cyclr.records import Record
from cyclr.schedules import Run

Event = dict[str, Any]
"""What a trial tells while it runs: `trial`, `stage`, `done` and `total`, or `trial` and `epoch` (its values)."""


def run(trial: Trial, tell: Callable[[Event], None] = lambda event: None) -> Record:
    """Train as the trial says, and return its record; what goes wrong in it is in the record, and nothing is raised.

    The same trial gives the same record wherever it runs, times apart: every generator is seeded first, and the range
    test leaves no trace. Its `seconds` are those of range test and training; imports and the reading of data are none.

    Args:
        trial: what to do.
        tell: called while it runs, with every step and epoch.
    """
    record, found = empty_record(trial), dict[str, Any]()
    try:
        with workloads.importable_folder(trial.file):
            _fill(found, trial, tell)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # A user's model may raise anything, and other trials go on.
        found |= {"status": "failed", "error": _in_words(error, trial.file)}
        found["traceback"] = "".join(traceback.format_exception(error))
    finally:
        _forget()
    return msgspec.structs.replace(record, **found)


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
    """The record of a trial that has not begun."""
    return Record(
        trial=trial.id,
        workload=_workload_name(trial),
        workload_sha256=trial.file_sha256,
        policy=trial.policy.name,
        seed=trial.seed,
        optimizer=trial.optimizer_name,
        metric=trial.metric,
        direction=trial.direction,
    )


def failed_record(trial: Trial, error: str) -> Record:
    """The record of a trial whose worker was lost."""
    return msgspec.structs.replace(empty_record(trial), status="failed", error=error)


def _fill(record: dict[str, Any], trial: Trial, tell: Callable[[Event], None]) -> None:
    def step(stage: str) -> Callable[[int, int], None]:
        return lambda done, total: tell({"trial": trial.id, "stage": stage, "done": done, "total": total})

    tell({"trial": trial.id, "stage": "loading", "done": 0, "total": 1})
    if trial.backend is not None:
        environment.select_backend(trial.backend)
    job = _seeded(workloads.builder(trial), trial.seed)
    per_epoch = job.steps_per_epoch
    total = trial.steps if trial.epochs is None else trial.epochs * per_epoch
    if total is None:
        raise CyclrError(f"a trial must have a budget in epochs or in steps; got neither in {trial.id}.")
    record |= {"steps_per_epoch": per_epoch, "total_steps": total, "optimizer": job.optimizer_name}
    began = time.perf_counter()
    result = _range_test(job, trial, record, step("range test"))
    plan = trial.policy.plan(Run(total, steps_per_epoch=per_epoch), None if result is None else result.bounds)
    record |= {
        "lr": plan.lr if plan.framework is None else None,
        "schedule": plan.schedule,
    }
    _seed(trial.seed)
    history = History(total, trial.metric, step("training"), lambda values: tell({"trial": trial.id, "epoch": values}))
    job.train(plan, history)
    record["seconds"] = round(time.perf_counter() - began, 3)
    record["epochs"] = {name: _finite(values) for name, values in history.epochs.items()}
    record["steps"] = {"learning_rate": _finite(history.lr), "loss": _finite(history.loss)}
    if history.diverged:
        record["status"], record["error"] = "diverged", f"loss not finite at update {len(history.loss) - 1}"
    elif all(value is None for value in record["epochs"][trial.metric]):
        record["status"], record["error"] = "diverged", f"{trial.metric} was not finite after any epoch"


def _range_test(
    job: Job, trial: Trial, record: dict[str, Any], tell: Callable[[int, int], None]
) -> RangeTestResult | None:
    if not trial.policy.needs_range_test:
        return None
    updates = 0

    def count(test: RangeTest) -> None:
        # Every update counts: those of repeats, and the one whose loss was not finite and is no point of the curve.
        nonlocal updates
        updates += 1
        tell(test.recorded, len(test))

    result = job.range_test(count)
    record |= {"range_test": result, "range_test_steps": updates}
    return result


def _workload_name(trial: Trial) -> str:
    if trial.data is None:
        return trial.workload
    return f"{trial.workload} on {Path(trial.data['source']).name}"


def _finite(values: list[float]) -> list[float | None]:
    """The values with None, which JSON knows, where they are NaN or infinite."""
    return [value if math.isfinite(value) else None for value in values]


def _seeded(build: Callable[[], Job], seed: int) -> Job:
    """What a builder builds with seeded generators; built anew if it was the first to load a framework."""
    _seed(seed)
    loaded = _frameworks()
    job = build()
    if _frameworks() != loaded:
        _seed(seed)
        job = build()
    return job


def _frameworks() -> set[str]:
    return {"keras", "tensorflow", "torch", "jax"} & set(sys.modules)


def _seed(seed: int) -> None:
    """Seed the generators of the frameworks that are loaded, and Python's and NumPy's."""
    if "keras" in sys.modules:
        from cyclr.keras.state import seed_all

        seed_all(seed)
    else:
        _generators.seed_all(seed)


def _forget() -> None:
    """Let go of the models of this trial: Keras keeps graphs, and a worker runs many trials."""
    keras = sys.modules.get("keras")
    if keras is not None:
        keras.utils.clear_session()
    gc.collect()


def _in_words(error: BaseException, file: Path | None) -> str:
    """One line for what a user can mend, and where in the user's folder it happened for anything else."""
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, CyclrError):
        return said
    frames = traceback.extract_tb(error.__traceback__)
    of_user = [frame for frame in frames if file is not None and _is_of(frame.filename, file.parent)]
    where = (of_user or frames)[-1]
    return f"{said} ({Path(where.filename).name}, line {where.lineno})"


def _is_of(filename: str, folder: Path) -> bool:
    """Whether a source file is in a folder, installed packages in it apart."""
    path = Path(filename)
    return path.is_relative_to(folder) and "site-packages" not in path.relative_to(folder).parts
