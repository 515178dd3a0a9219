"""`CyclicLR`: the classic callback's rates, at the very update that they were meant for."""

import contextlib
import copy
import math
import pickle

import keras
import numpy as np
import pytest
from keras import ops

from cyclr import Cyclical
from cyclr.keras import CyclicLR, LearningRate

pytestmark = pytest.mark.any_backend

BACKEND = keras.backend.backend()
RNG = np.random.default_rng(5)
X = RNG.normal(size=(24, 3)).astype("float32")
Y = (X @ np.array([[1.0], [-2.0], [0.5]]) + 0.3 * RNG.normal(size=(24, 1))).astype("float32")


def classic(t, base_lr, max_lr, step_size, scale):
    """The formula of the original (github.com/bckenstler/CLR), as its readers know it."""
    cycle = math.floor(1 + t / (2 * step_size))
    x = abs(t / step_size - 2 * cycle + 1)
    return base_lr + (max_lr - base_lr) * max(0, 1 - x) * scale(cycle, t)


# What is passed, and the factor of the amplitude in cycle `cycle` (from 1) at iteration t (from 0).
POLICIES = {
    "triangular": ({}, lambda cycle, t: 1.0),
    "triangular2": ({"mode": "triangular2"}, lambda cycle, t: 1 / 2 ** (cycle - 1)),
    "exp_range": ({"mode": "exp_range", "gamma": 0.994}, lambda cycle, t: 0.994**t),
    "exp_range that stays": ({"mode": "exp_range", "gamma": 1.0}, lambda cycle, t: 1.0),
    "function of the cycle": ({"scale_fn": lambda cycle: 1 / cycle}, lambda cycle, t: 1 / cycle),
    "function of the cycle, by name": (
        {"scale_fn": lambda cycle: 1 / 5 ** (cycle * 0.0001), "scale_mode": "cycle"},
        lambda cycle, t: 1 / 5 ** (cycle * 0.0001),
    ),
    "function of the iteration": (
        {"scale_fn": lambda t: 0.99**t, "scale_mode": "iterations"},
        lambda cycle, t: 0.99**t,
    ),
    "a function wins over the mode": (
        {"scale_fn": lambda cycle: 0.5, "mode": "exp_range", "gamma": 0.9},
        lambda cycle, t: 0.5,
    ),
}


@pytest.mark.parametrize("step_size", [1, 2.0, 7, 50, 3.5, 10.25, 7 / 3, 2000.0])
@pytest.mark.parametrize(("arguments", "scale"), POLICIES.values(), ids=POLICIES)
def test_rates_are_those_of_the_classic_formula(arguments, scale, step_size):
    clr = CyclicLR(0.001, 0.006, step_size, **arguments)
    # 7/3 has no exact fraction of less than five digits: after 1,000 updates it may be off by that much.
    tolerance = 1e-12 if step_size != 7 / 3 else 1e-5
    for t in [*range(300), 999, 1000]:
        clr.clr_iterations = t
        assert clr.clr() == pytest.approx(classic(t, 0.001, 0.006, step_size, scale), rel=tolerance), t


def test_defaults_and_order_of_arguments_are_those_of_the_original():
    clr = CyclicLR()
    assert (clr.base_lr, clr.max_lr, clr.step_size, clr.mode, clr.gamma) == (0.001, 0.006, 2000.0, "triangular", 1.0)
    assert (clr.scale_fn(3), clr.scale_mode) == (1.0, "cycle")
    assert (clr.history, clr.clr_iterations, clr.trn_iterations) == ({}, 0, 0)
    clr = CyclicLR(0.1, 0.2, 3.0, "exp_range", 0.9, None, "iterations")
    assert (clr.clr(), clr.gamma, clr.scale_mode) == (0.1, 0.9, "iterations")


