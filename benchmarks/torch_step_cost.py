"""What `Scheduler.step()` costs per update of a torch optimizer, against torch's own schedulers.

    python benchmarks/torch_step_cost.py [ROUNDS]

An update of a `Scheduler` is what it adds to a loop: its hooks, called as the optimizer calls them before and after an
update, and `step()`. Of torch's schedulers it is `step()` alone, without the wrapper that they put around
`optimizer.step`. No optimizer steps meanwhile: it costs ten times as much, and is the same for all. Every scheduler
has an optimizer of its own with one parameter group. Rounds alternate in one process, in an order that rotates; a cell
is the median over the rounds of (time of this scheduler) / (time of torch's CyclicLR in the same round), and the range
of the middle half.
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
CYCLE = cyclr.Cyclical(1e-3, 6e-3, step_size=200)
MOMENTUM = CYCLE.mirrored(0.8, 0.9)


class Assignment:
    """A constant, assigned anew after every update."""

    def __init__(self, optimizer: Any) -> None:
        self.groups = optimizer.param_groups

    def step(self) -> None:
        for group in self.groups:
            group["lr"] = 0.1


CASES: dict[str, Callable[[Any], Any]] = {
    "torch CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 1e-3, 6e-3, 200, cycle_momentum=False),
    "torch CyclicLR, momentum": lambda o: lr_scheduler.CyclicLR(o, 1e-3, 6e-3, 200),
    "torch OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 6e-3, 10**9, cycle_momentum=False),
    "torch LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda step: 0.5),
    "a bare assignment": Assignment,
    "Scheduler": lambda o: Scheduler(o, CYCLE),
    "Scheduler, momentum": lambda o: Scheduler(o, CYCLE, MOMENTUM),
    "cyclr CyclicLR": lambda o: CyclicLR(o, 1e-3, 6e-3, 200, cycle_momentum=False),
    "cyclr CyclicLR, momentum": lambda o: CyclicLR(o, 1e-3, 6e-3, 200),
}


def seconds(optimizer: Any, scheduler: Any) -> float:
    step = scheduler.step
    if not isinstance(scheduler, Scheduler):
        begin = time.perf_counter()
        for _ in range(UPDATES):
            step()
        return time.perf_counter() - begin
    (before,) = optimizer._optimizer_step_pre_hooks.values()
    (after,) = optimizer._optimizer_step_post_hooks.values()
    begin = time.perf_counter()
    for _ in range(UPDATES):
        before(optimizer, (), {})
        after(optimizer, (), {})
        step()
    return time.perf_counter() - begin


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 41
    warnings.simplefilter("ignore")
    made = {}
    for name, make in CASES.items():
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
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
        print(f"  {name:26} {statistics.median(taken[name]):6.2f} µs   {median:5.2f}  ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
