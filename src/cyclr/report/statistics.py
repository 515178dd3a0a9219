"""What the records of a comparison say: means, intervals, differences beyond noise, and steps to a target."""

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np

from cyclr import _checks
from cyclr.report.estimates import Interval, band, interval, is_beyond_noise, resolution_of
from cyclr.report.measures import Record, best, final, is_fixed, steps_to, tradeoff, values_of

__all__ = [
    "Interval",
    "Record",
    "Row",
    "Summary",
    "Verdict",
    "band",
    "best",
    "final",
    "interval",
    "is_fixed",
    "steps_to",
    "summarize",
    "tradeoff",
    "with_optimizers",
    "write_csv",
]

Verdict = Literal["baseline", "better", "worse", "within noise", "one seed", "no result"]


@dataclass(frozen=True)
class Row:
    """One policy of a workload and an optimizer.

    Attributes:
        workload, optimizer, policy: whose row it is.
        fixed: whether its finished trials trained at one rate; False without any.
        seeds: trials that came to their end; those that diverged are counted in `diverged`, others in `failed`.
        final, best: the metric after the last epoch, and at its best.
        difference: of `best` to the baseline's, seed by seed.
        verdict: `"better"` or `"worse"` only where the difference is more than noise (see `summarize`).
        target: what was to be reached; the mean over seeds, where it differs.
        aimed: trials that had a target; none has one by default in a seed that the baseline lost.
        reached: trials that reached it, of `aimed`.
        steps_to_target: their optimizer updates until then, those of the range test included; None if one did not.
        ratio: steps_to_target over the baseline's, in the same seeds.
        total_steps: updates of a whole trial, those of the range test included.
        range_test_steps: updates of the range test alone.
        seconds: wall time of a trial.
    """

    workload: str
    optimizer: str
    policy: str
    fixed: bool
    seeds: int
    diverged: int
    failed: int
    final: Interval
    best: Interval
    difference: Interval
    verdict: Verdict
    target: float | None
    aimed: int
    reached: int
    steps_to_target: float | None
    ratio: float | None
    total_steps: float
    range_test_steps: float
    seconds: float


@dataclass(frozen=True)
class Summary:
    """All rows, best first within a workload and an optimizer, and how they were made.

    Attributes:
        target: the value that was to be reached, where one was given.
    """

    metric: str
    direction: Literal["max", "min"]
    confidence: float
    target: float | None
    rows: list[Row]

    @property
    def groups(self) -> dict[tuple[str, str], list[Row]]:
        """The rows that can be compared, by workload and optimizer."""
        found: dict[tuple[str, str], list[Row]] = {}
        for row in self.rows:
            found.setdefault((row.workload, row.optimizer), []).append(row)
        return found

    def in_words(self) -> str:
        """The verdict on every workload and optimizer, in the words of the report."""
        from cyclr.report import verdict

        said = []
        for (workload, optimizer), rows in self.groups.items():
            place = f"On {workload} with {optimizer}" if optimizer else f"On {workload}"
            words = verdict.of_rows(rows, self.metric, target=self.target, confidence=self.confidence)
            said.append(f"{place}: {' '.join(words)}")
        return " ".join(said)


