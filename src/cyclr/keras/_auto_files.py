"""The files of an AutoCycle that a killed run goes on from: one for each of the last two epochs."""

import io
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from cyclr import _files


class Files:
    """The files in a folder. A file is a NumPy archive of bytes and of one text in JSON: nothing in it is pickled.

    Two are kept, because the backup of the model may be one epoch older than the newest file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def paths(self) -> list[Path]:
        """Return the files, the oldest first."""
        return sorted(self._folder.glob("autocycle-*.npz"))

    def save(self, epoch: int, fingerprint: str, state: dict[str, Any]) -> None:
        """Write the state before an epoch of a model with this fingerprint."""
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
        """Return the state before an epoch, or None if there is none of a model with this fingerprint."""
        path = self._folder / f"autocycle-{epoch:06d}.npz"
        if not path.exists():
            return None
        with np.load(io.BytesIO(_files.read_regular(path)), allow_pickle=False) as archive:
            content = json.loads(str(archive["text"]))
            if content["fingerprint"] != fingerprint:
                return None
            state: dict[str, Any] = content["state"]
            state["copies"] = {
                name: [_as(variable, archive[f"{name}.{number}"]) for number, variable in enumerate(variables)]
                if f"{name}.0" in archive
                else None
                for name in ("first", "kept", "now")
            }
        return state

    def delete(self) -> None:
        """Delete the files. The folder stays."""
        for path in self.paths():
            path.unlink(missing_ok=True)


def _as(variable: Any, content: NDArray[np.uint8]) -> NDArray[Any]:
    like = keras.ops.convert_to_numpy(variable)
    return np.frombuffer(content.tobytes(), like.dtype).reshape(like.shape)
