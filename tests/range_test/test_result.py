"""The result of a range test: a value that is read, saved, loaded, printed and drawn."""

import copy
import dataclasses
import json
import math
import os
import pickle
import stat
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cyclr import Bounds, RangeTest, RangeTestResult
from cyclr.bounds import knee, smooth, suggest

LR = np.geomspace(1e-6, 10, 150)
LOSS = 2.3 - 2 / (1 + (0.01 / LR) ** 2) + (LR / 0.5) ** 2


def make(**changes):
    arguments = {
        "lr": LR,
        "loss": LOSS,
        "stop_reason": "completed",
        "min_lr": 1e-6,
        "max_lr": 10.0,
        "steps": 150,
        "spacing": "exponential",
    }
    return RangeTestResult(**{**arguments, **changes})


@st.composite
def results(draw):
    length = draw(st.integers(1, 40))
    loss = draw(arrays.arrays(np.float64, length, elements=st.floats(-1e6, 1e6)))
    reason = draw(st.sampled_from(["completed", "diverged", "non_finite", "data_exhausted", "interrupted"]))
    return make(lr=np.geomspace(1e-5, 1, 40)[:length], loss=loss, stop_reason=reason, steps=40)


def test_attributes_cannot_be_set_or_deleted():
    result = make()
    for name in ("lr", "loss", "stop_reason", "min_lr", "max_lr", "steps", "spacing"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(result, name, None)
        with pytest.raises(dataclasses.FrozenInstanceError):
            delattr(result, name)


READ_ONLY = {
    "itself": lambda result: result,
    "loaded": lambda result: RangeTestResult.from_dict(result.to_dict()),
    "replaced": lambda result: dataclasses.replace(result, steps=200),
    "copied": copy.deepcopy,
    "unpickled": lambda result: pickle.loads(pickle.dumps(result)),  # noqa: S301
}


@pytest.mark.parametrize("again", READ_ONLY.values(), ids=READ_ONLY)
@pytest.mark.parametrize("name", ["lr", "loss", "smoothed_loss"])
def test_arrays_are_read_only(again, name):
    result = make()
    _ = result.bounds
    array = getattr(again(result), name)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 99.0


def test_arrays_are_copies_of_what_was_given():
    lr, loss = LR.copy(), LOSS.copy()
    result = make(lr=lr, loss=loss)
    lr[0], loss[0] = 99.0, 99.0
    assert (result.lr[0], result.loss[0]) == (LR[0], LOSS[0])
    assert lr.flags.writeable


def test_lists_are_taken():
    assert make(lr=LR.tolist(), loss=LOSS.tolist()) == make()


@given(first=results(), second=results())
def test_equal_means_equal_in_everything(first, second):
    assert first == copy.deepcopy(first)
    same = np.array_equal(first.loss, second.loss) and first.stop_reason == second.stop_reason
    assert (first == second) is same


@pytest.mark.parametrize(
    "change",
    [
        {"lr": np.geomspace(1e-6, 9.0, 150)},
        {"loss": LOSS + 1e-9},
        {"stop_reason": "diverged"},
        {"min_lr": 1e-7},
        {"max_lr": 11.0},
        {"steps": 151},
        {"spacing": "linear"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_results_that_differ_in_one_thing_are_not_equal(change):
    assert make(**change) != make()


def test_a_result_is_equal_to_nothing_else_and_cannot_be_hashed():
    assert make() != make().to_dict()
    with pytest.raises(TypeError, match="unhashable"):
        hash(make())


def test_bounds_and_suggestions_equal_the_functions_of_bounds():
    result = make()
    # The curve is steep, and a result knows how many updates its test had.
    said, curve = knee(LR, LOSS), smooth(LR, LOSS)
    updates = curve.lowest - curve.reached(0.1)
    assert result.bounds == dataclasses.replace(said, reason=result.bounds.reason)
    assert result.bounds.reason.startswith(f"{said.reason} The loss fell within {updates} updates")
    assert result.smoothed_loss.tolist() == smooth(LR, LOSS).loss.tolist()
    for method in ("steepest", "valley", "minimum"):
        assert result.suggest(method) == suggest(LR, LOSS, method)
        skipped = suggest(LR, LOSS, method, skip_begin=60, skip_end=0)
        assert result.suggest(method, skip_begin=60, skip_end=0) == skipped
    with pytest.raises(ValueError, match=r"^method must be one of 'steepest', 'valley', 'minimum'; got method='best'"):
        result.suggest("best")


@pytest.mark.parametrize(
    ("stop_reason", "status"),
    [
        ("completed", "no_divergence"),
        ("data_exhausted", "no_divergence"),
        ("interrupted", "no_divergence"),
        ("diverged", "ok"),
        ("non_finite", "ok"),
    ],
)
def test_an_unstable_stop_reason_counts_as_divergence(stop_reason, status):
    falling = 2.3 - 2 / (1 + (0.01 / LR) ** 2)
    assert make(loss=falling, stop_reason=stop_reason).bounds.status == status


@given(result=results())
def test_the_smoothed_loss_has_a_value_for_every_rate(result):
    assert result.smoothed_loss.shape == result.loss.shape
    assert np.all(np.isfinite(result.smoothed_loss))


@given(result=results())
def test_json_gives_back_an_equal_result(result):
    again = RangeTestResult.from_dict(json.loads(json.dumps(result.to_dict(), allow_nan=False)))
    assert again == result
    assert again.bounds == result.bounds
    assert again.lr.tolist() == result.lr.tolist()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(result=results())
def test_a_file_gives_back_an_equal_result(tmp_path, result):
    path = tmp_path / "result.json"
    result.save(path)
    assert RangeTestResult.load(path) == RangeTestResult.load(str(path)) == result
    assert os.listdir(tmp_path) == ["result.json"]  # noqa: PTH208


def test_a_result_of_numpy_numbers_can_be_saved(tmp_path):
    result = make(min_lr=np.float32(1e-6), max_lr=np.float64(10), steps=np.int64(150))
    result.save(tmp_path / "result.json")
    assert RangeTestResult.load(tmp_path / "result.json") == result


def test_the_file_is_json_that_others_can_read(tmp_path):
    make().save(tmp_path / "result.json")
    text = (tmp_path / "result.json").read_text(encoding="utf-8")
    content = json.loads(text)
    assert content["version"] == 1
    assert content["bounds"] == make().bounds.to_dict()
    assert content["lr"] == LR.tolist()
    assert text.endswith("}\n")


OLD_BOUNDS = {"base_lr": 0.5, "max_lr": 5.0, "status": "ok", "reason": "An older rule read these."}


def test_stored_bounds_are_kept_as_stored(tmp_path):
    result = RangeTestResult.from_dict({**make().to_dict(), "bounds": OLD_BOUNDS})
    assert result.bounds == Bounds(**OLD_BOUNDS) != make().bounds
    result.save(tmp_path / "result.json")
    copies = [RangeTestResult.load(tmp_path / "result.json"), copy.deepcopy(result), copy.copy(result)]
    for again in [*copies, pickle.loads(pickle.dumps(result))]:  # noqa: S301
        assert again.bounds == result.bounds
        assert again == result != make()
    assert f"{result!r}".count("An older rule read these.") == 1


def test_changed_losses_do_not_keep_the_stored_bounds():
    result = RangeTestResult.from_dict({**make().to_dict(), "bounds": OLD_BOUNDS})
    assert dataclasses.replace(result, stop_reason="diverged").bounds == make(stop_reason="diverged").bounds


def test_a_file_without_bounds_has_them_read():
    description = make().to_dict()
    del description["bounds"]
    assert RangeTestResult.from_dict(description).bounds == make().bounds


def test_loading_stored_bounds_smooths_no_curve(monkeypatch):
    description = make().to_dict()

    def refuse(*arguments):
        raise AssertionError("no curve is needed")

    monkeypatch.setattr("cyclr.range_test.result.smooth", refuse)
    assert RangeTestResult.from_dict(description).bounds.to_dict() == description["bounds"]


def test_the_curve_is_smoothed_once_for_bounds_and_picture(monkeypatch):
    calls = []
    monkeypatch.setattr("cyclr.range_test.result.smooth", lambda *data: (calls.append(1), smooth(*data))[1])
    result = make()
    _ = result.bounds, result.smoothed_loss, result.picture()
    assert len(calls) == 1


@pytest.mark.parametrize(
    "bounds",
    [None, [], "0.1 to 1", {}, {**OLD_BOUNDS, "base_lr": "0.5"}, {**OLD_BOUNDS, "max_lr": 0.1}, {**OLD_BOUNDS, "a": 1}],
    ids=str,
)
def test_illegal_stored_bounds_are_a_value_error(bounds):
    with pytest.raises(ValueError, match="must"):
        RangeTestResult.from_dict({**make().to_dict(), "bounds": bounds})


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_the_file_has_the_permissions_that_any_new_file_has(tmp_path):
    make().save(tmp_path / "result.json")
    (tmp_path / "other").write_text("")
    assert stat.S_IMODE((tmp_path / "result.json").stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


def test_saving_into_a_missing_folder_is_an_os_error_that_leaves_nothing(tmp_path):
    with pytest.raises(FileNotFoundError):
        make().save(tmp_path / "missing" / "result.json")
    assert list(tmp_path.iterdir()) == []


def test_saving_onto_a_folder_is_an_os_error_that_leaves_nothing(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=r"is a folder. Name a file in it"):
        make().save(tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize(
    ("name", "fix"),
    [("a.html", r"to_html\(path\)"), *((f"a.{kind}", r"plot\(\)\.figure\.savefig") for kind in ("png", "JPG"))],
)
def test_pages_and_pictures_are_not_saved_as_json(tmp_path, name, fix):
    result = RangeTestResult([0.1, 1.0], [2.0, 1.0], "completed", 0.1, 1.0, 2, "exponential")
    with pytest.raises(
        ValueError, match=rf"^path must be the path of a JSON file; got .*{name}'\. Write result\.{fix}"
    ):
        result.save(tmp_path / name)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("target", "failing"),
    [("os.fsync", OSError("disk full")), ("pathlib.Path.replace", OSError("gone")), ("os.fsync", KeyboardInterrupt())],
    ids=["writing", "replacing", "interrupted"],
)
def test_a_save_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, target, failing):
    path = tmp_path / "result.json"
    make().save(path)
    before = path.read_bytes()

    def fail(*arguments):
        raise failing

    monkeypatch.setattr(target, fail)
    with pytest.raises(type(failing)):
        make(steps=200).save(path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize("content", [{"lr": math.nan}, {"lr": object()}], ids=["nan", "object"])
def test_a_value_that_json_cannot_hold_leaves_the_old_file_unchanged(tmp_path, monkeypatch, content):
    path = tmp_path / "result.json"
    make().save(path)
    before = path.read_bytes()
    monkeypatch.setattr(RangeTestResult, "to_dict", lambda result: content)
    with pytest.raises((TypeError, ValueError), match="JSON"):
        make().save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


def test_saving_replaces_a_file(tmp_path):
    make().save(tmp_path / "result.json")
    make(steps=200).save(tmp_path / "result.json")
    assert RangeTestResult.load(tmp_path / "result.json").steps == 200


@pytest.mark.skipif(sys.platform == "win32", reason="Windows opens no folders")
def test_a_saved_file_is_flushed_with_its_folder(tmp_path, monkeypatch):
    flushed, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (flushed.append(stat.S_ISDIR(os.fstat(file).st_mode)), fsync(file)))
    make().save(tmp_path / "result.json")
    assert flushed == [False, True]


def test_json_nested_too_deep_is_a_value_error(tmp_path):
    path = tmp_path / "nested.json"
    path.write_text("[" * 100_000 + "]" * 100_000, encoding="utf-8")
    with pytest.raises(ValueError, match=r"nested\.json must hold JSON written by save\(\); got "):
        RangeTestResult.load(path)


@pytest.mark.parametrize(
    "text",
    ["", "{", "not json", '{"version": 1, "lr": [1e-3', "\x00", '{"version": 1, "lr": [NaN]}'],
    ids=["empty", "brace", "words", "cut off", "binary", "nan"],
)
def test_a_corrupted_file_is_a_value_error(tmp_path, text):
    path = tmp_path / "result.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="must"):
        RangeTestResult.load(path)


def test_the_error_about_a_corrupted_file_names_it(tmp_path):
    for content in (b"{", b"\xff\xfe\xfa"):
        path = tmp_path / "broken.json"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"broken\.json must hold JSON written by save\(\); got "):
            RangeTestResult.load(path)


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        RangeTestResult.load(tmp_path / "missing.json")


GOOD = make().to_dict()


@pytest.mark.parametrize(
    "description",
    [None, [], "text", 3, {}, {"version": None}] + [{**GOOD, "version": version} for version in (2, True, 1.0, "1")],
    ids=lambda d: str(d)[:20],
)
def test_another_version_is_a_value_error(description):
    with pytest.raises(ValueError, match=r"^version must be 1; got version=.*\. Is this the result of a range test\?$"):
        RangeTestResult.from_dict(description)


@pytest.mark.parametrize("name", ["lr", "loss", "stop_reason", "min_lr", "max_lr", "steps", "spacing"])
def test_a_missing_entry_is_a_value_error_that_names_it(name):
    description = {key: value for key, value in GOOD.items() if key != name}
    with pytest.raises(ValueError, match=rf"must have lr, loss, .*; got none of {name}\.$"):
        RangeTestResult.from_dict(description)


@pytest.mark.parametrize(
    "change",
    [
        {"lr": {}},
        {"lr": [str(lr) for lr in GOOD["lr"]]},
        {"lr": [*GOOD["lr"][:-1], True], "max_lr": True},
        {"loss": [*GOOD["loss"][:-1], False]},
        {"loss": [*GOOD["loss"][:-1], 10**400]},
        {"runs": [[str(loss) for loss in GOOD["loss"]]]},
        {"min_lr": 1e-3},
        {"max_lr": 1.0},
        {"steps": 10**400},
        {"updates_per_rate": 10**400},
        {"lr": None},
        {"lr": "text"},
        {"loss": [[1.0] * 150]},
        {"loss": [None] * 150},
        {"loss": ["x"] * 150},
        {"stop_reason": ["completed"]},
        {"min_lr": "low"},
        {"min_lr": None},
        {"max_lr": -1},
        {"steps": "many"},
        {"steps": 1.5},
        {"steps": 10},
        {"spacing": None},
    ],
    ids=lambda change: f"{change!s:.30}",
)
def test_an_illegal_entry_is_a_value_error(change):
    with pytest.raises(ValueError, match="must"):
        RangeTestResult.from_dict({**GOOD, **change})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"lr": [], "loss": []},
            r"lr and loss must be vectors of the same length of at least 1; got shapes \(0,\) and \(0,\)",
        ),
        (
            {"lr": LR[:-1]},
            r"lr and loss must be vectors of the same length of at least 1; got shapes \(149,\) and \(150,\)",
        ),
        (
            {"lr": 0.1, "loss": 1.0},
            r"lr and loss must be vectors of the same length of at least 1; got shapes \(\) and \(\)",
        ),
        ({"lr": LR[::-1]}, "lr must be finite, greater than 0 and rising; got lr="),
        ({"lr": LR - 1e-6}, "lr must be finite, greater than 0 and rising; got lr="),
        ({"lr": np.where(LR > 1, np.nan, LR)}, "lr must be finite, greater than 0 and rising; got lr="),
        ({"loss": np.where(LR > 1, np.nan, LOSS)}, "loss must be finite; got loss="),
        ({"loss": np.where(LR > 1, np.inf, LOSS)}, "loss must be finite; got loss="),
        ({"stop_reason": "finished"}, "stop_reason must be one of 'completed', .*; got stop_reason='finished'"),
        ({"spacing": "log"}, "spacing must be one of 'exponential', 'linear'; got spacing='log'"),
        (
            {"min_lr": 1e-5},
            "lr must be within min_lr and max_lr; got learning rates from 1e-06 to 10 with min_lr=1e-05",
        ),
        ({"lr": ["0.1"] * 150}, "lr must be a vector of numbers; got lr=\\['0.1', '0.1', .{150,200} characters"),
    ],
)
def test_illegal_fields_of_a_result_are_a_value_error(changes, message):
    with pytest.raises(ValueError, match="^" + message):
        make(**changes)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (
            {},
            ["150 of 150 steps, completed (ok)", "Train between base_lr=0.00", "max_lr=0.0", "The loss fell from 2.3"],
        ),
        (
            {"loss": np.ones(150)},
            ["150 of 150 steps, completed (flat)", "This curve gives no bounds.", "The loss stayed at 1"],
        ),
        (
            {"lr": LR[:9], "loss": LOSS[:9], "stop_reason": "interrupted"},
            ["9 of 150 steps, interrupted", "(too_few_points)"],
        ),
    ],
    ids=["ok", "flat", "too few"],
)
def test_repr_says_the_verdict(changes, parts):
    shown = repr(make(**changes))
    for part in parts:
        assert part in shown
    assert "\n" not in shown


