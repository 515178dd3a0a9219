"""Live logs of a comparison for TensorBoard, MLflow, and Weights & Biases.

The process that calls `compare` writes the logs, not its workers.
"""

import os
import re
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from cyclr import _extras
from cyclr._redact import redact
from cyclr.errors import CyclrError
from cyclr.experiments import _private
from cyclr.experiments.spec import Trial
from cyclr.records import Record


class _Tracker(ABC):
    """Base class of trackers. Every trial is a run of the tool, with the values of every epoch at its last step.

    At the end of a trial the run also gets the learning rate of every epoch's last update and, as `ending/...`, the
    metrics of the ending. If a trial is restarted because its worker died, repeated epochs are logged only once.
    """

    def __init__(self) -> None:
        self._runs: dict[str, Any] = {}
        self._steps: dict[str, int] = {}
        """The last step that was logged, by trial."""

    def epoch(self, trial: Trial, values: dict[str, float]) -> None:
        """Log the values of an epoch."""
        step = int(values["step"])
        if step > self._steps.get(trial.id, -1):
            self._log(self._run(trial), {name: value for name, value in values.items() if name != "step"}, step)
            self._steps[trial.id] = step

    def finish(self, trial: Trial, record: Record) -> None:
        """Log the learning rates and the ending of a finished trial, and close its run."""
        run = self._run(trial)
        for step in filter(None, record.epochs.get("step", ())):
            self._log(run, {"learning_rate": record.steps["learning_rate"][int(step) - 1]}, int(step))
        if ending := {f"ending/{name}": value for name, value in record.ending.items() if value is not None}:
            self._log(run, {**ending, "ending/predictions": record.predictions}, record.total_steps)
        self._close(run, record)
        del self._runs[trial.id]
        self._steps.pop(trial.id, None)

    def _run(self, trial: Trial) -> Any:
        if trial.id not in self._runs:
            described = {**trial.definition(), "policy": trial.policy.name, "optimizer": trial.optimizer_name}
            self._runs[trial.id] = self._start(trial.id, redact(described))
        return self._runs[trial.id]

    @abstractmethod
    def _start(self, name: str, settings: dict[str, Any]) -> Any:
        """Start the run of a trial, and return it."""

    @abstractmethod
    def _log(self, run: Any, values: dict[str, Any], step: int) -> None:
        """Log values at a step."""

    @abstractmethod
    def _close(self, run: Any, record: Record) -> None:
        """End the run."""


class TensorBoard(_Tracker):
    """A TensorBoard run for every trial, in a folder named after the trial.

    Args:
        folder: log folder; `tensorboard --logdir FOLDER` shows it.

    Raises:
        MissingExtraError: tensorboard is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        with _extras.needed("live logs need", "tensorboard"):
            from tensorboard.summary.writer.record_writer import RecordWriter
        self._writer, self._folder = RecordWriter, Path(folder)

    def _start(self, name: str, settings: dict[str, Any]) -> Any:
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        # Not TensorBoard's own file name, which contains the host name.
        now = time.time_ns()
        run = self._writer((folder / f"events.out.tfevents.{now // 10**9:010d}.cyclr.{now}").open("xb"))
        self._write(run, file_version="brain.Event:2")
        return run

    def _log(self, run: Any, values: dict[str, Any], step: int) -> None:
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb

        for name, value in values.items():
            self._write(run, step=step, summary=scalar_pb(name, value))
        run.flush()

    def _close(self, run: Any, record: Record) -> None:
        run.close()

    def _write(self, run: Any, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        run.write(Event(wall_time=time.time(), **content).SerializeToString())


class Mlflow(_Tracker):
    """An MLflow run for every trial, with its settings as parameters. If the trial failed, the run has status FAILED.

    If a comparison was killed, its unfinished run of the same trial gets status KILLED.

    Args:
        uri: tracking URI: a server, `sqlite:///FILE` (needs the full mlflow package) or a folder; None for the URI in
            the environment.
        experiment: name of the experiment, created if it does not exist.

    Raises:
        MissingExtraError: mlflow is not installed.
        CyclrError: the server cannot be reached, or the folder or file cannot be used.
    """

    def __init__(self, uri: str | None = None, experiment: str = "cyclr") -> None:
        super().__init__()
        with _extras.needed("live logs need", "mlflow", extra="mlflow"):
            from mlflow import MlflowClient
        try:
            self._client = MlflowClient(tracking_uri=uri)
            known = self._client.get_experiment_by_name(experiment)
            self._experiment = self._client.create_experiment(experiment) if known is None else known.experiment_id
        except Exception as error:  # noqa: BLE001
            # MLflow raises errors of databases and of HTTP, which may quote the password.
            where = "in the environment" if uri is None else repr(redact(uri))
            raise CyclrError(
                f"MLflow cannot use the tracking URI {where}: {redact(str(error)):.200}. Start its server, or check "
                "the URI."
            ) from None

    def _start(self, name: str, settings: dict[str, Any]) -> Any:
        same = f"attributes.run_name = '{name}' and attributes.status = 'RUNNING'"
        for left in self._client.search_runs([self._experiment], same):
            self._client.set_terminated(left.info.run_id, "KILLED")
        run: str = self._client.create_run(self._experiment, run_name=name).info.run_id
        for setting, value in settings.items():
            self._client.log_param(run, setting, value)
        return run

    def _log(self, run: Any, values: dict[str, Any], step: int) -> None:
        for name, value in values.items():
            self._client.log_metric(run, re.sub(r"[^\w\-. /]", "_", name), value, step=step)

    def _close(self, run: Any, record: Record) -> None:
        if record.error:
            self._client.set_tag(run, "error", record.error)
        self._client.set_tag(run, "cyclr.status", record.status)
        self._client.set_terminated(run, "FAILED" if record.status == "failed" else "FINISHED")


class Wandb(_Tracker):
    """A Weights & Biases run for every trial, with its settings as config. If the trial failed, the run has failed too.

    Runs are offline unless `WANDB_MODE` is set: nothing leaves the machine until `wandb sync`. A run contains no name
    of a host, a user or a folder, and no command. The id of a run is the id of its trial, so a trial that runs again
    replaces its earlier run.

    Args:
        project: name of the project.
        folder: runs are written to `FOLDER/wandb`. None for the folder in `WANDB_DIR`, or else the current folder.

    Raises:
        MissingExtraError: wandb is not installed.
    """

    def __init__(self, project: str = "cyclr", folder: str | Path | None = None) -> None:
        super().__init__()
        with _extras.needed("live logs need", "wandb", extra="wandb"):
            import wandb
        self._init, self._project, self._folder = wandb.init, project, folder
        # wandb reads its environment only once in a process.
        self._mode: Any = os.environ.get("WANDB_MODE") or "offline"

    def _start(self, name: str, settings: dict[str, Any]) -> Any:
        run = self._init(
            project=self._project,
            dir=self._folder,
            id=name,
            name=name,
            config=settings,
            mode=self._mode,
            resume="allow",
            reinit="create_new",
            settings=_private.wandb_settings(),
        )
        run.define_metric("*", step_metric="step")
        return run

    def _log(self, run: Any, values: dict[str, Any], step: int) -> None:
        run.log({**values, "step": step})

    def _close(self, run: Any, record: Record) -> None:
        run.summary.update({"cyclr.status": record.status, **({"error": record.error} if record.error else {})})
        run.finish(exit_code=int(record.status == "failed"))
