"""The max_lr of Keras' `LRFinder` as a ratio to the max_lr of `range_test`, on models that no constant was fitted to.

    python benchmarks/lr_finder.py [MODEL ...]

KERAS_BACKEND chooses the backend. A row is a model; "all" has the median and the largest factor, in either direction.
The first number is the max_lr of `range_test` with its defaults. All other numbers are ratios to it. The second number
is for a `range_test` that shuffles with another seed, and shows how much the same test varies. The other numbers are
for `LRFinder` with the arguments in `FINDERS` (150 learning rates, as in `range_test`): "restored" means
reload_weights=True, and the number of updates is batches_lr_update. Letters: n for the status `no_divergence`, y for
`noisy`, f for `flat`; "none" for no bounds.

The models are small: dense, convolutional, recurrent, normalized, attention and regression, with seven optimizers. With
the argument "fitted" the rows are the 20 models that the constants of `cyclr.bounds.knee` for restored weights were
fitted to.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers, optimizers
from keras.layers import BatchNormalization, Conv2D, Dense, Flatten, LayerNormalization, MaxPooling2D, ReLU
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    make_classification,
    make_friedman1,
    make_moons,
)

from cyclr import Bounds
from cyclr.keras import LRFinder, range_test

RATES = 150
FINDERS: dict[str, dict[str, Any]] = {
    "1e-6 to 10, restored, 5": {"min_lr": 1e-6, "max_lr": 10.0},
    "1e-4 to 1, restored, 5": {"min_lr": 1e-4, "max_lr": 1.0},
    "1e-6 to 10, restored, 3": {"min_lr": 1e-6, "max_lr": 10.0, "batches_lr_update": 3},
    "1e-6 to 10, restored, 10": {"min_lr": 1e-6, "max_lr": 10.0, "batches_lr_update": 10},
    "1e-6 to 10, 1": {"min_lr": 1e-6, "max_lr": 10.0, "batches_lr_update": 1, "reload_weights": False},
    "1e-4 to 1, 1": {"min_lr": 1e-4, "max_lr": 1.0, "batches_lr_update": 1, "reload_weights": False},
}
MARKS = {"ok": "", "no_divergence": " n", "noisy": " y", "flat": " f", "too_few_points": ""}

Arrays = tuple[Any, Any]


def digits(shape: tuple[int, ...]) -> Arrays:
    data = load_digits()
    return (data.data / 16).astype("float32").reshape(-1, *shape), data.target.astype("int32")


def standard(x: Any) -> Any:
    return ((x - x.mean(0)) / (x.std(0) + 1e-9)).astype("float32")


def tumours() -> Arrays:
    data = load_breast_cancer()
    return standard(data.data), data.target.astype("float32")


def diabetes() -> Arrays:
    data = load_diabetes()
    return standard(data.data), standard(data.target[:, None])


def moons() -> Arrays:
    x, y = make_moons(1600, noise=0.15, random_state=0)
    return x.astype("float32"), y.astype("float32")


def clusters() -> Arrays:
    """Five classes of 20 features. One label in twenty is random."""
    x, y = make_classification(1600, 20, n_informative=8, n_classes=5, flip_y=0.05, random_state=0)
    return standard(x), y.astype("int32")


def friedman() -> Arrays:
    x, y = make_friedman1(1600, n_features=10, noise=1.0, random_state=0)
    return standard(x), standard(y[:, None])


def waves() -> tuple[Any, Any]:
    """Sines of 24 steps with noise, and their frequencies."""
    rng = np.random.default_rng(0)
    frequency, phase = rng.uniform(0.25, 1, (1600, 1)), rng.uniform(0, 6, (1600, 1))
    return np.sin(frequency * np.arange(24) + phase).astype("float32"), frequency


def sines() -> Arrays:
    """The next value of a sine of unknown frequency and phase."""
    values, _ = waves()
    return values[:, :23, None], values[:, 23:]


def frequencies() -> Arrays:
    """The class of a noisy sine: one of five frequencies."""
    values, frequency = waves()
    noise = np.random.default_rng(1).normal(0, 0.3, values.shape)
    return (values + noise).astype("float32")[..., None], ((frequency[:, 0] - 0.25) / 0.1501).astype("int32")


def words() -> Arrays:
    """Sequences of 20 words out of 50. The class is 1 if more than three words are among the first ten."""
    tokens = np.random.default_rng(0).integers(0, 50, size=(1600, 20))
    return tokens, (np.isin(tokens, range(10)).sum(1) > 3).astype("int32")


def surface() -> Arrays:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1600, 8))
    y = x[:, 0] - 2 * x[:, 3] + np.sin(x[:, 1]) + 0.5 * x[:, 1] * x[:, 2] + 0.1 * rng.normal(size=1600)
    return x.astype("float32"), y[:, None].astype("float32")


def net(*parts: Any) -> Callable[[], Any]:
    """Return a function that creates a network from the shape of the input and functions that create the layers."""
    return lambda: keras.Sequential([keras.Input(parts[0]), *(make() for make in parts[1:])])


def dense(units: int, activation: str | None = "relu") -> Callable[[], Any]:
    return lambda: Dense(units, activation)


def conv(filters: int, activation: str | None = "relu", padding: str = "same") -> Callable[[], Any]:
    return lambda: Conv2D(filters, 3, activation=activation, padding=padding)


def time_conv() -> Any:
    return layers.Conv1D(16, 5, padding="same", activation="relu")


def separable() -> Any:
    return layers.SeparableConv2D(24, 3, padding="same")


CLASSES, CHANCE, LINEAR = dense(10, "softmax"), dense(1, "sigmoid"), dense(1, None)


def attention() -> Any:
    tokens = keras.Input((20,), dtype="int32")
    x = layers.Embedding(50, 16)(tokens)
    normal = LayerNormalization()(x)
    x = LayerNormalization()(x + layers.MultiHeadAttention(2, 8)(normal, normal))
    return keras.Model(tokens, Dense(2, "softmax")(layers.GlobalAveragePooling1D()(x)))


def residual() -> Any:
    image = keras.Input((8, 8, 1))
    x = Conv2D(16, 3, padding="same")(image)
    for _ in range(2):
        x = x + Conv2D(16, 3, padding="same")(ReLU()(BatchNormalization()(x)))
    x = layers.GlobalAveragePooling2D()(ReLU()(BatchNormalization()(x)))
    return keras.Model(image, Dense(10, "softmax")(x))


@dataclass
class Task:
    make: Callable[[], Any]
    optimizer: Callable[[], Any]
    data: Callable[[], Arrays]
    loss: str = "sparse_categorical_crossentropy"
    batch_size: int = 32

    def compiled(self) -> Any:
        """Return the same model every time."""
        keras.backend.clear_session()
        keras.utils.set_random_seed(0)
        model = self.make()
        model.compile(self.optimizer(), self.loss)
        return model


def momentum(**options: Any) -> Any:
    return optimizers.SGD(0.01, momentum=0.9, **options)


def flat() -> Arrays:
    return digits((64,))


def rows() -> Arrays:
    return digits((8, 8))


def images() -> Arrays:
    return digits((8, 8, 1))


def same() -> Arrays:
    x, _ = flat()
    return x, x


SEPARABLE = ((8, 8, 1), separable, BatchNormalization, ReLU, separable, BatchNormalization, ReLU)
NORMAL = ((30,), dense(64), LayerNormalization, lambda: layers.Dropout(0.3), dense(32), CHANCE)
CHECKED = {
    "dense, ELU, SGD": Task(
        net((20,), dense(64, "elu"), dense(64, "elu"), dense(5, "softmax")), optimizers.SGD, clusters
    ),
    "dense, dropout, Nadam": Task(
        net((20,), dense(128, "gelu"), lambda: layers.Dropout(0.2), dense(64, "gelu"), dense(5, "softmax")),
        optimizers.Nadam,
        clusters,
        batch_size=64,
    ),
    "convolutional, batch normalization, Adam": Task(
        net((8, 8, 1), conv(16, None), BatchNormalization, ReLU, conv(16), MaxPooling2D, Flatten, CLASSES),
        optimizers.Adam,
        images,
    ),
    "convolutional, average pooling, Nesterov momentum": Task(
        net((8, 8, 1), conv(24), conv(24), lambda: layers.AveragePooling2D(2), Flatten, dense(32), CLASSES),
        lambda: momentum(nesterov=True),
        images,
        batch_size=16,
    ),
    "convolutional over time, Adamax": Task(
        net((24, 1), time_conv, time_conv, layers.GlobalMaxPooling1D, dense(5, "softmax")),
        optimizers.Adamax,
        frequencies,
    ),
    "embedding, GRU, RMSprop": Task(
        net((20,), lambda: layers.Embedding(50, 16), lambda: layers.GRU(16), dense(2, "softmax")),
        optimizers.RMSprop,
        words,
    ),
    "LSTM, SGD with momentum": Task(net((8, 8), lambda: layers.LSTM(32), CLASSES), momentum, rows),
    "convolutional, group normalization, AdamW": Task(
        net((8, 8, 1), conv(16, None), lambda: layers.GroupNormalization(4), ReLU, conv(16), Flatten, CLASSES),
        optimizers.AdamW,
        images,
    ),
    "regression, Adam": Task(net((10,), dense(64), dense(64), LINEAR), optimizers.Adam, friedman, "mse"),
    "attention, Adam": Task(attention, optimizers.Adam, words),
}
FITTED = {
    "softmax regression, SGD": Task(net((64,), CLASSES), optimizers.SGD, flat),
    "wide dense, Adamax": Task(
        net((2,), dense(256), dense(64), CHANCE), optimizers.Adamax, moons, "binary_crossentropy"
    ),
    "convolutional, SGD with momentum": Task(
        net((8, 8, 1), conv(16), conv(16, padding="valid"), MaxPooling2D, Flatten, CLASSES), momentum, images
    ),
    "separable convolutions, batch normalization, RMSprop": Task(
        net(*SEPARABLE, layers.GlobalAveragePooling2D, CLASSES), optimizers.RMSprop, images
    ),
    "LSTM, clipped Adam": Task(
        net((23, 1), lambda: layers.LSTM(24), LINEAR), lambda: optimizers.Adam(clipnorm=1.0), sines, "mse"
    ),
    "simple recurrent, SGD": Task(net((8, 8), lambda: layers.SimpleRNN(32), CLASSES), optimizers.SGD, rows),
    "layer normalization, dropout, AdamW": Task(net(*NORMAL), optimizers.AdamW, tumours, "binary_crossentropy", 16),
    "autoencoder, Adam": Task(
        net((64,), dense(48), dense(12), dense(48), dense(64, "sigmoid")), optimizers.Adam, same, "mse"
    ),
    "regression, Nesterov momentum": Task(
        net((10,), dense(24), LINEAR), lambda: momentum(nesterov=True), diabetes, "mse", 16
    ),
    "attention, Lion": Task(attention, optimizers.Lion, words),
    "dense, SGD with momentum": Task(net((64,), dense(64), CLASSES), momentum, flat),
    "dense, Adam": Task(net((64,), dense(64), dense(32), CLASSES), optimizers.Adam, flat),
    "dense, batch normalization, SGD": Task(
        net((64,), dense(64, None), BatchNormalization, ReLU, CLASSES), optimizers.SGD, flat
    ),
    "convolutional, Adam": Task(
        net((8, 8, 1), conv(16, padding="valid"), MaxPooling2D, Flatten, dense(32), CLASSES), optimizers.Adam, images
    ),
    "dense, two classes, RMSprop": Task(
        net((30,), dense(32), CHANCE), optimizers.RMSprop, tumours, "binary_crossentropy", 16
    ),
    "regression, SGD": Task(net((8,), dense(32), dense(32), LINEAR), optimizers.SGD, surface, "mse"),
    "GRU, Adam": Task(net((8, 8), lambda: layers.GRU(24), CLASSES), optimizers.Adam, rows),
    "deep, tanh, SGD": Task(net((64,), *[dense(32, "tanh")] * 5, CLASSES), optimizers.SGD, flat),
    "small regression, Adam": Task(net((10,), dense(32), LINEAR), optimizers.Adam, diabetes, "mse", 16),
    "residual, SGD with momentum": Task(residual, momentum, images),
}


def finder_bounds(task: Task, x: Any, y: Any, arguments: dict[str, Any]) -> Bounds:
    finder, batch = LRFinder(**arguments), task.batch_size
    epochs = -(-RATES * finder.batches_lr_update // -(-len(x) // batch))
    task.compiled().fit(x, y, batch_size=batch, epochs=epochs, callbacks=[finder], verbose=0)
    plt.close(finder.figure)
    return finder.result.bounds


def cell(bounds: Bounds, of: Bounds) -> tuple[float | None, str]:
    """Return the factor between two max_lr, and its text."""
    if bounds.max_lr is None or of.max_lr is None:
        return None, "none"
    return bounds.max_lr / of.max_lr, f"{bounds.max_lr / of.max_lr:.2f}{MARKS[bounds.status]}"


def main() -> None:
    asked = sys.argv[1:]
    tasks = FITTED if asked == ["fitted"] else {name: CHECKED[name] for name in asked or CHECKED}
    names = ["range_test, other seed", *FINDERS]
    print(f"| model | range_test | {' | '.join(names)} |\n|{'---|' * (len(names) + 2)}")
    factors: dict[str, list[float]] = {name: [] for name in names}
    for name, task in tasks.items():
        x, y = task.data()
        reference = range_test(task.compiled(), x, y, batch_size=task.batch_size).bounds
        again = range_test(task.compiled(), x, y, batch_size=task.batch_size, seed=7).bounds
        found = [again, *(finder_bounds(task, x, y, arguments) for arguments in FINDERS.values())]
        cells = [cell(bounds, reference) for bounds in found]
        for column, (factor, _) in zip(names, cells, strict=True):
            factors[column] += [] if factor is None else [max(factor, 1 / factor)]
        top = "none" if reference.max_lr is None else f"{reference.max_lr:.2g}{MARKS[reference.status]}"
        print(f"| {name} | {top} | {' | '.join(text for _, text in cells)} |", flush=True)
    print(f"| all | | {' | '.join(f'{median(found):.2f}, {max(found):.2f}' for found in factors.values())} |")


if __name__ == "__main__":
    main()
