"""The tasks of the benchmark: data, model, loss, optimizer and batch size, in families for leaving one out.

All data is real or from a standard generator of scikit-learn. All tasks are small enough to be trained hundreds of
times.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import models
import optax
from data import Data, read
from models import Model
from optax import contrib


@dataclass(frozen=True)
class Task:
    """One training problem.

    Args:
        family: name of the group of tasks that is left out together.
        batch: samples per update.
        steps: updates of a whole training run.
        scale: factor of the loss.
        pretrained: data of 400 updates with Adam's default learning rate before the task: the same classes (and data)
            or half of the classes, with or without a new last layer afterwards.
        backbone: factor of the learning rate of all layers except the last.
    """

    name: str
    family: str
    data: str
    model: Callable[[Data], Model]
    optimizer: str
    batch: int
    steps: int
    loss: Literal["cross-entropy", "squared", "absolute", "huber", "contrastive"] = "cross-entropy"
    scale: float = 1.0
    pretrained: Literal["same classes", "half of the classes", "new head"] | None = None
    backbone: float = 1.0

    @property
    def dataset(self) -> Data:
        return read(self.data)


OPTIMIZERS: dict[str, Callable[[], Any]] = {
    # Each with a learning rate of 1. The learning rate of the update multiplies the updates that they return.
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
    # Optimizers that need no learning rate.
    "prodigy": lambda: contrib.prodigy(1.0),
    "D-Adaptation": lambda: contrib.dadapt_adamw(1.0),
    "schedule-free": lambda: contrib.schedule_free_adamw(0.0025),
}

DEFAULT_RATE = {
    "sgd": 0.01, "momentum": 0.01, "nesterov": 0.01, "adam": 1e-3, "adamw": 1e-3, "rmsprop": 1e-3, "adagrad": 1e-2,
    "nadam": 1e-3, "lion": 1e-4, "muon": 0.02,
}  # fmt: skip
"""The default learning rates of the frameworks (Keras and torch; for Lion and Muon the advice of their authors)."""


def mlp(*hidden: int, **options: Any) -> Callable[[Data], Model]:
    return lambda data: models.mlp(data.features, hidden, data.outputs, **options)


def cnn(side: int, *channels: int, dense: int = 32, **options: Any) -> Callable[[Data], Model]:
    return lambda data: models.cnn((side, side, 1), channels, dense, data.outputs, **options)


def gru(width: int, tokens: int = 8, **options: Any) -> Callable[[Data], Model]:
    return lambda data: models.gru(tokens, data.features // tokens, width, data.outputs, **options)


def attention(width: int, blocks: int = 1, tokens: int = 8, **options: Any) -> Callable[[Data], Model]:
    return lambda data: models.attention(tokens, data.features // tokens, width, data.outputs, blocks=blocks, **options)


def tasks_of(rows: Iterable[tuple[Any, ...]]) -> list[Task]:
    """Return tasks from rows of `Task`'s arguments without the name. Names are numbered by family."""
    tasks: list[Task] = []
    for row in rows:
        family, data, _, optimizer, batch = row[:5]
        count = 1 + sum(task.family == family for task in tasks)
        tasks.append(Task(f"{family} {count}: {data}, {optimizer}, batch {batch}", *row))
    return tasks


