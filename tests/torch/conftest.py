"""What the tests of the torch adapter share."""

import gc
import importlib.util
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from tests.processes import run

WORLD = 2
PARTS = {
    "ddp": "torch",
    "auto_cycle": "torch",
    "snapshots": "torch",
    "accelerate": "accelerate",
    "lightning": "lightning",
}
"""Workers beside this file, and the package that each needs."""

if importlib.util.find_spec("torch") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterable[None]:
    """Tensors here are tiny, and workers share the cores."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    # Hundreds of thousands of objects of torch need not be looked at again by every collection.
    gc.freeze()
    yield
    torch.set_num_threads(threads)
    gc.collect()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    import torch

    torch.manual_seed(0)


@pytest.fixture(scope="session")
def processes(tmp_path_factory):
    """What each of two processes got, by worker and rank. Both are started once, and run all workers."""
    folder = tmp_path_factory.mktemp("processes")
    parts = [part for part, package in PARTS.items() if importlib.util.find_spec(package)]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={WORLD}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    run([*command, Path(__file__).with_name("processes_worker.py"), folder, *parts], env=environment)
    ranks = [json.loads((folder / f"{rank}.json").read_text(encoding="utf-8")) for rank in range(WORLD)]
    return {part: [found[part] for found in ranks] for part in parts}