@pytest.mark.parametrize(
    ("mode", "scale_mode", "scale"),
    [
        ("triangular", "cycle", lambda x: 1.0),
        ("triangular2", "cycle", lambda x: 1 / 2.0 ** (x - 1)),
        ("exp_range", "iterations", lambda x: 0.9**x),
    ],
)
def test_a_mode_has_the_scale_fn_and_the_scale_mode_of_the_original(mode, scale_mode, scale):
    clr = CyclicLR(mode=mode, gamma=0.9)
    assert clr.scale_mode == scale_mode
    assert [clr.scale_fn(x) for x in (1, 2, 3.0)] == pytest.approx([scale(x) for x in (1, 2, 3.0)])
    by_function = CyclicLR(0.1, 0.5, 3.5, scale_fn=clr.scale_fn, scale_mode=clr.scale_mode)
    clr.base_lr, clr.max_lr, clr.step_size = 0.1, 0.5, 3.5
    for t in range(30):
        clr.clr_iterations = by_function.clr_iterations = t
        assert clr.clr() == pytest.approx(by_function.clr(), rel=1e-12)
        wanted = classic(t, 0.1, 0.5, 3.5, lambda cycle, t: scale(cycle if scale_mode == "cycle" else t))
        assert clr.clr() == pytest.approx(wanted, rel=1e-12)


CHANGES = {
    "bounds that rise": {"base_lr": 0.5, "max_lr": 1.0},
    "bounds that fall": {"max_lr": 0.0005, "base_lr": 0.0001},
    "length": {"step_size": 2.5},
    "mode": {"mode": "triangular2"},
    "mode and factor": {"mode": "exp_range", "gamma": 0.9},
    "function": {"scale_fn": lambda cycle: 1 / cycle},
    "function of the iteration": {"scale_fn": lambda t: 0.99**t, "scale_mode": "iterations"},
    "function of the iteration, the other order": {"scale_mode": "iterations", "scale_fn": lambda t: 0.99**t},
    "no function": {"scale_fn": None, "mode": "triangular2"},
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("reset", [False, True], ids=["", "after a reset"])
def test_the_next_rate_follows_attributes_that_were_set(changes, reset):
    clr, wanted = CyclicLR(step_size=4, scale_fn=lambda cycle: 0.75), CyclicLR(step_size=4)
    if "scale_fn" not in changes:
        clr.scale_fn = None
    clr.clr_iterations = 11
    clr.clr()
    if reset:
        clr._reset(new_step_size=3)
        wanted = CyclicLR(step_size=3)
    for name, value in changes.items():
        setattr(clr, name, value)
        if value is not None:
            assert getattr(clr, name) == value
    arguments = {name: getattr(wanted, name) for name in ("base_lr", "max_lr", "step_size")}
    wanted = CyclicLR(**{**arguments, **changes})
    wanted.clr_iterations = clr.clr_iterations = 11
    assert clr.clr() == wanted.clr()
    clr.reset()
    assert clr.clr() == clr.base_lr


def test_the_scale_mode_is_kept_by_a_function_that_is_set_and_used_for_a_mode_as_in_the_original():
    clr = CyclicLR(0.001, 0.006, 4, "exp_range", gamma=0.9)
    clr.clr_iterations = 11
    clr.scale_fn = lambda t: 0.99**t
    assert clr.clr() == pytest.approx(classic(11, 0.001, 0.006, 4, lambda cycle, t: 0.99**t))
    clr.scale_fn, clr.scale_mode = None, "cycle"
    assert clr.clr() == pytest.approx(classic(11, 0.001, 0.006, 4, lambda cycle, t: 0.9**cycle))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("base_lr", 0.5, r"max_lr must be greater than base_lr; got base_lr=0\.5, max_lr=0\.006"),
        ("step_size", 0, "step_size must be"),
        ("mode", "triangular3", "mode must be one of"),
        ("gamma", 1.5, "gamma must be"),
    ],
)
def test_a_wrong_value_that_was_set_is_refused_at_the_next_rate(name, value, message):
    """The next attribute to be set may make it right, as a max_lr above the new base_lr does."""
    clr = CyclicLR(mode="exp_range")
    right = getattr(clr, name)
    clr.clr()
    setattr(clr, name, value)
    with pytest.raises(ValueError, match=message):
        clr.clr()
    with pytest.raises(ValueError, match=message):
        clr.reset()
    setattr(clr, name, right)
    assert clr.clr() == 0.001


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("scale_fn", 0.5, TypeError),
        ("scale_mode", "epochs", ValueError),
        ("clr_iterations", 0.5, TypeError),
        ("clr_iterations", -1, ValueError),
        ("clr_iterations", math.nan, TypeError),
        ("clr_iterations", "5", TypeError),
    ],
)
def test_a_wrong_function_or_count_is_refused_when_it_is_set(name, value, error):
    clr = CyclicLR()
    with pytest.raises(error, match=f"{name} must be"):
        setattr(clr, name, value)
    assert (clr.clr(), clr.clr_iterations) == (0.001, 0)


