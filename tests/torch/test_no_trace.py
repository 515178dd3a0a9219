"""A range test leaves no trace: what comes after it is, bit for bit, what would have come without it.

https://github.com/fastai/fastai/issues/2892, https://github.com/Lightning-AI/pytorch-lightning/issues/6675,
https://github.com/davidtvs/pytorch-lr-finder/issues/11
"""

import collections
import contextlib
import copy
import dataclasses
import functools
import gc
import multiprocessing
import random
import types

import numpy as np
import pytest
import torch
import torch.nn.utils.prune
from torch.nn.functional import mse_loss
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from cyclr import Constant, Cyclical, RangeTestError
from cyclr.torch import Scheduler, range_test

GENERATOR = torch.Generator().manual_seed(3)
X = torch.randn(20, 4, generator=GENERATOR)
Y = torch.randn(20, 1, generator=GENERATOR)
STEPS = 7


class Counting(torch.nn.Module):
    """Buffers of every kind: kept and not, put in another's place, made at the first call, and expanded."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("hidden", torch.zeros(4), persistent=False)
        self.register_buffer("replaced", torch.zeros(4))
        self.register_buffer("late", None)
        self.register_buffer("wide", torch.zeros(4, 1).expand(4, 5))
        self.register_buffer("nan", torch.tensor([float("nan"), -0.0]))

    def forward(self, x):
        if self.training:
            self.calls += 1
            self.hidden.mul_(0.9).add_(x.detach().mean(0))
            self.replaced = self.replaced * 0.9 + x.detach().mean(0)
            self.late = x.detach().mean(0)
        return x + 0.01 * self.hidden + 0.01 * self.replaced


def make_model():
    torch.manual_seed(5)
    return torch.nn.Sequential(
        Counting(), torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6), torch.nn.Dropout(0.4), torch.nn.Linear(6, 1)
    )


def groups(model):
    return [
        {"params": model[1].parameters()},
        {"params": [*model[2].parameters(), *model[4].parameters()], "lr": 0.005},
    ]


OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.01),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    "a tensor": lambda p: torch.optim.SGD(p, lr=torch.tensor(0.01), momentum=0.9),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "AdamW, fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "NAdam": lambda p: torch.optim.NAdam(p, lr=0.01),
    "Rprop": lambda p: torch.optim.Rprop(p, lr=0.01),
}


class Training:
    """A model in the middle of its training, with everything that belongs to it."""

    def __init__(self, name="Adam", updates=3):
        self.model = make_model()
        self.optimizer = OPTIMIZERS[name](groups(self.model))
        self.scheduler = Scheduler(self.optimizer, Cyclical(0.01, 0.05, 3))
        self.scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=5)
        self.generator = torch.Generator().manual_seed(9)
        self.loader = DataLoader(TensorDataset(X, Y), batch_size=4, shuffle=True, generator=self.generator)
        self.train(updates)

    def train(self, updates):
        losses = []
        while len(losses) < updates:
            for x, y in self.loader:
                self.optimizer.zero_grad()
                loss = mse_loss(self.model(x), y)
                self.scaler.scale(loss).backward()
                self.scaler.step(self.optimizer)
                self.scaler.update()
                self.scheduler.step()
                losses.append(loss.item())
                if len(losses) == updates:
                    break
        return losses

    def tensors(self):
        return {
            **dict(self.model.named_parameters()),
            **dict(self.model.named_buffers()),
            **{f"gradient of {name}": p.grad for name, p in self.model.named_parameters() if p.grad is not None},
            **{
                f"{name} of {number}": value
                for number, state in enumerate(self.optimizer.state.values())
                for name, value in state.items()
                if isinstance(value, torch.Tensor)
            },
        }

    def state(self):
        """Everything that can be compared with ==; tensors by which they are and by their bits."""
        bits = {
            name: (id(value), tuple(value.shape), value.detach().contiguous().numpy().tobytes())
            for name, value in self.tensors().items()
        }
        settings = copy.deepcopy([{k: v for k, v in g.items() if k != "params"} for g in self.optimizer.param_groups])
        return {
            "tensors": bits,
            "stepped": [id(p) for p in self.optimizer.state],
            "settings": settings,
            "parameters": [[id(p) for p in group["params"]] for group in self.optimizer.param_groups],
            "modes": [module.training for module in self.model.modules()],
            "without gradient": [name for name, p in self.model.named_parameters() if p.grad is None],
            "trainable": [p.requires_grad for p in self.model.parameters()],
            "names": list(self.model.state_dict()),
            "late": self.model[0].late is None,
            "scaler": self.scaler.state_dict(),
            "scheduler": (self.scheduler.state_dict(), self.scheduler.get_last_lr()),
            "generators": [
                random.getstate(),
                np.random.get_state()[1].tolist(),
                torch.get_rng_state().tolist(),
                self.generator.get_state().tolist(),
            ],
            "hooks": [len(self.optimizer._optimizer_step_post_hooks), len(self.optimizer._optimizer_step_pre_hooks)],
        }


def raising(error, step):
    def on_step(test):
        if test.recorded == step:
            raise error

    return on_step


def failing_loss(*arguments):
    raise ArithmeticError("the loss gave up")


class FailsLater:
    """A loss that fails in the backward pass of the third call."""

    def __init__(self):
        self.calls = 0

    def __call__(self, out, y):
        self.calls += 1
        if self.calls == 3:
            out.register_hook(failing_loss)
        return mse_loss(out, y)


def rows_that_end_in_an_error():
    yield X[:4], Y[:4]
    yield X[4:8], Y[4:8]
    raise LookupError("no such row")


class Failing(torch.utils.data.Dataset):
    def __len__(self):
        return 20

    def __getitem__(self, index):
        random.random(), np.random.random()
        if index == 17:
            raise LookupError("no such row")
        return X[index], Y[index]


def with_nan(*indices):
    return [(X[4 * i : 4 * i + 4], Y[4 * i : 4 * i + 4] * (torch.nan if i in indices else 1)) for i in range(5)]


# name: changed arguments, how it ends
OUTCOMES = {
    "completed": ({}, "completed"),
    "without a seed": ({"seed": None}, "completed"),
    "with the scaler": ({"scaler": True}, "completed"),
    "with the scaler, skipping": ({"scaler": True, "skipping": True}, "completed"),
    "accumulation": ({"accumulate": 3}, "completed"),
    "autocast": ({"autocast": torch.bfloat16}, "completed"),
    "diverged": ({"max_lr": 1e9, "steps": 30, "stop_factor": 1.5, "smoothing": 0.0}, "diverged"),
    "a broken batch": ({"loader": with_nan(2)}, "completed"),
    "a broken batch, without a seed": ({"loader": with_nan(2), "seed": None}, "completed"),
    "two broken batches in a row": ({"loader": with_nan(2, 3)}, "completed"),
    "NaN": ({"loader": [*with_nan()[:2], *11 * with_nan(2)[2:3]]}, "non_finite"),
    "a broken batch, with the scaler": ({"loader": with_nan(2), "scaler": True}, "completed"),
    "NaN, with the scaler": ({"loader": [*with_nan()[:2], *11 * with_nan(2)[2:3]], "scaler": True}, "non_finite"),
    "NaN at once": ({"loss_fn": lambda out, y: out.sum() * float("nan")}, RangeTestError),
    "no data": ({"loader": []}, RangeTestError),
    "data exhausted": ({"loader": lambda: iter([(X[:4], Y[:4])] * 3)}, "data_exhausted"),
    "stopped by the user": ({"on_step": lambda test: test.stop("interrupted")}, "interrupted"),
    "error after step 1": ({"on_step": raising(ZeroDivisionError(), 1)}, ZeroDivisionError),
    "error after the last step": ({"on_step": raising(ZeroDivisionError(), STEPS)}, ZeroDivisionError),
    "Ctrl-C after step 1": ({"on_step": raising(KeyboardInterrupt(), 1)}, KeyboardInterrupt),
    "Ctrl-C after step 5": ({"on_step": raising(KeyboardInterrupt(), 5)}, KeyboardInterrupt),
    "Ctrl-C after the last step": ({"on_step": raising(KeyboardInterrupt(), STEPS)}, KeyboardInterrupt),
    "error in the loss": ({"loss_fn": failing_loss}, ArithmeticError),
    "error in the backward pass": ({"loss_fn": FailsLater}, ArithmeticError),
    "error in the backward pass, with the scaler": ({"loss_fn": FailsLater, "scaler": True}, ArithmeticError),
    "error in a generator": ({"loader": rows_that_end_in_an_error}, LookupError),
    "error in a data set": ({"loader": lambda: DataLoader(Failing(), 4, shuffle=True)}, LookupError),
    "a wrong batch": ({"loader": [X]}, TypeError),
}


def disturb(training, outcome):
    """Run a range test that ends as the table says."""
    changes, end = OUTCOMES[outcome]
    arguments = {
        **{"loss_fn": mse_loss, "loader": training.loader, "min_lr": 1e-3, "max_lr": 2.0, "steps": STEPS},
        "stop_factor": None,
        **changes,
    }
    for name in ("loader", "loss_fn"):
        if isinstance(arguments[name], type) or getattr(arguments[name], "__code__", None) in MAKERS:
            arguments[name] = arguments[name]()
    if arguments.pop("skipping", False):
        arguments["on_step"] = lambda test: training.scaler.update(1.99 * 2.0**127) if test.recorded == 3 else None
    if "scaler" in arguments:
        arguments["scaler"] = training.scaler
    if isinstance(end, str):
        assert range_test(training.model, training.optimizer, **arguments).stop_reason == end
    else:
        with pytest.raises(end):
            range_test(training.model, training.optimizer, **arguments)


MAKERS = {
    value.__code__
    for changes, _ in OUTCOMES.values()
    for name, value in changes.items()
    if name == "loader" and callable(value)
}


@pytest.mark.filterwarnings("ignore:loader ended after:UserWarning")
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_everything_is_as_it_was_whatever_happened(outcome):
    training = Training()
    training.model[2].eval()
    training.model[4].weight.grad = None
    before = training.state()
    disturb(training, outcome)
    assert training.state() == before


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("updates", [0, 3], ids=["never stepped", "trained"])
def test_every_optimizer_is_as_it_was(name, updates):
    training = Training(name, updates)
    before = training.state()
    assert bool(before["stepped"]) == (updates > 0 and training.optimizer.state != {})
    for outcome in ("completed", "Ctrl-C after step 5"):
        disturb(training, outcome)
        assert training.state() == before


@pytest.fixture(scope="module")
def undisturbed():
    """How training goes without a range test."""
    known = {}

    def trained(name, updates):
        if (name, updates) not in known:
            training = Training(name, updates)
            known[name, updates] = training.train(13), values_of(training)
        return known[name, updates]

    return trained


def values_of(training):
    """The bits of all tensors."""
    return {name: value.detach().contiguous().numpy().tobytes() for name, value in training.tensors().items()}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("updates", [0, 3], ids=["never stepped", "trained"])
@pytest.mark.parametrize("outcome", ["completed", "with the scaler", "error in the backward pass", "NaN at once"])
def test_training_goes_on_as_if_there_had_been_no_test(name, updates, outcome, undisturbed):
    training = Training(name, updates)
    disturb(training, outcome)
    losses = training.train(13)
    assert (losses, values_of(training)) == undisturbed(name, updates)


def test_training_after_a_test_is_deterministic_at_all(undisturbed):
    """The comparisons above are worth something: another seed gives other numbers."""
    training = Training("momentum", 3)
    torch.manual_seed(6)
    assert training.train(13) != undisturbed("momentum", 3)[0]


def test_a_scheduler_is_not_advanced():
    training = Training("momentum", 3)
    other = Scheduler(training.optimizer, momentum=Cyclical(0.8, 0.9, 4), counts="calls")
    for outcome in ("completed", "Ctrl-C after step 1", "error in the loss"):
        disturb(training, outcome)
        training.scheduler.step()
        assert (training.scheduler.last_epoch, other.last_epoch) == (3, 0)
    training.train(1)
    assert training.scheduler.last_epoch == 4


def test_a_scaler_that_is_in_the_middle_of_an_update_can_go_on():
    training, other = Training(), Training()
    for one in (training, other):
        torch.manual_seed(1)
        one.optimizer.zero_grad()
        one.scaler.scale(mse_loss(one.model(X), Y)).backward()
        one.scaler.unscale_(one.optimizer)
    disturb(training, "with the scaler")
    for one in (training, other):
        torch.nn.utils.clip_grad_norm_(one.model.parameters(), 0.1)
        one.scaler.step(one.optimizer)
        one.scaler.update()
        with pytest.raises(AssertionError):
            one.scaler.update()
    assert list(values_of(training).values()) == list(values_of(other).values())


@pytest.mark.parametrize("frozen", [False, True])
def test_parameters_that_only_the_optimizer_or_only_the_model_knows(frozen):
    training = Training("momentum")
    extra = torch.nn.Parameter(torch.ones(1))
    training.optimizer.add_param_group({"params": [extra]})
    # It sets the rate of the new group, as its state_dict() would in the test.
    training.scheduler.step()
    training.model[1].weight.requires_grad_(not frozen)
    before = training.state(), extra.item()
    changes = {"loss_fn": lambda out, y: mse_loss(out * extra, y), "loader": training.loader}
    range_test(training.model, training.optimizer, **changes, max_lr=1.0, steps=9, stop_factor=None)
    assert (training.state(), extra.item(), extra.grad) == (*before, None)


def test_parameters_that_share_their_memory():
    model = make_model()
    model[4].weight = torch.nn.Parameter(model[1].weight[:1].detach().new_ones(1, 6))
    tied = torch.nn.ModuleList([model, model[4], torch.nn.Linear(6, 1)])
    tied[2].weight = model[4].weight
    before = [p.detach().clone() for p in tied.parameters()]
    optimizer = torch.optim.SGD(tied.parameters(), 0.1)
    range_test(model, optimizer, mse_loss, [(X, Y)], max_lr=1.0, steps=9, stop_factor=None)
    assert tied[2].weight is model[4].weight
    assert all(map(torch.equal, before, tied.parameters()))


def test_there_is_one_copy_of_the_parameters_and_it_is_gone_afterwards():
    size = 12_347
    model = torch.nn.Linear(size, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), 1e-4)
    data = [(torch.ones(2, size), torch.ones(2, 1))]
    kept = []

    def large():
        return len({t.data_ptr() for t in gc.get_objects() if type(t) in LARGE and t.numel() == size})

    def watch(test):
        gradient = model.weight.grad
        kept.append((large(), gradient is not None))

    range_test(model, optimizer, mse_loss, data, max_lr=1e-3, steps=5, on_step=watch)
    # The parameter, its gradient, and the copy.
    assert kept == [(3, True)] * 5
    assert (large(), model.weight.grad) == (1, None)


LARGE = (torch.Tensor, torch.nn.Parameter)


def test_unseeded_generators_are_left_alone():
    """Nobody has seeded anything: what was random stays random, and no seed is left behind."""
    training = Training()
    random.seed(), np.random.seed(), torch.seed()
    drawn = []
    for _ in range(2):
        disturb(training, "completed")
        drawn.append((random.random(), np.random.random(), torch.rand(()).item()))
    assert all(one != other for one, other in zip(*drawn, strict=True))


@pytest.mark.parametrize("suffix", ["", "_all"], ids=["one device", "devices in numbers"])
def test_the_generators_of_an_accelerator_are_put_back(suffix, monkeypatch):
    """`torch.mps` has no `get_rng_state_all`."""
    held = [torch.tensor([7])]
    device = types.SimpleNamespace()
    setattr(device, f"get_rng_state{suffix}", lambda: held[0])
    setattr(device, f"set_rng_state{suffix}", lambda state: held.__setitem__(0, state))
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **keywords: torch.device("mps"))
    monkeypatch.setattr(torch, "get_device_module", lambda accelerator: device)
    training = Training()
    seen = []

    def draw(test):
        held[0] = held[0] + 1
        seen.append(held[0].item())

    range_test(training.model, training.optimizer, mse_loss, training.loader, steps=3, repeats=1, on_step=draw)
    assert (seen, held[0].item()) == ([8, 9, 10], 7)


def seeded():
    return torch.Generator().manual_seed(3)


# Not forked, which is no safe thing to do where another test has loaded JAX or TensorFlow; they warn of it.
WORKERS = multiprocessing.get_context("forkserver")
WORKERS.set_forkserver_preload(["torch"])
ROWS = TensorDataset(X, Y)
LOADERS = {
    "a generator": lambda: DataLoader(ROWS, 4, shuffle=True, generator=seeded()),
    "a sampler": lambda: DataLoader(ROWS, 4, sampler=RandomSampler(ROWS, generator=seeded())),
    "a batch sampler": lambda: DataLoader(
        ROWS, batch_sampler=BatchSampler(RandomSampler(ROWS, generator=seeded()), 4, drop_last=False)
    ),
    "batches from a sampler": lambda: DataLoader(
        ROWS, batch_size=None, sampler=BatchSampler(RandomSampler(ROWS, generator=seeded()), 4, drop_last=False)
    ),
    # What is random happens in the worker.
    "a worker that lives on": lambda: DataLoader(
        torch.full((5, 4, 4), 0.5),
        batch_size=None,
        collate_fn=torch.bernoulli,
        num_workers=1,
        persistent_workers=True,
        multiprocessing_context=WORKERS,
    ),
}


@pytest.mark.parametrize("epochs", [0, 1], ids=["not begun", "begun"])
@pytest.mark.parametrize("make", LOADERS.values(), ids=LOADERS)
def test_the_data_after_a_test_are_those_without_one(make, epochs):
    def rows(loader):
        return [(batch if isinstance(batch, torch.Tensor) else batch[0]).tolist() for batch in loader]

    def step(batch):
        training.optimizer.zero_grad()
        loss = training.model(batch if isinstance(batch, torch.Tensor) else batch[0]).square().mean()
        loss.backward()
        training.optimizer.step()
        return loss

    seen, losses = [], []
    for tests in (0, 2):
        training, loader = Training(), make()
        for _ in range(epochs):
            rows(loader)
        workers = loader._iterator
        for _ in range(tests):
            arguments = {"step_fn": step, "min_lr": 1e-3, "max_lr": 1.0, "steps": STEPS, "stop_factor": None}
            losses.append(range_test(training.model, training.optimizer, None, loader, **arguments, repeats=1).loss)
            assert loader._iterator is workers
        seen.append([rows(loader), rows(loader)])
    assert seen[0] == seen[1]
    # Same seed, same result.
    assert losses[0].tolist() == losses[1].tolist()


def test_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    training = Training()
    for outcome in ("completed", "Ctrl-C after step 5"):
        disturb(training, outcome)
    assert list(tmp_path.iterdir()) == []


# State beside parameters, buffers and the state of the optimizer


@dataclasses.dataclass
class Seen:
    batches: int = 0


class Remembering(torch.nn.Module):
    """A module that keeps state wherever it can."""

    def __init__(self):
        super().__init__()
        self.layer, self.norm = torch.nn.Linear(4, 1), torch.nn.BatchNorm1d(1)
        self.calls, self.outputs, self.last, self.seen = 0, [], collections.deque(maxlen=3), Seen()
        self.named = types.SimpleNamespace(calls=0)
        self.hidden, self.array, self.by_name = torch.zeros(1), np.zeros(2), {"sum": 0}

    def forward(self, x):
        output = self.norm(self.layer(x))
        self.calls += 1
        self.seen.batches += 1
        self.named.calls += 1
        self.outputs.append(float(output.detach().sum()))
        self.last.append(self.calls)
        self.hidden.add_(1)
        self.array += 1
        self.by_name["sum"] += 1
        return output

    def state(self):
        weights = [value.tolist() for value in self.state_dict().values()]
        held = self.calls, [*self.outputs], [*self.last], self.seen.batches, self.named.calls, self.by_name["sum"]
        gradients = [None if p.grad is None else p.grad.tolist() for p in self.parameters()]
        return [weights, held, self.hidden.tolist(), self.array.tolist(), gradients]


class RememberingSGD(torch.optim.SGD):
    """An optimizer that keeps a counter, a list and a second optimizer in attributes."""

    def __init__(self, parameters, **arguments):
        super().__init__(parameters, **arguments)
        self.steps, self.norms = 0, []
        self.inner = torch.optim.Adam(self.param_groups[0]["params"], lr=0.01)

    def step(self, closure=None):
        self.steps += 1
        self.norms.append(self.steps)
        self.inner.step()
        return super().step(closure)


GLOBAL = Remembering()


@pytest.mark.parametrize("interrupted", [False, True])
@pytest.mark.parametrize("use", ["model", "loss module", "closure", "global", "partial", "method"])
def test_state_in_attributes_and_other_modules_is_restored(use, interrupted):
    model, second = torch.nn.Linear(4, 1), GLOBAL if use == "global" else Remembering()
    if use == "model":
        model = second
    optimizer = RememberingSGD(model.parameters(), lr=0.1, momentum=0.9)
    data = [(torch.randn(8, 4), torch.randn(8, 1))] * 4

    def with_second(module, output, target):
        module(torch.ones(2, 4) * output.mean())
        return (output - target).square().mean()

    class Loss(Remembering):
        def forward(self, output, target):
            return super().forward(output.expand(-1, 4)).square().mean()

    class Trainer:
        def __init__(self):
            self.second = second

        def loss(self, output, target):
            return with_second(self.second, output, target)

    if use == "loss module":
        second = Loss()
    loss = {
        "model": torch.nn.functional.mse_loss,
        "loss module": second,
        "closure": lambda output, target: with_second(second, output, target),
        "global": lambda output, target: with_second(GLOBAL, output, target),
        "partial": functools.partial(with_second, second),
        "method": Trainer().loss,
    }[use]

    def interrupt(test):
        if interrupted and test.recorded == 7:
            raise KeyboardInterrupt

    before = second.state(), optimizer.steps, [*optimizer.norms], len(optimizer.inner.state)
    with contextlib.suppress(KeyboardInterrupt):
        range_test(model, optimizer, loss, data, steps=15, on_step=interrupt)
    assert (second.state(), optimizer.steps, optimizer.norms, len(optimizer.inner.state)) == before


def test_a_wrapper_trains_by_its_own_step_and_is_restored():
    class Lookahead(torch.optim.Optimizer):
        def __init__(self, optimizer):
            self.optimizer, self.made = optimizer, 0
            self.param_groups, self.state, self.defaults = optimizer.param_groups, optimizer.state, optimizer.defaults

        def step(self, closure=None):
            self.made += 1
            calls.append(self.made)
            return self.optimizer.step(closure)

    model, calls = torch.nn.Linear(4, 1), []
    wrapper = Lookahead(torch.optim.Adam(model.parameters(), lr=0.1))
    scheduler = Scheduler(wrapper, Constant(0.1))
    range_test(
        model, wrapper, torch.nn.functional.mse_loss, [(torch.ones(2, 4), torch.ones(2, 1))], steps=15, repeats=1
    )
    assert len(calls) >= 12 == calls[11]
    assert (wrapper.made, len(wrapper.optimizer.state), scheduler.state_dict()["step"]) == (0, 0, 0)


# What an update changes beside model and optimizer


class Average:
    """An average of the weights in an object of its own, as training scripts have it."""

    def __init__(self, model):
        self.ema, self.updates, self.history = copy.deepcopy(model).eval(), 0, []

    def update(self, model):
        self.updates += 1
        self.history.append(self.updates)
        for mine, other in zip(self.ema.parameters(), model.parameters(), strict=True):
            mine.data.lerp_(other.detach(), 0.1)


class Parts:
    """Everything that training scripts change, in an object that holds no module that a function would show."""

    def __init__(self):
        torch.manual_seed(2)
        self.model = torch.nn.Linear(4, 1)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.average = Average(self.model)
        self.swa = torch.optim.swa_utils.AveragedModel(self.model)
        self.second = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.BatchNorm1d(1))
        self.second_optimizer = torch.optim.Adam(self.second.parameters(), lr=0.1)
        self.plateau = torch.optim.lr_scheduler.StepLR(self.second_optimizer, 2)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2)
        self.generators = [torch.Generator().manual_seed(1), np.random.default_rng(1), random.Random(1)]
        self.memory, self.seen = collections.deque([0], maxlen=3), Seen()
        self.tensor, self.array = torch.zeros(2), np.zeros(2)
        self.made = 0

    def step(self, batch):
        self.made += 1
        self.optimizer.zero_grad()
        noise = 0.01 * torch.rand(4, generator=self.generators[0]).sum()
        output = self.model(batch[0]) + noise + self.generators[1].random() + self.generators[2].random()
        loss = (self.second(output) - batch[1]).square().mean() + output.square().mean()
        self.second_optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.second_optimizer.step()
        self.plateau.step()
        self.average.update(self.model)
        self.swa.update_parameters(self.model)
        self.memory.append(self.made)
        self.seen.batches += 1
        self.tensor += 1
        self.array += 1
        return loss

    def state(self):
        def bits(module):
            gradients = [None if p.grad is None else p.grad.tolist() for p in module.parameters()]
            return [value.tolist() for value in module.state_dict().values()], gradients, module.training

        torch_generator, numpy_generator, generator = self.generators
        return {
            "model": bits(self.model),
            "optimizer": repr(self.optimizer.state_dict()),
            "average": (bits(self.average.ema), self.average.updates, [*self.average.history]),
            "swa": bits(self.swa),
            "second": bits(self.second),
            "second_optimizer": repr(self.second_optimizer.state_dict()),
            "plateau": self.plateau.state_dict(),
            "scaler": self.scaler.state_dict(),
            "generators": (
                torch_generator.get_state().tolist(),
                numpy_generator.bit_generator.state,
                generator.getstate(),
            ),
            "memory": [*self.memory],
            "seen": self.seen.batches,
            "tensor": self.tensor.tolist(),
            "array": self.array.tolist(),
            "made": self.made,
        }


ENDS = {
    "completed": (contextlib.nullcontext(), None),
    "an error": (pytest.raises(ZeroDivisionError), ZeroDivisionError()),
    "Ctrl-C": (pytest.raises(KeyboardInterrupt), KeyboardInterrupt()),
}


@pytest.mark.parametrize("bad", [(), (4,)], ids=["", "with a broken batch"])
@pytest.mark.parametrize(("expected", "error"), ENDS.values(), ids=ENDS)
def test_also_restores_an_object_with_all_that_it_holds(expected, error, bad):
    parts = Parts()
    for batch in with_nan():
        parts.step(batch)
    before = parts.state()
    watch = None if error is None else raising(error, 5)
    with expected:
        range_test(
            parts.model, parts.optimizer, None, with_nan(*bad), step_fn=lambda batch: parts.step(batch), also=[parts],
            steps=STEPS, repeats=1, on_step=watch,
        )  # fmt: skip
    assert parts.state() == before


@pytest.mark.parametrize("name", [name for name in Parts().state() if name not in ("model", "optimizer", "made")])
def test_also_restores_what_is_in_it(name):
    parts = Parts()
    parts.step(with_nan()[0])
    before = parts.state()
    hidden = types.SimpleNamespace(parts=parts)
    arguments = {"step_fn": lambda batch: hidden.parts.step(batch), "steps": STEPS, "repeats": 1}
    range_test(parts.model, parts.optimizer, None, with_nan(), **arguments)
    changed = parts.state()[name]
    assert changed != before[name]
    range_test(parts.model, parts.optimizer, None, with_nan(), **arguments, also=[getattr(parts, name)])
    assert parts.state()[name] == changed


@pytest.mark.parametrize(("expected", "error"), ENDS.values(), ids=ENDS)
def test_an_object_that_holds_a_model_is_restored_without_also(expected, error):
    parts = Parts()
    parts.step(with_nan()[0])
    before, model, average = parts.state(), parts.model, parts.average

    def step(batch):
        loss = parts.step(batch)
        average.update(model)
        return loss

    with expected:
        range_test(model, parts.optimizer, None, with_nan(4), step_fn=step, steps=STEPS, repeats=1,
                   on_step=None if error is None else raising(error, 5))  # fmt: skip
    after = parts.state()
    assert [name for name in before if after[name] != before[name]] == ["tensor", "array"]


def test_what_a_function_uses_is_restored_without_a_word():
    parts = Parts()
    model, second, optimizer, scheduler = parts.model, parts.second, parts.second_optimizer, parts.plateau
    scaler, generators, swa = parts.scaler, parts.generators, parts.swa

    def step(batch):
        noise = torch.rand(4, generator=generators[0]).sum() + generators[1].random() + generators[2].random()
        loss = (second(model(batch[0]) + noise) - batch[1]).square().mean()
        parts.optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(parts.optimizer)
        scaler.update()
        optimizer.step()
        scheduler.step()
        swa.update_parameters(model)
        return loss

    before = parts.state()
    range_test(model, parts.optimizer, None, with_nan(), step_fn=step, steps=STEPS, repeats=1)
    assert parts.state() == before


class Meter:
    """A mean in an object of its own."""

    def __init__(self):
        self.total, self.count, self.values = torch.zeros(1), 0, []

    def update(self, value):
        self.total.add_(value)
        self.count += 1
        self.values.append(value)

    def state(self):
        return self.total.item(), self.count, [*self.values]


class Metered(torch.nn.Module):
    """A loss that keeps state in objects, containers and a generator, and never in a buffer."""

    def __init__(self):
        super().__init__()
        self.meter, self.meters, self.by_name = Meter(), [Meter()], {"a": (Meter(),)}
        self.generator, self.hidden, self.second = torch.Generator().manual_seed(1), None, torch.nn.Linear(1, 1)
        self.second_optimizer = torch.optim.Adam(self.second.parameters(), lr=0.1)

    def forward(self, output, target):
        loss = (output - target).square().mean() + 0.01 * torch.rand((), generator=self.generator)
        for meter in (self.meter, *self.meters, *self.by_name["a"]):
            meter.update(loss.item())
        self.hidden = (loss.detach(), loss.detach())
        self.second(loss.detach().reshape(1, 1)).sum().backward()
        self.second_optimizer.step()
        return loss

    def state(self):
        meters = [meter.state() for meter in (self.meter, *self.meters, *self.by_name["a"])]
        second = self.second.weight.tolist(), repr(self.second_optimizer.state_dict())
        return meters, self.generator.get_state().tolist(), repr(self.hidden), second


def test_objects_that_modules_hold_are_restored():
    loss, model = Metered(), make_model()
    loss(model(X), Y)
    before = loss.state()
    for function in (loss, lambda output, target: loss(output, target)):
        range_test(model, torch.optim.SGD(model.parameters(), 0.1), function, with_nan(3), steps=STEPS, repeats=1)
        assert loss.state() == before


NORMS = {
    "weight norm by hooks": torch.nn.utils.weight_norm,
    "spectral norm by hooks": torch.nn.utils.spectral_norm,
    "weight norm": torch.nn.utils.parametrizations.weight_norm,
    "spectral norm": torch.nn.utils.parametrizations.spectral_norm,
    "pruning": lambda layer: torch.nn.utils.prune.random_unstructured(layer, "weight", 2),
}


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
def test_weights_that_are_computed_from_parameters_are_restored(norm):
    model = torch.nn.Sequential(norm(torch.nn.Linear(4, 3)), torch.nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model(X)
    held = vars(model[0]).get("weight")
    before = [value.tolist() for value in (*model.state_dict().values(), model.eval()[0].weight)]
    range_test(model.train(), optimizer, mse_loss, with_nan(), steps=STEPS, repeats=1)
    assert vars(model[0]).get("weight") is held
    assert [value.tolist() for value in (*model.state_dict().values(), model.eval()[0].weight)] == before


def test_parameters_that_a_step_freezes_are_restored():
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def step(batch):
        optimizer.zero_grad()
        loss = mse_loss(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        model[1].requires_grad_(False)
        model[4].weight.requires_grad_(True)
        return loss

    model[4].weight.requires_grad_(False)
    range_test(model, optimizer, None, with_nan(), step_fn=step, steps=STEPS, repeats=1)
    assert [p.requires_grad for p in model.parameters()] == [True, True, True, True, False, True]


@pytest.mark.parametrize("also", [False, True])
def test_a_second_loader_goes_on_where_it_was(also):
    model, generator = make_model(), torch.Generator().manual_seed(3)
    second = DataLoader(TensorDataset(X, Y), 4, shuffle=True, generator=generator)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    held = Meter()
    held.loader = second

    def step(batch):
        optimizer.zero_grad()
        loss = mse_loss(model(batch[0]), next(iter(held.loader if also else second))[1])
        loss.backward()
        optimizer.step()
        return loss

    before = generator.get_state().tolist()
    also = {"also": [held]} if also else {}
    range_test(model, optimizer, None, with_nan(), step_fn=step, steps=STEPS, repeats=1, **also)
    assert generator.get_state().tolist() == before


def test_what_an_evaluation_uses_is_restored():
    model, generator = make_model(), torch.Generator().manual_seed(3)
    validation = DataLoader(TensorDataset(X, Y), 4, shuffle=True, generator=generator)
    meter = Metered()

    def evaluate(model):
        with torch.enable_grad():
            return sum(meter(model(x), y).item() for x, y in validation)

    before = meter.state(), generator.get_state().tolist()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    range_test(model, optimizer, mse_loss, with_nan(), evaluate=evaluate, steps=STEPS, repeats=1)
    assert (meter.state(), generator.get_state().tolist()) == before


class Loop:
    """A training loop in an object, with an update as a method."""

    def __init__(self):
        self.model = make_model()
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.1)
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, 0.1, total_steps=5)
        self.updates, self.best, self.losses, self.by_name = 0, None, [1.0], {"seen": [0]}

    def __call__(self, batch):
        self.optimizer.zero_grad()
        loss = mse_loss(self.model(batch[0]), batch[1])
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        self.updates += 1
        self.best = loss.item()
        self.losses.append(self.best)
        self.by_name["seen"].append(self.updates)
        return loss

    step = __call__

    def state(self):
        return self.updates, self.best, [*self.losses], [*self.by_name["seen"]], repr(self.scheduler.state_dict())


@pytest.mark.parametrize("called", [False, True], ids=["a method", "an object that can be called"])
def test_the_object_of_a_step_is_restored(called):
    loop = Loop()
    loop(with_nan()[0])
    before = loop.state()
    step = loop if called else loop.step
    result = range_test(loop.model, loop.optimizer, None, with_nan(2), step_fn=step, steps=STEPS, repeats=1)
    assert (loop.state(), len(result.lr)) == (before, STEPS)
