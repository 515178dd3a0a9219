"""The comparison of `cyclr demo`. tests/cli runs the command itself."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from cyclr import RangeTestResult
from cyclr.bounds import Bounds
from cyclr.errors import CyclrError, RunFolderError
from cyclr.experiments import Spec
from cyclr.experiments.demo import (
    AUTO,
    CYCLE,
    TOO_HIGH,
    chance,
    demo_spec,
    discard_records,
    fixed_rates,
    remove_empty,
    whole_demo,
)
from cyclr.experiments.trial import empty_record
from cyclr.records import Record, RunFolder
from cyclr.schedules import Run

BOUNDS = Bounds(0.001, 0.1, "ok", "for a test")
RUN = Run(16 * 29, steps_per_epoch=29)


def swept() -> RangeTestResult:
    lr = np.geomspace(1e-6, 10, 150)
    return RangeTestResult(
        lr, 2.3 - 2 / (1 + (0.01 / lr) ** 2) + (lr / 0.5) ** 2, "completed", 1e-6, 10.0, 150, "exponential"
    )


def record_of_cycle(spec: Spec, **changes: Any) -> Record:
    return structs.replace(empty_record(spec.trials()[0]), **{"range_test": swept(), **changes})


@pytest.mark.parametrize("shape", ["triangular", "parabolic", "sinusoidal"])
def test_mode_triangular_gives_the_cycle_of_bounds_schedule(shape: Any) -> None:
    (trial,) = demo_spec(shape=shape).trials()
    assert trial.policy.plan(RUN, BOUNDS).schedule == BOUNDS.schedule(total_steps=RUN, shape=shape)


@pytest.mark.parametrize(("epochs", "cycles"), [(1, 1), (8, 1), (16, 2), (30, 4)])
def test_whole_cycles_fill_the_run_in_the_other_modes(epochs: int, cycles: int) -> None:
    trial = demo_spec(epochs=epochs, mode="triangular2").trials()[0]
    total = epochs * 29
    schedule: Any = trial.policy.plan(Run(total, steps_per_epoch=29), BOUNDS).schedule
    assert schedule(0) == schedule(total - 1) == BOUNDS.base_lr
    ends = [step for step in range(total) if schedule.is_cycle_end(step)]
    assert (len(ends), ends[-1]) == (cycles, total - 1)


@pytest.mark.parametrize("shape", ["triangular", "parabolic", "sinusoidal"])
@pytest.mark.parametrize(("mode", "share"), [("triangular", 1.0), ("triangular2", 0.5), ("exp_range", 0.1)])
def test_the_amplitude_shrinks_as_the_mode_says(mode: str, share: float, shape: str) -> None:
    trial = demo_spec(mode=mode, shape=shape).trials()[0]
    schedule: Any = trial.policy.plan(RUN, BOUNDS).schedule
    assert schedule.shape == shape
    low, high = schedule.envelope(16 * 29 - 2)
    assert (high - low) / (0.1 - low) == pytest.approx(share, rel=0.02)


def test_all_policies_train_the_same_model_from_the_same_seed() -> None:
    spec = demo_spec(seed=3)
    first, auto, *fixed, plain_high, auto_high = whole_demo(spec, record_of_cycle(spec, optimizer="Adam")).trials()
    assert first.id == spec.trials()[0].id
    assert [trial.policy.name for trial in (first, auto, plain_high, auto_high)] == [CYCLE, AUTO, *TOO_HIGH]
    assert [trial.policy.options["lr"] for trial in fixed] == [0.0003, 0.001, 0.003, 0.01]
    for trial in (first, auto, *fixed, plain_high, auto_high):
        assert (trial.workload, trial.seed, trial.optimizer) == ("cnn", 3, {"name": "Adam"})
        # Their updates count: the bounds are found by a test of their own.
        assert trial.policy.needs_range_test == (trial in (first, auto))


def test_autocycle_follows_the_schedule_of_the_plain_cycle_also_from_bounds_that_are_too_high() -> None:
    spec = demo_spec()
    whole = whole_demo(spec, record_of_cycle(spec)).trials()
    for plain, guarded, factor in ((whole[0], whole[1], 1), (whole[-2], whole[-1], 10)):
        bounds = Bounds(*(factor * lr for lr in swept().bounds), "ok", "")
        schedule = plain.policy.plan(RUN, bounds).schedule
        assert schedule == bounds.schedule(total_steps=RUN)
        assert guarded.policy.plan(RUN, bounds).options["schedule"].schedule(total_steps=RUN) == schedule


@pytest.mark.parametrize(
    ("optimizer", "usual"),
    [
        ("Adam", 0.001),
        ("AdamW(weight_decay=0.1)", 0.001),
        ("SGD(momentum=0.9)", 0.01),
        ("Adagrad", 0.01),
        ("Lion", 0.001),
    ],
)
def test_the_grid_is_around_the_usual_rate_of_the_optimizer(optimizer: str, usual: float) -> None:
    rates = fixed_rates(optimizer)
    assert rates == pytest.approx([0.3 * usual, usual, 3 * usual, 10 * usual])
    # They are names of policies, too.
    assert all(len(f"{rate:g}") <= 6 for rate in rates)


def test_a_users_model_keeps_its_optimizer(tmp_path: Path) -> None:
    spec = demo_spec("model.py:build")
    assert {trial.optimizer for trial in whole_demo(spec, record_of_cycle(spec, optimizer="SGD")).trials()} == {None}


def test_a_record_without_a_range_test_is_refused() -> None:
    spec = demo_spec()
    with pytest.raises(CyclrError, match="must have a range test"):
        whole_demo(spec, record_of_cycle(spec, range_test=None))


@pytest.mark.parametrize("accuracy", [0.1, 0.5, 0.9, 0.99])
def test_results_of_equal_models_differ_by_chance_as_rarely_as_said(accuracy: float) -> None:
    rng, images = np.random.default_rng(0), 360
    one, other = rng.binomial(images, accuracy, (2, 4000))
    beyond = np.mean(abs(one - other) > chance(accuracy, images))
    assert beyond < 0.05


@pytest.mark.parametrize(("accuracy", "images"), [(0.0, 1), (1.0, 1), (1.0, 10_000)])
def test_one_image_at_least_is_chance(accuracy: float, images: int) -> None:
    assert 1 <= chance(accuracy, images) <= math.ceil(2 * math.sqrt(images / 2))


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Run folders: a demo, a demo beside other files, demos that failed or were interrupted, and another run."""
    spec = demo_spec(epochs=2)
    other = Spec([{"kind": "cosine"}], workload="cnn", epochs=1, seeds=[0])
    for name, one in (("demo", spec), ("beside", spec), ("failed", spec), ("interrupted", spec), ("other", other)):
        with RunFolder.open(tmp_path / name, one.to_dict(), [trial.id for trial in one.trials()]) as run:
            if name != "interrupted":
                status = "failed" if name in ("failed", "beside") else "ok"
                run.append(structs.replace(empty_record(one.trials()[0]), status=status))
    (tmp_path / "beside" / "accuracy.png").touch()
    return tmp_path


