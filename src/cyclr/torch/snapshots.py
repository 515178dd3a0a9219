"""The weights at cycle ends, kept as members of an ensemble or an average."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import distributed

from cyclr import _checks, _names
from cyclr.members.kept import OR_EVERY, HasMembers, KeptMembers, check_cycle_ends
from cyclr.torch._states import STATES, copy_of, safetensors, tensors_of
from cyclr.torch.auto_cycle import AutoCycle
from cyclr.torch.cycle_end import counter_of
from cyclr.torch.scheduler import Scheduler
from cyclr.torch.state import reshard


class Snapshots(HasMembers):
    """The weights of a run at the end of every cycle, or every few updates: members for `ensemble` and `average`.

    A member is taken right after its update, when `CycleEnd` would call its function. It is a copy of
    `model.state_dict()` on the CPU, without the names of wrappers (DDP, `torch.compile`). For a sharded model (FSDP2)
    it is the whole model. You need not keep a reference to the object: the scheduler holds it.

    In a folder, each member is a file `member-<step>.safetensors`, and `members.json` lists them. Files are never left
    incomplete. If a run continues from a checkpoint, or restarts, in the same folder, it finds the members that it
    made before. Members up to its step are kept. Later members are replaced when the run makes new ones. If several
    processes train together, only the first one writes.

    Args:
        model: the module that is trained.
        scheduler: the `Scheduler` or `AutoCycle` of the run.
        keep: number of members to keep, the last ones, ≥ 1; by default all are kept.
        every: number of updates from one member to the next, ≥ 1, instead of cycle ends.
        folder: folder for the members, created if it does not exist. By default the members stay in memory.
        validate: function of the model that returns a dict of numbers, the metrics of the member. It is called in
            evaluation mode and without gradients. Afterwards the training modes are restored.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range; the schedule has no cycle ends.
        MembersError: the folder holds members of another model; during training, the weights are NaN or infinite, or
            another run writes to the folder.
        MissingExtraError: a folder is given, but safetensors is not installed.

    Example:
        >>> import cyclr, torch
        >>> model = torch.nn.Linear(1, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> scheduler = cyclr.torch.Scheduler(optimizer, lr=cyclr.Cyclical(0.25, 0.75, step_size=2))
        >>> snapshots = cyclr.torch.Snapshots(model, scheduler, keep=2)
        >>> for _ in range(13):
        ...     optimizer.step()
        ...     scheduler.step()
        >>> snapshots.members
        [Member(step=8, lr=0.25, metrics={}), Member(step=12, lr=0.25, metrics={})]

    Source: Huang et al. 2017, *Snapshot Ensembles*, arXiv:1704.00109; Kaddour 2022, *Stop Wasting My Time! Saving Days
    of ImageNet and BERT Training with Latest Weight Averaging*, arXiv:2209.14981, for `every` with `keep`.
    """

    @_names.hinted
    def __init__(
        self,
        model: torch.nn.Module,
        scheduler: Scheduler | AutoCycle,
        *,
        keep: int | None = None,
        every: int | None = None,
        folder: str | os.PathLike[str] | None = None,
        validate: Callable[[Any], Mapping[str, float]] | None = None,
    ) -> None:
        self._model = model
        self._scheduler = counter_of("Snapshots", scheduler)
        self._validate = (
            validate if validate is None else _checks.function("validate", validate, "of the model that returns a dict")
        )
        tensors = tensors_of(model)
        if folder is not None:
            safetensors()
        self._kept = KeptMembers(STATES, keep=keep, every=every, folder=folder, writes=_is_first_process())
        if every is None:
            check_cycle_ends("Snapshots", self._scheduler._cycles, OR_EVERY)
        if not any(map(torch.nn.parameter.is_lazy, tensors.values())):
            self._kept.check(STATES.shapes(tensors))
        self._scheduler._listen(self._after_update)

    def _after_update(self, step: int) -> None:
        if not self._kept.after_update(step, lambda: self._scheduler._ends_cycle(step)):
            return
        lr = float(self._scheduler._inner.param_groups[0]["lr"])
        metrics = None
        if self._validate is not None:
            with _evaluating(self._model):
                metrics = self._validate(self._model)
        self._kept.add(step, lr, copy_of(self._model), metrics)


def _is_first_process() -> bool:
    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0


@contextlib.contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
        reshard(model)