@pytest.mark.every_backend
def test_what_another_callback_sets_is_used_and_recorded_from_the_next_update_on(probe):
    class SetLater(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 5:
                clr.max_lr, clr.mode = 1.0, "triangular2"

    clr = CyclicLR(0.125, 0.5, 4)
    run = probe(keras.optimizers.SGD(), 12)
    run.fit(callbacks=[clr, SetLater()])
    wanted = [
        *Cyclical(0.125, 0.5, 4)(np.arange(6)),
        *Cyclical.from_mode("triangular2", 0.125, 1.0, 4)(np.arange(6, 12)),
    ]
    np.testing.assert_allclose(run.rates, wanted, rtol=1e-6)
    np.testing.assert_allclose(clr.history["lr"], wanted, rtol=1e-12)


@pytest.mark.parametrize("count", [100.0, np.float32(100), np.float64(100), np.int64(100), 100])
def test_a_whole_number_of_any_type_is_a_count_of_iterations(count):
    """The counter of the original is a float."""
    clr = CyclicLR(0.001, 0.006, 70)
    clr.clr_iterations = count
    assert clr.clr() == Cyclical(0.001, 0.006, 70)(100)
    assert (type(clr.clr_iterations), clr.clr_iterations) == (int, 100)


def halve(cycle):
    return 0.5**cycle


AGAIN = {"copy": copy.deepcopy, "pickle": lambda clr: pickle.loads(pickle.dumps(clr))}  # noqa: S301


@pytest.mark.parametrize("again", AGAIN.values(), ids=AGAIN)
@pytest.mark.parametrize(
    "arguments",
    [{}, {"mode": "exp_range", "gamma": 0.9}, {"scale_fn": halve}, {"scale_fn": halve, "scale_mode": "iterations"}],
)
def test_a_copy_goes_on_where_the_callback_is(arguments, again):
    clr = CyclicLR(0.1, 0.5, 3.5, **arguments)
    clr.clr_iterations = 9
    clr.clr()
    other = again(clr)
    assert (other.clr(), other.clr_iterations, other.scale_fn(2)) == (clr.clr(), 9, clr.scale_fn(2))
    other.max_lr = 1.0
    assert other.clr() > clr.clr()


@pytest.mark.every_backend
@pytest.mark.parametrize("step_size", [4, 3.5])
@pytest.mark.parametrize("mode", ["triangular", "triangular2", "exp_range"])
def test_the_rate_recorded_is_the_rate_used(mode, step_size, probe):
    clr = CyclicLR(0.125, 0.5, step_size, mode, gamma=0.9)
    run = probe(keras.optimizers.SGD(0.9), 20)
    run.fit(slice(0, 9), callbacks=[clr])
    run.fit(slice(9, None), callbacks=[clr])
    scale = {"triangular": lambda c, t: 1, "triangular2": lambda c, t: 2 ** (1 - c), "exp_range": lambda c, t: 0.9**t}
    wanted = [classic(t, 0.125, 0.5, step_size, scale[mode]) for t in range(20)]
    np.testing.assert_allclose(clr.history["lr"], wanted, rtol=1e-12)
    np.testing.assert_allclose(run.rates, wanted, rtol=1e-6)
    assert clr.history["iterations"] == list(range(1, 21))
    assert (clr.clr_iterations, clr.trn_iterations) == (20, 20)


@pytest.mark.every_backend
@pytest.mark.parametrize("cut", [6, 7], ids=["between updates", "in the middle of one"])
def test_gradient_accumulation_counts_updates(cut, probe):
    clr = CyclicLR(0.125, 0.5, 2)
    run = probe(keras.optimizers.SGD(0.9, gradient_accumulation_steps=3), 8, micro_batches=3)
    run.fit(slice(0, cut), callbacks=[clr])
    run.fit(slice(cut, None), callbacks=[clr])
    wanted = [classic(t, 0.125, 0.5, 2, lambda cycle, t: 1) for t in range(8)]
    np.testing.assert_allclose(run.rates, wanted, rtol=1e-6)
    np.testing.assert_allclose(clr.history["lr"], wanted, rtol=1e-12)
    assert clr.history["iterations"] == list(range(1, 9))


@pytest.mark.every_backend
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_data_of_unknown_length_gets_the_rate_of_every_update(probe):
    """A batch begins at the end of every epoch that never comes: JAX forgets its rate, TensorFlow counts it."""
    tf = pytest.importorskip("tensorflow")
    clr = CyclicLR(0.125, 0.5, 4)
    run = probe(keras.optimizers.SGD(0.9), 5)
    data = tf.data.Dataset.from_tensor_slices((run.x, run.y)).batch(1).filter(lambda x, y: True)
    run.model.fit(data, epochs=4, shuffle=False, verbose=0, callbacks=[clr])
    wanted = np.array([classic(t, 0.125, 0.5, 4, lambda cycle, t: 1) for t in range(20)])
    np.testing.assert_allclose(clr.history["lr"], wanted, rtol=1e-12)
    np.testing.assert_allclose(run.rates, wanted.reshape(4, 5).sum(axis=0), rtol=1e-6)
    assert int(ops.convert_to_numpy(run.model.optimizer.iterations)) == 20


@pytest.mark.every_backend
def test_an_update_that_loss_scaling_skips_does_not_count(probe, mixed_float16):
    """https://github.com/pytorch/pytorch/issues/44511"""
    clr = CyclicLR(0.125, 0.5, 3)
    run = probe(keras.optimizers.SGD(0.9), 10)
    run.x[[0, 4], [0, 4]] = np.inf
    run.fit(callbacks=[clr])
    wanted = [classic(t, 0.125, 0.5, 3, lambda cycle, t: 1) for t in range(8)]
    np.testing.assert_allclose(np.delete(run.rates, [0, 4]), wanted, rtol=1e-6)
    np.testing.assert_allclose(clr.history["lr"], wanted, rtol=1e-12)


class Logs(keras.callbacks.Callback):
    """What a logger that stands after `CyclicLR` in the list gets to see."""

    def __init__(self):
        super().__init__()
        self.batches, self.epochs = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append(dict(logs))

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(dict(logs))


class SetRate(keras.callbacks.Callback):
    """Sets the rate of every update and does nothing else."""

    def __init__(self, schedule):
        super().__init__()
        self.schedule, self.step = schedule, 0

    def on_train_batch_begin(self, batch, logs=None):
        self.model.optimizer.learning_rate = self.schedule(self.step)

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1


def fit(model, *callbacks, **arguments):
    arguments = {"x": X, "y": Y, "batch_size": 4, "epochs": 3, "shuffle": False, "verbose": 0, **arguments}
    return model.fit(**arguments, callbacks=list(callbacks)).history


@pytest.mark.every_backend
def test_the_loss_in_history_is_that_of_the_very_batch(linear_model, losses_by_hand):
    """The original records the mean over the epoch so far: https://github.com/keras-team/tf-keras/issues/393"""
    clr = CyclicLR(0.01, 0.05, 4)
    fit(linear_model(keras.optimizers.SGD(momentum=0.5), metrics=["mae", "mse"]), clr)
    assert set(clr.history) == {"lr", "iterations", "loss", "mae", "mse"}
    assert {len(values) for values in clr.history.values()} == {18}
    wanted = losses_by_hand(clr.history["lr"], X, Y, batch_size=4, momentum=0.5)
    np.testing.assert_allclose(clr.history["loss"], wanted, rtol=1e-5)
    np.testing.assert_allclose(clr.history["mse"], wanted, rtol=1e-5)


@pytest.mark.every_backend
def test_with_accumulation_the_loss_is_the_mean_over_the_update(linear_model, losses_by_hand):
    clr = CyclicLR(0.01, 0.05, 4)
    fit(linear_model(keras.optimizers.SGD(gradient_accumulation_steps=2)), clr)
    wanted = losses_by_hand(clr.history["lr"], X, Y, batch_size=4, micro_batches=2)
    np.testing.assert_allclose(clr.history["loss"], wanted, rtol=1e-5)


def unknown_length():
    tf = pytest.importorskip("tensorflow")
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)
    return {"x": data.filter(lambda x, y: True), "y": None, "batch_size": None}


