"""A page as what it is made of: its Python blocks, and the pictures that they draw; and as a notebook."""

import re
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parents[1]

_PART = re.compile(r"^```python\n(?P<code>.*?)^```$|^!\[[^\]]*\]\((?P<image>[^)\s]+)\)$", re.MULTILINE | re.DOTALL)
_SHOWN = re.compile(r"^(?:!\[[^\]]*\]\([^)\s]+\)|```output\n.*?^```)\n+", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A Python block of a page, and the pictures that stand between it and the next one."""

    code: str
    images: list[str]


def tutorial() -> list[Path]:
    """The pages of the tutorial that have code, which are notebooks too."""
    return [page for page in sorted((DOCS / "tutorial").glob("*.md")) if blocks(page.read_text(encoding="utf-8"))]


def blocks(text: str) -> list[Block]:
    """The Python blocks of a page, in order."""
    found: list[Block] = []
    for part in _PART.finditer(text):
        if part["code"] is not None:
            found.append(Block(part["code"], []))
        elif found:
            found[-1].images.append(part["image"])
    return found


def notebook(text: str) -> str:
    """The page as a Jupyter notebook: every block a cell, without the pictures and the output, which the cells make."""
    import jupytext
    import nbformat

    made = jupytext.reads(_SHOWN.sub("", text), fmt="md")
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    made.metadata.pop("jupytext", None)
    for number, cell in enumerate(made.cells):
        cell["id"] = f"cell-{number}"  # by the place, so that the same page makes the same file
    return str(nbformat.writes(made))
