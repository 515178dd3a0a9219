"""`cyclr compare`, as a user runs it."""

import csv
import importlib.util
import io
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console
from tests.processes import run
from typer.testing import CliRunner

from cyclr import Constant
from cyclr.cli.app import app
from cyclr.cli.compare import print_summary
from cyclr.experiments import Spec, read_records
from cyclr.experiments.trial import empty_record
from cyclr.records import Record, RunFolder, summarize
from cyclr.records.record import encode

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed", allow_module_level=True)

COMMAND = [sys.executable, "-m", "cyclr", "compare"]
ENVIRONMENT = {**os.environ, "COLUMNS": "120"}
BLOBS = Path(__file__).parents[1] / "experiments" / "blobs.py"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(BLOBS, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def filled(folder: Path, *statuses: str) -> None:
    """A run folder with two policies and as many seeds as there are states for the second."""
    spec = Spec([{"kind": "fixed", "lr": 0.1}, {"kind": "cosine", "lr": 0.2}], epochs=2, seeds=range(len(statuses)))
    with RunFolder.open(folder, spec.to_dict(), [trial.id for trial in spec.trials()]) as run:
        for trial in spec.trials():
            is_cosine = trial.policy.kind == "cosine"
            status = statuses[trial.seed] if is_cosine else "ok"
            epochs = {"step": [5, 10], "val_accuracy": [0.5, (0.7 if is_cosine else 0.6) + 0.01 * trial.seed]}
            changes = {"epochs": epochs, "total_steps": 10, "schedule": None if is_cosine else Constant(0.1)}
            error = "[b]boom[/b]" if status == "failed" else None
            run.append(msgspec.structs.replace(empty_record(trial), **changes, status=status, error=error))


def trained(monkeypatch: pytest.MonkeyPatch, records: list[Record]) -> list[Spec]:
    """The comparisons that are asked for from now on; instead of being run, they give these records."""
    specs: list[Spec] = []

    def compare(spec: Spec, *_: Any, **__: Any) -> list[Record]:
        specs.append(spec)
        return records

    monkeypatch.setattr("cyclr.cli.compare.run_comparison", compare)
    return specs


def test_options_give_a_table_and_a_csv_and_finished_trials_do_not_run_again(here: Path) -> None:
    arguments = [
        *("--workload", "blobs.py:build", "--policy", "fixed:0.1", "--policy", "sinusoidal:base_lr=0.01,max_lr=0.5"),
        *("--epochs", "2", "--seeds", "1", "--batch-size", "32"),
        *("--output", "run", "--workers", "1", "--csv", "table.csv"),
        *("--tensorboard", "logs"),
    ]
    done = run([*COMMAND, *arguments], env=ENVIRONMENT)
    assert len(read_records(here / "run")) == 2
    assert "fixed 0.1" in done.stdout
    assert "baseline" in done.stdout
    assert "On blobs.py:build with SGD(momentum=0.9)" in done.stdout
    with (here / "table.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 2
    assert len(list((here / "logs").iterdir())) == 2
    about = json.loads((here / "run" / "run.json").read_text())
    assert about["command"][1:] == ["compare", *arguments]

    again = CliRunner().invoke(app, ["compare", *arguments, "--overwrite"])
    assert again.exit_code == 0, again.output
    assert len((here / "run" / "records.jsonl").read_text().splitlines()) == 2


def test_output_without_other_options_continues_a_comparison(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "specs").mkdir()
    (here / "specs" / "spec.toml").write_text(
        'workload = "../blobs.py:build"\nsteps = 5\nseeds = [0, 1]\n[range_test]\nmax_lr = 1.0\n'
        '[[policy]]\nkind = "fixed"\nlr = [0.1, 0.2]\n'
    )
    spec = Spec.from_toml(here / "specs" / "spec.toml")
    ids = [trial.id for trial in spec.trials()]
    with RunFolder.open(here / "run", spec.to_dict(), ids, folder_of_paths=spec.folder):
        pass
    filled(here / "old", "ok")
    specs = trained(monkeypatch, read_records(here / "old"))
    # From another folder too: paths are relative to the folder of the spec.
    monkeypatch.chdir(here / "specs")
    for more in ([], ["--seeds", "3"], ["--range-test-steps", "40"], ["--steps", "7"]):
        said = CliRunner().invoke(app, ["compare", "--output", str(here / "run"), *more])
        assert said.exit_code == 0, said.output
    plain, seeds, shorter, longer = specs
    assert [trial.id for trial in plain.trials()] == ids
    assert plain.trials()[0].file == here / "blobs.py"
    assert plain.trials()[0].file_sha256 is not None
    assert list(seeds.seeds) == [0, 1, 2]
    assert shorter.range_test == {"max_lr": 1.0, "steps": 40}
    assert (longer.epochs, longer.steps) == (None, 7)
    said = CliRunner().invoke(app, ["compare", str(here / "run")])
    assert f"To finish the comparison in it: cyclr compare --output {here / 'run'}" in said.output.replace("\n", "")


def test_a_range_test_longer_than_the_training_is_reported(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(here / "run", "ok")
    records = read_records(here / "run")
    arguments = ["compare", "--policy", "fixed:0.1", "--epochs", "1"]
    for updates in (10, 11):
        trained(monkeypatch, [msgspec.structs.replace(record, range_test_steps=updates) for record in records])
        said = " ".join(CliRunner().invoke(app, arguments).output.split())
        told = "The range test (11 updates) was longer than the training (10). Train longer, or test with fewer updates"
        assert (told in said) == (updates == 11)


def test_an_error_of_several_trials_is_printed_once_with_its_traceback(here: Path) -> None:
    (here / "broken.py").write_text("def build():\n    return boom\n")
    arguments = ["--workload", "broken.py:build", "--policy", "fixed:0.1,0.2", "--epochs", "1", "--seeds", "1"]
    done = run([*COMMAND, *arguments, "--workers", "1"], status=1, env=ENVIRONMENT)
    line = "fixed 0.1, seed 0 and 1 more failed: NameError: name 'boom' is not defined (broken.py, line 2)"
    assert done.stdout.count(line) == 1
    assert done.stdout.count("Traceback (most recent call last):") == 1
    assert re.findall(r'File "(.*)", line', done.stdout) == [str(here / "broken.py")]
    assert "2 of 2 trials failed" in done.stdout
    assert done.stderr == ""


def test_names_are_not_printed_as_emoji(capsys: pytest.CaptureFixture[str]) -> None:
    records = [msgspec.structs.replace(finished("a:bug:b", "SGD", 0, 0.5), workload="model.py:bug: x")]
    print_summary(summarize(records))
    printed = capsys.readouterr().out
    assert "a:bug:b" in printed
    assert "model.py:bug:" in printed


def test_a_backend_that_is_not_installed_is_refused_before_the_folder_is_made(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "jax" else find(name))
    said = CliRunner().invoke(app, ["compare", "--policy", "fixed:0.1", "--epochs", "1", "--backend", "jax"])
    assert said.exit_code == 1, said.output
    assert "backend 'jax' is not installed" in said.output
    assert not (here / "cyclr-compare").exists()


def test_a_summary_trains_nothing(here: Path) -> None:
    filled(here / "run", "ok", "ok", "ok")
    before = (here / "run" / "records.jsonl").read_bytes(), (here / "run" / "run.json").read_bytes()
    said = CliRunner().invoke(app, ["compare", "--summary", "--output", "run", "--target", "0.61"])
    assert said.exit_code == 0, said.output
    assert "cosine lr 0.2" in said.output or "cosine 0.2" in said.output
    assert "better" in said.output
    assert before == ((here / "run" / "records.jsonl").read_bytes(), (here / "run" / "run.json").read_bytes())


def finished(policy: str, optimizer: str, seed: int, accuracy: float, status: Any = "ok") -> Record:
    """The record of a trial of 12,000 steps."""
    return Record(
        trial=f"{policy} {optimizer} {seed}",
        workload="cnn",
        policy=policy,
        seed=seed,
        optimizer=optimizer,
        status=status,
        metric="val_accuracy",
        direction="max",
        total_steps=12_000,
        range_test_steps=345,
        schedule=Constant(0.1) if policy.startswith("fixed") else None,
        epochs={"step": [12_000], "val_accuracy": [accuracy]},
        seconds=1234.5,
    )


@pytest.mark.parametrize("endings", [False, True])
@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, None])
def test_the_table_fits_the_terminal_and_a_pipe_has_no_width(
    here: Path, monkeypatch: pytest.MonkeyPatch, width: int | None, endings: bool
) -> None:
    filled(here / "run", "ok")
    records = []
    for optimizer in ("SGD(momentum=0.9)", "Adam"):
        for seed in range(3):
            records.append(finished("fixed 0.1", optimizer, seed, 0.80123 + seed / 700))
            cycle = finished("one_cycle, 4 epochs", optimizer, seed, 0.80734 + seed**2 / 400)
            ending = {"ending": {"val_accuracy": 0.82}, "predictions": 5} if endings else {}
            records.append(msgspec.structs.replace(cycle, **ending))
            records.append(finished("warm_restarts cycle_length 2 epochs", optimizer, seed, 0.9 + seed / 1000))
            records.append(finished("big", optimizer, seed, 0.9, "diverged" if seed else "ok"))
    (here / "run" / "records.jsonl").write_bytes(b"".join(map(encode, records)))
    file = io.StringIO()
    if width is not None:
        console = Console(file=file, width=width, force_terminal=True, color_system=None)
        for module in ("compare", "options"):
            monkeypatch.setattr(f"cyclr.cli.{module}.out", console)
    monkeypatch.setenv("COLUMNS", "80")
    said = CliRunner().invoke(app, ["compare", "--summary", "--output", "run"])
    assert said.exit_code == 0, said.output
    shown = file.getvalue() if width is not None else said.output
    table = shown[: shown.index("On cnn")]
    lines = table.splitlines()
    # The terminal breaks the first line, a sentence.
    assert max(map(len, lines[1:])) <= (width or 1000)
    words = table.split()
    for whole in ("warm_restarts", "cycle_length", "epochs", "one_cycle,", "big", "fixed", "diverged", "baseline"):
        assert words.count(whole.rstrip(":")) + words.count(f"{whole}:") + words.count(f"{whole},") >= 2, whole
    for whole in ("0.801…0.804", "12,345", "better" if endings else "within noise"):
        assert " ".join(words).count(whole) >= 2, whole
    # Where something is cut, Rich puts the character of intervals.
    assert [word for word in words if "…" in word and not re.match(r"\(?[-+]?[\d.]+…[-+]?[\d.]+\)?,?$", word)] == []
    # One title for every optimizer, above its policies.
    titles = [line.strip() for line in lines if line.startswith("cnn, ")]
    assert titles == ["cnn, SGD(momentum=0.9)", "cnn, Adam"]
    headers = [line.split() for line in lines if line.startswith("policy ")]
    assert all(header[-1] == "verdict" for header in headers)
    assert (width in (40, 60)) == (headers == [])
    if width is None or (width >= 100 and not endings):
        assert table.count("1234.5") >= 6
        assert "Not shown at this width" not in shown
    if width == 80:
        assert "--csv has all columns." in " ".join(shown.split())
    if width is None:
        assert sum(line.startswith("warm_restarts cycle_length 2 epochs ") for line in lines) == 2


def test_failed_trials_are_reported_and_set_the_exit_code(here: Path) -> None:
    filled(here / "run", "ok", "failed", "diverged")
    said = CliRunner().invoke(app, ["compare", "--summary", "--output", "run"])
    assert said.exit_code == 1
    assert "seed 1 failed: [b]boom[/b]" in said.output
    hint = (
        "1 of 6 trials failed; their tracebacks are in run/records.jsonl. "
        "Fix the cause, and add --retry-failed to run them again."
    )
    assert " ".join(said.output.split()).endswith(hint)


def test_paths_are_printed_without_markup(here: Path) -> None:
    for name in ("o[a]", "o[/a]", "o[b]" + "x" * 80):
        filled(here / name, "ok")
        said = CliRunner().invoke(
            app, ["compare", "--summary", "--output", name, "--csv", f"{name}.csv".replace("/", ""), "--overwrite"]
        )
        assert said.exit_code == 0, said.output
        assert f"Records: {name}/records.jsonl; table: {name.replace('/', '')}.csv" in said.output


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            ["--baseline", "fixd 0.1"],
            "--baseline must be one of 'fixed 0.1', 'cosine 0.2'; got --baseline 'fixd 0.1'. Did you mean 'fixed 0.1'?",
        ),
        (["--csv", "missing/table.csv"], "folder 'missing', for table.csv, does not exist. Create it"),
        (["--csv", "."], "'.' must be a file to write; it is a folder"),
    ],
)
def test_options_for_the_results_are_checked_before_training(
    here: Path, monkeypatch: pytest.MonkeyPatch, option: list[str], message: str
) -> None:
    filled(here / "run", "ok")
    specs = trained(monkeypatch, read_records(here / "run"))
    arguments = ["compare", "--policy", "fixed:0.1", "--policy", "cosine:lr=0.2", "--epochs", "2"]
    said = CliRunner().invoke(app, [*arguments, *option])
    assert said.exit_code == 1, said.output
    assert message in said.output
    assert specs == []
    said = CliRunner().invoke(app, [*arguments, "--baseline", "cosine 0.2", "--csv", "table.csv"])
    assert said.exit_code == 0, said.output
    assert len(specs) == 1


