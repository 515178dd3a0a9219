"""A small dense network in NumPy, trained on real digits: a training state that AutoCycle copies and restores."""

import functools
from itertools import pairwise

import numpy as np

import cyclr


@functools.cache
def digits():
    """Images, labels, and those that are kept out: 500 of the 1,797 scans."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    x, y = data.data[order] / 16.0, data.target[order]
    return x[500:], y[500:], x[:500], y[:500]


class Network:
    """Two hidden layers of ReLU and a softmax, trained by SGD, momentum or Adam on random batches of 32.

    Attributes:
        copies, restored: how often the state was copied and restored.
    """

    def __init__(self, optimizer="adam", seed=0, width=48, batch=32):
        rng = np.random.default_rng(seed)
        sizes = (64, width, width, 10)
        self.weights = [
            part
            for rows, columns in pairwise(sizes)
            for part in (rng.normal(0, np.sqrt(2 / rows), (rows, columns)), np.zeros(columns))
        ]
        self.first = [np.zeros_like(part) for part in self.weights]
        self.second = [np.zeros_like(part) for part in self.weights]
        self.optimizer, self.made, self.batch = optimizer, 0, batch
        self.rng = np.random.default_rng(seed + 1000)
        self.copies = self.restored = 0

    def copy(self):
        self.copies += 1
        return [[part.copy() for part in parts] for parts in (self.weights, self.first, self.second)], self.made

    def restore(self, copy):
        self.restored += 1
        parts, self.made = copy
        self.weights, self.first, self.second = ([part.copy() for part in group] for group in parts)

    def draw(self):
        """Indices of the next batch. Data goes on after a return."""
        return self.rng.integers(0, len(digits()[0]), self.batch)

    def outputs(self, x):
        layers = [x]
        for weights, bias in zip(self.weights[::2], self.weights[1::2], strict=True):
            x = layers[-1] @ weights + bias
            layers.append(np.maximum(x, 0) if weights.shape[1] != 10 else x)
        return layers

    def loss(self, chosen, scale=1.0):
        """The loss of a batch and its gradients."""
        x, y = digits()[0][chosen] * scale, digits()[1][chosen]
        with np.errstate(all="ignore"):
            layers = self.outputs(x)
            z = layers[-1] - layers[-1].max(axis=1, keepdims=True)
            logs = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
            loss = -logs[np.arange(len(y)), y].mean()
            back = np.exp(logs)
            back[np.arange(len(y)), y] -= 1.0
            back /= len(y)
            gradients = []
            for index in range(len(self.weights) - 2, -1, -2):
                below = layers[index // 2]
                gradients[:0] = [below.T @ back, back.sum(axis=0)]
                back = (back @ self.weights[index].T) * (below > 0)
        return float(loss), gradients

    def update(self, gradients, lr):
        self.made += 1
        with np.errstate(all="ignore"):
            for place, gradient in enumerate(gradients):
                if self.optimizer == "adam":
                    self.first[place] = 0.9 * self.first[place] + 0.1 * gradient
                    self.second[place] = 0.999 * self.second[place] + 0.001 * gradient**2
                    mean = self.first[place] / (1 - 0.9**self.made)
                    size = np.sqrt(self.second[place] / (1 - 0.999**self.made)) + 1e-8
                    self.weights[place] = self.weights[place] - lr * mean / size
                else:
                    kept = 0.9 if self.optimizer == "momentum" else 0.0
                    self.first[place] = kept * self.first[place] + gradient
                    self.weights[place] = self.weights[place] - lr * self.first[place]

    def score(self):
        """Accuracy on the images that were kept out."""
        _, _, x, y = digits()
        with np.errstate(all="ignore"):
            return float((self.outputs(x)[-1].argmax(axis=1) == y).mean())


@functools.cache
def bounds(optimizer, seed=0):
    """The bounds of a range test of the network."""
    network = Network(optimizer, seed)
    test = cyclr.RangeTest()
    for lr in test:
        loss, gradients = network.loss(network.draw())
        network.update(gradients, lr)
        test.record(loss)
    return test.result().bounds


def times(found, factor):
    """Bounds times a factor."""
    base_lr, max_lr = found
    return cyclr.Bounds(base_lr * factor, max_lr * factor, "no_divergence", "scaled")


def train_plainly(network, schedule, total):
    """The losses of a run with a plain schedule."""
    losses = []
    for step in range(total):
        loss, gradients = network.loss(network.draw())
        network.update(gradients, schedule(step))
        losses.append(loss)
    return losses


def train(network, auto, updates, skips=False, spoil=None):
    """Train until so many updates are made. Return the learning rates and losses of all updates.

    `spoil(step)` returns what the images of the next batch are multiplied by.
    """
    rates, losses = [], []
    while len(rates) < updates:
        scale = 1.0 if spoil is None else spoil(auto.last_step + 1)
        loss, gradients = network.loss(network.draw(), scale)
        if skips and auto.skip(loss):
            continue
        rates.append(auto.lr)
        network.update(gradients, auto.lr)
        auto.step(loss)
        losses.append(loss)
    return rates, losses
