"""Options of the range test of torch: what is recorded, and that every one of them leaves no trace."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset

from cyclr import RangeTest
from cyclr.torch import range_test

RNG = np.random.default_rng(7)
X = RNG.normal(size=(40, 3))
DATA = TensorDataset(torch.tensor(X), torch.tensor(X @ np.array([[1.0], [-2.0], [0.5]])))
SWEEP = {"min_lr": 1e-3, "max_lr": 0.05, "steps": 10, "stop_factor": None}


class Training:
    """A model with everything that training changes."""

    def __init__(self):
        torch.manual_seed(3)
        layers = [torch.nn.Linear(3, 6), torch.nn.BatchNorm1d(6), torch.nn.Dropout(0.3), torch.nn.Linear(6, 1)]
        self.model = torch.nn.Sequential(*layers).double()
        first, last = self.model[0].parameters(), self.model[3].parameters()
        groups = [{"params": [*first, *self.model[1].parameters()], "lr": 0.01}, {"params": [*last], "lr": 0.03}]
        self.optimizer = torch.optim.AdamW(groups)
        self.loader = DataLoader(DATA, batch_size=8, shuffle=True)
        self.train(2)

    def train(self, epochs):
        for _ in range(epochs):
            for x, y in self.loader:
                self.optimizer.zero_grad()
                mse_loss(self.model(x), y).backward()
                self.optimizer.step()

    def test(self, **arguments):
        return range_test(self.model, self.optimizer, mse_loss, self.loader, **{**SWEEP, **arguments})

    def state(self):
        tensors = {**self.model.state_dict(), "generator": torch.get_rng_state()}
        modes = [module.training for module in self.model.modules()]
        gradients = [parameter.grad.tolist() for parameter in self.model.parameters()]
        bits = {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}
        return bits, str(copy.deepcopy(self.optimizer.state_dict())), modes, gradients


def validation(model):
    model.eval()
    x, y = DATA.tensors
    return mse_loss(model(x), y)


OPTIONS = {
    "updates_per_rate": {"updates_per_rate": 3},
    "evaluate": {"evaluate": validation},
    "repeats": {"repeats": 3},
    "group": {"group": 1},
    "snapshot_dir": {},
    "all": {"updates_per_rate": 2, "evaluate": validation, "repeats": 2, "group": 0},
}


@pytest.fixture(scope="module")
def before():
    """The state before a test, and after training that had none."""
    training = Training()
    start = training.state()
    training.train(2)
    return start, training.state()


@pytest.mark.parametrize("name", OPTIONS)
def test_no_option_leaves_a_trace(name, before, tmp_path):
    training = Training()
    options = OPTIONS[name] | ({"snapshot_dir": tmp_path} if name in ("snapshot_dir", "all") else {})
    result = training.test(**options)
    assert (result.stop_reason, len(result.lr)) == ("completed", 10)
    assert training.state() == before[0]
    assert list(tmp_path.iterdir()) == []
    training.train(2)
    assert training.state() == before[1]


@given(
    step=st.integers(0, 29), error=st.sampled_from([KeyboardInterrupt, RuntimeError, SystemExit]), spill=st.booleans()
)
@settings(max_examples=25, deadline=None)
def test_nothing_is_left_behind_wherever_it_is_interrupted(step, error, spill, before, tmp_path_factory):
    training, folder, left = Training(), tmp_path_factory.mktemp("spill"), step

    def loss_fn(out, y):
        nonlocal left
        if left == 0:
            raise error
        left -= 1
        return mse_loss(out, y)

    arguments = {**SWEEP, "repeats": 3, "snapshot_dir": folder if spill else None}
    with pytest.raises(error):
        range_test(training.model, training.optimizer, loss_fn, training.loader, **arguments)
    assert training.state() == before[0]
    assert list(folder.iterdir()) == []


def test_a_snapshot_on_disk_is_no_copy_in_memory(tmp_path):
    training, sizes = Training(), []

    def look(test):
        [folder] = tmp_path.iterdir()
        sizes.append(sum(path.stat().st_size for path in folder.iterdir()))

    training.test(snapshot_dir=tmp_path, on_step=look)
    state = [*training.model.state_dict().values(), *training.optimizer.state_dict()["state"][0].values()]
    assert min(sizes) > sum(tensor.numel() * tensor.element_size() for tensor in state)


def test_an_evaluation_is_of_the_model_after_the_updates_of_the_rate():
    training, seen = Training(), []

    def evaluate(model):
        seen.append(float(validation(model)))
        return seen[-1]

    result = training.test(evaluate=evaluate)
    assert result.loss.tolist() == seen
    # Every update is made in the mode that training was in: dropout and batch statistics stay in force.
    plain = training.test()
    assert not np.allclose(result.loss, plain.loss)
    observed = []
    training.test(evaluate=validation, on_step=lambda test: observed.append(training.model.training))
    assert set(observed) == {True}


def test_repeats_are_the_tests_with_the_next_seeds():
    training = Training()
    together = training.test(repeats=3, seed=5)
    alone = [training.test(seed=seed) for seed in (5, 6, 7)]
    assert together.runs.tolist() == [result.loss.tolist() for result in alone]
    np.testing.assert_allclose(together.loss, np.mean([result.loss for result in alone], axis=0), rtol=1e-12)


@pytest.mark.parametrize("swept", [0, 1])
def test_one_group_is_swept_and_the_other_keeps_its_rate(swept):
    training, used = Training(), []
    rates = lambda test: used.append([group["lr"] for group in training.optimizer.param_groups])  # noqa: E731
    result = training.test(group=swept, on_step=rates)
    assert [both[swept] for both in used] == result.lr.tolist()
    assert {both[1 - swept] for both in used} == {[0.01, 0.03][1 - swept]}


def test_a_tensor_that_all_groups_share_is_swept_for_one_alone():
    training, used = Training(), []
    rate = torch.tensor(0.01)
    groups = [{"params": group["params"]} for group in training.optimizer.param_groups]
    training.optimizer = torch.optim.AdamW(groups, lr=rate)
    rates = lambda test: used.append([float(group["lr"]) for group in training.optimizer.param_groups])  # noqa: E731
    result = training.test(group=1, on_step=rates)
    assert {first for first, _ in used} == {float(rate)}
    np.testing.assert_allclose([second for _, second in used], result.lr, rtol=1e-6)
    assert all(group["lr"] is rate and "initial_lr" not in group for group in training.optimizer.param_groups)
    assert float(rate) == float(torch.tensor(0.01))


@pytest.mark.parametrize("spacing", ["exponential", "linear"])
def test_every_group_is_swept_in_a_range_of_its_own(spacing, before):
    training, used = Training(), []
    rates = lambda test: used.append([group["lr"] for group in training.optimizer.param_groups])  # noqa: E731
    arguments = {
        "min_lr": [1e-3, torch.tensor(1e-5)],
        "max_lr": (0.05, 1e-2),
        "spacing": spacing,
        "updates_per_rate": 2,
    }
    result = training.test(**arguments, on_step=rates)
    first, second = (
        RangeTest(low, high, 10, spacing).learning_rates
        for low, high in ((1e-3, 0.05), (float(torch.tensor(1e-5)), 1e-2))
    )
    assert used[::2] == used[1::2] == [[*both] for both in zip(first, second, strict=True)]
    assert result.lr.tolist() == first.tolist()
    assert training.state() == before[0]
    # A number is for all groups: the first group's curve is that of a common range if the others have it too.
    assert training.test(min_lr=[1e-3, 1e-3], max_lr=0.05).lr.tolist() == training.test(min_lr=1e-3).lr.tolist()


@pytest.mark.parametrize("swept", ["all", "one"])
def test_a_group_with_an_lr_scale_is_swept_as_it_will_train(swept):
    training, used = Training(), []
    training.optimizer.param_groups[1]["lr_scale"] = 0.5
    rates = lambda test: used.append([group["lr"] for group in training.optimizer.param_groups])  # noqa: E731
    result = training.test(on_step=rates, group=None if swept == "all" else 1)
    if swept == "all":
        assert used == [[rate, 0.5 * rate] for rate in result.lr]
    else:
        assert used == [[0.01, rate] for rate in result.lr]


BAD = {
    "too few": ({"min_lr": [1e-3]}, ValueError, "^lists must hold a value for each of the 2 parameter groups; got len"),
    "a swapped range": (
        {"max_lr": [0.05, 1e-4]},
        ValueError,
        "^max_lr must be greater than min_lr; got min_lr=0.001, m",
    ),
    "ranges and group": (
        {"max_lr": [0.05, 0.1], "group": 0},
        ValueError,
        "^group must be None if min_lr or max_lr is a list for all groups; got group=0. Pass numbers.$",
    ),
    "group": ({"group": 2}, ValueError, "^group must be the number of a parameter group, 0 to 1; got group=2"),
    "negative": ({"group": -1}, ValueError, "^group must be an integer of at least 0"),
    "repeats": ({"repeats": 0}, ValueError, "^repeats must be an integer of at least 1"),
    "seed": ({"repeats": 2, "seed": None}, ValueError, "^seed must be an integer if repeats are to differ"),
    "evaluate": ({"evaluate": 0.5}, TypeError, "^evaluate must be a function of the model that returns a number"),
    "updates": ({"updates_per_rate": 0}, ValueError, "^updates_per_rate must be an integer of at least 1"),
    "folder": ({"snapshot_dir": "no/such"}, ValueError, "^snapshot_dir must be a folder that exists .* got .*no/such"),
}


@pytest.mark.parametrize(("arguments", "error", "message"), BAD.values(), ids=BAD)
def test_a_bad_option_is_an_error_and_changes_nothing(arguments, error, message, before):
    training = Training()
    with pytest.raises(error, match=message):
        training.test(**arguments)
    assert training.state() == before[0]
