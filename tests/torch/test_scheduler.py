"""`Scheduler`: update t uses `lr(t)`, whatever else goes on around it."""

import copy
import gc
import io
import json
import pickle
import warnings
import weakref
from dataclasses import dataclass

import pytest
import torch
from torch.optim import lr_scheduler

from cyclr import Bounds, Constant, Cyclical, Halving, OneCycle, PerCycle, Schedule, ScheduleError, Sequence, Warmup
from cyclr.torch import CyclicLR, Scheduler, TimmScheduler
from cyclr.torch._hooks import uncounted

CYCLE = Cyclical(0.25, 0.75, 3)
OTHER = Cyclical(0.125, 0.5, 2, step_size_down=5, decay=Halving())
MOMENTUM = CYCLE.mirrored(0.8, 0.9)
DECAY = Cyclical(0.01, 0.02, 2)


def values(schedule, steps, start=0):
    return [schedule(step) for step in range(start, start + steps)]


def weights(count=1):
    return [torch.nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(count)]


def sgd(*groups, **arguments):
    return torch.optim.SGD([{"params": weights(), **group} for group in groups or ({},)], **{"lr": 0.5, **arguments})


def update(optimizer):
    """One update with a gradient of 1, and by how much it moved the weight of every group: its rate, exactly."""
    held = [group["params"][0] for group in optimizer.param_groups]
    with torch.no_grad():
        for weight in held:
            weight.zero_()
            weight.grad = torch.ones_like(weight)
    optimizer.step()
    return [-weight.item() for weight in held]


def run(optimizer, scheduler, updates):
    """The rates that so many updates used, for every group."""
    used = []
    for _ in range(updates):
        used.append(update(optimizer))
        scheduler.step()
    return [list(rates) for rates in zip(*used, strict=True)]


# The clock


@pytest.mark.parametrize("schedule", [CYCLE, OTHER, Warmup(OTHER, 4), Sequence([CYCLE, Constant(0.5)], [7])], ids=repr)
@pytest.mark.parametrize("start", [0, 5])
def test_update_t_uses_the_value_of_step_t(schedule, start):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, schedule, start_step=start)
    assert run(optimizer, scheduler, 20) == [values(schedule, 20, start)]
    assert scheduler.get_last_lr() == [schedule(start + 20)] == scheduler._last_lr == scheduler.get_lr()


@pytest.mark.filterwarnings("ignore:Detected call of .lr_scheduler.step:UserWarning")
@pytest.mark.parametrize(
    "touch",
    [
        lambda optimizer: lr_scheduler.StepLR(optimizer, 1).step(),
        lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 3.0, 10),
        lambda optimizer: lr_scheduler.CyclicLR(optimizer, 0.1, 0.2, cycle_momentum=False),
        lambda optimizer: Scheduler(optimizer, Constant(7.0)),
        lambda optimizer: optimizer.param_groups[0].update(lr=9.0),
        update,
    ],
    ids=["StepLR", "OneCycleLR", "CyclicLR", "Scheduler", "a changed rate", "an update"],
)
def test_update_0_uses_step_0_whatever_changed_the_optimizer_before(touch):
    """https://github.com/pytorch/pytorch/issues/21965"""
    optimizer = sgd(momentum=0.0)
    kept = touch(optimizer)
    scheduler = Scheduler(optimizer, CYCLE, momentum=Constant(0.0))
    assert run(optimizer, scheduler, 8) == [values(CYCLE, 8)]
    del kept


def test_the_schedule_advances_with_updates_and_not_with_calls_of_step():
    optimizer = sgd()
    scheduler = Scheduler(optimizer, CYCLE)
    used = []
    for calls in (1, 0, 3, 2, 0, 0, 5):
        used += update(optimizer)
        for _ in range(calls):
            scheduler.step()
    assert used == [CYCLE(step) for step in (0, 1, 1, 3, 4, 4, 4)]
    assert scheduler.get_last_lr() == [CYCLE(7)]


def test_accumulation_with_a_step_after_every_micro_batch():
    """Micro-batches are no updates. https://github.com/huggingface/accelerate/issues/1382"""
    optimizer = sgd()
    scheduler = Scheduler(optimizer, CYCLE)
    used = []
    for batch in range(24):
        if batch % 4 == 3:
            used += update(optimizer)
        scheduler.step()
    assert used == values(CYCLE, 6)


@pytest.mark.parametrize("processes", [2, 4])
def test_several_steps_for_one_update(processes):
    """As Accelerate calls it on several processes. https://github.com/huggingface/accelerate/issues/2318"""
    optimizer = sgd()
    scheduler = Scheduler(optimizer, CYCLE)
    used = []
    for _ in range(9):
        used += update(optimizer)
        for _ in range(processes):
            scheduler.step()
            scheduler._step_count += 1
    assert used == values(CYCLE, 9)


def test_step_with_a_number_of_updates_sets_the_position():
    optimizer = sgd()
    scheduler = Scheduler(optimizer, CYCLE)
    run(optimizer, scheduler, 4)
    scheduler.step(epoch=10**12)
    assert run(optimizer, scheduler, 3) == [values(CYCLE, 3, 10**12)]
    scheduler.step(0)
    assert run(optimizer, scheduler, 3) == [values(CYCLE, 3)]


@pytest.mark.filterwarnings("ignore:SGD made 8 of its last updates")
@pytest.mark.parametrize("first", [0, 1], ids=["step(epoch)", "step(epoch + 1)"])
@pytest.mark.parametrize("batches", [2, 20])
def test_step_with_the_number_of_an_epoch_is_an_error(first, batches):
    """https://github.com/huggingface/pytorch-image-models/blob/main/train.py"""
    optimizer = sgd()
    scheduler = Scheduler(optimizer, CYCLE)

    def train():
        for epoch in range(3):
            for _ in range(batches):
                update(optimizer)
            scheduler.step(epoch + first)

    message = r"^epoch must be a number of updates, at least the \d+ made; got epoch=[12]\. Call scheduler\.step\(\)"
    with pytest.raises(ValueError, match=message):
        train()


def test_step_accepts_the_number_of_updates_made():
    """As of an epoch of one batch, and of loops that count their updates."""
    optimizer = sgd()
    scheduler, used = Scheduler(optimizer, CYCLE), []
    for step in range(9):
        used += update(optimizer)
        scheduler.step(step + 1)
    assert used == values(CYCLE, 9)


def test_calls_can_be_counted_instead():
    optimizer = sgd()
    scheduler = Scheduler(optimizer, CYCLE, counts="calls", start_step=2)
    used = []
    for _ in range(6):
        scheduler.step()
        used.append(optimizer.param_groups[0]["lr"])
    assert used == values(CYCLE, 6, 3)
    resumed = Scheduler(sgd(), CYCLE, counts="calls")
    resumed.load_state_dict(scheduler.state_dict())
    assert resumed.get_last_lr() == [CYCLE(8)]
    resumed.step()
    assert resumed.get_last_lr() == [CYCLE(9)]


def test_the_argument_last_epoch_is_start_step_minus_1():
    optimizer = sgd()
    scheduler = Scheduler(optimizer, CYCLE, last_epoch=6)
    assert run(optimizer, scheduler, 5) == [values(CYCLE, 5, 7)]
    assert scheduler.last_epoch == 12


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
def test_an_update_that_loss_scaling_skips_does_not_advance(make, fused):
    """https://github.com/pytorch/pytorch/issues/44511; a fused optimizer is called, and skips the update itself."""
    (weight,) = [torch.nn.Parameter(torch.zeros(1))]
    optimizer = make([weight], lr=0.5, fused=fused)
    scheduler, scaler = Scheduler(optimizer, CYCLE), torch.amp.GradScaler("cpu")
    used, moved = [], []
    for factor in (1, float("inf"), 1, 1, float("nan"), float("inf"), 1, 1):
        before = weight.item()
        optimizer.zero_grad()
        scaler.scale(factor * weight.sum()).backward()
        used.append(optimizer.param_groups[0]["lr"])
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
        moved.append(weight.item() != before)
    assert moved == [True, False, True, True, False, False, True, True]
    assert used == [CYCLE(step) for step in (0, 1, 1, 2, 3, 3, 3, 4)]
    assert scheduler.last_epoch == 5


def test_autocast_changes_nothing():
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    scheduler = Scheduler(optimizer, CYCLE)
    used = []
    for _ in range(6):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            model(torch.ones(2, 3)).sum().backward()
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert used == values(CYCLE, 6)


def test_a_closure_that_is_called_many_times_is_one_update():
    (weight,) = weights()
    optimizer = torch.optim.LBFGS([weight], lr=0.5, max_iter=4)
    scheduler = Scheduler(optimizer, CYCLE)

    def closure():
        optimizer.zero_grad()
        loss = (weight - 1).pow(2).sum()
        loss.backward()
        return loss

    for step in range(5):
        assert scheduler.last_epoch == step
        optimizer.step(closure)
        scheduler.step()


# What is set


def first_beta(group):
    return group["betas"][0]


MOMENTA = {
    "SGD": (torch.optim.SGD, {"momentum": 0.9}, lambda group: group["momentum"]),
    "SGD made without": (torch.optim.SGD, {}, lambda group: group["momentum"]),
    "RMSprop": (torch.optim.RMSprop, {}, lambda group: group["momentum"]),
    "Adam": (torch.optim.Adam, {"betas": (0.5, 0.99)}, first_beta),
    "AdamW": (torch.optim.AdamW, {"betas": (0.5, 0.99)}, first_beta),
    "NAdam": (torch.optim.NAdam, {"betas": (0.5, 0.99)}, first_beta),
    "Adamax": (torch.optim.Adamax, {"betas": (0.5, 0.99)}, first_beta),
    "RAdam": (torch.optim.RAdam, {"betas": (0.5, 0.99)}, first_beta),
    "Adadelta": (torch.optim.Adadelta, {}, lambda group: group["rho"]),
}


@pytest.mark.parametrize(("make", "arguments", "read"), MOMENTA.values(), ids=MOMENTA)
def test_momentum_sets_the_momentum_entry_of_each_optimizer(make, arguments, read):
    optimizer = make(weights(), lr=0.5, **arguments)
    scheduler = Scheduler(optimizer, CYCLE, momentum=MOMENTUM)
    (group,) = optimizer.param_groups
    for step in range(9):
        assert read(group) == MOMENTUM(step)
        if "betas" in group:
            assert group["betas"] == (MOMENTUM(step), 0.99)
            assert isinstance(group["betas"], tuple)
        update(optimizer)
        scheduler.step()


def test_the_update_uses_the_scheduled_momentum():
    """Against the formula of SGD with momentum."""
    optimizer = sgd(momentum=0.9)
    (weight,) = optimizer.param_groups[0]["params"]
    scheduler = Scheduler(optimizer, CYCLE, momentum=MOMENTUM)
    position = velocity = 0.0
    for step in range(12):
        gradient = float(step % 5) - 1.5
        weight.grad = torch.full_like(weight, gradient)
        optimizer.step()
        scheduler.step()
        velocity = gradient if step == 0 else MOMENTUM(step) * velocity + gradient
        position -= CYCLE(step) * velocity
        assert weight.item() == pytest.approx(position, rel=1e-12)


def test_a_momentum_for_every_group():
    optimizer = sgd({}, {"momentum": 0.5})
    scheduler = Scheduler(optimizer, CYCLE, momentum=[MOMENTUM, Constant(0.25)])
    run(optimizer, scheduler, 3)
    assert [group["momentum"] for group in optimizer.param_groups] == [MOMENTUM(3), 0.25]


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adam])
def test_one_momentum_schedule_leaves_groups_without_momentum(make):
    key, with_it, without = ("betas", (0.9, 0.99), (0, 0.99)) if make is torch.optim.Adam else ("momentum", 0.9, 0.0)
    for maker in (full, lambda o: CyclicLR(o, 0.1, 0.2, 3, base_momentum=0.8, max_momentum=0.9)):
        groups = [{"params": weights(), key: value} for value in (with_it, without)]
        optimizer = make(groups, lr=0.5, weight_decay=0.1)
        scheduler = maker(optimizer)
        optimizer.add_param_group({"params": weights(), key: without})
        optimizer.add_param_group({"params": weights()})
        optimizer.param_groups[3][key] = with_it
        for step in range(5):
            update(optimizer)
            scheduler.step()
            held = [group[key][0] if key == "betas" else group[key] for group in optimizer.param_groups]
            assert held == [pytest.approx(MOMENTUM(step + 1) * has) for has in (1, 0, 0, 1)]


