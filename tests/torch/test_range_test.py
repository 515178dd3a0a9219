"""`range_test` of torch: what it records is what was used and what came of it."""

import collections
import contextlib
import copy
import itertools
import math
import multiprocessing
import random
import tempfile
import types

import numpy as np
import pytest
import torch
from tests.torch.optimizers import TwoSteps
from torch.nn.functional import mse_loss
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, IterableDataset, RandomSampler, TensorDataset

from cyclr import Constant, RangeTestError
from cyclr.torch import CyclicLR, Scheduler, range_test

RNG = np.random.default_rng(7)
X = RNG.normal(size=(48, 3))
Y = X @ np.array([[1.0], [-2.0], [0.5]]) + 0.3 * RNG.normal(size=(48, 1))
WEIGHTS, BIAS = np.array([0.5, 0.25, -0.5]), 0.125
# One sweep: what is tested here is not whether it is repeated.
SWEEP = {"min_lr": 1e-3, "max_lr": 0.05, "steps": 20, "stop_factor": None, "repeats": 1}


def batches(size=8, rows=48):
    return [(torch.tensor(X[i : i + size]), torch.tensor(Y[i : i + size])) for i in range(0, rows, size)]


def linear():
    model = torch.nn.Linear(3, 1).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor(WEIGHTS))
        model.bias.fill_(BIAS)
    return model


def two_groups(model, ratio):
    return [{"params": [model.weight], "lr": 0.01}, {"params": [model.bias], "lr": 0.01 * ratio}]


def sgd_rule(gradient, slots, lr, step, momentum=0.0):
    slots[0] = momentum * slots[0] + gradient
    return lr * slots[0]


def adam_rule(gradient, slots, lr, step):
    slots[0] = 0.9 * slots[0] + 0.1 * gradient
    slots[1] = 0.999 * slots[1] + 0.001 * gradient**2
    first, second = slots[0] / (1 - 0.9**step), slots[1] / (1 - 0.999**step)
    return lr * first / (np.sqrt(second) + 1e-8)


def rmsprop_rule(gradient, slots, lr, step):
    slots[0] = 0.99 * slots[0] + 0.01 * gradient**2
    return lr * gradient / (np.sqrt(slots[0]) + 1e-8)


def losses_by_hand(rates, rule=sgd_rule, size=8, rows=48, accumulate=1, ratio=1.0):
    """Linear regression in NumPy."""
    w = np.append(WEIGHTS, BIAS)
    design = np.c_[X, np.ones(len(X))]
    data = itertools.cycle([(design[i : i + size], Y[i : i + size, 0]) for i in range(0, rows, size)])
    slots, losses = [0.0, 0.0], []
    for step, rate in enumerate(rates, 1):
        parts = [next(data) for _ in range(accumulate)]
        errors = [x @ w - y for x, y in parts]
        losses.append(np.mean([np.mean(error**2) for error in errors]))
        gradient = np.mean([2 * x.T @ e / len(e) for (x, _), e in zip(parts, errors, strict=True)], axis=0)
        w = w - rule(gradient, slots, rate * np.array([1, 1, 1, ratio]), step)
    return losses


RULES = {
    "SGD": (lambda p: torch.optim.SGD(p, lr=0.01), sgd_rule),
    "SGD, foreach": (lambda p: torch.optim.SGD(p, lr=0.01, foreach=True), sgd_rule),
    "SGD, a tensor": (lambda p: torch.optim.SGD(p, lr=torch.tensor(0.01, dtype=torch.float64)), sgd_rule),
    "momentum": (lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9), lambda *a: sgd_rule(*a, momentum=0.9)),
    "Adam": (lambda p: torch.optim.Adam(p, lr=0.01), adam_rule),
    "Adam, fused": (lambda p: torch.optim.Adam(p, lr=0.01, fused=True), adam_rule),
    "RMSprop": (lambda p: torch.optim.RMSprop(p, lr=0.01), rmsprop_rule),
}


@pytest.mark.parametrize("spacing", ["exponential", "linear"])
@pytest.mark.parametrize(("make", "rule"), RULES.values(), ids=RULES)
def test_recorded_losses_belong_to_the_recorded_rates(make, rule, spacing):
    model = linear()
    result = range_test(model, make(model.parameters()), mse_loss, batches(), **SWEEP, spacing=spacing)
    assert (result.stop_reason, len(result.lr), result.steps) == ("completed", 20, 20)
    space = np.geomspace if spacing == "exponential" else np.linspace
    np.testing.assert_allclose(result.lr, space(1e-3, 0.05, 20), rtol=1e-12)
    np.testing.assert_allclose(result.loss, losses_by_hand(result.lr, rule), rtol=1e-9)


@pytest.mark.parametrize("ratio", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("scheduled", [False, True], ids=["plain", "with a Scheduler"])
def test_groups_keep_their_ratios(ratio, scheduled):
    model = linear()
    optimizer = torch.optim.SGD(two_groups(model, ratio))
    held = Scheduler(optimizer, [Constant(0.3), Constant(0.7)]) if scheduled else None
    seen = []

    def watch(test):
        seen.append([group["lr"] for group in optimizer.param_groups])

    result = range_test(model, optimizer, mse_loss, batches(), **SWEEP, on_step=watch)
    np.testing.assert_allclose(seen, [[lr, lr * ratio] for lr in result.lr], rtol=1e-12)
    np.testing.assert_allclose(result.loss, losses_by_hand(result.lr, ratio=ratio), rtol=1e-9)
    assert held is None or held.get_last_lr() == [0.3, 0.7]


def test_the_smaller_last_batch_is_recorded_without_correction():
    model = linear()
    result = range_test(model, torch.optim.SGD(model.parameters(), 0.1), mse_loss, batches(20), **SWEEP)
    np.testing.assert_allclose(result.loss, losses_by_hand(result.lr, size=20), rtol=1e-9)


@pytest.mark.parametrize("accumulate", [2, 3, 4])
def test_accumulation_makes_one_point_of_every_update(accumulate):
    """https://github.com/Lightning-AI/pytorch-lightning/issues/1726"""
    model, seen = linear(), []
    result = range_test(
        model,
        torch.optim.SGD(model.parameters(), 0.1),
        mse_loss,
        batches(),
        **SWEEP,
        accumulate=accumulate,
        on_step=lambda test: seen.append(test.recorded),
    )
    assert seen == list(range(1, 21))
    np.testing.assert_allclose(result.loss, losses_by_hand(result.lr, accumulate=accumulate), rtol=1e-9)


class Scaled(torch.nn.Module):
    """A linear model in half precision, whose gradients overflow while the loss is scaled by more than 2^10."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        # The gradient passes through half precision here, as it does in layers under autocast.
        return (64 * self.weight * x.float()).half().float()


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_updates_that_loss_scaling_skips_make_no_point(fused, accumulate):
    """https://github.com/davidtvs/pytorch-lr-finder/issues/90"""
    model = Scaled()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20)
    data = [(torch.ones(1), torch.zeros(1))] * 50
    seen = []

    def watch(test):
        seen.append((model.weight.item(), scaler.get_scale()))

    result = range_test(
        model, optimizer, lambda out, y: out.sum(), data, **SWEEP, scaler=scaler, accumulate=accumulate, on_step=watch
    )
    assert (result.stop_reason, len(result.lr)) == ("completed", 20)
    moved = -np.diff([0.0, *(weight for weight, _ in seen)])
    np.testing.assert_allclose(moved / 64, result.lr, rtol=2e-4)
    assert 1 < seen[0][1] < 2.0**20
    assert scaler.get_scale() == 2.0**20
    assert model.weight.item() == 0


