"""Small forms of public Keras programs, with the learning rate of the program and with cycles between cyclr's bounds.

    python benchmarks/keras_programs.py [SEEDS [PROGRAM ...]]

Each form has the kind of model, the optimizer, the loss, the learning rate and the arguments of `fit` of the public
program with its name, on data of scikit-learn. KERAS_BACKEND chooses the backend; the last two forms need TensorFlow. A
row has the bounds of the first seed, and then three checks:

- training after a range test equals training without a range test to the last bit (history and all variables);
- the largest relative difference between the learning rates of the updates and the schedule;
- a run in two parts, saved and loaded, equals an uninterrupted run to the last bit.

Keras saves no random generators, so every run seeds them again in the middle. Batch statistics are averaged with
momentum 0.9, because the runs have about 200 updates. Then come the mean losses on test data over SEEDS (3), lower is
better: with the learning rate of the program, and with `bounds.schedule` after the same number of updates. The last
column counts the seeds for which `bounds.schedule` is lower.
"""

import os
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits

import cyclr
from cyclr.keras import ScheduleCallback, range_test

LONGEST = 300
TRAIN, TEST = slice(1440), slice(1440, None)
DIGITS = load_digits()
IMAGES, LABELS = (DIGITS.images / 16).astype("float32")[..., None], DIGITS.target.astype("int32")


class KeepRates:
    """Records the learning rate of every update in a variable, which the compiled step writes."""

    def build(self, variables: Any) -> None:
        if not self.built:
            super().build(variables)
            self.rates = self.add_variable((LONGEST,), name="rates")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        now = ops.equal(ops.arange(LONGEST), ops.cast(self.iterations, "int32"))
        self.rates.assign(ops.where(now, ops.cast(learning_rate, "float32"), ops.convert_to_tensor(self.rates)))
        super().update_step(gradient, variable, learning_rate)


class Adam(KeepRates, keras.optimizers.Adam):
    """Adam that records its learning rates."""


class RMSprop(KeepRates, keras.optimizers.RMSprop):
    """RMSprop that records its learning rates."""


