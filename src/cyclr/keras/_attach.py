"""Schedules attached to an optimizer that exists: its rate, momentum and weight decay become functions of its counter.

Keras reads these hyperparameters as attributes of the optimizer, within the compiled step. While schedules are
attached, the optimizer's class is a subclass of its own in which the attributes are properties that compute
`schedule(iterations)`. So they are part of the compiled step, cost nothing between steps, and are right however many
steps run in one call. What is saved (variables, config, the name of the class) stays that of the plain optimizer: it
gives the plain class as its `__class__`, which is where Keras looks for the name.
"""

import contextlib
import functools
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import keras

from cyclr.keras import _optimizer, _private
from cyclr.keras._compiled import make_anew
from cyclr.schedules import Schedule

MOMENTUM_NAMES = ("momentum", "beta_1", "rho")
_CLASS: Any = vars(object)["__class__"]
"""Sets the class of an object whatever the object says that it is."""


@dataclass
class _Attachment:
    """What is attached to an optimizer, and held by it."""

    values: dict[str, Callable[[Any], Any]]
    """By the name of the attribute, what computes it from the optimizer."""
    offset: int
    """What is added to the optimizer's counter to get the step."""
    plain: Any = None
    """The model's compiled step without schedules."""
    scheduled: Any = None
    """The one with them; None if none was needed."""
    applying: bool = False
    """Whether an update is being applied."""
    shown: float | None = None
    """A rate to show to whoever asks outside an update."""


_KEY = "_cyclr_attachment"


def _of(optimizer: Any) -> _Attachment | None:
    attachment: _Attachment | None = getattr(_private.inner(optimizer), _KEY, None)
    return attachment


def attach(
    model: Any, schedules: dict[str, Schedule], offset: int = 0, earlier: _Attachment | None = None
) -> _Attachment:
    """Let schedules decide over hyperparameters of a model's optimizer, in place of what it was made with.

    Args:
        model: a compiled model.
        schedules: by the name of the attribute: `learning_rate`, `weight_decay` or one of MOMENTUM_NAMES. Without any,
            the optimizer merely becomes one that can `show` a rate.
        offset: what is added to the optimizer's counter to get the step.
        earlier: what an earlier call for the same schedules returned.

    Returns:
        What is attached now: to be passed the next time, so that nothing is compiled twice.
    """
    detach(model)
    optimizer = _private.inner(model.optimizer)
    attachment = _Attachment(
        {name: _value_of(optimizer, name, schedule, offset) for name, schedule in schedules.items()}, offset
    )
    # Not by setattr: it is nothing that Keras should track and save.
    vars(optimizer)[_KEY] = attachment
    kind: type = type(optimizer)
    _CLASS.__set__(optimizer, _scheduled_class(kind, tuple(sorted({"learning_rate", *schedules}))))
    if schedules:
        # By the step that it has without schedules, a model that was compiled anew is told from what it was before.
        if model.train_function is None:
            model.make_train_function()
        attachment.plain = model.train_function
        if earlier is not None and (earlier.plain, earlier.offset) == (attachment.plain, offset):
            model.train_function = earlier.scheduled
        else:
            make_anew(model)
        attachment.scheduled = model.train_function
    return attachment


def detach(model: Any) -> None:
    """Make the model's optimizer what it was before `attach`; it is no error if nothing is attached."""
    optimizer = _private.inner(model.optimizer)
    attachment = vars(optimizer).pop(_KEY, None)
    if attachment is not None:
        _CLASS.__set__(optimizer, optimizer.__class__)
        if attachment.scheduled is not None and model.train_function is attachment.scheduled:
            model.train_function = attachment.plain
        elif attachment.scheduled is not None and model.train_function is not None:
            # `change_schedule` has made another one since, with what is attached in it.
            make_anew(model)


@contextlib.contextmanager
def suspended(optimizer: Any) -> Iterator[bool]:
    """Make an optimizer a plain one meanwhile; yields whether anything is attached. Compiled steps are the caller's."""
    optimizer = _private.inner(optimizer)
    attachment, kind = vars(optimizer).pop(_KEY, None), type(optimizer)
    if attachment is not None:
        _CLASS.__set__(optimizer, optimizer.__class__)
    try:
        yield attachment is not None
    finally:
        if attachment is not None:
            vars(optimizer)[_KEY] = attachment
            _CLASS.__set__(optimizer, kind)


def holds(optimizer: Any, attachment: _Attachment | None) -> bool:
    """Whether what `attach` returned is attached still, to this very optimizer."""
    return _of(optimizer) is attachment


def offset_of(optimizer: Any) -> int:
    """What is added to the optimizer's counter to get the step; 0 if nothing is attached."""
    attachment = _of(optimizer)
    return 0 if attachment is None else attachment.offset


