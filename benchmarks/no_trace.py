"""Check that training after a range test equals training without a range test bit for bit, in all frameworks.

    python benchmarks/no_trace.py [DRAWS]

In every framework a small network with batch normalization and dropout is trained with Adam for an epoch. Then a range
test with the given outcome runs, and the network is trained for another epoch. These values are compared with two
epochs without a range test: the weights, the optimizer's variables, the losses (of every epoch in Keras, else of every
update), and the next numbers of Python's and NumPy's generators. The steps of exceptions and interruptions are drawn at
random, DRAWS times (5). A cell shows how many trainings were equal to the last bit, and their total number. Each
framework runs in a separate process.

In the second table a part of the training has its own state, such as attributes of a layer that every update changes.
This state is compared too. In Keras such models run eagerly, so that their Python code runs in every update. In JAX the
state of the training holds this part, and the step is not compiled (`chunk=None`).
"""

import os
import random
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, partial
from types import SimpleNamespace
from typing import Any, NamedTuple

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
INNER, ATTRIBUTES, LOSS, LAYER, CONTAINERS, AVERAGE, GENERATORS = KINDS = (
    "optimizer in an optimizer",
    "attributes of a layer",
    "loss object",
    "stateful layer",
    "containers of the optimizer",
    "average of the weights",
    "generators of a layer",
)
ENDS = ("completed", "interrupted at a random step")
X = np.random.default_rng(0).normal(size=(320, 8)).astype(np.float32)
Y = X @ np.random.default_rng(1).normal(size=(8, 1)).astype(np.float32)


def arguments_of(outcome: str, draw: int, kind: str) -> dict[str, Any]:
    """Return the arguments of range_test that lead to an outcome."""
    steps = 30 if kind else 150
    step = int(np.random.default_rng(draw).integers(1, 2 * steps // 3))

    def stop(test: Any) -> None:
        if test.recorded == step:
            raise RuntimeError("as asked") if outcome.startswith("raised") else KeyboardInterrupt

    return {"steps": steps} | {
        "completed": {"stop_factor": None, "max_lr": 0.1},
        "completed, copy on disk": {"stop_factor": None, "max_lr": 0.1, "snapshot_dir": "."},
        "three repeats": {"repeats": 3},
        "diverged": {},
        "met NaN or infinity": {"stop_factor": None, "max_lr": 1e30, "steps": 5},
        "raised at a random step": {"on_step": stop, "stop_factor": None, "max_lr": 0.1},
        "interrupted at a random step": {"on_step": stop, "stop_factor": None, "max_lr": 0.1},
    }[outcome]


def tested(outcome: str, run: Callable[[], Any]) -> None:
    """Run a range test, and check that it ended with the intended outcome."""
    try:
        ended = run().stop_reason
    except (RuntimeError, KeyboardInterrupt) as error:
        ended = "raised" if isinstance(error, RuntimeError) else "interrupted"
    wanted = "non_finite" if outcome.startswith("met") else outcome.split()[0].rstrip(",")
    if outcome != "three repeats" and ended != wanted:
        raise AssertionError(f"the range test must have {wanted}; got {ended}.")


class Pair(NamedTuple):
    count: Any
    seen: Any


@dataclass
class Record:
    count: int
    seen: list[int]


class Part:
    """A part of a training with state in its attributes: random generators, or numbers, containers and records."""

    def fill(self, kind: str, draw: int) -> None:
        self.generators = [np.random.default_rng(draw), random.Random(draw)] if kind == GENERATORS else []  # noqa: S311
        self.count, self.seen, self.recent, self.by_name, self.names = 0, [], deque(maxlen=3), {"seen": []}, set()
        self.pair, self.record, self.space = Pair(0, []), Record(0, []), SimpleNamespace(count=0, seen=[])

    def advance(self) -> float:
        """Change everything, and return a number that depends on it."""
        if self.generators:
            return 0.01 * sum(generator.random() for generator in self.generators)
        self.count = self.record.count = self.space.count = self.count + 1
        self.pair = Pair(self.count, self.pair.seen)
        for holder in (self, self.pair, self.record, self.space):
            holder.seen.append(self.count)
        for container in (self.recent, self.by_name["seen"]):
            container.append(self.count)
        self.names.add(self.count)
        return 0.001 * self.count

    def held(self) -> list[Any]:
        containers = [self.seen, self.recent, self.by_name, self.names]
        return [self.generators, self.count, *containers, self.pair, self.record, self.space]


def flat(value: Any) -> list[Any]:
    """Return the arrays in nested containers, the next number of a generator, or the text of any other value."""
    if hasattr(value, "detach"):
        return [value.detach().numpy()]
    if isinstance(value, dict | list | tuple | deque):
        return [array for part in (value.values() if isinstance(value, dict) else value) for array in flat(part)]
    if hasattr(value, "get_state"):
        return flat(value.get_state())
    if hasattr(value, "random"):
        value = deepcopy(value).random()
    return [value if isinstance(value, np.ndarray) else np.frombuffer(repr(value).encode(), np.uint8)]


def keras_trained(outcome: str | None, draw: int, kind: str) -> list[Any] | None:
    import keras

    from cyclr.keras import range_test

    class Layer(Part, keras.layers.Layer):
        def call(self, inputs: Any, training: bool = False) -> Any:
            return inputs + self.advance() if training else inputs

    class Loss(Part, keras.losses.Loss):
        def call(self, y_true: Any, y_pred: Any) -> Any:
            return keras.ops.mean(keras.ops.square(y_true - y_pred), axis=-1) * (1 + self.advance())

    class Adam(Part, keras.optimizers.Adam):
        def apply(self, *arguments: Any, **keywords: Any) -> None:
            self.advance()
            super().apply(*arguments, **keywords)

    if kind == LAYER and keras.backend.backend() != "tensorflow":
        return None
    keras.backend.clear_session()
    keras.utils.set_random_seed(draw)
    own = {ATTRIBUTES: Layer, GENERATORS: Layer, LOSS: Loss, CONTAINERS: Adam}.get(kind, Part)()
    own.fill(kind, draw)
    recurrent = keras.layers.LSTM(4, stateful=True)
    model = keras.Sequential(
        [
            keras.Input((8,), batch_size=32 if kind == LAYER else None),
            *([own] if isinstance(own, Layer) else []),
            *([keras.layers.Reshape((8, 1)), recurrent] if kind == LAYER else []),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3, seed=draw),
            keras.layers.Dense(1),
        ]
    )
    adam = own if isinstance(own, Adam) else keras.optimizers.Adam(0.01, use_ema=kind == AVERAGE)
    if kind == INNER:
        adam = keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(adam))
    model.compile(adam, loss=own if kind == LOSS else "mse", run_eagerly=kind not in ("", LAYER))
    losses = []
    for epoch in range(2):
        if epoch and outcome is not None:
            tested(outcome, partial(range_test, model, X, Y, batch_size=32, **arguments_of(outcome, draw, kind)))
        losses += model.fit(X, Y, batch_size=32, epochs=1, verbose=0).history["loss"]
    states = recurrent.states if kind == LAYER else []
    variables = [*model.variables, *model.optimizer.variables, *states]
    return flat(
        [[np.asarray(keras.ops.convert_to_numpy(v)) for v in variables], np.array(losses), own.held() if kind else []]
    )


