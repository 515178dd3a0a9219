"""A page as one HTML file: it fetches nothing, every string is escaped, and scripts are allowed by their hash only."""

import base64
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from cyclr.drawing import code
from cyclr.drawing.picture import RangePicture
from cyclr.drawing.svg import svg
from cyclr.errors import MissingExtraError

DEFAULT_STEPS = 1000
"""Length of the training that the page proposes a schedule for if it is unknown; the reader changes it on the page."""

_TURNING = re.compile("[\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
_SCRIPTS = ("schedule.js", "charts.js", "bounds.js", "page.js")


@dataclass(frozen=True)
class PageTest:
    """A range test on a page, with the length and the optimizer of the training that it was made for."""

    label: str
    picture: RangePicture
    total_steps: int = DEFAULT_STEPS
    optimizer: str | None = None


@dataclass(frozen=True)
class PageRow:
    """A policy in the table of a page; every cell is text, and the metric has its interval apart."""

    policy: str
    seeds: str
    best: tuple[str, str]
    final: tuple[str, str]
    verdict: str
    steps: str
    ratio: str
    range_test_steps: str
    seconds: str


@dataclass(frozen=True)
class PageGroup:
    """Policies that are compared: a chart and a table.

    Attributes:
        name: what tells the group from the others, or `""`.
        metric: name of the metric.
        target: what the best fixed rate reached; None without one.
        rows: the policies, best first.
        series: what the chart can show: `name`, `direction`, and `curves`, one for each row, with `step`, `mean`, `low`
            and `high`.
    """

    name: str
    metric: str
    target: float | None
    rows: Sequence[PageRow]
    series: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Page:
    """Everything that a page shows; `render` makes the HTML of it.

    Attributes:
        title, kind: of the page.
        verdicts: (name of the group, sentences).
        settings: (heading, values by name).
        shapes: the height of every shape at equally spaced positions from 0 to 1, by its name.
        tests, groups: range tests and groups of policies.
        schedules: (policy, schedule).
        lost: (policy, seed, status, error) of the trials that diverged or failed.
        notes: remarks below the verdict.
    """

    title: str
    kind: str
    verdicts: Sequence[tuple[str, Sequence[str]]]
    settings: Sequence[tuple[str, Mapping[str, str]]]
    shapes: Mapping[str, Sequence[float]]
    tests: Sequence[PageTest] = ()
    groups: Sequence[PageGroup] = ()
    schedules: Sequence[tuple[str, str]] = ()
    lost: Sequence[tuple[str, int, str, str]] = ()
    notes: Sequence[str] = ()


def range_test_page(picture: RangePicture, shapes: Mapping[str, Sequence[float]], settings: Mapping[str, str]) -> Page:
    """Return the page of one range test."""
    return Page(
        title="Learning-rate range test",
        kind="Range test",
        verdicts=[("", [picture.verdict, picture.reason, picture.ended])],
        settings=[("Range test", settings)],
        shapes=shapes,
        tests=[PageTest("range test", picture)],
    )


def render(page: Page) -> str:
    """Return a page as HTML.

    Raises:
        MissingExtraError: Plotly or Jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise MissingExtraError('reports need Plotly and Jinja2. Run: pip install "cyclr[report]".') from error

    plotly, script = _newlines(get_plotlyjs()), "\n".join(_asset(name) for name in _SCRIPTS)
    environment = Environment(
        loader=PackageLoader("cyclr.drawing"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_legible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    # Marked as safe: our own files, JSON without the characters of HTML, and SVG that is escaped where it is made.
    return environment.get_template("page.html.j2").render(
        page=page,
        sketch=Markup(svg(page.tests[0].picture)) if page.tests else "",  # noqa: S704
        policy=" ".join(
            [
                "default-src 'none';",
                f"script-src {_hash(plotly)} {_hash(script)};",
                "style-src 'unsafe-inline';",
                "img-src data: blob:;",
                "base-uri 'none'; form-action 'none'",
            ]
        ),
        style=Markup(_checked(_asset("page.css"), "style")),  # noqa: S704
        plotly=Markup(_checked(plotly, "script")),  # noqa: S704
        script=Markup(_checked(script, "script")),  # noqa: S704
        data=Markup(json_for_html(_drawn(page))),  # noqa: S704
    )


def number(value: float) -> str:
    """Return a number with four digits."""
    return f"{value:#.4g}".rstrip(".") if value else "0"


def rounded(values: Iterable[float | None]) -> list[float | None]:
    """Return values with six digits, more than a picture shows; None for those that are not finite."""
    return [float(f"{value:.6g}") if value is not None and math.isfinite(value) else None for value in values]


def json_for_html(content: Any) -> str:
    r"""Return JSON for a `<script>` element: without the characters that HTML looks for.

    Example:
        >>> print(json_for_html("</script><!--"))
        "\u003c/script\u003e\u003c!--"
    """
    text = _legible(json.dumps(content, allow_nan=False, ensure_ascii=False, separators=(",", ":")))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return str(text)


def _drawn(page: Page) -> dict[str, Any]:
    """Return what the scripts of the page draw."""
    return {
        "frameworks": code.FRAMEWORKS,
        "shapes": {name: rounded(heights) for name, heights in page.shapes.items()},
        "tests": [_test(test) for test in page.tests],
        "groups": [
            {
                "metric": group.metric,
                "target": group.target,
                "policies": [row.policy for row in group.rows],
                "series": group.series,
            }
            for group in page.groups
        ],
    }


def _test(test: PageTest) -> dict[str, Any]:
    picture = test.picture
    base_lr, max_lr = picture.bounds or (None, None)
    return {
        "lr": picture.lr.tolist(),
        "loss": rounded(picture.dots.tolist()),
        "spread": [rounded(edge.tolist()) for edge in picture.band or ()],
        "smoothed": rounded(picture.curve.tolist()),
        "spacing": "linear" if picture.scale == "linear" else "exponential",
        "limits": list(picture.limits),
        "bounds": {"base_lr": base_lr, "max_lr": max_lr, "status": picture.status, "reason": picture.reason},
        "ended": picture.ended,
        "total": test.total_steps,
        "optimizer": code.optimizer(test.optimizer),
    }


def _legible(value: Any) -> Any:
    """Return text that a file can hold and that is read in the order in which it is written.

    JSON may hold lone surrogates. Marks that turn the direction of writing could make a verdict say something else.
    """
    if type(value) is str:
        return _TURNING.sub("\N{REPLACEMENT CHARACTER}", value)
    return value


def _asset(name: str) -> str:
    return _newlines(resources.files("cyclr.drawing").joinpath("assets", name).read_text(encoding="utf-8"))


def _newlines(text: str) -> str:
    """Return text as a browser reads it: one character for every end of a line. Its hash depends on that."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _checked(text: str, element: str) -> str:
    """Return text as the content of an element; raise if it would end the element."""
    if f"</{element}" in text.lower() or "<!--" in text:
        raise ValueError(f"the content of <{element}> must not end it; got text with </{element} or a comment in it.")
    return text


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
