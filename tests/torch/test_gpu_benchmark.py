"""The short form of `benchmarks/gpu.py`, which is meant for a GPU."""

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.processes import run

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def test_the_short_form_runs_without_a_gpu_and_every_check_passes() -> None:
    pytest.importorskip("jax")
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "OMP_NUM_THREADS": "1"}
    done = run([sys.executable, str(PROGRAM), "--short"], env=environment)
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("|")]
    assert {row[0].strip() for row in rows} == set(loaded().SECTIONS)
    assert sum(row[3].strip() == "ok" for row in rows) >= 15
    assert [row[1].strip() for row in rows if "skipped" in row[2] and "updates" not in row[2]] == ["CUDA graph"]
    assert "Every check passed." in done.stdout


def loaded() -> Any:
    spec = importlib.util.spec_from_file_location("gpu_benchmark", PROGRAM)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    # Its dataclass looks for the module there.
    sys.modules["gpu_benchmark"] = module
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


def test_a_failed_check_and_an_error_are_the_exit_status_and_a_missing_library_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("XLA_FLAGS", "XLA_PYTHON_CLIENT_PREALLOCATE", "CUBLAS_WORKSPACE_CONFIG"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    module = loaded()

    def missing(size: Any) -> Any:
        raise ImportError("no module named 'x'")

    def raising(size: Any) -> Any:
        raise RuntimeError("boom")

    def differing(size: Any) -> Any:
        yield module.equal([1.0, 2.0], [1.0, 3.0])

    for function, status, said in ((missing, 0, "skipped: no module"), (raising, 1, "boom"), (differing, 1, "1 of 2")):
        monkeypatch.setattr(module, "SECTIONS", {"study": (function,)})
        assert module.main(["--short"]) == status
        assert said in capsys.readouterr().out
