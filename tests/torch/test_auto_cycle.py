"""AutoCycle for torch: calm runs, returns, split runs, what goes back, several processes, and what is refused."""

import copy
import gc
import io
import itertools
import math
import os
import pickle
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.torch import auto_cycle_run as run
from torch.nn.functional import mse_loss

import cyclr
from cyclr.errors import AutoCycleError
from cyclr.torch import AutoCycle, Scheduler

pytestmark = pytest.mark.filterwarnings("ignore:AutoCycle:UserWarning", "ignore:.*lr_scheduler.step:UserWarning")


def trained(kind, optimizer_name, *, auto, steps=60):
    """The weights and rates of a run with AutoCycle or with Scheduler."""
    model = run.network()
    optimizer = run.OPTIMIZERS[optimizer_name](model)
    cycle = cyclr.Cyclical.over(steps, 2, 1e-4, run.RATES[optimizer_name])
    compiled = torch.compile(model, backend="eager") if kind == "compiled" else model
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8, enabled=kind == "scaler")
    made = (
        AutoCycle(compiled, optimizer, total_steps=steps, schedule=cycle, also=[scaler])
        if auto
        else Scheduler(optimizer, cycle)
    )
    rates, data = [], run.batches(steps * (2 if kind == "accumulation" else 1))
    while len(rates) < steps:
        optimizer.zero_grad()
        losses = []
        for x, y in itertools.islice(data, 2 if kind == "accumulation" else 1):
            with torch.autocast("cpu", torch.bfloat16, enabled=kind == "bfloat16"):
                loss = mse_loss(compiled(x).float(), y)
            losses.append(loss.item())
            scaler.scale(loss).backward()
        rates.append([float(group["lr"]) for group in optimizer.param_groups])
        scaler.step(optimizer)
        scaler.update()
        made.step(float(np.mean(losses))) if auto else made.step()
    if auto:
        assert made.events == ()
        assert made.last_step == steps - 1
    return rates, [p.detach().clone() for p in model.parameters()]


def test_updates_without_a_step_are_an_error_before_the_run_is_spent():
    model = run.network()
    optimizer = run.OPTIMIZERS["momentum"](model)
    auto = AutoCycle(model, optimizer, total_steps=60, schedule=cyclr.Bounds(0.001, 0.01, "ok", "of a test"))
    assert repr(auto) == "<AutoCycle: 0 of 60 updates made, lr 0.001, 0 events>"
    x, y = next(iter(run.batches(60)))
    mse_loss(model(x), y).backward()
    for _ in range(8):
        optimizer.step()
    with pytest.raises(AutoCycleError, match=r"^step\(loss\) must be called after every update; got 8 updates without"):
        optimizer.step()


def test_updates_after_the_run_need_no_step():
    model = run.network()
    optimizer = run.OPTIMIZERS["momentum"](model)
    auto = AutoCycle(model, optimizer, total_steps=5, schedule=cyclr.Bounds(0.001, 0.01, "ok", "of a test"))
    for number, (x, y) in enumerate(run.batches(30)):
        optimizer.zero_grad()
        loss = mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        if number < 5:
            auto.step(loss)
    assert auto.last_step == 4


KINDS = ["plain", "bfloat16", "accumulation", "compiled", "scaler"]
CASES = [*itertools.product(KINDS, ["momentum"]), *itertools.product(["plain"], [*run.OPTIMIZERS])]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_a_calm_run_is_the_run_with_scheduler(kind, name):
    rates, weights = trained(kind, name, auto=True)
    wanted_rates, wanted = trained(kind, name, auto=False)
    assert rates == wanted_rates
    assert all(torch.equal(one, other) for one, other in zip(weights, wanted, strict=True))


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_copy_is_refused_because_it_would_follow_another_optimizer(duplicate):
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    auto = AutoCycle(model, optimizer, total_steps=40, schedule=cyclr.Cyclical.over(40, 1, 0.01, 0.1))
    with pytest.raises(TypeError, match="AutoCycle cannot be copied or pickled"):
        duplicate(auto)
    assert not copy.deepcopy((model, optimizer))[1]._optimizer_step_pre_hooks


