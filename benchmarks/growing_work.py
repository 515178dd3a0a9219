"""Growth of the cost of schedules and range tests with the step, the array, the cycles, the parts and the points.

    python benchmarks/growing_work.py [ROUNDS [WORD]]

WORD selects rows by a word of their titles, such as RangeTest.

Every cell is the time per unit (step, element, cycle, part or point) at this size, as a ratio to the smallest size of
the row, for which the time is shown. 1 in all cells means that the cost is proportional to the size: all steps cost the
same, and ten parts cost ten times as much as one part. Times are CPU times of the process, the shortest of ROUNDS
rounds (5 by default).
"""

import json
import sys
import time
from collections.abc import Callable, Iterable

import numpy as np

import cyclr
from cyclr import RangeTest, RangeTestResult, Schedule
from cyclr.bounds import knee
from cyclr.bounds.classic import METHODS

STEPS = 4096
"""Consecutive steps that are called one by one."""
JUMPS = 64

Work = tuple[Callable[[], object], int]
"""The function that is timed, and its number of units."""

RUN = 10**6
SCHEDULES: dict[str, Schedule] = {
    "Cyclical, exponential decay": cyclr.Cyclical(1e-3, 6e-3, 2000, decay=cyclr.Exponential(0.99999)),
    "Cyclical.over": cyclr.Cyclical.over(RUN, 7, 1e-3, 6e-3),
    "WarmRestarts, growth 2": cyclr.WarmRestarts(1e-3, 6e-3, 1000, growth=2),
    "OneCycle": cyclr.OneCycle(1e-3, 6e-3, RUN),
    "WarmRestarts.over, growth 2": cyclr.WarmRestarts.over(RUN, 7, 1e-3, 6e-3, growth=2),
    "Anneal, cosine": cyclr.Anneal(6e-3, 1e-3, RUN, "cosine"),
    "Anneal, exponential, for ever": cyclr.Anneal(6e-3, 5e-3, RUN, "exponential", limit=0),
    "WarmupStableDecay": cyclr.WarmupStableDecay(6e-3, RUN, warmup=0.1),
    "Product by a Clock": 6e-3 * cyclr.Clock(cyclr.Anneal(1, 0.9, 1, "exponential", limit=0), every=10**5),
    "Warmup of a Sequence": cyclr.Warmup(
        cyclr.Sequence([cyclr.Constant(0.1), cyclr.Cyclical(1e-3, 6e-3, 2000)], [5000]), 1000
    ),
}


def one_by_one(schedule: Schedule, first: int = 0) -> Work:
    return lambda: [schedule(step) for step in range(first, first + STEPS)], STEPS


def jumps(schedule: Schedule, first: int) -> Work:
    """Return calls at distant steps. Every round uses other steps, so that nothing is cached."""
    start = iter(range(first, 2**60, JUMPS * 10**4))

    def call() -> None:
        begin = next(start)
        for step in range(begin, begin + JUMPS * 10**4, 10**4):
            schedule(step)

    return call, JUMPS


def array(schedule: Schedule, size: int) -> Work:
    steps = np.arange(size)
    return lambda: schedule(steps), size


def through_json(schedule: Schedule, units: int) -> Work:
    return lambda: Schedule.from_dict(json.loads(json.dumps(schedule.to_dict()))), units


def sequence(parts: int) -> Schedule:
    return cyclr.Sequence([cyclr.Cyclical(1e-3, 6e-3, 50 + part) for part in range(parts)], [100] * (parts - 1))


def nested(parts: int) -> Schedule:
    schedule: Schedule = cyclr.Cyclical(1e-3, 6e-3, 50)
    for part in range(parts - 1):
        schedule = cyclr.Sequence([cyclr.Constant(1e-3 * (1 + part % 3)), schedule], [10])
    return schedule


def product(parts: int) -> Schedule:
    return cyclr.Product(*[cyclr.Anneal(1, 0.5, 10**6 + part, "cosine") for part in range(parts)])


def clocks(parts: int) -> Schedule:
    schedule: Schedule = cyclr.Cyclical(1e-3, 6e-3, 50)
    for _ in range(parts - 1):
        schedule = cyclr.Clock(schedule, start=1)
    return schedule


def warmups(parts: int) -> Schedule:
    schedule: Schedule = cyclr.Cyclical(1e-3, 6e-3, 50)
    for _ in range(parts - 1):
        schedule = cyclr.Warmup(schedule, 10)
    return schedule


