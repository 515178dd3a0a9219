"""The command line, as a user runs it: in real processes for real work, only in the parser for refused options."""

import io
import json
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tests.processes import run, started, wait_until
from typer.testing import CliRunner

import cyclr
from cyclr.cli.app import app
from cyclr.cli.main import repeat_interrupts
from cyclr.cli.options import print_bounds
from cyclr.cli.range_test import Bar
from cyclr.records import read_records

COMMAND = [sys.executable, "-m", "cyclr"]
# Keras on torch, which is imported in a third of the time, for small models.
ENVIRONMENT = {**os.environ, "KERAS_BACKEND": "torch", "COLUMNS": "200"}

MODEL = """
import keras
from neighbour import UNITS

def build():
    layers = [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(UNITS, "softmax")]
    model = keras.Sequential(layers)
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model

def frozen():
    # The same for every batch: noise would be taken for a fall in one test of twenty.
    model = build()
    model.set_weights([weights * 0 for weights in model.get_weights()])
    model.compile(keras.optimizers.SGD(0.1, clipvalue=1e-12), "sparse_categorical_crossentropy")
    return model

def not_compiled():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])

def nothing():
    return None
"""


def refuse(*arguments: str) -> str:
    """What the command says when it refuses, with exit code 1."""
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    return result.output


def write_models(folder: Path) -> Path:
    (folder / "neighbour.py").write_text("UNITS = 10\n")
    (folder / "models.py").write_text(MODEL)
    return folder


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return write_models(tmp_path)


SLOW = """
import time
import torch
from pathlib import Path

calls = 0

def count(*_):
    global calls
    calls += 1
    time.sleep(0.01)
    if calls == 30:
        Path(__file__).with_name("training").touch()

def build():
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
    model.register_forward_hook(count)
    x = torch.randn(640, 8)
    y = (x[:, 0] > 0).long()
    return model, (x, y, x, y)
"""


def interrupt(folder: Path, command: list[str], when: Callable[[], bool]) -> tuple[int, str, str]:
    """Exit code, output and errors of a command that gets a real Ctrl-C."""
    (folder / "slow.py").write_text(SLOW)
    # A process that is started in the background by a script inherits that the signal is ignored; one that has a
    # handler here starts its children with the signal's default.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with started([*COMMAND, *command], cwd=folder, env=ENVIRONMENT) as process:
        signal.signal(signal.SIGINT, before)
        wait_until(when, "the moment to interrupt")
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate()
    assert "Traceback" not in errors
    return process.returncode, said, errors


needs_signals = pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")


@needs_signals
def test_ctrl_c_in_a_comparison_prints_how_to_continue(tmp_path: Path) -> None:
    policies = ["--policy", "fixed:lr=0.1,steps=5", "--policy", "fixed:0.2", "--steps", "1000000"]
    command = ["compare", "--workload", "slow.py:build", *policies, "--seeds", "1", "--workers", "1", "--output", "o u"]
    # The second trial begins when the first one has been recorded and shown.
    code, said, errors = interrupt(tmp_path, command, (tmp_path / "training").exists)
    assert (code, said.count("fixed 0.1, 5 steps, seed 0: val_accuracy")) == (130, 1), errors
    assert "Interrupted: 1 of 2 trials are recorded." in errors
    assert "To continue, run the same command again, or: cyclr compare --output 'o u'" in errors
    assert len(read_records(tmp_path / "o u")) == 1


@needs_signals
def test_ctrl_c_in_a_range_test_keeps_and_reads_the_recorded_losses(tmp_path: Path) -> None:
    command = ["range-test", "--model", "slow.py:build", "--steps", "100000", "--output", "out"]
    code, said, errors = interrupt(tmp_path, command, (tmp_path / "training").exists)
    assert code == 130, errors
    result = cyclr.RangeTestResult.load(tmp_path / "out" / "range_test.json")
    assert 30 <= len(result.loss) < 100_000
    assert result.stop_reason == "interrupted"
    assert "Range test" in said
    assert f"Interrupted at {len(result.loss)} of 100000 updates. The bounds were read from the losses" in errors
    assert (tmp_path / "out" / "range_test.png").is_file()


