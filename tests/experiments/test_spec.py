"""Comparisons are checked at construction, and their trials have stable ids."""

import contextlib
import copy
import datetime
import itertools
import json
import math
import os
import pickle
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import cyclr
from cyclr import CyclrError
from cyclr._redact import redact
from cyclr.bounds import Bounds
from cyclr.experiments import Spec
from cyclr.experiments.policies import KINDS, Policy, parse
from cyclr.experiments.spec import Trial
from cyclr.records import RunFolder
from cyclr.schedules import Run

FIXED = {"kind": "fixed", "lr": 0.1}
RUN = Run(160, steps_per_epoch=10)
BOUNDS = Bounds(0.01, 1.0, "ok", "for a test")


def spec(**changes: object) -> Spec:
    return Spec(**{"policies": [FIXED], "epochs": 2, "seeds": [0], **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["https://bob:hunter2@host", "run with token=hunter2"])
def test_a_name_with_a_password_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="must not contain a password") as caught:
        Spec([{"kind": "fixed", "lr": 0.1, "name": name}], epochs=1)
    assert "hunter2" not in str(caught.value)


def test_trials_are_policies_by_optimizers_by_seeds_seed_after_seed() -> None:
    trials = spec(
        policies=[{"kind": "fixed", "lr": [0.1, 0.01]}, {"kind": "triangular"}],
        seeds=[3, 1],
        optimizer=["SGD", {"name": "SGD", "momentum": 0.9}],
    ).trials()
    assert [trial.seed for trial in trials] == [3] * 6 + [1] * 6
    assert [(trial.policy.name, trial.optimizer_name) for trial in trials[:3]] == [
        ("fixed 0.1", "SGD"),
        ("fixed 0.1", "SGD(momentum=0.9)"),
        ("fixed 0.01", "SGD"),
    ]
    assert len({trial.id for trial in trials}) == 12


def test_a_policy_has_its_own_budget_seeds_and_optimizer_if_it_says_so() -> None:
    short = {"kind": "triangular", "steps": 30, "seeds": [7], "optimizer": "Adam"}
    trial = spec(policies=[FIXED, short]).trials()[-1]
    assert (trial.epochs, trial.steps, trial.seed, trial.optimizer_name) == (None, 30, 7, "Adam")
    assert trial.policy.name == "triangular, 30 steps"


def test_the_id_of_a_trial_does_not_depend_on_other_trials() -> None:
    alone = spec().trials()[0].id
    among_others = spec(policies=[{"kind": "cosine"}, FIXED], seeds=[1, 0], folder="/elsewhere").trials()
    assert alone in {trial.id for trial in among_others}
    assert alone.startswith("fixed-0.1-seed-0-")
    # Written down: records of earlier versions must be found again.
    assert alone == "fixed-0.1-seed-0-97b5a6ab61"


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 3},
        {"epochs": None, "steps": 2},
        {"seeds": [1]},
        {"batch_size": 51},
        {"workload": "cnn"},
        {"data": "mnist"},
        {"samples": 10},
        {"validation": 10},
        {"optimizer": "Adam"},
        {"metric": "val_loss"},
        {"backend": "jax"},
        {"policies": [{"kind": "fixed", "lr": 0.2}]},
    ],
    ids=str,
)
def test_every_setting_that_changes_the_outcome_changes_the_id(change: dict[str, object]) -> None:
    assert spec(**change).trials()[0].id != spec().trials()[0].id


def test_range_test_settings_change_only_ids_of_policies_that_use_it() -> None:
    policies = [FIXED, {"kind": "triangular"}]
    before = [trial.id for trial in spec(policies=policies).trials()]
    after = [trial.id for trial in spec(policies=policies, range_test={"steps": 99}).trials()]
    assert before[0] == after[0]
    assert before[1] != after[1]


def test_a_description_comes_back(tmp_path: Path) -> None:
    schedule = cyclr.OneCycle(0.1, 1.0, 20)
    (tmp_path / "mine.json").write_text(json.dumps(schedule.to_dict()))
    (tmp_path / "spec.toml").write_text(
        """
        epochs = 2
        seeds = [0, 1]
        optimizer = { name = "SGD", momentum = 0.9 }
        [range_test]
        steps = 100
        [[policy]]
        kind = "schedule"
        file = "mine.json"
        [[policy]]
        kind = "fixed"
        lr = [0.1, 0.2]
        """
    )
    first = Spec.from_toml(tmp_path / "spec.toml")
    again = Spec.from_dict(json.loads(json.dumps(first.to_dict())))
    assert [trial.id for trial in again.trials()] == [trial.id for trial in first.trials()]
    assert first.trials()[0].policy.name == "mine"
    assert first.trials()[0].policy.plan(RUN).schedule == schedule
    assert first.trials()[0].folder == str(tmp_path)