def test_gradients_that_are_never_finite_stop_the_test():
    model = linear()
    scaler = torch.amp.GradScaler("cpu")
    seen = []

    def finite_loss(out, y):
        value = mse_loss(out, y)
        if len(seen) == 5:
            out.register_hook(lambda gradient: gradient * float("nan"))
        return value

    result = range_test(
        model,
        torch.optim.SGD(model.parameters(), 0.1),
        finite_loss,
        batches(),
        **SWEEP,
        scaler=scaler,
        on_step=seen.append,
    )
    assert (result.stop_reason, len(result.lr)) == ("non_finite", 5)


def test_data_that_ends_while_updates_are_skipped_is_an_error():
    model = Scaled()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20)
    data = iter([(torch.ones(1), torch.zeros(1))] * 3)
    with pytest.raises(RangeTestError, match=r"needs at least one finite loss; got none \(the data ended\)"):
        range_test(
            model,
            torch.optim.SGD(model.parameters(), 0.1),
            lambda out, y: out.sum(),
            data,
            **SWEEP,
            scaler=scaler,
        )


def test_autocast():
    model = torch.nn.Linear(3, 1)
    kinds = set()

    def loss(out, y):
        kinds.add(out.dtype)
        return mse_loss(out.float(), y.float())

    data = [(x.float(), y) for x, y in batches()]
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for scaler in (None, torch.amp.GradScaler("cpu", enabled=False)):
        result = range_test(model, optimizer, loss, data, **SWEEP, autocast=torch.bfloat16, scaler=scaler)
        assert (result.stop_reason, len(result.lr)) == ("completed", 20)
    assert kinds == {torch.bfloat16}
    exact = range_test(model, optimizer, loss, data, **SWEEP)
    np.testing.assert_allclose(result.loss, exact.loss, rtol=0.05)
    assert not np.array_equal(result.loss, exact.loss)


# Batches and loaders


class Output(torch.nn.Module):
    """A model in the manner of Transformers: it takes a batch by its names, and returns an object with a loss."""

    def __init__(self):
        super().__init__()
        self.linear = linear()

    def forward(self, inputs, labels):
        return types.SimpleNamespace(loss=mse_loss(self.linear(inputs), labels))


@pytest.mark.parametrize("mapping", [dict, collections.UserDict, collections.OrderedDict])
def test_batches_that_are_dicts(mapping):
    model = Output()
    data = [mapping(inputs=x, labels=y) for x, y in batches()]
    result = range_test(model, torch.optim.SGD(model.parameters(), 0.1), None, data, **SWEEP)
    np.testing.assert_allclose(result.loss, losses_by_hand(result.lr), rtol=1e-9)


Pair = collections.namedtuple("Pair", "left right")


@pytest.mark.parametrize("kind", [Pair, tuple, list, dict])
def test_inputs_of_any_structure_reach_the_model_as_they_are(kind):
    model = linear()

    class Outer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, inputs):
            assert type(inputs) is kind
            left, right = inputs.values() if kind is dict else inputs
            return self.inner(torch.cat([left, right], dim=1))

    def structured(x):
        parts = x[:, :1], x[:, 1:]
        return Pair(*parts) if kind is Pair else {"l": parts[0], "r": parts[1]} if kind is dict else kind(parts)

    data = [(structured(x), y) for x, y in batches()]
    result = range_test(Outer(), torch.optim.SGD(model.parameters(), 0.1), mse_loss, data, **SWEEP)
    np.testing.assert_allclose(result.loss, losses_by_hand(result.lr), rtol=1e-9)


@pytest.mark.parametrize("batch", [torch.ones(2, 3), {"inputs": 1}, (1, 2, 3)], ids=["a tensor", "a dict", "three"])
def test_a_batch_that_is_no_pair_is_an_error_that_names_step_fn(batch):
    model = linear()
    with pytest.raises(
        TypeError, match=r"^a batch must be .* got (Tensor|dict|list|tuple of 3)\. Pass loss_of=.*step_fn="
    ):
        range_test(model, torch.optim.SGD(model.parameters(), 0.1), mse_loss, [batch], **SWEEP)


class Rows(IterableDataset):
    def __init__(self, count=48):
        super().__init__()
        self.count = count

    def __iter__(self):
        return iter([(X[i], Y[i]) for i in range(self.count)])


TENSORS = TensorDataset(torch.tensor(X), torch.tensor(Y))
# Not forked, which is no safe thing to do where another test has loaded JAX or TensorFlow; they warn of it.
WORKERS = multiprocessing.get_context("forkserver")
WORKERS.set_forkserver_preload(["torch"])


def with_workers():
    return DataLoader(TENSORS, batch_size=8, num_workers=1, multiprocessing_context=WORKERS)


LOADERS = {
    "list": (batches, "completed"),
    "tuple": (lambda: tuple(batches()), "completed"),
    "DataLoader": (lambda: DataLoader(TENSORS, batch_size=8), "completed"),
    "workers": (with_workers, "completed"),
    "IterableDataset": (lambda: DataLoader(Rows(), batch_size=8), "completed"),
    "endless iterator": (lambda: itertools.cycle(batches()), "completed"),
    "generator": (lambda: (batch for batch in batches()), "data_exhausted"),
    "iterator": (lambda: iter(DataLoader(TENSORS, batch_size=8)), "data_exhausted"),
}


@pytest.mark.parametrize(("make", "reason"), LOADERS.values(), ids=LOADERS)
def test_a_loader_is_read_again_if_possible(make, reason):
    """https://github.com/pytorch/ignite/issues/2200"""
    model = linear()
    ended = pytest.warns(UserWarning, match=r"^loader ended after 6 of 20 updates\. An iterator ends after one pass")
    with ended if reason == "data_exhausted" else contextlib.nullcontext():
        result = range_test(model, torch.optim.SGD(model.parameters(), 0.1), mse_loss, make(), **SWEEP)
    assert (result.stop_reason, len(result.lr)) == (reason, 20 if reason == "completed" else 6)
    np.testing.assert_allclose(result.loss, losses_by_hand(result.lr), rtol=1e-9)


