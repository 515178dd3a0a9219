"""The records of single trials in this process, in torch and in Keras."""

import importlib.util
import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cyclr
from cyclr.experiments import Spec, user_file, workloads
from cyclr.experiments import trial as trials
from cyclr.experiments.data import load
from cyclr.experiments.policies import KINDS

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed", allow_module_level=True)

MakeSpec = Callable[..., Spec]


def only(spec: Spec) -> dict[str, Any]:
    (trial,) = spec.trials()
    return trials.run_trial(trial)


def test_a_fixed_rate_in_torch(blob_spec: MakeSpec) -> None:
    record = only(blob_spec(epochs=3))
    assert (record.status, record.error) == ("ok", None)
    assert (record.steps_per_epoch, record.total_steps, record.range_test_steps) == (10, 30, 0)
    assert record.steps["learning_rate"] == [0.1] * 30
    assert record.epochs["step"] == [10, 20, 30]
    losses = np.array(record.steps["loss"]).reshape(3, 10)
    np.testing.assert_allclose(record.epochs["loss"], losses.mean(axis=1))
    assert record.epochs["val_accuracy"][-1] > 0.6
    assert record.epochs["val_loss"][-1] < record.epochs["val_loss"][0]
    assert record.optimizer == "SGD(momentum=0.9)"
    assert (record.optimizer_call, record.moved_by) == ("torch.optim.SGD(momentum=0.9)", "")
    assert record.lr == 0.1


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("fixed", "auto", "schedule")])
def test_every_kind_of_policy_trains_in_torch(blob_spec: MakeSpec, kind: str) -> None:
    few = {"members": 2} if kind in ("fge", "swa") else {}
    record = only(blob_spec(policies=[{"kind": kind, **few}], range_test={"min_lr": 1e-4, "steps": 80}))
    assert (record.status, record.error) == ("ok", None)
    tested = record.range_test
    assert record.range_test_steps >= len(tested.lr) > 20
    used = record.steps["learning_rate"]
    assert len(used) == 20
    if record.schedule is not None:
        np.testing.assert_allclose(used, record.schedule(np.arange(20)), rtol=1e-12)
    elif kind == "cosine":
        expected = [tested.bounds.max_lr * (1 + math.cos(math.pi * step / 20)) / 2 for step in range(20)]  # type: ignore[operator]
        np.testing.assert_allclose(used, expected)
    else:
        assert used == [tested.bounds.max_lr] * 20


def test_auto_needs_no_range_test_and_records_the_rates_that_it_used(blob_spec: MakeSpec) -> None:
    record = only(blob_spec(policies=[{"kind": "auto"}]))
    assert (record.status, record.error, record.range_test_steps) == ("ok", None, 0)
    assert (record.moved_by, record.schedule) == ("auto", None)
    usual = cyclr.Bounds(1e-4, 0.01, "ok", "usual").schedule(total_steps=20)
    np.testing.assert_allclose(record.steps["learning_rate"], usual(np.arange(20)), rtol=1e-12)


def test_auto_starts_from_bounds_that_are_given_or_from_those_of_a_range_test(blob_spec: MakeSpec) -> None:
    given = only(blob_spec(policies=[{"kind": "auto", "base_lr": 0.02, "max_lr": 0.2}]))
    cycle = cyclr.Bounds(0.02, 0.2, "ok", "given").schedule(total_steps=20)
    np.testing.assert_allclose(given.steps["learning_rate"], cycle(np.arange(20)), rtol=1e-12)
    assert (given.range_test, given.range_test_steps, given.events) == (None, 0, ())
    assert (given.moved_by, given.schedule) == ("auto", cycle)
    tested = only(blob_spec(policies=[{"kind": "auto", "range_test": True}], range_test={"min_lr": 1e-4, "steps": 80}))
    assert tested.range_test_steps >= len(tested.range_test.lr) > 20
    cycle = tested.range_test.bounds.schedule(total_steps=20)
    np.testing.assert_allclose(tested.steps["learning_rate"], cycle(np.arange(20)), rtol=1e-12)


