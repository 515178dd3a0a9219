"""Cost of a range test of torch: time against a plain loop with the same updates, and additional memory.

    python benchmarks/torch_range_test_cost.py [ROUNDS [TASK ...]]

The plain loop records every loss as a number and uses the same learning rates. Both start from the same state and read
the same batches. Rounds alternate in one process. A cell is the median over the rounds of (time of the range test) /
(time of the loop in the same round), and the range of the middle half, for wall time and for processor time, which
other programs disturb less.

Memory is measured by torch's allocator, as the bytes of live tensors after every allocation. A cell is the peak during
the range test minus the peak during the loop, as a share of the training state (parameters, buffers and the optimizer's
slots). 1 stands for the one copy that a range test needs.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.profiler import ProfilerActivity, profile

import cyclr
from cyclr.torch import range_test

STEPS, BATCH = 200, 32
SWEEP = {"min_lr": 1e-6, "max_lr": 1e-2, "steps": STEPS, "stop_factor": None, "repeats": 1}


def tiny() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10))


def cnn() -> torch.nn.Module:
    return torch.nn.Sequential(
        *(torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 16, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2)),
        *(torch.nn.Flatten(), torch.nn.Linear(2304, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)),
    )


def wide() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(784, 2048), torch.nn.ReLU(), torch.nn.Linear(2048, 10)
    )


OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "SGD": lambda p: torch.optim.SGD(p, 0.01, momentum=0.9),
    "Adam": lambda p: torch.optim.Adam(p, 0.01),
}
TASKS = {"tiny": tiny, "CNN": cnn, "wide": wide}


class Training:
    """Return a model after one update, so that its optimizer has slots."""

    def __init__(self, make: Callable[[], Any], optimizer: str) -> None:
        torch.manual_seed(0)
        self.model = make()
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.batches = [(torch.randn(BATCH, 1, 28, 28), torch.randint(10, (BATCH,))) for _ in range(20)]
        self.rates = cyclr.RangeTest(1e-6, 1e-2, STEPS).learning_rates
        self.update(1e-6, *self.batches[0])

    def update(self, rate: float, x: torch.Tensor, y: torch.Tensor) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        loss = cross_entropy(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def loop(self) -> list[float]:
        losses = []
        for step, rate in enumerate(self.rates.tolist()):
            losses.append(self.update(rate, *self.batches[step % len(self.batches)]))
        return losses

    def test(self) -> Any:
        return range_test(self.model, self.optimizer, cross_entropy, self.batches, **SWEEP)

    def bytes_of_state(self) -> int:
        slots = [v for slots in self.optimizer.state.values() for v in slots.values() if isinstance(v, torch.Tensor)]
        return sum(t.numel() * t.element_size() for t in (*self.model.parameters(), *self.model.buffers(), *slots))


def seconds(run: Callable[[], Any]) -> tuple[float, float]:
    """Wall time and processor time."""
    begin = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - begin[0], time.process_time() - begin[1]


def peak_bytes(run: Callable[[], Any]) -> int:
    """Return the largest memory above the memory before, from all allocations that the allocator reports."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run()
    held = highest = 0
    for event in sorted(record.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            highest = max(highest, held)
    return highest


def in_words(ratios: list[float]) -> str:
    low, median, high = statistics.quantiles(ratios, n=4)
    return f"{median:6.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 21
    torch.set_num_threads(1)
    print(f"{STEPS} updates of {BATCH} rows, {rounds} rounds on one thread")
    print("               loop, ms   test / loop, clock         test / loop, processor     state, MB   memory / state")
    for task in sys.argv[2:] or TASKS:
        for optimizer in OPTIMIZERS:
            looped, tested = Training(TASKS[task], optimizer), Training(TASKS[task], optimizer)
            taken: list[tuple[Any, Any]] = []
            for round_ in range(rounds + 1):
                if round_ % 2:
                    loop, test = seconds(looped.loop), seconds(tested.test)
                else:
                    test, loop = seconds(tested.test), seconds(looped.loop)
                taken += [(loop, test)] if round_ > 0 else []
            spent = statistics.median(loop[0] for loop, _ in taken) * 1e3
            cells = [in_words([test[kind] / loop[kind] for loop, test in taken]) for kind in (0, 1)]
            state = tested.bytes_of_state()
            beyond = (peak_bytes(tested.test) - peak_bytes(looped.loop)) / state
            print(f"  {task:5} {optimizer:5} {spent:9.1f}   {'   '.join(cells)}   {state / 2**20:8.2f}   {beyond:7.2f}")


if __name__ == "__main__":
    main()
