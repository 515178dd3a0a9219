"""Kill training with AutoCycle by SIGKILL at random moments, continue each time from the last file, and compare.

    python benchmarks/auto/torch_kills.py --kills 20

A checkpoint is saved after every update. A run has a broken batch and a learning rate that is too high, so kills happen
before, between and after returns to earlier states. The run must end with the same weights, optimizer, events and
learning rates as a run that was not killed, bit for bit, and copies on disk must leave no file behind. Linux and macOS
only, because each part of a run is a forked process.
"""

import argparse
import math
import os
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch

import cyclr
from cyclr.torch import AutoCycle

STEPS = 300
KINDS = ("in memory", "on disk", "loss scaling")


class Program:
    """A run whose state is saved after every update."""

    def __init__(self, kind: str, folder: Path) -> None:
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.BatchNorm1d(32), torch.nn.Linear(32, 1))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8, growth_interval=20, enabled=kind == "loss scaling")
        self.copies = folder / "copies" if kind == "on disk" else None
        self.auto = AutoCycle(
            self.model,
            self.optimizer,
            total_steps=STEPS,
            schedule=cyclr.Cyclical.over(STEPS, 2, 0.01, 3.0),
            also=[self.scaler],
            snapshot_dir=self.copies,
        )
        self.path = folder / "state.pt"
        self.made = 0
        self.rates: list[float] = []
        if self.path.exists():
            state = torch.load(self.path, weights_only=True)
            for name, part in self.parts().items():
                part.load_state_dict(state[name])
            self.made, self.rates = state["made"], state["rates"]

    def parts(self):
        return {"model": self.model, "optimizer": self.optimizer, "scaler": self.scaler, "auto": self.auto}

    def train(self) -> None:
        while self.auto.last_step + 1 < STEPS:
            generator = torch.Generator().manual_seed(self.made)
            x = torch.randn(16, 8, generator=generator) * (math.nan if self.made == 100 else 1)
            loss = (self.model(x) - x.sum(1, keepdim=True).sin()).square().mean()
            self.rates.append(self.optimizer.param_groups[0]["lr"])
            self.optimizer.zero_grad()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.auto.step(loss)
            self.made += 1
            self.save()

    def save(self) -> None:
        state = {name: part.state_dict() for name, part in self.parts().items()}
        beside = self.path.with_suffix(".new")
        torch.save({**state, "made": self.made, "rates": self.rates}, beside)
        beside.replace(self.path)


def start(kind: str, folder: Path) -> int:
    """Fork a process that continues the run, and return its process id."""
    number = os.fork()
    if number == 0:
        status = 1
        try:
            warnings.simplefilter("ignore")
            Program(kind, folder).train()
            status = 0
        finally:
            os._exit(status)
    return number


def finish(kind: str, folder: Path) -> float:
    """Continue a run to its end, and return the seconds."""
    began = time.perf_counter()
    if os.waitpid(start(kind, folder), 0)[1] != 0:
        sys.exit("the run failed")
    return time.perf_counter() - began


def equal(one: object, other: object) -> bool:
    """Return True if nested values are equal bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other or (one != one and other != other)


def killed(kind: str, kills: int, seed: int, folder: Path) -> tuple[list[int], bool, int, int]:
    """Kill a run at random moments. Return the updates that were saved at each kill, and the result at the end."""
    whole, parts = folder / "whole", folder / "parts"
    whole.mkdir(parents=True)
    parts.mkdir()
    seconds = finish(kind, whole)
    rng = np.random.default_rng(seed)
    saved: list[int] = []
    while len(saved) < kills:
        number = start(kind, parts)
        time.sleep(rng.uniform(0, 2 * seconds / (kills + 1)))
        os.kill(number, signal.SIGKILL)
        if os.waitpid(number, 0)[1] == 0:
            sys.exit(f"the run ended after {len(saved)} kills: it was shorter than expected. Run it again.")
        path = parts / "state.pt"
        saved.append(torch.load(path, weights_only=True)["made"] if path.exists() else 0)
    finish(kind, parts)
    one, other = (torch.load(part / "state.pt", weights_only=True) for part in (whole, parts))
    left = [path for path in parts.rglob("*") if path.is_file() and path.name not in ("state.pt", "state.new")]
    return saved, equal(one, other), len(one["auto"]["events"]), len(left)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of each kind of run")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("copies        kills  updates saved at the kills                  events  bit for bit  files left")
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            saved, same, events, left = killed(kind, options.kills, options.seed, Path(folder))
        span = f"{saved[0]} to {saved[-1]} of {STEPS}, {len(set(saved))} different"
        print(f"{kind:<13} {len(saved):>5}  {span:<42}  {events:>6}  {'yes' if same else 'NO':>11}  {left:>10}")


if __name__ == "__main__":
    main()
