"""AutoCycle with every kind of optimizer: all that it keeps goes back, or it is refused at once."""

import math

import pytest
import torch
from tests.torch import auto_cycle_run as run
from tests.torch.optimizers import SAM, Lookahead, ScheduleFree, TwoSteps
from torch.nn.functional import mse_loss

import cyclr
from cyclr.errors import AutoCycleError
from cyclr.torch import AutoCycle

pytestmark = pytest.mark.filterwarnings("ignore:AutoCycle:UserWarning", "ignore:.*lr_scheduler.step:UserWarning")
optim = torch.optim


def matrices(model):
    return [p for p in model.parameters() if p.ndim == 2]


def wrapped(model):
    accelerate = pytest.importorskip("accelerate")
    return accelerate.Accelerator(cpu=True).prepare(optim.Adam(model.parameters()))


OPTIMIZERS = {
    **{
        kind: lambda model, kind=kind: getattr(optim, kind)(model.parameters(), lr=1e-3)
        for kind in ("Adadelta", "Adafactor", "Adagrad", "Adam", "Adamax", "NAdam", "RAdam", "Rprop")
    },
    "ASGD": lambda model: optim.ASGD(model.parameters(), t0=2),
    "amsgrad": lambda model: optim.AdamW(model.parameters(), amsgrad=True),
    "RMSprop": lambda model: optim.RMSprop(model.parameters(), momentum=0.9, centered=True),
    "foreach": lambda model: optim.AdamW(model.parameters(), foreach=True),
    "fused": lambda model: optim.AdamW(model.parameters(), fused=True),
    "tensor": lambda model: optim.AdamW(model.parameters(), lr=torch.tensor(1e-3), foreach=False),
    "SAM": lambda model: SAM(model.parameters(), optim.SGD, lr=1e-3, momentum=0.9),
    "Lookahead": lambda model: Lookahead(optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)),
    "Schedule-free": lambda model: ScheduleFree(model.parameters()),
    "Accelerate": wrapped,
}
if hasattr(optim, "Muon"):
    OPTIMIZERS["Muon"] = lambda model: optim.Muon(matrices(model))


def trained(make, *, broken, before, train_late=False):
    """The weights after some updates, then AutoCycle, perhaps a broken update that is undone, and more updates."""
    model = run.network()
    optimizer = make(model)

    def update(index, scale=1.0):
        x, y = run.batch(index)

        def closure():
            optimizer.zero_grad()
            loss = mse_loss(model(x * scale), y)
            loss.backward()
            return loss

        if isinstance(optimizer, SAM):
            return optimizer.step(closure)
        loss = closure()
        optimizer.step()
        return loss

    if isinstance(optimizer, ScheduleFree) and not train_late:
        optimizer.train()
    for index in range(before):
        update(index)
    auto = AutoCycle(model, optimizer, total_steps=50, schedule=cyclr.Constant(1e-3))
    if train_late:
        optimizer.train()
    if broken:
        auto.step(update(10, math.nan))
        assert [event.what for event in auto.events] == ["left_out"]
    for index in range(20, 25):
        auto.step(update(index))
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("before", [0, 4])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_all_that_an_optimizer_keeps_goes_back(name, before):
    weights, wanted = (trained(OPTIMIZERS[name], broken=broken, before=before) for broken in (True, False))
    assert all(torch.equal(one, other) for one, other in zip(weights, wanted, strict=True))


def test_the_mode_of_a_schedule_free_optimizer_stays():
    trained(OPTIMIZERS["Schedule-free"], broken=True, before=0, train_late=True)


def test_the_state_within_a_wrapper_is_copied_once():
    model = run.network()
    auto = AutoCycle(model, wrapped(model), total_steps=50, schedule=cyclr.Constant(1e-3))
    assert len(auto.state_dict()["copies"]["first"]["optimizers"]) == 1


def adam(model):
    return optim.Adam(model.parameters())


def lazy():
    return torch.nn.Sequential(torch.nn.LazyLinear(2), torch.nn.Linear(2, 1))


