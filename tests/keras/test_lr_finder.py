"""`LRFinder`: the classic finder's curve, from true losses, and the model as it was."""

import copy
import math
import re
import sys

import keras
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from keras import ops

from cyclr import Cyclical, RangeTestError, RangeTestResult
from cyclr.bounds.smoothing import exponential
from cyclr.keras import CyclicLR, LearningRate, LRFinder, range_test

pytestmark = pytest.mark.any_backend

BACKEND = keras.backend.backend()
RNG = np.random.default_rng(9)
X = RNG.normal(size=(24, 3)).astype("float32")
Y = (X @ np.array([[1.0], [-2.0], [0.5]]) + 0.3 * RNG.normal(size=(24, 1))).astype("float32")
BATCHES = 6


@pytest.fixture(autouse=True)
def _no_window(monkeypatch):
    def show(*args, **kwargs):
        raise AssertionError("a window was opened where there is no display")

    monkeypatch.setattr(plt, "show", show)
    monkeypatch.setattr(plt.Figure, "show", show)
    yield
    plt.close("all")


def fit(model, *callbacks, **arguments):
    arguments = {"x": X, "y": Y, "batch_size": 4, "epochs": 4, "shuffle": False, "verbose": 0, **arguments}
    return model.fit(**arguments, callbacks=list(callbacks)).history


