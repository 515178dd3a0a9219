"""The page as text: its contents and their consistency. Its behaviour is tested in a browser."""

import base64
import hashlib
import html.parser
import itertools
import json
import re
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder
from tests.processes import run
from typer.testing import CliRunner

import cyclr
from cyclr.auto.event import What
from cyclr.cli.app import app
from cyclr.drawing import code, page
from cyclr.drawing.page import range_test_page, render
from cyclr.records import Interval, read_records, summarize
from cyclr.report import in_words, run_page, verdict
from cyclr.schedules.shape import curves

from .conftest import write_run

ROOT = Path(__file__).parents[2]


class Parts(html.parser.HTMLParser):
    """Scripts, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[tuple[dict[str, Any], str]] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.inside = tag
        self.attributes += [(tag, name, value or "") for name, value in attributes]
        if tag == "script":
            self.scripts.append((dict(attributes), ""))

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        else:
            self.text.append(data)


@pytest.fixture(scope="module")
def parts(result: cyclr.RangeTestResult) -> Parts:
    return Parts(render(range_test_page(result.picture(), curves(), {"steps": "100"})))


def test_every_script_is_one_that_the_policy_names(parts: Parts) -> None:
    policy = next(value for tag, name, value in parts.attributes if tag == "meta" and "script-src" in value)
    running = [text for attributes, text in parts.scripts if attributes.get("type") != "application/json"]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in running]
    assert re.findall(r"'sha256-([^']+)'", policy) == hashes
    assert len(hashes) == 2
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy.replace("style-src 'unsafe-inline'", "")


def test_nothing_is_fetched_and_no_attribute_runs(parts: Parts) -> None:
    for tag, name, value in parts.attributes:
        assert not name.startswith("on"), (tag, name)
        assert name not in ("src", "srcset", "action", "data", "poster"), (tag, name)
        if name == "href":
            assert value.startswith("#")


def test_the_length_of_the_run_that_a_range_test_was_made_for_is_known(result: cyclr.RangeTestResult) -> None:
    known = content(render(range_test_page(result.picture(), curves(), {}, total_steps=321)))["tests"][0]
    unknown = content(render(range_test_page(result.picture(), curves(), {})))["tests"][0]
    assert (known["total"], unknown["total"]) == (321, None)


def test_the_order_is_verdict_bounds_settings(result: cyclr.RangeTestResult, parts: Parts) -> None:
    text = " ".join(parts.text)
    places = [text.index(word) for word in ("Verdict", result.bounds.details, "Range test and schedule", "Settings")]
    assert places == sorted(places)


def test_a_run_has_everything_in_order(run: Path, records: list[dict[str, Any]]) -> None:
    text = " ".join(Parts(render(run_page(run))).text)
    headings = ("Verdict", "Range test and schedule", "Training", "Policies", "Settings")
    places = [text.index(word) for word in headings]
    assert places == sorted(places)
    for record in records:
        assert record["policy"] in text
    assert "cyclr compare 'spec file.toml'" in text
    best = np.mean([max(r["epochs"]["val_accuracy"]) for r in records if r["policy"] == "triangular"])
    assert f"{best:.3f}"[:5] in text


def test_without_finished_trials_the_page_shows_no_training(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    lost = [{**record, "status": "diverged"} for record in records[:2]]
    parts = Parts(render(run_page(write_run(tmp_path, lost))))
    assert ("section", "aria-labelledby", "training-title") not in parts.attributes
    assert "Policies" in " ".join(parts.text)
    assert "fixed 0.003: 1 of 1 seed diverged" in " ".join(parts.text)


def content(text: str) -> dict[str, Any]:
    """The data that the scripts of a page draw."""
    return json.loads(next(data for attributes, data in Parts(text).scripts if attributes.get("id") == "data"))


def short(record: dict[str, Any], policy: str, seed: int, values: list[float], **more: Any) -> dict[str, Any]:
    """The record of a trial of one or two epochs without a range test."""
    epochs = {"step": [10 * (n + 1) for n in range(len(values))], "val_accuracy": values}
    schedule = cyclr.Constant(0.1 + seed) if policy.startswith("fixed") else cyclr.OneCycle(0.1 + seed, 9.0, 20)
    own = {"trial": f"{policy}-{seed}", "policy": policy, "seed": seed, "epochs": epochs, "range_test": None}
    rates = {"schedule": schedule.to_dict(), "steps": {"learning_rate": [schedule(0)]}}
    return {**record, **own, **rates, "range_test_steps": 0, "lr": None, **more}


def test_the_page_shows_the_schedules_of_the_first_finished_seed(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    lost = short(records[0], "up", 0, [], status="failed", schedule=None, steps={})
    trials = [lost, *(short(records[0], name, seed, [0.5]) for name in ("up", "fixed") for seed in (2, 1))]
    text = render(run_page(write_run(tmp_path, trials)))
    said = " ".join(Parts(text).text)
    assert said.count("OneCycle(") == said.count("Constant(") == 1
    assert "OneCycle(base_lr=1.1" in said
    assert "Constant(value=1.1)" in said
    (group,) = content(text)["groups"]
    rates = next(series for series in group["series"] if series["name"] == "learning rate")
    assert [curve["mean"] for curve in rates["curves"]] == [[1.1], [1.1]]


@pytest.mark.parametrize("what", get_args(What))
def test_every_kind_of_event_has_a_symbol_that_is_explained(
    tmp_path: Path, records: list[dict[str, Any]], what: str
) -> None:
    event = {"step": 7, "what": what, "why": "Because.", "lr": 0.01}
    page = run_page(write_run(tmp_path, [short(records[0], "auto", 0, [0.5], events=[event])]))
    ((symbol, meaning),) = page.groups[0].key.items()
    assert page.events == [("auto", 0, [f"{symbol} step 7, learning rate 0.01: Because."])]
    assert f"{symbol} {meaning}" in " ".join(Parts(render(page)).text)


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("loss", "min"),
        ("val_mae", "min"),
        ("mean_absolute_error", "min"),
        ("val_root_mean_squared_error_1", "min"),
        ("val_kl_divergence", "min"),
        ("accuracy", "max"),
        ("val_top_k_categorical_accuracy", "max"),
        ("val_power", None),
    ],
)
def test_the_direction_of_a_series_follows_from_its_name(
    tmp_path: Path, records: list[dict[str, Any]], name: str, direction: str | None
) -> None:
    trial = short(records[0], "up", 0, [0.5])
    trial["epochs"][name] = [0.5]
    (group,) = content(render(run_page(write_run(tmp_path, [{**trial, "direction": "min"}]))))["groups"]
    assert [(one["name"], one["direction"]) for one in group["series"][:2]] == [
        ("val_accuracy", "min"),
        (name, direction),
    ]


def test_page_and_command_line_count_the_same_seeds_with_a_target(
    tmp_path: Path, records: list[dict[str, Any]]
) -> None:
    trials = [short(records[0], "fixed", seed, [0.8]) for seed in range(2)]
    trials.append(short(records[0], "fixed", 2, [0.1], status="diverged"))
    trials += [short(records[0], "half", seed, [0.75 + 0.1 * seed]) for seed in range(3)]
    trials.append(short(records[0], "elsewhere", 3, [0.7]))
    run = write_run(tmp_path / "run", trials)
    text = render(run_page(run))
    for policy, steps in (("half", "reached by 1 of 2"), ("elsewhere", "–")):
        row = text[text.index(f'<th role="rowheader" scope="row"><bdi>{policy}</bdi>') :]
        assert re.search(r'data-column="steps to the target"><span>(.*)</span>', row)[1] == steps
    lines = CliRunner().invoke(app, ["compare", "--summary", "--output", str(run)]).output.splitlines()
    assert any(line.startswith("half") and "1 of 2" in line for line in lines)
    assert not any(line.startswith("elsewhere") and "never" in line for line in lines)


def test_endings_are_columns_on_the_page_and_on_the_command_line(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    trials = [short(records[0], "fixed", 0, [0.5]), short(records[0], "swa", 0, [0.6], predictions=1)]
    trials.append(short(records[0], "ensemble", 0, [0.6], predictions=5))
    for one, value in zip(trials[1:], (0.75, 0.875), strict=True):
        one["ending"] = {"val_accuracy": value}
    run = write_run(tmp_path / "run", trials)
    (group,) = run_page(run).groups
    ends = {policy: (cells["ending"], cells["models in a prediction"]) for policy, cells in group.table.items()}
    assert ends == {
        "ensemble": (("0.8750",), ["5"]),
        "swa": (("0.7500",), ["1"]),
        "fixed": (("none",), ["–"]),
    }
    table, _, _ = CliRunner().invoke(app, ["compare", "--summary", "--output", str(run)]).output.partition("\n\nn: ")
    rows = [
        line.split()[:6] for line in table.splitlines() if line.startswith(("policy ", "ensemble ", "swa ", "fixed "))
    ]
    assert rows == [
        ["policy", "n", "best", "final", "ending", "models"],
        ["ensemble", "1", "0.875", "0.6", "0.875", "5"],
        ["swa", "1", "0.75", "0.6", "0.75", "1"],
        ["fixed", "1", "0.5", "0.5", "–", "–"],
    ]
    (lone,) = run_page(write_run(tmp_path / "plain", trials[:1])).groups
    assert "ending" not in lone.table["fixed"]


SCHEDULES = [
    cyclr.Constant(0.03),
    cyclr.Cyclical(0.01, 0.1, 10, shape="sinusoidal", decay=cyclr.Halving()),
    cyclr.Cyclical.over(100, 3, 0.012344444, 0.1, rise=0.3, decay=cyclr.Exponential(0.99, bounds="both")),
    cyclr.OneCycle(0.01, 0.1, 100),
    cyclr.WarmRestarts.over(100, 3, 0.0, 0.1),
    cyclr.Warmup(cyclr.OneCycle(0.01, 0.1, 90), 10),
    cyclr.Sequence([cyclr.Constant(0.1), cyclr.OneCycle(0.01, 0.1, 60)], [40]),
    0.5 * cyclr.OneCycle(0.01, 0.1, 100),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
@pytest.mark.parametrize("auto", [False, True])
def test_the_code_of_a_policy_makes_the_schedule_that_ran(
    tmp_path: Path, records: list[dict[str, Any]], schedule: cyclr.Schedule, auto: bool
) -> None:
    ran = {"schedule": schedule.to_dict(), "optimizer_call": "torch.optim.Adam(betas=(0.9, 0.98))"}
    page = run_page(
        write_run(
            tmp_path,
            [short(records[0], "up", 0, [0.5], **ran, moved_by="auto" if auto else "", predictions=int(not auto))],
        )
    )
    (policy,) = page.policies
    assert page.framework == "torch"
    assert "torch.optim.Adam(model.parameters(), lr=" in policy.code["torch"]
    assert ("AutoCycle(" in policy.code["torch"]) is auto
    for text in policy.code.values():
        assert text.endswith(code.MEMBERS) is (not auto)
        statement = re.search(r"^schedule = .*?^\)$", text, re.MULTILINE | re.DOTALL)[0]
        exec(statement, {"cyclr": cyclr}, found := {})  # noqa: S102 - that is what the code is for
        steps = np.arange(100)
        np.testing.assert_allclose(found["schedule"](steps), schedule(steps), rtol=1e-3)


@pytest.mark.parametrize(
    ("moved_by", "said"),
    [
        ("plateau", "torch.optim.lr_scheduler.ReduceLROnPlateau"),
        ("cosine", "torch.optim.lr_scheduler.CosineAnnealingLR"),
        ("auto", "schedule = None  # AutoCycle finds its own"),
        ("", "# The schedule is not recorded."),
    ],
)
def test_a_policy_without_a_schedule_says_what_moved_its_rate(
    tmp_path: Path, records: list[dict[str, Any]], moved_by: str, said: str
) -> None:
    trial = short(records[0], "up", 0, [0.5], schedule=None, moved_by=moved_by)
    assert said in run_page(write_run(tmp_path, [trial])).policies[0].code["torch"]


def test_the_range_tests_of_the_policy_that_did_best_come_first(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    tested = [record for record in records if record["policy"] == "triangular"]
    other = [{**record, "policy": "worse", "workload": record["workload"]} for record in tested[1:]]
    for record in other:
        record["epochs"] = {**record["epochs"], "val_accuracy": [0.1] * 6}
    page = run_page(write_run(tmp_path, [*other, tested[0]]))
    assert page.policies[0].name == "triangular"
    assert page.tests[0].label == "digits, sgd, seed 0 (triangular)"
    assert (page.tests[0].total_steps, page.tests[0].steps_per_epoch) == (168, 28)


LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
BLINDNESS = {
    # Machado, Oliveira and Fernandes 2009, severity 1: of none, of deuteranopia and of protanopia.
    "none": np.eye(3),
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear_rgb(colour: str) -> np.ndarray:
    values = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    xyz = XYZ @ np.clip(rgb, 0, 1) / [0.9505, 1, 1.089]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("blindness", BLINDNESS)
def test_colours_of_policies_are_told_apart_and_stand_out(theme: int, blindness: str) -> None:
    style = (ROOT / "src" / "cyclr" / "drawing" / "assets" / "page.css").read_text()
    colours = [pair[theme] for pair in re.findall(r"--policy-\d: light-dark\((#\w{6}), (#\w{6})\)", style)]
    card = re.search(r"--card: light-dark\((#\w{6}), (#\w{6})\)", style)[theme + 1]
    assert len(colours) == 6
    for colour in colours:
        low, high = sorted(float(LUMINANCE @ linear_rgb(one)) for one in (colour, card))
        assert (high + 0.05) / (low + 0.05) > 4.5
    seen = [lab(np.array(BLINDNESS[blindness]) @ linear_rgb(colour)) for colour in colours]
    assert min(np.linalg.norm(one - other) for one, other in itertools.combinations(seen, 2)) > 20


def test_a_group_without_an_optimizer_has_a_name_all_the_same(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    trials = [short(records[0], "up", 0, [0.5]), short(records[0], "fixed", 0, [], status="failed", optimizer="")]
    assert "digits, val_accuracy" in Parts(render(run_page(write_run(tmp_path, trials)))).text


def test_settings_that_are_lists_are_read_line_by_line(run: Path) -> None:
    about = json.loads((run / "run.json").read_text())
    about["spec"]["policies"] = [{"kind": "fixed", "lr": [0.1, 0.2]}, {"kind": "triangular"}]
    (run / "run.json").write_text(json.dumps(about))
    assert "fixed, lr 0.1, 0.2\ntriangular" in "".join(Parts(render(run_page(run))).text)


def test_the_name_of_the_machine_is_left_out(run: Path) -> None:
    about = json.loads((run / "run.json").read_text())
    about["hardware"] |= {"host": "secret.example", "system": "Linux-6"}
    (run / "run.json").write_text(json.dumps(about))
    text = render(run_page(run))
    assert "Linux-6" in text
    assert "secret.example" not in text


def test_a_page_holds_no_credentials_and_no_home_folder(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    lost = {
        "status": "failed",
        "error": "OSError: https://bob:hunter2@tracker.example (/home/mallory7/model.py, line 3)",
    }
    run = write_run(
        tmp_path, [{**record, "workload": "/home/mallory7/model.py:build", **lost} for record in records[:2]]
    )
    about = json.loads((run / "run.json").read_text())
    about["command"] = ["/home/mallory7/bin/cyclr", "--mlflow", "https://bob:hunter2@tracker.example/?token=x1y2"]
    about["command"] += ["--address=ray://bob:hunter2@head.cluster:1", "--address", "head.cluster:1"]
    about["command"] += ["--data=/home/mallory7/data"]
    about["spec"] |= {"workload": "/home/mallory7/model.py:build", "data": "/home/mallory7/data"}
    (run / "run.json").write_text(json.dumps(about))
    text = render(run_page(run))
    assert not re.search("mallory7|hunter2|x1y2|bob:|tracker.example/|head.cluster", text)
    assert "~/model.py:build" in text


@pytest.mark.parametrize("size", [1e308, 1e200])
@pytest.mark.filterwarnings("error")
def test_extreme_metrics_are_shown_as_not_measured(tmp_path: Path, records: list[dict[str, Any]], size: float) -> None:
    names = [("fixed", 0), ("fixed", 1), ("up", 0), ("up", 1)]
    values = [[0.5, 0.6], [0.5, -size], [size, 0.7], [size, -size]]
    trials = [short(records[0], name, seed, found) for (name, seed), found in zip(names, values, strict=True)]
    run = write_run(tmp_path, trials)
    text = render(run_page(run))
    said = in_words(summarize(read_records(run)))
    assert "One seed is not enough to compare up with the best fixed rate, fixed: run 4 more seeds." in said
    (group,) = content(text)["groups"]
    assert [curve["step"] for curve in group["series"][0]["curves"]] == [[], [10.0]]


@pytest.mark.parametrize("size", [1e308, 1e149, 1e-300])
@pytest.mark.filterwarnings("error")
def test_extreme_losses_of_a_range_test_are_drawn(size: float) -> None:
    lr = np.geomspace(1e-6, 10, 50)
    result = cyclr.RangeTestResult(lr, size * (-1) ** np.arange(50), "completed", 1e-6, 10.0, 50, "exponential")
    assert "Verdict" in render(range_test_page(result.picture(), curves(), {}))


@pytest.mark.parametrize("size", [1e149, 1e20, 12345678.9, 1e-30])
def test_extreme_means_have_short_names(size: float) -> None:
    for value in (Interval(size, 0.9 * size, 1.1 * size), Interval(size, -size, size), Interval(size)):
        assert len(verdict.estimate(value)) < 60


def test_an_incomplete_record_is_reported(run: Path) -> None:
    with (run / "records.jsonl").open("a") as file:
        file.write('{"version": 1, "tri')
    assert "cut off" in " ".join(Parts(render(run_page(run))).text)


def made(template: str) -> tuple[str, str]:
    """The comments before the code, and the optimizer that it makes."""
    first, _, rest = template.partition("import cyclr\n")
    return first, re.search(r"^optimizer = [a-z.]+\.(\w+\(.*\))$", rest, re.MULTILINE)[1]


@pytest.mark.parametrize(
    ("name", "first", "shown"),
    [
        ("SGD", code.UNSURE, "sgd(schedule)"),
        ("SGD(momentum=0.9)", "", "sgd(schedule, momentum=0.9)"),
        ("SGD(momentum=0.9, nesterov=True)", "", "sgd(schedule, momentum=0.9, nesterov=True)"),
        ("SGD(momentum=0.9, weight_decay=0.1)", code.UNSURE, "sgd(schedule, momentum=0.9)"),
        ("rmsprop", code.UNSURE, "rmsprop(schedule)"),
        ("SGD(nesterov=True, momentum=0.9)", "", "sgd(schedule, nesterov=True, momentum=0.9)"),
        ("Adam(beta_1=0.8)", code.UNSURE, "adam(schedule)"),
        (None, code.UNKNOWN, "sgd(schedule, momentum=0.9)"),
        ("", code.UNKNOWN, "sgd(schedule, momentum=0.9)"),
        ("Lion", code.OTHER, "sgd(schedule, momentum=0.9)"),
        ("SGD(momentum=__import__('os'))", code.UNSURE, "sgd(schedule)"),
        ("SGD(momentum=0.9)\\nimport os", code.UNSURE, "sgd(schedule)"),
    ],
)
def test_only_known_optimizers_and_arguments_get_into_the_code(name: str | None, first: str, shown: str) -> None:
    assert made(code.templates(name)["optax"]) == (first, shown)


@pytest.mark.parametrize(
    ("name", "keras", "torch", "optax"),
    [
        (
            "keras.optimizers.SGD(momentum=0.9)",
            "SGD(LearningRate(schedule), momentum=0.9)",
            "SGD(model.parameters(), lr=schedule(0), momentum=0.9)",
            "sgd(schedule, momentum=0.9)",
        ),
        (
            "torch.optim.AdamW(betas=(0.9, 0.95), weight_decay=0.1)",
            "AdamW(LearningRate(schedule))",
            "AdamW(model.parameters(), lr=schedule(0), betas=(0.9, 0.95), weight_decay=0.1)",
            "adamw(schedule)",
        ),
        (
            "optax.lion",
            "SGD(LearningRate(schedule), momentum=0.9)",
            "SGD(model.parameters(), lr=schedule(0), momentum=0.9)",
            "lion(schedule)",
        ),
        (
            "torch.optim.Adafactor(eps=(None, 1e-30), mode=...)",
            "SGD(LearningRate(schedule), momentum=0.9)",
            "Adafactor(model.parameters(), lr=schedule(0), eps=(None, 1e-30), mode=...)",
            "sgd(schedule, momentum=0.9)",
        ),
    ],
)
def test_the_optimizer_that_was_tested_is_in_the_code(name: str, keras: str, torch: str, optax: str) -> None:
    found = {key: made(template) for key, template in code.templates(name).items()}
    assert {key: optimizer for key, (_, optimizer) in found.items()} == {"keras": keras, "torch": torch, "optax": optax}
    own = code.framework(name)
    assert found[own][0] == ""
    others = {first for key, (first, _) in found.items() if key != own}
    if name == "keras.optimizers.SGD(momentum=0.9)":
        assert others == {""}
    else:
        assert all(first.startswith(f"# Tested with {name}.\n") for first in others)


@pytest.mark.parametrize("auto", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        "torch.optim.SGD(momentum=open('x'))",
        "torch.optim.SGD(momentum=0.9)\nimport os",
        "torch.optim.SGD(momentum=0.9); import os",
        "torch.optim.SGD(momentum=0.9, **{})",
        "optax.sgd(momentum=0.9))(",
        "keras.optimizers.SGD(MOMENTUM=1)",
    ],
)
def test_code_from_a_file_never_gets_into_the_code(name: str, auto: bool) -> None:
    assert all(name not in text and text.startswith(code.OTHER) for text in code.templates(name, auto=auto).values())


@pytest.mark.parametrize("text", ["</script>", "<!--", "<script>", "&lt;", "\u2028\u2029", "'\"`${}{{7*7}}"])
def test_json_in_html_is_json_and_no_html(text: str) -> None:
    written = page.json_for_html({text: [text]})
    assert not set("<>&\u2028\u2029") & set(written)
    assert json.loads(written) == {text: [text]}


def test_marks_that_turn_the_writing_are_shown_and_not_followed() -> None:
    assert json.loads(page.json_for_html("a\u202eb\ud800c")) == "a\ufffdb\ufffdc"


def test_json_has_no_numbers_that_json_does_not_know() -> None:
    with pytest.raises(ValueError, match="JSON"):
        page.json_for_html([float("nan")])


def test_text_that_ends_its_element_is_never_trusted() -> None:
    for text in ("</SCRIPT >", "<!-- "):
        with pytest.raises(ValueError, match="must not end it"):
            page._checked(text, "script")


def test_to_html_writes_the_page_and_leaves_nothing_else(tmp_path: Path, result: cyclr.RangeTestResult) -> None:
    result.to_html(tmp_path / "a.html")
    result.to_html(str(tmp_path / "a.html"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]
    assert (tmp_path / "a.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    with pytest.raises(FileNotFoundError):
        result.to_html(tmp_path / "missing" / "a.html")


def test_the_command_reports_a_run_and_a_range_test(tmp_path: Path, run: Path, result: cyclr.RangeTestResult) -> None:
    result.save(tmp_path / "range_test.json")
    for arguments, written in (
        ([str(run)], run / "report.html"),
        ([str(run), "--output", str(tmp_path / "b.html")], tmp_path / "b.html"),
        ([str(tmp_path / "range_test.json")], tmp_path / "range_test.html"),
    ):
        answer = CliRunner().invoke(app, ["report", *arguments])
        assert answer.exit_code == 0, answer.output
        assert f"Written: {written}" in answer.output
        assert "Verdict" in written.read_text(encoding="utf-8")


def test_report_refuses_files_that_are_not_runs(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("{}")
    for folder, said in (
        (tmp_path, "holds neither a run nor a range test, but"),
        (tmp_path / "missing", "does not exist. Check the path"),
        (tmp_path / "other.json", "must be the JSON of a range test"),
    ):
        answer = CliRunner().invoke(app, ["report", str(folder)])
        assert answer.exit_code == 1, answer.output
        assert said in answer.output.replace("\n", " ")


def test_a_missing_extra_names_the_command_that_installs_it(tmp_path: Path) -> None:
    (tmp_path / "jinja2.py").write_text("raise ImportError\n")
    program = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import cyclr
result = cyclr.RangeTestResult([0.1, 0.2], [1.0, 2.0], "completed", 0.1, 0.2, 2, "linear")
assert "<svg" in result._repr_html_()
try:
    result.to_html("never.html")
except cyclr.MissingExtraError as error:
    print(error)
"""
    printed = run([sys.executable, "-c", program], cwd=tmp_path).stdout
    assert 'Run: pip install "cyclr[report]".' in printed
    assert not (tmp_path / "never.html").exists()


