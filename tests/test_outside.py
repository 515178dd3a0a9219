"""Whatever a file or a saved state holds, it is refused by a short message, or what is read can be used."""

import json
import math
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.outside import REFUSED, changes, check, examples, nested

import cyclr
from cyclr import Bounds, RangeTestResult, Schedule, _files, _plain
from cyclr.range_test import NonFinite, TrialCycle

pytestmark = pytest.mark.filterwarnings("ignore")

WAVE = cyclr.Cyclical(0.1, 1.0, 5, step_size_down=7, decay=cyclr.Halving())
SCHEDULES = [
    WAVE,
    cyclr.Constant(0.1),
    cyclr.Cyclical.over(100, 3, 0.1, 1.0),
    cyclr.OneCycle(0.1, 1.0, 100, fall=0.3),
    cyclr.WarmRestarts(0.1, 1.0, 10, growth=1.5),
    cyclr.WarmRestarts.over(100, 3, 0.1, 1.0, growth=2),
    cyclr.Warmup(cyclr.WarmRestarts(0.1, 1.0, 10), 5, every_cycle=True),
    cyclr.Warmup(cyclr.Constant(0.1), 5, over=True),
    cyclr.Sequence([cyclr.Constant(0.1), WAVE.mirrored(0.8, 0.9)], [3]),
    cyclr.Anneal(0.1, 0.2, 10, "exponential", limit=0.3),
    0.5 * cyclr.Anneal(0.1, 0.01, 10, power=2.0) * WAVE,
    cyclr.Clock(cyclr.OneCycle(0.1, 1.0, 10), start=2, every=3, repeat=5),
    cyclr.WarmupStableDecay(0.1, 100, warmup=0.1),
]
STEPS = np.array([0, 1, 7, 99, 10**6, 2**31, 10**12, 2**63 - 1])


def use_schedule(schedule: Schedule) -> None:
    assert len(repr(schedule)) < 10**6
    for again in (Schedule.from_dict(json.loads(json.dumps(schedule.to_dict(), allow_nan=False))), copied(schedule)):
        assert again == schedule
        assert hash(again) == hash(schedule)
    values = schedule(STEPS)
    assert np.isfinite(values).all()
    assert [schedule(int(step)) for step in STEPS] == pytest.approx(values.tolist())
    assert values.max() <= schedule.largest * (1 + 1e-12)
    schedule.is_cycle_end(STEPS)
    schedule._repr_html_()
    assert schedule.plot() is not None
    close_figures()


def copied(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))  # noqa: S301


def close_figures() -> None:
    import matplotlib.pyplot as plt

    plt.close("all")


@examples(60)
@given(st.data())
def test_a_schedule_that_is_read_can_be_called_printed_saved_and_drawn(data: Any) -> None:
    description = data.draw(st.sampled_from(SCHEDULES)).to_dict()
    check(data.draw(changes(description)), Schedule.from_dict, use_schedule)


@pytest.mark.parametrize("value", [0.0, 5e-324, 1e-308, 1.7976931348623157e308])
def test_a_schedule_of_any_size_is_drawn(value: float) -> None:
    for schedule in (cyclr.Constant(value), cyclr.Anneal(0.0, value, 2**63 - 1) if value else cyclr.Constant(0.0)):
        assert "nan" not in schedule._repr_html_()
        schedule.plot().figure.canvas.draw()
    close_figures()


def range_test() -> RangeTestResult:
    lr = np.geomspace(1e-4, 10, 24)
    loss = 2.3 - 2 / (1 + (0.01 / lr) ** 2) + (lr / 0.5) ** 2
    trials = [
        TrialCycle(0.1, (2.0, 1.0, 0.5), 0.6, "completed", 0.2),
        TrialCycle(0.2, (2.0, 1.0), None, "diverged", None),
    ]
    return RangeTestResult(
        *(lr, loss, "completed", 1e-4, 10.0, 24, "exponential", [loss - 0.01, loss + 0.01], 2),
        left_out=[NonFinite(3, float(lr[3]), "NaN")],
        tested={"model": "mlp", "seed": 1},
        total_steps=1000,
        trials=trials,
    )


def use_result(result: RangeTestResult) -> None:
    assert len(repr(result)) < 50_000
    assert RangeTestResult.from_dict(json.loads(json.dumps(result.to_dict(), allow_nan=False))) == result
    assert copied(result) == result
    if result.bounds.usable:
        result.bounds.schedule(total_steps=100)
    result._repr_html_()
    result.plot()
    close_figures()


@examples(20)
@given(changes(range_test().to_dict()))
def test_a_range_test_that_is_read_can_be_printed_saved_and_drawn(description: Any) -> None:
    check(description, RangeTestResult.from_dict, use_result)


@examples(60)
@given(changes(range_test().bounds.to_dict()))
def test_bounds_that_are_read_can_be_used(description: Any) -> None:
    def use(bounds: Bounds) -> None:
        assert Bounds(**json.loads(json.dumps(bounds.to_dict(), allow_nan=False))) == bounds
        assert repr(bounds)
        assert bounds._repr_html_()

    check(description, lambda value: Bounds(**value) if isinstance(value, dict) else None, lambda b: b and use(b))


def auto_state() -> dict[str, Any]:
    auto = cyclr.AutoCycle(300, cyclr.Cyclical.over(300, 1, 0.01, 0.1), state=Number())
    for update in range(120):
        assert auto.lr
        auto.step(math.nan if update in (50, 51) else 1.0 / (update + 1))
    return auto.state_dict()


