"""The verdict in words: ranks, targets, differences and lost trials."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cyclr
from cyclr.records import Group, Interval, Record, Row, read_records, summarize
from cyclr.report import in_words, verdict


def trial(policy: str, seed: int, values: list[float], **more: Any) -> Record:
    fields: dict[str, Any] = {
        "trial": f"{policy}/{seed}",
        "workload": "w",
        "policy": policy,
        "seed": seed,
        "optimizer": "sgd",
        "status": "ok",
        "metric": "val_accuracy",
        "direction": "max",
        "total_steps": 10 * len(values),
        "range_test_steps": 0,
        "lr": 0.1 if policy.startswith("fixed") else None,
        "epochs": {"step": [10.0 * (i + 1) for i in range(len(values))], "val_accuracy": values},
        "steps": {},
        "seconds": 2.0,
    }
    return Record(**{**fields, **more})


def only(records: list[Record]) -> Group:
    (group,) = summarize(records).groups
    return group


def words(records: list[Record]) -> str:
    return " ".join(verdict.of_group(only(records))).replace("\N{NO-BREAK SPACE}", " ")


def test_policies_are_ranked_by_best_and_lost_trials_are_left_out_of_means() -> None:
    trials = [
        trial("fixed", 0, [0.5, 0.6]),
        trial("moving", 0, [0.9, 0.8]),
        trial("moving", 1, [0.0, 0.1], status="diverged"),
        trial("broken", 0, [], status="failed", epochs={}),
    ]
    group = only(trials)
    assert [row.policy for row in group.rows] == ["moving", "fixed", "broken"]
    assert group.rows[0].best.mean == 0.9
    assert group.rows[0].final.mean == 0.8
    assert group.rows[0].seconds == 2.0
    lost = (
        "2 trials diverged or failed and are left out of the means (moving: 1 of 2 seeds diverged; "
        "broken: 1 of 1 seed failed)"
    )
    assert lost in words(trials)


def test_the_verdict_names_the_cost_of_the_best_ensemble() -> None:
    trials = [trial("fixed", 0, [0.5]), trial("up", 0, [0.6], ending={"val_accuracy": 0.7}, predictions=5)]
    assert "The difference in val_accuracy is +0.2." in words(trials)
    said = "up did best of 2 policies: best val_accuracy 0.7000 (one seed). Its ensemble predicts with 5 models."
    assert said in words(trials)
    average = [trials[0], trial("up", 0, [0.6], ending={"val_accuracy": 0.7}, predictions=1)]
    assert "predicts" not in words(average)


def test_lower_is_better_with_direction_min() -> None:
    trials = [trial("fixed", 0, [3.0, 2.0], direction="min"), trial("moving", 0, [2.5, 1.0], direction="min")]
    group = only(trials)
    assert [row.policy for row in group.rows] == ["moving", "fixed"]
    assert group.target == 2.0
    assert group.rows[0].steps_to_target == 20
    assert "The difference in val_accuracy is \N{MINUS SIGN}1." in words(trials)


def test_the_target_is_the_best_of_the_best_fixed_rate_and_range_tests_are_counted() -> None:
    trials = [
        trial("fixed 1", 0, [0.1, 0.5, 0.4]),
        trial("fixed 2", 0, [0.1, 0.2, 0.3]),
        trial("moving", 0, [0.6, 0.2, 0.1], range_test_steps=5),
        trial("slow", 0, [0.1, 0.1, 0.1]),
    ]
    group = only(trials)
    reached = {row.policy: row.steps_to_target for row in group.rows}
    assert group.target == 0.5
    assert reached == {"moving": 15, "fixed 1": 20, "fixed 2": None, "slow": None}
    assert "in 15 steps instead of 20 (0.75 times as many, including its range test)" in words(trials)


def test_a_rate_that_changes_later_is_not_fixed() -> None:
    cosine = trial("cosine", 0, [0.9], lr=0.1, steps={"learning_rate": [0.1, 0.05]})
    constant = trial("constant", 0, [0.5], lr=0.1, schedule=cyclr.Constant(0.1), steps={"learning_rate": [0.1, 0.1]})
    group = only([cosine, constant])
    assert {row.policy: row.fixed for row in group.rows} == {"cosine": False, "constant": True}
    assert group.target == 0.5


def test_a_fixed_rate_with_a_lost_seed_is_still_the_target() -> None:
    trials = [trial("fixed", seed, [0.8]) for seed in range(2)]
    trials += [trial("fixed", 2, [], status="failed", epochs={}, lr=None), trial("moving", 0, [0.9])]
    group = only(trials)
    assert group.baseline is not None
    assert (group.baseline.policy, group.target) == ("fixed", 0.8)
    # Also one that failed so early that it had no optimizer yet.
    group = only([*trials, trial("fixed", 3, [], status="failed", epochs={}, lr=None, optimizer="")])
    assert "2 trials diverged or failed and are left out of the means (fixed: 2 of 4 seeds failed)" in " ".join(
        verdict.of_group(group)
    )


def test_a_fixed_rate_that_diverged_is_no_target() -> None:
    trials = [trial("fixed 1", 0, [0.95, 0.1], status="diverged"), trial("fixed", 0, [0.8]), trial("moving", 0, [0.9])]
    group = only(trials)
    assert group.target == 0.8
    assert (
        "is not enough to compare moving with the best fixed rate, fixed: run 4 more seeds. The "
        "difference in val_accuracy is +0.1" in words(trials)
    )


def test_without_a_fixed_rate_there_is_no_target() -> None:
    trials = [trial("a", 0, [0.1]), trial("b", 0, [0.2])]
    group = only(trials)
    assert group.target is None
    assert (
        "is not enough to compare a with the best, b: run 4 more seeds. The "
        "difference in val_accuracy is \N{MINUS SIGN}0.1" in words(trials)
    )


def test_results_that_cannot_be_compared_are_in_separate_groups() -> None:
    trials = [trial("a", 0, [0.1]), trial("a", 0, [0.1], workload="x"), trial("a", 0, [0.1], optimizer="adam")]
    assert len(summarize(trials).groups) == 3


@pytest.mark.parametrize(
    ("moving", "said"),
    [
        ([0.71, 0.72, 0.73], "moving is better than the best fixed rate, fixed."),
        ([0.68, 0.69, 0.70], "moving is worse than the best fixed rate, fixed."),
        ([0.70, 0.71, 0.77], "moving is probably better than the best fixed rate, fixed: run 5 more seeds to be sure."),
        ([0.68, 0.69, 0.65], "moving is probably worse than the best fixed rate, fixed: run 5 more seeds to be sure."),
        (
            [0.60, 0.72, 0.79],
            "moving and the best fixed rate, fixed, are too close: even 10 more seeds may not be enough.",
        ),
        ([0.69, 0.70, 0.71], "moving and the best fixed rate, fixed, are too close: even 10 more"),
        (
            [0.70, 0.72],
            "moving is probably better than the best fixed rate, fixed, but two seeds are not enough: run 3 more",
        ),
        ([0.9], "One seed is not enough to compare moving with the best fixed rate, fixed: run 4 more seeds."),
    ],
)
def test_the_first_sentence_is_the_verdict_and_the_second_its_interval(moving: list[float], said: str) -> None:
    trials = [trial("fixed", seed, [0.69 + 0.01 * seed]) for seed in range(3)]
    trials += [trial("moving", seed, [value]) for seed, value in enumerate(moving)]
    assert words(trials).startswith(said)
    gap = only(trials).rows[[row.policy for row in only(trials).rows].index("moving")].difference
    decided = gap.low is not None and not gap.low <= 0 <= gap.high
    assert ("more than noise: its 95 % interval is" in words(trials)) == decided
    if len(moving) > 1:
        signs = [f"{value:+.2g}".replace("-", "\N{MINUS SIGN}") for value in (gap.low, gap.high)]
        assert f"its 95 % interval is {signs[0]} to {signs[1]} (seeds paired)" in words(trials)


def differing(gaps: Sequence[float]) -> Row:
    """The row of a policy that differs from a fixed rate by these gaps, seed by seed."""
    trials = [
        trial(name, seed, [0.5 + gap * (name == "up")]) for seed, gap in enumerate(gaps) for name in ("fixed", "up")
    ]
    return next(row for row in only(trials).rows if row.policy == "up")


@pytest.mark.parametrize(("gaps", "more"), [([0.01, 0.02], 3), ([0.01, 0.02, 0.06], 3), ([0.02, -0.01, 0.08, 0.05], 4)])
def test_the_advised_seeds_decide_if_mean_and_spread_stay(gaps: list[float], more: int) -> None:
    row, spaced = differing(gaps), np.linspace(-1, 1, len(gaps) + more)
    assert (row.verdict, row.more_seeds) == ("within noise", more)
    alike = np.mean(gaps) + np.std(gaps, ddof=1) * spaced / np.std(spaced, ddof=1)
    assert (differing(alike).verdict, differing(alike).more_seeds) == ("better", None)


def test_no_seeds_are_advised_for_a_difference_that_is_small_beside_its_noise() -> None:
    assert differing([0.1, -0.09, 0.02]).more_seeds is None
    assert differing([0.0, 0.0, 0.0]).more_seeds is None


def test_the_cells_of_a_column_have_equal_places() -> None:
    precise, wide, equal = Interval(0.9188, 0.91871, 0.91889), Interval(0.9, 0.89, 0.91), Interval(0.5, 0.5, 0.5)
    assert [cell[0] for cell in verdict.column([precise, wide, equal, Interval(0.25), Interval()])] == [
        "0.9188",
        "0.9000",
        "0.5000",
        "0.2500",
        "none",
    ]
    assert [cell[0] for cell in verdict.column([Interval(0.25), Interval(0.0312)])] == ["0.2500", "0.0312"]
    # Sizes that need places of their own.
    assert [cell[0] for cell in verdict.column([Interval(0.00001234), Interval(2.5)])] == ["1.234e-05", "2.500"]


def test_seeds_that_differ_give_no_difference() -> None:
    assert "has no seed in common" in words([trial("fixed", 0, [0.5]), trial("moving", 1, [0.6])])


def test_the_verdict_reports_that_no_trial_finished() -> None:
    assert "nothing to compare" in words([trial("a", 0, [], status="failed", epochs={})])
    assert "the only policy" in words([trial("a", 0, [0.5])])


def test_one_text_holds_the_verdicts_on_all_groups(run: Path) -> None:
    summary = summarize(read_records(run))
    (group,) = summary.groups
    assert in_words(summary) == f"On digits with sgd: {' '.join(verdict.of_group(group))}"
