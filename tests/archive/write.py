"""Write what a release of cyclr writes to files: `python tests/archive/write.py VERSION`, once, with the release.

`tests/records/test_archive.py` reads the file of every release. Files are never changed: if a later version cannot read
one, its reader is mended. What 0.1.0 wrote is in this folder itself.
"""

import json
import math
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import cyclr
from cyclr.auto import AutoEvent
from cyclr.range_test import NonFinite, TrialCycle
from cyclr.records import Record
from cyclr.records.record import encode

STEPS = [0, 1, 2, 5, 10, 33, 99, 100, 1_000, 10**6, 10**12]


def schedules() -> dict[str, cyclr.Schedule]:
    """Every kind of schedule that can be written."""
    wave = cyclr.Cyclical(0.125, 1.0, 5, step_size_down=7, decay=cyclr.Exponential(0.875, "both", per="cycle"))
    return {
        "cyclical": wave,
        "fractional": cyclr.Cyclical.fractional(0.125, 1.0, 2.5),
        "over": cyclr.Cyclical.over(100, 3, 0.125, 1.0, shape="parabolic", decay=cyclr.Halving()),
        "mirrored": wave.mirrored(0.75, 0.875),
        "one cycle": cyclr.OneCycle(0.125, 1.0, 100, fall=0.25),
        "restarts": cyclr.WarmRestarts(0.125, 1.0, 10, growth=1.5),
        "restarts of a run": cyclr.WarmRestarts.over(100, 3, 0.125, 1.0, growth=2),
        "warm-up": cyclr.Warmup(cyclr.WarmRestarts(0.125, 1.0, 10), 5, every_cycle=True),
        "warm-up laid over": cyclr.Warmup(wave, 5, over=True, to=0.5),
        "sequence": cyclr.Sequence([cyclr.Constant(0.5), wave], [3]),
        "anneal": cyclr.Anneal(0.125, 0.25, 10, "exponential", limit=0.375),
        "product": 0.5 * cyclr.Anneal(0.125, 0.0, 10, power=2.0) * wave,
        "clock": cyclr.Clock(cyclr.OneCycle(0.125, 1.0, 10), start=2, every=3, repeat=5),
        "wsd": cyclr.WarmupStableDecay(0.125, 100, warmup=0.125),
    }


def range_test() -> cyclr.RangeTestResult:
    lr = np.geomspace(1e-4, 10, 24)
    loss = 2.3 - 2 / (1 + (0.01 / lr) ** 2) + (lr / 0.5) ** 2
    return cyclr.RangeTestResult(
        *(lr, loss, "non_finite", 1e-4, 10.0, 30, "exponential", [loss - 0.125, loss + 0.125], 2),
        left_out=[NonFinite(3, float(lr[3]), "NaN")],
        ended_by=NonFinite(24, 10.0, "inf"),
        tested={"model": "Sequential", "optimizer": "SGD(momentum=0.9)", "batch_size": 32, "seed": 1},
        total_steps=1_000,
        trials=[
            TrialCycle(0.125, (2.0, 1.0), 0.5, "completed", 0.25),
            TrialCycle(0.25, (2.0,), None, "diverged", None),
        ],
    )


def record() -> Record:
    return Record(
        trial="auto-seed-0-0123456789",
        workload="mlp on digits",
        policy="auto",
        seed=0,
        optimizer="SGD(momentum=0.9)",
        optimizer_call="keras.optimizers.SGD(momentum=0.9)",
        moved_by="auto",
        metric="val_accuracy",
        direction="max",
        steps_per_epoch=2,
        total_steps=4,
        schedule=cyclr.OneCycle(0.125, 1.0, 100),
        range_test=range_test(),
        epochs={"step": [2, 4], "seconds": [0.5, 1.0], "val_accuracy": [0.25, None]},
        steps={"learning_rate": [0.1, 0.2, 0.3, 0.2], "loss": [2.0, 1.0, None, 0.5]},
        events=(AutoEvent(2, "left_out", "The loss was NaN.", 0.3),),
        ending={"val_accuracy": 0.5},
        predictions=3,
        seconds=1.5,
        started="2026-11-30T12:00:00+00:00",
    )


class Number:
    """A training state."""

    def copy(self) -> float:
        return 1.0

    def restore(self, copy: Any) -> None:
        """Nothing to restore."""


def auto_cycle(updates: int) -> cyclr.AutoCycle:
    """An AutoCycle after some updates: in its range test, or after a broken batch and the end of the test."""
    auto = cyclr.AutoCycle(400, state=Number())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for update in range(updates):
            assert auto.lr
            auto.step(math.nan if update == 150 else 1.0 / (update + 1))
    return auto


def main() -> None:
    contents = {
        "steps": STEPS,
        "schedules": {
            name: {"description": one.to_dict(), "values": [one(step) for step in STEPS]}
            for name, one in schedules().items()
        },
        "range_test": range_test().to_dict(),
        "record": json.loads(encode(record())),
        "auto_cycle": [auto_cycle(updates).state_dict() for updates in (30, 250)],
    }
    path = Path(__file__).with_name(f"{sys.argv[1]}.json")
    with path.open("x", encoding="utf-8") as file:
        file.write(json.dumps(contents, indent=1) + "\n")


if __name__ == "__main__":
    main()
