"""Kill a comparison by SIGKILL at random moments, continue it each time, and count lost and duplicate records.

python benchmarks/compare_kills.py --kills 20
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cyclr.experiments import Spec, read_records

USERS_FILE = Path(__file__).parents[1] / "tests" / "experiments" / "blobs.py"
DRIVER = """
import json, sys
from cyclr.experiments import Spec, compare
spec = Spec.from_dict(json.loads(sys.argv[1]), folder=sys.argv[2])
def tell(event):
    name = type(event).__name__
    if name != "Progress":
        print(name, event.record.trial if name == "Finished" else getattr(event, "trial", ""), flush=True)
compare(spec, sys.argv[3], workers=2, tell=tell)
"""


@dataclass
class Outcome:
    """The result after all kills, and after a last start that was not killed.

    Attributes:
        killed: number of starts that were killed before they finished.
        torn: number of kills that left an incomplete line.
        records: the trial of every line in the records.
        lost: trials without a record, or whose record was reported but missing after a kill.
        workers: processes that ran trials, as far as the user's file writes `worker-PID` to its folder.
        left: the worker processes that still run.
    """

    killed: int
    torn: int
    records: list[str]
    lost: set[str]
    workers: set[int]
    left: set[int]


def command(spec: Spec, run: Path) -> list[str]:
    """Return the command of a process that runs the comparison and prints a line at its start, per epoch and record."""
    return [sys.executable, "-c", DRIVER, json.dumps(spec.to_dict()), spec.folder, str(run)]


def kill_at_random(
    spec: Spec,
    run: Path,
    chance: random.Random,
    *,
    kills: int,
    events: int,
    wait: float,
    tell: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Start a comparison, kill it and start it again. Return the result.

    Args:
        spec: the comparison.
        run: its run folder.
        chance: random generator of the moments.
        kills: number of kills.
        events: largest number of lines that the process prints before a kill.
        wait: largest number of seconds to wait after these lines.
        tell: called with a line of the table for every kill.
    """
    reported: set[str] = set()
    lost: set[str] = set()
    killed = torn = 0
    tell(f"{'kill':>4} {'events':>7} {'+ s':>5} {'recorded':>9} {'torn line':>10}")
    for number in range(kills):
        process = subprocess.Popen(command(spec, run), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        heard = process.stdout or ()
        moment, pause = chance.randint(0, events), chance.uniform(0.0, wait)
        lines = [line for _, line in zip(range(moment), heard, strict=False)]
        time.sleep(pause)
        killed += process.poll() is None
        process.send_signal(signal.SIGKILL)
        if process.wait() not in (-signal.SIGKILL, 0):
            raise RuntimeError(f"the comparison ended by itself with exit code {process.returncode}")
        lines += list(heard)
        if process.stdout is not None:
            process.stdout.close()
        reported |= {line.split()[1] for line in lines if line.startswith("Finished") and line.endswith("\n")}
        path = run / "records.jsonl"
        content = path.read_bytes() if path.exists() else b""
        is_torn = bool(content) and not content.endswith(b"\n")
        torn += is_torn
        names = [record.trial for record in read_records(run)] if (run / "run.json").exists() else []
        lost |= reported - set(names)
        tell(f"{number + 1:>4} {moment:>7} {pause:>5.2f} {len(names):>9} {'yes' if is_torn else '':>10}")
    subprocess.run(command(spec, run), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    records = [json.loads(line)["trial"] for line in (run / "records.jsonl").read_text().splitlines()]
    workers = {int(path.name.partition("-")[2]) for path in Path(spec.folder).glob("worker-*")}
    left, end = workers, time.monotonic() + 900
    while left and time.monotonic() < end:
        time.sleep(0.1)
        left = {pid for pid in left if Path(f"/proc/{pid}").exists()}
    return Outcome(killed, torn, records, lost | ({trial.id for trial in spec.trials()} - set(records)), workers, left)


def main() -> None:
    """Run, kill, count, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--events", type=int, default=20, help="epochs and records until a kill, at most")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, run = Path(temporary, "user"), Path(temporary, "run")
        folder.mkdir()
        shutil.copy(USERS_FILE, folder)
        policies = [{"kind": "fixed", "lr": [0.01, 0.1]}, {"kind": "triangular"}, {"kind": "one_cycle"}]
        spec = Spec(
            policies,
            workload="blobs.py:build",
            seeds=range(40),
            epochs=5,
            batch_size=32,
            folder=str(folder),
        )
        chance = random.Random(options.seed)  # noqa: S311
        outcome = kill_at_random(
            spec,
            run,
            chance,
            kills=options.kills,
            events=options.events,
            wait=0.5,
            tell=lambda line: print(line, flush=True),
        )
    twice = len(outcome.records) - len(set(outcome.records))
    print(
        f"{outcome.killed} kills, then to the end: {len(outcome.records)} records of {len(spec.trials())} trials, "
        f"{len(outcome.lost)} lost, {twice} twice, {outcome.torn} torn lines, "
        f"{len(outcome.left)} of {len(outcome.workers)} workers left running."
    )
    if outcome.lost or twice or outcome.left:
        raise SystemExit(1)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
