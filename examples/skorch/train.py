"""skorch: run a range test, then train with one cycle, on scanned digits.

    python examples/skorch/train.py

Needs: pip install "cyclr[torch]" skorch scikit-learn.
"""

import torch
from sklearn.datasets import load_digits
from skorch import NeuralNetClassifier
from skorch.callbacks import LRScheduler
from torch.utils.data import DataLoader, TensorDataset

from cyclr.torch import Scheduler, range_test

BATCH, EPOCHS = 32, 8


def main() -> None:
    torch.manual_seed(0)
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
    order = torch.randperm(len(x))
    train, test = order[:1440], order[1440:]
    module = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))

    loader = DataLoader(TensorDataset(x[train], y[train]), BATCH, shuffle=True)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9)
    result = range_test(module, optimizer, torch.nn.functional.cross_entropy, loader)
    print(result.bounds.reason)

    schedule = result.bounds.schedule(total_steps=EPOCHS * len(loader))
    net = NeuralNetClassifier(
        module,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.9,
        # Call it after every batch. skorch's default is once per epoch.
        callbacks=[LRScheduler(policy=Scheduler, lr=schedule, step_every="batch")],
        batch_size=BATCH,
        iterator_train__shuffle=True,
        max_epochs=EPOCHS,
        train_split=None,
        verbose=0,
    )
    net.fit(x[train], y[train])
    print(f"accuracy {net.score(x[test], y[test]):.3f}")


if __name__ == "__main__":
    main()
