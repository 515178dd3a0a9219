"""The tasks of the benchmark: data, model, loss, optimizer and batch size, in families for leaving one out.

Everything is real or a standard generator of scikit-learn, and small enough to be trained hundreds of times.
"""

import functools
import gzip
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import models
import numpy as np
import optax
from models import Model
from optax import contrib
from sklearn import datasets

FASHION = Path(os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))


@dataclass(frozen=True)
class Data:
    x: Any
    y: Any
    x_val: Any
    y_val: Any
    outputs: int
    kind: Literal["classes", "values"]

    @property
    def features(self) -> int:
        return int(np.prod(self.x.shape[1:]))


def _split(x: Any, y: Any, kind: Literal["classes", "values"], *, raw: bool = False) -> Data:
    """Three quarters to train on, one to judge by; inputs standardized, targets too unless they are to stay raw."""
    rng = np.random.default_rng(7)
    order = rng.permutation(len(x))
    x, y = np.asarray(x, np.float32)[order], np.asarray(y)[order]
    cut = len(x) * 3 // 4
    x = (x - x[:cut].mean(0)) / (x[:cut].std(0) + 1e-3)
    if kind == "classes":
        y, outputs = y.astype(np.int32), int(y.max()) + 1
    else:
        y = np.asarray(y, np.float32).reshape(len(y), -1)
        y = y if raw else (y - y[:cut].mean(0)) / y[:cut].std(0)
        outputs = y.shape[1]
    return Data(x[:cut], y[:cut], x[cut:], y[cut:], outputs, kind)


@functools.cache
def _data(name: str) -> Data:
    loaders: dict[str, Callable[[], Data]] = {
        "iris": lambda: _split(*datasets.load_iris(return_X_y=True), "classes"),
        "wine": lambda: _split(*datasets.load_wine(return_X_y=True), "classes"),
        "cancer": lambda: _split(*datasets.load_breast_cancer(return_X_y=True), "classes"),
        "digits": lambda: _split(*_digits(), "classes"),
        "digits, noisy labels": lambda: _noisy_labels(_split(*_digits(), "classes")),
        "digits, as values": lambda: _split(*_digits(), "values"),
        "digits, themselves": lambda: _split(_digits()[0], _digits()[0], "values", raw=True),
        "moons": lambda: _split(*datasets.make_moons(1200, noise=0.25, random_state=0), "classes"),
        "classification": lambda: _split(
            *datasets.make_classification(2000, 30, n_informative=12, n_classes=5, random_state=0), "classes"
        ),
        "diabetes": lambda: _split(*datasets.load_diabetes(return_X_y=True), "values"),
        "diabetes, raw": lambda: _split(*datasets.load_diabetes(return_X_y=True), "values", raw=True),
        "friedman 1": lambda: _split(*datasets.make_friedman1(1500, noise=1.0, random_state=0), "values"),
        "friedman 2": lambda: _split(*datasets.make_friedman2(800, noise=50.0, random_state=0), "values"),
        "friedman 3": lambda: _split(*datasets.make_friedman3(800, noise=0.1, random_state=0), "values"),
        "regression": lambda: _split(
            *datasets.make_regression(600, 20, n_informative=8, noise=40.0, random_state=0), "values"
        ),
        "fashion": lambda: _fashion(8000, 2),
        "fashion, small": lambda: _fashion(2000, 4),
    }
    return loaders[name]()


def _digits() -> tuple[Any, Any]:
    digits = datasets.load_digits()
    return digits.data, digits.target


def _noisy_labels(data: Data) -> Data:
    rng = np.random.default_rng(3)
    wrong = rng.random(len(data.y)) < 0.2
    y = np.where(wrong, rng.integers(0, data.outputs, len(data.y)), data.y).astype(np.int32)
    return Data(data.x, y, data.x_val, data.y_val, data.outputs, data.kind)


def _idx(name: str) -> Any:
    with gzip.open(FASHION / f"{name}.gz") as file:
        content = file.read()
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, 4 + 4 * content[3], 4)]
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape)


