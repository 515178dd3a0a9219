"""Statistics of records whose numbers are known."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from scipy import stats

import cyclr
from cyclr.records import Interval, Record, Row, estimates, interval, summarize, tradeoff, write_csv
from cyclr.report import in_words

from .conftest import make


def rows(records: list[Record], **options: Any) -> dict[str, Row]:
    return {row.policy: row for row in summarize(records, **options).rows}


RECORDS = [
    *(make("fixed 0.1", seed, [0.5, 0.7 + 0.01 * seed, 0.6]) for seed in range(4)),
    *(make("fixed 0.5", seed, [0.1, 0.2, 0.3]) for seed in range(4)),
    *(make("up", seed, [0.72 + 0.01 * seed + 0.001 * (seed % 2), 0.8 + 0.01 * seed]) for seed in range(4)),
]


def test_means_differences_and_steps() -> None:
    found = rows(RECORDS)
    base, up = found["fixed 0.1"], found["up"]
    assert [row.policy for row in summarize(RECORDS).rows] == ["up", "fixed 0.1", "fixed 0.5"]
    assert base.verdict == "baseline"
    assert base.best.mean == pytest.approx(0.715)
    assert base.final.mean == pytest.approx(0.6)
    # Each seed's target is the baseline's best in that seed, which the baseline reaches at step 20.
    assert base.target == pytest.approx(0.715)
    assert (base.steps_to_target, base.ratio) == (20, 1)
    # The other reaches it at step 10, after a range test of 5 steps.
    assert (up.steps_to_target, up.ratio, up.reached) == (15, 0.75, 4)
    assert (up.total_steps, up.range_test_steps) == (25, 5)
    assert up.difference.mean == pytest.approx(0.1)
    assert up.verdict == "better"
    assert found["fixed 0.5"].verdict == "worse"
    assert (found["fixed 0.5"].reached, found["fixed 0.5"].steps_to_target) == (0, None)


def test_a_given_target_and_baseline() -> None:
    found = rows(RECORDS, target=0.3, baseline="fixed 0.5")
    assert found["fixed 0.5"].verdict == "baseline"
    assert found["fixed 0.5"].steps_to_target == 30
    assert found["up"].steps_to_target == 15
    assert found["up"].ratio == 0.5


def test_a_difference_that_only_the_bootstrap_confirms_is_within_noise() -> None:
    # All three seeds agree on the sign, which the bootstrap takes for certain; by chance one of four would.
    records = [make("fixed 0.1", seed, [0.5]) for seed in range(3)]
    records += [make("up", seed, [0.5 + gap]) for seed, gap in enumerate((0.001, 0.002, 0.02))]
    up = rows(records)["up"]
    assert interval([0.001, 0.002, 0.02]).excludes_zero
    assert stats.ttest_1samp([0.001, 0.002, 0.02], 0).pvalue > 0.05
    assert not up.difference.excludes_zero
    assert up.verdict == "within noise"
    said = in_words(summarize(records))
    assert "up is probably better than the best fixed rate, fixed 0.1: run 7 more seeds to be sure." in said
    assert "within noise: its 95" in said


def test_policies_without_a_common_seed_have_no_result() -> None:
    records = [make("fixed 0.1", seed, [0.8]) for seed in range(3)]
    records += [make("up", seed, [0.9]) for seed in range(5, 8)]
    assert rows(records)["up"].verdict == "no result"
    said = in_words(summarize(records))
    assert "up has no seed in common with the best fixed rate, fixed 0.1" in said
    assert "within noise" not in said


def test_a_given_target_is_named_in_words() -> None:
    said = in_words(summarize(RECORDS, target=0.6))
    assert "up reached 0.6 in 15 steps instead of 20 (0.75 times as many, including its range test)." in said
    assert "up reached 0.78 in 25 steps, including its range test." in in_words(summarize(RECORDS, target=0.78))
    assert "up reached the best value of fixed 0.1 in 15 steps" in in_words(summarize(RECORDS))


def test_the_fastest_policy_is_named_if_it_is_not_the_best() -> None:
    slow = [make("slow", seed, [0.5, 0.6, 0.9 + 0.01 * seed]) for seed in range(4)]
    said = in_words(summarize([*RECORDS, *slow]))
    assert "slow did best of 4 policies" in said
    assert "slow reached the best value of fixed 0.1 in 35 steps instead of 20 (1.75 times as many" in said
    assert "The fastest, up, reached the best value of fixed 0.1 in 15 steps instead of 20 (0.75 times as many" in said
    assert "fastest" not in in_words(summarize(RECORDS))
    # None is called fast that takes longer than the baseline.
    later = [make("later", seed, [0.5, 0.6, 0.75 + 0.01 * seed, 0.8]) for seed in range(4)]
    fixed = [r for r in RECORDS if r.policy != "up"]
    said = in_words(summarize([*fixed, *slow, *later, *(make("late", seed, [0, 0.8]) for seed in range(4))]))
    assert "slow did best of 5 policies" in said
    assert "fastest" not in said


def test_the_best_moving_policy_is_compared_even_if_fixed_rates_are_better() -> None:
    records = [make("fixed 0.1", seed, [0.8]) for seed in range(3)]
    records += [make("fixed 0.2", seed, [0.79]) for seed in range(3)]
    records += [make("up", seed, [0.7 + 0.001 * seed]) for seed in range(3)]
    said = in_words(summarize(records)).replace("\N{NO-BREAK SPACE}", " ")
    assert "fixed 0.1 did best of 3 policies: best val_accuracy 0.8000" in said
    assert (
        "up is worse than the best fixed rate, fixed 0.1. The difference in val_accuracy is \N{MINUS SIGN}0.099" in said
    )
    named = in_words(summarize(records, baseline="fixed 0.2", confidence=0.9)).replace("\N{NO-BREAK SPACE}", " ")
    assert "up is worse than the baseline, fixed 0.2." in named
    assert "more than noise: its 90 % interval is" in named


def test_the_verdict_counts_diverged_and_failed_seeds() -> None:
    records = [make("fixed 0.1", seed, [0.8]) for seed in range(5)]
    records += [make("up", seed, [0.9 + 0.001 * seed]) for seed in range(2)]
    records += [make("up", seed, [0.1], status="diverged") for seed in range(2, 5)]
    said = in_words(summarize(records))
    assert "up is better than the best fixed rate, fixed 0.1. The difference in val_accuracy is +0.1, more" in said
    assert said.endswith("3 trials diverged or failed and are left out of the means (up: 3 of 5 seeds diverged).")
    records.append(make("up", 5, [], status="failed"))
    assert in_words(summarize(records)).endswith("(up: 3 of 6 seeds diverged and 1 of 6 seeds failed).")


def test_one_seed_says_nothing_about_noise() -> None:
    summary = summarize([make("fixed 0.1", 0, [0.5]), make("up", 0, [0.9])])
    assert summary.rows[0].verdict == "one seed"
    assert summary.rows[0].best == Interval(0.9)
    assert "One seed is not enough to compare up with the best fixed rate, fixed 0.1: run 4 more" in in_words(summary)


def test_lower_values_are_better_with_direction_min() -> None:
    low = [
        replace(r, direction="min", metric="val_loss", epochs={**r.epochs, "val_loss": r.epochs["val_accuracy"]})
        for r in RECORDS
    ]
    found = rows(low)
    assert found["fixed 0.5"].verdict == "baseline"
    assert found["fixed 0.5"].best.mean == pytest.approx(0.1)
    assert found["up"].verdict == "worse"


def test_diverged_and_failed_trials_are_counted_separately() -> None:
    records = [
        *RECORDS,
        make("up", 9, [0.9, None], status="diverged"),
        make("up", 10, [], status="failed"),
        make("broken", 0, [], status="failed"),
    ]
    found = rows(records)
    assert (found["up"].seeds, found["up"].diverged, found["up"].failed) == (4, 1, 1)
    assert found["broken"].verdict == "no result"
    assert found["broken"].best == Interval()
    assert "No trial has finished yet" in in_words(summarize([make("broken", 0, [], status="failed")]))


def test_a_fixed_rate_that_diverged_is_no_baseline() -> None:
    records = [make("fixed 0.1", seed, [0.7, 0.8]) for seed in range(3)]
    records += [make("fixed 1", seed, [0.85, 0.1], status="diverged") for seed in range(3)]
    records += [make("up", seed, [0.8, 0.9 + 0.01 * seed]) for seed in range(3)]
    found = rows(records)
    assert {policy: row.verdict for policy, row in found.items()} == {
        "up": "better",
        "fixed 0.1": "baseline",
        "fixed 1": "no result",
    }
    assert (found["fixed 1"].diverged, found["fixed 1"].best) == (3, Interval())
    # Nor does a seed of the baseline that diverged take part in a difference.
    records[0] = replace(records[0], status="diverged")
    assert rows(records)["up"].difference.mean == pytest.approx(0.115)


def test_a_failed_seed_leaves_a_fixed_rate_the_baseline() -> None:
    failed = make("fixed 0.1", 2, [], status="failed", schedule=None, lr=None)
    records = [*(make("fixed 0.1", seed, [0.8]) for seed in range(2)), failed]
    records += [make("up", seed, [0.9 + 0.01 * seed]) for seed in range(3)]
    found = rows(records)
    assert (found["fixed 0.1"].verdict, found["fixed 0.1"].fixed) == ("baseline", True)
    assert (found["up"].verdict, found["up"].fixed) == ("better", False)


def test_a_fixed_rate_with_a_lost_seed_is_the_baseline_only_if_all_have_one() -> None:
    records = [make("fixed 1", 0, [0.8, 0.91])]
    records += [make("fixed 1", seed, [None], status="diverged") for seed in (1, 2)]
    records += [make("fixed 0.1", seed, [0.7, 0.8]) for seed in range(3)]
    records += [make("up", seed, [0.8, 0.94 + 0.001 * seed]) for seed in range(3)]
    found = rows(records)
    assert {policy: row.verdict for policy, row in found.items()} == {
        "fixed 0.1": "baseline",
        "fixed 1": "one seed",
        "up": "better",
    }
    assert "up is better than the best fixed rate whose trials all finished, fixed 0.1." in in_words(summarize(records))
    lost = [r if r.trial != "fixed 0.1-0" else replace(r, status="diverged") for r in records]
    assert rows(lost)["fixed 1"].verdict == "baseline"
    assert "with the best fixed rate, fixed 1" in in_words(summarize(lost))


def test_seeds_without_a_target_are_left_out_of_numbers_about_targets() -> None:
    records = [make("fixed 0.1", seed, [0.7, 0.8 + 0.01 * seed]) for seed in range(2)]
    records.append(make("fixed 0.1", 2, [None], status="diverged"))
    records += [make("up", seed, [0.9 + 0.01 * seed]) for seed in range(3)]
    records += [make("half", seed, [0.8]) for seed in range(3)]
    records += [make("elsewhere", seed, [0.9]) for seed in range(3, 6)]
    found = rows(records)
    up, half, elsewhere = found["up"], found["half"], found["elsewhere"]
    assert (up.aimed, up.reached, up.steps_to_target, up.ratio) == (2, 2, 15, 0.75)
    assert (half.aimed, half.reached, half.steps_to_target, half.ratio) == (2, 1, None, None)
    assert (elsewhere.aimed, elsewhere.reached, elsewhere.target, elsewhere.ratio) == (0, 0, None, None)
    assert "The difference in val_accuracy is" in in_words(summarize(records))
    assert "up reached the best value of fixed 0.1 in 15 steps instead of 20" in in_words(summarize(records))
    # A target that is given is one in every seed; where the baseline lost it, there are no steps to compare with.
    up = rows(records, target=0.75)["up"]
    assert (up.aimed, up.reached, up.steps_to_target, up.ratio) == (3, 3, 15, None)


@pytest.mark.parametrize(
    ("more", "verdict"),
    [
        ((1, 1), "within noise"),
        ((2, 2), "within noise"),
        ((3, 3), "better"),
        ((-3, -3), "worse"),
        ((1, 1, 1), "better"),
    ],
)
def test_equal_differences_spread_by_the_resolution_of_the_metric(more: tuple[int, ...], verdict: str) -> None:
    # Right answers of 360, so that Student's interval of two seeds reaches 12.71 / (12 · 2) ** 0.5 = 2.6 of them.
    # A metric is as fine as the values of all epochs say; the rounding of single precision makes it no finer.
    records, rounding = [], 1 + 6e-8
    for seed, gap in enumerate(more):
        right = 330 + 10 * seed
        records.append(make("fixed 0.1", seed, [300 / 360, right / 360]))
        records.append(make("up", seed, [301 / 360 * rounding**seed, (right + gap) / 360 * rounding**seed]))
    assert rows(records)["up"].verdict == verdict


def test_a_trial_that_failed_without_an_optimizer_belongs_to_its_policy() -> None:
    early = {"status": "failed", "optimizer": "", "schedule": None, "lr": None}
    summary = summarize([*RECORDS, make("up", 9, [], **early), make("broken", 0, [], **early)])
    assert {row.optimizer for row in summary.rows} == {"SGD"}
    assert {row.policy: row.failed for row in summary.rows} == {"up": 1, "fixed 0.1": 0, "fixed 0.5": 0, "broken": 1}
    # Whose optimizer was asked for by name is no sign of the workload's own.
    named = [replace(r, optimizer="Adam") for r in RECORDS if r.policy == "up"]
    lost = [make("fixed 0.1", seed, [], **early) for seed in range(2)]
    found = {row.policy: row.optimizer for row in summarize([*named, *lost]).rows}
    assert found == {"up": "Adam", "fixed 0.1": ""}
    lost += [make("up", seed, [], **early) for seed in range(4)]
    found = [(row.policy, row.optimizer) for row in summarize([*named, *lost]).rows if row.policy == "up"]
    assert sorted(found) == [("up", ""), ("up", "Adam")]
    # Where the workload ran with two of them, nobody knows which it would have been.
    adam = [replace(r, optimizer="Adam") for r in RECORDS]
    assert {row.optimizer for row in summarize([*RECORDS, *adam, make("up", 9, [], **early)]).rows} == {
        "SGD",
        "Adam",
        "",
    }


def test_a_baseline_may_have_finished_only_with_another_optimizer() -> None:
    broken = [replace(r, optimizer="Adam", status="failed") for r in RECORDS if r.policy == "fixed 0.1"]
    adam = [replace(r, optimizer="Adam") for r in RECORDS if r.policy == "up"]
    summary = summarize([*RECORDS, *adam, *broken], baseline="fixed 0.1")
    assert {row.policy: row.verdict for row in summary.rows if row.optimizer == "Adam"} == {
        "up": "no result",
        "fixed 0.1": "baseline",
    }
    assert "The baseline, fixed 0.1, has no finished trial" in in_words(summary)


@pytest.mark.parametrize("status", ["failed", "diverged"])
def test_a_baseline_without_a_finished_trial_leaves_the_table(status: str) -> None:
    lost = make("fixed 9", 0, [0.1], status=status)
    summary = summarize([*RECORDS, lost], baseline="fixed 9")
    assert {row.policy: row.verdict for row in summary.rows} == {
        "up": "no result",
        "fixed 0.1": "no result",
        "fixed 0.5": "no result",
        "fixed 9": "baseline",
    }
    assert "The baseline, fixed 9, has no finished trial, so there is nothing to compare." in in_words(summary)


def test_false_verdicts_of_any_policy_stay_below_the_level(monkeypatch: pytest.MonkeyPatch) -> None:
    # Student's interval only, for speed: with the bootstrap's, differences are wider and alarms fewer.
    monkeypatch.setattr(estimates, "band", lambda values, confidence: (values.mean(0), values.mean(0)))
    # Eight policies that do what the baseline does: at most one comparison in twenty may call any of them different.
    random, runs, alarms = np.random.default_rng(0), 300, 0
    for _ in range(runs):
        base, others = random.normal(0, 1, 5), random.normal(0, 1, (8, 5))
        records = [make("fixed", seed, [value]) for seed, value in enumerate(base.tolist())]
        for number, other in enumerate(others.tolist()):
            records += [make(f"up {number}", seed, [value]) for seed, value in enumerate(other)]
        alarms += any(row.verdict in ("better", "worse") for row in summarize(records).rows)
    assert alarms <= 0.05 * runs


def test_a_policy_among_several_is_judged_by_the_interval_of_its_step_in_holms_procedure() -> None:
    gaps = {"clear": [0.30, 0.301, 0.302, 0.303], "fair": [0.10, 0.12, 0.13, 0.15], "none": [-0.1, 0.1, 0.05, -0.06]}
    records = [make("fixed", seed, [0.5]) for seed in range(4)]
    records += [make(name, seed, [0.5 + gap]) for name, found in gaps.items() for seed, gap in enumerate(found)]
    found = rows(records)
    assert {name: found[name].verdict for name in gaps} == {"clear": "better", "fair": "better", "none": "within noise"}
    # "clear" and "fair" pass at a third of 5 %, "none" fails alone; Holm's decisions are those of its p values.
    p = {name: stats.ttest_1samp(gap, 0).pvalue for name, gap in gaps.items()}
    assert p["clear"] < 0.05 / 3
    assert p["fair"] < 0.05 / 3 < 0.05 < p["none"]
    for name, level in (("clear", 1 - 0.05 / 3), ("fair", 1 - 0.05 / 3), ("none", 0.95)):
        student = stats.ttest_1samp(gaps[name], 0).confidence_interval(level)
        assert found[name].difference.low <= student.low + 1e-9
        assert found[name].difference.high == pytest.approx(student.high)
        assert found[name].difference.excludes_zero == (found[name].verdict == "better")
    assert "adjusted for 3 comparisons" in in_words(summarize(records))


def test_a_policy_that_passes_alone_may_not_pass_among_others() -> None:
    gaps = [0.10, 0.12, 0.13, 0.19]
    records = [make("fixed", seed, [0.5]) for seed in range(4)]
    records += [make("up", seed, [0.5 + gap]) for seed, gap in enumerate(gaps)]
    assert rows(records)["up"].verdict == "better"
    for other in range(20):
        records += [make(f"other {other}", seed, [0.5 + 0.1 * (-1) ** seed]) for seed in range(4)]
    assert stats.ttest_1samp(gaps, 0).pvalue < 0.05
    assert rows(records)["up"].verdict == "within noise"


def test_seeds_are_paired() -> None:
    # Unpaired, the spread between seeds hides the difference; seed by seed it is the same everywhere.
    values = [0.2, 0.5, 0.8, 0.9]
    records = [make("fixed 0.1", seed, [value]) for seed, value in enumerate(values)]
    records += [make("up", seed, [value + 0.01 + 0.001 * seed]) for seed, value in enumerate(values)]
    assert rows(records)["up"].verdict == "better"


def test_metrics_are_kept_apart() -> None:
    losses = [replace(r, metric="val_loss", direction="min", epochs={"val_loss": [1.0]}) for r in RECORDS]
    groups = summarize([*RECORDS, *losses]).groups
    assert [(group.metric, group.direction, len(group.rows)) for group in groups] == [
        ("val_accuracy", "max", 3),
        ("val_loss", "min", 3),
    ]
    assert groups[0].rows == summarize(RECORDS).rows


def test_workloads_and_optimizers_are_kept_apart() -> None:
    others = [replace(r, optimizer="Adam") for r in RECORDS if r.policy != "fixed 0.1"]
    summary = summarize([*RECORDS, *others])
    assert [row.verdict for row in summary.rows if row.policy == "fixed 0.5"] == ["worse", "baseline"]
    assert in_words(summary).count("On mlp on digits with") == 2


def test_the_interval_equals_scipys_and_is_deterministic() -> None:
    values = [0.1, 0.4, 0.2, 0.7, 0.3]
    found = interval(values, 0.9)
    assert found == interval(values, 0.9)
    assert found.mean == pytest.approx(0.34)
    reference = stats.bootstrap((values,), stats.tmean, confidence_level=0.9, method="percentile", rng=1)
    assert found.low == pytest.approx(reference.confidence_interval.low, abs=0.02)
    assert found.high == pytest.approx(reference.confidence_interval.high, abs=0.02)
    assert interval([0.5, 0.5]) == Interval(0.5, 0.5, 0.5)
    assert interval([]) == Interval()


def test_the_trade_off_of_a_single_run() -> None:
    multiplicative = cyclr.WarmRestarts(0.1, 1.0, 10, growth=2)
    run = make("m", 0, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], schedule=multiplicative)
    assert tradeoff(run) == {"step": [10, 30, 70], "seconds": [10, 30, 70], "metric": [0.1, 0.3, 0.7]}
    triangular = cyclr.Cyclical(0.1, 1.0, 10)
    assert tradeoff(replace(run, schedule=triangular))["step"] == [20, 40, 60]
    assert tradeoff(replace(run, schedule=None))["step"] == []
    assert tradeoff(replace(run, epochs={}, status="failed"))["step"] == []


def together(seed: int, accuracy: float | None, members: int = 5) -> Record:
    changes = {"ending": {"val_accuracy": accuracy, "val_loss": 0.1}, "predictions": members, "range_test_steps": 0}
    return make("ensemble", seed, [0.5, 0.6, 0.7], **changes)


def test_an_ending_counts_for_the_best_and_reaches_a_target_at_the_end_of_the_run(tmp_path: Path) -> None:
    fixed = [make("fixed 0.1", seed, [0.6, 0.75, 0.7]) for seed in (0, 1)]
    summary = summarize([*fixed, together(0, 0.875), together(1, 0.75, 4)])
    row, base = summary.rows
    assert (row.policy, row.final.mean, row.best.mean, row.ending.mean) == ("ensemble", 0.7, 0.8125, 0.8125)
    assert (row.predictions, row.difference.mean, row.reached, row.steps_to_target) == (4.5, 0.0625, 2, 30.0)
    assert (base.ending.mean, base.predictions, summary.groups[0].has_endings) == (None, None, True)
    write_csv(summary, tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [(one["ending_mean"], one["predictions"]) for one in found] == [("0.8125", "4.5"), ("", "")]


def test_a_fixed_rate_with_an_ending_is_not_the_best_fixed_rate() -> None:
    better = make("fixed, average", 0, [0.9], ending={"val_accuracy": 0.95}, predictions=1)
    summary = summarize([make("fixed 0.1", 0, [0.6]), better])
    assert [(row.policy, row.verdict, row.fixed) for row in summary.rows] == [
        ("fixed, average", "one seed", False),
        ("fixed 0.1", "baseline", True),
    ]


@pytest.mark.parametrize("accuracy", [None, 1e200, 0.65])
def test_an_ending_that_is_not_measured_or_is_worse_changes_nothing(accuracy: float | None) -> None:
    (row,) = summarize([together(0, accuracy)], target=0.68).rows
    assert (row.best.mean, row.steps_to_target) == (0.7, 30.0)
    assert summarize([together(0, accuracy)], target=0.72).rows[0].reached == 0


def test_csv(tmp_path: Path) -> None:
    write_csv(summarize([*RECORDS, make("broken", 0, [], status="failed")]), tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["policy"] for row in table] == ["up", "fixed 0.1", "fixed 0.5", "broken"]
    assert float(table[0]["best_mean"]) == pytest.approx(0.815)
    assert table[3]["best_low"] == table[3]["ratio"] == ""


@pytest.mark.parametrize(
    ("records", "options", "message"),
    [
        ([], {}, "records is empty"),
        (
            RECORDS,
            {"baseline": "x"},
            "baseline must be one of 'fixed 0.1', 'fixed 0.5', 'up'; got baseline='x'",
        ),
        (
            [*RECORDS, replace(RECORDS[0], trial="another")],
            {},
            r"'fixed 0.1' on mlp on digits with SGD has a seed twice: seeds=\[0, 0, 1, 2, 3\]\. ",
        ),
        (RECORDS, {"confidence": 1}, "confidence must be a finite number"),
    ],
)
def test_invalid_arguments_of_summarize_are_refused(
    records: list[Record], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        summarize(records, **options)


def test_a_summary_is_short_in_python_and_a_table_in_notebooks() -> None:
    summary = summarize([*RECORDS, make("<b>", 0, [0.5])])
    assert len(repr(summary)) < 300
    assert repr(summary).startswith("<Summary of 13 trials: up 0.815 [")
    assert "fixed 0.1 0.715 [0.705, 0.725] (baseline)" in repr(summary)
    assert all(len(repr(part)) < 700 for part in (RECORDS[0], summary.rows[0]))
    table = summary._repr_html_()
    assert table.count("<tr>") == 1 + 4
    assert "&lt;b&gt;" in table
    assert "<b>" not in table
    assert [verdict in table for verdict in ("better", "worse", "baseline", "one seed")] == [True] * 4
