"""The page of a run folder, filled completely; `cyclr.drawing.page` renders it."""

import json
import math
import os
import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np

from cyclr.drawing.page import Page, PageGroup, PageRow, PageTest, rounded
from cyclr.range_test import RangeTestResult
from cyclr.records import Group, Record, Row, RunFolder, band, summarize
from cyclr.records.direction import direction_or_none
from cyclr.records.measures import usable
from cyclr.report import verdict
from cyclr.schedules.shape import curves

_MOST_POINTS = 1000


def run_page(folder: str | os.PathLike[str]) -> Page:
    """Return the page of a run folder that `cyclr compare` wrote.

    Raises:
        RunFolderError: the folder holds no run, or one of its files is invalid; the message gives file and line.
        ValueError: a policy has two trials of one seed.
    """
    run = RunFolder.read(folder)
    groups = summarize(run.records).groups if run.records else []
    verdicts: list[tuple[str, Sequence[str]]] = [(_name(group, groups), verdict.of_group(group)) for group in groups]
    rows = [row for group in groups for row in group.rows]
    scheduled = [(row.policy, first.schedule) for row in rows if (first := _first(row)) and first.schedule]
    return Page(
        title=run.path.resolve().name,
        kind="Learning-rate comparison",
        verdicts=verdicts or [("", ["No trial has finished yet. Look again when one has."])],
        settings=_settings(run),
        shapes=curves(),
        tests=_tests(run.records),
        groups=[_group(_name(group, groups), group) for group in groups],
        schedules=[(policy, repr(schedule)) for policy, schedule in scheduled],
        lost=[
            (record.policy, record.seed, record.status, record.error or "No reason was recorded.")
            for row in rows
            for record in sorted(row.records, key=_seed)
            if record.status != "ok"
        ],
        notes=["The last record was cut off in the middle of writing and is left out."] if run.torn else [],
    )


def _seed(record: Record) -> int:
    return record.seed


def _first(row: Row) -> Record | None:
    """Return the finished record of the lowest seed."""
    return min(row.finished, key=_seed, default=None)


def _tests(records: Sequence[Record]) -> list[PageTest]:
    """Return the range tests of a run, each once: several policies may use it."""
    found: dict[str, tuple[RangeTestResult, list[Record]]] = {}
    for record in records:
        if record.range_test is not None:
            key = json.dumps([record.workload, record.optimizer, record.seed, record.range_test.to_dict()])
            found.setdefault(key, (record.range_test, []))[1].append(record)
    tests = []
    for result, users in found.values():
        first = users[0]
        policies = ", ".join(dict.fromkeys(record.policy for record in users))
        label = f"{first.workload}, {first.optimizer}, seed {first.seed} ({policies})"
        tests.append(PageTest(label, result.picture(), max(first.total_steps, 3), first.optimizer))
    return tests


def _name(group: Group, groups: Sequence[Group]) -> str:
    """Return what tells a group from the others, or `""` if it is the only one."""
    parts = (group.workload, group.optimizer, group.metric) if len(groups) > 1 else ()
    return ", ".join(filter(None, parts))


def _settings(run: RunFolder) -> list[tuple[str, dict[str, str]]]:
    general = {
        "folder": run.path.resolve().name,
        "created": _shown(run.about.get("created")),
        "finished trials": str(len(run.records)),
    }
    command = run.about.get("command")
    if isinstance(command, list):
        general["command"] = shlex.join(str(part) for part in command)
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
    return PageGroup(name, group.metric, group.target, [_row(row) for row in group.rows], series)


def _row(row: Row) -> PageRow:
    steps = f"reached by {row.reached} of {row.aimed}" if row.reached else "not reached" if row.aimed else "–"
    return PageRow(
        row.policy,
        str(row.seeds) if row.seeds == len(row.records) else f"{row.seeds} of {len(row.records)}",
        verdict.parts(row.best),
        verdict.parts(row.final),
        row.verdict,
        steps if row.steps_to_target is None else f"{row.steps_to_target:,.0f}",
        "–" if row.ratio is None else f"{row.ratio:.2f}",
        f"{round(row.range_test_steps):,}",
        duration(row.seconds),
    )


def _series(group: Group) -> list[str]:
    """Return the names of the series that can be drawn: the metric first, the learning rate last."""
    records = [record for row in group.rows for record in row.finished]
    names = dict.fromkeys(name for record in records for name in record.epochs if name not in ("step", "seconds"))
    names = {name: None for name in (group.metric, *names) if name in names}
    if any("learning_rate" in record.steps for record in records):
        names["learning rate"] = None
    return list(names)


def _curve(row: Row, series: str) -> dict[str, Any]:
    if series == "learning rate":
        # Every seed may have bounds of its own; the mean of their rates would be a rate that none used.
        having = [record for record in row.finished if "learning_rate" in record.steps]
        rates = min(having, key=_seed).steps["learning_rate"] if having else []
        every = max(1, math.ceil(len(rates) / _MOST_POINTS))
        return {"step": list(range(0, len(rates), every)), "mean": rounded(rates[::every]), "low": [], "high": []}
    curves = [
        {
            step: value
            for step, value in zip(record.epochs.get("step", ()), found, strict=False)
            if step and usable(value)
        }
        for record in row.finished
        if (found := record.epochs.get(series)) is not None
    ]
    shared = sorted(set.intersection(*map(set, curves))) if curves else []
    values = np.array([[curve[step] for step in shared] for curve in curves])
    edges = band(values) if len(curves) > 1 and shared else ((), ())
    mean = values.mean(0) if shared else ()
    return {"step": shared, "mean": rounded(mean), "low": rounded(edges[0]), "high": rounded(edges[1])}


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
