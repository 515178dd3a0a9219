"""`cyclr report`: a page to look at."""

from pathlib import Path
from typing import Annotated

import typer

from cyclr import RangeTestResult, _files
from cyclr.cli.options import OverwriteOption, check_new, say
from cyclr.drawing.page import render
from cyclr.report import run_page


def report(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="Folder that `cyclr compare` wrote, or the JSON file of a single range test.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="File to write; report.html in the run folder, or beside the range test, by default."),
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Write a report: one HTML file that opens offline, to look at and to copy code from.

    Example: cyclr report my-run --output report.html
    """
    written = output or (run.with_suffix(".html") if run.is_file() else run / "report.html")
    check_new(overwrite, written)
    if run.is_file():
        RangeTestResult.load(run).to_html(written)
    else:
        _files.write_atomically(written, render(run_page(run)))
    say(f"Written: {written}")
