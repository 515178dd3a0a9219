"""Keras: find learning-rate bounds for a small CNN on scanned digits, and save the curve.

    python examples/keras/find_bounds.py

Needs: pip install "cyclr[tensorflow,plot]" scikit-learn (or jax, or torch, with KERAS_BACKEND set to it).
"""

import keras
from sklearn.datasets import load_digits

from cyclr.keras import range_test

BATCH = 32


def build() -> keras.Model:
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.SGD(momentum=0.9), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def main() -> None:
    keras.utils.set_random_seed(0)
    x, y = load_digits(return_X_y=True)
    x = x.reshape(-1, 8, 8, 1).astype("float32") / 16

    result = range_test(build(), x[:1440], y[:1440], batch_size=BATCH)
    print(result.bounds.reason)
    result.save("range_test.json")
    result.plot().figure.savefig("range_test.png")


if __name__ == "__main__":
    main()
