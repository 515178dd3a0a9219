"""Keras: resume a stopped run. The final weights equal those of a run without a stop, bit for bit.

    python examples/keras/resume.py --stop-after 3    # stops after 3 epochs, as in a crash
    python examples/keras/resume.py                   # continues with epoch 4

Needs: pip install "cyclr[tensorflow]" scikit-learn (or jax, or torch, with KERAS_BACKEND set to it).
"""

import argparse

import keras
import numpy as np
from sklearn.datasets import load_digits

import cyclr
from cyclr.keras import LearningRate

BATCH, EPOCHS = 32, 6

parser = argparse.ArgumentParser()
parser.add_argument("--stop-after", type=int, default=EPOCHS, help="epochs")
options = parser.parse_args()

keras.utils.set_random_seed(0)
x, y = load_digits(return_X_y=True)
x = (x[:1440] / 16).astype("float32")
run = cyclr.Run.of(samples=len(x), batch_size=BATCH, epochs=EPOCHS)
schedule = cyclr.Cyclical.over(run.total_steps, cycles=2, base_lr=0.01, max_lr=0.1)

model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(10, "softmax")])
model.compile(keras.optimizers.SGD(LearningRate(schedule), momentum=0.9), "sparse_categorical_crossentropy")

# The position in the schedule is the optimizer's counter, which is in the backup.
backup = keras.callbacks.BackupAndRestore("backup", delete_checkpoint=False)
# The data is not shuffled, because Keras cannot restore the order of the data.
model.fit(
    x, y[:1440], batch_size=BATCH, epochs=min(options.stop_after, EPOCHS), shuffle=False, callbacks=[backup], verbose=0
)

weights = np.concatenate([weight.ravel() for weight in model.get_weights()])
print(
    f"updates {int(model.optimizer.iterations)}, of {run.total_steps}; mean weight {float(weights.mean(dtype=float))!r}"
)
