"""The weights at the ends of cycles, kept as members of an ensemble or an average."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from cyclr import _checks, _names
from cyclr.keras import _private
from cyclr.keras._cycle_callback import CycleCallback
from cyclr.keras._states import KerasStates, weights_of
from cyclr.members.kept import OR_EVERY, HasMembers, KeptMembers, check_cycle_ends
from cyclr.schedules import Schedule


class Snapshots(HasMembers, CycleCallback):
    """The weights of a run at the end of every cycle, or every few updates: members for `ensemble` and `average`.

    This callback adds a member directly after the update that ends a cycle, before the next update. The member's state
    is a copy of `model.get_weights()`. If an `AutoCycle` comes before this callback in the list, the `AutoCycle` counts
    the cycles and steps.

    In a folder, each member is a file `member-<step>.weights.h5`, which `model.load_weights` can also read, and
    `members.json` lists the members. Every file is written atomically. The variables of the optimizer are not saved. A
    run that is resumed from a backup, or restarted, finds its members in the folder. It keeps the members from before
    the restored step, and replaces the later ones when it adds its next member.

    Args:
        keep: number of members to keep, ≥ 1; older members are dropped. By default all members are kept.
        every: number of updates from one member to the next, ≥ 1, instead of the ends of cycles.
        folder: folder for the members, created if it does not exist; by default the members stay in memory.
        validate: function of the model that returns the metrics of the member, a dict of numbers.
        schedule: the schedule that defines the cycles, as for `CycleEnd`.

    Raises:
        TypeError, ValueError: an argument of another type or out of range. When training starts: a schedule without
            cycle ends, or any error of `CycleEnd`.
        MembersError: the folder holds members of another model. During training: weights with NaN or infinity; another
            run that writes to the folder.

    Example:
        >>> import cyclr, keras
        >>> import numpy as np
        >>> from cyclr.keras import LearningRate, Snapshots
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        >>> model.compile(keras.optimizers.SGD(LearningRate(cyclr.Cyclical(0.25, 0.75, step_size=2))), "mse")
        >>> snapshots = Snapshots(keep=2)
        >>> _ = model.fit(np.ones((13, 1)), np.ones(13), batch_size=1, verbose=0, callbacks=[snapshots])
        >>> snapshots.members
        [Member(step=8, lr=0.25, metrics={}), Member(step=12, lr=0.25, metrics={})]

    Source: Huang et al. 2017, *Snapshot Ensembles*, arXiv:1704.00109; Kaddour 2022, *Stop Wasting My Time! Saving Days
    of ImageNet and BERT Training with Latest Weight Averaging*, arXiv:2209.14981, for `every` with `keep`.
    """

    _or_else = ", or every=n for a member every n updates"

    @_names.hinted
    def __init__(
        self,
        *,
        keep: int | None = None,
        every: int | None = None,
        folder: str | os.PathLike[str] | None = None,
        validate: Callable[[Any], Mapping[str, float]] | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__(schedule, needs_schedule=every is None)
        self._validate = (
            validate if validate is None else _checks.function("validate", validate, "of the model that returns a dict")
        )
        self._states = KerasStates()
        self._kept = KeptMembers(self._states, keep=keep, every=every, folder=folder)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        super().on_train_begin(logs)
        self._states.model = self.model
        if self._kept.every is None and self._auto is None:
            check_cycle_ends("Snapshots", self._followed(), OR_EVERY)
        if _private.has_weights(self.model):
            self._kept.check({f"weight {i}": [*weight.shape] for i, weight in enumerate(self.model.weights)})

    def _is_due(self, step: int, is_end: Callable[[], bool]) -> bool:
        return self._kept.after_update(step, is_end)

    def _act(self, step: int, lr: float) -> None:
        metrics = None if self._validate is None else self._validate(self.model)
        self._kept.add(step, lr, weights_of(self.model), metrics)
