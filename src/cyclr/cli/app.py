"""The subcommands: each parses its options, calls the library and prints what comes back."""

import functools
import importlib.util
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

import cyclr
from cyclr import CyclrError, RangeTestResult, Schedule
from cyclr.cli import compare, report
from cyclr.range_test.driver import Spacing
from cyclr.schedules.cyclical import Mode, decay_of_mode
from cyclr.schedules.shape import Shape

EXIT_ERROR, EXIT_NO_BOUNDS, EXIT_INTERRUPTED = 1, 3, 130

app = typer.Typer(
    name="cyclr",
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
out, err = Console(), Console(stderr=True)

DataOption = Annotated[
    str,
    typer.Option(
        "--data",
        help="**digits** (embedded), **mnist**, **fashion_mnist**, **cifar10**, **cifar100** "
        "(downloaded by Keras), a folder of IDX files, or an .npz with x_train, y_train, x_test, y_test.",
    ),
]
BackendOption = Annotated[
    Literal["tensorflow", "jax", "torch"] | None,
    typer.Option(help="Keras backend; KERAS_BACKEND, that of keras.json, or the first installed by default."),
]


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
    """Options of the command itself; what the subcommands do stands with them."""


def _reports_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Turn errors that a user can mend into one line and an exit code; anything else keeps its traceback."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt:
            err.print("\nInterrupted; nothing was left half-written.")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except (CyclrError, ValueError, TypeError, OSError) as error:
            err.print(Text.assemble(("Error: ", "bold red"), str(error)), soft_wrap=True)
            raise typer.Exit(EXIT_NO_BOUNDS if isinstance(error, cyclr.BoundsError) else EXIT_ERROR) from None

    return wrapped


@app.command()
@_reports_errors
def demo(
    data: DataOption = "digits",
    backend: BackendOption = None,
    epochs: Annotated[int, typer.Option(min=1, help="Length of each of the two trainings, in epochs.")] = 16,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples in an update.")] = 50,
    shape: Annotated[Shape, typer.Option(help="Wave between the bounds.")] = "triangular",
    mode: Annotated[
        Mode, typer.Option(help="Bounds that stay (triangular), or an amplitude that halves per cycle or shrinks.")
    ] = "triangular",
    seed: Annotated[int, typer.Option(min=0, help="Seed of initial weights and of the order of the data.")] = 0,
    output: Annotated[Path, typer.Option(help="Folder for plots (PNG) and results (JSON).")] = Path("cyclr-demo"),
) -> None:
    """Show the whole job on real data: range test, bounds, step size, training with CLR and with a fixed rate.

    A small CNN is tested for its learning-rate bounds with Adam, trained with a cyclical rate between them, and once
    more from the same weights with Adam's default rate, for the same number of steps. The default data needs no
    download and takes less than a minute.
    """
    from cyclr.experiments import data as data_sets
    from cyclr.experiments import demo as job
    from cyclr.experiments import environment

    settings = job.Settings(
        epochs=epochs,
        batch_size=batch_size,
        shape=shape,
        mode=mode,
        seed=seed,
    )
    job.prepare_folder(output)
    chosen = environment.select_backend(backend)
    with out.status(f"Loading {escape(data)} and Keras on {chosen} …"):
        loaded = data_sets.load(data)
        import keras  # noqa: F401
    out.print(
        f"[b]{escape(loaded.name)}[/b]: {len(loaded.x_train):,} training and {len(loaded.x_val):,} validation images "
        f"of {'×'.join(map(str, loaded.input_shape))}, {loaded.classes} classes"
    )
    with _progress() as progress:
        outcome = job.run(loaded, settings, progress)
    _print_bounds(outcome.range_test)
    half = float(outcome.schedule.cycle_length) / 2
    per_epoch = outcome.fixed.steps[0]
    out.print(
        f"[b]Step size[/b]: {half:.4g} steps, {half / per_epoch:.2g} epochs, so that whole cycles fill the run "
        f"(Smith's rule: {outcome.smith_step_size} steps for 4 epochs)"
    )
    _print_comparison(outcome)
    files = job.save(outcome, output)
    _print_written(*files)


@app.command("range-test")
@_reports_errors
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
    steps: Annotated[int, typer.Option(min=2, help="Updates, each at a rate of its own.")] = 150,
    spacing: Annotated[Spacing, typer.Option(help="How the rates rise.")] = "exponential",
    batch_size: Annotated[int, typer.Option(min=1, help="Samples in an update: as in your training.")] = 32,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the order of the data.")] = 0,
    output: Annotated[Path, typer.Option(help="Folder for range_test.png and range_test.json.")] = Path(
        "cyclr-range-test"
    ),
) -> None:
    """Find the learning-rate bounds of your own model.

    Example: cyclr range-test --model model.py:build --data mnist --batch-size 64
    """
    from cyclr.experiments import Spec, environment, workloads
    from cyclr.experiments import data as data_sets
    from cyclr.experiments import demo as job
    from cyclr.experiments import trial as trials

    job.prepare_folder(output)
    in_file = ":" in model
    (trial,) = Spec(
        [{"kind": "triangular"}],
        workload=model,
        data=None if in_file else data,
        epochs=1,
        seeds=[seed],
        batch_size=batch_size,
        range_test={"min_lr": min_lr, "max_lr": max_lr, "steps": steps, "spacing": spacing},
    ).trials()
    workloads.check(trial)
    if backend is not None or not in_file or importlib.util.find_spec("keras") is not None:
        environment.select_backend(backend)
    loaded = data_sets.load(data) if in_file else None
    with _progress() as progress:
        result = trials.find_bounds(trial, loaded, lambda test: progress("range test", test.recorded, len(test)))
    _print_bounds(result)
    result.plot().figure.savefig(output / "range_test.png", dpi=130, bbox_inches="tight")  # type: ignore[union-attr]
    result.save(output / "range_test.json")
    _print_written(output / "range_test.png", output / "range_test.json")
    if not result.bounds.usable:
        raise typer.Exit(EXIT_NO_BOUNDS)


