"""Lightning: run a range test, then train with one cycle, on scanned digits.

    python examples/lightning/train.py

Needs: pip install "cyclr[torch]" lightning scikit-learn.
"""

import lightning
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

import cyclr
from cyclr.torch import Scheduler
from cyclr.torch.lightning import RangeTestCallback

BATCH, EPOCHS = 32, 8


class Classifier(lightning.LightningModule):
    def __init__(self, schedule: cyclr.Schedule | None = None) -> None:
        super().__init__()
        self.schedule = schedule
        self.layers = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        x, y = batch
        return torch.nn.functional.cross_entropy(self(x), y)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)
        if self.schedule is None:
            return optimizer
        # Call it after every update. Lightning's default is once per epoch.
        scheduler = {"scheduler": Scheduler(optimizer, self.schedule), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


def make_trainer(*callbacks: lightning.Callback) -> lightning.Trainer:
    return lightning.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def main() -> None:
    lightning.seed_everything(0, verbose=False)
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
    order = torch.randperm(len(x))
    train, test = order[:1440], order[1440:]
    loader = DataLoader(TensorDataset(x[train], y[train]), BATCH, shuffle=True)

    # This trainer only finds bounds. Without then_train=False, training would start after the test.
    model, finder = Classifier(), RangeTestCallback(then_train=False)
    make_trainer(finder).fit(model, loader)
    bounds = finder.result.bounds
    print(bounds.reason)

    model.schedule = bounds.schedule(total_steps=EPOCHS * len(loader))
    trainer = make_trainer()
    trainer.fit(model, loader)
    print(f"last rate {trainer.optimizers[0].param_groups[0]['lr']:.2g}, base_lr {bounds.base_lr:.2g}")
    print(f"accuracy {(model(x[test]).argmax(1) == y[test]).float().mean():.3f}")


if __name__ == "__main__":
    main()
