"""`CyclicLR` has the values of torch's, which is called here; and what torch's gets wrong."""

import contextlib
import copy
import functools
import inspect
import io
import itertools
import json
import pickle
import warnings

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from cyclr import Bounds, Cyclical
from cyclr.torch import CyclicLR

MODES = ("triangular", "triangular2", "exp_range")


def weights():
    return [torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))]


def sgd(groups=1, momentum=0.9, **arguments):
    return torch.optim.SGD(
        [{"params": weights()} for _ in range(groups)], **{"lr": 0.1, **arguments}, momentum=momentum
    )


def adam(groups=1):
    return torch.optim.AdamW([{"params": weights()} for _ in range(groups)], lr=0.1, betas=(0.7, 0.95))


def used(optimizer, scheduler, updates):
    """Rates and momenta that so many updates used."""
    seen = []
    for _ in range(updates):
        for group in optimizer.param_groups:
            seen += map(float, [group["lr"], *(group["betas"] if "betas" in group else [group["momentum"]])])
        optimizer.step()
        scheduler.step()
    return seen


# torch adds up what it rounds: it is off by a few units in the last place of the largest value.
same = functools.partial(pytest.approx, rel=1e-9, abs=1e-12)


def test_the_signature_is_that_of_torch():
    ours, theirs = (inspect.signature(kind).parameters for kind in (CyclicLR, lr_scheduler.CyclicLR))
    assert list(ours) == list(theirs)
    for name, parameter in theirs.items():
        assert (ours[name].kind, ours[name].default) == (parameter.kind, parameter.default)


SCALES = {
    "none": None,
    "halving": lambda x: 0.5**x,
    "inverse": lambda x: 1 / (1 + 0.01 * x),
    "half": lambda x: 0.5,
}
LENGTHS = st.integers(1, 60) | st.integers(4, 400).map(lambda n: n / 4) | st.floats(1, 50).map(lambda x: round(x, 3))
RATES = st.floats(0, 1).map(lambda x: round(x, 6))


def pairs_of(numbers):
    return st.tuples(numbers, numbers).filter(lambda pair: pair[0] != pair[1]).map(sorted)


@st.composite
def runs(draw, functions=True):
    """How many groups an optimizer has, whether it is Adam, and arguments of a CyclicLR for it."""
    groups = draw(st.integers(1, 3))

    def bounds(low, high, pairs):
        lists = groups > 1 and draw(st.booleans())
        drawn = [draw(pairs) for _ in range(groups if lists else 1)]
        lower, upper = ([pair[end] for pair in drawn] for end in (0, 1))
        return {low: lower, high: upper} if lists else {low: lower[0], high: upper[0]}

    arguments = {
        **bounds("base_lr", "max_lr", pairs_of(RATES)),
        "step_size_up": draw(LENGTHS),
        "step_size_down": draw(st.none() | LENGTHS),
        "mode": draw(st.sampled_from(MODES)),
        "gamma": draw(st.floats(0.9, 1)),
        "cycle_momentum": draw(st.booleans()),
    }
    if functions:
        mode, scale = draw(st.sampled_from([("cycle", None), *itertools.product(("cycle", "iterations"), SCALES)]))
        arguments |= {"scale_mode": mode, "scale_fn": SCALES.get(scale)}
    if draw(st.booleans()):
        arguments |= bounds("base_momentum", "max_momentum", pairs_of(st.floats(0.5, 0.99)))
    return groups, draw(st.booleans()), arguments


@settings(max_examples=20, deadline=None)
@given(runs())
def test_every_update_uses_what_it_uses_with_torch(drawn):
    groups, is_adam, arguments = drawn
    results = []
    for kind in (CyclicLR, lr_scheduler.CyclicLR):
        optimizer = (adam if is_adam else sgd)(groups)
        scheduler = kind(optimizer, **arguments)
        results.append(used(optimizer, scheduler, 200))
        results[-1] += scheduler.get_last_lr()
    assert results[0] == same(results[1])


