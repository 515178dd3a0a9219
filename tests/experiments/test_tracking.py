"""Live logs, read back by the tools that they were written for."""

import getpass
import importlib.util
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cyclr.errors import CyclrError
from cyclr.experiments import Spec, tracking
from cyclr.experiments.events import Epoch
from cyclr.experiments.trial import run_trial
from cyclr.records import Record

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
    (file,) = (tmp_path / "logs" / record.trial).iterdir()
    # TensorBoard's own writers put the host into the name.
    assert file.name.startswith("events.out.tfevents.")
    assert ".cyclr." in file.name
    events = reader.EventAccumulator(str(file.parent))
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
    rates = client.get_metric_history(run.info.run_id, "learning_rate")
    assert [(metric.step, metric.value) for metric in rates] == [(10, 0.1), (20, 0.1), (30, 0.1)]


def test_a_run_of_mlflow_that_a_killed_comparison_left_is_marked(
    blob_spec: Callable[..., Spec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri, spec = (tmp_path / "store").as_uri(), blob_spec()
    (trial,) = spec.trials()
    tracking.Mlflow(uri).epoch(trial, {"loss": 1.0, "step": 10.0})
    for _ in range(2):
        tracked(tracking.Mlflow(uri), spec)
    client = mlflow.MlflowClient(tracking_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name("cyclr").experiment_id])
    assert sorted(run.info.status for run in runs) == ["FINISHED", "FINISHED", "KILLED"]


def read_wandb(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any], int]:
    """The config, the history, the summary and the exit code in the file of an offline run.

    A process of wandb writes the file, and ends it shortly after `finish()` has returned.
    """
    (file,) = folder.glob("*.wandb")
    for _ in range(1000):
        if (parts := wandb_parts(file.read_bytes()))[-1] >= 0:
            break
        time.sleep(0.05)
    return parts


def wandb_parts(content: bytes) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any], int]:
    from wandb.proto.wandb_internal_pb2 import Record as Entry

    place, data = 7, b""
    config, history, summary, code = dict[str, Any](), list[dict[str, Any]](), dict[str, Any](), -1
    # A log of LevelDB: blocks of 32 KiB. A piece has a checksum, its length and its kind; 1 and 4 end an entry.
    while place + 7 <= len(content):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        if place + 7 + length > len(content):
            break
        data += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind not in (1, 4):
            continue
        entry, data = Entry.FromString(data), b""
        config |= {item.key: json.loads(item.value_json) for item in entry.run.config.update}
        summary |= {item.key: json.loads(item.value_json) for item in entry.summary.update}
        if entry.HasField("history"):
            items = entry.history.item
            history.append({item.key or item.nested_key[0]: json.loads(item.value_json) for item in items})
        if entry.HasField("exit"):
            code = entry.exit.exit_code
    return config, history, summary, code


@pytest.fixture
def wandb_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[Path]]:
    """The folders of the offline runs of a trial; nothing of the machine's settings is read."""
    pytest.importorskip("wandb")
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "settings"))
    return lambda trial: sorted((tmp_path / "wandb").glob(f"offline-run-*-{trial}"))


def test_wandb(blob_spec: Callable[..., Spec], wandb_runs: Callable[[str], list[Path]], tmp_path: Path) -> None:
    tracker = tracking.Wandb("rates", tmp_path)
    record, failed = tracked(tracker, blob_spec(epochs=3)), tracked(tracker, blob_spec("raises"))
    (run,), (failed_run,) = wandb_runs(record.trial), wandb_runs(failed.trial)
    config, history, summary, code = read_wandb(run)
    assert (config["kind"], config["seed"], summary["cyclr.status"], code) == ("fixed", 0, "ok", 0)
    losses = [(row["step"], row["loss"]) for row in history if "loss" in row]
    assert losses == list(zip([10, 20, 30], record.epochs["loss"], strict=True))
    rates = [(row["step"], row["learning_rate"]) for row in history if "learning_rate" in row]
    assert rates == [(10, 0.1), (20, 0.1), (30, 0.1)]
    *_, summary, code = read_wandb(failed_run)
    assert "ZeroDivisionError" in summary["error"]
    assert (summary["cyclr.status"], code) == ("failed", 1)


def test_wandb_files_name_no_machine_and_no_folder(
    blob_spec: Callable[..., Spec], wandb_runs: Callable[[str], list[Path]], tmp_path: Path
) -> None:
    record = tracked(tracking.Wandb(folder=tmp_path), blob_spec())
    (run,) = wandb_runs(record.trial)
    read_wandb(run)
    (file,) = run.glob("*.wandb")
    content = file.read_bytes()
    private = {socket.gethostname(), getpass.getuser(), str(Path.home()), str(tmp_path), sys.executable, sys.argv[0]}
    assert [text for text in private if len(text) > 3 and text.encode() in content] == []
    assert not [*run.glob("files/*")]


def test_wandb_honours_the_mode_in_the_environment(
    blob_spec: Callable[..., Spec],
    wandb_runs: Callable[[str], list[Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_runs(tracked(tracking.Wandb(folder=tmp_path), blob_spec()).trial) == []


class Kept(tracking._Tracker):
    """A tracker of lists."""

    def __init__(self) -> None:
        super().__init__()
        self.logged: list[tuple[int, dict[str, Any]]] = []

    def _start(self, name: str, settings: dict[str, Any]) -> str:
        return name

    def _log(self, run: str, values: dict[str, Any], step: int) -> None:
        self.logged.append((step, values))

    def _close(self, run: str, record: Any) -> None:
        self.logged.append((record.total_steps, {"status": record.status}))


def test_epochs_of_a_restarted_trial_are_logged_once_and_the_ending_at_the_end(blob_spec: Callable[..., Spec]) -> None:
    (trial,) = blob_spec().trials()
    kept = Kept()
    for step in (10, 20, 10, 20, 30):
        kept.epoch(trial, {"loss": 1.0, "step": float(step)})
    made = {"trial": trial.id, "workload": "w", "policy": "p", "seed": 0, "optimizer": "", "metric": "accuracy"}
    ending = {"val_accuracy": 0.9, "val_loss": None}
    kept.finish(trial, Record(**made, direction="max", total_steps=30, ending=ending, predictions=5))
    assert [step for step, values in kept.logged if "loss" in values] == [10, 20, 30]
    assert kept.logged[3:] == [
        (30, {"ending/val_accuracy": 0.9, "ending/predictions": 5}),
        (30, {"status": "ok"}),
    ]


def test_a_tracking_uri_that_cannot_be_used_is_one_line_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(CyclrError, match=r"MLflow cannot use the tracking URI 'http://\*\*\*'") as caught:
        tracking.Mlflow("http://bob:hunter2@127.0.0.1:9")
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)
