"""The studies on Fashion-MNIST: run what is missing, or make tables and figures from the stored records.

python studies/fashion_mnist/study.py headline              # run; the same command resumes
python studies/fashion_mnist/study.py headline --summary    # table, CSV and figure from the records, no training
python studies/fashion_mnist/study.py --summary             # of every study that has records
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

# TensorFlow and its loader say nothing of use here.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from cyclr import records as statistics
from cyclr.drawing import axes as drawing
from cyclr.experiments import Spec, compare, read_records
from cyclr.experiments.events import Event, Finished, Started
from cyclr.records import Record
from cyclr.report import verdict

HERE = Path(__file__).parent
STUDIES = ("headline", "adaptive", "tradeoff")
COLOURS = (mpl.colormaps["Blues"], mpl.colormaps["Oranges"])
"""Of fixed and of moving rates, from pale to dark."""


def main() -> None:
    """Run a study, or summarize."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="*", choices=[*STUDIES, []], help="which; all by default")
    parser.add_argument("--data", help="folder of the four IDX files, if it is not that of Debian's package")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder of the records")
    parser.add_argument("--workers", type=int, default=2, help="trials at a time, each with one thread")
    parser.add_argument("--summary", action="store_true", help="train nothing")
    parser.add_argument("--epochs", type=int, help="shorten every training, for a trial of the script itself")
    parser.add_argument("--samples", type=int, help="use a part of the training images, for a trial of the script")
    parser.add_argument("--seeds", type=int, help="number of seeds")
    options = parser.parse_args()
    for name in options.study or STUDIES:
        folder = options.results / name
        if not options.summary:
            compare(specification(name, options), folder, workers=options.workers, threads=1, tell=say)
        if (folder / "run.json").exists():
            summarize(name, folder)


def specification(name: str, options: argparse.Namespace) -> Spec:
    """The study's TOML file, with what the options change."""
    spec = Spec.from_toml(HERE / f"{name}.toml")
    changes: dict[str, Any] = {"data": options.data, "samples": options.samples}
    if options.seeds:
        changes["seeds"] = range(options.seeds)
    if options.epochs:
        changes["epochs"] = options.epochs
        changes["policies"] = [
            {**policy, **({"epochs": min(policy["epochs"], options.epochs)} if "epochs" in policy else {})}
            for policy in spec.policies
        ]
    return spec.replace(**{key: value for key, value in changes.items() if value is not None})


def say(event: Event) -> None:
    """Print a line for every trial that finishes."""
    if isinstance(event, Started):
        print(f"{len(event.done)} trials are recorded, {len(event.missing)} to run", flush=True)
    if isinstance(event, Finished):
        record = event.record
        best = statistics.best(record)
        print(f"{record.trial}: {record.status}, best {best}, {record.seconds:.0f} s", flush=True)


