"""The training state is restored bit for bit and in place, whatever an optimizer keeps it in."""

import collections
import copy

import pytest
import torch
from torch.nn.functional import mse_loss

from cyclr._contents import Contents
from cyclr.torch import range_test
from cyclr.torch.state import TrainingState, copy_in_memory

Moments = collections.namedtuple("Moments", "first second")


class Items(list):
    """A list that refuses to be emptied."""

    def clear(self):
        raise NotImplementedError


CONTAINERS = {
    "list": lambda tensor: [tensor, 1],
    "a list of its own kind": lambda tensor: Items([tensor, 1]),
    "dict": lambda tensor: {"a": tensor, "b": 1},
    "OrderedDict": lambda tensor: collections.OrderedDict(b=1, a=tensor),
    "defaultdict": lambda tensor: collections.defaultdict(list, a=tensor),
    "Counter": lambda tensor: collections.Counter({"a": 3, tensor: 2}),
    "deque": lambda tensor: collections.deque([1, tensor], maxlen=2),
    "set": lambda tensor: {1, tensor},
    "frozenset": lambda tensor: frozenset([1, tensor]),
    "tuple": lambda tensor: (tensor, [1]),
    "namedtuple": lambda tensor: Moments(tensor, collections.deque([tensor])),
    "nested": lambda tensor: {"a": [(tensor, {"b": {1}})]},
}


def spoil(value):
    """Change everything that can be changed in a value."""
    if isinstance(value, torch.Tensor):
        value.add_(1)
    elif isinstance(value, dict):
        for item in [*value, *value.values()]:
            spoil(item)
        dict.clear(value) if not isinstance(value, collections.OrderedDict) else value.clear()
        value["new"] = 5
    elif isinstance(value, list | tuple | set | frozenset | collections.deque):
        for item in list(value):
            spoil(item)
        if isinstance(value, list | collections.deque):
            value.append(5)
        elif isinstance(value, set):
            value.add(5)


@pytest.mark.parametrize("make", CONTAINERS.values(), ids=CONTAINERS)
def test_contents_of_every_kind_are_restored_in_place(make):
    tensor = torch.tensor([1.0, 2.0])
    value = make(tensor)
    before = repr(value), type(value), [id(part) for part in value]
    contents = Contents(copy_in_memory)
    contents.add(value)
    if isinstance(value, dict):
        contents.add(list(value))
    spoil(value)
    contents.restore()
    assert (repr(value), type(value), [id(part) for part in value]) == before
    assert tensor.tolist() == [1.0, 2.0]


def test_contents_that_hold_themselves_are_walked_once():
    value = [torch.ones(1)]
    value.append(value)
    contents = Contents(copy_in_memory)
    contents.add(value)
    value[0].zero_()
    value.pop()
    contents.restore()
    assert value[1] is value
    assert value[0].item() == 1


def test_without_a_copy_tensors_keep_their_values_and_come_back_themselves():
    tensor = torch.ones(1)
    value = {"total": tensor}
    contents = Contents()
    contents.add(value)
    value["total"] = tensor.zero_() + 3
    contents.restore()
    assert value["total"] is tensor
    assert tensor.item() == 0


@pytest.mark.parametrize("used", [False, True], ids=["unused", "used"])
def test_a_scaler_keeps_every_number_that_it_has(used):
    """`load_state_dict` also changes the scale that it starts with, and leaves the scale that it made since."""
    scaler, weight = (
        torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2),
        torch.nn.Parameter(torch.ones(1)),
    )
    optimizer = torch.optim.SGD([weight], lr=0.1)

    def train(updates):
        for _ in range(updates):
            scaler.scale(weight.sum()).backward()
            scaler.step(optimizer)
            scaler.update()

    train(3 if used else 0)
    before = copy.deepcopy(vars(scaler))
    held = scaler._scale
    state = TrainingState(torch.nn.Linear(1, 1), [optimizer], scaler)
    train(7)
    assert vars(scaler) != before
    state.restore()
    assert vars(scaler) == before
    assert scaler._scale is held


class Remembers(torch.optim.Optimizer):
    """Descends by the mean of what it remembers of its gradients, in containers of every kind."""

    def __init__(self, parameters):
        super().__init__(parameters, {"lr": 0.01})

    @torch.no_grad()
    def step(self, closure=None):
        (group,) = self.param_groups
        group.setdefault("norms", []).append(len(group.get("norms", [])))
        for p in group["params"]:
            state = self.state[p]
            history = state.setdefault("history", collections.deque(maxlen=3))
            history.append(p.grad.clone())
            moments = state.setdefault("moments", Moments(torch.zeros_like(p), torch.zeros_like(p)))
            moments.first.lerp_(p.grad, 0.1)
            state.setdefault("seen", set()).add(len(group["norms"]))
            p.sub_(group["lr"] * (sum(history) / len(history) + moments.first) / len(state["seen"]))


DATA = [(torch.randn(8, 4, generator=torch.Generator().manual_seed(i)), torch.ones(8, 1)) for i in range(20)]


@pytest.mark.parametrize("spill", [False, True], ids=["in memory", "in files"])
def test_training_goes_on_from_what_an_optimizer_keeps_in_containers(spill, tmp_path):
    ends = []
    for tested in (False, True):
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 1)
        optimizer = Remembers(model.parameters())
        for half in (DATA[:10], DATA[10:]):
            for inputs, targets in half:
                optimizer.zero_grad()
                mse_loss(model(inputs), targets).backward()
                optimizer.step()
            if tested and half is not DATA[10:]:
                folder = tmp_path if spill else None
                range_test(model, optimizer, mse_loss, DATA, max_lr=0.5, steps=20, repeats=1, snapshot_dir=folder)
        state = optimizer.state[model.weight]
        assert type(state["moments"]) is Moments
        assert state["history"].maxlen == 3
        ends.append([model.weight.tolist(), model.bias.item(), optimizer.param_groups[0]["norms"]])
    assert ends[0] == ends[1]
