"""Trial cycles: how many, with which tops, on which batches, and what comes of them."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclr import Bounds, RangeTest, RangeTestResult, Run
from cyclr.range_test import TrialCycle
from cyclr.range_test.refine import HIGHEST, KEPT_EVERY, KEPT_MOST, LOWEST, MOST, SHORTEST, Search, TrialTest, plan
from cyclr.range_test.repeats import Sweep
from cyclr.range_test.trial import best_of, cost


def completed(j, costs):
    """A trial whose loss falls from 1 to a cost."""
    return TrialCycle(2.0**j, (1.0,) * 3 + (costs(j),) * 97, costs(j), "completed", None)


def searched(costs, trials=MOST):
    search, order = Search(1.0, trials), []
    while (j := search.next_top()) is not None:
        order.append(j)
        cost = costs(j)
        search.add(
            j, completed(j, costs) if math.isfinite(cost) else TrialCycle(2.0**j, (1.0,), None, "diverged", None)
        )
    return min(search.made, key=search._rank), order


def test_the_repr_of_a_trial_is_short():
    assert repr(completed(0, lambda j: 0.5)) == "TrialCycle(max_lr=1.0, kept=0.5, ended='completed', score=None)"


@pytest.mark.parametrize("losses", [[None, 1.0], [math.nan, 1.0], [[1.0], [2.0]], 1.0])
def test_losses_of_a_trial_are_finite_numbers(losses):
    with pytest.raises(ValueError, match="losses must be a vector"):
        TrialCycle(0.1, losses, None, "diverged", None)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_trial_after_which_evaluate_is_not_finite_ended_early(bad):
    test = TrialTest(0.1, 3, evaluate=lambda: bad)
    for _ in test:
        test.record(1.0)
    assert (test.trial().ended, test.trial().kept) == ("non_finite", None)


@given(st.integers(0, 10**6), st.integers(1, 10**7), st.sampled_from([0, KEPT_MOST]))
def test_a_plan_spends_all_updates_and_never_more(updates, total, kept):
    trials, length, left = plan(updates, total, kept)
    assert left >= 0
    assert trials * (length + kept) + left == updates
    assert trials == 0 or (2 <= trials <= MOST and SHORTEST <= length <= total // 2)


@pytest.mark.parametrize(
    ("updates", "total", "expected"),
    [(150, 1000, 0), (250, 1000, 2), (600, 1000, 4), (1200, 1000, 4), (1200, 400, 4), (600, 150, 0)],
)
def test_the_number_of_trials(updates, total, expected):
    assert plan(updates, total)[0] == expected


@given(st.integers(LOWEST, HIGHEST), st.floats(0.01, 0.1))
def test_the_search_finds_the_top_of_a_curve_with_one_minimum(best, slope):
    found, order = searched(lambda j: 0.1 + slope * abs(j - best), 9)
    assert found == best
    assert len(order) == len(set(order))
    assert all(LOWEST <= j <= HIGHEST for j in order)


@given(st.lists(st.one_of(st.floats(0, 10), st.just(math.inf)), min_size=9, max_size=9), st.integers(2, 9))
def test_the_search_ends_with_the_best_that_it_tried(costs, trials):
    of = dict(zip(range(LOWEST, HIGHEST + 1), costs, strict=True))
    found, order = searched(of.__getitem__, trials)
    assert len(order) == len(set(order)) <= trials
    # A score counts j² a little, and every cost over the fall of the first trial.
    assert of[found] <= min(of[j] for j in order) + 0.02 * max(
        1.0, 1 - of[order[0]] if math.isfinite(of[order[0]]) else 1
    )


def test_a_top_whose_trials_diverge_is_never_chosen():
    assert searched(lambda j: 0.5 - 0.1 * j if j < 2 else math.inf)[0] == 1
    assert searched(lambda j: 0.5 if j < -1 else math.inf)[0] in (-2, -3)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("shift", [-3.0, 0.0, 2.0])
def test_units_and_offset_of_the_loss_do_not_matter(scale, shift):
    def trial(j):
        losses = scale * (np.linspace(1.0, 0.2 + 0.1 * abs(j - 1), 100) + shift)
        return TrialCycle(2.0**j, tuple(losses), float(losses[-1]), "completed", None)

    search = Search(1.0, 6)
    while (j := search.next_top()) is not None:
        search.add(j, trial(j))
    assert min(search.made, key=search._rank) == 1


def test_a_cycle_has_the_rates_of_the_schedule_to_train_with():
    cycle = TrialTest(0.5, 120)
    expected = Bounds(0.005, 0.5, "ok", "").schedule(total_steps=120)(np.arange(120))
    assert np.array_equal(cycle.learning_rates[:120], expected)
    assert np.all(cycle.learning_rates[120:] < 1e-8)


def driven(cycle, one_pass, loss=lambda lr, batch: 1.0):
    """The batches that a trial was trained on, and those that it measured."""
    seen = []
    for lr, batch in zip(cycle, cycle.batches(one_pass), strict=False):
        seen.append(batch)
        cycle.record(loss(lr, batch))
        if cycle.stopped:
            break
    cycle.stop("data_exhausted")
    return seen[: cycle.length], seen[cycle.length :]


@given(st.integers(1, 400), st.integers(100, 250))
def test_batches_kept_out_are_never_trained_on(batches, length):
    trained, kept = driven(TrialTest(1.0, length), lambda: range(batches))
    assert len(trained) == length
    assert not set(trained) & set(kept)
    assert len(kept) == len(set(kept)) == min(min(batches, len(set(trained)) + len(kept)) // KEPT_EVERY, KEPT_MOST)
    assert trained == list(itertools.islice(itertools.cycle(b for b in range(batches) if b not in kept), length))


def test_a_trial_of_data_without_batches_ends():
    cycle = TrialTest(1.0, 100)
    assert driven(cycle, lambda: []) == ([], [])
    assert cycle.trial().ended == "data_exhausted"


def test_with_evaluate_its_value_replaces_the_kept_batches():
    cycle = TrialTest(1.0, 100, lambda: 0.25)
    assert driven(cycle, lambda: range(50))[1] == []
    assert cycle.trial().kept == 0.25


@pytest.mark.parametrize(("loss", "ended"), [(math.nan, "non_finite"), (1e9, "diverged")])
def test_a_trial_that_goes_wrong_ends_early(loss, ended):
    cycle = TrialTest(1.0, 100)
    driven(cycle, lambda: range(50), lambda lr, _: loss if lr > 0.9 else 1.0)
    trial = cycle.trial()
    assert trial.ended == ended
    assert (trial.kept, trial.score) == (None, None)
    assert len(trial.losses) < 100


class Quadratic:
    """Minimizes Σ h w² / 2 by gradient descent on noisy batches: the best top is known to be near 1 / max(h)."""

    def __init__(self, seed=0):
        self.h = np.geomspace(0.02, 1.0, 20)
        self.noise = np.random.default_rng(seed)
        self.driven = []

    def __call__(self, seed, test, careful):
        self.driven.append(test)
        weights = np.ones(20)
        rng = np.random.default_rng(seed)
        passes = [rng.normal(0, 0.01, 20) for _ in range(60)]
        stream = test.batches(lambda: passes) if isinstance(test, TrialTest) else itertools.cycle(passes)
        for lr, noise in zip(test, stream, strict=False):
            with np.errstate(over="ignore", invalid="ignore"):
                loss = float(0.5 * (self.h * weights**2).sum())
                weights = weights - lr * (self.h * weights + noise)
            test.record(loss)
            if test.in_doubt or test.stopped:
                return
        test.stop("data_exhausted")


def test_trials_move_max_lr_of_a_real_descent_to_one_of_their_tops():
    drive = Quadratic()
    result = Sweep(total_steps=1000, refine=1200).run(drive)
    chosen = best_of(result.trials)
    alone = replace(result, trials=()).bounds
    assert result.bounds.max_lr == chosen.max_lr
    assert result.bounds.max_lr / result.bounds.base_lr == pytest.approx(alone.max_lr / alone.base_lr)
    assert f"{len(result.trials)} trial cycles of 200 updates" in result.bounds.reason
    assert sum(len(test.learning_rates) for test in drive.driven[1:]) <= 1200


def test_an_unstable_top_above_counts_against_a_trial_by_its_distance():
    def of(max_lr, score):
        return TrialCycle(max_lr, (1.0, 0.5), None, "completed" if score is not None else "diverged", score)

    low, middle, high = of(1.0, 0.10), of(2.0, 0.09), of(8.0, None)
    assert cost(low, [low, middle, high]) == 0.10
    assert cost(middle, [low, middle, high]) == pytest.approx(0.09 + 0.03 * 1 / 2)
    assert cost(high, [low, middle, high]) == math.inf
    assert best_of([low, middle, high]) is low
    assert best_of([low, middle]) is middle
    assert best_of([high]) is None
    better = of(4.0, 0.5)
    assert cost(middle, [low, middle, better]) == pytest.approx(0.09 + 0.03 * (0.5 - 0.09))


def test_refine_0_is_the_test_without_a_length():
    plain, given_length = Sweep().run(Quadratic()), Sweep(total_steps=1000, refine=0).run(Quadratic())
    assert given_length.bounds == plain.bounds
    assert given_length.trials == ()
    assert given_length.total_steps == 1000


@pytest.mark.parametrize(("total", "made"), [(11_999, False), (12_000, True), (Run.of(120_000, 10, 1), True)])
def test_by_default_5_percent_of_a_long_run_are_spent(total, made):
    assert bool(Sweep(total_steps=total).run(Quadratic()).trials) is made


@pytest.mark.parametrize("updates_per_rate", [1, 4])
def test_too_few_updates_for_trials_make_a_second_sweep_around_the_bounds(updates_per_rate):
    first = Sweep(updates_per_rate=updates_per_rate).run(Quadratic())
    drive = Quadratic()
    result = Sweep(total_steps=1000, refine=200, updates_per_rate=updates_per_rate).run(drive)
    assert [len(test) for test in drive.driven] == [150, 200 // updates_per_rate]
    low, high = drive.driven[1].learning_rates[[0, -1]]
    assert first.bounds.max_lr / 1000 == pytest.approx(low)
    assert high == pytest.approx(min(first.bounds.max_lr * 30, 10.0))
    assert result.swept == (low, high)
    assert result.trials == ()


def test_a_flat_sweep_is_repeated_more_slowly_over_its_whole_range():
    tests = []

    def flat(seed, test, careful):
        tests.append(len(test))
        for _ in test:
            test.record(1.0)

    Sweep(total_steps=1000, refine=220, repeats=1).run(flat)
    assert tests == [150, 220]


def test_an_interrupted_second_sweep_leaves_the_bounds_of_the_first():
    class Interrupted(Quadratic):
        def __call__(self, seed, test, careful):
            super().__call__(seed, test, careful)
            if len(self.driven) == 2:
                raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="second sweep was interrupted"):
        result = Sweep(total_steps=1000, refine=600).run(Interrupted())
    assert result.bounds == Sweep().run(Quadratic()).bounds


def test_a_test_that_is_too_fast_says_so():
    def result(updates_of_fall):
        lr = np.geomspace(1e-6, 10, 150)
        width = updates_of_fall / (149 / 7) / 2
        loss = 2.3 - 1.5 / (1 + (0.01 / lr) ** (2 / width)) + (lr / 0.05) ** 2
        return RangeTestResult(lr, np.minimum(loss, 9), "completed", 1e-6, 10.0, 150)

    assert "too fast" in result(20).bounds.reason
    assert "steps=" in result(20).bounds.reason
    assert "too fast" not in result(150).bounds.reason


def test_the_same_seed_gives_the_same_result_also_from_a_file(tmp_path):
    result = Sweep(total_steps=1000, refine=600).run(Quadratic())
    assert Sweep(total_steps=1000, refine=600).run(Quadratic()) == result
    result.save(tmp_path / "result.json")
    loaded = RangeTestResult.load(tmp_path / "result.json")
    assert loaded == result
    assert loaded.trials == result.trials
    assert loaded.bounds == result.bounds


def test_an_interrupt_ends_the_trials_and_keeps_those_that_were_made():
    class Interrupted(Quadratic):
        def __call__(self, seed, test, careful):
            super().__call__(seed, test, careful)
            if len(self.driven) == 4:
                raise KeyboardInterrupt

    result = Sweep(total_steps=1000, refine=1200).run(Interrupted())
    assert len(result.trials) == 2
    assert "interrupted" in result.bounds.reason


def test_an_interrupt_within_a_trial_says_how_it_ended():
    class Interrupted(Quadratic):
        def __call__(self, seed, test, careful):
            if isinstance(test, TrialTest):
                for _ in range(20):
                    next(test)
                    test.record(1.0)
                raise KeyboardInterrupt
            super().__call__(seed, test, careful)

    result = Sweep(total_steps=1000, refine=1200).run(Interrupted())
    assert [trial.ended for trial in result.trials] == ["interrupted"]
    assert len(result.trials[0].losses) == 20
    assert result.bounds.usable


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"refine": 600}, "total_steps"),
        ({"refine": -1, "total_steps": 1000}, "refine must be"),
        ({"refine": 49, "total_steps": 1000}, "refine must be 0 or at least 50"),
        ({"refine": 1.5, "total_steps": 1000}, "refine must be"),
        ({"total_steps": 0}, "total_steps must be"),
        ({"total_steps": 12.5}, "total_steps must be"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_trained(arguments, words):
    with pytest.raises((TypeError, ValueError), match=words):
        Sweep(**arguments)


def test_data_that_can_be_read_once_is_refused():
    with pytest.raises(ValueError, match="read again"):
        Sweep(total_steps=1000, refine=600).run(Quadratic(), read_once=True)


def test_a_sweep_without_bounds_makes_no_trials():
    def flat(seed, test, careful):
        for _ in test:
            test.record(1.0)

    result = Sweep(total_steps=1000, refine=600).run(flat)
    assert result.trials == ()
    assert not result.bounds.usable


def test_a_trial_is_a_range_test_with_a_known_length():
    cycle = TrialTest(1.0, 100)
    assert isinstance(cycle, RangeTest)
    assert len(cycle) == 100 + KEPT_MOST
