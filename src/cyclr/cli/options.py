"""Consoles, exit codes, error output, and options that several subcommands share."""

import contextlib
import os
import re
import sys
import webbrowser
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.panel import Panel
from rich.text import Text
from typer.core import TyperCommand

from cyclr._checks import did_you_mean
from cyclr._redact import redact, shell
from cyclr.errors import BoundsError, CyclrError
from cyclr.range_test import RangeTestResult
from cyclr.schedules.cyclical import Mode
from cyclr.schedules.shape import Shape

# Without emoji, because Rich would replace ":bug:" in a file name by a picture.
out, err = Console(emoji=False), Console(stderr=True, emoji=False)


class Exit(IntEnum):
    """Exit codes of cyclr. typer itself exits with 2 after wrong usage."""

    ERROR = 1
    NO_BOUNDS = 3
    INTERRUPTED = 130


DataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="**digits** (embedded, the default of mlp and cnn), **mnist**, **fashion_mnist**, **cifar10**, "
        "**cifar100** (downloaded by Keras), a folder of IDX files, or an .npz with x_train, y_train, x_test, y_test. "
        "Required if the FILE.py:function returns no data.",
    ),
]
BackendOption = Annotated[
    Literal["tensorflow", "jax", "torch"] | None,
    typer.Option(help="Keras backend; by default from KERAS_BACKEND or keras.json, else the first installed backend."),
]


ShapeOption = Annotated[Shape, typer.Option(help="Shape of the wave between the bounds.")]
ModeOption = Annotated[
    Mode, typer.Option(help="Constant bounds, or an amplitude that halves per cycle or shrinks per step.")
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]
OpenOption = Annotated[
    bool | None,
    typer.Option("--open/--no-open", help="Open the page in a browser; by default you are asked.", show_default=False),
]


_UsageError: Any = typer.BadParameter.__base__


class Command(TyperCommand):
    """A command that turns errors that a user can fix into one line and an exit code. Others keep their traceback."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        words = [*args]
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            if given := re.search(r"'(.*?)' is not one of (.*)", error.message):
                hint = did_you_mean(given[1], re.findall(r"'(.*?)'", given[2]))
                error.message = f"{given[0]} {hint}".rstrip()
            elif error.param is not None and error.param.name == "model" and not error.message:
                # The option is missing. typer prints "Missing option '--model'." before this message.
                file = next((word for word in words if ".py" in word), "FILE.py:function")
                error.message = f"Write --model {file}."
            error.message = redact(error.message)
            raise
        except _UsageError as error:
            # The message may quote an argument. Redact it here, because typer breaks it into lines.
            error.message = redact(error.message)
            raise

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            err.print("\nInterrupted. All files are complete; run the same command again to continue.")
            raise typer.Exit(Exit.INTERRUPTED) from None
        except (CyclrError, ValueError, TypeError, OSError) as error:
            said = str(error)
            if isinstance(error, OSError) and error.filename and not isinstance(error, CyclrError):
                # Without the error number, which str(error) contains.
                said = f"{error.filename}: {error.strerror}."
            err.print(Text.assemble(("Error: ", "bold red"), redact(in_options(said, ctx))), soft_wrap=True)
            raise typer.Exit(Exit.NO_BOUNDS if isinstance(error, BoundsError) else Exit.ERROR) from None


def in_options(message: str, context: Any) -> str:
    """Return a message with arguments written as options of the command: `min_lr=1` becomes `--min-lr 1`.

    If settings also come from a file, only options on the command line are rewritten, because the file uses the names
    of arguments. Messages with the traceback of a user's file are not changed.
    """
    options = {param.name: param.opts[0] for param in context.command.params if param.param_type_name == "option"}
    if context.params.get("spec") or context.params.get("schedule"):
        options = {name: option for name, option in options.items() if is_given(context, name)}
    if not options or "\nTraceback" in message:
        return message
    # A name of one word may be an ordinary word of the message, so it is rewritten only before "must".
    wholes = [rf"{name}(?![\w=])" if "_" in name else rf"{name}(?= must\b)" for name in options]
    values = rf"({'|'.join(options)})=(?=\S)"
    found = re.compile(rf"(?<![\w.'\"/-])(?:{values}|({'|'.join(wholes)}))")
    return found.sub(lambda match: f"{options[match[1]]} " if match[1] else options[match[2]], message)


def is_given(context: Any, name: str) -> bool:
    """True if an option or an argument is on the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def command_line(context: Any, *more: str) -> str:
    """Return the command line with the options that were given and with more words, quoted for a shell."""
    words = ["cyclr", context.command.name]
    for param in context.command.params:
        value = context.params.get(param.name)
        if not is_given(context, param.name) or value is False:
            continue
        for one in value if isinstance(value, list | tuple) else [value]:
            option = [param.opts[0]] if param.param_type_name == "option" else []
            words += option if one is True else [*option, str(one)]
    return shell([*words, *more])