@pytest.mark.filterwarnings("ignore:To get the last learning rate computed by the scheduler:UserWarning")
@settings(max_examples=280, deadline=None)
@given(runs(), st.lists(st.integers(0, 400), min_size=1, max_size=20))
def test_every_step_has_the_values_that_torch_computes_for_it(drawn, steps):
    """Without updates, which take most of the time of the test above."""
    groups, is_adam, arguments = drawn
    optimizers = [(adam if is_adam else sgd)(groups) for _ in range(2)]
    ours, theirs = (
        kind(optimizer, **arguments)
        for kind, optimizer in zip((CyclicLR, lr_scheduler.CyclicLR), optimizers, strict=True)
    )
    momenta = lambda optimizer: [g["betas"][0] if is_adam else g["momentum"] for g in optimizer.param_groups]  # noqa: E731
    for step in steps:
        ours.step(step)
        theirs.last_epoch = step
        rates = theirs.get_lr()
        # torch's rounding, at a late step and after a short way down.
        assert ours.get_last_lr() == pytest.approx(rates, rel=1e-9, abs=1e-11)
        assert momenta(optimizers[0]) == same(momenta(optimizers[1]))


@settings(max_examples=20, deadline=None)
@given(runs(functions=False), st.integers(0, 150), st.booleans())
def test_a_checkpoint_of_torch_can_be_loaded(drawn, split, through_a_file):
    groups, is_adam, arguments = drawn
    optimizer = (adam if is_adam else sgd)(groups)
    scheduler = lr_scheduler.CyclicLR(optimizer, **arguments)
    used(optimizer, scheduler, split)
    state = copy.deepcopy(scheduler.state_dict())
    if through_a_file:
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        state = torch.load(file, weights_only=True)
    resumed = (adam if is_adam else sgd)(groups)
    # With whatever it was made: torch's, too, goes on by what was saved.
    other = CyclicLR(resumed, [0.1, 0.2, 0.3][:groups], 0.5, cycle_momentum=arguments["cycle_momentum"])
    other.load_state_dict(state)
    assert used(resumed, other, 60) == same(used(optimizer, scheduler, 60))
    json.dumps(other.state_dict())


@pytest.mark.parametrize("scale_mode", ["cycle", "iterations"])
def test_a_checkpoint_of_torch_with_a_function_object_can_be_loaded(scale_mode):
    arguments = {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 3, "scale_fn": SCALES["inverse"]}
    optimizer, resumed = sgd(), sgd()
    scheduler = lr_scheduler.CyclicLR(optimizer, **arguments, scale_mode=scale_mode)
    used(optimizer, scheduler, 10)
    other = CyclicLR(resumed, **arguments, scale_mode=scale_mode)
    other.load_state_dict(scheduler.state_dict())
    assert used(resumed, other, 20) == same(used(optimizer, scheduler, 20))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("split", [0, 1, 7, 12])
def test_a_resumed_run_equals_the_whole_run(mode, split):
    arguments = {"base_lr": [0.1, 0.0], "max_lr": [0.5, 0.25], "step_size_up": 2.5, "mode": mode, "gamma": 0.9}
    optimizer = sgd(2)
    scheduler = CyclicLR(optimizer, **arguments)
    wanted = used(optimizer, scheduler, 20)
    optimizer = sgd(2)
    scheduler = CyclicLR(optimizer, **arguments)
    before = used(optimizer, scheduler, split)
    state = json.loads(json.dumps(scheduler.state_dict()))
    for resume in ("load_state_dict", "last_epoch"):
        optimizer = sgd(2)
        if resume == "last_epoch":
            scheduler = CyclicLR(optimizer, **arguments, last_epoch=split - 1)
        else:
            scheduler = CyclicLR(optimizer, **arguments)
            scheduler.load_state_dict(state)
        assert before + used(optimizer, scheduler, 20 - split) == wanted


def test_saved_settings_are_used_by_default():
    optimizer = sgd()
    saved = CyclicLR(optimizer, 0.1, 0.5, 3, mode="triangular2", last_epoch=7).state_dict()
    scheduler = CyclicLR(optimizer, 0.1, 0.75, 2, mode="exp_range", gamma=0.5)
    with pytest.raises(ValueError, match=r'pass schedules="new"; with the saved ones, pass schedules="saved"\.$'):
        scheduler.load_state_dict(saved, schedules="same")
    scheduler.load_state_dict(saved, schedules="new")
    assert (scheduler.last_epoch, scheduler.mode, scheduler.get_last_lr()) == (8, "exp_range", [0.1])
    scheduler.load_state_dict(saved)
    assert (scheduler.last_epoch, scheduler.mode, scheduler.max_lrs) == (8, "triangular2", [0.5])
    scheduler.step(9)
    assert scheduler.get_last_lr() == [0.3]


