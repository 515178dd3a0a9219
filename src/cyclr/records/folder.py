"""The folder of a comparison: a description of the comparison, and an append-only file of its records.

    RUN/run.json        the comparison, versions, hardware and command; replaced atomically
    RUN/records.jsonl   one line of JSON for every finished trial, written in one call and flushed to the disk
    RUN/.lock           locked by the process that writes

If the writing process is killed, the file has complete lines and at most one incomplete line at the end. Readers ignore
the incomplete line, and the next writer removes it. Other lines are removed only if their trials failed and are no
longer part of the comparison.
"""

import contextlib
import os
import platform
import sys
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

from cyclr import _files
from cyclr._redact import redact, restore
from cyclr.errors import CyclrError, RunFolderError
from cyclr.records.record import VERSION, Record, decode, decode_json, encode, now

_PACKAGES = ("cyclr", "numpy", "keras", "tensorflow", "tensorflow-cpu", "torch", "jax", "ray", "scipy")


class RunFolder:
    """A run folder, created by `read` or `open`.

    Attributes:
        path: the folder.
        about: the contents of run.json, without credentials, hosts, users and home folders.
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
        self._locked: dict[str, int] = {}
        # The process may change its current folder while a comparison runs.
        self._absolute = self.path.absolute()
        self._unconfirmed: int | None = None
        """Offset of a line that is being written, or that could neither be written nor removed; None without one."""

    @property
    def records(self) -> list[Record]:
        return list(self._records.values())

    @classmethod
    def read(cls, folder: str | os.PathLike[str], *, missing_ok: bool = False) -> Self:
        """Read a run folder, also while another process writes to it.

        Args:
            folder: the run folder.
            missing_ok: True to return a run without records if the folder has no run.json, instead of raising.

        Raises:
            RunFolderError: the folder holds no run, or one of its files cannot be read or is invalid. The message
                gives the file and the line.
        """
        run = cls(folder)
        try:
            is_run = (run.path / "run.json").is_file()
            if is_run:
                run._read()
        except OSError as error:
            raise RunFolderError(
                f"{str(folder)!r} cannot be read: {error.strerror or error}. Check its files and their permissions."
            ) from error
        if not is_run and not missing_ok:
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
        folder_of_paths: str | os.PathLike[str] = ".",
        workload_sha256: str | None = None,
        command: Iterable[str] | None = None,
    ) -> Self:
        """Open a run folder as its only writer; use it in a `with` statement.

        Args:
            folder: the folder, created if it does not exist. An existing folder must hold this comparison, or the same
                comparison with fewer trials, which is extended. Failed trials that are no longer part of the comparison
                (for example after a typo was corrected) are removed.
            description: the comparison for run.json, including its `direction`.
            ids: the ids of the trials of the comparison.
            folder_of_paths: the folder that relative paths in the description start from.
            workload_sha256: SHA-256 of the user's file, or None.
            command: the command line for run.json; by default the command line of this process, without the program's
                folder.

        Raises:
            RunFolderError: another process writes to the folder, it holds another comparison, or it cannot be written.

        Warns:
            UserWarning: the user's file has changed since the folder got its results.
        """
        run = cls(folder)
        spec = {"spec": dict(description), "folder": _shareable(Path(folder_of_paths).resolve(), run.path.resolve())}
        started = {
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]] if command is None else list(command),
            "workload_sha256": workload_sha256,
            "versions": _versions(),
            "hardware": _hardware(),
            "created": now(),
        }
        with run._opening():
            run._start(spec, ids, started)
        return run

    @classmethod
    def locked(cls, folder: str | os.PathLike[str]) -> Self:
        """Lock an existing run folder, so that its files can be removed; use it in a `with` statement.

        Args:
            folder: the run folder.

        Raises:
            RunFolderError: another process writes to the folder, or it cannot be read or locked.
        """
        run = cls.read(folder)
        with run._opening():
            run._lock(".lock")
            run._lock("records.jsonl")
            run._read()
        return run

    @contextlib.contextmanager
    def _opening(self) -> Iterator[None]:
        """Release the folder after an error, and turn errors of the disk into a `RunFolderError`."""
        try:
            yield
        except BaseException as error:
            self.close()
            if not isinstance(error, OSError):
                raise
            raise RunFolderError(
                f"{str(self.path)!r} cannot be used as a run folder: {error.strerror or error}. Free disk space, check "
                "permissions, or choose another folder."
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the folder."""
        while self._locked:
            _files.close(self._locked.popitem()[1])

    def missing(self, ids: Iterable[str], retry_failed: bool = False) -> list[str]:
        """Return the ids without a record, in the given order.

        Args:
            ids: the ids of a comparison.
            retry_failed: True to include failed trials.
        """
        done = {name for name, record in self._records.items() if not (retry_failed and record.status == "failed")}
        return [name for name in ids if name not in done]

    def append(self, record: Record) -> None:
        """Append the record of a finished trial. When this method returns, the record is on the disk.

        Raises:
            RunFolderError: the folder is not open, was deleted, or cannot be written; the trial then counts as missing.
            ValueError: a number of the record is not finite.
        """
        if not self._locked:
            raise RunFolderError(f"{str(self.path)!r} is not open for writing. Use RunFolder.open in a with statement.")
        file, line = self._locked["records.jsonl"], encode(record)
        try:
            self._check_files(record)
            self._cut_off()
            self._unconfirmed = os.fstat(file).st_size
            if os.write(file, line) < len(line):
                raise OSError("the disk is full")
            os.fsync(file)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._cut_off()
            raise RunFolderError(
                f"the record of {record.trial} cannot be saved in {str(self.path)!r}: {error.strerror or error}. "
                "Free disk space or check the disk, and run the comparison again."
            ) from error
        self._unconfirmed = None
        self._add(record)

    def _check_files(self, record: Record) -> None:
        """Raise if a locked file was deleted or replaced: the record would be lost, or another process may write.

        A deleted run.json is written again, because the records cannot be read without it.
        """
        for name in ("records.jsonl", ".lock"):
            try:
                is_own = os.path.samestat(os.fstat(self._locked[name]), (self._absolute / name).stat())
            except FileNotFoundError:
                is_own = False
            if not is_own:
                raise RunFolderError(
                    f"{str(self.path / name)!r} was deleted or replaced while a comparison was writing to its folder; "
                    f"{record.trial} is not saved. Run the comparison again."
                )
        if not (self._absolute / "run.json").exists():
            _files.write_json(self._absolute / "run.json", self.about)

    def _cut_off(self) -> None:
        """Remove a line that was not completely written to the disk, because its trial must not count as finished."""
        if self._unconfirmed is not None:
            os.ftruncate(self._locked["records.jsonl"], self._unconfirmed)
            self._unconfirmed = None

    def _add(self, record: Record) -> None:
        # A trial that ran again moves to the end.
        self._records.pop(record.trial, None)
        self._records[record.trial] = record

    def _read(self) -> None:
        file = self.path / "records.jsonl"
        about = _files.read_regular(self.path / "run.json")
        where = str(self.path / "run.json")
        try:
            self.about = redact(decode_json(about, where))
        except RecursionError as error:
            raise RunFolderError(f"{where!r} holds lists that are nested too deeply. Was the file edited?") from error
        if not isinstance(folder := self.about.get("folder", ""), str):
            raise RunFolderError(f"folder in {where!r} must be a path. Was the file edited?")
        if folder.startswith("."):
            self.about["folder"] = str((self.path / folder).resolve())
        if not isinstance(self.about.get("resumed", []), list):
            raise RunFolderError(f"resumed in {where!r} must be a list. Was the file edited?")
        self.torn = False
        for number, line in enumerate(_files.read_lines(file) if file.exists() else (), 1):
            if line.endswith(b"\n"):
                self._add(decode(line, f"{file}, line {number}"))
            else:
                self.torn = True

    def _start(self, spec: Mapping[str, Any], ids: Collection[str], started: dict[str, Any]) -> None:
        self._check_own()
        _files.make_folder(self.path)
        self._lock(".lock")
        for left_by_a_kill in (*self.path.glob(".run.json.*.tmp"), *self.path.glob(".records.jsonl.*.tmp")):
            left_by_a_kill.unlink(missing_ok=True)
        about = {"version": VERSION, **spec, **started, "resumed": []}
        if (self.path / "run.json").exists():
            # If the locked .lock file was deleted, the lock of records.jsonl still excludes a second writer.
            self._lock("records.jsonl")
            self._read()
            started |= self._drop_failed(spec["spec"], set(ids), started["workload_sha256"])
            about = {**self.about, **spec, "resumed": [*self.about.get("resumed", []), started]}
        else:
            self._check_own()
        os.ftruncate(self._locked[".lock"], 0)
        os.write(self._locked[".lock"], f"process {os.getpid()}".encode())
        self.about = redact(about)
        _files.write_json(self.path / "run.json", self.about)
        if "records.jsonl" not in self._locked:
            self._lock("records.jsonl")
        os.ftruncate(self._locked["records.jsonl"], (self.path / "records.jsonl").read_bytes().rfind(b"\n") + 1)
        os.fsync(self._locked["records.jsonl"])
        self.torn = False
        _files.sync_folder(self.path)

    def _check_own(self) -> None:
        """Raise if the folder holds files that do not belong to a comparison. The folder is not changed."""
        if not self.path.is_dir() or (self.path / "run.json").exists():
            return
        if (self.path / "records.jsonl").exists():
            raise RunFolderError(
                f"{str(self.path)!r} has records.jsonl, but no run.json with their description. Restore run.json, or "
                "choose another folder."
            )
        own = (".lock", ".run.json.", ".records.jsonl.")
        if not all(path.name.startswith(own) for path in self.path.iterdir()):
            raise RunFolderError(
                f"{str(self.path)!r} holds files that do not belong to a comparison. Choose a new or an empty folder."
            )

    def _lock(self, name: str) -> None:
        """Open and lock a file of the folder. The operating system releases the lock when the process ends or dies."""
        try:
            import fcntl
        except ImportError as error:
            raise CyclrError("comparisons need the file locks of Linux or macOS. On Windows, use WSL.") from error
        self._locked[name] = os.open(self.path / name, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        if not (self.path / name).is_file():
            raise OSError(f"{str(self.path / name)!r} is not a regular file")
        try:
            fcntl.flock(self._locked[name], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = (self.path / ".lock").read_text(errors="replace")[:200].strip()
            raise RunFolderError(
                f"{str(self.path)!r} is in use: {holder or 'another process'} writes to it. Wait until it ends, or "
                "choose another folder."
            ) from error
        except OSError as error:
            raise RunFolderError(
                f"{str(self.path)!r} cannot be locked: its file system has no file locks ({error.strerror}), without "
                "which two comparisons could write to it at a time. Choose a folder on a local disk."
            ) from error

    def _drop_failed(self, description: Mapping[str, Any], ids: set[str], sha256: str | None) -> dict[str, Any]:
        """Remove failed trials that are not part of this comparison, and return their errors.

        Raise if a trial that finished or diverged is not part of this comparison.
        """
        direction = description.get("direction")
        foreign = [record for record in self.records if record.trial not in ids or record.direction != direction]
        results = [record for record in foreign if record.status != "failed"]
        if others := [record.trial for record in results if record.trial not in ids]:
            raise RunFolderError(
                f"{str(self.path)!r} already holds results of another comparison ({len(others)} trials, such as "
                f"{others[0]}){self._changes(description)}. Choose another folder, or restore the original policies, "
                "budget and settings."
            )
        if results:
            raise RunFolderError(
                f"direction is {direction!r}, but {len(results)} records in {str(self.path)!r} have "
                f"{results[0].direction!r}. Restore the direction, or choose another folder."
            )
        before = {record.workload_sha256 for record in self.records if record.status != "failed"} - {None, sha256}
        if sha256 is not None and before:
            name = str(description.get("workload")).rpartition(":")[0]
            sums = ", ".join(f"{one[:12]}…" for one in sorted(map(str, before)))
            warnings.warn(
                f"{name} has changed since {str(self.path)!r} got results (SHA-256 {sha256[:12]}…, before {sums}): new "
                "results may not be comparable with the old ones. Restore the file, or choose another folder.",
                stacklevel=5,
            )
        if not foreign:
            return {}
        path = self.path / "records.jsonl"
        dropped = {name: self._records.pop(name).error for name in [record.trial for record in foreign]}
        lines = path.read_bytes().split(b"\n")[:-1]
        kept = [line + b"\n" for line in lines if decode(line, str(path)).trial not in dropped]
        _files.write_atomically(path, b"".join(kept).decode())
        _files.close(self._locked.pop("records.jsonl"))
        return {"dropped": dropped}

    def _changes(self, description: Mapping[str, Any]) -> str:
        """Return changed settings, such as `": epochs=2, not 3"`, except for policies and seeds, which may be added."""
        recorded, asked = self.about.get("spec"), redact(dict(description))
        if not isinstance(recorded, dict):
            return ""
        names = [name for name in dict.fromkeys([*recorded, *asked]) if name not in ("policies", "seeds")]
        changed = [name for name in names if recorded.get(name) != asked.get(name)]
        shown = ", ".join(f"{name}={recorded.get(name)!r}, not {asked.get(name)!r}" for name in changed)
        return shown and f": {shown}"


def read_records(folder: str | os.PathLike[str]) -> list[Record]:
    """Return the latest record of every trial in a run folder, also while another process writes to it.

    Args:
        folder: the run folder.

    Raises:
        RunFolderError: the folder holds no run, or one of its files cannot be read or is invalid. The message gives the
            file and the line.
    """
    return RunFolder.read(folder).records


def _shareable(folder: Path, run: Path) -> str:
    """Return the path of a folder for run.json: relative to the run folder if both are in the home of another user.

    An absolute path into that home would be redacted to `~`, and `~` is restored as the home of this user.
    """
    shared = os.path.commonpath([folder, run])
    return str(folder) if restore(redact(shared)) == shared else f"./{os.path.relpath(folder, run)}"


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _hardware() -> dict[str, Any]:
    processor = platform.processor()
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8") as file:
        processor = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), processor)
    return {
        "system": platform.platform(),
        "machine": platform.machine(),
        "processor": processor,
        "cores": os.cpu_count(),
    }
