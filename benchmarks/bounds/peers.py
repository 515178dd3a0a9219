"""The suggestions of other tools for the same task, by their own sweep, smoothing, stopping and installed rule.

`training.sweep` runs a sweep with the learning rates that the tool uses by default. The losses are smoothed and cut by
the tool's smoothing and stopping rule (a few lines each, from its source), and passed to the tool's own function. A
tool that raises or returns nothing has no suggestion.

It needs the `dev` extra and `pip install --no-deps fastai fastcore fastprogress python-fasthtml itsdangerous
python-multipart fastdownload fasttransform plum-dispatch beartype torch-lr-finder`. Tools that are not installed are
left out.
"""

import contextlib
import io
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Rates = Any
Losses = Any


@dataclass(frozen=True)
class Peer:
    """A finder of another tool.

    Args:
        first, last, steps: its default sweep.
        suggest: returns a learning rate or None, from the learning rates and the raw losses of all steps.
    """

    first: float
    last: float
    steps: int
    suggest: Callable[[Rates, Losses], float | None]


def debiased(losses: Losses, beta: float) -> Losses:
    """Return the running mean that fastai and Lightning record."""
    mean, smoothed = 0.0, []
    for step, loss in enumerate(losses, 1):
        mean = beta * mean + (1 - beta) * loss
        smoothed.append(mean / (1 - beta**step))
    return np.array(smoothed)


def _lagging(losses: Losses, factor: float) -> Losses:
    """Return the running mean that torch-lr-finder and Ignite record."""
    smoothed: list[float] = []
    for loss in losses:
        smoothed.append(loss if not smoothed else factor * loss + (1 - factor) * smoothed[-1])
    return np.array(smoothed)


def until(smoothed: Losses, times: float) -> int:
    """Return the number of points until the loss is above `times` its lowest value, or is not finite."""
    lowest = math.inf
    for step, loss in enumerate(smoothed):
        if not math.isfinite(loss):
            return step
        lowest = min(lowest, loss)
        if loss > times * lowest:
            return step + 1
    return len(smoothed)


def _fastai(name: str) -> Peer:
    import torch
    from fastai.callback import schedule

    rule = getattr(schedule, name)

    def suggest(lr: Rates, loss: Losses) -> float | None:
        smoothed = debiased(loss, 0.98)
        # Learner.lr_find leaves out a tenth at the start and five at the end.
        kept = slice(len(lr) // 10, until(smoothed, 4) - 5)
        return float(rule(torch.tensor(lr)[kept], torch.tensor(smoothed)[kept], len(lr))[0])

    return Peer(1e-7, 10.0, 100, suggest)


def _torch_lr_finder() -> Peer:
    import matplotlib.pyplot as plt
    from torch_lr_finder import LRFinder

    def suggest(lr: Rates, loss: Losses) -> float | None:
        smoothed = _lagging(loss, 0.05)
        count = until(smoothed, 5)
        finder = LRFinder.__new__(LRFinder)
        finder.history = {"lr": list(lr[:count]), "loss": list(smoothed[:count])}
        figure, ax = plt.subplots()
        with contextlib.redirect_stdout(io.StringIO()):
            _, suggested = finder.plot(suggest_lr=True, ax=ax)
        plt.close(figure)
        return float(suggested)

    return Peer(1e-7, 10.0, 100, suggest)


def _lightning() -> Peer:
    from lightning.pytorch.tuner.lr_finder import _LRFinder

    def suggest(lr: Rates, loss: Losses) -> float | None:
        smoothed = debiased(loss, 0.98)
        count = until(smoothed, 4)
        finder = _LRFinder("exponential", lr[0], lr[-1], len(lr))
        finder.results = {"lr": list(lr[:count]), "loss": list(smoothed[:count])}
        return finder.suggestion()

    return Peer(1e-8, 1.0, 100, suggest)


def _ignite() -> Peer:
    from ignite.handlers import FastaiLRFinder

    def suggest(lr: Rates, loss: Losses) -> float | None:
        smoothed = _lagging(loss, 0.05)
        count = until(smoothed, 5)
        finder = FastaiLRFinder()
        finder._history = {"lr": list(lr[:count]), "loss": list(smoothed[:count])}
        return float(finder.lr_suggestion())

    return Peer(1e-7, 10.0, 100, suggest)


_MAKERS: dict[str, Callable[[], Peer]] = {
    "fastai valley": lambda: _fastai("valley"),
    "fastai slide": lambda: _fastai("slide"),
    "fastai minimum": lambda: _fastai("minimum"),
    "fastai steep": lambda: _fastai("steep"),
    "torch-lr-finder": _torch_lr_finder,
    "Lightning": _lightning,
    "Ignite": _ignite,
}


def installed() -> dict[str, Peer]:
    """Return the tools whose package can be imported."""
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, make in _MAKERS.items():
            with contextlib.suppress(ImportError):
                found[name] = make()
    return found


def suggestion(peer: Peer, lr: Rates, loss: Losses) -> float | None:
    """Return the suggestion of a tool, or None if it raises or returns no learning rate."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            rate = peer.suggest(lr, loss)
        except Exception:  # noqa: BLE001
            return None
    return float(rate) if rate is not None and math.isfinite(rate) and rate > 0 else None
