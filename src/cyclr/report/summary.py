"""What the trials of a run say together: curves with bands, a row for every policy, and differences that count.

Trials are compared within a group alone: one workload, one optimizer, one metric. A band or interval is Student's, at
95 %, over the seeds; with one seed there is none, and no difference is called one.
"""

import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cyclr.report.run_folder import Trial
from cyclr.schedules import Constant

_STUDENT_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""97.5 % quantiles of Student's distribution with 1, 2, … degrees of freedom (Student 1908)."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, and half the width of its 95 % interval; NaN with fewer than two values."""

    mean: float
    half: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> "Estimate":
        """The estimate from the values that are numbers.

        Example:
            >>> estimate = Estimate.of([1.0, 2.0, 3.0])
            >>> estimate.mean, round(estimate.half, 2), estimate.count
            (2.0, 2.48, 3)
        """
        array = np.array([value for value in values if math.isfinite(value)], dtype=np.float64)
        if len(array) == 0:
            return cls(math.nan, math.nan, 0)
        if len(array) == 1:
            return cls(float(array[0]), math.nan, 1)
        error = float(array.std(ddof=1)) / math.sqrt(len(array))
        return cls(float(array.mean()), student(len(array) - 1) * error, len(array))


def student(freedom: int) -> float:
    """The 97.5 % quantile of Student's distribution, to 0.2 %.

    Args:
        freedom: degrees of freedom, ≥ 1; beyond 10 by the expansion of Cornish and Fisher about the normal quantile.
    """
    if freedom <= len(_STUDENT_95):
        return _STUDENT_95[freedom - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


@dataclass(frozen=True)
class Policy:
    """What one policy did within a group: its trials, those that ended well, and estimates over their seeds.

    Attributes:
        best, final: the metric where it was best, and at the end.
        curve: the metric, mean over seeds with its band.
        to_target: steps, those of the range test among them, until the mean reached the target; None if it never did.
        seconds: mean wall time of a trial.
        fixed: whether it trains at one fixed rate.
    """

    name: str
    trials: tuple[Trial, ...]
    ok: tuple[Trial, ...]
    best: Estimate
    final: Estimate
    curve: "Band"
    to_target: int | None
    seconds: float
    fixed: bool

    @property
    def range_test_steps(self) -> float:
        """Mean steps spent on range tests."""
        return sum(trial.range_test_steps for trial in self.trials) / len(self.trials)


@dataclass(frozen=True)
class Group:
    """Trials that can be compared.

    Attributes:
        target: the highest (or lowest) that the mean over seeds of the best fixed rate gets; None without one.
        policies: best first.
    """

    workload: str
    optimizer: str
    metric: str
    maximize: bool
    target: float | None
    policies: tuple[Policy, ...]

    @property
    def best_fixed(self) -> Policy | None:
        """The best of the fixed rates."""
        return next((policy for policy in self.policies if policy.fixed and policy.ok), None)

    @property
    def best_moving(self) -> Policy | None:
        """The best of the policies that move the rate."""
        return next((policy for policy in self.policies if not policy.fixed and policy.ok), None)

    def gain(self, first: Policy, second: Policy) -> Estimate:
        """How much better the best metric of the first is, paired by seed; positive is better, whatever the metric."""
        sign = 1.0 if self.maximize else -1.0
        others = {trial.seed: self.best_of(trial) for trial in second.ok}
        pairs = [(self.best_of(trial), others[trial.seed]) for trial in first.ok if trial.seed in others]
        return Estimate.of(sign * (ours - theirs) for ours, theirs in pairs)

    def best_of(self, trial: Trial) -> float:
        """The metric of a trial where it was best; NaN if it has none."""
        values = [value for value in trial.epochs.get(self.metric, []) if math.isfinite(value)]
        return (max if self.maximize else min)(values, default=math.nan)


def groups(trials: Sequence[Trial]) -> list[Group]:
    """The groups of trials that can be compared, in the order in which they first appear."""
    found: dict[tuple[str, str, str, str], list[Trial]] = {}
    for trial in trials:
        found.setdefault((trial.workload, trial.optimizer, trial.metric, trial.direction), []).append(trial)
    return [_group(members) for members in found.values()]


def _group(trials: list[Trial]) -> Group:
    head = trials[0]
    maximize = head.direction == "max"
    group = Group(head.workload, head.optimizer, head.metric, maximize, None, ())
    members: dict[str, list[Trial]] = {}
    for trial in trials:
        members.setdefault(trial.policy, []).append(trial)
    worst = -math.inf if maximize else math.inf

    def rank(name: str) -> float:
        mean = Estimate.of(group.best_of(trial) for trial in members[name] if trial.status == "ok").mean
        return mean if math.isfinite(mean) else worst

    names = sorted(members, key=rank, reverse=maximize)
    target = None
    for name in names:
        if target is None and _fixed(members[name]):
            means = band([trial for trial in members[name] if trial.status == "ok"], head.metric).mean
            target = (max if maximize else min)(means, default=None)
    policies = tuple(_policy(name, members[name], group, target) for name in names)
    return Group(head.workload, head.optimizer, head.metric, maximize, target, policies)


def _fixed(trials: Sequence[Trial]) -> bool:
    """Whether all of them trained at one rate: no schedule but a constant one, and no rate that was seen to move."""
    return all(
        trial.lr is not None
        and (trial.schedule is None or isinstance(trial.schedule, Constant))
        and len(set(trial.steps.get("learning_rate", []))) <= 1
        for trial in trials
    )


def _policy(name: str, trials: Sequence[Trial], group: Group, target: float | None) -> Policy:
    ok = tuple(trial for trial in trials if trial.status == "ok")
    curve = band(ok, group.metric)
    policy = Policy(
        name,
        tuple(trials),
        ok,
        Estimate.of(group.best_of(trial) for trial in ok),
        Estimate.of(_last(trial.epochs.get(group.metric, [])) for trial in ok),
        curve,
        None,
        sum(trial.seconds for trial in trials) / len(trials),
        _fixed(trials),
    )
    if target is None:
        return policy
    better = operator.ge if group.maximize else operator.le
    reached = next((step for step, mean in zip(curve.step, curve.mean, strict=True) if better(mean, target)), None)
    return policy if reached is None else replace(policy, to_target=round(reached + policy.range_test_steps))


def _last(values: Sequence[float]) -> float:
    return values[-1] if values else math.nan


@dataclass(frozen=True)
class Band:
    """A curve: the mean over seeds at every step, and the 95 % interval around it; NaN where there is none."""

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
    estimates = [Estimate.of(curve[step] for curve in curves) for step in shared]
    return Band(
        list(shared),
        [estimate.mean for estimate in estimates],
        [estimate.mean - estimate.half for estimate in estimates],
        [estimate.mean + estimate.half for estimate in estimates],
    )
