"""The `cyclr` command: its options, and the subcommands that draw, test and show."""

import bisect
import importlib.util
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import cyclr
from cyclr import CyclrError, RangeTest, RangeTestResult, Schedule, _files
from cyclr.cli import compare, report
from cyclr.cli.live import Board
from cyclr.cli.options import (
    BackendOption,
    Commands,
    DataOption,
    Exit,
    ModeOption,
    OverwriteOption,
    ShapeOption,
    check_new,
    out,
    prepare_folder,
    say,
)
from cyclr.experiments import Spec, environment, workloads
from cyclr.experiments import compare as run_comparison
from cyclr.experiments import data as data_sets
from cyclr.experiments.demo import demo_spec, discard_demo, with_bounds_too_high
from cyclr.experiments.trial import find_bounds
from cyclr.range_test.driver import Spacing
from cyclr.range_test.refine import TrialTest
from cyclr.records import Record, best, summarize
from cyclr.schedules.cyclical import decay_of_mode

app = typer.Typer(
    name="cyclr",
    cls=Commands,
    help="Find good learning-rate bounds for a model and train it with cyclical learning rates.",
    epilog=(
        "Exit codes: 0 done, 1 error, 2 wrong usage, 3 the range test found no bounds, 130 interrupted. "
        "Start with: cyclr demo"
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        out.print(f"cyclr {cyclr.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Options of the command itself; each subcommand describes its own."""


@app.command()
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
        _print_bounds(cyclical.range_test)
    _raise_if_failed(records)
    schedule: Any = cyclical.schedule
    half, per_epoch = float(schedule.cycle_length) / 2, cyclical.steps_per_epoch
    out.print(
        f"[b]Step size[/b]: {half:.4g} steps, {half / per_epoch:.2g} epochs, so that whole cycles fill the run "
        f"(Smith's rule: {4 * per_epoch} steps for 4 epochs)"
    )
    compare.print_summary(summarize(records))
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
    return ", ".join(_save_picture(ax, folder / f"{name}.png") for name, ax in pictures.items())


def _save_picture(ax: Any, path: Path) -> str:
    import matplotlib.pyplot as plt

    ax.figure.savefig(path, dpi=130, bbox_inches="tight")
    plt.close(ax.figure)
    return str(path)


@app.command("range-test")
def range_test(
    model: Annotated[
        str,
        typer.Option(
            "--model",
            help="FILE.py:function that returns a compiled Keras model or a torch module, with or without its data, as "
            "for compare; or **mlp** or **cnn**.",
        ),
    ],
    data: DataOption = "digits",
    backend: BackendOption = None,
    min_lr: Annotated[float, typer.Option(help="First learning rate.")] = 1e-6,
    max_lr: Annotated[float, typer.Option(help="Last learning rate.")] = 10.0,
    steps: Annotated[int, typer.Option(min=2, help="Updates, each at another rate.")] = 150,
    spacing: Annotated[Spacing, typer.Option(help="How the rates rise.")] = "exponential",
    batch_size: Annotated[int, typer.Option(min=1, help="Samples in an update: as in your training.")] = 32,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Length of your training, to find bounds for it by trial cycles.")
    ] = None,
    total_steps: Annotated[
        int | None, typer.Option(min=1, help="The same in optimizer updates, instead of --epochs.")
    ] = None,
    refine: Annotated[
        int | None,
        typer.Option(min=0, help="Updates to spend on these trials; 5 % of the training by default, if at least 600."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of initial weights and of the order of the data.")] = 0,
    output: Annotated[Path, typer.Option(help="Folder for the picture and the JSON.")] = Path("cyclr-range-test"),
    overwrite: OverwriteOption = False,
) -> None:
    """Find the learning-rate bounds of your own model.

    Example: cyclr range-test --model model.py:build --data mnist --batch-size 64

    For a training of known length: cyclr range-test --model model.py:build --epochs 20 --refine 600
    """
    has_length = epochs is not None or total_steps is not None
    if epochs is not None and total_steps is not None:
        raise typer.BadParameter("give the length of the training once: --epochs or --total-steps.")
    if refine is not None and not has_length:
        raise typer.BadParameter("--refine needs the length of the training: --epochs or --total-steps.")
    prepare_folder(output)
    written = output / "range_test.png", output / "range_test.json"
    check_new(overwrite, *written)
    in_file = ":" in model
    (trial,) = Spec(
        [{"kind": "triangular"}],
        workload=model,
        data=None if in_file else data,
        epochs=epochs if has_length else 1,
        steps=total_steps,
        seeds=[seed],
        batch_size=batch_size,
        range_test={"min_lr": min_lr, "max_lr": max_lr, "steps": steps, "spacing": spacing}
        | ({"refine": refine} if has_length else {}),
    ).trials()
    workloads.check(trial)
    if backend is not None or not in_file or importlib.util.find_spec("keras") is not None:
        environment.select_backend(backend)
    loaded = data_sets.load(data) if in_file else None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out) as bars:
        bar = bars.add_task("range test", total=steps)

        def show(test: RangeTest) -> None:
            name = f"trial up to {test.top:.2g}" if isinstance(test, TrialTest) else "range test"
            bars.update(bar, description=name, completed=test.recorded, total=len(test))

        result = find_bounds(trial, loaded, show)
    _print_bounds(result)
    result.save(written[1])
    _save_picture(result.plot(), written[0])
    say(f"Written: {written[0]}, {written[1]}")
    if not result.bounds.usable:
        raise typer.Exit(Exit.NO_BOUNDS)


@app.command()
def plot(
    schedule: Annotated[
        Path | None, typer.Option("--schedule", help="JSON file of any schedule, written from its to_dict().")
    ] = None,
    base_lr: Annotated[float, typer.Option(help="Lower bound.")] = 0.001,
    max_lr: Annotated[float, typer.Option(help="Upper bound.")] = 0.006,
    step_size: Annotated[int, typer.Option(min=1, help="Steps in half a cycle.")] = 2000,
    step_size_down: Annotated[int | None, typer.Option(min=1, help="Steps on the way down, if they differ.")] = None,
    shape: ShapeOption = "triangular",
    mode: ModeOption = "triangular",
    gamma: Annotated[float, typer.Option(help="Factor per step of exp_range.")] = 0.9999,
    steps: Annotated[
        int | None, typer.Option(min=2, help="Steps to draw; the whole schedule or its first four cycles by default.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Picture to write: .png, .svg or .pdf.")] = Path("schedule.png"),
    overwrite: OverwriteOption = False,
) -> None:
    """Draw a schedule.

    Example: cyclr plot --base-lr 0.001 --max-lr 0.1 --step-size 500 --mode triangular2
    """
    check_new(overwrite, output)
    drawn: Schedule
    if schedule is not None:
        try:
            description = json.loads(_files.read_regular(schedule))
        except (OSError, ValueError, RecursionError) as error:
            raise CyclrError(f"schedule must be a JSON file; got {str(schedule)!r} ({error}).") from error
        drawn = Schedule.from_dict(description)
    else:
        decay = decay_of_mode(mode, gamma)
        drawn = cyclr.Cyclical(base_lr, max_lr, step_size, step_size_down=step_size_down, shape=shape, decay=decay)
    picture = _save_picture(drawn.plot(steps or _steps_to_draw(drawn)), output)
    say(f"{drawn!r}\nWritten: {picture}")


def _steps_to_draw(schedule: Any) -> int:
    """All steps of a schedule with an end, four cycles or turns of one that repeats, most of a fall, or 1,000 steps."""
    if schedule.total_steps is not None:
        return int(schedule.total_steps)
    match schedule:
        case cyclr.Wave():
            return bisect.bisect_left(range(2**40), 4, key=schedule.cycle) + 1
        case cyclr.Mirrored():
            return _steps_to_draw(schedule.of)
        case cyclr.Warmup():
            return (0 if schedule.over else schedule.steps) + _steps_to_draw(schedule.of)
        case cyclr.Sequence():
            return sum(schedule.lengths) + _steps_to_draw(schedule.schedules[-1])
        case cyclr.Product():
            moving = [part for part in schedule.schedules if not isinstance(part, cyclr.Constant)]
            return max(map(_steps_to_draw, moving), default=1000)
        case cyclr.Clock():
            return schedule.every * (4 * schedule.repeat if schedule.repeat else _steps_to_draw(schedule.of))
        case cyclr.Anneal(limit=None):
            return schedule.steps + 1
        case cyclr.Anneal(start=start, limit=float(limit)):
            near = abs(start - limit) / 20
            return bisect.bisect_left(range(2**40), True, key=lambda step: abs(schedule(step) - limit) <= near) + 1
    return 1000


app.command()(compare.compare)
app.command()(report.report)


def _print_bounds(result: RangeTestResult) -> None:
    picture = result.picture()
    out.print(Panel(f"[b]{picture.verdict}[/b]\n{picture.reason}\n{picture.ended}", title=picture.title))
