"""Every private name of torch and Accelerate is where `cyclr.torch._private` looks for it, and does what it says."""

import pytest
import torch
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader

from cyclr import Cyclical
from cyclr.torch import Scheduler, _private


def sgd(**arguments):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], **{"lr": 0.5, **arguments})


class Wrapper(torch.optim.Optimizer):
    """As Accelerate's: the constructor of torch's class is never called."""

    def __init__(self):
        pass


def test_runs_hooks():
    called = []
    optimizer = sgd()
    optimizer.register_step_post_hook(lambda *given: called.append(given))
    optimizer.step()
    assert called
    assert _private.runs_hooks(optimizer)
    assert not _private.runs_hooks(Wrapper())
    with pytest.raises(AttributeError):
        Wrapper().register_step_post_hook(print)


def test_wrapped():
    model = torch.nn.Linear(1, 1)
    assert _private.wrapped(model) is model
    assert _private.wrapped(torch.nn.DataParallel(torch.compile(model, backend="eager"))) is model
    assert _private.wrapped(torch.compile(torch.nn.DataParallel(model), backend="eager")) is model


def test_steps_itself():
    assert _private.steps_itself(sgd())
    assert not _private.steps_itself(Wrapper())
    accelerate = pytest.importorskip("accelerate")
    assert not _private.steps_itself(accelerate.Accelerator(cpu=True).prepare(sgd()))


def test_has_torch_scheduler():
    optimizer = sgd()
    Scheduler(optimizer, Cyclical(0.25, 0.75, 3))
    assert not _private.has_torch_scheduler(optimizer)
    lr_scheduler.StepLR(optimizer, 3)
    assert _private.has_torch_scheduler(optimizer)


@pytest.mark.parametrize("arguments", [{}, {"foreach": True}], ids=str)
def test_versions(arguments):
    optimizer = torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(2)], 0.5, **arguments)
    before = [*_private.versions(optimizer).values()]
    optimizer.step()
    assert [*_private.versions(optimizer).values()] == before
    optimizer.param_groups[1]["params"][0].grad = torch.ones(1)
    optimizer.step()
    first, second = _private.versions(optimizer).values()
    assert first == before[0]
    assert second > before[1]


class Scale:
    """A scale_fn with state, which torch saves."""

    factor = 0.5

    def __call__(self, cycle):
        return self.factor**cycle


def test_cyclic_lr_state():
    scale = Scale()
    theirs = lr_scheduler.CyclicLR(sgd(), 0.1, 0.2, scale_fn=scale, cycle_momentum=False)
    state = _private.cyclic_lr_state(3, [0.1], {"factor": 0.25})
    assert state.keys() <= theirs.state_dict().keys()
    theirs.load_state_dict({**theirs.state_dict(), **state})
    assert theirs.last_epoch == 3
    assert theirs.get_last_lr() == [0.1]
    assert scale.factor == 0.25


def test_saved_scale_fn():
    scale = Scale()
    scale.factor = 0.25
    theirs = lr_scheduler.CyclicLR(sgd(), 0.1, 0.2, scale_fn=scale, cycle_momentum=False)
    assert _private.saved_scale_fn(theirs.state_dict()) == {"factor": 0.25}
    assert _private.saved_scale_fn({}) == {}


def test_batch_norms():
    kinds = [torch.nn.BatchNorm1d(1), torch.nn.SyncBatchNorm(1), torch.nn.LazyBatchNorm2d()]
    model = torch.nn.Sequential(*kinds, torch.nn.BatchNorm1d(1, track_running_stats=False), torch.nn.LayerNorm(1))
    assert _private.batch_norms(model) == kinds