def test_options_take_precedence_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    path.write_text('epochs = 2\nseeds = [5]\n[[policy]]\nkind = "fixed"\nlr = 0.1\n')
    merged = Spec.from_options(path, {"steps": 7, "policies": [{"kind": "cosine"}], "metric": None})
    assert (merged.epochs, merged.steps, merged.seeds) == (None, 7, (5,))
    assert [trial.policy.kind for trial in merged.trials()] == ["cosine"]


def test_paths_in_options_begin_at_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "mine.json").write_text(json.dumps(cyclr.OneCycle(0.1, 1.0, 20).to_dict()))
    path = tmp_path / "conf" / "spec.toml"
    path.write_text('epochs = 2\nworkload = "model.py:build"\n[[policy]]\nkind = "fixed"\nlr = 0.1\n')
    monkeypatch.chdir(tmp_path)
    assert Spec.from_options(path, {}).trials()[0].file == tmp_path / "conf" / "model.py"
    given = {"workload": "w/model.py:build", "policies": [{"kind": "schedule", "file": "mine.json"}]}
    trial = Spec.from_options("conf/spec.toml", given).trials()[0]
    assert trial.file == tmp_path / "w" / "model.py"
    assert (trial.workload, trial.policy.name) == ("../w/model.py:build", "mine")
    absolute = Spec.from_options(path, {"workload": f"{tmp_path}/model.py:build"})
    assert absolute.workload == f"{tmp_path}/model.py:build"
    data = {"workload": "mlp", "data": "images"}
    assert Spec.from_options(path, data).data == "../images"
    assert Spec.from_options(path, {**data, "data": "digits"}).data == "digits"
    # In the file's own folder nothing is another path, and so another trial, than in the file.
    monkeypatch.chdir(path.parent)
    assert Spec.from_options(path, {"workload": "w/model.py:build"}).workload == "w/model.py:build"


def test_direction_follows_the_metric() -> None:
    assert spec(metric="val_loss").direction == spec(metric="val_mae").direction == "min"
    assert spec().direction == "max"
    assert spec(metric="val_loss", direction="max").direction == "max"


@pytest.mark.parametrize(
    ("direction", "names"),
    [
        (
            "min",
            "sparse_categorical_crossentropy binary_crossentropy crossentropy kl_divergence hinge poisson logcosh "
            "log_cosh mape msle nll bce wer mean_absolute_error root_mean_squared_error rmse head_loss "
            "mean_absolute_percentage_error false_negatives hinge_1",
        ),
        (
            "max",
            "acc sparse_categorical_accuracy auc_2 f1_score head_recall r2_score cosine_similarity mean_io_u "
            "precision_at_recall",
        ),
    ],
)
def test_every_known_metric_has_its_direction(direction: str, names: str) -> None:
    assert {name: spec(metric=f"val_{name}").direction for name in names.split()} == dict.fromkeys(
        names.split(), direction
    )


