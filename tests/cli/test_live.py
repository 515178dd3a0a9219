"""The live table of a comparison, drawn into text."""

import io

import pytest
from rich.console import Console

from cyclr.cli.live import Board
from cyclr.experiments import Spec

POLICIES = [{"kind": "fixed", "lr": 0.1, "name": "[b]bold[/b]"}, {"kind": "cosine", "lr": 0.2, "epochs": 6}]
SPEC = Spec(POLICIES, epochs=2, seeds=[0])
FIRST, SECOND = SPEC.trials()
RECORD = {
    "trial": FIRST.id,
    "policy": FIRST.policy.name,
    "seed": 0,
    "status": "diverged",
    "metric": "val_accuracy",
    "epochs": {"val_accuracy": [0.5, None]},
    "seconds": 1.5,
}


def drawn(terminal: bool, *events: dict[str, object]) -> str:
    console = Console(file=io.StringIO(), width=120, force_terminal=terminal, color_system=None)
    with Board(console, "val_accuracy") as board:
        for event in ({"missing": SPEC.trials(), "done": [RECORD]}, *events):
            board(event)
        if terminal:
            console.print(board._drawn())
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_running_trials_their_stage_and_the_whole() -> None:
    training = {"trial": SECOND.id, "stage": "training", "done": 30, "total": 60}
    said = drawn(True, training, {"trial": SECOND.id, "epoch": {"step": 30, "val_accuracy": 0.75}})
    assert "cosine 0.2, 6 epochs" in said
    assert "training" in said
    assert "0.7500" in said
    assert "0 of 2 trials, 1 from before" in said
    # Half of the trial of 6 epochs, of 8 in all.
    assert "38 %" in said


def test_a_trial_that_finishes_is_a_line_and_leaves_the_table() -> None:
    said = drawn(
        True, {"trial": FIRST.id, "stage": "loading", "done": 0, "total": 1}, {"trial": FIRST.id, "record": RECORD}
    )
    assert "[b]bold[/b], seed 0: val_accuracy 0.5000, 1.5 s  diverged" in said
    assert "1 of 2 trials" in said
    assert "25 %" in said


@pytest.mark.parametrize("values", [{}, {"val_accuracy": [None]}])
def test_without_a_terminal_there_are_lines_alone(values: dict[str, list[None]]) -> None:
    said = drawn(False, {"trial": FIRST.id, "record": {**RECORD, "epochs": values}})
    assert said == "[b]bold[/b], seed 0: val_accuracy –, 1.5 s  diverged\n"


def test_trials_that_failed_before_are_told() -> None:
    console = Console(file=io.StringIO(), width=120, color_system=None)
    with Board(console, "val_accuracy") as board:
        board({"missing": [SECOND], "done": [{**RECORD, "status": "failed"}]})
        board({"missing": SPEC.trials(), "done": []})
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert said == "1 trial failed before and will not be run again without --retry-failed.\n"
