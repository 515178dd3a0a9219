"""A run that was split anywhere, in whatever way Keras offers, equals the unsplit run: its rates, and its weights."""

import functools
import importlib.util
import json
import random
from pathlib import Path

import keras
import numpy as np
import pytest
from keras.callbacks import BackupAndRestore, ModelCheckpoint

import cyclr
from cyclr import Cyclical, Exponential, Halving
from cyclr.keras import CycleEnd, LearningRate, ScheduleCallback, change_schedule

BACKEND = keras.backend.backend()
LOW, HIGH, SAMPLES = 0.125, 0.5, 8
# A rate is computed in float32, in a handful of operations on numbers up to HIGH.
TOLERANCE = 8 * float(np.finfo("float32").eps) * HIGH
# No epoch of 8 updates ends with a cycle of 10.
SCHEDULE = Cyclical(LOW, HIGH, 5, decay=Exponential(0.95))
CYCLING = SCHEDULE.mirrored(0.5, 0.75)


class Split(Exception):  # noqa: N818
    """Ends a run in the middle of it."""


class SplitAt(keras.callbacks.Callback):
    """Raises when a batch of an epoch begins."""

    def __init__(self, epoch, batch):
        super().__init__()
        self.at, self.epoch = (epoch, batch), 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            raise Split


class Graph:
    """The schedule in the compiled step."""

    def __init__(self, schedule=SCHEDULE, *, start_step=None, momentum=None):
        self.rate = LearningRate(schedule, start_step or 0)
        self.callbacks = []

    def attach(self, model):
        pass

    def go_on_by(self, model, schedule):
        change_schedule(model, schedule)


class Callback:
    """The schedule, and one of the momentum if the optimizer has a momentum, as a callback."""

    def __init__(self, schedule=SCHEDULE, *, start_step=None, momentum=None):
        self.rate = 0.5
        self.callbacks = [ScheduleCallback(schedule, momentum=momentum, start_step=start_step)]

    def attach(self, model):
        self.callbacks[0].attach(model)

    def go_on_by(self, model, schedule):
        self.callbacks = [ScheduleCallback(schedule)]


FORMS = pytest.mark.parametrize("form", [Graph, Callback])
# Where our callback stands among others; the graph has none.
ORDERS = pytest.mark.parametrize(
    ("form", "first"),
    [(Graph, True), (Callback, True), (Callback, False)],
    ids=["graph", "callback before others", "callback after others"],
)
several_per_call = pytest.mark.skipif(BACKEND == "torch", reason="Keras forbids steps_per_execution > 1 on torch")
SERIALIZABLE = [
    SCHEDULE,
    CYCLING,
    Cyclical.over(24, 5, LOW, HIGH, shape="parabolic", decay=Halving()),
    cyclr.OneCycle(LOW, HIGH, 24, rise=0.4, fall=5),
    cyclr.WarmRestarts(LOW, HIGH, 5, growth=1.5, decay=Exponential(0.9, per="cycle")),
    cyclr.Warmup(cyclr.WarmRestarts(LOW, HIGH, 6), 4),
    cyclr.Sequence([cyclr.Constant(LOW), cyclr.OneCycle(LOW, HIGH, 6), SCHEDULE], [3, 6]),
    cyclr.Constant(HIGH),
]
# XLA takes a second for every model.
QUICKLY = {"jit_compile": False} if BACKEND == "tensorflow" else {}


def started(probe, form, momentum=0.5, *, start_step=None, **compile_arguments):
    """A new model, and the form that it is trained with."""
    used = form(momentum=CYCLING if momentum else None, start_step=start_step)
    micro_batches = compile_arguments.pop("micro_batches", None)
    optimizer = keras.optimizers.SGD(used.rate, momentum=momentum, gradient_accumulation_steps=micro_batches)
    return probe(optimizer, SAMPLES, **{**QUICKLY, **compile_arguments}), used


def all_of(model):
    """Weights, and the optimizer's momentum and counter: all but the rate that a plain optimizer was made with."""
    optimizer = [v for v in model.optimizer.variables if "learning_rate" not in v.path]
    return [np.array(keras.ops.convert_to_numpy(v)) for v in [*model.weights, *optimizer]]


