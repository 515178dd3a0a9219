"""The range test of a compiled Keras model, which is restored afterwards."""

import contextlib
import functools
import itertools
import math
import operator
import os
import sys
import types
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras

from cyclr import _checks, _files, _names
from cyclr.errors import RangeTestError
from cyclr.keras import _attach, _private
from cyclr.keras._batch import monitored
from cyclr.keras._build import build, can_be_built
from cyclr.keras._conditions import batch_size_of, conditions_of
from cyclr.keras._optimizers import check_model, check_optimizer, optimizers_of
from cyclr.keras._updates import UpdateCounter
from cyclr.keras.state import Generators, Modes, TrainingState, seed_all
from cyclr.range_test import RangeTest, RangeTestResult
from cyclr.range_test.driver import BROKEN_AT_MOST, SKIPPED_AT_MOST, Spacing
from cyclr.range_test.progress import Verbose
from cyclr.range_test.refine import TrialTest
from cyclr.range_test.repeats import Sweep
from cyclr.schedules import Run


@_names.hinted
def range_test(
    model: Any,
    x: Any = None,
    y: Any = None,
    *,
    min_lr: float = 1e-6,
    max_lr: float = 10.0,
    steps: int = 150,
    spacing: Spacing = "exponential",
    stop_factor: float | None = 4.0,
    smoothing: float = 0.9,
    batch_size: int | None = None,
    sample_weight: Any = None,
    class_weight: dict[int, float] | None = None,
    shuffle: bool = True,
    validation_split: float = 0.0,
    steps_per_epoch: int | None = None,
    optimizer: Any = None,
    monitor: str = "loss",
    updates_per_rate: int = 1,
    evaluate: Callable[[Any], Any] | None = None,
    repeats: int | None = None,
    seed: int | None = 0,
    total_steps: int | Run | None = None,
    refine: int | None = None,
    snapshot_dir: str | os.PathLike[str] | None = None,
    on_step: Callable[[RangeTest], None] | None = None,
    verbose: Verbose = "auto",
) -> RangeTestResult:
    """Train for `steps` updates with a rising learning rate, record each batch's loss, and restore everything.

    Afterwards the model, its optimizer and all random number generators are as before, even if the test raises or is
    interrupted: training continues as if there had been no test. (A model and an optimizer that have no variables yet
    are built.) A `ScheduleCallback` that is still attached is suspended during the test.

    When an epoch ends, the data is read again from its start. A generator can only be read once, and is not rewound.
    Other data objects may have a state of their own, which is not restored: for example a `tf.data` shuffle, a
    `PyDataset` that shuffles in `on_epoch_end`, or an augmentation layer in `Dataset.map`.

    If the loss is NaN or infinite, the test starts again, and copies the state before every update. It can then leave a
    broken batch out, which `result.bounds.reason` names; see `cyclr.RangeTest`. With a generator, the test makes these
    copies from the start.

    The recorded loss is the loss of the batch before its update, not Keras' running mean. With
    `gradient_accumulation_steps=k`, or if loss scaling skips updates, the recorded loss is the mean over the batches of
    the update.

    Args:
        model: a compiled `keras.Model`.
        x, y: training data in any form that `model.fit` takes: arrays and nested arrays, `tf.data.Dataset`,
            `keras.utils.PyDataset`, generators, torch `DataLoader`.
        min_lr: first learning rate, > 0.
        max_lr: last learning rate, > min_lr.
        steps: number of learning rates, ≥ 2, each for `updates_per_rate` optimizer updates.
        spacing, stop_factor, smoothing: as for `cyclr.RangeTest`.
        batch_size, sample_weight, class_weight, shuffle, validation_split, steps_per_epoch: as for `model.fit`. Pass
            the values that you train with. The test does not read the rows that `validation_split` holds back. Other
            arguments of `fit` are errors.
        optimizer: the optimizer whose learning rate rises; by default `model.optimizer`. Pass it for a model that has a
            custom `train_step` with several optimizers.
        monitor: name of the loss to record, as it appears in the logs.
        updates_per_rate: updates at every learning rate; their mean loss makes one point. See `cyclr.RangeTest`.
        evaluate: `evaluate(model)` returns the value to record after the last update at every learning rate, instead of
            the loss of the batches: 1 − accuracy, or a loss on validation data. For a model without metrics, write
            `lambda model: model.evaluate(x_val, y_val, verbose=0)`.
        repeats: number of tests from the same start, ≥ 1, with the seeds seed, seed + 1, …. The bounds are read from
            the mean of their losses. By default one test. Up to three more follow while the curve is too noisy to read,
            or is flat and the second test differs from the first. For a generator, one test.
        seed: seed of the order of the data and of unseeded random operations, ≥ 0. With None, the generators are used
            in their current state. The same seed gives the same result on a deterministic backend, if the data has no
            state of its own.
        total_steps: length of the training run in optimizer updates, ≥ 1, or a `Run`. The test then chooses max_lr for
            a run of this length: after the sweep, it makes a second sweep around the bounds, and up to four trial
            cycles from the same start. All trial cycles read the same batches in the same order, unless the data
            shuffles itself in every pass, such as a `tf.data` shuffle.
        refine: maximum number of updates for the second sweep and the trial cycles, 0 or at least 50. If it is below
            232 (200 with evaluate), or total_steps is below 200, there is only the second sweep. A trial cycle has at
            least 100 updates and at most total_steps / 2. After it, the loss is measured on up to 16 batches that no
            trial cycle trains on, or with `evaluate`. By default, 5 % of total_steps, or 0 if 5 % is fewer than 600
            updates. Ctrl-C ends the trial cycles; the result then contains the finished ones. For data that can be read
            only once, it must be 0.
        snapshot_dir: folder for the copy of the training state; by default the copy is in memory. The files are deleted
            after the test.
        on_step: function that is called with the running test after every update.
        verbose: 1 shows a line with the learning rate, the loss and the remaining time, 0 shows nothing, and `"auto"`
            shows the line in a terminal or a notebook, but not in a log. Needs tqdm.

    Returns:
        The result; `result.bounds` are the bounds to train with.

    Raises:
        TypeError, ValueError: an argument out of range; a model that is not compiled.
        RangeTestError: no loss was recorded, because the data is empty or the first losses are not finite; or writing
            to snapshot_dir failed, for example because the disk is full.
        RuntimeError: `train_step`, `evaluate` or `on_step` raised StopIteration.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> from cyclr.keras import range_test
        >>> x = np.random.default_rng(0).normal(size=(256, 4)).astype("float32")
        >>> y = x @ np.array([1.0, -2.0, 0.5, 3.0], dtype="float32")
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        >>> model.compile(optimizer=keras.optimizers.SGD(0.01), loss="mse")
        >>> result = range_test(model, x, y, batch_size=32)
        >>> result.bounds.status
        'ok'

    Source: Smith 2017, arXiv:1506.01186, section 3.3.
    """
    data = {name: (value, lambda value: not isinstance(value, keras.Model)) for name, value in (("x", x), ("y", y))}
    _names.check_order("range_test", {"model": (model, lambda value: isinstance(value, keras.Model)), **data})
    arguments = min_lr, max_lr, steps, spacing, stop_factor, smoothing, updates_per_rate, repeats, seed
    sweep = Sweep(*arguments, total_steps, refine, verbose)
    if evaluate is not None:
        _checks.function("evaluate", evaluate, "of the model that returns a number")
        evaluate = _without_stop_iteration(evaluate, "evaluate")
    if on_step is not None:
        on_step = _without_stop_iteration(on_step, "on_step")
    swept = _checked_optimizer(model, optimizer)
    read_once = isinstance(x, types.GeneratorType)
    if read_once and repeats is not None and repeats > 1:
        raise ValueError(
            f"repeats must be 1 for a generator, which can only be read once; got repeats={repeats}. Pass data that "
            "can be read again, such as arrays, a tf.data.Dataset or a keras.utils.PyDataset."
        )
    _check_not_empty(x)
    fit: dict[str, Any] = {
        "batch_size": batch_size,
        "sample_weight": sample_weight,
        "class_weight": class_weight,
        "shuffle": shuffle,
        "validation_split": validation_split,
        # Never validate: `validation_split` only leaves its rows out of the training data.
        "validation_freq": sys.maxsize,
        # With a generator, one epoch reads all batches.
        "steps_per_epoch": None if read_once else steps_per_epoch,
        "verbose": 0,
    }
    with contextlib.ExitStack() as undo:
        undo.enter_context(warnings.catch_warnings())
        # Keras warns about exhausted data, and about `shuffle=True` with a dataset. Both are expected here.
        for message in ("Your input ran out of data", "`shuffle=True` was passed"):
            warnings.filterwarnings("ignore", message)
        folder = undo.enter_context(_files.folder_within(snapshot_dir, name="snapshot_dir"))
        undo.callback(Generators(x).restore)
        _name_missing_targets(model, undo)
        if not _private.has_weights(model) and can_be_built(model):
            unbuilt = TrainingState(model, [])
            undo.push(lambda kind, *_: unbuilt.restore() if kind else None)
            first, x = _first_batch(x, y)
            build(model, functools.partial(model.fit, first, y, **fit))
        if swept is model.optimizer and not swept.built and _private.has_weights(model):
            _private.build(swept, model)
        generators = Generators(x)

        def drive(seed: int | None, test: RangeTest, careful: bool) -> None:
            with contextlib.ExitStack() as undo_once:
                optimizers, updates = optimizers_of(model, swept), len(test) * test.updates_per_rate
                state = TrainingState(model, optimizers, folder=folder)
                undo_once.callback(state.restore)
                if seed is None:
                    generators.restore()
                else:
                    seed_all(seed, x)
                suspended = [undo_once.enter_context(_attach.suspended(held)) for held in optimizers]
                is_new = any(suspended)
                if not _private.has_settable_rate(swept):
                    is_new = True
                    rates = test.learning_rates.repeat(test.updates_per_rate)
                    _private.inner(swept).learning_rate = _rate_of_update(swept, rates)
                test.tested |= conditions_of(model, swept, batch_size_of(x, y, batch_size), seed)
                _prepare_step(model, is_new)
                # Enough even if an epoch has one batch only. The callback ends the training.
                epochs = (updates + 1) * _private.accumulation(swept) + SKIPPED_AT_MOST
                if careful:
                    epochs *= BROKEN_AT_MOST + 1
                    second = undo_once.enter_context(_files.folder_within(folder, name="snapshot_dir"))
                    copied = functools.partial(state.copy_values, second)
                driver = _Driver(test, swept, updates, monitor, read_once, copied if careful else None)
                if isinstance(test, TrialTest):

                    def one_pass() -> Iterator[Any]:
                        generators.restore()
                        if seed is not None:
                            seed_all(seed, x)
                        return _private.batches(x, y, **fit)

                    driver.train(model, test.batches(one_pass))
                    return
                try:
                    model.fit(x, y, epochs=epochs, callbacks=[driver], **fit)
                except StopIteration:
                    # On JAX and torch, Keras raises StopIteration if the data has no batch.
                    test.stop("data_exhausted")

        value = None if evaluate is None else functools.partial(_evaluated, model, evaluate)
        return sweep.run(drive, value, read_once=read_once, on_step=on_step)


