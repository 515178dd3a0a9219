"""The files from which an AutoCycle resumes a killed run: one for each of the last two epochs."""

import io
import json
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from cyclr import _files, _plain


class Files:
    """The files in one folder. Each is a NumPy archive with arrays of bytes and one JSON text; nothing is pickled.

    The last two files are kept, because the backup of the model may be one epoch older than the newest file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def paths(self) -> list[Path]:
        """Return the files, oldest first."""
        return sorted(self._folder.glob("autocycle-*.npz"))

    def save(self, epoch: int, fingerprint: str, state: dict[str, Any]) -> None:
        """Write the state before an epoch, for a model with this fingerprint."""
        copies = {name: copy or [] for name, copy in state["copies"].items()}
        arrays: dict[str, Any] = {
            f"{name}.{number}": np.frombuffer(value.tobytes(), np.uint8)
            for name, copy in copies.items()
            for number, value in enumerate(copy)
        }
        text = json.dumps({"fingerprint": fingerprint, "state": {**state, "copies": None}})
        buffer = io.BytesIO()
        np.savez(buffer, text=np.array(text), **arrays)
        _files.make_folder(self._folder)
        _files.remove_abandoned(self._folder, r"\.autocycle-\d+\.npz\.\w+\.tmp")
        path = self._folder / f"autocycle-{epoch:06d}.npz"
        _files.write_atomically(path, buffer.getvalue())
        for old in self.paths():
            if old.name not in (path.name, f"autocycle-{epoch - 1:06d}.npz"):
                old.unlink(missing_ok=True)

    def load(self, epoch: int, fingerprint: str, variables: list[Any]) -> dict[str, Any] | None:
        """Return the state before an epoch. Return None if nothing is saved for a model with this fingerprint.

        Raises:
            OSError: the file cannot be read.
            ValueError: the file is damaged.
        """
        path = self._folder / f"autocycle-{epoch:06d}.npz"
        if not path.exists():
            return None
        try:
            with _files.open_archive(path) as archive:
                content = _plain.read("it", _plain.parse(str(archive["text"]), finite=False), _Content)
                if content.fingerprint != fingerprint:
                    return None
                copies = {
                    name: [_as(variable, archive[f"{name}.{number}"]) for number, variable in enumerate(variables)]
                    for name in ("first", "kept", "now")
                    if name == "now" or f"{name}.0" in archive
                }
        except OSError:
            raise
        except Exception as error:  # Damaged bytes surface as errors of zipfile, zlib, struct, ast or NumPy.
            raise ValueError(
                f"{str(path)!r} must be a file that AutoCycle wrote; got a damaged file ({error!s:.200}). Delete this "
                "file and the backup, or restore the file."
            ) from error
        return {**content.state, "copies": {"first": None, "kept": None, **copies}}

    def delete(self) -> None:
        """Delete the files. The folder stays."""
        for path in self.paths():
            path.unlink(missing_ok=True)


def _with_length(name: str, state: dict[str, Any]) -> dict[str, Any]:
    return {**state, "total_steps": _plain.read(f"{name}['total_steps']", state.get("total_steps"), int)}


class _Content(NamedTuple):
    """The JSON text in a file."""

    fingerprint: str
    state: Annotated[dict[str, Any], _with_length]


def _as(variable: Any, content: NDArray[np.uint8]) -> NDArray[Any]:
    like = keras.ops.convert_to_numpy(variable)
    return np.frombuffer(content.tobytes(), like.dtype).reshape(like.shape)
