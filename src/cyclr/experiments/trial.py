"""Run one trial, and return its record."""

import contextlib
import functools
import gc
import math
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from msgspec import structs

from cyclr import _generators
from cyclr.bounds import Bounds
from cyclr.errors import CyclrError, MembersError
from cyclr.experiments import environment, user_file, workloads
from cyclr.experiments.events import Epoch, Event, Progress
from cyclr.experiments.jobs.base import History, Job
from cyclr.experiments.spec import Trial
from cyclr.range_test import RangeTest, RangeTestResult
from cyclr.records import Record
from cyclr.schedules import Run

_SECONDS_BETWEEN_STEPS = 0.2

_CYCLR = Path(__file__).parents[1]

_REMEDIES = {
    # NumPy's arrays have 64 bits by default, and torch's models 32.
    "Double.* Float|Float.* Double": 'Return float32 data: x.astype("float32").',
    "^Target .* is out of bounds": "Give the model an output for every class, and number the classes from 0.",
}
"""Remedies for errors of torch, by a regular expression that matches the message."""

_Made = TypeVar("_Made")

_frozen: set[str] = set()


def run_trial(trial: Trial, tell: Callable[[Event], None] = lambda event: None) -> Record:
    """Run a trial, and return its record. Errors are recorded, not raised.

    A trial gives the same record wherever it runs, except for times: all generators are seeded first and the range test
    leaves no trace. `seconds` covers the range test and the training, but not imports and loading data.

    Args:
        trial: the trial to run.
        tell: called with `Progress`, at most five times a second for steps, and with every `Epoch`.
    """
    record, found = empty_record(trial), dict[str, Any]()
    try:
        with user_file.importable_folder(trial.file):
            _fill(found, trial, tell)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # A user's model may raise anything.
        found |= {"status": "failed", "error": _error_line(error, trial.file)}
        found["traceback"] = user_file.own_traceback(error, trial.file) or "".join(traceback.format_exception(error))
    finally:
        # A worker runs many trials, and Keras keeps the graphs of all models in memory.
        if "keras" in sys.modules:
            sys.modules["keras"].utils.clear_session()
        gc.collect()
    return structs.replace(record, **found)


def find_bounds(trial: Trial, on_step: Callable[[RangeTest], None] = lambda test: None) -> RangeTestResult:
    """Run only the range test of a trial.

    Args:
        trial: the trial.
        on_step: called after every update.

    Raises:
        CyclrError: the user's file raised (the message has the traceback in this file), or the framework raised (the
            message is one line).
    """
    try:
        with user_file.importable_folder(trial.file):
            job = _build_job(trial, trains=False)
            with _errors_with_shapes(trial, job):
                return job.range_test(on_step)
    except (Exception, SystemExit) as error:
        if own := user_file.own_traceback(error, trial.file):
            raise CyclrError(f"{trial.workload} failed:\n{own.rstrip()}") from error
        raise


@contextlib.contextmanager
def _errors_with_shapes(trial: Trial, job: Job) -> Iterator[None]:
    """Turn an error of the framework into a `CyclrError` with the shapes of the data, which may not fit the model."""
    try:
        yield
    except CyclrError:
        raise
    except Exception as error:
        # Keras removes its own frames from the traceback, so the last frame may be a call in cyclr.
        last = traceback.extract_tb(error.__traceback__)[-1]
        raised_here = Path(last.filename).is_relative_to(_CYCLR) and (last.line or "").startswith("raise ")
        if raised_here or user_file.own_traceback(error, trial.file):
            raise
        shapes = f", {job.batch_shapes}" if job.batch_shapes else ""
        said = user_file.plain_text(str(error))
        fix = next((f". {remedy}" for sign, remedy in _REMEDIES.items() if re.search(sign, said)), "")
        raise CyclrError(
            f"the model of {trial.workload} cannot be trained on its data{shapes}: {type(error).__name__}: "
            f"{said.rstrip('.') if fix else said}{fix}"
        ) from error


