"""What mkdocs does for this site besides: the tutorial as notebooks, and room for pages that are still to come."""

import posixpath
import re
from pathlib import Path
from typing import Any

import command_line
import pages
from mkdocs.structure.files import File, Files


def _missing(config: Any) -> list[str]:
    return [page for page in config.extra["coming"] if not (Path(config.docs_dir) / page).exists()]


def on_config(config: Any) -> Any:
    """Leave pages that are not written yet out of the navigation."""
    missing = _missing(config)

    def present(entries: list[Any]) -> list[Any]:
        kept: list[Any] = []
        for entry in entries:
            if isinstance(entry, dict):
                kept.append({k: present(v) if isinstance(v, list) else v for k, v in entry.items() if v not in missing})
            elif entry not in missing:
                kept.append(entry)
        return kept

    config.nav = present(config.nav)
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add every tutorial page as a notebook."""
    for page in pages.tutorial():
        made = pages.notebook(page.read_text(encoding="utf-8"))
        files.append(File.generated(config, f"tutorial/{page.stem}.ipynb", content=made))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Offer the notebook of a tutorial page; make links to missing pages plain text."""
    name = Path(page.file.src_uri)
    if files.get_file_from_path(str(name.with_suffix(".ipynb"))):
        markdown = markdown.replace("\n\n", f"\n\n[This page as a notebook]({name.stem}.ipynb){{ .notebook }}\n\n", 1)
    if command_line.PLACE in markdown:
        markdown = markdown.replace(command_line.PLACE, command_line.markdown())
    missing = _missing(config)

    def present(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(page.file.src_uri), link["target"]))
        return link["text"] if target in missing else link[0]

    return re.sub(r"\[(?P<text>[^\]]+)\]\((?P<target>[\w./-]+\.md)\)", present, markdown)