@functools.cache
def unsplit(probe, form, visited, momentum=0.5, **arguments):
    """What one run over these samples makes of a model; without momentum that tells the rates, which are checked."""
    run, used = started(probe, form, momentum, **arguments)
    run.x, run.y = run.x[list(visited)], run.y[list(visited)]
    run.fit(callbacks=used.callbacks)
    if momentum == 0:
        expected = np.zeros(SAMPLES)
        np.add.at(expected, list(visited), SCHEDULE(np.arange(len(visited))))
        np.testing.assert_allclose(run.rates, expected, rtol=0, atol=TOLERANCE * len(visited) / SAMPLES)
    return all_of(run.model)


def require_as_unsplit(run, visited, *arguments, **keywords):
    """Whether update t visited sample visited[t] with rate and momentum of step t, to the last bit."""
    expected = unsplit(type(run), *arguments[:1], tuple(visited), *arguments[1:], **keywords)
    for restored, value in zip(all_of(run.model), expected, strict=True):
        np.testing.assert_array_equal(restored, value)


EPOCH = list(range(SAMPLES))


class Logs(keras.callbacks.Callback):
    """Keeps the rate of every batch."""

    def __init__(self):
        super().__init__()
        self.rates = []

    def on_train_batch_end(self, batch, logs=None):
        self.rates.append(logs["learning_rate"])


def load(run, path):
    """Let a run go on with the model in a file."""
    run.model = keras.saving.load_model(path, custom_objects={"mean_prediction": run.model.loss})


def in_order(used, others, first):
    return [*used.callbacks, *others] if first else [*others, *used.callbacks]


@ORDERS
def test_an_exception_in_mid_epoch_is_mended_by_a_backup_of_every_epoch(form, first, probe, tmp_path):
    run, used = started(probe, form)
    backup = BackupAndRestore(tmp_path, double_checkpoint=True)
    with pytest.raises(Split):
        run.fit(epochs=3, callbacks=[*in_order(used, [backup], first), SplitAt(1, 5)])
    run, used = started(probe, form)
    run.fit(epochs=3, callbacks=in_order(used, [BackupAndRestore(tmp_path)], first))
    require_as_unsplit(run, EPOCH * 3, form)


@FORMS
def test_after_an_exception_the_same_model_goes_on_from_its_backup(form, probe, tmp_path):
    run, used = started(probe, form)
    callbacks = [*used.callbacks, BackupAndRestore(tmp_path)]
    with pytest.raises(Split):
        run.fit(epochs=3, callbacks=[*callbacks, SplitAt(1, 5)])
    run.fit(epochs=3, callbacks=callbacks)
    require_as_unsplit(run, EPOCH * 3, form)


@ORDERS
def test_after_a_backup_in_mid_epoch_the_epoch_begins_again_and_the_rate_goes_on(form, first, probe, tmp_path):
    run, used = started(probe, form, momentum=0.0)
    backup = BackupAndRestore(tmp_path, save_freq=3)
    with pytest.raises(Split):
        run.fit(epochs=3, callbacks=[*in_order(used, [backup], first), SplitAt(1, 5)])
    run, used = started(probe, form, momentum=0.0)
    logs = Logs()
    callbacks = in_order(used, [BackupAndRestore(tmp_path, save_freq=3)], first)
    run.fit(epochs=3, callbacks=[*callbacks, *([ScheduleCallback()] if form is Graph else []), logs])
    require_as_unsplit(run, EPOCH + EPOCH[:4] + EPOCH * 2, form, momentum=0.0)
    assert logs.rates == [SCHEDULE(update) for update in range(12, 28)]


@several_per_call
@FORMS
def test_backups_between_calls_of_several_steps(form, probe, tmp_path):
    run, used = started(probe, form, steps_per_execution=2)
    with pytest.raises(Split):
        run.fit(epochs=3, callbacks=[*used.callbacks, BackupAndRestore(tmp_path, save_freq=2), SplitAt(1, 4)])
    run, used = started(probe, form, steps_per_execution=2)
    run.fit(epochs=3, callbacks=[*used.callbacks, BackupAndRestore(tmp_path)])
    require_as_unsplit(run, EPOCH + EPOCH[:4] + EPOCH * 2, form)


