"""The events that a running comparison reports."""

from dataclasses import dataclass

from cyclr.experiments.spec import Trial
from cyclr.records import Record


@dataclass(frozen=True)
class Started:
    """A comparison starts. `missing` are the trials that will run, `done` the records already in the run folder."""

    missing: list[Trial]
    done: list[Record]


@dataclass(frozen=True)
class Progress:
    """A trial made progress in a stage: `"loading"`, `"range test"`, `"training"` or `"worker died"`.

    Attributes:
        trial: id of the trial.
        done, total: finished steps of the stage, and all steps of the stage.
    """

    trial: str
    stage: str
    done: int = 0
    total: int = 1


@dataclass(frozen=True)
class Epoch:
    """A trial finished an epoch. `values` are the epoch's metrics and loss, and `step`, the updates so far."""

    trial: str
    values: dict[str, float]


@dataclass(frozen=True)
class Finished:
    """A trial finished. `compare` reports this event when the record is on the disk."""

    record: Record


Event = Started | Progress | Epoch | Finished
