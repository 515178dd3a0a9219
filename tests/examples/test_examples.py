"""Every example runs as a program, on real data that is embedded; a run in two parts ends where a whole one does."""

import contextlib
import functools
import importlib.util
import os
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.processes import run

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


TUTORIAL = "keras_mnist_clr.py"
LOOPS = {
    "loops/gpt.py": ("torch", "; loss", 0, 2.6),
    "loops/gpt_by_hand.py": ("torch", "; loss", 0, 2.6),
    "loops/vae.py": ("torch", "loss", 0, 26),
    "loops/gan.py": ("torch", "distance of the mean images", 0, 0.05),
    "loops/siamese.py": ("torch", "accuracy", 0.85, 1),
    "loops/ema.py": ("torch", "accuracy", 0.95, 1),
    "loops/label_smoothing.py": ("transformers", "loss", 0, 3.3),
    "loops/optax_chain.py": ("optax", "accuracy", 0.95, 1),
    "loops/tuner.py": ("keras_tuner", "accuracy", 0.95, 1),
}
"""Programs of one file: the package that each needs, and the number that it prints at the end with its limits."""
TOGETHER = {
    "keras": ["keras", TUTORIAL, "loops/tuner.py"],
    "torch": ["torch", "skorch", "accelerate", "lightning", "transformers"],
    "jax": ["equinox", "flax", "loops/optax_chain.py"],
    "ddp": ["ddp"],
    "loops": [program for program, (package, *_) in LOOPS.items() if package in ("torch", "transformers")],
}
"""The programs of one process, which imports a framework once."""
PROCESS = {name: process for process, names in TOGETHER.items() for name in names}
PACKAGES = {**NEEDS, TUTORIAL: "keras", **{program: package for program, (package, *_) in LOOPS.items()}}


def grouped(name: str) -> Any:
    """A program as a parameter of a test, which runs where the other programs of its process do."""
    return pytest.param(name, marks=pytest.mark.xdist_group(f"examples of {PROCESS[name]}"))


def require_package_of(program: str) -> None:
    if importlib.util.find_spec(PACKAGES[program]) is None:
        pytest.skip(f"{PACKAGES[program]} is not installed")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[str, Path]]:
    """What the programs of a framework print, and the folder that they write into; each process runs once."""

    @functools.cache
    def started(process: str) -> tuple[dict[str, str], Path]:
        folder = tmp_path_factory.mktemp(process)
        launcher = ["-W", "ignore"]
        if process == "ddp":
            launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        paths = [str(EXAMPLES / name) for name in TOGETHER[process] if importlib.util.find_spec(PACKAGES[name])]
        # Nothing may be downloaded, and no display may be needed.
        environment = {
            "KERAS_BACKEND": "tensorflow",
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "MPLBACKEND": "Agg",
            "OMP_NUM_THREADS": "1",
            "PORTS": " ".join(map(str, free_ports(5))) if process == "ddp" else "",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        command = [sys.executable, *launcher, str(RUN_FOLDER), *paths]
        parts = re.split(r"^=== (.+)\n", run(command, cwd=folder, env=environment).stdout, flags=re.MULTILINE)
        return dict(zip(parts[1::2], parts[2::2], strict=True)), folder

    def result(name: str) -> tuple[str, Path]:
        outputs, folder = started(PROCESS[name])
        return outputs[Path(name).stem], folder / Path(name).stem

    return result


@pytest.mark.xdist_group("examples of keras")
def test_the_classic_tutorial_runs(results: Callable[[str], tuple[str, Path]]) -> None:
    output, folder = results(TUTORIAL)
    assert (folder / "keras-mnist-clr" / "range_test.png").exists()
    assert (folder / "keras-mnist-clr" / "training.png").exists()
    assert float(output.split("final validation accuracy ")[1].split(",")[0]) > 0.9


@pytest.mark.parametrize("name", [*map(grouped, NEEDS)])
def test_the_programs_of_a_framework_run(name: str, results: Callable[[str], tuple[str, Path]]) -> None:
    require_package_of(name)
    output, folder = results(name)

    assert "The loss" in output.split("== train")[0]
    assert (folder / "range_test.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "range_test.json").exists()
    assert float(output.split("accuracy ")[1].split()[0]) > 0.95

    assert_parts_equal_the_whole(output)


def assert_parts_equal_the_whole(output: str) -> str:
    """Compare the runs of a program that was stopped, and return its mean weight at the end."""
    ends = re.findall(r"updates (\d+), of (\d+); mean weight ([^\s;]+)", output)
    (whole, total, weight), (half, _, weight_between), end = ends
    assert whole == total
    assert int(half) == int(total) / 2
    assert weight_between != weight
    # To the last bit, and in as many updates.
    assert end == (whole, total, weight)
    return weight


@pytest.mark.parametrize("program", [*map(grouped, LOOPS)])
def test_a_loop_finds_bounds_and_trains(program: str, results: Callable[[str], tuple[str, Path]]) -> None:
    require_package_of(program)
    _, number, least, most = LOOPS[program]
    output, _ = results(program)
    assert "The loss fell" in output
    assert least < float(re.findall(rf"{number} ([\d.]+)", output)[-1]) <= most


@pytest.mark.xdist_group("examples of loops")
def test_a_rate_set_by_hand_trains_as_the_scheduler_does(results: Callable[[str], tuple[str, Path]]) -> None:
    outputs = [results(program)[0] for program in ("loops/gpt.py", "loops/gpt_by_hand.py")]
    with_scheduler, by_hand = map(assert_parts_equal_the_whole, outputs)
    assert with_scheduler == by_hand


def test_every_framework_has_the_same_files() -> None:
    folders = {path.name: {file.name for file in path.glob("*.py")} for path in EXAMPLES.iterdir() if path.is_dir()}
    folders.pop("__pycache__", None)
    assert {f"loops/{name}" for name in folders.pop("loops")} == LOOPS.keys()
    assert folders == dict.fromkeys(NEEDS, FILES)
    assert [path.name for path in EXAMPLES.glob("*.py")] == [TUTORIAL]


@pytest.mark.parametrize("program", sorted(EXAMPLES.glob("*/*.py")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_program_is_a_page_long_and_says_how_to_run_it(program: Path) -> None:
    text = program.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LINES_OF_A_PAGE
    assert f"examples/{program.parent.name}/{program.name}" in text
    assert "\nNeeds: pip install" in text
