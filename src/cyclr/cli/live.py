"""What is seen while a comparison runs: running trials with their progress, and the time that remains."""

from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table

from cyclr.experiments.spec import Trial
from cyclr.records import Record


class Board:
    """A live table of running trials above a bar for all of them; without a terminal, a line for each that finishes.

    Args:
        console: where to draw.
        metric: the metric to show.
    """

    def __init__(self, console: Console, metric: str) -> None:
        self._console, self._metric = console, metric
        self._trials: dict[str, Trial] = {}
        self._running: dict[str, dict[str, Any]] = {}
        self._finished: set[str] = set()
        self._done_before = 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("remaining"),
            TimeRemainingColumn(),
            console=console,
        )
        # The time that remains is judged by all of the run so far: the next trial may be slower than the last.
        self._task = self._bar.add_task("", total=None)
        self._bar.speed_estimate_period = 3600.0
        self._live = Live(console=console, get_renderable=self._drawn, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def __call__(self, event: dict[str, Any]) -> None:
        """Take in an event of `cyclr.experiments.compare`."""
        if "missing" in event:
            self._trials = {trial.id: trial for trial in event["missing"]}
            self._done_before = len(event["done"])
            if failed := sum(record.status == "failed" for record in event["done"]):
                trials = "trial" if failed == 1 else "trials"
                self._console.print(
                    f"{failed} {trials} failed before and will not be run again without --retry-failed.",
                    highlight=False,
                )
        elif "record" in event:
            self._running.pop(event["trial"], None)
            self._finished.add(event["trial"])
            self._print(event["record"])
        elif "epoch" in event:
            self._state(event)["value"] = event["epoch"].get(self._metric)
        else:
            self._state(event).update(event)
        total = sum(trial.weight for trial in self._trials.values())
        running = sum(self._trials[name].weight * _share(state) for name, state in self._running.items())
        finished = sum(self._trials[name].weight for name in self._finished)
        self._bar.update(self._task, total=total, completed=finished + running, description=self._count())

    def _state(self, event: dict[str, Any]) -> dict[str, Any]:
        return self._running.setdefault(event["trial"], {})

    def _count(self) -> str:
        before = f", {self._done_before} from before" if self._done_before else ""
        return f"{len(self._finished)} of {len(self._trials)} trials{before}"

    def _print(self, record: Record) -> None:
        values = [value for value in record.epochs.get(record.metric, ()) if value is not None]
        said = f"{values[-1]:.4f}" if values else "–"
        status = "" if record.status == "ok" else f"  [bold red]{record.status}[/]"
        self._console.print(
            f"{escape(record.policy)}, seed {record.seed}: {record.metric} {said}, {record.seconds:.1f} s{status}",
            highlight=False,
        )

    def _drawn(self) -> RenderableType:
        table = Table(box=None, header_style="dim")
        for column in ("policy", "seed", "stage", "", self._metric):
            table.add_column(column)
        for name, state in self._running.items():
            trial, value = self._trials[name], state.get("value")
            table.add_row(
                escape(trial.policy.name),
                str(trial.seed),
                str(state.get("stage", "")),
                ProgressBar(total=max(1, state.get("total", 1)), completed=state.get("done", 0), width=30),
                "" if value is None else f"{value:.4f}",
            )
        return Group(table, self._bar)


def _share(state: dict[str, Any]) -> float:
    """How much of a trial is done; the range test is short and counts as nothing."""
    return state["done"] / max(1, state["total"]) if state.get("stage") == "training" else 0.0