def test_an_existing_csv_is_replaced_only_with_overwrite(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(here / "run", "ok")
    specs = trained(monkeypatch, read_records(here / "run"))
    (here / "table.csv").write_text("mine")
    for more in ([], ["--summary", "--output", "run"]):
        arguments = ["compare", "--csv", "table.csv", *(more or ["--policy", "fixed:0.1", "--epochs", "2"])]
        said = CliRunner().invoke(app, arguments)
        assert said.exit_code == 1, said.output
        assert "only replaced with --overwrite; got table.csv." in said.output
        assert (specs, (here / "table.csv").read_text()) == ([], "mine")
    said = CliRunner().invoke(app, [*arguments, "--overwrite"])
    assert said.exit_code == 0, said.output
    assert (here / "table.csv").read_text().startswith("workload,optimizer,policy")


@pytest.mark.parametrize(
    ("output", "csv", "fits"),
    [
        ("new", "new/table.csv", True),
        ("new/deeper", "new/table.csv", True),
        ("new", "new/deeper/table.csv", False),
        ("new", "new", False),
        ("new/deeper", "new", False),
        ("new", "blobs.py/table.csv", False),
    ],
)
def test_a_table_may_be_written_into_the_folder_of_the_run(
    here: Path, monkeypatch: pytest.MonkeyPatch, output: str, csv: str, fits: bool
) -> None:
    filled(here / "run", "ok")
    records = read_records(here / "run")

    def compare(spec: Spec, folder: Path, **_: Any) -> list[dict[str, Any]]:
        with RunFolder.open(folder, spec.to_dict(), [trial.id for trial in spec.trials()]):
            return records

    monkeypatch.setattr("cyclr.cli.compare.run_comparison", compare)
    arguments = ["compare", "--policy", "fixed:0.1", "--epochs", "1", "--output", output, "--csv", csv]
    said = CliRunner().invoke(app, arguments)
    assert said.exit_code == (0 if fits else 1), said.output
    assert (here / csv).is_file() == fits
    assert ("Name a file in it." in said.output or "rite elsewhere." in said.output) != fits
    assert (here / output).exists() == fits


@pytest.mark.parametrize(
    ("ignored", "named"),
    [
        (["--metric", "val_loss"], "--metric"),
        (["--policy", "fixed:0.1", "--seeds", "3"], "--policy, --seeds"),
        (["--threads", "1"], "--threads"),
        (["--retry-failed"], "--retry-failed"),
        (["digits.toml"], "digits.toml"),
    ],
)
def test_a_summary_refuses_what_it_would_ignore(here: Path, ignored: list[str], named: str) -> None:
    filled(here / "run", "ok")
    said = CliRunner().invoke(app, ["compare", "--summary", "--output", "run", *ignored])
    assert said.exit_code == 1, said.output
    message = "--summary shows recorded results and takes only --output, --baseline, --target, --csv, --overwrite; "
    assert f"{message}got {named}. Leave out --summary or these options." in said.output


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_characters_that_a_pipe_cannot_encode_are_replaced(here: Path, encoding: str) -> None:
    filled(here / "run", "ok", "failed", "ok")
    arguments = ["--summary", "--output", "run", "--csv", "table.csv", "--baseline", "cosine 0.2"]
    environment = {**ENVIRONMENT, "PYTHONIOENCODING": encoding}
    done = run([*COMMAND, *arguments], status=1, env=environment, encoding=encoding)
    assert done.stderr == ""
    assert "?" in done.stdout
    assert "Records: run/records.jsonl; table: table.csv" in done.stdout
    assert (here / "table.csv").is_file()


@pytest.mark.parametrize(
    ("metric", "given", "direction"), [("val_accuracy", [], "max"), ("val_top", ["--direction", "min"], "min")]
)
def test_the_direction_of_a_metric(
    here: Path, monkeypatch: pytest.MonkeyPatch, metric: str, given: list[str], direction: str
) -> None:
    filled(here / "run", "ok")
    specs = trained(monkeypatch, read_records(here / "run"))
    arguments = ["compare", "--policy", "fixed:0.1", "--epochs", "1", "--metric", metric, *given]
    said = CliRunner().invoke(app, arguments)
    assert said.exit_code == 0, said.output
    assert [(spec.metric, spec.direction) for spec in specs] == [(metric, direction)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--policy", "fixed:0.1"],
            "a comparison needs the length of a training. For example: cyclr compare --policy fixed:0.1 --epochs 8",
        ),
        (
            ["--epochs", "1"],
            "a comparison needs policies. For example: cyclr compare --epochs 1 --policy fixed:0.01,0.1",
        ),
        (
            [],
            "a comparison needs policies and the length of a training. For example: cyclr compare --policy fixed:0.01",
        ),
        (
            ["--output", "no run"],
            "(no run holds no comparison to finish). For example: cyclr compare --output 'no r",
        ),
        (
            ["--policy", "fixed", "--epochs", "1"],
            "--policy fixed: policy 'fixed' needs a learning rate; got none. Write fixed:0.0",
        ),
        (["--policy", "fixed:x", "--epochs", "1"], "--policy fixed:x: lr of policy 'fixed' must be a number; got"),
        (
            ["--policy", "schedule:blobs.py", "--epochs", "1"],
            "--policy schedule:blobs.py: 'blobs.py' is a Python file. Test",
        ),
        (["--policy", "cosine", "--epochs", "1", "--steps", "9"], "got --epochs 1, --steps 9. Leave one of them out."),
        (["--policy", "cosine", "--epochs", "1", "--metric", "acc"], "--metric must be a validation metric, such as"),
        (["--policy", "cosine", "--epochs", "1", "--optimizer", "Addam"], "got 'Addam'. Did you mean 'Adam'?"),
        (["--policy", "cosine", "--epochs", "1", "--data", "mnits"], "got 'mnits'. Did you mean 'mnist'?"),
        (["--policy", "cosine", "--epochs", "1", "--data", "."], "must hold the four IDX files of MNIST"),
        (["--policy", "cosine", "--epochs", "1", "--data", "blobs.py"], "blobs.py is not an .npz archive, or is cut"),
        (["--policy", "cosine", "--epochs", "1", "--workload", "blobs.py"], "Write blobs.py:build."),
        (["--policy", "cosine", "--epochs", "1", "--workload", "blobs.py:biuld"], "Did you mean 'build'?"),
        (["typo.toml"], "optimizer must be one of Adadelta, "),
        (["typo.toml", "--optimizer", "Addam"], "--optimizer must be one of Adadelta, "),
        (["broken.toml"], "'broken.toml' must be the TOML file of a comparison; it is not TOML: "),
        (["."], "it is a folder. Name a file."),
        (
            ["--policy", "square", "--epochs", "1"],
            "--policy square: unknown kind of policy 'square'. The kinds are fixed, ",
        ),
        (
            ["blobs.py:build"],
            "it cannot be read: No such file or directory. To name a model, write --workload blobs.py:build",
        ),
        (["--policy", "cosine", "--epochs", "1", "--model", "blobs.py:biuld"], "Did you mean 'build'?"),
        (["missing.toml"], "'missing.toml' must be the TOML file of a comparison; it cannot be read: No such"),
        (
            ["pipe.toml"],
            "'pipe.toml' must be the TOML file of a comparison; it cannot be read: 'pipe.toml' is not a regular file",
        ),
        (["--summary"], "is not a run folder: it has no run.json"),
        (
            ["--policy", "cosine", "--epochs", "1", "--output", "blobs.py"],
            "--output must be a folder that can be written; got 'blobs.py', but",
        ),
        (["--policy", "cosine", "--epochs", "1", "--output", "."], "holds files that do not belong to a comparison"),
    ],
)
def test_invalid_options_are_refused(here: Path, arguments: list[str], message: str) -> None:
    os.mkfifo(here / "pipe.toml")
    (here / "broken.toml").write_text("policy = [")
    (here / "typo.toml").write_text('epochs = 1\noptimizer = "Admm"\n[[policy]]\nkind = "cosine"\n')
    before = {*here.iterdir()}
    said = CliRunner().invoke(app, ["compare", *arguments])
    assert said.exit_code == 1, said.output
    assert message in " ".join(said.output.split())
    assert "Traceback" not in said.output
    assert {*here.iterdir()} == before
