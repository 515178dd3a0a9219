"""A run that is longer or shorter than its schedule: one warning with both numbers and the rate at the end."""

import warnings

import keras
import numpy as np
import pytest

import cyclr
from cyclr.errors import BoundsError
from cyclr.keras import CycleEnd, CyclicLR, LearningRate, ScheduleCallback

X = np.ones((80, 1), "float32")
ONE = cyclr.OneCycle(0.01, 0.05, total_steps=40)


class Rare(keras.Model):
    """A model whose training step is its own, and of which Keras does not know the number of updates."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def call(self, inputs):
        return self.dense(inputs)

    def train_step(self, *arguments):
        return super().train_step(*arguments)


def fit(schedule=ONE, *, place="callback", epochs=4, model=None, accumulation=None, callbacks=(), **arguments):
    if model is None:
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    rate = LearningRate(schedule) if place == "optimizer" else 0.01
    model.compile(keras.optimizers.SGD(rate, gradient_accumulation_steps=accumulation), "mse")
    callback = {
        "callback": lambda: ScheduleCallback(schedule),
        "optimizer": ScheduleCallback,
        "cycle end": lambda: CycleEnd(lambda model, step: None, schedule),
    }[place]()
    arguments = {"x": X, "y": X, "batch_size": 8, "verbose": 0, **arguments}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(epochs=epochs, callbacks=[callback, *callbacks], **arguments)
    return [str(warning.message) for warning in caught if "total_steps" in str(warning.message)]


@pytest.mark.parametrize("place", ["callback", "optimizer", "cycle end"])
@pytest.mark.parametrize(
    ("arguments", "updates"),
    [
        ({"epochs": 8}, 80),
        ({"epochs": 2}, 20),
        ({"epochs": 4, "validation_split": 0.2}, 32),
        ({"epochs": 8, "accumulation": 4}, 20),
        ({"epochs": 4, "steps_per_epoch": 5}, 20),
    ],
    ids=["longer", "shorter", "validation_split", "accumulation", "steps_per_epoch"],
)
def test_another_run_length_warns_once(place, arguments, updates):
    (said,) = fit(place=place, **arguments)
    assert f"total_steps=40, but the run has {updates} updates" in said
    assert f" {ONE(updates - 1):.3g}. Write total_steps={updates}, or train for 40 updates" in said


@pytest.mark.parametrize("place", ["callback", "optimizer", "cycle end"])
@pytest.mark.parametrize("schedule", [ONE, cyclr.Cyclical(0.01, 0.05, 4), cyclr.Cyclical.over(40, 2, 0.01, 0.05)])
def test_nothing_is_said_of_a_run_that_fits(place, schedule):
    assert fit(schedule, place=place) == []
    assert fit(schedule, place=place, epochs=5, initial_epoch=1) == []


def test_nothing_is_said_of_a_run_that_stops_at_the_end_of_a_cycle():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    cycles, stopped = cyclr.Cyclical.over(40, 3, 0.01, 0.05), []
    model.compile(keras.optimizers.SGD(LearningRate(cycles)), "mse")

    def stop(model, step):
        stopped.append(step)
        model.stop_training = True

    with warnings.catch_warnings():
        warnings.filterwarnings("error", "the schedule has total_steps")
        model.fit(X, X, batch_size=8, epochs=4, callbacks=[CycleEnd(stop), ScheduleCallback()], verbose=0)
    assert stopped == [13]
    assert int(model.optimizer.iterations) == 14


def test_a_second_fit_beyond_the_schedule_warns():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "the schedule has total_steps")
        model.fit(X, X, batch_size=8, epochs=4, callbacks=[ScheduleCallback(ONE)], verbose=0)
    with pytest.warns(UserWarning, match="total_steps=40, but the run has 50 updates. Later updates use"):
        model.fit(X, X, batch_size=8, epochs=1, callbacks=[ScheduleCallback(ONE)], verbose=0)


def fit_in_parts(parts, make, place="callback", **arguments):
    """Train in several calls of `fit`, and return the warnings of each."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(LearningRate(ONE) if place == "optimizer" else 0.01), "mse")
    said = []
    for part in parts:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(X, X, batch_size=8, callbacks=make(), verbose=0, **part, **arguments)
        said.append([str(warning.message) for warning in caught if "total_steps" in str(warning.message)])
    return said


