"""The demo's parts that the command line's own tests do not reach."""

from pathlib import Path

import pytest

from cyclr import BoundsError, CyclrError
from cyclr.experiments import demo
from cyclr.experiments.data import Dataset, load
from cyclr.range_test import RangeTestResult

CURVE = [2.0] * 40 + [2.0 - 0.05 * i for i in range(30)] + [0.5 + 0.2 * i for i in range(20)]


def result(losses: list[float]) -> RangeTestResult:
    lr = [1e-5 * 1.2**i for i in range(len(losses))]
    return RangeTestResult(lr, losses, "completed", lr[0], lr[-1], len(lr), "exponential")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


@pytest.mark.parametrize(("epochs", "cycles"), [(1, 1), (8, 1), (16, 2), (30, 4)])
def test_plan_fills_the_run_with_whole_cycles_near_smiths_rule(digits: Dataset, epochs: int, cycles: int) -> None:
    tested = result(CURVE)
    smith, schedule = demo.plan(digits, demo.Settings(epochs=epochs, batch_size=50), tested)
    total = epochs * 29
    assert smith == 4 * 29
    assert schedule(0) == schedule(total - 1) == tested.bounds.base_lr
    assert schedule.cycle(total - 1) == cycles
    assert [step for step in range(total) if schedule.is_cycle_end(step)][-1] == total - 1


@pytest.mark.parametrize(("mode", "share"), [("triangular", 1.0), ("triangular2", 0.5), ("exp_range", 0.1)])
def test_the_amplitude_shrinks_as_the_mode_says(digits: Dataset, mode: str, share: float) -> None:
    tested = result(CURVE)
    _, schedule = demo.plan(digits, demo.Settings(mode=mode), tested)  # type: ignore[arg-type]
    last = 16 * 29 - 2
    low, high = schedule.envelope(last)
    assert tested.bounds.max_lr is not None
    assert (high - low) / (tested.bounds.max_lr - low) == pytest.approx(share, rel=0.02)


def test_a_flat_curve_ends_the_demo_with_the_reason(digits: Dataset) -> None:
    with pytest.raises(BoundsError, match=r"hold no numbers \(status 'flat'\): The loss stayed at 2"):
        demo.plan(digits, demo.Settings(), result([2.0] * 50))


def test_steps_to_an_accuracy() -> None:
    run = demo.Run("x", [10, 20, 30], [0.5, 0.8, 0.7], [0.0] * 3, [0.0] * 3)
    assert run.best == 0.8
    assert run.steps_to(0.5) == 10
    assert run.steps_to(0.75) == 20
    assert run.steps_to(0.9) is None


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("epochs", 0, ValueError),
        ("epochs", 1.5, TypeError),
        ("batch_size", -1, ValueError),
        ("shape", "square", ValueError),
        ("mode", "sinusoidal", ValueError),
        ("fixed_lr", 0.0, ValueError),
        ("steps", 1, ValueError),
        ("seed", -1, ValueError),
    ],
)
def test_settings_are_checked_at_once(name: str, value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"^{name} must be"):
        demo.Settings(**{name: value})  # type: ignore[arg-type]


def test_a_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    demo.prepare_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CyclrError, match=r"output must be a folder that can be written; got '.*below'"):
        demo.prepare_folder(tmp_path / "file" / "below")