def test_plot_draws_on_the_axes_it_is_given_and_shows_nothing(monkeypatch):
    matplotlib = pytest.importorskip("matplotlib")
    pytest.importorskip("cyclr.drawing.axes")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    def refuse(*arguments, **more):
        raise AssertionError("a plot must not be shown")

    monkeypatch.setattr(plt, "show", refuse)
    monkeypatch.setattr(matplotlib.figure.Figure, "show", refuse)
    try:
        own = make().plot()
        assert isinstance(own, matplotlib.axes.Axes)
        _, axes = plt.subplots()
        assert make(loss=np.ones(150)).plot(ax=axes) is axes
        assert axes.lines
    finally:
        plt.close("all")


def several(*rows, stop_reason="completed"):
    return [make(lr=LR[: len(row)], loss=row, stop_reason=stop_reason) for row in rows]


def test_repeats_are_one_result_as_long_as_the_shortest():
    long, short = make(), make(lr=LR[:90], loss=LOSS[:90] + 0.5, stop_reason="diverged")
    both = RangeTestResult.of_repeats([long, short])
    assert (both.stop_reason, len(both.lr), both.steps) == ("diverged", 90, 150)
    np.testing.assert_allclose(both.loss, LOSS[:90] + 0.25, rtol=1e-12)
    assert both.runs.tolist() == [LOSS[:90].tolist(), (LOSS[:90] + 0.5).tolist()]
    assert not both.runs.flags.writeable


