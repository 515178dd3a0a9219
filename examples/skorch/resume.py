"""skorch: resume a stopped run. The final weights equal those of a run without a stop, bit for bit.

    python examples/skorch/resume.py --stop-after 3    # stops after 3 epochs, as in a crash
    python examples/skorch/resume.py                   # continues with epoch 4

Needs: pip install "cyclr[torch]" skorch scikit-learn.
"""

import argparse
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from skorch import NeuralNetClassifier
from skorch.callbacks import Checkpoint, LRScheduler

import cyclr
from cyclr.torch import Scheduler

BATCH, EPOCHS = 32, 6

parser = argparse.ArgumentParser()
parser.add_argument("--stop-after", type=int, default=EPOCHS, help="epochs")
options = parser.parse_args()

torch.manual_seed(0)
x, y = load_digits(return_X_y=True)
x, y = torch.tensor(x[:1440] / 16, dtype=torch.float32), torch.tensor(y[:1440])
run = cyclr.Run.of(samples=len(x), batch_size=BATCH, epochs=EPOCHS)
schedule = cyclr.Cyclical.over(run.total_steps, cycles=2, base_lr=0.01, max_lr=0.1)
checkpoint = Checkpoint(monitor=None, dirname="checkpoint", f_pickle=None)

net = NeuralNetClassifier(
    torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)),
    criterion=torch.nn.CrossEntropyLoss,
    optimizer=torch.optim.SGD,
    optimizer__momentum=0.9,
    callbacks=[("checkpoint", checkpoint)],
    batch_size=BATCH,  # in a fixed order
    train_split=None,
    verbose=0,
).initialize()
if Path("checkpoint/history.json").exists():
    net.load_params(checkpoint=checkpoint)
done = len(net.history)
# skorch creates a new scheduler, with the number of epochs as its position. So pass the number of updates.
rate = LRScheduler(Scheduler, lr=schedule, last_epoch=done * run.steps_per_epoch - 1, step_every="batch")
net.callbacks_.append(("rate", rate.initialize()))
net.partial_fit(x, y, epochs=min(options.stop_after, EPOCHS) - done)

weights = torch.nn.utils.parameters_to_vector(net.module_.parameters())
updates = rate.lr_scheduler_.last_epoch
print(f"updates {updates}, of {run.total_steps}; mean weight {weights.double().mean().item()!r}")
