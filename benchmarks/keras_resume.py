"""Training that is killed 20 times at random moments and resumed, against one run, on the backend of KERAS_BACKEND.

    for backend in tensorflow jax torch; do KERAS_BACKEND=$backend python benchmarks/keras_resume.py; done

SIGKILL ends the script tests/keras/resumable.py. Each row of the table is one run of this script with 20 kills, with a
backup after every epoch of 10 batches, or after every 7 batches. All updates are compared, including those that were
repeated after a kill. The final weights are compared only for backups after whole epochs, because only then Keras
continues with the next data.
"""

import argparse
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "keras"))

from resumable import SCHEDULE, Run

NAMES = {"graph": "LearningRate", "callback": "ScheduleCallback"}
EPOCHS = 90


def killed(run: Run, kills: int, seed: int) -> int:
    """Kill a run this number of times while it trains, then let it finish. Return the number of kills."""
    moments = np.random.default_rng(seed)
    done = 0
    for number in range(kills):
        # Before the first backup a run cannot be resumed.
        fewest = 5 if number else 25
        done += run.kill_after(int(moments.integers(fewest, 41)), moments.uniform(0, 0.02))
    run.finish()
    return done


def rows(form: str, directory: Path, kills: int, seed: int) -> list[str]:
    """Return the rows of one form."""
    # If Keras resumes from a backup within an epoch, it counts epochs from 0 again, so the run gets longer.
    whole = {"epoch": Run(directory / "whole", form, "epoch", EPOCHS)}
    whole[7] = Run(directory / "longer", form, "epoch", 3 * EPOCHS)
    found = []
    for save_freq, reference in whole.items():
        reference.finish()
        expected = dict(reference.updates())
        run = Run(directory / str(save_freq), form, save_freq, EPOCHS)
        done = killed(run, kills, seed)
        updates = run.updates()
        difference = max(abs(rate - expected[number]) for number, rate in updates)
        from_schedule = max(abs(rate - SCHEDULE(number)) for number, rate in updates) / SCHEDULE.max_lr
        missing = set(range(updates[-1][0] + 1)) - {number for number, _ in updates}
        same = "-"
        if save_freq == "epoch":
            pairs = zip(run.weights(), reference.weights(), strict=True)
            same = "equal" if all(np.array_equal(*pair) for pair in pairs) else "not equal"
        found.append(
            f"| {os.environ.get('KERAS_BACKEND')} | {NAMES[form]} | {save_freq} | {done} | {done} | {len(updates)} | "
            f"{len(missing)} | {difference:.1e} | {from_schedule:.1e} | {same} |"
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(
        "| backend | form | save_freq | kills | resumes | updates | missing | from one run | from schedule | weights |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(len(NAMES)) as pool:
        for found in pool.map(
            lambda form: rows(form, Path(directory) / form, arguments.kills, arguments.seed), list(NAMES)
        ):
            print("\n".join(found), flush=True)


if __name__ == "__main__":
    main()
