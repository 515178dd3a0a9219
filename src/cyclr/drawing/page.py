"""HTML pages in one file. A page loads nothing else, escapes all strings, and runs only scripts with a known hash."""

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from cyclr import _extras
from cyclr.drawing import code
from cyclr.drawing.picture import Floats, RangePicture
from cyclr.drawing.svg import svg

_TURNING = re.compile("[\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
PLOTLY = "plotly-basic-4.1.1.min.js"
"""Plotly's basic bundle from the npm package `plotly.js-basic-dist-min`. Its licence is in the same folder."""

_MOST_POINTS = 2000
"""Largest number of points that are drawn for a range test. A screen cannot show more."""

_SCRIPTS = ("schedule.js", "charts.js", "bounds.js", "page.js")


@dataclass(frozen=True)
class PageTest:
    """A range test on a page, with the length and the optimizer of the planned training run.

    Attributes:
        label: unique name of the test on the page.
        picture: the numbers and sentences to draw.
        total_steps, steps_per_epoch: optimizer updates in the run and in an epoch, or None if unknown.
        optimizer: the tested optimizer, as for `cyclr.drawing.code.optimizer`.
    """

    label: str
    picture: RangePicture
    total_steps: int | None = None
    steps_per_epoch: int | None = None
    optimizer: str | None = None


@dataclass(frozen=True)
class PagePolicy:
    """A policy whose code the page shows for copying.

    Attributes:
        name: name of the policy.
        summary: description of its schedule.
        code: code by framework.
        rates: index of the policy's group, and index of the policy in the group's table. They select the curve of its
            learning rates.
    """

    name: str
    summary: str
    code: Mapping[str, str]
    rates: tuple[int, int]


@dataclass(frozen=True)
class PageGroup:
    """A chart and a table of policies that are compared.

    Attributes:
        name: unique name of the group on the page, or `""`.
        metric: name of the metric.
        target: best value of the best fixed learning rate, or None without a fixed learning rate.
        table: for every policy, best first, its cells by column: a text, and optional small print.
        series: the data for the chart: `name`, `direction`, and `curves`. There is one curve per policy, with `step`,
            `mean`, `low` and `high`, and with its `events`: step, symbol and text.
        key: meaning of each event symbol in the chart.
    """

    name: str
    metric: str
    target: float | None
    table: Mapping[str, Mapping[str, Sequence[str]]]
    series: Sequence[Mapping[str, Any]]
    key: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Page:
    """The content of a page, from which `render` makes the HTML.

    Attributes:
        title, kind: title and kind of the page.
        verdicts: (name of the group, sentences).
        settings: (heading, values by name).
        shapes: heights of every shape at equally spaced positions from 0 to 1, by name.
        tests, groups: range tests and groups of policies.
        policies: policies whose code is shown for copying, starting with the first.
        framework: framework whose code is shown first.
        schedules: (policy, schedule).
        events: (policy, seed, descriptions of events) of the trials in which AutoCycle acted.
        lost: (policy, seed, status, error) of the trials that diverged or failed.
        notes: remarks below the verdict.
    """

    title: str
    kind: str
    verdicts: Sequence[tuple[str, Sequence[str]]]
    settings: Sequence[tuple[str, Mapping[str, str]]]
    shapes: Mapping[str, Floats]
    tests: Sequence[PageTest] = ()
    groups: Sequence[PageGroup] = ()
    policies: Sequence[PagePolicy] = ()
    framework: str = "keras"
    schedules: Sequence[tuple[str, str]] = ()
    events: Sequence[tuple[str, int, Sequence[str]]] = ()
    lost: Sequence[tuple[str, int, str, str]] = ()
    notes: Sequence[str] = ()


def range_test_page(
    picture: RangePicture,
    shapes: Mapping[str, Floats],
    settings: Mapping[str, str],
    optimizer: str = "",
    total_steps: int | None = None,
) -> Page:
    """Return the page of one range test, with the tested optimizer and the length of the run if they are known."""
    return Page(
        title="Learning-rate range test",
        kind="Range test",
        verdicts=[("", [picture.verdict, picture.reason, picture.ended])],
        settings=[("Range test", settings)],
        shapes=shapes,
        tests=[PageTest("range test", picture, total_steps, optimizer=optimizer)],
        framework=code.framework(optimizer),
    )


def render(page: Page) -> str:
    """Return a page as HTML.

    Raises:
        MissingExtraError: Jinja2 is not installed.
    """
    with _extras.needed("reports need", "jinja2", extra="report"):
        from jinja2 import Environment, PackageLoader, StrictUndefined

    plotly = _asset(PLOTLY)
    script = "\n".join(_asset(name) for name in _SCRIPTS)
    environment = Environment(
        loader=PackageLoader("cyclr.drawing"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_legible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    # Marked as safe in the templates: our own files, JSON without HTML characters, and SVG, which svg() has escaped.
    return environment.get_template("page.html.j2").render(
        page=page,
        sketch=svg(page.tests[0].picture) if page.tests else "",
        hashes=f"{_hash(plotly)} {_hash(script)}",
        style=_checked(_asset("page.css"), "style"),
        plotly=_checked(plotly, "script"),
        script=_checked(script, "script"),
        data=json_for_html(_drawn(page)),
    )


def number(value: float) -> str:
    """Return a number with four digits."""
    return f"{value:#.4g}".rstrip(".") if value else "0"


def _rounded(values: Floats) -> list[float | None]:
    """Return the values with six digits, more than a picture shows, and None for values that are not finite."""
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values.tolist()]


def json_for_html(content: Any) -> str:
    r"""Return JSON for a `<script>` element, without the special characters of HTML and with rounded arrays.

    Example:
        >>> print(json_for_html("</script><!--"))
        "\u003c/script\u003e\u003c!--"
    """
    written = json.dumps(content, allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=_rounded)
    text = _legible(written)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return str(text)


def _drawn(page: Page) -> dict[str, Any]:
    """Return the numbers that the scripts of the page draw."""
    return {
        "shapes": page.shapes,
        "tests": [_test(test) for test in page.tests],
        "policies": [{"summary": one.summary, "code": one.code, "rates": one.rates} for one in page.policies],
        "groups": [
            {"metric": one.metric, "target": one.target, "policies": list(one.table), "series": one.series}
            for one in page.groups
        ],
    }


def _test(test: PageTest) -> dict[str, Any]:
    drawn = ("dots", "curve", "band", "levels", "symbols", "interval", "scale", "limits")
    names = (*drawn, "key", "legend", "bounds", "status", "verdict", "reason", "ended")
    thinned = test.picture.thinned(_MOST_POINTS)
    picture = {name: getattr(thinned, name) for name in names}
    length = {"total": test.total_steps, "batches": test.steps_per_epoch}
    return {**picture, "lr": thinned.lr.tolist(), **length, "code": code.templates(test.optimizer)}


def _legible(value: Any) -> Any:
    """Return text without lone surrogates and without marks that change the direction of writing.

    JSON may contain lone surrogates, which a file cannot hold. Direction marks could change the visible order of words,
    and so the meaning of a verdict.
    """
    if type(value) is str:
        return _TURNING.sub("\N{REPLACEMENT CHARACTER}", value)
    return value


def _asset(name: str) -> str:
    return resources.files("cyclr.drawing").joinpath("assets", name).read_text(encoding="utf-8")


def _checked(text: str, element: str) -> str:
    """Return text for the content of an element. Raise if the text would end the element."""
    if f"</{element}" in text.lower() or "<!--" in text:
        raise ValueError(f"the content of <{element}> must not end it; got text with </{element} or a comment in it.")
    return text


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
