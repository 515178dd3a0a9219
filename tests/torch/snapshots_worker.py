"""Snapshots in one of several processes."""

import tempfile
from pathlib import Path

import torch
from tests.torch.auto_cycle_run import batch, network
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import mse_loss
from torch.nn.parallel import DistributedDataParallel

import cyclr
from cyclr.torch import Scheduler, Snapshots, average

STEPS = 20


def run(rank, sharded, folder):
    """Train with a member at each of two cycle ends, and return what this process has."""
    model = network()[0]  # BatchNorm would see the batches of its own process.
    if sharded:
        fully_shard(model, mesh=init_device_mesh("cpu", (distributed.get_world_size(),)))
    wrapped = model if sharded else DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    scheduler = Scheduler(optimizer, cyclr.Cyclical.over(STEPS, 2, 1e-4, 0.02))
    snapshots = Snapshots(
        wrapped, scheduler, folder=folder, validate=lambda model: {"mean": model(batch(0)[0]).mean().item()}
    )
    for step in range(STEPS):
        x, y = batch(100 * step + rank)
        optimizer.zero_grad()
        mse_loss(wrapped(x).mean(1, keepdim=True), y).backward()
        optimizer.step()
        scheduler.step()
    distributed.barrier()
    members = snapshots.members
    last = [p.full_tensor() if sharded else p for p in model.parameters()]
    return {
        "steps": [member.step for member in members],
        "metrics": [member.metrics["mean"] for member in members],
        "last": [value.flatten().tolist() for value in last],
        "member": [members[-1].state[name].flatten().tolist() for name, _ in model.named_parameters()],
        "average": [value.flatten().tolist() for value in average(network()[0], members).parameters()],
        "files": None if folder is None else sorted(path.name for path in Path(folder).iterdir()),
    }


def results():
    """What this process gets, by the name of the case."""
    rank = distributed.get_rank()
    found = {}
    for kind in ("DDP", "FSDP2"):
        found[f"{kind}, memory"] = run(rank, kind == "FSDP2", None)
        shared = [tempfile.mkdtemp() if rank == 0 else None]
        distributed.broadcast_object_list(shared)
        found[f"{kind}, folder"] = run(rank, kind == "FSDP2", shared[0])
    return found
