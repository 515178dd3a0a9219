"""DistributedDataParallel: resume a stopped run. The final weights equal those of a run without a stop, bit for bit.

    torchrun --standalone --nproc-per-node 2 examples/ddp/resume.py --stop-after 3    # stops after 3 epochs
    torchrun --standalone --nproc-per-node 2 examples/ddp/resume.py                   # continues with epoch 4

Needs: pip install "cyclr[torch]" scikit-learn.
"""

import argparse
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import cyclr
from cyclr.torch import Scheduler

BATCH, EPOCHS, CHECKPOINT = 16, 6, Path("checkpoint.pt")  # batch per process: an update uses 32 samples

parser = argparse.ArgumentParser()
parser.add_argument("--stop-after", type=int, default=EPOCHS, help="epochs")
options = parser.parse_args()

distributed.init_process_group("gloo")
torch.manual_seed(0)
x, y = load_digits(return_X_y=True)
data = TensorDataset(torch.tensor(x[:1440] / 16, dtype=torch.float32), torch.tensor(y[:1440]))
sampler = DistributedSampler(data)
loader = DataLoader(data, BATCH, sampler=sampler)
layers = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
model = DistributedDataParallel(layers)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
steps = EPOCHS * len(loader)
scheduler = Scheduler(optimizer, cyclr.Cyclical.over(steps, cycles=2, base_lr=0.01, max_lr=0.1))

parts = {"model": layers, "optimizer": optimizer, "scheduler": scheduler}
first = 0
if CHECKPOINT.exists():
    checkpoint = torch.load(CHECKPOINT, weights_only=True)
    first = checkpoint.pop("epochs")
    for name, state in checkpoint.items():
        parts[name].load_state_dict(state)

for epoch in range(first, min(options.stop_after, EPOCHS)):
    sampler.set_epoch(epoch)  # the epoch determines the order of the data
    for inputs, targets in loader:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        scheduler.step()
    if distributed.get_rank() == 0:
        states = {name: part.state_dict() for name, part in parts.items()}
        torch.save({"epochs": epoch + 1, **states}, CHECKPOINT.with_suffix(".new"))
        CHECKPOINT.with_suffix(".new").replace(CHECKPOINT)  # so a crash while writing leaves the old checkpoint intact
    distributed.barrier()

if distributed.get_rank() == 0:
    weights = torch.nn.utils.parameters_to_vector(layers.parameters())
    print(f"updates {scheduler.last_epoch}, of {steps}; mean weight {weights.double().mean().item()!r}")
del model  # torch can hang if the wrapped model outlives the process group
distributed.destroy_process_group()
