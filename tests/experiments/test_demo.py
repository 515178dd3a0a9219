"""What `cyclr demo` compares; tests/cli runs it."""

from pathlib import Path

import pytest
from msgspec import structs

from cyclr.bounds import Bounds
from cyclr.experiments import Spec
from cyclr.experiments.demo import demo_spec, discard_demo, with_bounds_too_high
from cyclr.experiments.trial import empty_record
from cyclr.records import RunFolder
from cyclr.schedules import Run

BOUNDS = Bounds(0.001, 0.1, "ok", "for a test")


@pytest.mark.parametrize(("epochs", "cycles"), [(1, 1), (8, 1), (16, 2), (30, 4)])
def test_whole_cycles_near_smiths_rule_fill_the_run(epochs: int, cycles: int) -> None:
    trial = demo_spec(epochs=epochs).trials()[0]
    total = epochs * 29
    schedule = trial.policy.plan(Run(total, steps_per_epoch=29), BOUNDS).schedule
    assert schedule is not None
    assert schedule(0) == schedule(total - 1) == BOUNDS.base_lr
    ends = [step for step in range(total) if schedule.is_cycle_end(step)]
    assert (len(ends), ends[-1]) == (cycles, total - 1)


@pytest.mark.parametrize("shape", ["triangular", "parabolic", "sinusoidal"])
@pytest.mark.parametrize(("mode", "share"), [("triangular", 1.0), ("triangular2", 0.5), ("exp_range", 0.1)])
def test_the_amplitude_shrinks_as_the_mode_says(mode: str, share: float, shape: str) -> None:
    trial = demo_spec(mode=mode, shape=shape).trials()[0]
    schedule = trial.policy.plan(Run(16 * 29, steps_per_epoch=29), BOUNDS).schedule
    assert schedule.shape == shape  # type: ignore[union-attr]
    low, high = schedule.envelope(16 * 29 - 2)  # type: ignore[union-attr]
    assert (high - low) / (BOUNDS.max_lr - low) == pytest.approx(share, rel=0.02)  # type: ignore[operator]


def test_both_policies_train_the_same_model_from_the_same_seed() -> None:
    cyclical, fixed = demo_spec(seed=3).trials()
    assert (cyclical.policy.name, fixed.policy.name, cyclical.policy.needs_range_test) == ("CLR", "fixed 0.001", True)
    assert cyclical.seed == fixed.seed == 3
    assert cyclical.optimizer == fixed.optimizer == {"name": "Adam"}


def test_the_demo_ends_with_the_same_training_from_ten_times_the_bounds() -> None:
    spec = demo_spec(seed=3)
    *first, plain, auto = with_bounds_too_high(spec, BOUNDS).trials()
    assert [trial.id for trial in first] == [trial.id for trial in spec.trials()]
    for trial in (plain, auto):
        assert not trial.policy.needs_range_test
        assert (trial.optimizer, trial.seed) == ({"name": "Adam"}, 3)
    run = Run(16 * 29, steps_per_epoch=29)
    schedule = Bounds(0.01, 1.0, "ok", "").schedule(total_steps=run)
    assert plain.policy.plan(run).schedule == schedule
    assert auto.policy.plan(run).options["schedule"].schedule(total_steps=run) == schedule


def test_a_demo_replaces_an_earlier_one_and_no_other_comparison(tmp_path: Path) -> None:
    other = Spec([{"kind": "cosine"}], workload="cnn", epochs=1, seeds=[0])
    whole = with_bounds_too_high(demo_spec(epochs=2), BOUNDS)
    for name, spec in (("demo", demo_spec(epochs=2)), ("whole", whole), ("other", other)):
        with RunFolder.open(tmp_path / name, spec.to_dict(), [trial.id for trial in spec.trials()]) as run:
            run.append(structs.replace(empty_record(spec.trials()[0])))
        discard_demo(tmp_path / name)
    for name in ("demo", "whole"):
        assert RunFolder.read(tmp_path / name, missing_ok=True).records == []
    assert len(RunFolder.read(tmp_path / "other").records) == 1
    discard_demo(tmp_path / "missing")
