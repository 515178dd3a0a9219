"""The page in a real Chromium: bounds can be moved, the code follows and runs, and no foreign code runs."""

import dataclasses
import itertools
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import gallery
from tests.processes import wait_until

import cyclr
from cyclr.drawing import code
from cyclr.drawing.page import PageTest, range_test_page, render
from cyclr.report import run_page
from cyclr.schedules.shape import SHAPES, curves

from .conftest import ABOUT, swept, write_run

sync_api = pytest.importorskip("playwright.sync_api")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to drive: apt-get install chromium"),
    # One xdist worker starts the browser, and has all tests that share it.
    pytest.mark.xdist_group("browser"),
]

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
ARGUMENTS += ["--disable-sync", "--no-first-run", "--disable-dev-shm-usage"]
WIDE, PHONE = {"width": 1200, "height": 900}, {"width": 390, "height": 844}

WATCH = """
globalThis.seen = [];
addEventListener("securitypolicyviolation", (event) => seen.push(`CSP ${event.violatedDirective} ${event.blockedURI}`));
for (const name of ["alert", "confirm", "prompt"]) globalThis[name] = () => seen.push(name);
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    # Ended with this module: while Playwright runs, no other event loop can run in the thread.
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS, timeout=PATIENCE)
        yield chromium
        chromium.close()


PATIENCE = 180_000
"""Milliseconds that a busy machine is given."""


CURVE = "document.getElementById('range-chart').data.find(({name}) => name === 'smoothed, as read')"


class Reader:
    """A page opened from its file, and everything that it asked for or complained of."""

    def __init__(self, browser: Any, file: Path, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": WIDE, **options})
        self.context.set_default_timeout(PATIENCE)
        self.context.add_init_script(WATCH)
        self.page = self.context.new_page()
        self.trouble: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.trouble.append(message.text))
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())
        # Not `wait_for_function`: from its second look on, the content security policy of the page refuses it.
        wait_until(lambda: self.page.evaluate("performance.getEntriesByName('cyclr-ready').length > 0"))
        self.file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self.page, name)

    def plan(self) -> dict[str, Any]:
        return self.page.evaluate("cyclr.bounds.plan")

    def code(self, framework: str = "keras") -> str:
        return self.page.locator(f"#code-{framework}").text_content()

    def drawn(self, chart: str = "schedule-chart") -> dict[str, Any]:
        """The last curve that Plotly has drawn, once it has."""
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return self.page.evaluate(f"(({{x, y}}) => ({{x, y}}))(document.getElementById('{chart}').data.at(-1))")

    def hover(self, chart: int, step: int) -> str:
        """The text of the mark at a step of a training chart, as it is seen with the mouse on it."""
        self.locator(f"#training-chart-{chart}").scroll_into_view_if_needed()
        place = f"""() => {{
            const chart = document.getElementById("training-chart-{chart}");
            const [{{ left, top }}, {{ _size, xaxis, yaxis2 }}] = [chart.getBoundingClientRect(), chart._fullLayout];
            const {{ y }} = chart.data.find((trace) => trace.yaxis === "y2" && trace.x.includes({step}));
            return [left + _size.l + xaxis.d2p({step}), top + _size.t + yaxis2.d2p(y[0])];
        }}"""
        x, y = self.evaluate(place)
        self.page.mouse.move(x + 1, y - 4)
        self.page.mouse.move(x, y)
        label = f"#training-chart-{chart} .hoverlayer .hovertext"
        lines = f"{label} tspan.line, {label} text:not(:has(tspan.line))"
        # The label may be drawn again at any moment: wait for its text and take it in one call.
        read = "(lines) => [...document.querySelectorAll(lines)].map((line) => line.textContent).join(' ').trim()"
        return " ".join(wait_until(lambda: self.page.evaluate(read, lines)).split())

    def drag(self, handle: str, by: int) -> None:
        box = self.page.locator(handle).bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + 60
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.mouse.move(x + by / 2, y)
        self.page.mouse.move(x + by, y)
        self.page.mouse.up()

    def check(self) -> None:
        """Nothing went wrong, nothing was sent, nothing was forbidden, and no name was run."""
        assert self.trouble == []
        assert self.page.evaluate("seen") == []
        assert self.requests == [self.file.as_uri()]


@pytest.fixture
def read(browser: Any) -> Iterator[Any]:
    opened: list[Reader] = []

    def open_page(file: Path, **options: Any) -> Reader:
        opened.append(Reader(browser, file, **options))
        return opened[-1]

    yield open_page
    for reader in opened:
        reader.context.close()


@pytest.fixture(scope="module")
def opened(
    browser: Any, tmp_path_factory: pytest.TempPathFactory, result: cyclr.RangeTestResult, records: list[dict[str, Any]]
) -> Iterator[dict[str, Reader]]:
    """Both kinds of pages, which most tests share: a page takes its time to start."""
    folder = tmp_path_factory.mktemp("pages")
    result.to_html(folder / "range test.html")
    run = write_run(folder / "digits run", records)
    (folder / "run.html").write_text(render(run_page(run)), encoding="utf-8")
    readers = {name: Reader(browser, folder / f"{name}.html") for name in ("range test", "run")}
    for reader in readers.values():
        reader.context.grant_permissions(["clipboard-read", "clipboard-write"])
    yield readers
    for reader in readers.values():
        reader.context.close()


AS_AT_FIRST = """
() => {
    delete document.documentElement.dataset.theme;
    document.querySelectorAll(".key[aria-pressed=false]").forEach((key) => key.click());
    document.querySelectorAll("select").forEach((select) => {
        select.selectedIndex = 0;
        select.dispatchEvent(new Event("change"));
    });
    const plan = { shape: "parabolic", rise: 30, decay: "none", cycles: 1, total: cyclr.bounds.test.total ?? 1000 };
    cyclr.bounds.change(plan);
    cyclr.bounds.reset();
    document.getElementById("tab-keras").click();
    document.activeElement.blur();
    scrollTo(0, 0);
    seen.length = 0;
}
"""


def as_at_first(reader: Reader) -> Reader:
    reader.page.set_viewport_size(WIDE)
    reader.page.emulate_media(color_scheme="light", media="screen")
    reader.evaluate(AS_AT_FIRST)
    reader.trouble.clear()
    return reader


@pytest.fixture
def one(opened: dict[str, Reader]) -> Reader:
    """The page about one range test."""
    return as_at_first(opened["range test"])


@pytest.fixture
def whole(opened: dict[str, Reader]) -> Reader:
    """The page about a whole run."""
    return as_at_first(opened["run"])


def built(text: str) -> cyclr.Schedule:
    """The schedule that the code to paste makes."""
    found: dict[str, Any] = {}
    statement = re.search(r"^schedule = .*?^\)$", text, re.MULTILINE | re.DOTALL)
    assert statement is not None, text
    exec(statement.group(), {"cyclr": cyclr}, found)  # noqa: S102 - that is what the code is for
    return found["schedule"]


def test_dragging_a_bound_changes_schedule_words_and_code(
    read: Any, one: Reader, result: cyclr.RangeTestResult
) -> None:
    reader = one
    before, shown = reader.plan(), reader.code()
    assert (before["base"], before["max"]) == pytest.approx((result.bounds.base_lr, result.bounds.max_lr), rel=5e-3)
    reader.drag("#handle-max", 120)
    after = reader.plan()
    # The axis of five decades is 1,000 pixels wide, more or less.
    assert 2 < after["max"] / before["max"] < 8
    assert after["base"] == before["base"]
    assert reader.code() != shown
    assert built(reader.code()).max_lr == after["max"]
    assert max(reader.drawn()["y"]) == after["max"]
    assert f"between {after['base']} and {after['max']}" in reader.locator("#summary").text_content()
    assert float(reader.input_value("#max-lr")) == after["max"]
    assert reader.locator("#handle-max .tag").text_content() == f"max_lr {after['max']}"
    reader.locator("#reset").click()
    assert reader.plan() == before
    reader.check()


def test_a_handle_stands_where_its_rate_is_on_the_axis(read: Any, one: Reader) -> None:
    reader = one
    reader.drag("#handle-base", -90)
    for name in ("base", "max"):
        box = reader.locator(f"#handle-{name}").bounding_box()
        drawn_at = reader.evaluate(
            """(rate) => {
                const chart = document.getElementById("range-chart");
                const axis = chart._fullLayout.xaxis;
                return chart.getBoundingClientRect().left + axis._offset + axis.d2p(rate);
            }""",
            reader.plan()[name],
        )
        assert box["x"] + box["width"] / 2 == pytest.approx(drawn_at, abs=1.0)


def test_bounds_cannot_be_dragged_past_one_another_or_off_the_axis(
    read: Any, one: Reader, result: cyclr.RangeTestResult
) -> None:
    reader = one
    reader.drag("#handle-base", 2000)
    assert reader.plan()["base"] < reader.plan()["max"] <= 1.03 * reader.plan()["base"]
    reader.drag("#handle-base", -3000)
    assert reader.plan()["base"] == pytest.approx(result.lr[0], rel=5e-3)
    reader.drag("#handle-max", 3000)
    assert reader.plan()["max"] == pytest.approx(result.lr[-1], rel=5e-3)
    reader.check()


def test_a_finger_drags_too(read: Any, one: Reader) -> None:
    reader = read(one.file, viewport=PHONE, has_touch=True, is_mobile=True)
    before = reader.plan()
    box = reader.locator("#handle-base").bounding_box()
    assert box["width"] >= 44
    x, y = box["x"] + box["width"] / 2, box["y"] + 60
    session = reader.context.new_cdp_session(reader.page)
    for kind, at in (("touchStart", x), ("touchMove", x - 30), ("touchMove", x - 60), ("touchEnd", None)):
        points = [] if at is None else [{"x": at, "y": y}]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert reader.plan()["base"] < before["base"] / 3
    reader.check()


def test_keys_move_a_bound_and_it_says_where_it_is(read: Any, one: Reader, result: cyclr.RangeTestResult) -> None:
    reader = one
    handle = reader.locator("#handle-base")
    handle.focus()
    before = reader.plan()["base"]
    for key, moved in (("ArrowRight", 1), ("ArrowUp", 1), ("PageUp", 1), ("ArrowLeft", -1), ("PageDown", -1)):
        reader.keyboard.press(key)
        now = reader.plan()["base"]
        assert math.copysign(1, now - before) == moved
        assert now != before
        assert float(handle.get_attribute("aria-valuenow")) == now
        said = handle.get_attribute("aria-valuetext")
        assert said.startswith(f"{now}, where the smoothed loss is ")
        before = now
    reader.keyboard.press("Home")
    assert reader.plan()["base"] == pytest.approx(result.lr[0], rel=5e-3)
    reader.keyboard.press("End")
    assert reader.plan()["max"] / 1.05 < reader.plan()["base"] < reader.plan()["max"]
    assert built(reader.code()).base_lr == reader.plan()["base"]
    reader.check()


def test_arrows_in_a_field_go_as_far_as_those_of_its_handle(read: Any, one: Reader) -> None:
    reader = one
    for name in ("base", "max"):
        field = reader.locator(f"#{name}-lr")
        field.focus()
        before = reader.plan()[name]
        for key, low, high in (("ArrowUp", 1, 1.2), ("ArrowDown", 1 / 1.2, 1)):
            reader.keyboard.press(key)
            now = reader.plan()[name]
            assert low < now / before < high
            assert field.input_value() == f"{now}"
            before = now
    # What was typed counts first, and what is no bound is not moved from.
    field.fill("0.5")
    reader.keyboard.press("ArrowUp")
    assert 0.5 < reader.plan()["max"] < 0.6
    field.fill("-1")
    reader.keyboard.press("ArrowUp")
    assert field.input_value() == "-1"
    assert 0.5 < reader.plan()["max"] < 0.6
    reader.check()


def test_a_bound_typed_beyond_the_axis_is_within_its_limits(read: Any, one: Reader) -> None:
    reader = one
    for name, value in (("max", 100), ("base", 1e-7)):
        field, handle = reader.locator(f"#{name}-lr"), reader.locator(f"#handle-{name}")
        field.fill(str(value))
        field.press("Enter")
        values = [handle.get_attribute(f"aria-value{which}") for which in ("min", "now", "max")]
        assert all(re.fullmatch(r"[\d.]+", value) for value in values)
        low, now, high = map(float, values)
        assert low <= now == value <= high
        # From there it moves in small steps too.
        handle.focus()
        reader.keyboard.press("ArrowLeft" if name == "max" else "ArrowRight")
        assert 1 < max(reader.plan()[name] / value, value / reader.plan()[name]) < 1.2
    reader.check()


def test_every_control_is_reached_by_tab_and_has_a_name(read: Any, whole: Reader) -> None:
    reader = whole
    reached: list[dict[str, str]] = []
    for _ in range(60):
        reader.keyboard.press("Tab")
        reached.append(
            reader.evaluate(
                """() => {
                    const at = document.activeElement;
                    const name = at.getAttribute("aria-label") || at.labels?.[0]?.textContent || at.textContent;
                    return { id: at.id, tag: at.tagName, name: name.trim() };
                }"""
            )
        )
        if reached[-1]["tag"] == "BODY":
            break
    ids = [one["id"] for one in reached if one["id"]]
    wanted = (
        "theme test handle-base handle-max ran base-lr max-lr shape rise decay cycles epochs batches total reset "
        "tab-keras copy series-0"
    )
    assert [name for name in ids if name in wanted.split()] == wanted.split()
    assert all(one["name"] for one in reached if one["tag"] != "BODY")
    assert reached[0]["name"] == "Skip to the verdict"


def test_what_is_hidden_from_the_eye_has_a_name_for_the_ear(read: Any, whole: Reader) -> None:
    reader = whole
    for role, name in (
        ("slider", "base_lr, the lower bound"),
        ("slider", "max_lr, the upper bound"),
        ("combobox", "Shape"),
        ("spinbutton", "Cycles"),
        ("tab", "PyTorch"),
        ("heading", "Verdict"),
        ("table", ""),
        ("row", "triangular2"),
    ):
        assert reader.page.get_by_role(role, name=name).count() >= 1, (role, name)
    assert "Loss against learning rate" in reader.locator("#range-chart").get_attribute("aria-label")
    levels = reader.evaluate("[...document.querySelectorAll('h1, h2, h3')].map((h) => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))
    doubled = reader.evaluate(
        "(ids => ids.filter((id, i) => ids.indexOf(id) !== i))([...document.querySelectorAll('[id]')].map((e) => e.id))"
    )
    assert doubled == []


CONTRAST = """
() => {
    const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    const luminance = (text) => {
        const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map((c) => linear(Number(c) / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (at) => {
        for (let e = at; e; e = e.parentElement) {
            const colour = getComputedStyle(e).backgroundColor;
            if (!/^rgba.*, 0\\)$|\\/ 0\\)$/.test(colour) && colour.startsWith("rgb")) return colour;
        }
        return "rgb(255, 255, 255)";
    };
    const texts = "p, h1, h2, h3, td, th, dt, dd, button, label, figcaption, code, li, b.status, .tag";
    return [...document.querySelectorAll(texts)]
        .filter((e) => e.checkVisibility() && e.textContent.trim())
        .map((e) => {
            const [a, b] = [luminance(getComputedStyle(e).color), luminance(ground(e))].sort((x, y) => y - x);
            return [(a + 0.05) / (b + 0.05), e.tagName, e.className, e.textContent.slice(0, 20)];
        });
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_both_themes(read: Any, whole: Reader, scheme: str) -> None:
    reader = whole
    reader.page.emulate_media(color_scheme=scheme)
    found = reader.evaluate(CONTRAST)
    assert len(found) > 60
    assert [one for one in found if one[0] < 4.5] == []
    light = reader.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0] > 128")
    assert light is (scheme == "light")


def test_the_theme_can_be_changed_and_the_charts_follow(read: Any, one: Reader) -> None:
    reader = one
    ink = "document.getElementById('range-chart').layout.font.color"
    before = reader.evaluate(ink)
    reader.page.get_by_role("button", name="Switch to dark", exact=True).click()
    dark = reader.evaluate(ink)
    assert dark != before
    reader.page.emulate_media(color_scheme="dark")
    reader.page.get_by_role("button", name="Switch to light", exact=True).click()
    assert reader.evaluate(ink) == before
    reader.check()


PLANS = [
    {"base": base, "max": top, "shape": shape, "rise": rise, "decay": decay, "cycles": cycles, "total": total}
    for shape in ("triangular", "parabolic", "sinusoidal")
    for decay in ("none", "halving", "exponential", "both")
    for base, top, cycles, total, rise in (
        (0.001, 0.1, 1, 3, 30),
        (0.001, 0.1, 3, 100, 50),
        (1e-7, 2.5, 7, 1000, 29),
        (0.02, 0.021, 60, 9999, 99),
        (3e-5, 3.0, 5, 10**9, 1),
        (0.01, 0.1, 1, 101, 57),
    )
]


def test_the_numbers_of_the_page_are_those_of_cyclr(read: Any, one: Reader) -> None:
    reader = one
    random = np.random.default_rng(0)
    for plan in PLANS:
        steps = np.unique(np.concatenate([random.integers(0, plan["total"], 300), [0, 1, plan["total"] - 1]]))
        made, page = reader.evaluate(
            """([plan, steps]) => [
                cyclr.code("@schedule@", plan, ""),
                steps.map((step) => cyclr.scheduled(plan, step)).map(({ value, low, high }) => [value, low, high]),
            ]""",
            [plan, steps.tolist()],
        )
        schedule = built(made)
        low, high = schedule.envelope(steps)
        # Other shapes than the triangle are drawn from a thousand heights.
        room = 0 if plan["shape"] == "triangular" else 2e-6 * (high - low)
        page = np.array(page)
        np.testing.assert_allclose(page[:, 1:], np.stack([low, high], axis=1), rtol=1e-12, atol=0, err_msg=str(plan))
        assert np.all(np.abs(page[:, 0] - schedule(steps)) <= room + 1e-12 * schedule(steps)), plan
        assert page[0][0] == schedule(0)


def test_a_shape_that_is_registered_is_chosen_drawn_and_in_the_code(
    read: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result: cyclr.RangeTestResult
) -> None:
    monkeypatch.setitem(SHAPES, "quarter_sine", lambda xp, x: xp.sin(x * (math.pi / 2)))
    result.to_html(tmp_path / "page.html")
    reader = read(tmp_path / "page.html")
    assert reader.page.locator("#shape option").all_text_contents() == list(SHAPES)
    assert reader.input_value("#shape") == "parabolic"
    reader.page.get_by_label("Shape").select_option("quarter_sine")
    schedule, shown = built(reader.code()), reader.drawn()
    assert schedule.shape == "quarter_sine"
    np.testing.assert_allclose(shown["y"], schedule(np.array(shown["x"])), rtol=0, atol=2e-6 * schedule.max_lr)
    reader.check()


def test_every_control_changes_what_is_drawn_and_the_code_alike(read: Any, one: Reader) -> None:
    reader = one
    reader.page.get_by_label("Shape").select_option("sinusoidal")
    reader.page.get_by_label("Rise").fill("40")
    reader.page.get_by_label("Decay").select_option("halving")
    reader.page.get_by_label("Cycles").fill("3")
    reader.page.get_by_label("Training steps").fill("301")
    reader.page.get_by_label("base_lr", exact=True).fill("0.0123")
    reader.page.get_by_label("base_lr", exact=True).press("Enter")
    schedule = built(reader.code("optax"))
    assert schedule == cyclr.Cyclical.over(
        301, 3, 0.0123, reader.plan()["max"], rise=0.4, shape="sinusoidal", decay=cyclr.Halving()
    )
    shown = reader.drawn()
    assert shown["x"] == list(range(301))
    np.testing.assert_allclose(shown["y"], schedule(np.arange(301)), rtol=0, atol=2e-6 * schedule.max_lr)
    assert "3 cycles of 100 steps" in reader.locator("#summary").text_content()
    reader.check()


def test_a_long_schedule_is_drawn_with_all_its_peaks(read: Any, one: Reader) -> None:
    reader = one
    reader.page.get_by_label("Training steps").fill("1000003")
    reader.page.get_by_label("Cycles").fill("700")
    shown = reader.drawn()
    assert sum(value == reader.plan()["max"] for value in shown["y"]) == 700
    assert len(shown["x"]) < 4000


@pytest.mark.parametrize(
    ("control", "values"),
    [
        ("base_lr", ["0.5", "0", "-1", ""]),
        ("max_lr", ["0.0001", "0", "-1", ""]),
        ("Rise", ["0", "100", "30.5", "150", ""]),
        ("Cycles", ["0", "-1", "1.5", "", "500", "5000"]),
        ("Epochs", ["0", "-3"]),
        ("Batches per epoch", ["0", "1.5"]),
        ("Training steps", ["2", "0", "1.5", "2000000000", ""]),
    ],
)
def test_a_field_says_what_is_wrong_and_what_is_legal(one: Reader, control: str, values: list[str]) -> None:
    reader = one
    field = reader.page.get_by_label(control, exact=control.endswith("_lr"))
    before, shown, legal = reader.plan(), reader.code(), field.input_value()
    for value in values:
        field.fill(value)
        field.press("Enter")
        # The value stays to be corrected, and nobody takes the code for that of this value.
        assert field.input_value() == value
        assert (reader.plan(), reader.code()) == (before, shown)
        assert field.get_attribute("aria-invalid") == "true"
        said = reader.locator(f"#{field.get_attribute('aria-describedby')}")
        assert re.fullmatch(rf"This must be [^.]*.*; got {re.escape(value or 'nothing')}\.", said.text_content())
        assert said.is_visible()
        assert (
            reader.locator("#stale")
            .text_content()
            .endswith(f"Correct first: {field.evaluate('e => e.labels[0].textContent')}.")
        )
    assert reader.page.locator("[aria-invalid]").count() == 1
    field.fill(legal)
    field.press("Enter")
    assert reader.page.locator("[aria-invalid], .wrong:visible").count() == 0
    assert reader.plan() == before
    reader.check()


def test_two_bounds_can_be_typed_in_any_order(one: Reader) -> None:
    base, top = (one.page.get_by_label(name, exact=True) for name in ("base_lr", "max_lr"))
    base.fill("2")
    base.press("Enter")
    assert "below max_lr, 0.244; got 2." in one.locator("#base-lr-wrong").text_content()
    top.fill("7.25")
    top.press("Enter")
    assert (one.plan()["base"], one.plan()["max"]) == (2, 7.25)
    assert one.page.locator("[aria-invalid], .wrong:visible").count() == 0
    # A bound that is dragged replaces what was typed.
    top.fill("1")
    top.press("Enter")
    assert "above base_lr, 2; got 1." in one.locator("#max-lr-wrong").text_content()
    one.locator("#handle-base").focus()
    one.keyboard.press("ArrowLeft")
    assert float(top.input_value()) == 7.25
    assert one.page.locator("[aria-invalid], .wrong:visible").count() == 0


def test_a_length_is_given_in_epochs_too(one: Reader, whole: Reader) -> None:
    assert one.locator("#example").is_visible()
    epochs, batches, total = (one.page.get_by_label(name) for name in ("Epochs", "Batches per epoch", "Training steps"))
    epochs.fill("5")
    assert one.plan()["total"] == 1000
    batches.fill("313")
    assert (one.plan()["total"], total.input_value()) == (1565, "1565")
    assert built(one.code()).total_steps == 1565
    epochs.fill("2.5")
    assert one.plan()["total"] == 783
    total.fill("626")
    assert epochs.input_value() == "2"
    # The lengths of a run are those that it recorded.
    whole.locator("#ran").select_option("")
    fields = [whole.page.get_by_label(name).input_value() for name in ("Epochs", "Batches per epoch", "Training steps")]
    assert fields == ["6", "28", "168"]
    assert not whole.locator("#example").is_visible()


OPTIMIZERS = ["SGD(momentum=0.9, nesterov=True)", "Adam", "AdamW", "rmsprop", "adagrad", "Lion(0.1)", None]


def pasted(reader: Reader, framework: str, name: str | None) -> str:
    """The code that the page shows where the range test ran with an optimizer of this name."""
    reader.evaluate(
        "(one) => { cyclr.bounds.test = { ...cyclr.bounds.test, code: one }; cyclr.shown.tell(); }",
        code.templates(name),
    )
    return reader.code(framework)


def test_the_code_for_keras_runs(one: Reader) -> None:
    if not (find_spec("keras") and find_spec("torch")):
        pytest.skip("Keras or torch is not installed")
    # In a process of its own, so that no test of this folder waits for TensorFlow.
    program = """
import json, sys
import keras
for code in json.load(sys.stdin):
    exec(code, found := {})
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(found["optimizer"], loss="mse")
    print(json.dumps([type(found["optimizer"]).__name__.lower(), float(found["optimizer"].learning_rate)]))
"""
    codes = json.dumps([pasted(one, "keras", name) for name in OPTIMIZERS])
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    run = subprocess.run([sys.executable, "-c", program], input=codes, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found = [json.loads(line) for line in run.stdout.splitlines()]
    kinds = [(name or "").partition("(")[0].lower() for name in OPTIMIZERS]
    assert [kind for kind, _ in found] == [kind if kind in code.NAMES else "sgd" for kind in kinds]
    assert [rate for _, rate in found] == pytest.approx([one.plan()["base"]] * len(OPTIMIZERS))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_code_for_torch_runs(one: Reader, name: str | None) -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(2, 1)
    found: dict[str, Any] = {"model": model}
    exec(pasted(one, "torch", name), found)  # noqa: S102 - that is what the code is for
    optimizer, rates = found["optimizer"], []
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        found["scheduler"].step()
    assert rates == [found["schedule"](step) for step in range(4)]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_code_for_optax_runs(one: Reader, name: str | None) -> None:
    pytest.importorskip("optax")
    found: dict[str, Any] = {}
    exec(pasted(one, "optax", name), found)  # noqa: S102 - that is what the code is for
    weights = np.ones(2)
    updates, _ = found["optimizer"].update(weights, found["optimizer"].init(weights), weights)
    assert np.all(np.asarray(updates) < 0)


OWN = {
    "torch": "import torch\nmodel = torch.nn.Linear(2, 1)\n",
    "optax": "import jax\nstate = {'weights': jax.numpy.ones(2)}\n",
}


@pytest.mark.parametrize("schedule", ["None", "cyclr.Cyclical.over(200, 1, 0.01, 0.1)"])
@pytest.mark.parametrize(("framework", "module"), [("torch", "torch"), ("optax", "optax")])
def test_the_code_of_autocycle_runs(framework: str, module: str, schedule: str) -> None:
    pytest.importorskip(module)
    parts = {"schedule": f"schedule = {schedule}", "total": "200"}
    text = code.filled(code.templates("torch.optim.SGD(momentum=0.9)", auto=True)[framework], parts)
    found: dict[str, Any] = {}
    exec(OWN[framework] + text, found)  # noqa: S102 - that is what the code is for
    assert found["auto"].lr > 0


@pytest.mark.parametrize("framework", ["keras", "torch", "optax"])
def test_the_copied_code_is_the_code_shown(read: Any, whole: Reader, framework: str) -> None:
    reader = whole
    reader.locator(f"#tab-{framework}").click()
    assert reader.locator(f"#panel-{framework}").is_visible()
    assert reader.page.locator("[role=tabpanel]:visible").count() == 1
    reader.locator("#copy").click()
    reader.page.get_by_role("button", name="Copied").wait_for()
    assert reader.evaluate("navigator.clipboard.readText()") == reader.code(framework)
    assert "clipboard" in reader.locator("#said").text_content()
    reader.check()


def test_without_a_clipboard_the_code_is_copied_the_old_way(read: Any, whole: Reader) -> None:
    reader = whole
    reader.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('not allowed')); }")
    reader.locator("#copy").click()
    reader.page.get_by_role("button", name="Copied").wait_for()
    reader.evaluate("() => { delete navigator.clipboard.writeText; }")
    assert reader.evaluate("navigator.clipboard.readText()").strip() == reader.code("keras").strip()


