"""Accelerate: find learning-rate bounds on scanned digits, in one or more processes, and save the curve.

    python examples/accelerate/find_bounds.py
    torchrun --standalone --nproc-per-node 2 examples/accelerate/find_bounds.py

Needs: pip install "cyclr[torch,plot]" accelerate scikit-learn.
"""

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

from cyclr.torch import range_test

BATCH = 32


def main() -> None:
    set_seed(0)
    accelerator = Accelerator(cpu=True)
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
    loader = DataLoader(TensorDataset(x[:1440], y[:1440]), BATCH, shuffle=True)
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

    # Pass the optimizer inside Accelerate's wrapper. All processes record the mean loss.
    result = range_test(model, optimizer.optimizer, torch.nn.functional.cross_entropy, loader)
    if accelerator.is_main_process:
        print(result.bounds.reason)
        result.save("range_test.json")
        result.plot().figure.savefig("range_test.png")
    accelerator.end_training()


if __name__ == "__main__":
    main()
