"""A run folder with any contents is refused with a short message, or it has a summary, a table and a page."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.outside import changes, check, examples

from cyclr.drawing.page import render
from cyclr.records import RunFolder, summarize, write_csv
from cyclr.records.reading import read
from cyclr.report.run import run_page

pytestmark = pytest.mark.filterwarnings("ignore")

ARCHIVE = Path(__file__).parents[1] / "archive" / "run"
RUN = json.loads((ARCHIVE / "run.json").read_text())
RECORDS = [json.loads(line) for line in (ARCHIVE / "records.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(ARCHIVE, tmp_path_factory.mktemp("outside") / "run"))


@examples(40)
@given(st.data())
def test_a_run_folder_is_refused_or_shown(folder: Path, data: Any) -> None:
    run, records = RUN, [*RECORDS]
    if data.draw(st.integers(0, 3)) == 0:
        run = data.draw(changes(RUN))
    else:
        place = data.draw(st.integers(0, len(records) - 1))
        records[place] = data.draw(changes(records[place]))
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "records.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))

    check(folder, shown, lambda page: None)


def shown(folder: Path) -> str:
    found = read(folder)
    if isinstance(found, RunFolder):
        summary = summarize(found.records)
        assert f"{summary}"
        assert summary._repr_html_()
        write_csv(summary, folder / "table.csv")
    return render(run_page(folder))
