"""The base classes of schedules: registration by name, printing, and conversion to and from JSON."""

import inspect
from abc import ABC, abstractmethod
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, Self, overload

import numpy as np
from numpy.typing import NDArray

from cyclr import _checks, _names
from cyclr.errors import ScheduleError
from cyclr.schedules._blocks import PIECE, Blocks, evaluate_in_pieces, user_classes
from cyclr.schedules._namespace import NUMPY, SCALAR, Namespace, resolve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMAT_VERSION = 1

DEEPEST = 200
"""Largest number of levels of nested schedules. Printing, comparing or pickling more would exceed Python's recursion
limit."""

_families: dict[str, type["Described"]] = {}


class Described(ABC):
    """Base of frozen dataclasses whose public fields are printed and written to JSON.

    The direct subclasses, `Schedule` and `Decay`, are called families. A subclass of a family is registered by its name
    when the subclass is defined, so that `from_dict` can find it.
    """

    in_json: ClassVar[bool] = True
    """False for a class with a Python function in a field, which cannot be written to JSON."""
    _family: ClassVar[str]
    _header: ClassVar[dict[str, Any]]
    _registry: ClassVar[dict[str, type[Any]]]
    _depth = 1

    def __init_subclass__(cls, family: str = "", header: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if family:
            cls._family, cls._header, cls._registry = family, header or {}, {}
            _families[family] = cls
            return
        known = cls._registry.get(cls.__name__)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(
                f"a {cls._family} must have a unique class name, by which from_dict finds it; got a second "
                f"{cls.__name__}, in addition to {known.__module__}.{known.__qualname__}. Rename one of them."
            )
        cls._registry[cls.__name__] = cls
        _names.hint_methods(cls, (classmethod,))

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        if args or kwargs:
            _names.check_call(cls.__init__, (cls, *args), kwargs)
        made = super().__new__(cls)
        if not getattr(getattr(cls, "__dataclass_params__", None), "frozen", False):
            raise TypeError(f"{cls.__name__} must be a frozen dataclass. Write @dataclass(frozen=True) above it.")
        return made

    def __post_init__(self) -> None:
        """Raise if schedules are nested too deeply. A subclass with parts that overrides this method must call it."""
        depth = 1 + max((part._depth for part in self.parts()), default=0)
        if depth > DEEPEST:
            raise ValueError(_TOO_DEEP)
        set_fields(self, _depth=depth)

    def __deepcopy__(self, memo: Any) -> Self:
        return self

    def __repr__(self) -> str:
        given = self._fields()
        made_by, name = self._constructor(given), type(self).__name__
        name += "" if made_by is type(self) else f".{made_by.__name__}"
        return f"{name}({', '.join([f'{field}={value!r}' for field, value in given.items()])})"

    @classmethod
    def kinds(cls) -> dict[str, type[Self]]:
        """Return this class and its subclasses by name, including your own, but without abstract classes.

        Example:
            >>> import cyclr
            >>> "OneCycle" in cyclr.Wave.kinds(), "Constant" in cyclr.Wave.kinds()
            (True, False)
        """
        known = sorted(cls._registry.items())
        return {name: kind for name, kind in known if issubclass(kind, cls) and not inspect.isabstract(kind)}

    def to_dict(self) -> dict[str, Any]:
        """Return a description as a dict that `json.dumps` can write and `from_dict` can read.

        Raises:
            ScheduleError: a field holds a Python function or another value that cannot be written to JSON.

        Example:
            >>> import cyclr
            >>> schedule = cyclr.Cyclical(0.001, 0.006, step_size=2000)
            >>> cyclr.Schedule.from_dict(schedule.to_dict()) == schedule
            True
        """
        import json

        description = self._description()
        try:
            json.dumps(description)
        except TypeError as error:
            raise ScheduleError(f"{self!r} cannot be written to JSON: {error}.") from error
        return description

    def _description(self) -> dict[str, Any]:
        if not self.in_json:
            raise ScheduleError(
                f"{self!r} holds a Python function, which cannot be written to JSON. "
                "Use schedules and decays without functions, or create the schedule again in code after loading."
            )
        described = {name: _plain(value) for name, value in self._fields().items()}
        return {self._family: type(self).__name__, **self._header, **described}

    @classmethod
    def from_dict(cls, description: dict[str, Any]) -> Self:
        """Return the schedule or decay that `to_dict` described.

        Raises:
            TypeError: the description is not a dict.
            ValueError: the description names an unknown class, was written by another version of cyclr, has missing,
                unknown or illegal entries, or is nested more than 200 levels deep. The message names the entry.
        """
        if not isinstance(description, dict):
            raise TypeError(f"description must be a dict made by to_dict(); got {_checks.quoted(description)}.")
        entries = dict(description)
        if cls._family not in entries and ("bounds" in entries or {"base_lr", "max_lr", "status"} <= entries.keys()):
            raise ValueError(
                f"the description must be of a {cls._family}; got the description of a range test. Write "
                "cyclr.RangeTestResult.load(path).bounds.schedule(total_steps=...) with the number of updates of the "
                "run."
            )
        legal = {name: kind for name, kind in _families[cls._family].kinds().items() if kind.in_json}
        name = _checks.choice(cls._family, entries.pop(cls._family, None), legal)
        for key, value in cls._header.items():
            if type(found := entries.pop(key, None)) is not type(value) or found != value:
                raise ValueError(
                    f"{key} must be {value}; got {key}={_checks.quoted(found)}. "
                    "The description was written by another version of cyclr."
                )
        try:
            # A comprehension would use one more frame of Python's recursion limit at each level.
            for key, value in entries.items():
                entries[key] = _read_part(value)
        except RecursionError:
            raise ValueError(_TOO_DEEP) from None
        constructor = legal[name]._constructor(entries)
        try:
            inspect.signature(constructor).bind(**entries)
        except TypeError as error:
            raise ValueError(f"the description of {name} is not complete or has unknown entries: {error}.") from error
        try:
            made: Self = constructor(**entries)
        except TypeError as error:
            raise ValueError(f"the description of {name} has an entry of a wrong type: {error}") from error
        return made

    def parts(self) -> list["Described"]:
        """Return the schedules and decays in the fields of this object, without the parts of these parts."""
        values = self._fields().values()
        held = [part for value in values for part in (value if type(value) is tuple else (value,))]
        return [part for part in held if isinstance(part, Described)]

    def _fields(self) -> dict[str, Any]:
        """Return the public fields that are not None, by name."""
        names = [field.name for field in fields(self) if not field.name.startswith("_")]  # type: ignore[arg-type]
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    @classmethod
    def _constructor(cls, given: dict[str, Any]) -> Any:
        """Return the class or class method that takes these fields as arguments."""
        return cls


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [*map(_plain, value)]
    return value._description() if isinstance(value, Described) else value


def _read_part(value: Any) -> Any:
    """Return a schedule or decay from its description, a tuple from a list, or any other value unchanged."""
    if isinstance(value, list):
        return (*map(_read_part, value),)
    for key, family in _families.items() if isinstance(value, dict) else ():
        if key in value:
            return family.from_dict(value)
    return value


_TOO_DEEP = (
    f"schedules must be nested at most {DEEPEST} levels deep; got more. "
    "A Sequence in a Sequence can be written as one Sequence."
)


class Schedule(Described, family="schedule", header={"version": FORMAT_VERSION}):
    """A value (a learning rate, a momentum, a weight decay) for every optimizer update.

    `schedule(step)` is the value that update number `step` uses. This value depends only on the step. A schedule has no
    state: to resume training, call the schedule with the restored step. The first call with an int computes a block of
    2,048 values, so calls for consecutive steps are fast; for steps that are far apart, pass an array. A schedule can
    be multiplied by a schedule or a number: see `Product`.

    To write a schedule of your own, define a frozen dataclass below `Schedule` with the method `evaluate`. Your
    schedule can then be called, compared, printed, pickled, written to JSON and combined with other schedules.

    Args of the call:
        step: index of the optimizer update, from 0. An int gives a float. A NumPy array of integers gives a float64
            array of the same shape. A JAX array or tracer, or a Keras tensor, gives a tensor of the same kind in the
            default float type of JAX or Keras.

    Raises:
        TypeError: the step is not an integer.
        ValueError: an int or a NumPy array holds a negative step. Tensors are not checked.

    Example:
        >>> import cyclr, numpy as np
        >>> schedule: cyclr.Schedule = cyclr.Cyclical(0.0, 1.0, step_size=4)
        >>> schedule(1), schedule(np.array([1, 2])).tolist()
        (0.25, [0.25, 0.5])
    """

    total_steps: int | None = None
    """Steps (optimizer updates) of the run that the schedule fills. After the run, the schedule keeps its last value,
    except after `Cyclical.over(..., stays=False)`.

    None for a schedule without an end."""
    settled: int | None = None
    """Steps (optimizer updates) after which the value stays constant, for a schedule without `total_steps`.

    None if the value never stops changing."""
    _blocks: Blocks
    # Without this, `np.float64(0.1) * schedule` would not call `__rmul__`.
    __array_ufunc__ = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        made = super().__new__(cls, *args, **kwargs)
        set_fields(made, _blocks=Blocks())
        return made

    if not TYPE_CHECKING:

        def __getattr__(self, name):
            raise _names.missing_attribute(self, "schedule", name)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_blocks"}

    @overload
    def __call__(self, step: NDArray[np.integer[Any]]) -> NDArray[np.float64]: ...
    @overload
    def __call__(self, step: int | np.integer[Any]) -> float: ...
    @overload
    def __call__(self, step: Any = None, *others: Any) -> Any: ...

    def __call__(self, step: Any = None, *others: Any) -> Any:
        if type(step) is int and step >= 0 and not others:
            return self._blocks.read(self, step)
        if step is None or others:
            # Keras calls the learning rate of an optimizer without arguments. `LearningRateScheduler` calls its
            # function with two; after a TypeError it would call again, with the epoch as the only argument.
            received = f"{len(others) + 1} arguments" if others else "none"
            raise (ValueError if others else TypeError)(
                "step must be an integer, or an array or tensor of integers, and the only argument; got "
                f"{received}. In Keras, create the optimizer with cyclr.keras.LearningRate(schedule), or call fit with "
                "the callback ScheduleCallback(lr=schedule)."
            )
        step, xp = resolve(step)
        if xp is SCALAR:
            return self._blocks.read(self, step)
        if xp is NUMPY:
            return evaluate_in_pieces(self, step) if step.size > PIECE else self.evaluate(xp, step)
        try:
            return self.evaluate(xp, step)
        except Exception as error:
            names = sorted(set(user_classes(self)))
            if not names:
                raise
            first_line = str(error).partition("\n")[0]
            raise ScheduleError(
                f"your code in {' and '.join(names)} cannot be computed for a tensor, which a compiled training step "
                f"passes as the step; got {type(error).__name__}: {first_line} Use operations that tensors support, "
                "such as lambda n: 1 / (1 + n). Replace if, min, math, NumPy and lists by "
                "keras.ops.where(n < 2, 1.0, 0.5) or jax.numpy.where. In Keras, CyclicLR(scale_fn=...) takes any "
                "function."
            ) from error

    def __mul__(self, other: Any) -> "Schedule":
        return _product(self, other)

    def __rmul__(self, other: Any) -> "Schedule":
        return _product(other, self)

    @abstractmethod
    def evaluate(self, xp: Namespace, step: Any) -> Any:
        """Return the value at a step. The formula is written once, with operations that work for every kind of step.

        Args:
            xp: the operations for this kind of step.
            step: an int, a NumPy array of int64, or a tensor of integers, which was checked before.
        """

    @property
    def largest(self) -> float:
        """Upper bound of the values at all steps. For a momentum it must be below 1.

        Raises:
            ScheduleError: the schedule's class is your own and does not define this property, or the schedule is a
                `Function` without `high`.

        Example:
            >>> import cyclr
            >>> cyclr.Warmup(cyclr.Constant(0.5), steps=10, start=0.9).largest
            0.9
        """
        raise ScheduleError(
            f"the largest value of {self!r} is not known, because {type(self).__name__} does not define it. "
            f"Add a property `largest` to {type(self).__name__} that returns this value."
        )

    def is_cycle_end(self, step: Any) -> Any:
        """Return True if a step is the minimum at the end of a cycle, and False for a schedule without cycles.

        In a `Cyclical` with cycles of L steps, the minimum that ends a cycle also starts the next cycle: the result is
        True at L, 2L, … and False at 0. In `WarmRestarts` it is True at the last step before the value jumps up.

        Example:
            >>> import cyclr
            >>> schedule = cyclr.Cyclical(0.0, 1.0, step_size=5)
            >>> [step for step in range(25) if schedule.is_cycle_end(step)]
            [10, 20]
        """
        return resolve(step)[0] < 0

    @property
    def has_cycle_ends(self) -> bool:
        """True if the schedule has cycles, so that `is_cycle_end` is True at some step.

        Only the parts are examined: the property is also True for a `Sequence` that ends before its only cycle does.

        Example:
            >>> import cyclr
            >>> cyclr.OneCycle(0.01, 0.1, total_steps=100).has_cycle_ends, cyclr.Constant(0.1).has_cycle_ends
            (True, False)
        """
        parts = [part for part in self.parts() if isinstance(part, Schedule)]
        if not parts:
            # A class without parts, such as a user's class, has cycles if it overrides `is_cycle_end`.
            return type(self).is_cycle_end is not Schedule.is_cycle_end
        return any(part.has_cycle_ends for part in parts)

    def _repr_html_(self) -> str:
        from cyclr.drawing.svg import schedule_svg

        return schedule_svg(self._to_draw(1_200), self, repr(self))

    def _to_draw(self, most: int, steps: int | None = None) -> NDArray[np.int64]:
        """Return all steps to draw, or `most` evenly spaced steps if there are more."""
        from cyclr.schedules._extent import steps_to_draw

        count = steps_to_draw(self) if steps is None else _checks.integer("steps", steps, at_least=2)
        points = min(count, most)
        # np.linspace computes with floats, which round steps above 2**53.
        return np.array([index * (count - 1) // (points - 1) for index in range(points)])

    @_names.hinted
    def plot(self, steps: int | None = None, ax: "Axes | None" = None) -> "Axes":
        """Draw the first `steps` values and return the Matplotlib `Axes`. The plot is not shown or saved.

        Args:
            steps: number of steps to draw, at least 2. None draws all steps of a schedule with an end, four cycles of
                a schedule that repeats, most of an `Anneal` with a limit, and 1,000 steps of any other schedule.
            ax: axes to draw on. By default new axes are created.

        Raises:
            TypeError, ValueError: `steps` is not an integer ≥ 2.
            MissingExtraError: Matplotlib is not installed.
        """
        from cyclr.drawing import axes
        from cyclr.schedules.wave import Wave

        step = self._to_draw(20_000, steps)
        envelope = self.envelope(step) if isinstance(self, Wave) else None
        return axes.draw_schedule(step, self(step), envelope, ax=ax)


def check_schedule(name: str, given: Any) -> None:
    """Raise TypeError with a remedy if an argument is not a schedule."""
    if not isinstance(given, Schedule):
        fix = _checks.remedy(given, "Try cyclr.Constant(value) or cyclr.Cyclical(base_lr, max_lr, step_size).")
        raise TypeError(f"{name} must be a cyclr schedule; got {name}={_checks.quoted(given)}. {fix}")


def _product(*factors: Any) -> Schedule:
    from cyclr.schedules.product import Product

    return Product(*factors)


def set_fields(made: object, /, **values: object) -> None:
    """Set fields of a frozen dataclass while it is made."""
    for name, value in values.items():
        # Python 3.11 and 3.12 read attributes more slowly after `vars(made)` was called.
        object.__setattr__(made, name, value)
