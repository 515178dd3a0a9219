"""CycleEnd for torch: called right after the update at every minimum, with the weights that it made."""

import copy
import gc
import itertools
import math
import types
import warnings

import pytest
import torch
from tests.torch import auto_cycle_run as run
from torch.nn.functional import mse_loss

import cyclr
from cyclr.torch import AutoCycle, CycleEnd, CyclicLR, Scheduler, TimmScheduler, range_test

LOW, HIGH, UPDATES = 0.125, 0.5, 16
# With the steps of their minima, from their definitions.
SCHEDULES = {
    "Cyclical": (cyclr.Cyclical(LOW, HIGH, 2), [4, 8, 12]),
    "cycles of uneven length": (cyclr.Cyclical.over(16, 2, LOW, HIGH), [7, 15]),
    "WarmRestarts": (cyclr.WarmRestarts(LOW, HIGH, 5), [4, 9, 14]),
    "OneCycle": (cyclr.OneCycle(LOW, HIGH, 16), [15]),
    "Sequence": (
        cyclr.Sequence([cyclr.OneCycle(LOW, HIGH, 6), cyclr.WarmRestarts(LOW, HIGH, 4)], [6]),
        [5, 9, 13],
    ),
    "Clock": (cyclr.Clock(cyclr.WarmRestarts(LOW, HIGH, 2), every=3), [5, 11]),
    "warm-up": (cyclr.Warmup(cyclr.WarmRestarts(LOW, HIGH, 4), 3), [6, 10, 14]),
}
CYCLE, ENDS = SCHEDULES["Cyclical"]


class Seen:
    """What CycleEnd calls: it keeps the step, and how many updates the weight has seen."""

    def __init__(self, weight):
        self.weight, self.steps, self.updates = weight, [], []

    def __call__(self, step):
        self.steps.append(step)
        self.updates.append(round(-self.weight.item()))


class Counting(torch.optim.SGD):
    """It lowers its only weight by 1 in every update, whatever the rate is."""

    @torch.no_grad()
    def step(self, closure=None):
        self.param_groups[0]["params"][0].sub_(1)


def counter(kind=Counting, **arguments):
    """A weight that counts the updates, and its optimizer."""
    weight = torch.nn.Parameter(torch.zeros(1))
    return weight, kind([weight], lr=1.0, **arguments)


def trained(scheduler, optimizer, updates=UPDATES):
    for _ in range(updates):
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize(("schedule", "ends"), SCHEDULES.values(), ids=SCHEDULES)
def test_it_is_called_after_the_update_at_every_minimum(schedule, ends):
    weight, optimizer = counter()
    scheduler, seen = Scheduler(optimizer, schedule), Seen(weight)
    CycleEnd(seen, scheduler)
    trained(scheduler, optimizer)
    assert seen.steps == ends
    assert seen.updates == [step + 1 for step in ends]


def test_it_lives_as_long_as_the_scheduler_and_no_longer():
    weight, optimizer = counter()
    seen, others = Seen(weight), Seen(weight)
    scheduler = Scheduler(optimizer, CYCLE)
    CycleEnd(seen, scheduler)
    gc.collect()
    trained(scheduler, optimizer, 5)
    del scheduler
    gc.collect()
    scheduler = Scheduler(optimizer, CYCLE)
    CycleEnd(others, scheduler)
    trained(scheduler, optimizer, 10)
    assert (seen.steps, others.steps) == ([4], [4, 8])


def test_several_functions_are_called_in_order():
    _, optimizer = counter()
    scheduler, called = Scheduler(optimizer, CYCLE), []
    CycleEnd(lambda step: called.append(("first", step)), scheduler)
    CycleEnd(lambda step: called.append(("second", step)), scheduler)
    trained(scheduler, optimizer, 6)
    assert called == [("first", 4), ("second", 4)]


