"""Choose Keras' backend and the number of threads by environment variables, before frameworks are imported."""

import contextlib
import importlib.util
import math
import os
import sys
from pathlib import Path

from cyclr import _checks, _plain
from cyclr.errors import MissingExtraError

BACKENDS = ("tensorflow", "jax", "torch")


def select_backend(name: str | None = None) -> str:
    """Choose Keras' backend: `name`, else the one in `KERAS_BACKEND` or `keras.json`, else the first installed backend.

    Args:
        name: `"tensorflow"`, `"jax"`, `"torch"` or None.

    Returns:
        The backend's name; the environment variable `KERAS_BACKEND` is set to it.

    Raises:
        ValueError: the backend is unknown, or Keras already runs on another backend.
        MissingExtraError: Keras or the backend is not installed.
    """
    chosen = check_backend(name)
    keras = sys.modules.get("keras")
    if keras is not None and keras.backend.backend() != chosen:
        raise ValueError(
            f"backend must be chosen before Keras is imported; got backend={chosen!r}, but Keras runs on "
            f"{keras.backend.backend()!r}. Set KERAS_BACKEND={chosen} and restart."
        )
    os.environ["KERAS_BACKEND"] = chosen
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    return chosen


def check_backend(name: str | None = None) -> str:
    """Return the backend that `select_backend` would choose, without choosing it.

    Raises:
        ValueError: the backend is unknown.
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
    return chosen


def _configured() -> str | None:
    """Return the backend that Keras itself reads from the environment or from its configuration file, or None."""
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    try:
        in_file = _plain.read_json(home / "keras.json").get("backend")
    except (OSError, ValueError, AttributeError):
        in_file = None
    return os.environ.get("KERAS_BACKEND") or in_file


def thread_variables(threads: int) -> dict[str, str]:
    """Return environment variables that limit the threads of TensorFlow, torch, JAX and the BLAS libraries.

    Args:
        threads: number of threads of one worker, ≥ 1.
    """
    count = str(threads)
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
    # On a CPU, XLA runs with either one thread or all threads.
    flags = os.environ.get("XLA_FLAGS", "")
    one = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    return {
        **dict.fromkeys(names, count),
        "TF_NUM_INTEROP_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3"),
        "XLA_FLAGS": f"{flags} {one}".strip() if threads == 1 and one not in flags else flags,
    }


def cores() -> int:
    """Return the number of cores that this process may use, by its CPU affinity and its control group's quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        count = min(count, math.ceil(int(quota) / int(period)))
    return max(1, count)
