"""A schedule in Optax, compiled, split, restored and replaced in any order: update t uses `schedule(t)`."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule
from tests.stateful import CYCLES, SCHEDULES, Machine, searched

from cyclr.jax import Snapshots, range_test

optax = pytest.importorskip("optax")

SIZE = 4


def by_schedule(lr, momentum):
    return optax.sgd(lr)


def injected(lr, momentum):
    return optax.inject_hyperparams(optax.sgd)(learning_rate=lr, momentum=momentum)


class Training(Machine):
    """The model: weights and velocity by hand, with the value of the schedule at the count of the optimizer."""

    @initialize(
        make=st.sampled_from([by_schedule, injected]),
        lr=SCHEDULES,
        momentum=CYCLES.map(lambda schedule: 0.4 * schedule),
        every=st.integers(1, 3),
    )
    def begin(self, make, lr, momentum, every):
        self.make, self.lr, self.momentum = make, lr, momentum if make is injected else None
        self.replace(lr)
        self.params = {"weight": jnp.zeros(SIZE)}
        self.state = self.optimizer.init(self.params)
        self.weights, self.velocity, self.count = np.zeros(SIZE), np.zeros(SIZE), 0
        self.every = every
        self.snapshots = Snapshots(lr, every=every)
        self.members = []
        self.saved = []

    def replace(self, lr):
        self.lr = lr
        self.optimizer = self.make(lr, self.momentum)
        self.update = jax.jit(self.optimizer.update)

    def expect(self, sample):
        gradient = np.eye(SIZE)[sample]
        momentum = self.momentum(self.count) if self.momentum is not None else 0.0
        self.velocity = momentum * self.velocity + gradient
        self.weights = self.weights - self.lr(self.count) * self.velocity
        self.count += 1

    def check(self):
        np.testing.assert_allclose(self.params["weight"], self.weights, rtol=2e-5, atol=2e-5)

    @rule(samples=st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=8))
    def train(self, samples):
        for sample in samples:
            gradient = {"weight": jnp.eye(SIZE)[sample]}
            updates, self.state = self.update(gradient, self.state, self.params)
            self.params = optax.apply_updates(self.params, updates)
            self.expect(sample)
            self.check()
            self.after(self.count - 1)

    def after(self, step):
        self.snapshots.after(step, self.params)
        self.members = [each for each in self.members if each[0] < step]
        if (step + 1) % self.every == 0:
            self.members.append((step, self.lr(step), np.asarray(self.params["weight"])))
        assert [(each.step, each.lr) for each in self.snapshots.members] == [each[:2] for each in self.members]
        for member, (_, _, weight) in zip(self.snapshots.members, self.members, strict=True):
            np.testing.assert_array_equal(member.state["weight"], weight)

    @rule(samples=st.lists(st.integers(0, SIZE - 1), min_size=5, max_size=5))
    def scan(self, samples):
        """Several updates in one compiled call, after which no member is taken."""

        def step(carry, gradient):
            params, state = carry
            updates, state = self.optimizer.update({"weight": gradient}, state, params)
            return (optax.apply_updates(params, updates), state), None

        carry = self.params, self.state
        (self.params, self.state), _ = jax.lax.scan(step, carry, jnp.eye(SIZE)[np.array(samples)])
        for sample in samples:
            self.expect(sample)
        self.check()

    @rule()
    def save(self):
        held = pickle.dumps(jax.tree.map(np.asarray, (self.params, self.state)))
        self.saved.append((held, self.snapshots.state_dict(), self.weights, self.velocity, self.count, [*self.members]))

    @precondition(lambda self: self.saved)
    @rule(data=st.data(), fresh=st.booleans(), members=st.booleans())
    def restore(self, data, fresh, members):
        held, state, self.weights, self.velocity, self.count, saved = data.draw(st.sampled_from(self.saved))
        self.params, self.state = jax.tree.map(jnp.asarray, pickle.loads(held))  # noqa: S301
        if fresh:
            self.replace(self.lr)
            self.snapshots, self.members = Snapshots(self.lr, every=self.every), []
        if members:
            self.snapshots.load_state_dict(state)
            self.members = [*saved]

    @rule(lr=SCHEDULES)
    def change_schedule(self, lr):
        """The state goes on in an optimizer with another schedule, from its count."""
        self.replace(lr)
        saved = self.snapshots.state_dict()
        self.snapshots = Snapshots(lr, every=self.every)
        self.snapshots.load_state_dict(saved)

    @rule()
    def range_test(self):
        before = jax.tree.map(np.asarray, (self.params, self.state))

        def step(state, batch, lr):
            params, inner = state
            updates, inner = self.optimizer.update({"weight": batch}, inner, params)
            return (jax.tree.map(lambda p, u: p + lr * u, params, updates), inner), jnp.sum(params["weight"] ** 2)

        range_test(step, (self.params, self.state), [*jnp.eye(SIZE)], steps=4, verbose=False, chunk=None)
        jax.tree.map(np.testing.assert_array_equal, before, (self.params, self.state))


TestTraining = searched(Training, 2, 15)