@pytest.mark.parametrize("count", [1, 2])
def test_an_epoch_of_few_batches_is_repeated(count):
    model = linear()
    result = range_test(
        model, torch.optim.SGD(model.parameters(), 0.1), mse_loss, batches(8, 8 * count), **SWEEP, accumulate=3
    )
    assert (result.stop_reason, len(result.lr)) == ("completed", 20)
    np.testing.assert_allclose(result.loss, losses_by_hand(result.lr, rows=8 * count, accumulate=3), rtol=1e-9)


def test_an_iterator_is_read_only_as_far_as_needed():
    model, data = linear(), iter(range(100))
    pairs = batches()
    stream = ((number, pairs[number % 6]) for number in data)
    range_test(
        model,
        torch.optim.SGD(model.parameters(), 0.1),
        mse_loss,
        (pair for _, pair in stream),
        **SWEEP,
    )
    assert next(data) == 20


@pytest.mark.parametrize("data", [[], iter([]), DataLoader(Rows(0))], ids=["list", "iterator", "IterableDataset"])
def test_no_data_is_an_error(data):
    model = linear()
    fix = r" An iterator ends after one pass: .*" if hasattr(data, "__next__") else ""
    with pytest.raises(
        RangeTestError, match=rf"^data must hold at least one batch; got data that ended at once\.{fix}$"
    ):
        range_test(model, torch.optim.SGD(model.parameters(), 0.1), mse_loss, data, **SWEEP)


class Stateful:
    """A loader that goes on where it was, as torchdata's does."""

    def __init__(self):
        self.at = 0

    def __iter__(self):
        while self.at < 6:
            self.at += 1
            yield batches()[self.at - 1]
        self.at = 0

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


def test_a_loader_with_a_state_is_restored():
    loader = Stateful()
    for _ in zip(range(3), loader, strict=False):
        pass
    at = loader.at
    model = linear()
    for steps in (2, 20):
        range_test(model, torch.optim.SGD(model.parameters(), 0.1), mse_loss, loader, **{**SWEEP, "steps": steps})
        assert loader.at == at


class Broken(Stateful):
    def state_dict(self):
        return {"at": self.position}


def test_an_error_in_the_state_of_the_loader_is_not_hidden():
    model = linear()
    with pytest.raises(AttributeError, match="position"):
        range_test(model, torch.optim.SGD(model.parameters(), 0.1), mse_loss, Broken(), **SWEEP)


# The loss of model and batch


class Nested(torch.nn.Module):
    """A model of two inputs that returns outputs and loss, if it gets targets."""

    def __init__(self):
        super().__init__()
        self.linear = linear()

    def forward(self, left, right, targets=None):
        output = self.linear(torch.cat([left, right], dim=1))
        return output, None if targets is None else mse_loss(output, targets)


def structured(structure):
    return [structure(x[:, :1], x[:, 1:], y) for x, y in batches()]


LOSSES = {
    "outputs and loss": (lambda *parts: parts, lambda model, batch: model(*batch)[1]),
    "a tuple as output": (
        lambda left, right, y: ([left, right], y),
        lambda model, batch: mse_loss(model(*batch[0])[0], batch[1]),
    ),
    "named inputs": (
        lambda left, right, y: ({"left": left, "right": right}, y),
        lambda model, batch: mse_loss(model(**batch[0])[0], batch[1]),
    ),
    "a dict with a loss_of": (
        lambda left, right, y: {"left": left, "right": right, "targets": y},
        lambda model, batch: model(**batch)[1].reshape(1),
    ),
}


@pytest.mark.parametrize(("structure", "loss_of"), LOSSES.values(), ids=LOSSES)
def test_loss_of_takes_any_model_and_batch(structure, loss_of):
    model = Nested()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    result = range_test(model, optimizer, None, structured(structure), loss_of=loss_of, **SWEEP)
    np.testing.assert_allclose(result.loss, losses_by_hand(result.lr), rtol=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"accumulate": 3},
        {"accumulate": 2, "clip_norm": 0.1},
        {"scaler": torch.amp.GradScaler("cpu", init_scale=2.0**20)},
        {"autocast": torch.bfloat16},
        {"updates_per_rate": 2, "evaluate": lambda model: model.weight.sum()},
        {"loader": lambda: nan_at(2)},
    ],
    ids=lambda options: " ".join(options) or "plain",
)
def test_loss_of_is_the_same_test_as_loss_fn(options):
    results = []
    for loss in ({"loss_fn": mse_loss}, {"loss_fn": None, "loss_of": lambda m, batch: mse_loss(m(batch[0]), batch[1])}):
        model = linear()
        arguments = {"loader": batches(), **SWEEP, **options, **loss}
        if callable(arguments["loader"]):
            arguments["loader"] = arguments["loader"]()
        results.append(range_test(model, torch.optim.SGD(model.parameters(), 0.1), **arguments))
    assert results[0] == results[1]


@pytest.mark.parametrize("value", [1.0, torch.tensor(1.0), None, (torch.tensor(1.0), 2), torch.ones(2)], ids=str)
@pytest.mark.parametrize("name", ["loss_fn", "loss_of"])
def test_a_loss_that_nothing_can_be_learned_from_is_an_error(name, value):
    model = linear()
    losses = {"loss_fn": None, name: lambda *arguments: value}
    with pytest.raises(TypeError, match=r"^loss(_of\(model, batch\))? must be a (tensor that depends|number)"):
        range_test(model, torch.optim.SGD(model.parameters(), 0.1), loader=batches(), **losses, **SWEEP)


SEVERAL = {
    "a list": (
        structured(lambda left, right, y: ([left, right], y)),
        "inputs of type list, targets of type Tensor, which",
    ),
    "a dict": (structured(lambda left, right, y: ({"l": left}, y)), "inputs of type dict"),
    "a tuple as output": (
        structured(lambda left, right, y: (left, y)),
        r"inputs of type Tensor, targets of type Tensor, output of type tuple, which raise: .*tuple",
    ),
}


@pytest.mark.parametrize(("data", "received"), SEVERAL.values(), ids=SEVERAL)
def test_batches_that_need_another_call_are_an_error_that_names_loss_of(data, received):
    class Model(Nested):
        def forward(self, left, right=None, *, needed=None):
            if isinstance(left, list | dict):
                raise TypeError("forward() missing 1 argument")
            return self.linear(left.expand(-1, 3)), 0

    model = Model()
    with pytest.raises(
        TypeError, match=rf"^loss_fn\(model\(inputs\), targets\) must accept .* got {received}.*loss_of=.*step_fn"
    ):
        range_test(model, torch.optim.SGD(model.parameters(), 0.1), mse_loss, data, **SWEEP)