@FORMS
def test_a_backup_amid_the_micro_batches_of_an_update(form, probe, tmp_path):
    run, used = started(probe, form, micro_batches=3)
    with pytest.raises(Split):
        run.fit(epochs=3, callbacks=[*used.callbacks, BackupAndRestore(tmp_path, save_freq=5), SplitAt(1, 4)])
    run, used = started(probe, form, micro_batches=3)
    run.fit(epochs=3, callbacks=[*used.callbacks, BackupAndRestore(tmp_path)])
    require_as_unsplit(run, EPOCH + EPOCH[:2] + EPOCH * 2, form, micro_batches=3)


@FORMS
def test_a_backup_of_training_with_loss_scaling(form, probe, tmp_path, mixed_float16):
    run, used = started(probe, form)
    with pytest.raises(Split):
        run.fit(epochs=2, callbacks=[*used.callbacks, BackupAndRestore(tmp_path), SplitAt(1, 5)])
    run, used = started(probe, form)
    run.fit(epochs=2, callbacks=[*used.callbacks, BackupAndRestore(tmp_path)])
    unsplit, used = started(probe, form)
    unsplit.fit(epochs=2, callbacks=used.callbacks)
    for restored, value in zip(all_of(run.model), all_of(unsplit.model), strict=True):
        np.testing.assert_array_equal(restored, value)


@ORDERS
def test_start_step_holds_for_the_run_that_a_backup_belongs_to(form, first, probe, tmp_path):
    run, used = started(probe, form, start_step=7)
    with pytest.raises(Split):
        run.fit(epochs=3, callbacks=[*in_order(used, [BackupAndRestore(tmp_path)], first), SplitAt(1, 5)])
    run, used = started(probe, form, start_step=7)
    run.fit(epochs=3, callbacks=in_order(used, [BackupAndRestore(tmp_path)], first))
    require_as_unsplit(run, EPOCH * 3, form, start_step=7)


@pytest.mark.parametrize("first", [True, False])
def test_a_callback_with_start_step_goes_on_after_a_backup_was_restored_to_the_same_model(first, probe, tmp_path):
    run, used = started(probe, Callback, start_step=7)
    with pytest.raises(Split):
        run.fit(epochs=3, callbacks=[*in_order(used, [BackupAndRestore(tmp_path)], first), SplitAt(1, 5)])
    again = Callback(momentum=CYCLING, start_step=7)
    with pytest.raises(
        ValueError, match=r"start_step=7 was given for an optimizer with 13 updates; got an optimizer with 8 updates"
    ):
        run.fit(epochs=3, callbacks=in_order(again, [BackupAndRestore(tmp_path, delete_checkpoint=False)], first))
    run.fit(epochs=3, callbacks=in_order(used, [BackupAndRestore(tmp_path)], first))
    require_as_unsplit(run, EPOCH * 3, Callback, start_step=7)


@FORMS
def test_a_model_checkpoint_is_loaded_and_goes_on(form, probe, tmp_path):
    run, used = started(probe, form)
    with pytest.raises(Split):
        run.fit(epochs=3, callbacks=[*used.callbacks, ModelCheckpoint(tmp_path / "{epoch}.keras"), SplitAt(2, 3)])
    load(run, tmp_path / "2.keras")
    used = form(momentum=CYCLING)
    run.fit(initial_epoch=2, epochs=3, callbacks=used.callbacks)
    require_as_unsplit(run, EPOCH * 3, form)


@FORMS
def test_a_model_saved_in_mid_epoch_is_loaded_and_goes_on(form, probe, tmp_path):
    run, used = started(probe, form)
    run.fit(slice(0, 3), callbacks=[*used.callbacks, ModelCheckpoint(tmp_path / "model.keras", save_freq=3)])
    load(run, tmp_path / "model.keras")
    used = form(momentum=CYCLING)
    run.fit(slice(3, None), callbacks=used.callbacks)
    require_as_unsplit(run, EPOCH, form)


@FORMS
def test_adam_saved_by_hand_is_loaded_and_goes_on(form, probe, tmp_path):
    def new():
        used = form()
        return probe(keras.optimizers.Adam(used.rate), SAMPLES, **QUICKLY), used

    run, used = new()
    run.fit(slice(0, 3), callbacks=used.callbacks)
    run.model.save(tmp_path / "model.keras")
    load(run, tmp_path / "model.keras")
    run.fit(slice(3, None), callbacks=form().callbacks)
    unsplit, used = new()
    unsplit.fit(callbacks=used.callbacks)
    for restored, value in zip(all_of(run.model), all_of(unsplit.model), strict=True):
        np.testing.assert_array_equal(restored, value)


