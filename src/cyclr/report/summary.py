"""The trials of a run in groups that can be compared, with what `statistics` says about each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from cyclr.report import statistics
from cyclr.report.run_folder import Trial


@dataclass(frozen=True)
class Policy:
    """What one policy did within a group: its trials by seed, those that ended well, and its statistics over them."""

    trials: tuple[Trial, ...]
    ok: tuple[Trial, ...]
    row: statistics.Row

    @property
    def name(self) -> str:
        """Its name."""
        return self.row.policy


@dataclass(frozen=True)
class Group:
    """Trials that can be compared: of one workload, one optimizer and one metric.

    Attributes:
        direction: whether more (`"max"`) or less (`"min"`) of the metric is better.
        policies: best first.
    """

    workload: str
    optimizer: str
    metric: str
    direction: Literal["max", "min"]
    policies: tuple[Policy, ...]

    @property
    def baseline(self) -> Policy | None:
        """What the others are compared with, as `statistics.summarize` chooses it."""
        return next((policy for policy in self.policies if policy.row.verdict == "baseline"), None)

    @property
    def target(self) -> float | None:
        """What the baseline gets at best, the mean over seeds; None if it is no fixed rate."""
        return self.baseline.row.best.mean if self.baseline is not None and self.baseline.row.fixed else None


def groups(trials: Sequence[Trial]) -> list[Group]:
    """The groups of trials that can be compared, in the order in which they first appear."""
    found: dict[tuple[str, str, str, str], list[Trial]] = {}
    records = statistics.with_optimizers([trial.record for trial in trials])
    for trial, record in zip(trials, records, strict=True):
        group = found.setdefault((trial.workload, record["optimizer"], trial.metric, trial.direction), [])
        group.append(replace(trial, optimizer=record["optimizer"]))
    return [_group(members) for members in found.values()]


def _group(trials: list[Trial]) -> Group:
    head = trials[0]
    members: dict[str, list[Trial]] = {}
    for trial in sorted(trials, key=lambda trial: trial.seed):
        members.setdefault(trial.policy, []).append(trial)
    policies = []
    for row in statistics.summarize(trial.record for trial in trials).rows:
        of_policy = members[row.policy]
        ok = tuple(trial for trial in of_policy if trial.status == "ok")
        policies.append(Policy(tuple(of_policy), ok, row))
    return Group(head.workload, head.optimizer, head.metric, head.direction, tuple(policies))


@dataclass(frozen=True)
class Band:
    """A curve: the mean over seeds at every step, and its 95 % interval; no interval of one seed."""

    step: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]


def band(trials: Sequence[Trial], series: str) -> Band:
    """The band of a series over the steps at which every one of the trials has a value."""
    curves = [
        {
            step: value
            for step, value in zip(trial.epochs.get("step", []), trial.epochs[series], strict=False)
            if math.isfinite(step) and math.isfinite(value)
        }
        for trial in trials
        if series in trial.epochs
    ]
    shared = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
    if not shared:
        return Band([], [], [], [])
    values = np.array([[curve[step] for step in shared] for curve in curves])
    mean = values.mean(0).tolist()
    if len(curves) == 1:
        return Band(shared, mean, [], [])
    low, high = statistics.band(values)
    return Band(shared, mean, low.tolist(), high.tolist())
