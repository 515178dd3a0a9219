"""What the state machines share: the schedules that they draw, and how long they search.

A state machine calls the methods of one object in any order, and compares it with a model that is nothing but
`schedule(step)`. CI draws few examples. Search longer, and print how much was tried, by

    CYCLR_EXAMPLES=5000 pytest -s tests/torch/test_stateful.py

Import it as `from tests.stateful import Machine, SCHEDULES, searched`.
"""

import atexit
import os
from typing import Any, ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant

from cyclr import Anneal, Clock, Constant, Cyclical, Halving, OneCycle, Sequence, WarmRestarts, Warmup

_LENGTHS = st.integers(1, 9)
_TOPS = st.sampled_from([0.3, 0.75, 2.0])
CYCLES = st.builds(Cyclical, st.sampled_from([0.0, 0.01, 0.125]), _TOPS, _LENGTHS) | st.builds(
    Cyclical, st.just(0.125), _TOPS, _LENGTHS, step_size_down=_LENGTHS, decay=st.just(Halving())
)
SCHEDULES = st.one_of(
    CYCLES,
    st.builds(Constant, _TOPS),
    st.builds(lambda top, steps: OneCycle(0.01, top, steps + 3), _TOPS, st.integers(1, 40)),
    st.builds(Warmup, CYCLES, _LENGTHS),
    st.builds(WarmRestarts, st.just(0.01), _TOPS, _LENGTHS),
    st.builds(lambda one, other, steps: Sequence([one, other], [steps]), CYCLES, CYCLES, _LENGTHS),
    st.builds(
        lambda top, steps: top * Clock(Anneal(1.0, 0.5, 1, "exponential", limit=0), every=steps), _TOPS, _LENGTHS
    ),
)
"""Schedules of all kinds, whose cycles are so short that a run has several. Values of 0 are among them."""


class Machine(RuleBasedStateMachine):
    """A state machine that counts what it has tried."""

    tried: ClassVar[dict[str, list[int]]] = {}

    def __init__(self) -> None:
        super().__init__()
        self._count = self.tried.setdefault(type(self).__module__, [0, 0])
        self._count[0] += 1

    @invariant()
    def _one_step_more(self) -> None:
        self._count[1] += 1


def searched(machine: type[Machine], examples: int, steps: int) -> Any:
    """Return the test of a state machine, which draws so many examples of at most so many steps in CI."""
    test = machine.TestCase
    test.settings = settings(
        max_examples=int(os.environ.get("CYCLR_EXAMPLES", examples)),
        stateful_step_count=steps,
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )
    return test


def _print_counts() -> None:
    for name, (examples, steps) in Machine.tried.items():
        print(f"{name}: {examples:,} examples, {steps:,} steps")  # noqa: T201


if "CYCLR_EXAMPLES" in os.environ:
    atexit.register(_print_counts)
