"""Range tests with two and with four DDP processes, also with NaN or with less data in one process.

    python benchmarks/torch_ddp.py [PROCESSES ...]

The table has learning rates, stopping step and time. torchrun starts the processes, which communicate by gloo. All
processes train the same small model, each on batches of 8 rows. The model is linear and uses float64, so that losses
can be compared with the losses of one process with the global batch. The time is the time of the slowest process for
the whole call, including the copy of the state, the exchanges between processes and the restoration.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.nn.functional import mse_loss
from torch.nn.parallel import DistributedDataParallel

from cyclr.torch import range_test

BATCH, STEPS, NAN_AT, SHORT = 8, 100, 37, 21
SWEEP = {"min_lr": 1e-5, "max_lr": 0.05, "steps": STEPS, "stop_factor": None, "repeats": 1}


def batches(rank: int, world: int, *, count: int = STEPS, nan_at: int | None = None) -> list[Any]:
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(STEPS * BATCH * world, 16, generator=generator, dtype=torch.float64)
    y = x.sum(1, keepdim=True)
    x, y = (rows.view(STEPS, world, BATCH, -1)[:count, rank] for rows in (x, y))
    return [(a, b * (float("nan") if number == nan_at else 1)) for number, (a, b) in enumerate(zip(x, y, strict=True))]


def found(result: Any, seconds: float) -> dict[str, Any]:
    return {
        "lr": result.lr.tolist(),
        "loss": result.loss.tolist(),
        "reason": result.stop_reason,
        "seconds": seconds,
    }


def run(model: Any, loader: Any) -> dict[str, Any]:
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    begin = time.perf_counter()
    result = range_test(model, optimizer, mse_loss, loader, **SWEEP)
    return found(result, time.perf_counter() - begin)


def linear() -> torch.nn.Module:
    torch.manual_seed(3)
    return torch.nn.Linear(16, 1).double()


def in_process(folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    rank, world = distributed.get_rank(), distributed.get_world_size()
    last = rank == world - 1
    cases = {
        "all alike": batches(rank, world),
        f"NaN on one at batch {NAN_AT}": batches(rank, world, nan_at=NAN_AT if last else None),
        f"one with {SHORT} batches": iter(batches(rank, world, count=SHORT if last else STEPS)),
    }
    run(DistributedDataParallel(linear()), batches(rank, world))  # created once
    results = {name: run(DistributedDataParallel(linear()), loader) for name, loader in cases.items()}
    Path(folder, f"{rank}.json").write_text(json.dumps(results), encoding="utf-8")
    distributed.destroy_process_group()


def launch(world: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        program = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "DDP_FOLDER": folder}
        subprocess.run([*program, __file__], env=environment, check=True, capture_output=True)
        return [json.loads(Path(folder, f"{rank}.json").read_text(encoding="utf-8")) for rank in range(world)]


def main() -> None:
    torch.set_num_threads(1)
    print(f"{STEPS} updates, batches of {BATCH} rows a process")
    print("processes  case                     same rates  same losses  stopped                     seconds   alone")
    for world in [int(number) for number in sys.argv[1:]] or [2, 4]:
        pairs = [batches(rank, world) for rank in range(world)]
        whole = [
            (torch.cat([x for x, _ in step]), torch.cat([y for _, y in step])) for step in zip(*pairs, strict=True)
        ]
        run(linear(), whole)
        alone = run(linear(), whole)
        ranks = launch(world)
        for name in ranks[0]:
            first = ranks[0][name]
            rates = all(rank[name]["lr"] == alone["lr"][: len(first["lr"])] for rank in ranks)
            losses = all(rank[name]["loss"] == first["loss"] for rank in ranks)
            off = max(abs(a / b - 1) for a, b in zip(first["loss"], alone["loss"], strict=False))
            slowest = max(rank[name]["seconds"] for rank in ranks)
            told = f"{first['reason']} after {len(first['lr'])}"
            same = f"{losses} {off:.0e}"
            print(f"{world:9}  {name:24} {rates!s:11} {same:12} {told:26} {slowest:8.2f} {alone['seconds']:7.2f}")


if __name__ == "__main__":
    in_process(os.environ["DDP_FOLDER"]) if "DDP_FOLDER" in os.environ else main()