def test_the_tabs_are_moved_through_by_arrows(read: Any, one: Reader) -> None:
    reader = one
    reader.locator("#tab-keras").focus()
    for key, chosen in (("ArrowRight", "torch"), ("End", "optax"), ("ArrowRight", "keras"), ("ArrowLeft", "optax")):
        reader.keyboard.press(key)
        assert reader.evaluate("document.activeElement.id") == f"tab-{chosen}"
        assert reader.locator(f"#panel-{chosen}").is_visible()
        assert reader.page.locator("[role=tab][aria-selected=true]").get_attribute("id") == f"tab-{chosen}"


def test_the_training_curves_are_the_means_of_the_records(
    read: Any, whole: Reader, records: list[dict[str, Any]]
) -> None:
    reader = whole
    traces = reader.evaluate(
        "document.getElementById('training-chart-0').data.map(({name, x, y, fill}) => ({name, x, y, fill}))"
    )
    lines = {trace["name"]: trace for trace in traces if trace.get("name")}
    assert len(lines) == 5
    assert len([trace for trace in traces if trace.get("fill") == "toself"]) == 5
    values = [record["epochs"]["val_accuracy"] for record in records if record["policy"] == "triangular"]
    np.testing.assert_allclose(lines["triangular"]["y"], np.mean(values, axis=0), rtol=1e-5)
    chart = reader.locator("#training-chart-0")
    assert chart.get_attribute("aria-label").startswith("val_accuracy of each policy against steps; the table")
    reader.page.get_by_label("Show", exact=True).select_option("learning rate")
    # The name follows what is shown, and no rate is below 0.
    assert chart.get_attribute("aria-label") == "learning rate of each policy against steps."
    reader.drawn("training-chart-0")
    assert reader.evaluate("document.getElementById('training-chart-0')._fullLayout.yaxis.range[0]") == 0
    rates = next(r["steps"]["learning_rate"] for r in records if r["policy"] == "triangular")
    lines = reader.evaluate("document.getElementById('training-chart-0').data.map(({name, y}) => [name, y])")
    np.testing.assert_allclose(dict(lines)["triangular"], rates, rtol=1e-5)
    key = reader.page.get_by_role("button", name="fixed 0.003")
    key.click()
    assert key.get_attribute("aria-pressed") == "false"
    shown = reader.evaluate("document.getElementById('training-chart-0').data.map(({name}) => name)")
    assert "fixed 0.003" not in shown
    assert "triangular" in shown
    reader.check()


