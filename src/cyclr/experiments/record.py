"""The folder of a comparison: what is to be run, and an append-only record of what has been.

    RUN/run.json        the comparison, versions, hardware and command; written whole or not at all
    RUN/records.jsonl   a line of JSON for every finished trial, written by one call and flushed to the disk
    RUN/.lock           held by the process that writes

A process that is killed at any moment leaves whole lines and at most one torn one at the end, which readers ignore and
the next writer cuts off. Lines are taken out for one reason alone: their trials failed, and the comparison as it is now
described has no such trials.
"""

import datetime
import json
import os
import platform
import socket
import sys
import warnings
from collections.abc import Container, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cyclr import _files
from cyclr.errors import CyclrError, RunFolderError
from cyclr.experiments.spec import Spec, Trial

FORMAT_VERSION = 1
_PACKAGES = ("cyclr", "numpy", "keras", "tensorflow", "tensorflow-cpu", "torch", "jax", "ray", "scipy")


def read_records(folder: str | Path) -> list[dict[str, Any]]:
    """The records of a run folder, the latest of every trial; also while another process writes them.

    Args:
        folder: the run folder.

    Raises:
        RunFolderError: there is no such folder, or a line in the midst of the records is damaged.
    """
    path = Path(folder, "records.jsonl")
    if not Path(folder, "run.json").is_file():
        raise RunFolderError(f"a run folder must hold run.json; got {str(folder)!r}, which does not. Check the path.")
    content = path.read_bytes() if path.is_file() else b""
    latest: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(content[: _whole(content)].splitlines(), 1):
        try:
            record = json.loads(line)
            name = record["trial"]
        except (ValueError, TypeError, KeyError) as error:
            raise RunFolderError(
                f"every line of {path} must be the record of a trial; line {number} is not ({error}). "
                "The file was changed or damaged; remove that line, and its trial is run again."
            ) from error
        # The place of a trial is where it was last run.
        latest.pop(name, None)
        latest[name] = record
    return list(latest.values())


