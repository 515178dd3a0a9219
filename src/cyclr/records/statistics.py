"""Statistics of the records of a comparison: means, intervals, differences beyond noise, and steps to a target."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from cyclr import _checks, _files
from cyclr.records.direction import Direction
from cyclr.records.estimates import Interval, difference, interval, resolution, seeds_to_decide
from cyclr.records.measures import best, ending, final, is_fixed, steps_to, values
from cyclr.records.record import Record

Verdict = Literal["baseline", "better", "worse", "within noise", "one seed", "no result"]

FEWEST_SEEDS = 5
"""Smallest total number of seeds that is advised, because two or three differences say little about their spread."""
MOST_MORE_SEEDS = 10
"""Largest number of further seeds that is advised. If more are needed, the difference is small beside its noise."""


@dataclass(frozen=True)
class Row:
    """The results of one policy on a workload with an optimizer.

    Attributes:
        workload, optimizer, policy: names of the workload, the optimizer and the policy.
        records: all records of the policy.
        fixed: True if its finished trials used a constant learning rate; False without finished trials.
        final, best: the metric after the last epoch, and the best value of all epochs and the ending.
        ending: the metric of the ensemble or average at the end of the training.
        difference: `best` minus the baseline's `best`, paired by seed; see `summarize` for the interval.
        verdict: `"better"` or `"worse"` only if the interval of the difference excludes 0.
        more_seeds: number of further seeds that is advised if the verdict is `"within noise"` or `"one seed"`. With
            them Student's interval would exclude 0 if mean and spread of the differences stay the same, and the total
            is at least 5 seeds. None if 10 further seeds are too few, and for every other verdict.
        target: the value to reach; if seeds have different targets, their mean.
        aimed: number of trials that had a target. By default a seed has no target if the baseline's trial failed or
            diverged.
        reached: number of these trials that reached their target.
        steps_to_target: mean number of optimizer updates to the target, including the range test; None if a trial did
            not reach its target.
        ratio: `steps_to_target` divided by the baseline's, over the same seeds.
    """

    workload: str
    optimizer: str
    policy: str
    records: tuple[Record, ...] = field(repr=False)
    fixed: bool
    final: Interval
    best: Interval
    ending: Interval
    difference: Interval
    verdict: Verdict
    more_seeds: int | None
    target: float | None
    aimed: int
    reached: int
    steps_to_target: float | None
    ratio: float | None

    @property
    def finished(self) -> list[Record]:
        """The records of finished trials. Only these are part of means, not diverged or failed trials."""
        return [record for record in self.records if record.status == "ok"]

    @property
    def seeds(self) -> int:
        """Number of finished trials."""
        return len(self.finished)

    @property
    def diverged(self) -> int:
        """Number of diverged trials."""
        return sum(record.status == "diverged" for record in self.records)

    @property
    def failed(self) -> int:
        """Number of failed trials."""
        return sum(record.status == "failed" for record in self.records)

    @property
    def total_steps(self) -> float:
        """Mean number of updates of a finished trial, including the range test."""
        return _mean(record.total_steps + record.range_test_steps for record in self.finished) or 0.0

    @property
    def range_test_steps(self) -> float:
        """Mean number of updates of the range test."""
        return _mean(record.range_test_steps for record in self.finished) or 0.0

    @property
    def predictions(self) -> float | None:
        """Mean number of models that one prediction of the ending evaluates; None without an ending."""
        return _mean(record.predictions for record in self.finished if record.predictions)

    @property
    def seconds(self) -> float:
        """Mean wall time of a finished trial."""
        return _mean(record.seconds for record in self.finished) or 0.0


@dataclass(frozen=True)
class Group:
    """Rows that can be compared: they have the same workload, optimizer and metric.

    Attributes:
        direction: `"max"` if larger values of the metric are better, `"min"` if smaller ones are.
        rows: best first.
    """

    workload: str
    optimizer: str
    metric: str
    direction: Direction
    rows: list[Row]

    @property
    def baseline(self) -> Row | None:
        """The row that all other rows are compared with, or None."""
        return next((row for row in self.rows if row.verdict == "baseline"), None)

    @property
    def target(self) -> float | None:
        """The baseline's mean of `best` over seeds; None if the baseline is not a fixed learning rate."""
        return self.baseline.best.mean if self.baseline is not None and self.baseline.fixed else None

    @property
    def has_endings(self) -> bool:
        """True if a policy ends with an ensemble or an average."""
        return any(row.predictions for row in self.rows)

    @property
    def comparisons(self) -> int:
        """Number of differences that were tested."""
        return sum(row.verdict in ("better", "worse", "within noise") for row in self.rows)