def test_the_events_of_autocycle_are_marked_and_listed(
    read: Any, tmp_path: Path, records: list[dict[str, Any]]
) -> None:
    plain = [record for record in records if record["policy"] == "fixed 0.01"]
    total = plain[0]["total_steps"]
    tested = next(record["range_test"] for record in records if record["range_test"])
    # A range test of 20 updates in the run, then a cycle whose top is lowered after step 61.
    rates = [0.1 * 1.2**step for step in range(20)] + [0.3] * 42 + [0.1] * (total - 62)
    lowered = {
        "step": 61,
        "what": "lowered",
        "why": "The mean loss rose & lost <40%> of what it had gained.",
        "lr": 0.3,
    }
    auto = []
    for record in plain:
        own = {"policy": "auto", "trial": f"auto-{record['seed']}", "lr": None, "range_test": tested}
        steps = {"learning_rate": rates, "loss": record["steps"]["loss"]}
        auto.append({**record, **own, "steps": steps, "events": [lowered] if record["seed"] < 2 else []})
    file = tmp_path / "report.html"
    file.write_text(render(run_page(write_run(tmp_path / "run", [*plain, *auto]))), encoding="utf-8")
    reader = read(file)
    chart = "document.getElementById('training-chart-0')"
    label = reader.locator("#training-chart-0").get_attribute("aria-label")
    assert label.endswith("the table below holds the numbers; the events are listed below.")

    # The mean over seeds has the events of all.
    (marks,) = reader.evaluate(f"{chart}.data.filter(({{yaxis}}) => yaxis === 'y2')")
    assert sorted(marks["x"]) == [19, 19, 19, 61, 61]
    said = reader.hover(0, 61)
    assert said.startswith("seed 0, step 61, learning rate 0.3: The mean loss rose & lost <40%> of what")
    assert "seed 1, step 61" in said
    assert "Marks above the axis, in the colour of the policy: ○ end of the range test, ▼ rate lowered." in (
        reader.locator("#training-0 figcaption").text_content()
    )

    # The learning rate is that of the first seed, and so are its events.
    reader.page.get_by_label("Show", exact=True).select_option("learning rate")
    reader.drawn("training-chart-0")
    traces = reader.evaluate(f"{chart}.data.map(({{name, x, y, yaxis}}) => ({{name, x, y, yaxis}}))")
    assert [trace["x"] for trace in traces if trace.get("yaxis") == "y2"] == [[19, 61]]
    np.testing.assert_allclose(next(trace["y"] for trace in traces if trace.get("name") == "auto"), rates, rtol=1e-5)
    assert len(reader.evaluate(f"{chart}.layout.shapes")) == 2
    reader.page.get_by_role("button", name="auto").click()
    reader.drawn("training-chart-0")
    assert (
        reader.evaluate(f"{chart}.data.filter(({{yaxis}}) => yaxis === 'y2').length + {chart}.layout.shapes.length")
        == 0
    )

    text = reader.page.locator("main").text_content()
    assert text.count("▼ step 61, learning rate 0.3: The mean loss rose & lost <40%> of what it had gained.") == 2
    assert text.count("○ step 19, learning rate 3.195: The range test ended. Train between") == 3
    for width in (320, 390):
        reader.page.set_viewport_size({"width": width, "height": 844})
        reader.drawn("training-chart-0")
        assert reader.evaluate("document.documentElement.scrollWidth") <= width
    reader.check()