def test_an_unknown_metric_needs_a_direction(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"direction is needed.*; got metric='val_power'"):
        spec(metric="val_power")
    assert spec(metric="val_power", direction="min").direction == "min"
    # The direction of a metric goes with it.
    assert spec().replace(metric="val_loss").direction == "min"
    assert spec().replace(metric="val_loss", direction="max").direction == "max"
    path = tmp_path / "spec.toml"
    path.write_text('epochs = 2\nmetric = "val_power"\ndirection = "max"\n[[policy]]\nkind = "fixed"\nlr = 0.1\n')
    assert Spec.from_options(path, {"metric": "val_power"}).direction == "max"
    assert Spec.from_options(path, {"metric": "val_loss"}).direction == "min"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": None}, "must have a budget in epochs or in steps; got epochs=None, steps=None"),
        ({"steps": 3}, "must have a budget in epochs or in steps; got epochs=2, steps=3"),
        ({"epochs": 0}, "epochs must be an integer >= 1; got 0"),
        ({"seeds": []}, "seeds must be a list of length >= 1; got"),
        ({"seeds": [0, 0]}, "policy 'fixed 0.1' is given twice with seed 0. Leave one of them out"),
        ({"seeds": [-1]}, r"seeds\[0\] must be an integer >= 0; got \[-1\]"),
        ({"seeds": 3}, "seeds must be a list"),
        (
            {"seeds": [0, 2**63]},
            r"seeds\[1\] must be an integer <= 9223372036854775807; got \[0, 9223372036854775808\]\.",
        ),
        (
            {"policies": [{**FIXED, "seeds": [2**64]}]},
            r"seeds\[0\] of policy 'fixed' must be an integer <= 9223372036854775807; got",
        ),
        (
            {"policies": [FIXED, {**FIXED, "optimizer": {"name": "SGD", "momentum": 0.9}}]},
            "two policies are named 'fixed 0.1': one uses the workload's own optimizer, the other sets one, .*name = …",
        ),
        ({"policies": [FIXED, FIXED]}, "is given twice"),
        (
            {"policies": [{**FIXED, "name": "a"}, {"kind": "fixed", "lr": 0.2, "name": "a"}]},
            "two different policies are named 'a'",
        ),
        ({"policies": ["fixed"]}, r"policies\[0\] must be a table; got \['fixed'\]"),
        ({"policies": [{"kind": "square"}]}, "unknown kind of policy 'square'. The kinds are fixed, triangular"),
        ({"policies": [{"kind": "fixed"}]}, "policy 'fixed' needs lr; got {}"),
        ({"policies": [{**FIXED, "cycles": 2}]}, "policy 'fixed' has no option 'cycles'. It has lr."),
        ({"policies": [{"kind": "fixed", "lr": -1}]}, "lr of policy 'fixed' must be a number > 0.0; got {'lr': -1}"),
        (
            {"policies": [{"kind": "triangular", "max_lr": 1.0}]},
            "policy 'triangular' needs both base_lr and max_lr, or neither .*; got only max_lr",
        ),
        ({"policies": [{"kind": "triangular", "base_lr": 1, "max_lr": 0.1}]}, "max_lr must be greater than base_lr"),
        (
            {"policies": [{"kind": "plateau", "lr": 0.1, "factor": 2}]},
            "factor of policy 'plateau' must be a number < 1.0",
        ),
        ({"policies": [{"kind": "schedule", "schedule": {"schedule": "X"}}]}, "schedule must be one of"),
        ({"metric": "accuracy"}, "metric must be a validation metric"),
        ({"direction": "up"}, "direction must be one of"),
        ({"backend": "theano"}, "backend must be one of"),
        ({"range_test": {"speed": 1}}, "range_test has no option 'speed'. It has min_lr, max_lr, steps"),
        ({"range_test": {"repeats": 0}}, "repeats must be an integer of at least 1"),
        ({"range_test": {"steps": 1}}, "steps must be an integer of at least 2"),
        (
            {"optimizer": {"momentum": 0.9}},
            r"optimizer must be a name, a table with a name, or .*; got {'momentum': 0\.9}\. For example: { name =",
        ),
        ({"workload": "model.py:f", "samples": 10}, "samples and validation must be left out"),
        ({"range_test": 5}, "range_test must be a table; got 5"),
        ({"range_test": {"max_lr": math.inf}}, "range_test must hold only text, booleans and finite numbers"),
        ({"workload": 5}, "workload must be text; got 5"),
        ({"data": 5}, "data must be text or None; got 5"),
        ({"policies": [{**FIXED, "seeds": 3}]}, "seeds of policy 'fixed' must be a list or None; got {'seeds': 3}"),
        ({"policies": [{**FIXED, "seeds": []}]}, "seeds of policy 'fixed' must be a list of length >= 1"),
        ({"policies": [{**FIXED, "name": 5}]}, "name of policy 'fixed' must be text; got {'name': 5}"),
        (
            {"policies": [{"kind": "fixed", "lr": []}]},
            r"lr of policy 'fixed' must be a number or a list of length >= 1; got \[\]",
        ),
        (
            {"policies": [{"kind": "fixed", "lr": []}]},
            r"lr of policy 'fixed' must be a number or a list of length >= 1",
        ),
        (
            {"policies": [{"kind": "fixed", "lr": datetime.date(2026, 1, 2)}]},
            "policies must hold only text, .* date is not a type of JSON",
        ),
        ({"optimizer": []}, r"optimizer must be a name, a table with a name, or a list of length >= 1; got \[\]"),
        (
            {"optimizer": {"name": "SGD", "momentum": math.nan}},
            "optimizer must hold only text, .*got {'name': 'SGD', 'mom",
        ),
        ({"optimizer": {"name": "SGD", "momentum": datetime.date(2026, 1, 2)}}, "optimizer must hold only text"),
        (
            {"policies": [{**FIXED, "name": "a"}, {"kind": "fixed", "lr": 0.2, "name": "a", "seeds": [9]}]},
            "two different policies are named 'a'",
        ),
        ({"validation": 0}, "validation must be an integer >= 1; got 0"),
        ({"validation": "val"}, "validation must be one of 'test'; got validation='val'"),
    ],
    ids=str,
)
def test_invalid_comparisons_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        spec(**change)


def test_a_policy_may_come_again_with_other_seeds() -> None:
    again = spec(policies=[{**FIXED, "name": "a"}, {**FIXED, "name": "a", "seeds": [9]}])
    assert [trial.seed for trial in again.trials()] == [0, 9]


