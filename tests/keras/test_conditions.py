"""What the result of a range test in Keras says was tested."""

import keras
import numpy as np
import pytest

from cyclr.keras import LRFinder, range_test
from cyclr.keras._conditions import optimizer_call

BACKEND = keras.backend.backend()
RNG = np.random.default_rng(0)
X = RNG.normal(size=(128, 4)).astype("float32")
Y = X @ np.array([[1.0], [-2.0], [0.5], [3.0]], dtype="float32")


def compiled(optimizer, *layers):
    model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(1)])
    model.compile(optimizer, "mse")
    return model


class Mine(keras.optimizers.SGD):
    def __init__(self, speed=1, **arguments):
        super().__init__(**arguments)
        self.speed = speed

    def get_config(self):
        return {**super().get_config(), "speed": self.speed, "folder": "/home/somebody"}


class Unreadable(keras.optimizers.SGD):
    def get_config(self):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("optimizer", "shown"),
    [
        (keras.optimizers.Adam(0.5, name="mine"), "keras.optimizers.Adam"),
        (
            keras.optimizers.AdamW(0.5, weight_decay=0.1, beta_2=0.99),
            "keras.optimizers.AdamW(weight_decay=0.1, beta_2=0.99)",
        ),
        (keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True), "keras.optimizers.SGD(momentum=0.9, nesterov=True)"),
        (keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)), "keras.optimizers.SGD"),
        (keras.optimizers.Lion(0.1, global_clipnorm=1.0), "keras.optimizers.Lion(global_clipnorm=1.0)"),
        (Mine(speed=2, momentum=0.5), "Mine(momentum=0.5, speed=2, folder=...)"),
        (Unreadable(0.1), "Unreadable"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_settings_that_are_not_the_defaults_are_named_and_no_text(optimizer, shown):
    assert optimizer_call(optimizer) == shown


def test_the_result_says_what_was_tested():
    model = compiled(keras.optimizers.SGD(0.1, momentum=0.9), keras.layers.BatchNormalization())
    tested = range_test(model, X, Y, batch_size=16, steps=30, seed=3).tested
    versions = {"keras": keras.__version__, BACKEND: tested[BACKEND]}
    assert {name: tested[name] for name in ("model", "parameters", "trainable", "optimizer", "batch_size", "seed")} == {
        "model": "Sequential",
        "parameters": 21,
        "trainable": 13,
        "optimizer": "keras.optimizers.SGD(momentum=0.9)",
        "batch_size": 16,
        "seed": 3,
    }
    assert versions.items() <= tested.items()
    assert {"python", "cyclr", "date"} <= tested.keys()


def test_a_model_that_the_test_builds_has_its_parameters():
    model = keras.Sequential([keras.layers.Dense(2), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 100)), "mse")
    tested = range_test(model, X, Y, steps=20).tested
    assert (tested["parameters"], tested["batch_size"], tested["optimizer"]) == (13, 32, "keras.optimizers.SGD")


class Batches(keras.utils.PyDataset):
    batch_size = 8

    def __len__(self):
        return 16

    def __getitem__(self, index):
        return X[8 * index : 8 * index + 8], Y[8 * index : 8 * index + 8]


def test_data_that_comes_in_batches_says_their_size_if_it_is_known():
    model = compiled("sgd")
    assert range_test(model, Batches(), steps=20).tested["batch_size"] == 8
    generator = (Batches()[index % 16] for index in range(40))
    assert "batch_size" not in range_test(model, generator, steps=20).tested


def test_the_finder_says_what_it_tested():
    finder = LRFinder(1e-4, 1.0)
    compiled("adam").fit(X, Y, epochs=20, verbose=0, callbacks=[finder])
    assert (finder.result.tested["optimizer"], finder.result.tested["parameters"]) == ("keras.optimizers.Adam", 5)
