"""AutoCycle in a training that is calm, spikes, is stuck, breaks, resumes and is extended, in any order."""

import copy
import math
import pickle
import warnings

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from tests.stateful import SCHEDULES, Machine, searched

from cyclr import AutoCycle, AutoCycleError, Bounds

BOUNDS = Bounds(0.001, 0.1, "ok", "made up")


class Descent:
    """A state whose loss falls with the rates that were used, unless they are above `limit`."""

    def __init__(self, limit):
        self.height, self.limit, self.draws = 1.0, limit, 0

    def copy(self):
        return self.height

    def restore(self, copy):
        self.height = copy

    def loss(self):
        """The draw of the batch is not undone."""
        self.draws += 1
        return self.height + 0.05 * math.sin(7.0 * self.draws**2)

    def update(self, lr):
        self.height = min(self.height * (1.5 if lr > self.limit else 1.0 - 0.2 * lr / self.limit), 1e12)


class Training(Machine):
    """Two runs get the same losses. One of them is saved and loaded again and again."""

    @initialize(
        total=st.integers(40, 300),
        hot=st.sampled_from([0.02, 0.3, 1.0, 5.0, 100.0]),
        given=st.sampled_from([None, BOUNDS]) | SCHEDULES,
    )
    def begin(self, total, hot, given):
        self.total, self.given = total, given
        self.saved = []
        self.states = [Descent(0.1 / hot) for _ in range(2)]
        self.autos = [self.made(state) for state in self.states]
        self.last = -1
        self.expected = None

    def made(self, state):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "the schedule has total_steps")
            return AutoCycle(self.total, self.given, state=state, usual_lr=0.01)

    def train(self, batches, change=lambda loss: loss, skips=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            for _ in range(batches):
                if self.autos[0].last_step + 1 >= self.total:
                    return
                done = [self.train_one(*pair, change, skips) for pair in zip(self.autos, self.states, strict=True)]
                assert done[0] == done[1]

    def train_one(self, auto, state, change, skips):
        loss, before = change(state.loss()), auto.last_step
        if skips and auto.skip(loss):
            assert auto.last_step == before
            return None
        if auto.schedule is not None:
            # Without a schedule, the cycle starts after the last update of the range test.
            start = self.total_of_cycle(auto)
            assert auto.lr == auto.factor * auto.schedule(before + 1 - start)
        used = auto.lr
        state.update(used)
        auto.step(loss)
        assert auto.last_step == before + 1
        return used

    def total_of_cycle(self, auto):
        return 0 if self.given is not None else self.total - auto.schedule.total_steps

    @rule(batches=st.integers(1, 60), skips=st.booleans())
    def calm(self, batches, skips):
        self.train(batches, skips=skips)

    @rule(factor=st.sampled_from([3.0, 30.0, 1e6]), batches=st.integers(1, 4), skips=st.booleans())
    def spike(self, factor, batches, skips):
        self.train(batches, lambda loss: factor * abs(loss), skips)

    @rule(bad=st.sampled_from([math.nan, math.inf, -math.inf]), batches=st.integers(1, 15), skips=st.booleans())
    def broken(self, bad, batches, skips):
        self.train(batches, lambda loss: bad, skips)

    @rule(level=st.sampled_from([-5.0, 0.0, 0.7, 1e300]), batches=st.integers(1, 30))
    def stuck(self, level, batches):
        self.train(batches, lambda loss: level)

    @rule()
    def resume(self):
        saved = pickle.loads(pickle.dumps(self.autos[1].state_dict()))  # noqa: S301
        held, self.states[1] = self.states[1], copy.copy(self.states[1])
        assert held.height == self.states[1].height
        self.autos[1] = self.made(self.states[1])
        self.autos[1].load_state_dict(saved)

    @rule()
    def save(self):
        held = pickle.dumps([self.autos[0].state_dict(), self.states[0], self.total])
        self.saved.append((held, self.given))

    @precondition(lambda self: self.saved)
    @rule(data=st.data())
    def go_back(self, data):
        """To a checkpoint: one run in the objects that there are, the other in new ones."""
        held, given = data.draw(st.sampled_from(self.saved))
        (saved, state, total), (again, other, _) = pickle.loads(held), pickle.loads(held)  # noqa: S301
        same = given == self.given and total == self.total
        self.given, self.total, self.last = given, total, -1
        vars(self.states[0]).update(vars(state))
        if not same:
            self.autos[0] = self.made(self.states[0])
        self.autos[0].load_state_dict(saved)
        self.states[1] = other
        self.autos[1] = self.made(other)
        self.autos[1].load_state_dict(again)

    @rule(wrong=st.sampled_from([None, "0.5", True, 1j, [1.0, 2.0]]))
    def a_loss_of_a_wrong_kind_changes_nothing(self, wrong):
        auto = self.autos[0]
        before = repr(auto.state_dict())
        for call in (auto.skip, auto.step):
            with pytest.raises((TypeError, ValueError)):
                call(wrong)
        assert repr(auto.state_dict()) == before

    @precondition(lambda self: self.autos[0].last_step + 1 >= self.total)
    @rule()
    def go_on_after_the_end(self):
        before = repr(self.autos[0].state_dict())
        with pytest.raises(AutoCycleError, match="got another call"):
            self.autos[0].step(0.5)
        assert repr(self.autos[0].state_dict()) == before

    @precondition(lambda self: self.autos[0].last_step < 0)
    @rule()
    def step_before_the_rate_is_read(self):
        if not self.autos[0].state_dict()["started"]:
            with pytest.raises(AutoCycleError, match="before lr was read"):
                self.autos[0].step(0.5)

    @rule()
    def start(self):
        for auto in self.autos:
            if auto.last_step < 0:
                auto.start()
            else:
                with pytest.raises(AutoCycleError, match="before the first update"):
                    auto.start()

    @precondition(lambda self: self.autos[0].last_step >= 0 and self.saved)
    @rule(data=st.data())
    def a_state_of_another_run_is_refused(self, data):
        held, given = data.draw(st.sampled_from(self.saved))
        saved, _, total = pickle.loads(held)  # noqa: S301
        if (given, total) != (self.given, self.total):
            before = repr(self.autos[0].state_dict())
            with pytest.raises(ValueError, match="state_dict must hold"):
                self.autos[0].load_state_dict(saved)
            assert repr(self.autos[0].state_dict()) == before

    @precondition(lambda self: self.autos[0].last_step + 1 < self.total)
    @rule(more=st.integers(1, 50), schedule=st.none() | SCHEDULES)
    def extend(self, more, schedule):
        """By a longer run, and by another schedule unless the run found its bounds itself."""
        self.total += more
        self.given = schedule if schedule is not None and self.given is not None else self.given
        for place, state in enumerate(self.states):
            saved = self.autos[place].state_dict()
            self.autos[place] = self.made(state)
            self.autos[place].load_state_dict(saved, schedules="new")

    @invariant()
    def the_step_never_goes_back_and_both_runs_are_equal(self):
        if not hasattr(self, "autos"):
            return
        one, other = self.autos
        assert one.last_step >= self.last
        self.last = one.last_step
        assert repr(one.state_dict()) == repr(other.state_dict())
        assert self.states[0].height == self.states[1].height

    @invariant()
    def events_are_in_order_and_the_factor_is_a_rate(self):
        if not hasattr(self, "autos"):
            return
        steps = [event.step for event in self.autos[0].events]
        assert steps == sorted(steps)
        assert 0 < self.autos[0].factor < math.inf
        whats = [event.what for event in self.autos[0].events]
        assert whats.count("ignored") <= 1
        assert "lowered" not in whats[whats.index("ignored") :] if "ignored" in whats else True


TestTraining = searched(Training, 40, 25)
