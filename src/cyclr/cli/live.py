"""Live progress of a comparison: the running trials and the remaining time."""

from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table

from cyclr.experiments import events
from cyclr.experiments.spec import Trial
from cyclr.records import Record


class Board(Progress):
    """A live table of running trials above a bar for all of them; without a terminal, a line for each that finishes.

    Args:
        console: the console to draw on.
        metric: the metric to show.
    """

    def __init__(self, console: Console, metric: str) -> None:
        self._metric = metric
        self._trials: dict[str, Trial] = {}
        self._running: dict[str, events.Progress] = {}
        self._values: dict[str, float | None] = {}
        self._finished, self._done_before, self._finished_weight = 0, 0, 0.0
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("remaining"),
            TimeRemainingColumn(),
            console=console,
            refresh_per_second=4,
            # Estimate the remaining time from the whole run, since trials differ in speed.
            speed_estimate_period=3600.0,
            transient=True,
            disable=not console.is_terminal,
        )
        self._bar = self.add_task("", total=None)

    def __call__(self, event: events.Event) -> None:
        """Show an event of `cyclr.experiments.compare`."""
        match event:
            case events.Started(missing, done):
                self._start(missing, done)
            case events.Progress(trial):
                self._running[trial] = event
            case events.Epoch(trial, values):
                self._values[trial] = values.get(self._metric)
            case events.Finished(record):
                self._running.pop(record.trial, None)
                self._finished += 1
                self._finished_weight += self._trials[record.trial].weight
                self._print(record)
        # The range test of a trial is short and counts as nothing.
        training = {name: one for name, one in self._running.items() if one.stage == "training"}
        running = sum(self._trials[name].weight * one.done / one.total for name, one in training.items())
        before = f", {self._done_before} from before" if self._done_before else ""
        self.update(
            self._bar,
            completed=self._finished_weight + running,
            description=f"{self._finished} of {len(self._trials)} trials{before}",
        )

    def _start(self, missing: list[Trial], done: list[Record]) -> None:
        self._trials = {trial.id: trial for trial in missing}
        self.update(self._bar, total=sum(trial.weight for trial in missing))
        self._done_before = len(done)
        if failed := sum(record.status == "failed" for record in done):
            trials = "trial" if failed == 1 else "trials"
            self.console.print(
                f"{failed} {trials} failed before and will not be run again without --retry-failed.", highlight=False
            )

    def _print(self, record: Record) -> None:
        values = [value for value in record.epochs.get(record.metric, ()) if value is not None]
        last = f"{values[-1]:.4f}" if values else "–"
        ended = record.ending.get(record.metric)
        ending = "" if ended is None else f", ending {ended:.4f}"
        status = "" if record.status == "ok" else f"  [bold red]{record.status}[/]"
        kinds = ", ".join(dict.fromkeys(event.what.replace("_", " ") for event in record.events))
        events = f", AutoCycle: {kinds}" if kinds else ""
        self.console.print(
            f"{escape(record.policy)}, seed {record.seed}: {record.metric} {last}{ending}, {record.seconds:.1f} s"
            f"{events}{status}",
            highlight=False,
        )

    def get_renderables(self) -> Iterable[RenderableType]:
        """Return the table and the bar."""
        table = Table(box=None, header_style="dim")
        for column in ("policy", "seed", "stage", "", self._metric):
            table.add_column(column)
        # A copy, because this is called by a thread.
        for name, progress in list(self._running.items()):
            trial, value = self._trials[name], self._values.get(name)
            table.add_row(
                escape(trial.policy.name),
                str(trial.seed),
                progress.stage,
                ProgressBar(total=progress.total, completed=progress.done, width=30),
                "" if value is None else f"{value:.4f}",
            )
        return table, self.make_tasks_table(self.tasks)