def check_new(overwrite: bool, *files: Path | None, made: Path | None = None) -> None:
    """Raise before any work is done if a file cannot be written, or exists and must not be replaced.

    Args:
        overwrite: True to replace files.
        files: the files to write; None is skipped.
        made: a folder that the command creates before it writes the files.
    """
    for file in filter(None, files):
        run = made and made.resolve()
        if file.is_dir() or (run and run.is_relative_to(file.resolve())):
            raise CyclrError(f"{str(file)!r} must be a file to write; it is a folder. Name a file in it.")
        folder = file.parent
        if run and run.is_relative_to(folder.resolve()):
            continue
        if not folder.exists():
            raise CyclrError(f"folder {str(folder)!r}, for {file.name}, does not exist. Create it, or write elsewhere.")
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise CyclrError(
                f"{str(folder)!r}, for {file.name}, must be a folder that can be written. Write elsewhere."
            )
    existing = [str(file) for file in files if file is not None and file.is_file()]
    if existing and not overwrite:
        raise CyclrError(
            f"existing files are only replaced with --overwrite; got {', '.join(existing)}. Add --overwrite, or "
            "write somewhere else."
        )


def check_folder(folder: Path) -> None:
    """Check before any work is done that the folder of `--output` can be created or written. Nothing is created.

    Raises:
        CyclrError: the folder cannot be created or written.
    """
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        why = "cannot be written" if existing.is_dir() else "is not a folder"
        raise CyclrError(
            f"output must be a folder that can be written; got {str(folder)!r}, but {str(existing)!r} {why}. "
            "Choose another with --output DIR."
        )


def say(text: str, style: str | None = None) -> None:
    """Print text as it is: without markup, and without line breaks in paths."""
    out.print(redact(text), style=style, highlight=False, markup=False, soft_wrap=True)


def save_picture(ax: Any, path: Path) -> str:
    """Save a picture that Matplotlib drew, and return its path. An existing file is replaced atomically."""
    import matplotlib.pyplot as plt

    from cyclr.drawing.axes import save_figure

    try:
        save_figure(ax.figure, path, dpi=130, bbox_inches="tight")
    finally:
        plt.close(ax.figure)
    return str(path)


def print_bounds(result: RangeTestResult, *options: str) -> None:
    """Print the title, the verdict and the reason of a range test in a frame.

    Args:
        result: the result.
        options: arguments of a range test that are options of the command. The printed reason shows them as options.
    """
    picture = result.picture()
    reason = picture.reason
    for name in options:
        reason = re.sub(rf"\b{name}=(\S?)", rf"--{name.replace('_', '-')} \1", reason).replace("  ", " ")
    out.print(Panel(f"[b]{picture.verdict}[/b]\n{reason}\n{picture.ended}", title=picture.title))


_TEXT_BROWSERS = ("www-browser", "links", "links2", "elinks", "lynx", "w3m", "browsh")
"""Browsers that run in the terminal and cannot show charts."""


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
            say(f"No graphical browser was found. Open {page} in a browser.")
        return
    # Ctrl-C at the question means no.
    with contextlib.suppress(typer.Abort):
        if wanted or typer.confirm("Open the page in your browser?", default=True):
            browser.open(page.resolve().as_uri())