class Watch(keras.callbacks.Callback):
    """The weights and the rate that every update began with; stands behind the finder in the list.

    Kept when the batch ends, as one may begin that never comes.
    """

    def __init__(self):
        super().__init__()
        self.weights, self.rates, self.losses = [], [], []

    def on_train_batch_begin(self, batch, logs=None):
        weights = np.vstack([self.model.get_weights()[0], [self.model.get_weights()[1]]])
        self.began = weights, float(ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def on_train_batch_end(self, batch, logs=None):
        weights, rate = self.began
        self.weights.append(weights)
        self.rates.append(rate)


def squared_errors(weights):
    """The mean squared error of update after update, from the weights that each began with."""
    inputs = np.hstack([X, np.ones((24, 1))]).astype("float64")
    losses = []
    for update, weight in enumerate(weights):
        rows = slice(4 * (update % BATCHES), 4 * (update % BATCHES) + 4)
        losses.append(((inputs[rows] @ weight - Y[rows]) ** 2).mean())
    return np.array(losses)


@pytest.mark.parametrize("reload_weights", [True, False])
@pytest.mark.parametrize(("batches", "epochs", "points"), [(5, 4, 4), (2, 4, 12), (7, 3, 2), (4, 3, 4), (12, 4, 2)])
def test_rates_losses_and_weights_are_what_they_should_be(batches, epochs, points, reload_weights, linear_model):
    """The original records running means, shifted to the right: https://github.com/keras-team/tf-keras/issues/393"""
    finder, watch = LRFinder(1e-4, 1e-2, reload_weights=reload_weights, batches_lr_update=batches), Watch()
    fit(linear_model(keras.optimizers.SGD(0.3)), finder, watch, epochs=epochs)
    assert isinstance(finder.result, RangeTestResult)
    assert finder.result.stop_reason == "completed"
    assert len(finder.learning_rates) == points == BATCHES * epochs // batches
    np.testing.assert_allclose(finder.learning_rates, np.geomspace(1e-4, 1e-2, points), rtol=1e-12)
    assert finder.learning_rates[0] == pytest.approx(1e-4, rel=1e-15)
    assert finder.learning_rates[-1] == pytest.approx(1e-2, rel=1e-15)
    assert finder.learning_rates.tolist() == finder.result.lr.tolist()
    assert finder.losses == finder.result.loss.tolist()
    assert finder.iteration == points * batches

    used = points * batches
    np.testing.assert_allclose(watch.rates[:used], np.repeat(finder.learning_rates, batches), rtol=1e-6)
    of_rate = squared_errors(watch.weights[:used]).reshape(points, batches)
    np.testing.assert_allclose(finder.losses, of_rate[:, 1:].mean(axis=1), rtol=1e-5)
    first_weights = watch.weights[:used:batches]
    for weights in first_weights[1:]:
        assert np.array_equal(weights, first_weights[0]) is reload_weights


class Seen(keras.callbacks.Callback):
    """The attributes of a finder whenever training or a batch starts, and after the last batch."""

    def __init__(self, finder):
        super().__init__()
        self.finder, self.seen = finder, []

    def on_train_begin(self, logs=None):
        finder = self.finder
        self.seen.append((finder.learning_rates.copy(), list(finder.losses), finder.best_loss, finder.iteration))

    def on_train_batch_begin(self, batch, logs=None):
        self.on_train_begin()

    on_train_end = on_train_begin


@pytest.mark.every_backend
def test_the_attributes_of_the_original_are_there_from_the_start_of_fit(linear_model):
    """github.com/WittmannF/LRFinder: the planned rates are an array; losses, lowest mean and updates grow."""
    finder = LRFinder(1e-4, 1e-2, mom=0.5, batches_lr_update=3)
    assert (len(finder.learning_rates), finder.losses, finder.best_loss, finder.iteration) == (0, [], math.inf, 0)
    seen = Seen(finder)
    fit(linear_model("sgd"), finder, seen)
    planned = np.geomspace(1e-4, 1e-2, 8)
    means = exponential(finder.losses, 0.5)
    assert len(seen.seen) == 24 + 2
    for updates, (rates, losses, best, iteration) in zip([0, *range(24), 24], seen.seen, strict=True):
        np.testing.assert_allclose(rates, planned, rtol=1e-12)
        assert losses == finder.losses[: updates // 3]
        assert best == min(means[: updates // 3], default=math.inf)
        assert iteration == updates
    assert finder.best_loss == means.min()
    fit(linear_model("sgd"), finder, again := Seen(finder))
    assert [first[1:] for first in (seen.seen[0], again.seen[0])] == [([], math.inf, 0)] * 2


def test_arguments_set_after_construction_are_used_by_the_next_fit(linear_model):
    finder, watch = LRFinder(1e-4, 1e-2), Watch()
    finder.min_lr, finder.max_lr, finder.batches_lr_update, finder.reload_weights = 1e-3, 1e-1, 1, False
    fit(linear_model("sgd"), finder, watch)
    np.testing.assert_allclose(watch.rates, np.geomspace(1e-3, 1e-1, 24), rtol=1e-6)
    for name, value in (("reload_weights", True), ("batches_lr_update", 0)):
        setattr(finder, name, value)
        with pytest.raises(ValueError, match="batches_lr_update must be"):
            fit(linear_model("sgd"), finder)


def test_the_rates_grow_over_the_epochs_that_fit_runs(linear_model):
    finder, watch = LRFinder(1e-4, 1e-2, batches_lr_update=3), Watch()
    fit(linear_model("sgd"), finder, watch, initial_epoch=2, epochs=5)
    np.testing.assert_allclose(watch.rates, np.repeat(np.geomspace(1e-4, 1e-2, 6), 3), rtol=1e-6)
    assert finder.result.stop_reason == "completed"


@pytest.mark.every_backend
def test_one_update_at_every_rate(linear_model):
    finder, watch = LRFinder(1e-4, 1e-2, reload_weights=False, batches_lr_update=1), Watch()
    fit(linear_model("sgd"), finder, watch)
    np.testing.assert_allclose(watch.rates, np.geomspace(1e-4, 1e-2, 24), rtol=1e-6)
    np.testing.assert_allclose(finder.losses, squared_errors(watch.weights), rtol=1e-5)


@pytest.mark.every_backend
def test_gradient_accumulation_counts_updates(linear_model):
    finder, watch = LRFinder(1e-4, 1e-2, batches_lr_update=3), Watch()
    model = linear_model(keras.optimizers.SGD(gradient_accumulation_steps=2))
    fit(model, finder, watch, epochs=4)
    assert len(finder.learning_rates) == 4
    np.testing.assert_allclose(watch.rates, np.repeat(finder.learning_rates, 6), rtol=1e-6)
    of_rate = squared_errors(watch.weights).reshape(4, 3, 2).mean(axis=2)
    np.testing.assert_allclose(finder.losses, of_rate[:, 1:].mean(axis=1), rtol=1e-5)


OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.02, momentum=0.9),
    "Adam": lambda: keras.optimizers.Adam(0.01),
    "loss scaling": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01)),
}


