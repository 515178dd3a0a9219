"""Cost of an update of `AutoCycle` in plain Python, beside a minimal loop over the schedule.

    python benchmarks/auto/cost.py [ROUNDS]

A cell is the median over the rounds of the time per update, in microseconds of this thread, and in brackets the ratio
to the time of reading the schedule. Rounds alternate. The losses fall with noise, so the run has no events. The method
that copies the state does nothing.
"""

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

import cyclr

UPDATES = 20_000
SCHEDULE = cyclr.Bounds(1e-3, 0.1, "ok", "made up").schedule(total_steps=UPDATES)
LOSSES = (np.exp(-np.arange(UPDATES) / 2000) + 0.01 * np.random.default_rng(0).random(UPDATES)).tolist()


class State:
    """Counts its copies."""

    copies = 0

    def copy(self) -> int:
        self.copies += 1
        return self.copies

    def restore(self, copy: int) -> None:
        raise AssertionError("nothing happens in this run")


def reads_the_schedule() -> None:
    for step, _ in enumerate(LOSSES):
        SCHEDULE(step)


def steps(state: State | None = None) -> cyclr.AutoCycle:
    auto = cyclr.AutoCycle(UPDATES, SCHEDULE, state=state or State())
    for loss in LOSSES:
        _ = auto.lr
        auto.step(loss)
    return auto


def skips_and_steps() -> None:
    auto = cyclr.AutoCycle(UPDATES, SCHEDULE, state=State())
    for loss in LOSSES:
        if not auto.skip(loss):
            _ = auto.lr
            auto.step(loss)


CASES: dict[str, Callable[[], object]] = {
    "schedule(step)": reads_the_schedule,
    "lr and step(loss)": steps,
    "skip(loss), lr and step(loss)": skips_and_steps,
}


def measured(rounds: int) -> dict[str, float]:
    """Return the median microseconds of an update of each case."""
    times: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(rounds):
        for name, case in CASES.items():
            begin = time.thread_time()
            case()
            times[name].append(1e6 * (time.thread_time() - begin) / UPDATES)
    return {name: statistics.median(each) for name, each in times.items()}


if __name__ == "__main__":
    found = measured(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
    plain = found["schedule(step)"]
    for name, each in found.items():
        print(f"{name:32} {each:6.2f} ({each / plain:.1f})")
    state = State()
    auto = steps(state)
    print(f"copies of the state in {UPDATES} updates: {state.copies}; events: {len(auto.events)}")
