"""Every example runs as a program, on real data that is embedded; a run in two parts ends where a whole one does."""

import contextlib
import importlib.util
import os
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
RUN_FOLDER = Path(__file__).with_name("run_folder.py")
FILES = {"find_bounds.py", "train.py", "resume.py"}
NEEDS = {
    "accelerate": "accelerate",
    "ddp": "torch",
    "equinox": "equinox",
    "flax": "flax",
    "keras": "keras",
    "lightning": "lightning",
    "skorch": "skorch",
    "torch": "torch",
    "transformers": "transformers",
}
LINES_OF_A_PAGE = 80


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def run(command: list[str], folder: Path, ports: Sequence[int] = ()) -> str:
    # Nothing may be downloaded, and no display may be needed.
    environment = {
        "KERAS_BACKEND": "tensorflow",
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "MPLBACKEND": "Agg",
        "OMP_NUM_THREADS": "1",
        "PORTS": " ".join(map(str, ports)),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_classic_tutorial_runs(tmp_path: Path) -> None:
    program = EXAMPLES / "keras_mnist_clr.py"
    output = run([sys.executable, str(program), "--data", "digits", "--epochs", "8"], tmp_path)
    assert (tmp_path / "keras-mnist-clr" / "range_test.png").exists()
    assert (tmp_path / "keras-mnist-clr" / "training.png").exists()
    assert float(output.split("final validation accuracy ")[1].split(",")[0]) > 0.9


@pytest.mark.parametrize(("name", "framework"), NEEDS.items(), ids=NEEDS)
def test_the_programs_of_a_framework_run(name: str, framework: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed")
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if name == "ddp" else ["-W", "ignore"]
    )
    command = [sys.executable, *launcher, str(RUN_FOLDER), str(EXAMPLES / name)]
    output = run(command, tmp_path, free_ports(5) if name == "ddp" else ())

    assert "The loss" in output.split("== train")[0]
    assert (tmp_path / "range_test.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "range_test.json").exists()
    assert float(output.split("accuracy ")[1].split()[0]) > 0.95

    ends = re.findall(r"updates (\d+), of (\d+); mean weight (\S+)", output)
    (whole, total, weight), (half, _, weight_between), end = ends
    assert whole == total
    assert int(half) == int(total) / 2
    assert weight_between != weight
    # To the last bit, and in as many updates.
    assert end == (whole, total, weight)


def test_every_framework_has_the_same_files() -> None:
    folders = {path.name: {file.name for file in path.glob("*.py")} for path in EXAMPLES.iterdir() if path.is_dir()}
    folders.pop("__pycache__", None)
    assert folders == dict.fromkeys(NEEDS, FILES)
    assert [path.name for path in EXAMPLES.glob("*.py")] == ["keras_mnist_clr.py"]


@pytest.mark.parametrize("program", sorted(EXAMPLES.glob("*/*.py")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_program_is_a_page_long_and_says_how_to_run_it(program: Path) -> None:
    text = program.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LINES_OF_A_PAGE
    assert f"examples/{program.parent.name}/{program.name}" in text
    assert "\nNeeds: pip install" in text