def noisy_model(optimizer):
    layers = [keras.Input((3,)), keras.layers.BatchNormalization(), keras.layers.Dropout(0.3), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(optimizer, "mse", metrics=["mae"])
    return model


def values_of(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [np.array(ops.convert_to_numpy(variable)) for variable in variables]


@pytest.mark.every_backend
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_trained_model_is_put_back(name):
    """https://github.com/davidtvs/pytorch-lr-finder/issues/11"""
    model = noisy_model(OPTIMIZERS[name]())
    fit(model, epochs=1)
    before = values_of(model)
    fit(model, LRFinder(1e-3, 1.0, stop_multiplier=1e6), epochs=4)
    for one, other in zip(before, values_of(model), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.every_backend
def test_a_fresh_model_is_put_back():
    model = noisy_model(keras.optimizers.Adam(0.01))
    before = [np.array(ops.convert_to_numpy(variable)) for variable in model.variables]
    fit(model, LRFinder(1e-3, 1.0, stop_multiplier=1e6))
    for one, other in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(one, ops.convert_to_numpy(other))
    assert int(ops.convert_to_numpy(model.optimizer.iterations)) == 0
    assert float(ops.convert_to_numpy(model.optimizer.learning_rate)) == pytest.approx(0.01)


def test_without_reloading_the_training_is_kept(linear_model, losses_by_hand):
    finder = LRFinder(1e-4, 1e-2, reload_weights=False, batches_lr_update=1)
    model = linear_model(keras.optimizers.SGD(0.3))
    fit(model, finder)
    rates = [*finder.learning_rates, 0.0]
    loss = model.evaluate(X[:4], Y[:4], verbose=0)
    assert loss == pytest.approx(losses_by_hand(rates, X, Y, batch_size=4)[-1], rel=1e-5)
    assert int(ops.convert_to_numpy(model.optimizer.iterations)) == 24


@pytest.mark.parametrize("reload_weights", [True, False])
def test_divergence_stops_the_fit(reload_weights, linear_model):
    finder, watch = LRFinder(1e-3, 1e4, mom=0.0, reload_weights=reload_weights, batches_lr_update=3), Watch()
    weights = (model := linear_model("sgd")).get_weights()
    fit(model, finder, watch, epochs=20)
    assert finder.result.stop_reason == "diverged"
    assert len(watch.rates) == finder.iteration == 3 * len(finder.losses) < 20 * BATCHES
    assert len(finder.learning_rates) == 20 * BATCHES // 3
    # By the definition in its docstring, with the default of 10 for mom = 0.
    initial, best, last = finder.losses[0], min(finder.losses), finder.losses[-1]
    assert last > best + 9 * max(best, initial - best)
    assert all(loss <= best + 9 * max(best, initial) for loss in finder.losses[:-1])
    for before, after in zip(weights, model.get_weights(), strict=True):
        assert np.array_equal(before, after) is reload_weights


@pytest.mark.every_backend
@pytest.mark.parametrize("reload_weights", [True, False])
def test_a_broken_batch_is_left_out(reload_weights, linear_model):
    """https://github.com/davidtvs/pytorch-lr-finder/issues/55"""
    finder, watch = LRFinder(1e-4, 1e-2, batches_lr_update=3, reload_weights=reload_weights), Watch()
    y = np.where(np.arange(24)[:, None] == 19, np.float32("nan"), Y)  # in batch 4, the second of the second rate
    fit(linear_model("sgd"), finder, watch, y=y)
    assert len(finder.losses) > 3
    assert np.isfinite(finder.losses).all()
    assert finder.result.stop_reason == "data_exhausted"
    assert (finder.result.left_out[0].update, finder.result.left_out[0].value) == (4, "NaN")


@pytest.mark.every_backend
def test_nan_stops_the_fit_and_is_not_recorded(linear_model):
    finder, watch = LRFinder(1e-4, 1e-2, batches_lr_update=3), Watch()
    model = linear_model("sgd")
    weights = model.get_weights()
    x, y = np.tile(X, (3, 1)), np.tile(Y, (3, 1))
    y[16:] = np.nan  # from batch 4 on, the second of the second rate
    fit(model, finder, watch, x=x, y=y)
    assert finder.result.stop_reason == "non_finite"
    assert (len(finder.losses), len(watch.rates)) == (1, 15)
    assert np.isfinite(finder.losses).all()
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_nan_at_once_is_an_error_and_changes_nothing(linear_model):
    model = linear_model("sgd")
    weights = model.get_weights()
    with pytest.raises(RangeTestError, match=r"at least one finite loss; got none.*NaN"):
        fit(model, LRFinder(1e-4, 1e-2), y=np.full_like(Y, np.nan))
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(("mom", "multiplier"), [(0.9, 4.0), (0.0, 10.0), (0.6, 6.0)])
def test_the_default_stop_multiplier_is_the_classic_one(mom, multiplier):
    assert LRFinder(1e-4, 1.0, mom).stop_multiplier == pytest.approx(multiplier)
    assert LRFinder(1e-4, 1.0, mom, 2.5).stop_multiplier == 2.5


@pytest.mark.parametrize("step", [0, 4, 19])
def test_restore_after_an_interrupted_fit(step, linear_model):
    class Interrupt(keras.callbacks.Callback):
        seen = 0

        def on_train_batch_end(self, batch, logs=None):
            self.seen += 1
            if self.seen > step:
                raise KeyboardInterrupt

    model = linear_model(keras.optimizers.SGD(0.02, momentum=0.9))
    fit(model, epochs=1)
    before = values_of(model)
    finder = LRFinder(1e-4, 1e-2)
    with pytest.raises(KeyboardInterrupt):
        fit(model, finder, Interrupt())
    assert not all(np.array_equal(one, other) for one, other in zip(before, values_of(model), strict=True))
    finder.restore()
    for one, other in zip(before, values_of(model), strict=True):
        np.testing.assert_array_equal(one, other)


def test_restore_before_any_fit_does_nothing():
    LRFinder(1e-4, 1.0).restore()


def test_a_metric_of_several_values_does_not_disturb():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "softmax")])
    model.compile("sgd", "categorical_crossentropy", metrics=[keras.metrics.F1Score()])
    finder = LRFinder(1e-4, 1e-2)
    history = fit(model, finder, y=np.hstack([Y > 0, Y <= 0]).astype("float32"))
    assert len(finder.losses) == 4
    assert np.shape(history["f1_score"]) == (4, 2)