def test_a_state_of_an_earlier_version_can_be_loaded():
    momentum = Cyclical(0.25, 0.75, 2).mirrored(0.8, 0.9)
    schedules = {"lr": [Cyclical(0.25, 0.75, 2).to_dict()], "momentum": [momentum.to_dict()]}
    state = {"version": 1, "step": 5, "in_charge": True, "schedules": schedules}
    optimizer = sgd()
    scheduler = CyclicLR(optimizer, 0.25, 0.75, 2)
    scheduler.load_state_dict(state)
    assert used(optimizer, scheduler, 3)[::2] == [0.5, 0.75, 0.5]
    other = CyclicLR(sgd(), 0.25, 0.5, 2)
    with pytest.raises(ValueError, match=r"^state_dict must hold the schedules of this"):
        other.load_state_dict(state)
    other.load_state_dict(state, schedules="new")
    assert other.get_last_lr() == [0.375]


# What torch's has besides


ATTRIBUTES = (
    *("base_lrs", "max_lrs", "mode", "gamma", "total_size", "step_ratio", "scale_mode", "cycle_momentum"),
    *("base_momentums", "max_momentums", "use_beta1"),
)


def attributes(scheduler):
    return {name: getattr(scheduler, name) for name in ATTRIBUTES if hasattr(scheduler, name)}


def entries(optimizer):
    return [{name: group.get(name) for name in ("base_momentum", "max_momentum")} for group in optimizer.param_groups]


@settings(max_examples=30, deadline=None)
@given(runs(), st.integers(1, 40))
def test_attributes_and_entries_of_the_groups_are_those_of_torch(drawn, cycle):
    groups, is_adam, arguments = drawn
    found = []
    for kind in (CyclicLR, lr_scheduler.CyclicLR):
        optimizer = (adam if is_adam else sgd)(groups)
        scheduler = kind(optimizer, **arguments)
        initial = [group["initial_lr"] for group in optimizer.param_groups]
        found.append((attributes(scheduler), entries(optimizer), initial, scheduler.scale_fn(cycle)))
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_settings_cannot_be_set(name):
    """torch's change the rates then."""
    scheduler = CyclicLR(sgd(), 0.1, 0.5, 3)
    with pytest.raises(
        AttributeError, match=rf"^{name} of a CyclicLR cannot be set; got {name}=0\.5\. Create a new Cycl"
    ):
        setattr(scheduler, name, 0.5)


def test_groups_that_are_added_have_bounds_too():
    optimizer = sgd()
    scheduler = CyclicLR(optimizer, 0.1, 0.5, 3)
    optimizer.add_param_group({"params": weights(), "lr": 3.0})
    scheduler.step()
    assert (scheduler.base_lrs, scheduler.max_lrs, scheduler.base_momentums) == ([0.1] * 2, [0.5] * 2, [0.8] * 2)
    first, second = ({**group, "params": None} for group in optimizer.param_groups)
    assert first == second


@settings(max_examples=20, deadline=None)
@given(runs(), st.integers(0, 150), st.booleans())
def test_torch_can_load_our_checkpoint(drawn, split, through_a_file):
    groups, is_adam, arguments = drawn
    optimizer = (adam if is_adam else sgd)(groups)
    scheduler = CyclicLR(optimizer, **arguments)
    used(optimizer, scheduler, split)
    state, held = copy.deepcopy([scheduler.state_dict(), optimizer.state_dict()])
    if through_a_file:
        file = io.BytesIO()
        torch.save([state, held], file)
        file.seek(0)
        state, held = torch.load(file, weights_only=True)
    resumed = (adam if is_adam else sgd)(groups)
    functions = {name: arguments[name] for name in ("scale_fn", "scale_mode")}
    other = lr_scheduler.CyclicLR(resumed, 0.1, 0.2, cycle_momentum=arguments["cycle_momentum"], **functions)
    resumed.load_state_dict(held)
    assert set(other.state_dict()) == set(state) - {"in_charge"}
    other.load_state_dict(state)
    assert used(resumed, other, 60) == same(used(optimizer, scheduler, 60))


class Scale:
    """A function that is an object, whose attributes torch saves."""

    def __init__(self, factor):
        self.factor, self.table, self.open = factor, [factor, {"a": torch.ones(1)}], object()

    def __call__(self, cycle):
        return self.factor


