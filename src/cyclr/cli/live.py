"""Live progress of a comparison: the running trials and the remaining time."""

import threading
from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table

from cyclr.experiments import events
from cyclr.experiments.spec import Trial
from cyclr.records import Record

_SECONDS_BETWEEN = 0.25


def bar_width(console: Console, beside: int) -> int:
    """Return the width of a bar with `beside` characters in the same line; less than 1 if the bar does not fit.

    Three columns stay free for the `^C` that the terminal prints after Ctrl-C. If `^C` started a new line, one line of
    the bar would not be erased.
    """
    return min(30, console.width - beside - 3)


class Board(Progress):
    """A live table of the running trials, and a bar for all trials. Without a terminal, one line per finished trial.

    A separate thread draws the table. It shares a lock with the code that prints lines above the table. Rich's own
    thread has no such lock: if it draws a shorter table while a line is printed, the line is erased.

    Args:
        console: the console to draw on.
        metric: the metric to show.
    """

    def __init__(self, console: Console, metric: str) -> None:
        self._metric, self._terminal = metric, console
        self._turn, self._ended = threading.RLock(), threading.Event()
        self._trials: dict[str, Trial] = {}
        self._running: dict[str, events.Progress] = {}
        self._values: dict[str, float | None] = {}
        self._finished, self._done_before, self._finished_weight = 0, 0, 0.0
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(bar_width=max(1, bar_width(console, 50))),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            auto_refresh=False,
            # Estimate the remaining time from the whole run, since trials differ in speed.
            speed_estimate_period=3600.0,
            transient=True,
            disable=not console.is_terminal,
        )
        self._bar = self.add_task("", total=None)

    def start(self) -> None:
        """Start the thread that draws the table."""
        super().start()
        if not self.disable:
            threading.Thread(target=self._draw, daemon=True).start()

    def stop(self) -> None:
        """Stop drawing, and erase the table."""
        with self._turn:
            self._ended.set()
            super().stop()

    def _draw(self) -> None:
        while not self._ended.wait(_SECONDS_BETWEEN):
            with self._turn:
                if not self._ended.is_set():
                    self.refresh()

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
        # Only training counts as progress, because loading and range tests are short.
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
        if done:
            left = {0: "none is left", 1: "one is left"}.get(len(missing), f"{len(missing)} are left")
            self._say(f"{len(done)} of {len(done) + len(missing)} trials are recorded already, {left}.")
        if failed := sum(record.status == "failed" for record in done):
            trials = "trial" if failed == 1 else "trials"
            self._say(f"{failed} {trials} failed before and will not be run again without --retry-failed.")

    def _print(self, record: Record) -> None:
        values = [value for value in record.epochs.get(record.metric, ()) if value is not None]
        last = f"{values[-1]:.4f}" if values else "–"
        ended = record.ending.get(record.metric)
        ending = "" if ended is None else f", ending {ended:.4f}"
        status = "" if record.status == "ok" else f"  [bold red]{record.status}[/]"
        kinds = ", ".join(dict.fromkeys(event.what.replace("_", " ") for event in record.events))
        events = f", AutoCycle: {kinds}" if kinds else ""
        self._say(
            f"{escape(record.policy)}, seed {record.seed}: {record.metric} {last}{ending}, {record.seconds:.1f} s"
            f"{events}{status}"
        )

    def _say(self, line: str) -> None:
        """Print a line above the table."""
        with self._turn:
            self.console.print(line, highlight=False)

    def get_renderables(self) -> Iterable[RenderableType]:
        """Return the table and the bar."""
        beside = len("  seed  range test    ") + max(len(self._metric), 6)
        # The policy's name is short if there is a bar, and longer otherwise.
        bar = min(10, bar_width(self._terminal, beside + 32))
        longest = self._terminal.width - 3 - beside - (bar + 2 if bar > 0 else 0)
        table = Table(box=None, header_style="dim", pad_edge=False)
        table.add_column("policy", no_wrap=True, overflow="ellipsis", max_width=max(8, longest))
        for column in ("seed", "stage", *([""] if bar > 0 else []), self._metric):
            table.add_column(column, no_wrap=True)
        # A copy, because the drawing thread calls this method while trials start and finish.
        for name, progress in list(self._running.items()):
            trial, value = self._trials[name], self._values.get(name)
            drawn = ProgressBar(total=progress.total, completed=progress.done, width=bar)
            table.add_row(
                *(escape(trial.policy.name), str(trial.seed), progress.stage),
                *([drawn] if bar > 0 else []),
                "" if value is None else f"{value:.4f}",
            )
        return table, self.make_tasks_table(self.tasks)
