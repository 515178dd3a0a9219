"""What the record of one trial says: its best and last values, its steps to a target, its trade-off against time."""

from typing import Any

from cyclr.schedules import Schedule

Record = dict[str, Any]


def values_of(record: Record) -> list[float]:
    """The values of the metric at the ends of epochs."""
    return [value for value in record["epochs"].get(record["metric"], ()) if value is not None]


def is_fixed(record: Record) -> bool:
    """Whether it trained at one rate: no schedule but a constant one, and no rate that was seen to move."""
    if record["schedule"] is not None:
        return bool(record["schedule"].get("schedule") == "Constant")
    return record.get("lr") is not None and len(set(record.get("steps", {}).get("learning_rate", ()))) <= 1


def best(record: Record) -> float | None:
    """The best value of the metric at the end of an epoch, or None."""
    values = values_of(record)
    if not values:
        return None
    return float(max(values) if record["direction"] == "max" else min(values))


def final(record: Record) -> float | None:
    """The value of the metric at the end of the last epoch, or None."""
    values = record["epochs"].get(record["metric"], ())
    return float(values[-1]) if values and values[-1] is not None else None


def steps_to(record: Record, target: float | None) -> int | None:
    """Updates until an epoch first ended with the target reached, the range test included; None if none did."""
    if target is None:
        return None
    sign = 1.0 if record["direction"] == "max" else -1.0
    for step, value in zip(record["epochs"].get("step", ()), record["epochs"].get(record["metric"], ()), strict=False):
        if value is not None and sign * value >= sign * target:
            return int(step + record["range_test_steps"])
    return None


def tradeoff(record: Record) -> dict[str, list[float]]:
    """The trade-off of the metric against training time that one cyclical run traces: its values at the ends of cycles.

    Args:
        record: of a policy whose schedule has cycles, `"multiplicative"` above all.

    Returns:
        `step`, `seconds` and `metric` at every epoch that ends where a cycle does, the end of the run included if a
        cycle ends there; nothing for a schedule without cycles.

    Source: Portes et al. 2022, arXiv:2206.00832.
    """
    points: dict[str, list[float]] = {"step": [], "seconds": [], "metric": []}
    if record["schedule"] is None:
        return points
    schedule, epochs = Schedule.from_dict(record["schedule"]), record["epochs"]
    series = (epochs.get(name, ()) for name in ("step", "seconds", record["metric"]))
    for step, seconds, value in zip(*series, strict=False):
        # Restarts end a cycle on the last step before they jump, waves on the step that begins the next one.
        if value is not None and (schedule.is_cycle_end(step - 1) or schedule.is_cycle_end(step)):
            for name, number in (("step", step), ("seconds", seconds), ("metric", value)):
                points[name].append(float(number))
    return points
