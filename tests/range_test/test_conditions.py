"""What a result says was tested: in the object, in its file and on its page."""

import copy
import dataclasses
import getpass
import json
import pickle
import platform
import re
from pathlib import Path

import numpy as np
import pytest

import cyclr
from cyclr import RangeTest, RangeTestResult
from cyclr.range_test import conditions

ARCHIVED = Path(__file__).parents[1] / "archive" / "range_test.json"


def driven(**tested):
    test = RangeTest(steps=30)
    test.tested |= tested
    for lr in test:
        test.record(1 - min(lr, 0.5))
    return test.result()


def test_a_loop_of_ones_own_has_the_versions_and_the_date():
    tested = driven(model="MLP", parameters=np.int64(7)).tested
    assert list(tested) == ["model", "parameters", "python", "cyclr", "date"]
    assert (tested["model"], tested["parameters"], tested["cyclr"]) == ("MLP", 7, cyclr.__version__)
    assert tested["python"] == platform.python_version()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", tested["date"])


def test_the_same_test_on_another_day_is_equal():
    one = driven(seed=0)
    other = dataclasses.replace(one, tested={**one.tested, "date": "1999-12-31", "cyclr": "0.0"})
    assert one == other
    assert one.tested != other.tested


AGAIN = {
    "file": lambda result: RangeTestResult.from_dict(json.loads(json.dumps(result.to_dict()))),
    "copy": copy.deepcopy,
    "pickle": lambda result: pickle.loads(pickle.dumps(result)),  # noqa: S301
    "replace": lambda result: dataclasses.replace(result, steps=40),
    "repeats": lambda result: RangeTestResult.of_repeats([result, driven(seed=1)]),
}


@pytest.mark.parametrize("again", AGAIN.values(), ids=AGAIN)
def test_what_was_tested_is_kept(again):
    result = driven(model="MLP", seed=0, amsgrad=False, clip=None)
    found = again(result)
    assert found.tested == result.tested
    with pytest.raises(TypeError, match="item assignment"):
        found.tested["model"] = "another"


def test_what_was_tested_names_no_credentials_and_no_home_folder(tmp_path):
    result = driven(data="https://bob:hunter2@host/x.npz", folder="/home/alicia/data", note="token=hunter2", samples=3)
    assert dict(list(result.tested.items())[:4]) == {
        "data": "https://***/x.npz",
        "folder": "~/data",
        "note": "token=***",
        "samples": 3,
    }
    result.save(tmp_path / "result.json")
    result.to_html(tmp_path / "result.html")
    for file in tmp_path.iterdir():
        assert not re.search("hunter2|alicia|bob:", file.read_text())


def test_old_files_say_nothing_and_stay_as_they_are():
    old = RangeTestResult.load(ARCHIVED)
    assert old.tested == {}
    assert "tested" not in old.to_dict()


@pytest.mark.parametrize(
    ("tested", "message"),
    [
        ([1], r"^tested must be a dict of values by name; got tested=\[1\]"),
        ({1: 2}, "^tested must be a dict of values by name; got a name 1"),
        ({"optimizer": object}, r"^tested\['optimizer'\] must be a string, a number, a boolean or None; got <class"),
        ({"momentum": float("nan")}, r"^tested\['momentum'\] must be a finite number; got"),
    ],
)
def test_what_json_cannot_hold_is_refused(tested, message):
    with pytest.raises((TypeError, ValueError), match=message):
        dataclasses.replace(driven(), tested=tested)
    with pytest.raises(ValueError, match=r"tested"):
        RangeTestResult.from_dict({**driven().to_dict(), "tested": tested})


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ({}, "SGD"),
        ({"momentum": 0.9, "nesterov": False}, "SGD(momentum=0.9)"),
        ({"betas": (0.9, 0.98), "eps": (1e-30,)}, "SGD(betas=(0.9, 0.98), eps=(1e-30,))"),
        (
            {"folder": f"/home/{getpass.getuser()}", "lr": np.ones(1), "big": float("inf")},
            "SGD(folder=..., lr=..., big=...)",
        ),
    ],
)
def test_calls_show_numbers_only(arguments, shown):
    assert conditions.call("SGD", arguments, {"momentum": 0.0, "nesterov": False}) == shown


def test_the_page_shows_what_was_tested(tmp_path):
    pytest.importorskip("jinja2")
    result = driven(model="MLP", batch_size=64, optimizer="torch.optim.AdamW(weight_decay=0.1)")
    result.to_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    settings = page[page.index('id="settings-title"') :]
    for key, value in (("model", "MLP"), ("batch size", "64"), ("date", result.tested["date"])):
        assert f"<dt><bdi>{key}</bdi></dt><dd><bdi>{value}</bdi></dd>" in settings
    assert "AdamW(model.parameters(), lr=schedule(0), weight_decay=0.1)" in page
    assert re.findall(r'id="tab-(\w+)"[^>]* aria-selected="true"', page) == ["torch"]
    assert re.findall(r'id="panel-(\w+)"[^>]* hidden', page) == ["keras", "optax"]