def test_numpy_integers_are_accepted(tmp_path: Path) -> None:
    one, two = np.int64(1), np.int64(2)
    policies = [{**FIXED, "name": "a"}, {**FIXED, "name": "b", "seeds": np.arange(2), "steps": two}]
    for budget in ({"epochs": two}, {"epochs": None, "steps": two}):
        numpy = spec(
            policies=policies, seeds=np.arange(2), batch_size=np.int64(5), samples=two, validation=one, **budget
        )
        again = Spec.from_dict(json.loads(json.dumps(numpy.to_dict())))
        assert [trial.id for trial in again.trials()] == [trial.id for trial in numpy.trials()]


def test_a_seed_may_be_as_large_as_a_record_takes() -> None:
    assert spec(seeds=[2**63 - 1]).trials()[0].seed == 2**63 - 1


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("epochs = ")
    (tmp_path / "unknown.toml").write_text('epoch = 1\n[[policy]]\nkind = "cosine"\n')
    (tmp_path / "empty.toml").write_text("epochs = 1")
    with pytest.raises(
        CyclrError, match=r"missing\.toml' must be the TOML file of a comparison; it cannot be read: No such file"
    ):
        Spec.from_toml(tmp_path / "missing.toml")
    with pytest.raises(CyclrError, match="must be the TOML file of a comparison; it is not TOML"):
        Spec.from_toml(tmp_path / "broken.toml")
    with pytest.raises(ValueError, match=r"a comparison has no option 'epoch'\. Did you mean 'epochs'\?"):
        Spec.from_toml(tmp_path / "unknown.toml")
    with pytest.raises(ValueError, match=r"a comparison needs policies.*\[\[policy\]\]"):
        Spec.from_toml(tmp_path / "empty.toml")
    with pytest.raises(CyclrError, match=r"'missing\.json' does not exist"):
        spec(policies=[{"kind": "schedule", "file": "missing.json"}])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("fixed", "auto", "schedule")])
def test_every_kind_plans_from_the_bounds_of_a_range_test(kind: str) -> None:
    policy = Policy(kind)
    assert policy.needs_range_test
    plan = policy.plan(RUN, BOUNDS)
    if plan.schedule is None:
        assert (plan.framework, plan.lr) == (kind, 1.0)
        return
    values = [plan.schedule(step) for step in range(160)]
    # The amplitude of exp_range has shrunk to 0.1^(1/4) when the first of two cycles peaks.
    assert max(values) == pytest.approx(0.57 if kind == "exp_range" else 1.0, abs=0.03)
    assert min(values) < 0.02


def test_auto_has_bounds_if_they_are_given_or_tested_for() -> None:
    assert [Policy("auto", given).needs_range_test for given in ({}, {"range_test": True})] == [False, True]
    assert Policy("auto").plan(RUN).options == {}
    tested = Policy("auto", {"range_test": True})
    assert tested.name == "auto range_test"
    assert list(tested.plan(RUN, BOUNDS).options["schedule"]) == list(BOUNDS)
    given = Policy("auto", {"base_lr": 0.2, "max_lr": 0.4})
    assert not given.needs_range_test
    assert list(given.plan(RUN).options["schedule"]) == [0.2, 0.4]


