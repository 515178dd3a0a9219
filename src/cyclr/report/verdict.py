"""The verdict on a comparison in words."""

import math
from collections.abc import Sequence
from statistics import median_low

from cyclr.records import Group, Interval, Row, Summary
from cyclr.records.statistics import MOST_MORE_SEEDS

_NBSP = "\N{NO-BREAK SPACE}"
_MINUS = "\N{MINUS SIGN}"
_LARGE = 1e9
"""Numbers of at least this size are written with a power of ten."""


def in_words(summary: Summary) -> str:
    """Return the verdicts on all workloads and optimizers as one text."""
    texts = []
    for group in summary.groups:
        place = f"On {group.workload} with {group.optimizer}" if group.optimizer else f"On {group.workload}"
        sentences = of_group(group, target=summary.target, confidence=summary.confidence)
        texts.append(f"{place}: {' '.join(sentences)}")
    return " ".join(texts)


def of_group(group: Group, *, target: float | None = None, confidence: float = 0.95) -> list[str]:
    """Return sentences on a group: verdict, difference, best and fastest policy, and trials that diverged or failed.

    The first sentence is the verdict, with the number of seeds to add if these seeds do not decide. A baseline with a
    fixed learning rate is compared with the best policy whose learning rate changes. Any other baseline is compared
    with the best other policy.

    Args:
        group: the rows to compare.
        target: the value to reach, or None if it was not given.
        confidence: confidence level of the intervals of the rows.
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
        *_compared(one, base, _named(base, done), confidence, group),
        f"{done[0].policy} did best of {len(done)} policies: {best}",
        *_cost(done[0]),
        *_speed(one.policy, one, base, target),
        *(_speed(f"The fastest, {fast.policy},", fast, base, target) if fast.ratio != one.ratio else ()),
        *_lost(rows),
    ]


def _cost(row: Row) -> list[str]:
    """Return a sentence on the number of models, if the policy ends with an ensemble."""
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


def parts(value: Interval, places: int | None = None, sign: str = "") -> tuple[str, ...]:
    """Return the mean, and the interval in brackets if there is one.

    Args:
        value: mean and interval.
        places: places after the point; by default as many as the interval justifies.
        sign: `"+"` to write the sign of positive numbers too.

    Example:
        >>> parts(Interval(0.5))
        ('0.5000',)
    """
    if value.mean is None:
        return ("none",)
    numbers = [value.mean] if value.low is None or value.high is None else [value.mean, value.low, value.high]
    if places is None and len(numbers) > 1 and max(map(abs, numbers)) < _LARGE:
        places = _places(value)
    kind = f"{sign}#.4g" if places is None else f"{sign}.{places}f"
    mean, *ends = (f"{one:{kind}}".rstrip(".").replace("-", _MINUS if sign else "-", 1) for one in numbers)
    return (mean, f"[{ends[0]},{_NBSP}{ends[1]}]") if ends else (mean,)


def column(values: Sequence[Interval], sign: str = "") -> list[tuple[str, ...]]:
    """Return the cells of a column, all with the same number of places if their sizes allow it.

    Example:
        >>> [cell[0] for cell in column([Interval(0.918, 0.9178, 0.9182), Interval(0.91, 0.88, 0.94), Interval(0.9)])]
        ['0.918', '0.910', '0.900']
    """
    sizes = [abs(value.mean) for value in values if value.mean]
    places = None
    if sizes and max(sizes) < min(_LARGE, 1000 * min(sizes)):
        justified = [_places(value) for value in values if value.low is not None]
        # The median, so that one precise mean does not give the whole column many places.
        places = median_low(justified or [max(0, 3 - math.floor(math.log10(max(sizes))))])
        # One more place, so that a difference that is small beside its interval is not written as 0.
        places += bool(sign and justified)
    return [parts(value, places, sign) for value in values]


def _places(value: Interval) -> int:
    """Return the places after the point that the width of an interval justifies."""
    half = (value.high or 0.0) / 2 - (value.low or 0.0) / 2
    return min(max(1 - math.floor(math.log10(half)), 0), 12) if half > 0 else 4


def _compared(one: Row, base: Row, name: str, confidence: float, group: Group) -> list[str]:
    """Return the verdict on a policy against the baseline, and the difference of their best metrics."""
    gap = one.difference
    if gap.mean is None:
        return [f"{one.policy} has no seed in common with {name}, so they cannot be compared."]
    word = "better" if (gap.mean > 0) == (group.direction == "max") else "worse"
    seeds = f"{one.more_seeds} more {'seed' if one.more_seeds == 1 else 'seeds'}"
    amount = f"The difference in {group.metric} is {_signed(gap.mean)}"
    if gap.low is None or gap.high is None:
        return [f"One seed is not enough to compare {one.policy} with {name}: run {seeds}.", f"{amount}."]
    if one.verdict != "within noise":
        verdict = f"{one.policy} is {word} than {name}."
    elif one.more_seeds is None:
        verdict = f"{one.policy} and {name}, are too close: even {MOST_MORE_SEEDS} more seeds may not be enough."
    else:
        shared = {record.seed for record in one.finished} & {record.seed for record in base.finished}
        few = ", but two seeds are not enough" if len(shared) == 2 else ""
        verdict = f"{one.policy} is probably {word} than {name}{few}: run {seeds}{'' if few else ' to be sure'}."
    found = "within noise" if one.verdict == "within noise" else "more than noise"
    adjusted = f", adjusted for {group.comparisons} comparisons" if group.comparisons > 1 else ""
    interval = f"its {100 * confidence:g}{_NBSP}% interval is {_signed(gap.low)} to {_signed(gap.high)}"
    return [verdict, f"{amount}, {found}: {interval} (seeds paired{adjusted})."]


def _signed(value: float) -> str:
    return f"{value:+.2g}".replace("-", _MINUS, 1)


def _speed(subject: str, one: Row, base: Row, target: float | None) -> list[str]:
    if one.steps_to_target is None:
        return []
    aim = f"the best value of {base.policy}" if target is None else f"{target:g}"
    reached = f"{subject} reached {aim} in {one.steps_to_target:,.0f} steps"
    counted = "including its range test" if one.range_test_steps else ""
    if not one.ratio:
        return [f"{reached}, {counted}." if counted else f"{reached}."]
    # The mean over the seeds of both policies, which may differ from the mean over all seeds of the baseline.
    instead = f"instead of {one.steps_to_target / one.ratio:,.0f}"
    return [f"{reached} {instead} ({one.ratio:.2f} times as many{f', {counted}' if counted else ''})."]


def _lost(rows: Sequence[Row]) -> list[str]:
    """Return a sentence on the trials that diverged or failed, by policy."""
    count = sum(row.diverged + row.failed for row in rows)
    if not count:
        return []
    parts = []
    for row in rows:
        of = f" of {len(row.records)} {'seed' if len(row.records) == 1 else 'seeds'}"
        ends = [f"{n}{of} {what}" for n, what in ((row.diverged, "diverged"), (row.failed, "failed")) if n]
        parts += [f"{row.policy}: {' and '.join(ends)}"] if ends else []
    counted = "1 trial diverged or failed and is" if count == 1 else f"{count} trials diverged or failed and are"
    return [f"{counted} left out of the means ({'; '.join(parts)})."]
