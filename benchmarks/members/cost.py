"""What members cost in PyTorch: an update beside `Snapshots`, a prediction, memory and files, as ratios.

    python benchmarks/members/cost.py [ROUNDS]

A CNN of 431,080 parameters, batches of 50 random images, on one thread. Printed are medians over the rounds,
by default 15, in each of which both sides alternate.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

import cyclr
from cyclr.torch import Scheduler, Snapshots, average, ensemble


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 20, 5),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(800, 500),
        nn.ReLU(),
        nn.Linear(500, 10),
    )


def seconds(function) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    torch.set_num_threads(1)
    x, y = torch.randn(50, 1, 28, 28), torch.randint(0, 10, (50,))
    runs = []
    folder = tempfile.TemporaryDirectory()
    for arguments in (None, {}, {"folder": folder.name}):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
        scheduler = Scheduler(optimizer, cyclr.WarmRestarts(0.0, 0.001, 20))
        runs.append(
            (model, optimizer, scheduler, None if arguments is None else Snapshots(model, scheduler, **arguments))
        )

    def cycle(run) -> None:
        model, optimizer, scheduler, _ = run
        for _ in range(20):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            scheduler.step()

    times = [[seconds(lambda run=run: cycle(run)) for run in runs] for _ in range(rounds)]
    for number, name in ((1, "memory"), (2, "a folder")):
        ratio = statistics.median(row[number] / row[0] for row in times)
        print(f"20 updates with a member in {name}, by 20 updates without: {ratio:.3f}")

    model, members = runs[0][0].eval(), runs[1][3].members[:5]
    size = sum(value.nbytes for value in members[0].state.values())
    parameters = sum(value.nbytes for value in model.parameters())
    files = sorted(Path(folder.name).glob("member-*"))
    print(f"a member in memory, by the parameters: {size / parameters:.3f}")
    print(f"a member in a file, by the parameters: {files[0].stat().st_size / parameters:.3f}")
    together, filed = ensemble(model, members), ensemble(model, runs[2][3].members[:5])
    one = average(model, members).eval()
    with torch.no_grad():
        times = [[seconds(lambda made=made: made(x)) for made in (model, together, filed, one)] for _ in range(rounds)]
    for number, name in ((1, "5 members"), (2, "5 members in a folder"), (3, "an average")):
        ratio = statistics.median(row[number] / row[0] for row in times)
        print(f"a prediction of 50 images by {name}, by one of the model: {ratio:.2f}")
    folder.cleanup()


if __name__ == "__main__":
    main()
