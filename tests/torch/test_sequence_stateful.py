"""Two `Scheduler`s of one optimizer, one after another or side by side, with updates that loss scaling skips."""

import copy
import io
import warnings

import pytest
import torch
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from tests.stateful import CYCLES, SCHEDULES, Machine, searched
from torch.optim.lr_scheduler import ChainedScheduler, LinearLR, SequentialLR

from cyclr.torch import Scheduler


def stored(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


class Training(Machine):
    """A model of two weights in two groups, whose rates are 1 and 0.1 times the schedule."""

    def make(self):
        self.weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
        groups = [{"params": [weight], "lr": 0.5 * share} for weight, share in zip(self.weights, (1, 0.1), strict=True)]
        self.optimizer = torch.optim.SGD(groups, lr=0.5, momentum=0.9)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            self.scheduler = self.made()

    @rule(updates=st.integers(1, 6))
    def train(self, updates):
        for _ in range(updates):
            self.update(1.0)

    @rule(updates=st.integers(1, 4))
    def skipped_by_loss_scaling(self, updates):
        for _ in range(updates):
            self.update(float("inf"))

    def update(self, factor):
        self.check()
        self.optimizer.zero_grad()
        self.scaler.scale(factor * sum(weight.sum() for weight in self.weights)).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            self.scheduler.step()
        self.count(factor == 1.0)

    @rule()
    def save(self):
        parts = (self.optimizer, self.scheduler, self.scaler)
        self.saved.append((stored([part.state_dict() for part in parts]), dict(self.position)))

    @precondition(lambda self: self.saved)
    @rule(data=st.data(), order=st.permutations(range(3)), fresh=st.booleans())
    def load(self, data, order, fresh):
        states, position = copy.deepcopy(data.draw(st.sampled_from(self.saved)))
        if fresh:
            self.make()
        parts = (self.optimizer, self.scheduler, self.scaler)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            for number in order:
                parts[number].load_state_dict(states[number])
        self.position = position

    @invariant()
    def check(self):
        if not hasattr(self, "scheduler"):
            return
        for group, share in zip(self.optimizer.param_groups, (1, 0.1), strict=True):
            assert group["lr"] == pytest.approx(self.lr() * share, rel=1e-9, abs=1e-15), self.position
            assert group["momentum"] == pytest.approx(self.momentum(), rel=1e-9)

    def momentum(self):
        return 0.9


class InSequence(Training):
    """The second scheduler starts at its step 0 after a number of calls, also of calls without an update."""

    @initialize(first=SCHEDULES, second=SCHEDULES, milestone=st.integers(1, 9))
    def begin(self, first, second, milestone):
        self.schedules, self.milestone = (first, second), milestone
        self.position = {"calls": 0, "first": 0, "second": 0}
        self.saved = []
        self.make()

    def made(self):
        return SequentialLR(
            self.optimizer, [Scheduler(self.optimizer, each) for each in self.schedules], [self.milestone]
        )

    def count(self, updated):
        place = self.position
        place["calls"] += 1
        if place["calls"] != self.milestone:
            place["first" if place["calls"] < self.milestone else "second"] += updated

    def lr(self):
        place = self.position
        if place["calls"] < self.milestone:
            return self.schedules[0](place["first"])
        return self.schedules[1](place["second"])


class SideBySide(Training):
    """One sets the learning rate, the other the momentum, in a `ChainedScheduler`."""

    @initialize(lr=SCHEDULES, momentum=CYCLES.map(lambda schedule: 0.4 * schedule))
    def begin(self, lr, momentum):
        self.schedules = lr, momentum
        self.position = {"updates": 0}
        self.saved = []
        self.make()

    def made(self):
        lr, momentum = self.schedules
        return ChainedScheduler([Scheduler(self.optimizer, lr), Scheduler(self.optimizer, momentum=momentum)])

    def count(self, updated):
        self.position["updates"] += updated

    def lr(self):
        return self.schedules[0](self.position["updates"])

    def momentum(self):
        return self.schedules[1](self.position["updates"])


class AfterWarmup(InSequence):
    """A schedule of torch comes first, which counts calls."""

    @initialize(second=SCHEDULES, milestone=st.integers(1, 9))
    def begin(self, second, milestone):
        super().begin(None, second, milestone)

    def made(self):
        first = LinearLR(self.optimizer, 0.25, total_iters=self.milestone)
        return SequentialLR(self.optimizer, [first, Scheduler(self.optimizer, self.schedules[1])], [self.milestone])

    def lr(self):
        calls = self.position["calls"]
        if calls < self.milestone:
            return 0.5 * (0.25 + 0.75 * calls / self.milestone)
        return self.schedules[1](self.position["second"])


TestInSequence = searched(InSequence, 6, 15)
TestSideBySide = searched(SideBySide, 4, 15)
TestAfterWarmup = searched(AfterWarmup, 4, 15)
