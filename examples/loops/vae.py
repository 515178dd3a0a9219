"""A variational autoencoder for scanned digits. Its loss needs the input and three outputs.

    python examples/loops/vae.py

Needs: pip install "cyclr[torch]" scikit-learn.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader

from cyclr.torch import Scheduler, range_test

BATCH, EPOCHS = 64, 10


class VAE(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 128), nn.ReLU())
        self.mean, self.log_variance = nn.Linear(128, 8), nn.Linear(128, 8)
        self.decoder = nn.Sequential(nn.Linear(8, 128), nn.ReLU(), nn.Linear(128, 64))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        hidden = self.encoder(x)
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        z = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        return self.decoder(z), mean, log_variance


def loss_of(model: VAE, x: torch.Tensor) -> torch.Tensor:
    logits, mean, log_variance = model(x)
    reconstruction = nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    divergence = (mean**2 + log_variance.exp() - 1 - log_variance).sum() / 2
    return (reconstruction + divergence) / len(x)


def main() -> None:
    torch.manual_seed(0)
    x = torch.tensor(load_digits().data / 16, dtype=torch.float32)
    x = x[torch.randperm(len(x))]
    train, test = x[:1440], x[1440:]
    loader = DataLoader(train, BATCH, shuffle=True)
    model = VAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    result = range_test(model, optimizer, loader=loader, loss_of=loss_of)
    print(result.bounds.reason)

    scheduler = Scheduler(optimizer, result.bounds.schedule(epochs=EPOCHS, steps_per_epoch=len(loader)))
    for _ in range(EPOCHS):
        for batch in loader:
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            optimizer.step()
            scheduler.step()
    with torch.no_grad():
        print(f"loss {loss_of(model, test):.1f}")


if __name__ == "__main__":
    main()
