"""Cost of members: updates with `Snapshots`, a prediction, memory and files, as ratios.

    python benchmarks/members/cost.py torch [ROUNDS]
    KERAS_BACKEND=tensorflow python benchmarks/members/cost.py keras
    python benchmarks/members/cost.py jax

A CNN of 431,080 parameters, 20 batches of 50 random images, on one thread. Printed are the medians over the rounds of
the ratios of CPU times. There are 15 rounds by default, and in each round all variants alternate.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ |= {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "TF_NUM_INTRAOP_THREADS": "1"}

import numpy as np

import cyclr

UPDATES, BATCH = 20, 50
SCHEDULE = cyclr.WarmRestarts(0.0, 0.001, UPDATES)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(UPDATES * BATCH, 28, 28, 1)).astype("float32")
Y = RNG.integers(0, 10, UPDATES * BATCH)
Sides = Iterator[tuple[list[Callable[[], object]], int, int]]
"""The functions that are timed against the first function, and the bytes of a member and of the parameters."""


def torch_sides(folder: str) -> Sides:
    import torch
    from torch import nn

    from cyclr.torch import Scheduler, Snapshots, average, ensemble

    torch.set_num_threads(1)
    x, y = torch.from_numpy(X).reshape(UPDATES, BATCH, 1, 28, 28), torch.from_numpy(Y).reshape(UPDATES, BATCH)

    def run(arguments):
        pool = nn.MaxPool2d(2)
        dense = [nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10)]
        model = nn.Sequential(nn.Conv2d(1, 20, 5), pool, nn.Conv2d(20, 50, 5), pool, nn.Flatten(), *dense)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
        scheduler = Scheduler(optimizer, SCHEDULE)
        snapshots = None if arguments is None else Snapshots(model, scheduler, **arguments)

        def cycle():
            for inputs, targets in zip(x, y, strict=True):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(inputs), targets).backward()
                optimizer.step()
                scheduler.step()

        return model, snapshots, cycle

    (model, _, plain), (_, memory, kept), (_, files, filed) = map(run, (None, {}, {"folder": folder}))
    yield [plain, kept, filed], 0, 0
    members = memory.members[:5]
    made = (model, ensemble(model, members), ensemble(model, files.members[:5]), average(model, members))

    @torch.no_grad()
    def predicted(made):
        for inputs in x:
            made.eval()(inputs)

    size = sum(value.nbytes for value in members[0].state.values())
    parts = sum(value.nbytes for value in model.parameters())
    yield [lambda one=one: predicted(one) for one in made], size, parts


def keras_sides(folder: str) -> Sides:
    import keras

    from cyclr.keras import LearningRate, Snapshots, average, ensemble

    layers = keras.layers
    if keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(1)

    def run(callbacks):
        convolutions = [layers.Conv2D(20, 5), layers.MaxPool2D(), layers.Conv2D(50, 5), layers.MaxPool2D()]
        dense = [layers.Flatten(), layers.Dense(500, "relu"), layers.Dense(10)]
        model = keras.Sequential([keras.Input((28, 28, 1)), *convolutions, *dense])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(LearningRate(SCHEDULE)), loss)
        return model, lambda: model.fit(X, Y, batch_size=BATCH, verbose=0, callbacks=callbacks)

    memory, files = Snapshots(), Snapshots(folder=folder)
    (model, plain), (_, kept), (_, filed) = map(run, ([], [memory], [files]))
    yield [plain, kept, filed], 0, 0
    members = memory.members[:5]
    made = (model, ensemble(model, members), ensemble(model, files.members[:5]), average(model, members))
    size, parts = (sum(value.nbytes for value in values) for values in (members[0].state, model.get_weights()))
    yield [lambda one=one: one.predict(X, batch_size=BATCH, verbose=0) for one in made], size, parts


def jax_sides(folder: str) -> Sides:
    import jax
    import jax.numpy as jnp
    from jax import lax

    from cyclr.jax import Snapshots, average, ensemble

    def pooled(x, kernel, bias):
        x = lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")) + bias
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    def apply(params, x):
        x = pooled(pooled(x, *params[0]), *params[1]).reshape(len(x), -1)
        return jax.nn.relu(x @ params[2][0] + params[2][1]) @ params[3][0] + params[3][1]

    def loss(params, x, y):
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(apply(params, x)), y[:, None], 1))

    @jax.jit
    def update(params, x, y, lr):
        return jax.tree.map(lambda value, slope: value - lr * slope, params, jax.grad(loss)(params, x, y))

    shapes = [(5, 5, 1, 20), (5, 5, 20, 50), (800, 500), (500, 10)]
    x, y = X.reshape(UPDATES, BATCH, 28, 28, 1), Y.reshape(UPDATES, BATCH)

    def run(snapshots):
        held = {"step": 0, "params": [(jnp.asarray(RNG.normal(size=s) / 30), jnp.zeros(s[-1])) for s in shapes]}

        def cycle():
            for inputs, targets in zip(x, y, strict=True):
                step = held["step"]
                held.update(step=step + 1, params=update(held["params"], inputs, targets, SCHEDULE(step)))
                if snapshots is not None:
                    snapshots.after(step, held["params"])
            jax.block_until_ready(held["params"])

        return held, cycle

    memory, files = Snapshots(SCHEDULE), Snapshots(SCHEDULE, folder=folder)
    (held, plain), (_, kept), (_, filed) = map(run, (None, memory, files))
    yield [plain, kept, filed], 0, 0
    members, compiled, params = memory.members[:5], jax.jit(apply), held["params"]
    mean = jax.tree.map(jnp.asarray, average(members))
    made = [lambda x: compiled(params, x), ensemble(compiled, members), ensemble(compiled, files.members[:5])]
    size, parts = (sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) for tree in (members[0].state, params))
    made.append(lambda x: compiled(mean, x))
    yield [lambda one=one: [jax.block_until_ready(one(inputs)) for inputs in x] for one in made], size, parts


SIDES = {"torch": torch_sides, "keras": keras_sides, "jax": jax_sides}


def seconds(function: Callable[[], object]) -> float:
    began = time.process_time()
    function()
    return time.process_time() - began


def ratios(functions: list[Callable[[], object]], rounds: int) -> Iterator[float]:
    """Yield the median ratio of each function's time to the time of the first. A first, compiling round is left out."""
    times = [[seconds(function) for function in functions] for _ in range(rounds + 1)][1:]
    for number in range(1, len(functions)):
        yield statistics.median(row[number] / row[0] for row in times)


def main() -> None:
    kind, rounds = (*sys.argv[1:], "torch", "15")[0], int(sys.argv[2]) if len(sys.argv) > 2 else 15
    with tempfile.TemporaryDirectory() as folder:
        sides = SIDES[kind](folder)
        for name, ratio in zip(("memory", "a folder"), ratios(next(sides)[0], rounds), strict=True):
            print(f"{UPDATES} updates with a member in {name}, by {UPDATES} updates without: {ratio:.3f}")
        predictions, size, parameters = next(sides)
        file = next(Path(folder).glob("member-*"))
        print(f"a member in memory, by the parameters: {size / parameters:.3f}")
        print(f"a member in a file, by the parameters: {file.stat().st_size / parameters:.3f}")
        names = ("5 members", "5 members in a folder", "an average")
        for name, ratio in zip(names, ratios(predictions, rounds), strict=True):
            print(f"a prediction by {name}, by one of the model: {ratio:.2f}")


if __name__ == "__main__":
    main()
