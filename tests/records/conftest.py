"""Records and helpers for the tests of records."""

from typing import Any

import cyclr
from cyclr.records import Record


def make(policy: str, seed: int, values: list[float | None], **changes: Any) -> Record:
    """The record of a trial with an epoch every ten steps; policies called "fixed" use a constant learning rate."""
    schedule = cyclr.Constant(0.1) if policy.startswith("fixed") else cyclr.OneCycle(0.1, 1.0, 30)
    steps = [10.0 * (n + 1) for n in range(len(values))]
    fields: dict[str, Any] = {
        "trial": f"{policy}-{seed}",
        "workload": "mlp on digits",
        "policy": policy,
        "seed": seed,
        "optimizer": "SGD",
        "metric": "val_accuracy",
        "direction": "max",
        "total_steps": 10 * len(values),
        "range_test_steps": 0 if policy.startswith("fixed") else 5,
        "schedule": schedule,
        "epochs": {"step": steps, "val_accuracy": values, "seconds": steps},
        "seconds": 2.0,
        "started": "2026-01-02T03:04:05+00:00",
    }
    return Record(**{**fields, **changes})
