"""All tests of several processes, in one process: `torchrun processes_worker.py FOLDER PART ...` writes its results."""

import importlib
import json
import sys
import warnings
from pathlib import Path

import torch
from torch import distributed

ROOT = Path(__file__).parents[2]


def main():
    folder, *parts = sys.argv[1:]
    sys.path.insert(0, str(ROOT))
    torch.set_num_threads(1)
    # Lightning advises on workers, and uses what torch has deprecated.
    warnings.simplefilter("ignore")
    # Accelerate and Lightning join the group that is there.
    distributed.init_process_group("gloo")
    found = {part: importlib.import_module(f"tests.torch.{part}_worker").results() for part in parts}
    Path(folder, f"{distributed.get_rank()}.json").write_text(json.dumps(found), encoding="utf-8")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