def test_bounds_that_are_given_need_no_range_test() -> None:
    policy = Policy("sinusoidal", {"base_lr": 0.2, "max_lr": 0.4, "cycles": 2})
    assert not policy.needs_range_test
    assert policy.plan(RUN).schedule == cyclr.Cyclical.over(160, 2, 0.2, 0.4, shape="sinusoidal")


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("triangular", {"cycles": 0}, "cycles of policy 'triangular' must be an integer >= 1"),
        ("triangular", {"cycles": -1}, "cycles of policy 'triangular' must be an integer >= 1"),
        ("triangular", {"rise": 1.5}, "rise must be a finite number"),
        ("triangular2", {"shape": "square"}, "shape must be one of"),
        ("exp_range", {"gamma": 0}, "gamma must be"),
        ("one_cycle", {"rise": -0.5}, "rise must be"),
        ("warm_restarts", {"cycles": 0}, "cycles of policy 'warm_restarts' must be an integer >= 1"),
        ("warm_restarts", {"growth": -1}, "growth of policy 'warm_restarts' must be"),
        ("warm_restarts", {"cycle_length": 0}, "cycle_length of policy 'warm_restarts' must be an integer >= 1"),
        ("warm_restarts", {"cycles": 2, "cycle_length": "1 epoch"}, "cycles and cycle_length exclude each other"),
        ("multiplicative", {"cycle_length": "1 fortnight"}, "length must be"),
        ("plateau", {"patience": -1}, "patience of policy 'plateau' must be an integer >= 0"),
        ("linear", {"warmup": 1.0}, "warmup of policy 'linear' must be"),
        ("d2z", {"floor": 0.1}, "policy 'd2z' has no option 'floor'"),
        ("cosine_with_floor", {"floor": -0.1}, "floor of policy 'cosine_with_floor' must be a number >= 0.0"),
        ("wsd", {"decay": 0.0}, "decay must be"),
        ("auto", {"max_lr": 0.1}, "policy 'auto' needs both base_lr and max_lr"),
        ("auto", {"base_lr": 0.2, "max_lr": 0.1}, "max_lr must be greater than base_lr"),
        ("auto", {"base_lr": 0.1, "max_lr": 0.2, "range_test": True}, "or range_test; got both. Leave one of them out"),
        ("wsd", {"warmup": 0.8, "decay": 0.5}, "decay must leave"),
        ("triangular", {"every": 5}, "got every=5 and no ending. Add ending=ensemble or ending=average, or leave them"),
        ("triangular", {"ending": "mean"}, "ending of policy 'triangular' must be"),
        ("triangular", {"ending": "average", "every": 0}, "every of policy 'triangular' must be an integer >= 1"),
        ("triangular", {"ending": "average", "every": "1 fortnight"}, "length must be"),
        ("triangular", {"ending": "average", "keep": 1}, "keep of policy 'triangular' must be an integer >= 2"),
        ("cosine", {"ending": "ensemble", "every": 5}, "policy 'cosine' cannot have an ending, because"),
        ("plateau", {"ending": "average", "every": 5}, "policy 'plateau' cannot have an ending, because"),
        ("fixed", {"lr": 0.1, "ending": "average"}, "of policy 'fixed' needs every, the steps .* Add every=100"),
        ("snapshot_ensemble", {"cycles": 1}, "cycles of policy 'snapshot_ensemble' must be an integer >= 2"),
        ("fge", {"start": 1}, "start of policy 'fge' must be a number < 1.0"),
        ("fge", {"tail": "cyclic"}, "policy 'fge' has no option 'tail'"),
        ("fge", {"members": 10**6}, "members must be at most half the steps after start; got members=1000000"),
        ("swa", {"tail": "flat"}, "tail of policy 'swa' must be"),
        ("swa", {"height": 2}, "height of policy 'swa' must be a number <= 1.0"),
        ("ema", {"decay": 1}, "decay of policy 'ema' must be a number < 1.0"),
    ],
)
def test_options_are_checked_before_a_range_test_too(kind: str, options: dict[str, object], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        Policy(kind, options)


@pytest.mark.parametrize(
    ("kind", "options", "values"),
    [
        ("linear", {}, {0: 0, 5: 0.5, 10: 1, 25: 0.85, 55: 0.55, 100: 0.1}),
        ("linear", {"warmup": 0, "floor": 0.5}, {0: 1, 50: 0.75, 100: 0.5}),
        ("linear", {"warmup": 20}, {10: 0.5, 20: 1, 100: 0.1}),
        ("d2z", {}, {0: 0, 5: 0.5, 10: 1, 55: 0.5, 100: 0}),
        ("d2z", {"warmup": 0.5}, {25: 0.5, 50: 1, 75: 0.5, 100: 0}),
        ("cosine_with_floor", {}, {0: 0, 10: 1, 25: 0.1 + 0.45 * (1 + 0.75**0.5), 55: 0.55, 100: 0.1}),
        ("cosine_with_floor", {"floor": 0}, {55: 0.5, 100: 0}),
        ("wsd", {}, {0: 0, 5: 0.5, 10: 1, 80: 1, 85: 0.5, 100: 0}),
        ("wsd", {"warmup": 0, "decay": 50}, {0: 1, 50: 1, 100: 0}),
    ],
)
def test_policies_that_anneal(kind: str, options: dict[str, object], values: dict[int, float]) -> None:
    run = Run(101, steps_per_epoch=10)
    schedule = Policy(kind, {"lr": 0.2, **options}).plan(run).schedule
    assert schedule is not None
    assert {step: schedule(step) for step in values} == pytest.approx({t: 0.2 * value for t, value in values.items()})
    assert schedule.total_steps == 101
    assert Policy(kind, options).plan(run, Bounds(0.01, 0.2, "ok", "for a test")).schedule == schedule


@pytest.mark.parametrize("kind", ["linear", "d2z", "cosine_with_floor", "wsd"])
def test_policies_that_anneal_need_a_step_to_fall(kind: str) -> None:
    policy = Policy(kind, {"lr": 0.2})
    schedule = policy.plan(Run(2)).schedule
    assert schedule is not None
    assert schedule(0) == 0.2 > schedule(1)
    with pytest.raises(ValueError, match="must"):
        policy.plan(Run(1))


def restarts(total: int, cycles: int, growth: float) -> cyclr.Schedule:
    policy = Policy("warm_restarts", {"cycles": cycles, "growth": growth, "base_lr": 0.001, "max_lr": 0.1})
    schedule = policy.plan(Run(total, steps_per_epoch=10)).schedule
    assert schedule is not None
    return schedule


@settings(deadline=None)
@given(
    total=st.integers(1, 3000),
    cycles=st.integers(1, 60),
    growth=st.just(1) | st.floats(1.005, 4).map(lambda value: round(value, 3)),
)
@example(total=232, cycles=20, growth=1)
@example(total=1000, cycles=400, growth=1.005)
def test_cycles_fill_the_run_and_the_last_one_ends_with_it(total: int, cycles: int, growth: float) -> None:
    shares = [Fraction(str(growth)) ** cycle for cycle in range(cycles)]
    if total <= cycles or total * shares[0] < sum(shares) + shares[0]:
        # Too few steps for a step in each cycle, or just enough.
        with contextlib.suppress(ValueError):
            restarts(total, cycles, growth)
        return
    schedule = restarts(total, cycles, growth)
    ends = [step + 1 for step in range(total) if schedule.is_cycle_end(step)]
    lengths = [end - start for start, end in itertools.pairwise([0, *ends])]
    assert (len(ends), ends[-1]) == (cycles, total)
    # The rate jumps to max_lr when a cycle begins, and has come down when it ends.
    assert all(schedule(end - length) == pytest.approx(0.1) for end, length in zip(ends, lengths, strict=True))
    assert schedule(total - 1) <= 0.001 + 0.099 * (math.pi / 2 / lengths[-1]) ** 2 + 1e-9
    # Cycles that do not divide the run end one step before it, so that its last step is at base_lr.
    rest = schedule.total_steps is not None
    exact = [(total - rest) * share / sum(shares) for share in shares]
    lengths[-1] -= rest
    assert max(abs(length - one) for length, one in zip(lengths, exact, strict=True)) < 1 + 1e-9


@pytest.mark.parametrize(
    ("total", "cycles", "growth", "schedule"),
    [
        (160, 4, 1, cyclr.WarmRestarts(0.001, 0.1, 40)),
        (150, 4, 2, cyclr.WarmRestarts(0.001, 0.1, 10, growth=2)),
        (232, 20, 1, cyclr.WarmRestarts.over(232, 20, 0.001, 0.1)),
        (160, 3, 1.5, cyclr.WarmRestarts.over(160, 3, 0.001, 0.1, growth=1.5)),
    ],
)
def test_cycles_that_divide_the_run_are_plain_restarts_and_others_fill_it(
    total: int, cycles: int, growth: float, schedule: cyclr.Schedule
) -> None:
    assert restarts(total, cycles, growth) == schedule


@pytest.mark.parametrize(("total", "cycles", "growth"), [(5, 1000, 1), (5, 2, 1e300), (1, 2, 1), (5, 2**62, 2)])
def test_more_cycles_than_steps_are_an_error(total: int, cycles: int, growth: float) -> None:
    with pytest.raises(ValueError, match=r"total_steps must|cycles must be at most total_steps"):
        restarts(total, cycles, growth)


def test_unusable_bounds_raise_with_their_reason() -> None:
    flat = Bounds(None, None, "flat", "The loss stayed.")
    with pytest.raises(cyclr.BoundsError, match=r"'triangular' needs the bounds of a range test, but status 'flat'"):
        Policy("triangular").plan(RUN, flat)


def test_the_cycles_of_the_multiplicative_policy_double() -> None:
    schedule = Policy("multiplicative").plan(RUN, BOUNDS).schedule
    assert schedule is not None
    assert [step for step in range(160) if schedule.is_cycle_end(step)] == [9, 29, 69, 149]


def test_default_cycles_follow_smiths_rule() -> None:
    schedule = Policy("triangular").plan(RUN, BOUNDS).schedule
    assert schedule == cyclr.Cyclical.over(160, 2, 0.01, 1.0)
    assert Policy("exp_range").plan(RUN, BOUNDS).schedule.envelope(159)[1] == pytest.approx(
        0.01 + 0.99 * 0.1 ** (159 / 160)
    )  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "tables"),
    [
        ("triangular", [{"kind": "triangular"}]),
        ("fixed:0.1", [{"kind": "fixed", "lr": [0.1]}]),
        ("fixed:lr=0.1", [{"kind": "fixed", "lr": 0.1}]),
        ("plateau:lr=0.1,patience=2", [{"kind": "plateau", "lr": 0.1, "patience": 2}]),
        ("schedule:a:b.json", [{"kind": "schedule", "file": "a:b.json"}]),
    ],
)
def test_policies_of_the_command_line(text: str, tables: list[dict[str, object]]) -> None:
    assert parse(text) == tables


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        (
            "triangular:cycles",
            "option of policy 'triangular' must be option=value; got 'cycles'. It has base_lr, max_lr",
        ),
        ("triangular:cyles", "must be option=value; got 'cyles'. Did you mean 'cycles'[?]"),
        ("triangular:0.1", "must be option=value; got '0.1'. It has base_lr, max_lr"),
        ("fixed", "policy 'fixed' needs a learning rate; got none. Write fixed:0.01 or fixed:0.01,0.1"),
        ("fixed:", "policy 'fixed' needs a learning rate"),
        ("schedule", "policy 'schedule' needs a file; got none. Write schedule:FILE.json"),
        ("traingular", "unknown kind of policy 'traingular'. Did you mean 'triangular'[?] The kinds are fixed, "),
        ("OneCycle:rise=0.5", "unknown kind of policy 'OneCycle'. Did you mean 'one_cycle'[?]"),
        ("triangular:cyles=3", r"policy 'triangular' has no option 'cyles'\. Did you mean 'cycles'\?"),
    ],
)
def test_a_typo_in_a_policy_is_refused_with_a_suggestion(text: str, fact: str) -> None:
    with pytest.raises(ValueError, match=fact):
        spec(policies=parse(text))


