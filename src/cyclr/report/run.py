"""The page of a run folder, filled completely; `cyclr.drawing.page` renders it."""

import json
import math
import os
import shlex
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cyclr.drawing.page import Page, PageGroup, PageTest, number
from cyclr.range_test import RangeTestResult
from cyclr.records import Group, Record, Row, RunFolder, band, summarize
from cyclr.records.direction import direction_or_none
from cyclr.records.measures import usable
from cyclr.report import verdict
from cyclr.schedules.shape import curves

_FEW_POINTS = 300
"""Learning rates that are drawn one by one."""

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
    # A name tells a group from the others.
    names = [", ".join(filter(None, (one.workload, one.optimizer, one.metric))) for one in groups]
    names = names if len(groups) > 1 else [""] * len(groups)
    verdicts = list(zip(names, map(verdict.of_group, groups), strict=True))
    rows = [row for group in groups for row in group.rows]
    return Page(
        title=run.path.resolve().name,
        kind="Learning-rate comparison",
        verdicts=verdicts or [("", ["No trial has finished yet. Look again when one has."])],
        settings=_settings(run),
        shapes=curves(),
        tests=_tests(run.records),
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
        notes=["The last record was cut off in the middle of writing and is left out."] if run.torn else [],
    )


def _tests(records: Sequence[Record]) -> list[PageTest]:
    """Return the range tests of a run, each once: several policies may use it."""
    found: dict[str, tuple[RangeTestResult, list[Record]]] = {}
    for record in records:
        if record.range_test is not None:
            key = json.dumps(
                [record.workload, record.optimizer, record.seed, record.range_test.to_dict() | {"tested": {}}]
            )
            found.setdefault(key, (record.range_test, []))[1].append(record)
    tests = []
    for result, users in found.values():
        first = users[0]
        policies = ", ".join(dict.fromkeys(record.policy for record in users))
        label = f"{first.workload}, {first.optimizer}, seed {first.seed} ({policies})"
        optimizer = str(result.tested.get("optimizer", first.optimizer))
        tests.append(PageTest(label, result.picture(), max(first.total_steps, 3), optimizer))
    return tests


def _settings(run: RunFolder) -> list[tuple[str, dict[str, str]]]:
    general = {
        "folder": run.path.resolve().name,
        "created": _shown(run.about.get("created")),
        "finished trials": str(len(run.records)),
    }
    command = run.about.get("command")
    if isinstance(command, list):
        general["command"] = shlex.join(map(str, command))
    sections = [("Run", general)]
    for name, title in (("spec", "Settings"), ("versions", "Versions"), ("hardware", "Hardware")):
        content = run.about.get(name)
        if isinstance(content, dict) and content:
            # Leave out the host name: pages are shared.
            shown = {str(key): _shown(value) for key, value in content.items() if (name, key) != ("hardware", "host")}
            sections.append((title, shown))
    return sections


def _shown(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
        return "\n".join(", ".join(f"{key} {_shown(part)}" for key, part in entry.items()) for entry in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


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
    table = {row.policy: _cells(group, row) for row in group.rows}
    return PageGroup(name, group.metric, group.target, table, series, key)


def _events(record: Record) -> list[tuple[int, str, str]]:
    """Return step, kind and text of what AutoCycle did, the end of a range test in the training included."""
    events = [(event.step, str(event.what), str(event)) for event in record.events]
    if record.range_test is None or record.range_test_steps or not record.range_test.bounds.usable:
        return events
    rates = [rate or 0.0 for rate in record.steps["learning_rate"]]
    # The rates of a test only rise, and the cycle starts below its last.
    last = next((step for step in range(len(rates) - 1) if rates[step + 1] < rates[step]), len(rates) - 1)
    text = (
        f"step {last}, learning rate {number(rates[last])}: The range test ended. {record.range_test.bounds.verdict} "
        "Training started again, and the updates of the test count."
    )
    return [(last, "range test", text), *events]


def _marks(records: Sequence[Record]) -> list[dict[str, Any]]:
    return [
        {"step": step, "symbol": _SYMBOLS[what][0], "text": f"seed {record.seed}, {text}"}
        for record in records
        for step, what, text in _events(record)
    ]


def _cells(group: Group, row: Row) -> dict[str, Sequence[str]]:
    steps = f"reached by {row.reached} of {row.aimed}" if row.reached else "not reached" if row.aimed else "–"
    towards_target = {
        "steps to the target": [steps if row.steps_to_target is None else f"{row.steps_to_target:,.0f}"],
        "ratio": ["–" if row.ratio is None else f"{row.ratio:.2f}"],
    }
    return {
        "seeds": [str(row.seeds) if row.seeds == len(row.records) else f"{row.seeds} of {len(row.records)}"],
        f"best {group.metric}": verdict.parts(row.best),
        "final": verdict.parts(row.final),
        **(
            {"ending": verdict.parts(row.ending), "models in a prediction": [predictions(row)]}
            if group.has_endings
            else {}
        ),
        "verdict": [row.verdict],
        **(towards_target if group.target is not None else {}),
        "range test": [f"{round(row.range_test_steps):,}"],
        "time per trial": [duration(row.seconds)],
    }


def predictions(row: Row) -> str:
    """Return the models that a prediction of the ending costs."""
    return "–" if row.predictions is None else f"{row.predictions:g}"


def _series(group: Group) -> list[str]:
    """Return the names of the series that can be drawn: the metric first, the learning rate last."""
    records = [record for row in group.rows for record in row.finished]
    names = dict.fromkeys(name for record in records for name in record.epochs if name not in ("step", "seconds"))
    moving = ["learning rate"] if any("learning_rate" in record.steps for record in records) else []
    return [*sorted(names, key=lambda name: name != group.metric), *moving]


def _curve(row: Row, series: str) -> dict[str, Any]:
    if series == "learning rate":
        # Every seed may have bounds of its own; the mean of their rates would be a rate that none used.
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
    """Return the points to draw: all of them, or of many those between which straight lines are as good.

    The lines pass every point within a 10,000th of the values' range (Ramer 1972, Douglas and Peucker 1973).
    """
    if len(values) <= _FEW_POINTS:
        return [*range(len(values))]
    # A gap is drawn as one: it has corners like a fall to 0.
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
    """Return a time in the unit that suits it.

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