def test_a_long_run_keeps_the_rates_around_its_events(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    rates = [0.1] * 2501 + [0.2] * 2500
    raised = {"step": 2500, "what": "raised", "why": "The loss fell as fast as ever.", "lr": 0.1}
    record = {**records[0], "policy": "auto", "lr": None, "events": [raised], "total_steps": 5001}
    run = write_run(tmp_path / "run", [{**record, "steps": {"learning_rate": rates, "loss": rates}}])
    series = run_page(run).groups[0].series[-1]
    (curve,) = series["curves"]
    assert series["name"] == "learning rate"
    assert len(curve["step"]) < 1100
    assert {2500: 0.1, 2501: 0.2}.items() <= dict(zip(curve["step"], curve["mean"].tolist(), strict=True)).items()


def fallen(policy: str, values: list[float], direction: str, record: dict[str, Any]) -> dict[str, Any]:
    steps, turned = [10 * (n + 1) for n in range(len(values))], values[::-1]
    epochs = {"step": steps, "val_top": values, "val_loss": turned, "val_mae": turned, "val_power": turned}
    named = {"trial": policy, "policy": policy, "metric": "val_top", "direction": direction}
    lr = 0.1 if policy.startswith("fixed") else None
    return {**record, **named, "epochs": epochs, "steps": {}, "schedule": None, "range_test": None, "lr": lr}


@pytest.mark.parametrize("direction", ["max", "min"])
def test_the_close_look_keeps_the_best_values_and_the_target(
    read: Any, tmp_path: Path, records: list[dict[str, Any]], direction: str
) -> None:
    sign = 1 if direction == "max" else -1
    # The fixed rate is best in the middle, the other one in its last epoch; the first epochs of both are bad.
    fixed = [sign * value for value in (0.1, 0.2, 0.9, *[0.5] * 7)]
    moving = [sign * value for value in (0.1, 0.2, *[0.5] * 6, 0.7, 0.85)]
    trials = [fallen(name, values, direction, records[0]) for name, values in (("fixed", fixed), ("moving", moving))]
    file = tmp_path / "report.html"
    file.write_text(render(run_page(write_run(tmp_path / "run", trials))), encoding="utf-8")
    reader = read(file)
    limits = "document.getElementById('training-chart-0').layout.yaxis.range"
    low, high = sorted(sign * value for value in reader.evaluate(limits))
    assert 0.12 < low < 0.5
    lines = "document.getElementById('training-chart-0').layout.shapes.map(({y0}) => y0)"
    assert reader.evaluate(lines) == [sign * 0.9]
    assert "dashed grey line is the best of the baseline" in reader.locator("figcaption.soft").text_content()
    assert high > 0.9
    # With the fixed rate hidden, what is to be reached stays in the picture.
    reader.page.get_by_role("button", name="fixed").click()
    low, high = sorted(sign * value for value in reader.evaluate(limits))
    assert low < 0.9 < high
    reader.page.get_by_label("from the first epoch").click()
    assert min(sign * value for value in reader.evaluate(limits)) < 0.1
    reader.page.get_by_label("from the first epoch").click()
    # A loss is to fall, whatever the metric does: its best values are the lowest.
    # An error is too; of what nobody knows, nothing is cut off.
    for name, cut in (("val_loss", True), ("val_mae", True), ("val_power", False)):
        reader.page.get_by_label("Show", exact=True).select_option(name)
        low, high = reader.evaluate(limits)
        assert low < min(moving)
        assert (high < max(moving)) == cut
    reader.check()


def test_another_range_test_can_be_chosen(read: Any, whole: Reader, records: list[dict[str, Any]]) -> None:
    reader = whole
    reader.locator("#test").select_option(index=2)
    chosen = cyclr.RangeTestResult.from_dict(
        next(r for r in records if r["seed"] == 2 and r["range_test"])["range_test"]
    )
    assert reader.plan()["base"] == pytest.approx(chosen.bounds.base_lr, rel=5e-3)
    assert f"{chosen.picture().verdict} {chosen.bounds.details}" in reader.locator("#reason").text_content()
    assert reader.evaluate(CURVE)["x"] == chosen.lr.tolist()
    assert "seed 2" in reader.locator("#test option:checked").text_content()


def test_the_code_shown_first_is_that_of_the_policy_that_did_best(
    read: Any, whole: Reader, records: list[dict[str, Any]]
) -> None:
    reader = read(whole.file)
    assert reader.locator("#verdict .first").text_content().startswith("triangular is ")
    assert reader.locator("#ran option:checked").text_content() == "triangular"
    assert not reader.locator("#controls").is_visible()
    for policy in ("triangular", "triangular2", "fixed 0.003"):
        reader.locator("#ran").select_option(label=policy)
        ran = next(record for record in records if (record["policy"], record["seed"]) == (policy, 0))
        rates = np.array(ran["steps"]["learning_rate"])
        shown = reader.drawn()
        np.testing.assert_allclose(np.interp(np.arange(len(rates)), shown["x"], shown["y"]), rates, rtol=1e-3)
        if ran["schedule"] is not None:
            made = built(reader.code())
            np.testing.assert_allclose(made(np.arange(len(rates))), rates, rtol=1e-3)
        assert "As it ran in seed 0: 168 steps (6 epochs of 28)" in reader.locator("#summary").text_content()
    # A bound that is moved makes it a cycle of the reader's own, which can be left again.
    reader.locator("#handle-max").focus()
    reader.keyboard.press("ArrowLeft")
    assert reader.locator("#ran option:checked").text_content() == "a cycle of your own"
    assert reader.locator("#controls").is_visible()
    assert built(reader.code()).max_lr == reader.plan()["max"]
    assert built(reader.code()).total_steps == 168
    reader.locator("#ran").select_option("0")
    assert built(reader.code()).cycles == 2
    reader.check()


@pytest.fixture(scope="module")
def crowd(browser: Any, tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, Any]]) -> Iterator[Reader]:
    """A page with thirteen policies with long names, of three lengths, whose curves end close together."""
    plain, trials = [record for record in records if record["policy"] == "fixed 0.01"], []
    for number in range(13):
        for record in plain:
            kept = (6, 3, 4)[number % 3]
            epochs = {name: values[:kept] for name, values in record["epochs"].items()}
            epochs["val_accuracy"] = [value - 0.002 * number for value in epochs["val_accuracy"]]
            name = f"policy {number}, with a name of some length"
            own = {"policy": name, "trial": f"{name}/{record['seed']}", "optimizer_call": "torch.optim.Adam"}
            trials.append({**record, **own, "epochs": epochs})
    file = tmp_path_factory.mktemp("crowd") / "report.html"
    file.write_text(render(run_page(write_run(file.parent / "run", trials))), encoding="utf-8")
    reader = Reader(browser, file)
    yield reader
    reader.context.close()


