"""A range test and AutoCycle over 1,000,000 updates: time and memory of the updates, and of the work on their results.

    python benchmarks/long_runs.py [UPDATES [WORD]]

WORD selects rows: core, torch, or results. The first table has the CPU time of an update and the memory of the process,
both in the second tenth and in the last tenth of the updates, to show growth. The second table has the CPU time of work
on results (reading bounds and so on) for a tenth of the points and for all points. The ratio is 10 for work that grows
with the number of points, and 100 for work that grows with its square.
"""

import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from growing_work import RATES, losses, recorded

import cyclr
from cyclr import AutoCycle, RangeTest, RangeTestResult


class Watch:
    """Called once per update. Records the CPU time and the memory at every tenth of the updates."""

    def __init__(self, updates: int) -> None:
        self.every, self.made = updates // 10, 0
        self.seen: list[tuple[float, float]] = []

    def __call__(self) -> None:
        self.made += 1
        if self.made % self.every == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.seen.append((time.process_time(), pages * os.sysconf("SC_PAGE_SIZE") / 2**20))

    def row(self, name: str) -> str:
        """Return the microseconds of an update and the memory, in the second and in the last tenth."""
        times = [(self.seen[at][0] - self.seen[at - 1][0]) / self.every * 1e6 for at in (1, 9)]
        memory = [self.seen[at][1] for at in (1, 9)]
        cells = " ".join(f"{time:>10.1f}" for time in times) + " ".join(f"{size:>10.1f}" for size in memory)
        return f"{name:<22} {cells}"


def range_test(updates: int, watch: Watch) -> None:
    values, test = losses(updates), RangeTest(*RATES, updates, stop_factor=None)
    for loss, _ in zip(values, test, strict=True):
        test.record(loss)
        watch()


def auto_cycle(updates: int, watch: Watch) -> None:
    # Only the falling part of the curve, because the loss of a run falls.
    values = losses(updates * 4 // 3)
    auto = AutoCycle(updates, cyclr.Cyclical.over(updates, 3, 0.001, 0.1))
    for _, loss in zip(range(updates), values, strict=False):
        _ = auto.lr
        auto.step(loss)
        watch()


def tiny_model(watch: Watch) -> tuple[Any, Any, Callable[[Any, Any], Any], list[Any]]:
    """A model of one parameter, whose loss AutoCycle observes."""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = torch.nn.Linear(1, 1, bias=False)

    def loss(outputs: Any, targets: Any) -> Any:
        watch()
        return torch.nn.functional.mse_loss(outputs, targets)

    x = torch.linspace(-1, 1, 32)[:, None]
    return (
        model,
        torch.optim.SGD(model.parameters(), lr=0.01, foreach=False),
        loss,
        [(x, 2 * x + 0.1 * torch.randn(32, 1))],
    )


def torch_loop(updates: int, watch: Watch) -> None:
    model, optimizer, loss_fn, [(x, y)] = tiny_model(watch)
    for _ in range(updates):
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        optimizer.step()
        loss.item()


def torch_range_test(updates: int, watch: Watch) -> None:
    from cyclr.torch import range_test as test

    test(*tiny_model(watch), min_lr=1e-6, max_lr=0.1, steps=updates, stop_factor=None, repeats=1)


def torch_auto_cycle(updates: int, watch: Watch) -> None:
    from cyclr.torch import AutoCycle

    model, optimizer, loss_fn, [(x, y)] = tiny_model(watch)
    cycle = cyclr.Cyclical.over(updates, 3, 0.001, 0.1)
    auto = AutoCycle(model, optimizer, total_steps=updates, schedule=cycle)
    for _ in range(updates):
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        optimizer.step()
        auto.step(loss)


PROGRAMS: dict[str, Callable[[int, Watch], None]] = {
    "RangeTest, core": range_test,
    "AutoCycle, core": auto_cycle,
    "plain loop, torch": torch_loop,
    "range_test, torch": torch_range_test,
    "AutoCycle, torch": torch_auto_cycle,
}


def uses(folder: Path) -> dict[str, Callable[[RangeTestResult], object]]:
    """Return the kinds of work on a result, by name."""
    return {
        "bounds": lambda result: result.bounds,
        "interval": lambda result: result.interval(),
        "save": lambda result: result.save(folder / "result.json"),
        "load": lambda result: RangeTestResult.load(folder / "result.json"),
        "plot": lambda result: result.plot().figure.savefig(folder / "result.png"),
        "picture in a notebook": lambda result: result._repr_html_(),
        "page": lambda result: result.to_html(folder / "result.html"),
    }


def main() -> None:
    updates = int(float(sys.argv[1])) if len(sys.argv) > 1 else 10**6
    word = sys.argv[2] if len(sys.argv) > 2 else ""
    # The events of AutoCycle.
    warnings.simplefilter("ignore", UserWarning)
    print(f"{updates:,} updates{'':<7} {'µs, 2nd':>10} {'last tenth':>10} {'MB, 2nd':>9} {'last tenth':>10}")
    for name, program in PROGRAMS.items():
        if word in name:
            watch = Watch(updates)
            program(updates, watch)
            print(watch.row(name), flush=True)
    if word in "results":
        sizes = updates // 10, updates
        print(f"{'a result of points':<22} {sizes[0]:>10,} {sizes[1]:>10,} {'ratio':>9}   seconds")
        results = [recorded(losses(size)) for size in sizes]
        with tempfile.TemporaryDirectory() as temporary:
            folders = [Path(tempfile.mkdtemp(dir=temporary)) for _ in sizes]
            for name in uses(folders[0]):
                seconds = []
                for folder, result in zip(folders, results, strict=True):
                    began = time.process_time()
                    uses(folder)[name](result)
                    seconds.append(time.process_time() - began)
                print(f"{name:<22} {seconds[0]:>10.2f} {seconds[1]:>10.2f} {seconds[1] / seconds[0]:>9.1f}", flush=True)
            for few, many in zip(*(sorted(folder.iterdir()) for folder in folders), strict=True):
                megabytes = [path.stat().st_size / 1e6 for path in (few, many)]
                print(f"{few.name + ', MB':<22} {megabytes[0]:>10.1f} {megabytes[1]:>10.1f}")


if __name__ == "__main__":
    main()