@dataclass(frozen=True, repr=False)
class Summary:
    """The groups in the order in which they first appear, and the arguments of `summarize`.

    Attributes:
        confidence: confidence level of the intervals.
        target: the value to reach, or None if it was not given.
    """

    groups: list[Group]
    confidence: float
    target: float | None

    @property
    def rows(self) -> list[Row]:
        """The rows of all groups."""
        return [row for group in self.groups for row in group.rows]

    def __repr__(self) -> str:
        verdicts = ", ".join(f"{row.policy} {_shown(row.best)} ({row.verdict})" for row in self.rows)
        return f"<Summary of {sum(len(row.records) for row in self.rows)} trials: {verdicts}>"

    def _repr_html_(self) -> str:
        from cyclr.drawing.tables import table

        tables = []
        for group in self.groups:
            caption = f"{group.metric} of {group.workload}{group.optimizer and f' with {group.optimizer}'}"
            header = ["policy", "verdict", "best", "difference", "steps to target", "seeds"]
            rows = [
                (
                    row.policy,
                    row.verdict,
                    _shown(row.best),
                    "" if row.verdict == "baseline" else _shown(row.difference),
                    "" if row.steps_to_target is None else f"{row.steps_to_target:,.0f}",
                    f"{row.seeds} of {len(row.records)}",
                )
                for row in group.rows
            ]
            tables.append(table(caption, rows, header))
        interval = f"Means over seeds; in brackets their {100 * self.confidence:g} % intervals."
        return f"<div>{''.join(tables)}<p>{interval}</p></div>"


def _shown(value: Interval) -> str:
    if value.mean is None:
        return "none"
    return f"{value.mean:.4g}" + ("" if value.low is None else f" [{value.low:.3g}, {value.high:.3g}]")


def summarize(
    records: Iterable[Record],
    *,
    target: float | None = None,
    baseline: str | None = None,
    confidence: float = 0.95,
) -> Summary:
    """Compare the policies over their seeds; nothing is trained.

    - Intervals are bootstrap percentile intervals of the mean over seeds. For few seeds they are too narrow.
    - Differences to the baseline are paired by seed. The interval of their mean covers the bootstrap interval and
      Student's interval, which is wide enough for few seeds: mean ± t · max(s, r / √12) / √n, for n differences with
      standard deviation s. r is the resolution of the metric, the smallest distance between two of its values in the
      group. Even equal differences may hide a spread of r / √12, the standard deviation of rounding.
    - A policy is better or worse if this interval excludes 0. If m policies are compared with the baseline, Holm's
      procedure limits the probability of any false verdict in a group to 1 - confidence. Intervals have the level
      1 - (1 - confidence) / m, and each policy whose interval excludes 0 is better or worse. The other policies are
      tested again, with their number as m, until no policy is left or no interval excludes 0. `Row.difference` has the
      interval that decided.
    - Steps to a target are the updates until the end of the first epoch that reaches the target, plus the updates of
      the range test. The default target of a seed is the best value of the baseline in that seed, so the baseline
      always reaches it. A seed whose baseline trial failed or diverged then has no target, and numbers about targets
      leave this seed out.

    Args:
        records: records, as `read_records` returns them.
        target: value of the metric to reach.
        baseline: policy to compare with. The default is the fixed learning rate with the best mean, if possible one
            without failed or diverged trials. Without fixed learning rates the default is the best policy.
        confidence: confidence level of the intervals, in (0, 1).

    Raises:
        ValueError: there are no records, two records have the same policy and seed, or the baseline has no record.
        MissingExtraError: SciPy is not installed.

    Example:
        >>> from cyclr import Constant, OneCycle
        >>> from cyclr.records import Record, summarize
        >>> def record(policy, seed, schedule, accuracy):
        ...     what = {"trial": f"{policy}-{seed}", "workload": "cnn", "optimizer": "SGD", "schedule": schedule}
        ...     measured = {"metric": "val_accuracy", "direction": "max", "total_steps": 20}
        ...     epochs = {"step": [10, 20], "val_accuracy": accuracy}
        ...     return Record(policy=policy, seed=seed, epochs=epochs, **what, **measured)
        >>> records = [record("fixed 0.1", seed, Constant(0.1), [0.7, 0.8 + seed / 99]) for seed in (0, 1)]
        >>> cycle = OneCycle(0.1, 1.0, 20)
        >>> records += [record("1cycle", seed, cycle, [0.85, 0.9 + seed / 99]) for seed in (0, 1)]
        >>> [(row.policy, row.verdict, row.steps_to_target) for row in summarize(records).rows]
        [('1cycle', 'better', 10.0), ('fixed 0.1', 'baseline', 20.0)]

    Source:
        S. Holm, *A simple sequentially rejective multiple test procedure*, Scandinavian Journal of Statistics 6, 1979.
    """
    found = _with_optimizers(list(records))
    _checks.number("confidence", confidence, above=0, below=1)
    if not found:
        raise ValueError("records is empty. Wait until a trial has finished.")
    if baseline is not None:
        _checks.choice("baseline", baseline, sorted({record.policy for record in found}))
    groups: dict[tuple[str, ...], dict[str, list[Record]]] = {}
    for record in found:
        key = (record.workload, record.optimizer, record.metric, record.direction)
        groups.setdefault(key, {}).setdefault(record.policy, []).append(record)
    return Summary([_group(policies, target, baseline, confidence) for policies in groups.values()], confidence, target)


