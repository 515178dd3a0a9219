"""`LearningRate` and `change_schedule`, as far as tests/keras/test_conformance.py does not cover them."""

import math
import warnings
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

import cyclr
from cyclr import Constant, Cyclical, Halving, OneCycle, PerCycle, PerStep, ScheduleError, Sequence
from cyclr.keras import LearningRate, change_schedule

BACKEND = keras.backend.backend()
LOW, HIGH, UPDATES = 0.125, 0.5, 24
# A rate is computed in float32, in a handful of operations on numbers up to HIGH.
TOLERANCE = 8 * float(np.finfo("float32").eps) * HIGH

SCHEDULE = Cyclical(LOW, HIGH, 3, decay=Halving())


def values(schedule, updates=UPDATES):
    return schedule(np.arange(updates))


compiled_by_xla = pytest.mark.skipif(BACKEND == "torch", reason="torch.compile needs a C++ compiler")
several_per_call = pytest.mark.skipif(BACKEND == "torch", reason="Keras forbids steps_per_execution > 1 on torch")


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=compiled_by_xla)])
def test_data_of_unknown_length_does_not_move_the_clock(jit_compile, probe, request):
    if BACKEND == "tensorflow" and not jit_compile:
        # TensorFlow runs what needs no data before it finds that there is none: the counter of updates moves on.
        request.applymarker(pytest.mark.xfail(reason="Keras counts an update too many per epoch", strict=True))
    tf = pytest.importorskip("tensorflow")
    run = probe(keras.optimizers.SGD(LearningRate(SCHEDULE)), 5, jit_compile=jit_compile)
    data = tf.data.Dataset.from_tensor_slices((run.x, run.y)).batch(1).filter(lambda x, y: True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Your input ran out of data")
        run.model.fit(data, epochs=2, shuffle=False, verbose=0)
    np.testing.assert_allclose(run.rates, values(SCHEDULE, 10).reshape(2, 5).sum(axis=0), rtol=0, atol=2 * TOLERANCE)


def test_one_learning_rate_serves_optimizers_that_accumulate_differently(probe):
    shared = LearningRate(SCHEDULE)
    runs = [
        probe(keras.optimizers.SGD(shared, gradient_accumulation_steps=k if k > 1 else None), 9, micro_batches=k)
        for k in (3, 1, 2)
    ]
    for part in (0.5, 1):
        for run in runs:
            done = int(ops.convert_to_numpy(run.model.optimizer._iterations))
            run.fit(slice(done, round(part * len(run.x))))
    for run in runs:
        np.testing.assert_allclose(run.rates, values(SCHEDULE, 9), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("micro_batches", [1, 4])
def test_the_optimizer_tells_the_rate_of_the_update_at_hand(micro_batches, probe):
    optimizer = keras.optimizers.SGD(
        LearningRate(SCHEDULE), gradient_accumulation_steps=micro_batches if micro_batches > 1 else None
    )
    run = probe(optimizer, UPDATES, micro_batches=micro_batches)
    for batch in range(3 * micro_batches + 1):
        told = float(ops.convert_to_numpy(optimizer.learning_rate))
        assert told == pytest.approx(SCHEDULE(batch // micro_batches), abs=TOLERANCE)
        run.fit(slice(batch, batch + 1))


@pytest.mark.parametrize("step", [2**31 - 1, 2**30 + 7])
def test_the_last_steps_that_a_counter_can_hold_are_exact(step):
    schedule = Cyclical(LOW, HIGH, 4)
    got = LearningRate(schedule)(ops.convert_to_tensor(step, "int32"))
    assert float(ops.convert_to_numpy(got)) == pytest.approx(schedule(step), abs=TOLERANCE)


@pytest.mark.any_backend
@pytest.mark.parametrize("step", [2.5, 2.0, np.float64(2.5), np.float32(2.5), np.array([0.5])], ids=repr)
def test_a_fractional_step_is_refused(step):
    for asked in (step, ops.convert_to_tensor(step)):
        with pytest.raises(TypeError, match="step must be an integer"):
            LearningRate(SCHEDULE)(asked)


@pytest.mark.any_backend
@pytest.mark.parametrize("micro_batches", [1, 3])
@pytest.mark.parametrize("cut", [1, 7, 11])
def test_a_saved_model_goes_on_where_it_was(cut, micro_batches, probe, tmp_path):
    accumulate = micro_batches if micro_batches > 1 else None
    run = probe(
        keras.optimizers.SGD(LearningRate(SCHEDULE), gradient_accumulation_steps=accumulate),
        UPDATES,
        micro_batches=micro_batches,
    )
    run.fit(slice(0, cut * micro_batches))
    run.model.save(tmp_path / "model.keras")
    loss = {"mean_prediction": run.model.loss}
    run.model = keras.saving.load_model(tmp_path / "model.keras", custom_objects=loss)
    run.fit(slice(cut * micro_batches, None))
    np.testing.assert_allclose(run.rates, values(SCHEDULE), rtol=0, atol=TOLERANCE)


@pytest.mark.any_backend
@pytest.mark.parametrize("decay", [PerCycle(lambda cycle: 1 / (1 + cycle)), PerStep(lambda step: 1 / (1 + step))])
def test_a_function_cannot_be_saved_and_says_so(decay, probe, tmp_path):
    rate = LearningRate(Cyclical(LOW, HIGH, 3, decay=decay))
    with pytest.raises(ScheduleError, match=r"holds a Python function.*create the schedule again in code"):
        rate.get_config()
    model = probe(keras.optimizers.SGD(rate)).model
    with pytest.raises(ScheduleError, match="holds a Python function"):
        model.save(tmp_path / "model.keras")


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "schedule",
    [0.1, None, "triangular", lambda step: 0.1, keras.optimizers.schedules.CosineDecay(0.1, 10), Cyclical],
    ids=lambda schedule: getattr(schedule, "__name__", type(schedule).__name__),
)
def test_anything_but_a_schedule_is_rejected(schedule):
    with pytest.raises(TypeError, match=r"schedule must be a cyclr schedule; got schedule=.*Try cyclr\.Constant"):
        LearningRate(schedule)


@pytest.mark.any_backend
def test_repr_names_the_schedule():
    assert repr(LearningRate(Cyclical(0.1, 0.5, 3))) == f"LearningRate({Cyclical(0.1, 0.5, 3)!r})"
    assert repr(LearningRate(Constant(0.1), start_step=7)) == "LearningRate(Constant(value=0.1), start_step=7)"


@pytest.mark.parametrize("micro_batches", [1, 3])
def test_the_first_update_takes_the_start_step(micro_batches, probe):
    accumulate = micro_batches if micro_batches > 1 else None
    rate = LearningRate(SCHEDULE, start_step=5)
    assert [rate(t) for t in range(4)] == [SCHEDULE(t) for t in range(5, 9)]
    run = probe(keras.optimizers.SGD(rate, gradient_accumulation_steps=accumulate), 9, micro_batches=micro_batches)
    run.fit()
    np.testing.assert_allclose(run.rates, SCHEDULE(np.arange(5, 14)), rtol=0, atol=TOLERANCE)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("wrong", "error"), [(-1, ValueError), (0.5, TypeError), ("3", TypeError), (None, TypeError), (True, TypeError)]
)
def test_a_start_step_that_is_no_step_is_rejected(wrong, error):
    with pytest.raises(error, match="start_step must be an integer"):
        LearningRate(SCHEDULE, start_step=wrong)


@pytest.mark.any_backend
def test_a_config_without_start_step_begins_at_0():
    again = LearningRate.from_config({"schedule": SCHEDULE.to_dict()})
    assert (again.schedule, again.start_step) == (SCHEDULE, 0)


class Change(keras.callbacks.Callback):
    """Changes the schedule after some batch, or some epoch."""

    def __init__(self, schedule, *, after_batch=None, after_epoch=None):
        super().__init__()
        self.schedule, self.after_batch, self.after_epoch = schedule, after_batch, after_epoch

    def on_train_batch_end(self, batch, logs=None):
        if batch == self.after_batch:
            change_schedule(self.model, self.schedule)

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.after_epoch:
            change_schedule(self.model, self.schedule)


SHORT, LONG = OneCycle(LOW, HIGH, 12), OneCycle(LOW, HIGH, 20, shape="triangular")


def changed(at, updates=16):
    return np.concatenate([SHORT(np.arange(at)), LONG(np.arange(at, updates))])


@pytest.mark.any_backend
@pytest.mark.parametrize("form", ["plain", "accumulation", "loss scaling"])
def test_a_schedule_changed_between_fits_holds_from_the_next_update_on(form, probe):
    micro_batches = 2 if form == "accumulation" else 1
    optimizer = keras.optimizers.SGD(
        LearningRate(SHORT), gradient_accumulation_steps=2 if form == "accumulation" else None
    )
    optimizer = keras.optimizers.LossScaleOptimizer(optimizer) if form == "loss scaling" else optimizer
    run = probe(optimizer, 16, micro_batches=micro_batches)
    run.fit(slice(0, 7 * micro_batches))
    change_schedule(run.model, LONG)
    run.fit(slice(7 * micro_batches, None))
    np.testing.assert_allclose(run.rates, changed(7), rtol=0, atol=TOLERANCE)


def test_a_schedule_changed_before_the_first_fit_holds_from_update_0_on(probe):
    run = probe(keras.optimizers.SGD(LearningRate(SHORT)), 5)
    change_schedule(run.model, LONG)
    run.fit()
    np.testing.assert_allclose(run.rates, LONG(np.arange(5)), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    "compile_arguments",
    [{}, {"run_eagerly": True}, pytest.param({"jit_compile": True}, marks=compiled_by_xla)],
    ids=["default", "run_eagerly", "jit_compile"],
)
def test_a_schedule_changed_at_the_end_of_a_batch_holds_from_the_next_update_on(compile_arguments, probe):
    run = probe(keras.optimizers.SGD(LearningRate(SHORT)), 8, **compile_arguments)
    run.fit(callbacks=[Change(LONG, after_batch=3)])
    np.testing.assert_allclose(run.rates, changed(4, 8), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("steps_per_execution", [1, pytest.param(2, marks=several_per_call)])
def test_a_schedule_changed_at_the_end_of_an_epoch_holds_from_the_next_update_on(steps_per_execution, probe):
    run = probe(keras.optimizers.SGD(LearningRate(SHORT)), 4, steps_per_execution=steps_per_execution)
    run.fit(epochs=3, callbacks=[Change(LONG, after_epoch=1)])
    wanted = changed(8, 12).reshape(3, 4).sum(axis=0)
    np.testing.assert_allclose(run.rates, wanted, rtol=0, atol=3 * TOLERANCE)


@pytest.mark.any_backend
def test_a_changed_schedule_goes_on_from_the_start_step(probe):
    run = probe(keras.optimizers.SGD(LearningRate(SHORT, start_step=4)), 8)
    run.fit(slice(0, 3))
    change_schedule(run.model, LONG)
    run.fit(slice(3, None))
    np.testing.assert_allclose(run.rates, changed(7, 12)[4:], rtol=0, atol=TOLERANCE)


@pytest.mark.any_backend
def test_a_sequence_lets_a_new_schedule_begin_at_its_own_step_0(probe):
    run = probe(keras.optimizers.SGD(LearningRate(SHORT)), 12)
    run.fit(slice(0, 7))
    change_schedule(run.model, Sequence([SHORT, LONG], lengths=[7]))
    run.fit(slice(7, None))
    wanted = np.concatenate([SHORT(np.arange(7)), LONG(np.arange(5))])
    np.testing.assert_allclose(run.rates, wanted, rtol=0, atol=TOLERANCE)


@pytest.mark.any_backend
def test_a_changed_schedule_is_what_is_saved(probe):
    run = probe(keras.optimizers.SGD(LearningRate(SHORT)))
    run.fit(slice(0, 2))
    change_schedule(run.model, LONG)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(run.model.optimizer))
    assert again._learning_rate.schedule == LONG


@pytest.mark.any_backend
def test_only_a_learning_rate_can_be_changed(linear_model):
    with pytest.raises(ValueError, match=r"compiled with a cyclr\.keras\.LearningRate.*ScheduleCallback.*change\(\)"):
        change_schedule(linear_model("sgd"), LONG)
    with pytest.raises(ValueError, match=r"compiled with a cyclr\.keras\.LearningRate; got an optimizer with None"):
        change_schedule(keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]), LONG)
    model = linear_model(keras.optimizers.SGD(LearningRate(SHORT)))
    with pytest.raises(TypeError, match=r"schedule must be a cyclr schedule"):
        change_schedule(model, 0.1)
    assert model.optimizer._learning_rate.schedule == SHORT


