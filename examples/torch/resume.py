"""PyTorch: resume a stopped run. The final weights equal those of a run without a stop, bit for bit.

    python examples/torch/resume.py --stop-after 3    # stops after 3 epochs, as in a crash
    python examples/torch/resume.py                   # continues with epoch 4

Needs: pip install "cyclr[torch]" scikit-learn.
"""

import argparse
from pathlib import Path

import torch
from sklearn.datasets import load_digits

import cyclr
from cyclr.torch import Scheduler

BATCH, EPOCHS, CHECKPOINT = 32, 6, Path("checkpoint.pt")

parser = argparse.ArgumentParser()
parser.add_argument("--stop-after", type=int, default=EPOCHS, help="epochs")
options = parser.parse_args()

torch.manual_seed(0)
x, y = load_digits(return_X_y=True)
x, y = torch.tensor(x[:1440] / 16, dtype=torch.float32), torch.tensor(y[:1440])
model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
run = cyclr.Run.of(samples=len(x), batch_size=BATCH, epochs=EPOCHS)
scheduler = Scheduler(optimizer, cyclr.Cyclical.over(run.total_steps, cycles=2, base_lr=0.01, max_lr=0.1))

parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
first = 0
if CHECKPOINT.exists():
    checkpoint = torch.load(CHECKPOINT, weights_only=True)  # the scheduler's state is plain data
    first = checkpoint.pop("epochs")
    for name, state in checkpoint.items():
        parts[name].load_state_dict(state)

for epoch in range(first, min(options.stop_after, EPOCHS)):
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch))
    for batch in order.split(BATCH):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()
        scheduler.step()
    states = {name: part.state_dict() for name, part in parts.items()}
    torch.save({"epochs": epoch + 1, **states}, CHECKPOINT.with_suffix(".new"))
    CHECKPOINT.with_suffix(".new").replace(CHECKPOINT)  # so a crash while writing leaves the old checkpoint intact

weights = torch.nn.utils.parameters_to_vector(model.parameters())
print(f"updates {scheduler.last_epoch}, of {run.total_steps}; mean weight {weights.double().mean().item()!r}")