@pytest.mark.parametrize("place", ["callback", "optimizer"])
@pytest.mark.parametrize(
    "parts",
    [[{"epochs": 1}] * 4, [{"epochs": 2}, {"epochs": 3, "initial_epoch": 2}, {"epochs": 4, "initial_epoch": 3}]],
    ids=["loop", "initial_epoch"],
)
def test_only_the_first_part_of_a_run_is_said_to_be_shorter(place, parts):
    first, *rest = fit_in_parts(parts, lambda: [ScheduleCallback(ONE if place == "callback" else None)], place)
    assert len(first) == 1
    assert "Ignore this if another fit continues the run." in first[0]
    assert rest == [[]] * len(rest)


def test_a_later_part_that_ends_early_or_goes_past_the_end_is_said():
    stop = keras.callbacks.EarlyStopping("loss", patience=1, min_delta=1e9)
    _, (early,) = fit_in_parts([{"epochs": 1}, {"epochs": 3}], lambda: [ScheduleCallback(ONE), stop])
    assert "the run ended after 30 updates" in early
    _, (longer,) = fit_in_parts([{"epochs": 1}, {"epochs": 4}], lambda: [ScheduleCallback(ONE)])
    assert "the run has 50 updates" in longer


def test_two_callbacks_say_it_once():
    ends = CycleEnd(lambda model, step: None, ONE)
    assert len(fit(callbacks=[ends], epochs=8)) == 1
    assert len(fit(place="cycle end", callbacks=[ScheduleCallback(ONE)], epochs=8)) == 1


def test_schedules_of_the_same_length_are_said_once():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse")
    with pytest.warns(UserWarning, match="total_steps=40") as said:
        model.fit(X, X, batch_size=8, epochs=8, callbacks=[ScheduleCallback(ONE, ONE.mirrored(0.8, 0.9))], verbose=0)
    assert len([warning for warning in said if "total_steps" in str(warning.message)]) == 1


def test_updates_that_loss_scaling_skips_at_the_start_are_no_shorter_run():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.01), initial_scale=2.0**127), "mse")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "the schedule has total_steps")
        model.fit(X, 100 * X, batch_size=8, epochs=4, callbacks=[ScheduleCallback(ONE)], verbose=0)
    assert int(keras.ops.convert_to_numpy(model.optimizer.iterations)) < 40


BOUNDS = cyclr.Bounds(0.01, 0.05, "ok", "by hand")


@pytest.mark.parametrize(
    ("arguments", "updates"),
    [
        ({"epochs": 4}, 40),
        ({"epochs": 5, "initial_epoch": 1}, 40),
        ({"epochs": 4, "validation_split": 0.2}, 32),
        ({"epochs": 8, "accumulation": 4}, 20),
    ],
    ids=["plain", "initial_epoch", "validation_split", "accumulation"],
)
def test_bounds_are_followed_for_the_length_of_fit(arguments, updates):
    wanted, rates = BOUNDS.schedule(total_steps=updates), []
    keep = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: rates.append(logs["learning_rate"]))
    assert fit(BOUNDS, callbacks=[keep], **arguments) == []
    batches = 4 if "accumulation" in arguments else 1
    np.testing.assert_array_equal(rates, wanted(np.arange(updates)).repeat(batches))


def fit_again(second, **arguments):
    """Train for 40 updates, then 40 more with another callback, and return its rates and warnings."""
    model, rates = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]), []
    model.compile(keras.optimizers.SGD(0.01), "mse")
    model.fit(X, X, batch_size=8, epochs=4, verbose=0)
    keep = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: rates.append(logs["learning_rate"]))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, X, batch_size=8, callbacks=[second, keep], verbose=0, **{"epochs": 4, **arguments})
    return np.array(rates), [str(warning.message) for warning in caught if "updates" in str(warning.message)]


