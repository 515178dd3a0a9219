"""Live logs of a comparison for those who keep them: TensorBoard and MLflow. Written by the process that compares."""

import re
from pathlib import Path
from typing import Any

from cyclr.errors import MissingExtraError
from cyclr.experiments.spec import Trial
from cyclr.records import Record
from cyclr.records.redact import redact


class TensorBoard:
    """A TensorBoard run for every trial, with the values of every epoch at its step, and the learning rate at the end.

    Args:
        folder: log folder; `tensorboard --logdir FOLDER` shows it.

    Raises:
        MissingExtraError: tensorboard is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        try:
            from tensorboard.summary import Writer
        except ImportError as error:
            raise MissingExtraError('live logs need tensorboard. Run: pip install "tensorboard>=2.18".') from error
        self._make, self._folder = Writer, Path(folder)
        self._writers: dict[str, Any] = {}

    def epoch(self, trial: Trial, values: dict[str, float]) -> None:
        """Log the values of an epoch."""
        if trial.id not in self._writers:
            self._writers[trial.id] = self._make(str(self._folder / trial.id))
        writer = self._writers[trial.id]
        for name, value in values.items():
            if name != "step":
                writer.add_scalar(name, value, int(values["step"]))
        writer.flush()

    def finish(self, trial: Trial, record: Record) -> None:
        """Log the learning rate of every epoch's last update, and close the run."""
        if writer := self._writers.pop(trial.id, None):
            for step in filter(None, record.epochs.get("step", ())):
                writer.add_scalar("learning_rate", record.steps["learning_rate"][int(step) - 1], int(step))
            writer.close()


class Mlflow:
    """An MLflow run for every trial: its settings as parameters, the values of every epoch as metrics at their step.

    Args:
        uri: tracking URI: a server, `sqlite:///FILE` (with the whole of mlflow) or a folder; None for the URI
            in the environment.
        experiment: name of the experiment, made if it does not exist.

    Raises:
        MissingExtraError: mlflow is not installed.
    """

    def __init__(self, uri: str | None = None, experiment: str = "cyclr") -> None:
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise MissingExtraError('live logs by MLflow need it. Run: pip install "cyclr[mlflow]".') from error
        self._client = MlflowClient(tracking_uri=uri)
        known = self._client.get_experiment_by_name(experiment)
        self._experiment = self._client.create_experiment(experiment) if known is None else known.experiment_id
        self._runs: dict[str, str] = {}

    def _run(self, trial: Trial) -> str:
        if trial.id not in self._runs:
            run = self._client.create_run(self._experiment, run_name=trial.id)
            self._runs[trial.id] = run.info.run_id
            described = {**trial.definition(), "policy": trial.policy.name, "optimizer": trial.optimizer_name}
            for name, value in redact(described).items():
                self._client.log_param(run.info.run_id, name, value)
        return self._runs[trial.id]

    def epoch(self, trial: Trial, values: dict[str, float]) -> None:
        """Log the values of an epoch."""
        run = self._run(trial)
        for name, value in values.items():
            if name != "step":
                self._client.log_metric(run, re.sub(r"[^\w\-. /]", "_", name), value, step=int(values["step"]))

    def finish(self, trial: Trial, record: Record) -> None:
        """Close the run, as failed if the trial failed."""
        run = self._run(trial)
        if record.error:
            self._client.set_tag(run, "error", record.error)
        self._client.set_tag(run, "cyclr.status", record.status)
        self._client.set_terminated(run, "FAILED" if record.status == "failed" else "FINISHED")
        del self._runs[trial.id]
