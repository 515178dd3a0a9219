"""What loggers get to see of schedules: the values that every update used, per batch and per epoch, in every form."""

import csv

import keras
import numpy as np
import pytest

from cyclr import Constant, Cyclical, OneCycle
from cyclr.keras import LearningRate, ScheduleCallback, change_schedule

pytestmark = pytest.mark.any_backend

BACKEND = keras.backend.backend()
RATE, MOMENTUM, DECAY = OneCycle(0.125, 0.5, 12), Cyclical(0.1, 0.9, 3).mirrored(0.5, 0.9), Cyclical(0.0625, 0.25, 2)
NAMED = {"learning_rate": RATE, "momentum": MOMENTUM, "weight_decay": DECAY}
FORMS = {
    "in graph": lambda **arguments: (
        keras.optimizers.SGD(LearningRate(RATE), momentum=0.5, **arguments),
        ScheduleCallback(momentum=MOMENTUM, weight_decay=DECAY),
    ),
    "callback": lambda **arguments: (
        keras.optimizers.SGD(0.9, momentum=0.5, **arguments),
        ScheduleCallback(RATE, MOMENTUM, DECAY),
    ),
}
every_form = pytest.mark.parametrize("form", FORMS)


def values(steps):
    return [{name: schedule(step) for name, schedule in NAMED.items()} for step in steps]


class Logger(keras.callbacks.Callback):
    """What MLflow's callback does: parameters when training begins, metrics after batches and epochs."""

    def __init__(self):
        super().__init__()
        self.parameters, self.batches, self.epochs = {}, [], []

    def on_train_begin(self, logs=None):
        self.parameters = {f"optimizer_{name}": value for name, value in self.model.optimizer.get_config().items()}

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append({name: float(value) for name, value in logs.items()})

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append({name: float(value) for name, value in logs.items()})


def of_schedules(logs):
    return [{name: one[name] for name in NAMED} for one in logs]


@pytest.mark.every_backend
@every_form
def test_a_logger_sees_what_every_update_used(form, probe):
    """https://github.com/keras-team/keras/issues/16087"""
    optimizer, callback = FORMS[form]()
    logger = Logger()
    run = probe(optimizer, 4)
    history = run.fit(epochs=3, callbacks=[callback, logger]).history
    assert of_schedules(logger.batches) == values(range(12))
    assert of_schedules(logger.epochs) == values([3, 7, 11])
    assert {name: history[name] for name in NAMED} == {
        name: [schedule(step) for step in (3, 7, 11)] for name, schedule in NAMED.items()
    }
    assert all(set(logs) == {"loss", *NAMED} for logs in (*logger.batches, *logger.epochs))
    after = {f"optimizer_{name}": value for name, value in optimizer.get_config().items()}
    rate = logger.parameters.pop("optimizer_learning_rate")
    assert rate == (after["optimizer_learning_rate"] if form == "in graph" else pytest.approx(0.9))
    assert logger.parameters == {name: value for name, value in after.items() if name != "optimizer_learning_rate"}


@every_form
def test_with_accumulation_every_micro_batch_shows_the_values_of_its_update(form, probe):
    optimizer, callback = FORMS[form](gradient_accumulation_steps=3)
    logger = Logger()
    # An epoch that ends within an update shows the last one that was made, and the first made none.
    probe(optimizer, 4, micro_batches=3).fit(slice(0, 2), epochs=4, callbacks=[callback, logger])
    assert of_schedules(logger.batches) == values([0, 0, 0, 1, 1, 1, 2, 2])
    assert set(logger.epochs[0]) == {"loss"}
    assert of_schedules(logger.epochs[1:]) == values([0, 1, 1])