def test_one_momentum_schedule_for_different_momenta_gives_a_warning():
    with pytest.warns(UserWarning, match=r"^the parameter groups have different momenta, \[0\.9, 0\.5\].*Pass a list"):
        scheduler = Scheduler(sgd({"momentum": 0.9}, {"momentum": 0.5}), CYCLE, momentum=MOMENTUM)
    copy.deepcopy(scheduler).step()
    assert [group["momentum"] for group in scheduler.optimizer.param_groups] == [MOMENTUM(0)] * 2


def test_a_momentum_schedule_does_not_change_the_rates():
    optimizer = sgd({}, {"lr": 1}, momentum=0.9)
    scheduler = Scheduler(optimizer, momentum=MOMENTUM)
    for step in range(5):
        assert [group["momentum"] for group in optimizer.param_groups] == [MOMENTUM(step)] * 2
        assert scheduler.get_last_lr() == [0.5, 1]
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("make", [torch.optim.Adagrad, torch.optim.Rprop, torch.optim.ASGD])
def test_an_optimizer_without_momentum_is_an_error_that_says_what_has_one(make):
    optimizer = make(weights(), lr=0.5)
    message = rf"^momentum= needs an optimizer with momentum, such as SGD, .* Adam or Adadelta; got {make.__name__}\.$"
    with pytest.raises(ValueError, match=message):
        Scheduler(optimizer, CYCLE, momentum=MOMENTUM)
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_weight_decay_keeps_the_ratios_of_the_groups():
    optimizer = sgd({"weight_decay": 0.02}, {"weight_decay": 0.0}, {"weight_decay": 0.01})
    scheduler = Scheduler(optimizer, CYCLE, weight_decay=DECAY)
    for step in range(7):
        held = [group["weight_decay"] for group in optimizer.param_groups]
        assert held == pytest.approx([DECAY(step), 0.0, DECAY(step) / 2], rel=1e-15)
        update(optimizer)
        scheduler.step()


def test_an_optimizer_created_without_weight_decay_gets_the_scheduled_one():
    optimizer = sgd({}, {})
    scheduler = Scheduler(optimizer, CYCLE, weight_decay=DECAY)
    run(optimizer, scheduler, 1)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [DECAY(1)] * 2


def test_the_update_uses_the_scheduled_weight_decay():
    optimizer = torch.optim.AdamW(weights(), lr=0.5, weight_decay=0.1)
    (weight,) = optimizer.param_groups[0]["params"]
    scheduler = Scheduler(optimizer, CYCLE, weight_decay=DECAY)
    with torch.no_grad():
        weight.fill_(1.0)
    expected = 1.0
    for step in range(7):
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
        scheduler.step()
        expected *= 1 - CYCLE(step) * DECAY(step)
        assert weight.item() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("make", [sgd, lambda *groups: torch.optim.SGD([*map(dict, groups)], lr=0.5)])
def test_an_entry_of_a_group_follows_its_schedule(make):
    optimizer = make({"params": weights()}, {"params": weights(), "dampening": 0.25})
    scheduler = Scheduler(optimizer, CYCLE, entries={"dampening": DECAY})
    for step in range(5):
        assert [group["dampening"] for group in optimizer.param_groups] == [DECAY(step)] * 2
        update(optimizer)
        scheduler.step()


def test_an_entry_may_have_a_schedule_for_every_group_and_be_a_tensor():
    optimizer = sgd({"of_mine": torch.tensor(0.5)}, {"of_mine": 1})
    held = optimizer.param_groups[0]["of_mine"]
    scheduler = Scheduler(optimizer, entries={"of_mine": [CYCLE, OTHER]})
    run(optimizer, scheduler, 3)
    assert optimizer.param_groups[0]["of_mine"] is held
    assert held.item() == CYCLE(3)
    assert optimizer.param_groups[1]["of_mine"] == OTHER(3)
    assert scheduler.get_last_lr() == [0.5, 0.5]


@pytest.mark.parametrize("tensor", [False, True], ids=["numbers", "tensors"])
def test_the_second_beta_is_an_entry(tensor):
    betas = (torch.tensor(0.9), torch.tensor(0.99)) if tensor else (0.9, 0.99)
    rate = torch.tensor(0.5) if tensor else 0.5
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=rate, betas=betas)
    scheduler = Scheduler(optimizer, CYCLE, MOMENTUM, entries={"beta2": Constant(0.5)})
    for step in range(3):
        assert [float(beta) for beta in optimizer.param_groups[0]["betas"]] == pytest.approx([MOMENTUM(step), 0.5])
        optimizer.step()
        scheduler.step()
    assert not tensor or optimizer.param_groups[0]["betas"][1] is betas[1]


def test_entries_are_saved_and_checked():
    optimizer = adam()
    entries = {"beta2": Cyclical(0.5, 0.9, 3), "eps": Cyclical(1e-8, 1e-6, 2)}
    scheduler = full(optimizer, entries=entries)
    run(optimizer, scheduler, 4)
    state = stored(scheduler.state_dict())
    assert list(state["schedules"]) == ["lr", "momentum", "weight_decay", "beta2", "eps"]
    other = full(adam())
    with pytest.raises(ValueError, match=r"^state_dict must hold the schedules of this scheduler"):
        other.load_state_dict(state)
    other.load_state_dict(state, schedules="saved")
    assert other.state_dict() == state
    (first, _) = other.optimizer.param_groups
    assert (first["betas"], first["eps"]) == ((MOMENTUM(4), entries["beta2"](4)), entries["eps"](4))
    for duplicate in COPIES.values():
        held, twin = duplicate((optimizer, scheduler))
        run(held, twin, 1)
        assert held.param_groups[1]["eps"] == entries["eps"](5)


# Parameter groups


def test_a_group_with_an_lr_scale_follows_the_schedule_by_it():
    """As timm's optimizers and schedulers have it; the ratios of initial rates are those of the others."""
    optimizer = sgd({"lr_scale": 0.5}, {"lr": 0.25}, {"lr": 3.0, "lr_scale": torch.tensor(0.25)})
    scheduler = Scheduler(optimizer, CYCLE)
    optimizer.add_param_group({"params": weights(), "lr_scale": 0.0})
    first, *others = run(optimizer, scheduler, 5)
    assert first == [0.5 * value for value in values(CYCLE, 5)]
    assert others == [first, [0.5 * rate for rate in first], [0.0] * 5]
    scheduler = Scheduler(optimizer, [CYCLE, CYCLE, OTHER, OTHER])
    assert scheduler.get_last_lr() == [0.5 * CYCLE(0), CYCLE(0), 0.25 * OTHER(0), 0.0] == scheduler.get_lr()


@pytest.mark.parametrize("scale", [-0.5, float("nan"), "half"])
def test_an_illegal_lr_scale_is_an_error_and_changes_nothing(scale):
    optimizer = sgd({"lr_scale": scale})
    with pytest.raises((TypeError, ValueError), match=r"^lr_scale must be a"):
        Scheduler(optimizer, CYCLE)
    assert "initial_lr" not in optimizer.param_groups[0]


def test_replaced_groups_follow_the_schedule():
    """As Lightning replaces them when it resumes a fine-tuning."""
    optimizer = sgd({}, {"lr": 0.25})
    scheduler = Scheduler(optimizer, CYCLE)
    run(optimizer, scheduler, 2)
    optimizer.param_groups = [dict(group) for group in optimizer.param_groups]
    scheduler.step()
    first, second = run(optimizer, scheduler, 4)
    assert (first, second) == (values(CYCLE, 4, 2), [0.5 * rate for rate in first])


def test_groups_keep_their_ratios():
    optimizer = sgd({}, {"lr": 0.25}, {"lr": 0.0}, {"lr": 2.0})
    scheduler = Scheduler(optimizer, CYCLE)
    first, *others = run(optimizer, scheduler, 9)
    assert first == values(CYCLE, 9)
    assert others == [[0.5 * rate for rate in first], [0.0] * 9, [4 * rate for rate in first]]


def test_the_next_scheduler_keeps_the_ratios_of_the_initial_rates():
    optimizer = sgd({}, {"lr": 0.25})
    run(optimizer, Scheduler(optimizer, [Constant(0.0), CYCLE]), 4)
    first, second = run(optimizer, Scheduler(optimizer, OTHER), 9)
    assert (first, second) == (values(OTHER, 9), [0.5 * rate for rate in values(OTHER, 9)])


def test_one_schedule_for_every_group():
    optimizer = sgd({}, {"lr": 0.25}, {"lr": 0.0})
    scheduler = Scheduler(optimizer, [CYCLE, OTHER, Constant(0.5)])
    assert run(optimizer, scheduler, 9) == [values(CYCLE, 9), values(OTHER, 9), [0.5] * 9]


@pytest.mark.parametrize("scheduled", [False, True], ids=["no initial rates", "others"])
def test_ratios_of_the_scheduler_win_over_those_of_a_loaded_optimizer(scheduled):
    """What is set again is at 0, where a ratio cannot be seen."""
    groups = {"weight_decay": 0.2}, {"lr": 0.25, "weight_decay": 0.1}
    older = sgd(*groups)
    if scheduled:
        older.param_groups[1].update(lr=0.125, weight_decay=0.3)
        Scheduler(older, CYCLE, weight_decay=DECAY)
    optimizer = sgd(*groups)
    scheduler = Scheduler(optimizer, Warmup(CYCLE, 4), weight_decay=Warmup(DECAY, 4))
    optimizer.load_state_dict(copy.deepcopy(older.state_dict()))
    assert scheduler.get_last_lr() == [0.0, 0.0]
    optimizer.add_param_group({"params": weights(), "lr": 0.125, "weight_decay": 0.4})
    for one in (scheduler, Scheduler(optimizer, CYCLE, weight_decay=DECAY)):
        one.step(4)
        rates, decays = ([group[name] for group in optimizer.param_groups] for name in ("lr", "weight_decay"))
        assert [rate / rates[0] for rate in rates] == [1, 0.5, 0.25]
        assert [decay / decays[0] for decay in decays] == [1, 0.5, 2]


def test_a_scheduler_of_momentum_leaves_the_initial_rates_of_a_loaded_optimizer():
    older = sgd({}, {"lr": 0.05}, momentum=0.9)
    lr_scheduler.StepLR(older, 1)
    for state in (older.state_dict(), sgd({}, {"lr": 0.05}, momentum=0.9).state_dict()):
        optimizer = sgd({}, {}, momentum=0.9)
        kept = Scheduler(optimizer, momentum=MOMENTUM)
        optimizer.load_state_dict(copy.deepcopy(state))
        assert Scheduler(optimizer, Constant(0.5)).get_last_lr() == [0.5, 0.05]
        del kept


