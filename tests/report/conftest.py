"""Run folders for the tests of reports: a small NumPy network, really range tested and trained on scans of digits."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

import cyclr

BATCH, EPOCHS, SEEDS = 50, 6, (0, 1, 2)


class Network:
    """Two dense layers, trained by SGD with momentum."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        x, y = load_digits(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(x))
        x, y = x[order] / 16, y[order]
        self.x, self.y, self.x_val, self.y_val = x[:1400], y[:1400], x[1400:], y[1400:]
        self.weights = [self.random.normal(0, 0.15, (64, 32)), self.random.normal(0, 0.2, (32, 10))]
        self.velocity = [np.zeros_like(weight) for weight in self.weights]
        self.steps_per_epoch = len(self.x) // BATCH

    def batches(self):
        while True:
            order = self.random.permutation(len(self.x))
            for i in range(self.steps_per_epoch):
                batch = order[i * BATCH : (i + 1) * BATCH]
                yield self.x[batch], self.y[batch]

    def losses(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        hidden = np.maximum(x @ self.weights[0], 0)
        logits = hidden @ self.weights[1]
        logits -= logits.max(1, keepdims=True)
        shares = np.exp(logits)
        shares /= shares.sum(1, keepdims=True)
        return -np.log(np.maximum(shares[np.arange(len(y)), y], 1e-30)), shares, hidden

    def update(self, x: np.ndarray, y: np.ndarray, lr: float) -> float:
        losses, shares, hidden = self.losses(x, y)
        error = (shares - np.eye(10)[y]) / len(y)
        back = (error @ self.weights[1].T) * (hidden > 0)
        for i, gradient in enumerate((x.T @ back, hidden.T @ error)):
            self.velocity[i] = 0.9 * self.velocity[i] - lr * gradient
            self.weights[i] = self.weights[i] + self.velocity[i]
        return float(losses.mean())


def swept(seed: int) -> cyclr.RangeTestResult:
    network = Network(seed)
    test = cyclr.RangeTest(1e-4, 10.0, 100)
    for lr, (x, y) in zip(test, network.batches(), strict=False):
        test.record(network.update(x, y, lr))
    return test.result()


def train(policy: str, seed: int, rate: Callable[[int], float], **more: Any) -> dict[str, Any]:
    """The record of a trial, as the page's users have them."""
    network = Network(seed)
    per_epoch, batches = network.steps_per_epoch, network.batches()
    epochs: dict[str, list[float]] = {name: [] for name in ("step", "val_accuracy", "val_loss", "loss", "seconds")}
    rates, losses = [], []
    for step in range(EPOCHS * per_epoch):
        rates.append(rate(step))
        losses.append(network.update(*next(batches), rates[-1]))
        if (step + 1) % per_epoch == 0:
            val_losses, shares, _ = network.losses(network.x_val, network.y_val)
            epochs["step"].append(step + 1)
            epochs["val_accuracy"].append(float((shares.argmax(1) == network.y_val).mean()))
            epochs["val_loss"].append(float(val_losses.mean()))
            epochs["loss"].append(float(np.mean(losses[-per_epoch:])))
            epochs["seconds"].append(0.25)
    record = {
        "version": 1,
        "trial": f"digits/{policy}/{seed}",
        "workload": "digits",
        "policy": policy,
        "seed": seed,
        "optimizer": "sgd",
        "status": "ok",
        "error": None,
        "metric": "val_accuracy",
        "direction": "max",
        "steps_per_epoch": per_epoch,
        "total_steps": EPOCHS * per_epoch,
        "range_test_steps": 0,
        "schedule": None,
        "range_test": None,
        "lr": None,
        "epochs": epochs,
        "steps": {"learning_rate": rates, "loss": losses},
        "seconds": 1.5,
        "started": "2026-01-02T03:04:05+00:00",
    }
    return {**record, **more}


ABOUT = {
    "version": 1,
    "spec": {"workload": "digits", "seeds": list(SEEDS), "epochs": EPOCHS, "batch_size": BATCH},
    "command": ["cyclr", "compare", "spec file.toml"],
    "versions": {"python": "3.11.7", "cyclr": cyclr.__version__, "numpy": np.__version__},
    "hardware": {"cpu": "x86_64", "cores": 2},
    "created": "2026-01-02T03:04:05+00:00",
}


@pytest.fixture(scope="session")
def records() -> list[dict[str, Any]]:
    """Three fixed rates and two cyclical policies, from three seeds each."""
    found = []
    for seed in SEEDS:
        for lr in (0.003, 0.01, 0.03):
            found.append(train(f"fixed {lr:g}", seed, lambda step, lr=lr: lr, lr=lr))
        result = swept(seed)
        total = found[-1]["total_steps"]
        for name, decay in (("triangular", None), ("triangular2", cyclr.Halving())):
            schedule = result.bounds.schedule(total_steps=total, cycles=2, decay=decay)
            tested = {"range_test": result.to_dict(), "range_test_steps": len(result.lr)}
            found.append(train(name, seed, schedule, schedule=schedule.to_dict(), **tested))
    return found


def write_run(folder: Path, records: list[dict[str, Any]], about: dict[str, Any] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(ABOUT if about is None else about), encoding="utf-8")
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "records.jsonl").write_text(lines, encoding="utf-8")
    return folder


@pytest.fixture
def run(tmp_path: Path, records: list[dict[str, Any]]) -> Path:
    return write_run(tmp_path / "digits run", records)


@pytest.fixture(scope="session")
def result() -> cyclr.RangeTestResult:
    return swept(0)
