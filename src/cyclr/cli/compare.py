"""`cyclr compare`: compare policies, on this machine or on a Ray cluster."""

import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich import box
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from cyclr import _checks
from cyclr._redact import shell
from cyclr.cli.live import Board
from cyclr.cli.options import (
    BackendOption,
    DataOption,
    Exit,
    OverwriteOption,
    check_folder,
    check_new,
    command_line,
    err,
    is_given,
    out,
    say,
)
from cyclr.errors import CyclrError
from cyclr.experiments import compare as run_comparison
from cyclr.experiments import policies, tracking
from cyclr.experiments.spec import Spec
from cyclr.records import Group, Interval, Record, Row, RunFolder, Summary, read_records, summarize, write_csv
from cyclr.report import verdict
from cyclr.report.run import predictions

_SUMMARY_OPTIONS = ("summary", "output", "baseline", "target", "csv", "overwrite")

_DISPENSABLE = ("s", "final", "models", "ratio", "n")
"""Columns that are left out in a narrow terminal, in this order."""

_LEGEND = {
    "n": "number of seeds",
    "difference": "best minus the baseline's best",
    "steps": "to the target, including the range test",
    "ratio": "steps divided by the baseline's steps",
    "s": "seconds per trial",
}

_POLICY_HELP = (
    "KIND, KIND:option=value,… or fixed:RATE,RATE,…; may be given several times. "
    f"Kinds: {', '.join(policies.KINDS)} (schedule:FILE.json). All kinds except cosine and plateau take "
    "ending=ensemble or ending=average, with every and keep."
)


