"""A small run with AutoCycle. `python -m tests.torch.auto_cycle_run FOLDER` continues it, and saves it."""

import math
import sys
import warnings
from pathlib import Path

import torch
from torch.nn.functional import mse_loss

import cyclr
from cyclr.torch import AutoCycle

STEPS = 140
RATES = {"sgd": 0.05, "momentum": 0.02, "adam": 3e-3, "adamw fused": 3e-3, "groups": 0.005, "rmsprop": 1e-3}


def groups(model):
    *before, last = model.children()
    return [{"params": [p for part in before for p in part.parameters()]}, {"params": last.parameters(), "lr": 0.1}]


OPTIMIZERS = {
    "sgd": lambda model: torch.optim.SGD(model.parameters(), lr=0.01),
    "momentum": lambda model: torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True),
    "adam": lambda model: torch.optim.Adam(model.parameters(), lr=0.01),
    "adamw fused": lambda model: torch.optim.AdamW(model.parameters(), lr=0.01, fused=True),
    "groups": lambda model: torch.optim.SGD(groups(model), lr=0.01, momentum=0.9),
    "rmsprop": lambda model: torch.optim.RMSprop(model.parameters(), lr=0.01),
}


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(4, 16), torch.nn.BatchNorm1d(16), torch.nn.Tanh(), torch.nn.Linear(16, 1)
    )


def batch(index):
    generator = torch.Generator().manual_seed(index)
    x = torch.randn(16, 4, generator=generator)
    return x, x.sum(1, keepdim=True).sin() + 0.1 * torch.randn(16, 1, generator=generator)


def batches(count):
    return map(batch, range(count))


def update(model, optimizer, auto, x, y):
    loss = mse_loss(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    auto.step(loss)


class Program:
    """A run with a broken batch at update 60, and a state that can be saved."""

    def __init__(self, name, **arguments):
        self.model = network()
        self.optimizer = OPTIMIZERS[name](self.model)
        cycle = cyclr.Cyclical.over(STEPS, 1, 1e-4, 5 * RATES[name])
        self.auto = AutoCycle(self.model, self.optimizer, total_steps=STEPS, schedule=cycle, **arguments)
        self.used = []

    def train(self, until, after_update=lambda: None):
        while self.auto.last_step + 1 < until:
            index = self.auto.last_step + 1
            x, y = batch(index)
            self.used.append(self.optimizer.param_groups[0]["lr"])
            update(self.model, self.optimizer, self.auto, x * math.nan if index == 60 else x, y)
            after_update()

    def state_dict(self):
        return {name: getattr(self, name).state_dict() for name in ("model", "optimizer", "auto")}

    def load_state_dict(self, state, auto_first=False):
        for name in ("auto", "model", "optimizer") if auto_first else ("model", "optimizer", "auto"):
            getattr(self, name).load_state_dict(state[name])


def main():
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    path = Path(sys.argv[1], "state.pt")
    program = Program("adam")
    if path.exists():
        program.load_state_dict(torch.load(path, weights_only=True))

    def save():
        temporary = path.with_suffix(".new")
        torch.save(program.state_dict(), temporary)
        temporary.replace(path)
        sys.stdout.write(f"{program.auto.last_step}\n")
        sys.stdout.flush()

    program.train(STEPS, save)


if __name__ == "__main__":
    main()
