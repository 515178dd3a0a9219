"""The `LRFinder` callback of the classic Keras recipe, for Keras 3."""

import functools
import math
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cyclr import _checks, _names
from cyclr._warn import warn
from cyclr.bounds import Bounds
from cyclr.bounds.curve import MIN_POINTS
from cyclr.errors import MissingExtraError
from cyclr.keras import _private
from cyclr.keras._batch import monitored
from cyclr.keras._build import build_in_first_step, can_be_built
from cyclr.keras._conditions import conditions_of
from cyclr.keras._optimizers import optimizers_of
from cyclr.keras._rate_callback import RateCallback, learning_rate
from cyclr.keras.state import TrainingState
from cyclr.range_test import RangeTest, RangeTestResult


def _restoring(hook: Callable[..., None]) -> Callable[..., None]:
    """Wrap a hook of `LRFinder` so that it restores the model if it raises.

    After an error, Keras does not call `on_train_end`.
    """

    @functools.wraps(hook)
    def call(self: Any, *arguments: Any, **keywords: Any) -> None:
        try:
            hook(self, *arguments, **keywords)
        except Exception:
            self._end()
            raise

    return call


class LRFinder(RateCallback):
    """Run a range test as a callback of `fit`: the classic finder.

    `LRFinder` has the arguments of the original callback (WittmannF's LRFinder). The learning rate grows exponentially
    over all updates of the `fit` that you pass the callback to, with `batches_lr_update` updates at each learning rate.
    When the test ends, the model is restored. Unless `fit` has verbose=0, the callback prints the verdict and the line
    to write next. It also draws the curve, which appears in a notebook, or in a window if there is a display. In a
    script without a display, save the curve with `plot_path` or with `finder.figure.savefig("range_test.png")`.

    In new code, use `cyclr.keras.range_test`, which needs no `fit` and restores the model even if it is interrupted.
    After an interrupted `fit` with `LRFinder`, call `restore()` yourself. It restores the same state as `range_test`,
    except for random number generators. (A model without weights is built.)

    On ten models, the max_lr of `LRFinder` and the max_lr of `range_test` differ by a factor of 1.4 in the median and
    of at most 2.7. Two range tests with different orders of the data differ by a factor of 1.2 in the median and of at
    most 1.9 (`benchmarks/lr_finder.py`).

    If a loss is NaN or infinite, the callback restores the weights from before this learning rate, and tries the same
    learning rate with the next batches, up to ten times. If their losses are finite, the earlier batches were broken,
    and `result.bounds.reason` names them. Otherwise the learning rate is too high, and the test ends.

    Args:
        min_lr: first learning rate, > 0.
        max_lr: last learning rate, > min_lr.
        mom: momentum of the running mean of the loss, in [0, 1). Divergence is detected from this mean.
        stop_multiplier: stop when the running mean exceeds its minimum by stop_multiplier − 1 times the minimum (or
            times the total fall, if the fall is larger); > 1. By default 10 − 20 · mom / 3: 4 for mom = 0.9, 10 for
            mom = 0.
        reload_weights: True to restore the initial weights before every learning rate, and the whole model at the end.
            The optimizer keeps its moments from one learning rate to the next, as in the original. Otherwise five
            updates would not show the harm of momentum, and the first updates of Adam would be larger than all later
            updates. False to continue training from one learning rate to the next, and to keep the trained model.
        batches_lr_update: updates at every learning rate, ≥ 1; at least 2 with reload_weights.
        monitor: name of the loss to record, as it appears in the logs.
        plot_path: file to save the plot to when the test ends, such as `"range_test.png"`. An existing file is
            replaced. Needs Matplotlib.

    Attributes:
        result: the `cyclr.RangeTestResult` after the test; `result.bounds` are the bounds to train with.
        learning_rates: array of the planned learning rates, set when `fit` starts. The first `len(losses)` were tried.
        losses: list with one loss for each learning rate that was tried: the mean over its batches except the first,
            whose loss does not depend on the learning rate yet.
        best_loss: lowest running mean of the losses, infinite before the first loss.
        iteration: number of updates in this `fit`.
        figure: the Matplotlib figure of the curve, or None.

    Raises:
        TypeError, ValueError: an argument out of range. When training starts: an optimizer that was created with a
            schedule, so no callback can set its learning rate; a `fit` that is too short or of unknown length; a later
            callback that replaces the restored weights.
        OSError: `plot_path` cannot be written. When this is raised, the test is complete and the model is restored.

    Example:
        >>> from cyclr.keras import LRFinder
        >>> finder = LRFinder(min_lr=1e-4, max_lr=1e0)

    Source: Smith 2017, arXiv:1506.01186, section 3.3.
    """

    @_names.hinted
    def __init__(
        self,
        min_lr: float,
        max_lr: float,
        mom: float = 0.9,
        stop_multiplier: float | None = None,
        reload_weights: bool = True,
        batches_lr_update: int = 5,
        *,
        monitor: str = "loss",
        plot_path: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        self.plot_path = plot_path
        self.monitor = monitor
        self.mom = _checks.number("mom", mom, at_least=0, below=1)
        self.stop_multiplier = -20 * self.mom / 3 + 10 if stop_multiplier is None else stop_multiplier
        self.reload_weights = reload_weights
        self.batches_lr_update = batches_lr_update
        self.min_lr, self.max_lr = min_lr, max_lr
        self._new_test(points=2)
        self.learning_rates: NDArray[np.float64] = np.empty(0)
        self.result: RangeTestResult | None = None
        self.figure: Any = None
        self._start: TrainingState | None = None
        self._restore_rate: Callable[[], None] = _do_nothing
        self._initial_lr: float | None = None
        self._updates_before = 0
        self._has_started = False

    if not TYPE_CHECKING:

        def __getattr__(self, name):
            result = vars(self).get("result")
            if name.startswith("_") or result is None:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
            raise _names.missing_attribute(self, "finder", name, within="result")

    def _new_test(self, points: int) -> None:
        _checks.integer("batches_lr_update", self.batches_lr_update, at_least=1)
        if self.reload_weights and self.batches_lr_update == 1:
            raise ValueError(
                "batches_lr_update must be at least 2 with reload_weights=True; got batches_lr_update=1. The first "
                "batch after the weights are restored has the same loss at every learning rate. Use "
                "batches_lr_update=5, or reload_weights=False."
            )
        self._test = RangeTest(
            self.min_lr, self.max_lr, points, stop_factor=self.stop_multiplier, smoothing=self.mom, restores=True
        )
        self.learning_rates = self._test.learning_rates
        self.losses: list[float] = []
        self.best_loss = math.inf
        self.iteration = 0
        self._losses_of_rate: list[float] = []
        self._lr: float | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        super().on_train_begin(logs)
        model = self.model
        callbacks = _private.callbacks_of_fit()
        after = callbacks[callbacks.index(self) :] if self in callbacks and self.reload_weights else []
        for other in after:
            if getattr(other, "restore_best_weights", False):
                raise ValueError(
                    "LRFinder must be the last callback that sets weights when training ends; got a later "
                    f"{type(other).__name__}, which would replace the restored weights. Take {type(other).__name__} "
                    "out of callbacks, or put it before LRFinder."
                )
        # The user may have set the attributes since the last test.
        self._new_test(points=2)
        self._start, self._restore_rate, self._has_started = None, _do_nothing, False
        self._initial_lr = learning_rate(model.optimizer)
        if _private.has_weights(model):
            self._copy_start()
        elif can_be_built(model):
            build_in_first_step(model, then=self._copy_start)
        else:
            raise ValueError(
                "LRFinder needs a model that is built, to restore its weights; got a model that is not built and has "
                "no call() to build it with. Call its layers on a batch before fit."
            )
        self.result = self.figure = None
        self._plan(first_epoch=0)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        # `on_train_begin` does not know `initial_epoch`.
        if not self._has_started and epoch > 0:
            self._plan(first_epoch=epoch)

    def _plan(self, first_epoch: int) -> None:
        """Spread the learning rates over all updates of this `fit`."""
        params = self.params or {}
        steps = params.get("steps")
        if not steps:
            raise ValueError(
                "LRFinder needs a known number of batches; got data of unknown length. Pass steps_per_epoch to fit, "
                "or use cyclr.keras.range_test(model, data, steps=...), which needs no length."
            )
        epochs = (params.get("epochs") or 1) - first_epoch
        updates = steps * epochs // _private.accumulation(self.model.optimizer)
        points = updates // self.batches_lr_update
        if points < 2:
            raise ValueError(
                f"fit must run at least 2 * batches_lr_update = {2 * self.batches_lr_update} updates for LRFinder; "
                f"got {updates}. Use more epochs."
            )
        self._new_test(points)

    @_restoring
    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._check_rate()
        self._has_started = True
        if not self._updates.within_update and not self._losses_of_rate:
            # After a loss that was not finite, the same learning rate is tried again with the next batches.
            if self._test.in_doubt:
                self._restore_rate()
            elif self._start is not None:
                if self.reload_weights:
                    self._start.restore_weights()
                self._restore_rate = self._start.copy_values()
        if self._lr is None:
            self._lr = next(self._test)
        self._begin_batch(self._lr)
        self._updates_before = _private.updates_done(self.model.optimizer)

    @_restoring
    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        model = self.model
        logs = {} if logs is None else logs
        own = self._batch.end(model, logs)
        loss = monitored(own, self.monitor)
        logs["learning_rate"] = learning_rate(model.optimizer)
        failed = not math.isfinite(loss)
        micro_batches = self._updates.gather(loss, last=failed)
        if micro_batches:
            self._losses_of_rate.append(float(np.mean(micro_batches)))
        update = self.iteration
        self.iteration += _private.updates_done(model.optimizer) - self._updates_before
        if failed or len(self._losses_of_rate) == self.batches_lr_update:
            mean = float(np.mean(self._losses_of_rate[1:] or self._losses_of_rate))
            self._test.updates = update
            self._test.record(mean)
            if math.isfinite(mean):
                self.losses.append(mean)
                self.best_loss = min(self.best_loss, self._test.smoothed_loss)
            self._losses_of_rate = []
            self._lr = None
        if self._test.stopped:
            model.stop_training = True

    def _copy_start(self) -> None:
        model = self.model
        if not model.optimizer.built:
            _private.build(model.optimizer, model)
        # The copy holds no compiled step, because the current step may be traced with losses and metrics that are not
        # built yet.
        step, model.train_function = model.train_function, None
        self._start = TrainingState(model, optimizers_of(model, model.optimizer))
        model.train_function = step
        self._restore_rate = self._start.copy_values()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if not self.model.stop_training:
            self._test.stop("data_exhausted")
        self._end()
        self._test.tested |= conditions_of(self.model, self.model.optimizer)
        result = self._test.result()
        self.result = replace(result, updates_per_rate=self.batches_lr_update, from_start=self.reload_weights)
        try:
            self.figure = self.result.plot().figure
        except MissingExtraError as error:
            warn(f"LRFinder draws no plot: {error}")
        if (self.params or {}).get("verbose", 1):
            # Keras writes its progress bars to the same stream.
            sys.stdout.write(f"\n{self._report(self.result.bounds)}\n")
        if self.figure is not None:
            if self.plot_path is not None:
                from cyclr.drawing.axes import save_figure

                save_figure(self.figure, self.plot_path)
            _show(self.figure)

    def _report(self, bounds: Bounds) -> str:
        """Return the verdict, the line to write next, and the line about the plot."""
        lines = [bounds.reason]
        if bounds.usable:
            lines.append("Next: model.fit(..., callbacks=[cyclr.keras.ScheduleCallback(finder.result.bounds)])")
        elif len(self.learning_rates) < MIN_POINTS:
            each = self.batches_lr_update
            lines.append(
                f"Next: the same fit with more epochs, at least {MIN_POINTS * each} updates: {each} per learning rate."
            )
        if self.figure is not None and self.plot_path is not None:
            lines.append(f"Plot: {os.fspath(self.plot_path)}")
        elif self.figure is not None and _backend_is("NON_INTERACTIVE"):
            lines.append('Plot: finder.figure.savefig("range_test.png")')
        return "\n".join(lines)

    def _end(self) -> None:
        if self.reload_weights:
            self.restore()

    def restore(self) -> None:
        """Restore the model to its state before the test, after a `fit` that raised or was interrupted."""
        if self._start is not None:
            self._start.restore()
            # If the first training step built the model, the first learning rate was set before the copy was made.
            self.model.optimizer.learning_rate = self._initial_lr


def _do_nothing() -> None:
    """Do nothing, because there is no copy to restore yet."""


def _show(figure: Any) -> None:
    """Open a window with the figure if Matplotlib has a display. A notebook shows figures by itself."""
    if _backend_is("INTERACTIVE"):
        figure.show()
        # A script has no event loop, so its window would stay empty.
        figure.canvas.flush_events()


def _backend_is(kind: str) -> bool:
    """Return True if Matplotlib uses a built-in backend of this kind. The backend of a notebook is not built in."""
    import matplotlib
    from matplotlib.backends import BackendFilter, backend_registry

    return matplotlib.get_backend().lower() in map(str.lower, backend_registry.list_builtin(BackendFilter[kind]))