@needs_signals
def test_ctrl_c_before_the_first_loss_leaves_no_folder(tmp_path: Path) -> None:
    waits = "import time\nfrom pathlib import Path\nPath(__file__).with_name('started').touch()\ntime.sleep(900)\n"
    (tmp_path / "waits.py").write_text(f"{waits}def build(): pass\n")
    code, _, errors = interrupt(tmp_path, ["range-test", "--model", "waits.py:build"], (tmp_path / "started").exists)
    assert (code, errors.split(".")[0].strip()) == (130, "Interrupted")
    assert not (tmp_path / "cyclr-range-test").exists()


def test_range_test_progress_is_printed_as_lines_without_a_terminal(tested: tuple[Path, list[tuple[int, str]]]) -> None:
    _, [(_, said), *_] = tested
    lines = [line for line in said.splitlines() if line.startswith("range test: ")]
    assert 2 <= len(lines) <= 4
    assert re.fullmatch(r"range test: 15 of 60, lr \S+, loss \S+", lines[0])


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_progress_bar_leaves_room_for_the_echo_of_ctrl_c(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=True, color_system=None)
    monkeypatch.setattr("cyclr.cli.range_test.out", console)
    test = cyclr.RangeTest(steps=150)
    with Bar(150) as bar:
        for _ in range(20):
            next(test)
            test.record(1.25)
            bar.show(test)
        (line,) = Console(file=io.StringIO(), width=width).render_lines(bar.get_renderable(), pad=False)
    shown = "".join(segment.text for segment in line).rstrip()
    assert "20/150" in shown
    assert "lr 7.8e-06, loss 1.25" in shown
    assert len(shown) <= width - 3
    assert bar.interrupted().stop_reason == "interrupted"


def test_an_interrupted_repeat_keeps_the_completed_range_tests() -> None:
    bar = Bar(40)
    for steps in (40, 40, 25):
        test = cyclr.RangeTest(steps=40, stop_factor=None)
        for _ in range(steps):
            next(test)
            test.record(2.0)
            bar.show(test)
    assert bar.interrupted().runs.shape == (2, 40)
    with pytest.raises(KeyboardInterrupt):
        Bar(40).interrupted()


LOST = """
import gc, signal, sys, threading
from cyclr.cli.main import repeat_interrupts
from cyclr.cli.range_test import Bar

def interrupt(phase, info):
    gc.callbacks.remove(interrupt)
    signal.raise_signal(signal.SIGINT)

sys.unraisablehook = repeat_interrupts(sys.unraisablehook)
signal.signal(signal.SIGINT, signal.default_int_handler)
gc.callbacks.append(interrupt)
try:
    print("collecting")
    gc.collect()
    threading.Event().wait(900)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_is_not_lost_in_a_garbage_collection() -> None:
    result = run([sys.executable, "-c", LOST])
    assert result.stdout.split() == ["collecting", "interrupted"]
    assert result.stderr == ""


def test_other_unraisable_errors_go_to_the_previous_hook() -> None:
    heard: list[Any] = []
    unraisable = SimpleNamespace(exc_type=ValueError)
    repeat_interrupts(heard.append)(unraisable)
    assert heard == [unraisable]


TESTS = """
import json, sys
from typer.testing import CliRunner
from cyclr.cli.app import app

for function, *options in (["build", "--batch-size", "64"], ["frozen", "--output", "frozen"],
                           ["build", "--output", "long", "--total-steps", "400", "--refine", "232"]):
    model = ["--model", f"models.py:{function}", "--data", "digits"]
    result = CliRunner().invoke(app, ["range-test", *model, "--steps", "60", *options])
    print(json.dumps([result.exit_code, result.output]))