@app.command()
@_reports_errors
def plot(
    schedule: Annotated[
        Path | None, typer.Option("--schedule", help="JSON file of any schedule, written from its to_dict().")
    ] = None,
    base_lr: Annotated[float, typer.Option(help="Lower bound.")] = 0.001,
    max_lr: Annotated[float, typer.Option(help="Upper bound.")] = 0.006,
    step_size: Annotated[int, typer.Option(min=1, help="Steps in half a cycle.")] = 2000,
    step_size_down: Annotated[int | None, typer.Option(min=1, help="Steps on the way down, if they differ.")] = None,
    shape: Annotated[Shape, typer.Option(help="Wave between the bounds.")] = "triangular",
    mode: Annotated[Mode, typer.Option(help="How the amplitude decays.")] = "triangular",
    gamma: Annotated[float, typer.Option(help="Factor per step of exp_range.")] = 0.9999,
    steps: Annotated[int | None, typer.Option(min=2, help="Steps to draw; four cycles by default.")] = None,
    output: Annotated[Path, typer.Option(help="Picture to write: .png, .svg or .pdf.")] = Path("schedule.png"),
) -> None:
    """Draw a schedule.

    Example: cyclr plot --base-lr 0.001 --max-lr 0.1 --step-size 500 --mode triangular2
    """
    if schedule is not None:
        try:
            drawn = Schedule.from_dict(json.loads(schedule.read_text(encoding="utf-8")))
        except json.JSONDecodeError as error:
            raise CyclrError(f"schedule must be a JSON file; got {str(schedule)!r} ({error}).") from error
    else:
        drawn = cyclr.Cyclical(
            base_lr,
            max_lr,
            step_size,
            step_size_down=step_size_down,
            shape=shape,
            decay=decay_of_mode(mode, gamma),
        )
    length = getattr(drawn, "cycle_length", 1000)
    ax = drawn.plot(steps or int(4 * length) + 1)
    ax.figure.savefig(output, dpi=130, bbox_inches="tight")  # type: ignore[union-attr]
    out.print(f"{drawn!r}", highlight=False, markup=False, soft_wrap=True)
    _print_written(output)


app.command("compare")(_reports_errors(compare.compare))
app.command("report")(_reports_errors(report.report))


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar for every stage that reports itself."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out) as bars:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done)

        yield report


def _print_written(*files: Path) -> None:
    out.print(f"Written: {', '.join(map(str, files))}", highlight=False, markup=False, soft_wrap=True)


def _print_bounds(result: RangeTestResult) -> None:
    picture = result.picture()
    out.print(Panel(f"[b]{picture.verdict}[/b]\n{picture.reason}\n{picture.ended}", title=picture.title))


def _print_comparison(outcome: Any) -> None:
    table = Table(title=f"{outcome.data}, {outcome.fixed.steps[-1]} steps each, on {outcome.backend}")
    for column in ("learning rate", "best validation accuracy", "final", f"steps to {outcome.fixed.best:.4f}"):
        table.add_column(column, justify="left" if column == "learning rate" else "right")
    low, high = outcome.range_test.bounds.base_lr, outcome.range_test.bounds.max_lr
    for run, name in ((outcome.cyclical, f"CLR {low:.2g} to {high:.2g}"), (outcome.fixed, outcome.fixed.name)):
        reached = run.steps_to(outcome.fixed.best)
        table.add_row(
            name, f"{run.best:.4f}", f"{run.val_accuracy[-1]:.4f}", "never" if reached is None else f"{reached}"
        )
    out.print(table)
