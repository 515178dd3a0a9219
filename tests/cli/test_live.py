"""The live table of a comparison, drawn into text."""

import io
import re
import sys

import pytest
from msgspec import structs
from rich.console import Console

from cyclr.auto import AutoEvent
from cyclr.cli.live import Board
from cyclr.experiments import Spec
from cyclr.experiments.events import Epoch, Event, Finished, Progress, Started
from cyclr.experiments.spec import Trial
from cyclr.experiments.trial import empty_record

POLICIES = [{"kind": "fixed", "lr": 0.1, "name": "[b]bold[/b]"}, {"kind": "cosine", "lr": 0.2, "epochs": 6}]
SPEC = Spec(POLICIES, epochs=2, seeds=[0])
FIRST, SECOND = SPEC.trials()
FROM_BEFORE = "1 of 3 trials are recorded already, 2 are left.\n"
RECORD = structs.replace(empty_record(FIRST), status="diverged", epochs={"val_accuracy": [0.5, None]}, seconds=1.5)


def drawn(terminal: bool, *events: Event) -> str:
    console = Console(file=io.StringIO(), width=120, force_terminal=terminal, color_system=None)
    with Board(console, "val_accuracy") as board:
        for event in (Started(SPEC.trials(), [RECORD]), *events):
            board(event)
        if terminal:
            console.print(board.get_renderable())
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_the_table_shows_running_trials_their_stage_and_the_total() -> None:
    training = Progress(SECOND.id, "training", 30, 60)
    said = drawn(True, training, Epoch(SECOND.id, {"step": 30, "val_accuracy": 0.75}))
    assert "cosine 0.2, 6 epochs" in said
    assert "training" in said
    assert "0.7500" in said
    assert "0 of 2 trials, 1 from before" in said
    # Half of the trial of 6 epochs, of 8 in all.
    assert "38 %" in said


def test_a_finished_trial_is_printed_and_removed_from_the_table() -> None:
    said = drawn(True, Progress(FIRST.id, "loading"), Finished(RECORD))
    assert "[b]bold[/b], seed 0: val_accuracy 0.5000, 1.5 s  diverged" in said
    assert "1 of 2 trials" in said
    assert "25 %" in said


def test_the_line_of_a_trial_names_what_autocycle_did() -> None:
    events = [AutoEvent(3, what, "", 0.1) for what in ("left_out", "lowered", "left_out")]
    said = drawn(False, Finished(structs.replace(RECORD, status="ok", events=(*events,))))
    assert said == FROM_BEFORE + "[b]bold[/b], seed 0: val_accuracy 0.5000, 1.5 s, AutoCycle: left out, lowered\n"


def test_the_line_of_a_trial_has_the_score_of_its_ending() -> None:
    said = drawn(False, Finished(structs.replace(RECORD, status="ok", ending={"val_accuracy": 0.75}, predictions=5)))
    assert said == FROM_BEFORE + "[b]bold[/b], seed 0: val_accuracy 0.5000, ending 0.7500, 1.5 s\n"


@pytest.mark.parametrize("values", [{}, {"val_accuracy": [None]}])
def test_without_a_terminal_only_lines_are_printed(values: dict[str, list[None]]) -> None:
    said = drawn(False, Finished(structs.replace(RECORD, epochs=values)))
    assert said == FROM_BEFORE + "[b]bold[/b], seed 0: val_accuracy –, 1.5 s  diverged\n"


def test_earlier_failed_trials_are_reported() -> None:
    console = Console(file=io.StringIO(), width=120, color_system=None)
    with Board(console, "val_accuracy") as board:
        board(Started([SECOND], [structs.replace(RECORD, status="failed")]))
        board(Started(SPEC.trials(), []))
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert said == (
        "1 of 2 trials are recorded already, one is left.\n"
        "1 trial failed before and will not be run again without --retry-failed.\n"
    )


def screen(written: str, height: int = 1000) -> list[str]:
    """The lines that a terminal shows after these characters: new lines, returns, cursor up and erased lines."""
    lines, row, column = [""] * height, 0, 0
    for part in re.findall(r"\x1b\[[?0-9;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", written):
        if part == "\n":
            row, column = row + 1, 0
        elif part == "\r":
            column = 0
        elif part.startswith("\x1b"):
            row -= int(part[2:-1] or 1) if part.endswith("A") else 0
            lines[row] = "" if part.endswith("K") else lines[row]
        else:
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + len(part) :]
            column += len(part)
    return [line.rstrip() for line in lines if line.strip()]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_printed_line_is_lost_and_the_table_is_erased(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    # Drawn as often as can be, by a thread that is switched to as often as can be.
    monkeypatch.setattr("cyclr.cli.live._SECONDS_BETWEEN", 0)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    trials = Spec([{"kind": "fixed", "lr": [0.1, 0.2, 0.3, 0.4]}], epochs=2, seeds=range(8)).trials()
    try:
        with Board(console, "val_accuracy") as board:
            board(Started(trials, []))
            for one, other in zip(trials[::2], trials[1::2], strict=True):
                board(Progress(one.id, "training", 1, 2))
                board(Progress(other.id, "training", 1, 2))
                board(Finished(structs.replace(empty_record(one), seconds=1.5)))
                board(Finished(structs.replace(empty_record(other), seconds=1.5)))
    finally:
        sys.setswitchinterval(before)
    said = [f"{one.policy.name}, seed {one.seed}: val_accuracy –, 1.5 s" for one in trials]
    assert screen(console.file.getvalue()) == said  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_the_table_fits_the_terminal(width: int) -> None:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    with Board(console, "val_accuracy") as board:
        board(Started(SPEC.trials(), []))
        for one, stage in ((FIRST, "range test"), (SECOND, "training")):
            board(Progress(one.id, stage, 30, 60))
            board(Epoch(one.id, {"step": 30, "val_accuracy": 0.75}))
        lines = Console(file=io.StringIO(), width=width).render_lines(board.get_renderable(), pad=False)
    shown = ["".join(segment.text for segment in line).rstrip() for line in lines]
    assert len(shown) == 4
    assert max(map(len, shown)) <= width
    for whole in ("[b]bold[/b]", "cosine 0.2, 6 epochs", "range test", "training", "0.7500", "0 of 2 trials", "left"):
        assert whole in "\n".join(shown), whole


def test_an_event_costs_the_same_however_many_trials_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    weight = Trial.weight.fget  # type: ignore[attr-defined]
    monkeypatch.setattr(Trial, "weight", property(lambda trial: asked.append(trial.id) or weight(trial)))
    spec = Spec(POLICIES[1:], epochs=2, seeds=range(200))
    with Board(Console(file=io.StringIO()), "val_accuracy") as board:
        board(Started(spec.trials(), []))
        asked.clear()
        for trial in spec.trials():
            board(Progress(trial.id, "training", 1, 2))
            board(Finished(empty_record(trial)))
    assert len(asked) <= 2 * 200