def test_a_finder_can_be_used_again(linear_model):
    model, finder = linear_model("sgd"), LRFinder(1e-4, 1e-2)
    fit(model, finder)
    first = finder.result
    fit(model, finder)
    assert finder.result == first
    assert finder.result is not first


def test_other_callbacks_and_history_see_running_means(linear_model):
    """Almost no learning: the mean over the epoch is that of the weights at the start."""
    history = fit(linear_model("sgd", metrics=["mae"]), LRFinder(1e-12, 1e-11), epochs=5)
    weights = np.vstack([linear_model("sgd").get_weights()[0], [linear_model("sgd").get_weights()[1]]])
    np.testing.assert_allclose(history["loss"], [squared_errors([weights] * BATCHES).mean()] * 5, rtol=1e-5)
    assert len(history["mae"]) == 5


def test_the_figure_shows_the_curve_and_opens_no_window(linear_model):
    finder = LRFinder(1e-4, 1e-2)
    assert finder.figure is None
    fit(linear_model("sgd"), finder)
    (axes,) = finder.figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_xscale()) == ("learning rate", "loss", "log")
    drawn = [line.get_xydata() for line in axes.lines]
    dots = np.transpose([finder.learning_rates, finder.result.picture().dots])
    assert any(np.allclose(line, dots, equal_nan=True) for line in drawn if len(line) == 4)


