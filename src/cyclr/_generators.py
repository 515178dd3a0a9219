"""Random number generators: seeded before a range test or a trial, and restored after a range test."""

import random
import sys
from typing import Any

import numpy as np

_EPOCHS = ("iteration", "epoch")
"""Attributes in which samplers and Accelerate's loaders keep the epoch number that determines the order of the data."""


def seed_all(seed: int, data: Any = None) -> None:
    """Seed the generators of Python, NumPy, torch (if it is loaded) and of the loaders and samplers in `data`.

    Samplers whose order depends on the epoch number are moved `seed` epochs ahead.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch = sys.modules.get("torch")
    if torch is not None:
        # Without an accelerator, each `torch.manual_seed` would queue a seed for a later one, with a stack trace.
        seeds_all = torch.accelerator.is_available()
        (torch.manual_seed if seeds_all else torch.default_generator.manual_seed)(seed % 2**64)
    for generator in _generators(torch, data):
        generator.manual_seed(seed % 2**64)
    # The set_epoch of a loader may also set the epoch of its sampler, so all epochs are read first.
    counting = [(part, attributes(part)) for part in loaders(data) if hasattr(part, "set_epoch")]
    epochs = [(part, own[name]) for part, own in counting for name in _EPOCHS if isinstance(own.get(name), int)]
    for part, epoch in epochs:
        part.set_epoch(epoch + seed)


class Generators:
    """A copy of the state of all generators that `seed_all` seeds, and of the epoch numbers of samplers.

    If torch is loaded, the copy includes the generators of its accelerator, on every device.
    """

    def __init__(self, data: Any = None) -> None:
        self._torch: Any = sys.modules.get("torch")
        self._of_data = [(generator, generator.get_state()) for generator in _generators(self._torch, data)]
        self._epochs = [
            (own, {name: own[name] for name in _EPOCHS if name in own}) for own in map(attributes, loaders(data))
        ]
        self._python = random.getstate()
        self._numpy = np.random.get_state()
        if self._torch is not None:
            self._cpu = self._torch.get_rng_state()
            accelerator, available = self._torch.accelerator, self._torch.accelerator.is_available()
            self._accelerator = self._torch.get_device_module(accelerator.current_accelerator()) if available else None
            # MPS is one device, and its module has no function for all devices.
            self._all = "_all" if hasattr(self._accelerator, "get_rng_state_all") else ""
            if self._accelerator is not None:
                self._devices = getattr(self._accelerator, f"get_rng_state{self._all}")()

    def restore(self) -> None:
        """Restore the copied states."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        for own, epochs in self._epochs:
            own.update(epochs)
        for generator, state in self._of_data:
            generator.set_state(state)
        if self._torch is not None:
            self._torch.set_rng_state(self._cpu)
            if self._accelerator is not None:
                getattr(self._accelerator, f"set_rng_state{self._all}")(self._devices)


def loaders(data: Any) -> list[Any]:
    """Return `data` and all loaders and samplers within it, each once.

    This includes loaders and samplers in wrappers: Accelerate's `base_dataloader`, skippable batch samplers and
    combined loaders.
    """
    found: dict[int, Any] = {}
    pending = [data]
    while pending:
        part = pending.pop(0)
        if part is not None and id(part) not in found:
            found[id(part)] = part
            pending += [getattr(part, name, None) for name in ("base_dataloader", "batch_sampler", "sampler")]
            combined = getattr(part, "loaders", None)
            pending += combined if isinstance(combined, list | tuple) else ()
    return list(found.values())


def attributes(part: Any) -> dict[str, Any]:
    """Return the object's `__dict__`, because wrappers may forward `getattr` and `setattr` to the wrapped object."""
    own: dict[str, Any] = getattr(part, "__dict__", {})
    return own


def _generators(torch: Any, data: Any) -> list[Any]:
    """Return the torch generators of loaders and samplers, each once."""
    if torch is None:
        return []
    held = [getattr(part, "generator", None) for part in loaders(data)]
    return list({id(generator): generator for generator in held if isinstance(generator, torch.Generator)}.values())