def generator():
    rows = [(X[i : i + 4], Y[i : i + 4]) for i in range(0, 24, 4)]
    return {"x": (row for row in rows * 3), "y": None, "batch_size": None, "steps_per_epoch": 6}


FORMS = {
    "arrays": dict,
    "a smaller last batch": lambda: {"batch_size": 10},
    "validation": lambda: {"validation_data": (X[:8], Y[:8])},
    "data of unknown length": unknown_length,
    "data of unknown length, validation": lambda: {**unknown_length(), "validation_data": (X[:8], Y[:8])},
    "generator": generator,
}


@pytest.mark.filterwarnings("ignore:Your input ran out of data")  # what Keras says when it finds the length
@pytest.mark.parametrize("form", FORMS)
def test_fit_logs_what_it_would_log_without(form, linear_model):
    """Running means stay running means, for the progress bar, for History and for every other callback."""

    def train(callback):
        logs = Logs()
        model = linear_model(keras.optimizers.SGD(0.9), metrics=["mae"], weighted_metrics=["mse"])
        return fit(model, callback, logs, **FORMS[form]()), logs

    with_callback, logs = train(CyclicLR(0.01, 0.05, 4))
    without, plain = train(SetRate(Cyclical(0.01, 0.05, 4)))
    rates = with_callback.pop("learning_rate")
    assert len(rates) == 3
    assert set(with_callback) == set(without)
    for name, values in without.items():
        np.testing.assert_allclose(with_callback[name], values, rtol=1e-5, err_msg=name)
    for name in ("loss", "mae", "mse"):
        ours, theirs = ([batch[name] for batch in kept.batches] for kept in (logs, plain))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, err_msg=name)


