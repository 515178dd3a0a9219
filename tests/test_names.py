"""Names of other tools: what the errors for them say."""

import copy
import importlib
import importlib.util
import inspect
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cyclr
from cyclr import _names

BOUNDS = cyclr.Bounds(0.001, 0.1, "ok", "read from a plot")
RESULT = cyclr.RangeTestResult([0.1, 1.0], [2.0, 1.0], "completed", 0.1, 1.0, 2, "exponential")
SCHEDULE = BOUNDS.schedule(total_steps=100)
FRAMEWORKS = {"cyclr.keras": "keras", "cyclr.torch": "torch", "cyclr.jax": "jax"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RESULT.suggest(), r"needs method; got no arguments\. Write suggest\(method='steepest'\)\."),
        (lambda: RESULT.plot(show=True), r"no argument show; got show=True\. Plots are not shown automatically: call"),
        (lambda: cyclr.OneCycle(max_lr=0.01, total_steps=9), r"OneCycle\(\) needs base_lr; got max_lr and total_steps"),
        (lambda: cyclr.OneCycle(0.1, 0.2, 9, pct_start=0.3), "got pct_start=0.3. Did you mean 'rise'?"),
        (lambda: cyclr.Cyclical(0.1, 0.2, 9, mode="triangular2"), r"Write cyclr\.Cyclical\.from_mode\(mode"),
        (lambda: cyclr.Cyclical.over(9, 1, 0.1, 0.2, risee=0.3), r"Cyclical\.over\(\) has no .* mean 'rise'\?"),
        (
            lambda: cyclr.Cyclical(0.1, 0.2, 9, 9),
            r"takes 3 .* got 4\. Write Cyclical\(base_lr, max_lr, step_size, \.\.\.\), and give the others by name: ",
        ),
        (
            lambda: BOUNDS.schedule(total_steps=9, epochs_per_cycle=2),
            r"bounds\.schedule\(total_steps=.*cycles=\.\.\.\)",
        ),
        (lambda: cyclr.WarmRestarts(0.1, 0.2, cycle_len=9), "Did you mean 'cycle_length'"),
        (lambda: cyclr.WarmRestarts(0.1, 0.2, T_0=10), r"Did you mean 'cycle_length'\?"),
        (lambda: cyclr.Halving(everything=1), r"no argument everything; got everything=1\. It takes no arguments"),
        (lambda: cyclr.RangeTest(num_iter=100), r"RangeTest\(\) has no argument num_iter; .* mean 'steps'\?"),
        (lambda: cyclr.Run.of(samples=60_000, batch_size=50), r"Run\.of\(\) needs epochs; .*epochs=\.\.\.\)\."),
        (lambda: BOUNDS.schedule(epochs=3, loader=[1, 2]), r"Did you mean 'steps_per_epoch'\?"),
        (lambda: BOUNDS.schedule(epochs=3, steps_per_epoch=[1, 2]), r"Write steps_per_epoch=len\(loader\)\.$"),
        (lambda: BOUNDS.schedule(total_steps=99, step_size=9), r"Did you mean 'cycles'\?"),
        (lambda: RESULT.plot("curve.png"), r"ax must be axes of Matplotlib; got ax='curve\.png'\. .*savefig\(path\)"),
        (lambda: BOUNDS.schedule(num_training_steps=9), r"Did you mean 'total_steps'\?"),
        (lambda: cyclr.step_size(60_000), r"step_size\(\) needs batch_size; got samples\. Write step_size\("),
    ],
)
def test_a_call_with_wrong_arguments_names_the_right_ones(call, message):
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.parametrize(
    ("owner", "name", "written"),
    [
        (RESULT, "suggestion", "result.bounds.max_lr"),
        (RESULT, "losses", "result.loss"),
        (RESULT, "status", "result.bounds.status"),
        (RESULT, "schedule", r"result.bounds.schedule\(...\)"),
        (RESULT, "history", "result.lr"),
        (RESULT, "lr_suggestion", "result.bounds.max_lr"),
        (BOUNDS, "save", r"bounds.to_dict\(...\)"),
        (RESULT, "show", r"result.plot\(...\)"),
        (BOUNDS, "lr", "bounds.max_lr"),
        (BOUNDS, "min_lr", "bounds.base_lr"),
        (SCHEDULE, "get_last_lr", r"schedule\(step\)"),
        (SCHEDULE, "step", r"schedule\(step\)"),
    ],
)
def test_a_missing_attribute_names_ours(owner, name, written):
    assert not hasattr(owner, name)
    with pytest.raises(AttributeError, match=rf"has no attribute '{name}'\. Write {written}\.$"):
        getattr(owner, name)


def test_an_array_in_a_message_is_one_line():
    with pytest.raises(TypeError, match=r"got validation_data=\(array\(\[\[0\.\], \[0\.\]"):
        cyclr.RangeTest(validation_data=(np.zeros((9, 1)),))


