"""The result of a range test."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from cyclr import _checks, _files
from cyclr.bounds import Bounds, Curve, classic, smooth
from cyclr.bounds.curve import LARGEST, checked_curve, without_ends
from cyclr.bounds.knee import read_bounds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cyclr.drawing.picture import RangePicture

FORMAT_VERSION = 1

StopReason = Literal["completed", "diverged", "non_finite", "data_exhausted", "interrupted"]

STOPPED_BECAUSE: dict[str, str] = {
    "completed": "every learning rate was tried",
    "diverged": "the loss left its lowest value far behind",
    "non_finite": "the loss became infinite or NaN",
    "data_exhausted": "the data ended",
    "interrupted": "the test was stopped before its end",
}

MOST_STEPS, MOST_UPDATES = 10_000_000, 1_000_000
"""Largest number of rates of a test, and of updates with every rate."""


@dataclass(frozen=True, eq=False, repr=False)
class RangeTestResult:
    """The learning rates and losses of a range test, and the bounds read from them.

    Attributes:
        lr: learning rates used, shape (n,), rising; read-only.
        loss: the loss of the batch at each of them, as recorded, shape (n,); finite; read-only.
        stop_reason: `"completed"` (every rate was tried), `"diverged"`, `"non_finite"` (the next loss was NaN or
            infinite), `"data_exhausted"` or `"interrupted"`.
        min_lr, max_lr, steps, spacing: arguments of the test; n < steps if it stopped early.
        runs: the losses of every repeat, shape (repeats, n), of which `loss` is the mean; read-only.
        updates_per_rate: optimizer updates made with every rate.

    Raises:
        TypeError, ValueError: illegal values, such as losses that are not finite, or rates outside min_lr and max_lr.

    Example:
        >>> import numpy as np
        >>> from cyclr import RangeTestResult
        >>> lr = np.geomspace(1e-6, 10, 150)
        >>> loss = 2.3 - 2 / (1 + (0.01 / lr) ** 2) + (lr / 0.5) ** 2
        >>> result = RangeTestResult(lr, loss, "completed", 1e-6, 10.0, 150, "exponential")
        >>> result.bounds.status
        'ok'
        >>> f"{result.suggest('steepest'):.1g}"
        '0.03'
    """

    lr: NDArray[np.float64]
    loss: NDArray[np.float64]
    stop_reason: StopReason
    min_lr: float
    max_lr: float
    steps: int
    spacing: Literal["exponential", "linear"]
    runs: NDArray[np.float64] = None  # type: ignore[assignment]  # made from loss
    updates_per_rate: int = 1

    def __post_init__(self) -> None:
        lr, loss = _checks.floats("lr", self.lr, "a vector"), _checks.floats("loss", self.loss, "a vector")
        checked_curve(lr, loss)
        runs = _checks.floats("runs", [loss] if self.runs is None else self.runs, "rows")
        if runs.ndim != 2 or runs.shape[1:] != loss.shape or not np.all(np.isfinite(runs)):
            raise ValueError(
                f"runs must be finite and of shape (repeats, {loss.size}); got runs={_checks.quoted(runs)}."
            )
        if not np.allclose(_mean(runs), loss, rtol=1e-9, atol=0):
            raise ValueError("loss must be the mean of runs; got other values.")
        low, high = _checks.bounds(self.min_lr, self.max_lr, base="min_lr", top="max_lr")
        fewest = max(2, lr.size)
        steps = _checks.integer("steps", self.steps, at_least=fewest, at_most=MOST_STEPS, fix="lr has a rate a step.")
        updates = _checks.integer("updates_per_rate", self.updates_per_rate, at_least=1, at_most=MOST_UPDATES)
        # Rates in single precision are rounded.
        if lr[0] < low * (1 - 1e-6) or lr[-1] > high * (1 + 1e-6):
            raise ValueError(
                f"lr must be within min_lr and max_lr; got rates from {lr[0]:g} to {lr[-1]:g} with "
                f"min_lr={low:g}, max_lr={high:g}."
            )
        _checks.choice("stop_reason", self.stop_reason, STOPPED_BECAUSE)
        _checks.choice("spacing", self.spacing, ("exponential", "linear"))
        vars(self).update(lr=lr, loss=loss, runs=runs, min_lr=low, max_lr=high, steps=steps, updates_per_rate=updates)

    @classmethod
    def of_repeats(cls, results: "Sequence[RangeTestResult]") -> "RangeTestResult":
        """Return one result of several of the same sweep: the mean losses, cut to the length of the shortest.

        Args:
            results: at least one, of the same rates.

        Raises:
            ValueError: no results, or results of different sweeps.

        Example:
            >>> from cyclr import RangeTestResult
            >>> one = RangeTestResult([0.1, 1.0], [2.0, 1.0], "completed", 0.1, 1.0, 2, "exponential")
            >>> other = RangeTestResult([0.1], [4.0], "diverged", 0.1, 1.0, 2, "exponential")
            >>> both = RangeTestResult.of_repeats([one, other])
            >>> both.loss.tolist(), both.runs.tolist(), both.stop_reason
            ([3.0], [[2.0], [4.0]], 'diverged')
        """
        sweeps = {(r.min_lr, r.max_lr, r.steps, r.spacing, r.updates_per_rate) for r in results}
        if len(sweeps) != 1:
            raise ValueError(f"results must be of one sweep; got {len(results)} of {len(sweeps)} sweeps.")
        if len(results) == 1:
            return results[0]
        # Of several that are equally short, one that became unstable gives the reason.
        shortest = min(results, key=lambda result: (result.lr.size, not result._became_unstable))
        runs = np.concatenate([result.runs[:, : shortest.lr.size] for result in results])
        low, high, steps, spacing, updates = sweeps.pop()
        return cls(shortest.lr, _mean(runs), shortest.stop_reason, low, high, steps, spacing, runs, updates)

    def __reduce__(self) -> tuple[Any, ...]:
        # Through the constructor, so that copies are read-only too; with the bounds, which may come from a file.
        values = tuple(getattr(self, field.name) for field in fields(self))
        return RangeTestResult, values, {name: value for name, value in vars(self).items() if name == "bounds"}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RangeTestResult):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    @cached_property
    def curve(self) -> Curve:
        """The smoothed curve that bounds are read from."""
        return smooth(self.lr, self.loss)

    @property
    def smoothed_loss(self) -> NDArray[np.float64]:
        """The losses smoothed for the eye, shape (n,); losses far above the start are clipped, as by `bounds.smooth`.

        Bounds are read from `curve.loss`, which is smoother, and first falls and then rises.
        """
        return self.curve.shown

    @property
    def _became_unstable(self) -> bool:
        return self.stop_reason in ("diverged", "non_finite")

    @cached_property
    def bounds(self) -> Bounds:
        """The bounds to cycle between, with a status and a reason. A loaded result has the bounds of its file."""
        return read_bounds(
            self.curve,
            unstable_end=self._became_unstable,
            cut_short=self.stop_reason in ("data_exhausted", "interrupted"),
            updates_per_rate=self.updates_per_rate,
        )

    def suggest(
        self,
        method: Literal["steepest", "valley", "minimum"],
        *,
        skip_begin: int | None = None,
        skip_end: int | None = None,
    ) -> float:
        """Return one learning rate by a classic method; `bounds` are the better choice for training.

        Args:
            method: `"steepest"`, `"valley"` or `"minimum"`, as fastai's finder makes them; see
                `cyclr.bounds.suggest`.
            skip_begin, skip_end: points left out at the start and at the end; by default a tenth of the steps, and 5.

        Raises:
            TypeError: a skip that is not an integer.
            ValueError: an unknown method; skips that are negative or leave no point.
        """
        skips = {"skip_begin": skip_begin, "skip_end": skip_end}
        return classic.suggest(self.lr, self.loss, method, steps=self.steps, **skips)

    def picture(self) -> "RangePicture":
        """The numbers and sentences that every picture of this result is drawn from."""
        from cyclr.drawing.picture import RangePicture

        bounds = self.bounds
        return RangePicture(
            lr=self.lr,
            loss=np.clip(self.loss, -LARGEST, LARGEST),
            runs=np.clip(self.runs, -LARGEST, LARGEST),
            curve=self.curve.shown,
            noise=self.curve.noise,
            scale="log" if self.spacing == "exponential" else "linear",
            bounds=bounds.numbers,
            status=bounds.status,
            verdict=bounds.verdict,
            reason=bounds.reason,
            ended=f"The test took {len(self.lr)} of {self.steps} steps: {STOPPED_BECAUSE[self.stop_reason]}.",
        )

    def plot(self, ax: "Axes | None" = None, *, skip_begin: int = 0, skip_end: int = 0) -> "Axes":
        """Draw loss against learning rate with the bounds marked and the verdict in words.

        Args:
            ax: Matplotlib axes to draw on; new ones by default.
            skip_begin, skip_end: points left out of the picture at the start and at the end. The bounds are always read
                from all points.

        Returns:
            The `Axes`; nothing is shown or saved (`result.plot().figure.savefig("range_test.png")` saves it).

        Raises:
            TypeError, ValueError: a skip that is not an integer ≥ 0; skips that leave no point.
        """
        from cyclr.drawing import axes

        kept, whole = without_ends(len(self.lr), skip_begin, skip_end), self.picture()
        lr, loss, runs, curve = (array[..., kept] for array in (whole.lr, whole.loss, whole.runs, whole.curve))
        return axes.draw_range_test(replace(whole, lr=lr, loss=loss, runs=runs, curve=curve), ax=ax)

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write a page to look at: the verdict, the curve with bounds to drag, the schedule, and the code to paste.

        One file without any outside request, which a browser opens offline; needs the extra `report`.

        Args:
            path: the file to write, such as `"range_test.html"`; replaced, atomically, if it is there.

        Raises:
            MissingExtraError: Plotly or Jinja2 is not installed.
            OSError: the file cannot be written.
        """
        from platform import python_version

        from cyclr.drawing import page
        from cyclr.schedules import shape

        settings = {
            "learning rates": f"{self.min_lr:g} to {self.max_lr:g}, {self.spacing}",
            "steps": f"{len(self.lr)} of {self.steps}",
            "loss": f"{self.loss.min():.4g} to {self.loss.max():.4g}",
            "python": python_version(),
        }
        _files.write_atomically(path, page.render(page.range_test_page(self.picture(), shape.curves(), settings)))

    def to_dict(self) -> dict[str, Any]:
        """Return a description for `json.dumps`, which includes the bounds."""
        return {
            "version": FORMAT_VERSION,
            "lr": self.lr.tolist(),
            "loss": self.loss.tolist(),
            **({"runs": self.runs.tolist()} if len(self.runs) > 1 else {}),
            "stop_reason": self.stop_reason,
            "min_lr": self.min_lr,
            "max_lr": self.max_lr,
            "steps": self.steps,
            "spacing": self.spacing,
            **({"updates_per_rate": self.updates_per_rate} if self.updates_per_rate > 1 else {}),
            "bounds": self.bounds.to_dict(),
        }

    @classmethod
    def from_dict(cls, description: dict[str, Any]) -> "RangeTestResult":
        """Return the result that `to_dict` described, with the bounds of the description; without any, they are read.

        Raises:
            ValueError: the description comes from another version, is not complete or holds illegal values.
        """
        version = description.get("version") if isinstance(description, dict) else None
        if type(version) is not int or version != FORMAT_VERSION:
            raise ValueError(
                f"version must be {FORMAT_VERSION}; got version={_checks.quoted(version)}. Is it a range test's result?"
            )
        names = ("lr", "loss", "stop_reason", "min_lr", "max_lr", "steps", "spacing")
        missing = [name for name in names if name not in description]
        if missing:
            raise ValueError(f"a range test's result must have {', '.join(names)}; got none of {', '.join(missing)}.")
        try:
            result = cls(
                **{name: description[name] for name in names},
                runs=description.get("runs"),  # type: ignore[arg-type]
                updates_per_rate=description.get("updates_per_rate", 1),
            )
            if "bounds" in description:
                vars(result).update(bounds=Bounds(**description["bounds"]))
        except TypeError as error:
            raise ValueError(
                f"the description of a range test must hold legal values; got one where {error}"
            ) from error
        return result

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the result as JSON, atomically; `RangeTestResult.load` reads it."""
        _files.write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "RangeTestResult":
        """Read a result that `save` wrote.

        Raises:
            OSError: the file cannot be read.
            ValueError: the file holds no result of a range test.
        """
        import json
        from pathlib import Path

        try:
            description = json.loads(Path(path).read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{os.fspath(path)} must hold JSON written by save(); got {error}.") from error
        return cls.from_dict(description)

    def __repr__(self) -> str:
        return (
            f"<RangeTestResult: {len(self.lr)} of {self.steps} steps, {self.stop_reason} ({self.bounds.status}). "
            f"{self.bounds.verdict} {self.bounds.reason}>"
        )

    def _repr_html_(self) -> str:
        from cyclr.drawing.svg import svg_and_table

        return svg_and_table(self.picture())


def _mean(runs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of the rows, which is finite also if their sum is not."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean = runs.mean(0)
    return np.asarray(np.where(np.isfinite(mean), mean, (runs / len(runs)).sum(0)))