def overlaps(boxes: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The pairs of boxes that share more than a pixel."""
    return [
        (one["text"], other["text"])
        for one, other in itertools.combinations(boxes, 2)
        if min(one["right"], other["right"]) - max(one["left"], other["left"]) > 1
        and min(one["bottom"], other["bottom"]) - max(one["top"], other["top"]) > 1
    ]


LABELS = """(chart) => {
    const texts = [".xtick text", ".ytick text", ".xtitle", ".ytitle", ".annotation-text"];
    const box = (e) => ({ ...e.getBoundingClientRect().toJSON(), text: e.textContent });
    return [...document.querySelectorAll(texts.map((one) => `${chart} ${one}`).join(", "))].map(box);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 768, 1280, 1920])
def test_no_label_of_a_training_chart_covers_another(crowd: Reader, width: int, scheme: str) -> None:
    crowd.page.emulate_media(color_scheme=scheme)
    crowd.page.set_viewport_size({"width": width, "height": 844})
    for series in ("val_accuracy", "learning rate"):
        crowd.page.get_by_label("Show", exact=True).select_option(series)
        crowd.drawn("training-chart-0")
        boxes = crowd.evaluate(LABELS, "#training-chart-0")
        names = [
            box["text"] for box in boxes if re.fullmatch(r"\d+( policy.*)?", box["text"]) and box["left"] > width / 2
        ]
        assert len(names) >= 13
        assert overlaps(boxes) == []
        assert all(box["left"] >= 0 and box["right"] <= width for box in boxes)
    assert crowd.evaluate("document.documentElement.scrollWidth") <= width
    crowd.check()


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_shows_verdict_and_steps_first_and_all_cells(whole: Reader, crowd: Reader, width: int) -> None:
    for reader in (whole, crowd):
        reader.page.set_viewport_size({"width": width, "height": 844})
        reader.evaluate("scrollTo(0, 0)")
        assert reader.locator("#verdict .first").bounding_box()["y"] < 300
        steps = reader.locator("#verdict li").filter(has_text=" steps")
        if reader is whole:
            assert steps.first.is_visible()
            assert steps.first.bounding_box()["y"] + steps.first.bounding_box()["height"] < 844
        hidden = reader.evaluate(
            """(width) => [...document.querySelectorAll("tbody :is(td, th)")]
                .filter((cell) => cell.getBoundingClientRect().right > width || cell.getBoundingClientRect().left < 0)
                .map((cell) => cell.textContent)""",
            width,
        )
        assert hidden == []
        # Rows that are drawn as blocks are a table to a screen reader all the same.
        assert reader.page.get_by_role("table").count() == 1
        assert reader.page.get_by_role("cell").count() == reader.page.locator("td").count() > 0
        named = reader.locator("tbody td").first.evaluate("(cell) => getComputedStyle(cell, '::before').content")
        assert named == '"verdict"'


