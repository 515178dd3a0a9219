"""Range tests of several processes that train together: one sweep, one decision, nobody waits for another.

https://github.com/fastai/fastai/issues/2485, https://github.com/Lightning-AI/pytorch-lightning/issues/8983
"""

import numpy as np
import pytest
import torch
from tests.torch import ddp_worker as worker
from torch.nn.functional import mse_loss

from cyclr.torch import range_test

WORLD = 2

# One xdist worker starts the processes, and has all tests that share them.
pytestmark = pytest.mark.xdist_group("torch-processes")


@pytest.fixture
def ranks(processes):
    """What every process got, by the name of the case."""
    return {name: [found[name] for found in processes["ddp"]] for name in processes["ddp"][0]}


NAMES = [*worker.cases(0, WORLD), "skipped on one", *worker.sharded_cases(0, WORLD)]


@pytest.mark.parametrize("name", NAMES)
def test_every_process_gets_the_same_and_is_as_it_was(name, ranks):
    first, *others = ranks[name]
    assert all(other == first for other in others)
    assert first["restored"]
    assert first["untouched"]


@pytest.mark.parametrize("name", NAMES)
def test_training_goes_on_together(name, ranks):
    model = worker.linear()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    for x, y in worker.batches(0, 1, count=2, size=WORLD * worker.BATCH):
        optimizer.zero_grad()
        mse_loss(model(x), y).backward()
        optimizer.step()
    wanted = [parameter.flatten().tolist() for parameter in model.parameters()]
    for found in ranks[name]:
        for one, other in zip(found["trained"], wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12)


def alone(**arguments):
    """The range test of one process with the global batches."""
    model = worker.linear()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    data = list(worker.batches(0, 1, size=WORLD * worker.BATCH))
    return range_test(model, optimizer, mse_loss, data, **{**worker.SWEEP, **arguments})


ALIKE = {
    "plain": {},
    "sharded": {},
    "sharded, validated before": {},
    "sharded, with an evaluation": {"evaluate": lambda model: mse_loss(model(worker.data()[0]), worker.data()[1])},
    "accumulation": {"accumulate": 3},
    "diverged": {"max_lr": 1e3, "stop_factor": 3.0, "smoothing": 0.0, "steps": 60},
}


@pytest.mark.parametrize("name", ALIKE)
def test_losses_are_those_of_one_process_with_the_global_batch(name, ranks):
    wanted, found = alone(**ALIKE[name]), ranks[name][0]
    assert found["reason"] == wanted.stop_reason == ("diverged" if name == "diverged" else "completed")
    assert found["lr"] == wanted.lr.tolist()
    np.testing.assert_allclose(found["loss"], wanted.loss, rtol=1e-9)


ENDS = {
    "diverged on one": ("diverged", 13),
    "NaN on one": ("completed", 20),
    "NaN on one, at once": ("completed", 20),
    "NaN on one, with a scaler": ("completed", 20),
    "sharded, NaN on one": ("completed", 20),
    "less data on one": ("data_exhausted", 4),
    "less data on one, with accumulation": ("data_exhausted", 3),
    "repeated, of different lengths": ("completed", 20),
    "stopped on one": ("interrupted", 7),
    "skipped on one": ("completed", 20),
}


@pytest.mark.parametrize(("name", "reason", "points"), [(name, *end) for name, end in ENDS.items()], ids=ENDS)
def test_what_befalls_one_process_stops_all_at_the_same_step(name, reason, points, ranks):
    for found in ranks[name]:
        assert (found.get("reason"), len(found.get("lr", []))) == (reason, points), found
        assert found["lr"] == alone().lr[:points].tolist()


ERRORS = {
    "sharded, error in the loss": "ArithmeticError: the loss gave up",
    "no data on one": "RangeTestError: data must hold at least one batch",
}


@pytest.mark.parametrize(("name", "message"), ERRORS.items(), ids=ERRORS)
def test_an_error_of_one_process_is_that_of_all(name, message, ranks):
    assert [found["error"].startswith(message) for found in ranks[name]] == [True] * WORLD