def test_the_order_of_repeats_of_one_length_does_not_decide_why_they_ended():
    ends = [
        RangeTestResult(LR[:9], LOSS[:9], why, LR[0], LR[-1], LR.size, "exponential")
        for why in ("interrupted", "non_finite")
    ]
    for order in (ends, ends[::-1]):
        assert RangeTestResult.of_repeats(order).stop_reason == "non_finite"


def test_a_test_that_was_cut_short_says_so_and_one_that_turned_unstable_does_not():
    said = {}
    for why in ("completed", "diverged", "non_finite", "data_exhausted", "interrupted"):
        said[why] = RangeTestResult(LR[:40], np.full(40, 2.3), why, LR[0], LR[-1], LR.size, "exponential").bounds.reason
    assert said["data_exhausted"] == said["interrupted"] != said["completed"]
    assert said["diverged"] == said["non_finite"] != said["completed"]
    assert said["interrupted"].endswith("let it run to the end, with more data or fewer steps.")


def test_repeats_are_saved_and_loaded_with_all_of_their_losses(tmp_path):
    both = RangeTestResult.of_repeats(several(LOSS, LOSS * 1.1, LOSS + 0.3))
    both.save(tmp_path / "result.json")
    again = RangeTestResult.load(tmp_path / "result.json")
    assert again == both
    assert again.runs.tolist() == both.runs.tolist()
    assert again != make(loss=both.loss)


