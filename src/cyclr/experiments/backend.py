"""Which Keras backend runs: it has to be settled before Keras is imported."""

import importlib.util
import json
import os
import sys
from pathlib import Path

from cyclr import _checks
from cyclr.errors import MissingExtraError

BACKENDS = ("tensorflow", "jax", "torch")


def select(name: str | None = None) -> str:
    """Make Keras run on a backend: the one named, else that of `KERAS_BACKEND` or of `keras.json`, else one installed.

    Args:
        name: `"tensorflow"`, `"jax"`, `"torch"` or None.

    Returns:
        The backend's name; the environment variable `KERAS_BACKEND` is set to it.

    Raises:
        ValueError: an unknown backend, or one other than Keras already runs on.
        MissingExtraError: Keras or the backend is not installed.
    """
    installed = [backend for backend in BACKENDS if importlib.util.find_spec(backend) is not None]
    if importlib.util.find_spec("keras") is None or not installed:
        raise MissingExtraError(
            'Keras 3 and a backend are needed. Run: pip install "cyclr[tensorflow]", "cyclr[jax]" or "cyclr[torch]".'
        )
    chosen = _checks.choice("backend", name or _configured() or installed[0], BACKENDS)
    if chosen not in installed:
        raise MissingExtraError(
            f"backend {chosen!r} is not installed; installed: {', '.join(installed)}. "
            f'Set the environment variable KERAS_BACKEND={installed[0]}, or run: pip install "cyclr[{chosen}]".'
        )
    keras = sys.modules.get("keras")
    if keras is not None and keras.backend.backend() != chosen:
        raise ValueError(
            f"backend must be chosen before Keras is imported; got backend={chosen!r}, but Keras runs on "
            f"{keras.backend.backend()!r}. Set KERAS_BACKEND={chosen} and start anew."
        )
    os.environ["KERAS_BACKEND"] = chosen
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    return chosen


def _configured() -> str | None:
    """The backend that Keras itself would take from the environment or from its configuration file, if any."""
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    try:
        in_file = json.loads((home / "keras.json").read_text(encoding="utf-8")).get("backend")
    except (OSError, ValueError, AttributeError):
        in_file = None
    return os.environ.get("KERAS_BACKEND") or in_file
