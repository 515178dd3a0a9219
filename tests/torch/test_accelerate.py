"""Accelerate in two processes: a step is an update, however often `step()` is called, and the example holds to that.

https://github.com/huggingface/accelerate/issues/1382, https://github.com/huggingface/accelerate/issues/2318
"""

import importlib
import importlib.util

import numpy as np
import pytest
import torch

if importlib.util.find_spec("accelerate") is None:
    pytest.skip("Accelerate is not installed", allow_module_level=True)

WORLD = 2

# One xdist worker starts the processes, and has all tests that share them.
pytestmark = pytest.mark.xdist_group("torch-processes")


@pytest.fixture(scope="module")
def worker():
    return importlib.import_module("tests.torch.accelerate_worker")


@pytest.fixture
def ranks(processes):
    """What every process got."""
    assert [one["world"] for one in processes["accelerate"]] == [WORLD] * WORLD
    return processes["accelerate"]


def by_hand(worker, updates, rows):
    """Weights after so many updates on the global batches, at the rates of the cycle."""
    torch.manual_seed(3)
    x = torch.randn(worker.ROWS, 3)
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for step in range(updates):
        optimizer.param_groups[0]["lr"] = worker.CYCLE(step)
        optimizer.zero_grad()
        inputs = x[step * rows % worker.ROWS :][:rows]
        torch.nn.functional.mse_loss(model(inputs), inputs.sum(1, keepdim=True)).backward()
        optimizer.step()
    return [parameter.flatten().tolist() for parameter in model.parameters()]


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("how", ["plain", "prepared"])
def test_update_t_uses_the_value_at_t_in_every_process(accumulate, how, ranks, worker):
    updates = worker.EPOCHS * worker.ROWS // (worker.BATCH * WORLD * accumulate)
    for found in (one[f"{accumulate}, {how}"] for one in ranks):
        assert found["rates"] == [worker.CYCLE(step) for step in range(updates)]
        assert found["counted"] == updates
        for one, other in zip(
            found["weights"], by_hand(worker, updates, worker.BATCH * WORLD * accumulate), strict=True
        ):
            np.testing.assert_allclose(one, other, rtol=1e-4)


def test_the_wrapper_of_the_optimizer_will_do(ranks):
    assert [found["wrapped"] for found in ranks] == [[0, 1]] * WORLD


def test_a_seedable_sampler_goes_on_with_the_epoch_it_was_in(ranks):
    assert [found["seedable"] for found in ranks] == [{"alike": True, "iteration": 0, "repeats differ": True}] * WORLD


def test_a_range_test_leaves_no_loader_open(ranks, worker):
    for plain, tested in (found["within an epoch"] for found in ranks):
        assert tested == plain
        assert plain[0] == [False, False, worker.BATCH * WORLD]


def test_the_example_makes_as_many_updates_as_its_schedule_has_steps(ranks):
    output = ranks[0]["example"]
    # 8 epochs of 1,440 rows, in batches of 2 · 32.
    assert "updates 184, of 184\n" in output
    assert float(output.split("accuracy ")[1].split()[0]) > 0.95
    assert ranks[1]["example"] == ""
