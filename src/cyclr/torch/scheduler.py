"""Schedules attached to a torch optimizer."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch.optim import Optimizer

from cyclr import _checks
from cyclr.errors import ScheduleError
from cyclr.schedules import Schedule
from cyclr.torch import _groups, _hooks, _private

FORMAT_VERSION = 1

IDLE_CALLS = 1000
"""Calls of `step()` before the first update, after which there is a warning."""

Resumed = Literal["same", "new", "saved"]


class _Track(NamedTuple):
    """A schedule of one hyperparameter: where groups hold it, and the groups with their shares of the value."""

    key: str
    place: int
    read: Callable[[Schedule, Any], float]
    schedule: Schedule
    shares: list[tuple[dict[str, Any], float]]


class Scheduler(_private.TorchScheduler):
    """Schedules of a torch optimizer's hyperparameters; an `LRScheduler` like torch's own.

    Update t of the optimizer uses `lr(t)`. Call `step()` after every `optimizer.step()`, as usual. It counts the
    optimizer's updates, not its own calls: an update that `GradScaler` skips does not advance the schedule, a call
    after every micro-batch or in every process changes nothing, and update 0 uses `lr(0)` whatever changed the
    optimizer before.

    With one schedule, the first parameter group follows it and the others keep the ratios of their learning rates to
    the first, also groups that are added later. A group with an `lr_scale`, as timm and `layer_groups` make it, gets
    `lr(t) · lr_scale` instead. Weight decay keeps its ratios too, so a group without weight decay stays without. A
    hyperparameter that is a tensor is filled in place, so compiled and capturable steps see it.

    Args:
        optimizer: any `torch.optim.Optimizer`; of Accelerate's wrapper, the one within.
        lr: schedule of the learning rate, or one for each parameter group.
        momentum: schedule of `momentum` (SGD, RMSprop), the first of `betas` (Adam and others) or `rho` (Adadelta), or
            one for each parameter group; < 1.
        weight_decay: schedule of the weight decay.
        entries: schedules of other numbers in the groups, by name, such as `{"dampening": schedule}`; `"beta2"` is the
            second of `betas`, < 1. A list has one for each parameter group.
        start_step: step of the schedules that the next update takes, ≥ 0.
        counts: `"updates"`, or `"calls"` of `step()`, for an optimizer whose updates run no hooks, such as a replayed
            CUDA graph. If `step()` is called and no update is ever seen, there is a warning.
        last_epoch: start_step − 1, under the name that torch's schedulers give it, for code that passes it.

    Raises:
        TypeError, ValueError: an argument of another type or out of range; a list with another number of schedules than
            groups; an optimizer without the hyperparameter; a momentum or beta of 1 or more.
        ScheduleError: the largest value of a momentum schedule of your own is not known.

    Example:
        >>> import cyclr, torch
        >>> from cyclr.torch import Scheduler
        >>> weight = torch.nn.Parameter(torch.tensor([1.0]))
        >>> optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
        >>> cycle = cyclr.Cyclical(0.25, 0.75, step_size=2)
        >>> scheduler = Scheduler(optimizer, lr=cycle, momentum=cycle.mirrored(0.8, 0.9))
        >>> used = []
        >>> for _ in range(4):
        ...     weight.sum().backward()
        ...     used.append(optimizer.param_groups[0]["lr"])
        ...     optimizer.step()
        ...     scheduler.step()
        >>> used
        [0.25, 0.5, 0.75, 0.5]
    """

    _keeps_ratios = True
    _idle_calls = 0

    def __init__(
        self,
        optimizer: Optimizer,
        lr: Schedule | Sequence[Schedule] | None = None,
        momentum: Schedule | Sequence[Schedule] | None = None,
        weight_decay: Schedule | None = None,
        *,
        entries: Mapping[str, Schedule | Sequence[Schedule]] | None = None,
        start_step: int = 0,
        counts: Literal["updates", "calls"] = "updates",
        last_epoch: int = -1,
    ) -> None:
        self.optimizer = optimizer = _groups.unwrapped(optimizer)
        if not isinstance(entries or {}, Mapping):
            raise TypeError(f"entries must be a dict of schedules by name; got entries={_checks.quoted(entries)}.")
        self._counts_calls = _checks.choice("counts", counts, ("updates", "calls")) == "calls"
        self._counts = [0, 0]
        """The updates that the optimizer made, and its number of groups when they were last read."""
        last = _checks.integer("last_epoch", last_epoch, at_least=-1)
        self._offset: Any = _checks.integer("start_step", start_step, at_least=0) if last == -1 else last + 1
        self._in_sequence = False
        self._schedules = self._checked({"lr": lr, "momentum": momentum, "weight_decay": weight_decay}, entries or {})
        self._read_groups()
        self._attach()
        self._set_to(self._offset)

    def _attach(self) -> None:
        """Register the hooks; the optimizer does not keep this scheduler alive."""
        around_load = Scheduler._before_load, Scheduler._after_load
        _hooks.attach(self, self._counts, Scheduler._set_added_groups, around_load)

    def _set_added_groups(self) -> None:
        """Before an update: set the rates of groups that were added since the last `step()`."""
        # A list of schedules has none for them: the next `step()` raises.
        if all(len(schedules) == 1 for *_, schedules in self._schedules.values()) and self._owns_rates():
            self._set_to(self._last_step)

    def _before_load(self) -> bool:
        """Before the optimizer's state is loaded: return True if the rates are then set again.

        In a `SequentialLR`, that state holds the rates of the scheduler whose turn it was.
        """
        return not self._in_sequence and self._owns_rates()

    def _after_load(self, reapply: bool) -> None:
        """Set the rates again that an older state of the optimizer replaced, and the values that ratios come from."""
        groups = self.optimizer.param_groups
        for name in self._initial.keys() & self._schedules.keys():
            for group, value in zip(groups, self._initial[name], strict=False):
                group[f"initial_{name}"] = value if reapply else group.get(f"initial_{name}", value)
        if reapply:
            self._set_to(self._last_step)

    def _checked(
        self, arguments: dict[str, Any], entries: Mapping[str, Any]
    ) -> dict[str, tuple[str, int, tuple[Schedule, ...]]]:
        """Return the schedules of hyperparameters by name, each with the place where the groups hold it."""
        checked: dict[str, tuple[str, int, tuple[Schedule, ...]]] = {}
        # An illegal `lr_scale` is an error before anything is changed.
        _groups.rate_shares(self.optimizer.param_groups)
        for name, value in [*arguments.items(), *entries.items()]:
            schedules = _schedules(name, value, len(self.optimizer.param_groups))
            if name in entries:
                taken = [key for key, _, _ in checked.values()]
                legal = [entry for entry in _groups.entries(self.optimizer) if entry not in taken]
                _checks.choice("entries", name, legal)
            for schedule in schedules if name in ("momentum", "beta2") else ():
                try:
                    largest = schedule.largest
                except ScheduleError as error:
                    raise ScheduleError(f"{name} must stay below 1, but {error}") from error
                if largest >= 1:
                    raise ValueError(f"{name} must stay below 1; got {schedule!r}, which reaches {largest}.")
            if schedules:
                checked[name] = *_groups.key(self.optimizer, name), schedules
        return checked

    def _read_groups(self) -> None:
        """Share the schedules' values out to the groups, again if groups were added or replaced."""
        self._groups = groups = self.optimizer.param_groups
        for name, (_, _, schedules) in self._schedules.items():
            if len(schedules) not in (1, len(groups)):
                raise ValueError(
                    f"{name} must hold a schedule for every parameter group; got {len(schedules)} schedules, and the "
                    f"optimizer has {len(groups)} groups now. Make a new Scheduler(optimizer, {name}=[...], "
                    "start_step=...)."
                )
        _groups.separate_rates(groups)
        self._counts[1] = len(groups)
        self._initial: dict[str, list[float]] = {
            name: [float(group.setdefault(f"initial_{name}", float(group[name]))) for group in groups]
            for name in ("lr", "weight_decay")
            if name == "lr" or name in self._schedules
        }
        self.base_lrs = self._initial["lr"]
        self._tracks: list[_Track] = []
        for name, (key, place, schedules) in self._schedules.items():
            one = len(schedules) == 1
            shares = [1.0] * len(groups)
            if name == "lr":
                shares = _groups.rate_shares(groups, keep_ratios=one and self._keeps_ratios)
            elif name == "weight_decay":
                shares = _groups.ratios(self._initial[name])
            pairs = list(zip(groups, shares, strict=True))
            parts = [pairs] if one else [[pair] for pair in pairs]
            for schedule, part in zip(schedules, parts, strict=True):
                self._tracks.append(_Track(key, place, self._reader(schedule), schedule, part))

    def _reader(self, schedule: Schedule) -> Callable[[Schedule, Any], float]:
        return _private.reader(schedule)

    @property
    def last_epoch(self) -> Any:
        """The step whose values the groups hold, a number of updates. torch chose the name."""
        return self._last_step

    @last_epoch.setter
    def last_epoch(self, step: int) -> None:
        # SequentialLR takes the first step of its schedulers back by this. Ignite's wrapper moves it forward.
        was_pending, self._last_step = self._pending, step
        self._in_sequence = self._pending or (self._in_sequence and not was_pending)

    @property
    def _pending(self) -> bool:
        return bool(self._last_step < max(self._offset, 0))

    @property
    def _position(self) -> Any:
        """The step of the next update, also if `step()` is yet to be called, or while pending."""
        return max(self._last_step, self._offset, 0) if self._counts_calls else self._counts[0] + self._offset

    def step(self, epoch: int | None = None) -> None:
        """Set the values that the next update uses. Call it after `optimizer.step()`.

        Args:
            epoch: the step to go to, a number of updates. torch chose the name.
        """
        if epoch is not None:
            self._go_to(self._checked_step("epoch", epoch))
            return
        step = self._last_step + 1 if self._counts_calls else self._counts[0] + self._offset
        if step != self._last_step or self._counts[1] != len(self.optimizer.param_groups):
            self._set_to(step)
        elif self._counts[0] == 0 and _hooks.counts_updates(self.optimizer):
            self._idle_calls += 1
            if self._idle_calls == IDLE_CALLS:
                warnings.warn(
                    f"step() of {type(self).__name__} was called {IDLE_CALLS} times, and no update of "
                    f"{type(self.optimizer).__name__} was seen: the learning rate stands still, unless you accumulate "
                    "over more batches than that. Updates are counted, not calls; if they run no hooks, create a "
                    'Scheduler(..., counts="calls"). To draw a schedule, call it: schedule(step).',
                    stacklevel=2,
                )

    def _checked_step(self, name: str, step: Any) -> Any:
        return _checks.integer(name, step, at_least=0)

    def _go_to(self, step: Any) -> None:
        self._set_to(step)
        self._offset = step - self._counts[0]

    def _set_to(self, step: Any) -> None:
        groups = self.optimizer.param_groups
        if groups is not self._groups or len(groups) != self._counts[1]:
            self._read_groups()
        self._last_step = step
        # A training loop pays for this in every update, so a float is set without a call.
        for key, place, read, schedule, shares in self._tracks:
            value = read(schedule, step)
            for group, share in shares:
                if type(group[key]) is float:
                    group[key] = value * share
                else:
                    _groups.assign(group, key, value * share, place)

    def get_last_lr(self) -> list[float | Any]:
        """Return the learning rates that the next update uses, one for each parameter group."""
        rates = (group["lr"] for group in self.optimizer.param_groups)
        return [lr.clone() if isinstance(lr, torch.Tensor) else lr for lr in rates]

    def get_lr(self) -> list[float | Any]:
        """Return the learning rates at `last_epoch`, for code that changes it and sets the rates itself, as Ignite."""
        computed = self._rates_at(max(self._last_step, 0))
        return [*computed, *self.get_last_lr()[len(computed) :]]

    def _rates_at(self, step: int) -> list[float]:
        """Return the rates that the schedules give to the known groups, none without a schedule."""
        rates = [(read(schedule, step), shares) for key, _, read, schedule, shares in self._tracks if key == "lr"]
        return [value * share for value, shares in rates for _, share in shares]

    def _owns_rates(self) -> bool:
        """Return True if this scheduler set the current learning rates.

        It may share them with others in a `SequentialLR` of torch, which calls only the one whose turn it is:

        | state                  | `_in_sequence` | `_pending` | the groups hold                |
        |------------------------|----------------|------------|--------------------------------|
        | by itself              | False          | False      | its rates, unless a user edits |
        | before its turn        | True           | True       | the rates of another scheduler |
        | during, after its turn | True           | False      | its rates, those of another    |
        """
        return not self._pending and all(
            math.isclose(float(group["lr"]), _groups.rounded(rate, group["lr"]), rel_tol=1e-6)
            for group, rate in zip(self.optimizer.param_groups, self._rates_at(self._last_step), strict=False)
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the step and descriptions of the schedules, which `torch.load(weights_only=True)` can read."""
        return {
            "version": FORMAT_VERSION,
            "step": self._position,
            "in_charge": self._owns_rates(),
            "schedules": self._described(),
        }

    def _described(self) -> dict[str, Any]:
        return {name: [*map(_description, schedules)] for name, (_, _, schedules) in self._schedules.items()}

    def load_state_dict(self, state_dict: dict[str, Any], schedules: Resumed = "same") -> None:
        """Continue at the saved step.

        In a `SequentialLR` of torch, a scheduler that was saved before or after its turn does not set the rates.

        Args:
            state_dict: the dict that `state_dict` returned.
            schedules: `"same"`: the saved schedules must equal those of this scheduler; `"new"`: continue by those of
                this scheduler, to extend or change a run; `"saved"`: continue by the saved schedules.

        Raises:
            ValueError: not a state of a `Scheduler`, or one with other schedules; nothing is changed.
        """
        _checks.choice("schedules", schedules, ("same", "new", "saved"))
        if not isinstance(state_dict, dict) or state_dict.get("version") != FORMAT_VERSION or "step" not in state_dict:
            received = f"keys {sorted(state_dict)}" if isinstance(state_dict, dict) else _checks.quoted(state_dict)
            raise ValueError(
                f"state_dict must come from Scheduler.state_dict() of version {FORMAT_VERSION}; got {received}."
            )
        step = self._checked_step("step", state_dict["step"])
        saved = state_dict.get("schedules", {})
        # An older state lacks what has been added to descriptions since.
        if schedules == "same" and saved != self._described() and _up_to_date(saved) != self._described():
            raise ValueError(
                f"state_dict must hold the schedules of this scheduler, {self._described()}; got {saved}. To go on at "
                f'step {step} by those of this scheduler, pass schedules="new"; by the saved ones, schedules="saved".'
            )
        if schedules == "saved":
            given = {name: _from_descriptions(held) for name, held in saved.items()}
            arguments = {name: given.pop(name, None) for name in ("lr", "momentum", "weight_decay")}
            self._schedules = self._checked(arguments, given)
            self._read_groups()
        self._resume(step, state_dict.get("in_charge", True), schedules != "same")

    def _resume(self, step: Any, in_charge: bool, schedules_replaced: bool) -> None:
        if schedules_replaced:
            # The state of the optimizer, if it is loaded after this, has rates of other schedules.
            self._in_sequence = False
        if in_charge or not self._in_sequence:
            self._go_to(step)
            return
        pending, self._offset = self._pending, step - self._counts[0]
        self._last_step = min(self._last_step, self._offset - 1) if pending else step

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_tracks"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # The hooks of each copy count into a list of its own.
        self._counts = [*self._counts]
        self._attach()
        self._read_groups()


def _description(schedule: Schedule) -> Any:
    try:
        return schedule.to_dict()
    except ScheduleError:
        # It holds a function, which JSON cannot.
        return None


def _up_to_date(saved: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {name: [held and Schedule.from_dict(held).to_dict() for held in listed] for name, listed in saved.items()}


def _from_descriptions(descriptions: list[Any] | None) -> Any:
    if any(description is None for description in descriptions or []):
        raise ValueError(
            "the saved state contains a Python function, which cannot be loaded from a file. Create the scheduler with "
            'that function, and load with schedules="same" or "new".'
        )
    schedules = [Schedule.from_dict(description) for description in descriptions or []]
    return schedules[0] if len(schedules) == 1 else schedules or None


def _schedules(name: str, given: Any, groups: int) -> tuple[Schedule, ...]:
    """Return no schedule, one for all groups, or one for each, except for the weight decay."""
    if given is None or isinstance(given, Schedule):
        return () if given is None else (given,)
    listed = isinstance(given, tuple | list) and name != "weight_decay"
    if not listed or not all(isinstance(schedule, Schedule) for schedule in given):
        raise TypeError(f"{name} must be a cyclr schedule; got {name}={given!r}. Try cyclr.Constant(value).")
    if len(given) != groups:
        raise ValueError(
            f"{name} must be one schedule, or one for each of the {groups} parameter groups; got {len(given)}."
        )
    return tuple(given)
