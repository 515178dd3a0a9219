"""The folder of a comparison: a description of it, and an append-only file of its records.

    RUN/run.json        the comparison, versions, hardware and command; replaced atomically
    RUN/records.jsonl   one line of JSON for every finished trial, written in one call and flushed to the disk
    RUN/.lock           locked by the process that writes

A process that is killed at any moment leaves whole lines, and at most one incomplete line at the end. Readers ignore
it, and the next writer cuts it off. Lines are removed for one reason only: their trials failed and are no longer part
of the comparison.
"""

import contextlib
import datetime
import os
import platform
import socket
import sys
import warnings
from collections.abc import Collection, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

from cyclr import _files
from cyclr.errors import CyclrError, RunFolderError
from cyclr.records.record import VERSION, Record, decode, decode_json, encode
from cyclr.records.redact import redact

_PACKAGES = ("cyclr", "numpy", "keras", "tensorflow", "tensorflow-cpu", "torch", "jax", "ray", "scipy")


class RunFolder:
    """A run folder, made by `read` or `open`.

    Attributes:
        path: the folder.
        about: the contents of run.json, without credentials and home folders.
        records: the latest record of every trial, in the order in which they finished.
        torn: True if the last line is incomplete; it is left out of `records`.

    Example:
        >>> import tempfile
        >>> from cyclr.records import Record, RunFolder
        >>> what = {"workload": "mlp", "policy": "fixed 0.1", "seed": 0, "optimizer": "SGD"}
        >>> record = Record(trial="a", metric="val_loss", direction="min", **what)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with RunFolder.open(folder, {"metric": "val_loss", "direction": "min"}, ["a", "b"]) as run:
        ...         run.append(record)
        ...     RunFolder.read(folder).missing(["a", "b"])
        ['b']
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = Path(folder)
        self.about: dict[str, Any] = {}
        self.torn = False
        self._records: dict[str, Record] = {}
        self._lock: int | None = None
        self._file: int | None = None

    @property
    def records(self) -> list[Record]:
        return list(self._records.values())

    @classmethod
    def read(cls, folder: str | os.PathLike[str], *, missing_ok: bool = False) -> Self:
        """Read a run folder, also while another process writes to it.

        Args:
            folder: the run folder.
            missing_ok: whether a folder without run.json has no records, instead of being an error.

        Raises:
            RunFolderError: the folder holds no run, or one of its files cannot be read or is invalid. The message
                gives the file and the line.
        """
        run = cls(folder)
        if (run.path / "run.json").is_file():
            run._read()
        elif not missing_ok:
            raise RunFolderError(
                f"{str(folder)!r} is not a run folder: it has no run.json, which cyclr compare writes. Check the path."
            )
        return run

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        description: Mapping[str, Any],
        ids: Collection[str],
        *,
        workload_sha256: str | None = None,
        command: Iterable[str] | None = None,
    ) -> Self:
        """Open a run folder as its only writer; use it in a `with` statement.

        Args:
            folder: the folder; made if it does not exist. A folder that exists must hold this comparison, or one with
                fewer trials, which is extended. Failed trials that are no longer part of the comparison (for example
                after a typo was corrected) are removed.
            description: the comparison, with its `direction`, as run.json keeps it.
            ids: the ids of its trials.
            workload_sha256: SHA-256 of the user's file, or None.
            command: the command line for run.json; by default the one of this process.

        Raises:
            RunFolderError: another process writes to the folder, it holds another comparison, or it cannot be written.

        Warns:
            UserWarning: the user's file has changed since the folder got its results.
        """
        run = cls(folder)
        started = {
            "command": list(sys.argv if command is None else command),
            "workload_sha256": workload_sha256,
            "versions": versions(),
            "hardware": hardware(),
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        try:
            run._start(description, ids, started)
        except BaseException as error:
            run.close()
            if not isinstance(error, OSError):
                raise
            raise RunFolderError(
                f"{str(folder)!r} cannot be used as a run folder: {error.strerror or error}. Choose another folder."
            ) from error
        return run

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the folder."""
        for descriptor in (self._file, self._lock):
            if descriptor is not None:
                os.close(descriptor)
        self._file = self._lock = None

    def missing(self, ids: Iterable[str], retry_failed: bool = False) -> list[str]:
        """Return the ids that have no record, in order.

        Args:
            ids: the ids of a comparison.
            retry_failed: whether to include failed trials.
        """
        done = {name for name, record in self._records.items() if not (retry_failed and record.status == "failed")}
        return [name for name in ids if name not in done]

    def append(self, record: Record) -> None:
        """Add the record of a finished trial; when this returns, it is on the disk.

        Raises:
            RunFolderError: the folder is not open, was deleted, or cannot be written; the trial then counts as missing.
            ValueError: a number of the record is not finite.
        """
        if self._file is None or self._lock is None:
            raise RunFolderError(f"{str(self.path)!r} is not open for writing. Use RunFolder.open in a with statement.")
        for name, descriptor in (("records.jsonl", self._file), (".lock", self._lock)):
            if os.fstat(descriptor).st_nlink == 0:
                raise RunFolderError(
                    f"{str(self.path / name)!r} was deleted or replaced while a comparison was writing to its folder; "
                    f"{record.trial} is not saved. Run the comparison again."
                )
        line = encode(record)
        end = os.fstat(self._file).st_size
        try:
            if os.write(self._file, line) < len(line):
                raise OSError("the disk is full")
            os.fsync(self._file)
        except OSError as error:
            # A line that the disk has not confirmed must not count as done.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, end)
            raise RunFolderError(
                f"the record of {record.trial} cannot be saved in {str(self.path)!r}: {error.strerror or error}. "
                "Make room on the disk or check it, and run the comparison again."
            ) from error
        self._add(record)

    def _add(self, record: Record) -> None:
        # A trial is listed where it was last run.
        self._records.pop(record.trial, None)
        self._records[record.trial] = record

    def _read(self) -> None:
        file = self.path / "records.jsonl"
        try:
            about = (self.path / "run.json").read_bytes()
            content = file.read_bytes() if file.is_file() else b""
        except OSError as error:
            raise RunFolderError(
                f"{str(self.path)!r} cannot be read: {error.strerror or error}. Check its files."
            ) from error
        self.about = redact(decode_json(about, str(self.path / "run.json")))
        if not isinstance(self.about.get("resumed", []), list):
            raise RunFolderError(f"resumed in {str(self.path / 'run.json')!r} must be a list. Was the file edited?")
        *lines, rest = content.split(b"\n")
        self.torn = bool(rest)
        for number, line in enumerate(lines, 1):
            self._add(decode(line, f"{file}, line {number}"))

    def _start(self, description: Mapping[str, Any], ids: Collection[str], started: dict[str, Any]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        self._hold(self._lock)
        for left_by_a_kill in (*self.path.glob(".run.json.*.tmp"), *self.path.glob(".records.jsonl.*.tmp")):
            left_by_a_kill.unlink(missing_ok=True)
        about = {"version": VERSION, "spec": dict(description), **started, "resumed": []}
        if (self.path / "run.json").exists():
            self._open_records()
            self._read()
            started |= self._drop_failed(description, ids, started["workload_sha256"])
            about = {**self.about, "spec": dict(description), "resumed": [*self.about.get("resumed", []), started]}
        elif any(path.name != ".lock" for path in self.path.iterdir()):
            raise RunFolderError(
                f"{str(self.path)!r} holds files that do not belong to a comparison. Choose a new or an empty folder."
            )
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        self.about = redact(about)
        _files.write_json(self.path / "run.json", self.about)
        file = self._open_records() if self._file is None else self._file
        os.ftruncate(file, (self.path / "records.jsonl").read_bytes().rfind(b"\n") + 1)
        os.fsync(file)
        self.torn = False
        _files.sync_folder(self.path)

    def _open_records(self) -> int:
        self._file = os.open(self.path / "records.jsonl", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        # The lock file may be deleted while it is locked; then this lock keeps a second writer out.
        self._hold(self._file)
        return self._file

    def _hold(self, descriptor: int) -> None:
        """Lock an open file of the folder; the system releases it when the process ends, however that happens."""
        try:
            import fcntl
        except ImportError as error:
            raise CyclrError("comparisons need the file locks of Linux or macOS. On Windows, use WSL.") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = (self.path / ".lock").read_text(errors="replace")[:200].strip()
            raise RunFolderError(
                f"{str(self.path)!r} is in use: {holder or 'another process'} writes to it. Wait until it ends, or "
                "choose another folder."
            ) from error

    def _drop_failed(
        self, description: Mapping[str, Any], ids: Collection[str], workload_sha256: str | None
    ) -> dict[str, Any]:
        """Remove the failed trials that are not of this comparison; raise if there are results that are not.

        Returns:
            `dropped`, the errors of those trials by their ids, or nothing.
        """
        known, direction = set(ids), description.get("direction")
        results = [record for record in self.records if record.status != "failed"]
        others = [record.trial for record in results if record.trial not in known]
        if others:
            raise RunFolderError(
                f"{str(self.path)!r} already holds results of another comparison ({len(others)} trials, such as "
                f"{others[0]}). Choose another folder, or restore the original policies, budget and settings."
            )
        turned = [record for record in results if record.direction != direction]
        if turned:
            raise RunFolderError(
                f"direction is {direction!r}, but {len(turned)} records in {str(self.path)!r} have "
                f"{turned[0].direction!r}. Restore it, or choose another folder."
            )
        self._warn_of_changed_file(description, results, workload_sha256)
        dropped = {
            record.trial: record.error
            for record in self.records
            if record.status == "failed" and (record.trial not in known or record.direction != direction)
        }
        if not dropped:
            return {}
        path = self.path / "records.jsonl"
        lines = path.read_bytes().split(b"\n")[:-1]
        kept = [line for line in lines if decode(line, str(path)).trial not in dropped]
        _files.write_atomically(path, b"".join(line + b"\n" for line in kept).decode())
        self._records = {name: record for name, record in self._records.items() if name not in dropped}
        if self._file is not None:
            os.close(self._file)
            self._file = None
        return {"dropped": dropped}

    def _warn_of_changed_file(self, description: Mapping[str, Any], results: Iterable[Record], now: str | None) -> None:
        before = {record.workload_sha256 for record in results} - {None, now}
        if now is not None and before:
            name = str(description.get("workload")).rpartition(":")[0]
            sums = ", ".join(f"{one[:12]}…" for one in sorted(map(str, before)))
            warnings.warn(
                f"{name} has changed since {str(self.path)!r} got results (SHA-256 {now[:12]}…, before {sums}): new "
                "results may not be comparable with them. Restore the file, or choose another folder.",
                stacklevel=6,
            )


def read_records(folder: str | os.PathLike[str]) -> list[Record]:
    """Return the latest record of every trial in a run folder, also while another process writes to it.

    Args:
        folder: the run folder.

    Raises:
        RunFolderError: the folder holds no run, or one of its files cannot be read or is invalid. The message gives the
            file and the line.
    """
    return RunFolder.read(folder).records


def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages that results depend on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def hardware() -> dict[str, Any]:
    """Return the operating system, processor, number of cores and host name of this machine."""
    return {
        "system": platform.platform(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "host": socket.gethostname(),
    }


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "")
    except OSError:
        return platform.processor()