def test_without_a_range_test_the_code_is_there_too(crowd: Reader) -> None:
    assert crowd.page.locator("#controls, #handles").count() == 0
    assert crowd.locator("#tab-torch").get_attribute("aria-selected") == "true"
    assert crowd.code("torch") == "# The schedule is not recorded.\n"


@pytest.mark.parametrize("kind", ["one", "whole"])
@pytest.mark.parametrize("width", [320, 390, 768, 1280, 1920])
def test_no_page_scrolls_sideways(request: pytest.FixtureRequest, kind: str, width: int) -> None:
    reader = request.getfixturevalue(kind)
    reader.page.set_viewport_size({"width": width, "height": 844})
    reader.drawn()
    assert reader.evaluate("document.documentElement.scrollWidth") <= width
    beyond = reader.evaluate(
        """(width) => [...document.querySelectorAll("main *, header *")]
            .filter((e) => !e.closest(".scroll, pre, .js-plotly-plot, .unseen") && e.checkVisibility())
            .filter((e) => e.getBoundingClientRect().right > width + 0.5 || e.getBoundingClientRect().left < -0.5)
            .map((e) => e.outerHTML.slice(0, 80))""",
        width,
    )
    assert beyond == []


BOXES = """
() => {
    const texts = [".xtick text", ".ytick text", ".xtitle", ".ytitle"].map((part) => `#range-chart ${part}`);
    const all = document.querySelectorAll([...texts, ".tag", "#legend li", "figcaption"].join(", "));
    const box = (e) => {
        const { left, right, top, bottom } = e.getBoundingClientRect();
        return { left, right, top, bottom, text: e.textContent };
    };
    return { plot: box(document.getElementById("handles")), texts: [...all].map(box) };
}
"""