def test_metrics_that_are_no_means_are_left_alone():
    labels = (Y > 0).astype("float32")

    def train(optimizer, *callbacks):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, "sigmoid", kernel_initializer="zeros")])
        metrics = [keras.metrics.AUC(name="auc"), keras.metrics.Recall(name="recall"), "accuracy"]
        model.compile(optimizer, "binary_crossentropy", metrics=metrics)
        return fit(model, *callbacks, y=labels)

    clr = CyclicLR(0.01, 0.5, 4)
    with_callback = train(keras.optimizers.SGD(), clr)
    without = train(keras.optimizers.SGD(LearningRate(Cyclical(0.01, 0.5, 4))))
    for name in ("auc", "recall", "accuracy"):
        np.testing.assert_allclose(with_callback[name], without[name], rtol=1e-6)
        assert len(clr.history[name]) == 18
    assert len(set(without["auc"])) > 1


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_metrics_of_several_values_are_recorded_as_arrays(micro_batches):
    labels = np.hstack([Y > 0, Y <= 0]).astype("float32")

    def train(rate, *callbacks):
        layer = keras.layers.Dense(2, "softmax", kernel_initializer="zeros")
        model = keras.Sequential([keras.Input((3,)), layer])
        optimizer = keras.optimizers.SGD(rate, gradient_accumulation_steps=micro_batches if micro_batches > 1 else None)
        model.compile(optimizer, "categorical_crossentropy", metrics=[keras.metrics.F1Score(), "accuracy"])
        return fit(model, *callbacks, y=labels)

    clr, logs = CyclicLR(0.01, 0.5, 4), Logs()
    with_callback = train(0.1, clr, logs)
    without = train(LearningRate(Cyclical(0.01, 0.5, 4)))
    for name in ("loss", "f1_score", "accuracy"):
        np.testing.assert_allclose(with_callback[name], without[name], rtol=1e-6)
    shown = np.reshape([batch["f1_score"] for batch in logs.batches], (-1, micro_batches, 2))
    np.testing.assert_allclose(clr.history["f1_score"], shown.mean(axis=1), rtol=1e-6)
    assert len(clr.history["accuracy"]) == 18 // micro_batches


