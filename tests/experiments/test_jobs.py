"""The optimizer in the record of a trial of a Keras model."""

import importlib.util
import os
from typing import Any

import pytest

from cyclr.drawing import code
from cyclr.experiments import Spec
from cyclr.experiments import trial as trials

if not (importlib.util.find_spec("keras") and importlib.util.find_spec("tensorflow")):
    pytest.skip("needs Keras and TensorFlow", allow_module_level=True)
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

SPEC: dict[str, Any] = {"policies": [{"kind": "fixed", "lr": 0.1}], "steps": 2, "seeds": [0], "samples": 100}


@pytest.mark.parametrize(
    ("optimizer", "name"), [(None, "SGD(momentum=0.9)"), ("SGD", "SGD"), ({"name": "sgd", "momentum": 0.5}, None)]
)
def test_the_record_names_the_optimizer_with_its_arguments(optimizer: Any, name: str | None) -> None:
    (trial,) = Spec(**SPEC, optimizer=optimizer).trials()
    record = trials.run_trial(trial)
    assert (record.error, record.optimizer) == (None, name or "sgd(momentum=0.5)")


def test_the_code_to_paste_has_the_momentum_of_a_built_in_workload() -> None:
    (trial,) = Spec(**SPEC).trials()
    shown = code.optimizer(trials.run_trial(trial).optimizer, "keras")
    assert shown == ("", "SGD", "LearningRate(schedule), momentum=0.9")
