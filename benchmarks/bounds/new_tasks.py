"""Tasks for judging the rule for bounds. No constant of the rule is fitted to them.

Their kinds differ from `tasks.TASKS`: language models, deep residual networks, denoising, classes of pixels, a
contrastive loss, ill-conditioned linear models, backbones with a lower learning rate than the head, and thousands of
updates. `leave_one_out.py`, which chooses the constants, reads only `TASKS`. Results on `NEW_TASKS` are published, but
do not change the rule.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import models
from data import Data
from models import Model
from tasks import TASKS, Task, attention, cnn, gru, mlp, tasks_of


def _residual(width: int, blocks: int, *, normalized: bool) -> Callable[[Data], Model]:
    return lambda data: models.residual(data.features, width, blocks, data.outputs, normalized=normalized)


def _residual_cnn(channels: int, blocks: int) -> Callable[[Data], Model]:
    return lambda data: models.residual_cnn((8, 8, 1), channels, blocks, data.outputs)


def _per_pixel(side: int, *channels: int) -> Callable[[Data], Model]:
    """One output for every class, or one value."""
    return lambda data: models.per_pixel((side, side, 1), channels, data.outputs if data.kind == "classes" else 1)


def _two_views(encoder: Callable[[Data], Model], *, noise: float) -> Callable[[Data], Model]:
    """Train an encoder with eight outputs on two views of each sample."""
    return lambda data: models.two_views(encoder(replace(data, outputs=8)), noise)


def _new_tasks() -> list[Task]:
    ce, squared = "cross-entropy", "squared"
    rows: list[tuple[Any, ...]] = [
        # family, data, model, optimizer, batch, steps, loss, scale, pretrained on, factor of the backbone's rate
        ("language", "text, 8 letters", mlp(64), "adamw", 64, 600, ce),
        ("language", "text, 16 letters", attention(24, tokens=16, causal=True), "adam", 16, 300, ce),
        ("language", "text, 12 letters", gru(24, tokens=12, every=True), "lion", 16, 300, ce),
        ("residual", "digits", _residual(24, 12, normalized=True), "adamw", 32, 300, ce),
        ("residual", "digits", _residual(24, 12, normalized=False), "nesterov", 32, 400, ce),
        ("residual", "digits", _residual_cnn(6, 6), "momentum", 16, 300, ce),
        ("residual", "fashion, small", _residual(32, 6, normalized=True), "muon", 64, 200, ce),
        ("denoising", "digits with noise", mlp(48), "adam", 32, 400, squared),
        ("denoising", "digits with noise", _per_pixel(8, 6, 6), "momentum", 16, 400, squared),
        ("segmentation", "shapes", _per_pixel(10, 8, 8), "adam", 8, 300, ce),
        ("segmentation", "textures", _per_pixel(10, 8, 8), "sgd", 8, 400, ce),
        ("contrastive", "digits", _two_views(mlp(64), noise=1.0), "adam", 64, 300, "contrastive"),
        ("contrastive", "digits", _two_views(cnn(8, 6, 8), noise=0.5), "momentum", 32, 300, "contrastive"),
        ("ill-conditioned", "regression, ill-conditioned", mlp(), "momentum", 32, 800, squared),
        ("ill-conditioned", "regression, ill-conditioned", mlp(), "rmsprop", 32, 800, squared),
        ("ill-conditioned", "classes, ill-conditioned", mlp(), "sgd", 32, 800, ce),
        ("backbone", "digits", mlp(64, 64), "adam", 32, 200, ce, 1.0, "new head", 0.1),
        ("backbone", "fashion, small", mlp(64, 64), "momentum", 32, 250, ce, 1.0, "new head", 0.1),
        ("backbone", "digits", cnn(8, 6, 12), "nadam", 32, 200, ce, 1.0, "half of the classes", 0.1),
        ("long", "digits", mlp(64), "momentum", 32, 3000, ce),
        ("long", "friedman 1", mlp(48, 48), "adam", 32, 2500, squared),
        ("long", "classification", mlp(64), "sgd", 32, 4000, ce),
        ("long", "text, 8 letters", mlp(48), "adamw", 32, 2000, ce),
    ]
    return tasks_of(rows)


NEW_TASKS = _new_tasks()
ALL = TASKS + NEW_TASKS
