"""Errors of copies of the training state on disk."""

import contextlib
from collections.abc import Iterator

from cyclr.errors import RangeTestError


@contextlib.contextmanager
def on_disk(*, restoring: bool) -> Iterator[None]:
    """Raise a `RangeTestError` if a copy of the training state cannot be written, or read to restore the state."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        said = getattr(error, "strerror", None) or f"{error!s:.200}"
        raise RangeTestError(
            f"the training state cannot be restored from the files in snapshot_dir: {said}. The model has the state of "
            "the range test: create the model again, or load it from a checkpoint."
            if restoring
            else f"the copy of the training state cannot be written to snapshot_dir: {said}. Free some disk "
            "space, choose another snapshot_dir, or omit snapshot_dir to keep the copy in memory."
        ) from error