class Watched(keras.layers.Dense):
    """A layer that follows its outputs by a metric."""

    def __init__(self, metric):
        super().__init__(1, kernel_initializer="zeros")
        self.metric = metric

    def call(self, inputs):
        outputs = super().call(inputs)
        self.metric.update_state(outputs)
        return outputs


@pytest.mark.every_backend
@pytest.mark.skipif(BACKEND == "jax", reason="Keras itself fails with a metric that a model has twice")
def test_a_metric_that_the_model_has_twice_keeps_its_running_mean():
    def train(optimizer, *callbacks):
        metric, inputs = keras.metrics.Mean(name="output"), keras.Input((3,))
        model = keras.Model(inputs, Watched(metric)(inputs))
        model.metric = metric
        model.compile(optimizer, "mse")
        assert [one is metric for one in model.metrics].count(True) == 2
        return fit(model, *callbacks)

    with_callback = train(keras.optimizers.SGD(), CyclicLR(0.01, 0.05, 4))
    without = train(keras.optimizers.SGD(LearningRate(Cyclical(0.01, 0.05, 4))))
    np.testing.assert_allclose(with_callback["output"], without["output"], rtol=1e-5)


def test_the_rate_stands_in_the_logs_of_batches_and_epochs(linear_model):
    """https://github.com/keras-team/keras/issues/16087"""
    clr, logs = CyclicLR(0.01, 0.05, 4), Logs()
    history = fit(linear_model("sgd"), clr, logs)
    rates = [batch["learning_rate"] for batch in logs.batches]
    assert rates == clr.history["lr"]
    assert [epoch["learning_rate"] for epoch in logs.epochs] == rates[5::6] == history["learning_rate"]


def test_reset_begins_a_new_cycle_and_keeps_the_history(probe):
    clr = CyclicLR(0.125, 0.5, 4)
    run = probe(keras.optimizers.SGD(), 15)
    rates = []
    for part, arguments in (
        (slice(0, 3), None),
        (slice(3, 6), {}),
        (slice(6, 9), {"new_max_lr": 0.25}),
        (slice(9, 12), {"new_base_lr": 0.2, "new_step_size": 2}),
        (slice(12, 15), {"new_base_lr": 0.5, "new_max_lr": 1.0, "new_step_size": 1.5}),
    ):
        if arguments is not None:
            (clr.reset if arguments else clr._reset)(**arguments)
            assert clr.clr_iterations == 0
        run.fit(part, callbacks=[clr])
    for base_lr, max_lr, step_size in (
        (0.125, 0.5, 4),
        (0.125, 0.5, 4),
        (0.125, 0.25, 4),
        (0.2, 0.25, 2),
        (0.5, 1, 1.5),
    ):
        rates += [classic(t, base_lr, max_lr, step_size, lambda cycle, t: 1) for t in range(3)]
    np.testing.assert_allclose(run.rates, rates, rtol=1e-6)
    np.testing.assert_allclose(clr.history["lr"], rates, rtol=1e-12)
    assert clr.history["iterations"] == list(range(1, 16))
    assert clr.trn_iterations == 15
    assert (clr.base_lr, clr.max_lr, clr.step_size) == (0.5, 1.0, 1.5)


@pytest.mark.parametrize("wrong", [{"new_max_lr": 0.01}, {"new_base_lr": -1.0}, {"new_step_size": 0}])
def test_a_reset_that_is_refused_changes_nothing(wrong):
    clr = CyclicLR(0.1, 0.5, 4)
    clr.clr_iterations = 3
    rate = clr.clr()
    with pytest.raises(ValueError, match="must be"):
        clr.reset(**wrong)
    assert (clr.clr_iterations, clr.clr()) == (3, rate)
    assert (clr.base_lr, clr.max_lr, clr.step_size) == (0.1, 0.5, 4)


