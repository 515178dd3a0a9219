"""A siamese network that decides if two scanned digits are the same, with batches of three tensors.

    python examples/loops/siamese.py

Needs: pip install "cyclr[torch]" scikit-learn.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cyclr.torch import Scheduler, range_test

BATCH, EPOCHS = 64, 10


class Siamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 32))
        self.head = nn.Linear(32, 1)

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return self.head((self.tower(first) - self.tower(second)).abs()).squeeze(1)


def pairs(x: torch.Tensor, y: torch.Tensor, count: int) -> TensorDataset:
    """Return pairs of rows. At least half of the pairs show the same digit."""
    first = torch.randint(len(x), (count,))
    second = torch.randint(len(x), (count,))
    for place in range(0, count, 2):
        same = torch.nonzero(y == y[first[place]]).squeeze(1)
        second[place] = same[torch.randint(len(same), ())]
    return TensorDataset(x[first], x[second], (y[first] == y[second]).float())


def loss_of(model: Siamese, batch: list[torch.Tensor]) -> torch.Tensor:
    first, second, same = batch
    return nn.functional.binary_cross_entropy_with_logits(model(first, second), same)


def main() -> None:
    torch.manual_seed(0)
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
    loader = DataLoader(pairs(x[:1440], y[:1440], 4096), BATCH, shuffle=True)
    model = Siamese()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    result = range_test(model, optimizer, loader=loader, loss_of=loss_of)
    print(result.bounds.reason)

    scheduler = Scheduler(optimizer, result.bounds.schedule(epochs=EPOCHS, steps_per_epoch=len(loader)))
    for _ in range(EPOCHS):
        for batch in loader:
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            optimizer.step()
            scheduler.step()
    first, second, same = pairs(x[1440:], y[1440:], 1024).tensors
    with torch.no_grad():
        print(f"accuracy {((model(first, second) > 0) == same.bool()).float().mean():.3f}")


if __name__ == "__main__":
    main()