def test_an_error_in_the_loss_function_is_not_changed():
    model = linear()
    with pytest.raises(TypeError, match=r"^unsupported operand"):
        range_test(model, torch.optim.SGD(model.parameters(), 0.1), lambda output, y: "a" - 3, batches(), **SWEEP)


# Clipping


def clipped_step(model, optimizer, clip, scaler=None, micro_batches=1):
    """Return a step_fn as a training loop has it."""
    scaler = scaler or torch.amp.GradScaler("cpu", enabled=False)

    def step(parts):
        optimizer.zero_grad()
        losses = []
        for x, y in parts:
            losses.append(mse_loss(model(x), y))
            scaler.scale(losses[-1] / micro_batches).backward()
        scaler.unscale_(optimizer)
        clip(model.parameters())
        scaler.step(optimizer)
        scaler.update()
        return sum(loss.item() for loss in losses) / len(losses)

    return step


CLIPS = {
    "norm": ({"clip_norm": 0.3}, lambda p: torch.nn.utils.clip_grad_norm_(p, 0.3)),
    "value": ({"clip_value": 0.2}, lambda p: torch.nn.utils.clip_grad_value_(p, 0.2)),
}


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("micro_batches", [1, 2])
@pytest.mark.parametrize(("options", "clip"), CLIPS.values(), ids=CLIPS)
def test_gradients_are_clipped_as_a_loop_clips_them(options, clip, micro_batches, scaled):
    results = []
    for by_hand in (True, False):
        model, scaler = linear(), torch.amp.GradScaler("cpu", init_scale=2.0**9) if scaled else None
        optimizer = torch.optim.SGD([{"params": [model.weight]}, {"params": [model.bias], "lr": 0.02}], 0.01)
        data = batches()
        if by_hand:
            pairs = list(zip(*[iter(data)] * micro_batches, strict=True))
            step = clipped_step(model, optimizer, clip, scaler, micro_batches)
            results.append(range_test(model, optimizer, None, pairs, step_fn=step, **SWEEP))
        else:
            options = {**options, "accumulate": micro_batches, "scaler": scaler}
            results.append(range_test(model, optimizer, mse_loss, data, **options, **SWEEP))
    np.testing.assert_allclose(results[0].loss, results[1].loss, rtol=1e-12)
    assert abs(results[0].loss - losses_by_hand(results[0].lr, accumulate=micro_batches)).max() > 0.01


# Loops of one's own


def test_a_step_of_ones_own():
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def step(batch):
        optimizer.zero_grad()
        loss = mse_loss(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return loss

    for returned in (step, lambda batch: step(batch).item(), lambda batch: step(batch).detach().numpy()):
        result = range_test(model, optimizer, None, batches(), **SWEEP, step_fn=returned)
        np.testing.assert_allclose(result.loss, losses_by_hand(result.lr), rtol=1e-9)


def test_a_step_with_a_closure():
    model = linear()
    optimizer = TwoSteps(model.parameters(), 0.1)

    def step(batch):
        def closure():
            optimizer.zero_grad()
            loss = mse_loss(model(batch[0]), batch[1])
            loss.backward()
            return loss

        return optimizer.step(closure)

    first = range_test(model, optimizer, None, batches(), **SWEEP, step_fn=step)
    assert len(first.lr) == 20
    assert range_test(model, optimizer, None, batches(), **SWEEP, step_fn=step) == first


def test_an_optimizer_that_needs_a_closure_is_an_error_that_names_step_fn():
    model = linear()
    optimizer = TwoSteps(model.parameters(), 0.1)
    for _ in range(2):
        with pytest.raises(TypeError, match=r"needs step_fn; got TwoSteps\. Pass step_fn=\.\.\., a function"):
            range_test(model, optimizer, mse_loss, batches(), **SWEEP)
        # Schedulers wrap its step.
        torch.optim.lr_scheduler.StepLR(optimizer, 1)


@pytest.mark.parametrize("repeats", [1, 3])
def test_a_model_in_evaluation_mode_gives_one_warning(repeats):
    model = linear().eval()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.warns(UserWarning, match=r"^model is in evaluation mode, .* Call model\.train\(\) first\.$") as told:
        range_test(model, optimizer, mse_loss, batches(), **{**SWEEP, "repeats": repeats})
    assert [warning.filename for warning in told] == [__file__]
    assert not model.training


def test_a_step_of_ones_own_may_set_the_mode():
    model = linear().eval()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def step(batch):
        model.train()
        optimizer.zero_grad()
        loss = mse_loss(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return loss

    range_test(model, optimizer, None, batches(), **SWEEP, step_fn=step)
    assert not model.training


def test_one_of_two_optimizers_is_swept_and_both_are_restored():
    """https://github.com/davidtvs/pytorch-lr-finder/issues/16, https://github.com/mosaicml/composer/issues/2361"""
    torch.manual_seed(0)
    generator, discriminator = torch.nn.Linear(3, 2), torch.nn.Linear(2, 1)
    g_optimizer = torch.optim.Adam(generator.parameters(), 0.01)
    d_optimizer = torch.optim.SGD(discriminator.parameters(), 0.02, momentum=0.5)
    scheduler = Scheduler(d_optimizer, Constant(0.02))
    rates = []

    def step(batch):
        noise, real = batch[0].float(), batch[1].float().expand(-1, 2)
        d_optimizer.zero_grad()
        d_loss = discriminator(real).sub(1).square().mean() + discriminator(generator(noise).detach()).square().mean()
        d_loss.backward()
        d_optimizer.step()
        g_optimizer.zero_grad()
        g_loss = discriminator(generator(noise)).sub(1).square().mean()
        g_loss.backward()
        g_optimizer.step()
        scheduler.step()
        rates.append([optimizer.param_groups[0]["lr"] for optimizer in (g_optimizer, d_optimizer)])
        return g_loss

    step(batches()[0])
    parts = [*generator.parameters(), *discriminator.parameters()]
    before = [part.detach().clone() for part in parts]
    rates.clear()
    arguments = {"step_fn": step, "optimizers": [d_optimizer], **SWEEP}
    result = range_test(torch.nn.ModuleList([generator, discriminator]), g_optimizer, None, batches(), **arguments)
    swept, constant = np.transpose(rates)
    np.testing.assert_allclose(swept, result.lr, rtol=1e-12)
    assert set(constant) == {0.02}
    # The other optimizer's model need not be part of the one that is named, and step_fn shows the optimizer.
    for options in (arguments, {"step_fn": step, **SWEEP}):
        assert range_test(generator, g_optimizer, None, batches(), **options) == result
    assert all(map(torch.equal, before, parts))
    assert scheduler.last_epoch == 1


def by_own_lr(model, optimizer):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.sub_(optimizer.param_groups[0]["lr"] * parameter.grad)


def at_another_rate(model, optimizer):
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    optimizer.step()


def by_another_optimizer(model, optimizer):
    torch.optim.SGD(model.parameters(), 0.01).step()


def by_hand(model, optimizer):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.sub_(0.01 * parameter.grad)


def without_hooks(model, optimizer):
    """As a captured graph does, which is replayed."""
    type(optimizer).step.__wrapped__(optimizer)


UPDATES = {
    "another optimizer": (by_another_optimizer, True),
    "the optimizer at another rate": (at_another_rate, True),
    "by hand": (by_hand, True),
    "none": (lambda model, optimizer: None, True),
    "by hand at the rate of the test": (by_own_lr, False),
    "without hooks": (without_hooks, False),
    "the optimizer": (lambda model, optimizer: optimizer.step(), False),
}


@pytest.mark.parametrize("options", [{}, {"group": 0}, {"max_lr": [0.05, 0.1]}], ids=["all", "one group", "ranges"])
@pytest.mark.parametrize(("change", "refused"), UPDATES.values(), ids=UPDATES)
def test_a_step_that_ignores_the_rate_gets_no_bounds(change, refused, options):
    model = linear()
    optimizer = torch.optim.SGD(two_groups(model, 0.0), momentum=0.9)

    def step(batch):
        optimizer.zero_grad(set_to_none=False)
        loss = mse_loss(model(batch[0]), batch[1])
        loss.backward()
        change(model, optimizer)
        return loss

    model.weight.grad = torch.ones_like(model.weight)
    before = copy.deepcopy(model.state_dict())
    with (
        contextlib.nullcontext()
        if not refused
        else pytest.raises(
            RangeTestError,
            match=r"^training must use the learning rate of the test; .* the same amount at 0\.001 .* of the SGD that",
        )
    ):
        range_test(model, optimizer, None, batches(), step_fn=step, **{**SWEEP, **options})
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.weight.grad.tolist() == [[1.0, 1.0, 1.0]]


def test_an_optimizer_of_another_model_gets_no_bounds():
    model, other = linear(), linear()
    swept, used = torch.optim.SGD(other.parameters(), 0.1), torch.optim.SGD(model.parameters(), 0.1)

    def step(batch):
        loss = mse_loss(model(batch[0]), batch[1])
        loss.backward()
        for optimizer in (swept, used):
            optimizer.step()
            optimizer.zero_grad()
        return loss

    with pytest.raises(RangeTestError, match=r"^training must use the learning rate of the test"):
        range_test(model, swept, None, batches(), step_fn=step, **SWEEP)


SCHEDULERS = {
    "StepLR": lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 2),
    "OneCycleLR": lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=10),
    "ReduceLROnPlateau": lambda optimizer: torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0),
    "Scheduler": lambda optimizer: Scheduler(optimizer, Constant(0.1), counts="calls"),
}


