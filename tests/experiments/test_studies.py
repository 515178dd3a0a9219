"""The studies: their comparisons are valid, and tables and figures are made only from stored records."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.processes import run as run_process

from cyclr.bounds import Bounds
from cyclr.experiments import Spec
from cyclr.experiments.trial import empty_record
from cyclr.records import RunFolder
from cyclr.schedules import Run

STUDY = Path(__file__).parents[2] / "studies" / "fashion_mnist"


@pytest.fixture(scope="module")
def study() -> ModuleType:
    spec = importlib.util.spec_from_file_location("study", STUDY / "study.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fill(folder: Path, spec: Spec) -> None:
    """Records of every trial whose accuracy rises with the epochs."""
    with RunFolder.open(folder, spec.to_dict(), [trial.id for trial in spec.trials()]) as run:
        for trial in spec.trials():
            epochs = trial.epochs or 1
            plan = trial.policy.plan(Run(500 * epochs, steps_per_epoch=500), Bounds(0.01, 0.1, "ok", "for a test"))
            accuracy = 0.9 - 0.1 / np.arange(1, epochs + 1) + 0.01 * trial.seed
            changes: dict[str, Any] = {
                "total_steps": 500 * epochs,
                "schedule": plan.schedule,
                "epochs": {
                    "step": [500 * (n + 1) for n in range(epochs)],
                    "val_accuracy": accuracy.tolist(),
                    "seconds": [float(n) for n in range(epochs)],
                },
                "steps": {"learning_rate": [0.1], "loss": [1.0]},
            }
            run.append(msgspec.structs.replace(empty_record(trial), **changes))


@pytest.mark.parametrize(
    ("name", "trials", "figures"),
    [
        ("headline", 48, {"accuracy.png"}),
        ("adaptive", 84, {"accuracy.png"}),
        ("tradeoff", 12, {"tradeoff.png"}),
    ],
)
def test_tables_and_figures_are_made_of_records(
    study: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, trials: int, figures: set[str]
) -> None:
    spec = Spec.from_toml(STUDY / f"{name}.toml")
    assert len(spec.trials()) == trials
    # Whole seeds come first.
    assert [trial.seed for trial in spec.trials()] == sorted(trial.seed for trial in spec.trials())
    fill(tmp_path, spec)
    study.summarize(name, tmp_path)
    assert "On cnn on fashion-mnist with" in capsys.readouterr().out
    written = {path.name for path in tmp_path.iterdir()}
    assert written >= {"table.csv", "summary.json", *figures}


def test_the_table_of_members_is_made_of_stored_results() -> None:
    pytest.importorskip("tensorflow")
    printed = run_process([sys.executable, str(STUDY / "members.py"), "--summary"]).stdout
    assert "| one cycle | 3 | 0.0804 ± 0.0006 | 1.000 |" in printed
    assert "| snapshot ensemble, 5 cycles | 3 |" in printed
