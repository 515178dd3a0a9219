"""Warnings that name the user's line."""

import inspect
import warnings

_NOT_THE_USERS = {"cyclr", "jax", "keras", "lightning", "pytorch_lightning", "tensorflow", "torch", "transformers"}


def warn(message: str) -> None:
    """Warn at the line that called cyclr, or that called the framework whose callback cyclr is."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _NOT_THE_USERS:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