@pytest.mark.parametrize("before", [False, True], ids=["after the update", "before the update"])
@pytest.mark.parametrize("make", SCHEDULERS.values(), ids=SCHEDULERS)
def test_schedulers_that_a_step_calls_do_nothing_in_the_test(make, before):
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    scheduler = make(optimizer)

    def step(batch):
        optimizer.zero_grad()
        loss = mse_loss(model(batch[0]), batch[1])
        loss.backward()
        for part in (scheduler, optimizer) if before else (optimizer, scheduler):
            part.step(*[loss.detach()] * (make is SCHEDULERS["ReduceLROnPlateau"] and part is scheduler))
        return loss

    held, momentum = repr(scheduler.state_dict()), optimizer.param_groups[0]["momentum"]
    result = range_test(model, optimizer, None, batches(), step_fn=step, **SWEEP)
    np.testing.assert_allclose(
        result.loss, losses_by_hand(result.lr, lambda *a: sgd_rule(*a, momentum=momentum)), rtol=1e-9
    )
    assert repr(scheduler.state_dict()) == held
    assert "step" not in vars(scheduler)


def test_a_step_that_does_not_update_with_every_batch_keeps_its_bounds():
    model, calls = linear(), []
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def step(batch):
        calls.append(0)
        loss = mse_loss(model(batch[0]), batch[1])
        loss.backward()
        if len(calls) % 5 == 0:
            optimizer.step()
            optimizer.zero_grad()
        return loss

    assert len(range_test(model, optimizer, None, batches(), step_fn=step, **SWEEP).lr) == 20
    assert len(calls) == 20


# How it ends


def nan_at(*indices):
    data = 5 * batches()
    for index in indices:
        data[index] = (data[index][0], data[index][1] * float("nan"))
    return data


def stop_at_3(test):
    if test.recorded == 3:
        test.stop("interrupted")


STOPS = {
    "completed": (batches, {}, "completed", 20),
    "diverged": (batches, {"max_lr": 1e3, "stop_factor": 4.0, "smoothing": 0.0}, "diverged", None),
    "overflow": (batches, {"max_lr": 1e60, "steps": 60}, "non_finite", None),
    "NaN in batch 1": (lambda: nan_at(1), {}, "completed", 20),
    "NaN in batches 4 and 5": (lambda: nan_at(4, 5), {}, "completed", 20),
    "NaN from batch 1 on": (lambda: nan_at(*range(1, 12)), {}, "non_finite", 1),
    "NaN from batch 4 on": (lambda: nan_at(*range(4, 15)), {}, "non_finite", 4),
    "NaN, with a scaler": (
        lambda: nan_at(*range(4, 15)),
        {"scaler": torch.amp.GradScaler("cpu", 1.0)},
        "non_finite",
        4,
    ),
    "NaN, with accumulation": (lambda: nan_at(*range(3, 30)), {"accumulate": 2}, "non_finite", 1),
    "NaN after the last step": (lambda: nan_at(5), {"steps": 5}, "completed", 5),
    "generator": (lambda: iter(batches()), {}, "data_exhausted", 6),
    "generator that ends with the test": (lambda: iter(batches()), {"steps": 6}, "completed", 6),
    "generator, with accumulation": (lambda: iter(batches()), {"accumulate": 4}, "data_exhausted", 2),
    "stopped by on_step": (batches, {"on_step": stop_at_3}, "interrupted", 3),
}


@pytest.mark.filterwarnings("ignore:loader ended after:UserWarning")
@pytest.mark.parametrize(("data", "changes", "reason", "points"), STOPS.values(), ids=STOPS)
def test_the_stop_reason_and_the_number_of_points_agree(data, changes, reason, points):
    """https://github.com/Lightning-AI/pytorch-lightning/issues/5044"""
    model = linear()
    sweep = {**SWEEP, **changes}
    result = range_test(model, torch.optim.SGD(model.parameters(), 0.1), mse_loss, data(), **sweep)
    assert result.stop_reason == reason
    assert np.isfinite(result.loss).all()
    assert len(result.lr) == points or (points is None and 1 <= len(result.lr) < sweep["steps"])
    np.testing.assert_allclose(result.lr, np.geomspace(1e-3, sweep["max_lr"], sweep["steps"])[: len(result.lr)])


