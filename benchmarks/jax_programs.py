"""Small forms of public JAX programs, with the learning rates of the program and with cycles between cyclr's bounds.

    python benchmarks/jax_programs.py [SEEDS [PROGRAM ...]]

Each form has the kind of model, the optimizer, the loss and the learning rates of the public program with its name, on
data of scikit-learn and Python. A row has the bounds of the first seed, and then two checks to the last bit: training
after a range test equals training without a range test, and a run in two parts equals an uninterrupted run. Then come
the mean losses on test data over SEEDS (3), lower is better: with the learning rates of the program, and with
`bounds.schedule` after the same number of updates. The last column counts the seeds for which `bounds.schedule` is
lower.
"""

import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pydoc_data.topics import topics
from statistics import mean
from typing import Any

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import nnx
from sklearn.datasets import load_digits

import cyclr
from cyclr.jax import range_test

UPDATES = 200
DIGITS = load_digits()
IMAGES, LABELS = (DIGITS.data / 16).astype("float32"), DIGITS.target.astype("int32")
TEXT = np.frombuffer("".join(topics.values()).encode("ascii", "replace"), np.uint8).astype("int32")


@dataclass
class Program:
    loss_of: Callable[..., Any]
    """A training loop. `loss_of(params, rest, batch)` returns the loss and the next `rest`."""
    params: Any
    rest: Any
    optimizer: Callable[[Any], Any]
    own: Any
    """The program's own learning rate or schedule."""
    batches: Any
    test: Any


class Loader:
    """Batches of a torch `DataLoader`, as Equinox' example reads them."""

    def __init__(self) -> None:
        rows = torch.utils.data.TensorDataset(torch.tensor(IMAGES[:1440]), torch.tensor(LABELS[:1440]))
        self.loader = torch.utils.data.DataLoader(rows, batch_size=64, shuffle=True, drop_last=True)

    def __iter__(self) -> Any:
        return ((x.numpy(), y.numpy()) for x, y in self.loader)


def text(seed: int) -> Any:
    places = np.random.default_rng(seed).integers(0, 400_000, (UPDATES, 8, 1)) + np.arange(32)
    return [(TEXT[place], TEXT[place + 1]) for place in places]