def test_specs_and_trials_are_hashable_and_cannot_be_changed() -> None:
    policies = [{"kind": "triangular", "cycles": 2}]
    one, equal = spec(policies=policies, optimizer={"name": "SGD"}), spec(policies=policies, optimizer={"name": "SGD"})
    assert len({one, equal}) == len({*one.trials(), *equal.trials()}) == 1
    before = one.trials()
    policies[0]["cycles"] = 3
    policies.append(FIXED)
    one.trials().clear()
    with pytest.raises(AttributeError):
        one.policies.append(FIXED)  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        one.policies[0]["cycles"] = 3  # type: ignore[index]
    assert one.trials() == before
    assert copy.deepcopy(one.trials()) == before == pickle.loads(pickle.dumps(before))  # noqa: S301


def test_a_comparison_plans_and_hashes_each_trial_once(monkeypatch: pytest.MonkeyPatch) -> None:
    planned, hashed = [], []
    plan, definition = Policy.plan, Trial.definition
    monkeypatch.setattr(Policy, "plan", lambda policy, *given: planned.append(policy) or plan(policy, *given))
    monkeypatch.setattr(Trial, "definition", lambda trial: hashed.append(trial) or definition(trial))
    two = spec(policies=[FIXED, {"kind": "triangular"}])
    for _ in range(3):
        assert len({trial.id for trial in two.trials()}) == 2
    assert (len(planned), len(hashed)) == (2, 2)


