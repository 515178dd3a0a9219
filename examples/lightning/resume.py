"""Lightning: resume a stopped run. The final weights equal those of a run without a stop, bit for bit.

    python examples/lightning/resume.py --stop-after 3    # stops after 3 epochs, as in a crash
    python examples/lightning/resume.py                   # continues with epoch 4

Needs: pip install "cyclr[torch]" lightning scikit-learn.
"""

import argparse
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

import cyclr
from cyclr.torch import Scheduler

BATCH, EPOCHS, CHECKPOINT = 32, 6, Path("checkpoints/last.ckpt")

parser = argparse.ArgumentParser()
parser.add_argument("--stop-after", type=int, default=EPOCHS, help="epochs")
options = parser.parse_args()
run = cyclr.Run.of(samples=1440, batch_size=BATCH, epochs=EPOCHS)


class Classifier(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        x, y = batch
        return torch.nn.functional.cross_entropy(self.layers(x), y)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)
        schedule = cyclr.Cyclical.over(run.total_steps, cycles=2, base_lr=0.01, max_lr=0.1)
        # Call it after every update. Lightning's default is once per epoch.
        return [optimizer], [{"scheduler": Scheduler(optimizer, schedule), "interval": "step"}]


lightning.seed_everything(0, verbose=False)
x, y = load_digits(return_X_y=True)
x, y = torch.tensor(x[:1440] / 16, dtype=torch.float32), torch.tensor(y[:1440])
loader = DataLoader(TensorDataset(x, y), BATCH)  # in a fixed order
trainer = lightning.Trainer(
    max_epochs=min(options.stop_after, EPOCHS),
    accelerator="cpu",
    logger=False,
    callbacks=[ModelCheckpoint("checkpoints", save_last=True)],
    enable_progress_bar=False,
    enable_model_summary=False,
)
module = Classifier()
trainer.fit(module, loader, ckpt_path=CHECKPOINT if CHECKPOINT.exists() else None)

weights = torch.nn.utils.parameters_to_vector(module.parameters())
print(f"updates {trainer.global_step}, of {run.total_steps}; mean weight {weights.double().mean().item()!r}")
