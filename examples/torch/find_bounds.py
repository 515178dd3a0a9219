"""PyTorch: find learning-rate bounds for a small network on scanned digits, and save the curve.

    python examples/torch/find_bounds.py

Needs: pip install "cyclr[torch,plot]" scikit-learn.
"""

import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

from cyclr.torch import range_test

BATCH = 32


def main() -> None:
    torch.manual_seed(0)
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
    loader = DataLoader(TensorDataset(x[:1440], y[:1440]), BATCH, shuffle=True)
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    result = range_test(model, optimizer, torch.nn.functional.cross_entropy, loader)
    print(result.bounds.reason)
    result.save("range_test.json")
    result.plot().figure.savefig("range_test.png")


if __name__ == "__main__":
    main()