def test_updates_per_rate_are_kept_and_move_the_bounds(tmp_path):
    test = RangeTest(1e-6, 10.0, 150, stop_factor=None, updates_per_rate=2)
    for _ in test:
        test.record(LOSS[test.recorded])
    result = test.result()
    assert result.updates_per_rate == 2
    assert result.bounds.max_lr > make().bounds.max_lr
    result.save(tmp_path / "result.json")
    for other in (RangeTestResult.load(tmp_path / "result.json"), copy.deepcopy(result)):
        assert (other, other.bounds) == (result, result.bounds)
    assert RangeTestResult.of_repeats([result, result]).updates_per_rate == 2
    with pytest.raises(ValueError, match="results must be of one sweep"):
        RangeTestResult.of_repeats([result, make()])


def test_a_test_from_restored_weights_is_kept_and_has_bounds_of_its_own(tmp_path):
    result = make(from_start=True, updates_per_rate=5)
    assert result.bounds.max_lr != make(updates_per_rate=5).bounds.max_lr
    result.save(tmp_path / "result.json")
    for other in (RangeTestResult.load(tmp_path / "result.json"), copy.deepcopy(result), dataclasses.replace(result)):
        assert (other, other.bounds, other.from_start) == (result, result.bounds, True)
    assert RangeTestResult.of_repeats([result, result]).from_start
    with pytest.raises(ValueError, match="results must be of one sweep"):
        RangeTestResult.of_repeats([result, make(updates_per_rate=5)])
    with pytest.raises(ValueError, match="from_start must be one of True, False; got from_start='yes'"):
        make(from_start="yes")


