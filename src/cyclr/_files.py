"""Atomic writing of files, and temporary folders."""

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def write_atomically(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write text or bytes to a new file beside `path`, then rename it to `path`, so that no reader sees half of it.

    Raises:
        OSError: the folder does not exist or cannot be written; nothing is left behind.
        ValueError: the path does not name a file.
    """
    with replacing(path) as beside, beside.open("xb") as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], *, ending: str = "") -> Iterator["Path"]:
    """Yield the path of a new file beside `path` to write to, and rename that file to `path` at the end.

    Until then it is called `.<name>.<random>.tmp`.

    Args:
        path: the file that appears or is replaced, whole.
        ending: what the name of the new file ends in, for writers that look at it.

    Raises:
        OSError: the file cannot be written; nothing is left behind.
        ValueError: the path does not name a file.
    """
    import secrets
    from pathlib import Path

    target = Path(path)
    if not target.name:
        raise ValueError(f"path must name a file; got path={os.fspath(path)!r}.")
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"{os.fspath(path)!r} cannot be written, because there is no folder {str(target.parent)!r}. Create it, or "
            "write somewhere else."
        )
    if target.is_dir():
        raise IsADirectoryError(f"{os.fspath(path)!r} is a folder. Name a file in it.")
    # A random name: other threads, and processes with the same id on other machines, may write here too.
    beside = target.with_name(f".{target.name}.{secrets.token_hex(16)}.tmp{ending}")
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def read_regular(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a file.

    Raises:
        OSError: the file cannot be read, or is a pipe or a device, which might never end.
    """
    from pathlib import Path

    file = Path(path)
    if file.exists() and not file.is_file():
        raise OSError(f"{str(path)!r} is not a regular file")
    return file.read_bytes()


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Flush the names in a folder to the disk, so that a renamed or new file survives a power cut.

    Nothing on Windows, and on file systems that cannot do it.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write `content` as JSON, atomically; NaN and infinity are an error, because JSON has no numbers for them."""
    import json

    write_atomically(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


@contextlib.contextmanager
def folder_within(parent: str | os.PathLike[str] | None, *, name: str) -> Iterator["Path | None"]:
    """Create a folder within `parent`, and delete it with its content at the end; None if `parent` is None.

    Raises:
        ValueError: `parent`, called `name` in the message, does not exist or cannot be written.
    """
    import tempfile
    from pathlib import Path

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
