"""One member of an ensemble: the weights after one update of a run."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Protocol

from cyclr import _checks, _files
from cyclr.errors import CyclrError, MembersError
from cyclr.schedules.base import set_fields


class StateFormat(Protocol):
    """Compares, checks and saves the states of members in one framework."""

    suffix: str
    """The suffix of file names, which starts with a dot."""

    def shapes(self, state: Any) -> dict[str, list[int]]:
        """Return the shape of each array of a state by the name of the array, as JSON data."""

    def not_finite(self, state: Any) -> str | None:
        """Return the name of an array with NaN or infinity, or None."""

    def save(self, state: Any, path: Path) -> None:
        """Write a state to a new file."""

    def load(self, path: Path) -> Any:
        """Read a state from a file. Never execute code from the file."""


@dataclass(frozen=True)
class StateFile:
    """A state in a file. The file is read each time the state is used."""

    path: Path
    format: StateFormat

    def read(self) -> Any:
        """Return the state.

        Raises:
            MembersError: the file is missing or damaged.
        """
        try:
            _files.check_regular(self.path)
            return self.format.load(self.path)
        except CyclrError:
            raise
        except Exception as error:
            raise MembersError(
                f"{str(self.path)!r} cannot be read as the state of a member ({type(error).__name__}: {error!s:.200}). "
                "Restore the file, or remove its folder."
            ) from error


@dataclass(frozen=True, init=False, eq=False)
class Member:
    """The weights of a run after one update, such as the one at the end of a cycle.

    Args:
        step: step of the update, from 0.
        lr: learning rate of the update, ≥ 0.
        state: the weights: for torch `model.state_dict()`, for Keras `model.get_weights()`, for JAX the parameters. A
            member in a folder reads its file each time `state` is used.
        metrics: numbers by name, such as the validation loss.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Example:
        >>> import cyclr
        >>> cyclr.Member(499, 0.001, {"weight": [0.5]}, {"val_loss": 0.25})
        Member(step=499, lr=0.001, metrics={'val_loss': 0.25})
    """

    step: int
    lr: float
    metrics: Mapping[str, float]
    _held: Any = field(repr=False)

    def __init__(self, step: int, lr: float, state: Any, metrics: Mapping[str, float] | None = None) -> None:
        set_fields(
            self,
            step=_checks.integer("step", step, at_least=0),
            lr=_checks.number("lr", lr, at_least=0),
            metrics=checked_metrics("metrics", metrics),
            _held=state,
        )

    @property
    def state(self) -> Any:
        """The weights, read from the file if the member is in a folder.

        Raises:
            MembersError: the file is missing or damaged.
        """
        return self._held.read() if isinstance(self._held, StateFile) else self._held


def checked_metrics(name: str, metrics: Any) -> dict[str, float]:
    """Return a dict of floats. NaN and infinity are legal."""
    if not isinstance(metrics, Mapping | None):
        raise TypeError(f"{name} must be a dict of numbers by name; got {_checks.quoted(metrics)}.")
    return {str(key): _checks.scalar(f"{name}[{key!r}]", value) for key, value in (metrics or {}).items()}


def described(member: Member) -> dict[str, Any]:
    """Return a member without its state, as JSON data. NaN and infinity become strings, because JSON lacks them."""
    metrics = {name: value if math.isfinite(value) else str(value) for name, value in member.metrics.items()}
    return {"step": member.step, "lr": member.lr, "metrics": metrics}


def _metric(name: str, value: Any) -> float:
    return float(value) if value in ("nan", "inf", "-inf") else _checks.scalar(name, value)


Metrics = dict[str, Annotated[Any, _metric]]
Shapes = dict[str, list[int]]
"""Shape of each array by name. This and `Metrics` are types of saved data."""


class Description(NamedTuple):
    """The entries of a saved member: those from `described`, and possibly the state."""

    step: int
    lr: float
    metrics: Metrics
    state: Any = None

    def member(self) -> Member:
        """Return the member."""
        return Member(self.step, self.lr, self.state, self.metrics)


def check_steps(members: Iterable[Any]) -> None:
    """Raise a ValueError if the steps of the members do not increase."""
    steps = [member.step for member in members]
    if steps != sorted(set(steps)):
        raise ValueError(f"members must come in the order of their steps; got steps {_checks.quoted(steps)}.")
