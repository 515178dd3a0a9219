"""Range tests in one of several processes."""

import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from cyclr import Constant
from cyclr.torch import Scheduler, range_test

ROWS, BATCH, BATCHES = 48, 4, 6
SWEEP = {"min_lr": 1e-3, "max_lr": 0.05, "steps": 20, "stop_factor": None}


def data():
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(ROWS, 3, generator=generator, dtype=torch.float64)
    return x, x @ torch.tensor([[1.0], [-2.0], [0.5]], dtype=torch.float64)


def batches(rank, world, count=BATCHES, nan=None, size=BATCH):
    """This process' share of global batches of `world · size` rows; the one numbered `nan` is not finite."""
    x, y = data()
    for index in range(count):
        first = (index * world + rank) * size % ROWS
        rows = slice(first, first + size)
        yield x[rows], y[rows] * (float("nan") if index == nan else 1)


def linear():
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(3, 1)).double()


def stop_at(recorded):
    def on_step(test):
        if test.recorded == recorded:
            test.stop("interrupted")

    return on_step


def cases(rank, world):
    """Arguments of a range test in this process."""

    def everything(**arguments):
        return list(batches(rank, world, **arguments))

    second = rank == 1
    return {
        "plain": {"loader": everything()},
        "accumulation": {"loader": everything(), "accumulate": 3},
        "diverged": {"loader": everything(), "max_lr": 1e3, "stop_factor": 3.0, "smoothing": 0.0, "steps": 60},
        "diverged on one": {
            # A test has 12 losses at least before it can have diverged.
            "loader": [(x, y * (1 + 20 * second * (index > 11))) for index, (x, y) in enumerate(everything(count=14))],
            "stop_factor": 3.0,
            "smoothing": 0.0,
        },
        "NaN on one": {"loader": everything(nan=4 if second else None)},
        "NaN on one, at once": {"loader": everything(nan=0 if second else None)},
        "NaN on one, with a scaler": {
            "loader": everything(nan=4 if second else None),
            "scaler": torch.amp.GradScaler("cpu", init_scale=1.0),
        },
        "less data on one": {"loader": iter(everything(count=4 if second else 6))},
        "less data on one, with accumulation": {
            "loader": iter(everything(count=5 if second else 6)),
            "accumulate": 2,
        },
        "no data on one": {"loader": [] if second else everything()},
        "repeated, of different lengths": {"loader": everything(count=4 if second else 6)},
        "stopped on one": {"loader": everything(), "on_step": stop_at(7) if second else None},
        "error on all": {"loader": [(x, y[:, 0].reshape(2, 2)) for x, y in everything()]},
    }


def skipping(rank, world):
    """Half precision overflows in one process alone: all of them skip, and none makes a point of it."""

    def loss(out, target):
        return (out * (64 if rank == 1 else 1)).half().float().sum()

    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**18)
    return {"loader": list(batches(rank, world)), "loss_fn": loss, "scaler": scaler}


def sharded_cases(rank, world):
    """Forward passes without a backward one, after which modules of FSDP2 hold whole parameters beside their shares."""

    def validation(model):
        x, y = data()
        return torch.nn.functional.mse_loss(model(x), y)

    calls = []

    def failing_loss(out, target):
        calls.append(0)
        if len(calls) == 5:
            raise ArithmeticError("the loss gave up")
        return torch.nn.functional.mse_loss(out, target)

    everything = {"loader": list(batches(rank, world))}
    return {
        "sharded": everything,
        "sharded, NaN on one": cases(rank, world)["NaN on one"],
        "sharded, validated before": everything,
        "sharded, with an evaluation": {**everything, "evaluate": validation},
        "sharded, error in the loss": {**everything, "loss_fn": failing_loss},
    }


def local(parameter):
    """What this process holds of a parameter."""
    return (parameter.to_local() if isinstance(parameter, DTensor) else parameter).detach()


def run(rank, world, arguments, *, sharded=False, validated=False):
    inner = linear()
    mesh = init_device_mesh("cpu", (world,)) if sharded else None
    model = fully_shard(inner, mesh=mesh) if sharded else DistributedDataParallel(inner)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    schedule = Scheduler(optimizer, Constant(0.01))
    before = [local(parameter).clone() for parameter in inner.parameters()]
    if validated:
        with torch.no_grad():
            model(data()[0])
    try:
        result = range_test(model, optimizer, **{"loss_fn": torch.nn.functional.mse_loss, **SWEEP, **arguments})
        found = {"lr": result.lr.tolist(), "loss": result.loss.tolist(), "reason": result.stop_reason}
    except Exception as error:  # noqa: BLE001
        found = {"error": f"{type(error).__name__}: {error}"}
    found["restored"] = all(map(torch.equal, before, map(local, inner.parameters())))
    found["untouched"] = (optimizer.state_dict()["state"], schedule.last_epoch) == ({}, 0)
    # Training goes on, and together.
    for x, y in batches(rank, world, count=2):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
        schedule.step()
    whole = (p.full_tensor() if sharded else p for p in inner.parameters())
    found["trained"] = [parameter.flatten().tolist() for parameter in whole]
    return found


def results():
    """What this process gets, by the name of the case."""
    rank, world = distributed.get_rank(), distributed.get_world_size()
    found = {name: run(rank, world, arguments) for name, arguments in cases(rank, world).items()}
    found["skipped on one"] = run(rank, world, skipping(rank, world))
    for name, arguments in sharded_cases(rank, world).items():
        found[name] = run(rank, world, arguments, sharded=True, validated="validated" in name)
    return found
