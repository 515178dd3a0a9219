"""Size of a report, and time until it can be used, compared with a bare chart of Plotly.

    python benchmarks/report_page.py [RUN]

The pages are opened alternately from their files, each time in a new context of Chromium. The time of a report ends two
frames after its charts are drawn and its controls work, which the page reports itself. The time of the bare chart ends
two frames after Plotly has drawn it.
"""

import argparse
import shutil
import tempfile
from importlib import resources
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, sync_playwright

from cyclr.drawing import page
from cyclr.report import run_page

STUDY = Path(__file__).parents[1] / "studies" / "fashion_mnist" / "results" / "headline"
TWO_FRAMES = "requestAnimationFrame(() => requestAnimationFrame(() => performance.mark('cyclr-ready')));"
CHROMIUM = {
    "executable_path": shutil.which("chromium") or shutil.which("chromium-browser"),
    "args": ["--no-sandbox"],
}
WAIT = """() => new Promise((done) => {
  const look = () => {
    const mark = performance.getEntriesByName("cyclr-ready")[0];
    if (mark) done(mark.startTime); else setTimeout(look, 10);
  };
  look();
})"""


def bare_chart() -> str:
    """One line of 100 points, with the same bundle of Plotly inside the file."""
    plotly = (resources.files("cyclr.drawing") / "assets" / page.PLOTLY).read_text(encoding="utf-8")
    values = np.random.default_rng(0).random(100).tolist()
    draw = f"Plotly.newPlot('chart', [{{ y: {values} }}]).then(() => {{ {TWO_FRAMES} }});"
    return f"<!DOCTYPE html><meta charset=utf-8><div id=chart></div><script>{plotly}</script><script>{draw}</script>"


def milliseconds(browser: Browser, path: Path) -> float:
    """Return the time from the start of the navigation until the page can be used."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    tab.goto(path.as_uri())
    ready = float(tab.evaluate(WAIT))
    context.close()
    return ready


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, default=STUDY, help="a run folder; the study's by default")
    parser.add_argument("--rounds", type=int, default=11)
    options = parser.parse_args()
    pages = {
        "a bare chart of Plotly": bare_chart(),
        f"report of {options.run.name}": page.render(run_page(options.run)),
    }
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(**CHROMIUM)
        times: dict[str, list[float]] = {name: [] for name in pages}
        paths = {name: Path(folder, f"{number}.html") for number, name in enumerate(pages)}
        for name, text in pages.items():
            paths[name].write_text(text, encoding="utf-8")
        for _ in range(options.rounds):
            for name, path in paths.items():
                times[name].append(milliseconds(browser, path))
        browser.close()
        base = times[next(iter(pages))]
        print("| page | bytes | ready after, median | range | over the bare chart, median |\n|---|---|---|---|---|")
        for name, values in times.items():
            ratio = np.median(np.array(values) / base)
            print(
                f"| {name} | {paths[name].stat().st_size:,} | {np.median(values):,.0f} ms | "
                f"{min(values):,.0f} to {max(values):,.0f} | {ratio:.2f} |"
            )


if __name__ == "__main__":
    main()
