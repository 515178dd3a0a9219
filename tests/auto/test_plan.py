"""When something may happen in a run, in numbers of the page on AutoCycle."""

import numpy as np
import pytest

import cyclr
from cyclr.auto.plan import RatePlan
from cyclr.auto.reading import Pieces

BOUNDS = cyclr.Bounds(0.001, 0.1, "ok", "made up")


def plan(updates, **named):
    return RatePlan(BOUNDS.schedule(total_steps=updates), updates, **named)


@pytest.mark.parametrize(
    ("updates", "hold", "early", "every", "piece", "trial"),
    [(10, 2, 3.5, 1, 1, 1), (165, 33, 57.75, 2, 2, 17), (800, 160, 280, 12, 10, 80), (6400, 1280, 2240, 100, 80, 640)],
)
def test_the_lengths_are_shares_of_the_run(updates, hold, early, every, piece, trial):
    made = plan(updates)
    assert (made.hold, made.early) == (pytest.approx(hold), pytest.approx(early))
    assert (made.every, made.piece, made.trial) == (every, piece, trial)


def test_runs_of_160_updates_are_long_enough_to_look_at():
    assert [plan(updates).is_long for updates in (159, 160)] == [False, True]


def test_rates_that_are_too_low_are_looked_for_six_times():
    made = plan(800)
    ends = range(10, 801, 10)
    assert [end for end in ends if made.is_raise_check(end, end)] == [120, 160, 200, 240, 280, 320]
    assert [end for end in ends if made.is_raise_check(end, 120)] == [120, 160, 200, 240, 280, 320]
    assert not any(made.is_raise_check(end, 119) for end in ends)
    # Pieces of a run that does not divide end after the shares.
    assert [end for end in range(10, 806, 10) if plan(805).is_raise_check(end, end)] == [130, 170, 210, 250, 290, 330]


def test_a_stall_is_looked_for_once():
    made = plan(800)
    assert [since for since in range(10, 801, 10) if made.is_stall_check(since)] == [160]
    for begin in (0, 100):
        still = [update for update in range(800) if made.may_stall(Pieces(begin), update)]
        assert still == list(range(begin + 170))
    assert not made.may_stall(Pieces(from_start=False), 0)
    assert not plan(159).may_stall(Pieces(), 0)


@pytest.mark.parametrize("update", [0, 1, 70_000, 140_000, 2**16, 199_998, 199_999, 200_000, 10**6])
def test_the_highest_rate_is_that_of_the_rest_of_the_run(update):
    made = plan(200_000)
    rest = made.schedule(np.arange(min(update, 199_999), 200_000))
    assert made.highest(update) == rest.max()
    assert made.rate(5) == made.schedule(5)


def test_the_highest_rate_of_a_function_is_what_it_states():
    schedule = cyclr.Function(lambda step: 0.1, high=0.5)
    assert RatePlan(schedule, 100).highest(3) == 0.5


def test_the_highest_rate_does_not_count_steps_after_the_run():
    rising = cyclr.Anneal(0.001, 1.0, steps=100_000)
    assert RatePlan(rising, 100).highest(3) == rising(99)
