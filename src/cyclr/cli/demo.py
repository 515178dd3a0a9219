"""`cyclr demo`: a range test, trainings and a comparison on real data."""

import importlib.util
import math
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import cyclr
from cyclr import CyclrError, _files
from cyclr._redact import redact
from cyclr.cli.compare import own_traceback, print_summary
from cyclr.cli.live import Board
from cyclr.cli.options import (
    BackendOption,
    DataOption,
    ModeOption,
    OpenOption,
    OverwriteOption,
    ShapeOption,
    check_folder,
    check_new,
    out,
    print_bounds,
    save_picture,
    say,
    show_page,
)
from cyclr.drawing.page import render
from cyclr.errors import MissingExtraError, RunFolderError
from cyclr.experiments import Spec, environment, workloads
from cyclr.experiments import compare as run_comparison
from cyclr.experiments import data as data_sets
from cyclr.experiments.demo import (
    AUTO,
    CYCLE,
    TOO_HIGH,
    chance,
    demo_spec,
    discard_records,
    fixed_rates,
    remove_empty,
    whole_demo,
)
from cyclr.records import Group, Record, RunFolder, summarize
from cyclr.report import run_page


def demo(
    model: Annotated[
        str,
        typer.Option("--model", "--workload", help="**cnn**, **mlp**, or your own: FILE.py:function, as for compare."),
    ] = "cnn",
    data: DataOption = None,
    backend: BackendOption = None,
    epochs: Annotated[int, typer.Option(min=1, help="Length of each of the eight trainings, in epochs.")] = 16,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples per update.")] = 50,
    shape: ShapeOption = "parabolic",
    mode: ModeOption = "triangular",
    metric: Annotated[str, typer.Option(help="Metric to compare: val_accuracy, val_loss, …")] = "val_accuracy",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the initial weights and of the order of the data.")] = 0,
    output: Annotated[Path, typer.Option(help="Folder for the page, pictures and records.")] = Path("cyclr-demo"),
    overwrite: OverwriteOption = False,
    open_page: OpenOption = None,
) -> None:
    """Compare a cycle, AutoCycle and fixed learning rates on real data, after a range test, and write a page.

    A range test finds learning-rate bounds for a small CNN with Adam. The CNN is then trained with a cycle between
    these bounds, with AutoCycle, and with four fixed learning rates. These six trainings start from the same weights
    and have the same number of steps. Two more trainings use bounds that are ten times too high. With the default data
    the demo needs no download and takes about a minute.
    """
    first = demo_spec(
        model,
        data,
        epochs=epochs,
        batch_size=batch_size,
        shape=shape,
        mode=mode,
        metric=metric,
        seed=seed,
        backend=backend,
    )
    (trial,) = first.trials()
    check_folder(output)
    workloads.check(trial)
    if backend is not None or trial.file is None or importlib.util.find_spec("keras") is not None:
        environment.select_backend(backend)
    if overwrite:
        discard_records(output)
    page, pictures = output / "report.html", [output / f"{name}.png" for name in _PICTURES]
    if RunFolder.read(output, missing_ok=True).missing([trial.id]):
        check_new(overwrite, page, *pictures, made=output)
    images = 0
    if trial.data is not None:
        loaded = data_sets.load(trial.data["source"])
        images = len(loaded.x_val)
        _print_wrapped(
            f"{loaded.name}: {len(loaded.x_train):,} training and {images:,} validation images of "
            f"{'×'.join(map(str, loaded.input_shape))}, {loaded.classes} classes"
        )
    optimizer = trial.optimizer_name or "its own"
    _print_wrapped(f"Model {model}, optimizer {optimizer}, batch size {batch_size}, {epochs} epochs, seed {seed}")
    try:
        cycle = _run(first, output)[CYCLE]
    except RunFolderError:
        # Another process may be writing to the folder.
        raise
    except BaseException:
        remove_empty(output)
        raise
    test: Any = cycle.range_test
    print_bounds(test)
    rates = fixed_rates(cycle.optimizer)
    _print_wrapped(
        f"To compare with: AutoCycle between the same bounds, and the fixed rates {', '.join(map(str, rates))}, which "
        f"are 0.3, 1, 3 and 10 times the usual {rates[1]} for {cycle.optimizer.partition('(')[0]}."
    )
    records = _run(whole_demo(first, cycle), output)
    summary = summarize(records.values())
    print_summary(summary)
    _print_remarks(records, summary.groups[0], images)
    _save_pictures([records[name] for name in records if name not in TOO_HIGH], summary.groups[0], pictures)
    try:
        _files.write_atomically(page, render(run_page(output)))
    except MissingExtraError as error:
        say(f"Pictures and records are in {output}. The page was not written: {error}")
        return
    say(f"Written: {page}, and pictures and records beside it")
    _print_wrapped("Next steps: the same comparison with more seeds, and a range test of your own model:")
    say(f"  cyclr compare --output {output} --seeds {max(5, seed + 1)}\n  cyclr range-test --model FILE.py:function")
    show_page(page, open_page)