def summarize(
    records: Iterable[Record],
    *,
    target: float | None = None,
    baseline: str | None = None,
    confidence: float = 0.95,
) -> Summary:
    """Compare the policies over their seeds; nothing is trained.

    - Intervals are bootstrap percentile intervals of the mean over seeds. Of few seeds they are too narrow.
    - A difference to the baseline is paired, seed by seed. It is more than noise if the bootstrap interval of its mean
      excludes 0 and so does Student's, which is honest for few seeds: mean ± t · max(s, r / √12) / √n, for n
      differences with standard deviation s. r is the resolution of the metric, the smallest distance between two of
      its values in the group; equal differences may hide a spread of r / √12, which is that of rounding.
    - Steps to a target are those of the first epoch that ends with it, plus those of the range test. The default
      target of a seed is the best value of the baseline in that seed, so that the baseline reaches it by itself; a
      seed that the baseline lost has none, and counts in no number about targets.

    Args:
        records: as `read_records` gives them.
        target: value of the metric to reach.
        baseline: policy to compare with; by default the fixed rate with the best mean among those that lost no trial,
            among all of them if each lost one, or the best policy of all if there is none.
        confidence: of the intervals, in (0, 1).

    Raises:
        ValueError: no records, records of several metrics, two of one policy and seed, or a baseline without a record.
        MissingExtraError: SciPy is not installed.

    Example:
        >>> from cyclr import Constant, OneCycle
        >>> from cyclr.experiments import statistics
        >>> def record(policy, seed, schedule, accuracy):
        ...     steps = {"total_steps": 20, "range_test_steps": 0, "schedule": schedule.to_dict()}
        ...     epochs = {"step": [10, 20], "val_accuracy": accuracy}
        ...     measured = {"metric": "val_accuracy", "direction": "max", "epochs": epochs, "seconds": 1.0}
        ...     where = {"trial": f"{policy}-{seed}", "workload": "cnn", "optimizer": "SGD", "status": "ok"}
        ...     return {**where, "policy": policy, "seed": seed, **steps, **measured}
        >>> records = [record("fixed 0.1", seed, Constant(0.1), [0.7, 0.8 + seed / 99]) for seed in (0, 1)]
        >>> cycle = OneCycle(0.1, 1.0, 20)
        >>> records += [record("1cycle", seed, cycle, [0.85, 0.9 + seed / 99]) for seed in (0, 1)]
        >>> [(row.policy, row.verdict, row.steps_to_target) for row in statistics.summarize(records).rows]
        [('1cycle', 'better', 10.0), ('fixed 0.1', 'baseline', 20.0)]
    """
    found = with_optimizers(list(records))
    _checks.number("confidence", confidence, above=0, below=1)
    if not found:
        raise ValueError("records must hold one at least; got none. Has a trial come to its end?")
    metrics = {(record["metric"], record["direction"]) for record in found}
    if len(metrics) > 1:
        raise ValueError(f"records must be of one metric; got {', '.join(sorted(name for name, _ in metrics))}.")
    metric, direction = metrics.pop()
    rows: list[Row] = []
    groups: dict[tuple[str, str], dict[str, list[Record]]] = {}
    for record in found:
        group = groups.setdefault((record["workload"], record["optimizer"]), {})
        group.setdefault(record["policy"], []).append(record)
    for (workload, optimizer), group in groups.items():
        for policy, members in group.items():
            seeds = [record["seed"] for record in members]
            if len(set(seeds)) < len(seeds):
                raise ValueError(
                    f"seeds must differ within a policy, a workload and an optimizer; got seeds={sorted(seeds)} for "
                    f"{policy!r} on {workload} with {optimizer or 'no optimizer'}. Give policies that differ names "
                    "that differ, and summarize comparisons one by one."
                )
    names = sorted({policy for group in groups.values() for policy in group})
    if baseline is not None and baseline not in names:
        raise ValueError(
            f"baseline must be one of {', '.join(map(repr, names))}; got baseline={baseline!r}. "
            "Choose a policy that has a record."
        )
    for (workload, optimizer), group in groups.items():
        rows += _rows(workload, optimizer, group, direction, target, baseline, confidence)
    return Summary(metric, direction, confidence, target, rows)


def with_optimizers(records: Sequence[Record]) -> list[Record]:
    """The records, where those that failed before they had the workload's own optimizer have it, if it is known.

    It is known if other seeds of a policy that failed in this way have it: an optimizer that was asked for by name is
    in the record of every seed.
    """
    seeds: dict[tuple[str, str, str], set[int]] = {}
    for record in records:
        key = record["workload"], record["policy"], record["optimizer"]
        seeds.setdefault(key, set()).add(record["seed"])
    own: dict[str, set[str]] = {}
    for (workload, policy, optimizer), having in seeds.items():
        lacking = seeds.get((workload, policy, ""))
        if optimizer and lacking and not having & lacking:
            own.setdefault(workload, set()).add(optimizer)
    known = {workload: names.pop() for workload, names in own.items() if len(names) == 1}
    return [{**record, "optimizer": record["optimizer"] or known.get(record["workload"], "")} for record in records]