def test_auto_records_its_events_and_learning_rates(blob_spec: MakeSpec) -> None:
    with pytest.warns(UserWarning, match="AutoCycle: step"):
        record = only(blob_spec(policies=[{"kind": "auto", "base_lr": 1.0, "max_lr": 300.0}], epochs=6))
    assert record.status == "ok"
    lowered = [event for event in record.events if event.what == "lowered"]
    assert lowered
    rates = record.steps["learning_rate"]
    for event in record.events:
        assert rates[event.step] == event.lr
    assert max(rates[lowered[-1].step + 1 :]) < lowered[-1].lr


def test_the_range_test_that_auto_starts_with_is_recorded_and_counts_as_training(blob_spec: MakeSpec) -> None:
    record = only(blob_spec(policies=[{"kind": "auto"}], epochs=None, steps=1500, batch_size=320))
    assert (record.status, record.range_test_steps, len(record.steps["loss"])) == ("ok", 0, 1500)
    tested = record.range_test
    assert tested.bounds.usable
    rates = np.array(record.steps["learning_rate"])
    np.testing.assert_allclose(rates[: len(tested.lr)], tested.lr, rtol=1e-12)
    assert max(rates[len(tested.lr) + 1 :]) == pytest.approx(tested.bounds.max_lr, rel=1e-3)


def test_the_framework_lowers_the_rate_on_a_plateau(blob_spec: MakeSpec) -> None:
    policy = {"kind": "plateau", "lr": 1e-6, "patience": 0, "factor": 0.5}
    record = only(blob_spec(policies=[policy], epochs=4))
    assert sorted(set(record.steps["learning_rate"]), reverse=True) == [1e-6, 5e-7, 2.5e-7]
    assert (record.moved_by, record.schedule) == ("plateau", None)


def test_every_update_of_a_range_test_is_counted(blob_spec: MakeSpec) -> None:
    settings = {"steps": 50, "repeats": 3, "stop_factor": None, "updates_per_rate": 2, "max_lr": 1.0}
    record = only(blob_spec(policies=[{"kind": "triangular"}], range_test=settings))
    assert record.error is None
    assert len(record.range_test.lr) == 50
    assert record.range_test_steps == 300


def test_bounds_for_the_length_of_the_training_count_every_update_of_the_trials(blob_spec: MakeSpec) -> None:
    record = only(blob_spec(policies=[{"kind": "triangular"}], steps=400, epochs=None, range_test={"refine": 300}))
    assert record.error is None
    assert record.range_test.total_steps == record.total_steps == 400
    trials = record.range_test.trials
    assert len(trials) == 2
    assert record.range_test_steps > len(record.range_test.lr) + sum(len(trial.losses) for trial in trials)
    assert max(record.steps["learning_rate"]) == record.range_test.bounds.max_lr
    plain = only(blob_spec(policies=[{"kind": "triangular"}], steps=400, epochs=None))
    assert plain.range_test.total_steps is None


def test_a_policy_may_have_its_own_updates_to_spend_on_bounds(blob_spec: MakeSpec) -> None:
    policies = [{"kind": "triangular"}, {"kind": "triangular", "refine": 232, "steps": 400}]
    plain, refined = blob_spec(policies=policies, steps=400, epochs=None).trials()
    assert plain.range_test_arguments(8) == {"seed": plain.seed}
    assert refined.range_test_arguments(8) == {"seed": plain.seed, "refine": 232, "total_steps": 400}
    assert refined.policy.name == f"{plain.policy.name}, 400 steps, refine 232"
    with pytest.raises(ValueError, match="refine must be 0 or at least 50"):
        blob_spec(policies=[{"kind": "triangular", "refine": 20}])


def test_the_range_test_leaves_no_trace_in_the_training(blob_spec: MakeSpec) -> None:
    tested = only(blob_spec(policies=[{"kind": "cosine"}], range_test={"steps": 60}))
    untested = only(blob_spec(policies=[{"kind": "cosine", "lr": tested.steps["learning_rate"][0]}]))
    assert tested.range_test is not None
    assert untested.range_test is None
    assert tested.steps == untested.steps