def test_many_seeds_are_checked_in_seconds() -> None:
    began = time.process_time()
    assert len(spec(seeds=range(20_000)).trials()) == 20_000
    assert time.process_time() - began < 20


@pytest.mark.parametrize(
    "text",
    [
        "epochs = 2\nseeds = " + "[" * 10_000 + "]" * 10_000,
        "epochs = 2\n[[policy]]\nkind = 'fixed'\nlr = " + "[" * 900 + "]" * 900,
        f"epochs = 2\n[[policy]]\nkind = 'fixed'\nlr = 1{'0' * 400}",
        f"epochs = 2\n[[policy]]\nkind = 'triangular'\ncycles = 1{'0' * 400}",
        f"epochs = 1{'0' * 400}\n[[policy]]\nkind = 'cosine'",
        f"epochs = 1{'0' * 5000}\n[[policy]]\nkind = 'cosine'",
        f"epochs = 2\nrange_test.steps = 1{'0' * 400}\n[[policy]]\nkind = 'cosine'",
    ],
    ids=["nested", "nested rate", "rate", "cycles", "epochs", "digits", "steps of a range test"],
)
def test_a_toml_file_with_extreme_values_is_one_clear_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "spec.toml").write_text(text)
    with pytest.raises((ValueError, TypeError, CyclrError)) as raised:
        Spec.from_toml(tmp_path / "spec.toml")
    assert not isinstance(raised.value, RecursionError | OverflowError)
    assert len(str(raised.value)) < 1000


def test_files_must_be_regular_ones(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "less_deep.json").write_text("[" * 900 + "]" * 900)
    faults = {"/dev/zero": "not a regular file", "pipe.json": "not a regular file"}
    for name, why in {**faults, "deep.json": "nested", "less_deep.json": "nested"}.items():
        with pytest.raises((CyclrError, ValueError), match=why):
            spec(policies=[{"kind": "schedule", "file": name}], folder=str(tmp_path))
    for path, why in (("/dev/zero", "regular file"), (tmp_path / "pipe.json", "regular file"), (tmp_path, "a folder")):
        with pytest.raises(CyclrError, match=f"must be the TOML file of a comparison; .*{why}"):
            Spec.from_toml(path)
    assert spec(workload=f"{tmp_path}/pipe.json:build").trials()[0].file_sha256 is None


