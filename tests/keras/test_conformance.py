"""What every schedule keeps in Keras, however it is attached and whatever runs the updates: update t uses schedule(t).

To cover a new schedule, add a line to SCHEDULES; a new way to train, one to WAYS.
"""

import contextlib
import inspect
import warnings

import keras
import numpy as np
import pytest
from keras import ops

import cyclr
from cyclr import (
    Anneal,
    Clock,
    Constant,
    Cyclical,
    Exponential,
    Function,
    Halving,
    OneCycle,
    PerCycle,
    PerStep,
    Schedule,
    Sequence,
    WarmRestarts,
    Warmup,
    WarmupStableDecay,
)
from cyclr.keras import CycleEnd, LearningRate, ScheduleCallback

BACKEND = keras.backend.backend()
LOW, HIGH, UPDATES = 0.125, 0.5, 16
# A rate is computed in float32, in a handful of operations on numbers up to HIGH.
TOLERANCE = 8 * float(np.finfo("float32").eps) * HIGH

SCHEDULES = {
    "triangular": Cyclical(LOW, HIGH, 4),
    "parabolic": Cyclical(LOW, HIGH, 4, shape="parabolic"),
    "sinusoidal": Cyclical(LOW, HIGH, 4, shape="sinusoidal"),
    "slow way down": Cyclical(LOW, HIGH, 2, step_size_down=5),
    "half cycle of one step": Cyclical(LOW, HIGH, 1),
    "halving": Cyclical(LOW, HIGH, 3, decay=Halving()),
    "exponential": Cyclical(LOW, HIGH, 3, decay=Exponential(0.9)),
    "exponential of both bounds": Cyclical(LOW, HIGH, 3, decay=Exponential(0.9, bounds="both")),
    "exponential by the cycle": Cyclical(LOW, HIGH, 2, decay=Exponential(0.75, per="cycle")),
    "function of the cycle": Cyclical(LOW, HIGH, 3, decay=PerCycle(lambda cycle: 1 / (1 + cycle))),
    "function of the step": Cyclical(LOW, HIGH, 3, decay=PerStep(lambda step: 1 / (1 + step / 10))),
    "cycles of uneven length": Cyclical.over(UPDATES, 4, LOW, HIGH, rise=0.4),
    "cycles of fractional length": Cyclical.fractional(LOW, HIGH, 2.5, 1.75),
    "one cycle in two phases": OneCycle(LOW, HIGH, 13),
    "one cycle in three phases": OneCycle(LOW, HIGH, 15, rise=0.4, fall=5, final_lr=0.0, shape="triangular"),
    "restarts": WarmRestarts(LOW, HIGH, 5),
    "growing restarts": WarmRestarts(LOW, HIGH, 2, growth=1.5),
    "decaying restarts": WarmRestarts(LOW, HIGH, 3, growth=2, decay=Halving()),
    "warm-up": Warmup(WarmRestarts(LOW, HIGH, 6), 4),
    "warm-up of every cycle": Warmup(
        WarmRestarts(LOW, HIGH, 3, growth=2), 2, 0.0625, shape="parabolic", every_cycle=True
    ),
    "sequence": Sequence([Constant(0.25), OneCycle(LOW, HIGH, 6), Cyclical(LOW, HIGH, 2)], [3, 6]),
    "constant": Constant(0.3),
    "leg": Anneal(HIGH, LOW, 12, "cosine", power=2),
    "leg for ever": Anneal(HIGH, 0.4, 3, "inverse_sqrt", limit=0),
    "product in stairs": Clock(Anneal(1, 0.5, 1, "exponential", limit=0), every=3) * Cyclical(LOW, HIGH, 4),
    "stairs": Clock(Anneal(HIGH, LOW, 3), every=4),
    "function alone": Function(lambda step: 0.5 / (1 + step), high=HIGH),
    "stable": WarmupStableDecay(HIGH, UPDATES, warmup=4, decay=6),
    "restarts that fill a run": WarmRestarts.over(UPDATES, 2, LOW, HIGH, growth=2),
    "warm-up laid over": Warmup(Anneal(HIGH, LOW, 12), 4, over=True),
    "mirrored": Cyclical(LOW, HIGH, 4, decay=Halving()).mirrored(LOW, HIGH),
    "mirrored one cycle": OneCycle(LOW, HIGH, 13, fall=4).mirrored(LOW, HIGH),
}
JSON_SCHEDULES = {name: schedule for name, schedule in SCHEDULES.items() if "function" not in name}
FORMS = ["in graph", "in graph, with logs", "callback"]


def test_every_kind_of_schedule_is_covered():
    public = {
        value
        for value in vars(cyclr).values()
        if isinstance(value, type) and issubclass(value, Schedule) and not inspect.isabstract(value)
    }
    assert {type(schedule) for schedule in SCHEDULES.values()} == public


