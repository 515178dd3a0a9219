"""Shares: factors between the value of a schedule and the values of the parameter groups."""

import math
from typing import Any

from cyclr.torch import _groups


class Shares:
    """The share of each parameter group in one hyperparameter: the value of a group is schedule(t) · share.

    | moment                     | share of a group                                                               |
    |----------------------------|--------------------------------------------------------------------------------|
    | the scheduler is created   | its value over the first group's; 1 if each group has its own schedule         |
    | the group is added         | its value over the current value for a share of 1                              |
    | its value is set by hand   | the new value over the schedule's value, even 0                                |
    | a state is loaded          | the saved share; if none was saved, the share of this position at creation     |

    If a group has an `lr_scale`, its share is the `lr_scale`. For momentum, the share is 0 for groups without momentum,
    otherwise 1.

    Attributes:
        values: the shares, in the order of the groups.
        initial: the values that the groups were created with.
        to_save: True if a newly created scheduler would have other shares, so they must be saved.
    """

    def __init__(
        self, optimizer: Any, name: str, key: str, place: int, *, one: bool, ratios: bool, earlier: Any
    ) -> None:
        self._optimizer, self._name, self._key, self._place = optimizer, name, key, place
        self.one, self._ratios = one, ratios
        self.to_save = False
        self._saved: list[float] = []
        """Shares of a loaded state, including groups that are not added yet."""
        groups = optimizer.param_groups
        if name == "lr":
            self.values = _groups.rate_shares(groups, earlier, keep_ratios=ratios)
        elif name == "momentum":
            self.values = [self._momentum_share(group) for group in groups]
        else:
            self.values = _groups.ratios_of(name, groups, earlier)
        self._created = [*self.values]
        self.initial: list[float] = []
        initial = [float(group.get(f"initial_{name}", group.get(name, 0.0))) for group in groups]
        self._initial_unit = next(
            (each / share for each, share in zip(initial, self.values, strict=True) if share), 0.0
        )
        """The initial value for a share of 1."""
        self._keep(groups, self.values, added=False)

    def _has_group_schedules(self, name: str) -> bool:
        """Return True if each group has its own schedule, so that the values of the groups give no ratios."""
        return not self.one

    def update(self) -> None:
        """Read the groups after some were added, removed or replaced. Groups that remain keep their shares."""
        groups, before = self._optimizer.param_groups, {id(group): index for index, group in enumerate(self._known)}
        self.to_save = self.to_save or before.keys() != {*map(id, groups)}
        shares = [
            self.values[before[id(group)]] if id(group) in before else self._share_of_new(index, group)
            for index, group in enumerate(groups)
        ]
        self._keep(groups, shares, added=True)

    def _share_of_new(self, index: int, group: dict[str, Any]) -> float:
        if index < len(self._saved):
            return self._saved[index]
        if self._name == "momentum":
            return self._momentum_share(group)
        if not self._ratios:
            return self.values[index] if index < len(self.values) else 1.0
        if self._name == "lr" and group.get("lr_scale") is not None:
            return _groups.scale(group)
        units = [(known, share) for known, share in zip(self._known, self.values, strict=True) if share != 0]
        value, unit = float(group[self._name]), next((float(known[self._name]) / share for known, share in units), 0.0)
        if index < len(self.values) and value == unit * self.values[index]:
            return self.values[index]
        if unit != 0 and group[self._name] is not self._optimizer.defaults.get(self._name):
            return value / unit
        # The optimizer's default is not related to the current value, so compare the initial values.
        return value / self._initial_unit if self._initial_unit else 1.0

    def _momentum_share(self, group: dict[str, Any]) -> float:
        """Return 0 for a group without momentum if another group has momentum, otherwise 1."""
        momenta = [_groups.held(other, self._key, self._place) for other in self._optimizer.param_groups]
        return float(_groups.held(group, self._key, self._place) != 0 or not any(momenta))

    def _keep(self, groups: list[dict[str, Any]], shares: list[float], *, added: bool) -> None:
        """Store the groups and their shares, and set the entry `initial_…` in groups that have none."""
        self._known, self.values = [*groups], shares
        if self._name == "momentum":
            return
        entry = f"initial_{self._name}"
        for group, share in zip(groups, shares, strict=True):
            group.setdefault(entry, self._initial_unit * share if added and self.one else float(group[self._name]))
        self.initial = [float(group[entry]) for group in groups]

    def follow(self, reapply: bool) -> None:
        """Read groups that replaced the known ones in the same order, as `load_state_dict` of an optimizer does.

        Args:
            reapply: True to give them the initial values of the known groups, False to keep their own.
        """
        self._known = [*self._optimizer.param_groups]
        for group, value in zip(self._known, self.initial, strict=False):
            group[f"initial_{self._name}"] = value if reapply else group.get(f"initial_{self._name}", value)

    def keep_edited(self, values: list[float]) -> bool:
        """Update the shares of groups whose values were set by hand. Return True if there are any.

        If all groups changed by the same factor, another scheduler changed them, and the shares stay.

        Args:
            values: the schedule's value for each group when it was last set.
        """
        held = [float(group[self._name]) for group in self._known]
        set_to = [
            _groups.rounded(value * share, group[self._name])
            for value, share, group in zip(values, self.values, self._known, strict=True)
        ]
        same = [math.isclose(now, before, rel_tol=1e-9) for now, before in zip(held, set_to, strict=True)]
        factors = [now / before for now, before in zip(held, set_to, strict=True) if before]
        if all(same) or (
            factors
            and all(math.isclose(factor, factors[0], rel_tol=1e-6) for factor in factors)
            and all(now == 0 for now, before in zip(held, set_to, strict=True) if not before)
        ):
            return False
        whole = not any(same) and self.one and held[0] != 0
        for index, (now, value) in enumerate(zip(held, values, strict=True)):
            reference = held[0] if whole else value or self.initial[0]
            if not same[index] and reference:
                self.values[index] = now / reference
        self.to_save = True
        return True

    def load(self, saved: list[float] | None) -> None:
        """Set saved shares, also for groups that are not added yet.

        If none were saved, use the shares at the creation of the scheduler.
        """
        if saved is None:
            if len(self._created) == len(self.values):
                self.values[:], self.to_save, self._saved = self._created, False, []
        elif len(saved) >= len(self.values):
            self.values[:], self.to_save = saved[: len(self.values)], True
            self._saved = saved if len(saved) > len(self.values) else []
