"""Schedules attached to a torch optimizer."""

import functools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import torch
from torch.optim import Optimizer

from cyclr import _checks, _names, _plain
from cyclr.errors import ScheduleError
from cyclr.schedules import Schedule
from cyclr.schedules._blocks import is_of_cyclr, reader
from cyclr.schedules.base import check_schedule
from cyclr.torch import _groups, _hooks, _private
from cyclr.torch._shares import Shares
from cyclr.torch._watch import Watch, warn_end

FORMAT_VERSION = 1

Resumed = Literal["same", "new", "saved"]


_MOST = 1e30
"""Largest learning rate, and largest multiple of a learning rate, in a saved state. float32 ends at 3e38."""


def _pair(name: str, rates: tuple[float, float]) -> tuple[float, float]:
    held, own = rates
    if min(rates) >= 0 and max(rates) <= _MOST and held <= _MOST * (own or 1.0):
        return rates
    raise ValueError(f"{name} must be two learning rates; got {_checks.quoted(rates)}.")


SHARES = dict[str, list[Annotated[float, functools.partial(_checks.number, at_least=-_MOST, at_most=_MOST)]]]
"""Type of the shares in a saved state."""


class SchedulerState(NamedTuple):
    """The entries of `Scheduler.state_dict()`. Older states lack the last entries."""

    version: int = FORMAT_VERSION
    step: Any = 0
    schedules: dict[str, list[dict[str, Any] | None]] = {}  # noqa: RUF012
    in_charge: bool = True
    rates: tuple[Annotated[tuple[float, float], _pair], ...] = ()
    shares: SHARES = {}  # noqa: RUF012


class _Track(NamedTuple):
    """A schedule of one hyperparameter, and the groups that follow it."""

    key: str
    place: int
    read: Callable[[Schedule, Any], float]
    schedule: Schedule
    followers: list[list[Any]]
    """For each group: its dict, its share, and the float that was stored in it (None if the entry is not a float)."""
    last: list[float]
    """The schedule's value that was last set in the groups."""