def test_bounds_on_a_trained_model_warn_where_the_cycle_starts():
    rates, (said,) = fit_again(ScheduleCallback(BOUNDS))
    np.testing.assert_array_equal(rates, BOUNDS.schedule(total_steps=80)(np.arange(40, 80)))
    assert (
        "made 40 updates before this fit, so the cycle has 80 updates, and this fit starts at update 40 of it" in said
    )
    assert f"{rates[0]:.3g}" in said
    assert "ScheduleCallback(bounds, start_step=0)" in said
    rates, said = fit_again(ScheduleCallback(BOUNDS, start_step=0))
    np.testing.assert_array_equal(rates, BOUNDS.schedule(total_steps=40)(np.arange(40)))
    assert said == []


def test_bounds_of_a_resumed_run_go_on_without_a_warning():
    for callback, arguments in (
        (ScheduleCallback(BOUNDS), {"initial_epoch": 4, "epochs": 8}),
        (ScheduleCallback(BOUNDS, start_step=40), {}),
    ):
        rates, said = fit_again(callback, **arguments)
        np.testing.assert_array_equal(rates, BOUNDS.schedule(total_steps=80)(np.arange(40, 80)))
        assert said == []


def test_a_schedule_that_ended_before_this_fit_advises_start_step():
    rates, (said,) = fit_again(ScheduleCallback(ONE))
    np.testing.assert_array_equal(rates, ONE(40))
    assert "made 40 of these updates before this fit" in said
    assert "ScheduleCallback(schedule, start_step=0)" in said
    rates, said = fit_again(ScheduleCallback(ONE, start_step=0))
    np.testing.assert_array_equal(rates, ONE(np.arange(40)))
    assert said == []


def test_bounds_without_a_known_length_say_what_to_write():
    message = r"ScheduleCallback\(lr=bounds\) needs a fit .* Pass ScheduleCallback\(lr=bounds\.schedule\(total_steps="
    with pytest.raises(ValueError, match=message):
        fit(BOUNDS, model=Rare())
    with pytest.raises(ValueError, match=message):
        fit(BOUNDS, x=((X[:8], X[:8]) for _ in range(4)), y=None, batch_size=None)
    with pytest.raises(ValueError, match=message):
        ScheduleCallback(BOUNDS).attach(keras.Sequential())
    model, callback = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]), ScheduleCallback(BOUNDS)
    model.compile("sgd", "mse")
    callback.set_model(model)
    callback.on_train_begin()
    with pytest.raises(ValueError, match=message):
        callback.on_train_batch_begin(0)
    with pytest.raises(BoundsError, match="hold no numbers"):
        ScheduleCallback(cyclr.Bounds(None, None, "flat", "nothing"))


@pytest.mark.parametrize(
    "make",
    [
        LearningRate,
        lambda given: ScheduleCallback(momentum=given),
        lambda given: ScheduleCallback(cyclr.Constant(0.1)).change(lr=given),
        lambda given: CycleEnd(print, given),
        lambda given: CyclicLR(base_lr=given),
        lambda given: CyclicLR().reset(given),
    ],
)
def test_bounds_where_no_length_is_known_say_what_to_write(make):
    with pytest.raises(
        TypeError, match=r"must be a (cyclr schedule|number); got .*Write bounds\.schedule\(total_steps=\.\.\.\)"
    ):
        make(BOUNDS)


def test_early_stopping_in_the_middle_of_a_cycle_warns():
    stop = keras.callbacks.EarlyStopping("loss", patience=1, min_delta=1e9)
    (said,) = fit(callbacks=[stop])
    assert "total_steps=40, but the run ended after 20 updates." in said
    assert "The run ends in the middle of the schedule, at the value 0.0406" in said


def test_a_training_step_of_its_own_is_judged_when_it_ends():
    assert fit(model=Rare()) == []
    (said,) = fit(model=Rare(), epochs=3)
    assert "the run ended after 30 updates" in said
