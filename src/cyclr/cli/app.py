"""The `cyclr` command: its options, and the subcommands that draw, test and show."""

import importlib.util
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import cyclr
from cyclr import RangeTest, Schedule
from cyclr.cli import compare, demo, report
from cyclr.cli.options import (
    BackendOption,
    Commands,
    DataOption,
    Exit,
    ModeOption,
    OverwriteOption,
    ShapeOption,
    check_folder,
    check_new,
    out,
    print_bounds,
    save_picture,
    say,
)
from cyclr.experiments import Spec, environment, workloads
from cyclr.experiments import data as data_sets
from cyclr.experiments.trial import find_bounds
from cyclr.range_test.driver import Spacing
from cyclr.range_test.refine import TrialTest
from cyclr.records.reading import read, unfit
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


app.command()(demo.demo)


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
    check_folder(output)
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
    print_bounds(result)
    output.mkdir(parents=True, exist_ok=True)
    result.save(written[1])
    save_picture(result.plot(), written[0])
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
        found = read(schedule)
        if not isinstance(found, Schedule):
            raise unfit(schedule, found)
        drawn = found
    else:
        decay = decay_of_mode(mode, gamma)
        drawn = cyclr.Cyclical(base_lr, max_lr, step_size, step_size_down=step_size_down, shape=shape, decay=decay)
    picture = save_picture(drawn.plot(steps), output)
    say(f"{drawn!r}\nWritten: {picture}")


app.command()(compare.compare)
app.command()(report.report)
