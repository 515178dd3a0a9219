"""HTML tables for notebooks, in the colours of the notebook."""

import html
from collections.abc import Iterable, Sequence

_LEFT = "style='text-align:left'"


def table(caption: str, rows: Iterable[Sequence[str]], header: Sequence[str] = ()) -> str:
    """Return a `<table>` element. The first cell of a row is the name of the row.

    Example:
        >>> table("Bounds", [("max_lr", "0.1")])
        "<table><caption>Bounds</caption><tr><th scope='row' style='text-align:left'>max_lr</th><td \
style='text-align:left'>0.1</td></tr></table>"
    """
    head = "".join(f"<th scope='col' {_LEFT}>{html.escape(name)}</th>" for name in header)
    body = "".join(
        f"<tr><th scope='row' {_LEFT}>{html.escape(first)}</th>"
        + "".join(f"<td {_LEFT}>{html.escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for first, *cells in rows
    )
    return f"<table><caption>{html.escape(caption)}</caption>{head and f'<tr>{head}</tr>'}{body}</table>"