@pytest.mark.parametrize("tensor", [False, True], ids=["numbers", "tensors"])
def test_a_group_that_is_added_later_follows_with_its_own_ratio(tensor):
    """https://github.com/pytorch/pytorch/issues/20997"""
    optimizer = sgd(lr=torch.tensor(0.5, dtype=torch.float64) if tensor else 0.5)
    scheduler = Scheduler(optimizer, CYCLE)
    run(optimizer, scheduler, 4)
    optimizer.add_param_group({"params": weights()})
    optimizer.add_param_group({"params": weights(), "lr": CYCLE(4) / 10})
    scheduler.step()
    first, second, third = run(optimizer, scheduler, 5)
    assert first == second == values(CYCLE, 5, 4)
    assert third == pytest.approx([rate / 10 for rate in first], rel=1e-12)


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16], ids=str)
def test_a_group_that_is_added_makes_its_first_update_at_its_share(dtype):
    optimizer = sgd(lr=0.5 if dtype is None else torch.tensor(0.5, dtype=dtype))
    # Its values need more digits than a tensor has.
    schedule = Cyclical(0.1, 0.7, 7)
    scheduler = Scheduler(optimizer, schedule)
    run(optimizer, scheduler, 4)
    optimizer.add_param_group({"params": weights(), "lr": 0.25})
    assert update(optimizer)[1] == pytest.approx(0.25, rel=1e-6 if dtype is not torch.bfloat16 else 1e-2)
    scheduler.step()
    expected = 0.25 * schedule(5) / schedule(4)
    assert update(optimizer)[1] == pytest.approx(expected, rel=1e-6 if dtype is not torch.bfloat16 else 1e-2)


def test_in_a_sequence_the_active_scheduler_sets_an_added_group():
    optimizer = sgd()
    waiting = Scheduler(optimizer, CYCLE)
    sequence = lr_scheduler.SequentialLR(
        optimizer, [lr_scheduler.ConstantLR(optimizer, 0.25, 100), waiting, Scheduler(optimizer, OTHER)], [10, 20]
    )
    optimizer.add_param_group({"params": weights(), "lr": 3.0, "initial_lr": 3.0})
    assert run(optimizer, sequence, 3) == [[0.125] * 3, [3.0] * 3]


def test_a_group_that_is_added_to_lists_of_schedules_is_an_error():
    optimizer = sgd({}, {})
    scheduler = Scheduler(optimizer, [CYCLE, OTHER])
    optimizer.add_param_group({"params": weights()})
    optimizer.step()
    message = r"^lr must hold a schedule for every parameter group; got 2 schedules, .* has 3 groups now\. Create a new"
    with pytest.raises(ValueError, match=message):
        scheduler.step()


def train_groups(optimizer, scheduler, updates):
    """The rates and weight decays of every update."""
    seen = []
    for _ in range(updates):
        seen.append([(group["lr"], group["weight_decay"]) for group in optimizer.param_groups])
        update(optimizer)
        scheduler.step()
    return seen


@pytest.mark.parametrize("order", ["optimizer first", "scheduler first"])
@pytest.mark.parametrize("edit", ["add", "lower", "freeze", "replace"])
def test_groups_keep_the_shares_from_when_they_were_added_or_set_by_hand(edit, order):
    def made(count=2):
        optimizer = sgd(*[{"weight_decay": 0.1, "lr": 0.001}] * count)
        return optimizer, Scheduler(optimizer, CYCLE, weight_decay=DECAY)

    optimizer, scheduler = made()
    train_groups(optimizer, scheduler, 4)
    first = optimizer.param_groups[0]
    share = 0.0 if edit == "freeze" else 0.1
    if edit in ("add", "replace"):
        if edit == "replace":
            del optimizer.param_groups[1]
        rates = {name: first[name] * share for name in ("lr", "weight_decay")}
        optimizer.add_param_group({"params": weights(), **rates})
    else:
        optimizer.param_groups[1]["lr"] *= share
        optimizer.param_groups[1]["weight_decay"] *= share
    seen = train_groups(optimizer, scheduler, 3)
    states = stored([optimizer.state_dict(), scheduler.state_dict()])
    resumed = made(len(optimizer.param_groups))
    for index in (0, 1) if order == "optimizer first" else (1, 0):
        resumed[index].load_state_dict(states[index])
    seen += train_groups(*resumed, 5)
    for step, held in enumerate(seen, 4):
        assert held[0] == (CYCLE(step), DECAY(step))
        assert held[-1] == pytest.approx((share * CYCLE(step), share * DECAY(step)), rel=1e-12)


def test_a_rate_set_by_hand_is_kept_with_a_schedule_for_every_group_and_in_tensors():
    for kind in (float, torch.tensor):
        optimizer = sgd({"lr": kind(0.5)}, {"lr": kind(0.5)})
        scheduler = Scheduler(optimizer, [CYCLE, OTHER])
        run(optimizer, scheduler, 3)
        optimizer.param_groups[1]["lr"] *= 0.5
        first, second = run(optimizer, scheduler, 5)
        assert first == pytest.approx(values(CYCLE, 5, 3), rel=1e-6)
        assert second == pytest.approx([0.5 * rate for rate in values(OTHER, 5, 3)], rel=1e-6)


def refused_step(scheduler):
    with pytest.raises(ValueError, match="at least the"):
        scheduler.step(1)


FIRST_CALLS = {
    "update": lambda optimizer, scheduler: (optimizer, scheduler),
    "step": lambda optimizer, scheduler: scheduler.step(),
    "refused step": lambda optimizer, scheduler: refused_step(scheduler),
    "state_dict": lambda optimizer, scheduler: scheduler.state_dict() and None,
    "load of the optimizer": lambda optimizer, scheduler: optimizer.load_state_dict(optimizer.state_dict()),
    "deepcopy": lambda optimizer, scheduler: copy.deepcopy((optimizer, scheduler)),
    "pickle": lambda optimizer, scheduler: COPIES["pickle"]((optimizer, scheduler)),
}


@pytest.mark.parametrize("late", [False, True], ids=["after step", "before step"])
@pytest.mark.parametrize("first", FIRST_CALLS.values(), ids=FIRST_CALLS)
def test_changed_groups_are_read_by_whatever_method_is_called_first(first, late):
    """Shares are read off the values that the groups hold, before anything sets others."""
    optimizer = sgd({}, {"lr": 0.05})
    scheduler = Scheduler(optimizer, CYCLE)
    run(optimizer, scheduler, 3)
    if late:
        update(optimizer)
    del optimizer.param_groups[0]
    optimizer.add_param_group({"params": weights(), "lr": 0.25 * CYCLE(3)})
    optimizer.add_param_group({"params": weights()})
    found = first(optimizer, scheduler)
    optimizer, scheduler = found if isinstance(found, tuple) and len(found) == 2 else (optimizer, scheduler)
    now = 3 + (late and first is FIRST_CALLS["step"])
    assert update(optimizer) == pytest.approx([share * CYCLE(now) for share in (0.1, 0.25, 1.0)])
    scheduler.step()
    assert scheduler.get_last_lr() == pytest.approx([share * CYCLE(4 + late) for share in (0.1, 0.25, 1.0)])


def test_a_state_saved_right_after_groups_changed_can_be_resumed():
    optimizer = sgd({}, {"lr": 0.05})
    scheduler = Scheduler(optimizer, CYCLE)
    run(optimizer, scheduler, 3)
    del optimizer.param_groups[0]
    optimizer.add_param_group({"params": weights(), "lr": 0.25 * CYCLE(3)})
    state = scheduler.state_dict()
    assert (state["in_charge"], "rates" in state) == (True, False)
    resumed = sgd({"lr": 0.05}, {"lr": 0.25 * CYCLE(3)})
    other = Scheduler(resumed, CYCLE)
    other.load_state_dict(stored(state))
    for used, share in zip(run(resumed, other, 5), (0.1, 0.25), strict=True):
        assert used == pytest.approx([share * rate for rate in values(CYCLE, 5, 3)])


def test_a_state_saved_before_an_edit_restores_the_shares_before_it():
    optimizer = sgd({}, {"lr": 0.25})
    scheduler = Scheduler(optimizer, CYCLE)
    before = [stored(held.state_dict()) for held in (optimizer, scheduler)]
    optimizer.param_groups[1]["lr"] *= 0.1
    run(optimizer, scheduler, 3)
    for held, state in zip((optimizer, scheduler), before, strict=True):
        held.load_state_dict(state)
    assert run(optimizer, scheduler, 5) == [values(CYCLE, 5), [0.5 * rate for rate in values(CYCLE, 5)]]


def test_an_edit_is_kept_if_a_group_is_removed_or_the_optimizer_is_loaded():
    for change in (lambda o: o.param_groups.pop(0), lambda o: o.load_state_dict(o.state_dict())):
        optimizer = sgd({}, {})
        scheduler = Scheduler(optimizer, CYCLE)
        run(optimizer, scheduler, 3)
        optimizer.param_groups[1]["lr"] *= 0.1
        change(optimizer)
        assert run(optimizer, scheduler, 5)[-1] == pytest.approx([0.1 * rate for rate in values(CYCLE, 5, 3)])


def test_the_default_of_a_group_that_is_added_is_a_share_of_the_created_rates():
    """Whatever was done by hand to the group that the shares were first counted from."""
    for change in (
        lambda o: o.param_groups[0].update(lr=0.1 * o.param_groups[0]["lr"]),
        lambda o: o.param_groups.pop(0),
    ):
        optimizer = sgd({}, {"lr": 0.05})
        scheduler = Scheduler(optimizer, CYCLE)
        run(optimizer, scheduler, 3)
        change(optimizer)
        optimizer.add_param_group({"params": weights()})
        assert run(optimizer, scheduler, 5)[-1] == pytest.approx(values(CYCLE, 5, 3))


def test_a_common_factor_of_all_groups_changes_no_share():
    """As another scheduler in a chain sets it after every update."""
    optimizer = sgd({}, {"lr": 0.25})
    scheduler = Scheduler(optimizer, CYCLE)
    for step in range(6):
        assert scheduler.get_last_lr() == [CYCLE(step), 0.5 * CYCLE(step)]
        for group in optimizer.param_groups:
            group["lr"] *= 0.5
        update(optimizer)
        scheduler.step()


def test_remaining_groups_keep_their_rates_if_another_is_removed():
    for removed in range(3):
        optimizer = sgd({}, {"lr": 0.05}, {"lr": 0.005})
        scheduler = Scheduler(optimizer, CYCLE)
        wanted = run(optimizer, scheduler, 4) and [[s * v for v in values(CYCLE, 5, 4)] for s in (1, 0.1, 0.01)]
        del optimizer.param_groups[removed], wanted[removed]
        assert run(optimizer, scheduler, 5) == [pytest.approx(rates, rel=1e-12) for rates in wanted]


def test_a_group_that_is_added_keeps_its_share_after_the_turn_of_another():
    optimizer = sgd()
    parts = [lr_scheduler.ConstantLR(optimizer, 0.5, 100), Scheduler(optimizer, CYCLE)]
    sequence = lr_scheduler.SequentialLR(optimizer, parts, [4])
    run(optimizer, sequence, 2)
    optimizer.add_param_group({"params": weights(), "lr": 0.025})
    assert run(optimizer, sequence, 5)[1] == pytest.approx([0.025] * 2 + [0.1 * rate for rate in values(CYCLE, 3)])


def test_ratios_come_from_the_current_rates_and_not_from_an_earlier_phase():
    optimizer = sgd({}, {})
    lr_scheduler.OneCycleLR(optimizer, 0.1, 10)
    for group, rate in zip(optimizer.param_groups, (0.01, 0.001), strict=True):
        group["lr"] = rate
    assert Scheduler(optimizer, Constant(0.5)).get_last_lr() == pytest.approx([0.5, 0.05])
    optimizer = sgd({}, {"lr": 0.05})
    kept = Scheduler(optimizer, Warmup(CYCLE, 4))
    assert [group["lr"] for group in optimizer.param_groups] == [0, 0]
    assert Scheduler(optimizer, Constant(0.5)).get_last_lr() == pytest.approx([0.5, 0.05])
    del kept


# Tensors


