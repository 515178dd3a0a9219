"""cyclr for Keras 3, on TensorFlow, JAX and torch.

Importing this module registers `LearningRate` with Keras, which `keras.saving.load_model` needs to know.
"""

from importlib.util import find_spec

from cyclr.errors import MissingExtraError

try:
    import keras
except ImportError as error:
    installed = [name for name in ("tensorflow", "jax", "torch") if find_spec(name) is not None]
    if find_spec("keras") is not None and installed:
        # Keras looks for TensorFlow unless it is told otherwise.
        raise MissingExtraError(
            f"cyclr.keras needs the backend that Keras is set to; Keras says: {error}. Installed: "
            f"{', '.join(installed)}. Set the environment variable KERAS_BACKEND={installed[0]} before Python starts."
        ) from error
    raise MissingExtraError(
        'cyclr.keras needs Keras 3 and a backend. Install one of them: pip install "cyclr[tensorflow]", '
        'pip install "cyclr[jax]" or pip install "cyclr[torch]".'
    ) from error

if int(keras.__version__.split(".")[0]) < 3:
    raise MissingExtraError(
        f'cyclr.keras needs Keras 3; got Keras {keras.__version__}. Run: pip install "keras>=3.15".'
    )

from cyclr.keras.cycle_end import CycleEnd
from cyclr.keras.cyclic_lr import CyclicLR
from cyclr.keras.lr_finder import LRFinder
from cyclr.keras.range_test import range_test
from cyclr.keras.schedule import LearningRate, change_schedule
from cyclr.keras.schedule_callback import ScheduleCallback

__all__ = ["CycleEnd", "CyclicLR", "LRFinder", "LearningRate", "ScheduleCallback", "change_schedule", "range_test"]