@pytest.mark.every_backend
def test_only_the_weights_are_restored_between_rates():
    """As in the original: without its moments, an optimizer takes other steps than in training."""

    class Momenta(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.starts, self.ends = [], []

        def of_now(self):
            return np.array(ops.convert_to_numpy(self.model.optimizer.variables[2])).ravel().tolist()

        def on_train_batch_begin(self, batch, logs=None):
            self.starts.append(self.of_now())

        def on_train_batch_end(self, batch, logs=None):
            self.ends.append(self.of_now())

    model = noisy_model(keras.optimizers.SGD(0.01, momentum=0.9))
    fit(model, epochs=1)
    before, momenta = values_of(model), Momenta()
    fit(model, LRFinder(1e-3, 1e-2, batches_lr_update=3), momenta)
    assert momenta.starts[1:] == momenta.ends[:-1]
    assert momenta.starts[0] != momenta.starts[3] != momenta.starts[6]
    for one, other in zip(before, values_of(model), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.every_backend
def test_a_rate_is_tried_again_with_the_momenta_that_it_had(linear_model):
    """A batch that is broken leaves nothing behind."""
    y = np.where(np.arange(36)[:, None] // 4 == 7, np.float32("nan"), np.tile(Y, (2, 1))[:36])
    kept = np.delete(np.arange(36), np.s_[24:32])  # the first two batches of the third rate: one good, one broken
    found = []
    for rows, epochs in ((np.arange(36), 7), (kept, 9)):
        finder = LRFinder(1e-3, 1e-1, batches_lr_update=3)
        model = linear_model(keras.optimizers.SGD(0.01, momentum=0.9))
        fit(model, finder, x=np.tile(X, (2, 1))[rows], y=y[rows], epochs=epochs)
        assert len(finder.learning_rates) == 21
        found.append(finder.losses[2])
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def two_classes():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(800, 8)).astype("float32")
    return x, (x @ rng.normal(size=8) + 0.3 * rng.normal(size=800) > 0).astype("float32")


@pytest.mark.parametrize(
    ("name", "batches"),
    [("momentum", 1), pytest.param("momentum", 5, marks=pytest.mark.every_backend), ("momentum", 8), ("Adam", 5)],
)
def test_the_bounds_agree_with_those_of_range_test(name, batches):
    """`benchmarks/lr_finder.py` compares more. One update at a rate is without restored weights."""
    x, y = two_classes()

    def model():
        keras.utils.set_random_seed(3)
        layers = [keras.Input((8,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(1, "sigmoid")]
        made = keras.Sequential(layers)
        made.compile(OPTIMIZERS[name](), "binary_crossentropy")
        return made

    bounds = range_test(model(), x, y, batch_size=32).bounds
    finder = LRFinder(1e-5, 10.0, batches_lr_update=batches, reload_weights=batches > 1)
    fit(model(), finder, x=x, y=y, batch_size=32, epochs=4 * batches, shuffle=True)
    assert (finder.result.from_start, finder.result.updates_per_rate) == (batches > 1, batches)
    assert finder.result.bounds.status == bounds.status == "ok"
    assert 1 / 2.5 < finder.result.bounds.max_lr / bounds.max_lr < 2.5


def written(capsys, model, **arguments):
    finder = LRFinder(1e-4, 10.0, batches_lr_update=2)
    fit(model, finder, epochs=40, **arguments)
    return capsys.readouterr().out, finder.result.bounds


@pytest.mark.parametrize("verbose", [1, 2])
def test_the_verdict_and_the_next_line_are_written(verbose, linear_model, capsys):
    output, bounds = written(capsys, linear_model("sgd"), verbose=verbose)
    *_, verdict, following, plot = output.splitlines()
    assert verdict == bounds.reason
    assert following == "Next: model.fit(..., callbacks=[cyclr.keras.ScheduleCallback(finder.result.bounds)])"
    assert plot == 'Plot: finder.figure.savefig("range_test.png")'


def test_nothing_is_written_if_fit_is_quiet(linear_model, capsys):
    assert written(capsys, linear_model("sgd"), verbose=0)[0] == ""


@pytest.mark.parametrize(("epochs", "following"), [(4, ["60 updates: 5 per learning rate"]), (10, [])])
def test_a_finder_without_bounds_advises_more_epochs(epochs, following, linear_model, capsys):
    fit(linear_model("sgd"), LRFinder(1e-9, 1e-8), epochs=epochs, verbose=2)
    output = capsys.readouterr().out
    assert "This curve gives no bounds. The " in output
    assert re.findall("Next: the same fit with more epochs, at least (.*).", output) == following
    assert "ScheduleCallback" not in output


def test_the_plot_is_saved(linear_model, capsys, tmp_path):
    path = tmp_path / "found.png"
    fit(linear_model("sgd"), LRFinder(1e-4, 1e-2, plot_path=path), verbose=2)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.endswith(f"Plot: {path}\n")


def test_a_plot_that_cannot_be_saved_is_an_error_at_the_end(linear_model, tmp_path):
    model = linear_model("sgd")
    weights, finder = model.get_weights(), LRFinder(1e-4, 1e-2, plot_path=tmp_path / "none" / "found.png")
    with pytest.raises(OSError, match="none"):
        fit(model, finder)
    assert finder.result.stop_reason == "completed"
    np.testing.assert_array_equal(weights[0], model.get_weights()[0])


@pytest.mark.parametrize(("backend", "shows"), [("QtAgg", 1), ("Agg", 0), ("module://matplotlib_inline", 0)])
def test_a_window_is_opened_if_there_is_a_display(backend, shows, linear_model, monkeypatch, capsys):
    shown = []
    monkeypatch.setattr(plt.Figure, "show", lambda figure: shown.append(figure))
    monkeypatch.setattr(matplotlib, "get_backend", lambda: backend)
    finder = LRFinder(1e-4, 1e-2)
    fit(linear_model("sgd"), finder, verbose=2)
    assert shown == [finder.figure] * shows
    assert ("Plot: " in capsys.readouterr().out) is (backend == "Agg")


def test_it_works_without_matplotlib(linear_model, monkeypatch):
    finder = LRFinder(1e-4, 1e-2)
    for name in [name for name in sys.modules if name == "matplotlib" or name.startswith("matplotlib.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "cyclr.drawing.axes", raising=False)
    monkeypatch.delattr("cyclr.drawing.axes", raising=False)
    model = linear_model("sgd")
    weights = model.get_weights()
    with pytest.warns(UserWarning, match=r'LRFinder draws no plot.*pip install "cyclr\[plot\]"'):
        fit(model, finder)
    assert finder.figure is None
    assert finder.result.stop_reason == "completed"
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_the_classic_sequence_on_one_model():
    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(), "mse")
    finder = LRFinder(min_lr=1e-4, max_lr=1e0)
    fit(model, finder, epochs=30, shuffle=True)
    weights = model.get_weights()
    clr = CyclicLR(base_lr=0.002, max_lr=0.05, step_size=3 * BATCHES, mode="triangular2")
    history = fit(model, clr, epochs=18, shuffle=True)
    assert finder.result.lr[0] == pytest.approx(1e-4)
    assert history["loss"][-1] < 0.3 * finder.losses[0]
    assert not np.array_equal(weights[0], model.get_weights()[0])
    assert len(clr.history["lr"]) == 18 * BATCHES


def forever():
    while True:
        yield X[:4], Y[:4]


def test_data_of_unknown_length_is_refused_and_the_way_out_works(linear_model):
    model = linear_model("sgd")
    arguments = {"x": forever(), "y": None, "batch_size": None}
    with pytest.raises(ValueError, match=r"needs a known number of batches.*steps_per_epoch.*cyclr\.keras\.range_test"):
        fit(model, LRFinder(1e-4, 1e-2), **arguments)
    finder = LRFinder(1e-4, 1e-2)
    fit(model, finder, **{**arguments, "x": forever()}, steps_per_epoch=6)
    assert len(finder.learning_rates) == 4


def generated(batches):
    for batch in range(batches):
        rows = slice(4 * (batch % BATCHES), 4 * (batch % BATCHES) + 4)
        yield X[rows], Y[rows]


def filtered():
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(4).filter(lambda x, y: True)


# The data, arguments of `fit`, the updates that it makes of those that it was asked for.
SHORT = {
    "generator": (lambda: generated(15), {"steps_per_epoch": 10, "epochs": 2}, 15, 20),
    "every epoch ends early": (filtered, {"steps_per_epoch": BATCHES + 1, "epochs": 3}, 18, 21),
    "every other epoch is empty": (filtered, {"steps_per_epoch": BATCHES, "epochs": 3}, 12, 18),
}


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("reload_weights", [True, False])
@pytest.mark.parametrize("batches", [2, 4])
@pytest.mark.parametrize(("data", "arguments", "made", "asked"), SHORT.values(), ids=SHORT)
def test_data_that_ends_early_shifts_no_rate(data, arguments, made, asked, batches, reload_weights, linear_model):
    """A batch begins at its end that never comes: TensorFlow counts an update for it, and JAX forgets what was set."""
    model = linear_model(keras.optimizers.SGD(0.3))
    finder, watch = LRFinder(1e-4, 1e-2, reload_weights=reload_weights, batches_lr_update=batches), Watch()
    fit(model, finder, watch, x=data(), y=None, batch_size=None, **arguments)
    assert finder.result.stop_reason == "data_exhausted"
    points = made // batches
    np.testing.assert_allclose(finder.learning_rates, np.geomspace(1e-4, 1e-2, asked // batches), rtol=1e-12)
    assert finder.result.lr.tolist() == finder.learning_rates[:points].tolist()
    assert len(watch.rates) == made
    used = points * batches
    np.testing.assert_allclose(watch.rates[:used], np.repeat(finder.result.lr, batches), rtol=1e-6)
    of_rate = squared_errors(watch.weights[:used]).reshape(points, batches)
    np.testing.assert_allclose(finder.losses, of_rate[:, 1:].mean(axis=1), rtol=1e-5)
    for weights in watch.weights[batches::batches]:
        assert np.array_equal(weights, watch.weights[0]) is reload_weights
    assert int(ops.convert_to_numpy(model.optimizer.iterations)) == (0 if reload_weights else made)


def test_a_fit_that_somebody_stops_was_interrupted(linear_model):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = True

    finder = LRFinder(1e-4, 1e-2, reload_weights=False, batches_lr_update=1)
    fit(linear_model("sgd"), finder, Stop())
    assert finder.result.stop_reason == "interrupted"


@pytest.mark.parametrize(("batches", "epochs"), [(5, 1), (4, 1), (13, 4), (100, 4)])
def test_a_fit_that_is_too_short_is_refused(batches, epochs, linear_model):
    wanted = rf"at least 2 \* batches_lr_update = {2 * batches} updates.*got {BATCHES * epochs}\. Use more epochs"
    with pytest.raises(ValueError, match=wanted):
        fit(linear_model("sgd"), LRFinder(1e-4, 1e-2, batches_lr_update=batches), epochs=epochs)


def test_an_optimizer_with_a_schedule_of_its_own_is_refused(linear_model):
    model = linear_model(keras.optimizers.SGD(LearningRate(Cyclical(0.1, 0.5, 3))))
    with pytest.raises(
        ValueError, match=r"LRFinder cannot set the learning rate.*created with a schedule; got LearningRate"
    ):
        fit(model, LRFinder(1e-4, 1e-2))


@pytest.mark.every_backend
@pytest.mark.skipif(BACKEND == "torch", reason="Keras forbids steps_per_execution > 1 on torch")
def test_several_steps_per_call_are_refused(linear_model):
    with pytest.raises(ValueError, match="between two calls of the training step; got steps_per_execution=2"):
        fit(linear_model("sgd", steps_per_execution=2), LRFinder(1e-4, 1e-2))


LAYERS = {
    "dense": lambda: [keras.layers.Dense(1)],
    "dropout first": lambda: [keras.layers.Dropout(0.1), keras.layers.BatchNormalization(), keras.layers.Dense(1)],
    "with an Input": lambda: [keras.Input((3,)), keras.layers.Dense(1)],
}


@pytest.mark.parametrize("reload_weights", [True, False])
@pytest.mark.parametrize(
    "eager", [pytest.param(False, marks=pytest.mark.every_backend), True], ids=["compiled", "eager"]
)
@pytest.mark.parametrize("layers", LAYERS)
def test_training_after_a_finder_is_training_without_one(layers, eager, reload_weights):
    """Also of a model that `fit` builds. https://github.com/surmenok/keras_lr_finder/issues/15"""
    found = []
    for with_finder in (True, False):
        keras.utils.set_random_seed(1)
        model = keras.Sequential(LAYERS[layers]())
        model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"], run_eagerly=eager)
        finder = LRFinder(1e-4, 1e-1, batches_lr_update=3, reload_weights=reload_weights)
        if with_finder:
            fit(model, finder)
            assert finder.result.stop_reason == "completed"
            assert model.built
        # A finder restores no generators, and torch has one for every dropout.
        seed = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: keras.utils.set_random_seed(2))
        history = fit(model, seed)
        found.append((history, [variable.tolist() for variable in values_of(model)]))
    assert (found[0] == found[1]) is reload_weights


@pytest.mark.every_backend
def test_the_first_loss_of_a_model_that_fit_builds_is_one_of_the_weights_it_was_built_with():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    finder = LRFinder(1e-12, 1e-11, batches_lr_update=2)
    fit(model, finder, batch_size=24, epochs=4)
    assert finder.losses == pytest.approx([model.evaluate(X, Y, verbose=0)] * 2, rel=1e-6)


@pytest.mark.every_backend
def test_a_model_that_keras_calls_built_without_weights(built_by_shape):
    model, finder = built_by_shape("sgd", (None, 3)), LRFinder(1e-4, 1e-2)
    fit(model, finder)
    assert finder.result.stop_reason == "completed"


@pytest.mark.every_backend
@pytest.mark.skipif(BACKEND != "tensorflow", reason="elsewhere Keras itself cannot build such a model")
def test_a_model_that_only_its_training_step_can_build_is_refused():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def train_step(self, data):
            return {"loss": keras.ops.mean(self.dense(data[0]))}

    model = Model()
    model.compile("sgd")
    with pytest.raises(ValueError, match=r"needs a model that is built.*no call\(\) to build it with"):
        fit(model, LRFinder(1e-4, 1e-2))


@pytest.mark.every_backend
def test_any_name_in_the_logs_can_be_monitored(linear_model):
    finder, plain = LRFinder(1e-4, 1e-2, monitor="mae"), LRFinder(1e-4, 1e-2)
    fit(linear_model("sgd", metrics=["mae"]), finder)
    fit(linear_model("sgd", metrics=["mae"]), plain)
    assert len(finder.losses) == len(plain.losses) == 4
    assert np.all(np.abs(np.subtract(finder.losses, plain.losses)) > 1e-3)
    model = linear_model("sgd", metrics=["mae"])
    before = values_of(model)
    with pytest.raises(
        RangeTestError, match=r"monitor must name a loss.*got monitor='nope'\. The logs contain loss, mae"
    ):
        fit(model, LRFinder(1e-4, 1e-2, monitor="nope"))
    for one, other in zip(before, values_of(model), strict=True):
        np.testing.assert_array_equal(one, other)


def test_iteration_counts_updates(linear_model):
    finder = LRFinder(1e-4, 1e-2, reload_weights=False, batches_lr_update=1)
    fit(linear_model(keras.optimizers.SGD(0.1, gradient_accumulation_steps=4)), finder)
    assert finder.iteration == len(finder.losses) == 6
    y = np.full_like(Y, np.nan)
    finder = LRFinder(1e-4, 1e-2, batches_lr_update=2, reload_weights=False)
    with pytest.raises(RangeTestError, match="NaN"):
        fit(linear_model(keras.optimizers.SGD(0.1, gradient_accumulation_steps=4)), finder, y=y, epochs=6)
    assert finder.iteration == 0


WRONG = {
    "zero": ({"min_lr": 0.0}, ValueError, "min_lr must be a finite number greater than 0; got min_lr=0.0"),
    "negative": ({"min_lr": -1e-4}, ValueError, "min_lr must be"),
    "NaN": ({"max_lr": float("nan")}, ValueError, "max_lr must be"),
    "swapped": ({"min_lr": 2.0}, ValueError, r"max_lr must be greater than min_lr.*Swap them\?"),
    "equal": ({"min_lr": 1.0}, ValueError, "max_lr must be greater than min_lr"),
    "text": ({"max_lr": "1"}, TypeError, "max_lr must be a number; got max_lr='1' of type str"),
    "momentum of 1": ({"mom": 1.0}, ValueError, "mom must be"),
    "negative momentum": ({"mom": -0.1}, ValueError, "mom must be"),
    "multiplier of 1": ({"stop_multiplier": 1.0}, ValueError, "stop_(multiplier|factor) must be"),
    "no batches": ({"batches_lr_update": 0}, ValueError, "batches_lr_update must be an integer of at least 1"),
    "one batch": ({"batches_lr_update": 1}, ValueError, r"at least 2 with reload_weights=True.*reload_weights=False\."),
    "half a batch": ({"batches_lr_update": 2.5}, TypeError, "batches_lr_update must be an integer"),
}


@pytest.mark.parametrize(("arguments", "error", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_argument_is_refused_at_once(arguments, error, message):
    with pytest.raises(error, match=message):
        LRFinder(**{"min_lr": 1e-4, "max_lr": 1.0, **arguments})


@pytest.mark.every_backend
def test_a_copy_of_a_used_finder_does_what_the_finder_does(linear_model):
    """Tuners copy the callbacks for every trial."""
    finder = LRFinder(1e-4, 1e-1, batches_lr_update=2)
    fit(linear_model("sgd"), finder)
    again = copy.deepcopy(finder)
    fit(linear_model("sgd"), again)
    assert again.losses == finder.losses


def test_names_of_other_finders_lead_to_the_result(linear_model):
    finder = LRFinder(1e-4, 1.0)
    with pytest.raises(AttributeError, match=r"has no attribute 'bounds'$"):
        finder.bounds  # noqa: B018
    finder.result = RangeTestResult(np.geomspace(1e-4, 1.0, 20), np.ones(20), "completed", 1e-4, 1.0, 20)
    wanted = {"bounds": "bounds", "lrs": "lr", "plot": r"plot\(...\)", "plot_loss": r"plot\(...\)", "lr": "lr"}
    for name, ours in wanted.items():
        with pytest.raises(AttributeError, match=rf"no attribute '{name}'\. Write finder\.result\.{ours}\.$"):
            getattr(finder, name)
    with pytest.raises(AttributeError, match=r"'LRFinder' object has no attribute 'qqqqqq'$"):
        finder.qqqqqq  # noqa: B018
