"""Live logs, read back by the tools that they are for."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cyclr.experiments import Spec, tracking
from cyclr.experiments.events import Epoch
from cyclr.experiments.trial import run_trial

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed", allow_module_level=True)


def tracked(tracker: Any, spec: Spec) -> dict[str, Any]:
    (trial,) = spec.trials()
    record = run_trial(trial, lambda event: tracker.epoch(trial, event.values) if isinstance(event, Epoch) else None)
    tracker.finish(trial, record)
    return record


def test_tensorboard(blob_spec: Callable[..., Spec], tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    record = tracked(tracking.TensorBoard(tmp_path / "logs"), blob_spec(epochs=3))
    events = reader.EventAccumulator(str(tmp_path / "logs" / record.trial))
    events.Reload()
    assert set(events.Tags()["tensors"]) == {"loss", "val_loss", "val_accuracy", "seconds", "learning_rate"}
    for name in ("val_accuracy", "loss"):
        logged = events.Tensors(name)
        assert [event.step for event in logged] == [10, 20, 30]
        values = [event.tensor_proto.float_val[0] for event in logged]
        assert values == pytest.approx(record.epochs[name])
    assert [event.tensor_proto.float_val[0] for event in events.Tensors("learning_rate")] == pytest.approx([0.1] * 3)


def test_mlflow(blob_spec: Callable[..., Spec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "store").as_uri()
    record = tracked(tracking.Mlflow(uri, "rates"), blob_spec(epochs=3))
    failed = tracked(tracking.Mlflow(uri, "rates"), blob_spec("raises"))
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("rates")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    run = runs[record.trial]
    assert (run.info.status, runs[failed.trial].info.status) == ("FINISHED", "FAILED")
    assert run.data.params["kind"] == "fixed"
    assert run.data.params["seed"] == "0"
    logged = client.get_metric_history(run.info.run_id, "val_accuracy")
    assert [(metric.step, metric.value) for metric in logged] == list(
        zip([10, 20, 30], record.epochs["val_accuracy"], strict=True)
    )
    assert "ZeroDivisionError" in runs[failed.trial].data.tags["error"]
