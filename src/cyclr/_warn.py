"""Warnings that point to the user's line of code."""

import inspect
import warnings

_NOT_THE_USERS = {"cyclr", "jax", "keras", "lightning", "pytorch_lightning", "tensorflow", "torch", "transformers"}


def warn(message: str) -> None:
    """Warn at the user's line that called cyclr, or that called a framework with a callback of cyclr."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _NOT_THE_USERS:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