def _tasks() -> list[Task]:
    tanh = jnp.tanh
    ce, squared = "cross-entropy", "squared"
    rows: list[tuple[Any, ...]] = [
        # family, data, model, optimizer, batch, steps, loss, scale, pretrained on
        ("linear", "iris", mlp(), "sgd", 16, 200, ce),
        ("linear", "digits", mlp(), "momentum", 32, 400, ce),
        ("linear", "regression", mlp(), "adam", 16, 400, squared),
        ("linear", "diabetes", mlp(), "sgd", 16, 300, squared),
        ("dense", "wine", mlp(32), "adam", 8, 250, ce),
        ("dense", "cancer", mlp(32, 32), "momentum", 32, 250, ce),
        ("dense", "digits", mlp(64), "sgd", 32, 500, ce),
        ("dense", "digits", mlp(64, 64), "adam", 64, 400, ce),
        ("dense", "digits", mlp(64, 64), "lion", 64, 400, ce),
        ("dense", "digits", mlp(64, 64), "nadam", 128, 250, ce),
        ("dense", "digits", mlp(128), "adagrad", 32, 400, ce),
        ("dense", "digits", mlp(64, 64), "muon", 64, 300, ce),
        ("dense", "digits", mlp(64), "momentum", 1024, 150, ce),
        ("dense", "moons", mlp(32, 32), "rmsprop", 32, 500, ce),
        ("dense", "classification", mlp(64, 64), "adamw", 32, 600, ce),
        ("dense", "digits, noisy labels", mlp(64), "momentum", 32, 500, ce),
        ("dense", "fashion", mlp(64), "adam", 128, 600, ce),
        ("deep", "digits", mlp(32, 32, 32, 32, 32, 32), "momentum", 32, 500, ce),
        ("deep", "classification", mlp(48, 48, 48, 48, activation=tanh), "rmsprop", 64, 400, ce),
        ("deep", "friedman 1", mlp(48, 48, 48, 48), "adam", 32, 500, squared),
        ("normalized", "digits", mlp(64, 64, batch_norm=True), "momentum", 64, 400, ce),
        ("normalized", "digits", mlp(64, 64, batch_norm=True, dropout=0.3), "adam", 32, 500, ce),
        ("normalized", "classification", mlp(64, 64, dropout=0.5), "momentum", 64, 600, ce),
        ("normalized", "fashion, small", mlp(64, 64, batch_norm=True), "sgd", 64, 400, ce),
        ("regression", "diabetes", mlp(32), "adam", 16, 400, squared),
        ("regression", "diabetes", mlp(32, 32), "momentum", 8, 500, squared),
        ("regression", "diabetes, raw", mlp(16), "adam", 32, 600, squared),
        ("regression", "friedman 1", mlp(64), "momentum", 32, 600, squared),
        ("regression", "friedman 2", mlp(32, 32), "rmsprop", 32, 500, "huber"),
        ("regression", "friedman 3", mlp(32, 32, activation=tanh), "adamw", 16, 600, squared),
        ("regression", "regression", mlp(32), "sgd", 16, 400, squared),
        ("regression", "digits, as values", mlp(64), "adam", 64, 500, "absolute"),
        ("scaled", "digits", mlp(64), "momentum", 32, 400, ce, 100.0),
        ("scaled", "digits", mlp(64), "sgd", 32, 400, ce, 0.01),
        ("scaled", "friedman 1", mlp(64), "adam", 32, 500, squared, 100.0),
        ("scaled", "friedman 1", mlp(64), "momentum", 32, 500, squared, 0.01),
        ("convolutional", "digits", cnn(8, 8, 16), "momentum", 32, 400, ce),
        ("convolutional", "digits", cnn(8, 8, 16), "adam", 64, 300, ce),
        ("convolutional", "digits", cnn(8, 8, 16, batch_norm=True), "sgd", 64, 300, ce),
        ("convolutional", "fashion, small", cnn(7, 8, 16, dropout=0.3), "adamw", 64, 400, ce),
        ("recurrent", "digits", gru(32), "adam", 64, 400, ce),
        ("recurrent", "digits", gru(32), "momentum", 32, 400, ce),
        ("recurrent", "digits", gru(24), "rmsprop", 32, 300, ce),
        ("attention", "digits", attention(24), "adam", 64, 400, ce),
        ("attention", "digits", attention(24, 2), "adamw", 32, 400, ce),
        ("attention", "digits", attention(24), "momentum", 32, 400, ce),
        ("autoencoder", "digits, themselves", mlp(48, 12, 48), "adam", 64, 500, squared),
        ("autoencoder", "digits, themselves", mlp(32, activation=tanh), "momentum", 32, 500, squared),
        ("fine-tuning", "digits", mlp(64, 64), "adam", 32, 200, ce, 1.0, "new head"),
        ("fine-tuning", "fashion, small", mlp(64, 64), "momentum", 32, 250, ce, 1.0, "new head"),
        ("fine-tuning", "digits", cnn(8, 8, 16), "sgd", 32, 200, ce, 1.0, "new head"),
        ("fine-tuning", "digits", mlp(64, 64), "momentum", 32, 200, ce, 1.0, "same classes"),
        ("fine-tuning", "friedman 1", mlp(64), "adam", 32, 250, squared, 1.0, "same classes"),
        ("fine-tuning", "digits", cnn(8, 8, 16), "momentum", 32, 200, ce, 1.0, "half of the classes"),
    ]
    return tasks_of(rows)


TASKS = _tasks()


def _similarities(out: Any) -> Any:
    """Return the cosines between all pairs of different outputs, shape (count, count)."""
    out = out * jax.lax.rsqrt((out**2).sum(-1, keepdims=True) + 1e-6)
    return jnp.where(jnp.eye(len(out), dtype=bool), -jnp.inf, out @ out.T)


def _contrastive(out: Any) -> Any:
    """SimCLR's loss at a temperature of 0.2: which of all outputs is the other view of the same sample?"""
    half = len(out) // 2
    logs = jax.nn.log_softmax(_similarities(out) / 0.2)
    return -(jnp.diagonal(logs, half).mean() + jnp.diagonal(logs, -half).mean()) / 2


def loss_of(task: Task) -> Callable[[Any, Any], Any]:
    """Return the mean loss of a batch of outputs and targets."""
    if task.loss == "contrastive":
        return lambda out, y: task.scale * _contrastive(out)
    elementwise: dict[str, Callable[[Any, Any], Any]] = {
        "cross-entropy": lambda out, y: -jnp.take_along_axis(jax.nn.log_softmax(out), y[..., None], -1),
        "squared": lambda out, y: (out - y) ** 2,
        "absolute": lambda out, y: jnp.abs(out - y),
        "huber": optax.huber_loss,
    }
    one = elementwise[task.loss]
    return lambda out, y: task.scale * one(out, y).mean()


def score_of(task: Task) -> Callable[[Any, Any], Any]:
    """Return the accuracy, or R² averaged over the targets; 0 for a run that diverged or is worse than the mean.

    The accuracy of a contrastive task is the share of outputs whose nearest neighbour has the same class.
    """
    if task.loss == "contrastive":

        def of_neighbours(out: Any, y: Any) -> Any:
            nearest = y[_similarities(out).argmax(-1)]
            return jnp.where(jnp.all(jnp.isfinite(out)), (nearest == y).mean(), 0.0)

        return of_neighbours

    if task.dataset.kind == "classes":

        def accuracy(out: Any, y: Any) -> Any:
            return jnp.where(jnp.all(jnp.isfinite(out)), (out.argmax(-1) == y).mean(), 0.0)

        return accuracy

    def r2(out: Any, y: Any) -> Any:
        unexplained = ((out - y) ** 2).sum() / ((y - y.mean(0)) ** 2).sum()
        return jnp.where(jnp.isfinite(unexplained), jnp.maximum(1 - unexplained, 0.0), 0.0)

    return r2
