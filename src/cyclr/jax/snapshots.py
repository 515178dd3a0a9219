"""The parameters at the ends of cycles, kept as members of an ensemble or an average."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import jax

import cyclr
from cyclr import _checks, _names
from cyclr.jax._states import JaxStates, arrays, copy_of, safetensors
from cyclr.members.kept import OR_EVERY, HasMembers, KeptMembers, check_cycle_ends
from cyclr.schedules import Schedule
from cyclr.schedules.base import check_schedule


class Snapshots(HasMembers):
    """The parameters of a run at the end of every cycle, or every few updates: for `ensemble` and `average`.

    Call `after(step, params)` after every update, outside of compiled functions. A member's state is a copy of the
    parameters in host memory, a pytree of the same structure. So a later update may donate the parameters.

    In a folder, each member is a file `member-<step>.safetensors`, and `members.json` lists the members. Every file is
    written atomically. A run that is resumed from a checkpoint, or restarted, finds its members in the folder. It keeps
    the members from before the restored step, and replaces the later ones when it adds its next member. If several
    processes train together, only the first process writes.

    Args:
        schedule: the `Schedule` of the learning rate, or the `AutoCycle` of the run. With an `AutoCycle`, call
            `after(auto.last_step, params)` after `auto.step`.
        keep: number of members to keep, ≥ 1; older members are dropped. By default all members are kept.
        every: number of updates from one member to the next, ≥ 1, instead of the ends of cycles.
        folder: folder for the members, created if it does not exist; by default the members stay in memory.
        validate: function of the parameters that returns the metrics of the member, a dict of numbers.
        like: parameters with the structure of the members in files. Needed only to read members before this run adds
            one.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range; the schedule has no cycle ends.
        MembersError: the folder holds members with other parameters (checked in `after` if like is not given); another
            run writes to the folder.
        MissingExtraError: there is a folder, but safetensors is not installed.

    Example:
        >>> import cyclr, jax.numpy as jnp
        >>> schedule = cyclr.Cyclical(0.25, 0.75, step_size=2)
        >>> snapshots = cyclr.jax.Snapshots(schedule, keep=2)
        >>> params = {"weight": jnp.zeros(3)}
        >>> for step in range(13):
        ...     params = {"weight": params["weight"] - schedule(step)}
        ...     snapshots.after(step, params)
        >>> snapshots.members
        [Member(step=8, lr=0.25, metrics={}), Member(step=12, lr=0.25, metrics={})]

    Source: Huang et al. 2017, *Snapshot Ensembles*, arXiv:1704.00109; Kaddour 2022, *Stop Wasting My Time! Saving Days
    of ImageNet and BERT Training with Latest Weight Averaging*, arXiv:2209.14981, for `every` with `keep`.
    """

    @_names.hinted
    def __init__(
        self,
        schedule: Schedule | cyclr.AutoCycle,
        *,
        keep: int | None = None,
        every: int | None = None,
        folder: str | os.PathLike[str] | None = None,
        validate: Callable[[Any], Mapping[str, float]] | None = None,
        like: Any = None,
    ) -> None:
        if isinstance(schedule, cyclr.AutoCycle):
            cycles = schedule.schedule
        else:
            check_schedule("schedule", schedule)
            cycles = schedule
        if every is None:
            check_cycle_ends("Snapshots", cycles, OR_EVERY)
        self._schedule = schedule
        self._validate = (
            validate
            if validate is None
            else _checks.function("validate", validate, "of the params that returns a dict")
        )
        if folder is not None:
            safetensors()
        self._states = JaxStates(like)
        writes = jax.process_index() == 0
        self._kept = KeptMembers(self._states, keep=keep, every=every, folder=folder, writes=writes)
        if like is not None:
            self._kept.check(self._states.shapes(like))

    def after(self, step: Any, params: Any) -> None:
        """Add a member if the update ends a cycle, or if it is the last of `every` updates.

        Args:
            step: step of the last update, from 0: an int, or an array with one int.
            params: the parameters after this update, a pytree of arrays.

        Raises:
            TypeError: the step is not an integer, or is traced by a compiled function; params hold no arrays.
            MembersError: the parameters hold NaN or infinity, or have other shapes than the earlier members.
        """
        if isinstance(step, jax.core.Tracer):
            raise TypeError(
                "after(step, params) must be called outside of compiled functions; got a traced step. Call it in the "
                "loop around jit or scan, with the parameters that the compiled function returns."
            )
        number = _checks.integer("step", step.item() if hasattr(step, "item") else step, at_least=0)
        schedule = self._schedule
        if isinstance(schedule, cyclr.AutoCycle) and schedule.undone:
            return
        if not self._kept.after_update(number, lambda: _ends_cycle(schedule, number)):
            return
        if not arrays(params):
            raise TypeError(f"params must hold arrays; got {_checks.quoted(params)}.")
        self._states.like = params if self._states.like is None else self._states.like
        metrics = None if self._validate is None else self._validate(params)
        lr = schedule.last_lr if isinstance(schedule, cyclr.AutoCycle) else schedule(number)
        self._kept.add(number, lr, copy_of(params), metrics)


def _ends_cycle(schedule: Schedule | cyclr.AutoCycle, step: int) -> bool:
    return bool(schedule.is_cycle_end if isinstance(schedule, cyclr.AutoCycle) else schedule.is_cycle_end(step))