def read_run(folder: str | Path) -> dict[str, Any]:
    """What run.json holds.

    Raises:
        RunFolderError: it is not there, or of another version.
    """
    try:
        run = json.loads(Path(folder, "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunFolderError(f"a run folder must hold run.json; got {str(folder)!r} ({error}).") from error
    if not isinstance(run, dict) or run.get("version") != FORMAT_VERSION:
        raise RunFolderError(f"run.json in {str(folder)!r} must be of version {FORMAT_VERSION}.")
    return run


def unrecorded(folder: str | Path, spec: Spec, retry_failed: bool = False) -> list[Trial]:
    """The trials of a comparison that a run folder has no record of, in order; all of them where it is yet to be made.

    Args:
        folder: the run folder.
        spec: the comparison.
        retry_failed: whether trials that failed count as not recorded.

    Raises:
        RunFolderError: a line in the midst of the records is damaged.
    """
    records = read_records(folder) if Path(folder, "run.json").is_file() else []
    done = {record["trial"] for record in records if not (retry_failed and record["status"] == "failed")}
    return [trial for trial in spec.trials() if trial.id not in done]


class RunFolder:
    """The one writer of a run folder; a context manager that holds its lock.

    Args:
        folder: the folder; made if it does not exist.
        spec: the comparison. A folder that exists must hold this one, or one with fewer trials, which it then extends;
            trials of another that failed, as those of a typo do, are dropped from it.
        command: the command line, kept for readers.

    Raises:
        RunFolderError: another process writes to the folder, it holds another comparison, or it cannot be written.

    Warns:
        UserWarning: the user's file is another than the one that the folder's results were made with.

    Example:
        >>> import tempfile
        >>> from cyclr.experiments import Spec
        >>> from cyclr.experiments.record import RunFolder
        >>> spec = Spec([{"kind": "fixed", "lr": 0.1}], epochs=1, seeds=[0])
        >>> with tempfile.TemporaryDirectory() as folder, RunFolder(folder, spec) as run:
        ...     len(run.missing())
        1
    """

    def __init__(self, folder: str | Path, spec: Spec, command: Iterable[str] | None = None) -> None:
        self.path = Path(folder)
        self._spec = spec
        self._command = list(sys.argv if command is None else command)
        self._lock: int | None = None
        self._file: int | None = None

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(self.path)
            self._open()
        except OSError as error:
            self.close()
            raise RunFolderError(
                f"the run folder must be one that can be written; got {str(self.path)!r} ({error.strerror or error})."
            ) from error
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folder."""
        for descriptor in (self._file, self._lock):
            if descriptor is not None:
                os.close(descriptor)
        self._file = self._lock = None

    def _open(self) -> None:
        for left_by_a_kill in (*self.path.glob(".run.json.*.tmp"), *self.path.glob(".records.jsonl.*.tmp")):
            left_by_a_kill.unlink(missing_ok=True)
        started = {
            "command": self._command,
            "workload_sha256": self._spec.trials()[0].file_sha256,
            "versions": versions(),
            "hardware": hardware(),
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        run: dict[str, Any] = {"version": FORMAT_VERSION, "spec": self._spec.to_dict(), **started, "resumed": []}
        if (self.path / "run.json").exists():
            run = self._extended(read_run(self.path), started)
        elif any(path.name != ".lock" for path in self.path.iterdir()):
            raise RunFolderError(
                f"the run folder must be new, empty or one of a comparison; {str(self.path)!r} holds other files. "
                "Choose another."
            )
        _files.write_json(self.path / "run.json", run)
        self._file = os.open(self.path / "records.jsonl", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        content = (self.path / "records.jsonl").read_bytes()
        if _whole(content) < len(content):
            os.ftruncate(self._file, _whole(content))
        os.fsync(self._file)
        _sync_folder(self.path)

    def _extended(self, run: dict[str, Any], started: Mapping[str, Any]) -> dict[str, Any]:
        known = {trial.id for trial in self._spec.trials()}
        records = read_records(self.path)
        results = [record for record in records if record["status"] != "failed"]
        others = [record["trial"] for record in results if record["trial"] not in known]
        if others:
            raise RunFolderError(
                f"{str(self.path)!r} must hold trials of this comparison alone; it holds {len(others)} of another, "
                f"such as {others[0]!r}. Choose another folder, or keep the policies, budget and settings as they were."
            )
        turned = [record for record in results if record["direction"] != self._spec.direction]
        if turned:
            raise RunFolderError(
                f"direction must stay what it is in the records of {str(self.path)!r}; got {self._spec.direction!r}, "
                f"{len(turned)} of them have {turned[0]['direction']!r}. Set it back, or choose another folder."
            )
        self._warn_of_another_file(results, started["workload_sha256"])
        dropped = {
            record["trial"]: record["error"]
            for record in records
            if record["status"] == "failed"
            and (record["trial"] not in known or record["direction"] != self._spec.direction)
        }
        if dropped:
            self._drop(dropped)
            started = {**started, "dropped": dropped}
        return {**run, "spec": self._spec.to_dict(), "resumed": [*run.get("resumed", []), started]}

    def _warn_of_another_file(self, results: Iterable[Mapping[str, Any]], now: str | None) -> None:
        before = {record.get("workload_sha256") for record in results} - {None, now}
        if now is not None and before:
            name = self._spec.workload.rpartition(":")[0]
            sums = ", ".join(f"{one[:12]}…" for one in sorted(map(str, before)))
            warnings.warn(
                f"{name} has changed since {str(self.path)!r} got results (SHA-256 {now[:12]}…, before {sums}): "
                "what is run now may not be comparable with them. Put it back as it was, or choose another folder.",
                stacklevel=5,
            )

    def _drop(self, names: Container[str]) -> None:
        """Write the records anew without those of some trials."""
        path = self.path / "records.jsonl"
        content = path.read_bytes()
        lines = content[: _whole(content)].splitlines(keepends=True)
        kept = b"".join(line for line in lines if json.loads(line)["trial"] not in names)
        _files.write_atomically(path, kept.decode())

    def missing(self, retry_failed: bool = False) -> list[Trial]:
        """The trials of the comparison that have no record yet; see `unrecorded`."""
        return unrecorded(self.path, self._spec, retry_failed)

    def append(self, record: Mapping[str, Any]) -> None:
        """Add the record of a finished trial; when this returns, it is on the disk.

        Raises:
            RunFolderError: the disk took a part of it alone (which is taken back) or the folder is not open.
            ValueError: a value that JSON does not know, such as NaN.
        """
        if self._file is None:
            raise RunFolderError("a run folder must be open to be written. Use it in a with statement.")
        line = (json.dumps(record, allow_nan=False, separators=(",", ":")) + "\n").encode()
        end = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, line)
        except OSError as error:
            raise RunFolderError(f"the record of {record.get('trial')} cannot be written: {error.strerror}.") from error
        if written < len(line):
            os.ftruncate(self._file, end)
            raise RunFolderError(f"the record of {record.get('trial')} does not fit on the disk. Make room; run again.")
        os.fsync(self._file)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that matter and are installed."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """The machine: its system, processor and number of cores."""
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


def _locked(folder: Path) -> int:
    """Hold the lock of a folder; the system lets go of it when the process ends, however that happens."""
    try:
        import fcntl
    except ImportError as error:
        raise CyclrError("comparisons need the file locks of Linux or macOS. On Windows, use WSL.") from error
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
        os.close(descriptor)
        raise RunFolderError(
            f"{str(folder)!r} must be written by one process at a time; {holder} writes to it now. "
            "Wait for it to end, or choose another folder."
        ) from error
    except OSError:
        os.close(descriptor)
        raise
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
    return descriptor


def _whole(content: bytes) -> int:
    """Bytes up to the end of the last whole line."""
    return content.rfind(b"\n") + 1


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
