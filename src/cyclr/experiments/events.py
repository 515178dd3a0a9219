"""What happens while a comparison runs."""

from dataclasses import dataclass

from cyclr.experiments.spec import Trial
from cyclr.records import Record


@dataclass(frozen=True)
class Started:
    """A comparison starts: the trials that it will run, and the records that its folder already has."""

    missing: list[Trial]
    done: list[Record]


@dataclass(frozen=True)
class Progress:
    """A trial made progress in a stage: `"loading"`, `"range test"`, `"training"` or `"worker died"`.

    Attributes:
        trial: id of the trial.
        done, total: steps of the stage.
    """

    trial: str
    stage: str
    done: int = 0
    total: int = 1


@dataclass(frozen=True)
class Epoch:
    """A trial finished an epoch; `values` are its metrics, its loss, and the `step` at its end."""

    trial: str
    values: dict[str, float]


@dataclass(frozen=True)
class Finished:
    """A trial finished; its record is on the disk when this is reported by `compare`."""

    record: Record


Event = Started | Progress | Epoch | Finished
