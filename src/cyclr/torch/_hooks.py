"""Hooks on an optimizer that keep no scheduler alive, and the updates that schedulers do not count."""

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

_Hook = Callable[..., Any]

_orphaned: weakref.WeakKeyDictionary[Optimizer, list[RemovableHandle]] = weakref.WeakKeyDictionary()
"""Hooks whose scheduler is gone. The next `attach` removes them: before, an update may be going through the hooks."""

hidden: set[int] = set()
"""Ids of the optimizers whose updates schedulers do not see."""


def attach(scheduler: Any, around_update: tuple[_Hook, _Hook], around_load: tuple[_Hook, _Hook]) -> None:
    """Register hooks on the scheduler's optimizer, which holds only a weak reference to the scheduler.

    Each is called with the scheduler first. The hooks around `step()` also get the arguments that torch passes, and are
    not called within `uncounted`. The hook after `load_state_dict()` also gets what the one before returned.
    """
    optimizer, (before_load, after_load) = scheduler.optimizer, around_load
    orphaned = _orphaned.setdefault(optimizer, [])
    while orphaned:
        orphaned.pop().remove()
    returned: list[Any] = []

    def keep_returned(scheduler: Any, *given: Any) -> None:
        returned[:] = [before_load(scheduler)]

    def pass_returned(scheduler: Any, *given: Any) -> None:
        after_load(scheduler, returned.pop())

    handles = (
        optimizer.register_step_pre_hook(_weak_hook(scheduler, around_update[0], of_updates=True)),
        optimizer.register_step_post_hook(_weak_hook(scheduler, around_update[1], of_updates=True)),
        optimizer.register_load_state_dict_pre_hook(_weak_hook(scheduler, keep_returned)),
        optimizer.register_load_state_dict_post_hook(_weak_hook(scheduler, pass_returned)),
    )
    weakref.finalize(scheduler, orphaned.extend, handles).atexit = False


def _weak_hook(scheduler: Any, function: _Hook, *, of_updates: bool = False) -> _Hook:
    to_scheduler = weakref.ref(scheduler)

    def hook(optimizer: Any, *given: Any) -> None:
        alive = to_scheduler()
        if alive is not None and not (of_updates and id(optimizer) in hidden):
            function(alive, optimizer, *given)

    return hook


@contextlib.contextmanager
def uncounted(optimizers: Iterable[Any]) -> Iterator[None]:
    """Hide updates from schedulers inside this context. Used by range tests, which undo their updates."""
    # Fabric's wrapper shares the hooks of the optimizer within, and they are called with that optimizer.
    ids = {id(one) for optimizer in optimizers for one in (optimizer, getattr(optimizer, "optimizer", optimizer))}
    added = ids - hidden
    hidden.update(added)
    try:
        yield
    finally:
        hidden.difference_update(added)
