"""skorch: find learning-rate bounds for the module of a net on scanned digits, and save the curve.

    python examples/skorch/find_bounds.py

Needs: pip install "cyclr[torch,plot]" skorch scikit-learn.
"""

import torch
from sklearn.datasets import load_digits
from skorch import NeuralNetClassifier

from cyclr.torch import range_test

BATCH = 32


def main() -> None:
    torch.manual_seed(0)
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x[:1440] / 16, dtype=torch.float32), torch.tensor(y[:1440])
    net = NeuralNetClassifier(
        torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)),
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.9,
        batch_size=BATCH,
        iterator_train__shuffle=True,
        verbose=0,
    ).initialize()

    # The test uses the net's own module, optimizer, loss and batches.
    loader = net.get_iterator(net.get_dataset(x, y), training=True)
    result = range_test(net.module_, net.optimizer_, net.criterion_, loader)
    print(result.bounds.reason)
    result.save("range_test.json")
    result.plot().figure.savefig("range_test.png")


if __name__ == "__main__":
    main()