"""


@pytest.fixture(scope="module")
def tested(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[int, str]]]:
    """A folder, and the exit codes and outputs of three range tests in it, by one process."""
    folder = write_models(tmp_path_factory.mktemp("tested"))
    said = run([sys.executable, "-c", TESTS], cwd=folder, env=ENVIRONMENT).stdout
    return folder, [json.loads(line) for line in said.splitlines() if line.startswith("[")]


def test_range_test_of_a_users_model(tested: tuple[Path, list[tuple[int, str]]]) -> None:
    folder, [(code, said), *_] = tested
    assert code == 0, said
    assert "base_lr" in said
    saved = cyclr.RangeTestResult.load(folder / "cyclr-range-test" / "range_test.json")
    assert saved.steps == 60
    assert saved.bounds.usable
    assert (folder / "cyclr-range-test" / "range_test.png").read_bytes().startswith(b"\x89PNG")


def test_range_test_without_bounds_has_its_own_exit_code(tested: tuple[Path, list[tuple[int, str]]]) -> None:
    _, [_, (code, said), _] = tested
    assert code == 3, said
    assert "no bounds" in said
    assert "flat" in said


def test_range_test_for_a_training_of_known_length(tested: tuple[Path, list[tuple[int, str]]]) -> None:
    folder, [*_, (code, said)] = tested
    assert code == 0, said
    assert "2 trial cycles of 100 updates" in " ".join(said.replace("│", " ").split())
    saved = cyclr.RangeTestResult.load(folder / "long" / "range_test.json")
    assert saved.total_steps == 400
    assert len(saved.trials) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--refine", "600"], "--refine needs the length of the training"),
        (["--epochs", "3", "--total-steps", "100"], "give the length of the training as --epochs or as --total-steps"),
        (["--epochs", "3", "--refine", "20"], "refine must be 0 or at least 50"),
    ],
)
def test_two_lengths_and_refine_without_a_length_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["range-test", "--model", "mlp", *options])
    assert result.exit_code in (1, 2)
    assert message in " ".join(f"{result.output} {result.exception}".replace("│", " ").split())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("models.py", r"models\.py needs the name of a function in it; it has build, frozen, .*Write models\.py:build"),
        ("missing.py:build", r"'missing\.py' does not exist"),
        ("models.py:missing", r"has no function 'missing'\. It has build, frozen, not_compiled, nothing"),
        ("models.py:nothing", r"must return a keras\.Model or .*; got a NoneType\. Is a return statement missing\?"),
        ("models.py:not_compiled", r"takes inputs of shape \(4,\); digits has \(8, 8, 1\)\.$"),
    ],
)
def test_range_test_refuses_invalid_models(
    models: Path, monkeypatch: pytest.MonkeyPatch, model: str, message: str
) -> None:
    monkeypatch.chdir(models)
    assert re.search(message, refuse("range-test", "--model", model, "--data", "digits", "--steps", "20").strip())


def test_an_unknown_data_set_error_lists_the_known_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = refuse("demo", "--data", "mnst")
    assert "Did you mean 'mnist'?" in said
    assert "digits, mnist, fashion_mnist, cifar10" in said


def test_an_output_folder_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("")
    for command in (["demo", "--data", "no-such-data"], ["range-test", "--model", "mlp"]):
        for output in (occupied, occupied / "below"):
            said = refuse(*command, "--output", str(output))
            assert "output must be a folder that can be written" in said
            assert "is not a folder. Choose another with --output DIR." in said


RANDOM = """
import random
import {framework}
import numpy as np

{model}
X = np.random.normal(size=(256, 8)).astype("float32")
Y = X.sum(1, keepdims=True) * random.random()
MADE_HERE = make()

def build():
    return make(), ((X, Y), (X, Y))

def made_before():
    return MADE_HERE, ((X, Y), (X, Y))
"""
KERAS = """
def make():
    layers = [keras.Input((8,)), keras.layers.Dense(16, "relu"), keras.layers.Dropout(0.1), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse")
    return model
"""
TORCH = """
def make():
    return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(16, 1))
"""
TWO_TESTS = """
import sys
from typer.testing import CliRunner
from cyclr.cli.app import app
for function in ("build", "made_before"):
    answer = CliRunner().invoke(app, ["range-test", "--model", f"random_model.py:{function}", *sys.argv[2:],
        "--steps", "40", "--batch-size", "64", "--output", f"{sys.argv[1]}-{function}"])
    assert answer.exit_code in (0, 3), answer.output
