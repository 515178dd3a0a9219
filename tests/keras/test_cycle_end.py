"""`CycleEnd`: called right after the update at every minimum, with the weights that it made and no later ones."""

import keras
import numpy as np
import pytest

from cyclr import Bounds, Constant, Cyclical, OneCycle, Sequence, WarmRestarts, Warmup
from cyclr.keras import CycleEnd, LearningRate, ScheduleCallback, change_schedule

pytestmark = pytest.mark.any_backend

BACKEND = keras.backend.backend()
LOW, HIGH, UPDATES = 0.125, 0.5, 16
TOLERANCE = 8 * float(np.finfo("float32").eps) * HIGH
# With the steps of their minima, from their definitions.
SCHEDULES = {
    "Cyclical": (Cyclical(LOW, HIGH, 2), [4, 8, 12]),
    "cycles of uneven length": (Cyclical.over(16, 2, LOW, HIGH), [7, 15]),
    "shortest": (Cyclical(LOW, HIGH, 1), [2, 4, 6, 8, 10, 12, 14]),
    "WarmRestarts": (WarmRestarts(LOW, HIGH, 5), [4, 9, 14]),
    "growing restarts": (WarmRestarts(LOW, HIGH, 2, growth=2), [1, 5, 13]),
    "OneCycle": (OneCycle(LOW, HIGH, 12), [11]),
    "Sequence": (Sequence([OneCycle(LOW, HIGH, 6), WarmRestarts(LOW, HIGH, 4)], [6]), [5, 9, 13]),
    "warm-up": (Warmup(WarmRestarts(LOW, HIGH, 4), 3), [6, 10, 14]),
    "none": (Constant(LOW), []),
}
SCHEDULE, ENDS = SCHEDULES["growing restarts"]


class Snapshots:
    """What `CycleEnd` calls: it keeps the weights that it finds."""

    def __init__(self):
        self.steps, self.weights = [], []

    def __call__(self, model, step):
        self.steps.append(step)
        self.weights.append(model.get_weights()[0].ravel().copy())

    def check(self, steps, schedule):
        """That update `step` was the last that had been made, every time, and had been made."""
        assert self.steps == steps
        for step, weights in zip(self.steps, self.weights, strict=True):
            wanted = np.where(np.arange(len(weights)) <= step, -schedule(np.arange(len(weights))), 0.0)
            np.testing.assert_allclose(weights, wanted, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("schedule", "ends"), SCHEDULES.values(), ids=SCHEDULES)
def test_it_is_called_right_after_the_update_at_every_minimum(schedule, ends, probe):
    seen = Snapshots()
    probe(keras.optimizers.SGD(LearningRate(schedule)), UPDATES).fit(callbacks=[CycleEnd(seen)])
    seen.check(ends, schedule)


@pytest.mark.every_backend
def test_steps_go_on_over_several_fits_and_epochs(probe):
    seen = Snapshots()
    run = probe(keras.optimizers.SGD(LearningRate(SCHEDULE)), UPDATES)
    callback = CycleEnd(seen)
    run.fit(slice(0, 1), callbacks=[callback])
    run.fit(slice(1, 6), callbacks=[callback])
    run.fit(slice(6, None), initial_epoch=2, epochs=3, callbacks=[CycleEnd(seen)])
    seen.check(ENDS, SCHEDULE)

    steps = []
    run = probe(keras.optimizers.SGD(LearningRate(SCHEDULE)), 4)
    run.fit(epochs=4, callbacks=[CycleEnd(lambda model, step: steps.append(step))])
    assert steps == ENDS


def test_a_minimum_that_ends_a_fit_is_not_told_twice(probe):
    steps = []
    run = probe(keras.optimizers.SGD(LearningRate(SCHEDULE)), UPDATES)
    callback = CycleEnd(lambda model, step: steps.append(step))
    run.fit(slice(0, 6), callbacks=[callback])
    run.fit(slice(6, 8), callbacks=[callback])
    assert steps == [1, 5]