def test_a_fit_that_stops_or_fails_half_way_is_continued(probe):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                self.model.stop_training = True

    class Fail(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                raise KeyboardInterrupt

    clr = CyclicLR(0.125, 0.5, 4)
    run = probe(keras.optimizers.SGD(), 12)
    run.fit(callbacks=[clr, Stop()])
    with pytest.raises(KeyboardInterrupt):
        run.fit(slice(3, None), callbacks=[clr, Fail()])
    run.fit(slice(5, None), callbacks=[clr])
    wanted = [classic(t, 0.125, 0.5, 4, lambda cycle, t: 1) for t in range(12)]
    np.testing.assert_allclose(run.rates, wanted, rtol=1e-6)


def test_a_new_callback_goes_on_from_the_updates_that_it_is_told(probe):
    run = probe(keras.optimizers.SGD(), 12)
    run.fit(slice(0, 5), callbacks=[CyclicLR(0.125, 0.5, 4)])
    clr = CyclicLR(0.125, 0.5, 4)
    clr.clr_iterations = 5
    run.fit(slice(5, None), callbacks=[clr])
    np.testing.assert_allclose(run.rates, Cyclical(0.125, 0.5, 4)(np.arange(12)), rtol=1e-6)


@pytest.mark.every_backend
@pytest.mark.skipif(BACKEND == "torch", reason="Keras forbids steps_per_execution > 1 on torch")
def test_several_steps_per_call_are_refused(linear_model):
    model = linear_model("sgd", steps_per_execution=4)
    weights = model.get_weights()
    with pytest.raises(
        ValueError,
        match=r"between two calls of the training step; got steps_per_execution=4.*cyclr\.keras\.LearningRate",
    ):
        fit(model, CyclicLR(0.1, 0.5, 4))
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: LearningRate(Cyclical(0.1, 0.5, 4)), "LearningRate"),
        (lambda: keras.optimizers.schedules.CosineDecay(0.1, 10), "CosineDecay"),
    ],
    ids=["ours", "of Keras"],
)
@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "loss scaling"])
def test_an_optimizer_with_a_schedule_of_its_own_is_refused(make, name, scaled, linear_model):
    optimizer = keras.optimizers.SGD(make())
    model = linear_model(keras.optimizers.LossScaleOptimizer(optimizer) if scaled else optimizer)
    with pytest.raises(
        ValueError,
        match=rf"CyclicLR cannot set the learning rate.*created with a schedule; got {name}\..*SGD\(0\.01\)",
    ):
        fit(model, CyclicLR(0.1, 0.5, 4))


WRONG = {
    "negative base": ({"base_lr": -0.1}, ValueError, "base_lr must be a finite number of at least 0; got base_lr=-0.1"),
    "swapped": ({"base_lr": 0.5, "max_lr": 0.1}, ValueError, "max_lr must be greater than base_lr.*Swap them"),
    "equal": ({"base_lr": 0.1, "max_lr": 0.1}, ValueError, "max_lr must be greater than base_lr.*two different"),
    "NaN base": ({"base_lr": math.nan}, ValueError, "base_lr must be a finite number"),
    "NaN": ({"max_lr": math.nan}, ValueError, "max_lr must be a finite number.*got max_lr=nan"),
    "infinite": ({"max_lr": math.inf}, ValueError, "max_lr must be a finite number"),
    "text": ({"max_lr": "0.1"}, TypeError, "max_lr must be a number; got max_lr='0.1' of type str"),
    "None": ({"base_lr": None}, TypeError, "base_lr must be a number; got base_lr=None"),
    "no steps": ({"step_size": 0}, ValueError, "step_size must be a finite number of at least 1; got step_size=0"),
    "negative steps": ({"step_size": -5}, ValueError, "step_size must be"),
    "half a step": ({"step_size": 0.5}, ValueError, "step_size must be"),
    "NaN steps": ({"step_size": math.nan}, ValueError, "step_size must be"),
    "text for steps": ({"step_size": "2000"}, TypeError, "step_size must be a number"),
    "unknown mode": ({"mode": "triangular3"}, ValueError, "mode must be one of 'triangular', 'triangular2', 'exp_r"),
    "no mode": ({"mode": None}, ValueError, "mode must be one of"),
    "unknown scale_mode": ({"scale_mode": "epochs"}, ValueError, "scale_mode must be one of 'cycle', 'iterations'"),
    "unknown scale_mode, with a function": (
        {"scale_fn": lambda cycle: 1.0, "scale_mode": "iteration"},
        ValueError,
        "scale_mode must be one of",
    ),
    "a function above 1": ({"scale_fn": lambda cycle: 1.5 * cycle}, ValueError, "between 0 and 1; got 1.5"),
    "a function below 0": ({"scale_fn": lambda cycle: -0.1}, ValueError, "between 0 and 1; got -0.1"),
    "a function that is NaN": ({"scale_fn": lambda cycle: math.nan}, ValueError, "between 0 and 1; got nan"),
    "a function of no use": ({"scale_fn": 0.5}, TypeError, "must be a function|scale_fn"),
    "gamma 0": ({"mode": "exp_range", "gamma": 0.0}, ValueError, "gamma must be"),
    "gamma above 1": ({"mode": "exp_range", "gamma": 1.001}, ValueError, "gamma must be.*at most 1; got gamma=1.001"),
    "NaN gamma": ({"mode": "exp_range", "gamma": math.nan}, ValueError, "gamma must be"),
    "text for gamma": ({"mode": "exp_range", "gamma": "0.9"}, TypeError, "gamma must be a number"),
}


