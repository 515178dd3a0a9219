"""The contents of the page of a run folder, which `cyclr.drawing.page` renders."""

import ast
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cyclr._redact import redact, shell
from cyclr.drawing import code
from cyclr.drawing.page import Page, PageGroup, PagePolicy, PageTest, number
from cyclr.range_test import RangeTestResult
from cyclr.records import Group, Record, Row, RunFolder, band, summarize
from cyclr.records.direction import direction_or_none
from cyclr.records.measures import usable
from cyclr.report import verdict
from cyclr.schedules import Schedule
from cyclr.schedules.shape import curves

_FEW_POINTS = 300
"""Largest number of learning rates that are all drawn."""

_SYMBOLS = {
    "range test": ("○", "end of the range test"),
    "usual_rate": ("○", "end of the range test"),
    "lowered": ("▼", "rate lowered"),
    "raised": ("▲", "rate raised"),
    "left_out": ("×", "batch left out"),
    "went_back": ("◆", "went back at the same rate"),
    "accepted": ("◇", "new level accepted"),
    "tried": ("◐", "other rates tried"),
    "ignored": ("■", "loss not followed any more"),
}
"""Symbol and meaning of each kind of event."""
_seed = attrgetter("seed")


def run_page(folder: str | os.PathLike[str]) -> Page:
    """Return the page of a run folder that `cyclr compare` wrote.

    Raises:
        RunFolderError: the folder holds no run, or one of its files is invalid; the message gives file and line.
        ValueError: a policy has two trials of one seed.
    """
    run = RunFolder.read(folder)
    groups = summarize(run.records).groups if run.records else []
    # With several groups, each needs a name.
    names = [", ".join(filter(None, (one.workload, one.optimizer, one.metric))) for one in groups]
    names = names if len(groups) > 1 else [""] * len(groups)
    verdicts = list(zip(names, map(verdict.of_group, groups), strict=True))
    rows = [row for group in groups for row in group.rows]
    first = next((row.finished[0] for row in rows if row.finished), None)
    return Page(
        title=_name(run),
        kind="Learning-rate comparison",
        verdicts=verdicts or [("", ["No trial has finished yet. Write the page again after the first trial."])],
        settings=_settings(run),
        shapes=curves(),
        tests=_tests(run.records, "" if first is None else first.policy),
        policies=_policies(groups, names),
        framework="keras" if first is None else code.framework(_optimizer(first)),
        groups=[_group(name, group) for name, group in zip(names, groups, strict=True)],
        schedules=[
            (row.policy, repr(first.schedule))
            for row in rows
            for first in sorted(row.finished, key=_seed)[:1]
            if first.schedule is not None
        ],
        events=[
            (record.policy, record.seed, [f"{_SYMBOLS[what][0]} {text}" for _, what, text in events])
            for row in rows
            for record in sorted(row.records, key=_seed)
            if (events := _events(record))
        ],
        lost=[
            (record.policy, record.seed, record.status, record.error or "No reason was recorded.")
            for row in rows
            for record in sorted(row.records, key=_seed)
            if record.status != "ok"
        ],
        notes=["The last record was not written completely and is left out."] if run.torn else [],
    )


def _optimizer(record: Record) -> str:
    """Return the optimizer of a trial as code, with its module if that was recorded."""
    tested = record.range_test.tested.get("optimizer") if record.range_test is not None else None
    return record.optimizer_call or str(tested or record.optimizer)


def _policies(groups: Sequence[Group], names: Sequence[str]) -> list[PagePolicy]:
    """Return the code for the first seed of every policy with a finished trial, the best policy first."""
    found = []
    for place, (name, group) in enumerate(zip(names, groups, strict=True)):
        for index, row in enumerate(group.rows):
            for record in sorted(row.finished, key=_seed)[:1]:
                title = f"{row.policy} ({name})" if name else row.policy
                found.append(PagePolicy(title, _run_as_text(record), _code(record), (place, index)))
    return found


def _run_as_text(record: Record) -> str:
    """Return the length and the learning rates of a trial as text."""
    epochs = record.total_steps / record.steps_per_epoch if record.steps_per_epoch else 0
    length = f"{record.total_steps:,} steps" + (
        f" ({epochs:.3g} epochs of {record.steps_per_epoch:,})" if epochs else ""
    )
    rates = [rate for rate in record.steps.get("learning_rate", ()) if rate is not None]
    shown = [f"{rate:.3g}" for rate in (min(rates), max(rates))] if rates else []
    between = f", learning rate {' to '.join(dict.fromkeys(shown))}" if shown else ""
    ending = f" The score is for an ensemble of {record.predictions} models." if record.predictions > 1 else ""
    averaged = " The score is for an average of weights." if record.predictions == 1 else ""
    return f"As it ran in seed {record.seed}: {length}{between}.{ending}{averaged}"


