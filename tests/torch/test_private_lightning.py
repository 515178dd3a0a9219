"""Every private name of Lightning is where `cyclr.torch._private_lightning` looks for it."""

import importlib.util

import pytest
import torch
from torch.utils.data import DataLoader

if importlib.util.find_spec("lightning") is None:
    pytest.skip("Lightning is not installed", allow_module_level=True)

pytestmark = [
    pytest.mark.filterwarnings("ignore::lightning.pytorch.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
]


@pytest.fixture(scope="module")
def seen():
    """What the functions return in the middle of a fit, and what the hooks of module and data module got."""
    import lightning
    from lightning.pytorch.utilities import CombinedLoader

    from cyclr.torch import _private_lightning

    seen = {"hooks": []}

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch, index):
            return self.layer(batch["left"]).sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

        def on_train_start(self):
            seen["data"] = _private_lightning.training_data(self.trainer)
            seen["mode"] = _private_lightning.combination_mode(seen["data"])
            seen["hooks"].clear()
            _private_lightning.before_transfer(self)({"left": 1}, dataloader_idx=0)
            seen["called"] = list(seen["hooks"])

    class Data(lightning.LightningDataModule):
        def train_dataloader(self):
            loaders = {name: DataLoader(torch.ones(4, 1), 2) for name in ("left", "right")}
            return CombinedLoader(loaders, "max_size_cycle")

        def on_before_batch_transfer(self, batch, dataloader_idx):
            seen["hooks"].append(batch)
            return batch

    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", devices=1, logger=False, **quiet)
    trainer.fit(Module(), Data())
    return seen


def test_training_data(seen):
    assert len(seen["data"].flattened) == 2
    assert seen["data"].limits


def test_combination_mode(seen):
    assert seen["mode"] == "max_size_cycle"


def test_before_transfer(seen):
    assert seen["called"] == [{"left": 1}]