def empty_record(trial: Trial) -> Record:
    """Return the record of a trial that has not started."""
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
        last = -math.inf

        def report(done: int, total: int) -> None:
            nonlocal last
            now = time.monotonic()
            if done >= total or now - last >= _SECONDS_BETWEEN_STEPS:
                last = now
                tell(Progress(trial.id, stage, done, total))

        return report

    tell(Progress(trial.id, "loading"))
    if trial.backend is not None:
        environment.select_backend(trial.backend)
    job = _build_job(trial)
    per_epoch = job.steps_per_epoch
    total = trial.total_steps(per_epoch)
    found |= {"steps_per_epoch": per_epoch, "total_steps": total, "optimizer": job.optimizer_name}
    found["optimizer_call"] = job.optimizer_call
    started = time.perf_counter()
    bounds = None
    if trial.policy.needs_range_test:
        report, updates = progress("range test"), 0

        def count(test: RangeTest) -> None:
            # Include the updates of repeats, and an update whose loss was not finite.
            nonlocal updates
            updates += 1
            report(test.recorded, len(test))

        with _errors_with_shapes(trial, job):
            found["range_test"] = job.range_test(count)
        found["range_test_steps"] = updates
        bounds = found["range_test"].bounds
    plan = trial.policy.plan(Run(total, steps_per_epoch=per_epoch), bounds)
    plan.check_members(total)
    found |= {"lr": plan.lr if plan.framework is None else None, "moved_by": plan.framework or ""}
    given = plan.options.get("schedule")
    found["schedule"] = given.schedule(total_steps=total) if isinstance(given, Bounds) else plan.schedule
    _seed(trial.seed)
    history = History(
        total,
        trial.metric,
        progress("training"),
        lambda values: tell(Epoch(trial.id, values)),
        lenient=plan.framework == "auto",
    )
    unfit = None
    try:
        with _errors_with_shapes(trial, job):
            job.train(plan, history)
    except MembersError as error:
        # A weight of a member was NaN or infinite, but no loss was.
        history.diverged, unfit = True, str(error)
    epochs = {name: _finite(values) for name, values in history.epochs.items()}
    found |= {
        "seconds": round(time.perf_counter() - started, 3),
        "epochs": epochs,
        "steps": {"learning_rate": _finite(history.lr), "loss": _finite(history.loss)},
        "events": history.events,
        "ending": dict(zip(history.ending, _finite([*history.ending.values()]), strict=True)),
        "predictions": history.predictions,
    }
    if history.range_test is not None:
        found["range_test"] = history.range_test
    if history.diverged:
        found |= {"status": "diverged", "error": unfit or f"loss not finite at update {len(history.loss) - 1}"}
    elif all(value is None for value in epochs[trial.metric]):
        found |= {"status": "diverged", "error": f"{trial.metric} was not finite after any epoch"}


def _finite(values: list[float]) -> list[float | None]:
    """Return the values with None for NaN and infinity, which JSON does not have."""
    return [value if math.isfinite(value) else None for value in values]


def _build_job(trial: Trial, *, trains: bool = True) -> Job:
    """Build the model and the data of a trial.

    Generators are also seeded before a user's file is run, because its module may draw random numbers.
    """
    load = functools.partial(workloads.builder, trial, trains=trains)
    return _call_seeded(load() if trial.file is None else _call_seeded(load, trial.seed), trial.seed)


def _call_seeded(make: Callable[[], _Made], seed: int) -> _Made:
    """Seed all generators, call `make`, and return its result.

    If the call was the first to import a framework, it is repeated: the generators of that framework were not seeded.
    Loaded frameworks are excluded from garbage collection, which would visit their 300,000 objects after every trial.
    """
    while True:
        if not _loaded_frameworks() <= _frozen:
            gc.collect()
            gc.freeze()
            _frozen.update(_loaded_frameworks())
        _seed(seed)
        made = make()
        if _loaded_frameworks() <= _frozen:
            return made
        del made


def _loaded_frameworks() -> set[str]:
    return {"keras", "tensorflow", "torch", "jax"} & set(sys.modules)


def _seed(seed: int) -> None:
    """Seed the generators of Python, NumPy and the frameworks that are loaded."""
    if "keras" in sys.modules:
        from cyclr.keras.state import seed_all

        seed_all(seed)
    else:
        _generators.seed_all(seed)


def _error_line(error: BaseException, file: Path | None) -> str:
    """Return the error in one line, with the last place in the user's folder, except for errors of cyclr."""
    said = ": ".join(filter(None, (type(error).__name__, user_file.plain_text(str(error)))))
    if isinstance(error, CyclrError):
        return said
    frames = traceback.extract_tb(error.__traceback__)
    users = [frame for frame in frames if file is not None and user_file.is_in_folder(frame.filename, file.parent)]
    where = (users or frames)[-1]
    return f"{said} ({Path(where.filename).name}, line {where.lineno})"
