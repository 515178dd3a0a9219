"""The comparison of `cyclr demo`. First, one cycle is trained between the bounds of a range test.

The record of this cycle gives the bounds and the optimizer of the other trainings: the same cycle with AutoCycle, four
fixed learning rates, and both cycles with bounds that are ten times too high.
"""

import contextlib
import math
from pathlib import Path

from cyclr.bounds import Bounds
from cyclr.errors import CyclrError, RunFolderError
from cyclr.experiments.spec import Spec
from cyclr.records import Record, RunFolder

CYCLE, AUTO = "plain cycle", "AutoCycle"
TOO_HIGH = "plain cycle, 10 times too high", "AutoCycle, 10 times too high"
_USUALLY_FAST = ("SGD", "Adagrad")


def demo_spec(
    workload: str = "cnn",
    data: str | None = None,
    *,
    epochs: int = 16,
    batch_size: int = 50,
    shape: str = "parabolic",
    mode: str = "triangular",
    metric: str = "val_accuracy",
    seed: int = 0,
    backend: str | None = None,
) -> Spec:
    """Return the first comparison of a demo: a range test and one cycle between its bounds.

    Args:
        workload, data, epochs, batch_size, metric, seed, backend: as in `Spec`. The built-in workloads train with Adam,
            a user's model with its own optimizer.
        shape, mode: as for `cyclr.Cyclical` and its `from_mode`. Mode `"triangular"` gives one cycle, as
            `Bounds.schedule` does. The other modes give cycles of about eight epochs.
    """
    cycle = {"kind": shape, "cycles": 1, "rise": 0.3} if mode == "triangular" else {"kind": mode, "shape": shape}
    return Spec(
        [{**cycle, "name": CYCLE}],
        workload=workload,
        data=data,
        optimizer=None if ":" in workload else "Adam",
        epochs=epochs,
        batch_size=batch_size,
        metric=metric,
        seeds=[seed],
        backend=backend,
    )


def fixed_rates(optimizer: str) -> list[float]:
    """Return the fixed learning rates of the demo: 0.3, 1, 3 and 10 times the usual learning rate of an optimizer.

    The usual learning rate is 0.01 for SGD and Adagrad, and 0.001 for other optimizers, as for AutoCycle.

    Example:
        >>> fixed_rates("Adam"), fixed_rates("SGD(momentum=0.9)")
        ([0.0003, 0.001, 0.003, 0.01], [0.003, 0.01, 0.03, 0.1])
    """
    usual = 0.01 if optimizer.startswith(_USUALLY_FAST) else 0.001
    return [float(f"{factor * usual:.1g}") for factor in (0.3, 1, 3, 10)]


def whole_demo(spec: Spec, cycle: Record) -> Spec:
    """Return the comparison with all policies of a demo, from the comparison and the record of its first cycle."""
    test = cycle.range_test
    if test is None:
        raise CyclrError(f"the record of {CYCLE!r} must have a range test; {cycle.trial} has none.")
    base_lr, max_lr = (10 * lr for lr in test.bounds)
    wrong = Bounds(base_lr, max_lr, "ok", "ten times too high")
    return spec.replace(
        policies=[
            *spec.policies,
            {"kind": "auto", "range_test": True, "name": AUTO},
            {"kind": "fixed", "lr": fixed_rates(cycle.optimizer)},
            {"kind": "schedule", "schedule": wrong.to_dict(), "name": TOO_HIGH[0]},
            {"kind": "auto", "base_lr": base_lr, "max_lr": max_lr, "name": TOO_HIGH[1]},
        ]
    )


def chance(accuracy: float, images: int) -> int:
    """Return the number of validation images by which the results of two equal models can differ by chance.

    2 √(2 p (1 − p) n), rounded up: two standard deviations of the difference of two binomial counts, with
    p = (n accuracy + 1) / (n + 2). Different seeds of weights and data add to this difference.

    Args:
        accuracy: accuracy of the models, from 0 to 1.
        images: number n of validation images, ≥ 1.

    Example:
        >>> chance(0.98, 360)
        8
    """
    p = (accuracy * images + 1) / (images + 2)
    return math.ceil(2 * math.sqrt(2 * p * (1 - p) * images))


def discard_records(folder: Path) -> None:
    """Remove the records of a demo from a folder, so that the next demo trains again. Other runs stay.

    Raises:
        RunFolderError: another process writes to the folder.
    """
    try:
        policies = RunFolder.read(folder, missing_ok=True).about.get("spec", {}).get("policies", [{}])
    except RunFolderError:
        return
    if policies[0].get("name") == CYCLE:
        with RunFolder.locked(folder):
            (folder / "records.jsonl").unlink()


def remove_empty(folder: Path) -> None:
    """Remove a run folder without a result, unless it holds other files or another process writes to it."""
    # Files are removed in this order, so that a kill in between leaves a readable run folder.
    files = [folder / name for name in ("records.jsonl", "run.json", ".lock")]
    with contextlib.suppress(RunFolderError, OSError), RunFolder.locked(folder) as run:
        if all(record.status == "failed" for record in run.records) and {*folder.iterdir()} <= {*files}:
            for file in files:
                file.unlink(missing_ok=True)
            folder.rmdir()
