"""Flax NNX: resume a stopped run. The final weights equal those of a run without a stop, bit for bit.

    python examples/flax/resume.py --stop-after 3    # stops after 3 epochs, as in a crash
    python examples/flax/resume.py                   # continues with epoch 4

Needs: pip install "cyclr[jax]" flax optax scikit-learn.
"""

import argparse
from pathlib import Path

import flax.serialization
import jax
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits

import cyclr

BATCH, EPOCHS, CHECKPOINT = 32, 6, Path("checkpoint.msgpack")

parser = argparse.ArgumentParser()
parser.add_argument("--stop-after", type=int, default=EPOCHS, help="epochs")
options = parser.parse_args()

x, y = load_digits(return_X_y=True)
x, y = (x[:1440] / 16).astype("float32"), y[:1440].astype("int32")
rngs = nnx.Rngs(0)
model = nnx.Sequential(nnx.Linear(64, 64, rngs=rngs), nnx.relu, nnx.Linear(64, 10, rngs=rngs))
run = cyclr.Run.of(samples=len(x), batch_size=BATCH, epochs=EPOCHS)
schedule = cyclr.Cyclical.over(run.total_steps, cycles=2, base_lr=0.01, max_lr=0.1)
optimizer = nnx.Optimizer(model, optax.sgd(schedule, momentum=0.9), wrt=nnx.Param)

# The optimizer's state contains the count of updates, which is the position in the schedule.
first = 0
if CHECKPOINT.exists():
    checkpoint = flax.serialization.msgpack_restore(CHECKPOINT.read_bytes())
    first = checkpoint["epochs"]
    state = nnx.state((model, optimizer))
    leaves = [checkpoint["leaves"][str(i)] for i in range(len(jax.tree.leaves(state)))]
    nnx.update((model, optimizer), jax.tree.unflatten(jax.tree.structure(state), leaves))


@nnx.jit
def update(model, optimizer, x, y):
    def loss_of(model):
        return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

    optimizer.update(model, nnx.grad(loss_of)(model))


for epoch in range(first, min(options.stop_after, EPOCHS)):
    order = np.random.default_rng(epoch).permutation(len(x))
    for batch in np.split(order, len(order) // BATCH):
        update(model, optimizer, x[batch], y[batch])
    leaves = {str(i): np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(nnx.state((model, optimizer))))}
    new = CHECKPOINT.with_suffix(".new")
    new.write_bytes(flax.serialization.msgpack_serialize({"epochs": epoch + 1, "leaves": leaves}))
    new.replace(CHECKPOINT)  # so a crash while writing leaves the old checkpoint intact

weights = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(nnx.state(model))])
updates = int(optimizer.step[...])
print(f"updates {updates}, of {run.total_steps}; mean weight {float(weights.mean(dtype=float))!r}")
