"""Which backend is chosen, each time in a fresh interpreter, as Keras reads it once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cyclr.experiments import backend


def select(code: str, home: Path, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    program = f"from cyclr.experiments.backend import select\n{code}"
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**clean, "KERAS_HOME": str(home), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return (result.stdout + result.stderr).strip()


def test_the_name_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    assert select("print(select())", tmp_path) == "tensorflow"
    (tmp_path / "keras.json").write_text('{"backend": "jax"}')
    assert select("print(select())", tmp_path) == "jax"
    assert select("print(select())", tmp_path, KERAS_BACKEND="torch") == "torch"
    assert select("print(select('tensorflow'))", tmp_path, KERAS_BACKEND="torch") == "tensorflow"


def test_keras_then_runs_on_it(tmp_path: Path) -> None:
    assert select("select('torch'); import keras; print(keras.backend.backend())", tmp_path) == "torch"


def test_a_backend_cannot_be_changed_after_keras_was_imported(tmp_path: Path) -> None:
    said = select("select('torch'); import keras; select('jax')", tmp_path)
    assert "backend must be chosen before Keras is imported; got backend='jax', but Keras runs on 'torch'" in said


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match=r"backend must be one of 'tensorflow', 'jax', 'torch'; got backend='mxnet'"):
        backend.select("mxnet")


def test_a_backend_that_is_not_installed_is_answered_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    find = backend.importlib.util.find_spec
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda name: None if name == "jax" else find(name))
    with pytest.raises(backend.MissingExtraError, match=r"'jax' is not installed; .* pip install \"cyclr\[jax\]\""):
        backend.select("jax")
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(backend.MissingExtraError, match=r"Keras 3 and a backend are needed"):
        backend.select()