@pytest.mark.parametrize("same", [False, True], ids=["only logging", "with the same schedule"])
def test_a_change_of_the_optimizer_s_own_schedule_is_seen(same, probe):
    class Change(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 3:
                change_schedule(self.model, Constant(0.375))

    logger = Logger()
    run = probe(keras.optimizers.SGD(LearningRate(RATE)), 8)
    run.fit(callbacks=[ScheduleCallback(RATE if same else None), logger, Change()])
    logged = [batch["learning_rate"] for batch in logger.batches]
    assert logged == [*RATE(np.arange(4)), *[0.375] * 4]
    np.testing.assert_allclose(run.rates, logged, rtol=1e-6)
    assert logger.epochs[0]["learning_rate"] == 0.375


@pytest.mark.every_backend
@pytest.mark.skipif(BACKEND == "torch", reason="Keras forbids steps_per_execution > 1 on torch")
@every_form
def test_several_steps_per_call_show_the_values_of_the_last(form, probe):
    optimizer, callback = FORMS[form]()
    logger = Logger()
    probe(optimizer, 6, steps_per_execution=4).fit(epochs=2, callbacks=[callback, logger])
    assert of_schedules(logger.batches) == values([3, 5, 9, 11])
    assert of_schedules(logger.epochs) == values([5, 11])


@every_form
def test_validation_changes_no_log(form, probe):
    optimizer, callback = FORMS[form]()
    logger = Logger()
    run = probe(optimizer, 4)
    run.fit(epochs=2, callbacks=[callback, logger], validation_data=(run.x, run.y))
    assert of_schedules(logger.batches) == values(range(8))
    assert of_schedules(logger.epochs) == values([3, 7])
    assert all("val_loss" in epoch for epoch in logger.epochs)


def test_only_what_is_scheduled_is_logged(probe):
    logger = Logger()
    run = probe(keras.optimizers.SGD(0.9, momentum=0.5), 3)
    run.fit(callbacks=[ScheduleCallback(momentum=MOMENTUM), logger])
    assert set(logger.batches[0]) == set(logger.epochs[0]) == {"loss", "momentum"}


def test_momentum_is_called_momentum_whatever_the_optimizer_calls_it(probe):
    logger = Logger()
    run = probe(keras.optimizers.Adam(0.9), 3)
    run.fit(callbacks=[ScheduleCallback(momentum=MOMENTUM), logger])
    assert [batch["momentum"] for batch in logger.batches] == [MOMENTUM(step) for step in range(3)]


def test_without_arguments_and_without_a_learning_rate_nothing_is_logged(probe):
    logger = Logger()
    run = probe(keras.optimizers.SGD(0.25), 3)
    run.fit(callbacks=[ScheduleCallback(), logger])
    assert set(logger.batches[0]) == set(logger.epochs[0]) == {"loss"}
    np.testing.assert_array_equal(run.rates, [0.25, 0.25, 0.25])


@every_form
def test_the_csv_logger_writes_the_values_of_every_epoch(form, probe, tmp_path):
    optimizer, callback = FORMS[form]()
    run = probe(optimizer, 4)
    run.fit(epochs=3, callbacks=[callback, keras.callbacks.CSVLogger(tmp_path / "log.csv")])
    with (tmp_path / "log.csv").open() as file:
        rows = [{name: float(row[name]) for name in NAMED} for row in csv.DictReader(file)]
    assert rows == values([3, 7, 11])


def scalars(folder):
    """By tag, what TensorFlow's own reader finds in event files: value by step."""
    import tensorflow as tf
    from tensorflow.core.util import event_pb2

    found = {}
    for file in sorted(folder.glob("train/*events*")):
        for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
            event = event_pb2.Event.FromString(record)
            for value in event.summary.value:
                if value.tag.startswith(("batch_", "epoch_")):
                    found.setdefault(value.tag, {})[event.step] = float(tf.make_ndarray(value.tensor))
    return found


@pytest.mark.parametrize("update_freq", ["epoch", "batch"])
@every_form
def test_tensorboard_shows_the_values_of_every_epoch_and_batch(form, update_freq, probe, tmp_path):
    """It asks the optimizer for its rate at the end of an epoch, which is by then that of the next update."""
    pytest.importorskip("tensorboard")
    optimizer, callback = FORMS[form]()
    run = probe(optimizer, 4)
    board = keras.callbacks.TensorBoard(tmp_path, update_freq=update_freq, write_graph=False)
    run.fit(epochs=3, callbacks=[callback, board])
    found = scalars(tmp_path)
    for name, schedule in NAMED.items():
        assert found[f"epoch_{name}"] == pytest.approx({0: schedule(3), 1: schedule(7), 2: schedule(11)}, rel=1e-6)
        if update_freq == "batch":
            shown = found[f"batch_{name}"]
            assert sorted(shown) == list(range(min(shown), min(shown) + 12))
            assert [shown[step] for step in sorted(shown)] == pytest.approx([schedule(t) for t in range(12)], rel=1e-6)
        else:
            assert f"batch_{name}" not in found


@every_form
def test_the_optimizer_tells_the_next_rate_between_batches_and_the_last_at_the_end_of_an_epoch(form, probe):
    class Ask(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.batches, self.epochs = [], []

        def ask(self):
            return float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))

        def on_train_batch_begin(self, batch, logs=None):
            self.batches.append(self.ask())

        def on_epoch_end(self, epoch, logs=None):
            self.epochs.append(self.ask())

    optimizer, callback = FORMS[form]()
    ask = Ask()
    probe(optimizer, 4).fit(epochs=3, callbacks=[callback, ask])
    assert ask.batches == pytest.approx([RATE(t) for t in range(12)], rel=1e-6)
    assert ask.epochs == pytest.approx([RATE(t) for t in (3, 7, 11)], rel=1e-6)


