"""DistributedDataParallel: run a range test, then train with one cycle between the bounds, in two processes.

    torchrun --standalone --nproc-per-node 2 examples/ddp/train.py

Needs: pip install "cyclr[torch]" scikit-learn.
"""

import torch
from sklearn.datasets import load_digits
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from cyclr.torch import Scheduler, range_test

BATCH, EPOCHS = 16, 8  # BATCH is per process, so an update uses 32 samples


def main() -> None:
    distributed.init_process_group("gloo")
    torch.manual_seed(0)
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
    order = torch.randperm(len(x))
    train, test = order[:1440], order[1440:]
    data = TensorDataset(x[train], y[train])
    sampler = DistributedSampler(data)
    loader = DataLoader(data, BATCH, sampler=sampler)
    layers = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    model = DistributedDataParallel(layers)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    result = range_test(model, optimizer, torch.nn.functional.cross_entropy, loader)

    # len(loader) is the number of batches of this process, and so the number of updates per epoch.
    schedule = result.bounds.schedule(total_steps=EPOCHS * len(loader))
    scheduler = Scheduler(optimizer, schedule)
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        for inputs, targets in loader:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
            scheduler.step()
    if distributed.get_rank() == 0:
        print(result.bounds.reason)
        print(f"updates {scheduler.last_epoch}, of {EPOCHS * len(loader)}")
        with torch.no_grad():
            print(f"accuracy {(layers(x[test]).argmax(1) == y[test]).float().mean():.3f}")
    del model  # torch can hang if the wrapped model outlives the process group
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
