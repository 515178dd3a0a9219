"""The verdict in words, which a reader may stop after."""

import math

from cyclr.range_test import RangeTestResult
from cyclr.range_test.stopping import IN_WORDS
from cyclr.report.summary import Estimate, Group, Policy

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
    done = [policy for policy in group.policies if policy.ok and math.isfinite(policy.best.mean)]
    if not done:
        return ["No trial has ended well yet, so there is nothing to compare."]
    first = done[0]
    if len(done) == 1:
        return [f"{first.name} is the only policy with a finished trial: {metric(group, first)}."]
    sentences = [f"{first.name} did best of {len(done)} policies: {metric(group, first)}."]
    moving, fixed = group.best_moving, group.best_fixed
    if moving is not None and fixed is not None:
        sentences.append(_compared(group, moving, fixed, f"the best fixed rate, {fixed.name}"))
        sentences += _speed(group, moving, fixed)
    else:
        sentences.append(_compared(group, first, done[1], f"the next, {done[1].name}"))
    lost = sum(len(policy.trials) - len(policy.ok) for policy in group.policies)
    if lost:
        sentences.append(f"{lost} {'trial' if lost == 1 else 'trials'} diverged or failed and count in no mean.")
    return sentences


def metric(group: Group, policy: Policy) -> str:
    """The best metric of a policy with its interval, in words."""
    seeds = "one seed" if policy.best.count == 1 else f"{policy.best.count} seeds, 95{_NBSP}% interval"
    return f"best {group.metric} {estimate(policy.best)} ({seeds})"


def estimate(value: Estimate) -> str:
    """A mean with its interval, to the digits that the interval allows.

    Example:
        >>> print(estimate(Estimate(0.91234, 0.00456, 3)))
        0.9123 ± 0.0046
    """
    if not math.isfinite(value.mean):
        return "none"
    if not math.isfinite(value.half):
        return number(value.mean)
    places = min(max(1 - math.floor(math.log10(value.half)), 0), 12) if value.half > 0 else 4
    return f"{value.mean:.{places}f}{_NBSP}±{_NBSP}{value.half:.{places}f}"


def number(value: float) -> str:
    """A number to four digits."""
    return f"{value:#.4g}".rstrip(".") if value else "0"


def _rough(value: float) -> str:
    return f"{value:.2g}".replace("-", "\N{MINUS SIGN}", 1)


def _compared(group: Group, one: Policy, other: Policy, name: str) -> str:
    gain = group.gain(one, other)
    if not math.isfinite(gain.mean):
        return f"{one.name} shares no seed with {name}, so their difference cannot be judged."
    way = "better" if gain.mean >= 0 else "worse"
    amount = f"{one.name} is {_rough(abs(gain.mean))} {way} than {name}"
    if not math.isfinite(gain.half):
        return f"{amount}, on one seed: whether that is more than noise cannot be said. Run more seeds."
    low, high = abs(gain.mean) - gain.half, abs(gain.mean) + gain.half
    interval = f"95{_NBSP}% interval {_rough(low)} to {_rough(high)}, {gain.count} paired seeds"
    if low <= 0:
        return f"{amount}, which is within noise ({interval})."
    return f"{amount}, which is more than noise ({interval})."


def _speed(group: Group, one: Policy, other: Policy) -> list[str]:
    if one.to_target is None or other.to_target is None or group.target is None:
        return []
    ratio = one.to_target / other.to_target
    counted = ", those of its range test counted" if one.range_test_steps else ""
    return [
        f"It reached the fixed rate's best {group.metric}, {number(group.target)}, in {one.to_target:,} steps "
        f"instead of {other.to_target:,} ({ratio:.2f} times as many{counted})."
    ]
