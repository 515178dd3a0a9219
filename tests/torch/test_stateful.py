"""`Scheduler` in any order of calls: update t uses `schedule(t)`, times the share of its group."""

import contextlib
import copy
import gc
import io
import pickle
import warnings
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule
from tests.stateful import CYCLES, SCHEDULES, Machine, searched

from cyclr.torch import Scheduler, range_test

NAMES = ("lr", "weight_decay", "momentum")
MOMENTA = CYCLES.map(lambda schedule: 0.4 * schedule)
INITIAL = {"lr": 0.5, "weight_decay": 0.25}


def kinds():
    yield lambda groups: torch.optim.SGD(groups, lr=0.5, momentum=0.9, weight_decay=0.25)
    yield lambda groups: torch.optim.AdamW(groups, lr=0.5, weight_decay=0.25)
    yield lambda groups: torch.optim.AdamW(groups, lr=torch.tensor(0.5, dtype=torch.float64), weight_decay=0.25)


@dataclass
class Model:
    """What is to be: the schedules by name, the next step, the step whose values the groups hold, and the shares."""

    schedules: dict
    step: int
    held: int
    shares: list = field(default_factory=list)
    units: dict = field(default_factory=lambda: {**INITIAL})
    """The initial values of a share of 1, empty if they are not known."""

    def value(self, name, index, step=None):
        listed = self.schedules[name]
        schedule = listed[0] if len(listed) == 1 else listed[index]
        share = float(bool(self.shares[index][name])) if name == "momentum" else self.shares[index][name]
        return schedule(self.held if step is None else step) * share


@dataclass
class Saved:
    optimizer: dict
    scheduler: dict
    model: Model
    groups: list
    """By which arguments the groups were made."""


def stored(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@contextlib.contextmanager
def quiet():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "update number .* is past the end")
        warnings.filterwarnings("ignore", ".* made 8 of its last updates without")
        warnings.filterwarnings("ignore", ".* because nothing is trained")
        warnings.filterwarnings("ignore", "the parameter groups have different momenta")
        yield


