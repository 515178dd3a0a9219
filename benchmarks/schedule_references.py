"""Differences between the schedules and those of other libraries, and between them and exact arithmetic at step 10¹².

    KERAS_BACKEND=torch python benchmarks/schedule_references.py

First table: every row of docs/how-to/migrate.md, with the largest difference over a whole run as a share of the largest
learning rate, in float64. (Keras rounds to float32 on all backends except torch.) Libraries that are not installed are
replaced by their published formulas. Second table: the same by library. Third table: the schedules at step 10¹² and at
1,000 steps before and after it, against exact values (positions as rational numbers, shapes with 50 digits). The
largest difference is given as a share of the upper bound.
"""

import math
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import mpmath

from cyclr import Anneal, Clock, Constant, Cyclical, OneCycle, Schedule, Sequence, WarmRestarts, Warmup
from cyclr.schedules.anneal import CURVES

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.conformance import peers

LOW, HIGH = 0.003, 0.06
HUGE = range(10**12 - 1000, 10**12 + 1001)


def mean(low: float, high: float, x: Fraction, shape: str = "triangular") -> Any:
    """low · (1 − w(x)) + high · w(x), in 50 digits."""
    position = mpmath.mpf(x.numerator) / x.denominator
    window = mpmath.sin(mpmath.pi / 2 * position) ** 2 if shape == "sinusoidal" else position
    return mpmath.mpf(low) * (1 - window) + mpmath.mpf(high) * window


def leg(x: Fraction, curve: str, power: float = 1.0, warp: float = 1.0) -> Any:
    """The value of a leg from HIGH to LOW at the share x of its steps, in 50 digits."""
    position, axis = mpmath.mpf(x.numerator) / x.denominator, CURVES[curve]
    if axis == 0:
        return HIGH * (mpmath.mpf(LOW) / HIGH) ** position
    if axis is not None:
        return (mpmath.mpf(HIGH) ** axis * (1 - position) + mpmath.mpf(LOW) ** axis * position) ** (
            mpmath.mpf(1) / axis
        )
    rest = 1 - position**warp
    rest = (mpmath.sin(mpmath.pi / 2 * rest) ** 2 if curve == "cosine" else rest) ** power
    return HIGH * rest + LOW * (1 - rest)


def triangle(step: int, up: int, down: int) -> Fraction:
    place = step % (up + down)
    return Fraction(place, up) if place <= up else Fraction(up + down - place, down)


def last_start(step: int, first: int, growth: Fraction, pause: int = 0) -> tuple[int, int]:
    """Return the first step and the length of the cycle that contains a step."""
    if growth == 1:
        return step - step % (pause + first), first
    start, length, cycle = 0, first, 0
    while start + pause + length <= step:
        start, cycle = start + pause + length, cycle + 1
        length = math.floor(first * growth**cycle + Fraction(1, 2))
    return start, length


def restart(step: int, growth: Fraction, pause: int = 0) -> Any:
    start, length = last_start(step, 100, growth, pause)
    if step - start < pause:
        return mean(0.0, HIGH, Fraction(step - start, pause))
    return mean(LOW, HIGH, 1 - Fraction(step - start - pause, length), "sinusoidal")


