"""What `cyclr demo` compares: one cyclical policy with bounds of a range test, and Adam's default rate.

Then two more from bounds that are ten times too high: the plain cycle, and AutoCycle.
"""

import contextlib
from pathlib import Path

from cyclr.bounds import Bounds
from cyclr.errors import RunFolderError
from cyclr.experiments.spec import Spec
from cyclr.records import RunFolder

_NAME = "CLR"
_TOO_HIGH = "10 times too high", "10 times too high, AutoCycle"


def demo_spec(
    data: str = "digits",
    *,
    epochs: int = 16,
    batch_size: int = 50,
    shape: str = "triangular",
    mode: str = "triangular",
    fixed_lr: float = 0.001,
    seed: int = 0,
) -> Spec:
    """The comparison: the classic small CNN with Adam, cyclically and at a fixed rate, from the same weights.

    Args:
        data, epochs, batch_size, seed: as in `Spec`.
        shape, mode: as for `cyclr.Cyclical` and its `from_mode`; `"exp_range"` shrinks the amplitude to a tenth.
        fixed_lr: the rate to compare with: Adam's default in Keras.
    """
    cyclical = {"kind": shape} if mode == "triangular" else {"kind": mode, "shape": shape}
    return Spec(
        [{**cyclical, "name": _NAME}, {"kind": "fixed", "lr": fixed_lr}],
        workload="cnn",
        data=data,
        optimizer="Adam",
        epochs=epochs,
        batch_size=batch_size,
        seeds=[seed],
    )


def with_bounds_too_high(spec: Spec, bounds: Bounds) -> Spec:
    """The comparison with two more policies, which train from ten times these bounds."""
    base_lr, max_lr = (10 * lr for lr in bounds)
    wrong = Bounds(base_lr, max_lr, "ok", "ten times too high")
    plain = {"kind": "schedule", "schedule": wrong.to_dict(), "name": _TOO_HIGH[0]}
    auto = {"kind": "auto", "base_lr": base_lr, "max_lr": max_lr, "name": _TOO_HIGH[1]}
    return spec.replace(policies=[*spec.policies, plain, auto])


def discard_demo(folder: Path) -> None:
    """Remove the records of an earlier demo from a folder, so that the next one runs; others are an error later."""
    with contextlib.suppress(RunFolderError):
        spec = RunFolder.read(folder, missing_ok=True).about.get("spec", {})
        names = [table.get("name") for table in spec.get("policies", [])]
        if spec.get("workload") == "cnn" and names in ([_NAME, None], [_NAME, None, *_TOO_HIGH]):
            for name in ("records.jsonl", "run.json"):
                (folder / name).unlink(missing_ok=True)