def test_nan_at_once_is_an_error():
    model = linear()
    with pytest.raises(RangeTestError, match=r"at least one finite loss; got none \(the loss became infinite or NaN\)"):
        range_test(model, torch.optim.SGD(model.parameters(), 0.1), mse_loss, nan_at(*range(11)), **SWEEP)


LEAVES_OUT = {
    "plain": lambda model, optimizer: {},
    "momentum and a scaler": lambda model, optimizer: {"scaler": torch.amp.GradScaler("cpu", 1.0)},
    "several updates at a rate": lambda model, optimizer: {"updates_per_rate": 2},
    "files": lambda model, optimizer: {"snapshot_dir": tempfile.gettempdir()},
    "without a seed": lambda model, optimizer: {"seed": None},
    "a step of its own": lambda model, optimizer: {
        "loss_fn": None,
        "step_fn": lambda batch: updated(model, optimizer, batch),
    },
    "an iterator": lambda model, optimizer: {"loader": "iterator"},
}


def updated(model, optimizer, batch):
    optimizer.zero_grad()
    loss = mse_loss(model(batch[0]), batch[1])
    loss.backward()
    optimizer.step()
    return loss


@pytest.mark.parametrize("bad", [{0}, {5}, {3, 17, 30}, {0, 2, 4, 6, 8}], ids=str)
@pytest.mark.parametrize("name", LEAVES_OUT)
def test_a_broken_batch_is_left_out_bit_for_bit(name, bad):
    """https://github.com/Lightning-AI/pytorch-lightning/issues/1850, https://github.com/fastai/fastai/issues/3476"""
    rng = np.random.default_rng(1)
    data = [(torch.tensor(rng.normal(size=(8, 3))), torch.tensor(rng.normal(size=(8, 1)))) for _ in range(60)]
    broken = [(x * float("nan"), y) if number in bad else (x, y) for number, (x, y) in enumerate(data)]
    results, after = [], []
    for batch_list in (broken, [batch for number, batch in enumerate(data) if number not in bad]):
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1)).double()
        torch.manual_seed(0)
        for parameter in model.parameters():
            torch.nn.init.uniform_(parameter)
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        before = copy.deepcopy(model.state_dict())
        arguments = {"loss_fn": mse_loss, "loader": batch_list, **LEAVES_OUT[name](model, optimizer)}
        if arguments["loader"] == "iterator":
            arguments["loader"] = iter(batch_list)
        results.append(range_test(model, optimizer, **{**SWEEP, **arguments}))
        after.append(all(torch.equal(value, before[key]) for key, value in model.state_dict().items()))
    found, wanted = results
    assert (found.stop_reason, found.loss.tolist()) == (wanted.stop_reason, wanted.loss.tolist())
    assert [met.update for met in found.left_out] == sorted(bad)[: len(found.left_out)] != []
    assert "left out" in found.bounds.reason
    assert after == [True, True]


def random_model():
    return torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1)).double()


def noisy_step(x):
    return x + 0.01 * (random.random() + np.random.random())


class Noise(torch.utils.data.Dataset):
    """Rows with noise from the generators of Python and NumPy."""

    def __len__(self):
        return 48

    def __getitem__(self, index):
        return noisy_step(X[index]), Y[index]


SHUFFLED = {
    "shuffled": lambda: DataLoader(Noise(), batch_size=8, shuffle=True),
    "a generator of its own": lambda: DataLoader(
        Noise(), batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(3)
    ),
    "a sampler with a generator": lambda: DataLoader(
        Noise(), batch_size=8, sampler=RandomSampler(Noise(), generator=torch.Generator().manual_seed(3))
    ),
    "a batch sampler with a generator": lambda: DataLoader(
        Noise(),
        batch_sampler=BatchSampler(RandomSampler(Noise(), generator=torch.Generator().manual_seed(3)), 8, False),
    ),
}


@pytest.mark.parametrize("make", SHUFFLED.values(), ids=SHUFFLED)
def test_same_seed_same_result_whatever_was_drawn_between(make):
    """https://github.com/fastai/fastai/issues/3658"""
    model, loader = random_model(), make()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    results = []
    for seed in (0, 5, 0, None, None):
        results.append(range_test(model, optimizer, mse_loss, loader, **SWEEP, seed=seed))
        random.random(), np.random.random(), torch.rand(1), list(loader)
    assert results[0] == results[2]
    for one, other in itertools.combinations(results[1:], 2):
        assert not np.array_equal(one.loss, other.loss)


def test_the_seed_is_added_to_the_epoch_of_a_sampler():
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sampler = DistributedSampler(TENSORS, num_replicas=2, rank=0)
    loader = DataLoader(TENSORS, batch_size=4, sampler=sampler)
    losses = {}
    for epoch in (5, 6):
        sampler.set_epoch(epoch)
        order = list(sampler)
        result = range_test(model, optimizer, mse_loss, loader, **{**SWEEP, "repeats": 3})
        losses[epoch] = result.runs.tolist()
        assert (sampler.epoch, list(sampler)) == (epoch, order)
    assert losses[5][0] not in losses[5][1:]
    # Training in the next epoch begins with the data of the second test.
    assert losses[5][1:] == losses[6][:2]


def test_a_noisy_test_whose_data_do_not_depend_on_the_seed_is_made_twice_at_most():
    torch.manual_seed(0)
    model, started = torch.nn.Linear(4, 1), []
    data = [(torch.randn(4, 4), 3 * torch.randn(4, 1)) for _ in range(16)]
    watch = lambda test: started.append(0) if test.recorded == 1 else None  # noqa: E731
    result = range_test(model, torch.optim.SGD(model.parameters(), 0.01), mse_loss, data, on_step=watch)
    assert result.bounds.status in ("noisy", "flat")
    assert (len(started), len(result.runs)) == (2, 1)


def test_without_a_seed_the_test_uses_the_current_generators():
    model = random_model()
    optimizer, loader = torch.optim.SGD(model.parameters(), 0.1), SHUFFLED["shuffled"]()
    results = []
    for seed in (11, 11, 12):
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
        results.append(range_test(model, optimizer, mse_loss, loader, **SWEEP, seed=None))
    assert results[0] == results[1]
    assert not np.array_equal(results[0].loss, results[2].loss)


def test_nothing_is_printed(capfd):
    model = linear()
    range_test(model, torch.optim.SGD(model.parameters(), 0.1), mse_loss, batches(), **SWEEP)
    assert capfd.readouterr() == ("", "")


