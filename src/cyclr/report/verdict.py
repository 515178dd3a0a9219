"""The verdict on a comparison in words."""

import math
from collections.abc import Sequence

from cyclr.drawing.page import number
from cyclr.records import Group, Interval, Row, Summary

_NBSP = "\N{NO-BREAK SPACE}"


def in_words(summary: Summary) -> str:
    """Return the verdict on every workload and optimizer as one text."""
    texts = []
    for group in summary.groups:
        place = f"On {group.workload} with {group.optimizer}" if group.optimizer else f"On {group.workload}"
        sentences = of_group(group, target=summary.target, confidence=summary.confidence)
        texts.append(f"{place}: {' '.join(sentences)}")
    return " ".join(texts)


def of_group(group: Group, *, target: float | None = None, confidence: float = 0.95) -> list[str]:
    """Say which policy did best, by how much, whether that is more than noise, and which trials diverged or failed.

    If the baseline is a fixed rate, it is compared with the best policy whose rate moves; else with the best of the
    others.

    Args:
        group: the rows to compare.
        target: the value to reach, if one was given.
        confidence: of the intervals of the rows.
    """
    rows, metric, base = group.rows, group.metric, group.baseline
    done = [row for row in rows if row.best.mean is not None]
    if base is None:
        return ["No trial has finished yet, so there is nothing to compare.", *_lost(rows)]
    if base.best.mean is None:
        return [f"The baseline, {base.policy}, has no finished trial, so there is nothing to compare.", *_lost(rows)]
    best = f"best {metric} {_estimated(done[0], confidence)}."
    if len(done) == 1:
        return [f"{base.policy} is the only policy with a finished trial: {best}", *_lost(rows)]
    others = [row for row in done if row is not base]
    one = next((row for row in others if base.fixed and not row.fixed), others[0])
    fast = min((row for row in others if row.ratio and row.ratio < 1), key=lambda row: row.ratio or 0.0, default=one)
    return [
        f"{done[0].policy} did best of {len(done)} policies: {best}",
        *_cost(done[0]),
        _compared(one, _named(base, done), confidence, group.comparisons),
        *_speed("It", one, base, target),
        *(_speed(f"The fastest, {fast.policy},", fast, base, target) if fast.ratio != one.ratio else ()),
        *_lost(rows),
    ]


def _cost(row: Row) -> list[str]:
    """Say that a policy ends in an ensemble, whose predictions cost more."""
    return [f"Its ensemble predicts with {row.predictions:g} models."] if (row.predictions or 0) > 1 else []


def _estimated(row: Row, confidence: float) -> str:
    interval = f"in brackets the {100 * confidence:g}{_NBSP}% interval of the mean"
    return f"{estimate(row.best)} ({'one seed' if row.seeds == 1 else f'{row.seeds} seeds; {interval}'})"


def _named(base: Row, done: Sequence[Row]) -> str:
    """Return the name of the baseline, with the reason why it is the baseline."""
    fixed = [row for row in done if row.fixed]
    if base in fixed[:1]:
        return f"the best fixed rate, {base.policy}"
    if base in [row for row in fixed if not row.diverged + row.failed][:1]:
        return f"the best fixed rate whose trials all finished, {base.policy}"
    return f"the {'best' if base is done[0] else 'baseline'}, {base.policy}"


def estimate(value: Interval) -> str:
    """Return a mean with its interval, with as many digits as the interval justifies.

    Example:
        >>> estimate(Interval(0.91234, 0.90778, 0.9169)).split()
        ['0.9123', '[0.9078,', '0.9169]']
    """
    return _NBSP.join(parts(value))


def parts(value: Interval) -> tuple[str, ...]:
    """Return the mean, and the interval in brackets if there is one.

    Example:
        >>> parts(Interval(0.5))
        ('0.5000',)
    """
    if value.mean is None:
        return ("none",)
    if value.low is None or value.high is None:
        return (number(value.mean),)
    half = value.high / 2 - value.low / 2
    places = min(max(1 - math.floor(math.log10(half)), 0), 12) if half > 0 else 4
    if max(abs(value.low), abs(value.high)) >= 1e9:
        return number(value.mean), f"[{number(value.low)},{_NBSP}{number(value.high)}]"
    return f"{value.mean:.{places}f}", f"[{value.low:.{places}f},{_NBSP}{value.high:.{places}f}]"


def _compared(one: Row, name: str, confidence: float, comparisons: int) -> str:
    """Say how the best metric of a policy differs from the baseline's."""
    gap = one.difference
    if gap.mean is None:
        return f"{one.policy} shares no seed with {name}, so their difference cannot be judged."
    amount = f"{one.policy} differs by {_signed(gap.mean)} from {name}"
    if gap.low is None or gap.high is None:
        return f"{amount} (one seed, so it may be noise; run more seeds)."
    adjusted = f", adjusted for {comparisons} comparisons" if comparisons > 1 else ""
    interval = (
        f"{100 * confidence:g}{_NBSP}% interval {_signed(gap.low)} to {_signed(gap.high)}, seeds paired{adjusted}"
    )
    if one.verdict == "within noise":
        return f"{amount}, which is within noise ({interval})."
    return f"{amount}: {one.verdict}, by more than noise ({interval})."


def _signed(value: float) -> str:
    return f"{value:+.2g}".replace("-", "\N{MINUS SIGN}", 1)


def _speed(subject: str, one: Row, base: Row, target: float | None) -> list[str]:
    if one.steps_to_target is None:
        return []
    aim = f"what {base.policy} gets at best" if target is None else f"{target:g}"
    reached = f"{subject} reached {aim} in {one.steps_to_target:,.0f} steps"
    counted = "those of its range test counted" if one.range_test_steps else ""
    if not one.ratio:
        return [f"{reached}, {counted}." if counted else f"{reached}."]
    # In the seeds that both have; the mean of all of the baseline's may be another.
    instead = f"instead of {one.steps_to_target / one.ratio:,.0f}"
    return [f"{reached} {instead} ({one.ratio:.2f} times as many{f', {counted}' if counted else ''})."]


def _lost(rows: Sequence[Row]) -> list[str]:
    """Say how many trials diverged or failed, and of which policies."""
    count = sum(row.diverged + row.failed for row in rows)
    if not count:
        return []
    parts = []
    for row in rows:
        of = f" of {len(row.records)} {'seed' if len(row.records) == 1 else 'seeds'}"
        ends = [f"{n}{of} {what}" for n, what in ((row.diverged, "diverged"), (row.failed, "failed")) if n]
        parts += [f"{row.policy}: {' and '.join(ends)}"] if ends else []
    counted = "1 trial diverged or failed and counts" if count == 1 else f"{count} trials diverged or failed and count"
    return [f"{counted} in no mean ({'; '.join(parts)})."]
