"""Statistics of records whose numbers are known."""

import csv
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

import cyclr
from cyclr.report import statistics
from cyclr.report.statistics import Interval, interval, summarize


def record(policy: str, seed: int, values: list[float | None], **changes: Any) -> dict[str, Any]:
    schedule = cyclr.Constant(0.1) if policy.startswith("fixed") else cyclr.OneCycle(0.1, 1.0, 30)
    steps = [10 * (n + 1) for n in range(len(values))]
    return {
        "trial": f"{policy}-{seed}",
        "workload": "mlp on digits",
        "policy": policy,
        "seed": seed,
        "optimizer": "SGD",
        "status": "ok",
        "metric": "val_accuracy",
        "direction": "max",
        "total_steps": steps[-1] if steps else 0,
        "range_test_steps": 0 if policy.startswith("fixed") else 5,
        "schedule": schedule.to_dict(),
        "epochs": {"step": steps, "val_accuracy": values, "seconds": [float(step) for step in steps]},
        "seconds": 2.0,
        **changes,
    }


def rows(records: list[dict[str, Any]], **options: Any) -> dict[str, statistics.Row]:
    return {row.policy: row for row in summarize(records, **options).rows}


RECORDS = [
    *(record("fixed 0.1", seed, [0.5, 0.7 + 0.01 * seed, 0.6]) for seed in range(4)),
    *(record("fixed 0.5", seed, [0.1, 0.2, 0.3]) for seed in range(4)),
    *(record("up", seed, [0.72 + 0.01 * seed + 0.001 * (seed % 2), 0.8 + 0.01 * seed]) for seed in range(4)),
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


def test_differences_within_noise_are_called_that() -> None:
    # All three seeds agree on the sign, which the bootstrap takes for certain; by chance one of four would.
    records = [record("fixed 0.1", seed, [0.5]) for seed in range(3)]
    records += [record("up", seed, [0.5 + gap]) for seed, gap in enumerate((0.001, 0.002, 0.02))]
    up = rows(records)["up"]
    assert up.difference.low is not None
    assert up.difference.low > 0
    assert stats.ttest_1samp([0.001, 0.002, 0.02], 0).pvalue > 0.05
    assert up.verdict == "within noise"
    said = summarize(records).in_words()
    assert "which is within noise" in said
    assert "seeds paired; of so few seeds it is too narrow)." in said


def test_seeds_that_differ_are_no_result_in_words_too() -> None:
    records = [record("fixed 0.1", seed, [0.8]) for seed in range(3)]
    records += [record("up", seed, [0.9]) for seed in range(5, 8)]
    assert rows(records)["up"].verdict == "no result"
    said = summarize(records).in_words()
    assert "up shares no seed with the best fixed rate, fixed 0.1" in said
    assert "within noise" not in said


def test_a_given_target_is_named_in_words() -> None:
    said = summarize(RECORDS, target=0.6).in_words()
    assert "It reached 0.6 in 15 steps instead of 20 (0.75 times as many, those of its range test counted)." in said
    assert "It reached 0.78 in 25 steps, those of its range test counted." in summarize(RECORDS, target=0.78).in_words()
    assert "It reached what fixed 0.1 gets at best in 15 steps" in summarize(RECORDS).in_words()


def test_the_fastest_policy_is_named_where_it_is_another() -> None:
    slow = [record("slow", seed, [0.5, 0.6, 0.9 + 0.01 * seed]) for seed in range(4)]
    said = summarize([*RECORDS, *slow]).in_words()
    assert "slow did best of 4 policies" in said
    assert "It reached what fixed 0.1 gets at best in 35 steps instead of 20 (1.75 times as many" in said
    assert "The fastest, up, reached what fixed 0.1 gets at best in 15 steps instead of 20 (0.75 times as many" in said
    assert "fastest" not in summarize(RECORDS).in_words()
    # None is called fast that takes longer than the baseline.
    later = [record("later", seed, [0.5, 0.6, 0.75 + 0.01 * seed, 0.8]) for seed in range(4)]
    fixed = [r for r in RECORDS if r["policy"] != "up"]
    said = summarize([*fixed, *slow, *later, *(record("late", seed, [0, 0.8]) for seed in range(4))]).in_words()
    assert "slow did best of 5 policies" in said
    assert "fastest" not in said


def test_the_policy_whose_rate_moves_is_compared_though_fixed_rates_are_above_it() -> None:
    records = [record("fixed 0.1", seed, [0.8]) for seed in range(3)]
    records += [record("fixed 0.2", seed, [0.79]) for seed in range(3)]
    records += [record("up", seed, [0.7 + 0.001 * seed]) for seed in range(3)]
    said = summarize(records).in_words().replace("\N{NO-BREAK SPACE}", " ")
    assert "fixed 0.1 did best of 3 policies: best val_accuracy 0.8000" in said
    assert "up differs by \N{MINUS SIGN}0.099 from the best fixed rate, fixed 0.1: worse" in said
    named = summarize(records, baseline="fixed 0.2", confidence=0.9).in_words().replace("\N{NO-BREAK SPACE}", " ")
    assert "from the baseline, fixed 0.2: worse, by more than noise (90 % interval" in named


def test_the_words_say_how_many_seeds_were_lost() -> None:
    records = [record("fixed 0.1", seed, [0.8]) for seed in range(5)]
    records += [record("up", seed, [0.9 + 0.001 * seed]) for seed in range(2)]
    records += [record("up", seed, [0.1], status="diverged") for seed in range(2, 5)]
    said = summarize(records).in_words()
    assert "up differs by +0.1 from the best fixed rate, fixed 0.1: better" in said
    assert said.endswith("3 trials diverged or failed and count in no mean (up: 3 of 5 seeds diverged).")
    records.append(record("up", 5, [], status="failed"))
    assert summarize(records).in_words().endswith("(up: 3 of 6 seeds diverged and 1 of 6 seeds failed).")


def test_one_seed_says_nothing_about_noise() -> None:
    summary = summarize([record("fixed 0.1", 0, [0.5]), record("up", 0, [0.9])])
    assert summary.rows[0].verdict == "one seed"
    assert summary.rows[0].best == Interval(0.9)
    assert "whether that is more than noise cannot be said" in summary.in_words()


def test_low_is_good_where_the_direction_says_so() -> None:
    low = [
        {
            **r,
            "direction": "min",
            "metric": "val_loss",
            "epochs": {**r["epochs"], "val_loss": r["epochs"]["val_accuracy"]},
        }
        for r in RECORDS
    ]
    found = rows(low)
    assert found["fixed 0.5"].verdict == "baseline"
    assert found["fixed 0.5"].best.mean == pytest.approx(0.1)
    assert found["up"].verdict == "worse"


def test_trials_that_came_to_no_end_are_counted_apart() -> None:
    records = [
        *RECORDS,
        record("up", 9, [0.9, None], status="diverged"),
        record("up", 10, [], status="failed"),
        record("broken", 0, [], status="failed"),
    ]
    found = rows(records)
    assert (found["up"].seeds, found["up"].diverged, found["up"].failed) == (4, 1, 1)
    assert found["broken"].verdict == "no result"
    assert found["broken"].best == Interval()
    assert "No trial has ended well yet" in summarize([record("broken", 0, [], status="failed")]).in_words()


def test_a_fixed_rate_that_diverged_is_no_baseline() -> None:
    records = [record("fixed 0.1", seed, [0.7, 0.8]) for seed in range(3)]
    records += [record("fixed 1", seed, [0.85, 0.1], status="diverged") for seed in range(3)]
    records += [record("up", seed, [0.8, 0.9 + 0.01 * seed]) for seed in range(3)]
    found = rows(records)
    assert {policy: row.verdict for policy, row in found.items()} == {
        "up": "better",
        "fixed 0.1": "baseline",
        "fixed 1": "no result",
    }
    assert (found["fixed 1"].diverged, found["fixed 1"].best) == (3, Interval())
    # Nor does a seed of the baseline that diverged take part in a difference.
    records[0] |= {"status": "diverged"}
    assert rows(records)["up"].difference.mean == pytest.approx(0.115)


def test_a_failed_seed_leaves_a_fixed_rate_the_baseline() -> None:
    failed = record("fixed 0.1", 2, [], status="failed", schedule=None, lr=None)
    records = [*(record("fixed 0.1", seed, [0.8]) for seed in range(2)), failed]
    records += [record("up", seed, [0.9 + 0.01 * seed]) for seed in range(3)]
    found = rows(records)
    assert (found["fixed 0.1"].verdict, found["fixed 0.1"].fixed) == ("baseline", True)
    assert (found["up"].verdict, found["up"].fixed) == ("better", False)


def test_a_fixed_rate_that_lost_a_seed_is_the_baseline_only_where_each_did() -> None:
    records = [record("fixed 1", 0, [0.8, 0.91])]
    records += [record("fixed 1", seed, [None], status="diverged") for seed in (1, 2)]
    records += [record("fixed 0.1", seed, [0.7, 0.8]) for seed in range(3)]
    records += [record("up", seed, [0.8, 0.94 + 0.001 * seed]) for seed in range(3)]
    found = rows(records)
    assert {policy: row.verdict for policy, row in found.items()} == {
        "fixed 0.1": "baseline",
        "fixed 1": "one seed",
        "up": "better",
    }
    assert "from the best fixed rate that lost no trial, fixed 0.1: better" in summarize(records).in_words()
    lost = [r if r["trial"] != "fixed 0.1-0" else {**r, "status": "diverged"} for r in records]
    assert rows(lost)["fixed 1"].verdict == "baseline"
    assert "from the best fixed rate, fixed 1" in summarize(lost).in_words()


def test_a_seed_without_a_target_counts_in_no_number_about_targets() -> None:
    records = [record("fixed 0.1", seed, [0.7, 0.8 + 0.01 * seed]) for seed in range(2)]
    records.append(record("fixed 0.1", 2, [None], status="diverged"))
    records += [record("up", seed, [0.9 + 0.01 * seed]) for seed in range(3)]
    records += [record("half", seed, [0.8]) for seed in range(3)]
    records += [record("elsewhere", seed, [0.9]) for seed in range(3, 6)]
    found = rows(records)
    up, half, elsewhere = found["up"], found["half"], found["elsewhere"]
    assert (up.aimed, up.reached, up.steps_to_target, up.ratio) == (2, 2, 15, 0.75)
    assert (half.aimed, half.reached, half.steps_to_target, half.ratio) == (2, 1, None, None)
    assert (elsewhere.aimed, elsewhere.reached, elsewhere.target, elsewhere.ratio) == (0, 0, None, None)
    assert "up differs" in summarize(records).in_words()
    assert "It reached what fixed 0.1 gets at best in 15 steps instead of 20" in summarize(records).in_words()
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
        records.append(record("fixed 0.1", seed, [300 / 360, right / 360]))
        records.append(record("up", seed, [301 / 360 * rounding**seed, (right + gap) / 360 * rounding**seed]))
    assert rows(records)["up"].verdict == verdict


def test_a_trial_that_failed_before_it_had_an_optimizer_is_one_of_its_policy() -> None:
    early = {"status": "failed", "optimizer": "", "schedule": None, "lr": None}
    summary = summarize([*RECORDS, record("up", 9, [], **early), record("broken", 0, [], **early)])
    assert {row.optimizer for row in summary.rows} == {"SGD"}
    assert {row.policy: row.failed for row in summary.rows} == {"up": 1, "fixed 0.1": 0, "fixed 0.5": 0, "broken": 1}
    # Whose optimizer was asked for by name is no sign of the workload's own.
    named = [{**r, "optimizer": "Adam"} for r in RECORDS if r["policy"] == "up"]
    lost = [record("fixed 0.1", seed, [], **early) for seed in range(2)]
    found = {row.policy: row.optimizer for row in summarize([*named, *lost]).rows}
    assert found == {"up": "Adam", "fixed 0.1": ""}
    lost += [record("up", seed, [], **early) for seed in range(4)]
    found = [(row.policy, row.optimizer) for row in summarize([*named, *lost]).rows if row.policy == "up"]
    assert sorted(found) == [("up", ""), ("up", "Adam")]
    # Where the workload ran with two of them, nobody knows which it would have been.
    adam = [{**r, "optimizer": "Adam"} for r in RECORDS]
    assert {row.optimizer for row in summarize([*RECORDS, *adam, record("up", 9, [], **early)]).rows} == {
        "SGD",
        "Adam",
        "",
    }


def test_a_baseline_that_finished_with_another_optimizer_alone() -> None:
    broken = [{**r, "optimizer": "Adam", "status": "failed"} for r in RECORDS if r["policy"] == "fixed 0.1"]
    adam = [{**r, "optimizer": "Adam"} for r in RECORDS if r["policy"] == "up"]
    summary = summarize([*RECORDS, *adam, *broken], baseline="fixed 0.1")
    assert {row.policy: row.verdict for row in summary.rows if row.optimizer == "Adam"} == {
        "up": "no result",
        "fixed 0.1": "baseline",
    }
    assert "The baseline, fixed 0.1, has no finished trial" in summary.in_words()


@pytest.mark.parametrize("status", ["failed", "diverged"])
def test_a_baseline_without_a_finished_trial_leaves_the_table(status: str) -> None:
    lost = record("fixed 9", 0, [0.1], status=status)
    summary = summarize([*RECORDS, lost], baseline="fixed 9")
    assert {row.policy: row.verdict for row in summary.rows} == {
        "up": "no result",
        "fixed 0.1": "no result",
        "fixed 0.5": "no result",
        "fixed 9": "baseline",
    }
    assert "The baseline, fixed 9, has no finished trial, so there is nothing to compare." in summary.in_words()


def test_seeds_are_paired() -> None:
    # Unpaired, the spread between seeds hides the difference; seed by seed it is the same everywhere.
    values = [0.2, 0.5, 0.8, 0.9]
    records = [record("fixed 0.1", seed, [value]) for seed, value in enumerate(values)]
    records += [record("up", seed, [value + 0.01 + 0.001 * seed]) for seed, value in enumerate(values)]
    assert rows(records)["up"].verdict == "better"


def test_workloads_and_optimizers_are_kept_apart() -> None:
    others = [{**r, "optimizer": "Adam"} for r in RECORDS if r["policy"] != "fixed 0.1"]
    summary = summarize([*RECORDS, *others])
    assert [row.verdict for row in summary.rows if row.policy == "fixed 0.5"] == ["worse", "baseline"]
    assert summary.in_words().count("On mlp on digits with") == 2


def test_the_interval_is_that_of_scipy_and_the_same_every_time() -> None:
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
    run = record("m", 0, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], schedule=multiplicative.to_dict())
    assert statistics.tradeoff(run) == {"step": [10, 30, 70], "seconds": [10, 30, 70], "metric": [0.1, 0.3, 0.7]}
    triangular = cyclr.Cyclical(0.1, 1.0, 10)
    assert statistics.tradeoff({**run, "schedule": triangular.to_dict()})["step"] == [20, 40, 60]
    assert statistics.tradeoff({**run, "schedule": None})["step"] == []
    assert statistics.tradeoff({**run, "epochs": {}, "status": "failed"})["step"] == []


def test_csv(tmp_path: Path) -> None:
    statistics.write_csv(summarize([*RECORDS, record("broken", 0, [], status="failed")]), tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["policy"] for row in table] == ["up", "fixed 0.1", "fixed 0.5", "broken"]
    assert float(table[0]["best_mean"]) == pytest.approx(0.815)
    assert table[3]["best_low"] == table[3]["ratio"] == ""


@pytest.mark.parametrize(
    ("records", "options", "message"),
    [
        ([], {}, "records must hold one at least"),
        (
            [*RECORDS, {**RECORDS[0], "metric": "val_loss"}],
            {},
            "records must be of one metric; got val_accuracy, val_l",
        ),
        (
            RECORDS,
            {"baseline": "x"},
            "baseline must be one of 'fixed 0.1', 'fixed 0.5', 'up'; got baseline='x'",
        ),
        (
            [*RECORDS, {**RECORDS[0], "trial": "another"}],
            {},
            r"seeds must differ .*; got seeds=\[0, 0, 1, 2, 3\] for 'fixed 0.1' on mlp on digits with SGD",
        ),
        (RECORDS, {"confidence": 1}, "confidence must be a finite number"),
    ],
)
def test_what_is_refused(records: list[dict[str, Any]], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        summarize(records, **options)
