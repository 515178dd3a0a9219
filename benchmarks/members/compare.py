"""Ensembles and averages of one run against one cycle and against five runs, each with the same number of updates.

    python benchmarks/members/compare.py [SEEDS] [UPDATES]

A small CNN in PyTorch learns the digits of scikit-learn from 600 images and is tested on 1,197 other images. All
policies use SGD with momentum 0.9 and weight decay 1e-3, batches of 32, base_lr 0.001, max_lr 0.1, and images shifted
by up to one pixel; by default 5 seeds and 1,500 updates. Printed for each policy are the mean test error over the seeds
with its standard error, the ratio to the error of the single cycle, the mean test loss, and the number of models that
one prediction evaluates.
"""

import copy
import sys

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy, one_hot
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import cyclr
from cyclr.torch import Scheduler, Snapshots, average, ensemble

BASE, TOP, BATCH = 0.001, 0.1, 32


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1, stride=2),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 10),
    )


def data() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    x = torch.tensor(images[order].reshape(-1, 1, 8, 8) / 16, dtype=torch.float32)
    y = torch.tensor(labels[order])
    return x[:600], y[:600], x[600:], y[600:]


X, Y, TEST_X, TEST_Y = data()


def batches(seed: int, count: int):
    generator = np.random.default_rng(seed)
    for _ in range(count):
        rows = generator.choice(len(X), BATCH, replace=False)
        shift = tuple(int(by) for by in generator.integers(-1, 2, 2))
        yield torch.roll(X[rows], shift, (2, 3)), Y[rows]


def trained(seed: int, schedule: cyclr.Schedule, updates: int, decay: float | None = None, **keep):
    """Train a network, and return it with its members and with its running average."""
    model = network(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=TOP, momentum=0.9, weight_decay=1e-3)
    scheduler = Scheduler(optimizer, schedule)
    snapshots = Snapshots(model, scheduler, **keep)
    running = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay)) if decay else None
    for x, y in batches(seed, updates):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
        if running is not None:
            running.update_parameters(model)
        scheduler.step()
    return model, snapshots.members, running


def measured(predict) -> tuple[float, float]:
    """Return the test error and the test loss of a function that returns probabilities."""
    with torch.no_grad():
        found = predict(TEST_X)
    wrong = (found.argmax(1) != TEST_Y).float().mean().item()
    return wrong, -(found.clamp_min(1e-12).log() * one_hot(TEST_Y, 10)).sum(1).mean().item()


def softmax(logits: torch.Tensor) -> torch.Tensor:
    return logits.softmax(1)


def results(seed: int, updates: int) -> dict[str, tuple[float, float, int]]:
    """Return error, loss, and the number of models of a prediction, by policy."""
    found: dict[str, tuple[float, float, int]] = {}
    statistics = [*batches(1000 + seed, 40)]

    def add(name, model, members=(), combine=None):
        if combine == "ensemble":
            found[name] = (*measured(ensemble(model, members, activation=softmax)), len(members))
            return
        if combine == "average":
            model = average(model, members, statistics)
        model = copy.deepcopy(model).eval()
        found[name] = (*measured(lambda x: model(x).softmax(1)), 1)

    single = cyclr.Cyclical.over(updates, 1, BASE, TOP)
    model, members, running = trained(seed, single, updates, 0.98, every=updates // 50, keep=5)
    add("one cycle", model)
    add("LAWA: last 5 of every 30 updates", model, members, "average")
    add("EMA, decay 0.98", model, [cyclr.Member(updates - 1, BASE, running.module.state_dict())], "average")
    model, members, _ = trained(seed, cyclr.WarmRestarts.over(updates, 5, 0.0, TOP), updates)
    add("WarmRestarts, 5 cycles, last", model)
    add("snapshot ensemble, 5 cycles", model, members, "ensemble")
    add("snapshot ensemble, last 3 of 5 cycles", model, members[2:], "ensemble")
    add("average of 5 cycle ends", model, members, "average")
    start, short = int(0.8 * updates), updates // 25
    body = cyclr.Cyclical.over(updates, 1, BASE, TOP)
    tail = cyclr.Clock(cyclr.Cyclical(BASE, TOP / 4, short // 2), start=short // 2)
    model, members, _ = trained(seed, cyclr.Sequence([body, tail], [start]), updates)
    add("FGE: 5 short triangles", model, members, "ensemble")
    add("SWA: cyclic tail", model, members, "average")
    flat = cyclr.Sequence([body, cyclr.Anneal(body(start), TOP / 4, short, "cosine")], [start, updates - start])
    model, members, _ = trained(seed, flat, updates, every=short, keep=5)
    add("SWA: constant tail", model, members, "average")
    runs = [trained(100 * seed + number, single, updates, every=updates) for number in range(5)]
    add("ensemble of 5 runs (5 times the updates)", runs[0][0], [m for _, ms, _ in runs for m in ms], "ensemble")
    return found


def main() -> None:
    seeds, updates = (int(given) for given in (sys.argv[1:] + ["5", "1500"][len(sys.argv) - 1 :])[:2])
    torch.set_num_threads(1)
    every = [results(seed, updates) for seed in range(seeds)]
    base = np.mean([found["one cycle"][0] for found in every])
    print(f"{seeds} seeds, {updates} updates\n\n| policy | error | ratio | loss | models |\n|---|---|---|---|---|")
    for name in every[0]:
        errors, losses, models = np.array([found[name] for found in every]).T
        spread = errors.std(ddof=1) / np.sqrt(seeds) if seeds > 1 else 0.0
        ratio = errors.mean() / base
        print(f"| {name} | {errors.mean():.4f} ± {spread:.4f} | {ratio:.2f} | {losses.mean():.4f} | {models[0]:.0f} |")


if __name__ == "__main__":
    main()
