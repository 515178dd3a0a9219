"""`cyclr demo`: the whole job on real data."""

from pathlib import Path
from typing import Annotated, Any

import typer

import cyclr
from cyclr import CyclrError
from cyclr.cli.compare import print_summary
from cyclr.cli.live import Board
from cyclr.cli.options import (
    BackendOption,
    DataOption,
    ModeOption,
    OverwriteOption,
    ShapeOption,
    check_new,
    out,
    prepare_folder,
    print_bounds,
    save_picture,
    say,
)
from cyclr.experiments import compare as run_comparison
from cyclr.experiments import data as data_sets
from cyclr.experiments import environment
from cyclr.experiments.demo import demo_spec, discard_demo, with_bounds_too_high
from cyclr.records import Record, best, summarize


def demo(
    data: DataOption = "digits",
    backend: BackendOption = None,
    epochs: Annotated[int, typer.Option(min=1, help="Length of each of the four trainings, in epochs.")] = 16,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples in an update.")] = 50,
    shape: ShapeOption = "triangular",
    mode: ModeOption = "triangular",
    seed: Annotated[int, typer.Option(min=0, help="Seed of initial weights and of the order of the data.")] = 0,
    output: Annotated[Path, typer.Option(help="Folder for pictures and records.")] = Path("cyclr-demo"),
    overwrite: OverwriteOption = False,
) -> None:
    """Show the whole job on real data: range test, bounds, step size, training with CLR, a fixed rate and AutoCycle.

    A small CNN is tested for its learning-rate bounds with Adam, trained with a cyclical rate between them, and once
    more from the same weights with Adam's default rate, for the same number of steps. Then two runs start from bounds
    that are ten times too high, one of them with AutoCycle. The default data needs no download and takes a minute.
    """
    comparison = demo_spec(data, epochs=epochs, batch_size=batch_size, shape=shape, mode=mode, seed=seed)
    prepare_folder(output)
    check_new(overwrite, *[output / f"{name}.png" for name in _PICTURES])
    if overwrite:
        discard_demo(output)
    environment.select_backend(backend)
    loaded = data_sets.load(data)
    say(
        f"{loaded.name}: {len(loaded.x_train):,} training and {len(loaded.x_val):,} validation images of "
        f"{'×'.join(map(str, loaded.input_shape))}, {loaded.classes} classes"
    )
    with Board(out, comparison.metric) as board:
        records = run_comparison(comparison, output, tell=board, workers=1, threads=environment.cores())
    cyclical: Any = records[0]
    if cyclical.range_test is not None:
        print_bounds(cyclical.range_test)
    _raise_if_failed(records)
    schedule: Any = cyclical.schedule
    half, per_epoch = float(schedule.cycle_length) / 2, cyclical.steps_per_epoch
    out.print(
        f"[b]Step size[/b]: {half:.4g} steps, {half / per_epoch:.2g} epochs, so that whole cycles fill the run "
        f"(Smith's rule: {4 * per_epoch} steps for 4 epochs)"
    )
    print_summary(summarize(records))
    pictures = _save_pictures(records, output)
    say("\nThe same from bounds that are ten times too high, plain and with AutoCycle:")
    four = with_bounds_too_high(comparison, cyclical.range_test.bounds)
    with Board(out, comparison.metric) as board:
        records = run_comparison(four, output, tell=board, workers=1, threads=environment.cores())
    _raise_if_failed(records)
    for event in records[-1].events:
        out.print(str(event), highlight=False, markup=False)
    out.print(
        "One run each, of one network. From bounds that are right AutoCycle trains as the plain cycle does. From ten "
        "times these it saves most runs, not all. It does not see a rate that only slows the training down."
    )
    say(f"Written: {pictures}, {output / 'records.jsonl'}")
    say(f"Look at the whole run with: cyclr report {output}")


def _raise_if_failed(records: list[Record]) -> None:
    for record in records:
        if record.status == "failed":
            no_bounds = str(record.error).startswith(cyclr.BoundsError.__name__)
            raise (cyclr.BoundsError if no_bounds else CyclrError)(f"{record.policy} failed: {record.error}")


_PICTURES = ("range_test", "schedule", "accuracy")
"""Names of the pictures of the demo."""


def _save_pictures(records: list[Record], folder: Path) -> str:
    """Draw the demo, and return the paths of the pictures."""
    from cyclr.drawing import axes

    cyclical: Any = records[0]
    rates = cyclical.schedule.plot(cyclical.total_steps)
    marks: dict[str, float] = {}
    for record in records:
        if record.lr is not None:
            rates.axhline(record.lr, color="#767676", linewidth=1, linestyle="--", label=record.policy)
            if (reached := best(record)) is not None:
                marks[f"best of {record.policy}: {reached:.4f}"] = reached
    rates.set_ylabel("learning rate")
    rates.legend(loc="upper right", frameon=False)
    accuracy = axes.draw_curves(
        {record.policy: [value or 0.0 for value in record.epochs[record.metric]] for record in records},
        x=cyclical.epochs["step"],
        xlabel="step (optimizer update)",
        ylabel="validation accuracy",
        marks=marks,
    )
    pictures = dict(zip(_PICTURES, (cyclical.range_test.plot(), rates, accuracy), strict=True))
    return ", ".join(save_picture(ax, folder / f"{name}.png") for name, ax in pictures.items())
