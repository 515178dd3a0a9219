"""Private and undocumented names of torch and Accelerate: each in one function, with the reason why it is needed."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from cyclr._generators import attributes


def runs_hooks(optimizer: Optimizer) -> bool:
    """Return True if the optimizer's `step()` calls hooks.

    Wrappers that do not call `Optimizer.__init__`, such as Accelerate's, have no hooks and no public way to say so.
    """
    return hasattr(optimizer, "_optimizer_step_post_hooks")


def skips_update(optimizer: Any) -> bool:
    """Return True if loss scaling makes a fused optimizer skip the update that is running.

    `GradScaler` calls its `step()` all the same, and sets this attribute for the kernel to read.
    """
    found = getattr(optimizer, "found_inf", None)
    return found is not None and bool(found)


def buffers(module: torch.nn.Module) -> dict[str, torch.Tensor | None]:
    """Return the dict of a module's buffers, to restore it in place.

    `named_buffers` leaves out buffers that are None, and gives no way to set one.
    """
    held: dict[str, torch.Tensor | None] = module._buffers
    return held


def scaler_stages(scaler: Any) -> dict[Any, Any]:
    """Return the dict of how far a `GradScaler` is with each optimizer, empty if the scaler is disabled.

    Its `state_dict` leaves this out, and a stage that is left from another update makes the next one an error.
    """
    stages: dict[Any, Any] = getattr(scaler, "_per_optimizer_states", {})
    return stages


def detach_iterator(loader: Any) -> Callable[[], None]:
    """Take the iterator from a `DataLoader` with persistent workers, and return the function that restores it.

    Until then the loader makes another iterator, with other workers. torch has no public way to keep one.
    """
    own = attributes(loader)
    if not (isinstance(loader, torch.utils.data.DataLoader) and own.get("persistent_workers")):
        return lambda: None
    iterator, own["_iterator"] = own.get("_iterator"), None
    return lambda: own.update(_iterator=iterator)


def copy_progress(loader: Any) -> Callable[[], None]:
    """Copy how far one of Accelerate's loaders is read, and return the function that restores it.

    These attributes are undocumented. Accelerate reads them to tell when gradients are exchanged and rows are padding.
    """
    own = attributes(loader)
    ends: dict[str, Any] = {name: own[name] for name in ("end_of_dataloader", "remainder") if name in own}
    gradients: Any = own.get("gradient_state")
    references = list(getattr(gradients, "dataloader_references", ()))

    def restore() -> None:
        own.update(ends)
        if hasattr(gradients, "dataloader_references"):
            gradients.dataloader_references = references

    return restore


def keeps_state(loader: Any) -> bool:
    """Return True if a loader has a state to save and load.

    All loaders of Accelerate have the methods. Only stateful loaders have the attribute that the methods return.
    """
    if "base_dataloader" in attributes(loader):
        return "dl_state_dict" in attributes(loader)
    return hasattr(loader, "state_dict") and hasattr(loader, "load_state_dict")


class TorchScheduler(LRScheduler):  # type: ignore[misc]
    """Private names by which code around torch's schedulers reads and drives each of them.

    The constructor of torch's class is not called: it wraps `optimizer.step` and takes a first step.
    """

    # Accelerate's wrapper adds to it.
    _step_count = 0

    @property
    def _last_lr(self) -> list[float | Any]:
        """The learning rates as `ChainedScheduler`, and code written for old versions of torch, reads them."""
        return list(self.get_last_lr())

    def _update_lr(self, epoch: int | None = None) -> None:
        """Take a first step: `SequentialLR` starts each of its schedulers by this method."""
        self.step(epoch)
