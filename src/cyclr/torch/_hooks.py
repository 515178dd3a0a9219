"""Hooks on an optimizer that keep no scheduler alive, and the updates that schedulers do not count."""

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

_orphaned: weakref.WeakKeyDictionary[Optimizer, list[RemovableHandle]] = weakref.WeakKeyDictionary()
"""Hooks whose owner is gone. The next `attach` removes them: before, an update may be going through the hooks."""

_uncounted: set[int] = set()


def attach(
    owner: Any,
    optimizer: Optimizer,
    *,
    before_update: Callable[..., None],
    after_update: Callable[..., None],
    before_load: Callable[[Any], Any],
    after_load: Callable[[Any, Any], None],
) -> None:
    """Register four hooks on `optimizer` for as long as `owner` is alive.

    Each hook is called with `owner` first. The optimizer holds only a weak reference to `owner`.

    Args:
        owner: the first argument of the hooks.
        optimizer: an optimizer of torch, without a wrapper.
        before_update, after_update: called around `step()` with the arguments that torch passes, except within
            `uncounted`.
        before_load, after_load: called around `load_state_dict()`. `after_load` gets what `before_load` returned.
    """
    orphaned = _orphaned.setdefault(optimizer, [])
    while orphaned:
        orphaned.pop().remove()
    returned: list[Any] = []

    def keep_returned(owner: Any, *given: Any) -> None:
        returned[:] = [before_load(owner)]

    def pass_returned(owner: Any, *given: Any) -> None:
        after_load(owner, returned.pop())

    handles = (
        optimizer.register_step_pre_hook(_weak_hook(owner, before_update, of_updates=True)),
        optimizer.register_step_post_hook(_weak_hook(owner, after_update, of_updates=True)),
        optimizer.register_load_state_dict_pre_hook(_weak_hook(owner, keep_returned)),
        optimizer.register_load_state_dict_post_hook(_weak_hook(owner, pass_returned)),
    )
    weakref.finalize(owner, orphaned.extend, handles).atexit = False


def _weak_hook(owner: Any, function: Callable[..., None], *, of_updates: bool = False) -> Callable[..., None]:
    to_owner = weakref.ref(owner)

    def hook(optimizer: Any, *given: Any) -> None:
        alive = to_owner()
        if alive is not None and not (of_updates and id(optimizer) in _uncounted):
            function(alive, optimizer, *given)

    return hook


@contextlib.contextmanager
def uncounted(optimizers: Iterable[Any]) -> Iterator[None]:
    """Hide updates from schedulers inside this context. Used by range tests, which undo their updates."""
    # Fabric's wrapper shares the hooks of the optimizer within, and they are called with that optimizer.
    hidden = {id(one) for optimizer in optimizers for one in (optimizer, getattr(optimizer, "optimizer", optimizer))}
    added = hidden - _uncounted
    _uncounted.update(added)
    try:
        yield
    finally:
        _uncounted.difference_update(added)


def is_counted(optimizer: Optimizer) -> bool:
    """Return True unless the updates of the optimizer are hidden from schedulers."""
    return id(optimizer) not in _uncounted
