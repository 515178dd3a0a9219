"""The `CyclicLR` callback of the classic Keras recipe, for Keras 3."""

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, Literal

import keras
import numpy as np

from cyclr import _checks, _names
from cyclr._warn import warn
from cyclr.keras import _private
from cyclr.keras._rate_callback import RateCallback
from cyclr.schedules import Cyclical, Decay, PerCycle, PerStep
from cyclr.schedules.cyclical import Mode, decay_of_mode

_SETTINGS = ("base_lr", "max_lr", "step_size", "mode", "gamma", "scale_fn", "scale_mode")

_MOST_EPOCHS = 10
"""Half a cycle takes 2 to 10 epochs by Smith's rule, so a step size up to this number may be meant in epochs."""

_SCALES: dict[str, Callable[[float, Any], Any]] = {
    "triangular": lambda gamma, cycle: 1.0,
    "triangular2": lambda gamma, cycle: 0.5 ** (cycle - 1),
    "exp_range": lambda gamma, iteration: gamma**iteration,
}
"""By mode, the factor of the amplitude as a function of `gamma` and of the cycle (from 1) or the iteration (from 0)."""


class CyclicLR(RateCallback):
    """Cycle the learning rate between two bounds, one value per optimizer update: the classic callback.

    `CyclicLR` has the arguments of the original callback (github.com/bckenstler/CLR) and uses the same learning rates.
    In new code, use `cyclr.keras.LearningRate`, which computes them inside the compiled step at no cost.

    Update t of the training uses `base_lr + (max_lr − base_lr) · max(0, 1 − x) · scale`, with
    cycle = floor(1 + t / (2 · step_size)) and x = |t / step_size − 2 · cycle + 1|. The counter t counts updates, not
    the micro-batches of gradient accumulation, and continues over several calls of `fit` until `reset`. A saved model
    does not contain this counter. To resume from a saved model, set `clr_iterations` to the number of finished updates,
    or use `LearningRate`, which follows the optimizer's counter.

    Every argument is also an attribute. You can set it at any time, also during `fit`: the next update uses it.

    Args:
        base_lr: lower bound, ≥ 0.
        max_lr: upper bound, > base_lr.
        step_size: updates in half a cycle, ≥ 1. With a fraction the peak is between two updates.
        mode: `"triangular"`, `"triangular2"` (amplitude halved per cycle) or `"exp_range"` (amplitude times gamma^t);
            not used if scale_fn is given.
        gamma: factor per update for `"exp_range"`, in (0, 1].
        scale_fn: function that returns the factor of the amplitude, in [0, 1]. By default, the function of the mode.
        scale_mode: the argument that scale_fn receives: `"cycle"` (1 in the first cycle) or `"iterations"` (t, from 0).
            Without scale_fn, the mode decides.

    Attributes:
        history: dict of lists, one entry per update: `"lr"` (the learning rate of the update), `"iterations"` (the
            number of the update, from 1), and `"loss"` and every metric for the batch of this update only. Metrics that
            are not means, such as AUC, are running values as Keras logs them. A metric with several values gives
            arrays.
        clr_iterations: number of updates since the last reset, equal to t of the next update. Can be set to a whole
            number ≥ 0.
        trn_iterations: number of all updates, including those before a reset.

    Warns:
        UserWarning: when training starts, if step_size is at most 10 and an epoch has two cycles or more, because
            step_size was then probably given in epochs.

    Raises:
        TypeError, ValueError: bounds, lengths, modes or factors out of range. When training starts: an optimizer that
            was created with a schedule, so no callback can set its learning rate; `steps_per_execution` > 1. During
            training: another callback that sets the learning rate; an attribute that was set out of range.

    Example:
        >>> from cyclr.keras import CyclicLR
        >>> clr = CyclicLR(base_lr=0.001, max_lr=0.006, step_size=2000.0)
        >>> clr.clr()
        0.001

    Source: Smith 2017, arXiv:1506.01186.
    """

    @_names.hinted
    def __init__(
        self,
        base_lr: float = 0.001,
        max_lr: float = 0.006,
        step_size: float = 2000.0,
        mode: Mode = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[Any], float] | None = None,
        scale_mode: Literal["cycle", "iterations"] = "cycle",
    ) -> None:
        super().__init__(one_update=True)
        self.base_lr = base_lr
        self.max_lr = max_lr
        self.step_size = step_size
        self.mode: Mode = mode
        self.gamma = gamma
        self.scale_mode = scale_mode
        self.scale_fn = scale_fn
        self.trn_iterations = 0
        self.history: dict[str, list[Any]] = {}
        self.reset()

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in _SETTINGS:
            self.__dict__.pop("_schedule", None)

    @property
    def scale_fn(self) -> Callable[[Any], Any]:
        """Function that returns the factor of the amplitude for a cycle or an update, see `scale_mode`."""
        if self._scale_fn is not None:
            return self._scale_fn
        return partial(_SCALES[_checks.choice("mode", self.mode, _SCALES)], self.gamma)

    @scale_fn.setter
    def scale_fn(self, fn: Callable[[Any], Any] | None) -> None:
        if fn is None:
            # The mode decides, unless a scale_mode is set later.
            self._scale_mode: str | None = None
        else:
            _checks.function("scale_fn", fn, "of the cycle or the step, or None")
        self._scale_fn = fn

    @property
    def scale_mode(self) -> str:
        """The argument that `scale_fn` receives: `"cycle"` (from 1) or `"iterations"` (from 0)."""
        return self._scale_mode or ("iterations" if self.mode == "exp_range" else "cycle")

    @scale_mode.setter
    def scale_mode(self, name: str) -> None:
        self._scale_mode = _checks.choice("scale_mode", name, ("cycle", "iterations"))

    @property
    def clr_iterations(self) -> int:
        """Number of updates since the last reset, equal to t of the next update."""
        return self._clr_iterations

    @clr_iterations.setter
    def clr_iterations(self, count: float) -> None:
        # In the original callback the counter is a float.
        is_whole = isinstance(count, float | np.floating) and count.is_integer()
        fix = "It counts optimizer updates."
        self._clr_iterations = _checks.integer("clr_iterations", int(count) if is_whole else count, at_least=0, fix=fix)

    @cached_property
    def _schedule(self) -> Cyclical:
        return self._make_schedule(self.base_lr, self.max_lr, self.step_size)

    def _make_schedule(self, base_lr: float, max_lr: float, step_size: float) -> Cyclical:
        decay: Decay | None
        if self._scale_fn is None and self._scale_mode is None:
            decay = decay_of_mode(self.mode, self.gamma)
        elif self.scale_mode == "cycle":
            decay = PerCycle(partial(_from_one, self.scale_fn))
        else:
            decay = PerStep(self.scale_fn)
        return Cyclical.fractional(base_lr, max_lr, step_size, decay=decay)

    def clr(self) -> float:
        """Return the learning rate of the next update."""
        return float(self._schedule(self.clr_iterations))

    def reset(
        self, new_base_lr: float | None = None, new_max_lr: float | None = None, new_step_size: float | None = None
    ) -> None:
        """Start a new cycle at the next update, with new bounds or a new length if given. `history` is kept.

        Raises:
            TypeError, ValueError: bounds or lengths out of range. The old bounds and length are then kept.
        """
        base_lr = self.base_lr if new_base_lr is None else new_base_lr
        max_lr = self.max_lr if new_max_lr is None else new_max_lr
        step_size = self.step_size if new_step_size is None else new_step_size
        schedule = self._make_schedule(base_lr, max_lr, step_size)
        self.base_lr, self.max_lr, self.step_size = base_lr, max_lr, step_size
        self._schedule = schedule
        self.clr_iterations = 0

    _reset = reset

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        super().on_train_begin(logs)
        steps = ((self.params or {}).get("steps") or 0) // _private.accumulation(self.model.optimizer)
        # A custom training step may make any number of updates.
        is_known = type(self.model).train_step is keras.Model.train_step
        if is_known and self.step_size <= _MOST_EPOCHS and steps >= 4 * self.step_size:
            warn(
                f"step_size={self.step_size:g} counts updates, so an epoch of {steps} updates has "
                f"{steps / (2 * self.step_size):.3g} cycles. For half a cycle of {self.step_size:g} epochs, write "
                f"step_size={self.step_size * steps:g}."
            )

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._check_rate()
        self._begin_batch(self.clr())

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {} if logs is None else logs
        own = self._batch.end(self.model, logs)
        logs["learning_rate"] = self._rate
        micro_batches = self._updates.gather(own)
        if micro_batches:
            self.trn_iterations += 1
            means = {
                name: sum(batch[name] for batch in micro_batches) / len(micro_batches) for name in micro_batches[0]
            }
            for name, value in {"lr": self._rate, "iterations": self.trn_iterations, **means}.items():
                self.history.setdefault(name, []).append(value)
            self.clr_iterations += 1

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {} if logs is None else logs
        super().on_epoch_end(epoch, logs)
        if self.history.get("lr"):
            logs["learning_rate"] = self.history["lr"][-1]


def _from_one(fn: Callable[[Any], Any], cycle: Any) -> Any:
    return fn(cycle + 1)
