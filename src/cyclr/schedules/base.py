"""What every schedule is: an immutable, pure function of the step that can be written to JSON and drawn."""

import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from cyclr import _checks
from cyclr.errors import ScheduleError
from cyclr.schedules import _namespace
from cyclr.schedules._namespace import Namespace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMAT_VERSION = 1

_registry: dict[str, type["Schedule"]] = {}


class Described:
    """An immutable value that is told apart, printed and written to JSON by its constructor arguments."""

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments by name, in order; those that are left at `None` are dropped when printed."""
        raise NotImplementedError

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable; make a new one instead of setting {name}.")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable; {name} cannot be deleted.")

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), dict(self.__dict__))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Described) or type(other) is not type(self):
            return NotImplemented
        return self.arguments() == other.arguments()

    def __hash__(self) -> int:
        return hash((type(self), *self.arguments().items()))

    def __repr__(self) -> str:
        given = {name: value for name, value in self.arguments().items() if value is not None}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in given.items())})"


def _described(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_described(part) for part in value]
    return value.to_dict() if hasattr(value, "to_dict") else value


def _rebuild(kind: type[Described], state: dict[str, Any]) -> Described:
    value = kind.__new__(kind)
    value._set(**state)
    return value


class Schedule(Described, ABC):
    """A value (a learning rate, a momentum, a weight decay) for every optimizer update.

    `schedule(step)` is the value that update number `step` uses. It depends on the step alone: there is no state, so
    resuming is calling the schedule with the restored step, and any step costs the same.

    Args of the call:
        step: index of the optimizer update, from 0: an int (a float comes back), a NumPy array of integers (an array of
            the same shape in float64 comes back), a JAX array or tracer, or a Keras tensor (a tensor of the same kind
            comes back, in JAX's or Keras' default float type).

    Raises:
        TypeError: the step is no integer.
        ValueError: an int or a NumPy array holds a negative step; tensors are not looked into.

    Example:
        >>> import cyclr, numpy as np
        >>> schedule: cyclr.Schedule = cyclr.Cyclical(0.0, 1.0, step_size=4)
        >>> schedule(1), schedule(np.array([1, 2])).tolist()
        (0.25, [0.25, 0.5])
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        known = _registry.get(cls.__name__)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(
                f"a schedule must have a name of its own, by which from_dict finds it; got a second {cls.__name__}, "
                f"besides {known.__module__}.{known.__qualname__}."
            )
        _registry[cls.__name__] = cls

    # The formula for an int, ready to run; made at the first call. It is not part of what a schedule is.
    __slots__ = ("_of_int",)
    _of_int: Callable[[int], Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        schedule = super().__new__(cls)
        object.__setattr__(schedule, "_of_int", schedule._first_of_int)
        return schedule

    def _first_of_int(self, step: int) -> Any:
        object.__setattr__(self, "_of_int", self._formula(_namespace.SCALAR))
        return self._of_int(step)

    def __call__(self, step: Any) -> Any:
        if type(step) is int and step >= 0:
            return self._of_int(step)
        step, xp = _namespace.of(step)
        return self._value(xp, step)

    def is_cycle_end(self, step: Any) -> Any:
        """Whether a step is the minimum that ends a cycle; never for a schedule without cycles.

        In `Cyclical` the minimum that ends a cycle also begins the next one: it is at L, 2L, … and not at 0. In
        `WarmRestarts` it is the last step before the rate jumps up again.

        Example:
            >>> import cyclr
            >>> schedule = cyclr.Cyclical(0.0, 1.0, step_size=5)
            >>> [step for step in range(25) if schedule.is_cycle_end(step)]
            [10, 20]
        """
        return self._at(step, self._is_cycle_end)

    def _at(self, step: Any, fn: Callable[[Namespace, Any], Any]) -> Any:
        step, xp = _namespace.of(step)
        return fn(xp, step)

    @abstractmethod
    def _value(self, xp: Namespace, step: Any) -> Any:
        """The formula, written once for every kind of step."""

    def _formula(self, xp: Namespace) -> Callable[[Any], Any]:
        """The formula for one kind of step."""
        return lambda step: self._value(xp, step)

    def _is_cycle_end(self, xp: Namespace, step: Any) -> Any:
        return step < 0

    @classmethod
    def _from_arguments(cls, arguments: dict[str, Any]) -> Self:
        return cls(**arguments)

    def to_dict(self) -> dict[str, Any]:
        """Return a description that `json.dumps` takes and `Schedule.from_dict` reads back.

        Raises:
            ScheduleError: the schedule holds a Python function, which JSON cannot hold.

        Example:
            >>> import cyclr
            >>> schedule = cyclr.Cyclical(0.001, 0.006, step_size=2000)
            >>> cyclr.Schedule.from_dict(schedule.to_dict()) == schedule
            True
        """
        arguments = {name: _described(value) for name, value in self.arguments().items() if value is not None}
        description = {"schedule": type(self).__name__, "version": FORMAT_VERSION, **arguments}
        try:
            json.dumps(description)
        except TypeError as error:
            raise ScheduleError(f"{self!r} cannot be written to JSON: {error}.") from error
        return description

    @staticmethod
    def from_dict(description: dict[str, Any]) -> "Schedule":
        """Return the schedule that `to_dict` described.

        Raises:
            TypeError: the description is no dict.
            ValueError: it names no known schedule, comes from a newer version, or holds illegal arguments.
        """
        if not isinstance(description, dict):
            raise TypeError(f"description must be a dict made by to_dict(); got {description!r}.")
        arguments = dict(description)
        known = sorted(name for name, kind in _registry.items() if not inspect.isabstract(kind))
        name = _checks.choice("schedule", arguments.pop("schedule", None), known)
        version = arguments.pop("version", None)
        if type(version) is not int or version != FORMAT_VERSION:
            raise ValueError(
                f"version must be {FORMAT_VERSION}; got version={version!r}. "
                "The description was made by another version of cyclr."
            )
        try:
            return _registry[name]._from_arguments(arguments)
        except TypeError as error:
            raise ValueError(f"the description of a {name} is not complete or has unknown entries: {error}.") from error

    def plot(self, steps: int, ax: "Axes | None" = None) -> "Axes":
        """Draw the first `steps` values and return the Matplotlib `Axes`; nothing is shown or saved.

        Args:
            steps: number of steps to draw, at least 2.
            ax: axes to draw on; new ones by default.
        """
        from cyclr.drawing import axes
        from cyclr.schedules.wave import Wave

        step = axes.sampled_steps(_checks.integer("steps", steps, at_least=2))
        envelope = self.envelope(step) if isinstance(self, Wave) else None
        return axes.draw_schedule(step, self(step), envelope, ax=ax)
