"""Trains a task many times in one compiled call: all rates of a grid, and all seeds, side by side."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tasks import OPTIMIZERS, Task, loss_of, score_of

MOST_TOGETHER = 96
"""Rates trained side by side: more do not fit the caches."""


def batches(task: Task, seed: int, steps: int) -> Any:
    """Indices of the samples of every update, shape (steps, batch): epoch after epoch, each in an order of its own."""
    rng = np.random.default_rng(1000 + seed)
    samples = len(task.dataset.x)
    size = min(task.batch, samples)
    per_epoch = samples // size
    epochs = -(-steps // per_epoch)
    order = np.concatenate(
        [rng.permutation(samples)[: per_epoch * size].reshape(per_epoch, size) for _ in range(epochs)]
    )
    return order[:steps].astype(np.int32)


def initial(task: Task, seed: int) -> Any:
    """Parameters and state before the task begins; the same for every rate."""
    model = task.model(task.dataset)
    start = model.init(jax.random.key(seed))
    if not task.pretrained:
        return start
    data = task.dataset
    known = np.flatnonzero(data.y < data.outputs // 2)
    rng = np.random.default_rng(seed)
    order = rng.choice(known, (task.pretrained, 64)).astype(np.int32)
    rates = np.full(task.pretrained, 1e-3, np.float32)
    return _run(task, "adam", start, order, rates, jax.random.key(seed))[0]


def _run(task: Task, optimizer: str, start: Any, order: Any, rates: Any, key: Any) -> Any:
    """The parameters after training, and the loss of every batch before its update."""
    model, loss_fn, transform = task.model(task.dataset), loss_of(task), OPTIMIZERS[optimizer]()
    x, y = jnp.asarray(task.dataset.x), jnp.asarray(task.dataset.y)

    def loss_at(parameters: Any, state: Any, rows: Any, key: Any) -> Any:
        out, state = model.apply(parameters, state, x[rows], key, True)
        return loss_fn(out, y[rows]), state

    def update(carried: Any, given: Any) -> Any:
        parameters, state, memory, key = carried
        rows, rate = given
        key, own = jax.random.split(key)
        (loss, state), gradient = jax.value_and_grad(loss_at, has_aux=True)(parameters, state, rows, own)
        updates, memory = transform.update(gradient, memory, parameters)
        updates = jax.tree.map(lambda u: u * rate, updates)
        return (optax.apply_updates(parameters, updates), state, memory, key), loss

    parameters, state = start
    carried = (parameters, state, transform.init(parameters), key)
    (parameters, state, _, _), losses = jax.lax.scan(update, carried, (order, rates))
    return (parameters, state), losses


@functools.cache
def _compiled(task: Task) -> Any:
    model, score = task.model(task.dataset), score_of(task)
    x, y = jnp.asarray(task.dataset.x_val), jnp.asarray(task.dataset.y_val)

    def one(start: Any, order: Any, rates: Any, key: Any) -> Any:
        (parameters, state), losses = _run(task, task.optimizer, start, order, rates, key)
        out, _ = model.apply(parameters, state, x, key, False)
        return score(out, y), losses

    over_rates = jax.vmap(one, in_axes=(None, None, 0, None))
    return jax.jit(over_rates)


def train(task: Task, rates: Any, seeds: range) -> tuple[Any, Any]:
    """Scores (seeds, runs) and losses (seeds, runs, steps) of runs whose rates have shape (runs, steps)."""
    rates = np.asarray(rates, np.float32)
    scores, losses = [], []
    for seed in seeds:
        start, order = initial(task, seed), batches(task, seed, rates.shape[1])
        of_seed = [
            _compiled(task)(start, order, part, jax.random.key(100 + seed))
            for part in np.array_split(rates, -(-len(rates) // MOST_TOGETHER))
        ]
        scores.append(np.concatenate([np.asarray(score) for score, _ in of_seed]))
        losses.append(np.concatenate([np.asarray(loss) for _, loss in of_seed]))
    return np.stack(scores), np.stack(losses)
