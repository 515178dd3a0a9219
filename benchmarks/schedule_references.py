"""How far the schedules are from other libraries', and from exact arithmetic at step 10¹².

    KERAS_BACKEND=torch python benchmarks/schedule_references.py

First table: the largest difference over whole runs, as a share of the upper bound. torch and Ignite compute in float64,
Keras and Optax in float32, whose rounding is 6e-8. Second table: the position of step 10¹² and of the 1,000 before and
after it in rational numbers, the shape in 50 digits, and the largest difference of ours, as a share of the upper bound.
"""

import math
import warnings
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import jax
import keras
import mpmath
import numpy as np
import optax
import torch
from ignite.handlers import CosineAnnealingScheduler, LinearCyclicalScheduler

from cyclr import Constant, Cyclical, Exponential, Halving, OneCycle, Schedule, Sequence, WarmRestarts, Warmup

STEPS = 10_000
LOW, HIGH = 0.003, 0.06
HUGE = range(10**12 - 1000, 10**12 + 1001)


def of_torch(name: str, key: str = "lr", lr: float = HIGH, **arguments: Any) -> np.ndarray:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, momentum=0.9)
    scheduler = getattr(torch.optim.lr_scheduler, name)(optimizer, **arguments)
    used = []
    for step in range(STEPS):
        used.append(optimizer.param_groups[0][key])
        optimizer.step()
        if step < STEPS - 1:
            scheduler.step()
    return np.array(used)


def of_keras(**arguments: Any) -> np.ndarray:
    schedule = keras.optimizers.schedules.CosineDecayRestarts(HIGH, alpha=LOW / HIGH, **arguments)
    return np.asarray(keras.ops.convert_to_numpy(schedule(np.arange(STEPS))), dtype=np.float64)


def of_optax(schedule: Callable[[Any], Any]) -> np.ndarray:
    return np.asarray(jax.jit(jax.vmap(schedule))(jax.numpy.arange(STEPS)), dtype=np.float64)


def of_ignite(kind: Any, **arguments: Any) -> np.ndarray:
    return np.array([value for _, value in kind.simulate_values(num_events=STEPS, param_name="lr", **arguments)])


