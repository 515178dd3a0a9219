"""Weights & Biases has every private setting that `cyclr.experiments._private` sets."""

import pytest

from cyclr.experiments import _private


def test_wandb_settings() -> None:
    wandb = pytest.importorskip("wandb")
    settings = _private.wandb_settings()
    for name in ("x_disable_meta", "x_disable_stats", "x_disable_machine_info"):
        assert getattr(settings, name) is True
    assert settings.x_save_requirements is False
    with pytest.raises(ValueError, match="x_no_such_setting"):
        wandb.Settings(x_no_such_setting=True)