@pytest.mark.any_backend
@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop", "Lion"])
def test_every_optimizer_takes_it(name):
    optimizer = getattr(keras.optimizers, name)(LearningRate(SCHEDULE))
    again = type(optimizer).from_config(optimizer.get_config())
    assert isinstance(cyclr.Schedule.from_dict(again.get_config()["learning_rate"]["config"]["schedule"]), Cyclical)
    assert float(ops.convert_to_numpy(again.learning_rate)) == pytest.approx(SCHEDULE(0), abs=TOLERANCE)


@pytest.mark.any_backend
@pytest.mark.every_backend
@pytest.mark.parametrize("step", [5, np.int64(5), "tensor", "int32"])
def test_a_call_gives_a_tensor_as_keras_own_schedules_do(step):
    step = ops.convert_to_tensor(5, step if step == "int32" else None) if isinstance(step, str) else step
    expected, found = keras.optimizers.schedules.CosineDecay(0.05, 100)(step), LearningRate(SCHEDULE)(step)
    assert type(found) is type(expected)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert float(found) == pytest.approx(SCHEDULE(5), abs=TOLERANCE)


@pytest.mark.any_backend
def test_the_error_of_keras_for_an_unknown_class_says_what_to_import(monkeypatch, linear_model, tmp_path):
    model = linear_model(keras.optimizers.Adam(LearningRate(SCHEDULE)))
    model.save(tmp_path / "model.keras")
    monkeypatch.delitem(keras.saving.get_custom_objects(), "cyclr>LearningRate")
    with pytest.raises(TypeError, match=r"import cyclr\.keras before keras\.saving\.load_model"):
        keras.saving.load_model(tmp_path / "model.keras")
    keras.saving.load_model(tmp_path / "model.keras", compile=False)