OPTIMIZERS = {
    "SGD": lambda p, lr: torch.optim.SGD(p, lr=lr),
    "SGD, foreach": lambda p, lr: torch.optim.SGD(p, lr=lr, foreach=True),
    "SGD, fused": lambda p, lr: torch.optim.SGD(p, lr=lr, fused=True),
    "Adam": lambda p, lr: torch.optim.Adam(p, lr=lr),
    "Adam, fused": lambda p, lr: torch.optim.Adam(p, lr=lr, fused=True),
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("tensor", [False, True], ids=["a number", "a tensor"])
def test_every_kind_of_optimizer(make, tensor):
    """Adam's first update, and all of them with the same gradient, move a weight by its rate."""
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = make([weight], torch.tensor(0.5) if tensor else 0.5)
    held = optimizer.param_groups[0]["lr"]
    scheduler = Scheduler(optimizer, CYCLE)
    used = []
    for _ in range(7):
        before = weight.item()
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        scheduler.step()
        used.append(before - weight.item())
    assert used == pytest.approx(values(CYCLE, 7), rel=1e-4)
    assert not tensor or optimizer.param_groups[0]["lr"] is held


def test_a_tensor_is_changed_in_place_and_get_last_lr_returns_copies():
    rate = torch.tensor(0.5, dtype=torch.float64)
    optimizer = sgd(lr=rate)
    scheduler = Scheduler(optimizer, CYCLE)
    read = scheduler.get_last_lr()
    assert run(optimizer, scheduler, 5) == [values(CYCLE, 5)]
    assert optimizer.param_groups[0]["lr"] is rate
    assert (rate.item(), read[0].item()) == (CYCLE(5), CYCLE(0))


@pytest.mark.parametrize("schedules", [CYCLE, [CYCLE, OTHER]], ids=["one schedule", "two schedules"])
def test_a_tensor_that_is_the_default_of_all_groups_is_not_shared(schedules):
    """torch gives every group the very same tensor."""
    optimizer = sgd({}, {}, {"lr": 0.25}, lr=torch.tensor(0.5, dtype=torch.float64))
    if isinstance(schedules, list):
        schedules = [*schedules, Constant(0.5)]
    first, second, third = run(optimizer, Scheduler(optimizer, schedules), 5)
    assert first == values(CYCLE, 5)
    assert second == values(OTHER if isinstance(schedules, list) else CYCLE, 5)
    assert third == ([0.5] * 5 if isinstance(schedules, list) else [0.5 * rate for rate in first])


def test_groups_added_later_get_the_initial_value_of_a_default_tensor():
    """The first group holds the very tensor that the optimizer keeps as its default, and it is filled in place."""
    optimizer = sgd(lr=torch.tensor(0.5, dtype=torch.float64))
    schedule = Warmup(CYCLE, 4)
    scheduler = Scheduler(optimizer, schedule)
    for _ in range(2):
        optimizer.add_param_group({"params": weights()})
    optimizer.add_param_group({"params": weights(), "lr": torch.tensor(0.25, dtype=torch.float64)})
    first, *others, last = run(optimizer, scheduler, 9)
    assert others == [first, first] == [values(schedule, 9)] * 2
    assert last == [0.5 * rate for rate in first]


def test_a_momentum_that_is_a_tensor_is_filled_in_place():
    beta = torch.tensor(0.9)
    optimizer = torch.optim.Adam(
        [torch.nn.Parameter(torch.zeros(1))], lr=torch.tensor(0.5), betas=(beta, torch.tensor(0.99))
    )
    Scheduler(optimizer, CYCLE, momentum=MOMENTUM).step(2)
    assert optimizer.param_groups[0]["betas"][0] is beta
    assert beta.item() == pytest.approx(MOMENTUM(2))


COMPILED = {
    "SGD": (lambda p: torch.optim.SGD(p, lr=torch.tensor(0.5)), None),
    "AdamW, capturable": (
        lambda p: torch.optim.AdamW(
            p, lr=torch.tensor(0.5), betas=(torch.tensor(0.9), torch.tensor(0.99)), weight_decay=0, capturable=True
        ),
        MOMENTUM,
    ),
}


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
@pytest.mark.parametrize(("make", "momentum"), COMPILED.values(), ids=COMPILED)
def test_a_compiled_training_step_is_not_compiled_again(make, momentum):
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = make([weight])
    scheduler = Scheduler(optimizer, CYCLE, momentum=momentum)

    @torch.compile(backend="aot_eager")
    def step(factor):
        loss = (factor * weight).sum()
        loss.backward()
        optimizer.step()

    used = []
    for _ in range(12):
        before = weight.item()
        weight.grad = None
        step(torch.ones(1))
        if len(used) == 1:
            compiled = counters["stats"]["unique_graphs"]
        scheduler.step()
        used.append(before - weight.item())
    assert counters["stats"]["unique_graphs"] == compiled > 0
    assert used == pytest.approx(values(CYCLE, 12), rel=1e-6 if momentum is None else 0.5)


# State


def train(optimizer, scheduler, updates, first=0):
    """Updates with gradients of their own, and the weights after every one."""
    seen = []
    for step in range(first, first + updates):
        for group in optimizer.param_groups:
            for weight in group["params"]:
                weight.grad = torch.full_like(weight, (step * 7 % 5) - 1.5)
        optimizer.step()
        scheduler.step()
        seen.append([weight.item() for group in optimizer.param_groups for weight in group["params"]])
    return seen


def stored(state):
    """A state that has been in a file."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def adam(rate=0.5):
    return torch.optim.Adam(
        [{"params": weights(), "weight_decay": 0.1}, {"params": weights(), "lr": 0.25}], lr=rate, betas=(0.9, 0.99)
    )


def full(optimizer, **arguments):
    return Scheduler(optimizer, CYCLE, MOMENTUM, DECAY, **arguments)


@pytest.mark.parametrize("order", ["optimizer first", "scheduler first", "scheduler made last", "scheduler alone"])
@pytest.mark.parametrize("split", [0, 1, 3, 6, 10])
def test_a_resumed_run_equals_the_whole_run(order, split):
    optimizer = adam()
    wanted = train(optimizer, full(optimizer), 16)
    optimizer = adam()
    scheduler = full(optimizer)
    done = train(optimizer, scheduler, split)
    states = [stored(held.state_dict()) for held in (optimizer, scheduler)]
    values_then = [group["params"][0].detach().clone() for group in optimizer.param_groups]

    optimizer = adam()
    with torch.no_grad():
        for group, value in zip(optimizer.param_groups, values_then, strict=True):
            group["params"][0].copy_(value)
    if order == "scheduler made last":
        optimizer.load_state_dict(states[0])
        scheduler = full(optimizer, start_step=split)
    elif order == "scheduler first":
        scheduler = full(optimizer)
        scheduler.load_state_dict(states[1])
        optimizer.load_state_dict(states[0])
    elif order == "optimizer first":
        scheduler = full(optimizer)
        optimizer.load_state_dict(states[0])
        scheduler.load_state_dict(states[1])
    else:
        scheduler = full(optimizer)
        optimizer.load_state_dict({**states[0], "param_groups": optimizer.state_dict()["param_groups"]})
        scheduler.load_state_dict(states[1])
    assert done + train(optimizer, scheduler, 16 - split, split) == wanted


def test_a_state_saved_between_update_and_step_equals_one_saved_after_both():
    optimizer = sgd()
    scheduler = Scheduler(optimizer, CYCLE)
    run(optimizer, scheduler, 2)
    update(optimizer)
    state = scheduler.state_dict()
    scheduler.step()
    assert state == scheduler.state_dict()
    resumed = sgd()
    other = Scheduler(resumed, CYCLE)
    other.load_state_dict(state)
    other.step()
    assert run(resumed, other, 4) == [values(CYCLE, 4, 3)]


def test_the_state_is_a_step_and_a_description_in_json():
    optimizer = adam()
    scheduler = full(optimizer)
    train(optimizer, scheduler, 5)
    state = scheduler.state_dict()
    assert json.loads(json.dumps(state)) == state == stored(state)
    assert state == {
        "version": 1,
        "step": 5,
        "in_charge": True,
        "schedules": {
            "lr": [CYCLE.to_dict()],
            "momentum": [MOMENTUM.to_dict()],
            "weight_decay": [DECAY.to_dict()],
        },
    }


FUNCTION = Cyclical(0.25, 0.75, 3, decay=PerCycle(lambda cycle: 1 / (1 + cycle)))


@pytest.mark.parametrize("schedules", [CYCLE, [CYCLE, OTHER], [OTHER, FUNCTION]], ids=["one", "two", "a function"])
def test_a_state_with_the_same_schedules_is_resumed(schedules):
    optimizer = sgd({}, {})
    scheduler = Scheduler(optimizer, schedules)
    run(optimizer, scheduler, 5)
    state = json.loads(json.dumps(scheduler.state_dict()))
    resumed = sgd({}, {})
    other = Scheduler(resumed, schedules)
    other.load_state_dict(state)
    assert run(resumed, other, 9) == run(optimizer, scheduler, 9)


def test_an_older_description_with_fewer_entries_is_the_same_schedule():
    schedule = Warmup(CYCLE, 4)
    state, _ = saved_at(5, schedule)
    del state["schedules"]["lr"][0]["over"]
    resumed = sgd()
    other = Scheduler(resumed, schedule)
    other.load_state_dict(state)
    assert run(resumed, other, 9) == [values(schedule, 9, 5)]


def saved_at(step, *arguments, groups=1, **options):
    optimizer = sgd(*[{}] * groups, momentum=0.9)
    scheduler = Scheduler(optimizer, *arguments, **options)
    run(optimizer, scheduler, step)
    return scheduler.state_dict(), optimizer.state_dict()


@pytest.mark.parametrize("optimizer_last", [False, True], ids=["optimizer first", "optimizer last"])
def test_a_run_is_extended_by_new_schedules(optimizer_last):
    """torch's schedulers silently go on by the old ones, or fail: "tried to step 11 times"."""
    state, optimizer_state = saved_at(10, Cyclical.over(11, 1, 0.25, 0.75))
    longer = Cyclical.over(41, 2, 0.125, 0.5)
    optimizer = sgd()
    scheduler = Scheduler(optimizer, longer)
    with pytest.raises(ValueError, match='schedules="new"'):
        scheduler.load_state_dict(state)
    if not optimizer_last:
        optimizer.load_state_dict(optimizer_state)
    scheduler.load_state_dict(state, schedules="new")
    if optimizer_last:
        optimizer.load_state_dict(optimizer_state)
    optimizer.param_groups[0]["momentum"] = 0
    assert run(optimizer, scheduler, 30) == [values(longer, 30, 10)]


def test_groups_keep_their_ratios_if_one_saved_schedule_replaces_one_for_each():
    def made(schedules, **arguments):
        return Scheduler(sgd({"weight_decay": 0.5}, {"lr": 0.25, "weight_decay": 0.0}), schedules, **arguments)

    one = made(CYCLE, weight_decay=DECAY)
    other = made([OTHER, OTHER])
    other.load_state_dict(one.state_dict(), schedules="saved")
    for scheduler in (one, other):
        held = [(group["lr"], group["weight_decay"]) for group in scheduler.optimizer.param_groups]
        assert held == [(CYCLE(0), DECAY(0)), (0.5 * CYCLE(0), 0.0)]


@pytest.mark.parametrize("step", [0, 4])
@pytest.mark.parametrize("optimizer_last", [False, True], ids=["scheduler alone", "an older optimizer last"])
def test_saved_schedules_replace_the_scheduler_s_own(optimizer_last, step):
    state, _ = saved_at(step, OTHER, MOMENTUM, DECAY)
    optimizer = sgd()
    scheduler = Scheduler(optimizer, CYCLE)
    older = copy.deepcopy(optimizer.state_dict())
    scheduler.load_state_dict(stored(state), schedules="saved")
    if optimizer_last:
        optimizer.load_state_dict(older)
    (group,) = optimizer.param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (OTHER(step), MOMENTUM(step), DECAY(step))
    assert scheduler.state_dict() == state
    update(optimizer)
    scheduler.step()
    assert (group["lr"], group["momentum"]) == (OTHER(step + 1), MOMENTUM(step + 1))


def everything(optimizer, scheduler):
    hyperparameters = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    return copy.deepcopy(hyperparameters), scheduler.state_dict(), scheduler.last_epoch


OTHERS = {
    "OneCycleLR": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=40),
    "CosineAnnealingLR": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 40),
    "Scheduler": lambda optimizer: Scheduler(optimizer, OTHER),
}