def _print_wrapped(text: str) -> None:
    """Print sentences, with line breaks between words."""
    out.print(redact(text), highlight=False, markup=False)


def _run(spec: Spec, folder: Path) -> dict[str, Record]:
    """Run the trials that are missing, and return the records of the comparison by policy."""
    trials = spec.trials()
    if RunFolder.read(folder, missing_ok=True).missing([trial.id for trial in trials], retry_failed=True):
        with Board(out, spec.metric) as board:
            run_comparison(spec, folder, retry_failed=True, tell=board)
    else:
        _print_wrapped(
            f"{', '.join(trial.policy.name for trial in trials)}: already trained. To train again, add --overwrite."
        )
    records = {record.trial: record for record in RunFolder.read(folder).records}
    for record in (records[trial.id] for trial in trials):
        if record.status == "failed":
            no_bounds = str(record.error).startswith(cyclr.BoundsError.__name__)
            raise (cyclr.BoundsError if no_bounds else CyclrError)(
                f"{record.policy} failed: {record.error}\n{own_traceback(record)}".rstrip()
            )
    return {trial.policy.name: records[trial.id] for trial in trials}


def _print_remarks(records: dict[str, Record], group: Group, images: int) -> None:
    """Print how many updates the trainings took, how much one seed can show, and the events of AutoCycle."""
    cycle, auto = records[CYCLE], records[AUTO]
    fixed = [record.total_steps for record in records.values() if record.lr is not None]
    tested = cycle.range_test_steps
    _print_wrapped(
        f"Steps include the {tested} updates of the range test. The test and the cycle took "
        f"{tested + cycle.total_steps:,} updates, the {len(fixed)} fixed rates {sum(fixed):,}."
    )
    noise = "This is one seed"
    if images and cycle.metric == "val_accuracy" and group.target is not None:
        several = chance(group.target, images)
        noise += (
            f", and a difference of up to {several} of {images} validation images ({several / images:.3f}) can be noise"
        )
    _print_wrapped(f"{noise}.\n")
    plain, guarded = (np.array(record.steps["learning_rate"], dtype=float) for record in (cycle, auto))
    same = not auto.events and len(plain) == len(guarded) and np.allclose(plain, guarded, rtol=1e-5)
    for record, where in ((auto, "between the bounds found"), (records[TOO_HIGH[1]], "from ten times these bounds")):
        events = [*map(str, record.events)] or ["nothing to correct."]
        _print_wrapped(f"AutoCycle {where}: {events[0]}")
        if more := len(events) - 1:
            _print_wrapped(f"… and {more} more, on the page.")
        if record is auto and same:
            _print_wrapped(
                f"It used the same learning rates as the {CYCLE}, so differences in their results are noise."
            )
    _print_wrapped("AutoCycle rescues most runs that start from bounds ten times too high, but not all.\n")


_PICTURES = ("range_test", "schedule", "accuracy")
"""Names of the pictures of the demo."""


def _save_pictures(records: list[Record], group: Group, files: list[Path]) -> None:
    """Draw the range test, the learning rates and the metric."""
    from cyclr.drawing import axes

    cycle: Any = next(record for record in records if record.policy == CYCLE)
    target = group.target
    rates = cycle.schedule.plot(cycle.total_steps)
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for record in records:
        # The step is never None.
        steps = [(step or 0) + record.range_test_steps for step in record.epochs["step"]]
        values = [math.nan if value is None else value for value in record.epochs[record.metric]]
        # If AutoCycle corrected nothing, its curve is the same as the curve of the plain cycle.
        same = next((name for name, curve in curves.items() if curve == (steps, values)), None)
        name = record.policy if same is None else f"{same}, {record.policy}"
        curves.pop(same or name, None)
        curves[name] = steps, values
        if record.lr is not None:
            rates.axhline(record.lr, color="#767676", linewidth=1, linestyle="--")
            rates.annotate(record.policy, (1.01, record.lr), xycoords=("axes fraction", "data"), va="center")
    rates.set(ylabel="learning rate", yscale="log")
    measured = axes.draw_curves(
        {name: values for name, (_, values) in curves.items()},
        x={name: steps for name, (steps, _) in curves.items()},
        xlabel="step (optimizer update), including the range test",
        ylabel=cycle.metric,
        marks={} if target is None else {f"best fixed rate: {target:.4f}": target},
    )
    for ax, file in zip((cycle.range_test.plot(), rates, measured), files, strict=True):
        save_picture(ax, file)
