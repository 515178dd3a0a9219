"""Private names of Lightning: each in one function, with the reason why it is needed."""

from typing import Any


def training_data(trainer: Any) -> Any:
    """Return the `CombinedLoader` that `fit` reads, with Lightning's samplers and limits.

    `trainer.train_dataloader` has only the loaders within it, as the user combined them.
    """
    return trainer.fit_loop._combined_loader


def combination_mode(combined: Any) -> str:
    """Return the mode in which a `CombinedLoader` combines its loaders: the constructor takes it, nothing gives it."""
    return str(combined._mode)


def before_transfer(module: Any) -> Any:
    """Return the hook that prepares a batch for the device.

    The public one is the module's, also if the data module overrides it. Lightning chooses between both here.
    """
    return module._on_before_batch_transfer