def check_boxes(reader: Reader, width: int) -> None:
    """No text around the range test covers the plot or another text, and none is beyond the page."""
    reader.drawn()
    found = reader.evaluate(BOXES)

    def apart(one: dict[str, Any], other: dict[str, Any]) -> bool:
        beside = one["right"] <= other["left"] + 1 or other["right"] <= one["left"] + 1
        return beside or one["bottom"] <= other["top"] + 1 or other["bottom"] <= one["top"] + 1

    assert {"base_lr", "max_lr"} <= {one["text"].split()[0] for one in found["texts"]}
    for one, other in itertools.combinations(found["texts"], 2):
        assert apart(one, other), (width, one, other)
    for one in found["texts"]:
        assert apart(one, found["plot"]), (width, one, found["plot"])
        assert one["left"] >= 0
        assert one["right"] <= width


WIDTHS = [320, 390, 768, 1280, 1920]


@pytest.mark.parametrize("width", WIDTHS)
def test_the_names_of_the_bounds_cover_nothing(one: Reader, width: int) -> None:
    one.page.set_viewport_size({"width": width, "height": 844})
    for low, high in ((1e-4, 2e-4), (0.0123, 0.0234), (0.0123, 1.23), (1e-4, 10), (5, 10)):
        one.evaluate("([base, max]) => cyclr.bounds.change({ base, max })", [low, high])
        check_boxes(one, width)


def test_no_text_covers_a_curve_of_the_gallery(read: Any, tmp_path: Path) -> None:
    tests = []
    for name, result in gallery.results().items():
        picture = result.picture()
        interval = None if picture.bounds is None else (picture.bounds[1] / 1.4, picture.bounds[1] * 1.4)
        tests.append(PageTest(name, dataclasses.replace(picture, interval=interval)))
    page = range_test_page(tests[0].picture, curves(), {})
    (tmp_path / "gallery.html").write_text(render(dataclasses.replace(page, tests=tests)), encoding="utf-8")
    reader = read(tmp_path / "gallery.html")
    for width in WIDTHS:
        reader.page.set_viewport_size({"width": width, "height": 844})
        for number, test in enumerate(tests):
            reader.locator("#test").select_option(index=number)
            check_boxes(reader, width)
            entries = [entry.text_content() for entry in reader.page.locator("#legend li").all()]
            assert entries == [glyph + words for glyph, _, words in test.picture.legend]
            names = reader.evaluate("document.getElementById('range-chart').data.map(({name}) => name)")
            assert sorted(names) == sorted(words for _, _, words in test.picture.legend)
    reader.check()


def test_on_paper_it_is_light_with_the_handles_on_the_curve(read: Any, whole: Reader, tmp_path: Path) -> None:
    reader = whole
    reader.page.emulate_media(color_scheme="dark")
    reader.evaluate(
        """() => addEventListener("beforeprint", () => {
            const chart = document.getElementById("range-chart");
            globalThis.printed = {
                chart: chart.querySelector(".main-svg").getBoundingClientRect().width,
                scheme: getComputedStyle(document.documentElement).colorScheme,
                panels: 0,
                folded: document.querySelectorAll("details:not([open])").length,
            };
        })"""
    )
    reader.page.pdf(path=tmp_path / "page.pdf", format="A4")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    assert reader.evaluate("printed") == {"chart": 640, "scheme": "light", "panels": 0, "folded": 0}
    # Afterwards everything is as it was.
    assert reader.page.locator("details").count() == reader.page.locator("details:not([open])").count() > 0
    assert reader.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light dark"
    assert reader.evaluate("document.querySelector('#range-chart .main-svg').getBoundingClientRect().width") > 900
    reader.page.emulate_media(media="print")
    assert reader.page.locator("pre:visible").count() == 3
    assert not reader.locator("#controls").is_visible()
    # Browsers print no backgrounds unless told to, and the bounds are backgrounds: a white stripe in the curve instead.
    for mark in ("#handle-base", "#handle-max", "#band"):
        assert reader.locator(mark).evaluate("(mark) => getComputedStyle(mark).printColorAdjust") == "exact"
    assert reader.locator("#test-name").is_visible()
    assert reader.locator("#test-name").text_content() == reader.locator("#test option:checked").text_content()
    reader.check()