def entropy(logits: Any, labels: Any) -> Any:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def flax_mnist(seed: int) -> Program:
    """Flax' MNIST tutorial: NNX, batch normalization and dropout, AdamW."""

    class Net(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.conv = nnx.Conv(1, 16, (3, 3), rngs=rngs)
            self.norm = nnx.BatchNorm(16, rngs=rngs)
            self.dropout = nnx.Dropout(0.1, rngs=rngs)
            self.output = nnx.Linear(256, 10, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            x = nnx.relu(self.norm(self.dropout(self.conv(x.reshape(-1, 8, 8, 1)))))
            return self.output(nnx.avg_pool(x, (2, 2), (2, 2)).reshape(len(x), -1))

    graph, parameters, rest = nnx.split(Net(nnx.Rngs(seed)), nnx.Param, ...)

    def loss_of(parameters: Any, rest: Any, batch: Any) -> Any:
        model = nnx.merge(graph, parameters, rest, copy=True)
        return entropy(model(batch[0]), batch[1]), nnx.state(model, nnx.Not(nnx.Param))

    test = IMAGES[1440:], LABELS[1440:]
    return Program(loss_of, parameters, rest, partial(optax.adamw, b1=0.9), 0.005, Loader(), test)


def lm1b(seed: int) -> Program:
    """Flax' lm1b: linen, dropout, AdamW with weight decay, warm-up and inverse square root."""

    class Net(nn.Module):
        @nn.compact
        def __call__(self, tokens: Any) -> Any:
            x = nn.Embed(128, 32)(tokens)
            mask = nn.make_causal_mask(tokens)
            x = x + nn.SelfAttention(2, dropout_rate=0.1, deterministic=False)(nn.LayerNorm()(x), mask)
            return nn.Dense(128)(nn.relu(nn.Dense(64)(nn.LayerNorm()(x))))

    net = Net()
    batches = text(seed)
    keys = {"params": jax.random.key(seed), "dropout": jax.random.key(1)}
    parameters = net.init(keys, batches[0][0])["params"]

    def loss_of(parameters: Any, key: Any, batch: Any) -> Any:
        key, now = jax.random.split(key)
        return entropy(net.apply({"params": parameters}, batch[0], rngs={"dropout": now}), batch[1]), key

    def own(count: Any) -> Any:
        return 0.0016 * jnp.minimum(1.0, (count + 1) / 50) * jnp.sqrt(50 / jnp.maximum(count + 1, 50))

    places = np.arange(400_000, 400_000 + 64 * 100, 100)[:, None] + np.arange(32)
    adamw = partial(optax.adamw, b2=0.98, weight_decay=0.1)
    return Program(loss_of, parameters, jax.random.key(seed), adamw, own, batches, (TEXT[places], TEXT[places + 1]))


def equinox_mnist(seed: int) -> Program:
    """Equinox' MNIST: batches of a torch loader, AdamW."""
    model = eqx.nn.MLP(64, 10, 64, 2, key=jax.random.key(seed))

    def loss_of(model: Any, rest: Any, batch: Any) -> Any:
        return entropy(jax.vmap(model)(batch[0]), batch[1]), rest

    return Program(loss_of, model, 0.0, optax.adamw, 3e-4, Loader(), (IMAGES[1440:], LABELS[1440:]))


def equinox_stateful(seed: int) -> Program:
    """Equinox' stateful model: batch normalization and a spectral norm, Adam, gradients clipped as usual."""

    class Net(eqx.Module):
        norm: eqx.nn.BatchNorm
        spectral: eqx.nn.SpectralNorm
        output: eqx.nn.Linear

        def __init__(self, key: Any) -> None:
            one, two, three = jax.random.split(key, 3)
            self.norm = eqx.nn.BatchNorm(64, axis_name="batch", mode="batch")
            self.spectral = eqx.nn.SpectralNorm(eqx.nn.Linear(64, 64, key=one), "weight", key=two)
            self.output = eqx.nn.Linear(64, 10, key=three)

        def __call__(self, x: Any, state: Any) -> Any:
            x, state = self.norm(x, state)
            x, state = self.spectral(x, state)
            return self.output(jax.nn.relu(x)), state

    model, state = eqx.nn.make_with_state(Net)(jax.random.key(seed))

    def loss_of(model: Any, state: Any, batch: Any) -> Any:
        logits, state = jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(batch[0], state)
        return entropy(logits, batch[1]), state

    def clipped(lr: Any) -> Any:
        return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(lr))

    return Program(loss_of, model, state, clipped, 5e-3, Loader(), (IMAGES[1440:], LABELS[1440:]))


def train(program: Program, rate: Any, seed: int, *, tested: bool = False, split: bool = False) -> Any:
    """Train, and return parameters and the loss on test data."""
    torch.manual_seed(seed)
    optimizer = program.optimizer(rate)
    params, rest = program.params, program.rest
    state = optimizer.init(eqx.filter(params, eqx.is_inexact_array))
    if tested:
        search(program)

    @eqx.filter_jit
    def update(params: Any, rest: Any, state: Any, batch: Any) -> Any:
        (_, rest), gradient = eqx.filter_value_and_grad(program.loss_of, has_aux=True)(params, rest, batch)
        updates, state = optimizer.update(gradient, state, eqx.filter(params, eqx.is_inexact_array))
        return eqx.apply_updates(params, updates), rest, state

    done = 0
    while done < UPDATES:
        for batch in program.batches:
            if split and done == UPDATES // 2:
                leaves, structure = jax.tree.flatten((params, rest, state))
                saved = [eqx.is_array(leaf) and not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
                kept = pickle.dumps([np.asarray(leaf) for leaf, keep in zip(leaves, saved, strict=True) if keep])
                read = iter(pickle.loads(kept))  # noqa: S301
                leaves = [jnp.asarray(next(read)) if keep else leaf for leaf, keep in zip(leaves, saved, strict=True)]
                params, rest, state = jax.tree.unflatten(structure, leaves)
            if done < UPDATES:
                params, rest, state = update(params, rest, state, batch)
            done += 1
    return params, float(eqx.filter_jit(program.loss_of)(params, rest, program.test)[0])


def search(program: Program) -> cyclr.RangeTestResult:
    given = program.params, program.batches
    return range_test(program.loss_of, *given, optimizer=program.optimizer, rest=program.rest)


def equal(one: Any, two: Any) -> str:
    pairs = zip(*(jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array)) for tree in (one, two)), strict=True)
    return "yes" if all(np.array_equal(a, b) for a, b in pairs) else "NO"


def main(arguments: list[str]) -> None:
    seeds = int(arguments[0]) if arguments else 3
    programs = {"Flax MNIST": flax_mnist, "lm1b": lm1b, "Equinox MNIST": equinox_mnist, "stateful": equinox_stateful}
    print("| loop | bounds | after = without | split = whole | loss, own rates | loss, cycle | lower in |")
    print("|---|---|---|---|---|---|---|")
    for name in arguments[1:] or programs:
        rows = []
        for seed in range(seeds):
            program = programs[name](seed)
            torch.manual_seed(seed)
            bounds = search(program).bounds
            schedule = bounds.schedule(total_steps=UPDATES)
            whole, cycled = train(program, schedule, seed)
            if seed == 0:
                checks = (
                    f"{bounds.base_lr:.2g} to {bounds.max_lr:.2g}",
                    equal(whole, train(program, schedule, seed, tested=True)[0]),
                    equal(whole, train(program, schedule, seed, split=True)[0]),
                )
            rows.append((train(program, program.own, seed)[1], cycled))
        own, cycle = (mean(column) for column in zip(*rows, strict=True))
        lower = sum(cycled < plain for plain, cycled in rows)
        print(f"| {name} | {' | '.join(checks)} | {own:.3g} | {cycle:.3g} | {lower} of {seeds} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
