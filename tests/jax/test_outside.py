"""A saved state of JAX is refused by a short message and changes nothing, or the training goes on by it."""

import copy
import math
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.outside import REFUSED, changes, check, examples

import cyclr
from cyclr.jax import AutoCycle, Snapshots

pytestmark = pytest.mark.filterwarnings("ignore")

TOTAL = 300
CYCLE = cyclr.Cyclical.over(TOTAL, 5, 0.001, 0.01)


@jax.jit
def update(state, lr):
    return {**state, "weights": state["weights"] * (1 - lr)}, jnp.sum(state["weights"])


class Loop:
    """A training of two weights."""

    def __init__(self, schedule):
        self.state = {"weights": jnp.ones(2), "key": jax.random.key(0)}
        self.auto = AutoCycle(self.state, total_steps=TOTAL, schedule=schedule)
        self.kept = Snapshots(self.auto, every=5, keep=2)

    def update(self, loss=None):
        state, found = update(self.state, self.auto.lr)
        self.state = self.auto.step(found if loss is None else loss, state)
        self.kept.after(self.auto.last_step, {"weights": self.state["weights"]})


SCHEDULES = {"schedule": CYCLE, "its range test": None}
SAVED = {}


def saved(kind):
    """The states after 40 updates, in one of which the loss was not finite."""
    if kind not in SAVED:
        loop = Loop(SCHEDULES[kind])
        for number in range(40):
            loop.update(math.nan if number == 30 else None)
        SAVED[kind] = {"auto": loop.auto.state_dict(), "kept": loop.kept.state_dict()}
    return SAVED[kind]


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("part", ["auto", "kept"])
@examples(20)
@given(st.data())
def test_a_state_is_refused_or_the_training_goes_on(kind, part, data):
    loop = Loop(SCHEDULES[kind])
    before = repr(getattr(loop, part).state_dict())

    def load(state):
        try:
            getattr(loop, part).load_state_dict(state)
        except REFUSED:
            assert repr(getattr(loop, part).state_dict()) == before
            raise
        return loop

    def use(loop):
        reload(loop)
        for number in range(min(30, TOTAL - loop.auto.last_step - 1)):
            if loop.auto.lr > 1:
                break
            # A batch that is left out, twice, and the lowering of the rate go back to the copies.
            loop.update(math.nan if number < 2 else 1e6 if number > 20 else None)
            assert jax.tree.map(np.shape, loop.state) == {"weights": (2,), "key": ()}
        reload(loop)

    def reload(loop):
        state = pickle.loads(pickle.dumps(getattr(loop, part).state_dict()))  # noqa: S301
        getattr(Loop(SCHEDULES[kind]), part).load_state_dict(state)

    check(data.draw(changes(copy.copy(saved(kind)[part]))), load, use)
