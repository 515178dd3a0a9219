"""Throughput of the engines with one worker and with two, and a check that their records are equal.

python benchmarks/compare_engines.py

On a busy machine, wall times say little. The table therefore also has the CPU time of a trial, in the workers and in
all other processes. With two workers on two cores, throughput is at most 2 / (1 + others / workers) times the
throughput of one worker.
"""

import argparse
import contextlib
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclr.experiments import Spec, compare
from cyclr.experiments.events import Event, Finished
from cyclr.records import Record

USERS_FILE = Path(__file__).parents[1] / "tests" / "experiments" / "blobs.py"


@dataclass
class Process:
    """A process: its parent, its command, its CPU time in seconds, and its memory in MB."""

    parent: int
    command: str
    seconds: float
    memory: float

    @property
    def is_worker(self) -> bool:
        """True if the process runs trials."""
        return self.command.startswith(("ray::_run_in_task", "ray::IDLE")) or "engines import local" in self.command


def processes() -> dict[int, Process]:
    """Return this process and all its child processes, by process id."""
    found = dict[int, Process]()
    for folder in Path("/proc").glob("[0-9]*"):
        # A process may end while it is read.
        with contextlib.suppress(OSError):
            command = (folder / "cmdline").read_text().replace("\0", " ")
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            memory = int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 2**20
            found[int(folder.name)] = Process(int(fields[1]), command, seconds, memory)
    own = {os.getpid()}
    while more := {number for number, one in found.items() if one.parent in own} - own:
        own |= more
    return {number: found[number] for number in own}


def cpu_seconds() -> tuple[float, float]:
    """Return the CPU time of the workers, and of all other processes of the comparison."""
    now = processes().values()
    workers = sum(one.seconds for one in now if one.is_worker)
    return workers, sum(one.seconds for one in now) - workers


def timeless(record: Record) -> dict[str, Any]:
    """Return a record without its times."""
    kept = {name: getattr(record, name) for name in record.__struct_fields__ if name not in ("seconds", "started")}
    return {**kept, "epochs": {name: values for name, values in record.epochs.items() if name != "seconds"}}


def main() -> None:
    """Run the same comparison four times and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=300)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "user")
        folder.mkdir()
        shutil.copy(USERS_FILE, folder)
        policies = [{"kind": "fixed", "lr": [0.01, 0.1]}, {"kind": "triangular"}, {"kind": "cosine", "lr": 0.1}]
        spec = Spec.from_dict(
            {"workload": "blobs.py:build", "policies": policies, "seeds": [0, 1], "epochs": options.epochs},
            folder=str(folder),
        )
        rows: dict[str, tuple[float, float, list[float], list[Record]]] = {}
        for engine in ("local", "ray"):
            for workers in (1, 2):
                seen: list[tuple[float, ...]] = []

                def tell(event: Event, seen: list[tuple[float, ...]] = seen) -> None:
                    if isinstance(event, Finished):
                        seen.append((time.perf_counter(), *cpu_seconds()))

                extra: dict[str, Any] = {"init": {"object_store_memory": 80 * 2**20}} if engine == "ray" else {}
                began = time.perf_counter()
                run = Path(temporary, f"{engine}-{workers}")
                records = compare(spec, run, engine=engine, workers=workers, tell=tell, **extra)  # type: ignore[arg-type]
                # After the first records: imports are finished.
                count = len(seen) - workers
                took, *cpu = ((last - first) / count for first, last in zip(seen[workers - 1], seen[-1], strict=True))
                rows[f"{engine}, {workers}"] = (
                    time.perf_counter() - began,
                    1 / took,
                    cpu,
                    sorted(map(timeless, records), key=lambda record: record["trial"]),
                )
        first = rows["local, 1"]
        print(f"{'':>16} {'':>8} {'':>9} {'':>6}  {'CPU s of a trial in':>21}")
        print(
            f"{'engine, workers':>16} {'whole s':>8} {'trials/s':>9} {'ratio':>6}  {'workers':>10} {'others':>10}  "
            "same records"
        )
        for name, (whole, rate, cpu, records) in rows.items():
            cells = f"{cpu[0]:>10.3f} {cpu[1]:>10.3f}"
            print(f"{name:>16} {whole:>8.1f} {rate:>9.3f} {rate / first[1]:>6.2f}  {cells}  {records == first[3]}")


if __name__ == "__main__":
    # By default Ray gives its workers nice 15, and a busy machine hardly runs such processes.
    os.environ.setdefault("RAY_worker_niceness", "0")
    main()
