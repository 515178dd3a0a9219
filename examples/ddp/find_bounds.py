"""DistributedDataParallel: find learning-rate bounds in two processes together, and save the curve.

    torchrun --standalone --nproc-per-node 2 examples/ddp/find_bounds.py

Needs: pip install "cyclr[torch,plot]" scikit-learn.
"""

import torch
from sklearn.datasets import load_digits
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from cyclr.torch import range_test

BATCH = 16  # per process, so an update uses 32 samples


def main() -> None:
    distributed.init_process_group("gloo")
    torch.manual_seed(0)
    x, y = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(x[:1440] / 16, dtype=torch.float32), torch.tensor(y[:1440]))
    loader = DataLoader(data, BATCH, sampler=DistributedSampler(data))
    layers = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    model = DistributedDataParallel(layers)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    # Call it in every process, with the wrapped model. All processes record the mean loss and stop at the same step.
    result = range_test(model, optimizer, torch.nn.functional.cross_entropy, loader)
    if distributed.get_rank() == 0:
        print(result.bounds.reason)
        result.save("range_test.json")
        result.plot().figure.savefig("range_test.png")
    del model  # torch can hang if the wrapped model outlives the process group
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
