"""A scheduler with the interface of timm's schedulers."""

from typing import Any

from cyclr import _checks, _names
from cyclr.torch.scheduler import Scheduler


class TimmScheduler(Scheduler):
    """A `Scheduler` for training loops that were written for timm's schedulers. Its arguments are `Scheduler`'s.

    It behaves like a timm scheduler that counts updates (`t_in_epochs=False`, `--sched-on-updates`): `step_update` sets
    the number of updates, and `step(epoch, metric)` after an epoch changes nothing. Without `step_update`, call
    `step()` after each update, as for `Scheduler`. A group's `lr_scale` multiplies its learning rate, as in timm.

    timm's own script does not save schedulers. To resume, call `step_update(start_epoch * updates_per_epoch)`.

    Raises:
        ValueError: in `step(epoch)` of a resumed run, if the position was not set by `step_update` or
            `load_state_dict`.

    Example:
        >>> import cyclr, torch
        >>> from cyclr.torch import TimmScheduler
        >>> weight = torch.nn.Parameter(torch.tensor([1.0]))
        >>> optimizer = torch.optim.SGD([weight], lr=0.1)
        >>> scheduler, used = TimmScheduler(optimizer, cyclr.Cyclical(0.25, 0.75, step_size=2)), []
        >>> for epoch in range(2):
        ...     for batch in range(2):
        ...         weight.sum().backward()
        ...         used.append(optimizer.param_groups[0]["lr"])
        ...         optimizer.step()
        ...         scheduler.step_update(num_updates=2 * epoch + batch + 1)
        ...     scheduler.step(epoch + 1, metric=0.5)
        >>> used
        [0.25, 0.5, 0.75, 0.5]
    """

    def step(self, epoch: int | None = None, metric: Any = None) -> None:
        """Set the values that the next update uses.

        Args:
            epoch: number of finished epochs. Not used, because a schedule counts updates.
            metric: not used.
        """
        if epoch and self._position == 0:
            raise ValueError(
                f"step(epoch) must come after an update; got epoch={_checks.quoted(epoch)} before the first one. To "
                "resume, call step_update(start_epoch * updates_per_epoch) or load_state_dict(state)."
            )
        super().step()

    def step_update(self, num_updates: int, metric: Any = None) -> None:
        """Set the number of updates, and the values that the next update uses.

        Args:
            num_updates: number of updates made, ≥ 0: the next update uses `lr(num_updates)`.
            metric: not used.
        """
        self._go_to(self._checked_step("num_updates", num_updates))


__all__ = ["TimmScheduler"]

_names.Package.adopt(__name__)
