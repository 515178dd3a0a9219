"""Private names of Lightning. Each is used in one function, which gives the reason."""

from typing import Any


def training_data(trainer: Any) -> Any:
    """Return the `CombinedLoader` that `fit` reads, with Lightning's samplers and limits.

    The public `trainer.train_dataloader` holds only the user's loaders, combined as the user combined them.
    """
    return trainer.fit_loop._combined_loader


def combination_mode(combined: Any) -> str:
    """Return the mode of a `CombinedLoader`. It is an argument of the constructor, but there is no public attribute."""
    return str(combined._mode)


def before_transfer(module: Any) -> Any:
    """Return the hook that prepares a batch for the device.

    The public hook is always the module's, even if the data module overrides it. Lightning's private one chooses.
    """
    return module._on_before_batch_transfer
