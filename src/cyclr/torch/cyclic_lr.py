"""`CyclicLR` with the signature of torch's, on cyclr's schedules."""

import functools
import warnings
from collections.abc import Callable
from typing import Any, Literal

from torch.optim import Optimizer

from cyclr import _checks
from cyclr.schedules import Constant, Cyclical, Decay, PerCycle, PerStep, Schedule
from cyclr.schedules.cyclical import Mode, decay_of_mode
from cyclr.torch import _groups
from cyclr.torch.scheduler import Resumed, Scheduler


class CyclicLR(Scheduler):
    """`torch.optim.lr_scheduler.CyclicLR` with the same arguments and values, and without its defects.

    With c the 1-based cycle, x the triangular position and t the update, the learning rate of a group is
    `base_lr + (max_lr − base_lr) · x · scale(c or t)`, and its momentum goes from max_momentum to base_momentum by the
    same factor. Unlike torch's, it counts updates, not calls (see `Scheduler`); every step is finite and exact; bounds
    are checked; an optimizer created without momentum stays without; and groups may be added later.

    Args:
        optimizer: any `torch.optim.Optimizer`.
        base_lr, max_lr: bounds, 0 ≤ base_lr < max_lr; numbers, or lists of one for every parameter group.
        step_size_up, step_size_down: updates on the way up and down, ≥ 1, may be fractions; equal by default.
        mode: `"triangular"`, `"triangular2"` or `"exp_range"`; not used if scale_fn is given.
        gamma: factor per update of `"exp_range"`, in (0, 1].
        scale_fn: function of your own that returns the factor of the amplitude, in [0, 1].
        scale_mode: the argument of scale_fn: `"cycle"` (from 1) or `"iterations"` (from 0).
        cycle_momentum: cycle the momentum, or the first of `betas`, against the rate.
        base_momentum, max_momentum: bounds of the momentum, base_momentum ≤ max_momentum; numbers or lists as above.
        last_epoch: index of the last update of the run to continue; −1 starts a run.

    Raises:
        TypeError, ValueError: an argument out of range, or an optimizer without a momentum to cycle.

    Example:
        >>> import torch
        >>> from cyclr.torch import CyclicLR
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
        >>> scheduler = CyclicLR(optimizer, base_lr=0.01, max_lr=0.1, step_size_up=10)
        >>> scheduler.get_last_lr()
        [0.01]

    Source: Smith 2017, arXiv:1506.01186.
    """

    _keeps_ratios = False

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: float = 2000,
        step_size_down: float | None = None,
        mode: Mode = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[Any], float] | None = None,
        scale_mode: Literal["cycle", "iterations"] = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float = 0.8,
        max_momentum: float = 0.9,
        last_epoch: int = -1,
    ) -> None:
        optimizer = _groups.unwrapped(optimizer)
        self._scale_fn, self._scale_mode = scale_fn, _checks.choice("scale_mode", scale_mode, ("cycle", "iterations"))
        bounds = _per_group(optimizer, base_lr, max_lr)
        decay = self._decay(mode, gamma)
        rates = [Cyclical.fractional(low, high, step_size_up, step_size_down, decay) for low, high in bounds]
        momenta = _momenta(optimizer, rates[0], base_momentum, max_momentum) if cycle_momentum else None
        last = _checks.integer("last_epoch", last_epoch, at_least=-1)
        for group, (low, _) in zip(optimizer.param_groups, bounds, strict=True):
            # As in torch's.
            group["initial_lr"] = low
        super().__init__(optimizer, _one_or_all(rates), momenta, start_step=last + 1)

    def _decay(self, mode: Mode, gamma: float) -> Decay | None:
        if self._scale_fn is None:
            return decay_of_mode(mode, gamma)
        _checks.function("scale_fn", self._scale_fn, "of the cycle or the step")
        if self._scale_mode == "cycle":
            return PerCycle(functools.partial(_one_based, self._scale_fn))
        return PerStep(self._scale_fn)

    def load_state_dict(self, state_dict: dict[str, Any], schedules: Resumed = "same") -> None:
        """Continue at the saved step, as `Scheduler.load_state_dict`, also from a state of torch's own `CyclicLR`.

        A state of torch's replaces bounds, lengths, mode and momentum, as it does in torch, but holds no scale_fn.
        """
        if not (isinstance(state_dict, dict) and {"step_ratio", "total_size", "max_lrs"} <= state_dict.keys()):
            super().load_state_dict(state_dict, schedules)
            return
        step = _checks.integer("last_epoch", state_dict["last_epoch"], at_least=0)
        up = state_dict["total_size"] * state_dict["step_ratio"]
        down = state_dict["total_size"] - up
        decay = self._decay(state_dict["mode"], state_dict["gamma"])
        bounds = list(zip(state_dict["base_lrs"], state_dict["max_lrs"], strict=True))
        rates = [Cyclical.fractional(low, high, _whole(up), _whole(down), decay) for low, high in bounds]
        momenta = None
        if state_dict["cycle_momentum"]:
            momenta = _momenta(self.optimizer, rates[0], state_dict["base_momentums"], state_dict["max_momentums"])
        self._set_schedules(_one_or_all(rates), momenta, None)
        self.step(step)


def _one_based(scale: Callable[[Any], float], cycle: Any) -> float:
    """Return the factor of a cycle that is counted from 0."""
    return scale(cycle + 1)


def _per_group(optimizer: Optimizer, *values: Any) -> list[tuple[Any, ...]]:
    """Return a tuple for each group from numbers, or lists with a number for each group."""
    groups = len(optimizer.param_groups)
    lists = [list(value) if isinstance(value, list | tuple) else [value] * groups for value in values]
    if any(len(held) != groups for held in lists):
        lengths = ", ".join(str(len(held)) for held in lists)
        raise ValueError(f"lists must hold a value for each of the {groups} parameter groups; got lengths {lengths}.")
    return list(zip(*lists, strict=True))


def _momenta(optimizer: Optimizer, rate: Cyclical, base: Any, top: Any) -> Any:
    """Return the momentum of all groups or of each, or None for an optimizer created without momentum."""
    if all(group.get("momentum") == 0 for group in optimizer.param_groups):
        warnings.warn(
            f"CyclicLR leaves {type(optimizer).__name__} without momentum, because it was created without; pass "
            "cycle_momentum=False, or create it with momentum=0.9.",
            stacklevel=3,
        )
        return None
    momenta: list[Schedule] = [
        Constant(low) if low == high else rate.mirrored(low, high) for low, high in _per_group(optimizer, base, top)
    ]
    _groups.key(optimizer, "momentum")
    return _one_or_all(momenta)


def _one_or_all(schedules: Any) -> Any:
    """Return one schedule if all are equal: it then also holds for groups that are added later."""
    return schedules[0] if len(set(schedules)) == 1 else schedules


def _whole(length: float) -> float:
    """Return a length without the rounding of torch's division and multiplication."""
    return round(length) if abs(length - round(length)) < 1e-6 else length