def _without_stop_iteration(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Let a function of the user raise RuntimeError instead of StopIteration.

    Keras would interpret StopIteration as the end of the data.
    """

    def call(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except StopIteration as error:
            raise RuntimeError(f"{name} raised StopIteration: {error}") from error

    return call


def _name_missing_targets(model: Any, undo: contextlib.ExitStack) -> None:
    """Let the model's loss and metrics raise an error that names y if they fail without targets."""

    def naming(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*arguments: Any, **keywords: Any) -> Any:
            try:
                return function(*arguments, **keywords)
            except (TypeError, ValueError, AttributeError) as error:
                if keywords.get("y", arguments[1] if len(arguments) > 1 else None) is not None:
                    raise
                raise ValueError(
                    f"y must hold the targets for the loss and the metrics of the model; got y=None ({error}). Call "
                    "range_test(model, x, y), or pass data that yields (inputs, targets)."
                ) from error

        return call

    own = vars(model)
    for name in ("compute_loss", "compute_metrics"):
        undo.callback(own.update, {name: own[name]} if name in own else {})
        undo.callback(own.pop, name)
        own[name] = naming(getattr(model, name))


def _evaluated(model: Any, evaluate: Callable[[Any], Any]) -> Any:
    modes = Modes(model)
    try:
        value = evaluate(model)
    finally:
        modes.restore()
    if value is None or isinstance(value, list | tuple | dict):
        remedy = {"dict": 'Return its "loss".', "NoneType": "Return the value."}
        fix = remedy.get(type(value).__name__, "Return the first number only; of model.evaluate it is the loss.")
        raise TypeError(f"evaluate must return a number; got {_checks.quoted(value)}. {fix}")
    return value


def _prepare_step(model: Any, is_new: bool) -> None:
    """Let the next `fit` compile a training step with one update per call. `TrainingState` restores the model's step.

    JAX caches traces by function, and uses an existing trace of the same `train_step` again. If `is_new`, the old trace
    is wrong, so `train_step` is wrapped in a new function.
    """
    model.steps_per_execution = 1
    is_traced = keras.backend.backend() == "jax" and model.jit_compile and not model.run_eagerly
    if is_new or not is_traced or model.train_function is None:
        model.train_step = _without_stop_iteration(model.train_step, "train_step")
    model.train_function = None


class _Driver(keras.callbacks.Callback):  # type: ignore[misc]
    """Drives a range test from within `fit`."""

    who = "range_test"

    def __init__(
        self,
        test: RangeTest,
        optimizer: Any,
        updates: int,
        monitor: str,
        read_once: bool,
        copied: Any,
    ) -> None:
        super().__init__()
        self._test = test
        self._optimizer = optimizer
        self._monitor = monitor
        self._read_once = read_once
        self._copied = copied
        self._before: Callable[[], None] | None = None
        self._lr: float | None = None
        self._epoch_has_data = False
        self._updates = updates
        self._counter = UpdateCounter(
            self, optimizer, every_batch=True, one_update=not _private.has_settable_rate(optimizer)
        )
        self._batches_without_update = 0

    def train(self, model: Any, batches: Iterable[Any]) -> None:
        """Train on batches as `fit` does, but read each batch only when the test needs it."""
        self.set_model(model)
        self.on_train_begin()
        model.stop_training = False
        for batch in batches:
            self.on_train_batch_begin(0)
            logs = model.train_on_batch(*keras.utils.unpack_x_y_sample_weight(batch), return_dict=True)
            self.on_train_batch_end(0, logs)
            if model.stop_training:
                return
        self._test.stop("data_exhausted")

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._counter.restart()

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.model.reset_metrics()
        if self._lr is None:
            self._lr = next(self._test)
            if self._copied is not None:
                self._before = self._copied()
        # Set again for every batch: if data of unknown length ends, Keras starts a batch without data. The rate is then
        # meant for the next batch, and on JAX Keras loses it in between.
        if _private.has_settable_rate(self._optimizer):
            self._optimizer.learning_rate = self._lr
        self._counter.begin_batch()
        at_most = max(self._updates, SKIPPED_AT_MOST) * _private.accumulation(self._optimizer)
        if self._batches_without_update == at_most:
            raise RangeTestError(
                f"the optimizer {type(self._optimizer).__name__} made no update in {at_most} batches. "
                "Check that the training step of the model uses it, and that losses and gradients are finite."
            )
        self._batches_without_update += 1

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        model = self.model
        loss = monitored(logs, self._monitor)
        self._epoch_has_data = True
        losses = self._counter.gather(loss, last=not math.isfinite(loss))
        if losses:
            self._batches_without_update = 0
            self._test.record(sum(losses) / len(losses))
            self._lr = None
        if self._test.in_doubt and self._before is not None:
            self._before()
        elif self._test.in_doubt or self._test.stopped:
            model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._counter.end_epoch()
        if self._read_once or not self._epoch_has_data:
            self._test.stop("data_exhausted")
            self.model.stop_training = True
        self._epoch_has_data = False


def _rate_of_update(optimizer: Any, rates: Any) -> Callable[[], Any]:
    """Return a function that computes the learning rate of an optimizer: `rates` in order, from its next update on.

    Used for an optimizer that was created with a schedule, because its learning rate cannot be set.
    """
    first = _private.updates_done(optimizer)

    def rate() -> Any:
        index = keras.ops.clip(optimizer.iterations - first, 0, len(rates) - 1)
        return keras.ops.take(keras.ops.convert_to_tensor(rates, keras.backend.floatx()), index)

    return rate


def _checked_optimizer(model: Any, optimizer: Any) -> Any:
    check_model(model)
    if not isinstance(model, keras.Model):
        raise TypeError(f"model must be a keras.Model; got {type(model).__name__}.")
    if not model.compiled:
        raise ValueError(
            "model must be compiled before a range test; got a model that is not compiled. If you train it in your own "
            "loop, call model.compile(optimizer=its_optimizer, loss=its_loss) before the test."
        )
    swept = model.optimizer if optimizer is None else optimizer
    if not isinstance(swept, keras.optimizers.Optimizer):
        raise ValueError(
            f"optimizer must be a keras optimizer; got {swept!r}. If the model has several optimizers, pass one of "
            "them: optimizer=model.its_name."
        )
    check_optimizer("range_test", swept)
    return swept


def _check_not_empty(x: Any) -> None:
    """Raise if there is no data, or a dataset has length 0. Keras would raise too, with a less helpful message."""
    if x is None:
        raise TypeError(
            "x must hold the training data; got x=None. Write range_test(model, x, y, batch_size=...), or "
            "range_test(model, dataset) with data that yields (inputs, targets)."
        )
    if not _is_array(x) and operator.length_hint(x, 1) == 0:
        raise RangeTestError("data must contain at least one batch; got a data set of length 0.")


def _is_array(x: Any) -> bool:
    return hasattr(x, "shape") or isinstance(x, list | tuple | dict)


def _first_batch(x: Any, y: Any) -> tuple[Any, Any]:
    """Return data from which the first batch may be read, and the whole data. Raise if there is no batch.

    Reading the first batch of a generator removes it, so the whole data puts it back in front.
    """
    if y is not None or _is_array(x):
        if any(len(array) == 0 for array in keras.tree.flatten(x)):
            raise RangeTestError("data must contain at least one batch; got arrays of length 0.")
        return x, x
    if not isinstance(x, types.GeneratorType):
        return x, x
    first = next(x, None)
    if first is None:
        raise RangeTestError("data must contain at least one batch; got a generator without batches.")
    # Keras chooses the reader by the type of the data, so return generators for a generator.
    return (batch for batch in [first]), (batch for batch in itertools.chain([first], x))