class Number:
    """A training state."""

    def __init__(self) -> None:
        self.value = 1.0

    def copy(self) -> float:
        return self.value

    def restore(self, copy: Any) -> None:
        self.value = copy


AUTO = None


@examples(60)
@given(st.data())
def test_a_state_of_an_auto_cycle_is_refused_whole_or_can_go_on(data: Any) -> None:
    global AUTO
    AUTO = AUTO or auto_state()
    auto = cyclr.AutoCycle(300, cyclr.Cyclical.over(300, 1, 0.01, 0.1), state=Number())
    before = auto.state_dict()

    def load(state: Any) -> cyclr.AutoCycle:
        try:
            auto.load_state_dict(state)
        except REFUSED:
            assert auto.state_dict() == before
            raise
        return auto

    def use(auto: cyclr.AutoCycle) -> None:
        for _ in range(min(5, auto.total_steps - auto.last_step - 1)):
            assert math.isfinite(auto.lr)
            auto.step(0.001)
        assert repr(auto)
        again = cyclr.AutoCycle(300, cyclr.Cyclical.over(300, 1, 0.01, 0.1), state=Number())
        again.load_state_dict(auto.state_dict())
        assert again.state_dict() == auto.state_dict()

    check(data.draw(changes(AUTO)), load, use)


# Files


def of_bytes(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 100,
        b"\xff\xfe{\0}\0",
        b"\xef\xbb\xbf{}",
        b"[" * 10**5,
        b'{"a":' * 10**5,
        b'{"lr": 1' + b"0" * 10_000 + b"}",
        b'{"lr": NaN}',
        b'{"lr": 1e999}',
        b'{"lr": 1, "lr": 2}',
        b'"\\ud800"',
        b"null",
        b'{"schedule": "Constant", "version": 1, "value": 0.1',
    ],
    ids=lambda content: repr(content[:20]),
)
def test_a_file_that_holds_something_else_is_refused_by_every_reader(content: bytes, tmp_path: Path) -> None:
    for file, read in readers(tmp_path).items():
        with pytest.raises(REFUSED) as caught:
            read(of_bytes(tmp_path / file, content))
        assert len(str(caught.value)) < 700 + len(str(tmp_path))
        assert "Traceback" not in str(caught.value)
        assert "set_int_max_str_digits" not in str(caught.value)


def readers(tmp_path: Path) -> dict[str, Any]:
    """Every reader of a text file, by the name of a file that it reads."""
    pytest.importorskip("msgspec")
    from cyclr.experiments import Spec
    from cyclr.experiments.user_file import check as check_file
    from cyclr.records import RunFolder
    from cyclr.records.reading import read

    def run(path: Path) -> Any:
        return RunFolder.read(path.parent)

    def records(path: Path) -> Any:
        of_bytes(tmp_path / "run.json", b'{"version": 1}')
        of_bytes(path, path.read_bytes() + b"\n")
        return RunFolder.read(path.parent)

    def schedule_of_spec(path: Path) -> Any:
        toml = f'epochs = 1\n[[policy]]\nkind = "schedule"\nfile = "{path.name}"\n'
        return Spec.from_toml(of_bytes(tmp_path / "spec.toml", toml.encode()))

    return {
        "range_test.json": RangeTestResult.load,
        "any.json": read,
        "run.json": run,
        "records.jsonl": records,
        "spec.toml": Spec.from_toml,
        "schedule.json": schedule_of_spec,
        "model.py": lambda path: check_file(f"{path}:build", path),
    }


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "loop", "sparse", "missing"])
def test_a_path_that_is_no_file_of_that_kind_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    for file in readers(tmp_path):
        folder = tmp_path / file.replace(".", "-")
        folder.mkdir()
        read, path = readers(folder)[file], folder / file
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "device":
            path.symlink_to("/dev/zero")
        elif kind == "folder":
            path.mkdir()
        elif kind == "loop":
            path.symlink_to(path)
        elif kind == "sparse":
            path.touch()
            os.truncate(path, 2**40)
        if file in ("records.jsonl", "run.json"):
            continue
        with pytest.raises((*REFUSED, OSError)) as caught:
            read(path)
        assert len(str(caught.value)) < 700 + 3 * len(str(tmp_path))


@pytest.mark.parametrize("text", ["[" * 419 + "]" * 419, '{"a": [1.5, -2, null, "\u00e9"]}', "3" * 4_000])
def test_what_is_within_the_limits_is_read(text: str) -> None:
    assert _plain.parse(text.encode()) == json.loads(text)


@pytest.mark.parametrize("levels", [421, 900, 5_000])
def test_deeper_lists_are_refused_whatever_the_version_of_python(levels: int) -> None:
    with pytest.raises(ValueError, match=r"^it is nested more than 420 levels deep$"):
        _plain.parse("[" * levels + "]" * levels)
    with pytest.raises(ValueError, match="420 levels"):
        _plain.check_depth(nested(levels, list))


def test_lists_that_hold_one_list_in_many_places_are_refused_at_once() -> None:
    value: Any = 1
    for _ in range(100):
        value = [value] * 100
    with pytest.raises(ValueError, match="more than 1,000,000 lists"):
        _plain.check_depth(value)
    assert not _plain.is_version({"version": value, "members": ()}, 1, "members")


def test_an_archive_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.zeros(2**27, np.uint8))
    with pytest.raises(ValueError, match="more than 100 times its size"), _files.open_archive(path):
        pass
