"""KerasTuner: a range test in every trial, so that each network trains at learning rates that suit it.

    python examples/loops/tuner.py

Needs: pip install "cyclr[tensorflow]" keras-tuner scikit-learn (or with jax or torch, and KERAS_BACKEND set to it).
"""

import tempfile

import keras
import keras_tuner
import numpy as np
from sklearn.datasets import load_digits

from cyclr.keras import ScheduleCallback, range_test

BATCH, EPOCHS, TRIALS = 32, 4, 2


class Digits(keras_tuner.HyperModel):
    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        width = hp.Choice("width", [16, 64, 256])
        model = keras.Sequential([keras.layers.Dense(width, "relu"), keras.layers.Dense(10, "softmax")])
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    def fit(self, hp, model, x, y, callbacks=(), **options):
        bounds = range_test(model, x, y, batch_size=BATCH).bounds
        print(bounds.reason)
        schedule = bounds.schedule(epochs=EPOCHS, steps_per_epoch=-(-len(x) // BATCH))
        callbacks = [ScheduleCallback(schedule), *callbacks]
        return model.fit(x, y, batch_size=BATCH, epochs=EPOCHS, callbacks=callbacks, **options)


def main() -> None:
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:1440], order[1440:]
    with tempfile.TemporaryDirectory() as folder:
        tuner = keras_tuner.RandomSearch(
            Digits(), objective="val_accuracy", max_trials=TRIALS, seed=0, directory=folder, project_name="digits"
        )
        tuner.search(x[train], y[train], validation_data=(x[test], y[test]), verbose=0)
        best = tuner.oracle.get_best_trials()[0]
    print(f"width {best.hyperparameters.get('width')}, accuracy {best.score:.3f}")


if __name__ == "__main__":
    main()
