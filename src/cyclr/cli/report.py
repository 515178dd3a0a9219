"""`cyclr report`: write the page of a run or of a range test."""

from pathlib import Path
from typing import Annotated

import typer

from cyclr import CyclrError, RangeTestResult, _files
from cyclr.cli.options import OpenOption, OverwriteOption, check_new, say, show_page
from cyclr.drawing.page import render
from cyclr.records import RunFolder
from cyclr.records.reading import read, unfit
from cyclr.report import run_page


def report(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="Folder that `cyclr compare`, `demo` or `range-test` wrote, or a file in it.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="File to write; report.html in the run folder, or beside the range test, by default."),
    ] = None,
    overwrite: OverwriteOption = False,
    open_page: OpenOption = None,
) -> None:
    """Write a report: one HTML file with the results and with code to copy. It can be opened offline.

    Example: cyclr report my-run --output report.html
    """
    found = read(run)
    match found:
        case RunFolder():
            written = output or found.path / "report.html"
        case RangeTestResult():
            written = output or (run.with_suffix(".html") if run.is_file() else run / "range_test.html")
        case _:
            raise unfit(run, found)
    if written.suffix.lower() not in (".html", ".htm"):
        raise CyclrError(f"output must end in .html; got {str(written)!r}. Write {written.with_suffix('.html')}.")
    check_new(overwrite, written)
    if isinstance(found, RunFolder):
        _files.write_atomically(written, render(run_page(found.path)))
    else:
        found.to_html(written)
    say(f"Written: {written}")
    show_page(written, open_page)
