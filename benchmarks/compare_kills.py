"""A comparison that is killed by SIGKILL again and again, at random moments: what is lost, and what is there twice.

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
from pathlib import Path

from cyclr.experiments import Spec, read_records

USERS_FILE = Path(__file__).parents[1] / "tests" / "experiments" / "blobs.py"
DRIVER = """
import json, sys
from cyclr.experiments import Spec, compare
spec = Spec.from_dict(json.loads(sys.argv[1]), folder=sys.argv[2])
def tell(event):
    if "stage" not in event:
        print("record " + event["trial"] if "record" in event else "event", flush=True)
compare(spec, sys.argv[3], workers=2, tell=tell)
"""


def main() -> None:
    """Run, kill, count, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--events", type=int, default=20, help="epochs and records until a kill, at most")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)  # noqa: S311
    with tempfile.TemporaryDirectory() as temporary:
        folder, run = Path(temporary, "user"), Path(temporary, "run")
        folder.mkdir()
        shutil.copy(USERS_FILE, folder)
        policies = [{"kind": "fixed", "lr": [0.01, 0.1]}, {"kind": "triangular"}, {"kind": "one_cycle"}]
        spec = Spec.from_dict(
            {
                "workload": "blobs.py:build",
                "policies": policies,
                "seeds": list(range(40)),
                "epochs": 5,
                "batch_size": 32,
            },
            folder=str(folder),
        )
        command = [sys.executable, "-c", DRIVER, json.dumps(spec.to_dict()), str(folder), str(run)]
        reported: set[str] = set()
        lost = torn = 0
        print(f"{'kill':>4} {'events':>7} {'+ s':>5} {'recorded':>9} {'torn line':>10}")
        for number in range(options.kills):
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            heard = process.stdout or ()
            moment, wait = chance.randint(0, options.events), chance.uniform(0.0, 0.5)
            lines = [line for _, line in zip(range(moment), heard, strict=False)]
            time.sleep(wait)
            if process.poll() not in (None, 0):
                raise SystemExit(f"the comparison ended by itself with exit code {process.returncode}")
            process.send_signal(signal.SIGKILL)
            process.wait()
            lines += list(heard)
            reported |= {line.split()[1] for line in lines if line.startswith("record") and line.endswith("\n")}
            path = run / "records.jsonl"
            content = path.read_bytes() if path.exists() else b""
            is_torn = bool(content) and not content.endswith(b"\n")
            torn += is_torn
            names = [record["trial"] for record in read_records(run)] if (run / "run.json").exists() else []
            lost += len(reported - set(names))
            print(
                f"{number + 1:>4} {moment:>7} {wait:>5.2f} {len(names):>9} {'yes' if is_torn else '':>10}", flush=True
            )
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        lines = [json.loads(line)["trial"] for line in (run / "records.jsonl").read_text().splitlines()]
        workers = {int(path.name.partition("-")[2]) for path in folder.glob("worker-*")}
        time.sleep(2)
        left = sum(Path(f"/proc/{pid}").exists() for pid in workers)
        missing = len({trial.id for trial in spec.trials()} - set(lines))
        print(
            f"{options.kills} kills, then to the end: {len(lines)} records of {len(spec.trials())} trials, "
            f"{lost + missing} lost, {len(lines) - len(set(lines))} twice, {torn} torn lines, "
            f"{left} of {len(workers)} workers left running."
        )
        if lost or missing or left or len(lines) != len(set(lines)):
            raise SystemExit(1)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
