"""Hooks on an optimizer that keep nothing alive, and updates that they do not hear of."""

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

_left: weakref.WeakKeyDictionary[Optimizer, list[RemovableHandle]] = weakref.WeakKeyDictionary()
"""The hooks of owners that are gone. The next `attach` removes them: an update may be running through them before."""

_uncounted: set[int] = set()


def attach(
    owner: Any,
    optimizer: Optimizer,
    *,
    before_update: Callable[..., None],
    after_update: Callable[..., None],
    before_load: Callable[..., None],
    after_load: Callable[..., None],
) -> None:
    """While the owner lives, let an optimizer call functions with it and with what torch gives hooks of the kind.

    Args:
        owner: their first argument; the optimizer does not keep it alive.
        optimizer: a plain optimizer of torch's.
        before_update, after_update: around `step()`, but for updates within `uncounted`.
        before_load, after_load: around `load_state_dict()`.
    """
    left = _left.setdefault(optimizer, [])
    while left:
        left.pop().remove()
    handles = (
        optimizer.register_step_pre_hook(_weakly(owner, before_update, of_updates=True)),
        optimizer.register_step_post_hook(_weakly(owner, after_update, of_updates=True)),
        optimizer.register_load_state_dict_pre_hook(_weakly(owner, before_load)),
        optimizer.register_load_state_dict_post_hook(_weakly(owner, after_load)),
    )
    weakref.finalize(owner, left.extend, handles).atexit = False


def _weakly(owner: Any, method: Callable[..., None], *, of_updates: bool = False) -> Callable[..., None]:
    to_owner = weakref.ref(owner)

    def hook(optimizer: Any, *given: Any) -> None:
        alive = to_owner()
        if alive is not None and not (of_updates and id(optimizer) in _uncounted):
            method(alive, optimizer, *given)

    return hook


@contextlib.contextmanager
def uncounted(optimizers: Iterable[Any]) -> Iterator[None]:
    """Updates meanwhile are none that schedulers count: those of a range test, which are undone."""
    # Fabric's wrapper has the hooks of the optimizer within, which are called with that one.
    held = {id(held) for optimizer in optimizers for held in (optimizer, getattr(optimizer, "optimizer", optimizer))}
    added = held - _uncounted
    _uncounted.update(added)
    try:
        yield
    finally:
        _uncounted.difference_update(added)


def is_counted(optimizer: Optimizer) -> bool:
    """Whether updates of an optimizer are heard of now."""
    return id(optimizer) not in _uncounted
