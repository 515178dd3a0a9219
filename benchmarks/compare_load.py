"""Compare 2,000 tiny trials while workers are killed at random, on this machine and on a Ray cluster of two nodes.

    python benchmarks/compare_load.py [--engine local] [--trials 2000] [--kills 20] [--browser]

Workers are killed by SIGKILL at random moments. One node of the Ray cluster is killed after a third of the records, and
another is added after half of them. The table shows the memory of the comparing process while records arrive. Then the
records are checked: every planned trial must have one record, with the same values as in a run in one process.
"""

import argparse
import json
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compare_engines import processes, timeless

from cyclr.drawing import page
from cyclr.experiments import Spec, compare, read_records
from cyclr.experiments.events import Event, Finished, Progress
from cyclr.experiments.trial import run_trial
from cyclr.report import run_page

USERS_FILE = """
import torch

def build():
    x = torch.linspace(-1, 1, 256).reshape(64, 4)
    y = (x.sum(1) > 0).long()
    return torch.nn.Linear(4, 2), ((x, y), (x, y))
"""
NODE = {"num_cpus": 1, "wait": False, "object_store_memory": 80 * 2**20}
SAMPLES = 10


@dataclass
class Outcome:
    """The measurements of one comparison.

    Attributes:
        memory: records so far, MB of the comparing process, and MB of its largest worker.
        killed: number of killed workers.
        retried: number of restarted trials.
    """

    memory: list[tuple[int, float, float]] = field(default_factory=list)
    killed: int = 0
    retried: int = 0


def load(
    spec: Spec,
    run: Path,
    chance: random.Random,
    *,
    kills: int,
    between: Callable[[int], None] = lambda records: None,
    **options: Any,
) -> Outcome:
    """Run a comparison, kill its workers at random, and return the measurements.

    Args:
        spec: the comparison.
        run: its run folder.
        chance: random generator of the moments and the workers.
        kills: number of kills, after the first record and before the last.
        between: called with the number of records after each.
        options: of `compare`.
    """
    outcome, trials = Outcome(), len(spec.trials())
    moments = sorted(chance.sample(range(1, trials), kills))
    records = 0

    def tell(event: Event) -> None:
        nonlocal records
        outcome.retried += isinstance(event, Progress) and event.stage == "worker died"
        if not isinstance(event, Finished):
            return
        records += 1
        between(records)
        now = processes() if records in moments or records % max(1, trials // SAMPLES) == 0 else {}
        workers = {number: one for number, one in now.items() if one.is_worker}
        if records in moments and workers:
            os.kill(chance.choice(sorted(workers)), signal.SIGKILL)
            outcome.killed += 1
        if records % max(1, trials // SAMPLES) == 0:
            largest = max((one.memory for one in workers.values()), default=0.0)
            outcome.memory.append((records, now[os.getpid()].memory, largest))

    compare(spec, run, tell=tell, **options)
    return outcome


def load_on_ray(spec: Spec, run: Path, chance: random.Random, *, kills: int) -> Outcome:
    """Run a comparison on a cluster of two nodes, and replace the second node."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    second = cluster.add_node(**NODE)
    cluster.wait_for_nodes(timeout=900)
    trials = len(spec.trials())

    def between(records: int) -> None:
        if records == trials // 3:
            cluster.remove_node(second, allow_graceful=False)
        if records == trials // 2:
            cluster.add_node(**NODE)

    try:
        return load(
            spec, run, chance, kills=kills, between=between, engine="ray", address=cluster.address, retries=kills + 1
        )
    finally:
        cluster.shutdown()


def wrong(spec: Spec, run: Path, expected: dict[str, Any]) -> list[str]:
    """Return the trials whose records are missing, duplicate, not planned, or different from the expected records."""
    lines = [json.loads(line)["trial"] for line in (run / "records.jsonl").read_text().splitlines()]
    planned = [trial.id for trial in spec.trials()]
    found = {record.trial: timeless(record) for record in read_records(run)}
    names = {*lines, *planned}
    return sorted(name for name in names if lines.count(name) != 1 or found.get(name) != expected.get(name))


def show_page(run: Path, browser: bool) -> str:
    """Write the page of a run, and open it in a browser."""
    began = time.process_time()
    path = run / "report.html"
    path.write_text(page.render(run_page(run)), encoding="utf-8")
    said = f"page: {path.stat().st_size / 1e6:.1f} MB, made in {time.process_time() - began:.1f} s"
    if browser:
        from playwright.sync_api import sync_playwright
        from report_page import CHROMIUM, milliseconds

        with sync_playwright() as playwright:
            opened = playwright.chromium.launch(**CHROMIUM)
            said += f", ready in Chromium after {milliseconds(opened, path) / 1e3:.1f} s"
            opened.close()
    return said


def main() -> None:
    """Run, kill, check, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("local", "ray"), help="both by default")
    parser.add_argument("--trials", type=int, default=2000, help="a multiple of 4")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--browser", action="store_true", help="open the page in Chromium")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "user")
        folder.mkdir()
        (folder / "tiny.py").write_text(USERS_FILE)
        policies = [{"kind": "fixed", "lr": [0.01, 0.1, 1.0]}, {"kind": "cosine", "lr": 0.1}]
        seeds = range(options.trials // 4)
        spec = Spec(policies, workload="tiny.py:build", seeds=seeds, epochs=2, batch_size=32, folder=str(folder))
        outcomes: dict[str, Outcome] = {}
        for engine in ("local", "ray") if options.engine is None else (options.engine,):
            began, chance = time.perf_counter(), random.Random(options.seed)  # noqa: S311
            run = Path(temporary, engine)
            if engine == "local":
                outcome = load(spec, run, chance, kills=options.kills, workers=2, retries=options.kills + 1)
            else:
                outcome = load_on_ray(spec, run, chance, kills=options.kills)
            outcomes[engine] = outcome
            print(f"{engine}: {outcome.killed} workers killed, {outcome.retried} trials started again,", end=" ")
            print(f"{time.perf_counter() - began:.0f} s. {show_page(run, options.browser)}")
            print(f"{'records':>8} {'comparing MB':>13} {'worker MB':>10}")
            for records, own, worker in outcome.memory:
                print(f"{records:>8} {own:>13.1f} {worker:>10.1f}", flush=True)
        # Done last, because it loads the framework into this process.
        expected = {trial.id: timeless(run_trial(trial)) for trial in spec.trials()}
        failed = {engine: wrong(spec, Path(temporary, engine), expected) for engine in outcomes}
        for engine, names in failed.items():
            print(f"{engine}: {len(names)} of {len(expected)} records are not those of one process. {names[:3] or ''}")
    if any(failed.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # By default Ray gives its workers nice 15, and a busy machine hardly runs such processes.
    os.environ.setdefault("RAY_worker_niceness", "0")
    main()
