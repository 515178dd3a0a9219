"""Lightning: find learning-rate bounds for a module on scanned digits, and save the curve.

    python examples/lightning/find_bounds.py

Needs: pip install "cyclr[torch,plot]" lightning scikit-learn.
"""

import lightning
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

from cyclr.torch.lightning import RangeTestCallback

BATCH = 32


class Classifier(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        x, y = batch
        return torch.nn.functional.cross_entropy(self(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)


def main() -> None:
    lightning.seed_everything(0, verbose=False)
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
    loader = DataLoader(TensorDataset(x[:1440], y[:1440]), BATCH, shuffle=True)
    module = Classifier()

    # The test runs at the start of `fit`, with the module's training_step. then_train=False ends `fit` after the test.
    finder = RangeTestCallback(then_train=False)
    trainer = lightning.Trainer(
        accelerator="cpu",
        logger=False,
        callbacks=[finder],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader)
    result = finder.result
    print(result.bounds.reason)
    result.save("range_test.json")
    result.plot().figure.savefig("range_test.png")


if __name__ == "__main__":
    main()
