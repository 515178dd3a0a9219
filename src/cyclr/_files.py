"""Atomic writing of files, and temporary folders."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def write_atomically(path: str | os.PathLike[str], content: "str | bytes | Callable[[IO[bytes]], object]") -> None:
    """Write a new file beside `path`, then rename it to `path`, so that readers never see an incomplete file.

    If `path` is a symbolic link, its target is replaced. Devices and pipes are written directly.

    Args:
        path: the file to create or replace.
        content: text, bytes, or a function that writes to the open file.

    Raises:
        OSError: the folder does not exist or cannot be written. No temporary file remains.
        ValueError: the path does not name a file.
    """
    from pathlib import Path

    def write(file: IO[bytes]) -> None:
        if callable(content):
            content(file)
        else:
            file.write(content.encode(errors="replace") if isinstance(content, str) else content)

    target = Path(path)
    if target.parent == Path("/dev") or (target.exists() and not target.is_file() and not target.is_dir()):
        # A device or a pipe, such as /dev/stdout, is not replaced.
        with target.open("wb") as file:
            write(file)
        return
    with contextlib.ExitStack() as locks, replacing(path) as beside:
        while True:
            descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            locks.callback(close, descriptor)
            if not _lock(descriptor, wait=True):
                # Windows cannot rename an open file.
                locks.close()
                break
            # Before the lock, another process may have removed the file as abandoned.
            if os.fstat(descriptor).st_nlink:
                break
        with beside.open("wb") as file:
            write(file)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], *, ending: str = "") -> Iterator["Path"]:
    """Yield the path of a new file beside `path`, and rename this file to `path` at the end.

    The new file is named `.<name>.<random>.tmp`. Such files of processes that were killed are removed first.

    Args:
        path: the file to create or replace.
        ending: ending of the new file's name, for writers that check it.

    Raises:
        OSError: the file cannot be written. No temporary file remains.
        ValueError: the path does not name a file.
    """
    import re
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
    if target.is_symlink():
        target = target.resolve()
    # The name is random, because other threads, and processes with the same id on other machines, may write here too.
    beside = target.with_name(f".{target.name}.{secrets.token_hex(16)}.tmp{ending}")
    try:
        remove_abandoned(target.parent, rf"\.{re.escape(target.name)}\.[0-9a-f]{{32}}\.tmp{re.escape(ending)}")
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.replace(target)
        sync_folder(target.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            # The error names the user's path instead of the temporary file.
            raise OSError(error.errno, os.strerror(error.errno), os.fspath(path)) from error
        raise


def remove_abandoned(folder: "Path", names: str, remove: "Callable[[Path], object]" = os.unlink) -> None:
    """Remove temporary files or folders of processes that were killed.

    A file of a running process is locked; the system releases the lock when the process ends. Nothing is removed on
    file systems without locks.

    Args:
        folder: the folder to search.
        names: regular expression of the names.
        remove: function that removes one file or folder.
    """
    import re

    try:
        left = [path for path in folder.iterdir() if re.fullmatch(names, path.name)]
    except OSError:
        return
    for path in left:
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
            try:
                if _lock(descriptor, wait=False):
                    remove(path)
            finally:
                close(descriptor)


def _lock(descriptor: int, *, wait: bool) -> bool:
    """Lock a file or folder until it is closed. Return False if it is already locked or cannot be locked."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except (ImportError, OSError):
        return False
    return True


def close(descriptor: int) -> None:
    """Close a file or folder. Errors are ignored, because the content is already on the disk."""
    with contextlib.suppress(OSError):
        os.close(descriptor)


MOST_BYTES = 2**30
"""Largest size of a file that is read at once. A range test of 10 million steps needs less than half of it."""


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raise an OSError if a path is a pipe or a device, which might never end, or a folder."""
    from pathlib import Path

    if Path(path).exists() and not Path(path).is_file():
        raise OSError(f"{os.fspath(path)!r} is not a regular file")


def read_regular(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a file.

    Raises:
        OSError: the file cannot be read, has more than 1 GiB, or is a pipe or a device, which might never end.
    """
    from pathlib import Path

    check_regular(path)
    with Path(path).open("rb") as file:
        if os.fstat(file.fileno()).st_size > MOST_BYTES:
            raise OSError(f"{os.fspath(path)!r} is larger than 1 GiB")
        return file.read(MOST_BYTES + 1)