@dataclass
class Program:
    model: keras.Model
    x: Any
    y: Any
    test: Sequence[Any]
    """x, y and weights of the test data."""
    epochs: int = 9
    batch_size: int | None = 64
    options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of `fit`, which the range test is given too."""

    def find(self) -> cyclr.Bounds:
        return range_test(self.model, self.x, self.y, batch_size=self.batch_size, **self.options).bounds

    def train(self, seed: int, schedule: cyclr.Schedule | None = None, halves: Sequence[int] = (0, 1)) -> list[Any]:
        """Train the first half, the second half or both halves of the epochs, and return the history of each."""
        histories = []
        for half in halves:
            keras.utils.set_random_seed(10 * seed + half)
            for state in (variable for variable in self.model.variables if variable.name == "seed_generator_state"):
                state.assign([seed, half])
            epochs = {"initial_epoch": half * (self.epochs // 2), "epochs": (self.epochs // 2, self.epochs)[half]}
            callbacks = [] if schedule is None else [ScheduleCallback(schedule)]
            given = {"batch_size": self.batch_size, "callbacks": callbacks, "verbose": 0, **self.options}
            histories.append(self.model.fit(self.x, self.y, **given, **epochs).history)
        return histories

    def test_loss(self) -> float:
        x, y, weight = self.test
        logs = self.model.evaluate(x, y, sample_weight=weight, batch_size=512, verbose=0, return_dict=True)
        return float(logs["loss"])

    def variables(self) -> list[Any]:
        variables = [*self.model.variables, *self.model.metrics_variables, *self.model.optimizer.variables]
        return [ops.convert_to_numpy(variable).tobytes() for variable in variables]


def mnist_convnet() -> Program:
    one, two = layers.Conv2D(16, 3, activation="relu"), layers.Conv2D(32, 2, activation="relu")
    head = layers.Flatten(), layers.Dropout(0.5), layers.Dense(10, activation="softmax")
    model = keras.Sequential([keras.Input((8, 8, 1)), one, layers.MaxPooling2D(2), two, *head])
    model.compile(loss="categorical_crossentropy", optimizer=Adam(), metrics=["accuracy"])
    y = keras.utils.to_categorical(LABELS, 10)
    return Program(model, IMAGES[TRAIN], y[TRAIN], (IMAGES[TEST], y[TEST], None), 10, options={"validation_split": 0.1})


def timeseries() -> Program:
    """An image is a series of 64 values. ReduceLROnPlateau is left out: it would not act in so few epochs."""
    filters = [layers.Conv1D(16, 3, padding="same") for _ in range(3)]
    blocks = [keras.Sequential([layer, layers.BatchNormalization(momentum=0.9), layers.ReLU()]) for layer in filters]
    head = layers.GlobalAveragePooling1D(), layers.Dense(10, activation="softmax")
    model = keras.Sequential([keras.Input((64, 1)), *blocks, *head])
    model.compile(Adam(), "sparse_categorical_crossentropy", metrics=["sparse_categorical_accuracy"])
    x = IMAGES.reshape(-1, 64, 1)
    data = x[TRAIN], LABELS[TRAIN], (x[TEST], LABELS[TEST], None)
    return Program(model, *data, epochs=6, batch_size=32, options={"validation_split": 0.2})


def structured_data() -> Program:
    """Named columns of a table, in a `tf.data.Dataset`."""
    table = load_breast_cancer()
    names = [name.replace(" ", "_") for name in table.feature_names]
    inputs = {name: keras.Input((1,), name=name) for name in names}
    normalization = layers.Normalization(mean=table.data.mean(0), variance=table.data.var(0))
    x = layers.Dense(32, activation="relu")(normalization(layers.Concatenate()(list(inputs.values()))))
    model = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(layers.Dropout(0.5)(x)))
    model.compile(optimizer=Adam(), loss="binary_crossentropy", metrics=["accuracy"])
    rows = np.random.default_rng(0).permutation(len(table.data))
    columns = dict(zip(names, table.data[rows].T[..., None].astype("float32"), strict=True))
    data = tf.data.Dataset.from_tensor_slices((columns, table.target[rows, None].astype("float32")))
    train, test = data.take(448).batch(32).prefetch(2), data.skip(448).batch(512)
    return Program(model, train, None, (test, None, None), epochs=14, batch_size=None, options={"shuffle": False})


class LogisticEndpoint(layers.Layer):
    def call(self, logits: Any, targets: Any) -> Any:
        self.add_loss(ops.mean(keras.losses.binary_crossentropy(targets, logits, from_logits=True)))
        return ops.softmax(logits)


def endpoint_layer() -> Program:
    """The last layer adds the loss, so that the data has no y."""
    inputs, targets = keras.Input((64,), name="inputs"), keras.Input((10,), name="targets")
    outputs = LogisticEndpoint()(layers.Dense(10)(layers.Dense(32, activation="relu")(inputs)), targets)
    model = keras.Model({"inputs": inputs, "targets": targets}, outputs)
    model.compile(optimizer=Adam())
    x = {"inputs": IMAGES.reshape(-1, 64), "targets": keras.utils.to_categorical(LABELS, 10)}
    train, test = ({name: values[part] for name, values in x.items()} for part in (TRAIN, TEST))
    return Program(model, train, None, (test, None, None))


class CustomModel(keras.Model):
    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            prediction = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=prediction)
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        for metric in self.metrics:
            metric.update_state(loss) if metric.name == "loss" else metric.update_state(y, prediction)
        return {metric.name: metric.result() for metric in self.metrics}


def train_step() -> Program:
    table = load_diabetes(scaled=True)
    x, y = 20 * table.data.astype("float32"), table.target[:, None].astype("float32") / 100
    inputs = keras.Input((10,))
    model = CustomModel(inputs, layers.Dense(1)(layers.Dense(32, activation="relu")(inputs)))
    model.compile(optimizer=Adam(), loss="mse", metrics=["mae"])
    return Program(model, x[:352], y[:352], (x[352:], y[352:], None), epochs=18, batch_size=32)


def siamese() -> Program:
    images, one, two = (keras.Input((8, 8, 1)) for _ in range(3))
    x = layers.Conv2D(8, 3, activation="tanh")(layers.BatchNormalization(momentum=0.9)(images))
    x = layers.BatchNormalization(momentum=0.9)(layers.Flatten()(layers.AveragePooling2D(2)(x)))
    embedding = keras.Model(images, layers.Dense(10, activation="tanh")(x))
    squares = ops.sum(ops.square(embedding(one) - embedding(two)), axis=1, keepdims=True)
    distance = ops.sqrt(ops.maximum(squares, keras.config.epsilon()))
    normalized = layers.BatchNormalization(momentum=0.9)(distance)
    model = keras.Model([one, two], layers.Dense(1, activation="sigmoid")(normalized))

    def contrastive(y: Any, prediction: Any) -> Any:
        return ops.mean((1 - y) * ops.square(prediction) + y * ops.square(ops.maximum(1 - prediction, 0)))

    model.compile(loss=contrastive, optimizer=RMSprop(), metrics=["accuracy"])

    def pairs(part: slice) -> tuple[Any, Any]:
        """Pair every image with an image of the same digit, and with an image of another digit."""
        images, labels, random = IMAGES[part], LABELS[part], np.random.default_rng(0)
        others = [random.choice(np.flatnonzero((labels == own) != d)) for own in labels for d in (False, True)]
        y = np.tile([0.0, 1.0], len(labels)).astype("float32")[:, None]
        return [images.repeat(2, axis=0), images[others]], y

    return Program(model, *pairs(TRAIN), (*pairs(TEST), None), epochs=9, batch_size=128)


class VAE(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = keras.Sequential([keras.Input((64,)), layers.Dense(64, activation="relu"), layers.Dense(8)])
        decoder = layers.Dense(64, activation="relu"), layers.Dense(64, activation="sigmoid")
        self.decoder = keras.Sequential([keras.Input((4,)), *decoder])
        self.seeds = keras.random.SeedGenerator(1)
        self.tracker = keras.metrics.Mean(name="loss")
        self.built = True

    @property
    def metrics(self) -> Any:
        return [self.tracker]

    def loss_of(self, x: Any) -> Any:
        center, log_variance = ops.split(self.encoder(x), 2, axis=1)
        noise = keras.random.normal(ops.shape(center), seed=self.seeds)
        output = self.decoder(center + ops.exp(log_variance / 2) * noise)
        divergence = ops.sum(ops.square(center) + ops.exp(log_variance) - 1 - log_variance, axis=1) / 2
        return ops.mean(64 * keras.losses.binary_crossentropy(x, output) + divergence)

    def train_step(self, x: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = self.loss_of(x)
        self.optimizer.apply(tape.gradient(loss, self.trainable_weights), self.trainable_weights)
        self.tracker.update_state(loss)
        return {"loss": self.tracker.result()}

    def test_step(self, x: Any) -> Any:
        self.tracker.update_state(self.loss_of(x))
        return {"loss": self.tracker.result()}


def vae() -> Program:
    model, x = VAE(), IMAGES.reshape(-1, 64)
    model.compile(optimizer=Adam())
    return Program(model, x[TRAIN], None, (x[TEST], None, None), epochs=16, batch_size=128)


@cache
def pretrained() -> Any:
    """Return the weights of a base that was trained on the digits 5 to 9."""
    base, rows = convolutional_base(), LABELS > 4
    model = keras.Sequential([base, layers.Dense(10, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(IMAGES[rows], LABELS[rows], epochs=5, verbose=0)
    return base.get_weights()


def convolutional_base() -> keras.Model:
    convolutions = layers.Conv2D(16, 3), layers.BatchNormalization(momentum=0.9), layers.ReLU(), layers.Conv2D(16, 3)
    return keras.Sequential([keras.Input((8, 8, 1)), *convolutions, layers.GlobalAveragePooling2D()])


def transfer_learning() -> Program:
    """A frozen base, and a new output for the digits 0 to 4."""
    weights = pretrained()
    base = convolutional_base()
    base.set_weights(weights)
    base.trainable = False
    inputs = keras.Input((8, 8, 1))
    outputs = layers.Dense(5)(layers.Dropout(0.2)(base(inputs, training=False)))
    model = keras.Model(inputs, outputs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=Adam(), loss=loss, metrics=["accuracy"])
    x, y = IMAGES[LABELS < 5], LABELS[LABELS < 5]
    return Program(model, x[:720], y[:720], (x[720:], y[720:], None), epochs=9, batch_size=32)


def denoising() -> Program:
    """An autoencoder, from images with noise to images without."""
    encoder = layers.Conv2D(16, 3, activation="relu", padding="same"), layers.MaxPooling2D(2, padding="same")
    decoder = layers.Conv2DTranspose(16, 3, strides=2, activation="relu", padding="same")
    output = layers.Conv2D(1, 3, activation="sigmoid", padding="same")
    model = keras.Sequential([keras.Input((8, 8, 1)), *encoder, decoder, output])
    model.compile(optimizer=Adam(), loss="binary_crossentropy")
    noise = np.random.default_rng(0).normal(size=IMAGES.shape)
    noisy = np.clip(IMAGES + 0.4 * noise, 0, 1).astype("float32")
    return Program(model, noisy[TRAIN], IMAGES[TRAIN], (noisy[TEST], IMAGES[TEST], None), epochs=16, batch_size=128)


def class_weight() -> Program:
    """Imbalanced classification: does an image show a 9? One image in ten does."""
    dense, output = layers.Dense(64, activation="relu"), layers.Dense(1, activation="sigmoid")
    model = keras.Sequential([keras.Input((64,)), dense, layers.Dropout(0.3), output])
    model.compile(optimizer=Adam(1e-2), loss="binary_crossentropy")
    x, y = IMAGES.reshape(-1, 64), (LABELS == 9).astype("float32")[:, None]
    weights = {0: 1 / (y[TRAIN] == 0).mean(), 1: 1 / (y[TRAIN] == 1).mean()}
    weight = np.where(y[TEST, 0] == 1, weights[1], weights[0])
    return Program(model, x[TRAIN], y[TRAIN], (x[TEST], y[TEST], weight), options={"class_weight": weights})


PROGRAMS = (mnist_convnet, timeseries, structured_data, endpoint_layer, siamese, transfer_learning, denoising)
PROGRAMS = {make.__name__: make for make in (*PROGRAMS, class_weight, train_step, vae)}


def program(name: str, seed: int) -> Program:
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    return PROGRAMS[name]()


def checks(name: str, seed: int, schedule: cyclr.Schedule, whole: Program, histories: list[Any]) -> list[str]:
    tested = program(name, seed)
    tested.find()
    after = tested.train(seed, schedule), tested.variables()
    half, rest = program(name, seed), program(name, seed + 1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "half.weights.h5"
        parts = half.train(seed, schedule, [0])
        half.model.save_weights(path)
        rest.model.optimizer.build(rest.model.trainable_variables)
        rest.model.load_weights(path)
    rest.test_loss()  # builds the metrics: Keras may draw random numbers for them
    in_parts = parts + rest.train(seed, schedule, [1]), rest.variables()
    equal = ["equal" if other == (histories, whole.variables()) else "differs" for other in (after, in_parts)]
    expected = schedule(np.arange(schedule.total_steps))
    rates = ops.convert_to_numpy(whole.model.optimizer.rates).astype("float64")
    difference = np.max(np.abs(rates[: len(expected)] / expected - 1))
    return [equal[0], f"{difference:.1e} of {len(expected)}", equal[1]]


def row(name: str, seeds: range) -> list[str]:
    cells, losses = [], []
    for seed in seeds:
        bounds = program(name, seed).find()
        own, cycled = program(name, seed), program(name, seed)
        own.train(seed)
        schedule = bounds.schedule(total_steps=int(own.model.optimizer.iterations))
        histories = cycled.train(seed, schedule)
        if not cells:
            cells = [name, bounds.status, f"{bounds.base_lr:.2g} to {bounds.max_lr:.2g}"]
            cells += checks(name, seed, schedule, cycled, histories)
        losses.append((own.test_loss(), cycled.test_loss()))
    means = [f"{mean(column):.3g}" for column in zip(*losses, strict=True)]
    return [*cells, *means, f"{sum(new < old for old, new in losses)} of {len(seeds)}"]


def main(arguments: Sequence[str]) -> None:
    # The callback reports that half of the epochs are shorter than the schedule.
    warnings.filterwarnings("ignore", category=UserWarning, module="cyclr")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    print("| program | status | bounds | after a test | rates | in parts | own rates | cycle | lower |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in arguments[1:] or PROGRAMS:
        print("|", " | ".join(row(name, range(int(arguments[0]) if arguments else 3))), "|", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