def test_an_event_warns_at_the_line_of_the_loop():
    model = run.network()
    optimizer = run.OPTIMIZERS["sgd"](model)
    auto = AutoCycle(model, optimizer, total_steps=60, schedule=cyclr.Cyclical.over(60, 1, 0.001, 0.01))
    with pytest.warns(UserWarning, match="The batch was left out") as warned:
        auto.skip(math.nan)
    assert {warning.filename for warning in warned} == {__file__}


def test_weights_that_are_not_finite_are_not_kept_whatever_the_loss_is():
    model = torch.nn.ModuleList([torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    auto = AutoCycle(model, optimizer, total_steps=60, schedule=cyclr.Cyclical.over(60, 1, 0.01, 0.1))
    for step in range(60):
        loss = mse_loss(model[0](torch.ones(4, 1)), torch.zeros(4, 1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step == 30:
            torch.nn.init.constant_(model[1].weight, math.inf)
        auto.step(loss)
    assert [(event.step, event.what) for event in auto.events] == [(30, "left_out")]
    assert "The weights were NaN or infinite" in auto.events[0].why
    assert all(weight.isfinite().all() for weight in model.parameters())


def test_groups_keep_their_ratios_after_a_return():
    model = run.network()
    optimizer = run.OPTIMIZERS["groups"](model)
    auto = AutoCycle(model, optimizer, total_steps=200, schedule=cyclr.Cyclical.over(200, 1, 1e-3, 30.0))
    for x, y in run.batches(200):
        run.update(model, optimizer, auto, x, y)
        first, second = (group["lr"] for group in optimizer.param_groups)
        assert second == pytest.approx(10 * first)
    assert "lowered" in {event.what for event in auto.events}
    assert auto.factor < 1
    assert math.isfinite(mse_loss(model(x), y).item())


@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_a_bad_batch_costs_that_batch_and_not_the_rate(name, asks):
    model = run.network()
    optimizer = run.OPTIMIZERS[name](model)
    auto = AutoCycle(model, optimizer, total_steps=100, schedule=cyclr.Cyclical.over(100, 1, 1e-4, run.RATES[name]))
    for index, (x, y) in enumerate(run.batches(100 + asks)):
        if index == 60:
            x = x * math.nan
        loss = mse_loss(model(x), y)
        if asks and auto.skip(loss):
            continue
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        auto.step(loss)
    assert [event.what for event in auto.events] == ["left_out"]
    assert auto.factor == 1
    assert auto.last_step == 99
    assert all(torch.isfinite(p).all() for p in model.parameters())


BACKEND = "inductor" if shutil.which("g++") else "aot_eager"


def compiled_run(made_of):
    """The weights of a run whose forward pass and update are compiled, and must not be compiled again."""
    torch.compiler.reset()
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=torch.tensor(0.01), momentum=0.9, foreach=False)
    made = made_of(model, optimizer, cyclr.Cyclical.over(60, 2, 1e-4, 0.05))
    forward = torch.compile(lambda x, y: mse_loss(model(x), y), backend=BACKEND)
    update = torch.compile(lambda: optimizer.step(), backend=BACKEND)
    for index, (x, y) in enumerate(run.batches(60)):
        with torch.compiler.set_stance("default" if index < 2 else "fail_on_recompile"):
            loss = forward(x * (math.nan if index == 40 and isinstance(made, AutoCycle) else 1), y)
            optimizer.zero_grad()
            loss.backward()
            update()
        made.step(loss) if isinstance(made, AutoCycle) else made.step()
    return made, [p.detach().clone() for p in model.parameters()]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_rates_and_returns_compile_nothing_again():
    auto, weights = compiled_run(
        lambda model, optimizer, cycle: AutoCycle(model, optimizer, total_steps=60, schedule=cycle)
    )
    assert [event.what for event in auto.events] == ["left_out"]
    assert auto.last_step == 59
    assert all(torch.isfinite(weight).all() for weight in weights)


class Scaled:
    """A run with loss scaling and accumulation over two batches: update 10 overflows, and update 30 has a NaN."""

    STEPS = 50

    def __init__(self, *, asks):
        self.model, self.asks, self.used = run.network(), asks, {}
        self.optimizer = run.OPTIMIZERS["adam"](self.model)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8, growth_interval=7)
        cycle = cyclr.Cyclical.over(self.STEPS, 1, 1e-4, 3e-3)
        self.auto = AutoCycle(self.model, self.optimizer, total_steps=self.STEPS, schedule=cycle, also=[self.scaler])

    def train(self, start, end):
        for index in range(start, end):
            self.optimizer.zero_grad()
            losses = []
            for number in (2 * index, 2 * index + 1):
                x, y = run.batch(number)
                loss = mse_loss(self.model(x * (math.nan if number == 60 else 1)), y)
                self.scaler.scale(loss * (math.inf if number == 21 else 1) / 2).backward()
                losses.append(loss.item())
            loss = sum(losses) / 2
            if self.asks and self.auto.skip(loss):
                continue
            self.used[index] = self.optimizer.param_groups[0]["lr"]
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.auto.step(loss)

    def parts(self):
        return {name: getattr(self, name) for name in ("model", "optimizer", "scaler", "auto")}


@pytest.mark.parametrize("split", [9, 10, 11, 29, 30, 31])
@pytest.mark.parametrize("asks", [True, False])
def test_a_split_run_with_loss_scaling_and_accumulation_is_the_whole_run(asks, split):
    whole, first, second = (Scaled(asks=asks) for _ in range(3))
    whole.train(0, whole.STEPS + 2)
    assert [event.what for event in whole.auto.events] == ["left_out"]
    assert whole.auto.last_step == whole.STEPS - 1
    first.train(0, split)
    saved = bytes_of({name: part.state_dict() for name, part in first.parts().items()})
    for name, part in second.parts().items():
        part.load_state_dict(saved[name])
    second.train(split, whole.STEPS + 2)
    assert first.used | second.used == whole.used
    assert second.auto.events == whole.auto.events
    assert second.scaler.state_dict() == whole.scaler.state_dict()
    for one, other in zip(second.model.state_dict().values(), whole.model.state_dict().values(), strict=True):
        assert torch.equal(one, other)
        assert torch.isfinite(one).all()


@pytest.mark.parametrize("place", [{}, {"snapshot_dir": "copies"}])
def test_a_batch_that_is_left_out_leaves_no_nan_in_buffers(place, tmp_path):
    place = {name: tmp_path / folder for name, folder in place.items()}
    model = torch.nn.BatchNorm1d(3)
    model.register_buffer("mask", torch.tensor([0.0, -math.inf]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    auto = AutoCycle(model, optimizer, total_steps=50, schedule=cyclr.Constant(1e-3), **place)
    for scale in (1, math.nan):
        loss = model(torch.randn(4, 3) * scale).square().mean()
        assert auto.skip(loss) == math.isnan(scale)
        if scale == 1:
            loss.backward()
            optimizer.step()
            auto.step(loss)
    assert model.running_mean.tolist() == [0.0, 0.0, 0.0]
    assert model.running_var.tolist() == [1.0, 1.0, 1.0]
    assert model.mask.tolist() == [0.0, -math.inf]


def bytes_of(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("split", [0, 1, 59, 60, 61, 139])
@pytest.mark.parametrize("name", ["momentum", "adam"])
@pytest.mark.parametrize("order", ["auto first", "auto last"])
def test_a_split_run_is_the_whole_run(name, split, order, tmp_path):
    whole = run.Program(name)
    whole.train(run.STEPS)
    assert {event.what for event in whole.auto.events} >= {"left_out"}
    first = run.Program(name)
    first.train(split)
    saved = bytes_of(first.state_dict())
    second = run.Program(name, snapshot_dir=tmp_path)
    second.load_state_dict(saved, auto_first=order == "auto first")
    second.train(run.STEPS)
    assert second.auto.events == whole.auto.events
    assert second.used == whole.used[split:]
    for one, other in zip(second.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_run_that_is_killed_goes_on_as_if_it_had_not_been(tmp_path):
    whole = run.Program("adam")
    whole.train(run.STEPS)
    rng = np.random.default_rng(0)
    command = [sys.executable, "-m", "tests.torch.auto_cycle_run", str(tmp_path)]
    for kill_after in rng.integers(20, run.STEPS - 5, 3):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
        for line in process.stdout:
            if int(line) >= kill_after:
                os.kill(process.pid, signal.SIGKILL)
                break
        process.wait()
        process.stdout.close()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[2])
    last = torch.load(tmp_path / "state.pt", weights_only=True)
    for one, other in zip(last["model"].values(), whole.model.state_dict().values(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("place", [{}, {"copies_on": "cpu"}, {"snapshot_dir": True}])
def test_everything_but_generators_and_rates_goes_back(place, tmp_path):
    place = {"snapshot_dir": tmp_path / "copies"} if "snapshot_dir" in place else place
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1))
    average = torch.optim.swa_utils.AveragedModel(model)
    optimizer = torch.optim.Adam(model.parameters())
    other = torch.optim.lr_scheduler.StepLR(torch.optim.SGD([torch.nn.Parameter(torch.ones(1))]), 3)
    auto = AutoCycle(model, optimizer, total_steps=50, schedule=cyclr.Constant(1e-3), also=[average, other], **place)
    kept = [tensor.clone() for tensor in (*model.state_dict().values(), *average.state_dict().values())]
    x = torch.randn(8, 3)
    for loss in (1.0, math.nan):
        model(x).square().mean().backward()
        optimizer.step()
        average.update_parameters(model)
        other.last_epoch += 1
        drawn = torch.random.get_rng_state()
        auto.step(loss)
    assert torch.equal(drawn, torch.random.get_rng_state())
    now = [*model.state_dict().values(), *average.state_dict().values()]
    assert all(torch.equal(one, kept_one) for one, kept_one in zip(now, kept, strict=True))
    assert other.last_epoch == 0
    assert not optimizer.state
    assert optimizer.param_groups[0]["lr"] == 1e-3


def open_files(folder):
    """The files of this process in a folder that have no name any more."""
    links = (link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink())
    return [link for link in links if link.is_relative_to(folder)]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="Linux lists the open files of a process")
def test_copies_on_disk_leave_no_file_behind(tmp_path):
    model, optimizer = small()
    auto = AutoCycle(model, optimizer, total_steps=50, schedule=cyclr.Constant(1e-3), snapshot_dir=tmp_path / "copies")
    optimizer.step()
    auto.step(1.0)
    assert len(open_files(tmp_path / "copies")) == 1
    # A process that is killed cannot delete anything.
    assert not [*(tmp_path / "copies").iterdir()]
    del auto
    gc.collect()
    assert not open_files(tmp_path / "copies")


def test_weights_that_are_loaded_before_the_first_update_are_the_start():
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    auto = AutoCycle(model, optimizer, total_steps=50, schedule=cyclr.Constant(0.1))
    model.load_state_dict({"weight": torch.full((1, 2), 5.0), "bias": torch.zeros(1)})
    model(torch.full((1, 2), math.nan)).sum().backward()
    optimizer.step()
    auto.step(math.nan)
    assert model.weight.tolist() == [[5.0, 5.0]]


def test_an_update_that_loss_scaling_skips_uses_no_step():
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    auto = AutoCycle(model, optimizer, total_steps=9, schedule=cyclr.Anneal(0.9, 0.1, 8), also=[scaler])
    for index in range(10):
        optimizer.zero_grad()
        loss = model(torch.ones(1, 2)).square().sum()
        scaler.scale(loss * (math.inf if index == 1 else 1)).backward()
        scaler.step(optimizer)
        scaler.update()
        auto.step(loss)
    assert auto.last_step == 8


@pytest.mark.parametrize("fused", [False, True])
def test_a_rate_that_is_a_tensor_is_filled_in_place(fused):
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.1), capturable=False, fused=fused or None)
    rate = optimizer.param_groups[0]["lr"]
    auto = AutoCycle(model, optimizer, total_steps=30, schedule=cyclr.Anneal(0.8, 0.1, 29))
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    auto.step(1.0)
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate.item() == pytest.approx(cyclr.Anneal(0.8, 0.1, 29)(1))


@pytest.mark.parametrize(
    ("kind", "usual"),
    [("SGD", 1e-2), ("Adam", 1e-3), ("AdamW", 1e-3), ("RMSprop", 1e-3), ("Adagrad", 1e-2), ("NAdam", 1e-3)],
)
def test_a_short_run_without_a_schedule_starts_from_a_usual_rate(kind, usual):
    model = torch.nn.Linear(1, 1)
    auto = AutoCycle(model, getattr(torch.optim, kind)(model.parameters(), lr=0.5), total_steps=100)
    assert auto.schedule.largest == pytest.approx(usual)


def test_a_long_run_without_a_schedule_begins_with_a_range_test_that_is_undone():
    model = run.network()
    optimizer = run.OPTIMIZERS["momentum"](model)
    auto = AutoCycle(model, optimizer, total_steps=1500)
    start = [p.detach().clone() for p in model.parameters()]
    for x, y in run.batches(1500):
        run.update(model, optimizer, auto, x, y)
        if not auto.testing:
            break
    assert auto.range_test is not None
    assert not optimizer.state
    assert all(torch.equal(one, other) for one, other in zip(start, model.parameters(), strict=True))


def small():
    model = torch.nn.Linear(1, 1)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def test_what_is_refused():
    model, optimizer = small()
    lbfgs = torch.optim.LBFGS(model.parameters())
    with pytest.raises(TypeError, match="closure"):
        AutoCycle(model, lbfgs, total_steps=9)
    with pytest.raises(TypeError, match=r"also=\[\.\.\.\]"):
        AutoCycle(model, optimizer, total_steps=9, also=model)
    with pytest.raises(TypeError, match="state_dict"):
        AutoCycle(model, optimizer, total_steps=9, also=[object()])
    with pytest.raises(TypeError, match="model must be"):
        AutoCycle(optimizer, optimizer, total_steps=9)
    auto = AutoCycle(model, optimizer, total_steps=9)
    with pytest.raises(TypeError, match="loss"):
        auto.step(None)
    with pytest.raises(TypeError, match="real number"):
        auto.step(torch.tensor(True))
    for _ in range(2):
        optimizer.step()
    with pytest.raises(AutoCycleError, match="after every update"):
        auto.step(1.0)
    other = torch.nn.Linear(2, 1)
    state = auto.state_dict()
    with pytest.raises(ValueError, match="same model"):
        AutoCycle(other, torch.optim.SGD(other.parameters()), total_steps=9).load_state_dict(state)
    with pytest.raises(ValueError, match="must come from"):
        auto.load_state_dict({"step": 3})


def test_an_optimizer_with_a_state_of_its_own_is_refused_at_once():
    model, optimizer = small()
    optimizer.state["memory"] = torch.ones(3)
    with pytest.raises(AutoCycleError, match="not belong to parameters of its groups"):
        AutoCycle(model, optimizer, total_steps=9)


def test_an_optimizer_that_nobody_steps_is_noticed():
    model, optimizer = small()
    auto = AutoCycle(model, optimizer, total_steps=9)
    for _ in range(999):
        auto.step(1.0)
    with pytest.raises(AutoCycleError, match="no update of SGD"):
        auto.step(1.0)


def test_there_is_one_warning_for_each_event():
    model, optimizer = small()
    auto = AutoCycle(model, optimizer, total_steps=9, schedule=cyclr.Constant(0.1))
    optimizer.step()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        auto.step(math.nan)
    assert len(caught) == len(auto.events) == 1