"""


@pytest.mark.parametrize(("framework", "model"), [("keras", KERAS), ("torch", TORCH)])
def test_the_same_command_gives_the_same_result(tmp_path: Path, framework: str, model: str) -> None:
    (tmp_path / "random_model.py").write_text(RANDOM.format(framework=framework, model=model))
    for name, seed in (("one", "0"), ("other", "0"), ("third", "1")):
        run([sys.executable, "-c", TWO_TESTS, name, "--seed", seed], cwd=tmp_path, env=ENVIRONMENT)

    def results(name: str) -> list[cyclr.RangeTestResult]:
        files = [tmp_path / f"{name}-{function}" / "range_test.json" for function in ("build", "made_before")]
        return [cyclr.RangeTestResult.load(file) for file in files]

    one, other, third = map(results, ("one", "other", "third"))
    assert one == other
    assert all(first.loss[0] != another.loss[0] for first, another in zip(one, third, strict=True))
    tested = one[0].tested
    optimizer = {"keras": "keras.optimizers.SGD(momentum=0.9)", "torch": "torch.optim.SGD(momentum=0.9)"}[framework]
    assert (tested["model"], tested["parameters"], tested["batch_size"], tested["seed"], tested["optimizer"]) == (
        *("Sequential", 161, 64, 0),
        optimizer,
    )
    assert not [value for value in tested.values() if str(tmp_path) in str(value)]


@pytest.mark.parametrize(
    ("arguments", "files"),
    [
        (["plot", "--output", "a.png"], ["a.png"]),
        (["report", "result.json"], ["result.html"]),
        (["report", "result.json", "--output", "a.html"], ["a.html"]),
        (["range-test", "--model", "mlp", "--output", "."], ["range_test.png"]),
        (["range-test", "--model", "mlp", "--output", "."], ["range_test.json"]),
        (["demo", "--output", "."], ["accuracy.png", "schedule.png"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_existing_files_are_replaced_only_with_overwrite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], files: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in files:
        Path(name).write_text("mine")
    cyclr.RangeTestResult([0.1, 0.2], [1.0, 2.0], "completed", 0.1, 0.2, 2).save("result.json")
    said = refuse(*arguments).replace("\n", " ")
    named = ", ".join(sorted(files, reverse=True))
    assert f"only replaced with --overwrite; got {named}. Add --overwrite, or write somewhere else." in said
    assert {path.name for path in tmp_path.iterdir()} == {*files, "result.json"}
    assert all(Path(name).read_text() == "mine" for name in files)


def test_files_are_replaced_with_overwrite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cyclr.RangeTestResult([0.1, 0.2], [1.0, 2.0], "completed", 0.1, 0.2, 2).save("range_test.json")
    for arguments, written in (
        (["plot", "--output", "a.png"], "a.png"),
        (["report", "range_test.json"], "range_test.html"),
    ):
        Path(written).write_text("mine")
        result = CliRunner().invoke(app, [*arguments, "--overwrite"])
        assert result.exit_code == 0, result.output
        assert Path(written).read_bytes() != b"mine"


def test_a_page_is_only_written_to_an_html_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cyclr.RangeTestResult([0.1, 0.2], [1.0, 2.0], "completed", 0.1, 0.2, 2).save("result.json")
    message = "--output must end in .html; got 'page.pdf'. Write page.html."
    assert message in " ".join(refuse("report", "result.json", "--output", "page.pdf").split())
    assert not Path("page.pdf").exists()


def test_the_reason_names_the_options_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    lr = np.geomspace(1e-6, 10, 60)
    loss = 2.3 - 1.5 / (1 + (0.01 / lr) ** 3) + (lr / 0.5) ** 2
    result = cyclr.RangeTestResult(lr, loss, "completed", 1e-6, 10, 60)
    for options, advice in (
        ((), "with steps=[0-9]+, or with total_steps= and refine=600"),
        (("steps", "total_steps", "refine"), "with --steps [0-9]+, or with --total-steps and --refine 600"),
    ):
        print_bounds(result, *options)
        printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
        assert re.search(f"Run it {advice}", printed)
        assert "and max_lr=" in printed


def test_plot_draws_a_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["plot", "--mode", "triangular2", "--step-size", "100", "--output", "a.png"])
    assert result.exit_code == 0, result.output
    assert "Halving" in result.output
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_plot_draws_any_schedule_from_its_description(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    schedule = cyclr.Cyclical.over(101, 3, 0.01, 0.5, shape="sinusoidal")
    (tmp_path / "schedule.json").write_text(json.dumps(schedule.to_dict()))
    result = CliRunner().invoke(app, ["plot", "--schedule", "schedule.json", "--output", "b.svg"])
    assert result.exit_code == 0, result.output
    assert "sinusoidal" in result.output
    assert "<svg" in (tmp_path / "b.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--base-lr", "0.1", "--max-lr", "0.01"],
            "--max-lr must be greater than --base-lr; got --base-lr 0.1, --max-lr 0.01. Swap them?",
        ),
        (["--base-lr", "-1"], "--base-lr must be a finite number of at least 0; got --base-lr -1.0."),
        (["--gamma", "2", "--mode", "exp_range"], "gamma must be"),
        (["--gamma", "0.9"], "--gamma would change nothing: only --mode exp_range uses it. Leave it out."),
        (["--schedule", "broken.json", "--max-lr", "1"], "--max-lr would change nothing: the file of --schedule"),
        (["--schedule", "missing.json"], "missing.json"),
        (["--schedule", "broken.json"], "'broken.json' must be a JSON file that cyclr wrote; it is not JSON"),
        (["--schedule", "result.json"], "holds the result of a range test. Look at it: cyclr report result.json"),
        (["--schedule", "pipe.json"], "'pipe.json' is not a regular file"),
        (["--schedule", "."], "'.' holds neither a run nor a range test"),
        (["--schedule", "other.json"], "schedule must be one of"),
        (["--schedule", "function.json"], "schedule must be one of 'Anneal'"),
        (["--output", "missing/folder.png"], "folder 'missing', for folder.png, does not exist. Create it, or write"),
        (["--output", "broken.json/a.png"], "'broken.json', for a.png, must be a folder that can be written"),
        (["--output", "picture"], "--output must end in .png, .svg, .pdf"),
        (["--output", "a.html"], "--output must end in .png, .svg, .pdf"),
        (["--shape", "sinusodal"], "Did you mean 'sinusoidal'?"),
        (["--schedul", "a.json"], "No such option"),
    ],
)
def test_plot_refuses_invalid_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.json").write_text("{")
    cyclr.RangeTestResult([0.1, 0.2], [1.0, 2.0], "completed", 0.1, 0.2, 2).save("result.json")
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "other.json").write_text('{"schedule": "Wobbly"}')
    (tmp_path / "function.json").write_text('{"schedule": "Function", "version": 1, "fn": "square"}')
    before = {*tmp_path.iterdir()}
    result = CliRunner().invoke(app, ["plot", *arguments])
    assert result.exit_code in (1, 2)
    assert message in " ".join(result.output.replace("│", " ").split())
    assert {*tmp_path.iterdir()} == before


@pytest.mark.parametrize("arguments", [["demo", "--epochs", "0"], ["plot", "--shape", "square"], ["no-such-command"]])
def test_wrong_usage_has_exit_code_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2


@pytest.mark.parametrize(("given", "model"), [(["mine.py:make"], "mine.py:make"), ([], "FILE.py:function")])
def test_a_missing_model_error_shows_the_option_to_add(given: list[str], model: str) -> None:
    result = CliRunner().invoke(app, ["range-test", *given])
    assert result.exit_code == 2
    assert f"'. Write --model {model}." in " ".join(result.output.replace("│", " ").split())


def test_help_names_the_subcommands_and_exit_codes() -> None:
    result = CliRunner().invoke(app, ["--help"], terminal_width=120)
    assert result.exit_code == 0
    for word in ("demo", "range-test", "plot", "report", "Exit codes"):
        assert word in result.output
    for command in ("demo", "range-test", "plot", "report"):
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0


def test_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).output.strip() == f"cyclr {cyclr.__version__}"


def test_a_missing_extra_names_the_command_that_installs_it(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise ImportError\n")
    result = run([*COMMAND, "demo"], status=1, env={**ENVIRONMENT, "PYTHONPATH": str(tmp_path)})
    assert 'pip install "cyclr[cli]"' in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs a device that is always full")
def test_a_full_disk_behind_stdout_is_a_one_line_error() -> None:
    with Path("/dev/full").open("w") as full:
        errors = run([*COMMAND, "--version"], status=1, stdout=full, env=ENVIRONMENT).stderr
    assert errors == "cyclr: [Errno 28] No space left on device\n"
