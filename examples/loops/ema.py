"""A loop as for detectors: three groups with separate warm-ups, gradient clipping, and averaged weights.

    python examples/loops/ema.py

Needs: pip install "cyclr[torch]" scikit-learn.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset

import cyclr
from cyclr.torch import Scheduler, range_test

BATCH, EPOCHS, WARMUP = 32, 8, 30


def main() -> None:
    torch.manual_seed(0)
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
    order = torch.randperm(len(x))
    train, test = order[:1440], order[1440:]
    loader = DataLoader(TensorDataset(x[train], y[train]), BATCH, shuffle=True)

    model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.98), use_buffers=True)
    weights = [model[0].weight, model[3].weight]
    norms = [model[1].weight]
    biases = [model[0].bias, model[1].bias, model[3].bias]
    groups = [{"params": weights, "weight_decay": 5e-4}, {"params": norms}, {"params": biases}]
    optimizer = torch.optim.SGD(groups, lr=0.01, momentum=0.937, nesterov=True)

    def update(batch: list[torch.Tensor]) -> torch.Tensor:
        inputs, targets = batch
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        average.update_parameters(model)
        return loss

    # The test uses the update of the training itself. Afterwards everything is restored, also the averaged weights.
    result = range_test(model, optimizer, loader=loader, step_fn=update)
    print(result.bounds.reason)

    # In the warm-up, weights and norms start at 0, biases at 0.1, and momentum at 0.8.
    schedule = result.bounds.schedule(epochs=EPOCHS, steps_per_epoch=len(loader))
    rates = [cyclr.Warmup(schedule, WARMUP, start=start, over=True) for start in (0.0, 0.0, 0.1)]
    scheduler = Scheduler(optimizer, rates, momentum=cyclr.Warmup(cyclr.Constant(0.937), WARMUP, start=0.8))
    for _ in range(EPOCHS):
        for batch in loader:
            update(batch)
            scheduler.step()
    average.eval()
    with torch.no_grad():
        print(f"accuracy {(average(x[test]).argmax(1) == y[test]).float().mean():.3f}")


if __name__ == "__main__":
    main()