MADE: dict[str, Callable[[int], Schedule]] = {
    "Sequence of parts": sequence,
    "Sequence in a Sequence": nested,
    "Warmup in a Warmup": warmups,
    "Product of parts": product,
    "Clock in a Clock": clocks,
}


RATES = (1e-6, 10.0)
ANALYSES: dict[str, Callable[[RangeTestResult], object]] = {
    "bounds": lambda result: knee(result.lr, result.loss),
    "three suggestions": lambda result: [result.suggest(name) for name in METHODS],
    "picture in a notebook": lambda result: result._repr_html_(),
    "JSON and back": lambda result: RangeTestResult.from_dict(json.loads(json.dumps(result.to_dict()))),
}


def losses(points: int) -> list[float]:
    """Return a loss that first falls and then rises, with noise from batch to batch."""
    lr, noise = np.geomspace(*RATES, points), 0.1 * np.random.default_rng(0).standard_normal(points)
    falling_and_turning: list[float] = (2.3 - 2 / (1 + (0.01 / lr) ** 2) + (lr / 0.5) ** 2 + noise).tolist()
    return falling_and_turning


def recorded(losses: list[float]) -> RangeTestResult:
    test = RangeTest(*RATES, len(losses), stop_factor=None)
    for _, loss in zip(test, losses, strict=True):
        test.record(loss)
    return test.result()


def recording(points: int) -> Work:
    values = losses(points)
    return lambda: recorded(values), points


def analysis(points: int, call: Callable[[RangeTestResult], object]) -> Work:
    result = recorded(losses(points))
    return lambda: call(result), points


def rows() -> Iterable[tuple[str, str, list[int], Callable[[int], Work]]]:
    """Title, unit, sizes, and the work of each size."""
    far = [0, 10**2, 10**4, 10**6, 10**8]
    for name, schedule in SCHEDULES.items():
        yield f"{name}: steps from …", "step", far, lambda first, s=schedule: one_by_one(s, first)
        yield f"{name}: jumps from …", "step", far, lambda first, s=schedule: jumps(s, first)
        sizes = [10**4, 10**5, 10**6, 10**7]
        yield f"{name}: array of …", "element", sizes, lambda size, s=schedule: array(s, size)
    many = [1, 10, 10**2, 10**3, 10**4]
    over = {
        "Cyclical.over": lambda n: cyclr.Cyclical.over(RUN, n, 1e-3, 6e-3),
        "WarmRestarts.over": lambda n: cyclr.WarmRestarts.over(RUN, n, 1e-3, 6e-3),
        "WarmRestarts.over, growing": lambda n: cyclr.WarmRestarts.over(RUN, n, 1e-3, 6e-3, growth=1.0003),
    }
    for name, make in over.items():
        yield f"{name}, … cycles: step", "step", many, lambda n, m=make: one_by_one(m(n))
        yield f"{name}, … cycles: array of 10⁶", "element", many, lambda n, m=make: array(m(n), RUN)
        yield f"{name}, … cycles: made", "cycle", many[2:], lambda n, m=make: (lambda: m(n), n)
    parts = [1, 10, 100]
    for name, make in MADE.items():
        yield f"{name}, …: step", "step", parts, lambda n, m=make: one_by_one(m(n))
        yield (
            f"{name}, …: array of 10⁵",
            "element and part",
            parts,
            lambda n, m=make: (array(m(n), 10**5)[0], 10**5 * n),
        )
        yield f"{name}, …: JSON and back", "part", parts, lambda n, m=make: through_json(m(n), n)
    points = [100, 1000, 4000, 16000]
    yield "RangeTest, … points: recorded", "point", points, recording
    for name, call in ANALYSES.items():
        yield f"RangeTest, … points: {name}", "point", points, lambda n, c=call: analysis(n, c)


def seconds(work: Work, rounds: int) -> float:
    """Shortest time per unit."""
    call, units = work
    best = float("inf")
    for _ in range(rounds):
        begin = time.process_time()
        call()
        best = min(best, time.process_time() - begin)
    return best / units


def main() -> None:
    rounds, word = int(sys.argv[1]) if len(sys.argv) > 1 else 5, sys.argv[2] if len(sys.argv) > 2 else ""
    for title, unit, sizes, work in rows():
        if word not in title:
            continue
        times = [seconds(work(size), rounds) for size in sizes]
        cells = "  ".join(f"{size:.0e}: {each / times[0]:5.2f}" for size, each in zip(sizes, times, strict=True))
        print(f"{title:44} {times[0] * 1e9:11,.1f} ns per {unit:17} {cells}", flush=True)


if __name__ == "__main__":
    main()