def references() -> list[tuple[str, np.ndarray, Schedule, int]]:
    """Name, values of the reference, our schedule, and the step of ours that is its step 0."""
    cyclic: dict[str, Any] = {"base_lr": LOW, "max_lr": HIGH, "step_size_up": 70, "step_size_down": 30}
    one: dict[str, Any] = {"max_lr": HIGH, "total_steps": STEPS, "div_factor": HIGH / LOW}
    up = 3 * STEPS // 10 - 1
    phases = {"rise": up, "fall": up}
    down: dict[str, Any] = {"start_value": HIGH, "end_value": LOW}
    lengths = [100 * 2**cycle for cycle in range(7)]
    cycles = [
        {"init_value": 0.0, "peak_value": HIGH, "warmup_steps": 20, "decay_steps": 20 + length, "end_value": LOW}
        for length in lengths
    ]
    rows: list[tuple[str, np.ndarray, Schedule]] = []
    for mode, decay in (("triangular", None), ("triangular2", Halving()), ("exp_range", Exponential(0.9995))):
        ours = Cyclical(LOW, HIGH, 70, step_size_down=30, decay=decay)
        values = of_torch("CyclicLR", mode=mode, gamma=0.9995, cycle_momentum=False, **cyclic)
        rows.append((f"torch CyclicLR, {mode}", values, ours))
    momentum = of_torch("CyclicLR", "momentum", base_momentum=0.8, max_momentum=0.9, **cyclic)
    rows.append(("torch CyclicLR, momentum", momentum, Cyclical(LOW, HIGH, 70, step_size_down=30).mirrored(0.8, 0.9)))
    for strategy, shape in (("cos", "sinusoidal"), ("linear", "triangular")):
        name = f"torch OneCycleLR, {strategy}"
        style: dict[str, Any] = {"shape": shape}
        values = of_torch("OneCycleLR", anneal_strategy=strategy, **one)
        rows.append((f"{name}, two phases", values, OneCycle(LOW, HIGH, STEPS, rise=up, **style)))
        values = of_torch("OneCycleLR", anneal_strategy=strategy, three_phase=True, **one)
        rows.append((f"{name}, three phases", values, OneCycle(LOW, HIGH, STEPS, **phases, **style)))
    momentum = of_torch("OneCycleLR", "momentum", three_phase=True, base_momentum=0.8, max_momentum=0.9, **one)
    rows.append(("torch OneCycleLR, momentum", momentum, OneCycle(LOW, HIGH, STEPS, **phases).mirrored(0.8, 0.9)))
    for growth in (1, 2, 3):
        values = of_torch("CosineAnnealingWarmRestarts", T_0=100, T_mult=growth, eta_min=LOW)
        ours = WarmRestarts(LOW, HIGH, 100, growth=growth)
        rows.append((f"torch CosineAnnealingWarmRestarts, T_mult={growth}", values, ours))
    for growth in (1, 2):
        values = of_keras(first_decay_steps=100, t_mul=float(growth), m_mul=0.9)
        ours = WarmRestarts(LOW, HIGH, 100, growth=growth, decay=Exponential(0.9, per="cycle"))
        rows.append((f"Keras CosineDecayRestarts, t_mul={growth}", values, ours))
    values = of_optax(optax.cosine_onecycle_schedule(STEPS - 1, HIGH, 0.3, div_factor=HIGH / LOW))
    rows.append(("Optax cosine_onecycle_schedule", values, OneCycle(LOW, HIGH, STEPS)))
    values = of_optax(optax.linear_onecycle_schedule(STEPS - 1, HIGH, 0.3, 0.85, div_factor=HIGH / LOW))
    fall = int(0.85 * (STEPS - 1)) - int(0.3 * (STEPS - 1))
    rows.append(("Optax linear_onecycle_schedule", values, OneCycle(LOW, HIGH, STEPS, fall=fall, shape="triangular")))
    ours = Warmup(WarmRestarts(LOW, HIGH, 100, growth=2), 20, every_cycle=True)
    rows.append(("Optax sgdr_schedule, warm-up in each cycle", of_optax(optax.sgdr_schedule(cycles)), ours))
    values = of_ignite(LinearCyclicalScheduler, start_value=LOW, end_value=HIGH, cycle_size=100)
    rows.append(("Ignite LinearCyclicalScheduler", values, Cyclical(LOW, HIGH, 50)))
    values = of_ignite(CosineAnnealingScheduler, cycle_size=100, cycle_mult=2, **down)
    rows.append(("Ignite CosineAnnealingScheduler, cycle_mult=2", values, WarmRestarts(LOW, HIGH, 100, growth=2)))
    values = of_ignite(CosineAnnealingScheduler, cycle_size=100, warmup_duration=20, **down)
    warmed = Warmup(WarmRestarts(LOW, HIGH, 100), 20, LOW, every_cycle=True)
    return [(*row, 0) for row in rows] + [("Ignite CosineAnnealingScheduler, warm-up", values, warmed, 20)]


def mean(low: float, high: float, x: Fraction, shape: str = "triangular") -> Any:
    """low · (1 − w(x)) + high · w(x), in 50 digits."""
    position = mpmath.mpf(x.numerator) / x.denominator
    window = mpmath.sin(mpmath.pi / 2 * position) ** 2 if shape == "sinusoidal" else position
    return mpmath.mpf(low) * (1 - window) + mpmath.mpf(high) * window


def triangle(step: int, up: int, down: int) -> Fraction:
    place = step % (up + down)
    return Fraction(place, up) if place <= up else Fraction(up + down - place, down)


def last_start(step: int, first: int, growth: Fraction, pause: int = 0) -> tuple[int, int]:
    """Where the cycle that holds a step begins, and how long it is."""
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
    warnings.simplefilter("ignore")
    mpmath.mp.dps = 50
    compared = []
    for name, values, schedule, offset in references():
        top = 0.9 if "momentum" in name else HIGH
        ours = [schedule(step) for step in range(offset, offset + STEPS)]
        compared.append((name, float(np.max(np.abs(ours - values))) / top))
    table(f"largest difference from the reference over {STEPS:,} steps, as a share of the upper bound", compared)
    precise = []
    for name, schedule, formula in exact():
        differences = [abs(mpmath.mpf(schedule(step)) - formula(step)) for step in HUGE]
        precise.append((name, float(max(differences)) / HIGH))
    table("\nlargest difference from exact arithmetic around step 10¹², as a share of the upper bound", precise)


if __name__ == "__main__":
    main()
