"""The random number generators of Keras and TensorFlow, beside those of `cyclr._generators`."""

import sys
from typing import Any

from cyclr import _generators
from cyclr.keras import _private


class Generators(_generators.Generators):
    """A copy of the state of the generators of Keras and of TensorFlow (if it is loaded), and of all others.

    Generators that belong to layers are variables of the model; `TrainingState` holds those.

    Args:
        data: the training data: a torch `DataLoader`, or anything else.
    """

    def __init__(self, data: Any = None) -> None:
        super().__init__(data)
        self._keras = _private.keras_generators()
        self._tensorflow = _private.tensorflow_generators()

    def restore(self) -> None:
        """Restore the copied states."""
        super().restore()
        _private.set_keras_generators(*self._keras)
        _private.set_tensorflow_generators(self._tensorflow)


def seed_all(seed: int, data: Any = None) -> None:
    """Seed the same generators. Unlike `keras.utils.set_random_seed` it does not import TensorFlow."""
    _generators.seed_all(seed, data)
    _private.set_keras_generators({"global_random_seed": seed, "global_seed_generator": None})
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None:
        tensorflow.random.set_seed(seed)