@pytest.mark.parametrize("kinds", [*itertools.product((CyclicLR, lr_scheduler.CyclicLR), repeat=2)], ids=str)
def test_the_attributes_of_a_function_object_are_saved(kinds):
    saved, loaded = Scale(0.5), Scale(0.9)
    first, second = (
        kind(sgd(), 0.1, 0.5, 4, scale_fn=scale) for kind, scale in zip(kinds, (saved, loaded), strict=True)
    )
    state = first.state_dict()
    if kinds[0] is CyclicLR:
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        state = torch.load(file, weights_only=True)
    second.load_state_dict(state)
    assert (loaded.factor, loaded.table[0]) == (0.5, 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        second.step(2)
    assert second.get_last_lr() == [pytest.approx(0.2)]
    assert kinds[1] is lr_scheduler.CyclicLR or loaded.table is not saved.table


def test_saved_attributes_without_a_scale_fn_are_an_error():
    state = CyclicLR(sgd(), 0.1, 0.5, scale_fn=Scale(0.5)).state_dict()
    scheduler = CyclicLR(sgd(), 0.1, 0.4)
    with pytest.raises(ValueError, match=r"^state_dict holds the attributes \['factor', 'table'\] of a scale_fn, but"):
        scheduler.load_state_dict(state)
    assert scheduler.max_lrs == [0.4]


class Half(float):
    """A class that is called as a function."""

    def __new__(cls, cycle):
        return super().__new__(cls, 0.5)


@pytest.mark.parametrize("fn", [Half, (0.5).__pow__, functools.partial(pow, 0.5)], ids=["class", "built-in", "partial"])
def test_functions_without_attributes_save_no_attributes(fn):
    optimizer = sgd()
    scheduler = CyclicLR(optimizer, 0.1, 0.5, 3, scale_fn=fn)
    used(optimizer, scheduler, 5)
    state = json.loads(json.dumps(scheduler.state_dict()))
    assert state["_scale_fn_custom"] is None
    other = CyclicLR(sgd(), 0.1, 0.4, 3, scale_fn=fn)
    other.load_state_dict(state)
    assert other.get_last_lr() == scheduler.get_last_lr()


@pytest.mark.parametrize("scale_mode", ["cycle", "iterations"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scale_fn", [None, lambda x: 1 / (1 + x), lambda x: float(numpy.exp(-0.01 * x))])
@pytest.mark.filterwarnings("ignore:The epoch parameter in:UserWarning")
def test_an_epoch_may_be_a_fraction(scale_fn, mode, scale_mode):
    seen = []
    for kind in (CyclicLR, lr_scheduler.CyclicLR):
        optimizer = sgd(2)
        arguments = {"scale_fn": scale_fn, "mode": mode, "scale_mode": scale_mode, "gamma": 0.9}
        scheduler = kind(optimizer, [0.1, 0.2], 0.5, 4.5, 3, **arguments)
        seen.append([])
        optimizer.step()
        for epoch in (1.5, 12, 3.75, 8.0, 7.25):
            scheduler.step(epoch)
            # From there on, every update moves it by 1.
            seen[-1] += [*used(optimizer, scheduler, 3), float(scheduler.last_epoch)]
    assert seen[0] == same(seen[1])


def test_a_run_is_resumed_at_a_fraction_of_an_epoch():
    optimizer = sgd(2)
    scheduler = CyclicLR(optimizer, [0.1, 0.2], 0.5, 3, mode="exp_range", gamma=0.9)
    scheduler.step(1.5)
    used(optimizer, scheduler, 2)
    state = json.loads(json.dumps(scheduler.state_dict()))
    wanted = used(optimizer, scheduler, 5)
    optimizer = sgd(2)
    scheduler = CyclicLR(optimizer, 0.1, 0.5)
    scheduler.load_state_dict(state)
    assert scheduler.last_epoch == 3.5
    assert used(optimizer, scheduler, 5) == wanted
    scheduler.step(numpy.float32(2.5))
    assert scheduler.last_epoch == 2.5
    with pytest.raises(ValueError, match=r"^epoch must be a finite number of at least 0; got epoch=-0\.5"):
        scheduler.step(-0.5)
    with pytest.raises(TypeError, match=r"^epoch must be a number; got epoch='2'"):
        scheduler.step("2")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("lists", [False, True], ids=["tensors", "lists of tensors"])
def test_bounds_may_be_tensors(lists, dtype):
    arguments = {"base_lr": 0.125, "max_lr": 0.5, "base_momentum": 0.75, "max_momentum": 0.875}
    tensors = {name: torch.tensor(value, dtype=dtype) for name, value in arguments.items()}
    if lists:
        tensors = {name: [value, value] for name, value in tensors.items()}
    seen = []
    for given_ in (tensors, arguments):
        optimizer = sgd(2)
        seen.append(used(optimizer, CyclicLR(optimizer, step_size_up=torch.tensor(4), **given_), 10))
    assert seen[0] == seen[1]
    # In torch's the rate and the lower bound are one tensor, which each step changes.
    optimizer = sgd(2)
    assert used(optimizer, lr_scheduler.CyclicLR(optimizer, step_size_up=4, **tensors), 10) != same(seen[0])


def test_a_tensor_of_several_elements_is_an_error():
    with pytest.raises(TypeError, match=r"of shape \(2,\)"):
        CyclicLR(sgd(2), torch.tensor([0.1, 0.2]), 0.5)


def test_a_checkpoint_with_tensors_can_be_loaded():
    optimizer, resumed = sgd(), sgd()
    scheduler = lr_scheduler.CyclicLR(optimizer, torch.tensor(0.125), torch.tensor(0.5), 3)
    used(optimizer, scheduler, 5)
    other = CyclicLR(resumed, 0.1, 0.2)
    other.load_state_dict(scheduler.state_dict())
    assert used(resumed, other, 5) == same(used(optimizer, scheduler, 5))
    json.dumps(other.state_dict())


@pytest.mark.parametrize("bounds", [(0.25, 0.25), ([0.25, 0.0], [0.25, 0.0]), ([0.25, 0.1], [0.25, 0.5])], ids=str)
def test_equal_bounds_are_a_constant_rate(bounds):
    """Sweeps over max_lr come by them. The momentum moves all the same."""
    seen = []
    for kind in (CyclicLR, lr_scheduler.CyclicLR):
        optimizer = sgd(2)
        scheduler = kind(optimizer, *bounds, 4, mode="triangular2")
        seen.append(used(optimizer, scheduler, 20))
        seen[-1].append((scheduler.total_size, scheduler.max_lrs))
    assert seen[0][:-1] == same(seen[1][:-1])
    assert seen[0][-1] == seen[1][-1]
    resumed = CyclicLR(sgd(2), 0.1, 0.5, 7)
    resumed.load_state_dict(scheduler.state_dict())
    assert resumed.get_last_lr() == same(scheduler.get_last_lr())


def test_the_rate_of_a_group_is_scaled_by_its_lr_scale():
    """timm's layer-wise decay."""
    optimizer = sgd(2)
    optimizer.param_groups[1]["lr_scale"] = 0.5
    scheduler = CyclicLR(optimizer, 0.25, 0.75, 2)
    used(optimizer, scheduler, 2)
    assert scheduler.get_last_lr() == [0.75, 0.375]
    assert scheduler.max_lrs == [0.75, 0.75]


def test_in_a_sequential_lr_a_checkpoint_keeps_the_active_scheduler():
    def sequence():
        optimizer = sgd()
        parts = [lr_scheduler.ConstantLR(optimizer, 0.25, 100), CyclicLR(optimizer, 0.25, 0.75, 2)]
        return optimizer, lr_scheduler.SequentialLR(optimizer, parts, [3])

    optimizer, scheduler = sequence()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = used(optimizer, scheduler, 8)
        for split in (0, 2, 3, 5):
            optimizer, scheduler = sequence()
            before = used(optimizer, scheduler, split)
            states = copy.deepcopy([optimizer.state_dict(), scheduler.state_dict()])
            optimizer, scheduler = sequence()
            optimizer.load_state_dict(states[0])
            scheduler.load_state_dict(states[1])
            assert before + used(optimizer, scheduler, 8 - split) == wanted


def test_momenta_of_groups_are_set_to_the_bounds_as_torch_does():
    for kind in (CyclicLR, lr_scheduler.CyclicLR):
        optimizer = sgd(2)
        optimizer.param_groups[1]["momentum"] = 0.5
        kind(optimizer, 0.1, 0.2, 3, base_momentum=0.8, max_momentum=0.9)
        assert [group["momentum"] for group in optimizer.param_groups] == [0.9, 0.9]


WARMUPS = {
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, 0.1, total_iters=5),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.1, total_iters=5),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 1.5),
    "a sequence": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.1, 9), lr_scheduler.LinearLR(o, 0.5, total_iters=3)], [2]
    ),
}


