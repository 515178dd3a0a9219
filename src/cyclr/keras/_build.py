"""Build a model as `fit` builds it, before its first update."""

import functools
from collections.abc import Callable
from typing import Any

import keras

from cyclr._contents import Contents
from cyclr.keras import _private
from cyclr.keras.schedule import retrace

_SET_BY_FIT = ("train_function", "train_step", "stop_training", "history")


class _Built(Exception):  # noqa: N818
    """Raised to end a `fit` that was called only to build a model."""


class _StopIfBuilt(keras.callbacks.Callback):  # type: ignore[misc]
    """Stops `fit` when the model is built: on JAX and torch before training starts, otherwise in the first step."""

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if _private.has_weights(self.model):
            raise _Built
        build_in_first_step(self.model, then=_stop)


def _stop() -> None:
    raise _Built


def can_be_built(model: Any) -> bool:
    """Return True if the model has a forward pass. Otherwise only its custom training step can build it."""
    return type(model).call is not keras.Model.call


def build(model: Any, fit: Callable[..., object]) -> None:
    """Build a model with a call of `fit` that makes no update, and restore the loss and the metrics."""
    own, parts = vars(model), Contents(parts=_private.parts_of_compiled)
    parts.add(_private.compiled_parts(model))
    before = {name: own[name] for name in _SET_BY_FIT if name in own}
    try:
        fit(callbacks=[_StopIfBuilt()])
    except _Built:
        pass
    finally:
        parts.restore()
        for name in _SET_BY_FIT:
            own.pop(name, None)
        own.update(before)


def build_in_first_step(model: Any, then: Callable[[], object]) -> None:
    """Let the next training step start by building the model and calling `then`.

    On TensorFlow, `fit` builds a model while it traces the first training step.
    """
    own, step = vars(model), model.train_step
    before = {"train_step": own["train_step"]} if "train_step" in own else {}

    @functools.wraps(step)
    def train_step(data: Any) -> Any:
        if own.get("train_step") is train_step:
            del own["train_step"]
            own.update(before)
            _private.create_variables(model, keras.utils.unpack_x_y_sample_weight(data)[0])
            with _private.outside_of_trace():
                then()
        return step(data)

    own["train_step"] = train_step
    retrace(model)