@pytest.mark.parametrize("fused", [False, True])
def test_an_update_that_scaling_skips_ends_no_cycle(fused):
    weight, optimizer = counter(torch.optim.SGD, fused=fused)
    scheduler, seen = Scheduler(optimizer, CYCLE), Seen(weight)
    CycleEnd(seen, scheduler)
    scaler, made = torch.amp.GradScaler("cpu", init_scale=2.0), 0
    for turn in itertools.count():
        bad = turn in (2, 4, 5)
        weight.grad = torch.full_like(weight, math.inf if bad else scaler.get_scale() / optimizer.param_groups[0]["lr"])
        scaler.scale(torch.zeros(1))
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
        made += not bad
        if made == 10:
            break
    assert seen.steps == [4, 8]
    assert seen.updates == [5, 9]


def test_a_range_test_calls_nothing():
    torch.manual_seed(0)
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler, steps = Scheduler(optimizer, CYCLE), []
    CycleEnd(steps.append, scheduler)
    loader = [(torch.ones(2, 1), torch.ones(2, 1))] * 30
    for _ in range(6):
        optimizer.step()
        scheduler.step()
    range_test(model, optimizer, mse_loss, loader, steps=30)
    assert steps == [4]
    for _ in range(3):
        optimizer.step()
        scheduler.step()
    assert steps == [4, 8]


def test_in_a_sequential_lr_only_cycles_of_its_turn_count():
    weight, optimizer = counter()
    first = torch.optim.lr_scheduler.LinearLR(optimizer, 0.5, total_iters=3)
    second, seen = Scheduler(optimizer, CYCLE), Seen(weight)
    CycleEnd(seen, second)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sequence = torch.optim.lr_scheduler.SequentialLR(optimizer, [first, second], milestones=[6])
        trained(sequence, optimizer, 16)
    assert second.last_epoch == 10
    assert seen.updates == [6 + 5, 6 + 9]
    assert seen.steps == [4, 8]


def test_in_a_chained_scheduler_cycles_count():
    weight, optimizer = counter()
    scheduler, seen = Scheduler(optimizer, CYCLE), Seen(weight)
    CycleEnd(seen, scheduler)
    factor = torch.optim.lr_scheduler.ConstantLR(optimizer, 0.5, total_iters=100)
    trained(torch.optim.lr_scheduler.ChainedScheduler([scheduler, factor], optimizer), optimizer, 10)
    assert seen.steps == [4, 8]


@pytest.mark.parametrize(
    "made",
    [
        lambda optimizer: Scheduler(optimizer, momentum=CYCLE),
        lambda optimizer: Scheduler(optimizer, [CYCLE]),
        lambda optimizer: Scheduler(optimizer, CYCLE, momentum=cyclr.Cyclical(LOW, HIGH, 3)),
        lambda optimizer: TimmScheduler(optimizer, CYCLE),
        lambda optimizer: CyclicLR(optimizer, LOW, HIGH, step_size_up=2),
        lambda optimizer: CyclicLR(optimizer, LOW, HIGH, step_size_up=1.5, step_size_down=2.5),
    ],
    ids=["momentum only", "a list", "rate before momentum", "timm", "CyclicLR", "CyclicLR in fractions"],
)
def test_every_scheduler_has_ends(made):
    _, optimizer = counter(momentum=0.5)
    scheduler, steps = made(optimizer), []
    CycleEnd(steps.append, scheduler)
    trained(scheduler, optimizer, 10)
    assert steps == [4, 8]


def test_between_two_steps_no_cycle_ends():
    _, optimizer = counter(momentum=0.5)
    scheduler, steps = CyclicLR(optimizer, LOW, HIGH, step_size_up=2), []
    CycleEnd(steps.append, scheduler)
    for update_number in range(6):
        optimizer.step()
        scheduler.step(update_number + 1.5)
    assert steps == []


@pytest.mark.parametrize("at", range(1, 10))
def test_a_resumed_run_calls_at_the_ends_that_are_left(at):
    _, optimizer = counter()
    scheduler, steps = Scheduler(optimizer, CYCLE), []
    CycleEnd(steps.append, scheduler)
    trained(scheduler, optimizer, at)
    state = scheduler.state_dict(), optimizer.state_dict()
    _, optimizer = counter()
    scheduler = Scheduler(optimizer, CYCLE)
    CycleEnd(steps.append, scheduler)
    optimizer.load_state_dict(state[1])
    scheduler.load_state_dict(state[0])
    trained(scheduler, optimizer, UPDATES - at)
    assert steps == ENDS


