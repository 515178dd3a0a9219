"""PyTorch: run a range test, then train with one cycle of learning rate and momentum, on scanned digits.

    python examples/torch/train.py

Needs: pip install "cyclr[torch]" scikit-learn.
"""

import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

from cyclr.torch import Scheduler, range_test

BATCH, EPOCHS = 32, 8


def main() -> None:
    torch.manual_seed(0)
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
    order = torch.randperm(len(x))
    train, test = order[:1440], order[1440:]
    loader = DataLoader(TensorDataset(x[train], y[train]), BATCH, shuffle=True)
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    # The test leaves the model, the optimizer and the random number generators as they were.
    result = range_test(model, optimizer, torch.nn.functional.cross_entropy, loader)
    print(result.bounds.reason)

    schedule = result.bounds.schedule(total_steps=EPOCHS * len(loader))
    scheduler = Scheduler(optimizer, schedule, momentum=schedule.mirrored(0.85, 0.95))
    for _ in range(EPOCHS):
        for inputs, targets in loader:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
            scheduler.step()
    with torch.no_grad():
        accuracy = (model(x[test]).argmax(1) == y[test]).float().mean()
    print(f"accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
