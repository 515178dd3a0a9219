"""Warnings about a run that does not follow its schedules: one per scheduler, and one more at a schedule's end."""

import math
import warnings
import weakref
from collections.abc import Callable
from typing import Any

from cyclr.torch import _hooks, _private

WINDOW = 32
"""Number of consecutive updates that are checked: at the start of a run, and whenever the number of updates doubles."""

LATE = 8
"""Number of updates in a window without a call of `step()` before them, at which there is a warning."""

LOOK = 16
"""Number of calls of `step()` without an update between two checks for another reason."""

DRAWN = 32
"""Number of calls before the first update, after which a run without gradients and optimizer updates gets a warning."""

IDLE_AT_MOST = 1000
"""Number of calls of `step()` before the first update, after which there is always a warning."""


class Watch:
    """Checks the calls and updates of a scheduler's run.

    | state         | meaning                                                                     | changed by      |
    |---------------|-----------------------------------------------------------------------------|-----------------|
    | `_window_end` | the update that ends the window of checked updates                          | `before_update` |
    | `_late`       | number of late updates in the window                                        | `before_update` |
    | `_idle`       | updates made at the last call of `step()`, calls since without an update    | `idle_call`     |
    | `_versions`   | versions of the parameters at the last check                                | `idle_call`     |
    | `_others`     | counts updates of all optimizers from the first idle call to the check      | `idle_call`     |
    | `_edits`      | updates made at the last changed rate, such calls in a row, the factor      | `edited_call`   |
    | `_warned`     | True after a warning about calls                                            | `_warn`         |
    """

    def __init__(self, scheduler: Any, optimizer: Any) -> None:
        self._scheduler, self._optimizer = type(scheduler).__name__, optimizer
        self._window_end = WINDOW
        self._late = 0
        self._idle = 0, 0
        self._versions: dict[int, int] = {}
        self._others: _hooks.GlobalUpdateCounter | None = None
        self._edits = 0, 0, math.nan
        self._owner = weakref.ref(scheduler)
        self._warned = False

    def before_update(self, made: int, is_late: Callable[[], bool]) -> int:
        """Check an update, and warn if too many updates are made without `step()`. Return the next update to check.

        Args:
            made: number of updates made before this one.
            is_late: returns True if this update uses the rate of the previous one, but the schedule has another rate.
        """
        if made >= self._window_end:
            self._window_end, self._late = made + WINDOW, 0
        if is_late():
            self._late += 1
            if self._late == LATE:
                self._warn(
                    f"{type(self._optimizer).__name__} made {LATE} of its last updates without a call of step() of "
                    f"{self._scheduler}, each at the learning rate of the previous update. The schedule counts "
                    "updates: call scheduler.step() after every optimizer.step(), not once per epoch "
                    '(Lightning: "interval": "step"; skorch: step_every="batch"). For a schedule over epochs, write '
                    "cyclr.Clock(schedule, every=steps_per_epoch).",
                    stacklevel=5,
                )
        return made + 1 if made + 1 < self._window_end else 2 * made

    def idle_call(self, made: int) -> None:
        """Check a call of `step()` without an update since the last call. Warn if no update can be expected.

        Args:
            made: number of updates made.
        """
        calls = self._idle[1] + 1 if self._idle[0] == made else 1
        self._idle = made, calls
        if self._warned:
            return
        reason = ""
        if calls == 1:
            self._others = _hooks.GlobalUpdateCounter() if made == 0 else None
        if calls % LOOK == 1:
            before, self._versions = self._versions, _private.versions(self._optimizer)
            changed = any(before.get(parameter, now) != now for parameter, now in self._versions.items())
            if calls > 1 and changed:
                reason = "while something else updated its parameters"
        if calls == DRAWN + 1 and self._others is not None:
            if self._others.made == 0 and not self._has_gradients():
                reason = "because nothing is trained"
            self._others = None
        if calls == IDLE_AT_MOST and made == 0:
            reason = "unless you accumulate gradients over more batches than that"
        if reason:
            self._warn(
                f"step() of {self._scheduler} was called {calls - (calls % LOOK == 1)} times, but no update of "
                f"{type(self._optimizer).__name__} was seen: the learning rate does not change, {reason}. The schedule "
                "counts updates, not calls. Create the scheduler with the optimizer that updates. If its updates run "
                'no hooks, create a Scheduler(..., counts="calls"). To draw a schedule, call it: schedule(step).',
                stacklevel=4,
            )

    def edited_call(self, made: int, factor: float) -> None:
        """Check a call of `step()` after something else changed a rate. Warn if this happens at every update.

        Args:
            made: number of updates made.
            factor: factor by which the rate was changed. If it stays the same, another part of a `ChainedScheduler`
                changes the rate, which is legal.
        """
        updates, edits, earlier = self._edits
        follows = made == updates + 1 and not math.isclose(factor, earlier)
        self._edits = made, edits + 1 if follows else 1, factor
        other = _private.has_torch_scheduler(self._optimizer) or _hooks.latest(self._optimizer) is not self._owner()
        if self._edits[1] == LATE and other:
            self._warn(
                f"another scheduler changed the learning rate of {type(self._optimizer).__name__} between the last "
                f"{LATE} calls of step() of {self._scheduler}, so the last one to step decides. Use only one of them. "
                "The product of two schedules is schedule * other.",
                stacklevel=6,
            )

    def _has_gradients(self) -> bool:
        return any(p.grad is not None for group in self._optimizer.param_groups for p in group["params"])

    def _warn(self, message: str, stacklevel: int) -> None:
        if not self._warned:
            warnings.warn(message, stacklevel=stacklevel)
        self._warned = True


def warn_end(name: str, end: int, step: int, value: float) -> None:
    """Warn that updates continue after the end of a schedule."""
    warnings.warn(
        f"update number {step} is past the end of the schedule of {name}, which has total_steps={end}: the value stays "
        f"at {value:g}. Create the schedule for your whole run, such as bounds.schedule(total_steps=...).",
        stacklevel=3,
    )
