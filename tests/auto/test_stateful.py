"""AutoCycle in a training that is calm, spikes, is stuck, breaks, resumes and is extended, in any order."""

import copy
import math
import pickle
import warnings

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cyclr import AutoCycle, Bounds

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


class Training(RuleBasedStateMachine):
    """Two runs get the same losses. One of them is saved and loaded again and again."""

    @initialize(
        total=st.integers(40, 300),
        hot=st.sampled_from([0.02, 0.3, 1.0, 5.0, 100.0]),
        given_schedule=st.booleans(),
    )
    def begin(self, total, hot, given_schedule):
        self.total, self.given = total, given_schedule
        self.states = [Descent(0.1 / hot) for _ in range(2)]
        self.autos = [self.made(state) for state in self.states]
        self.last = -1
        self.expected = None

    def made(self, state):
        return AutoCycle(self.total, BOUNDS if self.given else None, state=state, usual_lr=0.01)

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
        assert not self.given or auto.lr == auto.factor * auto.schedule(before + 1)
        used = auto.lr
        state.update(used)
        auto.step(loss)
        assert auto.last_step == before + 1
        return used

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

    @precondition(lambda self: self.autos[0].last_step + 1 < self.total)
    @rule(more=st.integers(1, 50))
    def extend(self, more):
        self.total += more
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


TestTraining = Training.TestCase
TestTraining.settings = settings(max_examples=60, stateful_step_count=25)
