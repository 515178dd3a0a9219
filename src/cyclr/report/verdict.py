"""The verdict in words, which a reader may stop after."""

import math

from cyclr.range_test import RangeTestResult
from cyclr.range_test.stopping import IN_WORDS
from cyclr.report.statistics import Interval, Row
from cyclr.report.summary import Group, Policy

_NBSP = "\N{NO-BREAK SPACE}"


def of_range_test(result: RangeTestResult) -> list[str]:
    """What a range test says: the bounds, why, and how it ended."""
    low, high = result.bounds.base_lr, result.bounds.max_lr
    numbers = (
        "No bounds can be read off this range test."
        if low is None or high is None
        else f"Cycle between {low:.3g} and {high:.3g}."
    )
    ended = f"The test took {len(result.lr)} of {result.steps} steps: {IN_WORDS[result.stop_reason]}."
    return [numbers, result.bounds.reason, ended]


def of_group(group: Group) -> list[str]:
    """Which policy did best, by how much, and whether that is more than the seeds' noise."""
    done, base = group.done, group.baseline
    if not done or base is None:
        return ["No trial has ended well yet, so there is nothing to compare."]
    first = done[0]
    if len(done) == 1:
        return [f"{first.name} is the only policy with a finished trial: {metric(group, first)}."]
    sentences = [f"{first.name} did best of {len(done)} policies: {metric(group, first)}."]
    moving = next((policy for policy in done if not policy.row.fixed), None)
    if base.row.fixed and moving is not None:
        sentences.append(_compared(moving.row, f"the best fixed rate, {base.name}"))
        sentences += _speed(moving.row, base.row)
    else:
        sentences.append(_compared(done[1].row, f"the best, {base.name}"))
    lost = sum(len(policy.trials) - len(policy.ok) for policy in group.policies)
    if lost:
        sentences.append(f"{lost} {'trial' if lost == 1 else 'trials'} diverged or failed and count in no mean.")
    return sentences


def metric(group: Group, policy: Policy) -> str:
    """The best metric of a policy with its interval, in words."""
    count = policy.row.seeds
    seeds = "one seed" if count == 1 else f"{count} seeds; in brackets the 95{_NBSP}% interval of the mean"
    return f"best {group.metric} {estimate(policy.row.best)} ({seeds})"


def estimate(value: Interval) -> str:
    """A mean with its interval, to the digits that the interval allows.

    Example:
        >>> estimate(Interval(0.91234, 0.90778, 0.9169)).split()
        ['0.9123', '[0.9078,', '0.9169]']
    """
    return _NBSP.join(part for part in parts(value) if part)


def parts(value: Interval) -> tuple[str, str]:
    """The mean and the interval in brackets, which is empty where there is none.

    Example:
        >>> parts(Interval(0.5))
        ('0.5000', '')
    """
    if value.mean is None:
        return "none", ""
    if value.low is None or value.high is None:
        return number(value.mean), ""
    half = (value.high - value.low) / 2
    places = min(max(1 - math.floor(math.log10(half)), 0), 12) if half > 0 else 4
    return f"{value.mean:.{places}f}", f"[{value.low:.{places}f},{_NBSP}{value.high:.{places}f}]"


def number(value: float) -> str:
    """A number to four digits."""
    return f"{value:#.4g}".rstrip(".") if value else "0"


def _rough(value: float) -> str:
    return f"{value:.2g}".replace("-", "\N{MINUS SIGN}", 1)


def _compared(one: Row, name: str) -> str:
    """How the best metric of one differs from that of the baseline, whose name is given."""
    gap = one.difference
    if gap.mean is None:
        return f"{one.policy} shares no seed with {name}, so their difference cannot be judged."
    amount = f"{one.policy} differs by {_signed(gap.mean)} from {name}"
    if gap.low is None or gap.high is None:
        return f"{amount}, on one seed: whether that is more than noise cannot be said. Run more seeds."
    interval = f"95{_NBSP}% interval {_signed(gap.low)} to {_signed(gap.high)}, seeds paired"
    if one.verdict == "within noise":
        return f"{amount}, which is within noise ({interval})."
    return f"{amount}: {one.verdict}, by more than noise ({interval})."


def _signed(value: float) -> str:
    return f"{value:+.2g}".replace("-", "\N{MINUS SIGN}", 1)


def _speed(one: Row, base: Row) -> list[str]:
    if one.ratio is None or one.steps_to_target is None or base.steps_to_target is None:
        return []
    counted = ", those of its range test counted" if one.range_test_steps else ""
    return [
        f"It reached what the fixed rate gets at best in {one.steps_to_target:,.0f} steps instead of "
        f"{base.steps_to_target:,.0f} ({one.ratio:.2f} times as many{counted})."
    ]
