"""A function that is called at the end of every cycle."""

from collections.abc import Callable
from typing import Any

from cyclr import _checks, _names
from cyclr.members.kept import check_cycle_ends
from cyclr.torch.auto_cycle import AutoCycle
from cyclr.torch.scheduler import Scheduler


class CycleEnd:
    """Calls a function at the end of every cycle, for checkpoints, evaluation or an ensemble of snapshots.

    A cycle ends at a minimum of the learning rate. The function is called after the update at the minimum and before
    the next update, so it sees the weights of that update. An update that `GradScaler` skips, or of a range test, does
    not end a cycle. In a `SequentialLR`, only cycle ends at which the scheduler is active count.

    With a `Scheduler`, the function is called in `optimizer.step()`, after the update. The cycles are the cycles of the
    learning rate of the first parameter group. With an `AutoCycle`, the function is called in `auto.step(loss)`, unless
    that call restores earlier weights.

    You need not keep a reference to the object: the scheduler holds it.

    Args:
        fn: function that is called with the step of the update, from 0.
        scheduler: the `Scheduler` or `AutoCycle` of the run. Accelerate's wrapper is replaced by the scheduler in it.

    Raises:
        TypeError: fn is not a function, or scheduler is another object.
        ValueError: the schedule has no cycle ends (see `Schedule.has_cycle_ends`), or the scheduler was
            created with `counts="calls"`.

    Example:
        >>> import cyclr, torch
        >>> weight = torch.nn.Parameter(torch.tensor([1.0]))
        >>> optimizer = torch.optim.SGD([weight], lr=0.1)
        >>> scheduler = cyclr.torch.Scheduler(optimizer, lr=cyclr.Cyclical(0.25, 0.75, step_size=2))
        >>> kept = {}
        >>> _ = cyclr.torch.CycleEnd(lambda step: kept.update({step: weight.item()}), scheduler)
        >>> for _ in range(10):
        ...     weight.grad = torch.ones(1)
        ...     optimizer.step()
        ...     scheduler.step()
        >>> kept
        {4: -1.25, 8: -3.25}

    Source: Huang et al. 2017, *Snapshot Ensembles*, arXiv:1704.00109.
    """

    @_names.hinted
    def __init__(self, fn: Callable[[int], object], scheduler: Scheduler | AutoCycle) -> None:
        self._fn = _checks.function("fn", fn, "of the step")
        self._scheduler = counter_of("CycleEnd", scheduler)
        check_cycle_ends("CycleEnd", self._scheduler._cycles, "")
        self._scheduler._listen(self._after_update)

    def _after_update(self, step: int) -> None:
        if self._scheduler._ends_cycle(step):
            self._fn(step)


def counter_of(name: str, scheduler: Any) -> Scheduler | AutoCycle:
    """Return the `Scheduler` or `AutoCycle` that counts the updates of the run, also if it is in a wrapper."""
    for given in (scheduler, getattr(scheduler, "scheduler", None)):
        if isinstance(given, Scheduler) and given._counts_calls:
            raise ValueError(
                f'{name} must be called by the updates of the optimizer; got a {type(given).__name__}(counts="calls"). '
                "Call your function yourself after an update for which schedule.is_cycle_end(step) is True."
            )
        if isinstance(given, Scheduler | AutoCycle):
            return given
    raise TypeError(
        f"scheduler must be a cyclr.torch.Scheduler or a cyclr.torch.AutoCycle; got {type(scheduler).__name__}. If it "
        "is a SequentialLR or ChainedScheduler, pass the Scheduler inside it."
    )