@pytest.mark.filterwarnings("ignore:Detected call of .lr_scheduler.step:UserWarning")
@pytest.mark.parametrize("bounds", [(0.001, 0.1), ([0.001, 0.01], [0.1, 0.05])], ids=["one", "for each group"])
@pytest.mark.parametrize("warmup_first", [True, False], ids=["made before", "made after"])
@pytest.mark.parametrize("warmup", WARMUPS.values(), ids=WARMUPS)
def test_a_warmup_of_torch_starts_from_the_rates_that_it_starts_from_with_torchs(warmup, warmup_first, bounds):
    """https://github.com/pytorch/pytorch/issues/67586"""
    seen = []
    for kind in (lr_scheduler.CyclicLR, CyclicLR):
        optimizer = sgd(2)
        make = [warmup, lambda o, kind=kind: kind(o, *bounds, step_size_up=4, cycle_momentum=False)]
        parts = [part(optimizer) for part in make[:: 1 if warmup_first else -1]][:: 1 if warmup_first else -1]
        seen.append(used(optimizer, lr_scheduler.SequentialLR(optimizer, parts, [5]), 15))
    assert seen[1] == same(seen[0])


# Where torch's is wrong or fails


def both(optimizer_of=sgd, **arguments):
    pairs = []
    for kind in (lr_scheduler.CyclicLR, CyclicLR):
        optimizer = optimizer_of()
        pairs.append((optimizer, kind(optimizer, **{"base_lr": 0.001, "max_lr": 0.06, **arguments})))
    return pairs


