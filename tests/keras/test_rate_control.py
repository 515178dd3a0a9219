"""Two callbacks that both set the learning rate: the error names what to take out."""

from typing import Any

import keras
import numpy as np
import pytest

from cyclr.keras import CyclicLR, LRFinder

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
        with pytest.raises(
            ValueError, match=r"must be the only one to set the learning rate; it set .* another callback"
        ):
            fit(*callbacks)


def test_the_rate_may_be_set_between_two_fits() -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    clr = CyclicLR(0.001, 0.01, 5)
    for _ in range(2):
        model.fit(X, X[:, :1], batch_size=16, verbose=0, callbacks=[clr])
        model.optimizer.learning_rate = 0.3
    np.testing.assert_allclose(clr.history["lr"], [0.001 + 0.0018 * t for t in (0, 1, 2, 3, 4, 5, 4, 3)], rtol=1e-12)