def saved_weights(probe, form, momentum, path):
    """Train for two epochs and a bit, and keep the weights of both."""
    run, used = started(probe, form, momentum)
    checkpoint = ModelCheckpoint(path / "{epoch}.weights.h5", save_weights_only=True)
    with pytest.raises(Split):
        run.fit(epochs=3, callbacks=[*used.callbacks, checkpoint, SplitAt(2, 3)])
    return path / "2.weights.h5"


@FORMS
def test_weights_alone_bring_the_counter_to_an_optimizer_that_is_built(form, probe, tmp_path):
    path = saved_weights(probe, form, 0.5, tmp_path)
    run, used = started(probe, form)
    run.model.optimizer.build(run.model.trainable_variables)
    run.model.load_weights(path)
    run.fit(initial_epoch=2, epochs=3, callbacks=used.callbacks)
    require_as_unsplit(run, EPOCH * 3, form)


@FORMS
def test_weights_alone_bring_no_counter_to_an_optimizer_not_yet_built_and_start_step_gives_it(form, probe, tmp_path):
    path = saved_weights(probe, form, 0.5, tmp_path)
    used = form(start_step=16)
    run = probe(keras.optimizers.SGD(used.rate, momentum=0.5), SAMPLES, **QUICKLY)
    with pytest.warns(UserWarning, match="Skipping variable loading for optimizer"):
        run.model.load_weights(path)
    assert int(run.model.optimizer.iterations) == 0
    before = run.rates
    run.fit(initial_epoch=2, epochs=3, callbacks=used.callbacks)
    # Update t moves weight t by its rate at first, then by half as much in every later update.
    used_rates = (run.rates - before) / (2 - 0.5 ** np.arange(SAMPLES - 1, -1, -1))
    np.testing.assert_allclose(used_rates, SCHEDULE(np.arange(16, 24)), rtol=0, atol=4 * TOLERANCE)


@FORMS
def test_weights_alone_loaded_before_compiling_bring_no_counter_and_start_step_gives_it(form, probe, tmp_path):
    path = saved_weights(probe, form, 0.0, tmp_path)
    run, used = started(probe, form, 0.0, start_step=16)
    model = keras.Sequential([keras.Input((SAMPLES,)), keras.layers.Dense(1, use_bias=False)])
    model.load_weights(path)
    model.compile(run.model.optimizer, run.model.loss, **QUICKLY)
    run.model = model
    run.fit(initial_epoch=2, epochs=3, callbacks=used.callbacks)
    np.testing.assert_array_equal(run.model.get_weights(), unsplit(probe, form, tuple(EPOCH * 3), 0.0)[:1])


CHANGES = {
    "longer": (cyclr.OneCycle(LOW, HIGH, 8), cyclr.OneCycle(LOW, HIGH, 12)),
    "other bounds and step size": (Cyclical(LOW, HIGH, 2), Cyclical(LOW / 2, HIGH / 2, 7)),
    "from its own step 0": (
        Cyclical(LOW, HIGH, 4),
        cyclr.Sequence([Cyclical(LOW, HIGH, 4), cyclr.OneCycle(LOW, HIGH, 6)], [3]),
    ),
}


@pytest.mark.any_backend
@FORMS
@pytest.mark.parametrize(("before", "after"), CHANGES.values(), ids=CHANGES)
def test_a_loaded_run_goes_on_by_another_schedule(form, before, after, probe, tmp_path):
    used = form(before)
    run = probe(keras.optimizers.SGD(used.rate), SAMPLES, **QUICKLY)
    run.fit(slice(0, 3), callbacks=used.callbacks)
    run.model.save(tmp_path / "model.keras")
    load(run, tmp_path / "model.keras")
    used.go_on_by(run.model, after)
    run.fit(slice(3, None), callbacks=used.callbacks)
    expected = [before(step) for step in range(3)] + [after(step) for step in range(3, SAMPLES)]
    np.testing.assert_allclose(run.rates, expected, rtol=0, atol=TOLERANCE)


def test_a_changed_schedule_is_what_is_saved_next(probe, tmp_path):
    run, _ = started(probe, Graph)
    run.fit(slice(0, 3))
    change_schedule(run.model, cyclr.OneCycle(LOW, HIGH, 12))
    run.model.save(tmp_path / "model.keras")
    load(run, tmp_path / "model.keras")
    assert run.model.optimizer._learning_rate.schedule == cyclr.OneCycle(LOW, HIGH, 12)


