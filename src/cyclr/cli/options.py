"""Shared by the subcommands: consoles, exit codes, and options that more than one of them has."""

import tempfile
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.panel import Panel
from rich.text import Text
from typer.core import TyperGroup

from cyclr.errors import BoundsError, CyclrError
from cyclr.range_test import RangeTestResult
from cyclr.schedules.cyclical import Mode
from cyclr.schedules.shape import Shape

out, err = Console(), Console(stderr=True)


class Exit(IntEnum):
    """Exit codes; 2 is wrong usage, by typer."""

    ERROR = 1
    NO_BOUNDS = 3
    INTERRUPTED = 130


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
    typer.Option(help="Keras backend; by default from KERAS_BACKEND or keras.json, else the first installed."),
]


ShapeOption = Annotated[Shape, typer.Option(help="Wave between the bounds.")]
ModeOption = Annotated[
    Mode, typer.Option(help="Bounds that stay, or an amplitude that halves per cycle or shrinks per step.")
]


class Commands(TyperGroup):
    """Turns errors that a user can fix into one line and an exit code; anything else keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            err.print("\nInterrupted. All files are complete; run the same command again to continue.")
            raise typer.Exit(Exit.INTERRUPTED) from None
        except (CyclrError, ValueError, TypeError, OSError) as error:
            err.print(Text.assemble(("Error: ", "bold red"), str(error)), soft_wrap=True)
            raise typer.Exit(Exit.NO_BOUNDS if isinstance(error, BoundsError) else Exit.ERROR) from None


OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]


def check_new(overwrite: bool, *files: Path | None) -> None:
    """Raise before any work is done if a file that a command writes exists, unless the user allows to replace it."""
    existing = [str(file) for file in files if file is not None and file.is_file()]
    if existing and not overwrite:
        raise CyclrError(
            f"a file that exists is only replaced with --overwrite; got {', '.join(existing)}. Add --overwrite, or "
            "write somewhere else."
        )


def prepare_folder(folder: Path) -> None:
    """Make the folder of `--output` and check that it can be written, before any work is done.

    Raises:
        CyclrError: it cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise CyclrError(
            f"output must be a folder that can be written; got {str(folder)!r} ({error.strerror}). "
            "Choose another with --output DIR."
        ) from error


def say(text: str, style: str | None = None) -> None:
    """Print text with names in it: nothing is taken for markup, and paths are not broken."""
    out.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


def save_picture(ax: Any, path: Path) -> str:
    """Save a picture that Matplotlib drew, and return its path."""
    import matplotlib.pyplot as plt

    ax.figure.savefig(path, dpi=130, bbox_inches="tight")
    plt.close(ax.figure)
    return str(path)


def print_bounds(result: RangeTestResult) -> None:
    """Print the title, the verdict and the reason of a range test in a frame."""
    picture = result.picture()
    out.print(Panel(f"[b]{picture.verdict}[/b]\n{picture.reason}\n{picture.ended}", title=picture.title))
