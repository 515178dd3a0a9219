"""Is training after a range test bit for bit the training without one? Frameworks by outcomes of the test.

    python benchmarks/no_trace.py [DRAWS]

For every framework a small network with batch normalization and dropout is trained by Adam for an epoch, range tested
with the given outcome, and trained for another epoch. What is compared with the same two epochs without a test: the
weights, the optimizer's variables, the losses (in Keras of every epoch, else of every update), and what Python's and
NumPy's generators draw next. The steps of exceptions and interruptions are drawn at random, DRAWS times (5). A cell is
how many trainings were equal to the last bit, of how many. Each framework runs in a process of its own.
"""

import os
import random
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

FRAMEWORKS = ("Keras on TensorFlow", "Keras on JAX", "Keras on PyTorch", "PyTorch", "JAX")
OUTCOMES = (
    "completed",
    "completed, copy on disk",
    "three repeats",
    "diverged",
    "met NaN or infinity",
    "raised at a random step",
    "interrupted at a random step",
)
X = np.random.default_rng(0).normal(size=(320, 8)).astype(np.float32)
Y = X @ np.random.default_rng(1).normal(size=(8, 1)).astype(np.float32)


def arguments_of(outcome: str, draw: int) -> dict[str, Any]:
    """What range_test is called with for an outcome."""
    step = int(np.random.default_rng(draw).integers(1, 100))

    def stop(test: Any) -> None:
        if test.recorded == step:
            raise RuntimeError("as asked") if outcome.startswith("raised") else KeyboardInterrupt

    return {
        "completed": {"stop_factor": None, "max_lr": 0.1},
        "completed, copy on disk": {"stop_factor": None, "max_lr": 0.1, "snapshot_dir": "."},
        "three repeats": {"repeats": 3},
        "diverged": {},
        "met NaN or infinity": {"stop_factor": None, "max_lr": 1e30, "steps": 5},
        "raised at a random step": {"on_step": stop, "stop_factor": None, "max_lr": 0.1},
        "interrupted at a random step": {"on_step": stop, "stop_factor": None, "max_lr": 0.1},
    }[outcome]


def tested(outcome: str, run: Callable[[], Any]) -> None:
    """Make a range test and see to it that it ended as it was meant to."""
    try:
        ended = run().stop_reason
    except (RuntimeError, KeyboardInterrupt) as error:
        ended = "raised" if isinstance(error, RuntimeError) else "interrupted"
    wanted = "non_finite" if outcome.startswith("met") else outcome.split()[0].rstrip(",")
    if outcome != "three repeats" and ended != wanted:
        raise AssertionError(f"the range test must have {wanted}; got {ended}.")


def keras_trained(outcome: str | None, draw: int) -> list[Any]:
    import keras

    from cyclr.keras import range_test

    keras.backend.clear_session()
    keras.utils.set_random_seed(draw)
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3, seed=draw),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), loss="mse")
    losses = []
    for epoch in range(2):
        if epoch and outcome is not None:
            tested(outcome, partial(range_test, model, X, Y, batch_size=32, **arguments_of(outcome, draw)))
        losses += model.fit(X, Y, batch_size=32, epochs=1, verbose=0).history["loss"]
    variables = [np.asarray(keras.ops.convert_to_numpy(v)) for v in [*model.variables, *model.optimizer.variables]]
    return [*variables, np.array(losses)]


def torch_trained(outcome: str | None, draw: int) -> list[Any]:
    import torch

    from cyclr.torch import range_test

    torch.manual_seed(draw)
    data = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    loader = torch.utils.data.DataLoader(data, batch_size=32, shuffle=True)
    layers = (torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.BatchNorm1d(16), torch.nn.Dropout(0.3))
    model = torch.nn.Sequential(*layers, torch.nn.Linear(16, 1))
    optimizer, loss_fn = torch.optim.Adam(model.parameters(), 0.01), torch.nn.functional.mse_loss
    losses = []
    for epoch in range(2):
        if epoch and outcome is not None:
            arguments = arguments_of(outcome, draw)
            tested(outcome, partial(range_test, model, optimizer, loss_fn, loader, **arguments))
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss = loss_fn(model(inputs), targets)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    slots = [value for state in optimizer.state_dict()["state"].values() for value in state.values()]
    return [*(value.numpy() for value in [*model.state_dict().values(), *slots]), np.array(losses)]


