"""The choice of Keras' backend, in new interpreters, because Keras reads it only once."""

import os
import sys
from pathlib import Path

import pytest
from tests.processes import run

from cyclr.experiments import environment

PROGRAM = """
import os, sys
from pathlib import Path
from cyclr.experiments.environment import select_backend

def ask(*given, **variables):
    os.environ.pop("KERAS_BACKEND", None)
    os.environ.update(variables)
    print(select_backend(*given))

ask()
Path(os.environ["KERAS_HOME"], "keras.json").write_text('{"backend": "jax"}')
ask()
ask(KERAS_BACKEND="torch")
ask("tensorflow", KERAS_BACKEND="torch")
ask("torch")
print("keras" in sys.modules)
import keras
print(keras.backend.backend())
select_backend("torch")
try:
    select_backend("jax")
except ValueError as error:
    print(error)
"""


def test_the_name_wins_over_the_environment_over_the_file_and_cannot_change_after_the_import(tmp_path: Path) -> None:
    said = run([sys.executable, "-c", PROGRAM], env={**os.environ, "KERAS_HOME": str(tmp_path)}).stdout.splitlines()
    assert said[:5] == ["tensorflow", "jax", "torch", "tensorflow", "torch"]
    assert said[5:7] == ["False", "torch"]
    assert "backend must be chosen before Keras is imported; got backend='jax', but Keras runs on 'torch'" in said[7]


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match=r"backend must be one of 'tensorflow', 'jax', 'torch'; got backend='mxnet'"):
        environment.select_backend("mxnet")


def test_a_missing_backend_error_shows_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    find = environment.importlib.util.find_spec
    monkeypatch.setattr(environment.importlib.util, "find_spec", lambda name: None if name == "jax" else find(name))
    with pytest.raises(environment.MissingExtraError, match=r"'jax' is not installed; .* pip install \"cyclr\[jax\]\""):
        environment.select_backend("jax")
    monkeypatch.setattr(environment.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(environment.MissingExtraError, match=r"Keras 3 and a backend are needed"):
        environment.select_backend()
