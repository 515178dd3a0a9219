"""Train a task many times in one compiled call: all learning rates of a grid, and all seeds, side by side."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax import contrib
from tasks import OPTIMIZERS, Task, loss_of, score_of

MOST_TOGETHER = 96
"""Number of learning rates that are trained side by side. More do not fit into the caches."""


def batches(task: Task, seed: int, steps: int) -> Any:
    """Return the sample indices of every update, shape (steps, batch). Every epoch has a different order."""
    rng = np.random.default_rng(1000 + seed)
    samples = len(task.dataset.x)
    size = min(task.batch, samples)
    per_epoch = samples // size
    epochs = -(-steps // per_epoch)
    order = np.concatenate(
        [rng.permutation(samples)[: per_epoch * size].reshape(per_epoch, size) for _ in range(epochs)]
    )
    return order[:steps].astype(np.int32)


@functools.cache
def initial(task: Task, seed: int) -> Any:
    """Return parameters and state at the start of the task. They are the same for every learning rate."""
    model, data = task.model(task.dataset), task.dataset
    start = model.init(jax.random.key(seed))
    if task.pretrained is None:
        return start
    known = np.arange(len(data.y)) if task.pretrained == "same classes" else np.flatnonzero(data.y < data.outputs // 2)
    order = np.random.default_rng(seed).choice(known, (400, 64)).astype(np.int32)
    rates = np.full(400, 1e-3, np.float32)
    (parameters, state), _ = _run(task, "adam", start, order, rates, jax.random.key(seed))
    if task.pretrained == "new head":
        fresh = model.init(jax.random.key(seed + 1))[0]
        parameters = jax.tree.map(lambda old, new, last: new if last else old, parameters, fresh, _last(parameters))
    return parameters, state


def _last(parameters: Any) -> Any:
    """Return True for the parameters of the last layer, and False for the others."""
    name = "head" if "head" in parameters else "layers"

    def of_last(path: Any, _: Any) -> bool:
        return bool(path[0].key == name and path[1].idx == len(parameters[name]) - 1)

    return jax.tree_util.tree_map_with_path(of_last, parameters)


def update_of(task: Task, transform: Any) -> Any:
    """Return a function that makes one update of a task, with an optimizer whose learning rate is 1.

    The function takes the parameters, their state, the optimizer's state, a random key, and the samples and the
    learning rate of the update. It returns the first four after the update, and the batch's loss before the update.
    """
    model, loss_fn = task.model(task.dataset), loss_of(task)
    x, y = jnp.asarray(task.dataset.x), jnp.asarray(task.dataset.y)

    def loss_at(parameters: Any, state: Any, rows: Any, key: Any) -> Any:
        out, state = model.apply(parameters, state, x[rows], key, True)
        return loss_fn(out, y[rows]), state

    def update(carried: Any, given: Any) -> Any:
        parameters, state, memory, key = carried
        rows, rate = given
        shares = jax.tree.map(lambda _: 1.0, parameters)
        if task.backbone != 1:
            shares = jax.tree.map(lambda last: 1.0 if last else task.backbone, _last(parameters))
        key, own = jax.random.split(key)
        (loss, state), gradient = jax.value_and_grad(loss_at, has_aux=True)(parameters, state, rows, own)
        updates, memory = transform.update(gradient, memory, parameters)
        updates = jax.tree.map(lambda u, share: u * (rate * share), updates, shares)
        return (optax.apply_updates(parameters, updates), state, memory, key), loss

    return update


def _run(task: Task, optimizer: str, start: Any, order: Any, rates: Any, key: Any) -> Any:
    """Return parameters and state after training, and the loss of every batch before its update."""
    transform = OPTIMIZERS[optimizer]()
    parameters, state = start
    carried = (parameters, state, transform.init(parameters), key)
    (parameters, state, memory, _), losses = jax.lax.scan(update_of(task, transform), carried, (order, rates))
    if optimizer == "schedule-free":
        parameters = contrib.schedule_free_eval_params(memory, parameters)
    return (parameters, state), losses


@functools.cache
def _compiled(task: Task, optimizer: str) -> Any:
    model, score = task.model(task.dataset), score_of(task)
    x, y = jnp.asarray(task.dataset.x_val), jnp.asarray(task.dataset.y_val)

    def one(start: Any, order: Any, rates: Any, key: Any) -> Any:
        (parameters, state), losses = _run(task, optimizer, start, order, rates, key)
        out, _ = model.apply(parameters, state, x, key, False)
        return score(out, y), losses

    over_rates = jax.vmap(one, in_axes=(None, None, 0, None))
    return jax.jit(over_rates)


def train(task: Task, rates: Any, seeds: Sequence[int], optimizer: str | None = None) -> Any:
    """Train with many rates, and return the scores on the validation data, shape (seeds, runs).

    Args:
        task: the task to train.
        rates: learning rate of every update, shape (runs, steps), or (seeds, runs, steps) if they differ by seed.
        seeds: seeds of the initial weights, the order of the data and dropout.
        optimizer: an optimizer that replaces the optimizer of the task.
    """
    rates = np.broadcast_to(np.asarray(rates, np.float32), (len(seeds), *np.shape(rates)[-2:]))
    run = _compiled(task, optimizer or task.optimizer)
    scores = []
    for seed, of_seed in zip(seeds, rates, strict=True):
        start, order = initial(task, seed), batches(task, seed, of_seed.shape[1])
        parts = np.array_split(of_seed, -(-len(of_seed) // MOST_TOGETHER))
        scores.append(np.concatenate([np.asarray(run(start, order, p, jax.random.key(100 + seed))[0]) for p in parts]))
    return np.stack(scores)


def sweep(task: Task, rates: Any, seed: int, repeat: int = 0, order: Any = None) -> Any:
    """Return the losses of a range test that is never stopped, shape (steps,).

    The range test starts with the same weights as training with this seed, but with another order of the data. The
    order depends on the repeat, or it is given with shape (steps, batch).
    """
    rates = np.asarray(rates, np.float32)
    order = batches(task, 50 + seed + 100 * repeat, len(rates)) if order is None else order
    key = jax.random.key(500 + seed + 100 * repeat)
    _, losses = _compiled(task, task.optimizer)(initial(task, seed), order, rates[None], key)
    return np.asarray(losses[0], np.float64)