@pytest.mark.parametrize("owner", [RESULT, BOUNDS, SCHEDULE, cyclr])
def test_a_name_of_no_tool_is_only_missing(owner):
    with pytest.raises(AttributeError, match=r"has no attribute 'qqqqqq'$"):
        owner.qqqqqq  # noqa: B018


def test_a_type_error_within_a_function_is_left_alone():
    @_names.hinted
    def function(number):
        return number + "text"

    with pytest.raises(TypeError, match="unsupported operand"):
        function(1)
    assert str(inspect.signature(function)) == "(number)"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("lr_find", "from cyclr.keras import range_test, or the same from cyclr.torch or cyclr.jax"),
        ("LRFinder", "from cyclr.keras import LRFinder"),
        ("CyclicLR", "from cyclr.keras import CyclicLR, or the same from cyclr.torch"),
        ("Scheduler", "from cyclr.torch import Scheduler"),
        ("OneCycleLR", "from cyclr import OneCycle"),
        ("Cyclicall", "from cyclr import Cyclical"),
        ("Schedular", "from cyclr.torch import Scheduler"),
    ],
)
def test_a_missing_name_says_what_to_import(name, line):
    assert not hasattr(cyclr, name)
    with pytest.raises(AttributeError, match=f"no attribute '{name}'. Write {line}.$"):
        getattr(cyclr, name)
    with pytest.raises(ImportError, match=f"no attribute '{name}'. Write {line}.$"):
        exec(f"from cyclr import {name}")  # noqa: S102


def test_a_name_that_nothing_resembles_is_an_ordinary_import_error():
    with pytest.raises(ImportError, match="cannot import name 'qqqqqq'"):
        exec("from cyclr import qqqqqq")  # noqa: S102


def test_the_package_range_test_says_where_the_function_is():
    with pytest.raises(TypeError, match=r"cyclr.range_test is a package, .* from cyclr.keras import range_test, or"):
        cyclr.range_test("model")


def test_dir_shows_public_names_only():
    assert dir(cyclr) == cyclr.__all__
    assert dir(cyclr.bounds) == cyclr.bounds.__all__


def test_packages_can_be_pickled_and_copied():
    assert pickle.loads(pickle.dumps(cyclr)) is cyclr  # noqa: S301
    assert copy.deepcopy(cyclr) is cyclr


@pytest.mark.parametrize("package", FRAMEWORKS)
def test_the_table_has_every_name_of_a_framework(package):
    if importlib.util.find_spec(FRAMEWORKS[package]) is None:
        pytest.skip("the framework is not installed")
    module = importlib.import_module(package)
    listed = {name for name, packages in _names.EXPORTS.items() if package in packages}
    assert listed == set(module.__all__) - set(cyclr.__all__)
    assert dir(module) == sorted(module.__all__)


@pytest.mark.parametrize("name", ["lightning", "transformers"])
def test_modules_of_trainers_show_public_names_only(name):
    if importlib.util.find_spec(name) is None or importlib.util.find_spec("torch") is None:
        pytest.skip("the framework is not installed")
    module = importlib.import_module(f"cyclr.torch.{name}")
    listed = {each for each, packages in _names.EXPORTS.items() if module.__name__ in packages}
    assert listed <= set(dir(module)) == set(module.__all__)
    with pytest.raises(AttributeError, match=r"has no attribute 'OneCycleLR'. Write from cyclr import OneCycle\."):
        module.OneCycleLR  # noqa: B018


@pytest.mark.parametrize("tool", ["torch.optim", "keras.optimizers.schedules"])
def test_the_schedules_of_the_page_on_migration_are_in_the_table(tool):
    page = (Path(__file__).parents[1] / "docs" / "how-to" / "migrate.md").read_text(encoding="utf-8")
    rows = page.partition(f"| {tool} | cyclr |")[2].partition("\n\n")[0]
    names = set(re.findall(r"^\| `(\w+)\(", rows, re.MULTILINE))
    assert len(names) > 5
    assert names - {*_names.OBJECTS, *_names.EXPORTS} == set()


def test_every_name_of_another_tool_leads_to_one_of_ours():
    ours = {*cyclr.__all__, *_names.EXPORTS}
    assert {name for names in _names.OBJECTS.values() for name in names} <= ours


def test_arguments_that_fit_in_another_order_only_are_named() -> None:
    def fits(kind: type) -> Callable[[Any], bool]:
        return lambda value: value is None or isinstance(value, kind)

    def check(*values: Any) -> None:
        kinds = {"model": str, "number": int, "data": list}
        given = {name: (value, fits(kind)) for (name, kind), value in zip(kinds.items(), values, strict=True)}
        _names.check_order("test", given)

    check("m", 1, [2])
    check("m", None, None)
    # No order fits, so an error of its own names the argument.
    check(1, 2, 3)
    with pytest.raises(
        TypeError, match=r"model, number, data in this order; got int, str, list. Write test\(model=...,"
    ):
        check(1, "m", [2])
    with pytest.raises(TypeError, match=r"got str, list. Write test\(model=..., data=...\)"):
        check("m", [2], None)
