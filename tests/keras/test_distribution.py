"""Several devices: update t uses schedule(t), and a range test is that of one device with the global batch."""

import importlib.util
import json
import os
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from tests.processes import run

BACKEND = keras.backend.backend()
if BACKEND == "torch":
    pytest.skip("Keras trains on one device with torch", allow_module_level=True)

# One xdist worker starts the processes, and has all tests that share them.
pytestmark = pytest.mark.xdist_group("keras-devices")

WORKER = Path(__file__).with_name("distribution_worker.py")
_spec = importlib.util.spec_from_file_location("cyclr_tests_distribution_worker", WORKER)
worker = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(worker)


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """What `results` and `traces` give on two devices; they are started once."""
    file = tmp_path_factory.mktemp("devices") / "found.json"
    environment = {**os.environ, "KERAS_BACKEND": BACKEND, "TF_CPP_MIN_LOG_LEVEL": "3"}
    run([sys.executable, str(WORKER), str(file)], env=environment)
    return json.loads(file.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def one():
    """What `results` gives here, on one device."""
    return worker.results()


CYCLE = [worker.CYCLE(step) for step in range(worker.UPDATES)]
CLOCKS = {"LearningRate": CYCLE, "ScheduleCallback": CYCLE}
if BACKEND == "jax":
    CLOCKS |= {
        "several steps in one call": CYCLE,
        # Every micro-batch is of a weight of its own: an update has two of them, and takes the mean of both.
        "accumulation": np.repeat(CYCLE, 2)[: worker.UPDATES] / 2,
    }


@pytest.mark.parametrize("name", CLOCKS)
def test_update_t_uses_the_value_at_t(name, several):
    np.testing.assert_allclose(several["clocks"][name], CLOCKS[name], rtol=1e-6)


def test_momentum_by_a_schedule_is_that_of_one_device(several, one):
    found, velocity = several["clocks"]["momentum"], np.zeros(worker.UPDATES)
    by_hand = np.zeros(worker.UPDATES)
    for step, gradient in enumerate(np.eye(worker.UPDATES)):
        velocity = worker.MOMENTUM(step) * velocity + worker.CYCLE(step) * gradient
        by_hand += velocity
    np.testing.assert_allclose(found, by_hand, rtol=1e-5)
    np.testing.assert_allclose(found, one["clocks"]["momentum"], rtol=1e-5)


@pytest.mark.parametrize("name", ["momentum, shuffled", "schedule", "diverged"])
def test_a_range_test_is_that_of_one_device_with_the_global_batch(name, several, one):
    found, wanted = several["sweeps"][name], one["sweeps"][name]
    assert (found["reason"], found["lr"]) == (wanted["reason"], wanted["lr"])
    assert found["reason"] == ("diverged" if name == "diverged" else "completed")
    np.testing.assert_allclose(found["loss"], wanted["loss"], rtol=1e-4)


@pytest.mark.parametrize("name", ["Adam, sweep", "momentum, interrupted"])
def test_a_range_test_leaves_no_trace(name, several):
    assert several["traces"][name] == {"restored": True, "same training": True, "devices": worker.DEVICES}
