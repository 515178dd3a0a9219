"""Internal settings of Weights & Biases (`x_…`), which keep descriptions of the machine out of a run."""

from typing import Any


def wandb_settings() -> Any:
    """Return settings for runs that contain only logged values: no host, user, folder, command or repository."""
    import wandb

    return wandb.Settings(
        host="",
        console="off",
        silent=True,
        disable_code=True,
        disable_git=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
    )
