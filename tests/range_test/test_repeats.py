"""Repeats: how many tests are made, with which seeds."""

import numpy as np
import pytest

from cyclr import RangeTest, RangeTestResult
from cyclr.range_test.repeats import MOST, Sweep

LR = np.geomspace(1e-6, 10, 150)
CLEAR = 2.3 - 2 / (1 + (0.01 / LR) ** 2) + (LR / 0.5) ** 2


def runner(noise):
    """A test whose losses fall by 2, with a noise; and the seeds that it was called with."""
    seeds = []

    def run(seed):
        seeds.append(seed)
        loss = CLEAR + noise * np.random.default_rng(seed).normal(size=150)
        return RangeTestResult(LR, loss, "completed", 1e-6, 10.0, 150, "exponential")

    return run, seeds


def sweep(run, seed, repeats, read_once=False):
    return Sweep(seed=seed, repeats=repeats).repeated(run, read_once=read_once)


@pytest.mark.parametrize("repeats", [1, 3])
def test_a_given_number_of_repeats_is_made(repeats):
    run, seeds = runner(noise=0.1)
    assert len(sweep(run, 5, repeats).runs) == repeats
    assert seeds == [5, 6, 7][:repeats]


def test_a_clear_curve_is_tested_once():
    run, seeds = runner(noise=0.05)
    assert sweep(run, 5, None).bounds.status == "ok"
    assert seeds == [5]


def test_tests_are_repeated_while_the_curve_is_noisy():
    run, seeds = runner(noise=2.8)
    first = next(seed for seed in range(20) if sweep(run, seed, 1).bounds.status == "noisy")
    seeds.clear()
    several = sweep(run, first, None)
    assert 1 < len(seeds) <= MOST
    assert seeds == list(range(first, first + len(seeds)))
    assert several.bounds.status == "ok" or len(seeds) == MOST
    assert several == RangeTestResult.of_repeats([run(seed) for seed in list(seeds)])


def test_repeats_of_noise_end():
    run, seeds = runner(noise=5.0)
    sweep(run, 0, None)
    assert len(seeds) <= MOST


@pytest.mark.parametrize("repeats", [None, 3])
def test_an_equal_second_test_ends_the_repeats(repeats):
    noisy, seeds = runner(noise=5.0)
    result = sweep(lambda seed: (seeds.append(seed), noisy(0))[1], 4, repeats)
    assert [seed for seed in seeds if seed != 0] == ([4, 5] if repeats is None else [4, 5, 6])
    assert len(result.runs) == (repeats or 1)


@pytest.mark.parametrize("end", [5, 40])
def test_a_repeat_ended_early_by_a_bad_batch_is_discarded(end):
    noisy, seeds = runner(noise=2.8)
    first = next(seed for seed in range(20) if sweep(noisy, seed, 1).bounds.status == "noisy")
    seeds.clear()

    def run(seed):
        whole = noisy(seed)
        if seed != first + 1:
            return whole
        return RangeTestResult(LR[:end], whole.loss[:end], "non_finite", 1e-6, 10.0, 150, "exponential")

    result = sweep(run, first, None)
    others = [seed for seed in seeds if seed != first + 1]
    assert len(seeds) > 2
    assert result == RangeTestResult.of_repeats([noisy(seed) for seed in others])
    assert result.bounds.usable
    # What was asked for is done as it was asked for.
    assert len(sweep(run, first, 2).lr) == end


@pytest.mark.parametrize("arguments", [{"seed": None}, {"seed": 0, "read_once": True}])
def test_tests_without_a_seed_or_of_data_read_once_are_not_repeated(arguments):
    run, seeds = runner(noise=1.9)
    sweep(run, repeats=None, **arguments)
    assert len(seeds) == 1


@pytest.mark.parametrize(
    ("seed", "repeats", "error", "message"),
    [
        (None, 2, ValueError, "^seed must be an integer if repeats are to differ; got seed=None, repeats=2"),
        (0, 0, ValueError, "^repeats must be an integer of at least 1; got"),
        (0, 1.5, TypeError, "^repeats must be an integer; got"),
        (-1, 1, ValueError, "^seed must be an integer of at least 0; got"),
        ("a", 1, TypeError, "^seed must be an integer; got"),
    ],
)
def test_numbers_out_of_range_are_an_error(seed, repeats, error, message):
    with pytest.raises(error, match=message):
        Sweep(seed=seed, repeats=repeats)


@pytest.mark.parametrize(
    "argument",
    [{"min_lr": 0}, {"max_lr": 1e-9}, {"steps": 1}, {"spacing": "log"}, {"stop_factor": 1}, {"smoothing": 1}],
    ids=lambda argument: next(iter(argument)),
)
def test_a_sweep_refuses_what_a_range_test_refuses(argument):
    with pytest.raises(ValueError, match=r"must be .*; got ") as of_test:
        RangeTest(**argument)
    with pytest.raises(ValueError, match=r"must be .*; got ") as of_sweep:
        Sweep(**argument)
    assert str(of_sweep.value) == str(of_test.value)


def test_the_tests_of_a_sweep_have_its_arguments():
    arguments = {"min_lr": 1e-3, "max_lr": 2.0, "steps": 7, "spacing": "linear", "updates_per_rate": 2}
    test = Sweep(**arguments, stop_factor=None, smoothing=0.0).test(lambda: 3.0)
    assert test.upcoming(99).tolist() == np.repeat(np.linspace(1e-3, 2.0, 7), 2).tolist()
    for loss, _ in enumerate(test):
        test.record(10.0**loss)
    assert test.result().loss.tolist() == [3.0] * 7