class Wrapper(torch.optim.Optimizer):
    """As Accelerate's: an optimizer by its class, whose constructor was never called."""

    def __init__(self, optimizer):
        self.optimizer = optimizer


def test_the_optimizer_is_found_in_a_wrapper():
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scheduler = Scheduler(Wrapper(optimizer), Constant(0.1))
    assert scheduler.optimizer is optimizer
    result = range_test(model, Wrapper(optimizer), mse_loss, batches(), **SWEEP, optimizers=[Wrapper(optimizer)])
    scheduler.step()
    assert scheduler.last_epoch == 0
    assert result == range_test(model, optimizer, mse_loss, batches(), **SWEEP)


def swept(optimizer, *arguments):
    return range_test(linear(), optimizer, mse_loss, [])


@pytest.mark.parametrize("make", [Scheduler, CyclicLR, swept])
@pytest.mark.parametrize("inner", [None, Wrapper(None)], ids=["nothing", "a wrapper"])
def test_a_wrapper_without_an_optimizer_is_an_error(make, inner):
    with pytest.raises(
        TypeError, match=r"^optimizer must be .* got Wrapper, a wrapper\. Pass .* optimizer\.optimizer\."
    ):
        make(Wrapper(inner), Constant(0.1), Constant(0.2))


def plain_sgd():
    return torch.optim.SGD(linear().parameters(), 0.1)


BAD = {
    "one batch": (
        {"loader": batches()[0]},
        TypeError,
        r"(?s)^loader must be an iterable .*Put the batch into a list\.$",
    ),
    "no loader": ({"loader": None}, TypeError, r"^loader must be an iterable of batches; got loader=None"),
    "targets of another shape": (
        {"loader": [(inputs, targets[:, 0]) for inputs, targets in batches()]},
        ValueError,
        r"^targets must have the shape of the model's output, \(8, 1\); got \(8\), with which the loss compares",
    ),
    "a device as loader": ({"loader": "cpu"}, TypeError, r"^loader must be an iterable of batches; got loader='cpu'"),
    "samples": (
        {"loader": [(inputs[0], targets[0, 0]) for inputs, targets in batches()]},
        ValueError,
        r"^a batch must hold targets of several samples; .* Pass a DataLoader",
    ),
    "no optimizer": ({"optimizer": 0.1}, TypeError, r"^optimizer must be .*; got float\. Pass the optimizer that"),
    "a class of optimizers": (
        {"optimizer": torch.optim.SGD},
        TypeError,
        r"^optimizer must be .*; got the class SGD\. .*SGD\(model\.parameters\(\), lr=0\.01\)\.$",
    ),
    "accumulate": ({"accumulate": 0}, ValueError, r"^accumulate must be an integer of at least 1"),
    "half": ({"accumulate": 1.5}, TypeError, r"^accumulate must be an integer"),
    "seed": ({"seed": -1}, ValueError, r"^seed must be an integer of at least 0"),
    "rates": ({"min_lr": 1.0}, ValueError, r"^max_lr must be greater than min_lr"),
    "step_fn": (
        {"step_fn": print, "accumulate": 2},
        ValueError,
        r"^step_fn must do accumulation, scaling, autocast and clipping itself; .* Pass loss_of=",
    ),
    "scaler": ({"step_fn": print, "scaler": torch.amp.GradScaler("cpu")}, ValueError, r"^step_fn must do accumulation"),
    "clipping": ({"step_fn": print, "clip_norm": 1.0}, ValueError, r"^step_fn must do accumulation"),
    "no norm": ({"clip_norm": 0.0}, ValueError, r"^clip_norm must be a finite number greater than 0; got clip_norm=0"),
    "no value": ({"clip_value": True}, TypeError, r"^clip_value must be a number"),
    "both": ({"clip_norm": 1, "clip_value": 1}, ValueError, r"^gradients must be clipped by norm or by value; got"),
    "two losses": ({"loss_of": print}, ValueError, r"^the loss must come from one function; got loss_of and loss_fn"),
    "loss_of": ({"loss_fn": None, "loss_of": 3}, TypeError, r"^loss_of must be a function"),
    "loss_of and step_fn": (
        {"loss_fn": None, "loss_of": print, "step_fn": print},
        ValueError,
        r"got loss_of and step_fn",
    ),
    "also": (
        {"also": torch.nn.Linear(1, 1)},
        TypeError,
        r"^also must be a list; got also=Linear.* Write also=\[\.\.\.\]",
    ),
    "a class": (
        {"loss_fn": torch.nn.MSELoss},
        TypeError,
        r"^loss_fn must be a function .*; got the class MSELoss\. Write MSELoss",
    ),
    "loss_of of the batch": (
        {"loss_fn": None, "loss_of": lambda batch: 0},
        TypeError,
        r"^loss_of must be a function of model and batch that returns the loss; got one with too many",
    ),
    "step_fn of both": (
        {"step_fn": lambda model, batch: 0},
        TypeError,
        r"^step_fn must be a function of a batch .*; got one with missing",
    ),
    "evaluate of none": (
        {"evaluate": lambda: 0},
        TypeError,
        r"^evaluate must be a function of the model .*; got one with too many",
    ),
    "on_step": ({"on_step": 3}, TypeError, r"^on_step must be a function of the running test; got"),
    "scaler that is none": ({"scaler": True}, TypeError, r"^scaler must be a torch\.amp\.GradScaler; got scaler=True"),
    "autocast": (
        {"autocast": True},
        TypeError,
        r"^autocast must be a dtype such as torch\.bfloat16; got autocast=True",
    ),
    "autocast to integers": ({"autocast": torch.int8}, TypeError, r"^autocast must be a dtype"),
    "optimizers": (
        {"optimizers": plain_sgd()},
        TypeError,
        r"^optimizers must be a list; got SGD\. Write optimizers=\[",
    ),
    "also a number": ({"also": [[], 3]}, TypeError, r"^also must hold modules, .*; got also\[1\]=3 of type int, which"),
    "also an iterator": ({"also": [iter([])]}, TypeError, r"^also must hold modules, .*list_iterator"),
    "also a class": ({"also": [torch.nn.Linear]}, TypeError, r"^also must hold modules, "),
}


@pytest.mark.parametrize(("changes", "error", "message"), BAD.values(), ids=BAD)
def test_a_bad_argument_is_an_error_with_the_legal_range(changes, error, message):
    model = linear()
    arguments = {"optimizer": torch.optim.SGD(model.parameters(), 0.1), **SWEEP, **changes}
    with pytest.raises(error, match=message):
        range_test(model, **{"loss_fn": mse_loss, "loader": batches(), **arguments})