def test_without_scripts_the_verdict_the_curve_and_the_table_are_there(
    read: Any, browser: Any, whole: Reader, result: cyclr.RangeTestResult
) -> None:
    context = browser.new_context(java_script_enabled=False)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(whole.file.as_uri())
    assert page.locator("#verdict .first").is_visible()
    assert result.bounds.details in page.locator("#range-chart > svg").get_attribute("aria-label")
    assert page.locator("tbody tr").count() == 5
    assert not page.locator("#controls").is_visible()
    context.close()


HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "{{7*7}}{% raw %}",
    "\"'><svg onload=alert(1)>",
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "\u2028\u2029&lt;b&gt;&amp;",
    "<a href='https://example.com'>click</a><b>bold</b>",
    "%{x} $x^2$",
    "\ud800 \u202e evil",
    "@schedule@ ${alert(1)} `alert(1)`",
]


def hostile(record: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The records and the description of a run in which every text is hostile."""
    changed = []
    for number, name in enumerate(HOSTILE):
        epochs = {name if key == "val_accuracy" else key: values for key, values in record["epochs"].items()}
        text = {"trial": f"{number}", "policy": name, "workload": name, "optimizer": name, "metric": name}
        text["events"] = [{"step": 0, "what": "lowered", "why": name, "lr": 0.1}]
        changed.append({**record, **text, "epochs": epochs})
        changed.append({**changed[-1], "trial": f"{number} failed", "status": "failed", "error": name, "seed": 9})
    more = {name: name for name in HOSTILE}
    return changed, {**ABOUT, "spec": more, "command": HOSTILE, "versions": more, "created": HOSTILE[0]}


def test_nothing_from_a_hostile_name_runs(read: Any, tmp_path: Path, records: list[dict[str, Any]]) -> None:
    tested = next(record for record in records if record["range_test"])
    # No file system takes a slash in a name, or a lone surrogate.
    run = write_run(tmp_path / HOSTILE[0], *hostile(tested))
    file = tmp_path / "report.html"
    file.write_text(render(run_page(run)), encoding="utf-8")
    reader = read(file)
    reader.locator("#ran").select_option("")
    reader.locator("#shape").select_option("parabolic")
    reader.drag("#handle-base", -50)
    for chart in reader.page.locator("#range-chart, .training .chart").all():
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        reader.page.mouse.move(box["x"] + box["width"] - 20, box["y"] + 60, steps=3)
    for closed in reader.page.locator("summary").all():
        closed.click()
    # The names are there to be read, as they are, and have become no elements.
    shown = [re.sub("[\ud800\u202e]", "\ufffd", name) for name in HOSTILE]
    assert reader.locator("h1").text_content() == HOSTILE[0]
    for name in shown:
        assert reader.page.get_by_text(f"▼ step 0, learning rate 0.1: {name}", exact=True).count() > 0
    assert [reader.hover(index, 0) for index in range(len(shown))] == [
        " ".join(f"seed {tested['seed']}, step 0, learning rate 0.1: {name}".split()) for name in shown
    ]
    for place in (".key bdi", "tbody th", ".choices select option:first-child", "dd code + dd, details dt > bdi"):
        found = reader.page.locator(place).all_text_contents()
        assert {text.strip() for text in found} >= {text.strip() for text in shown}, place
    for index, name in enumerate(shown):
        assert reader.locator(f"#training-{index} .ytitle").text_content().split() == name.split()
    assert reader.page.locator("main :is(img, iframe, object, embed, script)").count() == 0
    assert reader.page.locator("main a").count() == 0
    assert "alert" not in reader.code()
    built(reader.code())
    reader.check()


def test_the_guards_see_what_they_guard_against(read: Any, one: Reader) -> None:
    reader = read(one.file)
    reader.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "alert(1)";
            document.body.append(script);
            const image = new Image();
            image.src = "https://example.com/x.png";
            document.body.innerHTML += "<b onclick='alert(2)'>";
            alert(3);
        }"""
    )
    wait_until(lambda: reader.page.evaluate("seen.length >= 4"))
    seen = reader.evaluate("seen")
    assert any(entry.startswith("CSP script-src") for entry in seen)
    assert any(entry.startswith("CSP img-src") for entry in seen)
    assert seen.count("alert") == 1
    assert reader.trouble
    with pytest.raises(AssertionError):
        reader.check()


def flat() -> cyclr.RangeTestResult:
    lr = np.geomspace(1e-5, 1, 60)
    return cyclr.RangeTestResult(lr, np.full(60, 2.3), "completed", 1e-5, 1.0, 60, "exponential")


def linear() -> cyclr.RangeTestResult:
    lr = np.linspace(0.01, 1, 80)
    return cyclr.RangeTestResult(lr, 2 / (1 + 30 * lr) + lr**4, "completed", 0.01, 1.0, 80, "linear")


def single() -> cyclr.RangeTestResult:
    return cyclr.RangeTestResult([0.01], [2.3], "non_finite", 0.01, 1.0, 80, "exponential")


def huge() -> cyclr.RangeTestResult:
    lr = np.geomspace(1e-5, 1, 60)
    return cyclr.RangeTestResult(lr, np.where(lr > 0.1, 1e300, 2.3 - lr), "diverged", 1e-5, 1.0, 60, "exponential")


def repeated() -> cyclr.RangeTestResult:
    return cyclr.RangeTestResult.of_repeats([swept(seed) for seed in range(3)])


@pytest.mark.parametrize("make", [flat, linear, single, huge, repeated], ids=lambda make: make.__name__)
def test_odd_range_tests_make_pages_that_work(read: Any, tmp_path: Path, make: Any) -> None:
    result = make()
    result.to_html(tmp_path / "odd.html")
    reader = read(tmp_path / "odd.html")
    assert result.bounds.details in reader.locator("#verdict").text_content()
    filled = "document.getElementById('range-chart').data.filter(({fill}) => fill === 'toself').map(({name}) => name)"
    key = result.picture().key
    assert reader.evaluate(filled) == [key[name] for name in ("band", "interval") if name in key]
    assert ("band" in key) is (make is repeated)
    before = reader.plan()
    assert 0 < before["base"] < before["max"]
    reader.locator("#handle-max").focus()
    reader.keyboard.press("ArrowLeft")
    assert before["base"] < reader.plan()["max"] < before["max"]
    assert built(reader.code()).max_lr == reader.plan()["max"]
    reader.check()


def test_a_run_without_range_tests_or_trials_is_a_page_too(
    read: Any, tmp_path: Path, records: list[dict[str, Any]]
) -> None:
    for name, some in (("fixed", [r for r in records if r["lr"] is not None]), ("empty", [])):
        file = tmp_path / f"{name}.html"
        file.write_text(render(run_page(write_run(tmp_path / name, some))), encoding="utf-8")
        reader = read(file)
        assert reader.page.locator("#handles").count() == 0
        assert json.loads(reader.locator("#data").text_content())["tests"] == []
        reader.check()