def show(optimizer: Any, rate: float | None) -> None:
    """Show a rate to whoever asks the optimizer for its own outside an update; None shows the next update's again."""
    attachment = _of(optimizer)
    if attachment is not None:
        attachment.shown = rate


def momentum_name(optimizer: Any) -> str:
    """The attribute that is the optimizer's momentum.

    Raises:
        ValueError: it has none, or was made without.
    """
    inner = _private.inner(optimizer)
    for name in MOMENTUM_NAMES:
        if vars(inner).get(name):
            return name
    if hasattr(inner, "momentum"):
        raise ValueError(
            f"momentum needs an optimizer that was made with one, as it has no memory for it otherwise; got "
            f"{type(inner).__name__}(momentum={inner.momentum!r}). Make it with momentum=0.9."
        )
    raise ValueError(
        "momentum must be the schedule of an optimizer that has one: momentum in SGD, Muon and RMSprop, beta_1 in "
        f"Adam, AdamW, Adamax, Lamb, Lion and Nadam, rho in Adadelta and RMSprop; got {type(inner).__name__}."
    )


def _value_of(optimizer: Any, name: str, schedule: Schedule, offset: int) -> Callable[[Any], Any]:
    def value(optimizer: Any) -> Any:
        return _optimizer.value_at(schedule, optimizer.iterations, offset)

    if name == "learning_rate":
        return value
    made_with = vars(optimizer).get(name)
    made_with = 0.0 if made_with is None else made_with
    if keras.backend.backend() == "torch":
        return lambda optimizer: _number(made_with, value(optimizer))
    to_optimizer = weakref.ref(optimizer)
    variable = _ScheduledValue(made_with, lambda: value(to_optimizer()))
    return lambda optimizer: variable


class _Answering:
    """Formulas ask in Python whether there is a momentum at all (`if self.momentum != 0`).

    No tensor can answer that while a step is compiled, and a momentum that passes through 0 must not lose its memory.
    So it is answered for the number that the optimizer was made with.
    """

    made_with: float

    def __eq__(self, other: object) -> bool:
        return self.made_with == other

    def __ne__(self, other: object) -> bool:
        return self.made_with != other

    def __gt__(self, other: float) -> bool:
        return self.made_with > other

    __hash__ = object.__hash__


class _ScheduledValue(_Answering, keras.Variable):  # type: ignore[misc]
    """A hyperparameter for Keras' formulas: any operation takes it as it takes a variable; its value is computed."""

    def __init__(self, made_with: float, compute: Callable[[], Any]) -> None:
        super().__init__(float(made_with), trainable=False, name="scheduled")
        self.made_with = made_with
        self._compute = compute

    @property
    def value(self) -> Any:
        return self._compute()


class _ScheduledNumber(_Answering, float):
    """The same for torch, whose formulas take numbers."""


def _number(made_with: float, value: Any) -> Any:
    if not isinstance(value, float):
        return value
    number = _ScheduledNumber(value)
    number.made_with = made_with
    return number


@functools.cache
def _scheduled_class(kind: type, names: tuple[str, ...]) -> type:
    """The subclass of an optimizer's class in which the attributes of these names may be computed."""

    def property_of(name: str) -> property:
        def value(self: Any) -> Any:
            attachment = vars(self)[_KEY]
            if name == "learning_rate" and attachment.shown is not None and not attachment.applying:
                return attachment.shown
            return attachment.values[name](self) if name in attachment.values else getattr(super(made, self), name)

        def set_value(self: Any, value: Any) -> None:
            if name in vars(self)[_KEY].values:
                raise ValueError(
                    f"{name} is set by a ScheduleCallback, which must be the only one to set it; got {name}={value!r}. "
                    "Take LearningRateScheduler, ReduceLROnPlateau or the like out of callbacks; after a fit that was "
                    "interrupted, call the detach() of the ScheduleCallback."
                )
            getattr(kind, name).fset(self, value)

        return property(value, set_value)

    def apply(self: Any, *arguments: Any, **keywords: Any) -> Any:
        attachment = vars(self)[_KEY]
        attachment.applying = True
        try:
            return super(made, self).apply(*arguments, **keywords)
        finally:
            attachment.applying = False

    def get_config(self: Any) -> Any:
        plain: Any = object.__new__(kind)
        object.__setattr__(plain, "__dict__", vars(self))
        return plain.get_config()

    members: dict[str, Any] = {name: property_of(name) for name in names}
    members |= _private.scheduled_rate_method(kind, lambda self: "learning_rate" in vars(self)[_KEY].values)
    members |= {"apply": apply, "get_config": get_config, "__class__": property(lambda self: kind)}
    members |= {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    made: Any = type(kind.__name__, (kind,), members)
    return cast("type", made)
