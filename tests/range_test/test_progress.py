"""The line that shows how far a range test is."""

import importlib
import importlib.util
import inspect
import re
import sys
from types import SimpleNamespace

import pytest
from tests.range_test.test_refine import Quadratic

from cyclr.range_test import progress
from cyclr.range_test.progress import is_shown
from cyclr.range_test.repeats import Sweep

pytest.importorskip("tqdm")


@pytest.fixture(autouse=True)
def _every_update(monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN", -1.0)


def lines(text):
    return [line.strip() for line in text.split("\r") if line.strip()]


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)


@pytest.fixture
def notebook(monkeypatch):
    shell = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))


def test_a_line_has_rate_loss_and_time_left(capsys):
    result = Sweep(verbose=1).run(Quadratic())
    shown = lines(capsys.readouterr().err)
    last = f"range test: {len(result.lr)}/150, lr {result.lr[-1]:.2g}, loss {result.loss[-1]:.3g}, "
    assert re.search(re.escape(last) + r"\d\d:\d\d left", shown[-1])
    # Every update has a line of its own here, with its own loss.
    for number, (lr, loss) in enumerate(zip(result.lr, result.loss, strict=True), 1):
        assert any(line.startswith(f"range test: {number}/150, lr {lr:.2g}, loss {loss:.3g}, ") for line in shown)


def test_repeats_and_trial_cycles_are_named(capsys):
    result = Sweep(repeats=2, total_steps=2000, refine=700, verbose=1).run(Quadratic())
    names = {line.partition(":")[0] for line in lines(capsys.readouterr().err)}
    trials = {f"trial up to {trial.max_lr:.2g}" for trial in result.trials}
    assert names == {"range test", "range test 2", "second sweep", *trials}
    assert len(trials) > 1


@pytest.mark.parametrize("verbose", ["auto", 0])
def test_quiet_tests_show_no_line(verbose, capsys, request):
    if verbose == 0:
        request.getfixturevalue("terminal")
    Sweep(verbose=verbose).run(Quadratic())
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("place", ["terminal", "notebook"])
def test_auto_shows_the_line_in_a_terminal_and_in_a_notebook(place, request):
    assert not is_shown("auto")
    request.getfixturevalue(place)
    assert is_shown("auto")
    assert not is_shown(0)


def test_a_program_without_standard_streams_is_quiet(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert not is_shown("auto")


def test_without_tqdm_the_test_runs_quietly(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    assert Sweep(verbose=1).run(Quadratic()) == Sweep(verbose=0).run(Quadratic())
    assert capsys.readouterr() == ("", "")


def test_the_line_is_cleared_if_the_test_raises(capsys):
    def drive(seed, test, careful):
        next(test)
        test.record(1.0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Sweep(verbose=1).run(drive)
    assert re.search(r"\r *\r$", capsys.readouterr().err)


def test_a_test_that_is_made_again_has_a_line_again(capsys):
    calls = []

    def drive(seed, test, careful):
        calls.append(careful)
        for lr in test:
            test.record(float("nan") if test.updates == 20 and not careful else 1.0 / (1.0 + lr))
            if test.in_doubt and not careful:
                break

    Sweep(repeats=1, verbose=1).run(drive)
    assert calls == [False, True]
    assert sum(line.startswith("range test: 1/150,") for line in lines(capsys.readouterr().err)) == 2


@pytest.mark.parametrize("verbose", [2, "yes", None, -1])
def test_an_illegal_verbose_is_an_error_that_lists_the_legal_values(verbose):
    with pytest.raises(ValueError, match="verbose must be one of 'auto', 0, 1; got verbose="):
        Sweep(verbose=verbose)


@pytest.mark.parametrize("name", ["keras", "torch", "jax", "torch.lightning"])
def test_verbose_is_the_same_argument_everywhere(name):
    if importlib.util.find_spec(name.partition(".")[2] or name) is None:
        pytest.skip("the framework is not installed")
    module = importlib.import_module(f"cyclr.{name}")
    tested = module.RangeTestCallback if name == "torch.lightning" else module.range_test
    assert inspect.signature(tested).parameters["verbose"].default == "auto"