def _with_optimizers(records: Sequence[Record]) -> list[Record]:
    """Return the records. Fill in the workload's own optimizer in trials that failed before it was created.

    Other seeds of the same policy have this optimizer in their records. An optimizer that was chosen by name is in the
    records of all seeds.
    """
    seeds: dict[tuple[str, str, str], set[int]] = {}
    for record in records:
        seeds.setdefault((record.workload, record.policy, record.optimizer), set()).add(record.seed)
    own: dict[str, set[str]] = {}
    for (workload, policy, optimizer), having in seeds.items():
        lacking = seeds.get((workload, policy, ""))
        if optimizer and lacking and not having & lacking:
            own.setdefault(workload, set()).add(optimizer)
    known = {workload: names.pop() for workload, names in own.items() if len(names) == 1}
    return [
        msgspec.structs.replace(r, optimizer=known[r.workload]) if not r.optimizer and r.workload in known else r
        for r in records
    ]


def _group(policies: dict[str, list[Record]], target: float | None, baseline: str | None, confidence: float) -> Group:
    one = next(iter(policies.values()))[0]
    for policy, records in policies.items():
        seeds = sorted(record.seed for record in records)
        if len(set(seeds)) < len(seeds):
            raise ValueError(
                f"{policy!r} on {one.workload} with {one.optimizer or 'no optimizer'} has a seed twice: seeds={seeds}. "
                "Give different policies different names, and summarize comparisons one by one."
            )
    sign = 1.0 if one.direction == "max" else -1.0
    bests = {
        policy: {r.seed: value for r in records if r.status == "ok" and (value := best(r)) is not None}
        for policy, records in policies.items()
    }
    means = {policy: sign * float(np.mean([*found.values()])) for policy, found in bests.items() if found}
    # Only finished trials decide if a policy is fixed, because a failed trial may have no learning rate yet.
    fixed = {policy for policy in means if all(is_fixed(r) for r in policies[policy] if r.seed in bests[policy])}
    whole = {policy for policy in fixed if len(bests[policy]) == len(policies[policy])}
    base = (
        baseline if baseline in policies else max(means, key=lambda p: (p in fixed, p in whole, means[p]), default="")
    )
    base_best = bests.get(base, {})
    base_records = {record.seed: record for record in policies.get(base, ()) if record.seed in base_best}
    gaps = {
        policy: [value - base_best[seed] for seed, value in found.items() if seed in base_best]
        for policy, found in bests.items()
    }
    finest = resolution([v for records in policies.values() for r in records if r.status == "ok" for v in values(r)])
    decided = _holm({policy: gs for policy, gs in gaps.items() if policy != base and len(gs) > 1}, finest, confidence)
    rows = []
    for policy, records in policies.items():
        finished = [record for record in records if record.status == "ok"]
        found, level = decided.get(policy) or (interval(gaps[policy], confidence), confidence)
        verdict: Verdict = "baseline" if policy == base else _verdict(found, sign)
        aims = [(record, base_best.get(record.seed) if target is None else target) for record in finished]
        aimed = [(record, aim) for record, aim in aims if aim is not None]
        steps = [steps_to(record, aim) for record, aim in aimed]
        base_steps = [steps_to(base_records[r.seed], aim) if r.seed in base_records else None for r, aim in aimed]
        mean_steps, mean_base = (_mean(found) if None not in found else None for found in (steps, base_steps))
        rows.append(
            Row(
                *(one.workload, one.optimizer, policy, tuple(records)),
                fixed=policy in fixed,
                final=interval([value for r in finished if (value := final(r)) is not None], confidence),
                best=interval([*bests[policy].values()], confidence),
                ending=interval([value for r in finished if (value := ending(r)) is not None], confidence),
                difference=found,
                verdict=verdict,
                more_seeds=_more_seeds(verdict, gaps[policy], finest, level),
                target=_mean(aim for _, aim in aimed),
                aimed=len(aimed),
                reached=len(steps) - steps.count(None),
                steps_to_target=mean_steps,
                ratio=mean_steps / mean_base if mean_steps is not None and mean_base is not None else None,
            )
        )
    rows.sort(key=lambda row: means.get(row.policy, -math.inf), reverse=True)
    return Group(one.workload, one.optimizer, one.metric, one.direction, rows)


