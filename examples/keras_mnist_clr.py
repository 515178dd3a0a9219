"""The classic tutorial on cyclical learning rates, in Keras 3: find the range, then train with CyclicLR.

    python examples/keras_mnist_clr.py                                        # MNIST, downloaded by Keras
    python examples/keras_mnist_clr.py --data fashion_mnist
    python examples/keras_mnist_clr.py --data /usr/share/datasets/fashion-mnist   # a folder of IDX files
    python examples/keras_mnist_clr.py --data digits                          # included, takes seconds

Needs: pip install "cyclr[tensorflow,cli]" (or jax, or torch, and KERAS_BACKEND set to it).
"""

import argparse
import math
from pathlib import Path

import keras
import matplotlib.pyplot as plt

from cyclr.experiments.data import load
from cyclr.experiments.workloads import classic_cnn
from cyclr.keras import CyclicLR, LRFinder

parser = argparse.ArgumentParser(description="Find a learning-rate range, then train with CyclicLR.")
parser.add_argument("--data", default="mnist", help="digits, mnist, fashion_mnist, cifar10, a folder or an .npz")
parser.add_argument("--epochs", type=int, default=16, help="epochs of training; 8 are one whole cycle")
parser.add_argument("--output", type=Path, default=Path("keras-mnist-clr"), help="folder for the plots")
options = parser.parse_args()
options.output.mkdir(parents=True, exist_ok=True)

batch_size = 50
data = load(options.data)
keras.utils.set_random_seed(0)
model = classic_cnn(data.input_shape, data.classes)
model.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])

# 1. Find the range in whole epochs (one on MNIST), with at least a hundred rising learning rates of five updates each.
#    LRFinder prints its verdict, draws the curve, and restores the model.
steps = math.ceil(len(data.x_train) / batch_size)
finder = LRFinder(min_lr=1e-4, max_lr=1e0, plot_path=options.output / "range_test.png")
epochs = math.ceil(500 / steps)
model.fit(data.x_train, data.y_train, batch_size=batch_size, epochs=epochs, callbacks=[finder], verbose=2)

# 2. Train between the bounds. Half a cycle takes 4 epochs; Smith's rule is 2 to 10.
base_lr, max_lr = finder.result.bounds
clr = CyclicLR(base_lr=base_lr, max_lr=max_lr, step_size=4 * steps, mode="triangular")
history = model.fit(
    data.x_train,
    data.y_train,
    batch_size=batch_size,
    epochs=options.epochs,
    validation_data=(data.x_val, data.y_val),
    callbacks=[clr],
    verbose=2,
).history
print(f"final validation accuracy {history['val_accuracy'][-1]:.4f}, best {max(history['val_accuracy']):.4f}")

# 3. Plot the learning rate of every update, and the accuracy at the end of every epoch.
figure, (rates, accuracies) = plt.subplots(2, 1, figsize=(8, 6), layout="constrained")
rates.plot(clr.history["iterations"], clr.history["lr"])
rates.set(xlabel="update", ylabel="learning rate")
for name in ("accuracy", "val_accuracy"):
    accuracies.plot(range(1, options.epochs + 1), history[name], label=name)
accuracies.set(xlabel="epoch", ylabel="accuracy")
accuracies.legend()
figure.savefig(options.output / "training.png", dpi=130, bbox_inches="tight")