def torch_trained(outcome: str | None, draw: int, kind: str) -> list[Any]:
    import torch

    from cyclr.torch import range_test

    class Layer(Part, torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden, self.generator = torch.zeros(8), torch.Generator().manual_seed(draw)

        def forward(self, inputs: Any) -> Any:
            if kind == LAYER:
                self.hidden = 0.9 * self.hidden + 0.1 * inputs.mean(0)
                return inputs + self.hidden
            noise = torch.rand((), generator=self.generator) if kind == GENERATORS else 0.0
            return inputs + self.advance() + noise

    class Loss(Part, torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(()))

        def forward(self, output: Any, target: Any) -> Any:
            loss = torch.nn.functional.mse_loss(output, target)
            self.mean.lerp_(loss.detach(), 0.1)
            return loss * (1 + self.advance()) + 0.1 * self.mean

    class Adam(torch.optim.Adam):
        """Keeps containers of tensors in its state."""

        def step(self, closure: Any = None) -> None:
            super().step(closure)
            for parameter, state in self.state.items():
                norms = state.setdefault("pair", Pair(torch.zeros(()), deque(maxlen=3)))
                norms.count.add_(1)
                norms.seen.append(parameter.detach().norm())
                state.setdefault("names", set()).add(int(norms.count))

    class Lookahead(torch.optim.Optimizer):
        def __init__(self, within: Any) -> None:
            super().__init__(within.param_groups, {})
            self.within, self.made = within, 0
            self.slow = [parameter.detach().clone() for parameter in within.param_groups[0]["params"]]

        def step(self, closure: Any = None) -> None:
            self.within.step(closure)
            self.made += 1
            for slow, fast in zip(self.slow, self.param_groups[0]["params"], strict=True):
                if self.made % 5 == 0:
                    fast.data.copy_(slow.lerp_(fast.detach(), 0.5))

    torch.manual_seed(draw)
    data = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    loader = torch.utils.data.DataLoader(data, batch_size=32, shuffle=True)
    own = {ATTRIBUTES: Layer, GENERATORS: Layer, LAYER: Layer, LOSS: Loss}.get(kind, Part)()
    own.fill(kind, draw)
    layers = (torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.BatchNorm1d(16), torch.nn.Dropout(0.3))
    model = torch.nn.Sequential(*([own] if isinstance(own, Layer) else []), *layers, torch.nn.Linear(16, 1))
    plain = (Adam if kind == CONTAINERS else torch.optim.Adam)(model.parameters(), 0.01)
    optimizer = Lookahead(plain) if kind == INNER else plain
    loss_fn = own if kind == LOSS else torch.nn.functional.mse_loss
    average = torch.optim.swa_utils.AveragedModel(model)

    def update(batch: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_fn(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        if kind == AVERAGE:
            average.update_parameters(model)
        return loss

    how = {"step_fn": update} if kind == AVERAGE else {"loss_fn": loss_fn}
    losses = []
    for epoch in range(2):
        if epoch and outcome is not None:
            arguments = {"loader": loader, **how, **arguments_of(outcome, draw, kind)}
            tested(outcome, partial(range_test, model, optimizer, **arguments))
        losses += [update(batch).item() for batch in loader]
    beside = {AVERAGE: average.state_dict(), INNER: vars(optimizer)}.get(kind, vars(own) if kind else {})
    return flat([model.state_dict(), plain.state_dict()["state"], np.array(losses), beside])


def jax_trained(outcome: str | None, draw: int, kind: str) -> list[Any] | None:
    import jax
    import jax.numpy as jnp
    import optax

    from cyclr.jax import range_test

    def wrapped(learning_rate: Any) -> Any:
        return optax.apply_if_finite(optax.adam(learning_rate), 5)

    optimizer = optax.inject_hyperparams(wrapped if kind == INNER else optax.adam)(learning_rate=0.01)
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

    state: Any = (weights, jnp.zeros(16), optimizer.init(weights), keys[2])
    batches = [(X[i : i + 32], Y[i : i + 32]) for i in range(0, 320, 32)]
    jitted, losses, part = jax.jit(step), [], Part()
    part.fill(kind, draw)

    def step_with_part(state: Any, batch: Any, lr: Any) -> Any:
        inner, average, part = state
        inner, loss = jitted(inner, batch, lr * (1 + part.advance()))
        average = jax.tree.map(lambda mean, weight: 0.9 * mean + 0.1 * weight, average, inner[0])
        return (inner, average, part), loss

    if kind:
        state = (state, weights, part)
    measured, update = (step_with_part, step_with_part) if kind else (step, jitted)
    for epoch in range(2):
        if epoch and outcome is not None:
            arguments = {"chunk": None if kind else 10, **arguments_of(outcome, draw, kind)}
            if arguments.keys() & {"repeats", "snapshot_dir"}:
                return None
            tested(outcome, partial(range_test, measured, state, batches, **arguments))
        for batch in batches:
            state, loss = update(state, batch, jnp.float32(0.01))
            losses.append(float(loss))
    inner, average = state[:2] if kind else (state, {})
    leaves = jax.tree.leaves((*inner[:3], jax.random.key_data(inner[3]), average))
    return flat([[*map(np.asarray, leaves)], np.array(losses), part.held() if kind else []])


def equal(ones: list[Any], others: list[Any]) -> bool:
    """Return True if all arrays are equal to the last bit."""
    return len(ones) == len(others) and all(a.tobytes() == b.tobytes() for a, b in zip(ones, others, strict=True))


def rows(framework: str, draws: int, lines: dict[str, list[tuple[str, str]]]) -> None:
    """Print the lines of a framework, one for each label, with a cell for every kind of state and outcome."""
    trained = {"PyTorch": torch_trained, "JAX": jax_trained}.get(framework, keras_trained)

    @cache
    def run(outcome: str | None, draw: int, kind: str) -> list[Any] | None:
        random.seed(draw)
        np.random.seed(draw)
        values = trained(outcome, draw, kind)
        return None if values is None else [*values, np.array([random.random(), np.random.rand()])]  # noqa: S311

    def cell(kind: str, outcome: str) -> str:
        same = []
        for draw in range(draws):
            try:
                without, after = run(None, draw, kind), run(outcome, draw, kind)
            except ValueError as error:
                if "with which the trainer makes" not in str(error):
                    raise
                return "refused"
            if without is not None and after is not None:
                same.append(equal(without, after))
                sizes.append(sum(array.nbytes for array in after))
        return f"{sum(same)} of {len(same)}" if same else "–" if kind else "no such option"

    # Imports may draw random numbers.
    trained(None, 0, "")
    for label, columns in lines.items():
        sizes: list[int] = []
        cells = [cell(*column) for column in columns]
        print(f"| {label} | {' | '.join(cells)} | {max(sizes):,} |", flush=True)
    # Two trainings of different seeds must differ, or the comparison could not fail.
    if equal(run(None, 0, "") or [], run(None, 1, "") or []):
        raise AssertionError("trainings with two seeds were equal: nothing is compared.")


def main() -> None:
    if len(sys.argv) > 2:
        framework, ends = sys.argv[2], sys.argv[3:]
        lines = {f"{framework}, {end.split()[0]}": [(kind, end) for kind in KINDS] for end in ends}
        rows(framework, int(sys.argv[1]), lines or {framework: [("", outcome) for outcome in OUTCOMES]})
        return
    draws = sys.argv[1] if len(sys.argv) > 1 else "5"
    for columns, ends in ((OUTCOMES, ()), (KINDS, ENDS)):
        print(f"| | {' | '.join(columns)} | bytes compared |\n|---|{'---|' * (len(columns) + 1)}", flush=True)
        for framework in FRAMEWORKS:
            backend = framework.removeprefix("Keras on ").lower().replace("pytorch", "torch")
            environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
            subprocess.run([sys.executable, __file__, draws, framework, *ends], check=True, env=environment)
        print(flush=True)


if __name__ == "__main__":
    main()