def test_a_frozen_model_is_an_error_that_says_so():
    model = linear().requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(
        ValueError, match=r"^optimizer must hold a parameter that is trained; .* requires_grad_\(True\)"
    ):
        range_test(model, optimizer, mse_loss, batches(), **SWEEP)
    model.bias.requires_grad_(True)
    assert len(range_test(model, optimizer, mse_loss, batches(), **SWEEP).lr) == 20


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("amp", r"Did you mean 'autocast'\?$"),
        ("clip_grad_value", r"Did you mean 'clip_value'\?$"),
        ("device", "move the model before"),
        ("grad_scaler", r"Did you mean 'scaler'\?$"),
        ("max_grad_norm", r"Did you mean 'clip_norm'\?$"),
        ("max_norm", r"Did you mean 'clip_norm'\?$"),
    ],
)
def test_arguments_named_as_in_other_libraries_are_errors_with_our_names(name, ours):
    with pytest.raises(TypeError, match=rf"no argument {name}; .*{ours}"):
        range_test(linear(), plain_sgd(), mse_loss, batches(), **{name: 1.0})


@pytest.mark.parametrize("given", ["bounds", "max_lr", "result"])
def test_a_wrong_argument_of_a_scheduler_suggests_lr(given):
    with pytest.raises(TypeError, match=r"Did you mean 'lr'\?$"):
        Scheduler(plain_sgd(), **{given: 0.1})


def test_a_trainer_in_place_of_the_optimizer_is_an_error_with_its_range_test():
    trainer = type("Mine", (type("Trainer", (), {"__module__": "lightning.pytorch.trainer"}),), {})()
    with pytest.raises(TypeError, match=r"got Mine\. Write cyclr\.torch\.lightning\.RangeTestCallback\(\)"):
        range_test(linear(), trainer)


def test_a_loss_that_is_a_vector_is_an_error():
    model = linear()
    with pytest.raises(TypeError, match=r"^loss must be a number, .*; got loss of shape \(8, 1\)\. Take its mean\?"):
        range_test(model, torch.optim.SGD(model.parameters(), 0.1), lambda out, y: out - y, batches(), **SWEEP)
    assert not math.isnan(model.bias.item())


# Arguments that cannot be meant


def plain(model=None):
    return torch.optim.SGD((model or linear()).parameters(), lr=0.1)


def lazy():
    return torch.nn.Sequential(torch.nn.LazyLinear(1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: range_test(lambda x: x, plain(), mse_loss, batches()), r"^model must be a torch\.nn\.Module; got"),
        (
            lambda: range_test(model := linear(), plain(model), mse_loss, None),
            r"^loader must be an iterable of batches",
        ),
        (lambda: range_test(model := linear(), plain(model), mse_loss, 3), r"^loader must be .*; got loader=3\. Pass"),
        (lambda: range_test(model := linear(), plain(model), 3, batches()), r"^loss_fn must be a function"),
        (lambda: range_test(model := linear(), plain(model), None, [], step_fn=3), r"^step_fn must be a function"),
        (
            lambda: range_test(model := linear(), plain(model), None, batches(), step_fn=lambda batch: None),
            r"^step_fn\(batch\) must be a number",
        ),
        (
            lambda: range_test(torch.nn.Identity(), plain(), None, [{"input": torch.ones(2)}]),
            r"^optimizer must hold parameters of the model; got SGD with none of Identity's\. Create it with",
        ),
        (lambda: range_test(linear(), plain(), mse_loss, batches()), r"^optimizer must hold parameters of the model"),
        (lambda: range_test(model := lazy(), plain(model), mse_loss, batches()), r"^model must have .* lazy ones"),
        (
            lambda: range_test(model := linear(), plain(model), None, [{"input": torch.ones(2, 3).double()}] * 3),
            r"^without a loss_fn, model\(\*\*batch\) must return .* got Tensor for the arguments input\. Add",
        ),
    ],
)
def test_wrong_arguments_are_errors_that_name_the_argument(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


@pytest.mark.parametrize("step_fn", [None, lambda batch: 1.0])
def test_an_optimizer_that_maximizes_is_refused(step_fn):
    model = linear()
    whole = torch.optim.Adam(model.parameters(), maximize=True)
    one = torch.optim.SGD([{"params": [model.weight]}, {"params": [model.bias], "maximize": True}], lr=0.1)
    for optimizer in (whole, one):
        with pytest.raises(ValueError, match="must minimize a loss; got maximize=True in parameter group"):
            range_test(model, optimizer, mse_loss, batches(), step_fn=step_fn)


@pytest.mark.parametrize("line_search_fn", [None, "strong_wolfe"])
def test_an_optimizer_that_finds_its_rate_itself_is_refused(line_search_fn):
    model = linear()
    optimizer = torch.optim.LBFGS(model.parameters(), line_search_fn=line_search_fn)
    message = r"^the optimizer of a range test must update in proportion to its learning rate; got LBFGS, which finds"
    with pytest.raises(ValueError, match=message):
        range_test(model, optimizer, None, batches(), step_fn=lambda batch: 1.0)


def test_the_optimizer_may_hold_parameters_of_the_loss_only():
    class Scaled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))

        def forward(self, output, target):
            return (self.scale * output - target).square().mean()

    loss = Scaled()
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.1)
    assert len(range_test(linear(), optimizer, loss, batches(), **SWEEP).lr) == 20


def test_a_learning_rate_of_none_is_an_error():
    optimizer = plain()
    optimizer.param_groups[0]["lr"] = None
    message = r"^lr of parameter group 0 must be a number; got .*None.* Create SGD with lr"
    for call in (
        lambda: range_test(linear(), optimizer, mse_loss, batches()),
        lambda: Scheduler(optimizer, Constant(1.0)),
    ):
        with pytest.raises(TypeError, match=message):
            call()


def test_another_order_of_arguments_is_named():
    model, loader, loss = torch.nn.Linear(4, 1), [(torch.ones(2, 4), torch.ones(2, 1))], torch.nn.functional.mse_loss
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    given = [model, optimizer, loss, loader]
    for order in itertools.permutations(range(4)):
        if order != (0, 1, 2, 3):
            with pytest.raises(TypeError, match="model, optimizer, loss_fn, loader in this order"):
                range_test(*[given[index] for index in order])
    with pytest.raises(TypeError, match=r"got Linear, SGD, list. Write range_test\(model=..., optimizer=..., loader="):
        range_test(model, optimizer, loader)


def test_a_data_set_of_samples_is_refused():
    model, data = torch.nn.Linear(4, 1), torch.utils.data.TensorDataset(torch.ones(8, 4), torch.ones(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(TypeError, match=r"got TensorDataset, a data set of single samples. Write .*DataLoader\("):
        range_test(model, optimizer, torch.nn.functional.mse_loss, data)
