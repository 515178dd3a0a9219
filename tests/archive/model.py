"""A user's file: a small torch model; one seed fails, and the first validation of each trial cannot be measured."""

import numpy as np
import torch


def build():
    if torch.initial_seed() == 2:
        raise OSError("no data for this seed")
    rng = np.random.default_rng(0)
    y = np.arange(200) % 3
    x = (np.eye(3)[y] + 0.7 * rng.normal(size=(200, 3))).astype("float32")
    calls = []

    def loss(outputs, targets):
        if not outputs.requires_grad:
            calls.append(1)
            if len(calls) == 1:
                return outputs.sum() * torch.nan
        return torch.nn.functional.cross_entropy(outputs, targets)

    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3))
    return model, ((x[:160], y[:160]), (x[160:], y[160:])), loss