def _holm(gaps: dict[str, list[float]], finest: float, confidence: float) -> dict[str, tuple[Interval, float]]:
    """Return the interval of each mean difference and its level, both from the deciding step of Holm's procedure."""
    decided: dict[str, tuple[Interval, float]] = {}
    while rest := [policy for policy in gaps if policy not in decided]:
        level = 1 - (1 - confidence) / len(rest)
        found = {policy: (difference(gaps[policy], finest, level), level) for policy in rest}
        decided |= {policy: one for policy, one in found.items() if one[0].excludes_zero} or found
    return decided


def _more_seeds(verdict: Verdict, gaps: list[float], finest: float, level: float) -> int | None:
    """Return the number of further seeds to advise, or None."""
    if verdict == "one seed":
        return FEWEST_SEEDS - 1
    count = len(gaps)
    needed = seeds_to_decide(gaps, finest, level, count + MOST_MORE_SEEDS) if verdict == "within noise" else None
    return None if needed is None else max(needed, FEWEST_SEEDS) - count


def _verdict(found: Interval, sign: float) -> Verdict:
    if found.mean is None:
        return "no result"
    if found.low is None:
        return "one seed"
    if not found.excludes_zero:
        return "within noise"
    return "better" if sign * found.mean > 0 else "worse"


_COLUMNS = (
    *("workload", "optimizer", "policy", "fixed", "seeds", "diverged", "failed", "final", "best", "difference"),
    *("verdict", "target", "aimed", "reached", "steps_to_target", "ratio"),
    *("total_steps", "range_test_steps", "seconds"),
)


def write_csv(summary: Summary, path: str | Path) -> None:
    """Write the rows as CSV. An interval has three columns, and unknown values are empty.

    If a policy has an ending, the last columns are for endings and their predictions. An existing file is replaced
    atomically.

    Raises:
        OSError: the file cannot be written.
    """
    extra = ("ending", "predictions") if any(group.has_endings for group in summary.groups) else ()
    rows = [_cells(row, (*_COLUMNS, *extra)) for row in summary.rows]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    _files.write_atomically(path, text.getvalue())


def _cells(row: Row, columns: Iterable[str]) -> dict[str, object]:
    cells: dict[str, object] = {}
    for name in columns:
        value = getattr(row, name)
        cells |= {f"{name}_{k}": v for k, v in vars(value).items()} if isinstance(value, Interval) else {name: value}
    return cells


def _mean(found: Iterable[float | None]) -> float | None:
    known = [value for value in found if value is not None]
    return float(np.mean(known)) if known else None