class Logs(keras.callbacks.Callback):
    """The rates in the logs, with the number of the batch from the start of training."""

    def __init__(self):
        super().__init__()
        self.batches, self.epochs, self.before, self.seen = {}, {}, 0, 0

    def on_train_batch_end(self, batch, logs=None):
        # With steps_per_execution Keras tells a last batch that may lie beyond the epoch.
        self.seen = self.before + min(batch, (self.params["steps"] or batch + 1) - 1)
        self.batches[self.seen] = logs.get("learning_rate")

    def on_epoch_end(self, epoch, logs=None):
        self.epochs[self.seen] = logs.get("learning_rate")
        self.before = self.seen + 1


class Training:
    """A probe whose optimizer gets its rates from a schedule in one of the forms."""

    def __init__(self, probe, form, schedule, updates=UPDATES, *, micro_batches=1, wrapper=None, **compile_arguments):
        self.form, self.schedule, self.micro_batches = form, schedule, micro_batches
        optimizer = keras.optimizers.SGD(
            0.9 if form == "callback" else LearningRate(schedule),
            gradient_accumulation_steps=micro_batches if micro_batches > 1 else None,
        )
        optimizer = optimizer if wrapper is None else wrapper(optimizer)
        self.run = probe(optimizer, updates, micro_batches=micro_batches, **compile_arguments)
        self.model, self.batches = self.run.model, len(self.run.x)
        self.logs = Logs()
        self.callback = self.new_callback()

    def new_callback(self):
        return ScheduleCallback(self.schedule) if self.form == "callback" else ScheduleCallback()

    @property
    def callbacks(self):
        return [] if self.form == "in graph" else [self.callback, self.logs]

    def fit(self, begin=0, end=None, **arguments):
        return self.run.fit(slice(begin, end), callbacks=self.callbacks, **arguments)

    @contextlib.contextmanager
    def by_hand(self):
        if self.form == "callback":
            self.callback.attach(self.model)
        yield
        if self.form == "callback":
            self.callback.detach()

    def check(self, skipped=()):
        """That every update used its rate, and that the logs tell just that."""
        applied = np.delete(np.arange(self.batches // self.micro_batches), skipped)
        wanted = self.schedule(np.arange(len(applied)))
        np.testing.assert_allclose(self.run.rates[applied], wanted, rtol=0, atol=TOLERANCE)
        np.testing.assert_array_equal(self.run.rates[list(skipped)], 0)
        assert int(ops.convert_to_numpy(self.model.optimizer.iterations)) == len(applied)
        for batch, logged in self.logs.batches.items():
            update = batch // self.micro_batches
            assert logged == self.schedule(update - sum(other < update for other in skipped))
        for batch, logged in self.logs.epochs.items():
            done = (batch + 1) // self.micro_batches
            assert logged == (self.schedule(done - sum(other < done for other in skipped) - 1) if done else None)


@pytest.mark.any_backend
@pytest.mark.parametrize("form", ["in graph", "callback"])
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_update_t_uses_the_schedule_at_t(schedule, form, probe):
    training = Training(probe, form, schedule)
    training.fit()
    training.check()


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_tensors_give_what_numpy_gives(schedule):
    steps = np.concatenate([np.arange(100), [999, 12_345]])
    got = ops.convert_to_numpy(LearningRate(schedule)(ops.convert_to_tensor(steps, "int32")))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, schedule(steps), rtol=0, atol=TOLERANCE)
    one_by_one = [LearningRate(schedule)(int(step)) for step in steps]
    assert one_by_one == [schedule(int(step)) for step in steps]


@pytest.mark.any_backend
@pytest.mark.parametrize("schedule", JSON_SCHEDULES.values(), ids=JSON_SCHEDULES)
def test_serialization_gives_an_equal_one(schedule):
    description = keras.saving.serialize_keras_object(LearningRate(schedule, start_step=3))
    again = keras.saving.deserialize_keras_object(description)
    assert type(again) is LearningRate
    assert (again.schedule, again.start_step) == (schedule, 3)
    assert LearningRate.from_config(LearningRate(schedule).get_config()).schedule == schedule


def in_one_go(training):
    training.fit()


def in_three_fits(training):
    for begin, end in ((0, 5), (5, 6), (6, None)):
        training.fit(begin, end)


def with_a_new_callback_each_time(training):
    for begin, end in ((0, 7), (7, None)):
        training.callback = training.new_callback()
        training.fit(begin, end)


def from_a_later_epoch(training):
    training.fit(0, 10)
    training.fit(10, None, initial_epoch=7, epochs=8)


def with_evaluation_between(training):
    run = training.run
    training.fit(0, 7, validation_data=(run.x[:3], run.y[:3]))
    run.model.evaluate(run.x, run.y, verbose=0)
    run.model.predict(run.x, verbose=0)
    training.fit(7)


def batch_by_batch(training):
    with training.by_hand():
        for x, y in zip(training.run.x, training.run.y, strict=True):
            training.model.train_on_batch(x[None], y[None])


def first_by_fit_then_batch_by_batch(training):
    training.fit(0, 6)
    with training.by_hand():
        for x, y in zip(training.run.x[6:9], training.run.y[6:9], strict=True):
            training.model.train_on_batch(x[None], y[None])
    training.logs.before += 3
    training.fit(9)


def by_a_loop_of_ones_own(training):
    optimizer, (weight,) = training.model.optimizer, training.model.trainable_variables
    optimizer.build([weight])
    with training.by_hand():
        update = {"tensorflow": tensorflow_update, "jax": jax_update, "torch": eager_update}[BACKEND](optimizer, weight)
        for x in training.run.x:
            update(ops.convert_to_tensor(x[:, None]))


def eager_update(optimizer, weight):
    return lambda gradient: optimizer.apply([gradient], [weight])


def tensorflow_update(optimizer, weight):
    import tensorflow as tf

    return tf.function(eager_update(optimizer, weight))


def jax_update(optimizer, weight):
    import jax

    apply = jax.jit(optimizer.stateless_apply)

    def update(gradient):
        (value,), state = apply([variable.value for variable in optimizer.variables], [gradient], [weight.value])
        weight.assign(value)
        for variable, new in zip(optimizer.variables, state, strict=True):
            variable.assign(new)

    return update


several_per_call = pytest.mark.skipif(BACKEND == "torch", reason="Keras forbids steps_per_execution > 1 on torch")
compiled_by_xla = pytest.mark.skipif(BACKEND == "torch", reason="torch.compile needs a C++ compiler")
few = {"updates": 7}
WAYS = [
    pytest.param(in_one_go, {}, id="one fit"),
    pytest.param(in_three_fits, {}, id="three fits"),
    pytest.param(with_a_new_callback_each_time, {}, id="a new callback for every fit"),
    # https://github.com/tensorflow/tensorflow/issues/49208
    pytest.param(from_a_later_epoch, {}, id="initial_epoch"),
    pytest.param(with_evaluation_between, {}, id="evaluate and predict between"),
    pytest.param(batch_by_batch, {}, id="train_on_batch"),
    pytest.param(first_by_fit_then_batch_by_batch, {}, id="fit, train_on_batch, fit"),
    pytest.param(by_a_loop_of_ones_own, {}, id="own loop"),
    pytest.param(in_one_go, {"run_eagerly": True, **few}, id="run_eagerly"),
    pytest.param(in_one_go, {"jit_compile": False}, id="not compiled"),
    pytest.param(in_one_go, {"jit_compile": True}, id="jit_compile", marks=compiled_by_xla),
    pytest.param(in_one_go, {"steps_per_execution": 4}, id="steps_per_execution", marks=several_per_call),
    pytest.param(in_three_fits, {"steps_per_execution": 5}, id="with a remainder", marks=several_per_call),
    # Keras calls a schedule with the number of the micro-batch, which makes it run that many times too fast:
    # https://github.com/keras-team/keras/blob/master/keras/src/optimizers/base_optimizer.py
    pytest.param(in_one_go, {"micro_batches": 4}, id="accumulation"),
    pytest.param(in_three_fits, {"micro_batches": 4}, id="accumulation, fits that cut updates in two"),
    pytest.param(batch_by_batch, {"micro_batches": 3, **few}, id="accumulation, train_on_batch"),
    pytest.param(by_a_loop_of_ones_own, {"micro_batches": 3, **few}, id="accumulation, own loop"),
    pytest.param(in_one_go, {"micro_batches": 2, "run_eagerly": True, "updates": 5}, id="accumulation, run_eagerly"),
    pytest.param(
        in_one_go,
        {"micro_batches": 4, "jit_compile": True, **few},
        id="accumulation, jit_compile",
        marks=compiled_by_xla,
    ),
    pytest.param(
        in_one_go,
        {"micro_batches": 4, "steps_per_execution": 3},
        id="accumulation, steps_per_execution",
        marks=several_per_call,
    ),
    pytest.param(in_three_fits, {"wrapper": keras.optimizers.LossScaleOptimizer}, id="loss scaling"),
]
TWO = {"in graph": "halving", "in graph, with logs": "growing restarts", "callback": "one cycle in three phases"}


@pytest.mark.parametrize(
    "form", [pytest.param("in graph", marks=pytest.mark.any_backend), "in graph, with logs", "callback"]
)
@pytest.mark.parametrize(("train", "arguments"), WAYS)
def test_no_way_of_training_changes_which_rate_an_update_uses(train, arguments, form, probe):
    training = Training(probe, form, SCHEDULES[TWO[form]], **arguments)
    train(training)
    training.check()


@pytest.mark.parametrize("form", FORMS)
def test_epochs_go_on_from_one_another(form, probe):
    training = Training(probe, form, SCHEDULES["one cycle in two phases"], 4)
    training.fit(epochs=3)
    wanted = training.schedule(np.arange(12))
    np.testing.assert_allclose(training.run.rates, wanted.reshape(3, 4).sum(axis=0), rtol=0, atol=3 * TOLERANCE)
    if form != "in graph":
        assert list(training.logs.batches.values()) == [training.schedule(t) for t in range(12)]
        assert list(training.logs.epochs.values()) == [training.schedule(t) for t in (3, 7, 11)]


@pytest.mark.parametrize("micro_batches", [1, 2])
@pytest.mark.parametrize("form", FORMS)
def test_mixed_precision_uses_the_same_rates(form, micro_batches, probe, mixed_float16):
    training = Training(probe, form, SCHEDULES["halving"], micro_batches=micro_batches)
    assert isinstance(training.model.optimizer, keras.optimizers.LossScaleOptimizer)
    training.fit()
    training.check()


@pytest.mark.parametrize("form", FORMS)
def test_an_update_that_loss_scaling_skips_does_not_count(form, probe, mixed_float16):
    """https://github.com/pytorch/pytorch/issues/44511"""
    training = Training(probe, form, SCHEDULES["growing restarts"], 12)
    overflow = [2, 3, 8]
    training.run.x[overflow, overflow] = np.inf
    in_three_fits(training)
    training.check(skipped=overflow)


@pytest.mark.parametrize("compile_arguments", [{}, pytest.param({"jit_compile": True}, marks=compiled_by_xla)])
@pytest.mark.parametrize("form", ["in graph, with logs", "callback"])
def test_data_of_unknown_length_does_not_move_the_clock(form, compile_arguments, probe):
    """A batch begins at the end of every epoch that never comes, and TensorFlow counts an update for it."""
    tf = pytest.importorskip("tensorflow")
    training = Training(probe, form, SCHEDULES["halving"], 5, **compile_arguments)
    run = training.run
    data = tf.data.Dataset.from_tensor_slices((run.x, run.y)).batch(1).filter(lambda x, y: True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Your input ran out of data")
        run.model.fit(data, epochs=3, shuffle=False, verbose=0, callbacks=training.callbacks)
    wanted = training.schedule(np.arange(15))
    np.testing.assert_allclose(run.rates, wanted.reshape(3, 5).sum(axis=0), rtol=0, atol=3 * TOLERANCE)
    assert int(ops.convert_to_numpy(run.model.optimizer.iterations)) == 15
    assert list(training.logs.batches.values()) == wanted.tolist()
    assert list(training.logs.epochs.values()) == wanted[[4, 9, 14]].tolist()


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("form", ["in graph, with logs", "callback"])
def test_data_that_ends_before_steps_per_epoch_does_not_move_the_clock(form, probe):
    training = Training(probe, form, SCHEDULES["halving"])
    run = training.run
    rows = ((run.x[t : t + 1], run.y[t : t + 1]) for t in range(15))
    run.model.fit(rows, steps_per_epoch=10, epochs=2, shuffle=False, verbose=0, callbacks=training.callbacks)
    assert int(ops.convert_to_numpy(run.model.optimizer.iterations)) == 15
    assert list(training.logs.epochs.values()) == training.schedule(np.array([9, 14])).tolist()
    run.fit(slice(15, 16), callbacks=training.callbacks)
    np.testing.assert_allclose(run.rates, training.schedule(np.arange(16)), rtol=0, atol=TOLERANCE)


class TwoUpdatesPerBatch(keras.Model):
    def train_step(self, *arguments):
        if BACKEND == "jax":
            state, data = arguments
            _, state = super().train_step(state, data)
            return super().train_step(state, data)
        super().train_step(*arguments)
        return super().train_step(*arguments)


@pytest.mark.parametrize(
    "make",
    [lambda schedule: ScheduleCallback(schedule), lambda schedule: CycleEnd(lambda model, step: None, schedule)],
    ids=["ScheduleCallback", "CycleEnd"],
)
def test_an_epoch_that_is_stopped_loses_no_update(make):
    """It ends before the data does: there is no batch that never came."""
    inputs = keras.Input((3,))
    model = TwoUpdatesPerBatch(inputs, keras.layers.Dense(1)(inputs))
    model.compile(keras.optimizers.SGD(0.875), "mse")
    stop = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: setattr(model, "stop_training", True))
    x = np.ones((8, 3), "float32")
    model.fit(x, x[:, :1], batch_size=2, verbose=0, callbacks=[make(Cyclical(LOW, HIGH, 4)), stop])
    assert int(ops.convert_to_numpy(model.optimizer.iterations)) == 2
