"""Shared by the subcommands: consoles, exit codes, and options that more than one of them has."""

import contextlib
import os
import sys
import webbrowser
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
OpenOption = Annotated[
    bool | None,
    typer.Option(
        "--open/--no-open", help="Show the page in a browser; by default a terminal asks.", show_default=False
    ),
]


def check_new(overwrite: bool, *files: Path | None) -> None:
    """Raise before any work is done if a file that a command writes exists, unless the user allows to replace it."""
    existing = [str(file) for file in files if file is not None and file.is_file()]
    if existing and not overwrite:
        raise CyclrError(
            f"a file that exists is only replaced with --overwrite; got {', '.join(existing)}. Add --overwrite, or "
            "write somewhere else."
        )


def check_folder(folder: Path) -> None:
    """Check that the folder of `--output` can be made or written, before any work is done. Nothing is made.

    Raises:
        CyclrError: it cannot.
    """
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        why = "cannot be written" if existing.is_dir() else "is not a folder"
        raise CyclrError(
            f"output must be a folder that can be written; got {str(folder)!r}, but {str(existing)!r} {why}. "
            "Choose another with --output DIR."
        )


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


_TEXT_BROWSERS = ("www-browser", "links", "links2", "elinks", "lynx", "w3m", "browsh")
"""Browsers that would take over the terminal, and show no chart."""


def is_interactive() -> bool:
    """True if a user at a terminal can answer a question."""
    return out.is_terminal and sys.stdin.isatty()


def show_page(page: Path, wanted: bool | None) -> None:
    """Open a page in a graphical browser if the user wants it; ask in a terminal if `wanted` is None."""
    if not (is_interactive() if wanted is None else wanted):
        return
    try:
        browser: Any = webbrowser.get()
    except webbrowser.Error:
        browser = None
    if browser is None or Path(getattr(browser, "name", "")).name in _TEXT_BROWSERS:
        if wanted:
            say(f"No browser for pages was found here. Open {page} in one.")
        return
    # Ctrl-C at the question is a no.
    with contextlib.suppress(typer.Abort):
        if wanted or typer.confirm("Open the page in your browser?", default=True):
            browser.open(page.resolve().as_uri())