@pytest.mark.parametrize("parts", [[None], [7, 23, None]], ids=["one fit", "fits that cut updates in two"])
def test_with_accumulation_it_is_called_after_the_last_micro_batch(parts, probe):
    seen = Snapshots()
    run = probe(keras.optimizers.SGD(LearningRate(SCHEDULE), gradient_accumulation_steps=4), UPDATES, micro_batches=4)
    begin = 0
    for end in parts:
        run.fit(slice(begin, end), callbacks=[CycleEnd(seen)])
        begin = end
    seen.check(ENDS, SCHEDULE)


@pytest.mark.every_backend
def test_with_accumulation_it_is_called_when_the_update_is_made_though_the_fit_began_within_it(probe):
    steps = []
    run = probe(keras.optimizers.SGD(LearningRate(SCHEDULE), gradient_accumulation_steps=4), 4, micro_batches=4)
    run.fit(slice(0, 7), callbacks=[CycleEnd(lambda model, step: steps.append(step))])
    assert steps == []
    run.fit(slice(7, 8), callbacks=[CycleEnd(lambda model, step: steps.append(step))])
    assert steps == [1]


@pytest.mark.parametrize("overflow", [[1], [1, 2, 6], [5, 6, 7]], ids=str)
def test_an_update_that_loss_scaling_skips_ends_no_cycle(overflow, probe, mixed_float16):
    seen = Snapshots()
    run = probe(keras.optimizers.SGD(LearningRate(SCHEDULE)), 10)
    run.x[overflow, overflow] = np.inf
    run.fit(callbacks=[CycleEnd(seen)])
    seen.weights = [np.delete(weights, overflow) for weights in seen.weights]
    seen.check([1, 5], SCHEDULE)


@pytest.mark.every_backend
def test_loss_scaling_with_accumulation(probe, mixed_float16):
    seen = Snapshots()
    run = probe(keras.optimizers.SGD(LearningRate(SCHEDULE), gradient_accumulation_steps=2), 8, micro_batches=2)
    run.fit(callbacks=[CycleEnd(seen)])
    seen.check([1, 5], SCHEDULE)


def test_the_schedule_of_the_optimizer_counts_from_its_start_step(probe):
    seen = []
    run = probe(keras.optimizers.SGD(LearningRate(SCHEDULE, start_step=3)), 8)
    run.fit(callbacks=[CycleEnd(lambda model, step: seen.append((step, np.count_nonzero(model.get_weights()[0]))))])
    assert seen == [(5, 3)]


def test_it_follows_the_schedule_of_the_optimizer_when_that_is_changed(probe):
    def change(model, step):
        steps.append(step)
        if step == 5:
            change_schedule(model, Cyclical(LOW, HIGH, 4))

    steps = []
    probe(keras.optimizers.SGD(LearningRate(SCHEDULE)), 17).fit(callbacks=[CycleEnd(change)])
    assert steps == [1, 5, 8, 16]


@pytest.mark.every_backend
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_no_minimum_is_missed_where_the_length_of_the_data_is_not_known(probe):
    """TensorFlow counts an update that never was at the end of every epoch, which skips a step of the schedule."""
    tf = pytest.importorskip("tensorflow")
    steps = []
    run = probe(keras.optimizers.SGD(LearningRate(WarmRestarts(LOW, HIGH, 6))), 5)
    data = tf.data.Dataset.from_tensor_slices((run.x, run.y)).batch(1).filter(lambda x, y: True)
    run.model.fit(
        data, epochs=4, shuffle=False, verbose=0, callbacks=[CycleEnd(lambda model, step: steps.append(step))]
    )
    assert steps == [5, 11, 17]
    assert int(keras.ops.convert_to_numpy(run.model.optimizer.iterations)) == 20


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "loss scaling"])
def test_a_given_schedule_goes_before_that_of_the_optimizer(wrapped, probe):
    steps = []
    optimizer = keras.optimizers.SGD(LearningRate(SCHEDULE))
    run = probe(keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=4.0) if wrapped else optimizer, 10)
    run.fit(callbacks=[CycleEnd(lambda model, step: steps.append(step), Cyclical(LOW, HIGH, 2))])
    assert steps == [4, 8]


@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_it_follows_a_schedule_callback_wherever_it_stands_in_the_list(first, probe):
    seen = Snapshots()
    callbacks = [CycleEnd(seen, SCHEDULE), ScheduleCallback(SCHEDULE)]
    probe(keras.optimizers.SGD(0.875), UPDATES).fit(callbacks=callbacks if first else callbacks[::-1])
    seen.check(ENDS, SCHEDULE)


