"""The compiled training step of a model."""

from typing import Any

_MISSING = object()


def make_anew(model: Any) -> None:
    """Give the model a training step that is traced anew, with what its optimizer is now.

    JAX keeps traces by function, and would find the old one for the same method; so the step is made of another.
    """
    before = vars(model).get("train_step", _MISSING)
    train_step = model.train_step
    model.train_step = lambda *arguments: train_step(*arguments)
    try:
        model.make_train_function(force=True)
    finally:
        if before is _MISSING:
            del model.train_step
        else:
            model.train_step = before
