"""What mkdocs does for this site besides: the tutorial as notebooks, the command line's help, and code that wraps."""

import re
from pathlib import Path
from typing import Any

import command_line
import pages
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: Any) -> Files:
    """Add every tutorial page as a notebook."""
    for page in pages.tutorial():
        made = pages.notebook(page.read_text(encoding="utf-8"))
        files.append(File.generated(config, f"tutorial/{page.stem}.ipynb", content=made))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Offer the notebook of a tutorial page; show the help of the command line where it belongs."""
    name = Path(page.file.src_uri)
    if files.get_file_from_path(str(name.with_suffix(".ipynb"))):
        markdown = markdown.replace("\n\n", f"\n\n[This page as a notebook]({name.stem}.ipynb){{ .notebook }}\n\n", 1)
    if command_line.PLACE in markdown:
        markdown = markdown.replace(command_line.PLACE, command_line.markdown())
    return markdown


_LINE = re.compile(r"""(<span id="__span-[\d-]+")(><a [^>]*></a>(?:<span class="w">)?)( +)""")


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Give each line of code its indent, by which the style sheet indents what wraps."""
    return _LINE.sub(lambda line: f'{line[1]} style="--indent: {len(line[3])}ch"{line[2]}{line[3]}', html)
