"""The loop that both engines share: start trials, pass on events, start again what was lost."""

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
    """The worker of a trial died, for this reason."""

    trial: Trial
    reason: str


class Engine(ABC):
    """Runs trials. Its options are checked when it is made.

    Args:
        threads: threads of the framework in a trial, ≥ 1.
        retries: how often a trial whose worker died is started again, ≥ 0; then its record says that it failed.

    Raises:
        TypeError, ValueError: a number out of range.
    """

    def __init__(self, *, threads: int = 1, retries: int = 2) -> None:
        self.threads = _checks.integer("threads", threads, at_least=1)
        self.retries = _checks.integer("retries", retries, at_least=0)

    @abstractmethod
    def open(self, trials: Sequence[Trial]) -> int:
        """Prepare to run these trials, and return how many may be submitted at a time."""

    @abstractmethod
    def submit(self, trial: Trial) -> None:
        """Start a trial."""

    @abstractmethod
    def poll(self) -> Iterable[Progress | Epoch | Finished | Lost]:
        """Wait until something happens, and return it."""

    @abstractmethod
    def close(self) -> None:
        """Stop whatever runs."""

    def run(
        self, trials: Iterable[Trial], tell: Callable[[Event], None] = lambda event: None
    ) -> Generator[Record, None, None]:
        """Run trials, started in this order, and yield their records as they finish.

        Args:
            trials: what to run.
            tell: called with the `Progress` and the `Epoch`s of running trials.
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
                                    "ran out, fewer workers or a smaller batch size need less."
                                )
                                yield structs.replace(empty_record(trial), status="failed", error=error)
                        case _:
                            tell(event)
        finally:
            self.close()
