"""`cyclr.torch.AutoCycle` in any order of calls: it is the core with the same losses, and so are its weights."""

import copy
import math
import warnings

import pytest
import torch
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from tests.stateful import SCHEDULES, Machine, searched

import cyclr
from cyclr import AutoCycleError, Bounds, Schedule
from cyclr.torch import AutoCycle, Snapshots

BOUNDS = Bounds(0.001, 0.1, "ok", "made up")
RATIOS = [1.0, 0.1]


class Weights:
    """The state of the core: what SGD with a gradient of 1 does to the weight of every group."""

    def __init__(self):
        self.held = [0.0, 0.0]

    def copy(self):
        return [*self.held]

    def restore(self, copy):
        self.held = [*copy]

    def update(self, lr):
        self.held = [weight - lr * ratio for weight, ratio in zip(self.held, RATIOS, strict=True)]


class Training(Machine):
    """The model is the core, which gets the same losses. Members are those that end its cycles and last."""

    @initialize(total=st.integers(20, 220), given=st.sampled_from([None, BOUNDS]) | SCHEDULES, tensor=st.booleans())
    def begin(self, total, given, tensor):
        self.total, self.given, self.tensor = total, given, tensor
        self.state = Weights()
        self.core = self.cored()
        self.make()
        self.saved = []
        self.draws = 0
        self.members = []

    def cored(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return cyclr.AutoCycle(self.total, self.given, state=self.state, usual_lr=0.01)

    def make(self):
        self.model = torch.nn.ParameterList([torch.zeros(1, dtype=torch.float64) for _ in RATIOS])
        rate = torch.tensor(0.5, dtype=torch.float64) if self.tensor else 0.5
        groups = [{"params": [weight], "lr": rate * ratio} for weight, ratio in zip(self.model, RATIOS, strict=True)]
        self.optimizer = torch.optim.SGD(groups, lr=rate)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            self.auto = AutoCycle(self.model, self.optimizer, total_steps=self.total, schedule=self.given)
        self.snapshots = None
        if not isinstance(self.given, Schedule) or self.given.has_cycle_ends:
            self.snapshots = Snapshots(self.model, self.auto)

    def train(self, losses, skips):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            for loss in losses:
                if self.core.last_step + 1 < self.total:
                    self.train_one(loss, skips)

    def train_one(self, loss, skips):
        if skips:
            left_out = self.core.skip(loss)
            assert self.auto.skip(loss) == left_out
            if left_out:
                return
        lr = self.core.lr
        assert [float(group["lr"]) for group in self.optimizer.param_groups] == pytest.approx(
            [lr * ratio for ratio in RATIOS], rel=1e-12
        )
        for weight in self.model:
            weight.grad = torch.ones_like(weight)
        self.optimizer.step()
        self.auto.step(torch.tensor(loss, dtype=torch.float64))
        self.state.update(lr)
        self.core.step(loss)
        if not self.core.undone:
            step = self.core.last_step
            self.members = [*(member for member in self.members if member < step), *[step] * self.core.is_cycle_end]

    def good(self, count):
        for _ in range(count):
            self.draws += 1
            yield 0.5 + 0.05 * math.sin(7.0 * self.draws**2)

    @rule(batches=st.integers(1, 60), skips=st.booleans())
    def calm(self, batches, skips):
        self.train(self.good(batches), skips)

    @rule(level=st.sampled_from([math.nan, math.inf, 30.0, 1e6, 0.5]), batches=st.integers(1, 14), skips=st.booleans())
    def bad(self, level, batches, skips):
        self.train([level] * batches, skips)

    @rule(loss=st.sampled_from([0.5, 1.0]), calls=st.integers(1, 3))
    def micro_batches(self, loss, calls):
        """A call without an update does nothing."""
        before = repr(self.auto.state_dict())
        for _ in range(calls):
            self.auto.step(loss)
        assert repr(self.auto.state_dict()) == before

    @precondition(lambda self: self.core.last_step + 1 < self.total and not self.core.testing)
    @rule()
    def skipped_by_loss_scaling(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            self.core.lr  # noqa: B018
            self.core.skip(math.inf)
            self.auto.step(math.inf)

    @rule()
    def save(self):
        held = [self.optimizer.state_dict(), self.model.state_dict(), self.auto.state_dict(), self.core.state_dict()]
        self.saved.append(copy.deepcopy([held, self.state.held, self.total, self.given]))

    @precondition(lambda self: self.saved)
    @rule(data=st.data(), order=st.permutations(range(3)), fresh=st.booleans())
    def load(self, data, order, fresh):
        held, weights, total, given = copy.deepcopy(data.draw(st.sampled_from(self.saved)))
        same = (self.total, self.given) == (total, given)
        self.total, self.given = total, given
        self.state.held = weights
        self.core = self.cored()
        self.core.load_state_dict(held[3])
        self.resume(held, order, "same", fresh or not same)

    def resume(self, held, order, schedules, fresh):
        if fresh:
            self.make()
            self.members = []
        for part in order:
            if part == 0:
                self.optimizer.load_state_dict(held[0])
            elif part == 1:
                self.model.load_state_dict(held[1])
            else:
                self.auto.load_state_dict(held[2], schedules=schedules)

    @precondition(lambda self: self.core.last_step + 1 < self.total)
    @rule(order=st.permutations(range(3)), more=st.integers(1, 40), schedule=st.none() | SCHEDULES)
    def extend(self, order, more, schedule):
        held = copy.deepcopy(
            [self.optimizer.state_dict(), self.model.state_dict(), self.auto.state_dict(), self.core.state_dict()]
        )
        self.total += more
        self.given = schedule if schedule is not None and self.given is not None else self.given
        self.core = self.cored()
        self.core.load_state_dict(held[3], schedules="new")
        self.resume(held, order, "new", fresh=True)

    @precondition(lambda self: self.core.last_step + 1 >= self.total)
    @rule()
    def go_on_after_the_end(self):
        for weight in self.model:
            weight.grad = torch.ones_like(weight)
        before = [weight.item() for weight in self.model]
        self.optimizer.step()
        with pytest.raises(AutoCycleError):
            self.auto.step(0.5)
        with torch.no_grad():
            for weight, value in zip(self.model, before, strict=True):
                weight.fill_(value)

    @invariant()
    def the_adapter_is_the_core(self):
        if not hasattr(self, "core"):
            return
        auto, core = self.auto, self.core
        assert (auto.last_step, auto.factor, auto.events) == (core.last_step, core.factor, core.events)
        assert auto.undone == core.undone
        assert [weight.item() for weight in self.model] == pytest.approx(self.state.held, rel=1e-9, abs=1e-12)
        if self.snapshots is not None:
            assert [member.step for member in self.snapshots.members] == self.members


TestTraining = searched(Training, 15, 25)
