"""The `cyclr` command, its own options, and the subcommand `plot`."""

from pathlib import Path
from typing import Annotated

import typer

import cyclr
from cyclr import CyclrError, Schedule
from cyclr.cli.compare import compare
from cyclr.cli.demo import demo
from cyclr.cli.options import (
    Command,
    ModeOption,
    OverwriteOption,
    ShapeOption,
    check_new,
    is_given,
    out,
    save_picture,
    say,
)
from cyclr.cli.range_test import range_test
from cyclr.cli.report import report
from cyclr.records.reading import read, unfit
from cyclr.schedules.cyclical import decay_of_mode

_HELP = """Find good learning-rate bounds for a model, and train it with cyclical learning rates.

1. Test: `cyclr range-test --model model.py:build --data mnist`
2. Look: `cyclr report cyclr-range-test`
3. Train and compare: `cyclr compare --workload model.py:build --data mnist --policy fixed:0.01,0.1
   --policy one_cycle --epochs 8`

Without a model of your own, run `cyclr demo`. What `build` must return: `cyclr range-test --help`
"""

app = typer.Typer(
    name="cyclr",
    help=_HELP,
    epilog="Exit codes: 0 done, 1 error, 2 wrong usage, 3 the range test found no bounds, 130 interrupted.",
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


_CYCLE_OPTIONS = ("base_lr", "max_lr", "step_size", "step_size_down", "shape", "mode", "gamma")
_PICTURES = (".png", ".svg", ".pdf", ".jpg", ".webp", ".eps")


def plot(
    context: typer.Context,
    schedule: Annotated[
        Path | None, typer.Option("--schedule", help="JSON file of any schedule, written from its to_dict().")
    ] = None,
    base_lr: Annotated[float, typer.Option(help="Lower bound.")] = 0.001,
    max_lr: Annotated[float, typer.Option(help="Upper bound.")] = 0.006,
    step_size: Annotated[int, typer.Option(min=1, help="Steps in half a cycle.")] = 2000,
    step_size_down: Annotated[int | None, typer.Option(min=1, help="Steps down, if not --step-size.")] = None,
    shape: ShapeOption = "triangular",
    mode: ModeOption = "triangular",
    gamma: Annotated[float, typer.Option(help="Factor of the amplitude per step, for exp_range.")] = 0.9999,
    steps: Annotated[
        int | None, typer.Option(min=2, help="Steps to draw; the whole schedule or its first four cycles by default.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Picture to write: .png, .svg or .pdf.")] = Path("schedule.png"),
    overwrite: OverwriteOption = False,
) -> None:
    """Draw a schedule.

    Example: cyclr plot --base-lr 0.001 --max-lr 0.1 --step-size 500 --mode triangular2
    """
    if output.suffix.lower() not in _PICTURES:
        raise CyclrError(f"output must end in {', '.join(_PICTURES)}; got {str(output)!r}. Write {output}.png.")
    _check_used(context, schedule, mode)
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


def _check_used(context: typer.Context, schedule: Path | None, mode: str) -> None:
    """Raise if an option would not change the picture."""
    unused: tuple[str, ...] = ()
    if schedule is not None:
        unused, reason = _CYCLE_OPTIONS, "the file of --schedule describes the whole schedule"
    elif mode != "exp_range":
        unused, reason = ("gamma",), "only --mode exp_range uses it"
    for name in unused:
        if is_given(context, name):
            raise CyclrError(f"--{name.replace('_', '-')} would change nothing: {reason}. Leave it out.")


for name, function in (
    ("range-test", range_test),
    ("report", report),
    ("compare", compare),
    ("plot", plot),
    ("demo", demo),
):
    app.command(name, cls=Command)(function)