class Scheduler(_private.TorchScheduler):
    """An `LRScheduler` that sets the hyperparameters of a torch optimizer from schedules.

    Update t of the optimizer uses `lr(t)`. Call `step()` after every `optimizer.step()`, as usual. The scheduler counts
    the optimizer's updates, not the calls of `step()`. An update that `GradScaler` skips does not advance the schedule.
    Additional calls, after every micro-batch or in every process, change nothing. The first update uses `lr(0)`,
    whatever learning rate the optimizer had before.

    With one schedule, the first parameter group follows the schedule. The other groups keep the ratios of their
    learning rates to the first group. The ratios are computed from the current learning rates, or from `initial_lr` if
    the first learning rate is 0. A group that is added later keeps the ratio to the current learning rate. If the new
    group has the optimizer's default, the ratio to the initial learning rate is used instead. If you set the learning
    rates of some groups by hand, they keep their new ratios, even 0. A group with an `lr_scale`, as timm and
    `layer_groups` create it, gets `lr(t) · lr_scale`. Weight decay keeps its ratios too, so a group without weight
    decay remains without weight decay. All groups get the same momentum, except that groups without momentum remain
    without momentum. A hyperparameter that is a tensor is changed in place, so compiled and capturable steps use the
    new value.

    The scheduler warns if updates are made without `step()`, if another optimizer updates the parameters, if another
    scheduler also changes the learning rates, and if updates continue after the end of a schedule with `total_steps`.

    Args:
        optimizer: any `torch.optim.Optimizer`. Accelerate's wrapper is replaced by the optimizer inside it. If a
            wrapper shares the groups of an inner optimizer, as Lookahead does, the inner optimizer's updates count.
        lr: schedule of the learning rate, or a list with a schedule for each parameter group.
        momentum: schedule of `momentum` (SGD, RMSprop), the first of `betas` (Adam and others) or `rho` (Adadelta), or
            a list with a schedule for each parameter group; < 1.
        weight_decay: schedule of the weight decay.
        entries: schedules of other numbers in the groups, by name, such as `{"dampening": schedule}`; `"beta2"` is the
            second of `betas`, < 1. A list holds a schedule for each parameter group.
        start_step: step of the schedules at the next update, ≥ 0.
        counts: what advances the schedules: `"updates"`, or `"calls"` of `step()`. Use `"calls"` for an optimizer whose
            updates run no hooks, such as a replayed CUDA graph. With `"updates"`, the scheduler warns if `step()` is
            called but no update is seen.
        resume: default of `load_state_dict(state, schedules=...)`, for trainers that call `load_state_dict`: `"same"`,
            `"new"` or `"saved"`.
        last_epoch: start_step − 1, for code that passes this argument of torch's schedulers.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range; a list does not have as many schedules
            as there are groups; the optimizer lacks the hyperparameter; a momentum or beta reaches 1 (checked at the
            latest in the `step()` before the update that would use the value).
        ScheduleError: the largest value of your own momentum schedule is not known.

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
    _only_forward = True
    _last_step: Any = -1
    _resume_mode: Resumed = "same"
    _has_cpu_tensor = False
    """True if a learning rate is a tensor on the CPU. Such a tensor must be read to detect a change by hand."""
    _listeners: tuple[Callable[[int], object], ...] = ()
    """Called after each update with its step."""
    _end: Any = None
    """Number of steps of the shortest schedule that ends. Infinity after the warning that updates continue."""

    @_names.hinted
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
        resume: Resumed = "same",
        last_epoch: int = -1,
    ) -> None:
        _checks.choice("resume", resume, ("same", "new", "saved"))
        self._resume_mode = resume
        self.optimizer = optimizer = _groups.unwrapped(optimizer)
        if not isinstance(entries or {}, Mapping):
            raise TypeError(f"entries must be a dict of schedules by name; got entries={_checks.quoted(entries)}.")
        self._counts_calls = _checks.choice("counts", counts, ("updates", "calls")) == "calls"
        self._inner = _groups.innermost(optimizer)
        self._counts: list[Any] = [0, 0, None, 0]
        """Updates made, number of known groups, the last known group, number of the next update to check."""
        self._shares: dict[str, Shares] = {}
        """The shares of learning rate, weight decay and momentum by group."""
        self._tracks: list[_Track] = []
        last = _checks.integer("last_epoch", last_epoch, at_least=-1)
        self._offset: Any = _checks.integer("start_step", start_step, at_least=0) if last == -1 else last + 1
        self._in_sequence = False
        self._schedules = self._checked({"lr": lr, "momentum": momentum, "weight_decay": weight_decay}, entries or {})
        if not self._schedules:
            raise ValueError(
                "Scheduler must get at least one schedule; got none. Pass lr=schedule, or cyclr.Constant(value) for a "
                "constant learning rate."
            )
        self._read_groups()
        self._attach()
        self._set_to(self._offset)

    def _attach(self) -> None:
        """Register the hooks, which keep only a weak reference to this scheduler."""
        around_load = Scheduler._before_load, Scheduler._after_load
        _hooks.attach(self, self._inner, self._counts, Scheduler._before_update, around_load)
        self._watch = Watch(self, self._inner)

    def _listen(self, listener: Callable[[int], object]) -> None:
        """Call `listener` with the step of each update, after the update and before the next one."""
        if not self._listeners:
            _hooks.attach_after(self, self._inner, self._counts, Scheduler._after_update)
        self._listeners += (listener,)

    def _after_update(self) -> None:
        # In a `SequentialLR`, another scheduler may have set the rates of this update.
        if not self._pending and (not self._in_sequence or self._owns_rates()):
            for listener in self._listeners:
                listener(self._position - 1)

    @property
    def _cycles(self) -> Schedule:
        """The schedule that defines the cycles: of the learning rate if there is one, and of the first group."""
        return next(iter(self._schedules.values()))[-1][0]

    def _ends_cycle(self, step: Any) -> bool:
        # The position of a `CyclicLR` may be a fraction, at which no cycle ends.
        return isinstance(step, int) and bool(self._cycles.is_cycle_end(step))

    def _before_update(self) -> None:
        """Read changed groups, and warn if `step()` is not called."""
        self._follow_groups()
        if self._counts[0] >= self._counts[3]:
            self._counts[3] = self._watch.before_update(self._counts[0], self._is_late)

    def _is_late(self) -> bool:
        """Return True if the groups hold values of an earlier step that differ from the values of the next update."""
        step, last = self._position, self._last_step
        if self._counts_calls or self._pending or step <= last:
            return False
        if _hooks.latest(self._inner) is not self:
            # A scheduler of an earlier phase of training may still exist, and need not be stepped.
            return False
        for key, place, read, schedule, followers, _ in self._tracks:
            (group, share, _), value = followers[0], read(schedule, last)
            if _groups.held(group, key, place) == value * share and read(schedule, step) != value:
                return True
        return False

    def _follow_groups(self) -> None:
        """Read the groups if some were added, removed or replaced, and set the rates of the new ones.

        Called before anything that depends on the groups, because shares are computed from the values in the groups.
        """
        groups = self._inner.param_groups
        if groups is self._groups and len(groups) == self._counts[1] and groups[-1] is self._counts[2]:
            return
        self._keep_edited()
        # A list of schedules may lack schedules for new groups. The next `step()` raises then.
        if all(len(schedules) in (1, len(groups)) for *_, schedules in self._schedules.values()):
            owns = self._owns_rates()
            self._read_groups()
            if owns:
                self._set_to(self._last_step)

    def _before_load(self) -> bool:
        """Prepare for loading the optimizer's state. Return True if the rates must be set again after it.

        In a `SequentialLR`, the optimizer's state holds the rates of the active scheduler, so they are kept.
        """
        self._follow_groups()
        self._keep_edited()
        return not self._in_sequence and self._owns_rates()

    def _after_load(self, reapply: bool) -> None:
        """Read the groups after the optimizer's state was loaded, and set the rates again if `reapply`."""
        # `load_state_dict` replaced the groups by new dicts in the same order.
        for shares in self._shares.values():
            shares.follow(reapply)
        self._read_groups()
        if reapply:
            self._set_to(self._last_step)

    def _checked(
        self, arguments: dict[str, Any], entries: Mapping[str, Any]
    ) -> dict[str, tuple[str, int, tuple[Schedule, ...]]]:
        """Return the schedules by name of the hyperparameter, each with its key and index in the groups."""
        checked: dict[str, tuple[str, int, tuple[Schedule, ...]]] = {}
        optimizer, groups = self._inner, len(self._inner.param_groups)
        # Raises for an illegal `lr_scale` before anything is changed.
        _groups.rate_shares(optimizer.param_groups)
        for name, value in [*arguments.items(), *entries.items()]:
            schedules = _schedules(name, value, groups)
            if name in entries:
                taken = [key for key, _, _ in checked.values()]
                legal = [entry for entry in _groups.entries(optimizer) if entry not in taken]
                _checks.choice("entries", name, legal)
            for schedule in schedules if name in ("momentum", "beta2") else ():
                try:
                    largest = schedule.largest
                except ScheduleError as error:
                    raise ScheduleError(f"{name} must stay below 1, but {error}") from error
                if largest >= 1:
                    raise ValueError(f"{name} must stay below 1; got {schedule!r}, which reaches {largest}.")
            if schedules:
                checked[name] = *_groups.key(optimizer, name), schedules
        return checked

    def _read_groups(self) -> None:
        """Read the groups and their shares, also after groups were added, removed or replaced."""
        self._groups = groups = self._inner.param_groups
        for name, (_, _, schedules) in self._schedules.items():
            if len(schedules) not in (1, len(groups)):
                raise ValueError(
                    f"{name} must hold a schedule for every parameter group; got {len(schedules)} schedules, and the "
                    f"optimizer has {len(groups)} groups now. Create a new Scheduler(optimizer, {name}=[...], "
                    "start_step=...)."
                )
        self._update_shares()
        # Only now: `_update_shares` recognizes the optimizer's default tensor by identity, and this copies the tensor.
        _groups.separate_rates(self._inner)
        self._counts[1:3] = len(groups), groups[-1]
        for group in groups:
            group.setdefault("initial_lr", float(group["lr"]))
        self._set_base_lrs([float(group["initial_lr"]) for group in groups])
        self._tracks = []
        for name, (key, place, schedules) in self._schedules.items():
            shares = self._shares[name].values if name in self._shares else [1.0] * len(groups)
            followers = [[group, share, None] for group, share in zip(groups, shares, strict=True)]
            parts = [followers] if len(schedules) == 1 else [[follower] for follower in followers]
            for schedule, part in zip(schedules, parts, strict=True):
                read = self._reader(schedule)
                if name in ("momentum", "beta2") and not is_of_cyclr(schedule):
                    read = _below_1(name, read)
                last = math.nan if self._pending else read(schedule, self._last_step)
                self._tracks.append(_Track(key, place, read, schedule, part, [last]))
        self._has_cpu_tensor = any(
            isinstance(group.get(name), torch.Tensor) and group[name].device.type == "cpu"
            for group in groups
            for name in self._shares
        )
        ends = [schedule.total_steps for *_, schedules in self._schedules.values() for schedule in schedules]
        if self._end is None:
            self._end = min((end for end in ends if end is not None), default=math.inf)

    def _set_base_lrs(self, rates: list[float]) -> None:
        self.base_lrs = rates

    def _update_shares(self) -> None:
        """Create the shares of the groups, or update them after groups or schedules were replaced."""
        held, self._shares = self._shares, {}
        for name, (key, place, schedules) in self._schedules.items():
            one = len(schedules) == 1
            if name in ("lr", "weight_decay") or (name == "momentum" and one):
                shares = held.get(name)
                if shares is None or shares.one != one:
                    if name == "momentum" and self._keeps_ratios:
                        self._warn_of_momenta(key, place)
                    ratios, earlier = one and self._keeps_ratios, shares or _hooks.latest(self._inner)
                    shares = Shares(self._inner, name, key, place, one=one, ratios=ratios, earlier=earlier)
                else:
                    shares.update()
                self._shares[name] = shares

    def _warn_of_momenta(self, key: str, place: int) -> None:
        momenta = [_groups.held(group, key, place) for group in self._groups]
        if len({*momenta} - {0.0}) > 1:
            warnings.warn(
                f"the parameter groups have different momenta, {momenta}, but one schedule sets all of them to the "
                "same value. Pass a list with a schedule for each group.",
                stacklevel=5,
            )

    def _keep_edited(self) -> None:
        """Update the shares of groups whose values were set by hand after this scheduler set them."""
        if self._counts[1] == 1 or self._in_sequence or self._pending or _private.has_torch_scheduler(self._inner):
            return
        for name in ("lr", "weight_decay"):
            tracks = [track for track in self._tracks if track.key == name]
            if tracks and self._shares[name].keep_edited([track.last[0] for track in tracks for _ in track.followers]):
                followers = [follower for track in tracks for follower in track.followers]
                for follower, share in zip(followers, self._shares[name].values, strict=True):
                    follower[1:] = share, None

    def _reader(self, schedule: Schedule) -> Callable[[Schedule, Any], float]:
        return reader(schedule)

    @property
    def last_epoch(self) -> Any:
        """The step whose values are set in the groups. It counts updates; torch chose the name."""
        return self._last_step

    @last_epoch.setter
    def last_epoch(self, step: int) -> None:
        # SequentialLR sets it back to undo the first step of its schedulers. Ignite's wrapper sets it forward.
        was_pending, self._last_step = self._pending, step
        self._in_sequence = self._pending or (self._in_sequence and not was_pending)

    @property
    def _pending(self) -> bool:
        """True until a surrounding `SequentialLR` starts this scheduler (it sets `last_epoch` back before)."""
        return bool(self._last_step < max(self._offset, 0))

    @property
    def _position(self) -> Any:
        """The step of the next update, also if the last update was not yet followed by `step()`, or while pending."""
        return max(self._last_step, self._offset, 0) if self._counts_calls else self._counts[0] + self._offset

    def step(self, epoch: int | None = None, metric: Any = None) -> None:
        """Set the values that the next update uses. Call it without arguments after every `optimizer.step()`.

        Args:
            epoch: step to go to, counted in updates: 0, or at least the number of updates made. torch chose the name.
            metric: must be None, because a schedule does not follow a metric.

        Raises:
            ValueError: `epoch` is below the number of updates made, as the number of an epoch usually is.
            TypeError: a metric was passed.
        """
        counts, groups = self._counts, self._inner.param_groups
        if groups[-1] is not counts[2] or len(groups) != counts[1]:
            self._follow_groups()
        if epoch is not None or metric is not None or self._has_cpu_tensor:
            self._keep_edited()
            if epoch is not None or metric is not None:
                self._go_to(self._checked_call(epoch, metric))
                return
        step = self._last_step + 1 if self._counts_calls else counts[0] + self._offset
        if step == self._last_step and counts[1] == len(groups):
            if _hooks.counts_updates(self._inner):
                self._watch.idle_call(counts[0])
            return
        self._set_to(step)
        if step > self._end:
            self._warn_end(step)

    def _warn_end(self, step: Any) -> None:
        track = next(track for track in self._tracks if track.schedule.total_steps == self._end)
        warn_end(track.key, self._end, step, track.last[0])
        self._end = math.inf

    def _checked_step(self, name: str, step: Any) -> Any:
        return _checks.integer(name, step, at_least=0)

    def _checked_call(self, epoch: Any, metric: Any) -> Any:
        if metric is not None:
            raise TypeError(
                f"step() must be called without a metric; got metric={_checks.quoted(metric)}. Call scheduler.step() "
                f"after every update. {_TIMM}"
            )
        step = self._checked_step("epoch", epoch)
        if self._only_forward and 0 < step < self._position:
            raise ValueError(
                f"epoch must be a number of updates, at least the {self._position} made; got epoch={step}. Call "
                "scheduler.step() without an argument after every update. To restart, call step(0); to go back, call "
                f"load_state_dict(state). {_TIMM}"
            )
        return step

    @property
    def step_update(self) -> Any:
        """Not available: raises an AttributeError that names `TimmScheduler`."""
        raise AttributeError(f"step_update must be called on a TimmScheduler; got a {type(self).__name__}. {_TIMM}")

    def _go_to(self, step: Any) -> None:
        self._set_to(step)
        self._offset = step - self._counts[0]

    def _set_to(self, step: Any) -> None:
        if len(self._groups) != self._counts[1]:
            self._read_groups()
        self._last_step = step
        # This runs in every update of a training loop, so a float is set without a function call.
        for key, place, read, schedule, followers, last in self._tracks:
            value = read(schedule, step)
            for follower in followers:
                group, share, stored = follower
                if group[key] is stored:
                    group[key] = follower[2] = value * share
                elif stored is None:
                    follower[2] = _groups.assign(group, key, value * share, place)
                else:
                    self._take_edited(key, followers, last[0])
                    self._set_to(step)
                    return
            last[0] = value

    def _take_edited(self, key: str, followers: list[list[Any]], last: float) -> None:
        """Update the shares of groups that were set by hand, after `_set_to` found the first of them."""
        if key == "lr" and not self._in_sequence:
            factors = [group[key] / stored if stored else math.inf for group, _, stored in followers]
            self._watch.edited_call(self._counts[0], next((each for each in factors if each != 1), 1.0))
        for group, share, stored in followers:
            if group[key] is stored:
                group[key] = last * share
        self._keep_edited()
        for track in self._tracks:
            for follower in track.followers:
                follower[2] = None

    def get_last_lr(self) -> list[float | Any]:
        """Return the learning rates that the next update uses, one for each parameter group."""
        rates = (group["lr"] for group in self._inner.param_groups)
        return [lr.clone() if isinstance(lr, torch.Tensor) else lr for lr in rates]

    def get_lr(self) -> list[float | Any]:
        """Return the learning rates at `last_epoch`, for code such as Ignite's that sets `last_epoch` and the rates.

        If `last_epoch` was changed, the other hyperparameters are set, as torch's `CyclicLR` sets the momentum here.
        """
        step = max(self._last_step, 0)
        for key, place, read, schedule, followers, last in () if self._pending else self._tracks:
            if key != "lr" and (value := read(schedule, step)) != last[0]:
                for follower in followers:
                    follower[2] = _groups.assign(follower[0], key, value * follower[1], place)
                last[0] = value
        if step > self._end:
            self._warn_end(step)
        computed = self._rates_at(step)
        return [*computed, *self.get_last_lr()[len(computed) :]]

    def _rates_at(self, step: int) -> list[float]:
        """Return the scheduled learning rates of the known groups. Empty if no learning rate is scheduled."""
        tracks = [track for track in self._tracks if track.key == "lr"]
        return [track.read(track.schedule, step) * share for track in tracks for _, share, _ in track.followers]

    def _has_group_schedules(self, name: str) -> bool:
        """Return True if the groups hold values of separate schedules of this scheduler, one for each group."""
        return len(self._schedules.get(name, ((),))[-1]) > 1 and self._owns_rates()

    def _owns_rates(self) -> bool:
        """Return True if this scheduler set the current learning rates.

        In a `SequentialLR` of torch, several schedulers set the rates, and only the active one is called:

        | state                  | `_in_sequence` | `_pending` | rates in the groups                              |
        |------------------------|----------------|------------|--------------------------------------------------|
        | not in a sequence      | False          | False      | of this scheduler, unless they were set by hand  |
        | before its turn        | True           | True       | of another scheduler                             |
        | during its turn        | True           | False      | of this scheduler                                |
        | after its turn         | True           | False      | of another scheduler                             |
        """
        return not self._pending and all(math.isclose(held, own, rel_tol=1e-6) for _, held, own in self._held_and_own())

    def _held_and_own(self) -> list[tuple[dict[str, Any], float, float]]:
        """Return each known group, its learning rate, and the scheduled rate of `last_epoch` in the same precision."""
        groups = [group for track in self._tracks if track.key == "lr" for group, _, _ in track.followers]
        return [
            (group, float(group["lr"]), _groups.rounded(own, group["lr"]))
            for group, own in zip(groups, self._rates_at(self._last_step), strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return the step and descriptions of the schedules. `torch.load(weights_only=True)` can read them."""
        return {
            "version": FORMAT_VERSION,
            "step": self._position,
            "schedules": self._described(),
            **self._state_of_groups(),
        }

    def _state_of_groups(self) -> dict[str, Any]:
        """Return the state that the schedules and a newly created optimizer cannot reproduce.

        Returns:
            in_charge: True if this scheduler set the current learning rates.
            rates: for each group its learning rate and the rate of this scheduler, if something else changed the
                rates, such as another part of a `ChainedScheduler`.
            shares: shares of the groups, if groups were added or removed, or their values were set by hand.
        """
        self._follow_groups()
        self._keep_edited()
        state: dict[str, Any] = {"in_charge": self._owns_rates()}
        if not state["in_charge"] and not self._in_sequence and self._position == self._last_step:
            state["rates"] = [[held, own] for _, held, own in self._held_and_own()]
        moved = {name: [*shares.values] for name, shares in self._shares.items() if shares.to_save}
        return {**state, "shares": moved} if moved else state

    def _load_shares(self, saved: dict[str, list[float]], described: dict[str, list[Any]]) -> None:
        """Load saved shares of hyperparameters, unless only one of saved and own has a schedule for each group."""
        for name, shares in self._shares.items():
            if (len(described.get(name, ())) == 1) == shares.one:
                shares.load(saved.get(name))
        self._read_groups()

    def _described(self) -> dict[str, Any]:
        return {name: [*map(_description, schedules)] for name, (_, _, schedules) in self._schedules.items()}

    def load_state_dict(self, state_dict: dict[str, Any], schedules: Resumed | None = None) -> None:
        """Continue at the saved step.

        In a `SequentialLR` of torch, the rates are set only if the scheduler was saved during its turn.

        Args:
            state_dict: the dict that `state_dict` returned.
            schedules: `"same"`: the saved schedules must equal the schedules of this scheduler; `"new"`: continue with
                the schedules of this scheduler, to extend or change a run; `"saved"`: continue with the saved
                schedules. By default the argument `resume` of this scheduler.

        Raises:
            ValueError: the state is not a state of a `Scheduler`, or holds other schedules. Nothing is changed.
        """
        schedules = self._resume_mode if schedules is None else schedules
        _checks.choice("schedules", schedules, ("same", "new", "saved"))
        if not _plain.is_version(state_dict, FORMAT_VERSION, "step"):
            raise ValueError(
                f"state_dict must come from Scheduler.state_dict() of version {FORMAT_VERSION}; got "
                f"{_plain.described(state_dict)}. After n updates with another scheduler, create "
                "Scheduler(optimizer, lr=schedule, start_step=n)."
            )
        state = _plain.read("state_dict", state_dict, SchedulerState)
        step, saved, own = self._checked_step("step", state.step), state.schedules, self._described()
        # An older state lacks entries that were added to the descriptions later.
        if schedules == "same" and saved != own and _up_to_date(saved) != own:
            raise ValueError(
                f"state_dict must hold the schedules of this scheduler, {_checks.quoted(own, 170)}; got "
                f"{_checks.quoted(saved, 170)}. To continue at step {step} with the schedules of this scheduler, pass "
                'schedules="new"; with the saved ones, pass schedules="saved". If a trainer loads the state, create '
                'the Scheduler(..., resume="new"), or "saved".'
            )
        if schedules == "saved":
            given = {name: _from_descriptions(held) for name, held in saved.items()}
            arguments = {name: given.pop(name, None) for name in ("lr", "momentum", "weight_decay")}
            self._schedules, self._end = self._checked(arguments, given), None
            self._read_groups()
        self._resume(step, state, schedules != "same", saved)

    def _resume(
        self, step: Any, state: SchedulerState, schedules_replaced: bool, described: dict[str, list[Any]]
    ) -> None:
        self._load_shares(state.shares, described)
        if schedules_replaced:
            # If the optimizer's state is loaded after this, it holds rates of other schedules.
            self._in_sequence = False
        if state.in_charge or not self._in_sequence:
            self._go_to(step)
            for (group, _, now), (held, own) in zip(self._held_and_own(), state.rates, strict=False):
                # If a new schedule has another rate here, apply the factor between the saved rates to it.
                _groups.assign(group, "lr", held if now == own else now * (held / own if own else 1.0))
            return
        pending, self._offset = self._pending, step - self._counts[0]
        self._last_step = min(self._last_step, self._offset - 1) if pending else step

    def __repr__(self) -> str:
        end = min((s.total_steps or math.inf for *_, held in self._schedules.values() for s in held), default=math.inf)
        of = "" if end == math.inf else f" of {end}"
        rates = ", ".join(f"{float(lr):.3g}" for lr in self.get_last_lr())
        return f"<{type(self).__name__}: {self._position}{of} updates made, lr {rates}>"

    def __getstate__(self) -> dict[str, Any]:
        self._follow_groups()
        self._keep_edited()
        held = {name: value for name, value in vars(self).items() if name not in ("_tracks", "_watch", "_listeners")}
        return {**held, "sets_rates": self._owns_rates()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # The optimizer may have been copied before the rates of new groups were set.
        sets_rates = state.pop("sets_rates", False)
        self.__dict__.update(state)
        # The hooks of each copy need their own list of counts.
        self._counts = [*self._counts]
        self._counts[3] = 0
        self._tracks = []
        self._attach()
        self._read_groups()
        if sets_rates:
            self._set_to(self._last_step)


_TIMM = "For a loop written for timm's schedulers, create a cyclr.torch.TimmScheduler(optimizer, lr=...)."


def _below_1(name: str, read: Callable[[Schedule, Any], float]) -> Callable[[Schedule, Any], float]:
    """Return a function that reads a schedule and raises if its value is 1 or more."""

    def read_below_1(schedule: Schedule, step: Any) -> float:
        value = read(schedule, step)
        if value < 1:
            return value
        raise ValueError(f"{name} must stay below 1; got {value} from {schedule!r} at step {step}. Lower the schedule.")

    return read_below_1


def _description(schedule: Schedule) -> Any:
    try:
        return schedule.to_dict()
    except ScheduleError:
        # The schedule holds a Python function, which JSON cannot.
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
    """Return a tuple of no schedule, one for all groups, or one for each group. Weight decay has at most one."""
    if given is None:
        return ()
    if name == "weight_decay" or not isinstance(given, tuple | list):
        check_schedule(name, given)
        return (given,)
    for index, schedule in enumerate(given):
        check_schedule(f"{name}[{index}]", schedule)
    if len(given) != groups:
        raise ValueError(
            f"{name} must be one schedule, or one for each of the {groups} parameter groups; got {len(given)}."
        )
    return tuple(given)