class Training(Machine):
    """Trains by one `Scheduler` at a time."""

    @initialize(
        kind=st.sampled_from([*kinds()]),
        shares=st.lists(st.sampled_from([1.0, 0.1, 0.0, 3.0]), max_size=2),
        lr=SCHEDULES,
        others=st.lists(SCHEDULES, min_size=3, max_size=3),
        for_each=st.booleans(),
        momentum=st.none() | MOMENTA,
        weight_decay=st.none() | SCHEDULES,
        start=st.sampled_from([0, 0, 7]),
    )
    def begin(self, kind, shares, lr, others, for_each, momentum, weight_decay, start):
        self.kind = kind
        self.groups = [{}, *({"lr": 0.5 * share, "weight_decay": 0.25 * share} for share in shares)]
        self.optimizer = self.made()
        lrs = others[: len(self.groups)] if for_each else [lr]
        given = {"lr": lrs, "momentum": momentum and [momentum], "weight_decay": weight_decay and [weight_decay]}
        self.model = Model({name: held for name, held in given.items() if held}, start, start)
        for share in (1.0, *shares):
            self.model.shares.append({"lr": 1.0 if len(lrs) > 1 else share, "weight_decay": share, "momentum": 1.0})
        self.scheduler = self.attached(self.optimizer, self.model.schedules, start_step=start)
        self.saved = []
        self.edited = self.added = False

    def made(self):
        groups = [
            {"params": [torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))], **group} for group in self.groups
        ]
        return self.kind(groups)

    def attached(self, optimizer, schedules, **arguments):
        given = {name: held[0] if len(held) == 1 else held for name, held in schedules.items()}
        with quiet():
            return Scheduler(optimizer, **given, **arguments)

    def held(self):
        """What the groups hold."""
        momenta = [group.get("momentum", group.get("betas", (None,))[0]) for group in self.optimizer.param_groups]
        return [
            {"lr": float(group["lr"]), "weight_decay": float(group["weight_decay"]), "momentum": momentum}
            for group, momentum in zip(self.optimizer.param_groups, momenta, strict=True)
        ]

    def check(self):
        for index, held in enumerate(self.held()):
            for name in self.model.schedules:
                wanted = self.model.value(name, index)
                assert held[name] == pytest.approx(wanted, rel=1e-11, abs=1e-300), (name, index, self.model)

    def call_step(self, *arguments):
        with quiet():
            self.scheduler.step(*arguments)
        self.edited = self.added = False

    def update(self):
        for group in self.optimizer.param_groups:
            for weight in group["params"]:
                weight.grad = torch.ones_like(weight)
        with quiet():
            self.optimizer.step()

    @rule(updates=st.integers(1, 6), calls=st.integers(1, 3))
    def train(self, updates, calls):
        for _ in range(updates):
            self.update()
            self.check()
            self.model.step += 1
            for _ in range(calls):
                self.call_step()
            self.model.held = self.model.step

    @rule()
    def update_without_step(self):
        self.update()
        self.check()
        self.model.step += 1

    @rule(calls=st.integers(1, 3))
    def step_without_update(self, calls):
        for _ in range(calls):
            self.call_step()
        self.model.held = self.model.step

    @rule(ahead=st.integers(0, 5))
    def go_to(self, ahead):
        if self.model.step + ahead > 0:
            self.call_step(self.model.step + ahead)
            self.model.held = self.model.step = self.model.step + ahead

    @precondition(lambda self: self.model.step > 1)
    @rule(back=st.integers(1, 9))
    def go_back(self, back):
        step = max(self.model.step - back, 1)
        with pytest.raises(ValueError, match="at least the"):
            self.scheduler.step(step)
        self.edited = self.added = False

    @rule()
    def start_again(self):
        self.call_step(0)
        self.model.held = self.model.step = 0

    @precondition(lambda self: self.takes_groups() and len(self.optimizer.param_groups) < 4)
    @rule(share=st.none() | st.sampled_from([0.1, 1.0, 0.0, 2.5]))
    def add_group(self, share):
        """The arguments give its shares of the current values, or of the initial ones if those are 0 or not given."""
        group, shares = {}, {"momentum": 1.0}
        for name, default in INITIAL.items():
            index = next(i for i, held in enumerate(self.model.shares) if held[name])
            value = self.model.value(name, index) if name in self.model.schedules else 0
            unit = value / self.model.shares[index][name] or self.model.units[name]
            if share is not None:
                group[name] = unit * share
            shares[name] = default / self.model.units[name] if share is None else share
        self.groups.append(group)
        self.model.shares.append(shares)
        self.added = True
        self.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))], **group})

    def takes_groups(self):
        shares = [[held[name] for held in self.model.shares] for name in INITIAL]
        return len(self.model.schedules["lr"]) == 1 and all(map(any, shares)) and self.model.units

    @precondition(lambda self: self.takes_groups() and len(self.optimizer.param_groups) > 1)
    @rule(data=st.data())
    def remove_group(self, data):
        index = data.draw(st.integers(0, len(self.model.shares) - 1))
        removed = self.optimizer.param_groups.pop(index)
        self.optimizer.state.pop(removed["params"][0], None)
        del self.groups[index], self.model.shares[index]

    @precondition(lambda self: len(self.optimizer.param_groups) > 1 and not self.edited and not self.added)
    @rule(data=st.data(), name=st.sampled_from(["lr", "weight_decay"]), factor=st.sampled_from([0.1, 0.0, 4.0]))
    def edit(self, data, name, factor):
        index = data.draw(st.integers(0, len(self.model.shares) - 1))
        held = name in self.model.schedules and [self.model.value(name, i) for i in range(len(self.model.shares))]
        # A factor that all groups have in common, as far as they are not 0, is that of another scheduler.
        if not held or not held[index] or not any(held[:index] + held[index + 1 :]):
            return
        group = self.optimizer.param_groups[index]
        group[name] = group[name] * factor
        self.model.shares[index][name] *= factor
        self.edited = True

    # Saving and loading

    @rule()
    def save(self):
        states = stored([self.optimizer.state_dict(), self.scheduler.state_dict()])
        model = copy.deepcopy(self.model)
        model.held = model.step
        self.saved.append(Saved(*states, model, copy.deepcopy(self.groups)))
        self.edited = self.added = False

    def loaded(self, saved, order, schedules):
        with quiet():
            for part in order:
                if part == "optimizer":
                    self.optimizer.load_state_dict(copy.deepcopy(saved.optimizer))
                else:
                    self.scheduler.load_state_dict(copy.deepcopy(saved.scheduler), schedules=schedules)
        self.edited = self.added = False

    ORDERS = st.permutations(["optimizer", "scheduler"])

    @precondition(lambda self: self.saved)
    @rule(data=st.data(), order=ORDERS)
    def roll_back(self, data, order):
        saved = data.draw(st.sampled_from(self.saved))
        if len(saved.groups) != len(self.groups) or saved.model.schedules != self.model.schedules:
            return
        self.loaded(saved, order, "same")
        self.model, self.groups = copy.deepcopy(saved.model), copy.deepcopy(saved.groups)

    @precondition(lambda self: self.saved)
    @rule(data=st.data(), order=ORDERS, first=st.integers(0, 3))
    def resume(self, data, order, first):
        saved = data.draw(st.sampled_from(self.saved))
        self.fresh(saved, saved.model.schedules, first)
        self.loaded(saved, order, "same")

    @precondition(lambda self: self.saved)
    @rule(data=st.data(), order=ORDERS, lr=SCHEDULES)
    def extend(self, data, order, lr):
        saved = data.draw(st.sampled_from(self.saved))
        if len(saved.model.schedules["lr"]) > 1:
            return
        self.fresh(saved, {**saved.model.schedules, "lr": [lr]})
        if saved.model.schedules["lr"] != [lr]:
            before = self.held()
            with pytest.raises(ValueError, match='schedules="new"'):
                self.scheduler.load_state_dict(copy.deepcopy(saved.scheduler))
            assert self.held() == before
        self.loaded(saved, order, "new")
        self.model.schedules = {**saved.model.schedules, "lr": [lr]}

    @precondition(lambda self: self.saved)
    @rule(data=st.data(), order=ORDERS, lr=SCHEDULES)
    def take_over(self, data, order, lr):
        saved = data.draw(st.sampled_from(self.saved))
        self.fresh(saved, {"lr": [lr]})
        self.loaded(saved, order, "saved")

    def fresh(self, saved, schedules, first=0):
        """Make the objects as the saved ones were made, and train a little."""
        self.model, self.groups = copy.deepcopy(saved.model), copy.deepcopy(saved.groups)
        # If the first group was removed, they are not known.
        self.model.units = {} if self.groups[0] else {**INITIAL}
        self.optimizer = self.made()
        self.scheduler = self.attached(self.optimizer, schedules)
        for _ in range(first):
            self.update()
            self.call_step()

    @rule(data=st.data())
    def load_an_optimizer_alone(self, data):
        """The weights go back, and the schedule goes on."""
        fit = [saved for saved in self.saved if len(saved.groups) == len(self.groups)]
        if fit and not self.edited:
            saved = data.draw(st.sampled_from(fit))
            self.optimizer.load_state_dict(copy.deepcopy(saved.optimizer))

    @rule(duplicate=st.sampled_from([copy.deepcopy, lambda held: pickle.loads(pickle.dumps(held))]))  # noqa: S301
    def duplicate(self, duplicate):
        self.optimizer, self.scheduler = duplicate((self.optimizer, self.scheduler))

    @rule(updates=st.integers(1, 4), lr=SCHEDULES, start=st.integers(0, 9))
    def detach_and_attach(self, updates, lr, start):
        """Between, the groups keep what they hold. The next scheduler reads the shares off it."""
        names = [name for name in INITIAL if name in self.model.schedules]
        known = all(self.model.value(name, 0) for name in names) and all(self.model.shares[0][n] for n in INITIAL)
        if len(self.model.schedules["lr"]) > 1 or not known:
            return
        if self.edited:
            self.step_without_update(1)
        self.update()
        self.model.step += 1
        self.scheduler = None
        gc.collect()
        for _ in range(updates - 1):
            self.update()
            self.check()
        self.scheduler = self.attached(self.optimizer, {**self.model.schedules, "lr": [lr]}, start_step=start)
        for name in INITIAL:
            first = self.model.shares[0][name]
            if first != 1:
                # It depends on how the first group came by its share.
                self.model.units = {}
            for shares in self.model.shares:
                shares[name] /= first
        # In another process, the groups are made with the ratios that this scheduler has found.
        made = [{name: value * shares[name] for name, value in INITIAL.items()} for shares in self.model.shares]
        self.groups = [{}, *made[1:]]
        self.model.schedules["lr"] = [lr]
        self.model.step = self.model.held = start
        self.saved = []

    @precondition(lambda self: not self.edited)
    @rule()
    def range_test(self):
        """It leaves no trace."""
        model = torch.nn.ParameterList([p for group in self.optimizer.param_groups for p in group["params"]])
        batches = [torch.ones(1)] * 12
        loss = lambda model, batch: sum((p**2 + p).sum() for p in model)  # noqa: E731
        before = self.held()
        range_test(model, self.optimizer, loader=batches, loss_of=loss, steps=12, max_lr=0.1)
        assert self.held() == before
        # Without an update, what the test did to the parameters would be taken for that of another optimizer.
        self.train(1, 1)


TestTraining = searched(Training, 20, 30)