def compare(
    context: typer.Context,
    spec: Annotated[
        Path | None, typer.Argument(help="TOML file of the comparison; options take precedence.", show_default=False)
    ] = None,
    output: Annotated[Path, typer.Option(help="Run folder; missing trials are added.")] = Path("cyclr-compare"),
    workload: Annotated[
        str | None,
        typer.Option(
            "--workload",
            "--model",
            help="FILE.py:function that returns a Keras or torch model, with or without data, optimizer and loss; or "
            "**mlp** (the default) or **cnn**.",
        ),
    ] = None,
    data: DataOption = None,
    policy: Annotated[list[str] | None, typer.Option(help=_POLICY_HELP)] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Number of seeds: 0, 1, 2, …")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Length of every training in epochs.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Length in steps (optimizer updates), instead of --epochs.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Samples per update.")] = None,
    optimizer: Annotated[list[str] | None, typer.Option(help="Optimizer by name; may be given several times.")] = None,
    metric: Annotated[str | None, typer.Option(help="Metric to compare: val_accuracy, val_loss, …")] = None,
    direction: Annotated[
        Literal["max", "min"] | None,
        typer.Option(help="Which values of the metric are better; by default from its name (min for losses)."),
    ] = None,
    range_test_steps: Annotated[
        int | None, typer.Option(min=2, help="Updates of each range test; 150 by default.")
    ] = None,
    backend: BackendOption = None,
    engine: Annotated[Literal["local", "ray"], typer.Option(help="Local worker processes, or Ray.")] = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Trials that run at the same time; one per core by default.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Framework threads per trial.")] = 1,
    retries: Annotated[int, typer.Option(min=0, help="Restarts of a trial whose worker died.")] = 2,
    address: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster, such as auto; by default Ray starts on this machine.")
    ] = None,
    cpus: Annotated[float, typer.Option(min=0, help="CPUs per trial on Ray.")] = 1,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs per trial on Ray; several trials may share a GPU.")] = 0,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed trials again.")] = False,
    baseline: Annotated[
        str | None, typer.Option(help="Policy to compare with; the best fixed rate by default.")
    ] = None,
    target: Annotated[float | None, typer.Option(help="Metric value to reach; the baseline's best by default.")] = None,
    csv: Annotated[Path | None, typer.Option(help="CSV file to write the table to.")] = None,
    overwrite: OverwriteOption = False,
    summary: Annotated[bool, typer.Option("--summary", help="Show the recorded results without training.")] = False,
    tensorboard: Annotated[Path | None, typer.Option(help="Log folder for TensorBoard.")] = None,
    mlflow: Annotated[str | None, typer.Option(help="Tracking URI of MLflow.")] = None,
    wandb: Annotated[
        str | None, typer.Option(help="Project of Weights & Biases; offline unless WANDB_MODE is set.")
    ] = None,
) -> None:
    """Compare learning-rate policies over several seeds. To finish an interrupted comparison, run the command again.

    Example: cyclr compare --policy fixed:0.01,0.03,0.1 --policy triangular --epochs 8 --seeds 3
    """
    check_new(overwrite, csv, made=None if summary else output)
    if summary:
        _check_summary(context)
        records = read_records(output)
    else:
        check_folder(output)
        given = {
            "workload": workload,
            "data": data,
            "policies": _policies(policy) if policy else None,
            "seeds": None if seeds is None else list(range(seeds)),
            "epochs": epochs,
            "steps": steps,
            "batch_size": batch_size,
            "optimizer": optimizer or None,
            "metric": metric,
            "direction": direction,
            "backend": backend,
            "range_test": None if range_test_steps is None else {"steps": range_test_steps},
        }
        comparison = _comparison(context, spec, output, given)
        trials = comparison.trials()
        if baseline is not None:
            _checks.choice("baseline", baseline, dict.fromkeys(trial.policy.name for trial in trials))
        trackers: list[Any] = [] if tensorboard is None else [tracking.TensorBoard(tensorboard)]
        trackers += [] if mlflow is None else [tracking.Mlflow(mlflow)]
        trackers += [] if wandb is None else [tracking.Wandb(wandb)]
        options: dict[str, Any] = {"workers": workers, "threads": threads, "retries": retries}
        if engine == "ray":
            options |= {"address": address, "cpus": cpus, "gpus": gpus}
        try:
            with Board(out, comparison.metric) as board:
                records = run_comparison(
                    comparison,
                    output,
                    engine=engine,
                    retry_failed=retry_failed,
                    trackers=trackers,
                    tell=board,
                    **options,
                )
        except KeyboardInterrupt:
            missing = len(RunFolder.read(output, missing_ok=True).missing(trial.id for trial in trials))
            err.print(
                f"\nInterrupted: {len(trials) - missing} of {len(trials)} trials are recorded. "
                f"To continue, run the same command again, or: {shell(['cyclr', 'compare', '--output', str(output)])}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
            raise typer.Exit(Exit.INTERRUPTED) from None
    _print_failures(records)
    found = summarize(records, target=target, baseline=baseline)
    print_summary(found)
    if csv is not None:
        write_csv(found, csv)
    for record in records:
        if record.range_test_steps > record.total_steps > 0:
            say(
                f"The range test ({record.range_test_steps:,} updates) was longer than the training "
                f"({record.total_steps:,}). Train longer, or test with fewer updates: --range-test-steps "
                f"{max(20, record.total_steps // 2)}."
            )
            break
    say(f"Records: {output / 'records.jsonl'}" + (f"; table: {csv}" if csv else ""))
    if failed := sum(record.status == "failed" for record in records):
        say(
            f"{failed} of {len(records)} trials failed; their tracebacks are in {output / 'records.jsonl'}. "
            "Fix the cause, and add --retry-failed to run them again."
        )
        raise typer.Exit(Exit.ERROR)


def _comparison(context: typer.Context, spec: Path | None, output: Path, given: dict[str, Any]) -> Spec:
    """Return the comparison in a file or in an unfinished run folder, or the comparison that the options describe."""
    tables = given["policies"]
    recorded = {} if spec or tables else RunFolder.read(output, missing_ok=True).about
    if recorded:
        return Spec.from_run(recorded, given)
    if spec is None:
        needed: dict[str, tuple[str, ...]] = {}
        if not tables:
            needed["policies"] = ("--policy", "fixed:0.01,0.1", "--policy", "triangular")
        if not (given["epochs"] or given["steps"]):
            needed["the length of a training"] = ("--epochs", "8")
        if needed:
            finished = f" ({output} holds no comparison to finish)" if is_given(context, "output") else ""
            example = command_line(context, *(word for words in needed.values() for word in words))
            raise CyclrError(f"a comparison needs {' and '.join(needed)}{finished}. For example: {example}")
    return Spec.from_options(spec, given)


def _policies(texts: list[str]) -> list[dict[str, Any]]:
    """Return the policies of all `--policy` options. Each option is checked separately, so that errors can quote it."""
    tables = []
    for text in texts:
        try:
            parsed = policies.parse(text)
            Spec(parsed, epochs=1)
        except (CyclrError, ValueError, TypeError) as error:
            raise CyclrError(f"--policy {shlex.quote(text)}: {error}") from error
        tables += parsed
    return tables


def own_traceback(record: Record) -> str:
    """Return the traceback of a failed trial if the error is in the user's file, else `""`."""
    name = Path(record.workload.partition(".py:")[0]).name
    traceback = record.traceback or ""
    # In records of version 0.1 tracebacks include lines of cyclr.
    return traceback if f'{name}.py", line' in traceback and "/cyclr/experiments/" not in traceback else ""


def _print_failures(records: list[Record]) -> None:
    """Print every error once, with its traceback in the user's file."""
    by_error: dict[str, list[Record]] = {}
    for record in records:
        if record.status == "failed":
            by_error.setdefault(str(record.error), []).append(record)
    for error, (first, *others) in by_error.items():
        who = f"{first.policy}, seed {first.seed}" + (f" and {len(others)} more" if others else "")
        say(f"{who} failed: {error}", style="red")
        if own := own_traceback(first):
            say(own)


def _check_summary(context: typer.Context) -> None:
    """Raise if an option is given that --summary would ignore."""
    ignored = [
        option.opts[0] if option.param_type_name == "option" else str(context.params["spec"])
        for option in context.command.params
        if option.name not in _SUMMARY_OPTIONS and is_given(context, option.name or "")
    ]
    if ignored:
        raise CyclrError(
            "--summary shows recorded results and takes only "
            f"{', '.join(f'--{name}' for name in _SUMMARY_OPTIONS[1:])}; got {', '.join(ignored)}. Leave out "
            "--summary or these options."
        )


def print_summary(summary: Summary) -> None:
    """Print a table for every group, and the verdict in words."""
    # In a file or a pipe, lines may have any width.
    wide = out if out.is_terminal else Console(width=1000, emoji=False)
    metrics = ", ".join(dict.fromkeys(group.metric for group in summary.groups))
    say(f"{metrics}: mean over seeds, and its {100 * summary.confidence:g} % interval", style="italic")
    left_out: set[str] = set()
    for group in summary.groups:
        where = ", ".join(filter(None, (group.workload, group.optimizer)))
        drawn, dropped = _fitting(group, escape(where) if len(summary.groups) > 1 else None, wide)
        left_out |= dropped
        wide.print(drawn)
        wide.print()
    legend = [f"{name}: {what}" for name, what in _LEGEND.items() if name not in left_out]
    if any(group.has_endings for group in summary.groups):
        legend += ["ending: the ensemble or average of members", "models: evaluated for one prediction of the ending"]
    note = f" Not shown at this width: {', '.join(sorted(left_out))}; --csv has all columns." if left_out else ""
    out.print("; ".join(legend) + "." + note, style="dim")
    out.print(verdict.in_words(summary), highlight=False, markup=False)


def _fitting(group: Group, title: str | None, console: Console) -> tuple[RenderableType, set[str]]:
    """Return a table of the columns that fit the console, and the names of the others; or all rows as paragraphs."""
    rows = [_cells(row, group.has_endings) for row in group.rows]
    longest = max(len(row.policy) for row in group.rows)
    least = min(20, longest)
    for count in range(len(_DISPENSABLE) + 1):
        shown = [name for name in rows[0] if name not in _DISPENSABLE[:count]]
        # Measured with a wide console, because a console measures no more than its own width.
        room = console.width - Console(width=1000).measure(_table(rows, shown, title, least)).maximum
        if room >= 0:
            return _table(rows, shown, title, min(longest, least + room)), rows[0].keys() - shown
    paragraphs = [title] if title else []
    for cells in rows:
        name, _, lost = cells["policy"].partition("\n")
        values = [cells["verdict"], *([lost] if lost else [])]
        for column in [*cells][1:-1]:
            value, _, interval = cells[column].partition("\n")
            if value not in ("", "–"):
                values.append(f"{column} {value}" + (f" ({interval})" if interval else ""))
        paragraphs.append(f"[b]{name}[/b]: {', '.join(values)}")
    return "\n".join(paragraphs), set()


def _table(rows: list[dict[str, str]], shown: list[str], title: str | None, width: int) -> Table:
    """Return a table of the columns `shown`. The first has a fixed width, the others are as wide as their content."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    table.add_column(shown[0], overflow="fold", width=width)
    for name in shown[1:]:
        table.add_column(name, justify="left" if name == "verdict" else "right", no_wrap=True)
    for cells in rows:
        table.add_row(*(cells[name] for name in shown))
    return table


def _cells(row: Row, has_endings: bool) -> dict[str, str]:
    """Return the cells of a row by column name."""
    lost = [f"{n} {what}" for n, what in ((row.diverged, "diverged"), (row.failed, "failed")) if n]
    reached = f"{row.reached} of {row.aimed}" if row.reached else "never" if row.aimed else "–"
    return {
        "policy": escape(row.policy) + (f"\n[dim]{', '.join(lost)}[/]" if lost else ""),
        "n": str(row.seeds),
        "best": _interval(row.best),
        "final": "–" if row.final.mean is None else f"{row.final.mean:.4g}",
        **({"ending": _interval(row.ending), "models": predictions(row)} if has_endings else {}),
        "difference": "" if row.verdict == "baseline" else _interval(row.difference, sign="+", digits=3),
        "steps": reached if row.steps_to_target is None else f"{row.steps_to_target:,.0f}",
        "ratio": "" if row.ratio is None else f"{row.ratio:.2f}",
        "s": f"{row.seconds:.1f}",
        "verdict": row.verdict,
    }


def _interval(interval: Interval, sign: str = "", digits: int = 4) -> str:
    if interval.mean is None:
        return "–"
    text = f"{interval.mean:{sign}.{digits}g}"
    if interval.low is not None and interval.high is not None:
        text += f"\n[dim]{interval.low:{sign}.{digits - 1}g}…{interval.high:{sign}.{digits - 1}g}[/]"
    return text
