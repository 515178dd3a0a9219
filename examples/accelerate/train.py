"""Accelerate: a schedule that advances once per update, for any number of processes.

    python examples/accelerate/train.py
    torchrun --standalone --nproc-per-node 2 examples/accelerate/train.py

Without a GPU, `accelerate launch --num_processes 2` starts only one process, except with MPI. torchrun starts two.

Needs: pip install "cyclr[torch]" accelerate scikit-learn.
"""

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

from cyclr.torch import Scheduler, range_test

BATCH, EPOCHS = 32, 8


def main() -> None:
    set_seed(0)
    accelerator = Accelerator(cpu=True)
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
    order = torch.randperm(len(x))
    train, test = order[:1440], order[1440:]
    loader = DataLoader(TensorDataset(x[train], y[train]), BATCH, shuffle=True)
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

    # Pass the optimizer inside Accelerate's wrapper.
    result = range_test(model, optimizer.optimizer, torch.nn.functional.cross_entropy, loader)
    accelerator.print(result.bounds.reason)

    schedule = result.bounds.schedule(total_steps=EPOCHS * len(loader))
    # The scheduler is not prepared, because it counts the optimizer's updates itself.
    scheduler = Scheduler(optimizer.optimizer, schedule)
    for _ in range(EPOCHS):
        for inputs, targets in loader:
            optimizer.zero_grad()
            accelerator.backward(torch.nn.functional.cross_entropy(model(inputs), targets))
            optimizer.step()
            scheduler.step()
    accelerator.print(f"updates {scheduler.last_epoch}, of {EPOCHS * len(loader)}")
    with torch.no_grad():
        accuracy = (model(x[test]).argmax(1) == y[test]).float().mean()
    accelerator.print(f"accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
