"""Cost of `Scheduler.step()` per update of a torch optimizer, against torch's own schedulers, and its growth.

    python benchmarks/torch_step_cost.py [ROUNDS]

For `Scheduler` everything that it adds to a loop is timed: its hooks, which are called as the optimizer calls them
before and after an update, and `step()`. For torch's schedulers only `step()` is timed, without the wrapper that they
put around `optimizer.step`. The optimizer itself does not step: it would cost ten times as much, and the same for all.
Every scheduler has a separate optimizer and schedule. Rounds alternate in one process, in an order that rotates. A cell
is the median over the rounds of (time of this scheduler) / (time of torch's CyclicLR in the same round), and the range
of the middle half. The time is the CPU time of the thread, which other programs disturb less.

The second table has the time of one update with more groups, deeper sequences and later steps, as the median of the
rounds.
"""

import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import lr_scheduler

import cyclr
from cyclr.torch import CyclicLR, Scheduler

UPDATES = 4000


class Assignment:
    """A constant that is assigned again after every update."""

    def __init__(self, optimizer: Any) -> None:
        self.groups = optimizer.param_groups

    def step(self) -> None:
        for group in self.groups:
            group["lr"] = 0.1


def cycle() -> cyclr.Cyclical:
    return cyclr.Cyclical(1e-3, 6e-3, step_size=200)


def nested() -> cyclr.Schedule:
    tail = cyclr.Sequence([cyclr.OneCycle(1e-3, 6e-3, 10**6), cyclr.WarmRestarts(0, 0.1, 100, growth=2)], [10**6])
    return cyclr.Sequence([cyclr.Warmup(cycle(), 500), tail], [4000])


def product() -> cyclr.Schedule:
    return nested() * cyclr.Anneal(1, 0.99999, 1, "exponential", limit=0) * cyclr.Anneal(1, 0.5, 10**7)


CASES: dict[str, tuple[int, Callable[[Any], Any]]] = {
    "torch CyclicLR": (1, lambda o: lr_scheduler.CyclicLR(o, 1e-3, 6e-3, 200, cycle_momentum=False)),
    "torch CyclicLR, momentum": (1, lambda o: lr_scheduler.CyclicLR(o, 1e-3, 6e-3, 200)),
    "torch CyclicLR, 3 groups": (3, lambda o: lr_scheduler.CyclicLR(o, 1e-3, 6e-3, 200, cycle_momentum=False)),
    "torch OneCycleLR": (1, lambda o: lr_scheduler.OneCycleLR(o, 6e-3, 10**9, cycle_momentum=False)),
    "torch LambdaLR": (1, lambda o: lr_scheduler.LambdaLR(o, lambda step: 0.5)),
    "a bare assignment": (1, Assignment),
    "Scheduler": (1, lambda o: Scheduler(o, cycle())),
    "Scheduler, momentum": (1, lambda o: Scheduler(o, cycle(), cycle().mirrored(0.8, 0.9))),
    "Scheduler, 3 groups": (3, lambda o: Scheduler(o, cycle())),
    "Scheduler, nested sequence": (1, lambda o: Scheduler(o, nested())),
    "Scheduler, product": (1, lambda o: Scheduler(o, product())),
    "cyclr CyclicLR": (1, lambda o: CyclicLR(o, 1e-3, 6e-3, 200, cycle_momentum=False)),
    "cyclr CyclicLR, momentum": (1, lambda o: CyclicLR(o, 1e-3, 6e-3, 200)),
}


def sgd(groups: int) -> Any:
    """Return an optimizer whose groups have different learning rates."""
    made = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.1 / (1 + index)} for index in range(groups)]
    return torch.optim.SGD(made, lr=0.1, momentum=0.9)


def seconds(optimizer: Any, scheduler: Any, updates: int = UPDATES) -> float:
    step = scheduler.step
    if not isinstance(scheduler, Scheduler):
        begin = time.thread_time()
        for _ in range(updates):
            step()
        return time.thread_time() - begin
    (before,) = optimizer._optimizer_step_pre_hooks.values()
    (after,) = optimizer._optimizer_step_post_hooks.values()
    begin = time.thread_time()
    for _ in range(updates):
        before(optimizer, (), {})
        after(optimizer, (), {})
        step()
    return time.thread_time() - begin


def against_torch(rounds: int) -> None:
    made = {}
    for name, (groups, make) in CASES.items():
        optimizer = sgd(groups)
        made[name] = optimizer, make(optimizer)
    names = list(CASES)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for round_ in range(rounds + 1):
        first = round_ % len(names)
        for name in names[first:] + names[:first]:
            spent = seconds(*made[name])
            if round_ > 0:
                taken[name].append(spent / UPDATES * 1e6)
    print(f"per update, {rounds} rounds of {UPDATES} updates")
    for name in names:
        ratios = [a / b for a, b in zip(taken[name], taken["torch CyclicLR"], strict=True)]
        low, median, high = statistics.quantiles(ratios, n=4)
        print(f"  {name:27} {statistics.median(taken[name]):6.2f} µs   {median:5.2f}  ({low:.2f} to {high:.2f})")


def deep(levels: int) -> cyclr.Schedule:
    """Sequences in sequences, each with a part before the next one."""
    schedule: cyclr.Schedule = cycle()
    for _ in range(levels - 1):
        schedule = cyclr.Sequence([cyclr.Constant(0.1), schedule], [10])
    return schedule


GROWING: dict[str, tuple[list[int], Callable[[int], tuple[Any, Any]]]] = {
    "groups": ([1, 10, 100, 1000], lambda n: (sgd(n), lambda o: Scheduler(o, cycle()))),
    "schedules, one a group": (
        [1, 10, 100, 1000],
        lambda n: (sgd(n), lambda o: Scheduler(o, [cycle() for _ in range(n)])),
    ),
    "nested sequences": ([1, 10, 100], lambda n: (sgd(1), lambda o: Scheduler(o, deep(n)))),
    "step": (
        [0, 10**4, 10**8, 10**12],
        lambda n: (sgd(1), lambda o: Scheduler(o, product(), start_step=n)),
    ),
}


def as_work_grows(rounds: int) -> None:
    print("one update of a Scheduler, as work grows")
    for name, (sizes, make) in GROWING.items():
        cells = []
        for size in sizes:
            optimizer, attach = make(size)
            scheduler, updates = attach(optimizer), UPDATES // max(1, len(optimizer.param_groups) // 10)
            spent = [seconds(optimizer, scheduler, updates) / updates * 1e6 for _ in range(rounds)]
            cells.append(f"{size:,}: {statistics.median(spent):.2f} µs")
        print(f"  {name:23} {'   '.join(cells)}")


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 41
    warnings.simplefilter("ignore")
    against_torch(rounds)
    as_work_grows(max(2, rounds // 4))


if __name__ == "__main__":
    main()
