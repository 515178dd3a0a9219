"""`has_cycle_ends`: True by structure, and wherever `is_cycle_end` is True at some step."""

from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cyclr import (
    Anneal,
    Clock,
    Constant,
    Cyclical,
    Function,
    OneCycle,
    Product,
    Schedule,
    Sequence,
    WarmRestarts,
    Warmup,
)

SHORT = st.integers(1, 12)
LEAVES = st.one_of(
    st.builds(Constant, st.floats(0, 1)),
    st.builds(Cyclical, st.just(0.125), st.just(0.5), SHORT),
    st.builds(WarmRestarts, st.just(0.125), st.just(0.5), SHORT),
    st.builds(OneCycle, st.just(0.125), st.just(0.5), st.integers(4, 20)),
    st.builds(Anneal, st.floats(0, 1), st.floats(0, 1), SHORT),
)


def composed(inner):
    return st.one_of(
        st.builds(lambda parts: Product(*parts), st.lists(inner, min_size=1, max_size=3)),
        st.lists(inner, min_size=1, max_size=3).flatmap(
            lambda parts: st.builds(
                Sequence, st.just(parts), st.lists(SHORT, min_size=len(parts) - 1, max_size=len(parts) - 1)
            )
        ),
        st.builds(Warmup, inner, SHORT),
        st.builds(lambda of, start, every: Clock(of, start=start, every=every), inner, st.integers(0, 9), SHORT),
        st.builds(lambda of, repeat: Clock(of, repeat=repeat), inner, SHORT),
    )


@given(schedule=st.recursive(LEAVES, composed, max_leaves=5))
def test_schedules_without_has_cycle_ends_end_no_cycle(schedule):
    assert schedule.has_cycle_ends or not schedule.is_cycle_end(np.arange(3000)).any()


@given(schedule=LEAVES)
def test_has_cycle_ends_is_exact_for_a_single_schedule(schedule):
    assert schedule.has_cycle_ends is bool(schedule.is_cycle_end(np.arange(200)).any())


@given(part=LEAVES, steps=SHORT)
def test_a_schedule_has_cycle_ends_if_a_part_has_cycle_ends(part, steps):
    for whole in (Sequence([Constant(0.1), part], [steps]), Warmup(part, steps), Clock(part, every=steps), 0.5 * part):
        assert whole.has_cycle_ends is bool(whole.is_cycle_end(np.arange(3000)).any()) is part.has_cycle_ends


@dataclass(frozen=True, repr=False)
class Own(Schedule):
    def evaluate(self, xp, step):
        return 0.1

    def is_cycle_end(self, step):
        return step % 7 == 6


@dataclass(frozen=True, repr=False)
class OwnAround(Schedule):
    of: Schedule

    def evaluate(self, xp, step):
        return self.of.evaluate(xp, step)

    def is_cycle_end(self, step):
        return self.of.is_cycle_end(step)


def test_a_users_class_that_overrides_is_cycle_end_has_cycle_ends():
    assert Own().has_cycle_ends
    assert Warmup(Own(), 3).has_cycle_ends
    assert not Function(lambda step: 0.1).has_cycle_ends
    assert OwnAround(Own()).has_cycle_ends
    assert not OwnAround(Constant(0.1)).has_cycle_ends
