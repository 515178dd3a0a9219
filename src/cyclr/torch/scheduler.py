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

MISSED_UPDATES = 16
"""Updates without a call of `step()`, after which there is a warning; so are calls while parameters change."""

Resumed = Literal["same", "new", "saved"]


class _Track(NamedTuple):
    """A schedule of one hyperparameter: where groups hold it, and their shares of the value."""

    key: str
    place: int
    read: Callable[[Schedule, Any], float]
    schedule: Schedule
    shares: list[tuple[dict[str, Any], float]]
    last: list[float]
    """The value of the schedule that the groups hold, if it is compared with them; empty otherwise."""


class Scheduler(_private.TorchScheduler):
    """Schedules of a torch optimizer's hyperparameters; an `LRScheduler` like torch's own.

    Update t of the optimizer uses `lr(t)`. Call `step()` after every `optimizer.step()`, as usual. It counts the
    optimizer's updates, not its own calls: an update that `GradScaler` skips does not advance the schedule, a call
    after every micro-batch or in every process changes nothing, and update 0 uses `lr(0)` whatever changed the
    optimizer before.

    With one schedule, the first parameter group follows it and the others keep the ratios of their learning rates to
    the first. The current rates decide; `initial_lr` decides only if the first rate is 0. A group that is added later
    keeps its ratio to the current rate, or to the initial rate if it has the optimizer's default. If you set the rates
    of some groups by hand, they keep their new ratios, 0 included. A group with an `lr_scale`, as timm and
    `layer_groups` make it, gets `lr(t) · lr_scale` instead. Weight decay keeps its ratios too, so a group without
    weight decay stays without. A hyperparameter that is a tensor is filled in place, so compiled and capturable steps
    see it.

    There is a warning if updates are made without `step()`, if another optimizer updates the parameters, and if updates
    go on after the end of a schedule with `total_steps`.

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
        resume: default of `load_state_dict(state, schedules=...)`, for trainers that call it themselves: `"same"`,
            `"new"` or `"saved"`.
        last_epoch: start_step − 1, under the name that torch's schedulers give it, for code that passes it.

    Raises:
        TypeError, ValueError: an argument of another type or out of range; a list with another number of schedules than
            groups; an optimizer without the hyperparameter; a momentum or beta of 1 or more, at the latest in the
            `step()` before the update that would use it.
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
    _idle_since = 0
    _last_step: Any = -1
    _versions: tuple[int, ...] = ()
    _resume_mode: Resumed = "same"
    _shares_moved = False
    """True if groups were added or removed, or their shares set by hand."""
    _end: Any = None
    """The steps of the shortest schedule that has an end; infinity after the warning that updates go on after it."""
    _warned = False
    _behind = False
    """True after a call of `step()` that came after several updates."""

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
        self._counts: list[Any] = [0, 0, None, MISSED_UPDATES]
        """Updates of the optimizer, its groups and the last group when they were read, the update to check calls at."""
        self._shares: dict[str, list[float]] = {}
        """The shares of learning rate and weight decay by group."""
        self._saved_shares: dict[str, list[float]] = {}
        """Shares of a loaded state, with groups that are yet to be added."""
        self._known: list[dict[str, Any]] = []
        self._tracks: list[_Track] = []
        last = _checks.integer("last_epoch", last_epoch, at_least=-1)
        self._offset: Any = _checks.integer("start_step", start_step, at_least=0) if last == -1 else last + 1
        self._in_sequence = False
        self._schedules = self._checked({"lr": lr, "momentum": momentum, "weight_decay": weight_decay}, entries or {})
        if not self._schedules:
            warnings.warn(
                "Scheduler must get a schedule to set anything; got none. Pass lr=..., momentum=... or another one.",
                stacklevel=2,
            )
        self._read_groups()
        self._attach()
        self._set_to(self._offset)

    def _attach(self) -> None:
        """Register the hooks; the optimizer does not keep this scheduler alive."""
        around_load = Scheduler._before_load, Scheduler._after_load
        _hooks.attach(self, self._counts, Scheduler._before_update, around_load)

    def _before_update(self) -> None:
        """Read groups that were added since the last `step()` and set their rates; warn if `step()` is not called."""
        if not self._is_current(self.optimizer.param_groups):
            self._find_edited()
            # A list of schedules has none for them: the next `step()` raises.
            if all(len(schedules) == 1 for *_, schedules in self._schedules.values()):
                owns = self._owns_rates()
                self._read_groups()
                if owns:
                    self._set_to(self._last_step)
        elif self._counts[0] >= self._counts[3]:
            self._check_run()

    def _warn_end(self, step: Any) -> None:
        """Warn once that the schedule has ended before the last update."""
        track = next(track for track in self._tracks if track.schedule.total_steps == self._end)
        warnings.warn(
            f"update number {step} goes on after the end of the schedule of {track.key}, which has "
            f"total_steps={self._end}: it stays at {track.read(track.schedule, step):g}. Create it for your whole run, "
            "such as bounds.schedule(total_steps=...).",
            stacklevel=3,
        )
        self._end = math.inf

    def _check_run(self) -> None:
        """Warn once if `step()` is not called after each update."""
        step, made = self._position, self._counts[0]
        missed = 0 if self._counts_calls or self._in_sequence or self._pending else step - self._last_step
        if missed >= (4 if self._behind else MISSED_UPDATES) and not self._warned and self._is_late(step):
            self._warned = True
            warnings.warn(
                f"{type(self.optimizer).__name__} made {missed} updates without a call of step() of "
                f"{type(self).__name__}, all at the same learning rate. The schedule counts updates: call "
                "scheduler.step() after every optimizer.step(), not once per epoch (Lightning: "
                '"interval": "step"; skorch: step_every="batch").',
                stacklevel=3,
            )
        self._behind = missed >= 4
        self._counts[3] = max(
            made + MISSED_UPDATES - missed if 0 < missed < MISSED_UPDATES else 2 * made, MISSED_UPDATES
        )

    def _is_late(self, step: Any) -> bool:
        """Return True if the groups hold the values of `last_epoch`, and this step has others."""
        for track in self._tracks:
            (group, share), value = track.shares[0], track.read(track.schedule, self._last_step)
            held = group[track.key]
            if not isinstance(held, tuple) and held == value * share and track.read(track.schedule, step) != value:
                return True
        return False

    def _is_current(self, groups: list[dict[str, Any]]) -> bool:
        return groups is self._groups and len(groups) == self._counts[1] and groups[-1] is self._counts[2]

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
        # The groups are new dicts in the same order.
        self._known = [*groups]
        self._read_groups()
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
        """Share the schedules' values out to the groups, again if groups were added, removed or replaced."""
        self._groups = groups = self.optimizer.param_groups
        for name, (_, _, schedules) in self._schedules.items():
            if len(schedules) not in (1, len(groups)):
                raise ValueError(
                    f"{name} must hold a schedule for every parameter group; got {len(schedules)} schedules, and the "
                    f"optimizer has {len(groups)} groups now. Make a new Scheduler(optimizer, {name}=[...], "
                    "start_step=...)."
                )
        _groups.separate_rates(groups)
        shared = [name for name in ("lr", "weight_decay") if name in self._schedules]
        self._shares = {name: self._shares_of(name) for name in shared}
        self._counts[1:3] = len(groups), groups[-1]
        self._known = [*groups]
        self._initial: dict[str, list[float]] = {}
        for name in ("lr", *shared):
            first = float(groups[0].get(f"initial_{name}", groups[0][name]))
            for group, share in zip(groups, self._shares.get(name, [1.0] * len(groups)), strict=True):
                is_new = self._tracks and name in shared and len(self._schedules[name][-1]) == 1
                group.setdefault(f"initial_{name}", first * share if is_new else float(group[name]))
            self._initial[name] = [float(group[f"initial_{name}"]) for group in groups]
        self.base_lrs = self._initial["lr"]
        self._tracks = []
        for name, (key, place, schedules) in self._schedules.items():
            pairs = list(zip(groups, self._shares.get(name, [1.0] * len(groups)), strict=True))
            parts = [pairs] if len(schedules) == 1 else [[pair] for pair in pairs]
            for schedule, part in zip(schedules, parts, strict=True):
                read = self._reader(schedule)
                if name in ("momentum", "beta2") and not _private.is_of_cyclr(schedule):
                    read = _below_1(name, read)
                watched = len(groups) > 1 and name in shared
                last = [math.nan if self._pending else read(schedule, self._last_step)] if watched else []
                self._tracks.append(_Track(key, place, read, schedule, part, last))
        self._watched = [track for track in self._tracks if track.last]
        ends = [schedule.total_steps for *_, schedules in self._schedules.values() for schedule in schedules]
        if self._end is None:
            self._end = min((end for end in ends if end is not None), default=math.inf)

    def _shares_of(self, name: str) -> list[float]:
        """Return the share of each group: known groups keep theirs, others have that of their current value."""
        groups, known = self.optimizer.param_groups, [id(group) for group in self._known]
        one = len(self._schedules[name][-1]) == 1
        if not known:
            earlier = _hooks.latest(self.optimizer)
            if name == "lr":
                return _groups.rate_shares(groups, earlier, keep_ratios=one and self._keeps_ratios)
            return _groups.ratios_of(name, groups, earlier)
        held, saved = self._shares.get(name, []), self._saved_shares.get(name, [])
        self._shares_moved = self._shares_moved or {*known} != {*map(id, groups)}
        kept = [(group, share) for group, share in zip(self._known, held, strict=False) if share != 0]
        reference = next((float(group[name]) / share for group, share in kept), 0.0)
        first = next((float(group.get(f"initial_{name}", group[name])) / share for group, share in kept), 0.0)
        shares = []
        for index, group in enumerate(groups):
            value = float(group[name])
            if id(group) in known and len(held) == len(known):
                share = held[known.index(id(group))]
            elif index < len(saved):
                share = saved[index]
            elif not (one and self._keeps_ratios):
                share = held[index] if index < len(held) else 1.0
            elif name == "lr" and group.get("lr_scale") is not None:
                share = _groups.scale(group)
            elif index < len(held) and value == reference * held[index]:
                share = held[index]
            elif group[name] is self.optimizer.defaults.get(name) or reference == 0:
                # The default says nothing about the current rate.
                share = value / first if first else 1.0
            else:
                share = value / reference
            shares.append(share)
        return shares

    def _keep_edited(self) -> None:
        """Keep the shares of groups whose values were set by hand since they were set here.

        A factor that all groups have in common is that of another scheduler, and no share.
        """
        if self._in_sequence or self._pending or _private.has_torch_scheduler(self.optimizer):
            return
        edited = False
        for name, shares in self._shares.items():
            tracks = [track for track in self._watched if track.key == name]
            values = [track.last[0] for track in tracks for _ in track.shares]
            held = [float(group[name]) for group in self._known]
            set_to = [
                _groups.rounded(value * share, group[name])
                for value, share, group in zip(values, shares, self._known, strict=True)
            ]
            same = [math.isclose(now, before, rel_tol=1e-9) for now, before in zip(held, set_to, strict=True)]
            factors = [now / before for now, before in zip(held, set_to, strict=True) if before]
            if all(same) or (
                factors
                and all(math.isclose(factor, factors[0], rel_tol=1e-6) for factor in factors)
                and all(now == 0 for now, before in zip(held, set_to, strict=True) if not before)
            ):
                continue
            edited = True
            whole = not any(same) and len(tracks) == 1 and held[0] != 0
            for index, (now, value) in enumerate(zip(held, values, strict=True)):
                if not same[index]:
                    reference = held[0] if whole else value or self._initial[name][0]
                    shares[index] = now / reference if reference else shares[index]
        if edited:
            self._shares_moved = True
            self._read_groups()

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
        if self._watched:
            self._find_edited()
        if epoch is not None:
            self._go_to(self._checked_step("epoch", epoch))
            return
        step = self._last_step + 1 if self._counts_calls else self._counts[0] + self._offset
        if step != self._last_step or self._counts[1] != len(self.optimizer.param_groups):
            self._set_to(step)
            if step > self._end:
                self._warn_end(step)
        elif _hooks.counts_updates(self.optimizer):
            if self._idle_since != self._counts[0]:
                self._idle_since, self._idle_calls = self._counts[0], 0
            self._idle_calls += 1
            other = self._idle_calls % MISSED_UPDATES == 1 and self._updated_by_another()
            if other or (self._idle_calls == IDLE_CALLS and self._counts[0] == 0 and not self._warned):
                self._warn_idle(other)

    def _updated_by_another(self) -> bool:
        """Return True if the parameters changed since the last look, without an update of this optimizer."""
        before, self._versions = self._versions, _private.versions(self.optimizer)
        return self._idle_calls > 1 and before != self._versions and not self._warned

    def _warn_idle(self, other: bool) -> None:
        seen = (
            "while something else updated its parameters"
            if other
            else "unless you accumulate over more batches than that"
        )
        warnings.warn(
            f"step() of {type(self).__name__} was called {self._idle_calls - other} times, and no update of "
            f"{type(self.optimizer).__name__} was seen: the learning rate stands still, {seen}. Updates are counted, "
            "not calls. Create the scheduler with the optimizer that updates; if its updates run no hooks, create a "
            'Scheduler(..., counts="calls"). To draw a schedule, call it: schedule(step).',
            stacklevel=3,
        )
        self._warned = True

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
        for key, place, read, schedule, shares, last in self._tracks:
            value = read(schedule, step)
            if last:
                last[0] = value
            for group, share in shares:
                if type(group[key]) is float:
                    group[key] = value * share
                else:
                    _groups.assign(group, key, value * share, place)

    def _find_edited(self) -> None:
        """Look for values that were set by hand, and keep their shares."""
        for key, _, _, _, shares, last in self._watched:
            value = last[0]
            for group, share in shares:
                held = group[key]
                # Reading a tensor of an accelerator would wait for it.
                if held != value * share if type(held) is float else held.device.type == "cpu":
                    self._keep_edited()
                    return

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
        tracks = [track for track in self._tracks if track.key == "lr"]
        return [track.read(track.schedule, step) * share for track in tracks for _, share in track.shares]

    def _sets_apart(self, name: str) -> bool:
        """Return True if the groups hold values of this scheduler's own schedules for each group."""
        return len(self._schedules.get(name, ((),))[-1]) > 1 and self._owns_rates()

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
            **self._shares_to_save(),
        }

    def _shares_to_save(self) -> dict[str, Any]:
        """Return the shares of groups if the optimizer as it was created does not give them."""
        self._find_edited()
        return {"shares": {name: [*shares] for name, shares in self._shares.items()}} if self._shares_moved else {}

    def _load_shares(self, state_dict: dict[str, Any]) -> None:
        """Take over the shares of a state, if one schedule for all groups, or one for each, is in both."""
        saved = state_dict.get("shares", {})
        self._shares_moved = self._shares_moved or bool(saved)
        described = state_dict.get("schedules", self._described())
        for name, shares in self._shares.items():
            ones = len(described.get(name, ())) == 1, len(self._schedules[name][-1]) == 1
            if ones[0] == ones[1] and len(saved.get(name, ())) >= len(shares):
                shares[:] = saved[name][: len(shares)]
                self._saved_shares[name] = saved[name] if len(saved[name]) > len(shares) else []
        self._read_groups()

    def _described(self) -> dict[str, Any]:
        return {name: [*map(_description, schedules)] for name, (_, _, schedules) in self._schedules.items()}

    def load_state_dict(self, state_dict: dict[str, Any], schedules: Resumed | None = None) -> None:
        """Continue at the saved step.

        In a `SequentialLR` of torch, a scheduler that was saved before or after its turn does not set the rates.

        Args:
            state_dict: the dict that `state_dict` returned.
            schedules: `"same"`: the saved schedules must equal those of this scheduler; `"new"`: continue by those of
                this scheduler, to extend or change a run; `"saved"`: continue by the saved schedules. By default the
                argument `resume` of this scheduler.

        Raises:
            ValueError: not a state of a `Scheduler`, or one with other schedules; nothing is changed.
        """
        schedules = self._resume_mode if schedules is None else schedules
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
                f'step {step} by those of this scheduler, pass schedules="new"; by the saved ones, schedules="saved". '
                'If a trainer loads the state, create the Scheduler(..., resume="new"), or "saved".'
            )
        if schedules == "saved":
            given = {name: _from_descriptions(held) for name, held in saved.items()}
            arguments = {name: given.pop(name, None) for name in ("lr", "momentum", "weight_decay")}
            self._schedules, self._end = self._checked(arguments, given), None
            self._read_groups()
        self._load_shares(state_dict)
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
        return {name: value for name, value in vars(self).items() if name not in ("_tracks", "_watched")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # The hooks of each copy count into a list of its own.
        self._counts = [*self._counts]
        self._tracks = []
        self._attach()
        self._read_groups()


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
