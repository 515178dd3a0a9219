"""cyclr for Keras 3, on TensorFlow, JAX and torch.

Importing this module registers `LearningRate` with Keras, so that `keras.saving.load_model` can load it.
"""

from importlib.util import find_spec

from cyclr import _extras, _names
from cyclr.errors import MissingExtraError

try:
    import keras
except ImportError as error:
    installed = [name for name in ("tensorflow", "jax", "torch") if find_spec(name) is not None]
    if find_spec("keras") is not None and installed:
        # Keras imports TensorFlow unless another backend is set.
        raise MissingExtraError(
            f"cyclr.keras needs the backend that Keras is set to; Keras reports: {error}. Installed: "
            f"{', '.join(installed)}. Set the environment variable KERAS_BACKEND={installed[0]} before Python starts."
        ) from error
    raise MissingExtraError(
        'cyclr.keras needs Keras 3 and a backend. Install one of them: pip install "cyclr[tensorflow]", '
        'pip install "cyclr[jax]" or pip install "cyclr[torch]".'
    ) from error
else:
    # Older versions may train at wrong rates without an error: in 3.7 and 3.8, loss scaling does not move the counter.
    _extras.check("cyclr.keras needs", "keras", *_extras.LOWEST.keys() & {keras.backend.backend()})

from cyclr.keras.auto_cycle import AutoCycle
from cyclr.keras.average import average
from cyclr.keras.cycle_end import CycleEnd
from cyclr.keras.cyclic_lr import CyclicLR
from cyclr.keras.ensemble import Ensemble, ensemble
from cyclr.keras.lr_finder import LRFinder
from cyclr.keras.range_test import range_test
from cyclr.keras.schedule import LearningRate, change_schedule
from cyclr.keras.schedule_callback import ScheduleCallback
from cyclr.keras.snapshots import Snapshots

__all__ = [
    "AutoCycle",
    "CycleEnd",
    "CyclicLR",
    "Ensemble",
    "LRFinder",
    "LearningRate",
    "ScheduleCallback",
    "Snapshots",
    "average",
    "change_schedule",
    "ensemble",
    "range_test",
]

_names.Package.adopt(__name__)
