"""Live progress of a comparison: the running trials and the remaining time."""

from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table

from cyclr.experiments import events
from cyclr.experiments.spec import Trial
from cyclr.records import Record


class Board:
    """A live table of running trials above a bar for all of them; without a terminal, a line for each that finishes.

    Args:
        console: the console to draw on.
        metric: the metric to show.
    """

    def __init__(self, console: Console, metric: str) -> None:
        self._console, self._metric = console, metric
        self._trials: dict[str, Trial] = {}
        self._running: dict[str, events.Progress] = {}
        self._values: dict[str, float | None] = {}
        self._finished, self._done_before = 0, 0
        self._finished_weight, self._total_weight = 0.0, 0.0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("remaining"),
            TimeRemainingColumn(),
            console=console,
        )
        # Estimate the remaining time from the whole run, since trials differ in speed.
        self._task = self._bar.add_task("", total=None)
        self._bar.speed_estimate_period = 3600.0
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

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
        running = sum(self._trials[name].weight * _share(progress) for name, progress in self._running.items())
        before = f", {self._done_before} from before" if self._done_before else ""
        self._bar.update(
            self._task,
            total=self._total_weight,
            completed=self._finished_weight + running,
            description=f"{self._finished} of {len(self._trials)} trials{before}",
        )

    def _start(self, missing: list[Trial], done: list[Record]) -> None:
        self._trials = {trial.id: trial for trial in missing}
        self._total_weight = sum(trial.weight for trial in missing)
        self._done_before = len(done)
        if failed := sum(record.status == "failed" for record in done):
            trials = "trial" if failed == 1 else "trials"
            self._console.print(
                f"{failed} {trials} failed before and will not be run again without --retry-failed.", highlight=False
            )

    def _print(self, record: Record) -> None:
        values = [value for value in record.epochs.get(record.metric, ()) if value is not None]
        last = f"{values[-1]:.4f}" if values else "–"
        status = "" if record.status == "ok" else f"  [bold red]{record.status}[/]"
        self._console.print(
            f"{escape(record.policy)}, seed {record.seed}: {record.metric} {last}, {record.seconds:.1f} s{status}",
            highlight=False,
        )

    def _render(self) -> RenderableType:
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
                ProgressBar(total=max(1, progress.total), completed=progress.done, width=30),
                "" if value is None else f"{value:.4f}",
            )
        return Group(table, self._bar)


def _share(progress: events.Progress) -> float:
    """The finished part of a trial; its range test is short and counts as nothing."""
    return progress.done / max(1, progress.total) if progress.stage == "training" else 0.0
