"""The state of every random number generator that training may draw from."""

import random
import sys
from typing import Any

import keras
import numpy as np

# Keras offers no public way to read the generator that unseeded `keras.random` calls share.
from keras.src.backend.common import global_state

_KERAS_NAMES = ("global_seed_generator", "global_random_seed")


class RandomState:
    """The generators of Python, NumPy, Keras, and of TensorFlow and torch where they are loaded.

    Generators that belong to layers are variables of the model; `Snapshot` holds those.

    Args:
        data: what is trained on; if it is a torch `DataLoader`, its own generators are among them.
    """

    def __init__(self, data: Any = None) -> None:
        self._loader = [(generator, generator.get_state()) for generator in _generators_of(data)]
        self._python = random.getstate()
        self._numpy = np.random.get_state()
        self._keras = {name: global_state.get_global_attribute(name) for name in _KERAS_NAMES}
        generator = self._keras["global_seed_generator"]
        self._keras_state = None if generator is None else np.array(keras.ops.convert_to_numpy(generator.state))
        self._tensorflow = _tensorflow_state()
        torch = sys.modules.get("torch")
        self._torch = None if torch is None else torch.get_rng_state()
        self._cuda = None if torch is None or not torch.cuda.is_available() else torch.cuda.get_rng_state_all()

    def restore(self) -> None:
        """Put every generator back to where it was."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        for name, value in self._keras.items():
            global_state.set_global_attribute(name, value)
        if self._keras_state is not None:
            self._keras["global_seed_generator"].state.assign(self._keras_state)
        _restore_tensorflow(self._tensorflow)
        torch = sys.modules.get("torch")
        if torch is not None and self._torch is not None:
            torch.set_rng_state(self._torch)
        if torch is not None and self._cuda is not None:
            torch.cuda.set_rng_state_all(self._cuda)
        for generator, state in self._loader:
            generator.set_state(state)


def seed_all(seed: int, data: Any = None) -> None:
    """Seed the same generators. Unlike `keras.utils.set_random_seed` it does not import TensorFlow for it."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    global_state.set_global_attribute("global_random_seed", seed)
    global_state.set_global_attribute("global_seed_generator", None)
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None:
        tensorflow.random.set_seed(seed)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed % 2**64)
    for generator in _generators_of(data):
        generator.manual_seed(seed % 2**64)


def _generators_of(data: Any) -> list[Any]:
    """The torch generators of a `DataLoader` and its samplers, which may hold one another."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(data, torch.utils.data.DataLoader):
        return []
    parts = [data]
    for part in parts:
        held = (getattr(part, name, None) for name in ("sampler", "batch_sampler"))
        parts += [sampler for sampler in held if sampler is not None and all(sampler is not other for other in parts)]
    generators = (getattr(part, "generator", None) for part in parts)
    unique = {id(generator): generator for generator in generators if isinstance(generator, torch.Generator)}
    return list(unique.values())


def _tensorflow_state() -> tuple[int | None, Any] | None:
    if "tensorflow" not in sys.modules:
        return None
    from tensorflow.python.eager import context

    # The stream of seeds for operations without one: TensorFlow can set it publicly, but not read it.
    generator = getattr(context.context(), "_rng", None)
    return context.global_seed(), None if generator is None else generator.getstate()


def _restore_tensorflow(state: tuple[int | None, Any] | None) -> None:
    if state is None:
        return
    from tensorflow.python.eager import context

    seed, stream = state
    context.set_global_seed(seed)
    if stream is not None:
        context.context()._rng.setstate(stream)
