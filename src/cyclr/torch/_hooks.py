"""Optimizer hooks that do not keep their scheduler alive, and a context without these hooks."""

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

from cyclr.torch import _groups, _private

_orphaned: weakref.WeakKeyDictionary[Optimizer, list[RemovableHandle]] = weakref.WeakKeyDictionary()
"""Hooks whose scheduler was deleted. They are removed by the next `attach`, because an update may be calling them."""

_latest: weakref.WeakKeyDictionary[Optimizer, weakref.ref[Any]] = weakref.WeakKeyDictionary()
"""The scheduler that was attached last to each optimizer."""

_numbers: set[int] = set()
"""The numbers that torch gave to the hooks of existing schedulers."""


def attach(
    scheduler: Any,
    optimizer: Any,
    counts: list[Any],
    check: Callable[[Any], None],
    around_load: tuple[Callable[[Any], Any], Callable[[Any, Any], None]],
) -> None:
    """Register hooks on an optimizer, which holds only a weak reference to the scheduler.

    Args:
        scheduler: the scheduler that the hooks call.
        optimizer: the optimizer whose update reads the groups.
        counts: a list of the number of updates, which each update increases by 1; the number of groups that the
            scheduler knows; the last of these groups; and the number of updates at which to call `check`.
        check: called with the scheduler before an update, if the last group is new or that number is reached.
        around_load: two functions, called with the scheduler before and after `load_state_dict()` of the optimizer. The
            second also gets the return value of the first.
    """
    owner, (before_load, after_load) = weakref.ref(scheduler), around_load
    orphaned = _orphaned.setdefault(optimizer, [])
    _latest[optimizer] = owner
    while orphaned:
        orphaned.pop().remove()
    returned: list[Any] = []

    def before_update(optimizer: Any, args: Any, kwargs: Any) -> None:
        if counts[0] >= counts[3] or optimizer.param_groups[-1] is not counts[2]:
            alive = owner()
            if alive is not None:
                check(alive)

    def keep_returned(*given: Any) -> None:
        if (alive := owner()) is not None:
            returned[:] = [before_load(alive)]

    def pass_returned(*given: Any) -> None:
        if (alive := owner()) is not None:
            after_load(alive, returned.pop())

    handles = (
        optimizer.register_step_pre_hook(before_update),
        optimizer.register_step_post_hook(_private.update_counter(counts)),
        optimizer.register_load_state_dict_pre_hook(keep_returned),
        optimizer.register_load_state_dict_post_hook(pass_returned),
    )
    _numbers.update(handle.id for handle in handles)
    weakref.finalize(scheduler, _orphan, orphaned, handles).atexit = False


def attach_after(scheduler: Any, optimizer: Any, counts: list[Any], call: Callable[[Any], None]) -> None:
    """Register a hook that calls `call` with the scheduler after each update that `counts` counts.

    Call this after `attach`, because the hooks of `attach` update `counts`.
    """
    owner, seen = weakref.ref(scheduler), [counts[0]]

    def after_update(*given: Any) -> None:
        # `step()` of a fused optimizer also runs if loss scaling skips the update.
        if counts[0] != seen[0]:
            seen[0] = counts[0]
            if (alive := owner()) is not None:
                call(alive)

    handle = optimizer.register_step_post_hook(after_update)
    _numbers.add(handle.id)
    weakref.finalize(scheduler, _orphan, _orphaned[optimizer], (handle,)).atexit = False


def _orphan(orphaned: list[RemovableHandle], handles: tuple[RemovableHandle, ...]) -> None:
    orphaned += handles
    _numbers.difference_update(handle.id for handle in handles)


def latest(optimizer: Any) -> Any:
    """Return the scheduler that was last attached to the optimizer, or None if it was deleted or never existed."""
    owner = _latest.get(_groups.innermost(optimizer))
    return None if owner is None else owner()


def counts_updates(optimizer: Any) -> bool:
    """Return True if schedulers count the optimizer's updates. False inside `uncounted`."""
    return any(not _numbers.isdisjoint(hooks) for hooks in _private.update_hooks(optimizer))


class GlobalUpdateCounter:
    """Counts the updates of all optimizers while this object exists."""

    def __init__(self) -> None:
        self._counts = counts = [0]
        self._handle = register_optimizer_step_post_hook(_private.update_counter(counts))
        weakref.finalize(self, self._handle.remove).atexit = False

    @property
    def made(self) -> int:
        return self._counts[0]


@contextlib.contextmanager
def uncounted(optimizers: Iterable[Any]) -> Iterator[None]:
    """Remove the hooks of schedulers inside this context. Used by range tests, which undo their updates."""
    with contextlib.ExitStack() as undo:
        for optimizer in filter(_private.runs_hooks, optimizers):
            for hooks in _private.update_hooks(optimizer):
                undo.callback(
                    _restore_hooks, hooks, {number: hooks.pop(number) for number in _numbers.intersection(hooks)}
                )
        yield


def _restore_hooks(hooks: dict[int, Any], removed: dict[int, Any]) -> None:
    # torch numbers hooks in calling order. Hooks of schedulers that were deleted in between are not restored.
    ordered = sorted({**hooks, **{number: removed[number] for number in _numbers.intersection(removed)}}.items())
    hooks.clear()
    hooks.update(ordered)