def test_a_loaded_schedule_decides():
    _, optimizer = counter()
    scheduler, steps = Scheduler(optimizer, cyclr.Cyclical(LOW, HIGH, 3), resume="saved"), []
    CycleEnd(steps.append, scheduler)
    scheduler.load_state_dict(Scheduler(counter()[1], CYCLE).state_dict())
    trained(scheduler, optimizer)
    assert steps == ENDS


def test_a_wrapper_with_a_scheduler_is_taken_apart():
    _, optimizer = counter()
    scheduler, steps = Scheduler(optimizer, CYCLE), []
    CycleEnd(steps.append, types.SimpleNamespace(scheduler=scheduler))
    trained(scheduler, optimizer, 6)
    assert steps == [4]


def test_a_copy_of_the_scheduler_calls_nothing():
    _, optimizer = counter()
    scheduler, steps = Scheduler(optimizer, CYCLE), []
    CycleEnd(steps.append, scheduler)
    copied = copy.deepcopy(scheduler)
    for _ in range(6):
        copied.optimizer.step()
        copied.step()
    assert steps == []


# AutoCycle

AUTO = pytest.mark.filterwarnings("ignore:AutoCycle:UserWarning", "ignore:the schedule has:UserWarning")


def auto_run(schedule, steps, bad=()):
    model = run.network()
    optimizer = run.OPTIMIZERS["momentum"](model)
    auto = AutoCycle(model, optimizer, total_steps=steps, schedule=schedule)
    called = []
    CycleEnd(lambda step: called.append((step, auto.factor, [p.detach().clone() for p in model.parameters()])), auto)
    made = []
    for x, y in run.batches(steps):
        loss = mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        made.append([p.detach().clone() for p in model.parameters()])
        assert len(called) == len([step for step, *_ in called if step < len(made) - 1])
        auto.step(loss.item() * (math.nan if len(made) - 1 in bad else 1))
    return auto, called, made


@AUTO
def test_an_auto_cycle_calls_with_its_step_after_the_loss():
    auto, called, made = auto_run(cyclr.Cyclical.over(60, 3, 1e-4, run.RATES["momentum"]), 60)
    assert auto.events == ()
    assert [step for step, *_ in called] == [19, 39, 59]
    for step, _, weights in called:
        assert all(torch.equal(one, other) for one, other in zip(weights, made[step], strict=True))


@AUTO
def test_an_end_whose_update_an_auto_cycle_undoes_is_none():
    auto, called, _ = auto_run(cyclr.Cyclical.over(60, 3, 1e-4, run.RATES["momentum"]), 60, bad=[39])
    assert len(auto.events) == 1
    assert [step for step, *_ in called] == [19, 59]


@AUTO
def test_an_auto_cycle_with_a_range_test_has_ends_after_it():
    auto, called, _ = auto_run(None, 1500)
    assert auto.range_test is not None
    assert [step for step, *_ in called] == [1499]


# What is refused


def test_what_cannot_be_followed_is_refused():
    _, optimizer = counter()
    with pytest.raises(TypeError, match="fn must be a function of the step; got fn=3"):
        CycleEnd(3, Scheduler(optimizer, CYCLE))
    torchs = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    with pytest.raises(TypeError, match=r"must be a cyclr.torch.Scheduler or a cyclr.torch.AutoCycle; got StepLR\."):
        CycleEnd(print, torchs)
    with pytest.raises(ValueError, match=r'got a Scheduler\(counts="calls"\)\. Call your function'):
        CycleEnd(print, Scheduler(optimizer, CYCLE, counts="calls"))
    for schedule in (cyclr.Constant(0.1), cyclr.Anneal(0.1, 0.0, 10, limit=0)):
        with pytest.raises(ValueError, match="CycleEnd needs a schedule with cycle ends; got "):
            CycleEnd(print, Scheduler(optimizer, schedule))
