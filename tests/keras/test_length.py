"""A run that is longer or shorter than its schedule: one warning with both numbers and the rate at the end."""

import warnings

import keras
import numpy as np
import pytest

import cyclr
from cyclr.keras import LearningRate, ScheduleCallback

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
    callback = ScheduleCallback() if place == "optimizer" else ScheduleCallback(schedule)
    arguments = {"x": X, "y": X, "batch_size": 8, "verbose": 0, **arguments}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(epochs=epochs, callbacks=[callback, *callbacks], **arguments)
    return [str(warning.message) for warning in caught if "total_steps" in str(warning.message)]


@pytest.mark.parametrize("place", ["callback", "optimizer"])
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
def test_another_length_is_said_once(place, arguments, updates):
    (said,) = fit(place=place, **arguments)
    assert f"total_steps=40, and the run has {updates} updates" in said
    assert f" {ONE(updates - 1):.3g} at the end. Write total_steps={updates}, or train for 40 updates" in said


@pytest.mark.parametrize("place", ["callback", "optimizer"])
@pytest.mark.parametrize("schedule", [ONE, cyclr.Cyclical(0.01, 0.05, 4), cyclr.Cyclical.over(40, 2, 0.01, 0.05)])
def test_nothing_is_said_of_a_run_that_fits(place, schedule):
    assert fit(schedule, place=place) == []
    assert fit(schedule, place=place, epochs=5, initial_epoch=1) == []


def test_a_second_fit_that_goes_past_the_end_is_said():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "the schedule has total_steps")
        model.fit(X, X, batch_size=8, epochs=4, callbacks=[ScheduleCallback(ONE)], verbose=0)
    with pytest.warns(UserWarning, match="total_steps=40, and the run has 50 updates. The updates after that use"):
        model.fit(X, X, batch_size=8, epochs=1, callbacks=[ScheduleCallback(ONE)], verbose=0)


def test_early_stopping_in_the_middle_of_a_cycle_is_said():
    stop = keras.callbacks.EarlyStopping("loss", patience=1, min_delta=1e9)
    (said,) = fit(callbacks=[stop])
    assert "total_steps=40, and the run ended after 20 updates. The run ends in the middle of it, 0.0406" in said


def test_a_training_step_of_its_own_is_judged_when_it_ends():
    assert fit(model=Rare()) == []
    (said,) = fit(model=Rare(), epochs=3)
    assert "the run ended after 30 updates" in said