@pytest.mark.parametrize(("arguments", "error", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_argument_is_refused_at_once(arguments, error, message):
    with pytest.raises(error, match=message):
        CyclicLR(**arguments)


def test_a_function_that_leaves_its_range_later_is_refused_then(probe):
    """The original goes below 0 without a word."""
    clr = CyclicLR(0.125, 0.5, 1, scale_fn=lambda t: 1.0 if t < 20 else 2.0, scale_mode="iterations")
    clr.clr_iterations = 19
    assert clr.clr() == 0.5
    clr.clr_iterations = 20
    with pytest.raises(ValueError, match=r"between 0 and 1; got 2\.0"):
        clr.clr()


def test_a_model_with_several_parts_keeps_its_logs(linear_model):
    """Loss trackers of single outputs are means as well."""
    inputs = keras.Input((3,))
    outputs = {name: keras.layers.Dense(1, name=name, kernel_initializer="zeros")(inputs) for name in ("left", "right")}

    def train(optimizer, *callbacks):
        model = keras.Model(inputs, outputs)
        for layer in model.layers[1:]:
            layer.set_weights([np.zeros((3, 1)), np.zeros(1)])
        model.compile(optimizer, loss={"left": "mse", "right": "mae"}, metrics={"left": ["mae"]})
        return fit(model, *callbacks, y={"left": Y, "right": 2 * Y})

    clr = CyclicLR(0.01, 0.05, 4)
    with_callback = train(keras.optimizers.SGD(), clr)
    without = train(keras.optimizers.SGD(LearningRate(Cyclical(0.01, 0.05, 4))))
    with_callback.pop("learning_rate")
    for name, values in without.items():
        np.testing.assert_allclose(with_callback[name], values, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(
        np.add(clr.history["left_loss"], clr.history["right_loss"]), clr.history["loss"], rtol=1e-5
    )


def test_the_optimizer_holds_the_rate_of_the_last_update(probe):
    run = probe(keras.optimizers.Adam(0.9), 6)
    run.fit(callbacks=[CyclicLR(0.125, 0.5, 4)])
    assert float(ops.convert_to_numpy(run.model.optimizer.learning_rate)) == pytest.approx(0.40625)


@pytest.mark.parametrize(("step_size", "warns"), [(2, True), (2.5, True), (3, False), (20, False)])
def test_a_step_size_in_epochs_warns(step_size, warns):
    model, x = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]), np.ones((10, 1), "float32")
    model.compile(keras.optimizers.SGD(0.01), "mse")
    said = f"step_size={step_size:g} counts updates, so an epoch of 10.*write step_size={10 * step_size:g}"
    with pytest.warns(UserWarning, match=said) if warns else contextlib.nullcontext():
        model.fit(x, x, batch_size=1, verbose=0, callbacks=[CyclicLR(0.01, 0.1, step_size)])
