"""What the result of a range test in torch says was tested."""

import pytest
import torch
from torch.nn.functional import mse_loss
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler, TensorDataset

from cyclr.torch import _private, range_test

X = torch.randn(96, 4, generator=torch.Generator().manual_seed(0))
Y = X @ torch.tensor([[1.0], [-2.0], [0.5], [3.0]])
DATA = TensorDataset(X, Y)
LOADERS = {
    "loader": (DataLoader(DATA, 16, shuffle=True), 16),
    "batch sampler": (DataLoader(DATA, batch_sampler=BatchSampler(SequentialSampler(DATA), 12, drop_last=False)), 12),
    "list": ([(X[:20], Y[:20])] * 3, 20),
}


@pytest.mark.parametrize(("loader", "size"), LOADERS.values(), ids=LOADERS)
def test_the_result_says_what_was_tested(loader, size):
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    tested = range_test(model, optimizer, mse_loss, loader, steps=20, seed=5).tested
    assert {name: tested[name] for name in list(tested)[:7]} == {
        "model": "Linear",
        "parameters": 5,
        "trainable": 5,
        "optimizer": "torch.optim.SGD(momentum=0.9)",
        "batch_size": size,
        "seed": 5,
        "torch": torch.__version__,
    }
    assert {"python", "cyclr", "date"} <= tested.keys()


class Mine(torch.optim.SGD):
    def __init__(self, params, lr=0.1, folder="/home/somebody"):
        super().__init__(params, lr)
        self.param_groups[0]["folder"] = folder + "/of-mine"


def test_groups_accumulation_and_frozen_parameters_are_counted():
    model = torch.nn.Sequential(torch.nn.Linear(4, 2).requires_grad_(requires_grad=False), torch.nn.Linear(2, 1))
    groups = [{"params": [model[1].weight]}, {"params": [model[1].bias], "weight_decay": 0.0, "betas": (0.9, 0.95)}]
    optimizer = torch.optim.AdamW(groups, lr=0.1, weight_decay=0.1)
    run = {"loader": LOADERS["loader"][0], "steps": 20}
    tested = range_test(model, optimizer, mse_loss, accumulate=2, **run).tested
    assert (tested["parameters"], tested["trainable"], tested["groups"], tested["accumulate"]) == (13, 3, 2, 2)
    assert tested["optimizer"] == "torch.optim.AdamW(weight_decay=0.1)"
    tested = range_test(model, optimizer, mse_loss, group=1, **run).tested
    assert (tested["group"], tested["optimizer"]) == (1, "torch.optim.AdamW(betas=(0.9, 0.95), weight_decay=0.0)")


def test_a_class_of_ones_own_has_its_name_and_no_text():
    model = torch.nn.Linear(4, 1)
    tested = range_test(model, Mine(model.parameters()), mse_loss, LOADERS["loader"][0], steps=20).tested
    assert tested["optimizer"] == "Mine(folder=...)"


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_wrapped():
    model = torch.nn.Linear(4, 1)
    for wrapper in (torch.nn.DataParallel, torch.compile):
        assert _private.wrapped(wrapper(model)) is model
    assert _private.wrapped(model) is model