def test_a_demo_trains_again_in_its_folder_and_no_other_run_is_lost(folders: Path) -> None:
    for name in ("demo", "beside", "other", "missing"):
        discard_records(folders / name)
    assert len(RunFolder.read(folders / "other").records) == 1
    assert not (folders / "missing").exists()
    spec = demo_spec(epochs=3)
    for name in ("demo", "beside"):
        with RunFolder.open(folders / name, spec.to_dict(), [trial.id for trial in spec.trials()]) as run:
            assert run.records == []


def test_a_folder_without_a_result_is_removed(folders: Path) -> None:
    for name in ("demo", "beside", "failed", "interrupted", "other", "missing"):
        remove_empty(folders / name)
    assert {path.name for path in folders.iterdir()} == {"demo", "beside", "other"}


def test_a_folder_in_use_by_another_process_is_not_removed(folders: Path) -> None:
    spec = demo_spec(epochs=2)
    for name in ("demo", "failed", "interrupted"):
        with RunFolder.open(folders / name, spec.to_dict(), [trial.id for trial in spec.trials()]):
            before = (folders / name / "records.jsonl").read_bytes()
            remove_empty(folders / name)
            with pytest.raises(RunFolderError, match="is in use"):
                discard_records(folders / name)
        assert (folders / name / "records.jsonl").read_bytes() == before