def test_triangular2_of_torch_overflows_after_1024_cycles_and_ours_goes_on():
    """torch computes 1 / 2.0 ** (cycle − 1), which is an OverflowError where 2.0 ** cycle does not fit a float."""
    torchs, ours = both(step_size_up=1, mode="triangular2")
    with pytest.raises(OverflowError):
        used(*torchs, 2100)
    used(*ours, 2100)
    assert ours[1].get_last_lr() == [0.001]
    assert ours[0].param_groups[0]["momentum"] == 0.9


ILLEGAL = {
    "base above max": ({"base_lr": 0.1, "max_lr": 0.01}, r"^max_lr must be greater than base_lr; got .* Swap them\?$"),
    "a negative rate": ({"base_lr": -0.1}, r"^base_lr must be a finite number of at least 0; got base_lr=-0\.1"),
    "an infinite rate": ({"max_lr": float("inf")}, r"^max_lr must be a finite number"),
    "a negative length": ({"step_size_up": -5}, r"^step_size must be a finite number of at least 1; got step_size=-5"),
    "a negative length down": ({"step_size_down": -5.0}, r"^step_size_down must be a finite number of at least 1"),
    "a growing amplitude": ({"mode": "exp_range", "gamma": 1.5}, r"^gamma must be "),
    "base momentum above max": ({"base_momentum": 0.95}, r"0\.95"),
    "a momentum of 1": ({"max_momentum": 1.0}, r"^momentum must stay below 1; got"),
    "a negative constant": ({"base_lr": -0.1, "max_lr": -0.1}, r"^base_lr must be a finite number of at least 0"),
    "an unknown scale_mode": ({"scale_mode": "epochs"}, r"^scale_mode must be one of 'cycle', 'iterations'"),
}


@pytest.mark.parametrize(("arguments", "message"), ILLEGAL.values(), ids=ILLEGAL)
def test_torch_takes_illegal_arguments_and_ours_says_what_is_wrong(arguments, message):
    arguments = {"base_lr": 0.001, "max_lr": 0.06, **arguments}
    lr_scheduler.CyclicLR(sgd(), **arguments)
    optimizer = sgd()
    with pytest.raises(ValueError, match=message):
        CyclicLR(optimizer, **arguments)
    (group,) = optimizer.param_groups
    assert (group["lr"], group["momentum"], "initial_lr" in group) == (0.1, 0.9, False)


def test_a_length_of_0_is_rejected_and_in_torch_an_error_of_its_own_kind():
    with pytest.raises(ZeroDivisionError):
        lr_scheduler.CyclicLR(sgd(), 0.001, 0.06, step_size_up=0)
    with pytest.raises(ValueError, match=r"^step_size must be a finite number of at least 1; got step_size=0\."):
        CyclicLR(sgd(), 0.001, 0.06, step_size_up=0)