def _rows(
    workload: str,
    optimizer: str,
    group: dict[str, list[Record]],
    direction: str,
    target: float | None,
    baseline: str | None,
    confidence: float,
) -> list[Row]:
    sign = 1.0 if direction == "max" else -1.0
    finished = {policy: _finished(records) for policy, records in group.items()}
    means = {policy: sign * mean for policy, rs in finished.items() if (mean := _mean(map(best, rs))) is not None}
    # A trial that failed may not have come to its rate, so that those that ended well tell whether it is fixed.
    fixed = {policy: mean for policy, mean in means.items() if all(map(is_fixed, finished[policy]))}
    whole = {policy: mean for policy, mean in fixed.items() if len(finished[policy]) == len(group[policy])}
    choice = whole or fixed or means
    base = baseline if baseline in group else max(choice, key=choice.__getitem__, default=None)
    of_base = {record["seed"]: record for record in finished.get(base or "", ())}
    resolution = resolution_of(
        [value for records in finished.values() for record in records for value in values_of(record)]
    )
    rows = []
    for policy, records in group.items():
        ended = [record for record in records if record["status"] == "ok"]
        pairs = [
            (record, of_base[record["seed"]])
            for record in ended
            if record["seed"] in of_base and best(record) is not None
        ]
        gaps = [_value(best(record)) - _value(best(other)) for record, other in pairs]
        difference = interval(gaps, confidence)
        aims = [target if target is not None else _best_of(of_base.get(record["seed"])) for record in ended]
        aimed = [(record, aim) for record, aim in zip(ended, aims, strict=True) if aim is not None]
        reached = [steps_to(record, aim) for record, aim in aimed]
        all_reached = bool(reached) and all(steps is not None for steps in reached)
        base_steps = [_steps_of(of_base.get(record["seed"]), aim) for record, aim in aimed]
        comparable = all_reached and all(steps is not None for steps in base_steps)
        rows.append(
            Row(
                workload,
                optimizer,
                policy,
                fixed=policy in fixed,
                seeds=len(ended),
                diverged=sum(record["status"] == "diverged" for record in records),
                failed=sum(record["status"] == "failed" for record in records),
                final=interval([_value(final(record)) for record in ended if final(record) is not None], confidence),
                best=interval([_value(best(record)) for record in ended if best(record) is not None], confidence),
                difference=difference,
                verdict="baseline" if policy == base else _verdict(gaps, difference, sign, resolution, confidence),
                target=_mean(aims),
                aimed=len(aimed),
                reached=sum(steps is not None for steps in reached),
                steps_to_target=_mean(reached) if all_reached else None,
                ratio=_value(_mean(reached)) / _value(_mean(base_steps)) if comparable else None,
                total_steps=_mean(r["total_steps"] + r["range_test_steps"] for r in ended) or 0.0,
                range_test_steps=_mean(record["range_test_steps"] for record in ended) or 0.0,
                seconds=_mean(record["seconds"] for record in ended) or 0.0,
            )
        )
    return sorted(rows, key=lambda row: -math.inf if row.best.mean is None else sign * row.best.mean, reverse=True)


def _finished(records: Iterable[Record]) -> list[Record]:
    """The records that count: of trials that ended well, with a value of the metric."""
    return [record for record in records if record["status"] == "ok" and best(record) is not None]


def _verdict(gaps: Sequence[float], difference: Interval, sign: float, resolution: float, confidence: float) -> Verdict:
    if not gaps:
        return "no result"
    if len(gaps) == 1:
        return "one seed"
    if not is_beyond_noise(gaps, difference, resolution, confidence):
        return "within noise"
    return "better" if sign * sum(gaps) > 0 else "worse"


def write_csv(summary: Summary, path: str | Path) -> None:
    """Write the rows as CSV; an interval makes three columns, and what is not known is left empty."""
    names = [f.name for f in fields(Row)]
    intervals = {"final", "best", "difference"}
    header = [
        column
        for name in names
        for column in ([f"{name}_mean", f"{name}_low", f"{name}_high"] if name in intervals else [name])
    ]
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for row in summary.rows:
            values = asdict(row)
            cells = [
                cell for name in names for cell in (values[name].values() if name in intervals else (values[name],))
            ]
            writer.writerow(["" if cell is None else cell for cell in cells])


def _best_of(record: Record | None) -> float | None:
    return None if record is None else best(record)


def _steps_of(record: Record | None, target: float) -> int | None:
    return None if record is None else steps_to(record, target)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _value(value: float | None) -> float:
    return math.nan if value is None else value