def test_one_test_is_its_own_repeat():
    result = make()
    assert RangeTestResult.of_repeats([result]) is result
    assert result.runs.tolist() == [LOSS.tolist()]
    assert "runs" not in result.to_dict()


@pytest.mark.parametrize(
    ("results", "message"),
    [([], "got 0 results of 0 sweeps"), ([make(), make(steps=200)], "got 2 results of 2 sweeps")],
    ids=["none", "different"],
)
def test_results_of_different_sweeps_are_an_error(results, message):
    with pytest.raises(ValueError, match=f"^results must be of one sweep; {message}"):
        RangeTestResult.of_repeats(results)


@pytest.mark.parametrize("runs", [[[1.0, 2.0]], LOSS, [LOSS * np.nan], [LOSS + 1], "abc"], ids=range(5))
def test_runs_whose_mean_is_not_the_loss_are_an_error(runs):
    with pytest.raises(ValueError, match=r"^(runs must be|loss must be the mean of runs)"):
        make(runs=runs)


HUGE = {
    "alternating": [1e308 * (-1) ** i for i in range(150)],
    "constant": [1.7e308] * 150,
    "rising": np.geomspace(1.0, 1.7e308, 150),
    "falling": -np.geomspace(1.0, 1.7e308, 150),
    "tiny": [-2.22507386e-309, -1.0, *[0.0] * 148],
}


