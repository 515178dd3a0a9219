"""Equinox: resume a stopped run. The final weights equal those of a run without a stop, bit for bit.

    python examples/equinox/resume.py --stop-after 3    # stops after 3 epochs, as in a crash
    python examples/equinox/resume.py                   # continues with epoch 4

Needs: pip install "cyclr[jax]" equinox optax scikit-learn.
"""

import argparse
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import optax
from sklearn.datasets import load_digits

import cyclr

BATCH, EPOCHS, CHECKPOINT = 32, 6, Path("checkpoint.eqx")

parser = argparse.ArgumentParser()
parser.add_argument("--stop-after", type=int, default=EPOCHS, help="epochs")
options = parser.parse_args()

x, y = load_digits(return_X_y=True)
x, y = (x[:1440] / 16).astype("float32"), y[:1440].astype("int32")
model = eqx.nn.MLP(64, 10, width_size=64, depth=1, key=jax.random.key(0))
run = cyclr.Run.of(samples=len(x), batch_size=BATCH, epochs=EPOCHS)
schedule = cyclr.Cyclical.over(run.total_steps, cycles=2, base_lr=0.01, max_lr=0.1)
optimizer = optax.sgd(schedule, momentum=0.9)

# The optimizer's state contains the count of updates, which is the position in the schedule.
epochs, state = 0, optimizer.init(eqx.filter(model, eqx.is_array))
if CHECKPOINT.exists():
    epochs, model, state = eqx.tree_deserialise_leaves(CHECKPOINT, (epochs, model, state))


@eqx.filter_jit
def update(model, state, x, y):
    def loss_of(model):
        return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(x), y).mean()

    updates, state = optimizer.update(eqx.filter_grad(loss_of)(model), state)
    return eqx.apply_updates(model, updates), state


for epoch in range(epochs, min(options.stop_after, EPOCHS)):
    order = np.random.default_rng(epoch).permutation(len(x))
    for batch in np.split(order, len(order) // BATCH):
        model, state = update(model, state, x[batch], y[batch])
    new = CHECKPOINT.with_name("new.eqx")
    eqx.tree_serialise_leaves(new, (epoch + 1, model, state))
    new.replace(CHECKPOINT)  # so a crash while writing leaves the old checkpoint intact

weights = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_array))])
updates = int(optax.tree.get(state, "count"))
print(f"updates {updates}, of {run.total_steps}; mean weight {float(weights.mean(dtype=float))!r}")
