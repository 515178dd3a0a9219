"""Every example runs as a program, on real data that is embedded."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_classic_tutorial_runs(tmp_path: Path) -> None:
    program = [sys.executable, str(EXAMPLES / "keras_mnist_clr.py"), "--data", "digits", "--epochs", "8"]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "MPLBACKEND": "Agg"}
    result = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "keras-mnist-clr" / "range_test.png").exists()
    assert (tmp_path / "keras-mnist-clr" / "training.png").exists()
    accuracy = float(result.stdout.split("final validation accuracy ")[1].split(",")[0])
    assert accuracy > 0.9


def test_the_gallery_is_drawn(tmp_path: Path) -> None:
    program = [sys.executable, str(EXAMPLES / "schedule_gallery.py"), str(tmp_path / "gallery.png")]
    subprocess.run(program, env={**os.environ, "MPLBACKEND": "Agg"}, check=True, timeout=100)
    assert (tmp_path / "gallery.png").read_bytes().startswith(b"\x89PNG")


OF_FRAMEWORKS = {
    "jax_equinox": "equinox",
    "jax_flax_nnx": "flax",
    "torch_accelerate": "accelerate",
    "torch_lightning": "lightning",
    "torch_skorch": "skorch",
    "torch_transformers": "transformers",
}


@pytest.mark.parametrize(("name", "framework"), OF_FRAMEWORKS.items(), ids=OF_FRAMEWORKS)
def test_a_recipe_for_a_framework_runs(name: str, framework: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed")
    program = [sys.executable, "-W", "ignore", str(EXAMPLES / f"{name}.py")]
    # Nothing may be downloaded.
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout.split("accuracy ")[1].split()[0]) > 0.95


def test_no_example_is_left_out() -> None:
    known = {"keras_mnist_clr", "schedule_gallery", *OF_FRAMEWORKS}
    assert {path.stem for path in EXAMPLES.glob("*.py")} == known