def exact() -> list[tuple[str, Schedule, Callable[[int], Any]]]:
    """Name, our schedule, and its formula in exact arithmetic."""
    run, up = 3 * 10**12 + 1, 10**12 - 500
    waves: list[tuple[str, Schedule, Callable[[int], Any]]] = [
        ("Cyclical", Cyclical(LOW, HIGH, 7001), lambda t: mean(LOW, HIGH, triangle(t, 7001, 7001))),
        (
            "Cyclical, sinusoidal, uneven",
            Cyclical(LOW, HIGH, 700, step_size_down=301, shape="sinusoidal"),
            lambda t: mean(LOW, HIGH, triangle(t, 700, 301), "sinusoidal"),
        ),
        (
            "OneCycle",
            OneCycle(LOW, HIGH, run, rise=up, final_lr=0.0),
            lambda t: (
                mean(LOW, HIGH, Fraction(t, up), "sinusoidal")
                if t <= up
                else mean(0.0, HIGH, Fraction(run - 1 - t, run - 1 - up), "sinusoidal")
            ),
        ),
        (
            "OneCycle, linear, three phases",
            OneCycle(LOW, HIGH, run, rise=up, fall=400, final_lr=0.0, shape="triangular"),
            lambda t: (
                mean(LOW, HIGH, Fraction(t, up))
                if t <= up
                else mean(LOW, HIGH, Fraction(up + 400 - t, 400))
                if t <= up + 400
                else mean(0.0, LOW, Fraction(run - 1 - t, run - 1 - up - 400))
            ),
        ),
        (
            "Sequence",
            Sequence([Constant(HIGH), Cyclical(LOW, HIGH, 7001)], [123_456]),
            lambda t: mean(LOW, HIGH, triangle(t - 123_456, 7001, 7001)),
        ),
        (
            "Warmup",
            Warmup(Cyclical(LOW, HIGH, 7001), 123_456),
            lambda t: mean(LOW, HIGH, triangle(t - 123_456, 7001, 7001)),
        ),
        ("Warmup, in the rise", Warmup(Constant(HIGH), run), lambda t: mean(0.0, HIGH, Fraction(t, run))),
    ]
    powers: dict[str, dict[str, Any]] = {"": {}, ", power 1.5": {"power": 1.5}, ", warp 0.5": {"warp": 0.5}}
    for curve in CURVES:
        for suffix, powered in powers.items() if CURVES[curve] is None else [("", {})]:
            waves.append(
                (
                    f"Anneal, {curve}{suffix}",
                    Anneal(HIGH, LOW, run, curve, **powered),
                    lambda t, c=curve, p=powered: leg(Fraction(t, run), c, **p),
                )
            )
        if curve != "cosine":
            waves.append(
                (
                    f"Anneal, {curve}, beyond its end",
                    Anneal(HIGH, LOW, up, curve, limit=0),
                    lambda t, c=curve: max(leg(Fraction(t, up), c), 0),
                )
            )
    stairs = HIGH * Clock(Anneal(1, 0.98, 1, "exponential", limit=0), every=10**10 + 7)
    waves.append(("Product of Constant and Clock", stairs, lambda t: HIGH * mpmath.mpf(0.98) ** (t // (10**10 + 7))))
    for text in ("1", "1.1", "1.5", "2", "3"):
        growth = Fraction(text)
        schedule = WarmRestarts(LOW, HIGH, 100, growth=float(text))
        waves.append((f"WarmRestarts, growth {text}", schedule, lambda t, g=growth: restart(t, g)))
    for text in ("1", "1.5"):
        growth = Fraction(text)
        warmed = Warmup(WarmRestarts(LOW, HIGH, 100, growth=float(text)), 30, every_cycle=True)
        waves.append((f"Warmup of every cycle, growth {text}", warmed, lambda t, g=growth: restart(t, g, 30)))
    return waves


def table(title: str, rows: list[tuple[str, float]]) -> None:
    width = max(len(name) for name, _ in rows)
    print(title)
    for name, difference in rows:
        print(f"  {name:<{width}}  {difference:.1e}")


def main() -> None:
    mpmath.mp.dps = 50
    names = peers.symbols()
    compared = [(row, row.difference(names)) for row in peers.rows()]
    table(
        "largest difference from the schedulers of other libraries, as a share of their largest rate",
        [(f"{row.peer}  {row.old}", difference) for row, difference in compared],
    )
    libraries = dict.fromkeys(row.peer for row, _ in compared)
    of_library = {name: [difference for row, difference in compared if row.peer == name] for name in libraries}
    table(
        "\nby library: rows, those that agree to 1e-12, and the largest difference of these",
        [
            (
                f"{name:<28} {len(all_):>3} {sum(d <= peers.EXACT for d in all_):>3}",
                max(d for d in all_ if d <= peers.EXACT),
            )
            for name, all_ in of_library.items()
        ],
    )
    precise: list[tuple[str, float]] = []
    for name, schedule, formula in exact():
        differences = [abs(mpmath.mpf(schedule(step)) - formula(step)) for step in HUGE]
        precise.append((name, float(max(differences)) / HIGH))
    table("\nlargest difference from exact arithmetic around step 10¹², as a share of the upper bound", precise)


if __name__ == "__main__":
    main()