def nested(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth - 1):
        value = [value]
    return value


@pytest.mark.parametrize("depth", [421, 500, 700, 950, 5000])
def test_values_that_are_nested_too_deeply_are_one_clear_error(depth: int) -> None:
    options = {"schedule": {"schedule": nested(depth)}}
    for name, value in {
        "policies": [{"kind": "schedule", **options}],
        "optimizer": {"name": "SGD", "momentum": nested(depth)},
        "range_test": {"steps": nested(depth)},
        "seeds": nested(depth),
    }.items():
        with pytest.raises(ValueError, match=rf"{name} must hold only text, .*; got .*(deep|recur)"):
            spec(**{name: value})
    with pytest.raises(ValueError, match=r"policy 'schedule' must hold only text, .*; got .*(deep|recur)"):
        Policy("schedule", options)


def test_the_deepest_schedule_is_a_policy_that_is_shipped_and_stored() -> None:
    schedule: cyclr.Schedule = cyclr.Constant(0.1)
    for _ in range(199):
        schedule = cyclr.Sequence([schedule], [5])
    deepest = spec(policies=[{"kind": "schedule", "schedule": schedule.to_dict()}])
    (trial,) = deepest.trials()
    assert trial.policy.plan(RUN).schedule == schedule
    assert copy.deepcopy(trial) == trial == pickle.loads(pickle.dumps(trial))  # noqa: S301
    assert Spec.from_dict(redact(json.loads(json.dumps(deepest.to_dict())))) == deepest


def test_a_path_in_a_home_folder_is_found_again_from_run_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "alice"
    (home / "work").mkdir(parents=True)
    (home / "model.py").write_text("def build(): ...")
    monkeypatch.setenv("HOME", str(home))
    in_file = spec(workload=f"{home}/model.py:build")
    for first in (in_file, spec(data=f"{home}/images")):
        ids = [trial.id for trial in first.trials()]
        folder = tmp_path / ids[0]
        RunFolder.open(folder, first.to_dict(), ids, command=[]).close()
        assert "alice" not in (folder / "run.json").read_text()
        again = Spec.from_dict(RunFolder.read(folder).about["spec"])
        assert again == first
        assert [trial.id for trial in again.trials()] == ids
    assert spec(workload="~/model.py:build") == in_file
    assert in_file.trials()[0].file == home / "model.py"


def test_a_path_of_an_option_names_no_home_folder_that_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "alice"
    (home / "work").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home / "work")
    text = 'epochs = 2\n[[policy]]\nkind = "fixed"\nlr = 0.1\n'
    for folder, workload in ((home, "work/model.py:build"), (tmp_path, f"{home}/work/model.py:build")):
        (folder / "spec.toml").write_text(text)
        described = Spec.from_options(folder / "spec.toml", {"workload": "model.py:build"})
        assert described.workload == workload
        assert described.trials()[0].file == home / "work" / "model.py"
        assert "alice" not in str(redact(described.to_dict()))


@pytest.mark.parametrize("form", ["bounds", "result", "their descriptions", "file"])
def test_bounds_as_a_schedule_fill_the_run(tmp_path: Path, form: str) -> None:
    lr = np.geomspace(1e-6, 10, 150)
    loss = 2.3 - 2 / (1 + (0.01 / lr) ** 2) + (lr / 0.5) ** 2
    result = cyclr.RangeTestResult(lr, loss, "completed", 1e-6, 10.0, 150)
    result.save(tmp_path / "mine.json")
    policies: dict[str, list[dict[str, object]]] = {
        "bounds": [{"schedule": result.bounds}],
        "result": [{"schedule": result}],
        "their descriptions": [{"schedule": result.bounds.to_dict()}],
        "file": [{"file": "mine.json"}],
    }
    comparison = spec(policies=[{"kind": "schedule", **one} for one in policies[form]], folder=str(tmp_path))
    wanted = result.bounds.schedule(total_steps=77)
    assert {trial.policy.plan(Run(77)).schedule for trial in comparison.trials()} == {wanted}
    assert Spec.from_dict(comparison.to_dict(), str(tmp_path)) == comparison


def test_bounds_without_numbers_are_no_schedule() -> None:
    with pytest.raises(cyclr.BoundsError, match="Seen this"):
        spec(policies=[{"kind": "schedule", "schedule": Bounds(None, None, "flat", "Seen this.")}])


def test_a_schedule_is_taken_as_it_is() -> None:
    cycle = cyclr.OneCycle(0.01, 0.1, 77)
    comparison = spec(policies=[{"kind": "schedule", "schedule": cycle}])
    assert comparison.trials()[0].policy.plan(Run(77)).schedule == cycle