def _code(record: Record) -> dict[str, str]:
    auto = record.moved_by == "auto"
    if record.schedule is None and not auto:
        return code.own_schedulers(record.moved_by)
    schedule = "None  # AutoCycle finds its own" if record.schedule is None else _constructor(record.schedule)
    parts = {"schedule": f"schedule = {schedule}", "total": str(record.total_steps)}
    templates = code.templates(_optimizer(record), auto=auto)
    ending = code.MEMBERS if record.predictions else ""
    return {key: code.filled(template, parts) + ending for key, template in templates.items()}


def _constructor(schedule: Schedule) -> str:
    """Return the code that creates a schedule, one argument per line. Bounds are rounded to four digits."""
    rounded = re.sub(r"\b((?:base|max)_lr=)([\d.e-]+)", lambda one: f"{one[1]}{float(one[2]):.4g}", repr(schedule))
    call: Any = ast.parse(re.sub(r"\b([A-Z]\w*)(?=[.(])", r"cyclr.\1", rounded), mode="eval").body
    arguments = [*map(ast.unparse, call.args), *map(ast.unparse, call.keywords)]
    text = "".join(f"    {argument},\n" for argument in arguments)
    return f"{ast.unparse(call.func)}(\n{text})".replace("'", '"')


def _tests(records: Sequence[Record], winner: str) -> list[PageTest]:
    """Return the different range tests of a run, the tests of the winner first. Several policies may share a test."""
    found: dict[str, tuple[RangeTestResult, list[Record]]] = {}
    for record in records:
        if record.range_test is not None:
            key = json.dumps(
                [record.workload, record.optimizer, record.seed, record.range_test.to_dict() | {"tested": {}}]
            )
            found.setdefault(key, (record.range_test, []))[1].append(record)
    tests = []
    for result, users in sorted(found.values(), key=lambda one: all(record.policy != winner for record in one[1])):
        first = users[0]
        policies = ", ".join(dict.fromkeys(record.policy for record in users))
        label = f"{first.workload}, {first.optimizer}, seed {first.seed} ({policies})"
        total = first.total_steps if first.total_steps >= 3 else None
        tests.append(PageTest(label, result.picture(), total, first.steps_per_epoch or None, _optimizer(first)))
    return tests


def _settings(run: RunFolder) -> list[tuple[str, dict[str, str]]]:
    general = {
        "folder": _name(run),
        "created": _shown(run.about.get("created")),
        "finished trials": str(len(run.records)),
    }
    command = run.about.get("command")
    if isinstance(command, list):
        general["command"] = shell(map(str, command))
    sections = [("Run", general)]
    for name, title in (("spec", "Settings"), ("versions", "Versions"), ("hardware", "Hardware")):
        content = run.about.get(name)
        if isinstance(content, dict) and content:
            sections.append((title, {str(key).replace("_", " "): _shown(value) for key, value in content.items()}))
    return sections


def _name(run: RunFolder) -> str:
    """Return the name of a run folder. It is redacted, because the folder may be a home folder."""
    return str(redact(str(run.path.resolve()))).rpartition(os.sep)[2]


def _shown(value: Any) -> str:
    """Return a setting as text.

    Example:
        >>> _shown({"name": "SGD", "momentum": 0.9}), _shown([0, 1, 2]), _shown({}), _shown(True)
        ('SGD, momentum 0.9', '0, 1, 2', 'default', 'yes')
    """
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | dict) and not value:
        return "default" if isinstance(value, dict) else "none"
    if isinstance(value, dict):
        kind = [_shown(value[name]) for name in ("name", "kind") if name in value][:1]
        rest = {key: part for key, part in value.items() if key != ("name" if "name" in value else "kind")}
        return ", ".join([*kind, *(f"{str(key).replace('_', ' ')} {_shown(part)}" for key, part in rest.items())])
    if isinstance(value, list):
        return ("\n" if any(isinstance(entry, dict) for entry in value) else ", ").join(map(_shown, value))
    return str(value)


def _group(name: str, group: Group) -> PageGroup:
    series = [
        {
            "name": one,
            "direction": group.direction if one == group.metric else direction_or_none(one),
            "curves": [_curve(row, one) for row in group.rows],
        }
        for one in _series(group)
    ]
    kinds = {what for row in group.rows for record in row.finished for _, what, _ in _events(record)}
    key = dict(_SYMBOLS[what] for what in _SYMBOLS if what in kinds)
    shown = {"best": "", "final": "", "ending": "", "difference": "+"}
    intervals = {name: verdict.column([getattr(row, name) for row in group.rows], sign) for name, sign in shown.items()}
    table = {
        row.policy: _cells(group, row, {name: cells[place] for name, cells in intervals.items()})
        for place, row in enumerate(group.rows)
    }
    return PageGroup(name, group.metric, group.target, table, series, key)