@pytest.mark.parametrize("make", [sgd, lambda **_: torch.optim.RMSprop(weights())], ids=["SGD", "RMSprop"])
def test_torch_gives_momentum_to_an_optimizer_made_without_and_ours_leaves_it(make):
    optimizer = make(momentum=0)
    lr_scheduler.CyclicLR(optimizer, 0.001, 0.06)
    assert optimizer.param_groups[0]["momentum"] == 0.9
    optimizer = make(momentum=0)
    with pytest.warns(
        UserWarning, match=r"^CyclicLR cannot cycle the momentum of (SGD|RMSprop).*cycle_momentum=False"
    ) as seen:
        scheduler = CyclicLR(optimizer, 0.001, 0.06, 3)
    assert seen[0].filename == __file__
    used(optimizer, scheduler, 5)
    assert optimizer.param_groups[0]["momentum"] == 0


def test_no_warning_if_the_momentum_is_not_cycled():
    optimizer = sgd(momentum=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CyclicLR(optimizer, 0.001, 0.06, cycle_momentum=False)
    assert optimizer.param_groups[0]["momentum"] == 0


def test_torch_leaves_a_group_that_is_added_and_ours_gives_it_the_same_cycle():
    """https://github.com/pytorch/pytorch/issues/20997"""
    torchs, ours = both(step_size_up=3)
    for optimizer, scheduler in (torchs, ours):
        used(optimizer, scheduler, 4)
        optimizer.add_param_group({"params": weights(), "lr": 0.7})
        optimizer.step()
    # Before 2.10, torch left the new group as it was.
    with contextlib.suppress(ValueError):
        torchs[1].step()
    assert torchs[0].param_groups[1]["lr"] == 0.7
    optimizer, scheduler = ours
    scheduler.step()
    for _ in range(7):
        first, second = optimizer.param_groups
        assert (first["lr"], first["momentum"]) == (second["lr"], second["momentum"])
        used(optimizer, scheduler, 1)


def test_a_group_that_is_added_to_lists_of_bounds_is_an_error():
    optimizer = sgd(2)
    scheduler = CyclicLR(optimizer, [0.1, 0.2], 0.5)
    optimizer.add_param_group({"params": weights()})
    with pytest.raises(ValueError, match=r"^lr must hold a schedule for every parameter group; got 2 schedules"):
        scheduler.step()


def test_torch_drifts_at_huge_steps_and_ours_does_not():
    """Half way up in cycle 10^13: torch has 3 digits left there."""
    (torchs_optimizer, torchs), (optimizer, scheduler) = both(base_lr=0.0, max_lr=1.0, step_size_up=1000)
    step = 10**13 * 2000 + 501
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torchs.step(step)
    scheduler.step(step)
    assert optimizer.param_groups[0]["lr"] == 0.501
    assert abs(torchs_optimizer.param_groups[0]["lr"] - 0.501) > 1e-4


def test_the_state_of_ours_can_be_read_safely_whatever_the_function():
    """torch's, with a function object, holds its attributes, whatever they are."""

    class Scale:
        def __init__(self):
            self.held = object()

        def __call__(self, cycle):
            return 1 / cycle

    states = [scheduler.state_dict() for _, scheduler in both(scale_fn=Scale())]
    with pytest.raises(TypeError):
        json.dumps(states[0])
    assert json.loads(json.dumps(states[1])) == states[1]


def one_by(number):
    return 1 / (1 + number)


@pytest.mark.parametrize("scale_mode", ["cycle", "iterations"])
def test_a_function_of_a_module_is_pickled_as_by_torch(scale_mode):
    held = [pickle.dumps(pair) for pair in both(scale_fn=one_by, scale_mode=scale_mode)]
    ours = both(scale_fn=one_by, scale_mode=scale_mode)[1]
    assert used(*pickle.loads(held[1]), 10) == used(*ours, 10)  # noqa: S301


def test_torch_replaces_the_first_update_of_a_second_scheduler_and_ours_takes_its_own():
    """https://github.com/pytorch/pytorch/issues/21965"""
    optimizer = sgd()
    first = lr_scheduler.CyclicLR(optimizer, 0.5, 0.7, 2, cycle_momentum=False)
    used(optimizer, first, 1)
    scheduler = CyclicLR(optimizer, 0.1, 0.3, 2)
    assert used(optimizer, scheduler, 2)[::2] == [0.1, pytest.approx(0.2)]


# The rest of the adapter


def test_it_counts_updates():
    optimizer = sgd()
    scheduler = CyclicLR(optimizer, 0.25, 0.75, 2)
    for _ in range(5):
        scheduler.step()
    assert scheduler.get_last_lr() == [0.25]
    assert used(optimizer, scheduler, 4)[::2] == [0.25, 0.5, 0.75, 0.5]


def test_the_initial_rate_of_the_optimizer_does_not_matter():
    optimizer = torch.optim.SGD([{"params": weights(), "lr": lr} for lr in (0.1, 0.9, 0.0)], momentum=0.9)
    CyclicLR(optimizer, 0.25, 0.75, 2).step(1)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5] * 3


