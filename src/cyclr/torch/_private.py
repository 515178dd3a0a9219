"""Private names of torch and Accelerate. Each is used in one function, which gives the reason."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from cyclr._generators import attributes


def runs_hooks(optimizer: Optimizer) -> bool:
    """Return True if the optimizer's `step()` calls hooks.

    Wrappers that do not call `Optimizer.__init__`, such as Accelerate's, have no hooks. No public attribute shows this.
    """
    return hasattr(optimizer, "_optimizer_step_post_hooks") and hasattr(
        optimizer, "_optimizer_load_state_dict_pre_hooks"
    )


def wrapped(model: torch.nn.Module) -> torch.nn.Module:
    """Return the model inside torch's wrappers for several devices and `torch.compile`, which stores it privately."""
    within: Any = getattr(model, "_orig_mod", None)
    if isinstance(model, torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel):
        within = model.module
    return model if within is None else wrapped(within)


def steps_itself(optimizer: Any) -> bool:
    """Return True if the class has its own `step()` that updates. False for Accelerate's wrapper.

    Accelerate's wrapper steps only if Accelerate's state says that the gradients are complete.
    """
    kind = type(optimizer)
    return kind.step is not Optimizer.step and kind.__module__.partition(".")[0] != "accelerate"


def update_hooks(optimizer: Any) -> tuple[dict[int, Any], dict[int, Any]]:
    """Return the dicts of the hooks before and after an update, to remove some hooks temporarily.

    A handle can remove a hook, but cannot restore it at its position.
    """
    return optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks


def has_torch_scheduler(optimizer: Any) -> bool:
    """Return True if one of torch's own schedulers was created with this optimizer: it wraps `optimizer.step`.

    torch has no public way to find the schedulers of an optimizer.
    """
    return hasattr(optimizer.step, "_wrapped_by_lr_sched")


def versions(optimizer: Any) -> dict[int, int]:
    """Return by id a version number for the first parameter of each group, which grows when it is changed in place.

    Updates of fused optimizers do not change the version number.
    """
    firsts = [group["params"][0] for group in optimizer.param_groups if group["params"]]
    return {id(parameter): parameter._version for parameter in firsts}


def update_counter(counts: list[int]) -> Callable[[Any, Any, Any], None]:
    """Return a hook that adds 1 to the first of `counts` after each update, unless loss scaling skips the update.

    If `GradScaler` skips an update of a fused optimizer, it still calls `step()`, and sets `found_inf` for the kernel.
    """

    def count(optimizer: Any, args: Any, kwargs: Any) -> None:
        found = getattr(optimizer, "found_inf", None)
        if found is None or not found:
            counts[0] += 1

    return count


def buffers(module: torch.nn.Module) -> dict[str, torch.Tensor | None]:
    """Return the dict of a module's buffers, to restore it in place.

    `named_buffers` leaves out buffers that are None, and cannot set a buffer.
    """
    held: dict[str, torch.Tensor | None] = module._buffers
    return held


def scaler_stages(scaler: Any) -> dict[Any, Any]:
    """Return the dict of the stages of a `GradScaler` by optimizer. Empty if the scaler is disabled.

    `state_dict` of the scaler leaves stages out. A stage that remains from another update raises an error in the next.
    """
    stages: dict[Any, Any] = getattr(scaler, "_per_optimizer_states", {})
    return stages


def cyclic_lr_state(step: float, rates: list[float], scale_fn: dict[str, Any] | None) -> dict[str, Any]:
    """Return the step, the rates and the attributes of a scale_fn, with the names that torch's `CyclicLR` loads.

    torch's `CyclicLR` sets them as attributes without a check, so a state must hold all that it reads.
    """
    return {
        "last_epoch": step,
        "_step_count": int(step) + 1,
        "_last_lr": rates,
        "_is_initial": False,
        "_get_lr_called_within_step": False,
        "_scale_fn_custom": scale_fn,
    }


def saved_scale_fn(state: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of a callable object in a state of `CyclicLR`."""
    return state.get("_scale_fn_custom") or {}


def detach_iterator(loader: Any) -> Callable[[], None]:
    """Remove the iterator from a `DataLoader` with persistent workers, and return the function that restores it.

    Until then, the loader creates another iterator with other workers. torch has no public way to keep an iterator.
    """
    own = attributes(loader)
    if not (isinstance(loader, torch.utils.data.DataLoader) and own.get("persistent_workers")):
        return lambda: None
    iterator, own["_iterator"] = own.get("_iterator"), None
    return lambda: own.update(_iterator=iterator)


def copy_progress(loader: Any) -> Callable[[], None]:
    """Copy the position of a loader of Accelerate, and return the function that restores it.

    These attributes are undocumented. With them, Accelerate decides when gradients are exchanged and rows are padding.
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

    All loaders of Accelerate have the methods `state_dict` and `load_state_dict`. Only stateful loaders have the
    attribute that these methods use.
    """
    if "base_dataloader" in attributes(loader):
        return "dl_state_dict" in attributes(loader)
    return hasattr(loader, "state_dict") and hasattr(loader, "load_state_dict")


class TorchScheduler(LRScheduler):  # type: ignore[misc]
    """Private names with which torch's schedulers and wrappers read and call other schedulers.

    The constructor of torch's class is not called, because it wraps `optimizer.step` and takes a first step.
    """

    # Accelerate's wrapper increases it.
    _step_count = 0

    @property
    def _last_lr(self) -> list[float | Any]:
        """The learning rates, for `ChainedScheduler` and for code written for old versions of torch."""
        return list(self.get_last_lr())

    def _update_lr(self, epoch: int | None = None) -> None:
        """Take a first step. `SequentialLR` calls this method to start each of its schedulers."""
        self.step(epoch)


def batch_norms(model: torch.nn.Module) -> list[Any]:
    """Return the layers of batch normalization with running statistics. Their base class is private in torch."""
    kind = torch.nn.modules.batchnorm._BatchNorm
    return [part for part in model.modules() if isinstance(part, kind) and part.running_mean is not None]


def needs_closure(optimizer: Any) -> bool:
    """Return True if `step` has a closure argument without a default. Hooks of torch wrap `step` and keep this."""
    arguments = inspect.signature(type(optimizer).step).parameters
    return "closure" in arguments and arguments["closure"].default is inspect.Parameter.empty