def jax_trained(outcome: str | None, draw: int) -> list[Any] | None:
    import jax
    import jax.numpy as jnp
    import optax

    from cyclr.jax import range_test

    optimizer = optax.inject_hyperparams(optax.adam)(learning_rate=0.01)
    keys = jax.random.split(jax.random.key(draw), 3)
    weights = {"in": 0.3 * jax.random.normal(keys[0], (8, 16)), "out": 0.3 * jax.random.normal(keys[1], (16, 1))}

    def step(state: Any, batch: Any, lr: Any) -> Any:
        weights, mean, memory, key = state
        key, own = jax.random.split(key)

        def loss_of(weights: Any) -> Any:
            hidden = jax.nn.leaky_relu(batch[0] @ weights["in"])
            kept = (hidden - mean) * jax.random.bernoulli(own, 0.7, hidden.shape)
            return jnp.mean((kept @ weights["out"] - batch[1]) ** 2), hidden.mean(0)

        (loss, seen), gradient = jax.value_and_grad(loss_of, has_aux=True)(weights)
        memory.hyperparams["learning_rate"] = lr
        updates, memory = optimizer.update(gradient, memory, weights)
        return (optax.apply_updates(weights, updates), 0.9 * mean + 0.1 * seen, memory, key), loss

    state = (weights, jnp.zeros(16), optimizer.init(weights), keys[2])
    batches = [(X[i : i + 32], Y[i : i + 32]) for i in range(0, 320, 32)]
    compiled, losses = jax.jit(step), []
    for epoch in range(2):
        if epoch and outcome is not None:
            arguments = arguments_of(outcome, draw)
            if arguments.keys() & {"repeats", "snapshot_dir"}:
                return None
            tested(outcome, partial(range_test, step, state, batches, **arguments))
        for batch in batches:
            state, loss = compiled(state, batch, jnp.float32(0.01))
            losses.append(float(loss))
    leaves = jax.tree.leaves((*state[:3], jax.random.key_data(state[3])))
    return [*map(np.asarray, leaves), np.array(losses)]


def equal(ones: list[Any], others: list[Any]) -> bool:
    """Whether all arrays are equal to the last bit."""
    return len(ones) == len(others) and all(a.tobytes() == b.tobytes() for a, b in zip(ones, others, strict=True))


def row(framework: str, draws: int) -> None:
    """Print the cells of a framework."""
    trained = {"PyTorch": torch_trained, "JAX": jax_trained}.get(framework, keras_trained)

    def run(outcome: str | None, draw: int) -> list[Any] | None:
        random.seed(draw)
        np.random.seed(draw)
        values = trained(outcome, draw)
        return None if values is None else [*values, np.array([random.random(), np.random.rand()])]  # noqa: S311

    # Imports may draw random numbers of their own.
    run(None, 0)
    cells, compared = [], 0
    for outcome in OUTCOMES:
        same = []
        for draw in range(draws):
            without, after = run(None, draw), run(outcome, draw)
            if without is not None and after is not None:
                same.append(equal(without, after))
                compared = sum(array.nbytes for array in after)
        cells.append(f"{sum(same)} of {len(same)}" if same else "no such option")
    # Two trainings of different seeds must differ, or the comparison could not fail.
    if equal(run(None, 0) or [], run(None, 1) or []):
        raise AssertionError("trainings with two seeds were equal: nothing is compared.")
    print(f"| {framework} | {' | '.join(cells)} | {compared:,} |", flush=True)


def main() -> None:
    if len(sys.argv) > 2:
        row(sys.argv[2], int(sys.argv[1]))
        return
    draws = sys.argv[1] if len(sys.argv) > 1 else "5"
    print(f"| | {' | '.join(OUTCOMES)} | bytes compared |\n|---|{'---|' * (len(OUTCOMES) + 1)}", flush=True)
    for framework in FRAMEWORKS:
        backend = framework.removeprefix("Keras on ").lower().replace("pytorch", "torch")
        environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
        subprocess.run([sys.executable, __file__, draws, framework], check=True, env=environment)


if __name__ == "__main__":
    main()
