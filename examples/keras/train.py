"""Keras: run a range test, then train a small CNN with one cycle between the bounds, on scanned digits.

    python examples/keras/train.py

Needs: pip install "cyclr[tensorflow]" scikit-learn (or jax, or torch, with KERAS_BACKEND set to it).
"""

import keras
import numpy as np
from sklearn.datasets import load_digits

from cyclr.keras import LearningRate, ScheduleCallback, range_test

BATCH, EPOCHS = 32, 8


def build() -> keras.Model:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def main() -> None:
    keras.utils.set_random_seed(0)
    x, y = load_digits(return_X_y=True)
    x = x.reshape(-1, 8, 8, 1).astype("float32") / 16
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:1440], order[1440:]
    model = build()
    model.compile(keras.optimizers.SGD(momentum=0.9), "sparse_categorical_crossentropy", metrics=["accuracy"])

    result = range_test(model, x[train], y[train], batch_size=BATCH)
    print(result.bounds.reason)

    schedule = result.bounds.schedule(total_steps=EPOCHS * len(train) // BATCH)
    model.compile(keras.optimizers.SGD(LearningRate(schedule), momentum=0.9), model.loss, metrics=["accuracy"])
    # ScheduleCallback() writes the learning rate to the logs.
    model.fit(x[train], y[train], batch_size=BATCH, epochs=EPOCHS, callbacks=[ScheduleCallback()], verbose=0)
    print(f"accuracy {model.evaluate(x[test], y[test], verbose=0)[1]:.3f}")


if __name__ == "__main__":
    main()
