"""`CyclicLR` with the signature of torch's `CyclicLR`, computed by cyclr's schedules."""

import copy
import functools
from collections.abc import Callable
from fractions import Fraction
from numbers import Integral
from typing import Any, Literal, NamedTuple

import torch
from torch.optim import Optimizer

from cyclr import _checks, _names, _plain
from cyclr._generators import attributes
from cyclr._warn import warn
from cyclr.schedules import Constant, Cyclical, Decay, PerCycle, PerStep, Schedule
from cyclr.schedules._namespace import SCALAR
from cyclr.schedules.cyclical import Mode, decay_of_mode
from cyclr.torch import _groups, _private
from cyclr.torch.scheduler import Resumed, Scheduler, SchedulerState

_LISTS = {
    "base_lrs": "initial_lr",
    "max_lrs": None,
    "base_momentums": "base_momentum",
    "max_momentums": "max_momentum",
}
"""Settings that have a value for each group, with the entry of the group that holds the value."""


class _Setting:
    """A read-only setting with its name in torch, because the schedules of a `Scheduler` do not change."""

    def __set_name__(self, owner: Any, name: str) -> None:
        self._name = name

    def __get__(self, scheduler: Any, owner: Any = None) -> Any:
        if scheduler is None:
            return self
        try:
            return scheduler._settings[self._name]
        except KeyError:
            raise AttributeError(f"CyclicLR has {self._name} only with cycle_momentum=True.") from None

    def __set__(self, scheduler: Any, value: Any) -> None:
        raise AttributeError(
            f"{self._name} of a CyclicLR cannot be set; got {self._name}={_checks.quoted(value)}. Create a new "
            f"CyclicLR(optimizer, ..., last_epoch={scheduler.last_epoch - 1})."
        )