@pytest.mark.every_backend
def test_loggers_that_keras_need_not_wait_for_see_the_same(probe, mixed_float16):
    """Keras then calls them from threads of its own, in any order."""

    class Quick(keras.callbacks.Callback):
        async_safe = True

        def __init__(self):
            super().__init__()
            self.batches = []

        def on_train_batch_end(self, batch, logs=None):
            self.batches.append((batch, logs["learning_rate"]))

    for wrapper in (lambda optimizer: optimizer, keras.optimizers.LossScaleOptimizer):
        quick = Quick()
        schedule = Cyclical(0.125, 0.5, 50)
        run = probe(wrapper(keras.optimizers.SGD(0.9)), 60)
        run.fit(callbacks=[ScheduleCallback(schedule), quick])
        assert dict(quick.batches) == {batch: schedule(batch) for batch in range(60)}


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "loss scaling"])
def test_ends_of_batches_may_be_told_in_any_order(scaled, probe):
    """As threads do; here they are told in the wrong order for certain."""
    optimizer = keras.optimizers.SGD(0.9)
    run = probe(keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=4.0) if scaled else optimizer, 5)
    callback = ScheduleCallback(RATE)
    callback.attach(run.model)
    callback.set_params({"steps": 5})
    callback.on_epoch_begin(0)
    for batch in range(5):
        callback.on_train_batch_begin(batch)
        run.model.train_on_batch(run.x[batch : batch + 1], run.y[batch : batch + 1])
    logged = {}
    for batch in (2, 4, 0, 3, 1):
        logs = {}
        callback.on_train_batch_end(batch, logs)
        logged[batch] = logs["learning_rate"]
    callback.detach()
    assert logged == {batch: RATE(batch) for batch in range(5)}


def test_the_progress_bar_shows_the_rate(probe, capsys):
    run = probe(keras.optimizers.SGD(0.9), 4)
    run.fit(callbacks=[ScheduleCallback(Constant(0.375))], verbose=2)
    assert "learning_rate: 0.375" in capsys.readouterr().out


class Keep(keras.callbacks.Callback):
    """Keeps what the optimizer returns as its rate at every hook."""

    def __init__(self):
        super().__init__()
        self.kept = []

    def read(self, *arguments, **named):
        self.kept.append(self.model.optimizer.learning_rate)

    on_train_begin = on_train_end = on_epoch_begin = on_epoch_end = on_train_batch_begin = on_train_batch_end = read
    on_test_begin = on_test_end = read


@pytest.mark.every_backend
@pytest.mark.parametrize("form", ["in graph", "callback"])
def test_the_rate_is_at_every_hook_of_the_kind_that_it_is_without_cyclr(form, probe):
    own = keras.optimizers.schedules.CosineDecay(0.1, 100) if form == "in graph" else 0.1
    kinds = []
    for optimizer, callbacks in ((keras.optimizers.SGD(own, momentum=0.5), []), FORMS[form]()):
        keep, run = Keep(), probe(optimizer, 4)
        callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
        run.fit(epochs=2, callbacks=[*callbacks, keep], validation_data=(run.x, run.y))
        kinds.append([(isinstance(rate, keras.Variable), rate.dtype, tuple(rate.shape)) for rate in keep.kept])
        for rate in keep.kept:
            # Also a variable that was kept until now.
            assert float(rate) == pytest.approx(float(keras.ops.convert_to_numpy(rate)))
            assert float(rate * 2) == pytest.approx(2 * float(rate))
            assert BACKEND != "tensorflow" or float(rate.numpy()) == float(rate)
    assert kinds[0] == kinds[1]


def test_a_rate_that_is_assigned_under_a_schedule_is_an_error(probe):
    assign = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: run.model.optimizer.learning_rate.assign(0.5)
    )
    run = probe(keras.optimizers.SGD(0.9), 4)
    with pytest.raises(ValueError, match="learning_rate is set by a ScheduleCallback, so nothing else can set it"):
        run.fit(callbacks=[ScheduleCallback(RATE), assign])