def _fashion(count: int, pool: int) -> Data:
    """Fashion-MNIST, its images averaged over squares of `pool` pixels."""
    x, y = _idx("train-images-idx3-ubyte")[:count], _idx("train-labels-idx1-ubyte")[:count]
    small = x.reshape(count, 28 // pool, pool, 28 // pool, pool).mean((2, 4))
    return _split(small.reshape(count, -1), y, "classes")


@dataclass(frozen=True)
class Task:
    """One training problem.

    Args:
        family: what is left out together.
        batch: samples in an update.
        steps: updates of a whole training run.
        scale: factor of the loss.
        pretrained: what 400 updates at Adam's default rate were made on before the task begins: the same classes (and
            data) or half of the classes, with a new last layer afterwards or not.
    """

    name: str
    family: str
    data: str
    model: Callable[[Data], Model]
    optimizer: str
    batch: int
    steps: int
    loss: Literal["cross-entropy", "squared", "absolute", "huber"] = "cross-entropy"
    scale: float = 1.0
    pretrained: Literal["same classes", "half of the classes", "new head"] | None = None

    @property
    def dataset(self) -> Data:
        return _data(self.data)


OPTIMIZERS: dict[str, Callable[[], Any]] = {
    # Each with a rate of 1; the rate of the update multiplies what they return.
    "sgd": lambda: optax.sgd(1.0),
    "momentum": lambda: optax.sgd(1.0, momentum=0.9),
    "nesterov": lambda: optax.sgd(1.0, momentum=0.9, nesterov=True),
    "adam": lambda: optax.adam(1.0),
    "adamw": lambda: optax.adamw(1.0, weight_decay=0.01),
    "rmsprop": lambda: optax.rmsprop(1.0),
    "adagrad": lambda: optax.adagrad(1.0),
    "nadam": lambda: optax.nadam(1.0),
    "lion": lambda: optax.lion(1.0, weight_decay=0.01),
    "muon": lambda: contrib.muon(1.0),
    # For those who would rather not choose.
    "prodigy": lambda: contrib.prodigy(1.0),
    "D-Adaptation": lambda: contrib.dadapt_adamw(1.0),
    "schedule-free": lambda: contrib.schedule_free_adamw(0.0025),
}

DEFAULT_RATE = {
    "sgd": 0.01, "momentum": 0.01, "nesterov": 0.01, "adam": 1e-3, "adamw": 1e-3, "rmsprop": 1e-3, "adagrad": 1e-2,
    "nadam": 1e-3, "lion": 1e-4, "muon": 0.02,
}  # fmt: skip
"""What the frameworks take if nothing is said (Keras' and torch's; Lion and Muon: their authors' advice)."""


def _mlp(*hidden: int, **options: Any) -> Callable[[Data], Model]:
    return lambda data: models.mlp(data.features, hidden, data.outputs, **options)


def _cnn(side: int, *channels: int, dense: int = 32, **options: Any) -> Callable[[Data], Model]:
    return lambda data: models.cnn((side, side, 1), channels, dense, data.outputs, **options)


def _gru(width: int) -> Callable[[Data], Model]:
    return lambda data: models.gru(8, 8, width, data.outputs)


def _attention(width: int, blocks: int = 1) -> Callable[[Data], Model]:
    return lambda data: models.attention(8, 8, width, data.outputs, blocks=blocks)


def _tasks() -> list[Task]:
    tanh = jnp.tanh
    ce, squared = "cross-entropy", "squared"
    rows: list[tuple[Any, ...]] = [
        # family, data, model, optimizer, batch, steps, loss, scale, pretrained on
        ("linear", "iris", _mlp(), "sgd", 16, 200, ce),
        ("linear", "digits", _mlp(), "momentum", 32, 400, ce),
        ("linear", "regression", _mlp(), "adam", 16, 400, squared),
        ("linear", "diabetes", _mlp(), "sgd", 16, 300, squared),
        ("dense", "wine", _mlp(32), "adam", 8, 250, ce),
        ("dense", "cancer", _mlp(32, 32), "momentum", 32, 250, ce),
        ("dense", "digits", _mlp(64), "sgd", 32, 500, ce),
        ("dense", "digits", _mlp(64, 64), "adam", 64, 400, ce),
        ("dense", "digits", _mlp(64, 64), "lion", 64, 400, ce),
        ("dense", "digits", _mlp(64, 64), "nadam", 128, 250, ce),
        ("dense", "digits", _mlp(128), "adagrad", 32, 400, ce),
        ("dense", "digits", _mlp(64, 64), "muon", 64, 300, ce),
        ("dense", "digits", _mlp(64), "momentum", 1024, 150, ce),
        ("dense", "moons", _mlp(32, 32), "rmsprop", 32, 500, ce),
        ("dense", "classification", _mlp(64, 64), "adamw", 32, 600, ce),
        ("dense", "digits, noisy labels", _mlp(64), "momentum", 32, 500, ce),
        ("dense", "fashion", _mlp(64), "adam", 128, 600, ce),
        ("deep", "digits", _mlp(32, 32, 32, 32, 32, 32), "momentum", 32, 500, ce),
        ("deep", "classification", _mlp(48, 48, 48, 48, activation=tanh), "rmsprop", 64, 400, ce),
        ("deep", "friedman 1", _mlp(48, 48, 48, 48), "adam", 32, 500, squared),
        ("normalized", "digits", _mlp(64, 64, batch_norm=True), "momentum", 64, 400, ce),
        ("normalized", "digits", _mlp(64, 64, batch_norm=True, dropout=0.3), "adam", 32, 500, ce),
        ("normalized", "classification", _mlp(64, 64, dropout=0.5), "momentum", 64, 600, ce),
        ("normalized", "fashion, small", _mlp(64, 64, batch_norm=True), "sgd", 64, 400, ce),
        ("regression", "diabetes", _mlp(32), "adam", 16, 400, squared),
        ("regression", "diabetes", _mlp(32, 32), "momentum", 8, 500, squared),
        ("regression", "diabetes, raw", _mlp(16), "adam", 32, 600, squared),
        ("regression", "friedman 1", _mlp(64), "momentum", 32, 600, squared),
        ("regression", "friedman 2", _mlp(32, 32), "rmsprop", 32, 500, "huber"),
        ("regression", "friedman 3", _mlp(32, 32, activation=tanh), "adamw", 16, 600, squared),
        ("regression", "regression", _mlp(32), "sgd", 16, 400, squared),
        ("regression", "digits, as values", _mlp(64), "adam", 64, 500, "absolute"),
        ("scaled", "digits", _mlp(64), "momentum", 32, 400, ce, 100.0),
        ("scaled", "digits", _mlp(64), "sgd", 32, 400, ce, 0.01),
        ("scaled", "friedman 1", _mlp(64), "adam", 32, 500, squared, 100.0),
        ("scaled", "friedman 1", _mlp(64), "momentum", 32, 500, squared, 0.01),
        ("convolutional", "digits", _cnn(8, 8, 16), "momentum", 32, 400, ce),
        ("convolutional", "digits", _cnn(8, 8, 16), "adam", 64, 300, ce),
        ("convolutional", "digits", _cnn(8, 8, 16, batch_norm=True), "sgd", 64, 300, ce),
        ("convolutional", "fashion, small", _cnn(7, 8, 16, dropout=0.3), "adamw", 64, 400, ce),
        ("recurrent", "digits", _gru(32), "adam", 64, 400, ce),
        ("recurrent", "digits", _gru(32), "momentum", 32, 400, ce),
        ("recurrent", "digits", _gru(24), "rmsprop", 32, 300, ce),
        ("attention", "digits", _attention(24), "adam", 64, 400, ce),
        ("attention", "digits", _attention(24, 2), "adamw", 32, 400, ce),
        ("attention", "digits", _attention(24), "momentum", 32, 400, ce),
        ("autoencoder", "digits, themselves", _mlp(48, 12, 48), "adam", 64, 500, squared),
        ("autoencoder", "digits, themselves", _mlp(32, activation=tanh), "momentum", 32, 500, squared),
        ("fine-tuning", "digits", _mlp(64, 64), "adam", 32, 200, ce, 1.0, "new head"),
        ("fine-tuning", "fashion, small", _mlp(64, 64), "momentum", 32, 250, ce, 1.0, "new head"),
        ("fine-tuning", "digits", _cnn(8, 8, 16), "sgd", 32, 200, ce, 1.0, "new head"),
        ("fine-tuning", "digits", _mlp(64, 64), "momentum", 32, 200, ce, 1.0, "same classes"),
        ("fine-tuning", "friedman 1", _mlp(64), "adam", 32, 250, squared, 1.0, "same classes"),
        ("fine-tuning", "digits", _cnn(8, 8, 16), "momentum", 32, 200, ce, 1.0, "half of the classes"),
    ]
    tasks = []
    for row in rows:
        family, data, model, optimizer, batch, steps = row[:6]
        count = 1 + sum(task.family == family for task in tasks)
        name = f"{family} {count}: {data}, {optimizer}, batch {batch}"
        tasks.append(Task(name, family, data, model, optimizer, batch, steps, *row[6:]))
    return tasks


TASKS = _tasks()


def loss_of(task: Task) -> Callable[[Any, Any], Any]:
    """Mean loss of a batch of outputs and targets."""
    elementwise: dict[str, Callable[[Any, Any], Any]] = {
        "cross-entropy": lambda out, y: -jnp.take_along_axis(jax.nn.log_softmax(out), y[:, None], -1),
        "squared": lambda out, y: (out - y) ** 2,
        "absolute": lambda out, y: jnp.abs(out - y),
        "huber": optax.huber_loss,
    }
    one = elementwise[task.loss]
    return lambda out, y: task.scale * one(out, y).mean()


def score_of(task: Task) -> Callable[[Any, Any], Any]:
    """Accuracy, or R² averaged over the targets; 0 for a run that diverged or does worse than the mean."""
    if task.dataset.kind == "classes":

        def accuracy(out: Any, y: Any) -> Any:
            return jnp.where(jnp.all(jnp.isfinite(out)), (out.argmax(-1) == y).mean(), 0.0)

        return accuracy

    def r2(out: Any, y: Any) -> Any:
        unexplained = ((out - y) ** 2).sum() / ((y - y.mean(0)) ** 2).sum()
        return jnp.where(jnp.isfinite(unexplained), jnp.maximum(1 - unexplained, 0.0), 0.0)

    return r2