def test_the_wheel_holds_templates_and_assets(tmp_path: Path) -> None:
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    names = set(zipfile.ZipFile(wheel).namelist())
    folder = ROOT / "src" / "cyclr" / "drawing"
    wanted = {
        f"cyclr/drawing/{path.relative_to(folder)}"
        for kind in ("templates", "assets")
        for path in (folder / kind).iterdir()
    }
    assert len(wanted) >= 11
    assert wanted <= names
    licences = {name.rpartition("/licenses/")[2] for name in names if "/licenses/" in name}
    assert licences == {"LICENSE", f"src/cyclr/drawing/assets/{page.PLOTLY.replace('.min.js', '.LICENSE')}"}


def test_the_sdist_holds_templates_and_assets(tmp_path: Path) -> None:
    (archive,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(archive) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    folder = ROOT / "src" / "cyclr" / "drawing"
    wanted = {str(path.relative_to(ROOT)) for kind in ("templates", "assets") for path in (folder / kind).iterdir()}
    assert wanted <= names


def test_plotly_is_the_release_of_npm() -> None:
    """The file of https://registry.npmjs.org/plotly.js-basic-dist-min/-/plotly.js-basic-dist-min-4.1.1.tgz, unchanged.

    To take another release: `npm pack plotly.js-basic-dist-min@VERSION`, then its `plotly-basic.min.js` and `LICENSE`.
    """
    folder = ROOT / "src" / "cyclr" / "drawing" / "assets"
    content = (folder / page.PLOTLY).read_bytes()
    assert hashlib.sha256(content).hexdigest() == "99784e3abfb07b142a15e521a439e6d9addceadb3f79553fd24c72774f0649ba"
    version = page.PLOTLY.removeprefix("plotly-basic-").removesuffix(".min.js")
    assert f"plotly.js (basic - minified) v{version}\n".encode() in content
    assert (
        (folder / f"plotly-basic-{version}.LICENSE")
        .read_text()
        .startswith("MIT License\n\nCopyright (c) 2016-2024 Plotly")
    )


def test_the_page_of_a_range_test_has_at_most_1_5_megabytes(result: cyclr.RangeTestResult) -> None:
    assert len(render(range_test_page(result.picture(), curves(), {})).encode()) < 1_300_000
    lr = np.geomspace(1e-6, 10, 20_000)
    # Half of the losses are cut off, and marked as such.
    many = cyclr.RangeTestResult(lr, np.where(lr < 1e-3, 2.3, 1e9), "completed", 1e-6, 10.0, 20_000)
    assert len(render(range_test_page(many.picture(), curves(), {})).encode()) < 1_500_000


def test_the_page_of_the_study_has_at_most_1_5_megabytes() -> None:
    study = ROOT / "studies" / "fashion_mnist" / "results" / "headline"
    assert len(render(run_page(study)).encode()) <= 1_500_000