def read_lines(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """Yield the lines of a file with their line feeds. The last line may have no line feed.

    Raises:
        OSError: the file cannot be read, is a pipe or a device, or a line has more than 1 GiB.
    """
    from pathlib import Path

    check_regular(path)
    with Path(path).open("rb") as file:
        while line := file.readline(MOST_BYTES):
            if len(line) == MOST_BYTES:
                raise OSError(f"{os.fspath(path)!r} has a line that is longer than 1 GiB")
            yield line


def most_unpacked(path: str | os.PathLike[str]) -> int:
    """Return the largest allowed size of a file after unpacking: 100 times its size, but at least 64 MiB."""
    from pathlib import Path

    return max(2**26, 100 * Path(path).stat().st_size)


def check_unpacked(archive: Any, names: Iterable[str] | None = None) -> None:
    """Raise a ValueError if files of a zip archive have more bytes than `most_unpacked` allows.

    Args:
        archive: an open `zipfile.ZipFile`.
        names: the files that are read. By default all files.
    """
    files = archive.infolist() if names is None else map(archive.getinfo, names)
    unpacked = sum(file.file_size for file in files)
    if unpacked > most_unpacked(archive.filename or archive.fp.name):
        raise ValueError(f"it unpacks to {unpacked:,} bytes, more than 100 times its size")


@contextlib.contextmanager
def open_archive(path: str | os.PathLike[str], names: Iterable[str] | None = None) -> Iterator[Any]:
    """Open the arrays in an `.npz` file, without unpickling.

    Args:
        path: the file.
        names: the arrays that are read. By default all arrays.

    Raises:
        OSError: the file cannot be read, or is a pipe or a device.
        ValueError: the arrays have more bytes than `most_unpacked` allows.
        Exception: damaged files raise errors of zipfile, zlib, struct, ast or NumPy, some only when arrays are read.
    """
    from pathlib import Path

    import numpy as np

    check_regular(path)
    # If NumPy opens a damaged file itself, it does not close the file.
    with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as archive:
        check_unpacked(archive.zip, None if names is None else [f"{name}.npy" for name in names])
        yield archive


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Flush the names in a folder to the disk, so that a renamed or new file survives a power cut.

    This does nothing on Windows, and on file systems that do not support it.

    Raises:
        OSError: the disk is full or broken.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            close(descriptor)
    except OSError as error:
        if error.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
            raise


def make_folder(folder: "Path") -> None:
    """Create a folder and its parents if they do not exist, so that they survive a power cut.

    Raises:
        OSError: the folder cannot be created.
    """
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write `content` as JSON, atomically. NaN and infinity are an error, because they are not part of JSON."""
    write_atomically(path, as_json(content))


def as_json(content: Any) -> bytes:
    """Return the bytes that `write_json` writes."""
    import json

    return f"{json.dumps(content, indent=2, allow_nan=False)}\n".encode()


@contextlib.contextmanager
def folder_within(parent: str | os.PathLike[str] | None, *, name: str) -> Iterator["Path | None"]:
    """Yield a new folder in `parent`, which is deleted with its content at the end. If `parent` is None, yield None.

    Such folders of processes that were killed are deleted first.

    Raises:
        ValueError: `parent` does not exist or cannot be written. The message calls it `name`.
    """
    import shutil
    import tempfile
    from pathlib import Path

    if parent is None:
        yield None
        return
    remove_abandoned(Path(parent), r"\.cyclr-copy-\w{8}", shutil.rmtree)
    with contextlib.ExitStack() as undo:
        while True:
            try:
                folder = Path(tempfile.mkdtemp(prefix=".cyclr-copy-", dir=parent))
            except OSError as error:
                raise ValueError(
                    f"{name} must be a folder that exists and can be written; got {name}={os.fspath(parent)!r} "
                    f"({error})."
                ) from error

            @undo.callback
            def remove(folder: Path = folder) -> None:
                # Despite `ignore_errors`, rmtree raises if a folder cannot be closed. The next run removes the rest.
                with contextlib.suppress(OSError):
                    shutil.rmtree(folder, ignore_errors=True)

            with contextlib.suppress(OSError):
                descriptor = os.open(folder, os.O_RDONLY)
                undo.callback(close, descriptor)
                _lock(descriptor, wait=True)
            # Before the lock, another process may have removed the folder as abandoned.
            if folder.is_dir():
                break
        yield folder
