"""AutoCycle beside the plain cycle with batch sizes 2 and 8: number of events in calm runs, and their effect.

    python benchmarks/auto/small_batches.py [UPDATES] [SEEDS]

The network of the tests (two hidden layers on scanned digits) is trained with SGD and Adam. The bounds are those of a
range test with batches of 32, multiplied by √(batch / 32), and by a third of this factor.
"""

import sys
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.auto.networks import Network, bounds, times, train, train_plainly

from cyclr import AutoCycle


def main() -> None:
    updates, seeds = [*map(int, sys.argv[1:]), *(1000, 5)[len(sys.argv) - 1 :]]
    warnings.filterwarnings("ignore", "AutoCycle: ")
    for batch in (2, 8):
        events, own, plain = Counter[str](), [], []
        for optimizer in ("sgd", "adam"):
            for factor in ((batch / 32) ** 0.5 / 3, (batch / 32) ** 0.5):
                schedule = times(bounds(optimizer), factor).schedule(total_steps=updates)
                for seed in range(seeds):
                    network = Network(optimizer, seed, batch=batch)
                    auto = AutoCycle(updates, schedule, state=network)
                    train(network, auto, updates)
                    own.append(network.score())
                    events.update({event.what for event in auto.events} or {"calm"})
                    network = Network(optimizer, seed, batch=batch)
                    train_plainly(network, schedule, updates)
                    plain.append(network.score())
        print(f"batch size {batch}, {len(own)} runs of {updates} updates; runs with each event: {dict(events)}")
        print(f"  accuracy, mean and worst: AutoCycle {np.mean(own):.3f} {min(own):.3f}, ", end="")
        print(f"plain {np.mean(plain):.3f} {min(plain):.3f}")


if __name__ == "__main__":
    main()