def test_update_counter():
    optimizer = sgd(fused=True)
    (weight,) = optimizer.param_groups[0]["params"]
    scaler, counts, seen = torch.amp.GradScaler("cpu"), [0], []
    optimizer.register_step_post_hook(_private.update_counter(counts))
    for factor in (1.0, float("inf")):
        optimizer.zero_grad()
        scaler.scale(factor * weight.sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        seen.append(counts[0])
    optimizer.step()
    assert [*seen, counts[0]] == [1, 1, 2]


def test_update_hooks():
    optimizer, called = sgd(), []
    before = optimizer.register_step_pre_hook(lambda *given: called.append("before"))
    after = optimizer.register_step_post_hook(lambda *given: called.append("after"))
    hooks = _private.update_hooks(optimizer)
    assert [list(held) for held in hooks] == [[before.id], [after.id]]
    taken = [held.popitem() for held in hooks]
    optimizer.step()
    assert called == []
    for held, hook in zip(hooks, taken, strict=True):
        held.update([hook])
    optimizer.step()
    assert called == ["before", "after"]
    assert before.id < after.id


def test_buffers():
    module = torch.nn.Module()
    module.register_buffer("late", None)
    module.register_buffer("held", torch.ones(1))
    assert list(_private.buffers(module)) == ["late", "held"]
    _private.buffers(module)["late"] = module.held
    assert module.late is module.held


@pytest.mark.parametrize("enabled", [True, False])
def test_scaler_stages(enabled):
    optimizer, scaler = sgd(), torch.amp.GradScaler("cpu", enabled=enabled)
    (weight,) = optimizer.param_groups[0]["params"]
    scaler.scale(weight.sum()).backward()
    scaler.unscale_(optimizer)
    if enabled:
        with pytest.raises(RuntimeError, match="already been called"):
            scaler.unscale_(optimizer)
    _private.scaler_stages(scaler).clear()
    scaler.unscale_(optimizer)


def test_detach_iterator(monkeypatch):
    loader = DataLoader([1, 2], num_workers=1, persistent_workers=True)
    made, held = [], object()
    monkeypatch.setattr(loader, "_get_iterator", lambda: made.append(iter("ab")) or made[-1])
    loader._iterator = held
    restore = _private.detach_iterator(loader)
    assert iter(loader) is made[0]
    restore()
    assert loader._iterator is held
    plain = DataLoader([1, 2])
    before = dict(vars(plain))
    _private.detach_iterator(plain)()
    assert vars(plain) == before


def accelerate_loader(rows):
    accelerate = pytest.importorskip("accelerate")
    return accelerate.Accelerator(cpu=True).prepare(DataLoader(torch.arange(rows), 4))


def test_copy_progress():
    loader = accelerate_loader(6)
    plain = DataLoader(torch.arange(6), 4)
    _private.copy_progress(plain)()
    state = loader.gradient_state
    for _ in loader:
        inside = state.in_dataloader, loader.end_of_dataloader, loader.remainder
        break
    restore = _private.copy_progress(loader)
    assert inside == (True, False, 2)
    for _ in loader:
        pass
    assert (state.in_dataloader, loader.end_of_dataloader) == (False, True)
    restore()
    assert (state.in_dataloader, loader.end_of_dataloader, loader.remainder) == inside
    # All loaders share this object, and none is open.
    state.dataloader_references = [None]


class Stateful:
    def __init__(self, names):
        for name in names:
            setattr(self, name, lambda *given: {})


def test_keeps_state():
    assert _private.keeps_state(Stateful(["state_dict", "load_state_dict"]))
    assert not _private.keeps_state(Stateful(["state_dict"]))
    assert not _private.keeps_state(DataLoader([1]))
    loader = accelerate_loader(6)
    assert not _private.keeps_state(loader)
    with pytest.raises(AttributeError):
        loader.state_dict()
    loader.dl_state_dict = {"at": 1}
    assert _private.keeps_state(loader)
    assert loader.state_dict() == {"at": 1}


@pytest.mark.filterwarnings("ignore:Detected call of .lr_scheduler.step:UserWarning")
def test_torch_scheduler():
    assert {"_last_lr", "_step_count"} <= vars(lr_scheduler.StepLR(sgd(), 1)).keys()
    optimizer, starts = sgd(), []

    class Watched(Scheduler):
        def _update_lr(self, epoch=None):
            starts.append(epoch)
            super()._update_lr(epoch)

    cycle = Cyclical(0.25, 0.75, 3)
    parts = [lr_scheduler.ConstantLR(optimizer, 0.25, 100), Watched(optimizer, cycle)]
    sequence = lr_scheduler.SequentialLR(optimizer, parts, [2])
    for _ in range(3):
        optimizer.step()
        sequence.step()
    assert starts == [0]
    assert parts[1]._last_lr == [cycle(1)]
    assert parts[1]._step_count == 0


def test_needs_closure():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.LBFGS([parameter])
    assert _private.needs_closure(optimizer)
    assert not _private.needs_closure(sgd())
    lr_scheduler.StepLR(optimizer, 3)
    assert _private.needs_closure(optimizer)
