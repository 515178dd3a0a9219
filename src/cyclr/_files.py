"""Writing a file so that a reader, or a crash, never sees half of it."""

import contextlib
import json
import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def write_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` to a new file beside `path`, then put it in place in one step.

    Raises:
        OSError: the folder does not exist or cannot be written; nothing is left behind.
        ValueError: the path names no file.
    """
    target = Path(path)
    if not target.name:
        raise ValueError(f"path must be that of a file; got path={os.fspath(path)!r}.")
    # A name of its own, as other threads, and processes of the same number on other machines, may write here too.
    beside = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    opened = beside.open("x", encoding="utf-8")
    try:
        with opened as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write `content` as JSON, atomically; NaN and infinity, which JSON does not know, are an error."""
    write_atomically(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


@contextlib.contextmanager
def folder_within(parent: str | os.PathLike[str] | None, *, name: str) -> Iterator[Path | None]:
    """A new folder within `parent`, gone at the end with all that is in it; None where parent is.

    Args:
        parent: a folder that exists.
        name: what the caller's user calls it.

    Raises:
        ValueError: there is no such folder, or it cannot be written.
    """
    if parent is None:
        yield None
        return
    try:
        folder = tempfile.TemporaryDirectory(prefix="cyclr-", dir=parent)
    except OSError as error:
        raise ValueError(
            f"{name} must be a folder that exists and can be written; got {name}={os.fspath(parent)!r} ({error})."
        ) from error
    with folder:
        yield Path(folder.name)