def _events(record: Record) -> list[tuple[int, str, str]]:
    """Return step, kind and text of every event of AutoCycle, including the end of its range test."""
    events = [(event.step, str(event.what), str(event)) for event in record.events]
    if record.range_test is None or record.range_test_steps or not record.range_test.bounds.usable:
        return events
    rates = [rate or 0.0 for rate in record.steps["learning_rate"]]
    # Learning rates rise during the range test, and the cycle starts below the last of them.
    last = next((step for step in range(len(rates) - 1) if rates[step + 1] < rates[step]), len(rates) - 1)
    text = (
        f"step {last}, learning rate {number(rates[last])}: The range test ended. {record.range_test.bounds.verdict} "
        "Training restarted, and the updates of the test count as steps."
    )
    return [(last, "range test", text), *events]


def _marks(records: Sequence[Record]) -> list[dict[str, Any]]:
    return [
        {"step": step, "symbol": _SYMBOLS[what][0], "text": f"seed {record.seed}, {text}"}
        for record in records
        for step, what, text in _events(record)
    ]


def _cells(group: Group, row: Row, intervals: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """Return the cells of a policy: each has a text, and may have small print."""
    steps = f"reached by {row.reached} of {row.aimed}" if row.reached else "not reached" if row.aimed else "–"
    towards_target = {
        "steps to the target": [steps if row.steps_to_target is None else f"{row.steps_to_target:,.0f}"],
        "ratio": ["–" if row.ratio is None else f"{row.ratio:.2f}"],
    }
    return {
        "verdict": [row.verdict, *([] if row.verdict == "baseline" else [" ".join(intervals["difference"])])],
        **(towards_target if group.target is not None else {}),
        f"best {group.metric}": intervals["best"],
        "final": intervals["final"],
        **({"ending": intervals["ending"], "models in a prediction": [predictions(row)]} if group.has_endings else {}),
        "seeds": [str(row.seeds) if row.seeds == len(row.records) else f"{row.seeds} of {len(row.records)}"],
        "range test": [f"{round(row.range_test_steps):,}"],
        "time per trial": [duration(row.seconds)],
    }


def predictions(row: Row) -> str:
    """Return the mean number of models that one prediction of the ending evaluates, as text."""
    return "–" if row.predictions is None else f"{row.predictions:g}"


def _series(group: Group) -> list[str]:
    """Return the names of the series that can be drawn: the metric first, the learning rate last."""
    records = [record for row in group.rows for record in row.finished]
    names = dict.fromkeys(name for record in records for name in record.epochs if name not in ("step", "seconds"))
    moving = ["learning rate"] if any("learning_rate" in record.steps for record in records) else []
    return [*sorted(names, key=lambda name: name != group.metric), *moving]


def _curve(row: Row, series: str) -> dict[str, Any]:
    if series == "learning rate":
        # Show one seed: seeds may have different bounds, and no seed trains with the mean of their learning rates.
        having = sorted((record for record in row.finished if "learning_rate" in record.steps), key=_seed)
        rates = having[0].steps["learning_rate"] if having else []
        values = np.array(rates, dtype=float)
        steps = _corners(values)
        return {"step": steps, "mean": values[steps], "low": [], "high": [], "events": _marks(having[:1])}
    curves = [
        {
            step: value
            for step, value in zip(r.epochs.get("step", ()), r.epochs[series], strict=False)
            if step and usable(value)
        }
        for r in row.finished
        if series in r.epochs
    ]
    shared = sorted(set.intersection(*map(set, curves))) if curves else []
    values = np.array([[curve[step] for step in shared] for curve in curves])
    low, high = band(values) if len(curves) > 1 and shared else ((), ())
    drawn = {"step": shared, "mean": values.mean(0) if shared else (), "low": low, "high": high}
    return {**drawn, "events": _marks(row.finished)}


def _corners(values: NDArray[np.float64]) -> list[int]:
    """Return the points to draw: all points, or for long series the corners of a line through all of them.

    The line passes every point within a 10,000th of the values' range (Ramer 1972, Douglas and Peucker 1973).
    """
    if len(values) <= _FEW_POINTS:
        return [*range(len(values))]
    # A gap (NaN) counts as a fall to 0, so that its ends are corners and the gap is drawn.
    heights = np.nan_to_num(values)
    kept, spans, room = {0, len(heights) - 1}, [(0, len(heights) - 1)], float(np.ptp(heights)) / 10_000
    while spans:
        first, last = spans.pop()
        far = np.abs(heights[first : last + 1] - np.linspace(heights[first], heights[last], last - first + 1))
        middle = first + int(far.argmax())
        if first < middle < last and far[middle - first] > room:
            kept.add(middle)
            spans += [(first, middle), (middle, last)]
    return sorted(kept)


def duration(seconds: float) -> str:
    """Return a duration as text, with suitable units.

    Example:
        >>> duration(4.21), duration(75), duration(7260)
        ('4.2 s', '1 min 15 s', '2 h 1 min')
    """
    if not math.isfinite(seconds) or seconds < 0:
        return "unknown"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