REFUSED = {
    "LBFGS": (run.network, lambda model: optim.LBFGS(model.parameters()), TypeError, "needs a closure"),
    "two steps": (run.network, lambda model: TwoSteps(model.parameters(), lr=0.1), TypeError, "needs a closure"),
    "ascends": (run.network, lambda model: optim.SGD(model.parameters(), maximize=True), ValueError, "must minimize"),
    "another": (run.network, lambda model: adam(run.network()), ValueError, "must hold parameters of the model"),
    "lazy": (lazy, lambda model: adam(model[1]), ValueError, "got lazy ones"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_followed_is_refused_at_once(name):
    make, optimizer, error, words = REFUSED[name]
    model = make()
    with pytest.raises(error, match=words):
        AutoCycle(model, optimizer(model), total_steps=9, schedule=cyclr.Constant(0.1))


class Adapted(torch.nn.Module):
    """A large part that is frozen, and a small one that is trained."""

    def __init__(self):
        super().__init__()
        self.base, self.head = torch.nn.Linear(4, 100).requires_grad_(False), torch.nn.Linear(100, 1)

    def forward(self, x):
        return self.head(self.base(x))


def adapted(also=False):
    model = Adapted()
    optimizer = optim.SGD(model.head.parameters(), lr=0.1)
    parts = [model.base] if also else []
    auto = AutoCycle(model, optimizer, total_steps=50, schedule=cyclr.Constant(1e-3), also=parts)
    return model, optimizer, auto


def update(model, optimizer, auto, loss=None):
    value = model(torch.ones(2, 4)).square().mean()
    value.backward()
    optimizer.step()
    auto.step(value if loss is None else loss)


def test_frozen_parameters_are_not_copied():
    model, optimizer, auto = adapted()
    start = [p.clone() for p in model.parameters()]
    state = auto.state_dict()
    tensors = state["copies"]["first"]["tensors"]
    assert sum(tensor.numel() for tensor in tensors if tensor is not None) == 101
    update(model, optimizer, auto, math.nan)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), start, strict=True))
    auto.load_state_dict(state)


def test_frozen_parameters_may_be_loaded_before_the_first_update():
    model, optimizer, auto = adapted()
    auto.load_state_dict(auto.state_dict())
    model.load_state_dict(Adapted().state_dict())
    update(model, optimizer, auto)
    auto.load_state_dict(auto.state_dict())
    model.load_state_dict(Adapted().state_dict())
    update(model, optimizer, auto)
    assert auto.last_step == 1


TEACHERS = {
    "in place": lambda base, head: base.add_(head.sum()),
    "data": lambda base, head: base.data.mul_(0.99).add_(head.sum(), alpha=0.01),
    "new data": lambda base, head: setattr(base, "data", 0.99 * base.data + 0.01 * head.sum().detach()),
}


@pytest.mark.parametrize("name", TEACHERS)
def test_a_teacher_that_is_not_copied_is_noticed_after_the_first_update(name):
    model, optimizer, auto = adapted()
    optimizer.register_step_post_hook(lambda *given: TEACHERS[name](model.base.weight, model.head.weight))
    with pytest.raises(AutoCycleError, match="need no gradient"):
        update(model, optimizer, auto)


def test_layers_that_are_thawed_must_be_copied():
    model, optimizer, auto = adapted()
    update(model, optimizer, auto)
    optimizer.add_param_group({"params": model.base.requires_grad_(True).parameters()})
    with pytest.raises(AutoCycleError, match=r"added to an optimizer.*also=\[\.\.\.\]"):
        update(model, optimizer, auto)


def test_what_also_names_is_copied_whole():
    model, optimizer, auto = adapted(also=True)
    before = model.base.weight.clone()
    teacher = optimizer.register_step_post_hook(lambda *given: model.base.weight.add_(1))
    update(model, optimizer, auto, math.nan)
    assert torch.equal(model.base.weight, before)
    teacher.remove()
    update(model, optimizer, auto)
    optimizer.add_param_group({"params": model.base.requires_grad_(True).parameters()})
    update(model, optimizer, auto)
