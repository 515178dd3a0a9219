"""Groups of layers: which parameter is in which, at which share of the rate, with which weight decay."""

import pytest
import torch
from torch import nn

from cyclr import Cyclical
from cyclr.torch import Scheduler, layer_groups, range_test


class Transformer(nn.Module):
    """The usual parts of one: a token of the model itself, a convolution, blocks, a norm and a head."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 4))
        self.patch = nn.Conv2d(3, 4, 2)
        self.drop = nn.Dropout()
        self.blocks = nn.Sequential(*[nn.TransformerEncoderLayer(4, 2, 8) for _ in range(2)])
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 2)


LAYERS = [("token", "patch"), ("blocks.0",), ("blocks.1",), ("norm",), ("head",)]


def names_of(model, group):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [names[id(parameter)] for parameter in group["params"]]


def test_layers_are_children_and_the_children_of_children():
    model = Transformer()
    groups = layer_groups(model, 0.5)
    found = {name: group["lr_scale"] for group in groups for name in names_of(model, group)}
    assert list(found) != list(dict(model.named_parameters()))
    assert found == {
        name: 0.5 ** (len(LAYERS) - 1 - layer)
        for layer, parts in enumerate(LAYERS)
        for name, _ in model.named_parameters()
        if name.startswith(parts)
    }
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_vectors_and_named_parameters_have_no_weight_decay():
    model = Transformer()
    groups = layer_groups(model, weight_decay=0.1, no_decay=["token"])
    for group in groups:
        for name, parameter in zip(names_of(model, group), group["params"], strict=True):
            assert group["weight_decay"] == (0.0 if parameter.ndim == 1 or name == "token" else 0.1)
    optimizer = torch.optim.AdamW(layer_groups(model), weight_decay=0.3)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.3}


def test_layers_of_ones_own_and_a_lower_bound():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    groups = layer_groups(model, 0.5, min_scale=0.4, lr=0.1, layers=lambda name: 2 * int(name[0]))
    assert [group["lr_scale"] for group in groups] == [0.4, 0.4, 0.4, 0.4, 1.0, 1.0]
    assert [group["lr"] for group in groups] == [0.1 * group["lr_scale"] for group in groups]


def test_frozen_and_shared_parameters():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].requires_grad_(False)
    model[2].weight = model[0].weight
    groups = layer_groups(model, 0.5)
    assert [(group["lr_scale"], names_of(model, group)) for group in groups] == [
        (0.25, ["0.bias"]),
        (0.25, ["0.weight"]),
        (1.0, ["2.bias"]),
    ]


@pytest.mark.parametrize("lr", [None, 0.1])
def test_a_schedule_and_a_range_test_follow_the_scales(lr):
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    optimizer = torch.optim.SGD(layer_groups(model, 0.5, lr=lr), lr=0.3)
    data, used = [(torch.ones(1, 2), torch.zeros(1, 2))] * 4, []
    rates = lambda test: used.append([group["lr"] for group in optimizer.param_groups])  # noqa: E731
    result = range_test(
        model, optimizer, nn.functional.mse_loss, data, min_lr=1e-3, max_lr=1e-2, steps=3, repeats=1, on_step=rates
    )
    scales = [0.5, 0.5, 1.0, 1.0]
    assert used == [[scale * rate for scale in scales] for rate in result.lr]
    scheduler = Scheduler(optimizer, Cyclical(0.25, 0.75, 2))
    scheduler.step(1)
    assert scheduler.get_last_lr() == [0.5 * scale for scale in scales]


MODEL = nn.Linear(2, 2)
BAD = {
    "decay": ({"decay": 0}, ValueError, "^decay must be a finite number greater than 0 and at most 1; got decay=0"),
    "min_scale": ({"min_scale": 1.5}, ValueError, "^min_scale must be a finite number of at least 0 and at most 1"),
    "lr": ({"lr": -1}, ValueError, "^lr must be a finite number of at least 0"),
    "weight_decay": ({"weight_decay": "1"}, TypeError, "^weight_decay must be a number"),
    "no_decay": ({"no_decay": ["bais"]}, ValueError, "^no_decay must be one of 'weight', 'bias'; got no_decay='bais'"),
    "layers": ({"layers": [0]}, TypeError, "^layers must be a function of a parameter's name"),
    "an index": ({"layers": lambda name: -1}, ValueError, r"^layers\('weight'\) must be an integer of at least 0; got"),
}


@pytest.mark.parametrize(("arguments", "error", "message"), BAD.values(), ids=BAD)
def test_a_bad_argument_is_an_error_that_says_what_is_legal(arguments, error, message):
    with pytest.raises(error, match=message):
        layer_groups(MODEL, **arguments)


def test_a_model_without_parameters_that_train_is_an_error():
    with pytest.raises(ValueError, match=r"^model must have parameters that train; got Linear without any\.$"):
        layer_groups(nn.Linear(2, 2).requires_grad_(False))