class CyclicLR(Scheduler):
    """`torch.optim.lr_scheduler.CyclicLR` with the same arguments and values, and without its defects.

    With c the 1-based cycle, x the triangular position and t the update, the learning rate of a group is
    `base_lr + (max_lr − base_lr) · x · scale(c or t)`. Momentum moves from max_momentum to base_momentum by the same
    factor. Differences from torch: updates are counted, not calls (see `Scheduler`); the value at every step is finite
    and exact; bounds are checked; groups created without momentum remain without; groups may be added later.

    Args:
        optimizer: any `torch.optim.Optimizer`.
        base_lr, max_lr: bounds, 0 ≤ base_lr ≤ max_lr: numbers, tensors of one element, or lists with a number for each
            parameter group.
        step_size_up, step_size_down: updates on the way up and down, ≥ 1, may be fractions; equal by default.
        mode: `"triangular"`, `"triangular2"` or `"exp_range"`; not used if scale_fn is given.
        gamma: factor per update of `"exp_range"`, in (0, 1].
        scale_fn: your own function that returns the factor of the amplitude, in [0, 1].
        scale_mode: argument of scale_fn: `"cycle"` (from 1) or `"iterations"` (from 0).
        cycle_momentum: True to cycle the momentum, or the first of `betas`, against the learning rate.
        base_momentum, max_momentum: bounds of the momentum, base_momentum ≤ max_momentum; numbers or lists as above.
        last_epoch: index of the last update of the run to continue; −1 starts a run.

    As in torch, `step(epoch)` also accepts a fraction of an epoch.

    Attributes:
        base_lrs, max_lrs, base_momentums, max_momentums: bounds, one for each parameter group.
        total_size, step_ratio: updates in a cycle, and the fraction of them on the way up.
        mode, gamma, scale_mode, cycle_momentum, use_beta1: as in torch.

    Raises:
        TypeError, ValueError: an argument is out of range, or the optimizer has no momentum to cycle.

    Example:
        >>> import torch
        >>> from cyclr.torch import CyclicLR
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
        >>> scheduler = CyclicLR(optimizer, base_lr=0.01, max_lr=0.1, step_size_up=10)
        >>> scheduler.get_last_lr()
        [0.01]

    Source: Smith 2017, arXiv:1506.01186.
    """

    base_lrs, max_lrs, use_beta1 = _Setting(), _Setting(), _Setting()
    base_momentums, max_momentums = _Setting(), _Setting()
    mode, gamma, total_size, step_ratio, scale_mode, cycle_momentum = (_Setting() for _ in range(6))
    _keeps_ratios = False
    _only_forward = False
    _resume_mode: Resumed = "saved"
    _in_fractions = False
    """True after a step to a fraction of an epoch."""

    @_names.hinted
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
        self.optimizer = _groups.unwrapped(optimizer)
        self._scale_fn = (
            scale_fn if scale_fn is None else _checks.function("scale_fn", scale_fn, "of the cycle or the step")
        )
        settings = {
            "base_lrs": base_lr,
            "max_lrs": max_lr,
            "mode": mode,
            "gamma": gamma,
            "scale_mode": _checks.choice("scale_mode", scale_mode, ("cycle", "iterations")),
            "cycle_momentum": cycle_momentum,
            "base_momentums": base_momentum,
            "max_momentums": max_momentum,
        }
        self._settings, schedules = self._planned(settings, step_size_up, step_size_down)
        last = _checks.integer("last_epoch", last_epoch, at_least=-1)
        super().__init__(optimizer, **schedules, start_step=last + 1, resume="saved")

    def _planned(self, given: dict[str, Any], up: Any, down: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the settings in torch's format, with lists for the groups, and the schedules for these settings."""
        up, down, gamma = (_groups.number(value) for value in (up, down, given["gamma"]))
        decay: Decay | None
        if self._scale_fn is None:
            decay = decay_of_mode(given["mode"], gamma)
            scale_mode = "iterations" if given["mode"] == "exp_range" else "cycle"
        else:
            scale_mode = given["scale_mode"]
            kind, argument = (PerCycle, _from_1) if scale_mode == "cycle" else (PerStep, _as_float)
            decay = kind(functools.partial(argument, self._scale_fn))
        pairs = _groups.per_group(self.optimizer, given["base_lrs"], given["max_lrs"])
        rates: list[Schedule] = [
            Constant(_checks.number("base_lr", low, at_least=0))
            if low == high
            else Cyclical.fractional(low, high, up, down, decay)
            for low, high in pairs
        ]
        wave = next(
            (rate for rate in rates if isinstance(rate, Cyclical)), Cyclical.fractional(0.0, 1.0, up, down, decay)
        )
        down = up if down is None else down
        settings = {
            "base_lrs": [float(low) for low, _ in pairs],
            "max_lrs": [float(high) for _, high in pairs],
            "total_size": float(up + down),
            "step_ratio": float(up / (up + down)),
            "mode": given["mode"],
            "gamma": gamma,
            "scale_mode": scale_mode,
            "cycle_momentum": False,
        }
        schedules = {"lr": _one_or_all(rates)}
        if not given["cycle_momentum"]:
            return settings, schedules
        if all(group.get("momentum") == 0 for group in self.optimizer.param_groups):
            warn(
                f"CyclicLR cannot cycle the momentum of {type(self.optimizer).__name__}, which was created without "
                "momentum. Pass cycle_momentum=False, or create the optimizer with momentum=0.9."
            )
            return settings, schedules
        pairs = _groups.per_group(self.optimizer, given["base_momentums"], given["max_momentums"])
        momenta = [Constant(low) if low == high else wave.mirrored(low, high) for low, high in pairs]
        settings |= {
            "cycle_momentum": True,
            "use_beta1": _groups.key(self.optimizer, "momentum")[0] == "betas",
            "base_momentums": [float(low) for low, _ in pairs],
            "max_momentums": [float(high) for _, high in pairs],
        }
        return settings, {**schedules, "momentum": _one_or_all(momenta)}

    def _read_groups(self) -> None:
        for name, entry in _LISTS.items():
            held = self._settings.get(name, [])
            # Groups that were added get the bounds of the first group.
            held += held[:1] * (len(self.optimizer.param_groups) - len(held))
            for group, value in zip(self.optimizer.param_groups, held, strict=False):
                if entry == "initial_lr":
                    # Do not overwrite it, as in torch: an earlier warm-up scheduler sets it and starts from it.
                    group.setdefault(entry, value)
                elif entry is not None:
                    group[entry] = value
        super()._read_groups()

    def _set_base_lrs(self, rates: list[float]) -> None:
        """Do nothing: in a `CyclicLR`, as in torch's, `base_lrs` are the lower bounds."""

    def scale_fn(self, x: float) -> float:
        """Return the factor of the amplitude at `x`: the cycle (from 1) or the step (from 0), see `scale_mode`."""
        if self._scale_fn is not None:
            return float(self._scale_fn(x))
        return float({"triangular": 1.0, "triangular2": 0.5 ** (x - 1), "exp_range": self.gamma**x}[self.mode])

    def _checked_step(self, name: str, step: Any) -> Any:
        """Return an int for a whole number, or a float for a fraction."""
        step = _groups.number(step)
        if isinstance(step, Integral):
            return super()._checked_step(name, step)
        between = _checks.number(name, step, at_least=0)
        return super()._checked_step(name, int(between)) if between.is_integer() else between

    def _go_to(self, step: Any) -> None:
        if isinstance(step, float) and not self._in_fractions:
            self._in_fractions = True
            self._read_groups()
        super()._go_to(step)

    def _reader(self, schedule: Schedule) -> Callable[[Schedule, Any], float]:
        return _read_fraction if self._in_fractions else super()._reader(schedule)

    def state_dict(self) -> dict[str, Any]:
        """Return the state. torch's `CyclicLR` can load it too, and `torch.load(weights_only=True)` can read it.

        From a scale_fn, it holds the attributes that are numbers, strings, tensors, or lists and dicts of these.
        """
        settings = {name: [*held] if isinstance(held, list) else held for name, held in self._settings.items()}
        held = _own_attributes(self._scale_fn).items()
        scale = copy.deepcopy({name: value for name, value in held if _is_plain(value)})
        state = _private.cyclic_lr_state(self._position, [float(lr) for lr in self.get_last_lr()], scale or None)
        return {**settings, **state, **self._state_of_groups()}

    def load_state_dict(self, state_dict: dict[str, Any], schedules: Resumed | None = None) -> None:
        """Continue at the saved step, from a state of this class or of torch's own `CyclicLR`.

        Args:
            state_dict: the dict that `state_dict` returned.
            schedules: `"saved"`: continue with the saved bounds, lengths, mode and momentum, as torch does; `"new"`:
                continue with the settings of this scheduler; `"same"`: the saved settings must equal the settings of
                this scheduler. Functions are not saved, so the scale_fn of this scheduler is used, with the saved
                attributes.

        Raises:
            ValueError: the state is not a state of a `CyclicLR`, or does not fit. Nothing is changed.
        """
        schedules = self._resume_mode if schedules is None else schedules
        _checks.choice("schedules", schedules, ("same", "new", "saved"))
        if not (isinstance(state_dict, dict) and {"step_ratio", "total_size", "max_lrs"} <= state_dict.keys()):
            super().load_state_dict(state_dict, "same" if schedules == "saved" else schedules)
            return
        saved = _entries(state_dict, _SavedSettings)
        step = self._checked_step("last_epoch", saved.last_epoch)
        # Rounded, because torch's division and multiplication leave a rounding error.
        up = round(saved.total_size * saved.step_ratio, 9)
        settings, planned = self._planned(saved._asdict(), up, round(saved.total_size - up, 9))
        if schedules == "same" and settings != self._settings:
            raise ValueError(
                f"state_dict must hold the settings of this scheduler, {_checks.quoted(self._settings)}; got "
                f"{_checks.quoted(settings)}. To continue at step {step} with the settings of this scheduler, pass "
                'schedules="new"; with the saved ones, pass schedules="saved".'
            )
        scale = _plain.read("the saved scale_fn", _private.saved_scale_fn(state_dict), dict[str, Any])
        if scale and self._scale_fn is None:
            raise ValueError(
                f"state_dict holds the attributes {_checks.quoted(sorted(scale))} of a scale_fn, but this CyclicLR has "
                "no scale_fn. Create it with scale_fn=..., an object of the same class."
            )
        checked, state = self._checked(planned, {}), _entries(state_dict, SchedulerState)
        replaces = schedules == "new" or settings != self._settings
        if schedules == "saved":
            self._settings, self._schedules = settings, checked
            self._read_groups()
        _own_attributes(self._scale_fn).update(copy.deepcopy(scale))
        self._resume(step, state, replaces, self._described())


class _SavedSettings(NamedTuple):
    """The settings in a state of this class or of torch's `CyclicLR`."""

    base_lrs: list[float]
    max_lrs: list[float]
    total_size: float
    step_ratio: float
    mode: str
    gamma: float
    cycle_momentum: bool
    last_epoch: Any
    scale_mode: Literal["cycle", "iterations"] = "cycle"
    base_momentums: list[float] = []  # noqa: RUF012
    max_momentums: list[float] = []  # noqa: RUF012


def _entries(state: dict[str, Any], kind: Any) -> Any:
    """Return the entries of a state that are fields of a named tuple."""
    return _plain.read("state_dict", {name: state[name] for name in kind._fields if name in state}, kind)


def _from_1(scale: Callable[[Any], float], cycle: Any) -> float:
    return scale(cycle + 1)


def _as_float(scale: Callable[[Any], float], step: Any) -> float:
    return scale(float(step) if isinstance(step, Fraction) else step)


def _read_fraction(schedule: Schedule, step: Any) -> float:
    """Return the value at a step that may be a fraction, which `Schedule.__call__` does not accept."""
    return float(schedule(step) if isinstance(step, int) else schedule.evaluate(SCALAR, Fraction(step)))


def _own_attributes(fn: Any) -> dict[str, Any]:
    """Return the attributes of an object or function, or an empty dict for a class such as `float`."""
    return {} if isinstance(fn, type) else attributes(fn)


def _is_plain(value: Any) -> bool:
    """Return True for data that `torch.load(weights_only=True)` can read."""
    if isinstance(value, dict | list | tuple):
        return all(map(_is_plain, [*value, *value.values()] if isinstance(value, dict) else value))
    return value is None or isinstance(value, int | float | str | torch.Tensor)


def _one_or_all(schedules: Any) -> Any:
    """Return a single schedule if all are equal, so it also applies to groups that are added later."""
    return schedules[0] if len(set(schedules)) == 1 else schedules