UNTRACEABLE = {
    "if": lambda n: 1.0 if n < 2 else 0.25,
    "min": lambda n: min(1.0, 1.5 / (n + 1)),
    "math": lambda n: math.exp(-n),
    "NumPy": lambda n: np.exp(-n),
    "list": lambda n: [1.0, 0.5, 0.25][n] if n < 3 else 0.1,
    "dict": lambda n: {0: 1.0, 1: 0.5}.get(n, 0.1),
}


@dataclass(frozen=True, repr=False)
class OfOnesOwn(cyclr.Schedule):
    fn: Any
    in_json = False

    def evaluate(self, xp, step):
        return self.fn(step)


USERS = {
    "PerCycle": lambda fn: Cyclical(0.01, 0.05, 2, decay=PerCycle(fn)),
    "PerStep": lambda fn: Cyclical(0.01, 0.05, 2, decay=PerStep(fn)),
    "Function": lambda fn: 0.1 * cyclr.Function(fn),
    "OfOnesOwn": lambda fn: cyclr.Clock(OfOnesOwn(fn), every=2),
}


@pytest.mark.parametrize("name", USERS)
@pytest.mark.parametrize("fn", UNTRACEABLE)
def test_a_function_that_no_graph_can_compute_works_or_is_named(name, fn, probe):
    """On torch every step is run by Python; TensorFlow and JAX compile it."""
    schedule = USERS[name](UNTRACEABLE[fn])
    run = probe(keras.optimizers.SGD(LearningRate(schedule)), 8)
    if BACKEND == "torch":
        run.fit()
        np.testing.assert_allclose(run.rates, [schedule(t) for t in range(8)], rtol=1e-6)
    else:
        with pytest.raises(ScheduleError, match=rf"your code in {name} cannot be computed for a tensor.*wh"):
            run.fit()


@pytest.mark.parametrize("name", ["PerCycle", "PerStep", "Function"])
def test_a_function_of_keras_operations_is_computed_in_the_graph(name, probe):
    schedule = USERS[name](lambda n: ops.where(ops.convert_to_tensor(n, "float32") < 2, 1.0, 0.25))
    run = probe(keras.optimizers.SGD(LearningRate(schedule)), 8)
    run.fit()
    np.testing.assert_allclose(run.rates, [schedule(t) for t in range(8)], rtol=1e-6)
