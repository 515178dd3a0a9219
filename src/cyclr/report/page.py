"""The report as one HTML file: no outside request, every string escaped, scripts allowed by their hash alone."""

import base64
import hashlib
import json
import math
import os
import platform
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

from cyclr.drawing.svg import svg
from cyclr.errors import MissingExtraError
from cyclr.range_test import RangeTestResult
from cyclr.records import Group, Record, Row, RunFolder, band, summarize
from cyclr.records.direction import direction_or_none
from cyclr.report import code, verdict

try:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs
except ImportError as error:
    raise MissingExtraError('reports need Plotly and Jinja2. Run: pip install "cyclr[report]".') from error

DEFAULT_STEPS = 1000
"""Length of the training that the page proposes a schedule for where none is known; the reader changes it there."""

_TURNING = re.compile("[\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
_MOST_POINTS = 1000
_SCRIPTS = ("schedule.js", "charts.js", "bounds.js", "page.js")


@dataclass(frozen=True)
class _Test:
    """A range test to show, and what is known about the training that it was made for."""

    label: str
    result: RangeTestResult
    total_steps: int = DEFAULT_STEPS
    optimizer: str | None = None


def of_range_test(result: RangeTestResult) -> str:
    """The page about one range test."""
    settings = {
        "learning rates": f"{result.min_lr:g} to {result.max_lr:g}, {result.spacing}",
        "steps": f"{len(result.lr)} of {result.steps}",
        "loss": f"{result.loss.min():.4g} to {result.loss.max():.4g}",
        "python": platform.python_version(),
    }
    return _render(
        title="Learning-rate range test",
        kind="Range test",
        verdicts=[("", verdict.of_range_test(result))],
        tests=[_Test("range test", result)],
        groups=[],
        settings=[("Range test", settings)],
        notes=[],
    )


def of_run(folder: str | os.PathLike[str]) -> str:
    """The page about a run folder that `cyclr compare` wrote.

    Raises:
        CyclrError: there is no run in the folder, or a file in it is broken.
        OSError: a file cannot be read.
        ValueError: a policy has two trials of one seed.
    """
    run = RunFolder.read(folder)
    groups = summarize(run.records).groups if run.records else []
    verdicts = [(_name(group, groups), verdict.of_group(group)) for group in groups]
    if not groups:
        verdicts = [("", ["No trial has finished yet. Look again when one has."])]
    notes = ["The last record was cut off in mid-writing and is left out."] if run.torn else []
    return _render(
        title=run.path.resolve().name,
        kind="Learning-rate comparison",
        verdicts=verdicts,
        tests=_tests(run),
        groups=groups,
        settings=_settings(run),
        notes=notes,
    )


def _tests(run: RunFolder) -> list[_Test]:
    """The range tests of a run, each once, though several policies may use it."""
    found: dict[str, tuple[RangeTestResult, list[Record]]] = {}
    for record in run.records:
        if record.range_test is not None:
            key = json.dumps([record.workload, record.optimizer, record.seed, record.range_test.to_dict()])
            found.setdefault(key, (record.range_test, []))[1].append(record)
    tests = []
    for result, users in found.values():
        first = users[0]
        policies = ", ".join(dict.fromkeys(record.policy for record in users))
        label = f"{first.workload}, {first.optimizer}, seed {first.seed} ({policies})"
        tests.append(_Test(label, result, max(first.total_steps, 3), first.optimizer))
    return tests


def _name(group: Group, groups: Sequence[Group]) -> str:
    """What tells a group from the others; nothing if it is the only one."""
    if len(groups) == 1:
        return ""
    return ", ".join(part for part in (group.workload, group.optimizer, group.metric) if part)


def _settings(run: RunFolder) -> list[tuple[str, dict[str, str]]]:
    about = run.about
    general = {
        "folder": run.path.resolve().name,
        "created": _shown(about.get("created")),
        "finished trials": str(len(run.records)),
    }
    command = about.get("command")
    if isinstance(command, list):
        general["command"] = shlex.join(str(part) for part in command)
    sections = [("Run", general)]
    for name, title in (("spec", "Settings"), ("versions", "Versions"), ("hardware", "Hardware")):
        content = about.get(name)
        if isinstance(content, dict) and content:
            # The name of the machine is nobody's business to whom the page is sent.
            shown = {str(key): _shown(value) for key, value in content.items() if (name, key) != ("hardware", "host")}
            sections.append((title, shown))
    return sections


def _shown(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
        return "\n".join(", ".join(f"{key} {_shown(part)}" for key, part in entry.items()) for entry in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _render(*, tests: list[_Test], groups: list[Group], **context: Any) -> str:
    content = {
        "frameworks": code.FRAMEWORKS,
        "tests": [_test_data(test) for test in tests],
        "groups": [_group_data(group) for group in groups],
    }
    plotly, script = _newlines(get_plotlyjs()), "\n".join(_asset(name) for name in _SCRIPTS)
    environment = Environment(
        loader=PackageLoader("cyclr.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_legible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"parts": verdict.parts, "number": verdict.number, "duration": _duration}
    return environment.get_template("page.html.j2").render(
        **context,
        tests=tests,
        sketch=Markup(svg(tests[0].result.picture())) if tests else "",  # noqa: S704 - escaped where it is made
        groups=[(_name(group, groups), group, _series(group)) for group in groups],
        policy=" ".join(
            [
                "default-src 'none';",
                f"script-src {_hash(plotly)} {_hash(script)};",
                "style-src 'unsafe-inline';",
                "img-src data: blob:;",
                "base-uri 'none'; form-action 'none'",
            ]
        ),
        style=_trusted(_asset("page.css"), "style"),
        plotly=_trusted(plotly, "script"),
        script=_trusted(script, "script"),
        data=json_for_html(content),
    )


def json_for_html(content: Any) -> Markup:
    r"""JSON that can stand in a `<script>` element: it holds none of the characters that HTML looks for.

    Example:
        >>> print(json_for_html("</script><!--"))
        "\u003c/script\u003e\u003c!--"
    """
    text = _legible(json.dumps(content, allow_nan=False, ensure_ascii=False, separators=(",", ":")))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - that is what was escaped above


def _legible(value: Any) -> Any:
    """A text that a file can hold and that is read in the order in which it is written; anything else as it is.

    JSON may hold lone surrogates. Marks that turn the direction of writing could make a verdict say something else.
    """
    if isinstance(value, str) and not isinstance(value, Markup):
        return _TURNING.sub("\N{REPLACEMENT CHARACTER}", value)
    return value


def _test_data(test: _Test) -> dict[str, Any]:
    picture = test.result.picture()
    return {
        "lr": picture.lr.tolist(),
        "loss": _rounded(picture.dots.tolist()),
        "spread": [_rounded(edge.tolist()) for edge in picture.band or ()],
        "smoothed": _rounded(picture.curve.tolist()),
        "spacing": test.result.spacing,
        "limits": list(picture.limits),
        "bounds": test.result.bounds.to_dict(),
        "ended": picture.ended,
        "total": test.total_steps,
        "optimizer": code.optimizer(test.optimizer),
    }


def _group_data(group: Group) -> dict[str, Any]:
    return {
        "metric": group.metric,
        "target": group.target,
        "policies": [row.policy for row in group.rows],
        "series": [
            {
                "name": name,
                "direction": group.direction if name == group.metric else direction_or_none(name),
                "curves": [_curve(row, name) for row in group.rows],
            }
            for name in _series(group)
        ],
    }


def _series(group: Group) -> list[str]:
    """The names of the series that can be drawn: the metric first, the learning rate last."""
    records = [record for row in group.rows for record in row.finished]
    names = dict.fromkeys(name for record in records for name in record.epochs if name not in ("step", "seconds"))
    names = {name: None for name in (group.metric, *names) if name in names}
    if any("learning_rate" in record.steps for record in records):
        names["learning rate"] = None
    return list(names)


def _curve(row: Row, series: str) -> dict[str, Any]:
    if series == "learning rate":
        # Every seed may have bounds of its own; the mean of their rates would be the rate of none.
        records = sorted(row.finished, key=lambda record: record.seed)
        rates = next((record.steps["learning_rate"] for record in records if "learning_rate" in record.steps), [])
        every = max(1, math.ceil(len(rates) / _MOST_POINTS))
        return {"step": list(range(0, len(rates), every)), "mean": _rounded(rates[::every]), "low": [], "high": []}
    curves = [
        {
            step: value
            for step, value in zip(record.epochs.get("step", ()), record.epochs[series], strict=False)
            if step is not None and value is not None
        }
        for record in row.finished
        if series in record.epochs
    ]
    shared = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
    values = np.array([[curve[step] for step in shared] for curve in curves])
    edges = band(values) if len(curves) > 1 and shared else ((), ())
    mean = values.mean(0) if shared else ()
    return {"step": shared, "mean": _rounded(mean), "low": _rounded(edges[0]), "high": _rounded(edges[1])}


def _rounded(values: Iterable[float | None]) -> list[float | None]:
    """Values to six digits, which a picture does not show more of; null for what is no number."""
    return [float(f"{value:.6g}") if value is not None and math.isfinite(value) else None for value in values]


def _duration(seconds: float) -> str:
    """A time in the unit that suits it.

    Example:
        >>> _duration(4.21), _duration(75), _duration(7260)
        ('4.2 s', '1 min 15 s', '2 h 1 min')
    """
    if not math.isfinite(seconds) or seconds < 0:
        return "unknown"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _asset(name: str) -> str:
    return _newlines(resources.files("cyclr.report").joinpath("assets", name).read_text(encoding="utf-8"))


def _newlines(text: str) -> str:
    """The text as a browser sees it, which reads every end of a line as one character; its hash depends on that."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _trusted(text: str, element: str) -> Markup:
    """Our own text, as the content of an element that it must not end."""
    if f"</{element}" in text.lower() or "<!--" in text:
        raise ValueError(f"the content of <{element}> must not end it; got text with </{element} or a comment in it.")
    return Markup(text)  # noqa: S704 - no string of a user's is in it


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
