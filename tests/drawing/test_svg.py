"""The picture of a range test as SVG, and as HTML for notebooks."""

import html
import html.parser
import re

import numpy as np
import pytest

import cyclr
from cyclr.drawing.picture import GLYPHS
from cyclr.drawing.svg import svg

LR = np.geomspace(1e-6, 10, 120)
LOSS = 2.3 - 2 / (1 + (0.01 / LR) ** 2) + (LR / 0.5) ** 2


def made(lr=LR, loss=LOSS):
    return cyclr.RangeTestResult(lr, loss, "completed", 1e-6, 10.0, 120, "exponential")


def odd(lr, loss, spacing="exponential"):
    lr = np.asarray(lr, dtype=float)
    return cyclr.RangeTestResult(lr, loss, "completed", lr[0], lr[-1] * 2, len(lr) + 2, spacing)


@pytest.mark.parametrize(
    "result",
    [
        odd([0.1], [1.0]),
        odd([0.1, 0.2], [1.0, 1.0], "linear"),
        odd(np.geomspace(1e-9, 1e3, 5000), np.zeros(5000)),
        odd(np.geomspace(1e-3, 1, 50), np.geomspace(1, 1e300, 50)),
        odd(np.geomspace(1e-3, 2e-3, 50), -np.ones(50)),
    ],
    ids=["one point", "linear", "many points", "huge", "narrow and negative"],
)
def test_any_result_can_be_drawn(result):
    drawn = svg(result.picture())
    numbers = [float(number) for number in re.findall(r"-?\d+\.\d+(?=[ \"VHL])", drawn)]
    assert numbers
    assert all(-1 <= number <= 641 for number in numbers)
    assert "nan" not in drawn
    assert "inf" not in drawn.replace("infinite", "")


def test_bounds_are_drawn_at_their_learning_rates():
    result = made()
    drawn = svg(result.picture())
    for name, value in (("base_lr", result.bounds.base_lr), ("max_lr", result.bounds.max_lr)):
        assert f"{name} {value:.3g}" in drawn
    left, right = (float(place) for place in re.findall(r"M(\S+) 56V286\" stroke=\"#d9641e", drawn))
    decades = (right - left) / (640 - 58 - 14) * np.log10(result.lr[-1] / result.lr[0])
    assert 10**decades == pytest.approx(result.bounds.max_lr / result.bounds.base_lr, rel=0.01)


class Cells(html.parser.HTMLParser):
    """The text of a table's cells, and the tags that are open."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.text = [], set(), []

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        self.seen.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def parse(result):
    cells = Cells()
    cells.feed(result._repr_html_())
    assert cells.open == []
    return cells


@pytest.mark.parametrize(
    "changes", [{}, {"loss": np.ones(120)}, {"lr": LR[:9], "loss": LOSS[:9]}], ids=["ok", "flat", "few"]
)
def test_html_is_a_picture_and_a_table_with_the_verdict(changes):
    result = made(**changes)
    cells = parse(result)
    assert cells.seen >= {"svg", "table", "caption", "tr", "th", "td"}
    assert not cells.seen & {"script", "style", "link", "img", "foreignobject"}
    for part in (result.bounds.status, result.bounds.details, result.picture().verdict, result.picture().ended):
        assert part in cells.text
    assert all(mark.text in " ".join(cells.text) for mark in result.bounds.marks)


def test_every_mark_and_every_loss_that_is_cut_off_is_drawn():
    loss = LOSS.copy()
    loss[-3:] = 1e30
    result = made(loss=loss)
    drawn = svg(result.picture())
    points = [mark for mark in result.bounds.marks if mark.lr]
    places = [
        re.search(rf'x="(\S+)" y="(\S+)" dy=".35em"[^>]*>{glyph}<', drawn).groups() for glyph in GLYPHS[: len(points)]
    ]
    decades = np.diff([float(x) for x, _ in places]) / (640 - 58 - 14) * 7
    assert 10**decades == pytest.approx(
        np.divide([mark.lr for mark in points[1:]], [mark.lr for mark in points[:-1]]), rel=0.01
    )
    assert drawn.count(">▲<") == np.sum(loss > result.curve.cut)
    assert drawn.count("stroke-dasharray") == 1


def test_html_escapes_all_text():
    result = made()
    result.__dict__["bounds"] = cyclr.Bounds(None, None, "flat", "<script>alert('&')</script>")
    assert "<script" not in result._repr_html_()
    assert "<script>alert('&')</script>" in parse(result).text


@pytest.mark.parametrize(
    "schedule",
    [
        cyclr.Cyclical(0.001, 0.006, 20, decay=cyclr.Halving()),
        cyclr.OneCycle(0.01, 0.1, 1_000_000),
        cyclr.Constant(0.1),
        cyclr.Constant(0.0),
        cyclr.OneCycle(0.01, 0.1, 3),
        cyclr.Anneal(1e-9, 1e-12, 5),
        cyclr.Function(lambda step: 0.1 / (1 + step)),
    ],
    ids=lambda schedule: type(schedule).__name__,
)
def test_a_schedule_is_a_picture_and_its_repr(schedule):
    cells = parse(schedule)
    assert {"svg", "path", "code"} <= cells.seen
    drawn = schedule._repr_html_()
    assert html.escape(repr(schedule)) in drawn
    assert "nan" not in drawn
    points = [float(number) for number in re.findall(r"-?\d+\.\d", re.search(r'd="M([^"]*)" fill="none"', drawn)[1])]
    assert all(-0.1 <= point <= 640 for point in points)
    # The numbers at the axes have the colour of the notebook, dark or light.
    assert drawn.count('fill="currentColor"') >= 3


def test_bounds_are_a_table_with_three_digits():
    bounds = cyclr.Bounds(0.0012345, 0.12345, "ok", "<script>read from a plot</script>")
    assert parse(bounds).text[1:] == [
        *("bounds", "0.00123 to 0.123", "status", "ok", "reason", "<script>read from a plot</script>")
    ]
    assert parse(cyclr.Bounds(None, None, "flat", "none")).text[2] == "none"
