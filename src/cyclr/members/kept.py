"""The members that a run keeps: when to add a member, how many to keep, and how to continue after a stop."""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cyclr import _checks, _plain
from cyclr.errors import MembersError
from cyclr.members.folder import MemberFolder
from cyclr.members.member import (
    Description,
    Member,
    Shapes,
    StateFormat,
    check_steps,
    checked_metrics,
    described,
)
from cyclr.schedules import Schedule

FORMAT_VERSION = 1


class HasMembers:
    """The base class of `Snapshots` in every framework. The subclass decides when to add a member."""

    _kept: "KeptMembers"

    @property
    def members(self) -> list[Member]:
        """A new list of the members, oldest first."""
        return self._kept.members

    def state_dict(self) -> dict[str, Any]:
        """Return the members as a dict, without their weights if they are in a folder.

        For torch, `torch.load(weights_only=True)` can read the dict.
        """
        return self._kept.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue with the saved members. Load the state of a scheduler separately, before or after this.

        Args:
            state_dict: the dict that `state_dict` returned.

        Raises:
            ValueError: not a state of `Snapshots`, or the saved members were in a folder and these are in memory, or
                the reverse.
            MembersError: members of another model, or the folder lacks some of them. Nothing is changed.
        """
        self._kept.load_state_dict(state_dict)


class KeptMembers:
    """The last members of a run, in memory or in a folder.

    | moment          | members                                                                                        |
    |-----------------|------------------------------------------------------------------------------------------------|
    | creation        | none, or the members in the folder                                                             |
    | after an update | members of this step and later steps are dropped: a run that was resumed from an earlier       |
    |                 | checkpoint adds them again                                                                     |
    | `add`           | a member is added, and the oldest member is dropped if there are more than `keep`              |

    The members in the folder change only when a member is added. The first update also removes unlisted files that a
    killed run left in the folder.

    Args:
        format: format of the states.
        keep: number of members to keep, ≥ 1; None for all.
        every: number of updates from one member to the next, ≥ 1; None to add a member at each end of a cycle.
        folder: folder for the members, created if it does not exist; None for memory.
        writes: True in one process of a run, and False in all other processes.

    Raises:
        TypeError, ValueError: an argument of another type or out of range.
        MembersError: members.json in the folder is damaged, or lists files that do not exist.
    """

    def __init__(
        self,
        format: StateFormat,
        *,
        keep: int | None = None,
        every: int | None = None,
        folder: str | os.PathLike[str] | None = None,
        writes: bool = True,
    ) -> None:
        self._format = format
        self._keep = None if keep is None else _checks.integer("keep", keep, at_least=1)
        self.every = None if every is None else _checks.integer("every", every, at_least=1, fix="It counts updates.")
        self._folder = None if folder is None else MemberFolder(Path(folder), format, writes=writes)
        self._shapes: Shapes | None = None
        self._members: list[Member] = []
        self._is_training = False
        if self._folder is not None:
            self._shapes, self._members = self._folder.read()

    @property
    def members(self) -> list[Member]:
        """A new list of the members, oldest first."""
        return [*self._members]

    def check(self, shapes: Shapes) -> None:
        """Compare the shapes of the model with the shapes of the earlier members, if there were any.

        Raises:
            MembersError: the earlier members are from another model.
        """
        if self._shapes is not None:
            where = "this Snapshots" if self._folder is None else f"folder {str(self._folder.path)!r}"
            check_shapes(f"the members of {where}", self._shapes, shapes, "Choose another folder.")
        self._shapes = shapes

    def after_update(self, step: int, is_end: Callable[[], bool]) -> bool:
        """Drop the members of this step and later steps. Return True if a member must be added now."""
        if self._folder is not None and not self._is_training:
            # The run trains, so from now on it writes to the folder.
            self._folder.remove_unlisted(self._members)
        self._is_training = True
        if self._members and self._members[-1].step >= step:
            self._members = [member for member in self._members if member.step < step]
        return is_end() if self.every is None else (step + 1) % self.every == 0

    def add(self, step: int, lr: float, state: Any, metrics: Mapping[str, Any] | None) -> None:
        """Add a member.

        Raises:
            MembersError: the state is not finite, or from another model. Nothing is changed.
            TypeError: the metrics are not numbers.
        """
        name = self._format.not_finite(state)
        if name is not None:
            raise MembersError(
                f"a member must be finite; got NaN or infinity in {name} after step {step}. Train at lower learning "
                "rates, or with AutoCycle, which restores finite weights."
            )
        self.check(self._format.shapes(state))
        member = Member(step, lr, state, checked_metrics("validate(model)", metrics))
        kept = self._members if self._keep is None else self._members[max(len(self._members) + 1 - self._keep, 0) :]
        if self._folder is not None and self._shapes is not None:
            member = self._folder.add(member, kept, self._shapes)
        self._members = [*kept, member]

    def state_dict(self) -> dict[str, Any]:
        """Return the members, without their states if they are in a folder."""
        return {
            "version": FORMAT_VERSION,
            "in_folder": self._folder is not None,
            "shapes": self._shapes,
            "members": [
                {**described(member), "state": None if self._folder is not None else member.state}
                for member in self._members
            ],
        }

    def load_state_dict(self, state_dict: Any) -> None:
        """Continue with saved members.

        Raises:
            ValueError, TypeError: not a state of `Snapshots`, or the saved members were in a folder and these are in
                memory, or the reverse.
            MembersError: members of another model, or the folder lacks some of them. Nothing is changed.
        """
        if not _plain.is_version(state_dict, FORMAT_VERSION, "members"):
            raise ValueError(
                f"state_dict must come from Snapshots.state_dict() of version {FORMAT_VERSION}; got "
                f"{_plain.described(state_dict)}."
            )
        state = _plain.read("state_dict", state_dict, _State)
        if state.in_folder is not (self._folder is not None):
            saved, own = ("in a folder", "in memory") if state.in_folder else ("in memory", "in a folder")
            raise ValueError(
                f"state_dict was saved with members {saved}, but this Snapshots keeps its members {own}. Create "
                "Snapshots with the same folder= as in that run."
            )
        members = [entry.member() for entry in state.members]
        check_steps(members)
        if members:
            check_shapes("state_dict", state.shapes or {}, self._shapes or state.shapes or {}, _REMEDY)
        if self._folder is None:
            for member in members:
                check_shapes("state_dict", self._format.shapes(member.state), state.shapes or {}, _REMEDY)
            self._members, self._shapes = members, state.shapes if members else self._shapes
            return
        there = [member.step for member in self._members]
        for member in members:
            later = sum(step > member.step for step in there)
            if member.step not in there and (self._keep is None or later < self._keep):
                raise MembersError(
                    f"state_dict lists a member of step {member.step}, but folder {str(self._folder.path)!r} has "
                    f"members of steps {there}. Pass the folder of that run."
                )


class _State(NamedTuple):
    """The entries of `Snapshots.state_dict()`."""

    version: int
    in_folder: bool
    shapes: Shapes | None
    members: list[Description]


_REMEDY = "Create the same model as in that run."


def check_cycle_ends(name: str, cycles: Schedule | None, remedy: str) -> None:
    """Raise if a schedule has no cycle ends. None is a schedule with cycle ends that a range test chooses later."""
    if cycles is not None and not cycles.has_cycle_ends:
        raise ValueError(
            f"{name} needs a schedule with cycle ends; got {_checks.quoted(cycles)}, whose has_cycle_ends is False. "
            "Use a schedule that falls and ends, such as cyclr.Cyclical, cyclr.WarmRestarts or "
            f"cyclr.OneCycle{remedy}."
        )


OR_EVERY = ", or pass every=n for a member every n updates"


def check_shapes(what: str, found: Shapes, wanted: Shapes, remedy: str) -> None:
    """Raise if the arrays of members have other names or shapes than the arrays of the model."""
    for name in [*wanted, *found]:
        one, other = found.get(name), wanted.get(name)
        if one != other:
            held = f"{name:.100} of shape {_checks.quoted(one)}" if one is not None else f"no {name:.100}"
            own = f"{name:.100} of shape {_checks.quoted(other)}" if other is not None else f"no {name:.100}"
            raise MembersError(f"{what} must be of this model, which has {own}; got {held}. {remedy}")


def checked_members(members: Iterable[Any], format: StateFormat, shapes: Shapes | None) -> list[Member]:
    """Return a list of members that can be combined.

    Raises:
        TypeError: `members` is not a list of members.
        ValueError: `members` is empty.
        MembersError: a member is from another model, or not finite.
    """
    if not isinstance(members, Iterable) or isinstance(members, str | Mapping):
        raise TypeError(f"members must be a list of Members, such as snapshots.members; got {_checks.quoted(members)}.")
    listed = [*members]
    if wrong := [member for member in listed if not isinstance(member, Member)]:
        raise TypeError(f"members must hold Members, such as snapshots.members; got {_checks.quoted(wrong[0])}.")
    if not listed:
        raise ValueError("members must hold at least one Member; got none. Train to the end of a cycle first.")
    for member in listed:
        state = member.state
        found = format.shapes(state)
        shapes = found if shapes is None else shapes
        check_shapes(f"the member of step {member.step}", found, shapes, "Pass the members of one model.")
        if name := format.not_finite(state):
            raise MembersError(
                f"members must be finite; got NaN or infinity in {name} of the member of step {member.step}. Leave "
                "this member out."
            )
    return listed


def shares(weights: Iterable[Any] | None, count: int) -> list[float]:
    """Return the weights of the members, divided by their sum.

    Raises:
        TypeError, ValueError: `weights` does not hold a number ≥ 0 for each member, or all numbers are 0.
    """
    if weights is None:
        return [1.0 / count] * count
    if not isinstance(weights, Iterable) or isinstance(weights, str | Mapping):
        raise TypeError(f"weights must be a list of numbers; got weights={_checks.quoted(weights)}.")
    given = [_checks.number(f"weights[{index}]", value, at_least=0) for index, value in enumerate(weights)]
    total = sum(given)
    if len(given) != count or total == 0:
        raise ValueError(
            f"weights must hold a number for each of the {count} members, and not only zeros; got "
            f"weights={_checks.quoted(given)}."
        )
    return [value / total for value in given]