@pytest.mark.any_backend
@pytest.mark.parametrize("schedule", SERIALIZABLE, ids=lambda schedule: type(schedule).__name__)
def test_descriptions_of_optimizer_and_model_give_an_equal_schedule(schedule, probe):
    model = probe(keras.optimizers.SGD(LearningRate(schedule, 7), momentum=0.5), SAMPLES).model
    description = json.loads(json.dumps(keras.saving.serialize_keras_object(model.optimizer)))
    optimizers = [keras.saving.deserialize_keras_object(description)]
    loss = {"mean_prediction": model.loss}
    description = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))
    optimizers.append(keras.saving.deserialize_keras_object(description, custom_objects=loss).optimizer)
    for again in optimizers:
        assert (again._learning_rate.schedule, again._learning_rate.start_step) == (schedule, 7)
        assert again.get_config() == model.optimizer.get_config()


def test_the_description_of_an_optimizer_in_the_middle_of_training_is_that_of_the_plain_one(probe):
    run, used = started(probe, Callback)
    plain = keras.saving.serialize_keras_object(run.model.optimizer)
    during = []
    describe = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: during.append(keras.saving.serialize_keras_object(run.model.optimizer))
    )
    run.fit(callbacks=[*used.callbacks, describe])
    assert during == [plain]


def test_after_an_exception_detach_makes_the_optimizer_a_plain_one(probe):
    run, used = started(probe, Callback)
    optimizer = run.model.optimizer
    plain = type(optimizer)
    with pytest.raises(Split):
        run.fit(callbacks=[*used.callbacks, SplitAt(0, 5)])
    used.callbacks[0].detach()
    assert (type(optimizer), optimizer.momentum) == (plain, 0.5)
    assert float(optimizer.learning_rate) == pytest.approx(SCHEDULE(4))
    run.fit()
    assert float(optimizer.learning_rate) == pytest.approx(SCHEDULE(4))


def test_an_optimizer_registered_under_a_name_is_saved_under_it_in_the_middle_of_training(probe, tmp_path):
    @keras.saving.register_keras_serializable(package="cyclr_tests", name="Named")
    class Own(keras.optimizers.SGD):
        pass

    run = probe(Own(0.5), SAMPLES, **QUICKLY)
    run.fit(callbacks=[ScheduleCallback(SCHEDULE), ModelCheckpoint(tmp_path / "model.keras")])
    load(run, tmp_path / "model.keras")
    assert type(run.model.optimizer) is Own


def test_cycle_ends_are_counted_from_the_start_step_of_the_callback(probe):
    run, used = started(probe, Callback, start_step=16)
    ends = []
    run.fit(callbacks=[CycleEnd(lambda model, step: ends.append(step), SCHEDULE), *used.callbacks])
    assert ends == [20]


def test_a_killed_process_goes_on_where_its_last_backup_was(tmp_path):
    """One form on every backend, as starting a process takes long: benchmarks/keras_resume.py kills both many times."""
    form = "callback" if BACKEND == "jax" else "graph"
    spec = importlib.util.spec_from_file_location("resumable", Path(__file__).with_name("resumable.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    run, whole = (module.Run(tmp_path / name, form, "epoch", epochs=15) for name in ("killed", "whole"))
    module.train(form, whole.directory, "epoch", epochs=15)
    expected = dict(whole.updates())
    assert len(expected) == 15 * module.BATCHES
    np.testing.assert_allclose(list(expected.values()), module.SCHEDULE(np.array(list(expected))), atol=1e-7)

    # Not while a backup is written: if a kill parts its two files, Keras trains an epoch too many.
    run.kill_itself_after(random.randint(2, 12) * module.BATCHES + random.randint(2, 6))
    if BACKEND == "torch":
        run.finish()
    else:  # Another start would take longer than the rest of this test.
        module.train(form, run.directory, "epoch", epochs=15)
    assert all(rate == expected[update] for update, rate in run.updates())
    assert {update for update, _ in run.updates()} == set(expected)
    for restored, value in zip(run.weights(), whole.weights(), strict=True):
        np.testing.assert_array_equal(restored, value)
