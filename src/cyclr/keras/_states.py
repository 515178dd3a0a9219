"""The state of a member in Keras: the list of arrays that `model.get_weights()` returns."""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cyclr import _checks, _files, _plain
from cyclr.keras._optimizers import check_model

State = list[Any]


class KerasStates:
    """Compares, checks and saves the states of members in Keras.

    `model.load_weights` can read the files too. Keras orders a file by layers, not by weights. To read it without a
    model, cyclr adds the HDF5 data set `cyclr/weights`, which lists the path and the dtype of each weight.

    Args:
        model: the model whose weights are written to files; None if no files are written.
    """

    suffix = ".weights.h5"

    def __init__(self, model: Any = None) -> None:
        self.model = model

    def shapes(self, state: Any) -> dict[str, list[int]]:
        if not isinstance(state, list | tuple) or not all(isinstance(value, np.ndarray) for value in state):
            raise TypeError(
                f"the state of a member must be a list of arrays, as model.get_weights() returns it; got "
                f"{_checks.quoted(state)} of type {type(state).__name__}."
            )
        return {f"weight {number}": list(value.shape) for number, value in enumerate(state)}

    def not_finite(self, state: State) -> str | None:
        for number, value in enumerate(state):
            # bfloat16 has the kind V, and `np.isfinite` supports only the dtypes of NumPy.
            if value.dtype.kind in "fcV" and not np.isfinite(value.astype(np.complex128)).all():
                return f"weight {number}"
        return None

    def save(self, state: State, path: Path) -> None:
        """Write the current weights of the model, which are `state`, without the variables of its optimizer."""
        import h5py

        # Written to memory first, because HDF5 ends the process (SIGSEGV) if it cannot write to the disk.
        whole, own = _FileInMemory(), io.BytesIO()
        self.model.save_weights(whole)
        with h5py.File(whole) as source, h5py.File(own, "w") as target:
            target.attrs.update(source.attrs)
            for name in source:
                if name != "optimizer":
                    source.copy(name, target)
            paths: dict[str, str] = {}

            def add(name: str, item: Any) -> None:
                if isinstance(item, h5py.Dataset):
                    paths[_content(item[()])] = name

            target.visititems(add)
            listed = []
            for number, value in enumerate(state):
                name = paths.get(_content(value), "")
                if not name:
                    # The layer writes its weights in another form.
                    name = f"cyclr/{number}"
                    target[name] = np.frombuffer(value.tobytes(), np.uint8)
                listed.append([name, str(value.dtype), [*value.shape]])
            target["cyclr/weights"] = json.dumps(listed)
        path.write_bytes(own.getbuffer())

    def load(self, path: Path) -> State:
        import h5py
        import ml_dtypes  # noqa: F401  # Lets NumPy find bfloat16 by its name.

        with h5py.File(path) as file:
            listed = _plain.parse(_read(file, "cyclr/weights", path))
            return [
                np.frombuffer(np.asarray(_read(file, name, path)).tobytes(), np.dtype(kind)).reshape(shape)
                for name, kind, shape in listed
            ]


def _read(file: Any, name: str, path: Path) -> Any:
    """Return the content of a data set. Raise if it is in another file, or claims to be much larger than its file."""
    data = file[name]
    if data.file.filename != file.filename or data.external or data.is_virtual:
        raise ValueError(f"{name:.100} is in another file")
    if data.nbytes > _files.most_unpacked(path):
        raise ValueError(f"{name:.100} has {data.nbytes:,} bytes, more than 100 times the size of the file")
    return data[()]


class _FileInMemory(io.BytesIO):
    """A file in memory with a name that Keras accepts for a file of weights."""

    def __str__(self) -> str:
        return "member.weights.h5"


def _content(value: Any) -> str:
    array = np.ascontiguousarray(value)
    return hashlib.blake2b(array.tobytes(), digest_size=32).hexdigest() + str(array.shape)


def weights_of(model: Any) -> State:
    """Return a copy of a model's weights.

    Raises:
        TypeError: `model` is not a model of Keras 3.
    """
    check_model(model)
    if not isinstance(model, keras.Model):
        raise TypeError(f"model must be a keras.Model; got {type(model).__name__}.")
    # Copied, because on torch the arrays share the memory of the tensors.
    return [np.array(value) for value in model.get_weights()]
