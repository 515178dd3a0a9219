"""A GAN that generates digits: two networks and two optimizers with the same schedule.

    python examples/loops/gan.py

Needs: pip install "cyclr[torch]" scikit-learn.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader

from cyclr.torch import Scheduler, range_test

BATCH, EPOCHS, NOISE = 64, 40, 16


def main() -> None:
    torch.manual_seed(0)
    x = torch.tensor(load_digits().data / 16, dtype=torch.float32)
    loader = DataLoader(x, BATCH, shuffle=True, drop_last=True)
    generator = nn.Sequential(nn.Linear(NOISE, 128), nn.ReLU(), nn.Linear(128, 64), nn.Sigmoid())
    critic = nn.Sequential(nn.Linear(64, 128), nn.LeakyReLU(0.2), nn.Linear(128, 1))
    generator_optimizer = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    critic_optimizer = torch.optim.Adam(critic.parameters(), lr=2e-4, betas=(0.5, 0.999))
    real, fake = torch.ones(BATCH, 1), torch.zeros(BATCH, 1)
    entropy = nn.functional.binary_cross_entropy_with_logits

    def update(batch: torch.Tensor) -> torch.Tensor:
        images = generator(torch.randn(BATCH, NOISE))
        critic_loss = entropy(critic(batch), real) + entropy(critic(images.detach()), fake)
        critic_optimizer.zero_grad()
        critic_loss.backward()
        critic_optimizer.step()

        generator_optimizer.zero_grad()
        entropy(critic(images), real).backward()
        generator_optimizer.step()
        return critic_loss

    # The test sweeps the critic; the generator trains at its own rate. Everything that the update uses is restored.
    bounds = range_test(critic, critic_optimizer, None, loader, step_fn=update).bounds
    print(bounds.reason)

    schedule = bounds.schedule(epochs=EPOCHS, steps_per_epoch=len(loader))
    schedulers = Scheduler(critic_optimizer, schedule), Scheduler(generator_optimizer, schedule)
    for _ in range(EPOCHS):
        for batch in loader:
            update(batch)
            for scheduler in schedulers:
                scheduler.step()
    with torch.no_grad():
        images = generator(torch.randn(1024, NOISE))
    print(f"distance of the mean images {(images.mean(0) - x.mean(0)).abs().mean():.3f}")
    print(f"contrast {images.std(0).mean():.3f}, of {x.std(0).mean():.3f}")


if __name__ == "__main__":
    main()
