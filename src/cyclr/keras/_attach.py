"""Attach schedules to an optimizer: its learning rate, momentum and weight decay are computed from its step counter.

Keras reads these hyperparameters from attributes of the optimizer, inside the compiled step. While schedules are
attached, the optimizer's class is a subclass in which these attributes are properties that compute
`schedule(iterations)`. This computation is part of the compiled step. It costs nothing between steps, and is exact for
any number of steps per call. A saved model contains the variables, the config and the class name of the plain
optimizer: the subclass returns the plain class as `__class__`, from which Keras takes the name.

| state | entered by | class of the optimizer | compiled step of the model |
|---|---|---|---|
| plain | creation, `detach` | its own | `plain` |
| attached | `attach`, the end of `suspended` | the subclass | `scheduled`, or `plain` if nothing is scheduled |
| suspended | `suspended` | its own | created and restored by the caller |
"""

import contextlib
import functools
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import keras

from cyclr.keras import _private
from cyclr.keras.schedule import rate_tensor, retrace, value_at
from cyclr.schedules import Schedule

MOMENTUM_NAMES = ("momentum", "beta_1", "rho")
_CLASS: Any = vars(object)["__class__"]
"""Sets the real class of an object, even if the object overrides `__class__`."""
_KEY = "_cyclr_attachment"
_OTHER = "_cyclr_other_step"
_ONLY_ONE = (
    "{name} is set by a ScheduleCallback, so nothing else can set it; got {name}={value!r}. Take the other callback, "
    "such as LearningRateScheduler or ReduceLROnPlateau, out of callbacks. After an interrupted fit, call detach() of "
    "the ScheduleCallback."
)


@dataclass
class Attachment:
    """The schedules that are attached to an optimizer. The optimizer holds this object."""

    values: dict[str, Callable[[Any], Any]]
    """By name of the attribute, the function that computes its value from the optimizer."""
    offset: int
    """Added to the optimizer's counter to get the step."""
    rate: Schedule | None = None
    """The schedule of the learning rate, or None."""
    plain: Callable[[], Any] = lambda: None
    """Returns the model's compiled step without schedules, or None after the model was compiled again."""
    scheduled: Callable[[], Any] = lambda: None
    """Returns the model's compiled step with schedules, or None before it is compiled and after `compile`."""
    shown: float | None = None
    """The learning rate that the optimizer returns outside an update; None for the rate of the next update."""


def attach(
    model: Any, schedules: dict[str, Schedule], offset: int = 0, earlier: Attachment | None = None
) -> Attachment:
    """Let schedules set hyperparameters of a model's optimizer, instead of the values that it was created with.

    Args:
        model: a compiled model.
        schedules: by name of the attribute: `learning_rate`, `weight_decay` or one of MOMENTUM_NAMES. If it is empty,
            the optimizer can only return the learning rate `shown`.
        offset: added to the optimizer's counter to get the step.
        earlier: the result of an earlier call with the same schedules, whose compiled step is used again.
    """
    detach(model)
    optimizer = _private.inner(model.optimizer)
    attachment = Attachment(
        {name: _value_of(optimizer, name, schedule, offset) for name, schedule in schedules.items()},
        offset,
        schedules.get("learning_rate"),
    )
    kind: type = type(optimizer)
    _add(optimizer, attachment, _scheduled_class(kind, tuple(sorted({"learning_rate", *schedules}))))
    if schedules:
        # A model that was compiled again has another plain step.
        if model.train_function is None:
            model.make_train_function()
        plain = model.train_function
        is_known = earlier is not None and earlier.offset == offset and earlier.plain() is plain
        scheduled = earlier.scheduled() if earlier is not None and is_known else None
        if scheduled is None:
            retrace(model)
            scheduled = model.train_function
        attachment.plain, attachment.scheduled = weakref.ref(plain), weakref.ref(scheduled)
        _replace(model, plain, scheduled)
    return attachment


def _replace(model: Any, old: Any, new: Any) -> None:
    """Replace the compiled step of a model. The new step holds the only reference to the old step.

    So both steps are deleted when the model is compiled again. Otherwise JAX would use the trace of an old step again
    after the model was compiled with another loss.
    """
    vars(old).pop(_OTHER, None)
    setattr(new, _OTHER, old)
    model.train_function = new


def detach(model: Any) -> None:
    """Make the model's optimizer a plain optimizer again. If nothing is attached, do nothing."""
    attachment = _remove(_private.inner(model.optimizer))
    if attachment is None or not attachment.values:
        return
    plain, scheduled = attachment.plain(), attachment.scheduled()
    if scheduled is not None and model.train_function is scheduled:
        _replace(model, scheduled, plain)
    elif model.train_function is not None:
        # `change_schedule` has compiled another step since, which contains the attached schedules.
        retrace(model)


@contextlib.contextmanager
def suspended(optimizer: Any) -> Iterator[bool]:
    """Make an optimizer a plain optimizer inside this context. Yield True if schedules were attached."""
    optimizer = _private.inner(optimizer)
    kind, attachment = type(optimizer), _remove(optimizer)
    try:
        yield attachment is not None
    finally:
        if attachment is not None:
            _add(optimizer, attachment, kind)


