"""Measures of one trial: best and last values, steps to a target, trade-off against time."""

from typing import TypeGuard

from cyclr.records.record import Record
from cyclr.schedules import Constant

_LARGEST = 1e150


def is_fixed(record: Record) -> bool:
    """Return True if the trial used a constant learning rate, and its training has no ending.

    The learning rate is constant if the schedule is `Constant`, or if there is no schedule and all recorded learning
    rates are equal.
    """
    if record.predictions:
        return False
    if record.schedule is not None:
        return isinstance(record.schedule, Constant)
    return record.lr is not None and len(set(record.steps.get("learning_rate", ()))) <= 1


def usable(value: float | None) -> TypeGuard[float]:
    """Return True for a number whose square is finite. Larger numbers, such as a diverged loss, count as missing."""
    return value is not None and abs(value) <= _LARGEST


def ending(record: Record) -> float | None:
    """Return the value of the metric of the ensemble or average at the end of the training, or None."""
    found = record.ending.get(record.metric)
    return found if usable(found) else None


def values(record: Record) -> list[float]:
    """Return the usable values of the metric at the ends of epochs, and of the ending."""
    return [value for value in (*record.epochs.get(record.metric, ()), ending(record)) if usable(value)]


def best(record: Record) -> float | None:
    """Return the best value of the metric at the end of an epoch, or of the ending; or None."""
    found = values(record)
    return (max if record.direction == "max" else min)(found) if found else None


def final(record: Record) -> float | None:
    """Return the value of the metric at the end of the last epoch, or None."""
    found = record.epochs.get(record.metric) or [None]
    return found[-1] if usable(found[-1]) else None


def steps_to(record: Record, target: float | None) -> int | None:
    """Return the number of updates until the target was reached at the end of an epoch or by the ending, or None.

    The updates of the range test are included.
    """
    if target is None:
        return None
    sign = 1.0 if record.direction == "max" else -1.0
    ends = zip(record.epochs.get("step", ()), record.epochs.get(record.metric, ()), strict=False)
    for step, value in (*ends, (record.total_steps, ending(record))):
        if step is not None and value is not None and sign * value >= sign * target:
            return int(step + record.range_test_steps)
    return None


def tradeoff(record: Record) -> dict[str, list[float]]:
    """Return the metric against training time at the ends of the cycles of one run.

    Args:
        record: record of a policy whose schedule has cycles, in particular `"multiplicative"`.

    Returns:
        Lists of `step`, `seconds` and `metric`, with a value for every epoch that ends together with a cycle. The lists
        are empty for a schedule without cycles.

    Source: Portes et al. 2022, arXiv:2206.00832.
    """
    ends = record.schedule.is_cycle_end if record.schedule is not None else lambda step: False
    series = (record.epochs.get(name, ()) for name in ("step", "seconds", record.metric))
    rows = [[float(value) for value in row if value is not None] for row in zip(*series, strict=False)]
    # Restarts end a cycle on the last step before the jump; waves end a cycle on the first step of the next cycle.
    kept = [row for row in rows if len(row) == 3 and (ends(int(row[0]) - 1) or ends(int(row[0])))]
    return {name: [row[index] for row in kept] for index, name in enumerate(("step", "seconds", "metric"))}
