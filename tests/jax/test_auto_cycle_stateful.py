"""`cyclr.jax.AutoCycle` in any order of calls: it is the core with the same losses, and so is its state."""

import copy
import functools
import math
import pickle
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from tests.stateful import SCHEDULES, Machine, searched

import cyclr
from cyclr import AutoCycleError, Bounds
from cyclr.jax import AutoCycle

BOUNDS = Bounds(0.001, 0.1, "ok", "made up")


class Values:
    """The state of the core: the weight and the count that an update of JAX changes too."""

    def __init__(self):
        self.weight, self.count = 0.0, 0

    def copy(self):
        return self.weight, self.count

    def restore(self, copy):
        self.weight, self.count = copy

    def update(self, lr):
        self.weight, self.count = self.weight - lr, self.count + 1


UPDATES = {False: jax.jit(lambda weight, count, lr: (weight - lr, count + 1))}
UPDATES[True] = jax.jit(lambda weight, count, lr: (weight - lr, count + 1), donate_argnums=(0, 1))


class Training(Machine):
    """Updates donate the state or not; an array of NumPy in the state is changed in place."""

    @initialize(total=st.integers(20, 220), given=st.sampled_from([None, BOUNDS]) | SCHEDULES, donates=st.booleans())
    def begin(self, total, given, donates):
        self.total, self.given, self.donates = total, given, donates
        self.values = Values()
        self.core = self.made(functools.partial(cyclr.AutoCycle, state=self.values))
        self.state = {"weight": jnp.zeros(2), "count": jnp.zeros((), int), "seen": np.zeros(1)}
        self.auto, self.updated = self.made_auto(), False
        self.saved = []
        self.draws = 0

    def made(self, kind):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return kind(total_steps=self.total, schedule=self.given, usual_lr=0.01)

    def made_auto(self):
        return self.made(functools.partial(AutoCycle, self.state))

    def train(self, losses, skips):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            for loss in losses:
                if self.core.last_step + 1 < self.total:
                    self.train_one(loss, skips)

    def train_one(self, loss, skips):
        if skips:
            left_out = self.core.skip(loss)
            assert self.auto.skip(jnp.float32(loss)) == left_out
            if left_out:
                self.state = self.auto.state
                return
        lr, self.updated = self.core.lr, True
        assert self.auto.lr == lr
        held = self.state
        weight, count = UPDATES[self.donates](held["weight"], held["count"], lr)
        held["seen"] += 1
        self.state = self.auto.step(loss, {"weight": weight, "count": count, "seen": held["seen"]})
        self.values.update(lr)
        self.core.step(loss)

    def good(self, count):
        for _ in range(count):
            self.draws += 1
            # Exact in float32, in which JAX asks.
            yield float(np.float32(0.5 + 0.05 * math.sin(7.0 * self.draws**2)))

    @rule(batches=st.integers(1, 40), skips=st.booleans())
    def calm(self, batches, skips):
        self.train(self.good(batches), skips)

    @rule(level=st.sampled_from([math.nan, math.inf, 30.0, 1e6, 0.5]), batches=st.integers(1, 14), skips=st.booleans())
    def bad(self, level, batches, skips):
        self.train([level] * batches, skips)

    @rule()
    def save(self):
        held = pickle.dumps([jax.tree.map(np.asarray, self.state), self.auto.state_dict(), self.core.state_dict()])
        self.saved.append((held, self.values.copy(), self.total, self.given))

    @precondition(lambda self: self.saved)
    @rule(data=st.data(), fresh=st.booleans(), donates=st.booleans())
    def load(self, data, fresh, donates):
        held, values, total, given = data.draw(st.sampled_from(self.saved))
        fresh = fresh or (self.total, self.given) != (total, given)
        if self.updated and not fresh:
            with pytest.raises(AutoCycleError, match=r"Create a new AutoCycle\(state"):
                self.auto.load_state_dict(pickle.loads(held)[1])  # noqa: S301
            fresh = True
        self.total, self.given, self.donates = total, given, donates if fresh else self.donates
        self.values.restore(values)
        self.core = self.made(functools.partial(cyclr.AutoCycle, state=self.values))
        self.resume(pickle.loads(held), fresh, "same")  # noqa: S301

    def resume(self, held, fresh, schedules):
        state, saved, core = held
        self.state = {name: value if name == "seen" else jnp.asarray(value) for name, value in state.items()}
        self.core.load_state_dict(core, schedules=schedules)
        if fresh:
            self.auto, self.updated = self.made_auto(), False
        self.auto.load_state_dict(saved, schedules=schedules)

    @precondition(lambda self: self.core.last_step + 1 < self.total)
    @rule(more=st.integers(1, 40), schedule=st.none() | SCHEDULES)
    def extend(self, more, schedule):
        held = pickle.dumps([jax.tree.map(np.asarray, self.state), self.auto.state_dict(), self.core.state_dict()])
        self.total += more
        self.given = schedule if schedule is not None and self.given is not None else self.given
        self.core = self.made(functools.partial(cyclr.AutoCycle, state=self.values))
        self.resume(pickle.loads(held), True, "new")  # noqa: S301

    @precondition(lambda self: self.saved)
    @rule(data=st.data(), wrong=st.sampled_from(["weight", "count", "seen"]))
    def a_copy_of_another_state_is_refused(self, data, wrong):
        held, _, total, given = data.draw(st.sampled_from(self.saved))
        saved = pickle.loads(held)[1]  # noqa: S301
        if (total, given) != (self.total, self.given) or saved["copies"]["first"] is None:
            return
        auto = self.made_auto()
        before = repr(auto.state_dict())
        for value in (None, "x", np.zeros((3, 3))):
            changed = copy.deepcopy(saved)
            changed["copies"]["first"][wrong] = value
            with pytest.raises(ValueError, match="copies of the state of this AutoCycle"):
                auto.load_state_dict(changed)
        assert repr(auto.state_dict()) == before

    @precondition(lambda self: self.core.last_step + 1 >= self.total)
    @rule()
    def go_on_after_the_end(self):
        with pytest.raises(AutoCycleError, match="got another call"):
            self.auto.step(0.5, self.state)

    @invariant()
    def the_adapter_is_the_core(self):
        if not hasattr(self, "core"):
            return
        auto, core = self.auto, self.core
        assert (auto.last_step, auto.factor, auto.events) == (core.last_step, core.factor, core.events)
        assert auto.undone == core.undone
        assert self.state["count"] == self.state["seen"][0] == self.values.count
        np.testing.assert_allclose(self.state["weight"], self.values.weight, rtol=1e-4, atol=1e-5)


TestTraining = searched(Training, 3, 12)
