"""The result of a range test."""

import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyclr import _checks, _files, _names, _plain
from cyclr.bounds import Bounds, Curve, classic, smooth
from cyclr.bounds.curve import LARGEST, checked_curve, without_ends
from cyclr.bounds.interval import TRIALS, interval, scatter
from cyclr.drawing.picture import RangePicture
from cyclr.range_test import conditions
from cyclr.range_test.non_finite import NonFinite
from cyclr.range_test.reading import Reading, became_unstable, read, unstable_end
from cyclr.range_test.trial import TrialCycle

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMAT_VERSION = 1

StopReason = Literal["completed", "diverged", "non_finite", "data_exhausted", "interrupted"]

STOPPED_BECAUSE: dict[str, str] = {
    "completed": "every learning rate was tried",
    "diverged": "the loss rose far above its lowest value",
    "non_finite": "the loss became infinite or NaN",
    "data_exhausted": "the data ended",
    "interrupted": "the test was stopped before its end",
}

MOST_STEPS, MOST_UPDATES = 10_000_000, 1_000_000
"""Largest number of learning rates in a test, and largest number of updates at every learning rate."""


@_names.hinted
@dataclass(frozen=True, init=False, eq=False, repr=False)
class RangeTestResult:
    """The learning rates and losses of a range test, and the bounds read from them.

    Attributes:
        lr: learning rates used, shape (n,), rising; read-only.
        loss: recorded loss at each learning rate, shape (n,); finite; read-only.
        stop_reason: `"completed"` (every learning rate was tried), `"diverged"`, `"non_finite"` (the next loss was NaN
            or infinite), `"data_exhausted"` or `"interrupted"`.
        swept: the first and the last learning rate of the complete test, which are its arguments min_lr and max_lr.
            The bounds are `bounds.base_lr` and `bounds.max_lr`.
        steps, spacing: arguments of the test. If the test stopped early, n < steps.
        runs: losses of every repeat, shape (repeats, n); read-only. `loss` is their mean.
        updates_per_rate: optimizer updates at every learning rate.
        left_out: a `NonFinite` for every broken batch: its loss was NaN or infinite, and the loss of a later batch at
            the same learning rate was finite.
        ended_by: the `NonFinite` that ended the test if stop_reason is `"non_finite"`, or after which the data ended or
            the loop stopped the test. None if there was none or if it is not known.
        tested: conditions of the test by name, as far as they are known: `model` (class), `parameters` (number),
            `optimizer` (a call with the settings that differ from the defaults), `batch_size`, `seed`, the versions of
            `python`, `cyclr` and the framework, and `date` (UTC). They contain no names of persons, machines or
            folders. Comparing two results with `==` ignores `tested`, so the same test on another day gives an equal
            result.
        total_steps: steps of the training run for which the bounds are, or None if the length was not given.
        trials: the `TrialCycle`s made for a run of this length, in order.
        from_start: True if the initial weights were restored before every learning rate, as by `cyclr.keras.LRFinder`.
            Each loss is then the mean over the updates at its learning rate, without the first update.

    Raises:
        TypeError, ValueError: a value is illegal, such as a loss that is not finite, or a learning rate outside min_lr
            and max_lr.

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
    swept: tuple[float, float]
    steps: int
    spacing: Literal["exponential", "linear"]
    runs: NDArray[np.float64]
    updates_per_rate: int
    left_out: tuple[NonFinite, ...]
    ended_by: NonFinite | None
    tested: Mapping[str, str | int | float | bool | None]
    total_steps: int | None
    trials: tuple[TrialCycle, ...]
    from_start: bool

    _remedy: ClassVar[str] = Bounds._remedy.replace("bounds", "result.bounds")

    def __init__(
        self,
        lr: ArrayLike,
        loss: ArrayLike,
        stop_reason: StopReason,
        min_lr: float | None = None,
        max_lr: float | None = None,
        steps: int | None = None,
        spacing: Literal["exponential", "linear"] = "exponential",
        runs: ArrayLike | None = None,
        updates_per_rate: int = 1,
        left_out: Sequence[NonFinite] = (),
        ended_by: NonFinite | None = None,
        *,
        total_steps: int | None = None,
        trials: Sequence[TrialCycle] = (),
        swept: tuple[float, float] | None = None,
        tested: Mapping[str, Any] = MappingProxyType({}),
        from_start: bool = False,
    ) -> None:
        # `dataclasses.replace` passes `swept` instead of min_lr and max_lr.
        min_lr, max_lr = (min_lr, max_lr) if swept is None else swept
        lr, loss = _checks.floats("lr", lr, "a vector"), _checks.floats("loss", loss, "a vector")
        checked_curve(lr, loss)
        runs = _checks.floats("runs", [loss] if runs is None else runs, "rows")
        if runs.ndim != 2 or runs.shape[1:] != loss.shape or not np.all(np.isfinite(runs)):
            raise ValueError(
                f"runs must be finite and of shape (repeats, {loss.size}); got runs={_checks.quoted(runs)}."
            )
        if not np.allclose(_mean(runs), loss, rtol=1e-9, atol=0):
            raise ValueError("loss must be the mean of runs; got other values.")
        low, high = _checks.bounds(min_lr, max_lr, base="min_lr", top="max_lr")
        fewest = max(2, lr.size)
        steps = _checks.integer("steps", steps, at_least=fewest, at_most=MOST_STEPS, fix="lr has one entry per step.")
        updates = _checks.integer("updates_per_rate", updates_per_rate, at_least=1, at_most=MOST_UPDATES)
        # Learning rates in single precision are rounded.
        if lr[0] < low * (1 - 1e-6) or lr[-1] > high * (1 + 1e-6):
            raise ValueError(
                f"lr must be within min_lr and max_lr; got learning rates from {lr[0]:g} to {lr[-1]:g} with "
                f"min_lr={low:g}, max_lr={high:g}."
            )
        _checks.choice("stop_reason", stop_reason, STOPPED_BECAUSE)
        _checks.choice("spacing", spacing, ("exponential", "linear"))
        vars(self).update(lr=lr, loss=loss, stop_reason=stop_reason, swept=(low, high), steps=steps, spacing=spacing)
        vars(self).update(runs=runs, updates_per_rate=updates, left_out=tuple(left_out), ended_by=ended_by)
        vars(self).update(tested=conditions.checked(tested))
        if total_steps is not None:
            _checks.integer("total_steps", total_steps, at_least=1)
        vars(self).update(total_steps=total_steps, trials=tuple(trials))
        _checks.choice("from_start", from_start, (True, False))  # type: ignore[arg-type]
        vars(self).update(from_start=from_start)

    if not TYPE_CHECKING:

        def __getattr__(self, name):
            if name in ("min_lr", "base_lr", "max_lr"):
                raise AttributeError(
                    f"a RangeTestResult has no {name}, because the name could mean an end of the sweep or a bound. The "
                    "bounds are result.bounds.base_lr and result.bounds.max_lr. The ends of the sweep are result.swept."
                )
            raise _names.missing_attribute(self, "result", name)

    @classmethod
    def of_repeats(cls, results: "Sequence[RangeTestResult]") -> "RangeTestResult":
        """Combine results of the same sweep into one: the mean losses, cut to the length of the shortest result.

        Args:
            results: one or more results with the same learning rates.

        Raises:
            ValueError: there are no results, or the results belong to different sweeps.

        Example:
            >>> from cyclr import RangeTestResult
            >>> one = RangeTestResult([0.1, 1.0], [2.0, 1.0], "completed", 0.1, 1.0, 2, "exponential")
            >>> other = RangeTestResult([0.1], [4.0], "diverged", 0.1, 1.0, 2, "exponential")
            >>> both = RangeTestResult.of_repeats([one, other])
            >>> both.loss.tolist(), both.runs.tolist(), both.stop_reason
            ([3.0], [[2.0], [4.0]], 'diverged')
        """
        sweeps = {(*r.swept, r.steps, r.spacing, r.updates_per_rate, r.from_start) for r in results}
        if len(sweeps) != 1:
            raise ValueError(f"results must be of one sweep; got {len(results)} results of {len(sweeps)} sweeps.")
        if len(results) == 1:
            return results[0]
        # If several results are equally short, one that became unstable gives the stop_reason.
        shortest = min(results, key=lambda result: (result.lr.size, not became_unstable(result)))
        runs = np.concatenate([result.runs[:, : shortest.lr.size] for result in results])
        low, high, steps, spacing, updates, from_start = sweeps.pop()
        left_out = [met for result in results for met in result.left_out]
        mean, why, ended_by = _mean(runs), shortest.stop_reason, shortest.ended_by
        return cls(
            *(shortest.lr, mean, why, low, high, steps, spacing, runs, updates, left_out, ended_by),
            tested=results[0].tested,
            from_start=from_start,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # The constructor makes the arrays of a copy read-only. The bounds are copied, because they may be from a file.
        values = {field.name: getattr(self, field.name) for field in fields(self)} | {"tested": dict(self.tested)}
        bounds = {name: value for name, value in vars(self).items() if name == "bounds"}
        return partial(RangeTestResult, **values), (), bounds

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RangeTestResult):
            return NotImplemented
        return self._measured() == other._measured()

    @cached_property
    def curve(self) -> Curve:
        """The smoothed curve from which bounds are read."""
        return smooth(self.lr, self.loss)

    @property
    def smoothed_loss(self) -> NDArray[np.float64]:
        """The smoothed losses from which bounds are read, shape (n,). They first fall and then rise.

        Losses far above the start are clipped, see `bounds.smooth`.
        """
        return self.curve.loss

    @cached_property
    def bounds(self) -> Bounds:
        """The bounds for training, with a status and a reason. A loaded result has the bounds from its file."""
        return self._reading.bounds

    @cached_property
    def _reading(self) -> Reading:
        return read(self)

    @cached_property
    def _scatter(self) -> float:
        of_sweep = scatter(
            self.bounds,
            self.curve,
            self.loss,
            unstable_end=unstable_end(self),
            updates_per_rate=self.updates_per_rate,
            from_start=self.from_start,
        )
        return math.hypot(of_sweep, TRIALS) if self.trials else of_sweep

    def interval(self, share: float = 0.8) -> tuple[float, float] | None:
        """Return an interval that contains the max_lr of a test with another seed with probability `share`.

        The interval is max_lr · exp(±q s), clipped to the learning rates of the test, with q = -2.1 ln(1 - share) and
        s = sqrt(0.05² + b²). b is the standard deviation of ln max_lr over 32 curves of a wild bootstrap, which have
        the noise of this curve. The first call computes b, which takes as long as reading 32 bounds. If the status is
        `"flat"`, s is 0.18. After trial cycles, s is sqrt(0.05² + b² + 0.17²).

        For a share of 0.8, the interval contains the max_lr of 80 of 100 tests with other seeds, on average over the
        tasks of `benchmarks/bounds/interval.py`. Another seed changes the initial weights and the order of the data.

        Args:
            share: probability, 0 < share < 1.

        Returns:
            The lowest and the highest max_lr, or None if the test gives no bounds.

        Raises:
            TypeError: share is not a number.
            ValueError: share is not between 0 and 1.

        Example:
            >>> import numpy as np
            >>> from cyclr import RangeTestResult
            >>> lr = np.geomspace(1e-6, 10, 150)
            >>> loss = 2.3 - 2 / (1 + (0.01 / lr) ** 2) + (lr / 0.5) ** 2
            >>> result = RangeTestResult(lr, loss, "completed", 1e-6, 10.0, 150, "exponential")
            >>> low, high = result.interval(0.8)
            >>> print(f"max_lr {result.bounds.max_lr:.3f}, from {low:.3f} to {high:.3f}")
            max_lr 0.037, from 0.031 to 0.044
        """
        share = _checks.number("share", share, above=0, below=1, fix="Write 0.8 for 80 %.")
        if self.bounds.max_lr is None:
            return None
        return interval(self.bounds.max_lr, self._scatter, share, within=(float(self.lr[0]), self.swept[1]))

    def suggest(
        self,
        method: Literal["steepest", "valley", "minimum"],
        *,
        skip_begin: int | None = None,
        skip_end: int | None = None,
    ) -> float:
        """Return one learning rate by a classic method. For training, `bounds` are the better choice.

        Args:
            method: `"steepest"`, `"valley"` or `"minimum"`, as in fastai's finder; see `cyclr.bounds.suggest`.
            skip_begin, skip_end: points left out at the start and at the end. The defaults are a tenth of the steps,
                and 5.

        Raises:
            TypeError: a number of points is not an integer.
            ValueError: the method is unknown, a number of points is negative, or no point remains.
        """
        skips = {"skip_begin": skip_begin, "skip_end": skip_end}
        return classic.suggest(self.lr, self.loss, method, steps=self.steps, **skips)

    def picture(self) -> RangePicture:
        """Return the numbers and sentences for all pictures of this result."""
        bounds, reading = self.bounds, self._reading
        return RangePicture(
            lr=self.lr,
            loss=np.clip(self.loss, -LARGEST, LARGEST),
            runs=np.clip(self.runs, -LARGEST, LARGEST),
            curve=reading.loss,
            cut=reading.cut,
            noise=self.curve.noise,
            scale="log" if self.spacing == "exponential" else "linear",
            bounds=bounds.numbers,
            interval=self.interval(),
            status=bounds.status,
            reason=bounds.details,
            marks=bounds.marks,
            trials=tuple((trial.max_lr, trial.ended) for trial in self.trials),
            ended=f"The test took {len(self.lr)} of {self.steps} steps: {STOPPED_BECAUSE[self.stop_reason]}.",
        )

    def plot(self, ax: "Axes | None" = None, *, skip_begin: int = 0, skip_end: int = 0) -> "Axes":
        """Draw the loss over the learning rate, with the bounds and the verdict.

        Args:
            ax: Matplotlib axes to draw on. By default new axes are created.
            skip_begin, skip_end: points left out of the picture at the start and at the end. The bounds are always read
                from all points.

        Returns:
            The `Axes`. The plot is not shown or saved; `result.plot().figure.savefig("range_test.png")` saves it.

        Raises:
            TypeError, ValueError: a number of points is not an integer ≥ 0, or no point remains.
        """
        from cyclr.drawing import axes

        kept, whole = without_ends(len(self.lr), skip_begin, skip_end), self.picture()
        lr, loss, runs, curve = (array[..., kept] for array in (whole.lr, whole.loss, whole.runs, whole.curve))
        return axes.draw_range_test(replace(whole, lr=lr, loss=loss, runs=runs, curve=curve), ax=ax)

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write an HTML page with the verdict, the curve with bounds to drag, the schedule, and code to paste.

        The page is one file, which a browser can open offline. This method needs the extra `report`.

        Args:
            path: the file to write, such as `"range_test.html"`. An existing file is replaced atomically.

        Raises:
            MissingExtraError: Jinja2 is not installed.
            OSError: the file cannot be written.
        """
        from cyclr.drawing import page
        from cyclr.schedules import shape

        settings = {
            "learning rates": f"{self.swept[0]:g} to {self.swept[1]:g}, {self.spacing}",
            "steps": f"{len(self.lr)} of {self.steps}",
            "loss": f"{self.loss.min():.4g} to {self.loss.max():.4g}",
            **{name.replace("_", " "): str(value) for name, value in self.tested.items()},
            **{
                f"trial cycle up to {trial.max_lr:.3g}": trial.ended if trial.score is None else f"{trial.score:.3g}"
                for trial in self.trials
            },
        }
        optimizer = str(self.tested.get("optimizer", ""))
        shown = page.range_test_page(self.picture(), shape.curves(), settings, optimizer, self.total_steps)
        _files.write_atomically(path, page.render(shown))

    def to_dict(self) -> dict[str, Any]:
        """Return a description for `json.dumps`, including the bounds and `tested`."""
        return self._measured() | ({"tested": dict(self.tested)} if self.tested else {})

    def _measured(self) -> dict[str, Any]:
        return {
            "version": FORMAT_VERSION,
            "lr": self.lr.tolist(),
            "loss": self.loss.tolist(),
            **({"runs": self.runs.tolist()} if len(self.runs) > 1 else {}),
            "stop_reason": self.stop_reason,
            "min_lr": self.swept[0],
            "max_lr": self.swept[1],
            "steps": self.steps,
            "spacing": self.spacing,
            **({"updates_per_rate": self.updates_per_rate} if self.updates_per_rate > 1 else {}),
            **({"from_start": True} if self.from_start else {}),
            **({"left_out": [asdict(met) for met in self.left_out]} if self.left_out else {}),
            **({} if self.ended_by is None else {"ended_by": asdict(self.ended_by)}),
            **({} if self.total_steps is None else {"total_steps": self.total_steps}),
            **({"trials": [asdict(trial) for trial in self.trials]} if self.trials else {}),
            "bounds": self.bounds.to_dict(),
        }

    @classmethod
    def from_dict(cls, description: dict[str, Any]) -> "RangeTestResult":
        """Return the result that `to_dict` described.

        The bounds are taken from the description. If it has no bounds, they are read from the losses.

        Raises:
            ValueError: the description was written by another version, is incomplete or holds illegal values.
        """
        version = description.get("version") if isinstance(description, dict) else None
        if type(version) is not int or version != FORMAT_VERSION:
            raise ValueError(
                f"version must be {FORMAT_VERSION}; got version={_checks.quoted(version)}. Is this the result of a "
                "range test?"
            )
        names = ("lr", "loss", "stop_reason", "min_lr", "max_lr", "steps", "spacing")
        missing = [name for name in names if name not in description]
        if missing:
            raise ValueError(
                f"the result of a range test must have {', '.join(names)}; got none of {', '.join(missing)}."
            )
        try:
            result = cls(
                **{name: description[name] for name in names},
                runs=description.get("runs"),
                updates_per_rate=description.get("updates_per_rate", 1),
                from_start=description.get("from_start", False),
                left_out=[NonFinite(**met) for met in description.get("left_out", ())],
                ended_by=NonFinite(**description["ended_by"]) if "ended_by" in description else None,
                tested=description.get("tested", {}),
                total_steps=description.get("total_steps"),
                trials=[TrialCycle(**trial) for trial in description.get("trials", ())],
            )
            if "bounds" in description:
                vars(result).update(bounds=Bounds(**description["bounds"]))
        except TypeError as error:
            raise ValueError(
                f"the description of a range test must hold legal values; got an illegal value: {error}"
            ) from error
        return result

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the result to a JSON file, which `RangeTestResult.load` reads. An existing file is replaced atomically.

        Raises:
            OSError: the file cannot be written.
            ValueError: the path has the suffix of a page or a picture. Use `to_html` or `plot` instead.
        """
        suffix = pathlib.PurePath(path).suffix.lower()
        if suffix in (".html", ".jpeg", ".jpg", ".pdf", ".png", ".svg"):
            fix = "to_html(path)" if suffix == ".html" else "plot().figure.savefig(path)"
            raise ValueError(f"path must be the path of a JSON file; got {os.fspath(path)!r}. Write result.{fix}.")
        _files.write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "RangeTestResult":
        """Read a result that `save` wrote.

        Raises:
            OSError: the file cannot be read.
            ValueError: the file does not contain the result of a range test.
        """
        try:
            description = _plain.read_json(path)
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)} must hold JSON written by save(); got {error}.") from error
        return cls.from_dict(description)

    def __repr__(self) -> str:
        return (
            f"<RangeTestResult: {len(self.lr)} of {self.steps} steps, {self.stop_reason} ({self.bounds.status}). "
            f"{self.bounds.verdict} {self.bounds.details}>"
        )

    def _repr_html_(self) -> str:
        from cyclr.drawing.svg import svg_and_table

        return svg_and_table(self.picture())


def _mean(runs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of the rows, which is finite even if the sum of the rows overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean = runs.mean(0)
    return np.asarray(np.where(np.isfinite(mean), mean, (runs / len(runs)).sum(0)))