def summarize(name: str, folder: Path) -> None:
    """Print the verdict and the table; write summary.json, table.csv and the figures beside the records."""
    records = [record for record in read_records(folder) if record.status != "failed"]
    if not records:
        return
    summary = statistics.summarize(records)
    print(f"\n{name}: {verdict.in_words(summary)}")
    for row in summary.rows:
        steps = "–" if row.steps_to_target is None else f"{row.steps_to_target:,.0f}"
        ratio = "" if row.ratio is None else f"{row.ratio:.3f}"
        print(f"  {row.optimizer:32} {row.policy:16} seeds {row.seeds}  best {number(row.best)}  "
              f"{number(row.difference):>24}  {steps:>7} steps {ratio:>6}  {row.verdict}")  # fmt: skip
    statistics.write_csv(summary, folder / "table.csv")
    content = {
        "in_words": verdict.in_words(summary),
        "seconds_of_all_trials": sum(record.seconds for record in records),
    }
    (folder / "summary.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    for file, ax in figures(name, records).items():
        save(ax, folder / file)


def number(interval: statistics.Interval) -> str:
    """A mean and its interval, for print."""
    if interval.mean is None:
        return "–"
    if interval.low is None or interval.high is None:
        return f"{interval.mean:.4f}"
    return f"{interval.mean:.4f} [{interval.low:.4f}, {interval.high:.4f}]"


def figures(name: str, records: list[Record]) -> dict[str, Any]:
    """The axes of a study's figures, by the name of their file."""
    if name == "tradeoff":
        return tradeoff(records)
    by_optimizer: dict[str, list[Record]] = {}
    for record in records:
        if record.status == "ok":
            by_optimizer.setdefault(record.optimizer, []).append(record)
    if not by_optimizer:
        return {}
    columns = min(len(by_optimizer), 2)
    rows = -(-len(by_optimizer) // columns)
    size = (8 * columns, 4.2 * rows)
    _, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for (optimizer, of_it), ax in zip(by_optimizer.items(), axes.flat, strict=False):
        curves(optimizer, of_it, ax)
    for ax in axes.flat[len(by_optimizer) :]:
        ax.remove()
    return {"accuracy.png": axes[0, 0]}


def curves(optimizer: str, records: list[Record], ax: Any) -> None:
    """Validation accuracy against steps, the mean over seeds; a line at what the best fixed rate gets."""
    policies: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda record: (record.lr or 0.0, record.total_steps, record.policy)):
        policies.setdefault(record.policy, []).append(record)
    drawing.draw_curves({}, xlabel="step, range test included", ylabel="validation accuracy", ax=ax)
    fixed = [policy for policy, runs in policies.items() if statistics.is_fixed(runs[0])]
    moving = [policy for policy in policies if policy not in fixed]
    colours = {policy: COLOURS[0](0.35 + 0.6 * n / max(len(fixed) - 1, 1)) for n, policy in enumerate(fixed)}
    colours |= {policy: COLOURS[1](0.35 + 0.6 * n / max(len(moving) - 1, 1)) for n, policy in enumerate(moving)}
    for policy, runs in policies.items():
        steps = np.array(runs[0].epochs["step"]) + np.mean([run.range_test_steps for run in runs])
        mean = np.mean([run.epochs[run.metric] for run in runs], axis=0)
        style = ":" if policy in fixed else "--" if "triangular" in policy else "-"
        ax.plot(steps, mean, label=policy, color=colours[policy], linestyle=style, marker=".")
    best = max((np.mean([statistics.best(run) for run in policies[policy]]) for policy in fixed), default=None)
    if best is not None:
        ax.axhline(best, color="0.4", linewidth=0.8)
        place = {"xycoords": ("axes fraction", "data"), "xytext": (4, 3), "textcoords": "offset points"}
        ax.annotate("the best fixed rate at its best", (0.01, best), fontsize="small", color="0.4", **place)
    values = np.concatenate([run.epochs[run.metric] for runs in policies.values() for run in runs])
    ax.set_ylim(np.quantile(values, 0.1) - 0.02, values.max() + 0.005)
    ax.legend(frameon=False, ncols=2, fontsize="small", loc="lower right")
    ax.set_title(optimizer, loc="left")


def tradeoff(records: list[Record]) -> dict[str, Any]:
    """Accuracy against training time: single runs at the ends of their cycles, and runs of each length."""
    single, separate = {}, {}
    for record in records:
        name = f"{record.policy}, seed {record.seed}"
        if record.policy == "one run":
            points = statistics.tradeoff(record)
            single[name] = points["step"], points["metric"]
        elif (value := statistics.final(record)) is not None:
            steps, values = separate.setdefault("runs of their own", ([], []))
            steps.append(record.total_steps)
            values.append(value)
    if not single:
        return {}
    return {"tradeoff.png": drawing.draw_tradeoff(single, separate, xlabel="step", ylabel="validation accuracy")}


def save(ax: Any, path: Path) -> None:
    """Write a figure and close it."""
    ax.figure.savefig(path, dpi=130, bbox_inches="tight")
    plt.close(ax.figure)
    print(f"  {path}")


if __name__ == "__main__":
    main()
