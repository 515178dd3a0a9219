"""Cost of an update of the classic CNN with `cyclr.torch.AutoCycle`, beside `Scheduler`.

    python benchmarks/auto/torch_cost.py [ROUNDS] [UPDATES]

Both train the same network with Adam on the same batches of 50 random images, and read the loss of every update as a
number. Updates alternate in one process, on one thread. A round is a run of UPDATES updates, by default 200. Its ratio
is (time of all updates with AutoCycle) / (time of all updates with Scheduler), including the copies of the state.
Printed are the median over the rounds, the lowest ratio and the highest ratio. A run makes at most 64 copies, so the
copies cost less per update in a longer run.
"""

import statistics
import sys
import time

import torch
from torch import nn

import cyclr
from cyclr.torch import AutoCycle, Scheduler


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding="same"),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding="same"),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 7 * 7, 256),
        nn.ReLU(),
        nn.Linear(256, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


class Run:
    """A run whose updates are timed."""

    def __init__(self, updates: int, *, auto: bool) -> None:
        self.model, self.seconds, self.auto = network(), 0.0, auto
        self.optimizer = torch.optim.Adam(self.model.parameters())
        cycle = cyclr.Bounds(1e-4, 1e-3, "ok", "made up").schedule(total_steps=updates)
        self.scheduler = (
            AutoCycle(self.model, self.optimizer, total_steps=updates, schedule=cycle)
            if auto
            else Scheduler(self.optimizer, cycle)
        )

    def update(self, x: torch.Tensor, y: torch.Tensor) -> None:
        began = time.thread_time()
        loss = nn.functional.cross_entropy(self.model(x), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        number = loss.item()
        self.scheduler.step(number) if self.auto else self.scheduler.step()
        self.seconds += time.thread_time() - began


def main() -> None:
    rounds, updates = (int(given) for given in (*sys.argv[1:], *(5, 200)[len(sys.argv) - 1 :]))
    torch.set_num_threads(1)
    ratios, per_update = [], 0.0
    for number in range(rounds):
        runs = [Run(updates, auto=True), Run(updates, auto=False)]
        for step in range(updates):
            y = torch.randint(10, (50,))
            x = torch.randn(50, 1, 28, 28) + y[:, None, None, None] / 5
            for run in runs if (step + number) % 2 else runs[::-1]:
                run.update(x, y)
        if isinstance(runs[0].scheduler, AutoCycle) and runs[0].scheduler.events:
            print("not calm:", *runs[0].scheduler.events, sep="\n  ")
        ratios.append(runs[0].seconds / runs[1].seconds)
        per_update = runs[1].seconds / updates
    print(f"{per_update * 1e3:.1f} ms an update with Scheduler; {rounds} rounds of {updates} updates")
    print(f"AutoCycle / Scheduler: {statistics.median(ratios):.4f} ({min(ratios):.4f} to {max(ratios):.4f})")


if __name__ == "__main__":
    main()