def test_a_snapshot_saved_there_holds_the_weights_of_that_time(probe, tmp_path):
    run = probe(keras.optimizers.Adam(LearningRate(SCHEDULE)), 8)
    kept = {}

    def save(model, step):
        kept[step] = (
            model.get_weights()[0],
            [np.array(keras.ops.convert_to_numpy(variable)) for variable in model.optimizer.variables],
        )
        model.save(tmp_path / f"{step}.keras")

    run.fit(callbacks=[CycleEnd(save)])
    assert sorted(kept) == [1, 5]
    assert not np.array_equal(kept[1][0], kept[5][0])
    for step, (weights, slots) in kept.items():
        again = keras.saving.load_model(tmp_path / f"{step}.keras", custom_objects={"mean_prediction": run.model.loss})
        np.testing.assert_array_equal(again.get_weights()[0], weights)
        for variable, slot in zip(again.optimizer.variables, slots, strict=True):
            np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), slot)
        assert int(keras.ops.convert_to_numpy(again.optimizer.iterations)) == step + 1


def test_what_the_function_raises_is_raised(probe):
    def fail(model, step):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        probe(keras.optimizers.SGD(LearningRate(SCHEDULE)), 8).fit(callbacks=[CycleEnd(fail)])


@pytest.mark.parametrize("wrong", [None, 3, "snapshot"])
def test_anything_but_a_function_is_refused(wrong):
    with pytest.raises(TypeError, match=r"fn must be a function of the model and the step; got fn="):
        CycleEnd(wrong)


@pytest.mark.parametrize("wrong", [0.1, "triangular", Cyclical, keras.optimizers.schedules.CosineDecay(0.1, 10)])
def test_anything_but_a_schedule_is_refused(wrong):
    with pytest.raises(TypeError, match=r"schedule must be a cyclr schedule; got schedule="):
        CycleEnd(print, wrong)


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
@pytest.mark.parametrize(
    ("given", "schedule", "ends"),
    [
        (Cyclical.over(16, 2, LOW, HIGH), Cyclical.over(16, 2, LOW, HIGH), [7, 15]),
        (Bounds(LOW, HIGH, "ok", "by hand"), Bounds(LOW, HIGH, "ok", "by hand").schedule(total_steps=16), [15]),
    ],
    ids=["schedule", "bounds"],
)
def test_the_cycles_of_a_schedule_callback_are_found(given, schedule, ends, first, probe):
    seen = Snapshots()
    callbacks = [ScheduleCallback(given), CycleEnd(seen)]
    probe(keras.optimizers.SGD(0.1), UPDATES).fit(callbacks=callbacks if first else callbacks[::-1])
    seen.check(ends, schedule)


def test_a_schedule_callback_without_a_rate_has_no_cycles(probe):
    with pytest.raises(ValueError, match="no ScheduleCallback that sets the learning rate"):
        probe(keras.optimizers.SGD(0.1), 4).fit(
            callbacks=[ScheduleCallback(weight_decay=Constant(0.0)), CycleEnd(print)]
        )


@pytest.mark.parametrize("rate", [0.1, keras.optimizers.schedules.CosineDecay(0.1, 10)], ids=["number", "of Keras"])
def test_cycle_end_without_a_schedule_raises(rate, probe):
    run = probe(keras.optimizers.SGD(rate), 4)
    with pytest.raises(
        ValueError, match=r"needs a schedule with cycles.*Add ScheduleCallback\(.*Or pass CycleEnd\(fn, schedule\)"
    ):
        run.fit(callbacks=[CycleEnd(print)])
    np.testing.assert_array_equal(run.rates, 0)


@pytest.mark.every_backend
@pytest.mark.skipif(BACKEND == "torch", reason="Keras forbids steps_per_execution > 1 on torch")
def test_several_steps_per_call_are_refused(probe):
    run = probe(keras.optimizers.SGD(LearningRate(SCHEDULE)), 4, steps_per_execution=2)
    with pytest.raises(ValueError, match=r"needs steps_per_execution=1; got steps_per_execution=2.*past a minimum"):
        run.fit(callbacks=[CycleEnd(print)])
    np.testing.assert_array_equal(run.rates, 0)
