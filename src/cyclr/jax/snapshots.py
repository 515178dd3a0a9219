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
    parameters in host memory, a pytree of the same structure, so that an update may donate them.

    In a folder, each member is a file `member-<step>.safetensors`, and `members.json` lists them. Files appear whole or
    not at all. A run that is killed and goes on from a checkpoint, or starts again, finds its members: those that it
    has made by then stay, later ones are replaced when it makes new ones. Of several processes the first one writes.

    Args:
        schedule: the `Schedule` of the learning rate, or the `AutoCycle` of the run: then call
            `after(auto.last_step, params)` after `auto.step`.
        keep: number of the last members to keep, ≥ 1; by default all.
        every: updates from one member to the next, ≥ 1, in place of cycle ends.
        folder: folder for the members, made if it does not exist; by default they stay in memory.
        validate: function of the parameters that returns a dict of numbers, the metrics of the member.
        like: parameters of the structure that files are read into; by default those of the last `after`.

    Raises:
        TypeError, ValueError: an argument of another type or out of range; a schedule without cycle ends.
        MembersError: the folder holds members of other parameters, at the latest in `after`; another run writes to it.
        MissingExtraError: safetensors is not installed, and there is a folder.

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
        """Take a member if the update was at the end of a cycle, or `every` says so.

        Args:
            step: step of the update that was made, from 0: an int, or an array of one.
            params: the parameters after it, a pytree of arrays.

        Raises:
            TypeError: the step is not an integer, or traced by a compiled function; params without arrays.
            MembersError: parameters that are NaN or infinite, or of other shapes than those before.
        """
        if isinstance(step, jax.core.Tracer):
            raise TypeError(
                "after(step, params) must be called outside of compiled functions; got a traced step. Call it in the "
                "loop around jit or scan, with the parameters that come back."
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
