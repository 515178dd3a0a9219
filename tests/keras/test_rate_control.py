"""Two callbacks that both set the learning rate: the error names what to take out."""

from typing import Any

import keras
import numpy as np
import pytest

from cyclr.keras import CycleEnd, CyclicLR, LearningRate, LRFinder, ScheduleCallback
from cyclr.schedules import Cyclical

X = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")


def fit(*callbacks: Any, epochs: int = 6) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(X, X[:, :1], batch_size=16, epochs=epochs, verbose=0, callbacks=list(callbacks))


@pytest.mark.parametrize("make", [lambda: CyclicLR(0.001, 0.01, 5), lambda: LRFinder(1e-4, 1.0, batches_lr_update=2)])
@pytest.mark.parametrize(
    "other",
    [
        lambda: keras.callbacks.LearningRateScheduler(lambda epoch: 0.5 + epoch),
        lambda: keras.callbacks.ReduceLROnPlateau(monitor="loss", patience=0, min_delta=100.0, factor=0.5),
    ],
)
def test_another_callback_that_sets_the_rate_is_an_error(make: Any, other: Any) -> None:
    for callbacks in ((make(), other()), (other(), make())):
        done: list[int] = []
        count = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda batch, logs, done=done: done.append(batch))
        with pytest.raises(
            ValueError, match=r"sets the learning rate, and nothing else can; got (Learning|Reduce).*Take (Lea|Red)"
        ):
            fit(count, *callbacks)
        assert done == []


@pytest.mark.parametrize("make", [lambda: CyclicLR(0.001, 0.01, 5), lambda: LRFinder(1e-4, 1.0, batches_lr_update=2)])
def test_a_custom_callback_that_sets_the_rate_raises(make: Any) -> None:
    class Set(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.model.optimizer.learning_rate = 0.5 + epoch

    for callbacks in ((make(), Set()), (Set(), make())):
        with pytest.raises(ValueError, match=r"set the learning rate to .* another callback then changed it"):
            fit(*callbacks)


@pytest.mark.parametrize("rate", [LearningRate(Cyclical(0.01, 0.1, 5)), keras.optimizers.schedules.CosineDecay(0.1, 9)])
def test_a_callback_that_sets_the_rate_beside_a_schedule_of_the_optimizer_is_an_error(rate: Any) -> None:
    for callback in (ScheduleCallback(), CycleEnd(lambda model, step: None, Cyclical(0.01, 0.1, 5))):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(rate), "mse")
        plateau = keras.callbacks.ReduceLROnPlateau(monitor="loss", patience=5)
        with pytest.raises(
            ValueError, match=rf"the {type(rate).__name__} of the optimizer sets the learning rate, and nothing"
        ):
            model.fit(X, X[:, :1], verbose=0, callbacks=[plateau, callback])


def test_a_callback_that_sets_weights_after_a_finder_is_an_error() -> None:
    stop = keras.callbacks.EarlyStopping("loss", patience=100, restore_best_weights=True)
    with pytest.raises(ValueError, match=r"LRFinder must be the last callback.*later EarlyStopping"):
        fit(LRFinder(1e-4, 1.0, batches_lr_update=2), stop)
    fit(stop, LRFinder(1e-4, 1.0, batches_lr_update=2))
    fit(LRFinder(1e-4, 1.0, batches_lr_update=2, reload_weights=False), stop)


def test_the_rate_may_be_set_between_two_fits() -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    clr = CyclicLR(0.001, 0.01, 5)
    for _ in range(2):
        model.fit(X, X[:, :1], batch_size=16, verbose=0, callbacks=[clr])
        model.optimizer.learning_rate = 0.3
    np.testing.assert_allclose(clr.history["lr"], [0.001 + 0.0018 * t for t in (0, 1, 2, 3, 4, 5, 4, 3)], rtol=1e-12)


@pytest.mark.every_backend
def test_a_schedule_that_keras_is_given_as_it_is_is_an_error_that_says_what_to_write() -> None:
    schedule: Any = Cyclical(0.01, 0.1, 5)
    message = r"In Keras, create the optimizer with cyclr\.keras\.LearningRate\(schedule\), or call fit with"
    with pytest.raises(ValueError, match=message):
        fit(keras.callbacks.LearningRateScheduler(schedule))
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(schedule), "mse")
    with pytest.raises(TypeError, match=message):
        model.fit(X, X[:, :1], verbose=0)