def _add(optimizer: Any, attachment: Attachment, kind: type) -> None:
    # Not by setattr, because Keras would track and save the attachment.
    vars(optimizer)[_KEY] = attachment
    _CLASS.__set__(optimizer, kind)


def _remove(optimizer: Any) -> Attachment | None:
    attachment: Attachment | None = vars(optimizer).pop(_KEY, None)
    if attachment is not None:
        _CLASS.__set__(optimizer, optimizer.__class__)
    return attachment


def attached(optimizer: Any) -> Attachment | None:
    """Return the attachment of an optimizer, or None."""
    return getattr(_private.inner(optimizer), _KEY, None)


def momentum_name(optimizer: Any) -> str:
    """Return the name of the attribute that is the optimizer's momentum. Raise if it has none."""
    inner = _private.inner(optimizer)
    for name in MOMENTUM_NAMES:
        if vars(inner).get(name):
            return name
    if hasattr(inner, "momentum"):
        raise ValueError(
            "cannot schedule the momentum of an optimizer created without one (no momentum buffers exist); got "
            f"{type(inner).__name__}(momentum={inner.momentum!r}). Create it with momentum=0.9."
        )
    raise ValueError(
        "momentum= needs an optimizer with momentum: momentum in SGD, Muon and RMSprop, beta_1 in "
        f"Adam, AdamW, Adamax, Lamb, Lion and Nadam, rho in Adadelta and RMSprop; got {type(inner).__name__}."
    )


def _value_of(optimizer: Any, name: str, schedule: Schedule, offset: int) -> Callable[[Any], Any]:
    def value(optimizer: Any) -> Any:
        return value_at(schedule, optimizer.iterations, offset)

    to_optimizer = weakref.ref(optimizer)
    if name == "learning_rate":
        rate = ScheduledVariable(name, 0.0, lambda: _rate_of(to_optimizer(), value))
        return lambda optimizer: rate
    initial = vars(optimizer).get(name) or 0.0
    if keras.backend.backend() == "torch":
        return lambda optimizer: _ScheduledNumber.of(value(optimizer), initial)
    variable = _ScheduledValue(name, initial, lambda: value(to_optimizer()))
    return lambda optimizer: variable


def _rate_of(optimizer: Any, compute: Callable[[Any], Any]) -> Any:
    """Return the learning rate as a tensor: computed, or at the end of an epoch the rate of the last update."""
    attachment = attached(optimizer)
    if attachment is None:
        # The schedules were detached, but a callback still holds the variable.
        return rate_tensor(optimizer.learning_rate)
    return rate_tensor(compute(optimizer) if attachment.shown is None else attachment.shown)


class _ComparesAsInitial:
    """A scheduled value whose comparisons use the value that the optimizer was created with.

    Keras' formulas check in Python if the optimizer has momentum (`if self.momentum != 0`). While a step is compiled, a
    tensor has no value to compare. And a scheduled momentum that becomes 0 in some updates must keep its buffers.
    """

    initial: float

    def __eq__(self, other: object) -> bool:
        return self.initial == other

    def __gt__(self, other: float) -> bool:
        return self.initial > other

    __ne__, __hash__ = object.__ne__, object.__hash__


class ScheduledVariable(keras.Variable):  # type: ignore[misc]
    """A hyperparameter whose value is computed. It is a variable, because Keras holds hyperparameters as variables."""

    def __init__(self, name: str, initial: float, compute: Callable[[], Any]) -> None:
        super().__init__(float(initial), trainable=False, name=name)
        self.initial = initial
        self._compute = compute

    @property
    def value(self) -> Any:
        return self._compute()

    def assign(self, value: Any) -> Any:
        raise ValueError(_ONLY_ONE.format(name=self.name, value=value))


class _ScheduledValue(_ComparesAsInitial, ScheduledVariable):
    """A scheduled momentum or weight decay, which operations accept like any variable."""


class _ScheduledNumber(_ComparesAsInitial, float):
    """A scheduled hyperparameter on torch, where Keras' formulas use Python numbers."""

    @classmethod
    def of(cls, value: Any, initial: float) -> Any:
        if isinstance(value, float):
            value = cls(value)
            value.initial = initial
        return value


@functools.cache
def _scheduled_class(kind: type, names: tuple[str, ...]) -> type:
    """Return the subclass of an optimizer's class in which the attributes of these names may be computed."""

    def property_of(name: str) -> property:
        def value(self: Any) -> Any:
            attachment = vars(self)[_KEY]
            if name in attachment.values:
                return attachment.values[name](self)
            own = getattr(super(made, self), name)
            return own if attachment.shown is None else rate_tensor(attachment.shown)

        def set_value(self: Any, value: Any) -> None:
            if name in vars(self)[_KEY].values:
                raise ValueError(_ONLY_ONE.format(name=name, value=value))
            getattr(kind, name).fset(self, value)

        return property(value, set_value)

    def apply(self: Any, *arguments: Any, **keywords: Any) -> Any:
        attachment = vars(self)[_KEY]
        shown, attachment.shown = attachment.shown, None
        try:
            return super(made, self).apply(*arguments, **keywords)
        finally:
            attachment.shown = shown

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
