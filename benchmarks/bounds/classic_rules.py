"""Write the suggestions of fastai's own rules on recorded curves, with which `tests/bounds/test_classic.py` compares.

    python benchmarks/bounds/classic_rules.py

It needs fastai (see `peers.py`) and the losses that `ground_truth.py` recorded.
"""

import json
from pathlib import Path

import numpy as np
import peers
from ground_truth import SWEEPS, load
from tasks import TASKS

FILE = Path(__file__).parents[2] / "tests" / "bounds" / "recorded_curves.json"
SWEEP = "100 steps over eight decades"


def main() -> None:
    tools = {name: peers.installed()[f"fastai {name}"] for name in ("valley", "minimum", "steep")}
    first, last, steps = SWEEPS[SWEEP]
    curves = []
    for task in TASKS[::5]:
        lr, loss = np.geomspace(first, last, steps), load(task)[f"sweep {SWEEP}"][0].astype(np.float64)
        # Cut where fastai stops, because the rules are compared and not the stopping.
        count = peers.until(peers.debiased(loss, 0.98), 4)
        suggested = {name: peers.suggestion(peer, lr, loss) for name, peer in tools.items()}
        curves.append({"task": task.name, "loss": [float(f"{x:.7g}") for x in loss[:count]], **suggested})
    text = {"min_lr": first, "max_lr": last, "steps": steps, "curves": curves}
    FILE.write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
    print(f"{len(curves)} curves written to {FILE}")


if __name__ == "__main__":
    main()