@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_a_second_scheduler_is_one_warning(make, first):
    optimizer = sgd()
    made = [Scheduler(optimizer, CYCLE), make(optimizer)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(30):
            update(optimizer)
            for each in made if first else reversed(made):
                each.step()
    found = [str(each.message) for each in caught if "another scheduler" in str(each.message)]
    assert found
    assert all("changed the learning rate of SGD between the last 8 calls of step()" in message for message in found)


def test_rates_set_by_hand_give_no_warning_about_a_second_scheduler():
    optimizer = sgd()
    scheduler = Scheduler(optimizer, CYCLE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(30):
            update(optimizer)
            scheduler.step()
            optimizer.param_groups[0]["lr"] *= 0.5


def test_a_scheduler_prints_its_position():
    optimizer = sgd()
    scheduler = Scheduler(optimizer, BOUNDS.schedule(total_steps=40))
    update(optimizer)
    scheduler.step()
    lr = optimizer.param_groups[0]["lr"]
    assert repr(scheduler) == f"<Scheduler: 1 of 40 updates made, lr {lr:.3g}>"
    assert repr(Scheduler(optimizer, CYCLE)).startswith("<Scheduler: 0 updates made, lr ")


def test_a_method_in_place_of_a_schedule_is_an_error():
    with pytest.raises(TypeError, match=r"Call it: bounds\.schedule\(total_steps=\.\.\.\)\.$"):
        Scheduler(sgd(), BOUNDS.schedule)


LISTED = [CYCLE, OTHER]
BOUNDS = Bounds(0.001, 0.1, "ok", "read from a plot")
MESSAGE_OF_BOUNDS = r"must be a cyclr schedule; got .*=<Bounds: .*>\. Write bounds\.schedule\(total_steps=\.\.\.\) with"
BAD_STATES = {
    "another schedule": (
        saved_at(3, OTHER)[0],
        "same",
        r"^state_dict must hold the schedules of this.*continue at step 3",
    ),
    "a momentum too": (saved_at(3, CYCLE, MOMENTUM)[0], "same", r"^state_dict must hold the schedules of this"),
    "of torch": (
        lr_scheduler.StepLR(sgd(), 1).state_dict(),
        "same",
        r"(?s)must come from Scheduler.state_dict\(\) of version 1; got keys \['_.* create Sched.*start_step=n\)\.$",
    ),
    "nothing": (None, "same", r"must come from Scheduler.state_dict\(\) of version 1; got None"),
    "another version": ({"version": 2, "step": 1}, "same", "of version 1"),
    "no step": ({"version": 1, "schedules": {}}, "new", "of version 1"),
    "a negative step": ({"version": 1, "step": -1, "schedules": {}}, "new", "^step must be an integer of at least 0"),
    "an unknown word": (saved_at(3, CYCLE)[0], "newest", "^schedules must be one of 'same', 'new', 'saved'"),
    "a function": (saved_at(3, FUNCTION)[0], "saved", "^the saved state contains a Python function, which"),
    "more groups": (saved_at(3, LISTED, groups=2)[0], "saved", "^lr must be one schedule, or one for each of the 1"),
    "more momenta": (
        saved_at(3, OTHER, [MOMENTUM] * 2, groups=2)[0],
        "saved",
        "^momentum must be one schedule, or one",
    ),
}


@pytest.mark.parametrize(("state", "schedules", "message"), BAD_STATES.values(), ids=BAD_STATES)
def test_a_state_that_does_not_fit_is_an_error_and_changes_nothing(state, schedules, message):
    optimizer = sgd(momentum=0.9)
    scheduler = Scheduler(optimizer, CYCLE)
    run(optimizer, scheduler, 2)
    before = everything(optimizer, scheduler)
    with pytest.raises(ValueError, match=message):
        scheduler.load_state_dict(state, schedules=schedules)
    assert everything(optimizer, scheduler) == before
    update(optimizer)
    scheduler.step()
    assert scheduler.get_last_lr() == [CYCLE(3)]


def test_saved_schedules_of_a_momentum_that_is_not_there_change_nothing():
    state, _ = saved_at(3, OTHER, MOMENTUM)
    optimizer = torch.optim.Adagrad(weights(), lr=0.5)
    scheduler = Scheduler(optimizer, CYCLE)
    before = everything(optimizer, scheduler)
    with pytest.raises(ValueError, match=r"^momentum= needs an optimizer with momentum"):
        scheduler.load_state_dict(state, schedules="saved")
    assert everything(optimizer, scheduler) == before


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda held: pickle.loads(pickle.dumps(held)),  # noqa: S301
}


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
def test_copies_of_optimizer_and_scheduler_are_independent(duplicate):
    optimizer = adam()
    scheduler = full(optimizer)
    train(optimizer, scheduler, 4)
    other, twin = duplicate((optimizer, scheduler))
    assert twin.optimizer is other
    assert train(other, twin, 6, 4) == train(optimizer, scheduler, 6, 4)
    assert (twin.last_epoch, scheduler.last_epoch) == (10, 10)
    train(other, twin, 1)
    assert (twin.last_epoch, scheduler.last_epoch) == (11, 10)


def test_a_shallow_copy_has_its_own_count():
    optimizer = sgd()
    scheduler = Scheduler(optimizer, CYCLE)
    twin = copy.copy(scheduler)
    for step in range(3):
        assert (scheduler.last_epoch, twin.last_epoch) == (step, step)
        update(optimizer)
        scheduler.step()
        twin.step()


# Company


def test_it_is_an_instance_of_lrscheduler():
    assert isinstance(Scheduler(sgd(), CYCLE), lr_scheduler.LRScheduler)


def test_the_optimizer_does_not_keep_it_alive():
    optimizer = sgd()
    scheduler = Scheduler(optimizer, CYCLE)
    run(optimizer, scheduler, 2)
    reference = weakref.ref(scheduler)
    del scheduler
    gc.collect()
    assert reference() is None
    assert update(optimizer) == [CYCLE(2)]


def hooks(optimizer):
    kinds = ("step_pre", "step_post", "load_state_dict_pre", "load_state_dict_post")
    return sum(len(getattr(optimizer, f"_optimizer_{kind}_hooks")) for kind in kinds)


@pytest.mark.parametrize("duplicate", [lambda held: held, *COPIES.values()], ids=["itself", *COPIES])
def test_the_next_scheduler_removes_the_hooks_of_those_that_are_gone(duplicate):
    optimizer = sgd()
    optimizer, scheduler = duplicate((optimizer, Scheduler(optimizer, CYCLE)))
    for _ in range(5):
        Scheduler(optimizer, CYCLE)
        gc.collect()
    # Those of this one and of the last one.
    assert hooks(optimizer) == 8
    assert run(optimizer, scheduler, 3) == [values(CYCLE, 3)]


def test_a_scheduler_can_be_deleted_during_an_update():
    """The garbage collector decides when, and torch goes through the hooks then."""
    optimizer = sgd()
    optimizer.register_step_pre_hook(lambda *given: gc.collect() and None)
    gone = Scheduler(optimizer, CYCLE)
    gone.itself = gone
    reference = weakref.ref(gone)
    del gone
    update(optimizer)
    assert reference() is None


def test_uncounted_restores_the_hooks_in_their_order():
    optimizer, called = sgd(), []
    note = lambda name: lambda *given: called.append(name)  # noqa: E731
    optimizer.register_step_post_hook(note("first"))
    scheduler, gone = Scheduler(optimizer, CYCLE), Scheduler(optimizer, CYCLE)
    removed = optimizer.register_step_post_hook(note("removed"))
    optimizer.register_step_post_hook(note("second"))
    numbers = [list(kind) for kind in (optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks)]
    with uncounted([optimizer]), uncounted([optimizer]):
        update(optimizer)
        optimizer.register_step_post_hook(note("third"))
        removed.remove()
        del gone
        gc.collect()
    assert scheduler.last_epoch == scheduler._position == 0
    called.clear()
    assert run(optimizer, scheduler, 3) == [values(CYCLE, 3)]
    assert called == ["first", "second", "third"] * 3
    before, after = optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks
    assert list(before) == numbers[0][:1]
    assert list(after)[:3] == [numbers[1][index] for index in (0, 1, 4)]


def test_no_global_object_keeps_the_optimizer_alive():
    optimizer = sgd()
    scheduler = Scheduler(optimizer, CYCLE)
    reference = weakref.ref(optimizer)
    run(optimizer, scheduler, 2)
    del optimizer, scheduler
    gc.collect()
    assert reference() is None


class Holder(torch.optim.Optimizer):
    """A wrapper with the groups of the optimizer within."""

    def __init__(self, optimizer):
        super().__init__(optimizer.param_groups, optimizer.defaults)
        self.optimizer, self.param_groups = optimizer, optimizer.param_groups

    def step(self, closure=None):
        self.optimizer.step()


class Loads(Holder):
    """It lets the one within load, and keeps the old groups."""

    def load_state_dict(self, state):
        self.optimizer.load_state_dict(state)


class TwoPasses(Holder):
    """As sharpness-aware minimization, whose own `step` nobody calls."""

    def step(self, closure=None):
        raise AssertionError


@pytest.mark.parametrize("older", [False, True], ids=["the same state", "an older state"])
@pytest.mark.parametrize("wrap", [Holder, Loads, lambda o: Loads(Loads(o))], ids=["itself loads", "within", "nested"])
def test_rates_are_set_in_the_groups_that_a_wrapper_reads(wrap, older):
    """https://github.com/kozistr/pytorch_optimizer/issues/237"""
    inner = sgd({}, {"lr": 0.25})
    optimizer = wrap(inner)
    scheduler = Scheduler(optimizer, CYCLE)
    assert scheduler.optimizer is optimizer
    used, state = [], copy.deepcopy(inner.state_dict())
    for step in range(8):
        if step == 3:
            optimizer.load_state_dict(state if older else copy.deepcopy(inner.state_dict()))
        used.append([-moved for moved in _moved(inner, optimizer.step)])
        scheduler.step()
    assert used == [[CYCLE(step), 0.5 * CYCLE(step)] for step in range(8)]


def _moved(optimizer, step):
    held = [group["params"][0] for group in optimizer.param_groups]
    with torch.no_grad():
        for weight in held:
            weight.zero_()
            weight.grad = torch.ones_like(weight)
    step()
    return [weight.item() for weight in held]


def test_updates_of_the_inner_optimizer_are_counted():
    """https://github.com/davda54/sam/issues/28"""
    optimizer = TwoPasses(sgd())
    scheduler = Scheduler(optimizer, CYCLE)
    assert run(optimizer.optimizer, scheduler, 8) == [values(CYCLE, 8)]


def test_a_wrapper_with_separate_groups_is_an_error():
    optimizer = Loads(sgd())
    optimizer.load_state_dict(copy.deepcopy(optimizer.optimizer.state_dict()))
    for make in (lambda: Scheduler(optimizer, CYCLE), lambda: CyclicLR(optimizer, 0.1, 0.2)):
        with pytest.raises(ValueError, match=r"^Loads must have the same param_groups as the SGD inside it; got other"):
            make()
    optimizer.param_groups = optimizer.optimizer.param_groups
    assert run(optimizer, Scheduler(optimizer, CYCLE), 4) == [values(CYCLE, 4)]


def test_updates_of_two_optimizers_are_counted_separately():
    """As for a GAN, whose players may train unequally often."""
    first, second = sgd(), sgd()
    schedulers = Scheduler(first, CYCLE), Scheduler(second, OTHER)
    used = [], []
    for step in range(12):
        used[0].append(update(first)[0])
        if step % 3 == 0:
            used[1].append(update(second)[0])
        for scheduler in schedulers:
            scheduler.step()
    assert used == (values(CYCLE, 12), values(OTHER, 4))


def test_two_schedulers_on_one_optimizer():
    optimizer = sgd(momentum=0.9)
    rate, momentum = Scheduler(optimizer, CYCLE), Scheduler(optimizer, momentum=MOMENTUM)
    for step in range(7):
        assert optimizer.param_groups[0]["lr"] == CYCLE(step)
        assert optimizer.param_groups[0]["momentum"] == MOMENTUM(step)
        optimizer.step()
        rate.step()
        momentum.step()


@pytest.mark.filterwarnings("ignore:Detected call of .lr_scheduler.step:UserWarning")
def test_a_scheduler_works_at_any_place_in_a_sequential_lr():
    def sequence(optimizer):
        parts = [
            lr_scheduler.LinearLR(optimizer, 0.5, 1.0, total_iters=4),
            Scheduler(optimizer, CYCLE),
            Scheduler(optimizer, OTHER),
            lr_scheduler.ConstantLR(optimizer, 0.25, 100),
        ]
        return lr_scheduler.SequentialLR(optimizer, parts, [4, 10, 15])

    wanted = [0.25, 0.3125, 0.375, 0.4375, *values(CYCLE, 6), *values(OTHER, 5)]
    optimizer = sgd()
    scheduler = sequence(optimizer)
    (used,) = run(optimizer, scheduler, 20)
    assert used[:15] == pytest.approx(wanted, rel=1e-15)

    for split in (2, 4, 7, 12):
        optimizer = sgd()
        scheduler = sequence(optimizer)
        (before,) = run(optimizer, scheduler, split)
        states = stored([scheduler.state_dict(), optimizer.state_dict()])
        optimizer = sgd()
        scheduler = sequence(optimizer)
        scheduler.load_state_dict(states[0])
        optimizer.load_state_dict(states[1])
        assert before + run(optimizer, scheduler, 20 - split)[0] == used

    optimizer = sgd()
    parts = [Scheduler(optimizer, CYCLE), lr_scheduler.ConstantLR(optimizer, 0.5, 100)]
    scheduler = lr_scheduler.SequentialLR(optimizer, parts, [5])
    assert run(optimizer, scheduler, 5) == [values(CYCLE, 5)]


def linear(optimizer):
    return lr_scheduler.LinearLR(optimizer, 0.1, 1.0, 10)


SEQUENCES = {
    "ours last": lambda o: [linear(o), Scheduler(o, CYCLE)],
    "ours first": lambda o: [Scheduler(o, CYCLE), linear(o)],
    "ours first, with the same rate": lambda o: [Scheduler(o, Constant(0.5)), linear(o)],
    "ours last, with the same rate": lambda o: [linear(o), Scheduler(o, Constant(0.5))],
    "ours first, from a later step": lambda o: [Scheduler(o, CYCLE, start_step=2), linear(o)],
    "ours last, from a later step": lambda o: [linear(o), Scheduler(o, CYCLE, start_step=2)],
    "ours last, from last_epoch": lambda o: [linear(o), Scheduler(o, CYCLE, last_epoch=3)],
    "ours last, by calls": lambda o: [linear(o), Scheduler(o, CYCLE, start_step=2, counts="calls")],
    "both ours": lambda o: [Scheduler(o, OTHER), Scheduler(o, CYCLE)],
}


@pytest.mark.filterwarnings("ignore:Detected call of .lr_scheduler.step:UserWarning")
@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("optimizer_last", [False, True], ids=["optimizer first", "optimizer last"])
@pytest.mark.parametrize("make", SEQUENCES.values(), ids=SEQUENCES)
def test_a_sequential_lr_is_resumed_during_the_turn_of_any_scheduler(make, optimizer_last, dtype):
    def sequence():
        optimizer = sgd(lr=0.5 if dtype is None else torch.tensor(0.5, dtype=dtype))
        return optimizer, lr_scheduler.SequentialLR(optimizer, make(optimizer), [10])

    optimizer, scheduler = sequence()
    (wanted,) = run(optimizer, scheduler, 20)
    for split in (0, 5, 10, 11, 15):
        optimizer, scheduler = sequence()
        (used,) = run(optimizer, scheduler, split) if split else ([],)
        states = stored([optimizer.state_dict(), scheduler.state_dict()])
        optimizer, scheduler = sequence()
        held = [optimizer, scheduler]
        for index in (1, 0) if optimizer_last else (0, 1):
            held[index].load_state_dict(states[index])
        # A second time: what was saved is saved again.
        if split:
            assert scheduler.state_dict()["_schedulers"] == states[1]["_schedulers"]
        assert used + run(optimizer, scheduler, 20 - split)[0] == wanted


@pytest.mark.filterwarnings("ignore:Detected call of .lr_scheduler.step:UserWarning")
def test_the_state_of_a_scheduler_follows_its_turn_in_a_sequence():
    optimizer = sgd()
    scheduler = Scheduler(optimizer, CYCLE)
    state = lambda: (scheduler._in_sequence, scheduler._pending, scheduler.state_dict()["in_charge"])  # noqa: E731
    assert state() == (False, False, True)
    parts = [lr_scheduler.ConstantLR(optimizer, 0.25, 100), scheduler, lr_scheduler.ConstantLR(optimizer, 0.25, 100)]
    sequence = lr_scheduler.SequentialLR(optimizer, parts, [2, 5])
    seen = []
    for _ in range(7):
        seen.append(state())
        update(optimizer)
        sequence.step()
    assert seen == [(True, True, False)] * 2 + [(True, False, True)] * 3 + [(True, False, False)] * 2
    scheduler.step()
    assert state() == (True, False, True)


def test_a_rate_that_is_changed_by_hand_is_not_set_again_when_the_optimizer_is_loaded():
    optimizer = sgd()
    scheduler = Scheduler(optimizer, CYCLE)
    optimizer.param_groups[0]["lr"] = 0.125
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert scheduler.get_last_lr() == [0.125]
    assert not scheduler._in_sequence


@pytest.mark.filterwarnings("ignore:Detected call of .lr_scheduler.step:UserWarning")
def test_new_schedules_apply_in_a_sequence_until_the_next_scheduler_starts():
    def sequence(schedule):
        optimizer = sgd()
        parts = [Scheduler(optimizer, schedule), lr_scheduler.ConstantLR(optimizer, 0.25, 100)]
        return optimizer, parts[0], lr_scheduler.SequentialLR(optimizer, parts, [6])

    optimizer, scheduler, whole = sequence(CYCLE)
    run(optimizer, whole, 4)
    states = stored([optimizer.state_dict(), scheduler.state_dict(), whole.state_dict()["last_epoch"]])
    optimizer, scheduler, whole = sequence(OTHER)
    scheduler.load_state_dict(states[1], schedules="new")
    whole.last_epoch = states[2]
    optimizer.load_state_dict(states[0])
    assert run(optimizer, whole, 4) == [[*values(OTHER, 2, 4), 0.125, 0.125]]
    # Another one's rate is not replaced.
    rate = scheduler.get_last_lr()
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert scheduler.get_last_lr() == rate


@pytest.mark.parametrize("counts", ["updates", "calls"])
@pytest.mark.filterwarnings("ignore:Detected call of .lr_scheduler.step:UserWarning")
def test_a_pending_scheduler_stays_pending_after_a_state_from_an_earlier_start(counts):
    def sequence(start):
        optimizer = sgd()
        ours = Scheduler(optimizer, CYCLE, start_step=start, counts=counts)
        return optimizer, lr_scheduler.SequentialLR(optimizer, [lr_scheduler.ConstantLR(optimizer, 0.5, 30), ours], [6])

    _, saved = sequence(0)
    optimizer, scheduler = sequence(2)
    # A second time, the state is its own.
    for state in (saved.state_dict(), scheduler.state_dict()):
        scheduler.load_state_dict(stored(state))
        assert optimizer.param_groups[0]["lr"] == 0.25
    assert run(optimizer, scheduler, 8) == [[0.25] * 6 + values(CYCLE, 2)]


def test_a_rate_that_is_changed_by_hand_for_an_update_is_saved():
    optimizer = sgd()
    scheduler = Scheduler(optimizer, CYCLE)
    run(optimizer, scheduler, 4)
    optimizer.param_groups[0]["lr"] = 0.125
    state = scheduler.state_dict()
    assert not state["in_charge"]
    optimizer = sgd()
    scheduler = Scheduler(optimizer, CYCLE)
    scheduler.load_state_dict(state)
    assert run(optimizer, scheduler, 4) == [[0.125, *values(CYCLE, 3, 5)]]


def test_a_state_of_a_version_without_in_charge_is_loaded():
    state = saved_at(4, CYCLE)[0]
    del state["in_charge"]
    optimizer = sgd()
    scheduler = Scheduler(optimizer, CYCLE)
    scheduler.load_state_dict(state)
    assert run(optimizer, scheduler, 4) == [values(CYCLE, 4, 4)]


@pytest.mark.parametrize("shared", [False, True], ids=["numbers", "one tensor for all groups"])
def test_a_new_schedule_applies_also_if_an_older_optimizer_state_is_loaded_after_it(shared):
    rate = torch.tensor(0.5, dtype=torch.float64) if shared else 0.5
    older = sgd({}, {}, lr=rate)
    if not shared:
        run(older, Scheduler(older, CYCLE), 5)
    optimizer = sgd({}, {}, lr=rate)
    scheduler = Scheduler(optimizer, [OTHER, CYCLE], start_step=5)
    optimizer.load_state_dict(copy.deepcopy(older.state_dict()))
    assert scheduler.get_last_lr() == [OTHER(5), CYCLE(5)]
    assert run(optimizer, scheduler, 4) == [values(OTHER, 4, 5), values(CYCLE, 4, 5)]


def test_chained_to_a_scheduler_of_torch():
    optimizer = sgd(momentum=0.9)
    chain = lr_scheduler.ChainedScheduler(
        [lr_scheduler.ExponentialLR(optimizer, 0.5), Scheduler(optimizer, momentum=MOMENTUM)]
    )
    for step in range(7):
        assert optimizer.param_groups[0]["lr"] == 0.5 * 0.5**step == chain.get_last_lr()[0]
        assert optimizer.param_groups[0]["momentum"] == MOMENTUM(step)
        optimizer.step()
        chain.step()


class Scaled(lr_scheduler.LRScheduler):
    """The rate of the scheduler before it, times 0.3; at first as it is if it is late."""

    late = False

    def get_lr(self):
        return [
            group["lr"] * (1.0 if self.late and self.last_epoch == 0 else 0.3) for group in self.optimizer.param_groups
        ]


class ScaledLate(Scaled):
    late = True


CHAINED = {
    "Scheduler": lambda o, schedule: Scheduler(o, schedule, resume="new"),
    "CyclicLR": lambda o, schedule: CyclicLR(o, 0.1, 0.7, 3, cycle_momentum=False),
}


@pytest.mark.parametrize("dtype", [None, torch.float32], ids=str)
@pytest.mark.parametrize("order", ["optimizer first", "scheduler first", "scheduler alone"])
@pytest.mark.parametrize("factor", [Scaled, ScaledLate])
@pytest.mark.parametrize("make", CHAINED.values(), ids=CHAINED)
def test_a_chain_is_resumed_at_the_rates_of_a_run_in_one(make, factor, order, dtype):
    """https://github.com/pytorch/pytorch/issues/29697"""

    def chain(schedule=CYCLE):
        rates = [0.5 if dtype is None else torch.tensor(rate, dtype=dtype) for rate in (0.5, 0.25)]
        optimizer = sgd({"lr": rates[0]}, {"lr": rates[1]})
        parts = [make(optimizer, schedule), factor(optimizer)]
        return optimizer, lr_scheduler.ChainedScheduler(parts, optimizer)

    wanted = run(*chain(), 9)
    for split in (1, 3, 4):
        optimizer, scheduler = chain()
        used = run(optimizer, scheduler, split)
        states = stored([optimizer.state_dict(), scheduler.state_dict()])
        held = chain()
        for index in {"optimizer first": (0, 1), "scheduler first": (1, 0), "scheduler alone": (1,)}[order]:
            held[index].load_state_dict(states[index])
        assert [a + b for a, b in zip(used, run(*held, 9 - split), strict=True)] == wanted


def test_a_chain_resumed_with_new_schedules_keeps_its_factor():
    def chain(schedule):
        optimizer = sgd()
        return optimizer, lr_scheduler.ChainedScheduler([CHAINED["Scheduler"](optimizer, schedule), Scaled(optimizer)])

    held = chain(CYCLE)
    run(*held, 4)
    optimizer, scheduler = chain(OTHER)
    scheduler.load_state_dict(copy.deepcopy(held[1].state_dict()))
    assert run(optimizer, scheduler, 4) == [pytest.approx([0.3 * rate for rate in values(OTHER, 4, 4)])]


def test_get_last_lr_returns_the_rates_of_the_next_update():
    optimizer = sgd({}, {"lr": 0.25})
    scheduler = Scheduler(optimizer, CYCLE)
    for step in range(5):
        assert scheduler.get_last_lr() == [CYCLE(step), 0.5 * CYCLE(step)]
        assert update(optimizer) == scheduler.get_last_lr()
        scheduler.step()
    optimizer.param_groups[0]["lr"] = 0.375
    assert scheduler.get_last_lr()[0] == 0.375


def test_get_lr_computes_for_code_that_moves_the_clock_itself():
    """As Ignite's `LRScheduler` does."""
    optimizer = sgd({}, {"lr": 0.25})
    scheduler = Scheduler(optimizer, CYCLE)
    for step in range(9):
        scheduler.last_epoch = step
        assert scheduler.get_lr() == [CYCLE(step), 0.5 * CYCLE(step)]
    optimizer.add_param_group({"params": weights(), "lr": 3.0})
    assert scheduler.get_lr() == [CYCLE(8), 0.5 * CYCLE(8), 3.0]
    assert Scheduler(sgd(momentum=0.9), momentum=MOMENTUM).get_lr() == [0.5]


def test_within_ignite():
    engine = pytest.importorskip("ignite.engine")
    handlers = pytest.importorskip("ignite.handlers.param_scheduler")
    optimizer, used = sgd(), []
    trainer = engine.Engine(lambda engine, batch: used.extend(update(optimizer)))
    trainer.add_event_handler(engine.Events.ITERATION_STARTED, handlers.LRScheduler(Scheduler(optimizer, CYCLE)))
    trainer.run([0] * 4, max_epochs=3)
    assert used == values(CYCLE, 12)


@pytest.mark.parametrize("betas", [False, True])
def test_within_ignite_all_hyperparameters_follow(betas):
    engine = pytest.importorskip("ignite.engine")
    handlers = pytest.importorskip("ignite.handlers.param_scheduler")
    optimizer, seen = adam() if betas else sgd({"weight_decay": 0.5}, {}, momentum=0.9), []

    def step(engine, batch):
        group = optimizer.param_groups[0]
        seen.append((group["lr"], group["betas"][0] if betas else group["momentum"], group["weight_decay"]))
        update(optimizer)

    trainer = engine.Engine(step)
    trainer.add_event_handler(engine.Events.ITERATION_STARTED, handlers.LRScheduler(full(optimizer)))
    trainer.run([0] * 4, max_epochs=3)
    assert seen == [(CYCLE(step), MOMENTUM(step), DECAY(step)) for step in range(12)]


def test_within_ignite_a_run_after_the_end_of_the_schedule_gives_one_warning():
    engine = pytest.importorskip("ignite.engine")
    handlers = pytest.importorskip("ignite.handlers.param_scheduler")
    optimizer = sgd()
    scheduler = Scheduler(optimizer, OneCycle(0.1, 0.5, total_steps=10))
    trainer = engine.Engine(lambda engine, batch: update(optimizer))
    trainer.add_event_handler(engine.Events.ITERATION_STARTED, handlers.LRScheduler(scheduler))
    trainer.run([0] * 10, max_epochs=1)
    with pytest.warns(UserWarning, match=r"^update number 11 is past the end .* total_steps=10") as told:
        trainer.run([0] * 10, max_epochs=2)
    assert len(told) == 1


def test_reading_rates_keeps_rates_set_by_hand_or_by_others():
    optimizer = sgd({"weight_decay": 0.5}, {}, momentum=0.9)
    scheduler = full(optimizer)
    optimizer.param_groups[0]["weight_decay"] = 0.75
    scheduler.get_lr()
    assert optimizer.param_groups[0]["weight_decay"] == 0.75
    optimizer = sgd(momentum=0.9, weight_decay=0.5)
    waiting = full(optimizer)
    lr_scheduler.SequentialLR(optimizer, [lr_scheduler.ConstantLR(optimizer, 0.5, 100), waiting], [10])
    optimizer.param_groups[0]["momentum"] = 0.125
    waiting.get_lr()
    assert optimizer.param_groups[0]["momentum"] == 0.125


def test_calls_without_any_update_give_one_warning():
    optimizer = sgd(momentum=0.9)
    schedulers = Scheduler(optimizer, CYCLE), CyclicLR(optimizer, 0.25, 0.75, 3)
    optimizer.param_groups[0]["params"][0].grad = torch.ones(1, dtype=torch.float64)
    for scheduler in schedulers:
        for _ in range(999):
            scheduler.step()
        message = r"unless you accumulate gradients .*Scheduler\(\.\.\., counts=\"calls\"\).*schedule\(step\)"
        with pytest.warns(UserWarning, match=message) as told:
            scheduler.step()
        assert str(told[0].message).startswith(f"step() of {type(scheduler).__name__} was called 1000 times, but no")
        assert told[0].filename == __file__
        for _ in range(1200):
            scheduler.step()


def test_calls_between_updates_give_no_warning():
    optimizer = sgd()
    scheduler, calls = Scheduler(optimizer, CYCLE), Scheduler(sgd(), CYCLE, counts="calls")
    update(optimizer)
    with uncounted([calls.optimizer]):
        for _ in range(1200):
            scheduler.step()
            calls.step()
    other = Scheduler(sgd(), CYCLE)
    with uncounted([other.optimizer]):
        for _ in range(1200):
            other.step()


def test_removing_a_group_gives_no_warning_about_another_optimizer():
    optimizer = sgd({}, {})
    scheduler = Scheduler(optimizer, CYCLE)
    for call in range(32):
        if call == 8:
            del optimizer.param_groups[0]
        scheduler.step()


def test_updates_of_another_optimizer_give_one_warning():
    held = weights()
    scheduler = Scheduler(torch.optim.SGD(held, lr=0.5), CYCLE)
    other = torch.optim.SGD(held, lr=0.5)
    with pytest.warns(UserWarning, match="while something else updated its parameters.*optimizer that updates") as told:
        run(other, scheduler, 2500)
    assert len(told) == 1


@pytest.mark.parametrize("every", [300, 20, 5, 3, 2])
def test_updates_without_step_give_one_warning(every):
    optimizer = sgd({}, {})
    scheduler = Scheduler(optimizer, OTHER)

    def epochs():
        for done in range(1, 300):
            update(optimizer)
            if done % every == 0:
                scheduler.step()

    with pytest.warns(
        UserWarning, match=r"updates without a call of step\(\) of Scheduler.*not once per epoch"
    ) as told:
        epochs()
    assert len(told) == 1


@pytest.mark.filterwarnings("ignore:Detected call of .lr_scheduler.step:UserWarning")
def test_a_sequence_that_is_stepped_once_per_epoch_gives_a_warning():
    optimizer = sgd()
    parts = [lr_scheduler.ConstantLR(optimizer, 0.25, 100), Scheduler(optimizer, OTHER)]
    sequence = lr_scheduler.SequentialLR(optimizer, parts, [2])

    def epochs():
        for _ in range(8):
            for _ in range(20):
                update(optimizer)
            sequence.step()

    with pytest.warns(UserWarning, match=r"SGD made 8 of its last updates without a call of step\(\)"):
        epochs()


def test_schedulers_that_need_not_be_stepped_give_no_warning():
    optimizer = sgd()
    earlier, constant = Scheduler(optimizer, CYCLE), Scheduler(sgd(), Constant(0.5))
    scheduler = Scheduler(optimizer, OTHER)
    sequence = lr_scheduler.SequentialLR(second := sgd(), [Scheduler(second, CYCLE), Scheduler(second, OTHER)], [200])
    for _ in range(500):
        update(optimizer), update(constant.optimizer), update(second)
        scheduler.step()
        sequence.step()
    assert earlier.get_last_lr() == scheduler.get_last_lr()
    optimizer = sgd()
    phases = Scheduler(optimizer, CYCLE, start_step=1), Scheduler(optimizer, CYCLE)
    run(optimizer, phases[1], 200)


def test_updates_after_the_end_of_a_schedule_give_one_warning():
    whole = OneCycle(0.1, 0.5, total_steps=20, final_lr=0.05)
    for schedules in (whole, Warmup(OneCycle(0.1, 0.5, 15, final_lr=0.05), 5), [whole, CYCLE]):
        optimizer = sgd({}, {})
        scheduler = Scheduler(optimizer, schedules)
        run(optimizer, scheduler, 20)
        with pytest.warns(
            UserWarning, match=r"^update number 21 is past .* total_steps=20: the value stays at 0\.05"
        ) as told:
            run(optimizer, scheduler, 1)
        assert len(told) == 1
        run(optimizer, scheduler, 20)
        state = scheduler.state_dict()
        optimizer = sgd({}, {})
        scheduler = Scheduler(optimizer, schedules)
        scheduler.load_state_dict(state)
        with pytest.warns(UserWarning, match=r"^update number 42 is past"):
            run(optimizer, scheduler, 1)


def test_a_range_test_by_hand_after_the_end_gives_no_warning():
    optimizer = sgd()
    scheduler = Scheduler(optimizer, OneCycle(0.1, 0.5, total_steps=20))
    run(optimizer, scheduler, 20)
    for step in range(60):
        optimizer.param_groups[0]["lr"] = 1e-3 * 1.1**step
        update(optimizer)


def test_a_momentum_of_1_raises_before_its_update_even_if_largest_is_lower():
    for lie in (Rising(0.9, 0.95), [Rising(0.9, 0.95)]):
        optimizer = sgd(momentum=0.9)
        scheduler = Scheduler(optimizer, Constant(0.5), momentum=lie)
        update(optimizer)
        with pytest.raises(ValueError, match=r"^momentum must stay below 1; got 1\.0 from Rising"):
            scheduler.step()
        assert optimizer.param_groups[0]["momentum"] == 0.9


@pytest.mark.parametrize("resume", ["same", "new", "saved"])
def test_load_state_dict_uses_the_argument_resume_by_default(resume):
    state = saved_at(3, CYCLE)[0]
    optimizer = sgd()
    scheduler = Scheduler(optimizer, OTHER, resume=resume)
    if resume == "same":
        with pytest.raises(ValueError, match=r'create the Scheduler\(\.\.\., resume="new"\), or "saved"'):
            scheduler.load_state_dict(state)
        scheduler.load_state_dict(state, schedules="new")
    else:
        scheduler.load_state_dict(state)
    assert run(optimizer, scheduler, 4) == [values(CYCLE if resume == "saved" else OTHER, 4, 3)]
    with pytest.raises(ValueError, match=r"^resume must be one of 'same', 'new', 'saved'"):
        Scheduler(optimizer, OTHER, resume="old")


def test_accumulation_over_many_batches_gives_no_warning():
    optimizer = sgd()
    scheduler = Scheduler(optimizer, CYCLE)
    (weight,) = optimizer.param_groups[0]["params"]
    for batch in range(1024):
        (weight / 512).sum().backward()
        if batch % 512 == 511:
            optimizer.step()
            optimizer.zero_grad()
        scheduler.step()
    assert scheduler.last_epoch == 2


@pytest.mark.parametrize("draw", [lambda held: held, copy.deepcopy], ids=["itself", "a copy"])
def test_a_schedule_that_is_drawn_by_calling_step_gives_one_warning(draw):
    scheduler = draw(Scheduler(sgd(), CYCLE))

    def step(times):
        for _ in range(times):
            scheduler.step()

    step(32)
    with pytest.warns(UserWarning, match=r"no update of SGD .* nothing is trained.*schedule\(step\)") as told:
        step(2000)
    assert len(told) == 1
    assert told[0].filename == __file__


def test_a_scheduler_that_waits_while_another_optimizer_trains_gives_no_warning():
    """As for a generator that starts after a hundred updates of its critic."""
    generator, critic = sgd(), sgd()
    schedulers = Scheduler(generator, CYCLE), Scheduler(critic, OTHER)
    for batch in range(120):
        update(critic)
        if batch >= 100:
            update(generator)
        for scheduler in schedulers:
            scheduler.step()
    assert [scheduler.last_epoch for scheduler in schedulers] == [20, 120]


def test_updates_that_loss_scaling_skips_at_first_give_no_warning():
    (weight,) = [torch.nn.Parameter(torch.zeros(1))]
    optimizer = torch.optim.SGD([weight], lr=0.5)
    scheduler, scaler = Scheduler(optimizer, CYCLE), torch.amp.GradScaler("cpu")
    for attempt in range(40):
        scaler.scale((float("inf") if attempt < 20 else 1) * weight.sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        scheduler.step()
    assert scheduler.last_epoch == 20


def test_weights_are_averaged_at_the_ends_of_cycles():
    optimizer = sgd()
    scheduler = Scheduler(optimizer, CYCLE)
    averaged = torch.optim.swa_utils.AveragedModel(torch.nn.Linear(1, 1))
    for _ in range(18):
        update(optimizer)
        scheduler.step()
        if CYCLE.is_cycle_end(scheduler.last_epoch):
            averaged.update_parameters(averaged.module)
    assert averaged.n_averaged.item() == 3


# timm's interface


def timm_loop(scheduler, optimizer, start=0, epochs=4, batches=6):
    """The loop of timm's train.py, which steps the scheduler on updates."""
    if start > 0:
        scheduler.step_update(start * batches)
    used = []
    for epoch in range(start, epochs):
        num_updates = epoch * batches
        for _ in range(batches):
            used.append([group["lr"] for group in optimizer.param_groups])
            update(optimizer)
            num_updates += 1
            scheduler.step_update(num_updates=num_updates, metric=0.5)
        scheduler.step(epoch + 1, 0.25)
    return used


def test_a_loop_written_for_timm_uses_the_rates_of_the_schedule_and_is_resumed():
    groups = {"lr_scale": 0.5}, {"lr_scale": 1.0}
    optimizer = sgd(*groups)
    used = timm_loop(TimmScheduler(optimizer, CYCLE), optimizer)
    assert used == [[0.5 * CYCLE(step), CYCLE(step)] for step in range(24)]
    optimizer = sgd(*groups)
    assert timm_loop(TimmScheduler(optimizer, CYCLE), optimizer, start=2) == used[12:]


def test_epochs_change_nothing_in_timms_interface():
    optimizer = sgd()
    scheduler = TimmScheduler(optimizer, CYCLE)
    scheduler.step(0)
    used = []
    for epoch in range(3):
        for _ in range(4):
            used += update(optimizer)
            scheduler.step()
        scheduler.step(epoch, metric=1.0)
    assert used == values(CYCLE, 12)


def test_timms_resume_by_epochs_is_an_error():
    scheduler = TimmScheduler(sgd(), CYCLE)
    with pytest.raises(
        ValueError, match=r"^step\(epoch\) must come after an update; got epoch=3 before .*step_update\("
    ):
        scheduler.step(3)
    with pytest.raises(ValueError, match=r"^num_updates must be an integer of at least 0; got num_updates=-1"):
        scheduler.step_update(-1)


# Errors


@dataclass(frozen=True)
class Steep(Schedule):
    """A schedule of one's own."""

    low: float

    def evaluate(self, xp, step):
        return self.low + 0.1 * step


@dataclass(frozen=True)
class Rising(Steep):
    """One that says how far it rises."""

    top: float

    @property
    def largest(self):
        return self.top


def test_a_user_s_momentum_schedule_below_1_is_accepted():
    optimizer = sgd(momentum=0.9)
    Scheduler(optimizer, CYCLE, momentum=Rising(low=0.5, top=0.9))
    assert optimizer.param_groups[0]["momentum"] == 0.5


BAD = {
    "no schedule": (
        lambda: Scheduler(sgd()),
        ValueError,
        r"^Scheduler must get at least one schedule; got none\. Pass",
    ),
    "no optimizer": (lambda: Scheduler(torch.nn.Linear(1, 1), CYCLE), TypeError, r"^optimizer must be .*got Linear\."),
    "a number": (
        lambda: Scheduler(sgd(), 0.1),
        TypeError,
        r"^lr must be a cyclr schedule; got lr=0\.1\. Try cyclr\.Co",
    ),
    "a function": (
        lambda: Scheduler(sgd(), lambda step: 0.1),
        TypeError,
        r"^lr must be a cyclr schedule; got lr=<func",
    ),
    "numbers": (lambda: Scheduler(sgd(), [0.1]), TypeError, r"^lr\[0\] must be a cyclr schedule; got lr\[0\]=0\.1"),
    **{
        f"bounds as {name}": (lambda given=given: Scheduler(sgd(), **given), TypeError, MESSAGE_OF_BOUNDS)
        for name, given in {"lr": {"lr": BOUNDS}, "lr[0]": {"lr": [BOUNDS]}, "momentum": {"momentum": BOUNDS}}.items()
    },
    "none in a list": (lambda: Scheduler(sgd(), []), ValueError, r"^lr must be one schedule, or one for each of the 1"),
    "one too many": (lambda: Scheduler(sgd(), LISTED), ValueError, r"for each of the 1 parameter groups; got 2\.$"),
    "one too few": (lambda: Scheduler(sgd({}, {}, {}), LISTED), ValueError, r"of the 3 parameter groups; got 2\.$"),
    "momentum": (lambda: Scheduler(sgd(), momentum=0.9), TypeError, r"^momentum must be a cyclr schedule"),
    **{
        f"a momentum of {of!r}": (
            lambda of=of: Scheduler(sgd(momentum=0.9), CYCLE, momentum=of),
            ValueError,
            r"^momentum must stay below 1; got \w+\(.*\), which reaches 1\.[05]\.$",
        )
        for of in (
            Constant(1.0),
            Warmup(Constant(1.5), 5),
            Warmup(Constant(0.5), 5, start=1.5),
            Warmup(Sequence([Constant(0.9), Constant(1.5)], [2]), 2),
            Rising(low=0.9, top=1.5),
            Sequence([Constant(0.9), Constant(1.5)], [3]),
            Cyclical(0.8, 1.0, 3),
            CYCLE.mirrored(0.8, 1.0),
        )
    },
    "a momentum whose largest value is not known": (
        lambda: Scheduler(sgd(momentum=0.9), CYCLE, momentum=Steep(low=0.9)),
        ScheduleError,
        r"^momentum must stay below 1, but the largest value of Steep\(.*\) is not known, .*Add a property `la",
    ),
    "weight decay": (lambda: Scheduler(sgd(), weight_decay=0.1), TypeError, r"^weight_decay must be a cyclr schedule"),
    "weight decays": (
        lambda: Scheduler(sgd({}, {}), weight_decay=[DECAY, DECAY]),
        TypeError,
        r"^weight_decay must be a cyclr schedule",
    ),
    "no weight decay": (
        lambda: Scheduler(torch.optim.LBFGS(weights()), weight_decay=DECAY),
        ValueError,
        r"^weight_decay= needs an optimizer with weight decay; got LBFGS\.$",
    ),
    "a list of entries": (lambda: Scheduler(sgd(), entries=[CYCLE]), TypeError, r"^entries must be a dict of sche"),
    "an entry that is not there": (
        lambda: Scheduler(sgd({}, {"of_mine": 0.5}), entries={"of_mine": CYCLE}),
        ValueError,
        r"^entries must be one of 'dampening'; got entries='of_mine'\.$",
    ),
    "an entry that is no number": (
        lambda: Scheduler(torch.optim.Adam(weights()), entries={"amsgrad": CYCLE}),
        ValueError,
        r"^entries must be one of 'eps', 'beta2'; got entries='amsgrad'",
    ),
    "an entry with an argument of its own": (
        lambda: Scheduler(sgd(), entries={"lr": CYCLE}),
        ValueError,
        r"^entries must be one of 'dampening'; got entries='lr'",
    ),
    "an entry that the scheduler writes itself": (
        lambda: Scheduler(sgd({"initial_lr": 0.5}), entries={"initial_lr": CYCLE}),
        ValueError,
        r"^entries must be one of 'dampening'; got entries='initial_lr'",
    ),
    "an entry that is the momentum": (
        lambda: Scheduler(torch.optim.Adadelta(weights()), momentum=MOMENTUM, entries={"rho": MOMENTUM}),
        ValueError,
        r"^entries must be one of 'eps'; got entries='rho'",
    ),
    "an entry without a schedule": (
        lambda: Scheduler(sgd(), entries={"dampening": 0.5}),
        TypeError,
        r"^dampening must be a cyclr schedule; got dampening=0\.5",
    ),
    "a second beta of 1": (
        lambda: Scheduler(torch.optim.Adam(weights()), entries={"beta2": Constant(1.0)}),
        ValueError,
        r"^beta2 must stay below 1; got Constant\(value=1\.0\), which reaches 1\.0\.$",
    ),
    "start": (
        lambda: Scheduler(sgd(), CYCLE, start_step=-1),
        ValueError,
        r"^start_step must be an integer of at least",
    ),
    "half a start": (
        lambda: Scheduler(sgd(), CYCLE, start_step=0.5),
        TypeError,
        r"^start_step must be an integer; got",
    ),
    "last_epoch": (lambda: Scheduler(sgd(), CYCLE, last_epoch=-2), ValueError, r"^last_epoch must be an integer of at"),
    "counts": (
        lambda: Scheduler(sgd(), CYCLE, counts="epochs"),
        ValueError,
        r"^counts must be one of 'updates', 'calls'",
    ),
    "step": (lambda: Scheduler(sgd(), CYCLE).step(-1), ValueError, r"^epoch must be an integer of at least 0"),
    "a metric": (
        lambda: Scheduler(sgd(), CYCLE).step(1, 0.5),
        TypeError,
        r"^step\(\) must be called without a metric; got metric=0\.5\. Call scheduler\.step\(\).*TimmScheduler",
    ),
    "a metric by name": (lambda: Scheduler(sgd(), CYCLE).step(metric=0.5), TypeError, r"^step\(\) must be called with"),
    "timm's interface": (
        lambda: Scheduler(sgd(), CYCLE).step_update(num_updates=1),
        AttributeError,
        r"^step_update must be called on a TimmScheduler; got a Scheduler\. .*TimmScheduler\(optimizer, lr=",
    ),
    "a setting that is not there": (
        lambda: CyclicLR(sgd(), 0.1, 0.2, cycle_momentum=False).max_momentums,
        AttributeError,
        r"^CyclicLR has max_momentums only with cycle_momentum=True\.$",
    ),
    "half a step": (lambda: Scheduler(sgd(), CYCLE).step(1.5), TypeError, r"^epoch must be an integer; got epoch=1\.5"),
}


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_a_bad_argument_is_an_error_with_the_legal_range(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("arguments", [{"start_step": -1}, {"counts": "epochs"}, {"last_epoch": 0.5}])
def test_a_failed_constructor_does_not_change_the_optimizer(arguments):
    optimizer = sgd()
    with pytest.raises((TypeError, ValueError)):
        Scheduler(optimizer, CYCLE, **arguments)
    (group,) = optimizer.param_groups
    assert (group["lr"], "initial_lr" in group) == (0.5, False)
    assert not optimizer._optimizer_step_post_hooks