def test_the_same_trial_twice_and_another_seed(blob_spec: MakeSpec, timeless: Callable[[Any], Any]) -> None:
    first, again, other = (only(blob_spec(seeds=[seed])) for seed in (0, 0, 1))
    assert timeless(first) == timeless(again)
    assert first.steps["loss"] != other.steps["loss"]


def test_a_budget_in_steps_may_end_within_an_epoch(blob_spec: MakeSpec) -> None:
    record = only(blob_spec(epochs=None, steps=13))
    assert record.epochs["step"] == [10, 13]
    assert len(record.steps["loss"]) == 13


def test_an_infinite_loss_ends_the_trial_as_diverged(blob_spec: MakeSpec) -> None:
    record = only(blob_spec("infinite", policies=[{"kind": "fixed", "lr": 1.0}]))
    assert record.status == "diverged"
    assert record.error == f"loss not finite at update {len(record.steps['loss']) - 1}"
    assert record.steps["loss"][-1] is None
    assert len(record.steps["loss"]) < 20


def test_a_broken_batch_ends_a_trial_unless_its_policy_leaves_it_out(blob_spec: MakeSpec) -> None:
    assert only(blob_spec("with_a_broken_row")).status == "diverged"
    with pytest.warns(UserWarning, match="left out"):
        record = only(blob_spec("with_a_broken_row", policies=[{"kind": "auto"}], batch_size=8, epochs=3))
    assert (record.status, record.error, len(record.steps["loss"])) == ("ok", None, 120)
    broken = [step for step, loss in enumerate(record.steps["loss"]) if loss is None]
    assert len(broken) == 3
    assert None not in record.epochs["loss"]
    assert broken == [event.step for event in record.events if "The loss was nan" in event.why]
    assert record.epochs["val_accuracy"][-1] > 0.6


def test_a_trial_whose_metric_is_never_finite_diverged(blob_spec: MakeSpec) -> None:
    record = only(blob_spec("unmeasured", metric="val_loss"))
    assert (record.status, record.error) == ("diverged", "val_loss was not finite after any epoch")
    assert record.epochs["val_loss"] == [None, None]
    assert None not in record.steps["loss"]
    assert only(blob_spec("unmeasured")).status == "ok"


def test_a_regression_from_loaders(blob_spec: MakeSpec) -> None:
    record = only(blob_spec("batches", metric="val_loss"))
    assert record.error is None
    assert record.direction == "min"
    assert set(record.epochs) == {"step", "val_loss", "loss", "seconds"}


NEIGHBOUR = """
from __future__ import annotations
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "lib"))

@dataclass
class Config:
    width: int = 3

def build():
    import deeper
    from blobs import build
    return build()
"""


