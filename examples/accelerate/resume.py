"""Accelerate: resume a stopped run. The final weights equal those of a run without a stop, bit for bit.

    python examples/accelerate/resume.py --stop-after 3    # stops after 3 epochs, as in a crash
    python examples/accelerate/resume.py                   # continues with epoch 4

Needs: pip install "cyclr[torch]" accelerate scikit-learn.
"""

import argparse
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

import cyclr
from cyclr.torch import Scheduler

BATCH, EPOCHS = 32, 6

parser = argparse.ArgumentParser()
parser.add_argument("--stop-after", type=int, default=EPOCHS, help="epochs")
options = parser.parse_args()

set_seed(0)
accelerator = Accelerator(cpu=True)
x, y = load_digits(return_X_y=True)
x, y = torch.tensor(x[:1440] / 16, dtype=torch.float32), torch.tensor(y[:1440])
loader = DataLoader(TensorDataset(x, y), BATCH)  # in a fixed order
model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
steps = EPOCHS * len(loader)
scheduler = Scheduler(optimizer.optimizer, cyclr.Cyclical.over(steps, cycles=2, base_lr=0.01, max_lr=0.1))
# The scheduler is not prepared, because it counts the optimizer's updates itself. It is saved with the rest.
accelerator.register_for_checkpointing(scheduler)

checkpoints = sorted(Path().glob("epoch-*"))
if checkpoints:
    accelerator.load_state(str(checkpoints[-1]))
for epoch in range(len(checkpoints), min(options.stop_after, EPOCHS)):
    for inputs, targets in loader:
        optimizer.zero_grad()
        accelerator.backward(torch.nn.functional.cross_entropy(model(inputs), targets))
        optimizer.step()
        scheduler.step()
    accelerator.save_state("new")
    Path("new").rename(f"epoch-{epoch + 1:03}")  # so a crash while writing leaves the old checkpoint intact

weights = torch.nn.utils.parameters_to_vector(model.parameters())
print(f"updates {scheduler.last_epoch}, of {steps}; mean weight {weights.double().mean().item()!r}")
