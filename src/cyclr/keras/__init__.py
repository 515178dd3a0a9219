"""cyclr for Keras 3, on TensorFlow, JAX and torch.

Importing this module registers `LearningRate` with Keras, which `keras.saving.load_model` needs to know.
"""

from cyclr.errors import MissingExtraError

try:
    import keras
except ImportError as error:
    raise MissingExtraError(
        'cyclr.keras needs Keras 3 and a backend. Install one of them: pip install "cyclr[tensorflow]", '
        'pip install "cyclr[jax]" or pip install "cyclr[torch]".'
    ) from error

if int(keras.__version__.split(".")[0]) < 3:
    raise MissingExtraError(f'cyclr.keras needs Keras 3; got Keras {keras.__version__}. Run: pip install "keras>=3.6".')

from cyclr.keras.cycle_end import CycleEnd
from cyclr.keras.cyclic_lr import CyclicLR
from cyclr.keras.lr_finder import LRFinder
from cyclr.keras.range_test import range_test
from cyclr.keras.schedule import LearningRate, change_schedule
from cyclr.keras.schedule_callback import ScheduleCallback

__all__ = ["CycleEnd", "CyclicLR", "LRFinder", "LearningRate", "ScheduleCallback", "change_schedule", "range_test"]
