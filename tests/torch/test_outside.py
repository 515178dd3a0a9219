"""A saved state is refused by a short message and changes nothing, or the training goes on by it."""

import copy
import math
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.outside import REFUSED, changes, check, examples

import cyclr
from cyclr.torch import AutoCycle, CyclicLR, Scheduler, Snapshots

pytestmark = pytest.mark.filterwarnings("ignore")

CYCLE = cyclr.Cyclical.over(300, 5, 0.001, 0.01)


class Loop:
    """A training of a small model by a scheduler; the model is what a state of AutoCycle or Snapshots holds."""

    def __init__(self, make):
        torch.manual_seed(0)
        self.model = torch.nn.Linear(2, 1)
        self.optimizer = torch.optim.SGD(
            [{"params": [p], "lr": 0.01 / (i + 1)} for i, p in enumerate(self.model.parameters())], momentum=0.9
        )
        self.scheduler = make(self.model, self.optimizer)
        self.kept = None
        if isinstance(self.scheduler, Scheduler | AutoCycle):
            self.kept = Snapshots(self.model, self.scheduler, every=5, keep=2)

    def update(self):
        self.optimizer.zero_grad()
        loss = self.model(torch.ones(4, 2)).square().mean()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step(loss) if isinstance(self.scheduler, AutoCycle) else self.scheduler.step()


KINDS = {
    "schedule": lambda model, optimizer: Scheduler(optimizer, CYCLE, momentum=CYCLE.mirrored(0.8, 0.9)),
    "saved": lambda model, optimizer: Scheduler(optimizer, CYCLE, resume="saved"),
    "CyclicLR": lambda model, optimizer: CyclicLR(optimizer, 0.001, 0.01, step_size_up=7, mode="triangular2"),
    "AutoCycle": lambda model, optimizer: AutoCycle(model, optimizer, total_steps=300, schedule=CYCLE),
    "its range test": lambda model, optimizer: AutoCycle(model, optimizer, total_steps=300),
}
SAVED = {}


def saved(kind, part):
    """The state after 12 updates."""
    if kind not in SAVED:
        loop = Loop(KINDS[kind])
        for _ in range(12):
            loop.update()
        SAVED[kind] = {name: getattr(loop, name) and getattr(loop, name).state_dict() for name in ("scheduler", "kept")}
    return SAVED[kind][part]


CASES = [*((kind, "scheduler") for kind in KINDS), ("schedule", "kept")]


@pytest.mark.parametrize(("kind", "part"), CASES, ids=["-".join(case) for case in CASES])
@examples(20)
@given(st.data())
def test_a_state_is_refused_or_the_training_goes_on(kind, part, data):
    loop = Loop(KINDS[kind])
    before = repr(getattr(loop, part).state_dict())
    rates = [group["lr"] for group in loop.optimizer.param_groups]

    def load(state):
        try:
            getattr(loop, part).load_state_dict(state)
        except REFUSED:
            assert repr(getattr(loop, part).state_dict()) == before
            assert [group["lr"] for group in loop.optimizer.param_groups] == rates
            raise
        return loop

    def use(loop):
        for _ in range(3):
            rates = [group["lr"] for group in loop.optimizer.param_groups]
            assert all(map(math.isfinite, rates))
            # A schedule may have any rates, and a run any length; torch and the model have limits.
            if max(rates) > 1 or (getattr(loop.scheduler, "_position", None) or 0) > 2**62:
                break
            loop.update()
        assert repr(loop.scheduler)
        again = Loop(KINDS[kind])
        getattr(again, part).load_state_dict(copy.deepcopy(getattr(loop, part).state_dict()))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(data.draw(changes(copy.deepcopy(saved(kind, part)))), load, use)