def test_a_file_imports_its_neighbours_in_the_function_and_may_change_the_path(
    blob_spec: MakeSpec, blobs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("user_model", "deeper", "blobs"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    before = [*sys.path]
    (blobs / "user_model.py").write_text(NEIGHBOUR)
    (blobs / "lib").mkdir()
    (blobs / "lib" / "deeper.py").write_text("")
    record = only(blob_spec().replace(workload="user_model.py:build"))
    assert (record.status, record.error) == ("ok", None)
    assert sys.path == [str(blobs / "lib"), *before]
    assert sys.modules["user_model"].Config().width == 3


def test_a_users_file_does_not_replace_another_module(blob_spec: MakeSpec, blobs: Path) -> None:
    (blobs / "random.py").write_text("import torch\ndef build():\n    raise OSError('here')\n")
    loaded = sys.modules["random"]
    assert "OSError: here" in only(blob_spec().replace(workload="random.py:build")).error
    assert sys.modules["random"] is loaded


@pytest.mark.parametrize(
    ("function", "changes", "error"),
    [
        ("raises", {}, r"ZeroDivisionError: a mistake of the user \(blobs\.py, line \d+\)"),
        ("missing", {}, "has no function 'missing'. It has "),
        (
            "model_alone",
            {},
            r"returned a model without data\. Add data, such as --data digits, or return \(model, \(x_train",
        ),
        ("no_model", {}, r"must return a keras\.Model or a torch\.nn\.Module, or a tuple .*; got a int"),
        ("raises_in_a_library", {}, r"RuntimeError: mat1 and mat2 .* \(blobs\.py, line \d+\)"),
        ("exits", {}, r"SystemExit: no data \(blobs\.py, line \d+\)"),
        ("endless", {}, "must have a known length of at least one batch"),
        ("short", {"metric": "val_loss"}, "ended early: it gave 8 batches in all; by its length of 20, 40 were"),
        ("validation_once", {"metric": "val_loss"}, "is read after every epoch; got a generator"),
        (
            "broadcast",
            {"metric": "val_loss"},
            r"targets of the same shape; got outputs of \(32, 1\), targets of \(32,\)",
        ),
        ("batches", {}, "got metric='val_accuracy', but the trial reports val_loss"),
        ("build", {"optimizer": "Sgdd"}, "optimizer must be one of .*SGD.*; got 'Sgdd'"),
        (
            "build",
            {"optimizer": {"name": "SGD", "speed": 1}},
            "optimizer SGD has no option 'speed'",
        ),
        ("build", {"policies": [{"kind": "triangular"}], "range_test": {"max_lr": 1e-5}}, "BoundsError: policy 'tri"),
    ],
)
def test_errors_are_recorded(blob_spec: MakeSpec, function: str, changes: dict[str, Any], error: str) -> None:
    record = only(blob_spec(function, **changes))
    assert record.status == "failed"
    assert re.search(error, record.error), record.error
    assert record.traceback.startswith("Traceback (most recent call last):")


# Endings

ENDINGS = [
    ({"kind": "snapshot_ensemble", "lr": 0.5, "cycles": 3}, [32, 65, 99], 3),
    ({"kind": "fge", "base_lr": 0.01, "max_lr": 0.5}, [82, 86, 90, 94, 98], 5),
    ({"kind": "swa", "base_lr": 0.01, "max_lr": 0.5}, [83, 87, 91, 95, 99], 1),
    ({"kind": "swa", "base_lr": 0.01, "max_lr": 0.5, "tail": "cyclic", "members": 2}, [88, 99], 1),
    ({"kind": "lawa", "base_lr": 0.01, "max_lr": 0.5}, [91, 93, 95, 97, 99], 1),
    ({"kind": "ema", "base_lr": 0.01, "max_lr": 0.5, "decay": 0.9}, [*range(51, 100, 2)], 1),
    ({"kind": "auto", "base_lr": 0.01, "max_lr": 0.5, "ending": "ensemble", "every": 5, "keep": 2}, [94, 99], 2),
    ({"kind": "fixed", "lr": 0.1, "ending": "average", "every": "1 epoch", "keep": 3}, [79, 89, 99], 1),
    ({"kind": "warm_restarts", "base_lr": 0.01, "max_lr": 0.5, "cycles": 2, "ending": "ensemble"}, [49, 99], 2),
]


def epoch(job: Any) -> Iterator[Any]:
    yield from job._training
    # Reading a loader of torch draws a random number.
    _ = [*job._validation]


@pytest.mark.parametrize(
    ("policy", "steps", "predictions"), ENDINGS, ids=lambda value: value["kind"] if isinstance(value, dict) else None
)
def test_an_ending_combines_the_weights_of_its_steps(
    blob_spec: MakeSpec, policy: dict[str, Any], steps: list[int], predictions: int
) -> None:
    import torch

    record = only(blob_spec(policies=[policy], epochs=10))
    assert (record.status, record.error, record.predictions) == ("ok", None, predictions)
    # The same training by hand, which also shows that members change nothing in it.
    (trial,) = blob_spec(epochs=10).trials()
    with user_file.importable_folder(trial.file):
        job = trials._build_job(trial)
    trials._seed(0)
    model, loss_fn = job._model, torch.nn.functional.cross_entropy
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    kept = []
    for step, (x, y) in enumerate(batch for _ in range(10) for batch in epoch(job)):
        optimizer.param_groups[0]["lr"] = record.steps["learning_rate"][step]
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        optimizer.step()
        assert record.steps["loss"][step] == loss.item()
        if step in steps:
            kept.append({name: value.clone() for name, value in model.state_dict().items()})
    weights = np.array([policy.get("decay", 1.0) ** (steps[-1] - step) for step in steps])
    weights /= weights.sum()
    ((x, y),) = job._validation
    if predictions == 1:
        means = {name: sum(w * one[name].double() for w, one in zip(weights, kept, strict=True)) for name in kept[0]}
        model.load_state_dict(means)
        outputs = model(x)
    else:
        outputs = sum(torch.func.functional_call(model, one, (x,)).softmax(1) for one in kept).log()
    expected = {
        "val_loss": loss_fn(outputs, y).item(),
        "val_accuracy": (outputs.argmax(1) == y).double().mean().item(),
    }
    assert record.ending == pytest.approx(expected, rel=1e-5)


def test_an_ensemble_of_outputs_without_classes_has_their_mean(blob_spec: MakeSpec) -> None:
    policy = {"kind": "fixed", "lr": 0.2, "ending": "ensemble", "every": 1, "keep": 2}
    record = only(blob_spec("batches", policies=[policy], metric="val_loss", epochs=8))
    average = only(blob_spec("batches", policies=[{**policy, "ending": "average"}], metric="val_loss", epochs=8))
    # The model is linear.
    assert record.ending == pytest.approx(average.ending, rel=1e-5)
    assert (record.predictions, average.predictions) == (2, 1)


def test_too_few_members_are_refused_before_the_training(blob_spec: MakeSpec) -> None:
    for policy, message in [
        ({"kind": "triangular", "base_lr": 0.1, "max_lr": 0.5, "ending": "average"}, "a run of 20 steps has 1"),
        ({"kind": "fixed", "lr": 0.1, "ending": "ensemble", "every": 11}, "a run of 20 steps has 1"),
        ({"kind": "fge", "base_lr": 0.1, "max_lr": 0.5}, "got members=5, and 4 of 20 steps come after start=0.8"),
    ]:
        record = only(blob_spec(policies=[policy]))
        assert (record.status, record.steps["loss"]) == ("failed", [])
        assert message in record.error


def test_a_training_that_diverges_has_no_ending(blob_spec: MakeSpec) -> None:
    policy = {"kind": "fixed", "lr": 0.1, "ending": "ensemble", "every": 2}
    record = only(blob_spec("infinite", policies=[policy]))
    assert (record.status, record.ending, record.predictions) == ("diverged", {}, 0)
    # The weights are not finite after the first update, whose loss is.
    decays = {"name": "SGD", "weight_decay": 1e6}
    huge = only(blob_spec(policies=[{**policy, "lr": 1e38, "every": 1}], optimizer=decays))
    assert huge.status == "diverged"
    assert "a member must be finite" in huge.error
    assert huge.epochs == {}


# Keras


@pytest.fixture
def _tensorflow() -> None:
    if not (importlib.util.find_spec("keras") and importlib.util.find_spec("tensorflow")):
        pytest.skip("needs Keras and TensorFlow")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")


KERAS = {"epochs": 2, "seeds": [0], "batch_size": 100, "samples": 550}


@pytest.mark.usefixtures("_tensorflow")
@pytest.mark.parametrize("kind", ["triangular", "cosine", "plateau", "auto"])
def test_keras_uses_and_records_the_rates_of_the_policy(kind: str) -> None:
    rates = {"triangular": {"base_lr": 0.01, "max_lr": 0.5}, "auto": {}}.get(kind, {"lr": 0.1})
    record = only(Spec([{"kind": kind, **rates}], **KERAS))
    assert (record.status, record.error) == ("ok", None)
    assert (record.steps_per_epoch, record.total_steps) == (6, 12)
    used = record.steps["learning_rate"]
    by_hand = {
        "triangular": cyclr.Cyclical.over(12, 1, 0.01, 0.5)(np.arange(12)),
        "cosine": [0.1 * (1 + math.cos(math.pi * step / 12)) / 2 for step in range(12)],
        "plateau": [0.1] * 12,
        "auto": cyclr.Bounds(1e-4, 0.01, "ok", "usual").schedule(total_steps=12)(np.arange(12)),
    }
    np.testing.assert_allclose(used, by_hand[kind], rtol=1e-5)
    _, losses = _keras_by_hand(used)
    np.testing.assert_allclose(record.steps["loss"], losses, rtol=1e-4)


@pytest.mark.usefixtures("_tensorflow")
def test_auto_in_keras_records_what_it_did() -> None:
    with pytest.warns(UserWarning, match="AutoCycle: step"):
        record = only(Spec([{"kind": "auto", "base_lr": 1.0, "max_lr": 100.0}], **{**KERAS, "epochs": 4}))
    assert (record.status, record.error) == ("ok", None)
    assert record.optimizer_call.startswith("keras.optimizers.")
    assert record.events
    for event in record.events:
        assert record.steps["learning_rate"][event.step] == pytest.approx(event.lr, rel=1e-5)


@pytest.mark.usefixtures("_tensorflow")
def test_a_range_test_in_keras_counts_and_leaves_no_trace() -> None:
    tested = only(Spec([{"kind": "cosine"}], **KERAS, range_test={"steps": 60}))
    assert (tested.status, tested.error) == ("ok", None)
    assert tested.range_test_steps >= len(tested.range_test.lr) > 20
    _, losses = _keras_by_hand(tested.steps["learning_rate"])
    np.testing.assert_allclose(tested.steps["loss"], losses, rtol=1e-4)
    assert tested.workload == "mlp on digits"


@pytest.mark.usefixtures("_tensorflow")
@pytest.mark.parametrize(
    ("policy", "steps", "predictions"),
    [
        ({"kind": "snapshot_ensemble", "lr": 0.5, "cycles": 3}, [2, 6, 11], 3),
        ({"kind": "lawa", "base_lr": 0.01, "max_lr": 0.5, "every": 2, "keep": 3}, [7, 9, 11], 1),
        ({"kind": "ema", "base_lr": 0.01, "max_lr": 0.5, "decay": 0.5}, [*range(12)], 1),
        ({"kind": "auto", "ending": "ensemble", "every": 4, "keep": 2}, [7, 11], 2),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else None,
)
def test_an_ending_in_keras(policy: dict[str, Any], steps: list[int], predictions: int) -> None:
    import keras

    record = only(Spec([policy], **KERAS))
    assert (record.status, record.error, record.predictions) == ("ok", None, predictions)
    kept: list[Any] = []
    model, losses = _keras_by_hand(
        record.steps["learning_rate"], lambda model, step: kept.append(model.get_weights()) if step in steps else None
    )
    np.testing.assert_allclose(record.steps["loss"], losses, rtol=1e-4)
    data = load("digits")
    weights = np.array([policy.get("decay", 1.0) ** (steps[-1] - step) for step in steps])
    weights /= weights.sum()

    def predicted(state: list[Any]) -> Any:
        model.set_weights(state)
        return model.predict(data.x_val, verbose=0)

    if predictions == 1:
        outputs = predicted(
            [sum(w * value for w, value in zip(weights, values, strict=True)) for values in zip(*kept, strict=True)]
        )
    else:
        outputs = sum(map(predicted, kept)) / len(kept)
    accuracy = np.mean(outputs.argmax(1) == data.y_val)
    loss = float(np.mean(keras.losses.sparse_categorical_crossentropy(data.y_val, outputs)))
    assert record.ending == pytest.approx({"val_loss": loss, "val_accuracy": accuracy}, rel=1e-3)


LOGITS = """
import keras, numpy as np

def build():
    rng = np.random.default_rng(0)
    y = np.arange(96) % 3
    x = (np.eye(3)[y] + 0.7 * rng.normal(size=(96, 3))).astype("float32")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(8), keras.layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"])
    BATCHES
"""
ARRAYS = "return model, ((x[:64], y[:64]), (x[64:], y[64:]))"
BATCHES = """class Batches(keras.utils.PyDataset):
        def __init__(self, start, stop):
            super().__init__()
            self.start, self.stop = start, stop
        def __len__(self):
            return (self.stop - self.start) // 16
        def __getitem__(self, index):
            rows = slice(self.start + 16 * index, self.start + 16 * index + 16)
            return x[rows], y[rows]
    return model, (Batches(0, 64), Batches(64, 96))"""


@pytest.mark.usefixtures("_tensorflow")
@pytest.mark.parametrize("data", [ARRAYS, BATCHES], ids=["arrays", "batches"])
def test_the_ensemble_of_logits_in_keras_is_the_mean_of_probabilities(tmp_path: Path, data: str) -> None:
    (tmp_path / "logits.py").write_text(LOGITS.replace("BATCHES", data))
    given = {"workload": "logits.py:build", "seeds": [0], "epochs": 2, "batch_size": 16, "folder": str(tmp_path)}
    for ending, predictions in (("ensemble", 4), ("average", 1)):
        # Members that are all the same: what they predict is what the model does.
        record = only(Spec([{"kind": "fixed", "lr": 1e-30, "every": 2, "ending": ending}], **given))
        assert (record.error, record.predictions) == (None, predictions)
        last = {name: record.epochs[name][-1] for name in ("val_loss", "val_accuracy")}
        assert record.ending == pytest.approx(last, rel=1e-5)


def _keras_by_hand(
    rates: list[float], after: Callable[[Any, int], None] = lambda model, step: None
) -> tuple[Any, list[float]]:
    """The losses of the workload `mlp` under these rates, by updates one by one, in the order of Keras."""
    import keras

    from cyclr.keras.state import seed_all

    data = load("digits")
    x, y = data.x_train[:550], data.y_train[:550]
    seed_all(0)
    model = workloads.mlp(data.input_shape, data.classes)
    model.compile(keras.optimizers.SGD(0.0, momentum=0.9), "sparse_categorical_crossentropy")
    start = model.get_weights()
    # The order of the samples: read off a training that changes nothing.
    seen: list[Any] = []

    def watch(*given: Any) -> Any:
        *state, batch = given
        seen.append(np.asarray(batch[0]).ravel().astype(int))
        return ({"loss": 0.0}, *state) if state else {"loss": 0.0}

    index = np.arange(550, dtype="float32")[:, None]
    watcher = keras.Sequential([keras.Input((1,)), keras.layers.Lambda(lambda t: t)])
    watcher.compile("sgd", lambda true, predicted: keras.ops.mean(predicted), run_eagerly=True)
    original = watcher.train_step
    watcher.train_step = watch
    seed_all(0)
    # With validation, which draws a random number on torch.
    validation = (index[:1], np.zeros(1))
    watcher.fit(index, np.zeros(550), batch_size=100, epochs=2, validation_data=validation, verbose=0)
    watcher.train_step = original
    model.set_weights(start)
    losses = []
    for step, (rate, batch) in enumerate(zip(rates, seen, strict=True)):
        model.optimizer.learning_rate = rate
        losses.append(float(model.train_on_batch(x[batch], y[batch])))
        model.reset_metrics()
        after(model, step)
    return model, losses


def test_data_and_workload_of_a_comparison(tmp_path: Path) -> None:
    failed = only(Spec([{"kind": "fixed", "lr": 1}], epochs=1, seeds=[0], data="no-such-data", folder=str(tmp_path)))
    assert "data must be the name of a data set or a path that exists" in failed.error
    failed = only(Spec([{"kind": "fixed", "lr": 1}], epochs=1, seeds=[0], workload="transformer"))
    assert "unknown model 'transformer'. Write cnn, mlp, or FILE.py:function" in failed.error
    failed = only(Spec([{"kind": "fixed", "lr": 1}], epochs=1, seeds=[0], validation=5000))
    assert "validation must leave samples to train on; got validation=5000 of 1437" in failed.error
