"""The base class of both engines: it starts trials, forwards events, and restarts trials whose worker died."""

from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass

from msgspec import structs

from cyclr import _checks
from cyclr.experiments.events import Epoch, Event, Finished, Progress
from cyclr.experiments.spec import Trial
from cyclr.experiments.trial import empty_record
from cyclr.records import Record


@dataclass(frozen=True)
class Lost:
    """The worker of `trial` died because of `reason`."""

    trial: Trial
    reason: str


class Engine(ABC):
    """Base class of the engines, which run trials. Options are checked at construction.

    Args:
        threads: number of framework threads per trial, ≥ 1.
        retries: number of times that a trial is restarted after its worker died, ≥ 0. If the worker dies once more, the
            trial is recorded as failed.

    Raises:
        TypeError, ValueError: an option has the wrong type or is out of range.
    """

    def __init__(self, *, threads: int = 1, retries: int = 2) -> None:
        self.threads = _checks.integer("threads", threads, at_least=1)
        self.retries = _checks.integer("retries", retries, at_least=0)

    @abstractmethod
    def open(self, trials: Sequence[Trial]) -> int:
        """Prepare to run these trials, and return how many of them may be submitted at the same time."""

    @abstractmethod
    def submit(self, trial: Trial) -> None:
        """Start a trial."""

    @abstractmethod
    def poll(self) -> Iterable[Progress | Epoch | Finished | Lost]:
        """Wait for events of the submitted trials, and return them."""

    @abstractmethod
    def close(self) -> None:
        """Stop all running trials."""

    def run(
        self, trials: Iterable[Trial], tell: Callable[[Event], None] = lambda event: None
    ) -> Generator[Record, None, None]:
        """Start trials in this order, and yield the record of each trial when it finishes.

        Args:
            trials: the trials to run.
            tell: called with every `Progress` and `Epoch` of the running trials.
        """
        waiting = deque(trials)
        losses: Counter[str] = Counter()
        running = 0
        try:
            slots = self.open(list(waiting)) if waiting else 0
            while waiting or running:
                while waiting and running < slots:
                    self.submit(waiting.popleft())
                    running += 1
                for event in self.poll():
                    match event:
                        case Finished(record):
                            running -= 1
                            yield record
                        case Lost(trial, reason):
                            running -= 1
                            losses[trial.id] += 1
                            tell(Progress(trial.id, "worker died"))
                            if losses[trial.id] <= self.retries:
                                waiting.appendleft(trial)
                            else:
                                error = (
                                    f"its worker died {losses[trial.id]} times; last: {reason.rstrip('.')}. If memory "
                                    "ran out, use fewer workers or a smaller batch size."
                                )
                                yield structs.replace(empty_record(trial), status="failed", error=error)
                        case _:
                            tell(event)
        finally:
            self.close()
