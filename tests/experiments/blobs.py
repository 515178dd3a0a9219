"""A user's file: a small torch model on three blobs of points, for the tests of comparisons.

`build` leaves a file with the number of its process; the other functions go wrong in ways that users' functions do.
"""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent


def build():
    (HERE / f"worker-{os.getpid()}").touch()
    rng = np.random.default_rng(0)
    y = np.arange(400) % 3
    x = (np.eye(3)[y] + 0.7 * rng.normal(size=(400, 3))).astype("float32")
    return torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)), (
        (x[:320], y[:320]),
        (x[320:], y[320:]),
    )


def dies_once():
    """Kills its process while it trains, the first time that it is called."""
    model, data = build()
    marker = HERE / "died"
    if not marker.exists():
        calls = 0

        def count(module, inputs):
            nonlocal calls
            calls += 1
            if calls == 20:
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)

        model.register_forward_pre_hook(count)
    return model, data


def dies():
    sys.stderr.write("out of luck\n")
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def raises():
    raise ZeroDivisionError("a mistake of the user")


def raises_in_a_library():
    return torch.nn.Linear(3, 3)(torch.zeros(2, 4))


def exits():
    sys.exit("no data")


def infinite():
    model, data = build()
    return model, data, lambda outputs, targets: (outputs * 1e30).exp().mean()


def with_a_broken_row():
    model, ((x, y), validation) = build()
    x[100] = np.nan
    return model, ((x, y), validation)


def unmeasured():
    """A loss that is finite in training alone."""
    model, data = build()
    loss = torch.nn.functional.cross_entropy
    return model, data, lambda outputs, targets: loss(outputs, targets) * (1 if outputs.requires_grad else torch.nan)


def batches():
    """Data as loaders, a regression."""
    x = torch.linspace(-1, 1, 64)[:, None]
    pairs = torch.utils.data.TensorDataset(x, 2 * x)
    loader = torch.utils.data.DataLoader(pairs, batch_size=16)
    return torch.nn.Linear(1, 1), (loader, loader)


def endless():
    return torch.nn.Linear(1, 1), (iter([]), iter([]))


class Short(torch.utils.data.DataLoader):
    def __len__(self):
        return 20


def short():
    model, (training, _) = batches()
    return model, (Short(training.dataset, batch_size=16), training)


def validation_once():
    model, (training, validation) = batches()
    return model, (training, (batch for batch in validation))


def broadcast():
    """Targets of shape (n,) for outputs of shape (n, 1)."""
    model, (training, _) = batches()
    x, y = training.dataset.tensors
    return model, ((x, y[:, 0]), (x, y[:, 0]))


def model_alone():
    return torch.nn.Linear(1, 1)


def no_model():
    return 1, ((0, 0), (0, 0))
