"""AutoCycle in one of several processes."""

import math
import warnings

import torch
from tests.torch.auto_cycle_run import batch, network
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.functional import mse_loss
from torch.nn.parallel import DistributedDataParallel

import cyclr
from cyclr.torch import AutoCycle

STEPS = 60


def run(rank, kind, asks, max_lr=0.02):
    """Train with an input that is NaN in the last process only, and return what this process saw."""
    sharded = kind == "FSDP2"
    model = network()[0]  # BatchNorm would see the batches of its own process.
    if sharded:
        fully_shard(model, mesh=init_device_mesh("cpu", (distributed.get_world_size(),)))
    wrapped = model if sharded else DistributedDataParallel(model)
    if kind == "ZeRO":
        optimizer = ZeroRedundancyOptimizer(model.parameters(), torch.optim.Adam, lr=1e-3)
    else:
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    auto = AutoCycle(wrapped, optimizer, total_steps=STEPS, schedule=cyclr.Cyclical.over(STEPS, 1, 1e-4, max_lr))
    rates, calls = [], 0
    while auto.last_step + 1 < STEPS:
        x, y = batch(100 * calls + rank)
        calls += 1
        loss = mse_loss(wrapped(x * (math.nan if calls == 40 and rank == 1 else 1)).mean(1, keepdim=True), y)
        if asks and auto.skip(loss):
            continue
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        auto.step(loss)
    weights = [p.full_tensor() if sharded else p for p in model.parameters()]
    return {
        "rates": rates,
        "events": [event.what for event in auto.events],
        "weights": [w.flatten().tolist() for w in weights],
        "loads": [loads(auto, auto.state_dict()), loads(auto, of_first(auto.state_dict()))],
    }


def of_first(state):
    """The state of the first process."""
    states = [state]
    distributed.broadcast_object_list(states)
    return states[0]


def loads(auto, state):
    try:
        auto.load_state_dict(state, "new")
    except ValueError as error:
        return str(error)
    return ""


def results():
    """What this process gets, by the name of the case."""
    rank = distributed.get_rank()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            f"{kind}, {'asks' if asks else 'goes back'}": run(rank, kind, asks)
            for kind in ("DDP", "FSDP2", "ZeRO")
            for asks in (True, False)
        }