@pytest.mark.parametrize("loss", HUGE.values(), ids=HUGE)
def test_the_largest_and_smallest_losses_give_a_result_and_pictures(loss):
    result = make(loss=loss)
    assert np.all(np.isfinite(result.smoothed_loss))
    assert "nan" not in result._repr_html_()
    assert "inf" not in result._repr_html_()
    assert np.all(np.isfinite(result.picture().limits))
    for method in ("steepest", "valley", "minimum"):
        assert 1e-7 <= result.suggest(method) <= 10
    assert RangeTestResult.from_dict(result.to_dict()) == result
    both = RangeTestResult.of_repeats([result, result])
    assert both.loss.tolist() == result.loss.tolist()
    assert np.all(np.isfinite(both.picture().band))


@pytest.mark.parametrize("loss", HUGE.values(), ids=HUGE)
def test_the_largest_and_smallest_losses_can_be_plotted_and_have_a_page(loss, tmp_path):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pytest.importorskip("jinja2")
    make(loss=loss).plot().figure.canvas.draw()
    pyplot.close("all")
    make(loss=loss).to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").exists()


def test_threads_that_save_to_one_path_leave_one_whole_file(tmp_path):
    path = tmp_path / "result.json"
    result = make()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: result.save(path), range(60)))
    assert RangeTestResult.load(path) == result
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


def test_a_file_that_cannot_be_written_is_named_with_the_reason(tmp_path):
    result = make()
    with pytest.raises(FileNotFoundError, match=r"result.json' cannot be written, because there is no folder"):
        result.save(tmp_path / "missing" / "result.json")
    with pytest.raises(IsADirectoryError, match=r"is a folder. Name a file in it."):
        result.save(tmp_path)
    assert [*tmp_path.iterdir()] == []


def test_a_file_left_by_a_process_with_the_same_id_does_not_prevent_saving(tmp_path):
    (tmp_path / f".result.json.{os.getpid()}.tmp").write_text("half a fi")
    make().save(tmp_path / "result.json")
    assert RangeTestResult.load(tmp_path / "result.json") == make()


@pytest.mark.parametrize("path", ["", "."])
def test_a_path_that_names_no_file_is_a_value_error(path):
    with pytest.raises(ValueError, match=r"^path must name a file; got path="):
        make().save(path)