def test_a_tensor_is_filled_in_place():
    rate = torch.tensor(0.1, dtype=torch.float64)
    optimizer = sgd(2, lr=rate)
    scheduler = CyclicLR(optimizer, 0.25, [0.75, 0.5], 2)
    used(optimizer, scheduler, 2)
    assert optimizer.param_groups[0]["lr"] is rate
    assert [group["lr"].item() for group in optimizer.param_groups] == [0.75, 0.5]


def test_equal_bounds_are_a_constant_momentum():
    optimizer = sgd()
    scheduler = CyclicLR(optimizer, 0.25, 0.75, 2, base_momentum=0.8, max_momentum=0.8)
    assert used(optimizer, scheduler, 4)[1::2] == [0.8] * 4


BAD = {
    "no optimizer": (lambda: CyclicLR(0.1, 0.25, 0.75), TypeError, r"^optimizer must be a torch\.optim\.Optimizer"),
    "mode": (lambda: CyclicLR(sgd(), 0.25, 0.75, mode="up"), ValueError, r"^mode must be one of 'triangular', 'tri"),
    "lists": (
        lambda: CyclicLR(sgd(2), [0.1], 0.5),
        ValueError,
        r"for each of the 2 parameter groups; got lengths 1, 2",
    ),
    "momenta": (
        lambda: CyclicLR(sgd(2), 0.1, 0.5, base_momentum=[0.8]),
        ValueError,
        r"for each of the 2 parameter groups; got lengths 1, 2",
    ),
    "scale_fn": (
        lambda: CyclicLR(sgd(), 0.1, 0.5, scale_fn=0.5),
        TypeError,
        r"^scale_fn must be a function of the cyc",
    ),
    "no momentum": (
        lambda: CyclicLR(torch.optim.Adagrad(weights()), 0.1, 0.5),
        ValueError,
        r"^momentum= needs an optimizer with momentum",
    ),
    "last_epoch": (lambda: CyclicLR(sgd(), 0.1, 0.5, last_epoch=-2), ValueError, r"^last_epoch must be an integer"),
}


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_a_bad_argument_is_an_error_with_the_legal_range(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_function_that_leaves_0_to_1_is_an_error():
    optimizer = sgd()
    with pytest.raises(ValueError, match=r"^fn must return a factor between 0 and 1; got 2\.0 at cycle 1\."):
        CyclicLR(optimizer, 0.25, 0.75, 2, scale_fn=float)
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_a_checkpoint_of_torch_that_does_not_fit_changes_nothing():
    optimizer = sgd()
    scheduler = CyclicLR(optimizer, 0.25, 0.75, 2)
    used(optimizer, scheduler, 1)
    before = scheduler.state_dict(), scheduler.get_last_lr()
    state = lr_scheduler.CyclicLR(sgd(2), [0.1, 0.2], 0.5, 2).state_dict()
    with pytest.raises(ValueError, match=r"^lists must hold a value for each of the 1 parameter groups; got lengths 2"):
        scheduler.load_state_dict(state)
    with pytest.raises(ValueError, match=r"^last_epoch must be an integer"):
        scheduler.load_state_dict({**lr_scheduler.CyclicLR(sgd(), 0.1, 0.5, 2).state_dict(), "last_epoch": -3})
    assert (scheduler.state_dict(), scheduler.get_last_lr()) == before


@pytest.mark.parametrize("rates", [{"base_lr": 0}, {"max_lr": 0}, {"base_lr": [0]}], ids=lambda rates: f"{[*rates]}")
def test_bounds_in_place_of_a_rate_are_an_error_with_the_fix(rates):
    bounds = Bounds(0.001, 0.1, "ok", "read from a plot")
    rates = {name: [bounds] if isinstance(value, list) else bounds for name, value in rates.items()}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    with pytest.raises(
        TypeError, match=r"Write bounds\.schedule\(total_steps=\.\.\.\).*or base_lr, max_lr = bounds for"
    ):
        CyclicLR(optimizer, **{"base_lr": 0.001, "max_lr": 0.1, "cycle_momentum": False} | rates)
    assert CyclicLR(optimizer, *bounds, cycle_momentum=False).base_lrs == [0.001]
